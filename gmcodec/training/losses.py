# SPDX-License-Identifier: MIT
"""The objective of AGAVE (thesis, eq. 3.13), and the parts of its bound."""

from __future__ import annotations

import torch
from torch import Tensor

from gmcodec.models.agave.float import Terms
from gmcodec.training.presets import Objective


def objective_bits(objective: Objective, terms: Terms, plain: bool) -> Tensor:
    """The loss of a batch (eq. 3.13), bits of an image: a float32 scalar.

    ``plain``: the net has no autoregressive decoder, so the auxiliary term is its only reconstruction.
    """
    divergence = terms.divergence.mean(0)
    if objective.free_bits:
        divergence = divergence.clamp_min(objective.free_bits)
    bits = objective.strength * divergence.sum()
    if not plain:
        bits = bits + terms.primary.mean()
    return bits + terms.auxiliary.mean() if plain or objective.auxiliary else bits


def bits_per_dimension(terms: Terms, dimensions: int) -> dict[str, float]:
    """The negative ELBO and its parts, averaged over a batch, in bits per dimension of the image."""
    parts = {
        "elbo": terms.bound,
        "primary": terms.primary,
        "auxiliary": terms.auxiliary,
        "kl": terms.divergence.sum(1),
    }
    return {name: float(torch.mean(bits)) / dimensions for name, bits in parts.items()}
