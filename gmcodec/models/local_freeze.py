# SPDX-License-Identifier: MIT
"""Freeze a trained local net: float torch module -> LocalModel.

Activation scales come from images (calibration): the largest value seen by each kind of activation is
mapped to the clamp, so nothing that occurs is cut off.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from ..exact.freeze import freeze_layer
from ..exact.tables import COUPLING_BITS, LOG_SCALE_UNIT, LOGIT_UNIT, POSITION, make_tables
from .local import ACTIVATION_LIMIT, INPUT_LIMIT, LocalModel
from .local_float import INPUT_UNIT, SLOPE, LocalNet, quantise_rows


@torch.no_grad()
def activation_peaks(net: LocalNet, patches: Iterable[tuple[torch.Tensor, int, int]]) -> tuple[float, list[float]]:
    """Largest |stream| anywhere, and largest |hidden activation| of each block, over padded patches."""
    stream_peak, inner_peaks = 1e-3, [1e-3] * net.config.blocks
    leaky = torch.nn.functional.leaky_relu
    for padded, height, width in patches:
        x = net.features(padded, height, width)[0].float() * INPUT_UNIT
        h = leaky(quantise_rows(net.first) @ x + net.first_bias[:, None], SLOPE)
        stream_peak = max(stream_peak, h.abs().max().item())
        for b in range(net.config.blocks):
            inner = leaky(quantise_rows(net.up[b]) @ h + net.up_bias[b][:, None], SLOPE)
            h = h + quantise_rows(net.down[b]) @ inner + net.down_bias[b][:, None]
            inner_peaks[b] = max(inner_peaks[b], inner.abs().max().item())
            stream_peak = max(stream_peak, h.abs().max().item())
    return stream_peak, inner_peaks


def output_units(net: LocalNet) -> np.ndarray:
    """What one integer of each output row is worth: see the units in exact/tables.py."""
    c, k = net.config, net.config.mixtures
    return np.concatenate([
        np.full(k, 1 / LOGIT_UNIT),
        np.full(k * c.channels, 1 / POSITION),
        np.full(k * c.channels, 1 / LOG_SCALE_UNIT),
        np.full(k * c.couplings, 2.0**-COUPLING_BITS),
    ])  # fmt: skip


def freeze(net: LocalNet, patches: Iterable[tuple[torch.Tensor, int, int]]) -> LocalModel:
    """Frozen model of ``net``; ``patches`` yields (padded int16 [B, C, H + r, W + 2r], H, W) to calibrate on.

    Raises FreezeError when a bound cannot be proved.
    """
    stream_peak, inner_peaks = activation_peaks(net, patches)
    stream_unit = stream_peak / ACTIVATION_LIMIT

    def array(tensor: torch.Tensor) -> np.ndarray:
        return tensor.detach().double().cpu().numpy()

    c = net.config
    raster = c.raster_columns()
    layers = {
        "first": freeze_layer(
            "first", array(net.first)[:, raster], array(net.first_bias), INPUT_UNIT, stream_unit, INPUT_LIMIT
        ),
        "last": freeze_layer(
            "last", array(net.last), array(net.last_bias), stream_unit, output_units(net), ACTIVATION_LIMIT
        ),
        "linear": freeze_layer(
            "linear", array(net.linear), np.zeros(c.channels), 1.0, 1 / POSITION, INPUT_LIMIT, bits=13
        ),
    }
    for b in range(c.blocks):
        inner_unit = inner_peaks[b] / ACTIVATION_LIMIT
        layers[f"up.{b}"] = freeze_layer(
            f"up.{b}", array(net.up[b]), array(net.up_bias[b]), stream_unit, inner_unit, ACTIVATION_LIMIT
        )
        layers[f"down.{b}"] = freeze_layer(
            f"down.{b}", array(net.down[b]), array(net.down_bias[b]), inner_unit, stream_unit, ACTIVATION_LIMIT
        )
    return LocalModel(c, layers, make_tables())
