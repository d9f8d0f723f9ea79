# SPDX-License-Identifier: MIT
"""AGAVE: a VAE whose decoder is an autoregressive net (thesis, chapter 3)."""
