# SPDX-License-Identifier: MIT
"""Likelihood models: a package for each family, what they share, and the registry."""
