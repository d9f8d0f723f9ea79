# SPDX-License-Identifier: MIT
"""PNG: chunks up to IEND.  Ancillary chunks that have no tag of their own are kept unchanged and written back.

``image/png.py`` checks checksums and critical chunks.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from gmcodec.image.ledger import resources
from gmcodec.image.ledger.base import Ledger
from gmcodec.image.metadata import (
    AFTER_DATA,
    AFTER_PALETTE,
    BEFORE_PALETTE,
    DEFLATED_TAGS,
    ICC_NAME,
    MAX_VALUE_BYTES,
    Chunk,
    Tag,
    Text,
    find_problem,
    pack_chunks,
)

CHUNKS = {  # written in this order, before PLTE or after it
    b"cICP": Tag.CICP,
    b"mDCV": Tag.MASTERING,
    b"cLLI": Tag.LIGHT_LEVEL,
    b"sBIT": Tag.SIGNIFICANT_BITS,
    b"gAMA": Tag.GAMMA,
    b"cHRM": Tag.CHROMATICITY,
    b"sRGB": Tag.SRGB,
    b"bKGD": Tag.BACKGROUND,
    b"pHYs": Tag.DENSITY,
    b"eXIf": Tag.EXIF,
    b"tIME": Tag.TIME,
    b"maXV": Tag.MAXIMUM,  # a private chunk: the largest value of the PNM file from which the picture comes
}
XMP_KEY = b"XML:com.adobe.xmp"
MAX_TEXT = MAX_VALUE_BYTES // 2  # inflated bytes of all texts; keys and lengths must also fit into MAX_VALUE_BYTES
_PIXELS = {b"IHDR", b"IDAT", b"IEND", b"iDOT"}  # iDOT: where an encoder has split the image data
_FRAMES = {b"acTL", b"fcTL", b"fdAT"}
_BIT_DEPTHS = (1, 2, 4, 8, 16)
_PALETTE_TYPE = 3
_ALPHA_TYPES = (4, 6)


def account(ledger: Ledger) -> None:
    """Claim the chunks of a PNG file."""
    raw = ledger.raw
    ledger.pixels(8, "signature")
    if ledger.left < 33 or raw[24] not in _BIT_DEPTHS:
        return  # there are no pixels, and the meaning of other chunks depends on the header
    bits, colour = raw[24:26]
    animated = b"fdAT" in {kind for kind, _ in _chunks(raw)}
    position, text_budget, others = BEFORE_PALETTE, MAX_TEXT, 0
    chunks: list[Chunk] = []
    for kind, body in _chunks(raw):
        size, name = len(body) + 12, kind.decode("latin-1")
        if kind in _PIXELS or (kind == b"PLTE" and colour == _PALETTE_TYPE):
            ledger.pixels(size, name)
        elif kind == b"tRNS" and colour not in _ALPHA_TYPES:
            ledger.pixels(size, name)
        elif kind in CHUNKS:
            _known(ledger, kind, body, bits, colour)
        elif kind == b"iCCP":
            _profile(ledger, body)
        elif kind in _TEXT_READERS:
            text_budget -= _text(ledger, kind, body, text_budget)
        elif kind in _FRAMES and animated:
            ledger.lost(size, f"{name} of an animation", metadata=False)
        elif others + size > MAX_VALUE_BYTES // 2 or (kind == b"tRNS"):
            ledger.lost(size, f"chunk {name}")
        else:
            ledger.kept(size, name)
            chunks.append(Chunk(max(position, AFTER_PALETTE) if kind == b"PLTE" else position, kind, body))
            others += size
        position = AFTER_PALETTE if kind == b"PLTE" else AFTER_DATA if kind == b"IDAT" else position
        if kind == b"IEND":
            break
    if chunks:
        ledger.tags[Tag.CHUNKS] = pack_chunks(chunks)


def _chunks(raw: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Type and body of each complete chunk."""
    at = 8
    while len(raw) >= at + 12:
        (length,) = struct.unpack_from(">I", raw, at)
        if len(raw) < at + 12 + length:
            return
        yield raw[at + 4 : at + 8], raw[at + 8 : at + 8 + length]
        at += 12 + length


def _mode(bits: int, colour: int) -> str:
    """The name of the mode, for the rules of metadata."""
    name = {0: "L", 2: "RGB", 3: "P", 4: "LA", 6: "RGBA"}.get(colour, "L")
    if colour == 0:
        return {1: "1", 16: "I;16"}.get(bits, "L")
    return f"{name};16" if bits == 16 else name


def _known(ledger: Ledger, kind: bytes, body: bytes, bits: int, colour: int) -> None:
    """Claim a chunk whose body is the value of a tag."""
    tag, mode, name = CHUNKS[kind], _mode(bits, colour), kind.decode()
    value = scaled(body, bits, mode) if tag == Tag.BACKGROUND and mode != "P" else body
    problem = find_problem(tag, value, mode) or ("empty" if tag in DEFLATED_TAGS and not value else None)
    if problem:
        ledger.lost(len(body) + 12, f"malformed chunk {name}, {problem}")
    else:
        ledger.kept(len(body) + 12, name)
        ledger.keep(tag, value, f"chunk {name}")


