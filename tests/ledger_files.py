# SPDX-License-Identifier: MIT
"""Small image files for tests of ledgers, made by hand or by Pillow."""

import io
import struct

import numpy as np
from PIL import Image

EXIF = b"MM\0*\0\0\0\x08\0\1\x01\x0f\0\2\0\0\0\3me\0\0\0\0\0\0"  # a make and no orientation
XMP = b'<?xpacket begin=""?><x:xmpmeta xmlns:x="adobe:ns:meta/"/>'
ICC = b"\0\0\0\x84none" + b"\0" * 28 + b"acsp" + b"\0" * 92


def picture(mode: str = "RGB") -> Image.Image:
    y, x = np.mgrid[:20, :17]
    rgb = Image.fromarray(np.stack([x * 15, y * 12, (x * y) % 251], -1).astype(np.uint8))
    return rgb.quantize(50) if mode == "P" else rgb.convert(mode)


def saved(format: str, mode: str = "RGB", **options) -> bytes:
    out = io.BytesIO()
    picture(mode).save(out, format, **options)
    return out.getvalue()


# -- GIF and WebP ----------------------------------------------------------------------------------------


def blocks(data: bytes) -> bytes:
    parts = [data[at : at + 255] for at in range(0, len(data), 255)]
    return b"".join(bytes([len(part)]) + part for part in parts) + b"\0"


def application(name: bytes, data: bytes) -> bytes:
    return b"!\xff\x0b" + name + data


def gif(*before: bytes, control: bytes = b"", background: int = 0, aspect: int = 0, grey: bool = False) -> bytes:
    """A GIF of 2x1 pixels with ``before`` ahead of its image."""
    palette = bytes([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]) if grey else bytes(range(12))
    screen = b"GIF89a" + struct.pack("<HHBBB", 2, 1, 0x81, background, aspect) + palette
    return screen + b"".join(before) + control + b"," + struct.pack("<4HB", 0, 0, 2, 1, 0) + b"\2\2\x44\x0a\0;"


def control(flags: int = 0, delay: int = 0) -> bytes:
    return b"!\xf9\4" + struct.pack("<BHB", flags, delay, 0) + b"\0"


def chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def webp(*before: bytes, after: bytes = b"") -> bytes:
    """A WebP of Pillow's pixels with chunks around them."""
    image = saved("WEBP", lossless=True)[12:]
    body = chunk(b"VP8X", bytes(4) + b"\x10\0\0\x13\0\0") + b"".join(before) + image + after
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


# -- boxes -----------------------------------------------------------------------------------------------


def box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I", 8 + len(body)) + kind + body


def full(kind: bytes, *parts: bytes, version: int = 0) -> bytes:
    return box(kind, bytes([version, 0, 0, 0]), *parts)


def codestream(*segments: bytes) -> bytes:
    """JPEG 2000 of no real picture: main header, two tile-parts, the second to the end."""
    head = b"\xff\x4f\xff\x51\0\x29" + bytes(39) + b"".join(segments)
    tiles = struct.pack(">HHHIBB", 0xFF90, 10, 0, 20, 0, 1) + b"\xff\x93abcdef"
    return head + tiles + struct.pack(">HHHIBB", 0xFF90, 10, 1, 0, 0, 1) + b"\xff\x93ghi\xff\xd9"


def jp2(header: bytes = b"", before: bytes = b"", after: bytes = b"", stream: bytes | None = None) -> bytes:
    colour = box(b"colr", b"\1\0\0", struct.pack(">I", 16))
    return b"".join(
        [
            box(b"jP  ", b"\r\n\x87\n"),
            box(b"ftyp", b"jp2 \0\0\0\0jp2 "),
            before,
            box(b"jp2h", box(b"ihdr", struct.pack(">IIH", 20, 17, 3), b"\7\7\0\0"), colour, header),
            box(b"jp2c", codestream() if stream is None else stream),
            after,
        ]
    )


def jxl(*extra: bytes, stream: bytes = b"\xff\x0a\xfa\x7f\x01\x90\x02") -> bytes:
    signature = box(b"JXL ", b"\r\n\x87\n") + box(b"ftyp", b"jxl \0\0\0\0jxl ")
    return signature + b"".join(extra) + box(b"jxlc", stream)


