# SPDX-License-Identifier: MIT
"""Freeze a local net that will learn while it codes: as in local/freeze.py, then choose units of its gradients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from gmcodec.models.local import freeze as local_freeze
from gmcodec.models.local.float import LocalNet
from gmcodec.models.local.freeze import TRIAL_BATCHES, scored_squares
from gmcodec.models.local.model import LocalModel
from gmcodec.models.online.gradient_units import with_gradient_units
from gmcodec.models.online.model import OnlineModel
from gmcodec.progress import ignore

THREADS = 2  # that code a photograph of a trial


def freeze(
    net: LocalNet,
    patches: Sequence[tuple[torch.Tensor, int, int]],
    rate: int | None = None,
    photographs: Sequence[np.ndarray] = (),
) -> LocalModel:
    """Frozen model of ``net``; ``patches`` as in local/freeze.py.

    With ``rate``, an index into rules.RATES, units are chosen by the bits of ``photographs``, uint8 [C, H, W] each,
    from which the model learns with that rate.  Raises FreezeError when a bound cannot be proved.
    """
    squares = [scored_squares(batch, h, w) for batch, h, w in patches[:TRIAL_BATCHES]]

    def bits(model: LocalModel) -> float:
        assert rate is not None
        online = OnlineModel([with_gradient_units(model, squares[:1])], [rate])  # all squares would take too long
        return sum(online.tile_coder.intervals(image, ignore, None, THREADS)[1] for image in photographs)

    model = local_freeze.freeze(net, patches, None if rate is None else bits)
    return with_gradient_units(model, squares)
