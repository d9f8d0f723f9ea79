# SPDX-License-Identifier: MIT
"""PNM files (PBM, PGM, PPM; plain and binary) <-> samples, of any largest value.

Samples are widened to 8 or 16 bits, so that 255 or 65535 is white.  Different values stay different, so ``narrow``
restores those of the file exactly; Pillow would round them.  A file with samples above its largest value, for example
because it was written in the wrong byte order, is malformed; its samples are kept unchanged.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from gmcodec.errors import ImageReadError

_SPACE = rb"(?:[ \t\n\v\f\r]|#[^\n\r]*[\n\r])"
_HEAD = re.compile(rb"P([1-6])" + _SPACE + rb"+(\d+)" + _SPACE + rb"+(\d+)" + _SPACE)
_MAXIMUM_FIELD = re.compile(_SPACE + rb"*(\d+)" + rb"(?:#[^\n\r]*[\n\r]|[ \t\n\v\f\r])")
_COMMENT_LINE = re.compile(rb"#([^\n\r]*)(?=[\n\r])")
_PBM, _PGM, _PPM = 0, 1, 2
_MODES_BY_KIND = {(_PBM, 1): "1", (_PGM, 1): "L", (_PPM, 1): "RGB", (_PGM, 2): "I;16", (_PPM, 2): "RGB;16"}


@dataclass(frozen=True)
class Header:
    """The header of a picture.

    kind   _PBM, _PGM or _PPM
    plain  whether samples are written as decimal numbers
    start  offset of the samples
    """

    kind: int
    plain: bool
    width: int
    height: int
    maximum: int
    start: int

    @property
    def mode(self) -> str:
        """The mode, a key of MODES."""
        return _MODES_BY_KIND[self.kind, self.bytes]

    @property
    def bytes(self) -> int:
        """Bytes of a binary sample."""
        return 1 + (self.maximum > 255)

    @property
    def samples(self) -> int:
        """Number of samples."""
        return self.width * self.height * (3 if self.kind == _PPM else 1)

    @property
    def size(self) -> int:
        """Bytes of all binary samples."""
        if self.kind == _PBM:
            return (self.width + 7) // 8 * self.height
        return self.samples * self.bytes


def read_header(raw: bytes) -> Header:
    """The header of the first picture.  Raises ImageReadError if there is none."""
    head = _HEAD.match(raw)
    if head is None:
        raise ImageReadError("PNM: no header with width and height")
    kind, end, maximum = int(head[1]), head.end(), 1
    if kind not in (1, 4):
        found = _MAXIMUM_FIELD.match(raw, end)
        if found is None:
            raise ImageReadError("PNM: no largest value")
        maximum, end = int(found[1]), found.end()
    width, height = int(head[2]), int(head[3])
    if not (0 < maximum < 1 << 16 and 0 < width < 1 << 31 and 0 < height < 1 << 31):
        raise ImageReadError(f"PNM: {width}x{height} with values up to {maximum}")
    return Header((kind - 1) % 3, kind <= 3, width, height, maximum, end)


def end_of_samples(raw: bytes, header: Header) -> int:
    """Offset of the end of the samples.  Raises ImageReadError if they are truncated."""
    if not header.plain:
        if len(raw) - header.start < header.size:
            raise ImageReadError(f"PNM: truncated, {header.start + header.size - len(raw)} bytes are missing")
        return header.start + header.size
    left = header.samples
    for token in re.finditer(rb"#[^\n\r]*|[01]" if header.kind == _PBM else rb"#[^\n\r]*|\d+", raw[header.start :]):
        if token[0][:1] != b"#":
            left -= 1
            if left == 0:
                return header.start + token.end()
    raise ImageReadError(f"PNM: truncated, {left} samples are missing")


def comments(raw: bytes, header: Header, end: int) -> list[bytes]:
    """The comments of the header, and of plain samples."""
    return _COMMENT_LINE.findall(raw[: end if header.plain else header.start])


def read(raw: bytes, header: Header) -> np.ndarray:
    """Samples [H, W, C], uint8 or uint16, widened.  Raises ImageReadError for damaged files."""
    end = end_of_samples(raw, header)
    shape = header.height, header.width, header.samples // (header.width * header.height)
    if header.plain:
        values = _read_plain(raw[header.start : end], header)
    elif header.kind == _PBM:
        packed = np.frombuffer(raw, np.uint8, header.size, header.start).reshape(header.height, -1)
        values = np.unpackbits(packed, axis=1)[:, : header.width]
    else:
        values = np.frombuffer(raw, ">u2" if header.bytes == 2 else np.uint8, header.samples, header.start)
    if header.kind == _PBM:
        return (1 - values).astype(np.uint8).reshape(shape)  # 1 is black in these files
    if values.max() >> 8 * header.bytes:
        raise ImageReadError(f"PNM: a sample is {values.max()}, the largest value {header.maximum}")
    if values.max() > header.maximum:
        return values.astype(np.uint8 if header.bytes == 1 else np.uint16).reshape(shape)
    return widen(values, header.maximum).reshape(shape)


def maximum_tag(header: Header, samples: np.ndarray) -> bytes | None:
    """The value of Tag.MAXIMUM for samples that ``read`` returned; None if the largest value is the usual one."""
    if header.kind == _PBM or header.maximum in (255, 65535):
        return None
    value = header.maximum.to_bytes(2, "big")
    try:
        narrow(samples, header.maximum)
    except ValueError:
        return value + b"\1"
    return value


def _read_plain(text: bytes, header: Header) -> np.ndarray:
    text = re.sub(rb"#[^\n\r]*", b"", text)
    if header.kind == _PBM:
        digits = re.sub(rb"[ \t\n\v\f\r]+", b"", text)
        if len(digits) != header.samples:
            raise ImageReadError("PNM: bits other than 0 and 1")
        return np.frombuffer(digits, np.uint8) - ord("0")
    try:
        values = np.array(text.split(), dtype=np.int64)
    except (ValueError, OverflowError) as error:
        raise ImageReadError(f"PNM: a sample is no number: {error}") from None
    if len(values) != header.samples or values.min() < 0:
        raise ImageReadError("PNM: a sample is no number")
    return values


def widen(values: np.ndarray, maximum: int) -> np.ndarray:
    """Scale values 0..``maximum`` to uint8 0..255 or, if ``maximum`` is above 255, uint16 0..65535; to the nearest."""
    top = 255 if maximum < 256 else 65535
    if maximum == top:
        return values.astype(np.uint8 if top == 255 else np.uint16)
    table = (np.arange(maximum + 1, dtype=np.int64) * 2 * top + maximum) // (2 * maximum)
    return table.astype(np.uint8 if top == 255 else np.uint16)[values]


def narrow(samples: np.ndarray, maximum: int) -> np.ndarray:
    """Inverse of ``widen``, int64.  Raises ValueError if a sample is not a result of ``widen``."""
    top = 255 if maximum < 256 else 65535
    values = (samples.astype(np.int64) * 2 * maximum + top) // (2 * top)
    if not np.array_equal(widen(values, maximum), samples):
        raise ValueError(f"a sample cannot come from a file with the largest value {maximum}")
    return values


def write(mode: str, samples: np.ndarray, tag: bytes | None, notes: list[bytes]) -> bytes:
    """Samples [H, W, C] of mode 1, L, RGB, I;16 or RGB;16 -> a binary file with comments ``notes``.

    tag   the value of Tag.MAXIMUM, or None

    Raises ValueError as ``narrow`` does.
    """
    height, width, _ = samples.shape
    kind, size = next(key for key, name in _MODES_BY_KIND.items() if name == mode)
    lines = b"".join(b"#" + note + b"\n" for note in notes)
    head = b"P%d\n" % (kind + 4) + lines + b"%d %d\n" % (width, height)
    if kind == _PBM:
        return head + np.packbits(1 - samples[:, :, 0], axis=1).tobytes()
    maximum = int.from_bytes(tag[:2], "big") if tag else (255 if size == 1 else 65535)
    values = samples if tag and len(tag) == 3 else narrow(samples, maximum)
    return head + b"%d\n" % maximum + values.astype(">u2" if maximum > 255 else np.uint8).tobytes()
