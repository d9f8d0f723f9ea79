# SPDX-License-Identifier: MIT
"""PixelCNN++ for small images (Salimans et al. 2017)."""
