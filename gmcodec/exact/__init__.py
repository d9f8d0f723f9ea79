# SPDX-License-Identifier: MIT
"""Integer inference with one possible result: the specification, tables, freezing."""
