# SPDX-License-Identifier: MIT
"""Integers of variable length: unsigned LEB128, with exactly one encoding for every value.

Each byte holds seven bits, lowest first; bit 7 is set on every byte but the last. The last byte of a longer number MUST
NOT be zero, and a number MUST be below 2**63, so it takes 1 to 9 bytes. Signed numbers are zigzag: 0, -1, 1, -2, ...
become 0, 1, 2, 3, ...

All numbers of variable length in ``.gmc`` files and ``.gma`` archives have this form: in the containers, in metadata,
and in payloads.
"""

from __future__ import annotations

from gmcodec.errors import GmcFormatError, TruncatedFileError

MAX_NUMBER_BYTES = 9
VALUE_LIMIT = 1 << 7 * MAX_NUMBER_BYTES


def write(value: int) -> bytes:
    """The bytes of 0 <= ``value`` < 2**63.  Raises GmcFormatError for another value."""
    if not 0 <= value < VALUE_LIMIT:
        raise GmcFormatError(f"the number {value} is outside 0..2**63 - 1")
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def read(data: bytes | memoryview, at: int, what: str) -> tuple[int, int]:
    """Inverse of ``write``: the number at position ``at``, and the position after it.  Messages call it ``what``.

    Raises TruncatedFileError if ``data`` ends first, GmcFormatError for padding and for more than 9 bytes.
    """
    value = 0
    for index in range(MAX_NUMBER_BYTES):
        if at + index >= len(data):
            raise TruncatedFileError(f"the data ends inside {what}")
        byte = data[at + index]
        value |= (byte & 127) << 7 * index
        if byte < 128:
            if byte == 0 and index > 0:
                raise GmcFormatError(f"{what} is written with padding")
            return value, at + index + 1
    raise GmcFormatError(f"{what} takes more than {MAX_NUMBER_BYTES} bytes")


def write_signed(value: int) -> bytes:
    """The bytes of a signed number, -2**62 <= ``value`` < 2**62.  Raises GmcFormatError for another value."""
    return write(to_unsigned(value))


def read_signed(data: bytes | memoryview, at: int, what: str) -> tuple[int, int]:
    """Inverse of ``write_signed``, otherwise like ``read``."""
    value, at = read(data, at, what)
    return to_signed(value), at


def to_unsigned(value: int) -> int:
    """Zigzag: 0, -1, 1, -2, ... to 0, 1, 2, 3, ..."""
    return 2 * value if value >= 0 else -2 * value - 1


def to_signed(value: int) -> int:
    """Inverse of ``to_unsigned``."""
    return -(value >> 1) - 1 if value & 1 else value >> 1
