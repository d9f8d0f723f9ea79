# SPDX-License-Identifier: MIT
"""Compiled gathering of what convolutions see."""

from __future__ import annotations

from ..exact.kernels import jit


@jit
def gather(x, size, stride, first, top, rows, out):
    """Windows of size x size cells around cells of x [B, H, W, F], zero outside, as rows of ``out``.

    Of images from ``first`` on, of output rows from ``top`` on, ``rows`` of them; out [images * rows * columns,
    size * size * F], tap by tap.
    """
    height, width, features = x.shape[1], x.shape[2], x.shape[3]
    columns, reach, run = -(-width // stride), size // 2, size * features
    source, target = x.reshape(-1), out.reshape(-1)  # slices of these are known to be contiguous
    for n in range(out.shape[0]):
        image, place = first + n // (rows * columns), n % (rows * columns)
        y, left = (top + place // columns) * stride - reach, place % columns * stride - reach
        before, inside = max(-left, 0) * features, (min(left + size, width) - max(left, 0)) * features
        for dy in range(size):
            row, at = y + dy, (n * size + dy) * run
            if row < 0 or row >= height:
                target[at : at + run] = 0
                continue
            start = ((image * height + row) * width + max(left, 0)) * features
            target[at : at + before] = 0
            target[at + before : at + before + inside] = source[start : start + inside]
            target[at + before + inside : at + run] = 0
