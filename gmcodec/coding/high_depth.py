# SPDX-License-Identifier: MIT
"""Code planes of 16 bits with a model of 8: tiles as in autoregressive.py, on a scale that suits the image.

The encoder first tells the decoder of an image:

=======  ==========================================================================================================
lists    the values that a channel uses, if it uses few (12 bits times 16, a developed raw file of 14 bits): such a
         channel is coded as ranks among these values
bits     of the largest rank, 8 to 16
shift    a grey level of the model is 2**shift ranks, chosen so that the noise has the size that the model knows
rate     of learning, an index into ``online.rules.RATES``
=======  ==========================================================================================================

Payload of one part, in this order (numbers as in formats/varint.py):

1. a number: bit c is set if channel c has a list of values;
2. three bytes: bits, shift, rate;
3. if there are lists: their length in bytes, and raw deflate of them.  The list of a channel is its first value plus 1,
   the differences between neighbouring values, and 0 at the end, all numbers of 16 bits.  The high bytes of all numbers
   of all lists come first, then their low bytes;
4. the height and the width of tiles, the number of 32-bit words of each tile in raster order, and all words.
"""

from __future__ import annotations

import zlib
from typing import Any, Protocol

import numpy as np

from gmcodec.arrays import UInt16
from gmcodec.coding.autoregressive import Costs, Payload, TileCoder, check_words, spread
from gmcodec.coding.tiles import read_tiles, squares, tile_shape, tiles, workers
from gmcodec.errors import GmcFormatError
from gmcodec.exact.logistic import MAX_SHIFT
from gmcodec.formats import varint
from gmcodec.progress import Callback, ignore, without_pixels
from gmcodec.threads import Threads


class OnlineTileCoder(TileCoder, Protocol):
    """Knows the bits of each pixel, float64 [H, W], of a tile uint16 [C, H, W]."""

    def pixel_bits(self, planes: np.ndarray, progress: Callback, weights: Any, threads: int = 1) -> np.ndarray: ...


class Model(Protocol):
    """What coding needs of a model that learns on its way and knows images of 8 bits."""

    rates: tuple[int, ...]

    def high_depth_coder(self, bits: int, shift: int, rate: int) -> OnlineTileCoder:
        """Codes tiles uint16 [C, H, W] of ``bits`` bits; a grey level of the model is 2**shift steps."""


ValueLists = list[np.ndarray | None]  # for each channel uint16, the values it uses, ascending; None: no list
SCALE_SQUARES, SCALE_SIDE = 8, 48  # the sample of an image on which scales are tried
USUAL_NOISE = 4  # median second difference of a photograph of 8 bits
VALUES_16BIT = 1 << 16


# -- values ----------------------------------------------------------------------------------------------------


def choose_lists(planes: UInt16[np.ndarray, "C H W"]) -> ValueLists:
    """The lists for uint16 [C, H, W] that save more bits than they take.

    What a list saves is estimated from the gaps around the values of all samples.  A sparse histogram has wide gaps
    everywhere; in that of a small image only rare values have wide gaps.
    """
    lists: ValueLists = []
    for plane in planes:
        counts = np.bincount(plane.ravel(), minlength=VALUES_16BIT)
        used = np.flatnonzero(counts)
        gap = np.diff(used, prepend=-1, append=used[-1] + 1)
        saved = float(counts[used] @ np.log2((gap[:-1] + gap[1:]) / 2))
        used = used.astype(np.uint16)
        pays = len(used) > 1 and saved > 2 * 8 * len(pack_lists([used])[1])
        lists.append(used if pays else None)
    return lists


def pack_lists(lists: ValueLists) -> tuple[int, bytes]:
    """Lists, of two values at least -> the bit mask of channels that have one, and the deflated lists."""
    numbers = [np.append(np.diff(used, prepend=used[:1] * 0), used[:1] * 0) for used in lists if used is not None]
    mask = sum(1 << c for c, used in enumerate(lists) if used is not None)
    if not mask:
        return 0, b""
    for part in numbers:
        part[0] += 1  # so that a first value of 0 does not look like the end
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    joined = np.concatenate(numbers)
    data = (joined >> 8).astype(np.uint8).tobytes() + (joined & 255).astype(np.uint8).tobytes()
    return mask, packer.compress(data) + packer.flush()


