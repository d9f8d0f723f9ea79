# SPDX-License-Identifier: MIT
"""The pixel model of graphics: context mixing that learns from the image while it codes it."""
