# SPDX-License-Identifier: MIT
"""Ledgers of GIF, WebP, JPEG 2000, AVIF, HEIF, JPEG XL, TGA, SGI, QOI and PCX, for all of them alike."""

import random
import struct

import ledger_files as files
import pytest
from ledger_files import Heif, box, chunk

from gmcodec.image.ledger import Ledger, account

AREA = files.tga_area({})
ORDINARY = {
    "GIF": [files.gif(), files.gif(files.control(1)), files.saved("GIF", "P"), files.saved("GIF", "L", comment=b"hi")],
    "WEBP": [
        files.webp(),
        files.saved("WEBP"),
        files.saved("WEBP", "RGBA", lossless=True, exif=files.EXIF, icc_profile=files.ICC, xmp=files.XMP),
    ],
    "JPEG2000": [files.jp2(), files.codestream(), files.saved("JPEG2000"), files.saved("JPEG2000", "L", no_jp2=True)],
    "AVIF": [Heif().file(), Heif(files.nclx(1, 13)).file()],
    "HEIF": [Heif(files.nclx(2, 2)).file(b"heic")],
    "JXL": [files.jxl(), b"\xff\x0a\xfa\x7f\x01\x90\x02"],
    "TGA": [files.tga(), files.tga(packed=True), files.tga(area=AREA)]
    + [files.saved("TGA", mode, **o) for mode in ("L", "LA", "P", "RGBA", "1") for o in ({}, {"compression": "tga_rle"})
       if mode != "1" or not o],
    "SGI": [files.saved("SGI"), files.saved("SGI", "L")],
    "QOI": [files.qoi()],
    "PCX": [files.saved("PCX", mode) for mode in ("1", "L", "P", "RGB")] + [files.pcx(b"\xc8a\xc8b\xc8c")],
}  # fmt: skip
FILES = [pytest.param(name, raw, id=f"{name}-{i}") for name, raws in ORDINARY.items() for i, raw in enumerate(raws)]


def covered(ledger: Ledger) -> bool:
    """Whether every byte has a claim, and every claim has bytes."""
    seen = bytearray(len(ledger.raw))
    for claim in ledger.claims:
        assert 0 <= claim.start < claim.end <= len(seen)
        seen[claim.start : claim.end] = b"\1" * (claim.end - claim.start)
    return all(seen)


def lost(format: str, raw: bytes) -> list[str]:
    ledger = account(format, raw)
    assert covered(ledger)
    return [loss.what for loss in ledger.losses]


@pytest.mark.parametrize(("format", "raw"), FILES)
def test_ordinary_files_lose_nothing(format, raw):
    assert lost(format, raw) == []


WITH_AN_END = [case for case in FILES if not case.values[1].startswith(b"\xff\x0a")]  # only decoding finds that of JXL


@pytest.mark.parametrize(("format", "raw"), WITH_AN_END)
@pytest.mark.parametrize("tail", [b"x", b"\0\0\0\1ab", b"PK\3\4" + bytes(100), bytes(range(256)) * 4])
def test_bytes_behind_the_end_are_named(format, raw, tail):
    ledger = account(format, raw + tail)
    assert covered(ledger)
    assert any(not loss.metadata for loss in ledger.losses)


@pytest.mark.parametrize(("format", "raw"), FILES)
def test_files_that_are_cut_do_not_raise(format, raw):
    for count in {*range(min(len(raw), 700)), *range(0, len(raw), 13)}:
        assert covered(account(format, raw[:count]))


@pytest.mark.parametrize("format", ORDINARY)
def test_damaged_files_do_not_raise(format):
    rng = random.Random(format)  # noqa: S311
    for _ in range(300):
        raw = bytearray(rng.choice(ORDINARY[format]))
        for _ in range(rng.choice((1, 2, 8))):
            at = rng.randrange(min(len(raw), rng.choice((60, 400, 10000))))
            change = rng.randrange(4)
            if change == 0:
                raw[at] = rng.randrange(256)
            elif change == 1:
                raw[at:at] = rng.randbytes(rng.choice((1, 4, 30)))
            elif change == 2:
                raw[at : at + 4] = rng.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\1", b"\x7f\xff\xff\xff"))
            elif len(raw) > 40:
                del raw[at : at + 3]
        assert covered(account(format, bytes(raw)))


# -- unknown parts, wherever they are --------------------------------------------------------------------


def heif_with(**parts: bytes) -> bytes:
    heif = Heif(files.nclx(1, 13))
    for name, part in parts.items():
        heif.properties.append(part) if name == "property" else setattr(heif, name, part)
    return heif.file()


def with_unknown_parts():
    unknown = box(b"UNKN", b"abcd")
    raw = files.gif(b"!\xfe" + files.blocks(b"hi"), files.control())
    for at in (25, 25 + 6, 25 + 6 + 8, len(raw) - 1):
        for label in b"\x00\x99\x01\xf8":
            yield "GIF", raw[:at] + b"!" + bytes([label]) + files.blocks(b"abcd") + raw[at:]
        yield "GIF", raw[:at] + files.application(b"UNKNOWNAPP1", files.blocks(b"abcd")) + raw[at:]
        yield "GIF", raw[:at] + b"stray" + raw[at:]
    for name in (b"UNKN", b"VP8X", b"\0\n\xff\1", b"iccp"):
        for part in (chunk(name, b"abc"), chunk(name, b"abcd"), chunk(name, b"")):
            yield "WEBP", files.webp(part)
            yield "WEBP", files.webp(after=part)
    raw = files.jp2()
    for at in (12, 32, len(raw) - len(box(b"jp2c", files.codestream()))):
        yield "JPEG2000", raw[:at] + unknown + raw[at:]
    for part in (unknown, box(b"uuid", b"u" * 16), box(b"xml ", b"<a/>"), box(b"free", b"x"), box(b"jp2c", b"")):
        yield "JPEG2000", files.jp2(after=part)
    yield "JPEG2000", files.jp2(header=unknown)
    yield "JPEG2000", files.jp2(stream=files.codestream() + b"tail")
    for marker in (b"\xff\x30", b"\xff\x64", b"\xff\x7f"):
        yield "JPEG2000", files.codestream(marker + b"\0\6\0\0ab")
        yield "JPEG2000", files.codestream().replace(b"\xff\x93ab", marker + b"\0\6\0\0ab\xff\x93", 1)
    for kind in (b"UNKN", b"jumb", b"brob", b"jbrd", b"xml "):
        yield "JXL", files.jxl(box(kind, b"abcdefgh"))
        yield "JXL", files.jxl() + box(kind, b"abcdefgh")
    yield "JXL", files.jxl() + box(b"jxlc", b"\xff\x0a")
    for place in ("meta", "top", "property"):
        yield "AVIF", heif_with(**{place: unknown})
        yield "HEIF", heif_with(**{place: unknown})
    yield "AVIF", heif_with(tail=b"left over")
    yield "AVIF", heif_with(unused=[unknown])
    yield "TGA", files.tga(area=AREA, developer=b"data of somebody")
    raw = files.tga(area=AREA)
    yield "TGA", raw[:30] + struct.pack("<B", 7) + raw[30:]
    for format, at in (("SGI", 108), ("SGI", 500), ("SGI", 107), ("PCX", 64), ("PCX", 100), ("PCX", 4)):
        raw = bytearray(ORDINARY[format][0])
        raw[at] = 1
        yield format, bytes(raw)
    yield "QOI", files.qoi(2)


@pytest.mark.parametrize(("format", "raw"), [*with_unknown_parts()])
def test_unknown_parts_are_named(format, raw):
    assert lost(format, raw)