def scaled(value: bytes, bits: int, mode: str) -> bytes:
    """Big-endian 16-bit sample values, whose low ``bits`` are used, as sample values of ``mode``.

    Grey of 2 and 4 bits becomes grey of 8 bits, so its values are scaled too.
    """
    factor = 255 // ((1 << bits) - 1) if mode == "L" else 1
    if len(value) % 2:
        return value  # its length will be refused
    samples = struct.unpack(f">{len(value) // 2}H", value)
    return struct.pack(f">{len(samples)}H", *((v & (1 << bits) - 1) * factor for v in samples))


# --- compressed fields ---------------------------------------------


def _inflate(data: bytes, limit: int) -> tuple[bytes, bytes, bool]:
    """Inflate a zlib stream as far as possible.  A wrong checksum is ignored.

    Returns the inflated bytes, the bytes behind the stream, and whether the stream is complete.  Raises ValueError if
    more than ``limit`` bytes come out.
    """
    stream, out = zlib.decompressobj(-15), bytearray()
    at = 2
    try:
        while at < len(data) and not stream.eof:
            out += stream.decompress(data[at : at + 256], limit + 1 - len(out))
            while stream.unconsumed_tail and len(out) <= limit:
                out += stream.decompress(stream.unconsumed_tail, limit + 1 - len(out))
            at += 256
            if len(out) > limit:
                raise ValueError(f"it inflates to more than {limit:,} bytes")
    except zlib.error:
        return bytes(out), b"", False
    behind = stream.unused_data + data[at:]
    return bytes(out), behind[4:] if len(behind) > 4 else b"", stream.eof  # the first four are the checksum


def _whole(data: bytes, limit: int) -> tuple[bytes, bytes]:
    """Inflate a complete zlib stream: the value, and the bytes behind the stream.  Raises ValueError."""
    value, behind, ended = _inflate(data, limit)
    if not ended:
        raise ValueError("its zlib stream is damaged or truncated")
    return value, behind


def _split(body: bytes) -> tuple[bytes, bytes]:
    key, nul, rest = body.partition(b"\0")
    if not key or not nul:
        raise ValueError("it has no keyword")
    return key, rest


def _compressed(body: bytes) -> tuple[bytes, bytes]:
    """Keyword and zlib stream of iCCP and zTXt, whose layout is the same."""
    key, rest = _split(body)
    if rest[:1] != b"\0":
        raise ValueError(f"compression method {rest[:1]!r}")
    return key, rest[1:]


def _profile(ledger: Ledger, body: bytes) -> None:
    """Claim iCCP.  A profile contains its length, so it can be complete even if its stream is not."""
    size = len(body) + 12
    try:
        name, data = _compressed(body)
        profile, behind, ended = _inflate(data, MAX_VALUE_BYTES)
        if not ended and not 128 <= int.from_bytes(profile[:4], "big") <= len(profile):
            raise ValueError("its zlib stream is damaged or truncated")
    except ValueError as error:
        ledger.lost(size, f"malformed chunk iCCP, {error}")
        return
    ledger.kept(size, "iCCP")
    first = Tag.ICC not in ledger.tags
    ledger.keep(Tag.ICC, profile, "ICC profile")
    if first and name not in (ICC_NAME, b"icc") and not find_problem(Tag.PROFILE_NAME, name, "RGB"):
        ledger.tags[Tag.PROFILE_NAME] = name
    _behind(ledger, behind, "ICC profile")


def _behind(ledger: Ledger, behind: bytes, what: str) -> None:
    if any(behind):
        ledger.lose(f"{len(behind):,} bytes behind the {what}")


# --- texts ---------------------------------------------


def _text(ledger: Ledger, kind: bytes, body: bytes, budget: int) -> int:
    """Claim a text chunk.  Returns the number of inflated bytes that it takes from the budget of all texts."""
    size = len(body) + 12
    try:
        text, behind = _TEXT_READERS[kind](body, budget)
        if len(text.value) > budget:
            raise ValueError(f"the limit of all texts is {MAX_TEXT:,} bytes")
    except ValueError as error:
        ledger.lost(size, f"malformed or too large chunk {kind.decode()}, {error}")
        return 0
    ledger.kept(size, kind.decode())
    _behind(ledger, behind, "text")
    if text.key == XMP_KEY and text.international and Tag.XMP not in ledger.tags:
        ledger.tags[Tag.XMP] = text.value
    elif text.key == resources.KEY and Tag.PHOTOSHOP not in ledger.tags and (found := resources.from_text(text.value)):
        ledger.tags[Tag.PHOTOSHOP] = found
    else:
        ledger.texts.append(text)
    return len(text.value)


def _latin(body: bytes, budget: int) -> tuple[Text, bytes]:
    return Text(*_split(body)), b""


def _latin_zip(body: bytes, budget: int) -> tuple[Text, bytes]:
    key, data = _compressed(body)
    value, behind = _whole(data, budget)
    return Text(key, value), behind


def _international(body: bytes, budget: int) -> tuple[Text, bytes]:
    key, rest = _split(body)
    flags, fields = rest[:2], rest[2:].split(b"\0", 2)
    if flags not in (b"\0\0", b"\1\0") or len(fields) != 3:
        raise ValueError(f"flags {flags!r}")
    value, behind = _whole(fields[2], budget) if flags[0] else (fields[2], b"")
    return Text(key, value, True, fields[0], fields[1]), behind


_TEXT_READERS = {b"tEXt": _latin, b"zTXt": _latin_zip, b"iTXt": _international}
