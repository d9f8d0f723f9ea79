# SPDX-License-Identifier: MIT
"""The command ``gmcodec``: parse, call one function, report."""
