# SPDX-License-Identifier: MIT
"""Integer inference with the same result on every machine: the specification, its tables, and freezing."""
