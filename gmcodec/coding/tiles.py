# SPDX-License-Identifier: MIT
"""Parts of an image: tiles, each coded on its own, and squares, a sample of it on which settings are tried."""

from __future__ import annotations

import numpy as np

from gmcodec.arrays import UInt
from gmcodec.errors import GmcFormatError
from gmcodec.formats import varint

TILE_PIXELS = 1 << 21  # of a tile, at most, about
MAX_TILE_PIXELS = 1 << 23  # larger tiles are refused, to bound the decoder's memory
SQUARE_SIDE = 32


def tile_shape(height: int, width: int) -> tuple[int, int]:
    """Height and width of the tiles of an image.

    From 0.13 megapixels on there are two bands, so that two threads can work; large images have more tiles.
    """
    pixels = height * width
    if pixels < 1 << 17:
        return height, width
    if pixels <= 2 * TILE_PIXELS:
        return (-(-height // 2), width) if height >= width // 8 else (height, -(-width // 2))
    rows = max(1, round(height / TILE_PIXELS**0.5))
    columns = max(1, round(pixels / TILE_PIXELS / rows))
    rows = max(1, round(pixels / TILE_PIXELS / columns))  # a tall thin image has only one column
    return -(-height // rows), -(-width // columns)


def tiles(height: int, width: int, tile: tuple[int, int]) -> list[tuple[slice, slice]]:
    """Tiles in raster order."""
    return [
        (slice(y, min(y + tile[0], height)), slice(x, min(x + tile[1], width)))
        for y in range(0, height, tile[0])
        for x in range(0, width, tile[1])
    ]


def read_tiles(payload: bytes, position: int, height: int, width: int) -> tuple[tuple[int, int], list[int], int]:
    """Height and width of the tiles, the number of words of each, the position behind.  Raises GmcFormatError."""
    tile_height, position = varint.read(payload, position, "the height of a tile")
    tile_width, position = varint.read(payload, position, "the width of a tile")
    if not (0 < tile_height <= height and 0 < tile_width <= width):
        raise GmcFormatError(f"tiles of {tile_width}x{tile_height} do not fit an image of {width}x{height}")
    if tile_height * tile_width > MAX_TILE_PIXELS:
        raise GmcFormatError(f"tiles of {tile_width}x{tile_height} are larger than the format allows")
    count = -(-height // tile_height) * -(-width // tile_width)
    if count > len(payload):  # every tile takes at least one byte, for its length
        raise GmcFormatError(f"{count} tiles promised, the payload has {len(payload)} bytes")
    lengths = []
    for _ in range(count):
        length, position = varint.read(payload, position, "the length of a tile")
        lengths.append(length)
    return (tile_height, tile_width), lengths, position


def workers(count: int, threads: int) -> tuple[int, int]:
    """How many of ``count`` tiles are coded at once, and how many threads work on each."""
    side_by_side = min(count, threads)
    return side_by_side, threads // side_by_side


def squares(planes: UInt[np.ndarray, "C H W"], count: int, side: int = SQUARE_SIDE) -> UInt[np.ndarray, "N C S S"]:
    """A sample of an image [C, H, W]: squares [count, C, side, side], spread evenly over an image of any shape."""
    side = min(side, *planes.shape[1:])
    out = []
    for number in range(count):  # a low-discrepancy sequence
        y = int((planes.shape[1] - side) * ((number * 0.754877666) % 1))
        x = int((planes.shape[2] - side) * ((number * 0.569840296) % 1))
        out.append(planes[:, y : y + side, x : x + side])
    return np.stack(out)
