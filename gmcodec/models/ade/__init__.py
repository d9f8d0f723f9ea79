# SPDX-License-Identifier: MIT
"""Adaptive density estimation: a VAE in the feature space of a flow (thesis, chapter 5)."""
