# SPDX-License-Identifier: MIT
"""Leave out of an image what need not be coded pixel by pixel: channels that say nothing, and unused colours.

::

    kind           what is stored in front                        what is coded
    0 CHANNELS     one byte and constants, if C > 1               the other channels: alpha, green, red, blue
    1 TABLE      the table of all colours (coding/palette.py)   one plane: ranks of the colours by luminance
    2 ORDERED      nothing                                        one plane: ranks of the entries of the image's palette
    3 NET_COLOURS  one byte, and alpha if it is constant; if C > 1  alpha, then the colours in the order of nets

CHANNELS: bit c of the byte says that channel c is constant; its value follows, in two little-endian bytes if the
image has 16 bits; bit 4 says that channels 1 and 2 equal channel 0.  A channel that both bits leave out is constant.
All values that are coded are below 256.

NET_COLOURS, for a model with a net: bit 0 of the byte says that alpha is constant, its value follows; bit 1 says that
the colours are equal, so that there is one plane of grey.  All samples have 8 bits.

Neighbouring ranks are similar colours, so ranks can be predicted like grey levels.  Equal ones keep their order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gmcodec.arrays import UInt, UInt8
from gmcodec.coding import palette
from gmcodec.errors import GmcFormatError, TruncatedFileError

CHANNELS, TABLE, ORDERED, NET_COLOURS = 0, 1, 2, 3
_EQUAL_COLOURS = 1 << 4  # of CHANNELS
_CONSTANT_ALPHA, _GREY_COLOURS = 1, 2  # of NET_COLOURS
_WITH_ALPHA = 2, 4  # channels of images that have alpha, in NET_COLOURS
MAX_COLOURS = 256


@dataclass(frozen=True)
class Reduced:
    """What is left of an image.

    kind    CHANNELS, TABLE, ORDERED or NET_COLOURS
    head    what undoes it, besides the shape
    planes  uint8 [C, H, W], in coding order
    green   the first colour, if two more follow it, or -1: green, with NET_COLOURS red
    """

    kind: int
    head: bytes
    planes: np.ndarray
    green: int

    @property
    def depth(self) -> int:
        """The bits that the largest sample needs, at least 1; those that nets know, with NET_COLOURS."""
        return 8 if self.kind == NET_COLOURS else max(1, int(self.planes.max()).bit_length())

    @property
    def colours(self) -> int:
        """Channels that are colours, with NET_COLOURS: 3, or 1 of grey."""
        return 1 if self.green < 0 else 3

    @property
    def is_bilevel(self) -> bool:
        """Whether a pixel has only one bit."""
        return len(self.planes) == 1 and self.depth == 1


def reductions(
    planes: UInt[np.ndarray, "C H W"], depth: int, colours: UInt8[np.ndarray, "N 3"] | None
) -> list[Reduced]:
    """What an image uint8 or uint16 [C, H, W] can be reduced to, the smallest first; empty if nothing is below 256.

    ``colours``: of the image's palette, if it has one.
    """
    if colours is not None:
        ranks = _ranks_of_palette(colours)
        return [Reduced(ORDERED, b"", ranks[planes], -1), Reduced(CHANNELS, b"", planes, -1)]
    found = []
    if len(planes) > 1 or depth == 16:
        indexed = palette.index(planes, depth, False)
        if indexed is not None:
            table, indices = indexed
            head = palette.encode_table(table, False)
            found.append(Reduced(TABLE, head, _ranks(table)[indices], -1))
    channels = _reduce_channels(planes, depth)
    return [*found, channels] if channels else found


def colours_of(planes: UInt8[np.ndarray, "C H W"]) -> Reduced:
    """The colours of an image uint8 [C, H, W], for a net of as many channels as they have: 3, or 1 if they are grey."""
    count, head = len(planes), b""
    colours, alpha = np.split(planes, [count - (count in _WITH_ALPHA)])
    if len(alpha) and (alpha == alpha[0, 0, 0]).all():
        head, alpha = bytes([_CONSTANT_ALPHA, alpha[0, 0, 0]]), alpha[:0]
    elif count > 1:
        head = bytes([0])
    if len(colours) == 3 and (colours[0] == colours[1:]).all():
        head, colours = bytes([head[0] | _GREY_COLOURS]) + head[1:], colours[:1]
    _, green, _ = read_head(NET_COLOURS, memoryview(head), planes.shape, 8)
    return Reduced(NET_COLOURS, head, np.concatenate([alpha, colours]), green)


def read_head(kind: int, data: memoryview, shape: tuple[int, int, int], depth: int) -> tuple[int, int, int]:
    """From the head of a Reduced: how many planes there are, which of them is green, and the bytes of the head.

    Raises GmcFormatError.
    """
    if kind == CHANNELS:
        kept, _, _, size = _read_channels(data, shape[0], depth)
        return len(kept), _green(kept), size
    if kind == TABLE:
        _, rest = _read_table(data, shape[0], depth)
        return 1, -1, len(data) - len(rest)
    if kind == ORDERED and shape[0] == 1 and depth == 8:
        return 1, -1, 0
    if kind == NET_COLOURS and depth == 8:
        alpha, colours, _, size = _read_colours(data, shape[0])
        return alpha + colours, alpha if colours == 3 else -1, size
    raise GmcFormatError(f"reduction {kind} is unknown, or not for {shape[0]} channels of {depth} bits")


def expand(
    kind: int,
    data: memoryview,
    planes: UInt8[np.ndarray, "K H W"],
    shape: tuple[int, int, int],
    depth: int,
    colours: UInt8[np.ndarray, "N 3"] | None,
) -> UInt[np.ndarray, "C H W"]:
    """Inverse of ``reductions``: the image [C, H, W] from its reduced planes.  Raises GmcFormatError."""
    dtype = np.uint16 if depth == 16 else np.uint8
    if kind == ORDERED:
        indices = np.argsort(_ranks_of_palette(colours), kind="stable").astype(np.uint8)
        return indices[planes]
    if kind == TABLE:
        table, _ = _read_table(data, shape[0], depth)
        order = np.argsort(_ranks(table), kind="stable")
        if planes.max() >= len(order):
            raise GmcFormatError(f"rank {planes.max()} is beyond the table's {len(order)} entries")
        return table[:, order[planes[0]]]
    if kind == NET_COLOURS:
        return _expand_colours(data, planes, shape)
    kept, constants, grey, _ = _read_channels(data, shape[0], depth)
    out = np.empty(shape, dtype)
    for channel, plane in zip(kept, planes, strict=True):
        out[channel] = plane
    if grey:
        out[1:3] = out[0]
    for channel, value in constants.items():
        out[channel] = value
    return out


# -- channels ----------------------------------------------------------------------------------------------


def _reduce_channels(planes: np.ndarray, depth: int) -> Reduced | None:
    """The channels that must be coded, at least one; None if a sample of them has more than 8 bits."""
    count = len(planes)
    constant = [c for c in range(1, count) if (planes[c] == planes[c, 0, 0]).all()]
    if count > 1 and len(constant) < count - 1 and (planes[0] == planes[0, 0, 0]).all():
        constant.insert(0, 0)
    varied = [c for c in range(count) if c not in constant]
    grey = count >= 3 and {0, 1, 2} <= set(varied) and (planes[0] == planes[1:3]).all()
    head = b""
    if count > 1:
        values = b"".join(int(planes[c, 0, 0]).to_bytes(1 + (depth == 16), "little") for c in constant)
        head = bytes([sum(1 << c for c in constant) | _EQUAL_COLOURS * grey]) + values
    kept, _, _, _ = _read_channels(memoryview(head), count, depth)
    left = planes[list(kept)]
    if left.max() > 255:
        return None
    return Reduced(CHANNELS, head, left.astype(np.uint8, copy=False), _green(kept))


def _green(kept: tuple[int, ...]) -> int:
    """Where green is among the channels that are coded, if red and blue follow it; else -1."""
    return kept.index(1) if {0, 1, 2} <= set(kept) else -1


def _read_channels(data: memoryview, count: int, depth: int) -> tuple[tuple[int, ...], dict[int, int], bool, int]:
    """The channels that are coded, in their order; the constants; whether colours are grey; the bytes read."""
    if count == 1:
        return (0,), {}, False, 0
    size = 1 + (depth == 16)
    flags = data[0] if len(data) else 0
    missing = [c for c in range(count) if flags >> c & 1]
    grey = bool(flags & _EQUAL_COLOURS)
    end = 1 + size * len(missing)
    if len(data) < end:
        raise TruncatedFileError("the payload of a graphic ends in its constants")
    if flags >> 5 or flags & 15 & ~((1 << count) - 1) or len(missing) == count or (grey and (count < 3 or flags & 7)):
        raise GmcFormatError(f"a graphic of {count} channels cannot leave out {flags:#x}")
    constants = {c: int.from_bytes(data[1 + size * i : 1 + size * (i + 1)], "little") for i, c in enumerate(missing)}
    left = [c for c in range(count) if c not in constants and not (grey and c in (1, 2))]
    order = sorted(left, key=lambda c: (c != 3 and not (c == 1 and count == 2), {1: 0, 0: 1}.get(c, 2)))
    return tuple(order), constants, grey, end


# -- colours -----------------------------------------------------------------------------------------------


def _read_colours(data: memoryview, count: int) -> tuple[int, int, int | None, int]:
    """Channels of alpha and of colours that are coded, alpha if it is constant, and the bytes read."""
    if count == 1:
        return 0, 1, None, 0
    flags = data[0] if len(data) else 0
    constant, grey = flags & _CONSTANT_ALPHA, flags & _GREY_COLOURS
    if len(data) < 1 + constant:
        raise TruncatedFileError("the payload of a graphic ends in its constants")
    if flags >> 2 or (constant and count not in _WITH_ALPHA) or (grey and count < 3):
        raise GmcFormatError(f"a graphic of {count} channels cannot leave out {flags:#x}")
    alpha = count in _WITH_ALPHA and not constant
    return int(alpha), 1 if grey or count < 3 else 3, data[1] if constant else None, 1 + constant


def _expand_colours(
    data: memoryview, planes: UInt8[np.ndarray, "K H W"], shape: tuple[int, int, int]
) -> UInt8[np.ndarray, "C H W"]:
    alpha, _, constant, _ = _read_colours(data, shape[0])
    out = np.empty(shape, np.uint8)
    colours, transparent = np.split(out, [shape[0] - (shape[0] in _WITH_ALPHA)])
    colours[...] = planes[alpha:]  # one plane of grey becomes all of them
    transparent[...] = planes[:1] if alpha else constant or 0
    return out


# -- ranks -------------------------------------------------------------------------------------------------


def _ranks(table: UInt[np.ndarray, "C N"]) -> UInt8[np.ndarray, " N"]:
    """The rank uint8 of each colour: by alpha, then by luminance."""
    table = table.astype(np.int64)
    light = table[0] if len(table) < 3 else 3 * table[0] + 6 * table[1] + table[2]
    alpha = table[-1] if len(table) in (2, 4) else np.zeros_like(light)
    ranks = np.empty(len(light), np.uint8)
    ranks[np.lexsort((light, alpha))] = np.arange(len(light))
    return ranks


def _ranks_of_palette(colours: UInt8[np.ndarray, "N 3"] | None) -> UInt8[np.ndarray, " 256"]:
    """The ranks uint8 [256] of all indices; those that a palette does not have come last."""
    entries = np.zeros((0, 3), np.uint8) if colours is None else colours
    return np.concatenate([_ranks(entries.T), np.arange(len(entries), MAX_COLOURS).astype(np.uint8)])


def _read_table(data: memoryview, channels: int, depth: int) -> tuple[np.ndarray, bytes]:
    if len(data) < 2 or data[0] & ~palette.DEFLATED_TABLE:
        raise GmcFormatError("the payload of a graphic has no table of colours")
    return palette.decode_table(bytes(data), (channels, data[1] + 1), depth)
