# SPDX-License-Identifier: MIT
"""A hierarchical VAE, which AGAVE and ADE contain."""