def unpack_lists(mask: int, data: bytes, channels: int) -> ValueLists:
    """Inverse of ``pack_lists``.  Raises GmcFormatError."""
    unpacker = zlib.decompressobj(-15)
    try:
        raw = unpacker.decompress(data, 2 * channels * (VALUES_16BIT + 1) + 1)
    except zlib.error as error:
        raise GmcFormatError(f"the lists of values are damaged: {error}") from error
    if not unpacker.eof or unpacker.unused_data or len(raw) % 2:
        raise GmcFormatError("the lists of values do not end where they should")
    high, low = np.frombuffer(raw, np.uint8).reshape(2, -1).astype(np.int64)
    numbers = high << 8 | low
    ends = np.flatnonzero(numbers == 0)
    if len(ends) != mask.bit_count() or (len(ends) and ends[-1] != len(numbers) - 1):
        raise GmcFormatError(f"{len(ends)} lists of values, there should be {mask.bit_count()}")
    parts = iter(np.split(numbers, ends + 1))
    lists: ValueLists = []
    for c in range(channels):
        used = np.cumsum(next(parts)[:-1]) - 1 if mask >> c & 1 else None
        if used is not None and (not len(used) or used[-1] >= VALUES_16BIT):
            raise GmcFormatError("a list of values is empty or leaves 16 bits")
        lists.append(None if used is None else used.astype(np.uint16))
    return lists


def to_ranks(planes: UInt16[np.ndarray, "C H W"], lists: ValueLists) -> UInt16[np.ndarray, "C H W"]:
    """uint16 [C, H, W] with every value replaced by its rank in the list of its channel."""
    out = planes.copy()
    for plane, used in zip(out, lists, strict=True):
        if used is not None:
            ranks = np.zeros(VALUES_16BIT, np.uint16)
            ranks[used] = np.arange(len(used))
            plane[:] = ranks[plane]
    return out


def from_ranks(ranks: UInt16[np.ndarray, "C H W"], lists: ValueLists) -> UInt16[np.ndarray, "C H W"]:
    """Inverse of ``to_ranks``, in place.  Raises GmcFormatError for a rank beyond the end of a list."""
    for plane, used in zip(ranks, lists, strict=True):
        if used is not None:
            if plane.max() >= len(used):
                raise GmcFormatError(f"value {plane.max()} of a list of {len(used)}")
            plane[:] = used[plane]
    return ranks


# -- the scale -------------------------------------------------------------------------------------------------


def choose_shift(
    ranks: UInt16[np.ndarray, "C H W"], model: Model, bits: int, progress: Callback = ignore
) -> tuple[int, float]:
    """The best of three shifts that suit the noise of ranks uint16 [C, H, W], and its bits a sample, by a trial."""
    fine = ranks.astype(np.int32)
    second = fine[:, 1:, 1:] - fine[:, :-1, 1:] - fine[:, 1:, :-1] + fine[:, :-1, :-1]
    noise = float(np.median(np.abs(second))) if second.size else 0.0
    usual = round(np.log2(max(noise, 1) / USUAL_NOISE))
    candidates = sorted({min(max(usual + d, 0), MAX_SHIFT) for d in (-1, 0, 1)})
    sample = squares(ranks, SCALE_SQUARES, SCALE_SIDE)
    strip = np.ascontiguousarray(np.concatenate(list(sample), 1))

    def cost(shift: int) -> float:
        coder = model.high_depth_coder(bits, shift, model.rates[0])
        return float(coder.push_words(strip, without_pixels(progress), None)[1][0])

    costs = {shift: cost(shift) / strip.size for shift in candidates}
    shift = min(costs, key=costs.__getitem__)
    return shift, costs[shift]


