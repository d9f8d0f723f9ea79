# SPDX-License-Identifier: MIT
"""The functions of one instruction set: the ones that need no object, and the makers of those that do."""

from __future__ import annotations

import functools
import os
from ctypes import byref
from typing import Any

import numpy as np

from gmcodec.native.library import (
    MAX_MIXTURES,
    MAX_WEIGHT,
    TABLE_SIZES,
    VARIABLE,
    InstructionSet,
    _at,
    _into,
    _Stack,
    _within,
    functions,
)
from gmcodec.native.nets import Layer, LayerArrays

ROW_TOTAL = 1 << 24  # what the frequencies of a row add up to


class Core(InstructionSet):
    """The functions of one instruction set, on arrays."""

    def layer(self, layer: Any) -> Layer:
        """An exact.ops.Layer, ready."""
        return Layer(self, LayerArrays.of(layer))

    def pushed(self, ranges: np.ndarray) -> tuple[int, np.ndarray]:
        """State and words, uint32, of a stack with all ranges uint32 [N, 2] (left, freq), the first on top."""
        where = _at(ranges, np.uint32, None, 2)
        _within(ranges[:, 1], 1, ROW_TOTAL, "frequencies")
        words, stack = np.empty(len(ranges) + 1, np.uint32), _Stack(0, 0)
        self.push_ranges(where, len(ranges), byref(stack), words.ctypes.data)
        return stack.state, words[: stack.count].copy()

    # -- maps of features

    def activated(self, x: np.ndarray, table: np.ndarray | None) -> np.ndarray:
        """Leaky ReLU of x int16, or ELU by a table int32 of -elu(-v); |x| is below the table's length."""
        out, where = np.empty(x.shape, np.int16), _at(x, np.int16, *x.shape)
        if table is None:
            self.leaky(where, x.size, out.ctypes.data)
        else:
            _within(x, 1 - len(table), len(table) - 1, "values")
            self.elu(where, x.size, _at(table, np.int32, None), out.ctypes.data)
        return out

    # -- rows of frequencies

    def priors(self, outputs: np.ndarray, k: int, softmax: np.ndarray) -> np.ndarray:
        """Mixture weights int64 [N, k] from outputs int32 [N, >= k]."""
        n, row = outputs.shape
        if not 0 < k <= min(MAX_MIXTURES, row):
            raise ValueError(f"{k} logistics of {row} outputs")
        weights = np.empty((n, k), np.int64)
        table = _at(softmax, np.int32, TABLE_SIZES["softmax"])
        self.softmax(_at(outputs, np.int32, n, row), row, n, k, table, weights.ctypes.data)
        return weights

    def logistics(
        self, outputs: np.ndarray, base: np.ndarray, samples: np.ndarray, channel: int, k: int, inverse: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Means and inverse scales int64 [N, k] of a channel, given samples int32 [N, C] of those before it."""
        (n, row), channels = outputs.shape, base.shape[1]
        groups = 1 + 2 * channels + channels * (channels - 1) // 2
        if not 0 <= channel < channels or not 0 < k <= min(MAX_MIXTURES, row // groups):
            raise ValueError(f"channel {channel} of {channels} from {row} outputs")
        mean, scale = np.empty((2, n, k), np.int64)
        self.open_channel(
            _at(outputs, np.int32, n, row), row, _at(base, np.int32, n, channels), _at(samples, np.int32, n, channels),
            n, channel, channels, k, _at(inverse, np.int32, TABLE_SIZES["inverse"]), mean.ctypes.data,
            scale.ctypes.data,
        )  # fmt: skip
        return mean, scale

    def rows(
        self, weights: np.ndarray, mean: np.ndarray, inverse: np.ndarray, sigmoid: np.ndarray,
        high: np.ndarray | None = None,
    ) -> np.ndarray:  # fmt: skip
        """Frequencies int32 [N, 16] of the high nibble, or of the low one given int32 [N] high ones in 0..15."""
        n, k = _mixtures(weights)
        out = np.empty((n, 16), np.int32)
        given = None if high is None else _at(_within(high, 0, 15, "nibbles"), np.int32, n)
        self.nibble_rows(
            *(_at(a, np.int64, n, k) for a in (weights, mean, inverse)), n, k,
            _at(sigmoid, np.int32, TABLE_SIZES["sigmoid"]), given, out.ctypes.data,
        )  # fmt: skip
        return out

    def observed(
        self, sample: np.ndarray, weights: np.ndarray, mean: np.ndarray, inverse: np.ndarray, sigmoid: np.ndarray
    ) -> None:
        """Bayes' rule, in place on weights int64 [N, k]: sample int32 [N] in 0..255."""
        n, k = _mixtures(weights)
        self.observe(
            _at(_within(sample, 0, 255, "samples"), np.int32, n), n, k, _at(mean, np.int64, n, k),
            _at(inverse, np.int64, n, k), _at(sigmoid, np.int32, TABLE_SIZES["sigmoid"]),
            _into(weights, np.int64, n, k),
        )  # fmt: skip

    def reweighted(self, rows: np.ndarray, high: np.ndarray, values: np.ndarray) -> None:
        """Multiply low nibbles' frequencies int32 [N, 16] by weights int64 [256] of their values, in place."""
        n = len(rows)
        given = _at(_within(high, 0, 15, "nibbles"), np.int32, n)
        to = _into(_within(rows, 0, ROW_TOTAL, "frequencies"), np.int32, n, 16)
        self.reweight(to, given, n, _at(_within(values, 0, MAX_WEIGHT, "weights of values"), np.int64, 256))

    def latent_rows(
        self, first: np.ndarray, step: int, mean: np.ndarray, log_scale: np.ndarray, tables: Any
    ) -> np.ndarray:
        """gaussian.rows: int32 [N, 16]; first, mean, log_scale int64 [N], gaussian.LatentTables."""
        n, out = len(first), np.empty((len(first), 16), np.int32)
        _within(log_scale, 0, len(tables.inverse) - 1, "log-scales")
        edges, normal = tables.edges, tables.normal
        self.gaussian_rows(
            _at(first, np.int64, n), step, _at(mean, np.int64, n), _at(log_scale, np.int64, n), n,
            _at(edges, np.int32, None), len(edges), _at(normal, np.int32, 3073), len(normal),
            _at(tables.inverse, np.int32, None), out.ctypes.data,
        )  # fmt: skip
        return out

    # -- filters

    def undone_png(self, filtered: np.ndarray, step: int) -> np.ndarray:
        """uint8 [H, 1 + B], each row's kind 0 to 4 first -> uint8 [H, B]."""
        if step < 1 or filtered.ndim != 2 or not filtered.shape[1]:
            raise ValueError(f"rows of {filtered.shape} with a step of {step}")
        height, width = filtered.shape[0], filtered.shape[1] - 1
        kinds = np.ascontiguousarray(_within(filtered[:, 0], 0, 4, "row filters"))
        rows = np.array(filtered[:, 1:], order="C")
        self.undo_png(_into(rows, np.uint8, height, width), width, kinds.ctypes.data, 1, height, width, step)
        return rows

    def undone_med(self, residual: np.ndarray, mask: int) -> None:
        """Residuals int32 [C, H, W] -> samples, in place, modulo mask + 1."""
        self.undo_med(_into(residual, np.int32, None, None, None), *residual.shape, mask)


def _mixtures(weights: np.ndarray) -> tuple[int, int]:
    """Pixels and logistics of weights [N, K]."""
    if weights.ndim != 2 or not 0 < weights.shape[1] <= MAX_MIXTURES:
        raise ValueError(f"weights of {weights.shape} are no mixtures")
    return weights.shape[0], weights.shape[1]


def core(isa: str | None = None) -> Core:
    """The library for an instruction set, or the one that GMCODEC_ISA names, or the best.  Raises NativeError."""
    return _core(os.environ.get(VARIABLE, "") if isa is None else isa)


@functools.cache
def _core(isa: str) -> Core:
    return Core(functions(isa))
