# SPDX-License-Identifier: MIT
"""The bytes of .gmc files and .gma archives; the docstrings are the specification."""