def estimate(planes: UInt16[np.ndarray, "C H W"], model: Model, progress: Callback = ignore) -> float:
    """Estimated bits of uint16 [C, H, W], from a sample."""
    ranks = to_ranks(planes, choose_lists(planes))
    return choose_shift(ranks, model, bits_of(ranks.max()), progress)[1] * ranks.size


def bits_of(largest: int) -> int:
    return max(8, int(largest).bit_length())


# -- an image: encode and decode -------------------------------------------------------------------------------


def encode(
    planes: UInt16[np.ndarray, "C H W"],
    model: Model,
    threads: int = 1,
    progress: Callback = ignore,
    tile: tuple[int, int] | None = None,
) -> Payload:
    """uint16 [C, H, W] -> payload.  The bytes do not depend on ``threads``."""
    _, height, width = planes.shape
    tile, lists = tile or tile_shape(height, width), choose_lists(planes)
    ranks = to_ranks(planes, lists)
    bits = bits_of(ranks.max())
    rate, (shift, _) = model.rates[0], choose_shift(ranks, model, bits, progress)
    coder = model.high_depth_coder(bits, shift, rate)
    parts = [np.ascontiguousarray(ranks[:, y, x]) for y, x in tiles(height, width, tile)]
    side_by_side, each = workers(len(parts), threads)
    with Threads(side_by_side) as pool:
        coded = list(pool.map(lambda part: coder.push_words(part, progress, None, each), parts))
    mask, packed = pack_lists(lists)
    head = varint.write(mask) + bytes([bits, shift, rate])
    head += varint.write(len(packed)) + packed if mask else b""
    head += b"".join(map(varint.write, (*tile, *(len(words) for words, _ in coded))))
    body = b"".join(words.astype("<u4").tobytes() for words, _ in coded)
    return Payload(head + body, float(sum(cost[0] for _, cost in coded)) + 8 * len(packed))


def decode(
    payload: bytes,
    shape: tuple[int, int, int],
    model: Model,
    threads: int = 1,
    progress: Callback = ignore,
    costs: Costs = None,
) -> UInt16[np.ndarray, "C H W"]:
    """Inverse of ``encode``: uint16 [C, H, W].  Raises GmcFormatError before large allocations.

    ``costs``, float64 [H, W], gets the bits of each pixel; those of the lists of values, a share of each.
    """
    channels, height, width = shape
    mask, position = varint.read(payload, 0, "the head of a payload")
    if mask >> channels or position + 3 > len(payload):
        raise GmcFormatError(f"lists of values {mask:#x} for {channels} channels, or the payload ends")
    bits, shift, rate = payload[position : position + 3]
    coder = model.high_depth_coder(bits, shift, rate)
    length, position = varint.read(payload, position + 3, "the length of the lists") if mask else (0, position + 3)
    lists: ValueLists = [None] * channels
    if mask:
        lists = unpack_lists(mask, payload[position : position + length], channels)
    tile, lengths, position = read_tiles(payload, position + length, height, width)
    if position + 4 * sum(lengths) != len(payload):
        raise GmcFormatError("the lengths of the tiles do not add up to the payload")
    out = np.empty(shape, np.uint16)
    words, ends = np.frombuffer(payload, "<u4", offset=position), np.cumsum([0, *lengths])

    side_by_side, each = workers(len(lengths), threads)

    def decode_tile(number: int, where: tuple[slice, slice]) -> None:
        part, mine = out[:, where[0], where[1]], words[ends[number] : ends[number + 1]]
        check_words(mine)
        part[:], finished = coder.pop_words(mine, part.shape[1], part.shape[2], progress, None, each)
        if not finished:
            raise GmcFormatError("coded data is left over after the last pixel")
        if costs is not None:
            costs[where] = coder.pixel_bits(part, progress, None, each)

    with Threads(side_by_side) as pool:
        list(pool.map(decode_tile, range(len(lengths)), tiles(height, width, tile)))
    spread(costs, 8 * length)
    return from_ranks(out, lists)
