# SPDX-License-Identifier: MIT
"""The specification of the search of local/fit.py, in plain numpy float64; native/fit.hpp and fit.cpp implement it.

They are not equal number by number, as everything else is: numpy sums in an order of its own and takes exp and log from
the system's library, the native core does neither.  tests/models/test_local_fit.py compares them.
"""

from __future__ import annotations

import numpy as np

from gmcodec.arrays import Float64, Int16, Int32, UInt8
from gmcodec.exact.logistic import LOG_SCALE_MAX, LOG_SCALE_MIN, POSITION
from gmcodec.models.local.fit import MAX_CHANGE
from gmcodec.models.shared.mixture import MixtureOutputs, output_units

MAX_STEPS, MAX_TRIALS = 8, 5  # more steps no longer make photographs smaller
MIN_GAIN = 1e-4  # a step that gains fewer nats a pixel is the last one
MASS_FLOOR = 2.0**-24  # mass that every value has at least; what keeps outliers from ruling the fit


class Mixture:
    """The likelihood of some pixels under their mixtures of logistics, as a function of the changes."""

    def __init__(
        self,
        config: MixtureOutputs,
        outputs: Int32[np.ndarray, "N O"],
        base: Int32[np.ndarray, "N C"],
        near: Int16[np.ndarray, "P N"],
        target: UInt8[np.ndarray, "C N"],
    ) -> None:
        """outputs int32 [N, outputs], base int32 [N, C], near [C * neighbours, N], target [C, N] grey levels."""
        self.config, self.near, self.target = config, near.astype(float), target.astype(float)
        self.outputs = outputs.T * output_units(config)[:, None]
        self.base = base.T / POSITION
        self.parameters = len(self.outputs) + len(target) * len(near)

    def likelihood(self, theta: Float64[np.ndarray, " N"]) -> tuple[float, Float64[np.ndarray, "N K"]]:
        """Log-likelihood in nats at changes ``theta``, and its gradient for each pixel, float64 [parameters, N]."""
        c, k, n = self.config.channels, self.config.mixtures, self.target.shape[1]
        out = self.outputs + theta[: len(self.outputs), None]
        linear = theta[len(self.outputs) :].reshape(c, -1)
        residual = self.target - (self.base + linear @ self.near)
        weight = np.exp(out[:k] - out[:k].max(0))
        weight /= weight.sum(0)
        means = out[k : k * (1 + c)].reshape(c, k, n)
        log_scales = out[k * (1 + c) : k * (1 + 2 * c)].reshape(c, k, n).clip(LOG_SCALE_MIN, LOG_SCALE_MAX)
        coupling = out[k * (1 + 2 * c) :].reshape(-1, k, n)
        joint = weight.copy()
        slopes = []
        for channel in range(c):
            mean = means[channel].copy()
            first = channel * (channel - 1) // 2
            for previous in range(channel):
                mean += coupling[first + previous] * residual[previous]
            inverse = np.exp(-log_scales[channel])
            a, b = ((residual[channel] + half - mean) * inverse for half in (0.5, -0.5))
            above, da = _logistic(a)
            below, db = _logistic(b)
            top, bottom = self.target[channel] > 254.5, self.target[channel] < 0.5
            above[:, top], da[:, top], below[:, bottom], db[:, bottom] = 1, 0, 0, 0
            mass = above - below + MASS_FLOOR
            joint *= mass
            slopes.append((inverse * (db - da) / mass, (b * db - a * da) / mass))  # by mean, by log-scale
        total = joint.sum(0)
        responsibility = joint / total  # of each component for the pixel
        gradient = np.empty((self.parameters, n))
        gradient[:k] = responsibility - weight
        by_base = np.zeros((c, n))
        for channel, (by_mean, by_scale) in enumerate(slopes):
            by_mean *= responsibility
            gradient[k * (1 + channel) : k * (2 + channel)] = by_mean
            gradient[k * (1 + c + channel) : k * (2 + c + channel)] = by_scale * responsibility
            by_base[channel] += by_mean.sum(0)
            for previous in range(channel):
                pair = channel * (channel - 1) // 2 + previous
                start = k * (1 + 2 * c + pair)
                gradient[start : start + k] = by_mean * residual[previous]
                by_base[previous] -= (by_mean * coupling[pair]).sum(0)
        gradient[len(self.outputs) :] = (by_base[:, None] * self.near).reshape(-1, n)
        return float(np.log(total).sum()), gradient


def _logistic(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The logistic function and its derivative."""
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e), e / (1 + e) ** 2


def search(mixture: Mixture, step_sizes: np.ndarray) -> tuple[Float64[np.ndarray, " N"], float]:
    """Changes float64 [parameters], as whole multiples of ``step_sizes``, and the nats that they gain.

    Quasi-Newton steps (L-BFGS, Nocedal 1980).  The first estimate of the curvature is the empirical Fisher matrix
    (Amari 1998), which is good already; L-BFGS follows its changes.
    """
    theta = np.zeros(mixture.parameters)
    start, slopes = mixture.likelihood(theta)
    fisher, gradient, best = slopes @ slopes.T, slopes.sum(1), start
    fisher += np.diag(0.001 * fisher.diagonal() + 1)
    history: list[tuple[np.ndarray, np.ndarray]] = []  # the steps of theta, and the decrease of the gradient in each
    for _ in range(MAX_STEPS):
        step = _step(fisher, gradient, history)
        for _ in range(MAX_TRIALS):
            value, slopes = mixture.likelihood(theta + step)
            if value > best and np.abs(theta + step).max() <= MAX_CHANGE:
                break
            step = step / 2
        else:
            break
        decrease, gradient = gradient - slopes.sum(1), slopes.sum(1)
        theta, gained, best = theta + step, value - best, value
        if step @ decrease > 0:
            history.append((step, decrease))
        if gained < MIN_GAIN * mixture.target.shape[1]:
            break
    changes = np.rint(np.clip(theta / step_sizes, -MAX_CHANGE, MAX_CHANGE))
    return changes, mixture.likelihood(changes * step_sizes)[0] - start


def _step(fisher: np.ndarray, gradient: np.ndarray, history: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """The gradient times the estimate of the inverse curvature: the two loops of L-BFGS."""
    step, factors = gradient.copy(), []
    for move, decrease in reversed(history):
        factors.append((move @ step) / (move @ decrease))
        step -= factors[-1] * decrease
    step = np.linalg.solve(fisher, step)
    for (move, decrease), factor in zip(history, reversed(factors), strict=True):
        step += (factor - (decrease @ step) / (move @ decrease)) * move
    return step
