# SPDX-License-Identifier: MIT
"""The specification of regression.py, in Python's integers: slow and without tricks.

tests/test_regression.py compares, pixel by pixel.
"""

from __future__ import annotations

import numpy as np

from . import local_spec
from .regression import (
    CLAMP,
    ERRORS,
    FEATURE_SHIFT,
    FRACTION,
    MORE,
    NEAR,
    OFFSETS,
    PIVOT_MIN,
    REACH,
    RECIPROCAL_BITS,
    RIDGE_MIN,
    RIDGE_SHIFT,
    SOLUTION_LIMIT,
    SUM_BITS,
)
from .window import OUTSIDE


def samples_around(y: int, x: int, height: int, width: int, slope: int) -> dict[tuple[int, int], int]:
    """The samples of a pixel, and how often each counts."""
    found: dict[tuple[int, int], int] = {}
    for reach, weight in ((REACH, 1), (NEAR, MORE)):
        for dy in range(reach + 1):
            right = min(reach, slope * dy - 1)
            for dx in range(-reach, right + 1):
                if 0 <= y - dy and 0 <= x + dx < width:
                    found[y - dy, x + dx] = found.get((y - dy, x + dx), 0) + weight
    return found


def solve(z: list[list[int]], t: list[list[int]], weights: list[int], inputs: list[int]) -> list[int]:
    """Deviations from the mean that the samples z [S][n], t [S][C] make of inputs [n]: [C], with FRACTION bits."""
    n, rows = len(inputs), [[*a, *b] for a, b in zip(z, t, strict=True)]
    size = n + len(t[0]) if t else n
    sums = [[sum(w * row[i] * row[j] for w, row in zip(weights, rows, strict=True)) for j in range(size)]
            for i in range(size)]  # fmt: skip
    trace = max(1, sum(sums[i][i] for i in range(size)))
    power = SUM_BITS - trace.bit_length()

    def scaled(value: int) -> int:
        return (value << power if power >= 0 else value >> -power) << FRACTION

    a = [[scaled(sums[i][j]) for j in range(n)] for i in range(size)]
    for i in range(n):
        a[i][i] += scaled((trace >> RIDGE_SHIFT) + RIDGE_MIN)
    for j in range(n):
        reciprocal = (1 << RECIPROCAL_BITS) // max(a[j][j] >> FRACTION, PIVOT_MIN)
        column = {i: a[i][j] >> FRACTION for i in range(j + 1, size)}
        for i, v in column.items():
            a[i][j] = (v * reciprocal) >> (RECIPROCAL_BITS - FRACTION)
        for i in range(j + 1, size):
            for k in range(j + 1, min(i + 1, n)):
                a[i][k] -= a[i][j] * column[k]
    limit, found = int(SOLUTION_LIMIT), []
    for row in a[n:]:
        solution = [0] * n
        for j in range(n - 1, -1, -1):
            v = (row[j] << FRACTION) - sum(a[i][j] * solution[i] for i in range(j + 1, n))
            solution[j] = min(max(v >> FRACTION, -limit), limit)
        found.append(sum(s * x for s, x in zip(solution, inputs, strict=True)))
    return found


def predictions(planes: np.ndarray, slope: int) -> np.ndarray:
    """Predictions of all pixels of uint8 [C, H, W], in 1/64 grey level: int64 [C, H, W]."""
    channels, height, width = planes.shape
    mean = local_spec.local_mean(planes)
    near = np.stack([local_spec.difference(planes, mean, offset) for offset in OFFSETS])  # [P, C, H * W]
    z = near.reshape(-1, height, width)
    mean = mean.reshape(planes.shape)
    t, out = planes - mean, np.empty(planes.shape, np.int64)
    for y in range(height):
        for x in range(width):
            around = samples_around(y, x, height, width, slope)
            rows = [z[:, i, j].tolist() for i, j in around]
            deviations = [0] * channels
            if around:
                deviations = solve(rows, [t[:, i, j].tolist() for i, j in around], list(around.values()),
                                   z[:, y, x].tolist())  # fmt: skip
            for c, deviation in enumerate(deviations):
                out[c, y, x] = min(max(64 * int(mean[c, y, x]) + (64 * deviation >> FRACTION), 0), 255 * 64)
    return out


def features(planes: np.ndarray, slope: int) -> tuple[np.ndarray, np.ndarray]:
    """What a net is told beside its window, int64 [N, 5 * C], and the deviations, int64 [C, N]."""
    found, mean = predictions(planes, slope), local_spec.local_mean(planes)
    deviation = np.clip(found.reshape(mean.shape) - 64 * mean, -64 * CLAMP, 64 * CLAMP)
    rows = [halves(deviation)]
    for offset in ERRORS:
        near = local_spec.shifted(planes, *offset)
        error = halves(64 * near - local_spec.shifted(found, *offset))
        rows.append(np.where(near == OUTSIDE, 0, error))
    return np.concatenate(rows).T, deviation


def halves(values: np.ndarray) -> np.ndarray:
    """1/64 grey level -> half levels."""
    return np.clip((values + (1 << (FEATURE_SHIFT - 1))) >> FEATURE_SHIFT, -CLAMP, CLAMP)
