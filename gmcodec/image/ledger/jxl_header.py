# SPDX-License-Identifier: MIT
"""The first bits of a JPEG XL codestream: size and image metadata, ISO/IEC 18181-1, C.2 and D (bits low first)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_SRGB = (1, 13)
_PRIMARIES = {(1, 1): 1, (1, 9): 9, (1, 11): 12, (11, 11): 11}  # white point and primaries -> CICP
_TRANSFERS = {1, 8, 13, 16, 17, 18}  # the same numbers in CICP


@dataclass
class Extra:
    """An extra channel besides grey or RGB.  ``kind``: its type, 0 for alpha."""

    kind: int = 0
    bits: int = 8
    floating: bool = False
    name: bytes = b""
    premultiplied: bool = False


@dataclass
class Header:
    """Image metadata.  ``cicp``: primaries and transfer; None if only the ICC profile describes the colour."""

    width: int = 0
    height: int = 0
    bits: int = 8
    floating: bool = False
    grey: bool = False
    orientation: int = 1
    intrinsic: tuple[int, int] | None = None
    preview: bool = False
    animated: bool = False
    extra: list[Extra] = field(default_factory=list)
    cicp: tuple[int, int] | None = _SRGB
    tone_mapped: bool = False


class _Bits:
    """A cursor over the bits of a codestream.  Raises EOFError at the end."""

    def __init__(self, data: bytes) -> None:
        self.value, self.left = int.from_bytes(data, "little"), 8 * len(data)

    def u(self, count: int) -> int:
        """An unsigned number of ``count`` bits."""
        if count > self.left:
            raise EOFError
        value = self.value & (1 << count) - 1
        self.value >>= count
        self.left -= count
        return value

    def choice(self, *options: tuple[int, int]) -> int:
        """A number by one of four options, each a start and the number of bits added to it."""
        start, count = options[self.u(2)]
        return start + self.u(count)

    def enum(self) -> int:
        """A number of an enumeration."""
        return self.choice((0, 0), (1, 0), (2, 4), (18, 6))


def read_header(codestream: bytes) -> Header | None:
    """The header of a codestream; None if it is none, or truncated."""
    if codestream[:2] != b"\xff\x0a":
        return None
    try:
        return _read(_Bits(codestream[2:4096]))
    except EOFError:
        return None


def _read(bits: _Bits) -> Header:
    out = Header()
    out.width, out.height = _size(bits)
    if bits.u(1):  # all other fields have their defaults
        return out
    extra_fields = bits.u(1)
    if extra_fields:
        _extra_fields(bits, out)
    out.floating, out.bits = _depth(bits)
    bits.u(1)  # modular_16bit_buffers
    for _ in range(bits.choice((0, 0), (1, 0), (2, 4), (1, 12))):
        out.extra.append(_channel(bits))
    bits.u(1)  # xyb_encoded
    out.cicp, out.grey = _colour(bits)
    if extra_fields:
        out.tone_mapped = _tone_mapped(bits, out.cicp)
    return out


def _size(bits: _Bits) -> tuple[int, int]:
    """Width and height."""
    small = bits.u(1)

    def side() -> int:
        return 8 * (1 + bits.u(5)) if small else bits.choice((1, 9), (1, 13), (1, 18), (1, 30))

    height = side()
    ratio = bits.u(3)
    if not ratio:
        return side(), height
    across, down = _RATIOS[ratio - 1]
    return height * across // down, height


def _extra_fields(bits: _Bits, out: Header) -> None:
    out.orientation = 1 + bits.u(3)
    if bits.u(1):
        out.intrinsic = _size(bits)
    out.preview = bool(bits.u(1))
    if out.preview:
        _skip_preview_size(bits)
    out.animated = bool(bits.u(1))
    if out.animated:
        bits.choice((100, 0), (1000, 0), (1, 10), (1, 30))
        bits.choice((1, 0), (1001, 0), (1, 8), (1, 10))
        bits.choice((0, 0), (0, 3), (0, 16), (0, 32))
        bits.u(1)


def _skip_preview_size(bits: _Bits) -> None:
    by_eight = bits.u(1)
    options = ((16, 0), (32, 0), (1, 5), (33, 9)) if by_eight else ((1, 6), (65, 8), (321, 10), (1345, 12))
    bits.choice(*options)
    if not bits.u(3):
        bits.choice(*options)


def _depth(bits: _Bits) -> tuple[bool, int]:
    """Whether samples are floating point, and their bits."""
    if bits.u(1):
        size = bits.choice((32, 0), (16, 0), (24, 0), (1, 6))
        bits.u(4)
        return True, size
    return False, bits.choice((8, 0), (10, 0), (12, 0), (1, 6))


def _channel(bits: _Bits) -> Extra:
    if bits.u(1):
        return Extra()
    kind = bits.enum()
    floating, size = _depth(bits)
    bits.choice((0, 0), (3, 0), (4, 0), (1, 3))
    name = bytes(bits.u(8) for _ in range(bits.choice((0, 0), (0, 4), (16, 5), (48, 10))))
    premultiplied = bool(bits.u(1)) if kind == 0 else False
    if kind == 2:
        bits.u(64)
    elif kind == 5:
        bits.choice((1, 0), (0, 2), (3, 4), (19, 8))
    return Extra(kind, size, floating, name, premultiplied)


def _colour(bits: _Bits) -> tuple[tuple[int, int] | None, bool]:
    """CICP or None, and whether the picture is grey."""
    if bits.u(1):
        return _SRGB, False
    icc = bits.u(1)
    space = bits.enum()
    grey = space == 1
    if icc or space > 1:
        return None, grey
    white = bits.enum()
    if white == 2:
        _skip_point(bits)
    primaries = 1
    if not grey:
        primaries = bits.enum()
        if primaries == 2:
            for _ in range(3):
                _skip_point(bits)
    transfer = 0
    if bits.u(1):
        bits.u(24)
    else:
        transfer = bits.enum()
    bits.enum()  # rendering intent
    known = _PRIMARIES.get((white, primaries))
    return ((known, transfer) if known and transfer in _TRANSFERS else None), grey


def _skip_point(bits: _Bits) -> None:
    for _ in range(2):
        bits.choice((0, 19), (524288, 19), (1048576, 20), (2097152, 21))


def _tone_mapped(bits: _Bits, cicp: tuple[int, int] | None) -> bool:
    """Whether the brightness of white or black differs from what the transfer function implies."""
    if bits.u(1):
        return False
    intensity, darkest = _half(bits.u(16)), _half(bits.u(16))
    relative, below = bits.u(1), _half(bits.u(16))
    implied = {16: 10000, 18: 1000}.get(cicp[1] if cicp else 0, 255)
    return bool(intensity != implied or darkest or relative or below)


def _half(value: int) -> float:
    """A number in IEEE half precision."""
    exponent, fraction = value >> 10 & 31, value & 1023
    size = math.ldexp(fraction, -24) if not exponent else math.ldexp(1024 + fraction, exponent - 25)
    return -size if value >> 15 else size
