# SPDX-License-Identifier: MIT
"""The causal window of the local model.

A pixel at (row i, column j) is predicted from pixels above it and to its left::

        . . o o o o o . .         o  inside the window (within `radius`)
        . o o o o o o o .         X  the pixel being predicted
        o o o o o o o r r         r  within the radius, but too far to the right: left out
        o o o o X

With `slope` s, pixel (i, j) is visited at step ``s * i + j``.  An offset (dy, dx) is finished by then
when ``s * dy + dx < 0``, so the window keeps only such offsets; s = 4 costs three far pixels of
row -1 and makes the wavefront nearly twice as wide as the full radius would.
"""

from __future__ import annotations

import functools

# A sample outside the image.  Every use replaces it by "no difference", so its value never shows.
OUTSIDE = 1 << 14


@functools.cache
def window_offsets(radius2: int, slope: int) -> tuple[tuple[int, int], ...]:
    """Offsets (dy, dx) with dy*dy + dx*dx <= radius2 that are causal and finished, nearest first."""
    reach = int(radius2**0.5)
    offsets = [
        (dy, dx)
        for dy in range(-reach, 1)
        for dx in range(-reach, reach + 1)
        if dy * dy + dx * dx <= radius2 and (dy < 0 or dx < 0) and slope * dy + dx < 0
    ]
    return tuple(sorted(offsets, key=lambda o: (o[0] ** 2 + o[1] ** 2, o[0], o[1])))
