# SPDX-License-Identifier: MIT
"""Image files, Pillow images and arrays <-> integer planes and metadata."""
