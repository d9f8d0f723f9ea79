# SPDX-License-Identifier: MIT
"""What an image carries beside its samples, as numbered byte strings. Part of the file format.

In memory metadata is a ``Tags`` dict ``{Tag: bytes}`` of plain values, shaped like the body of the PNG chunk
of the same meaning (big-endian), whatever the source format was. In ``Planes`` it is ``((tag, bytes), ...)``
sorted by tag, each tag once:

    tag             value                                                              valid in
     1 PALETTE       R G B bytes, 1 to 256 entries *                                   P
     2 TRANSPARENCY  P: alpha bytes from entry 0, later entries opaque;                P 1 L I;16 RGB RGB;16
                     else the sample value(s) that mean transparent, 2 bytes each
     3 ICC           the colour profile *            4 EXIF   TIFF-shaped, without "Exif\\0\\0" *
     5 XMP           the packet *                    6 TEXT   see ``pack_text`` *
     7 DENSITY       pHYs: x, y (uint32), unit       8 DPI    two little-endian float64: x, y (not from PNG)
     9 GAMMA         gAMA                           10 SRGB   sRGB intent
    11 CHROMATICITY  cHRM                           12 CICP   cICP
    13 BACKGROUND    bKGD (P: index, else 2 bytes per sample)
    14 MASTERING     mDCV   15 LIGHT_LEVEL cLLI     16 SIGNIFICANT_BITS sBIT    17 TIME tIME

    *  stored as a flag byte (0 plain, 1 zlib) and the data, whichever is shorter; at most MAX_BYTES inflated.

Tags from 12 on travel from PNG to PNG only: Pillow has no place for them. Not kept: the ICC profile's name,
hIST, sPLT, private chunks, TIFF tags other than ICC, XMP and DPI, and Photoshop resources of a JPEG (a warning
names them); PLTE in RGB images (a hint), and whether a text was compressed.
A reader skips tags it does not know (with a warning); everything else malformed is a GmcFormatError.
"""

from __future__ import annotations

import logging
import math
import struct
import zlib
from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from gmcodec import varint
from gmcodec.errors import GmcFormatError, UnsupportedImageError

if TYPE_CHECKING:
    from PIL import Image

log = logging.getLogger("gmcodec")

MAX_BYTES = 1 << 26  # of one inflated value; part of the format


class Tag(IntEnum):
    """Permanent numbers: append only, never renumber, never reuse."""

    PALETTE = 1
    TRANSPARENCY = 2
    ICC = 3
    EXIF = 4
    XMP = 5
    TEXT = 6
    DENSITY = 7
    DPI = 8
    GAMMA = 9
    SRGB = 10
    CHROMATICITY = 11
    CICP = 12
    BACKGROUND = 13
    MASTERING = 14
    LIGHT_LEVEL = 15
    SIGNIFICANT_BITS = 16
    TIME = 17


Tags = dict[Tag, bytes]

DEFLATED = frozenset({Tag.PALETTE, Tag.ICC, Tag.EXIF, Tag.XMP, Tag.TEXT})
MEANING = frozenset({Tag.PALETTE, Tag.TRANSPARENCY})  # what stripping leaves
FIXED = {
    Tag.DENSITY: 9,
    Tag.DPI: 16,
    Tag.GAMMA: 4,
    Tag.SRGB: 1,
    Tag.CHROMATICITY: 32,
    Tag.CICP: 4,
    Tag.MASTERING: 24,
    Tag.LIGHT_LEVEL: 8,
    Tag.TIME: 7,
}
_KEY_SAMPLES = {"1": 1, "L": 1, "I;16": 1, "RGB": 3, "RGB;16": 3}  # modes that can have a colour key
_SAMPLES = {"1": 1, "L": 1, "LA": 2, "P": 3, "RGB": 3, "RGBA": 4}
_MAXIMUM = {"1": 1, "L": 255, "RGB": 255}


def strip_tags(tags: Tags) -> Tags:
    """Only what the samples need to mean the same thing."""
    return {tag: value for tag, value in tags.items() if tag in MEANING}


def pack(tags: Tags) -> tuple[tuple[int, bytes], ...]:
    """Values -> the sorted pairs of ``Planes.metadata``; UnsupportedImageError above MAX_BYTES."""
    for tag, value in tags.items():
        if len(value) > MAX_BYTES:
            raise UnsupportedImageError(f"{tag.name} metadata has {len(value)} bytes, the limit is {MAX_BYTES}")
    return tuple((int(tag), _deflated(tags[tag]) if tag in DEFLATED else tags[tag]) for tag in sorted(tags))


