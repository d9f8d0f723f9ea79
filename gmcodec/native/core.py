# SPDX-License-Identifier: MIT
"""The functions of one instruction set that need no object of the library."""

from __future__ import annotations

import functools
import os
from ctypes import byref
from typing import Any

import numpy as np

from gmcodec.arrays import Int16, Int32, Int64, UInt8, UInt32
from gmcodec.native.library import (
    ISA_VARIABLE,
    MAX_MIXTURES,
    MAX_VALUE_WEIGHT,
    TABLE_SIZES,
    InstructionSet,
    _address,
    _in_range,
    _output_address,
    _Stack,
    functions,
)
from gmcodec.native.nets import Layer, LayerArrays

ROW_TOTAL = 1 << 24  # sum of the frequencies of a row


class Core(InstructionSet):
    """The functions of one instruction set, on arrays."""

    def layer(self, layer: Any) -> Layer:
        """An exact.ops.Layer in the library."""
        return Layer(self, LayerArrays.of(layer))

    def pushed(self, intervals: np.ndarray) -> tuple[int, UInt32[np.ndarray, " N"]]:
        """State and words uint32 of a stack with all intervals uint32 [N, 2] (start, freq), the first on top."""
        address = _address(intervals, np.uint32, None, 2)
        _in_range(intervals[:, 1], 1, ROW_TOTAL, "frequencies")
        words, stack = np.empty(len(intervals) + 1, np.uint32), _Stack(0, 0)
        self.push_intervals(address, len(intervals), byref(stack), words.ctypes.data)
        return stack.state, words[: stack.count].copy()

    # -- maps of features

    def activated(
        self, x: Int16[np.ndarray, "B H W F"], table: Int32[np.ndarray, " T"] | None
    ) -> Int16[np.ndarray, "B H W F"]:
        """Leaky ReLU of x int16; with a table int32 of -elu(-v), ELU: no |x| may reach the table's length."""
        out, address = np.empty(x.shape, np.int16), _address(x, np.int16, *x.shape)
        if table is None:
            self.leaky(address, x.size, out.ctypes.data)
        else:
            _in_range(x, 1 - len(table), len(table) - 1, "values")
            self.elu(address, x.size, _address(table, np.int32, None), out.ctypes.data)
        return out

    # -- rows of frequencies

    def priors(
        self, outputs: Int32[np.ndarray, "N O"], k: int, softmax: Int32[np.ndarray, " T"]
    ) -> Int64[np.ndarray, "N K"]:
        """Mixture weights int64 [N, k] from outputs int32 [N, >= k]."""
        n, row = outputs.shape
        if not 0 < k <= min(MAX_MIXTURES, row):
            raise ValueError(f"{k} logistics of {row} outputs")
        weights = np.empty((n, k), np.int64)
        table = _address(softmax, np.int32, TABLE_SIZES["softmax"])
        self.softmax(_address(outputs, np.int32, n, row), row, n, k, table, weights.ctypes.data)
        return weights

    def logistics(
        self,
        outputs: Int32[np.ndarray, "N O"],
        base: Int32[np.ndarray, "N C"],
        samples: Int32[np.ndarray, "N C"],
        channel: int,
        k: int,
        inverse: Int32[np.ndarray, " T"],
    ) -> tuple[Int64[np.ndarray, "N K"], Int64[np.ndarray, "N K"]]:
        """Means and inverse scales int64 [N, k] of a channel, given the samples int32 [N, C] of earlier channels."""
        (n, row), channels = outputs.shape, base.shape[1]
        groups = 1 + 2 * channels + channels * (channels - 1) // 2
        if not 0 <= channel < channels or not 0 < k <= min(MAX_MIXTURES, row // groups):
            raise ValueError(f"channel {channel} of {channels} from {row} outputs")
        mean, scale = np.empty((2, n, k), np.int64)
        self.channel_logistics(
            _address(outputs, np.int32, n, row), row, _address(base, np.int32, n, channels),
            _address(samples, np.int32, n, channels), n, channel, channels, k,
            _address(inverse, np.int32, TABLE_SIZES["inverse"]), mean.ctypes.data,
            scale.ctypes.data,
        )  # fmt: skip
        return mean, scale

    def rows(
        self,
        weights: Int64[np.ndarray, "N K"],
        mean: Int64[np.ndarray, "N K"],
        inverse: Int64[np.ndarray, "N K"],
        sigmoid: Int32[np.ndarray, " T"],
        high: Int32[np.ndarray, " N"] | None = None,
    ) -> Int32[np.ndarray, "N 16"]:
        """Frequencies int32 [N, 16] of high nibbles; or of low nibbles, given the high ones int32 [N] in 0..15."""
        n, k = _mixtures(weights)
        out = np.empty((n, 16), np.int32)
        high_address = None if high is None else _address(_in_range(high, 0, 15, "nibbles"), np.int32, n)
        self.nibble_rows(
            *(_address(a, np.int64, n, k) for a in (weights, mean, inverse)), n, k,
            _address(sigmoid, np.int32, TABLE_SIZES["sigmoid"]), high_address, out.ctypes.data,
        )  # fmt: skip
        return out

    def observed(
        self,
        sample: Int32[np.ndarray, " N"],
        weights: Int64[np.ndarray, "N K"],
        mean: Int64[np.ndarray, "N K"],
        inverse: Int64[np.ndarray, "N K"],
        sigmoid: Int32[np.ndarray, " T"],
    ) -> None:
        """Update weights int64 [N, k] in place by Bayes' rule, given the channel's samples int32 [N] in 0..255."""
        n, k = _mixtures(weights)
        self.observe(
            _address(_in_range(sample, 0, 255, "samples"), np.int32, n), n, k, _address(mean, np.int64, n, k),
            _address(inverse, np.int64, n, k), _address(sigmoid, np.int32, TABLE_SIZES["sigmoid"]),
            _output_address(weights, np.int64, n, k),
        )  # fmt: skip

    def reweighted(
        self, rows: Int32[np.ndarray, "N 16"], high: Int32[np.ndarray, " N"], values: Int64[np.ndarray, " 256"]
    ) -> None:
        """Multiply frequencies int32 [N, 16] of low nibbles by the weights int64 [256] of their values, in place."""
        n = len(rows)
        high_address = _address(_in_range(high, 0, 15, "nibbles"), np.int32, n)
        out = _output_address(_in_range(rows, 0, ROW_TOTAL, "frequencies"), np.int32, n, 16)
        weights = _address(_in_range(values, 0, MAX_VALUE_WEIGHT, "weights of values"), np.int64, 256)
        self.reweight(out, high_address, n, weights)

    def latent_rows(
        self,
        first: Int64[np.ndarray, " N"],
        step: int,
        mean: Int64[np.ndarray, " N"],
        log_scale: Int64[np.ndarray, " N"],
        tables: Any,
    ) -> Int32[np.ndarray, "N 16"]:
        """gaussian.rows, int32 [N, 16]: first, mean and log_scale int64 [N]; tables: gaussian.LatentTables."""
        n, out = len(first), np.empty((len(first), 16), np.int32)
        _in_range(log_scale, 0, len(tables.inverse) - 1, "log-scales")
        edges, normal = tables.edges, tables.normal
        self.gaussian_rows(
            _address(first, np.int64, n), step, _address(mean, np.int64, n), _address(log_scale, np.int64, n), n,
            _address(edges, np.int32, None), len(edges), _address(normal, np.int32, 3073), len(normal),
            _address(tables.inverse, np.int32, None), out.ctypes.data,
        )  # fmt: skip
        return out

    # -- filters

    def undone_png(self, filtered: UInt8[np.ndarray, "N L"], step: int) -> UInt8[np.ndarray, "N K"]:
        """uint8 [H, 1 + B], in which each row begins with its filter, 0 to 4 -> uint8 [H, B]."""
        if step < 1 or filtered.ndim != 2 or not filtered.shape[1]:
            raise ValueError(f"rows of {filtered.shape} with a step of {step}")
        height, width = filtered.shape[0], filtered.shape[1] - 1
        kinds = np.ascontiguousarray(_in_range(filtered[:, 0], 0, 4, "row filters"))
        rows = np.array(filtered[:, 1:], order="C")
        self.undo_png(_output_address(rows, np.uint8, height, width), width, kinds.ctypes.data, 1, height, width, step)
        return rows

    def undone_med(self, residual: Int32[np.ndarray, "C H W"], mask: int) -> None:
        """Residuals int32 [C, H, W] -> samples, in place, modulo mask + 1."""
        self.undo_med(_output_address(residual, np.int32, None, None, None), *residual.shape, mask)


def _mixtures(weights: np.ndarray) -> tuple[int, int]:
    """N and K of mixture weights [N, K].  Raises ValueError."""
    if weights.ndim != 2 or not 0 < weights.shape[1] <= MAX_MIXTURES:
        raise ValueError(f"weights of {weights.shape} are no mixtures")
    return weights.shape[0], weights.shape[1]


def core(isa: str | None = None) -> Core:
    """The functions for an instruction set: ``isa``, else the one that GMCODEC_ISA names, else the best.

    Raises NativeError.
    """
    return _core(os.environ.get(ISA_VARIABLE, "") if isa is None else isa)


@functools.cache
def _core(isa: str) -> Core:
    return Core(functions(isa))
