# SPDX-License-Identifier: MIT
"""Code planes of 16 bits with a model of 8: tiles as in autoregressive.py, on a scale of the image's own.

What the encoder tells the decoder of an image beforehand::

    values    a channel that uses few of its values (12 bits times 16, a developed raw file of 14 bits) is coded as
              ranks among those it uses
    bits      of the largest rank, 8 to 16
    shift     a grey level of the model is 2**shift ranks: so many that noise has the size the model knows
    rate      of learning

Payload of one part (numbers as in formats/varint.py): a number, bit c set if channel c has a list of values; bytes:
bits, shift, rate; if there are lists, their length and raw deflate of them: for each channel with a list its first
value, the differences between neighbours, 0 behind the last, first the high bytes of all these numbers of 16 bits, then
the low ones; then the tiles: height and width, the number of 32-bit words of each in raster order, all words.
"""

from __future__ import annotations

import zlib
from typing import Any, Protocol

import numpy as np

from gmcodec.coding.autoregressive import (
    Costs,
    Payload,
    TileCoder,
    check_words,
    read_tiles,
    spread,
    squares,
    tile_shape,
    tiles,
    workers,
)
from gmcodec.errors import GmcFormatError
from gmcodec.exact.logistic import MAX_SHIFT
from gmcodec.formats import varint
from gmcodec.progress import Callback, ignore, without_pixels
from gmcodec.threads import Threads


class OnlineTileCoder(TileCoder, Protocol):
    """Knows the bits of each pixel, float64 [H, W], of a tile uint16 [C, H, W]."""

    def pixel_bits(self, planes: np.ndarray, progress: Callback, weights: Any, threads: int = 1) -> np.ndarray: ...


class Model(Protocol):
    """What coding needs of a model of 8 bits that learns."""

    rates: tuple[int, ...]

    def high_depth_coder(self, bits: int, shift: int, rate: int) -> OnlineTileCoder:
        """Codes tiles uint16 [C, H, W] of ``bits`` bits; a grey level of the model is 2**shift steps."""


Lists = list[np.ndarray | None]  # of the values a channel uses, ascending, where that is worth telling
SAMPLE_SQUARES, SAMPLE_SIDE = 8, 48  # on which scales are tried
USUAL_NOISE = 4  # median second difference of photographs of 8 bits
VALUES_16BIT = 1 << 16


# -- values ----------------------------------------------------------------------------------------------------


def choose_lists(planes: np.ndarray) -> Lists:
    """The lists worth sending for uint16 [C, H, W].

    What one saves is taken from the gaps around the values that samples have: a comb has them everywhere, a histogram
    of few samples only where hardly any sample is.
    """
    lists: Lists = []
    for plane in planes:
        counts = np.bincount(plane.ravel(), minlength=VALUES_16BIT)
        used = np.flatnonzero(counts)
        gap = np.diff(used, prepend=-1, append=used[-1] + 1)
        saved = float(counts[used] @ np.log2((gap[:-1] + gap[1:]) / 2))
        used = used.astype(np.uint16)
        pays = len(used) > 1 and saved > 2 * 8 * len(pack_lists([used])[1])
        lists.append(used if pays else None)
    return lists


def pack_lists(lists: Lists) -> tuple[int, bytes]:
    """Which channels have lists, as bits, and the lists; of two values at least."""
    numbers = [np.append(np.diff(used, prepend=used[:1] * 0), used[:1] * 0) for used in lists if used is not None]
    mask = sum(1 << c for c, used in enumerate(lists) if used is not None)
    if not mask:
        return 0, b""
    for part in numbers:
        part[0] += 1  # a first value of 0 is no end
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    joined = np.concatenate(numbers)
    data = (joined >> 8).astype(np.uint8).tobytes() + (joined & 255).astype(np.uint8).tobytes()
    return mask, packer.compress(data) + packer.flush()


def unpack_lists(mask: int, data: bytes, channels: int) -> Lists:
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
    lists: Lists = []
    for c in range(channels):
        used = np.cumsum(next(parts)[:-1]) - 1 if mask >> c & 1 else None
        if used is not None and (not len(used) or used[-1] >= VALUES_16BIT):
            raise GmcFormatError("a list of values is empty or leaves 16 bits")
        lists.append(None if used is None else used.astype(np.uint16))
    return lists


def to_ranks(planes: np.ndarray, lists: Lists) -> np.ndarray:
    """uint16 [C, H, W], every value as its place in its channel's list."""
    out = planes.copy()
    for plane, used in zip(out, lists, strict=True):
        if used is not None:
            ranks = np.zeros(VALUES_16BIT, np.uint16)
            ranks[used] = np.arange(len(used))
            plane[:] = ranks[plane]
    return out


def from_ranks(ranks: np.ndarray, lists: Lists) -> np.ndarray:
    """Inverse of ``to_ranks``, in place.  Raises GmcFormatError for ranks that no list has."""
    for plane, used in zip(ranks, lists, strict=True):
        if used is not None:
            if plane.max() >= len(used):
                raise GmcFormatError(f"value {plane.max()} of a list of {len(used)}")
            plane[:] = used[plane]
    return ranks


# -- the scale -------------------------------------------------------------------------------------------------


def choose_shift(ranks: np.ndarray, model: Model, bits: int, progress: Callback = ignore) -> tuple[int, float]:
    """The scale on which a sample of uint16 [C, H, W] costs least, of three that suit its noise; bits a sample."""
    fine = ranks.astype(np.int32)
    second = fine[:, 1:, 1:] - fine[:, :-1, 1:] - fine[:, 1:, :-1] + fine[:, :-1, :-1]
    noise = float(np.median(np.abs(second))) if second.size else 0.0
    usual = round(np.log2(max(noise, 1) / USUAL_NOISE))
    candidates = sorted({min(max(usual + d, 0), MAX_SHIFT) for d in (-1, 0, 1)})
    sample = squares(ranks, SAMPLE_SQUARES, SAMPLE_SIDE)
    strip = np.ascontiguousarray(np.concatenate(list(sample), 1))

    def cost(shift: int) -> float:
        coder = model.high_depth_coder(bits, shift, model.rates[0])
        return float(coder.push_words(strip, without_pixels(progress), None)[1][0])

    costs = {shift: cost(shift) / strip.size for shift in candidates}
    shift = min(costs, key=costs.__getitem__)
    return shift, costs[shift]


def estimate(planes: np.ndarray, model: Model, progress: Callback = ignore) -> float:
    """Bits that uint16 [C, H, W] will take, from a sample."""
    ranks = to_ranks(planes, choose_lists(planes))
    return choose_shift(ranks, model, bits_of(ranks.max()), progress)[1] * ranks.size


def bits_of(largest: int) -> int:
    return max(8, int(largest).bit_length())


# -- an image: encode and decode -------------------------------------------------------------------------------


def encode(
    planes: np.ndarray,
    model: Model,
    threads: int = 1,
    progress: Callback = ignore,
    tile: tuple[int, int] | None = None,
) -> Payload:
    """uint16 [C, H, W] -> payload.  The bytes do not depend on ``threads``.  ``model`` learns."""
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
) -> np.ndarray:
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
    lists: Lists = [None] * channels
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
