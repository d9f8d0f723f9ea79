# SPDX-License-Identifier: MIT
"""Local nets that learn from the image while they code it."""
