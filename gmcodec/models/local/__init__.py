# SPDX-License-Identifier: MIT
"""The local causal PixelCNN, which codes photographs."""