def nclx(primaries: int, transfer: int) -> bytes:
    return box(b"colr", b"nclx", struct.pack(">HHHB", primaries, transfer, 6, 128))


class Heif:
    """A HEIF file of items that are not decoded; properties belong to the primary item, number 1."""

    def __init__(self, *properties: bytes) -> None:
        self.properties = [full(b"ispe", struct.pack(">II", 17, 20)), *properties]
        self.unused: list[bytes] = []  # properties of no item
        self.items: list[tuple[bytes, bytes]] = [(b"av01\0", b"pixels")]  # kind, name and more; data
        self.references: list[bytes] = []
        self.meta = b""  # further boxes in ``meta``
        self.top = b""  # and before it
        self.of_items: dict[int, list[int]] = {}  # properties of other items, counted from 1
        self.tail = b""  # in mdat, behind the items

    def item(self, kind: bytes, data: bytes, *references: tuple[bytes, int]) -> None:
        """Add an item that refers to others."""
        self.items.append((kind, data))
        for name, to in references:
            self.references.append(box(name, struct.pack(">HHH", len(self.items), 1, to)))

    def file(self, brand: bytes = b"avif") -> bytes:
        head = box(b"ftyp", brand + b"\0\0\0\0" + brand + b"mif1") + self.top
        at = len(head) + len(self._meta(0)) + 8
        return head + self._meta(at) + box(b"mdat", *(data for _, data in self.items), self.tail)

    def _meta(self, at: int) -> bytes:
        places, names = b"", b""
        for number, (kind, data) in enumerate(self.items, 1):
            places += struct.pack(">HHHII", number, 0, 1, at, len(data))
            names += full(b"infe", struct.pack(">HH", number, 0), kind, version=2)
            at += len(data)
        count = struct.pack(">H", len(self.items))
        return full(
            b"meta",
            full(b"hdlr", bytes(4), b"pict", bytes(13)),
            full(b"pitm", b"\0\1"),
            full(b"iloc", b"\x44\0", count, places),
            full(b"iinf", count, names),
            full(b"iref", *self.references),
            box(b"iprp", box(b"ipco", *self.properties, *self.unused), self._associations()),
            self.meta,
        )

    def _associations(self) -> bytes:
        owned = {1: [*range(1, len(self.properties) + 1)]} | self.of_items
        entries = [struct.pack(">HB", item, len(numbers)) + bytes(numbers) for item, numbers in owned.items()]
        return full(b"ipma", struct.pack(">I", len(entries)), *entries)


# -- the others ------------------------------------------------------------------------------------------


def qoi(space: int = 0) -> bytes:
    return b"qoif" + struct.pack(">IIBB", 2, 1, 3, space) + b"\xfe\1\2\3\xfe\4\5\6" + b"\0" * 7 + b"\1"


def tga(identification: bytes = b"", packed: bool = False, area: bytes = b"", developer: bytes = b"") -> bytes:
    """2x2 pixels of 24 bits; with an extension area, or a developer area, and then with a footer."""
    pixels = b"\x82abc\0def" if packed else bytes(range(12))
    head = struct.pack("<BBB5xHHHHBB", len(identification), 0, 10 if packed else 2, 0, 0, 2, 2, 24, 0)
    out = head + identification + pixels
    areas = [len(out) if area else 0, len(out) + len(area) if developer else 0]
    if developer:
        entry = struct.pack("<HHII", 1, 9, len(out) + len(area) + 12, len(developer))
        developer = entry + developer
    if area or developer:
        out += area + developer + struct.pack("<II", *areas) + b"TRUEVISION-XFILE.\0"
    return out


def tga_area(fields: dict[int, bytes]) -> bytes:
    area = bytearray(495)
    area[:2] = struct.pack("<H", 495)
    for at, value in fields.items():
        area[at : at + len(value)] = value
    return bytes(area)


def pcx(data: bytes, channels: int = 3, dpi: tuple[int, int] = (0, 0)) -> bytes:
    """4x2 pixels of 8 bits."""
    head = (
        struct.pack("<BBBBHHHHHH", 10, 5, 1, 8, 0, 0, 3, 1, *dpi) + bytes(48) + struct.pack("<BBHH", 0, channels, 4, 1)
    )
    return head.ljust(128, b"\0") + data
