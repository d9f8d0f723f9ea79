# SPDX-License-Identifier: MIT
"""``Planes`` -> the bytes of a lossless image file: the inverse of ``reading.read``.

Every file is read back and compared.  If the format lost anything that changes the look of the image (pixels,
transparency, orientation), the file is refused; other losses are named.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from gmcodec.errors import GmcError, UnsupportedImageError
from gmcodec.image import png, pnm, reading, tiff
from gmcodec.image.ledger import resources
from gmcodec.image.metadata import PIXEL_TAGS, Tag, Tags, unpack, unpack_text
from gmcodec.image.modes import MODES, PRINT_MODES
from gmcodec.image.planes import Planes, oriented, to_array

_WRITABLE = {
    "PNG": MODES.keys() - PRINT_MODES,
    "TIFF": set(MODES),
    "PPM": {"1", "L", "RGB", "I;16", "RGB;16"},
    "BMP": {"1", "L", "P", "RGB"},
    "WEBP": {"RGB", "RGBA"},
}
_ALIASES = {"TIF": "TIFF", "PBM": "PPM", "PGM": "PPM", "PNM": "PPM"}
_STRIP_BYTES = 1 << 18  # approximate size of a strip in a TIFF file
_DEFAULT_ORDER = "<"  # byte order of TIFF files without EXIF; EXIF determines it otherwise


class Written(NamedTuple):
    """The bytes of a file, and descriptions of the metadata that it cannot hold."""

    data: bytes
    lost: tuple[str, ...]


def write(planes: Planes, format: str) -> Written:
    """Planes -> a file of the format "PNG", "TIFF", "PPM" (PBM, PGM), "BMP" or "WEBP".

    Raises UnsupportedImageError if the format cannot hold the mode, transparency, orientation or pixels exactly, and
    GmcFormatError for malformed metadata.
    """
    name = format.upper().lstrip(".")
    name = _ALIASES.get(name, name)
    if name not in _WRITABLE:
        raise UnsupportedImageError(f"cannot write {format}; lossless formats are {', '.join(_WRITABLE)}")
    if planes.mode not in _WRITABLE[name]:
        raise UnsupportedImageError(f"{name} cannot hold {planes.mode} images exactly; use {_better(planes.mode)}")
    tags = unpack(planes.metadata, planes.mode)
    if Tag.TRANSPARENCY in tags and name != "PNG":
        raise UnsupportedImageError(f"{name} cannot hold the transparency of this {planes.mode} image; use PNG")
    if orientation(tags) != 1 and name in ("PPM", "BMP"):
        raise UnsupportedImageError(
            f"{name} cannot hold the EXIF orientation of this image; use PNG or TIFF, or --strip"
        )
    try:
        data = _WRITERS[name](planes, tags)
        again = reading.read(data, max_pixels=None)
    except (GmcError, OSError, ValueError, RuntimeError, OverflowError) as error:  # such as the format's largest width
        raise UnsupportedImageError(f"{name} cannot hold this image: {error}") from error
    _compare(name, planes, again, tags)
    return Written(data, _missing(name, tags, unpack(again.metadata, again.mode)))


def write_png(planes: Planes) -> bytes:
    """Planes of any mode except CMYK and LAB -> PNG bytes with metadata, which ``read`` turns into equal Planes.

    There is one exception: DPI that did not come from a PNG becomes the nearest number of pixels per metre.  Raises
    UnsupportedImageError for CMYK and LAB, GmcFormatError for malformed metadata.
    """
    if planes.mode in PRINT_MODES:
        raise UnsupportedImageError(f"PNG cannot hold {planes.mode} images; use TIFF")
    return png.write(planes.mode, planes.data, unpack(planes.metadata, planes.mode))


def _better(mode: str) -> str:
    return "TIFF" if mode in PRINT_MODES else "PNG"


# --- comparison ---------------------------------------------


def _compare(name: str, planes: Planes, again: Planes, tags: Tags) -> None:
    """Raise UnsupportedImageError unless mode, pixels and palette are those that were written."""
    applied = orientation(tags) if name == "TIFF" else 1  # by readers of TIFF
    expected = oriented(planes.data.transpose(1, 2, 0), applied).transpose(2, 0, 1)
    if again.mode != planes.mode or not np.array_equal(again.data, expected):
        raise UnsupportedImageError(f"{name} does not give back the same pixels; use {_better(planes.mode)}")
    if planes.mode == "P":
        before, after = (unpack(p.metadata, "P").get(Tag.PALETTE, b"") for p in (planes, again))
        if not after.startswith(before):  # these formats pad the palette to its full size
            raise UnsupportedImageError(f"{name} does not give back the same palette; use PNG")


def _missing(name: str, before: Tags, after: Tags) -> tuple[str, ...]:
    """Descriptions of the metadata of ``before`` that is not in ``after``."""
    lost = []
    for tag, value in before.items():
        same = _SAME.get(tag, lambda a, b, name: a == b)
        if tag not in PIXEL_TAGS and not same(value, after.get(tag), name) and not _as_density(tag, value, after):
            lost.append(f"{tag.name} ({len(value):,} bytes)")
    return tuple(lost)


def _as_density(tag: Tag, value: bytes, after: Tags) -> bool:
    """Whether a density is preserved in the other unit, to the precision of PNG: whole pixels per metre."""
    if tag not in (Tag.DPI, Tag.DENSITY):
        return False
    found = [_pixels_per_metre({tag: value}), _pixels_per_metre(after)]
    return None not in found and found[0] == found[1]


def _pixels_per_metre(tags: Tags) -> tuple[int, ...] | None:
    if Tag.DENSITY in tags:
        *found, unit = struct.unpack(">IIB", tags[Tag.DENSITY])
        return tuple(found) if unit == 1 else None
    return tuple(round(x / 0.0254) for x in struct.unpack("<dd", tags[Tag.DPI])) if Tag.DPI in tags else None


def _same_exif(before: bytes, after: bytes | None, name: str) -> bool:
    """Whether EXIF is preserved.  In TIFF orientation and the description of samples are no part of it."""
    if name != "TIFF":
        return before == after
    try:
        reader = tiff.Reader(before)
        page = reader.directory(reader.first)
        kept = [entry for entry in page.entries if entry.tag not in _NOT_FROM_EXIF]
        return page.next == 0 and (tiff.pack_exif(kept, reader.order) == after if kept else after is None)
    except ValueError:
        return False


_SAME: dict[Tag, Callable[[bytes, bytes | None, str], bool]] = {Tag.EXIF: _same_exif}
# tags of the first directory of EXIF that a TIFF file does not take from it
_NOT_FROM_EXIF = tiff.STRUCTURE | {tiff.ORIENTATION, tiff.X_RESOLUTION, tiff.Y_RESOLUTION, tiff.RESOLUTION_UNIT,
                                   tiff.XMP, tiff.ICC, tiff.PHOTOSHOP, tiff.SUB_IMAGES}  # fmt: skip


def orientation(tags: Tags) -> int:
    """The orientation in EXIF, 1 to 8; 1 if there is none."""
    try:
        reader = tiff.Reader(tags.get(Tag.EXIF, b""))
        found = reader.integers(reader.directory(reader.first).get(tiff.ORIENTATION))
    except ValueError:
        return 1
    return found[0] if found and 1 <= found[0] <= 8 else 1


# --- the formats ---------------------------------------------


def _with_pillow(name: str, keys: tuple[str, ...], **options: Any) -> Callable[[Planes, Tags], bytes]:
    """A writer that calls Pillow with these keys of the info dictionary."""

    def save(planes: Planes, tags: Tags) -> bytes:
        image, out = reading.to_image(planes), io.BytesIO()
        metadata = {key: image.info[key] for key in keys if key in image.info}
        image.info.clear()
        image.save(out, name, **(options | metadata))
        return out.getvalue()

    return save


def _bmp(planes: Planes, tags: Tags) -> bytes:
    """Write a BMP whose density is exact in pixels per metre, or 0; Pillow would set 96 dots per inch by default."""
    data = bytearray(_with_pillow("BMP", (), dpi=(0, 0))(planes, tags))
    if (found := _pixels_per_metre(tags)) is not None:
        struct.pack_into("<ii", data, 38, *(min(x, 0x7FFFFFFF) for x in found))
    return bytes(data)


def _pnm(planes: Planes, tags: Tags) -> bytes:
    notes = [text.value for text in unpack_text(tags.get(Tag.TEXT, b"")) if text.key == b"Comment"]
    notes = [note for note in notes if not set(note) & {10, 13}]
    return pnm.write(planes.mode, planes.data.transpose(1, 2, 0), tags.get(Tag.MAXIMUM), notes)


def _tiff(planes: Planes, tags: Tags) -> bytes:
    """Write a TIFF; Pillow's compressed TIFF files have no directory of EXIF, and at most 8 bits per sample."""
    order, entries = _DEFAULT_ORDER, []
    if Tag.EXIF in tags:
        try:
            reader = tiff.Reader(tags[Tag.EXIF])
            found = reader.directory(reader.first).entries
            kept = [e for e in found if e.tag not in _NOT_FROM_EXIF or e.tag == tiff.ORIENTATION]
            order, entries = reader.order, kept
        except ValueError:
            pass  # no valid EXIF: the comparison will report it as lost
    for tag, value in ((tiff.XMP, tags.get(Tag.XMP)), (tiff.ICC, tags.get(Tag.ICC))):
        if value is not None:
            entries.append(tiff.Entry(tag, 7 if tag == tiff.ICC else 1, len(value), value))
    if Tag.PHOTOSHOP in tags:
        blocks = tags[Tag.PHOTOSHOP]
        entries.append(tiff.Entry(tiff.PHOTOSHOP, 1, len(blocks), blocks))
        if (iptc := resources.find_iptc(blocks)) is not None and all(e.tag != tiff.IPTC for e in entries):
            entries.append(tiff.Entry(tiff.IPTC, 7, len(iptc), iptc))
    entries += _resolution(tags, order)
    if all(entry.tag != tiff.ORIENTATION for entry in entries):
        entries.append(tiff.integers(tiff.ORIENTATION, [1], order))  # without it readers take the one in XMP
    strips, layout = _samples(planes, tags, order)
    return tiff.pack_file(strips, entries + layout, order)


