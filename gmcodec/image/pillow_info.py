# SPDX-License-Identifier: MIT
"""Metadata in the ``info`` dictionary of a Pillow image <-> ``Tags``.

This is for images that programs pass to gmcodec or get from it.  Of files the ledgers (``image/ledger``) read the
metadata, because Pillow ignores some of it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gmcodec.errors import UnsupportedImageError
from gmcodec.image.metadata import KEY_SAMPLES, Tag, Tags, Text, find_problem, pack_text, plausible_dpi, unpack_text

if TYPE_CHECKING:
    from PIL import Image

_XMP_KEY = "XML:com.adobe.xmp"
# strings in ``info`` that are not text entries of the file
_NOT_TEXT = {"compression", "mode", "version", "timestamp", "photoshop", "Comment", _XMP_KEY}


def from_info(image: Image.Image, mode: str) -> tuple[Tags, list[str]]:
    """All metadata of a loaded Pillow image that becomes ``mode``, and descriptions of malformed metadata.

    Raises UnsupportedImageError for a transparency that is not understood.
    """
    info = image.info
    tags, problems = pixel_tags_from_info(image, mode), []
    for tag, name in ((Tag.ICC, "icc_profile"), (Tag.EXIF, "exif"), (Tag.XMP, "xmp")):
        value = info.get(name)
        if isinstance(value, str):
            value = value.encode()
        if isinstance(value, bytes) and value:
            tags[tag] = value.removeprefix(b"Exif\0\0") if tag == Tag.EXIF else value
    texts = [_text_from_info(k, v) for k, v in getattr(image, "text", info).items() if _is_text(k, v)]
    problems += [f"a text of the keyword {text.key!r}" for text in texts if not text.key or b"\0" in text.key]
    texts = [text for text in texts if text.key and b"\0" not in text.key]
    comment = info.get("comment", info.get("Comment"))
    if isinstance(comment, str):
        comment = comment.encode("latin-1", "replace")
    if isinstance(comment, bytes) and comment:  # JPEG and GIF comments
        texts.append(Text(b"Comment", comment))
    if texts:
        tags[Tag.TEXT] = pack_text(texts)
    numbers = {key: value for key, value in info.items() if key != "dpi" or _has_density(image)}
    for tag, make in _NUMBERS_FROM_INFO.items():
        try:
            found = make(numbers)
        except (TypeError, ValueError, ZeroDivisionError, OverflowError, struct.error) as error:
            problems.append(f"{tag.name} metadata that is not understood ({error})")
            continue
        if found is not None:
            tags[tag] = found
    if Tag.DENSITY in tags:
        tags.pop(Tag.DPI, None)
    return tags, problems


def _has_density(image: Image.Image) -> bool:
    """Whether the density comes from the file: if the file has none, Pillow invents one or takes it from EXIF."""
    if image.info["dpi"] in ((0, 0), [0, 0]):
        return False
    if image.format in ("JPEG", "MPO"):
        return image.info.get("jfif_unit", 0) in (1, 2)
    return image.format != "TIFF" or {282, 283} <= set(getattr(image, "tag_v2", ()))


def pixel_tags_from_info(image: Image.Image, mode: str) -> Tags:
    """Palette and transparency of a loaded image.  Raises UnsupportedImageError if they are not understood."""
    return _palette_from_image(image) if mode == "P" else _key_from_info(image.info, mode)


# TIFF tags that describe how samples are stored, that are kept (resolution, XMP, ICC) or applied (orientation)
_TIFF_HANDLED = {
    *(254, 255, 256, 257, 258, 259, 262, 263, 266, 273, 274, 277, 278, 279, 280, 281, 282, 283, 284, 292, 293, 296),
    *(317, 320, 322, 323, 324, 325, 338, 339, 347, 529, 530, 531, 532, 700, 34675),
}


def find_dropped(image: Image.Image) -> list[str]:
    """Names of the metadata of a Pillow image that cannot be kept, so that its loss can be reported."""
    dropped = []
    if image.format == "TIFF":
        from PIL import TiffTags

        found = sorted(set(getattr(image, "tag_v2", ())) - _TIFF_HANDLED)
        dropped = [f"tag {tag} ({TiffTags.lookup(tag).name})" for tag in found]
    if "photoshop" in image.info:
        dropped.append("Photoshop resources (IPTC)")
    return dropped


def to_info(tags: Tags, mode: str) -> dict[str, Any]:
    """Inverse of ``from_info``: the ``info`` that Pillow would make from a PNG, which does not contain the palette.

    Invalid UTF-8 in texts becomes replacement characters.  Of several texts with the same keyword the last one counts.
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
    """The palette as RGB, and its alpha, from an RGBA palette or info["transparency"], as TRANSPARENCY."""
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
    if alpha.rstrip(b"\xff"):  # entries without an alpha value are opaque, so trailing opaque ones are left out
        tags[Tag.TRANSPARENCY] = bytes(alpha.rstrip(b"\xff"))
    return tags


def _key_from_info(info: Mapping[Any, Any], mode: str) -> Tags:
    key = info.get("transparency")
    if key is None or mode not in KEY_SAMPLES:
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
    """The value of DENSITY, if Pillow's numbers can come from a pHYs chunk."""
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
    if len(dpi) != 2 or not plausible_dpi(dpi):
        raise ValueError(f"dpi {dpi}")
    return struct.pack("<dd", *dpi)


def _gamma(info: Mapping[Any, Any]) -> bytes | None:
    return struct.pack(">I", round(info["gamma"] * 100000)) if "gamma" in info else None


def _srgb(info: Mapping[Any, Any]) -> bytes | None:
    return struct.pack(">B", info["srgb"]) if "srgb" in info else None


def _chromaticity(info: Mapping[Any, Any]) -> bytes | None:
    values = info.get("chromaticity")
    return struct.pack(">8I", *(round(v * 100000) for v in values)) if values else None


# DENSITY comes first: a pHYs of zeros is legal, but no plausible DPI
_NUMBERS_FROM_INFO = {
    Tag.DENSITY: _density,
    Tag.DPI: lambda info: None if _density(info) else _dpi(info),
    Tag.GAMMA: _gamma,
    Tag.SRGB: _srgb,
    Tag.CHROMATICITY: _chromaticity,
}