def unpack(metadata: Iterable[tuple[int, bytes]], mode: str) -> Tags:
    """The pairs of ``Planes.metadata`` -> values that fit ``mode``; GmcFormatError on anything malformed."""
    tags: Tags = {}
    previous = 0
    for number, raw in metadata:
        if number <= previous:
            raise GmcFormatError(f"metadata tag {number} follows tag {previous}: not sorted and unique")
        previous = number
        try:
            tag = Tag(number)
        except ValueError:
            log.warning("metadata tag %d is from a newer version and is skipped", number)
            continue
        value = _inflated(tag, raw) if tag in DEFLATED else bytes(raw)
        problem = find_problem(tag, value, mode)
        if problem:
            raise GmcFormatError(f"{tag.name} metadata: {problem}")
        tags[tag] = value
    return tags


def find_problem(tag: Tag, value: bytes, mode: str) -> str | None:
    """Why ``value`` cannot be the value of ``tag`` in an image of ``mode``; None when it can."""
    n = len(value)
    if tag == Tag.PALETTE:
        return None if mode == "P" and 3 <= n <= 768 and n % 3 == 0 else f"{n} bytes in mode {mode}"
    if tag == Tag.TRANSPARENCY:
        if mode == "P":
            return None if 1 <= n <= 256 else f"{n} alpha values"
        if n != 2 * _KEY_SAMPLES.get(mode, 0) or not n:
            return f"{n} bytes in mode {mode}"
        key = struct.unpack(f">{n // 2}H", value)
        return None if max(key) <= _MAXIMUM.get(mode, 65535) else f"colour key {key} in mode {mode}"
    samples = _SAMPLES[mode.removesuffix(";16") if mode != "I;16" else "L"]
    if tag == Tag.BACKGROUND:
        expected = 1 if mode == "P" else (2 if samples < 3 else 6)
        return None if n == expected else f"{n} bytes in mode {mode}"
    if tag == Tag.SIGNIFICANT_BITS:
        return None if n == samples else f"{n} bytes in mode {mode}"
    if tag == Tag.TEXT:
        try:
            unpack_text(value)
        except GmcFormatError as error:
            return str(error)
    if tag == Tag.DPI and n == FIXED[tag] and not _plausible(struct.unpack("<dd", value)):
        return "not two positive numbers"
    return None if n == FIXED.get(tag, n) else f"{n} bytes, not {FIXED[tag]}"


def _plausible(dpi: Iterable[float]) -> bool:
    return all(math.isfinite(x) and 0 < x < 1e9 for x in dpi)


def _deflated(value: bytes) -> bytes:
    short = zlib.compress(value, 9)
    return b"\1" + short if len(short) < len(value) else b"\0" + value


def _inflated(tag: Tag, raw: bytes) -> bytes:
    if raw[:1] == b"\0" and len(raw) - 1 <= MAX_BYTES:
        return bytes(raw[1:])
    if raw[:1] == b"\1":
        try:
            return inflate(raw[1:], MAX_BYTES)
        except ValueError as error:
            raise GmcFormatError(f"{tag.name} metadata: {error}") from None
    raise GmcFormatError(f"{tag.name} metadata: flag {raw[:1]!r}, {len(raw)} bytes")


