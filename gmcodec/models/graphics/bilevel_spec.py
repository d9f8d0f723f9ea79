# SPDX-License-Identifier: MIT
"""The specification of contexts for images of one bit, such as scans of pages: what many pixels around hold.

The first number of a template is how many pixels to the left it has in this row.  Each further number stands for a row
above, the nearest first: the template has the pixel above and as many pixels to either side of it.
JBIG2 (ISO/IEC 14492) has such contexts of 10 to 16 pixels, one for an image; here small and large ones are mixed.
"""

from __future__ import annotations

from collections.abc import Sequence

from gmcodec.exact.context_mixing import combine

TEMPLATE = (
    (4, 3, 2), (2, 1, 1), (6, 4, 3, 2), (7, 5, 4, 3, 2), (8, 6, 5, 4, 3, 2, 1), (3, 2, 2, 2, 1, 1, 0),
    (1, 1, 1, 1, 1, 1, 1), (12, 2), (2, 6, 2), (3, 3, 3, 3, 3), (10, 8, 6, 5, 4, 3, 2), (16,), (4, 4, 4, 4, 4, 4, 4),
)  # fmt: skip
PLACE_TEMPLATE = (6, 5, 4, 4, 3, 3, 3)  # of places that match
TEMPLATES = len(TEMPLATE)


def template_hash(canvas: Sequence[int], here: int, stride: int, template: Sequence[int], number: int) -> int:
    """The hash of a template's pixels around the place ``here`` of a canvas; ``number`` tells templates apart."""
    left, *sides = template
    rows = [canvas[here - left : here]]
    for row, side in enumerate(sides, 1):
        above = here - row * stride
        rows.append(canvas[above - side : above + side + 1])
    return combine(number, *(_bits(pixels) for pixels in rows))


def _bits(pixels: Sequence[int]) -> int:
    bits = 0
    for pixel in pixels:
        bits = bits << 1 | pixel & 1
    return bits
