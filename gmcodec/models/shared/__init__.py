# SPDX-License-Identifier: MIT
"""What families of models have in common: windows, mixtures, convolutions, layers and tables on disk."""