def inflate(data: bytes, limit: int) -> bytes:
    """zlib stream -> bytes; ValueError when damaged, cut, followed by more, or longer than ``limit``."""
    stream = zlib.decompressobj()
    try:
        out = stream.decompress(data, limit + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if len(out) > limit:
        raise ValueError(f"inflates to more than {limit} bytes")
    if not stream.eof or stream.unused_data:
        raise ValueError("the zlib stream does not end with the data")
    return out


# --- text ---------------------------------------------


class Text(NamedTuple):
    """One text entry: Latin-1 (tEXt, zTXt) or international (iTXt: UTF-8, language, translated keyword)."""

    key: bytes
    value: bytes
    international: bool = False
    language: bytes = b""
    translated: bytes = b""


def pack_text(texts: Iterable[Text]) -> bytes:
    """Entries -> bytes. Per entry, in file order: a kind byte (0 Latin-1, 1 international), then key,
    [language, translated,] value, each after its length (a number of ``varint.py``).
    """
    out = bytearray()
    for text in texts:
        out.append(text.international)
        middle = (text.language, text.translated) if text.international else ()
        for field in (text.key, *middle, text.value):
            out += varint.write(len(field)) + field
    return bytes(out)


def unpack_text(raw: bytes) -> list[Text]:
    """Inverse of ``pack_text``; GmcFormatError on malformed bytes."""
    at = 0

    def field() -> bytes:
        nonlocal at
        n, at = varint.read(raw, at, "the length of a text")
        if n > len(raw) - at:
            raise GmcFormatError(f"text field of {n} bytes, {len(raw) - at} left")
        at += n
        return raw[at - n : at]

    texts = []
    while at < len(raw):
        kind = raw[at]
        at += 1
        if kind > 1:
            raise GmcFormatError(f"text kind {kind}")
        key = field()
        language, translated = (field(), field()) if kind else (b"", b"")
        texts.append(Text(key, field(), bool(kind), language, translated))
    return texts


# --- Pillow's info dictionary ---------------------------------------------

_XMP_KEY = "XML:com.adobe.xmp"
# strings that plugins put into info and that are not text entries
_NOT_TEXT = {"compression", "mode", "version", "timestamp", "photoshop", "Comment", _XMP_KEY}


def from_info(image: Image.Image, mode: str) -> Tags:
    """Metadata of a loaded Pillow image that becomes ``mode``, palette and transparency included.

    Raises UnsupportedImageError when a transparency cannot be understood; other odd entries are dropped with
    a warning.
    """
    info = image.info
    tags: Tags = _palette_from_image(image) if mode == "P" else _key_from_info(info, mode)
    for tag, name in ((Tag.ICC, "icc_profile"), (Tag.EXIF, "exif"), (Tag.XMP, "xmp")):
        value = info.get(name)
        if isinstance(value, str):
            value = value.encode()
        if isinstance(value, bytes) and value:
            tags[tag] = value.removeprefix(b"Exif\0\0") if tag == Tag.EXIF else value
    texts = [_text_from_info(k, v) for k, v in getattr(image, "text", info).items() if _is_text(k, v)]
    comment = info.get("comment", info.get("Comment"))
    if isinstance(comment, str):
        comment = comment.encode("latin-1", "replace")
    if isinstance(comment, bytes) and comment:  # JPEG and GIF comments
        texts.append(Text(b"Comment", comment))
    if texts:
        tags[Tag.TEXT] = pack_text(texts)
    for tag, make in _NUMBERS_FROM_INFO.items():
        try:
            found = make(info)
        except (TypeError, ValueError, ZeroDivisionError, OverflowError, struct.error) as error:
            log.warning("%s metadata not understood (%s), dropped", tag.name, error)
            continue
        if found is not None:
            tags[tag] = found
    if Tag.DENSITY in tags:
        tags.pop(Tag.DPI, None)
    return tags


# TIFF tags that say how the samples are stored, or that are kept (resolution, XMP, ICC) or applied (orientation)
_TIFF_HANDLED = {
    *(254, 255, 256, 257, 258, 259, 262, 263, 266, 273, 274, 277, 278, 279, 280, 281, 282, 283, 284, 292, 293, 296),
    *(317, 320, 322, 323, 324, 325, 338, 339, 347, 529, 530, 531, 532, 700, 34675),
}


def find_dropped(image: Image.Image) -> list[str]:
    """Names of metadata in a Pillow image that has no place here, so that its loss can be reported."""
    dropped = []
    if image.format == "TIFF":
        from PIL import TiffTags

        found = sorted(set(getattr(image, "tag_v2", ())) - _TIFF_HANDLED)
        dropped = [f"tag {tag} ({TiffTags.lookup(tag).name})" for tag in found]
    if "photoshop" in image.info:
        dropped.append("Photoshop resources (IPTC)")
    return dropped


def to_info(tags: Tags, mode: str) -> dict[str, Any]:
    """Inverse of ``from_info``: the info dictionary Pillow would make from a PNG (the palette is not in it).

    Text that is not valid UTF-8 gets replacement characters; of a repeated keyword Pillow holds the last.
    """
    from PIL.PngImagePlugin import iTXt

    info: dict[str, Any] = {}
    if Tag.TRANSPARENCY in tags:
        value = tags[Tag.TRANSPARENCY]
        if mode == "P":
            clear = value.find(b"\0")
            simple = clear >= 0 and value.count(b"\xff") == len(value) - 1
            info["transparency"] = clear if simple else value
        else:
            key = struct.unpack(f">{len(value) // 2}H", value)
            info["transparency"] = key if len(key) > 1 else key[0] * (255 if mode == "1" else 1)
    for text in unpack_text(tags.get(Tag.TEXT, b"")):
        if text.international:
            language, translated = (
                text.language.decode("utf-8", "replace"),
                text.translated.decode("utf-8", "replace"),
            )
            info[text.key.decode("latin-1")] = iTXt(text.value.decode("utf-8", "replace"), language, translated)
        else:
            info[text.key.decode("latin-1")] = text.value.decode("latin-1")
    for tag, name in ((Tag.ICC, "icc_profile"), (Tag.XMP, "xmp")):
        if tag in tags:
            info[name] = tags[tag]
    if Tag.EXIF in tags:
        info["exif"] = b"Exif\0\0" + tags[Tag.EXIF]
    if Tag.DENSITY in tags:
        x, y, unit = struct.unpack(">IIB", tags[Tag.DENSITY])
        info["dpi" if unit == 1 else "aspect"] = (x * 0.0254, y * 0.0254) if unit == 1 else (x, y)
    if Tag.DPI in tags:
        info["dpi"] = struct.unpack("<dd", tags[Tag.DPI])
    if Tag.GAMMA in tags:
        info["gamma"] = int.from_bytes(tags[Tag.GAMMA], "big") / 100000.0
    if Tag.SRGB in tags:
        info["srgb"] = tags[Tag.SRGB][0]
    if Tag.CHROMATICITY in tags:
        info["chromaticity"] = tuple(v / 100000.0 for v in struct.unpack(">8I", tags[Tag.CHROMATICITY]))
    return info


def _is_text(key: Any, value: Any) -> bool:
    return isinstance(key, str) and isinstance(value, str) and key not in _NOT_TEXT


def _text_from_info(key: str, value: str) -> Text:
    name = key.encode("latin-1", "replace")
    if hasattr(value, "lang"):  # Pillow's iTXt
        extra = [(getattr(value, a) or b"") for a in ("lang", "tkey")]
        language, translated = (e if isinstance(e, bytes) else e.encode() for e in extra)
        return Text(name, value.encode("utf-8", "replace"), True, language, translated)
    try:
        return Text(name, value.encode("latin-1"))
    except UnicodeEncodeError:
        return Text(name, value.encode("utf-8", "replace"), True)


def _palette_from_image(image: Image.Image) -> Tags:
    """Palette as RGB, its alpha (Pillow's RGBA palettes and info["transparency"]) as TRANSPARENCY."""
    entries = bytes(image.getpalette("RGBA") or b"")
    alpha = bytearray(entries[3::4])
    clear = image.info.get("transparency")
    if isinstance(clear, int) and 0 <= clear < 256:
        alpha += b"\xff" * (clear + 1 - len(alpha))
        alpha[clear] = 0
    elif isinstance(clear, bytes) and len(clear) <= 256:
        alpha[: len(clear)] = clear
    elif clear is not None:
        raise UnsupportedImageError(f"transparency {clear!r} in a palette image")
    tags: Tags = {}
    if entries:
        tags[Tag.PALETTE] = bytes(v for i, v in enumerate(entries) if i % 4 != 3)
    if alpha.rstrip(b"\xff"):  # entries beyond the alpha values are opaque: one form for each meaning
        tags[Tag.TRANSPARENCY] = bytes(alpha.rstrip(b"\xff"))
    return tags


def _key_from_info(info: Mapping[Any, Any], mode: str) -> Tags:
    key = info.get("transparency")
    if key is None or mode not in _KEY_SAMPLES:
        return {}
    values = key if isinstance(key, tuple) else (key,)
    if mode == "1" and values in ((0,), (255,)):
        values = (values[0] // 255,)
    try:
        value = struct.pack(f">{len(values)}H", *values)
    except struct.error:
        value = b""
    if find_problem(Tag.TRANSPARENCY, value, mode):
        raise UnsupportedImageError(f"transparency {key!r} in an image of mode {mode}")
    return {Tag.TRANSPARENCY: value}


def _density(info: Mapping[Any, Any]) -> bytes | None:
    """pHYs, when the numbers Pillow gives are exactly what it makes of a pHYs chunk."""
    if "aspect" in info:
        return struct.pack(">IIB", *info["aspect"], 0)
    if "dpi" not in info:
        return None
    dpi = tuple(float(x) for x in info["dpi"])
    units = [round(x / 0.0254) for x in dpi]
    exact = len(dpi) == 2 and all(u * 0.0254 == x and 0 <= u < 1 << 32 for u, x in zip(units, dpi, strict=True))
    return struct.pack(">IIB", *units, 1) if exact else None


def _dpi(info: Mapping[Any, Any]) -> bytes | None:
    if "dpi" not in info:
        return None
    dpi = tuple(float(x) for x in info["dpi"])
    if len(dpi) != 2 or not _plausible(dpi):
        raise ValueError(f"dpi {dpi}")
    return struct.pack("<dd", *dpi)


def _gamma(info: Mapping[Any, Any]) -> bytes | None:
    return struct.pack(">I", round(info["gamma"] * 100000)) if "gamma" in info else None


def _srgb(info: Mapping[Any, Any]) -> bytes | None:
    return struct.pack(">B", info["srgb"]) if "srgb" in info else None


def _chromaticity(info: Mapping[Any, Any]) -> bytes | None:
    values = info.get("chromaticity")
    return struct.pack(">8I", *(round(v * 100000) for v in values)) if values else None


# an all-zero pHYs is legal and not a plausible DPI: DENSITY comes first and DPI only speaks when it is silent
_NUMBERS_FROM_INFO = {
    Tag.DENSITY: _density,
    Tag.DPI: lambda info: None if _density(info) else _dpi(info),
    Tag.GAMMA: _gamma,
    Tag.SRGB: _srgb,
    Tag.CHROMATICITY: _chromaticity,
}
