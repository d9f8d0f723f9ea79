# SPDX-License-Identifier: MIT
"""The rotations and mirrors of HEIF as the equivalent EXIF orientation."""

from __future__ import annotations

from collections.abc import Iterable

# The corners of the stored picture are numbered clockwise from 0 at the top left.  Keys are the corners that appear at
# the top left, top right, bottom right and bottom left of the displayed picture.
_ORIENTATIONS: dict[tuple[int, ...], int] = {
    (0, 1, 2, 3): 1,
    (1, 0, 3, 2): 2,
    (2, 3, 0, 1): 3,
    (3, 2, 1, 0): 4,
    (0, 3, 2, 1): 5,
    (3, 0, 1, 2): 6,
    (2, 1, 0, 3): 7,
    (1, 2, 3, 0): 8,
}


def exif_orientation(steps: Iterable[tuple[bytes, int]]) -> int:
    """The EXIF orientation that is equivalent to ``irot`` and ``imir`` properties, applied in this order.

    irot    quarter turns counter-clockwise (low 2 bits)
    imir    0 swaps top and bottom, 1 left and right (low bit)
    """
    corners: tuple[int, ...] = (0, 1, 2, 3)
    for kind, value in steps:
        if kind == b"irot":
            by = value & 3
            corners = (*corners[by:], *corners[:by])
        else:
            a, b, c, d = corners
            corners = (b, a, d, c) if value & 1 else (d, c, b, a)
    return _ORIENTATIONS[corners]
