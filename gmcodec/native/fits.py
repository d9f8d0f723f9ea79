# SPDX-License-Identifier: MIT
"""The likelihood of some pixels as a function of small changes of a net, and its maximisation."""

from __future__ import annotations

from ctypes import byref, c_double

import numpy as np

from gmcodec.arrays import Float64, Int16, Int32, Int64, UInt8
from gmcodec.native.library import MAX_FEATURES, MAX_MIXTURES, MAX_NEAR, InstructionSet, _address, _Fit, _in_range


class Fit:
    """The pixels that a net is fitted to.  Parameters: changes of its outputs, then of the linear predictor."""

    def __init__(
        self,
        core: InstructionSet,
        mixtures: int,
        outputs: Int32[np.ndarray, "N O"],
        units: Float64[np.ndarray, " O"],
        base: Int32[np.ndarray, "N C"],
        target: UInt8[np.ndarray, "C N"],
        features: Int16[np.ndarray, "N K"],
        near: Int32[np.ndarray, " P"],
    ) -> None:
        """outputs int32 [N, outputs] of K logistics, in float64 units [outputs]; base int32 [N, C]: centres of means;
        target uint8 [C, N]: the samples; features int16 [N, F] that the net reads; near int32: indices of the features
        that the linear predictor reads.  Raises ValueError, TypeError.
        """
        (n, row), channels, count = outputs.shape, base.shape[1], features.shape[1]
        groups = 1 + 2 * channels + channels * (channels - 1) // 2
        if not n or not 1 <= channels <= 3 or not 0 < mixtures <= MAX_MIXTURES or row != mixtures * groups:
            raise ValueError(f"{row} outputs of {n} pixels are not {mixtures} logistics of {channels} channels")
        if not 0 < len(near) <= MAX_NEAR or count > MAX_FEATURES or not (np.frexp(units)[0] == 0.5).all():
            raise ValueError("the linear predictor or the units do not fit")
        for numbers in (outputs, base):  # so that float32 holds them exactly
            _in_range(numbers, -(2**24), 2**24, "outputs")
        _in_range(near, 0, count - 1, "features of the predictor")
        self.core, self.parameters = core, row + channels * len(near)
        self._keep_alive = outputs, units, base, target, features, near
        self._data = _Fit(
            n, channels, mixtures, _address(outputs, np.int32, n, row), _address(units, np.float64, row),
            _address(base, np.int32, n, channels), _address(target, np.uint8, channels, n), count, len(near),
            _address(features, np.int16, n, count), _address(near, np.int32, None),
        )  # fmt: skip

    def changes(self, quanta: Float64[np.ndarray, " N"]) -> tuple[Int64[np.ndarray, " N"], float]:
        """The likeliest changes, int64 [parameters] in multiples of ``quanta`` float64, and the gain in nats."""
        if not (np.isfinite(quanta) & (quanta > 0)).all():
            raise ValueError("quanta must be positive")
        out, gain = np.empty(self.parameters), c_double()
        if self.core.fit_changes(
            byref(self._data), _address(quanta, np.float64, self.parameters), out.ctypes.data, byref(gain)
        ):
            raise MemoryError
        return out.astype(np.int64), gain.value

    def likelihood(
        self, theta: Float64[np.ndarray, " N"]
    ) -> tuple[float, Float64[np.ndarray, " N"], Float64[np.ndarray, "N K"]]:
        """The log-likelihood in nats at changes ``theta`` float64, its gradient, and its empirical Fisher matrix."""
        if not (np.abs(theta) <= 2**20).all():
            raise ValueError("changes are too large")
        size, value = self.parameters, c_double()
        gradient, fisher = np.empty(size), np.empty((size, size))
        if self.core.fit_likelihood(
            byref(self._data), _address(theta, np.float64, size), byref(value), gradient.ctypes.data, fisher.ctypes.data
        ):
            raise MemoryError
        return value.value, gradient, fisher
