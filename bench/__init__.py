# SPDX-License-Identifier: MIT
"""Benchmarks: rates (rates.py) and speed (speed.py).  Each prints a table and can write JSON."""
