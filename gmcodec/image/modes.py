# SPDX-License-Identifier: MIT
"""The modes, the kinds of images that gmcodec knows: one table for the formats and for all readers and writers.

::

    id  mode     channels  depth        id  mode     channels  depth
    1   1        1         1            8   LA;16    2         16
    2   L        1         8            9   RGB;16   3         16
    3   LA       2         8            10  RGBA;16  4         16
    4   P        1         8            11  CMYK     4         8
    5   RGB      3         8            12  LAB      3         8
    6   RGBA     4         8            13  CMYK;16  4         16
    7   I;16     1         16           14  LAB;16   3         16
"""

from __future__ import annotations

from typing import NamedTuple

DEFAULT_MAX_PIXELS = 178_956_970  # of an image: 512 MiB of RGB, as from which Pillow raises an error


class Mode(NamedTuple):
    """A kind of image.

    id        permanent number in files
    name      as in Pillow, which has no 16-bit modes but I;16
    channels  samples per pixel
    depth     bits per sample: 1, 8 or 16
    """

    id: int
    name: str
    channels: int
    depth: int


_ALL = (  # part of the file formats: append only, never renumber, never reuse
    Mode(1, "1", 1, 1),
    Mode(2, "L", 1, 8),
    Mode(3, "LA", 2, 8),
    Mode(4, "P", 1, 8),
    Mode(5, "RGB", 3, 8),
    Mode(6, "RGBA", 4, 8),
    Mode(7, "I;16", 1, 16),
    Mode(8, "LA;16", 2, 16),
    Mode(9, "RGB;16", 3, 16),
    Mode(10, "RGBA;16", 4, 16),
    Mode(11, "CMYK", 4, 8),
    Mode(12, "LAB", 3, 8),
    Mode(13, "CMYK;16", 4, 16),
    Mode(14, "LAB;16", 3, 16),
)
MODES = {mode.name: mode for mode in _ALL}
MODES_BY_ID = {mode.id: mode for mode in _ALL}
PRINT_MODES = frozenset({"CMYK", "CMYK;16", "LAB", "LAB;16"})  # TIFF can hold them, PNG cannot
