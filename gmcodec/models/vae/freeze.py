# SPDX-License-Identifier: MIT
"""Freeze nets over maps: the VAE of AGAVE and of flows.  All activations have the unit of shared/conv.py."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor, nn

from gmcodec.exact import gaussian
from gmcodec.exact.logistic import ROW_TOTAL
from gmcodec.exact.ops import INT32_BOUND, Layer
from gmcodec.exact.quantise import freeze_layer
from gmcodec.models.pixelcnnpp.float import Conv
from gmcodec.models.pixelcnnpp.freeze import position_major
from gmcodec.models.shared.activations import MAP_LIMIT, MAP_UNIT
from gmcodec.models.vae.float import VAE, Residual, Stage
from gmcodec.models.vae.latent_state import LATENT_MEANS_UNIT


def integers_of(values: Tensor, unit: float) -> np.ndarray:
    """Floats as integers, int32, of which ``unit`` are 1.0."""
    return np.rint(values.detach().double().cpu().numpy() * unit).astype(np.int32)


def map_layer(
    name: str,
    *convs: nn.Module,
    unit: float = 1 / MAP_UNIT,
    out: float | np.ndarray = 1 / MAP_UNIT,
    limit: int = MAP_LIMIT,
) -> Layer:
    """One layer that sums convolutions of several maps, whose features are concatenated.

    ``unit``, ``out``: the units of inputs and outputs; ``limit``: of inputs.  Raises FreezeError.
    """
    parts, biases, bits = [], [], 8
    for conv in convs:
        assert isinstance(conv, Conv)
        inputs, rows, columns = conv.kernel
        parts.append(position_major(conv).reshape(-1, rows * columns, inputs))
        biases.append(conv.bias.detach().double().cpu().numpy())
        bits = max(bits, conv.bits)
    weight = np.concatenate(parts, 2)
    weight = weight.reshape(len(weight), -1)
    return freeze_layer(name, weight, np.sum(biases, 0), unit, out, limit, bits, INT32_BOUND // 2)


def latent_units(count: int) -> np.ndarray:
    """Units of the means and log-scales of ``count`` latents, float64 [2 * count]."""
    return np.repeat([1 / LATENT_MEANS_UNIT, 1 / gaussian.LATENT_LOG_SCALE_UNIT], count)


def vae_layers(vae: VAE, unit: float, out: float) -> dict[str, Layer]:
    """All layers of a VAE; ``unit``: of its inputs, ``out``: of its means."""
    c, layers = vae.config, {}

    def add(name: str, *convs: nn.Module, unit: float = 1 / MAP_UNIT, out: float | np.ndarray = 1 / MAP_UNIT) -> None:
        layers[name] = map_layer(name, *convs, unit=unit, out=out, limit=c.input_limit(name))

    split = latent_units(c.latents)
    add("first", vae.first, unit=unit)
    for level, blocks in enumerate(c.groups):
        for n in range(blocks):
            block = vae.up[level][n]  # type: ignore[index]
            assert isinstance(block, Residual)
            add(f"up.{level}.{n}.first", block.first)
            add(f"up.{level}.{n}.second", block.second)
    for n in range(len(c.filters) - 1):
        add(f"shrink.{n}", vae.shrink[n])
        add(f"grow.{n}", vae.grow[n])
    for k, stage in enumerate(vae.stages):
        assert isinstance(stage, Stage)
        name = f"stages.{k}"
        if stage.prior is not None:
            add(f"{name}.prior", stage.prior, out=split)
        add(f"{name}.posterior", stage.posterior_up, stage.posterior_down, out=split)
        if stage.flow is not None:
            add(f"{name}.flow.first", stage.flow.first, stage.flow.context)
            add(f"{name}.flow.last", stage.flow.last, out=split)
        add(f"{name}.inner", stage.features, stage.latents)
        add(f"{name}.second", stage.second)
    for n in range(c.doublings):
        add(f"finer.{n}", vae.finer[n])
    add("last", vae.last, out=out)
    return layers


def sample_bins(posterior: Any, size: int, bits: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Sample ``size`` latents from a posterior: bins int64, and log2 of their probability, float64.

    Sampling goes nibble by nibble, like the coder, so that the probabilities are those of the coder.
    """
    bins, log_probability = np.zeros(size, np.int64), np.zeros(size)
    for shift in range(bits - 4, -1, -4):
        rows = posterior.rows(bins, 1 << shift)
        nibble = (random.integers(ROW_TOTAL, size=(size, 1)) >= rows.cumsum(1)).sum(1)
        log_probability += np.log2(rows[np.arange(size), nibble] / ROW_TOTAL)
        bins += nibble << shift
    return bins, log_probability