def _resolution(tags: Tags, order: str) -> list[tiff.Entry]:
    if Tag.DENSITY in tags:
        x, y, unit = struct.unpack(">IIB", tags[Tag.DENSITY])
        pair, unit = ((x / 100, y / 100), 3) if unit == 1 else ((x, y), 1)
    elif Tag.DPI in tags:
        pair, unit = struct.unpack("<dd", tags[Tag.DPI]), 2
    else:
        return []
    found = [tiff.rational(tag, value, order) for tag, value in zip((282, 283), pair, strict=True)]
    if None in found:
        return []
    return [*filter(None, found), tiff.integers(tiff.RESOLUTION_UNIT, [unit], order)]


_PHOTOMETRIC = {"P": 3, "RGB": 2, "RGBA": 2, "CMYK": 5, "LAB": 8}


def _samples(planes: Planes, tags: Tags, order: str) -> tuple[list[bytes], list[tiff.Entry]]:
    """Strips of samples, and the tags that describe how they are stored."""
    name = planes.mode.removesuffix(";16") if planes.mode != "I;16" else "L"
    samples = to_array(planes).reshape(planes.height, -1)
    if name == "LAB":
        samples = samples.reshape(planes.height, -1, 3) ^ (np.array([0, 1, 1], samples.dtype) << planes.depth - 1)
    kind = f"{order}u{samples.itemsize}"
    rows = np.packbits(samples, axis=1) if planes.depth == 1 else samples.astype(kind)
    rows = rows.reshape(planes.height, -1)
    each = max(1, _STRIP_BYTES // max(1, rows.shape[1] * rows.itemsize))
    strips = [rows[top : top + each].tobytes() for top in range(0, planes.height, each)]
    layout = {256: [planes.width], 257: [planes.height], 258: [planes.depth] * planes.channels, 259: [8],
              262: [_PHOTOMETRIC.get(name, 1)], 277: [planes.channels], 278: [each], 284: [1]}  # fmt: skip
    if name in ("LA", "RGBA"):
        layout[338] = [2]
    if name == "P":
        palette = tags.get(Tag.PALETTE, b"").ljust(768, b"\0")
        layout[320] = [257 * palette[3 * i + c] for c in range(3) for i in range(256)]
    long = {256, 257, 278}
    return strips, [tiff.integers(tag, values, order, 4 if tag in long else 3) for tag, values in layout.items()]


_WRITERS: dict[str, Callable[[Planes, Tags], bytes]] = {
    "PNG": lambda planes, tags: write_png(planes),
    "TIFF": _tiff,
    "PPM": _pnm,
    "BMP": _bmp,
    "WEBP": _with_pillow("WEBP", ("icc_profile", "exif", "xmp"), lossless=True, exact=True, quality=100),
}
