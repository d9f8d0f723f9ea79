# SPDX-License-Identifier: MIT
"""What ledgers keep of the formats in test_ledger_formats.py, and what they call the rest."""

import struct

import ledger_files as files
import pytest
from ledger_files import EXIF, ICC, XMP, Heif, application, blocks, box, chunk, full

from gmcodec.image.ledger import account
from gmcodec.image.ledger.exif import find_tiff, read_orientation, with_orientation
from gmcodec.image.ledger.orientation import exif_orientation
from gmcodec.image.metadata import Tag, Text, find_problem, unpack_text


def kept(format: str, raw: bytes, mode: str = "RGB") -> dict[Tag, bytes]:
    """Tags of a file that loses nothing."""
    ledger = account(format, raw)
    assert ledger.losses == []
    assert not any(find_problem(tag, value, mode) for tag, value in ledger.tags.items())
    return ledger.tags


def lost(format: str, raw: bytes) -> list[str]:
    return [loss.what for loss in account(format, raw).losses]


# -- GIF -------------------------------------------------------------------------------------------------


def test_gif_comments_are_texts():
    raw = files.gif(b"!\xfe" + blocks(b"a" * 300), b"!\xfe" + blocks(b"b"), b"!\xfe\0")
    assert unpack_text(kept("GIF", raw)[Tag.TEXT]) == [Text(b"Comment", b"a" * 300), Text(b"Comment", b"b")]


def test_gif_xmp_without_its_trailer():
    trailer = b"\1" + bytes(range(255, -1, -1)) + b"\0"
    assert kept("GIF", files.gif(application(b"XMP DataXMP", XMP + trailer))) == {Tag.XMP: XMP}
    assert kept("GIF", files.gif(application(b"XMP DataXMP", blocks(XMP)))) == {Tag.XMP: XMP}
    assert kept("GIF", files.gif(application(b"ICCRGBG1012", blocks(ICC * 3)))) == {Tag.ICC: ICC * 3}


def test_gif_numbers():
    # pixels twice as wide as high: of them half as many go into the same length
    assert kept("GIF", files.gif(aspect=113)) == {Tag.DENSITY: struct.pack(">IIB", 64, 128, 0)}
    assert kept("GIF", files.gif(background=3), "P") == {Tag.BACKGROUND: b"\3"}
    assert kept("GIF", files.gif(background=3, grey=True), "L") == {Tag.BACKGROUND: b"\0\3"}
    assert kept("GIF", files.gif(background=9)) == {}  # no such colour
    gamma = files.gif(application(b"ImageMagick", blocks(b"gamma=0.454545")))
    assert kept("GIF", gamma) == {Tag.GAMMA: struct.pack(">I", 45455)}


def test_gif_loops_of_one_frame_are_nothing_and_its_delay_is_something():
    assert kept("GIF", files.gif(application(b"NETSCAPE2.0", blocks(b"\1\0\0")))) == {}
    assert lost("GIF", files.gif(application(b"NETSCAPE2.0", blocks(b"\1\0\0 and more"))))
    assert lost("GIF", files.gif(control=files.control(2, 10))) == [
        "frame delay of 100 ms",
        "frame waits for the user's input",
    ]


def test_gif_further_frames():
    image = files.gif()[25:-1]
    raw = files.gif()[:-1] + files.control(0, 10) + image + files.control(0, 5) + image + b";"
    ledger = account("GIF", raw)
    assert [(loss.what, loss.metadata) for loss in ledger.losses] == [("2 further frames", False)]


def test_gif_bytes_behind_the_end():
    assert lost("GIF", files.gif() + b"trailing") == ["8 bytes behind the end"]
    assert lost("GIF", files.gif() + files.gif()) == [f"{len(files.gif())} bytes behind the end (GIF)"]


# -- WebP ------------------------------------------------------------------------------------------------


def test_webp_metadata():
    raw = files.webp(chunk(b"ICCP", ICC), after=chunk(b"EXIF", b"Exif\0\0" + EXIF) + chunk(b"XMP ", XMP))
    assert kept("WEBP", raw) == {Tag.ICC: ICC, Tag.EXIF: EXIF, Tag.XMP: XMP}
    assert kept("WEBP", files.webp(after=chunk(b"EXIF", EXIF) * 2)) == {Tag.EXIF: EXIF}
    assert lost("WEBP", files.webp(after=chunk(b"XMP ", XMP) + chunk(b"XMP ", b"other"))) == [
        "a second XMP packet (5 bytes)"
    ]


def test_webp_frames():
    frame = chunk(b"ANMF", bytes(12) + b"\x64\0\0\0" + chunk(b"VP8L", b"\x2f" + bytes(9)))
    raw = b"RIFF\0\0\0\0WEBP" + chunk(b"VP8X", bytes(10)) + chunk(b"ANIM", bytes(6)) + frame * 3
    raw = raw[:4] + struct.pack("<I", len(raw) - 8) + raw[8:]
    assert lost("WEBP", raw) == ["frame delay of 100 ms", "2 further frames"]


# -- JPEG 2000 -------------------------------------------------------------------------------------------


def test_jp2_profile_and_comment():
    comment = b"\xff\x64\0\x0a\0\1hello!"
    raw = files.jp2(header=box(b"colr", b"\2\0\0", ICC), stream=files.codestream(comment))
    tags = kept("JPEG2000", raw)
    assert tags[Tag.ICC] == ICC
    assert unpack_text(tags[Tag.TEXT]) == [Text(b"Comment", b"hello!")]
    assert lost("JPEG2000", files.jp2(header=box(b"colr", b"\1\0\0\0\0\0\x0e"))) == ["colour space 14 (15 bytes)"]


def resolution(kind: bytes, *fields: int) -> bytes:
    return box(kind, struct.pack(">HHHHbb", *fields))


def test_jp2_resolution():
    metres = box(b"res ", resolution(b"resc", 5, 1, 3, 1, 3, 3))
    assert kept("JPEG2000", files.jp2(header=metres)) == {Tag.DENSITY: struct.pack(">IIB", 3000, 5000, 1)}
    inches = box(b"res ", resolution(b"resd", 30000, 254, 30000, 254, 2, 2))
    assert struct.unpack("<dd", kept("JPEG2000", files.jp2(header=inches))[Tag.DPI]) == (300.0, 300.0)
    both = box(b"res ", resolution(b"resd", 1, 1, 1, 1, 3, 3), resolution(b"resc", 5, 1, 3, 1, 3, 3))
    assert lost("JPEG2000", files.jp2(header=both)) == ["resolution for display"]
    assert lost("JPEG2000", files.jp2(header=box(b"res ", resolution(b"resc", 0, 0, 0, 0, 0, 0))))


def test_jp2_boxes_of_metadata():
    uuids = {
        "be7acfcb97a942e89c71999491e3afac": XMP,
        b"JpgTiffExif->JP2".hex(): EXIF,
        "0537cdab9d0c4431a72afa561f2a113e": EXIF,
    }
    for number, value in uuids.items():
        found = kept("JPEG2000", files.jp2(before=box(b"uuid", bytes.fromhex(number), value)))
        assert [*found.values()] == [value]
    assert kept("JPEG2000", files.jp2(after=box(b"xml ", XMP))) == {Tag.XMP: XMP}
    geo = box(b"uuid", bytes.fromhex("b14bf8bd083d4b43a5ae8cd7d5a6ce03"), b"II*\0")
    assert lost("JPEG2000", files.jp2(after=geo)) == ["GeoTIFF (28 bytes)"]


# -- AVIF and HEIF ---------------------------------------------------------------------------------------


def test_heif_colour():
    assert kept("AVIF", Heif(files.nclx(9, 16)).file()) == {Tag.CICP: b"\x09\x10\0\1"}
    assert kept("AVIF", Heif(files.nclx(2, 2)).file()) == {}
    profile = box(b"colr", b"prof", ICC)
    assert kept("AVIF", Heif(profile, files.nclx(2, 2)).file()) == {Tag.ICC: ICC}
    ledger = account("AVIF", Heif(profile, files.nclx(9, 16)).file())
    assert Tag.CICP not in ledger.tags
    assert [loss.what for loss in ledger.losses] == ["colour codes 9/16 (19 bytes)"]


def test_heif_light():
    volume = struct.pack(">8H2I", 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)  # green, blue, red, white, most, least
    tags = kept("AVIF", Heif(box(b"clli", struct.pack(">HH", 1000, 400)), box(b"mdcv", volume)).file())
    assert struct.unpack(">II", tags[Tag.LIGHT_LEVEL]) == (10000000, 4000000)
    assert struct.unpack(">8H2I", tags[Tag.MASTERING]) == (5, 6, 1, 2, 3, 4, 7, 8, 9, 10)


def test_heif_metadata_items():
    heif = Heif()
    heif.item(b"Exif\0", b"\0\0\0\6Exif\0\0" + EXIF, (b"cdsc", 1))
    heif.item(b"mime\0application/rdf+xml\0\0", XMP, (b"cdsc", 1))
    assert kept("AVIF", heif.file()) == {Tag.EXIF: EXIF, Tag.XMP: XMP}
    heif.item(b"mime\0text/plain\0\0", b"words", (b"cdsc", 1))
    heif.item(b"Exif\0", b"\0\0\0\0" + EXIF + b"\0", (b"cdsc", 1))
    assert lost("AVIF", heif.file()) == ["item text/plain (5 bytes)", f"a second EXIF ({len(EXIF) + 1} bytes)"]


def test_heif_parts_of_the_picture_and_other_pictures():
    heif = Heif()
    heif.unused = [full(b"auxC", b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0"), full(b"auxC", b"urn:depth\0")]
    heif.references.append(box(b"dimg", struct.pack(">HHH", 1, 1, 2)))  # item 1 is made of item 2
    heif.item(b"av01\0", b"tile")
    heif.item(b"av01\0", b"alpha", (b"auxl", 1))
    heif.of_items = {3: [2]}
    raw = heif.file()
    assert lost("AVIF", raw) == ["box auxC (22 bytes)"]  # of no item
    heif.unused.append(box(b"udes", b"of alpha"))
    heif.of_items = {3: [2, 4], 2: [3]}
    assert lost("AVIF", heif.file()) == ["box udes (16 bytes)"]
    heif.unused.pop()
    heif.item(b"av01\0", b"depth", (b"auxl", 1))
    heif.of_items = {3: [2], 4: [3]}
    heif.item(b"av01\0", b"thumbs", (b"thmb", 1))
    heif.item(b"tmap\0", b"gain map")
    heif.item(b"av01\0", b"another")
    ledger = account("AVIF", heif.file())
    assert [loss.what for loss in ledger.losses] == [
        "auxiliary picture urn:depth (5 bytes)",
        "thumbnail (6 bytes)",
        "gain map (tmap) (8 bytes)",
        "further item av01 (7 bytes)",
    ]
    assert not any(loss.metadata for loss in ledger.losses)


@pytest.mark.parametrize(
    ("steps", "orientation"),
    [
        ("", 1),
        ("r1", 8),
        ("r2", 3),
        ("r3", 6),
        ("m0", 4),
        ("m1", 2),
        ("r1m0", 5),
        ("r1m1", 7),
        ("r3m0", 7),
        ("m0r1", 7),
    ],
)
def test_heif_turns(steps, orientation):
    pairs = [(b"irot" if s == "r" else b"imir", int(n)) for s, n in zip(steps[::2], steps[1::2], strict=True)]
    assert exif_orientation(pairs) == orientation
    heif = Heif(*(box(kind, bytes([value])) for kind, value in pairs))
    heif.item(b"Exif\0", b"\0\0\0\0" + with_orientation(EXIF, 3))
    assert read_orientation(account("AVIF", heif.file()).tags[Tag.EXIF]) == orientation  # Pillow does not turn it
    assert read_orientation(account("HEIF", heif.file()).tags[Tag.EXIF]) == 1  # libheif does


def test_heif_shape_of_pixels():
    wide = box(b"pasp", struct.pack(">II", 2, 1))
    assert kept("AVIF", Heif(wide).file()) == {Tag.DENSITY: struct.pack(">IIB", 1, 2, 0)}
    turn = box(b"irot", b"\1")
    assert kept("HEIF", Heif(wide, turn).file())[Tag.DENSITY] == struct.pack(">IIB", 2, 1, 0)
    crop = box(b"clap", struct.pack(">8I", 9, 1, 9, 1, 0, 1, 0, 1))
    assert lost("AVIF", Heif(crop).file()) == ["crop (clap) (40 bytes)"]
    assert lost("HEIF", Heif(crop).file()) == []  # less than a block, so the codec's padding
    large = full(b"ispe", struct.pack(">II", 900, 900))
    heif = Heif(crop)
    heif.properties[0] = large
    assert lost("HEIF", heif.file()) == ["what is outside the crop (clap)"]


def test_heif_sequences():
    heif = Heif()
    heif.top, heif.tail = box(b"moov", b"tracks"), b"frames"
    assert lost("AVIF", heif.file()) == ["sequence of frames (moov) (14 bytes)"]


def test_exif_with_an_orientation():
    for exif in (b"", EXIF, b"II*\0\x08\0\0\0\0\0\0\0\0\0"):
        for value in range(1, 9):
            new = with_orientation(exif, value)
            assert read_orientation(new) == value
            assert read_orientation(with_orientation(new, 1)) == 1
    assert b"me\0" in with_orientation(EXIF, 5)
    assert with_orientation(b"nonsense", 5) == b"nonsense"
    assert find_tiff(b"\0\0\0\2xx" + EXIF) == find_tiff(b"Exif\0\0" + EXIF) == find_tiff(EXIF) == EXIF
    assert find_tiff(b"nothing") is None


# -- JPEG XL ---------------------------------------------------------------------------------------------


def bits(*fields: tuple[int, int]) -> bytes:
    """Values and their numbers of bits, low first."""
    value, at = 0, 16
    for field, count in fields:
        value |= field << at
        at += count
    return (value | 0x0AFF).to_bytes(at // 8 + 1, "little")


SIZE = ((1, 1), (0, 5), (1, 3))  # 8 x 8


def test_jxl_metadata():
    raw = files.jxl(box(b"Exif", bytes(4), with_orientation(EXIF, 6)), box(b"xml ", XMP))
    tags = kept("JXL", raw)
    assert tags[Tag.XMP] == XMP
    assert read_orientation(tags[Tag.EXIF]) == 1  # the decoder turns the picture
    assert tags[Tag.CICP] == b"\1\x0d\0\1"


def test_jxl_data_of_a_jpeg():
    ledger = account("JXL", files.jxl(box(b"jbrd", b"data")))
    assert [(loss.what, loss.metadata) for loss in ledger.losses] == [
        ("the data to rebuild the original JPEG file (12 bytes)", False)
    ]


def test_jxl_compressed_metadata():
    brotli = pytest.importorskip("brotli")
    assert kept("JXL", files.jxl(box(b"brob", b"Exif", brotli.compress(bytes(4) + EXIF))))[Tag.EXIF] == EXIF
    assert lost("JXL", files.jxl(box(b"brob", b"xml ", b"damaged"))) == ["compressed box xml  (19 bytes)"]


def test_jxl_colour():
    plain = [(0, 1), (0, 1), (0, 1), (0, 2), (1, 1), (0, 2), (0, 1)]  # no extra fields, 8 bits, no extra channel
    rec2100 = [(0, 1), (0, 1), (0, 2), (1, 2), (2, 2), (7, 4), (0, 1), (2, 2), (14, 4), (1, 2)]
    assert kept("JXL", bits(*SIZE, *plain, *rec2100))[Tag.CICP] == b"\x09\x10\0\1"
    profile = [(0, 1), (1, 1), (0, 2)]
    assert Tag.CICP not in kept("JXL", bits(*SIZE, *plain, *profile, (0, 9)))


def test_jxl_channels_and_animation():
    depth = [(0, 1), (1, 2), (0, 1), (0, 2), (0, 2), (1, 2), (2, 4), (ord("z"), 8), (ord("z"), 8)]
    more = [(0, 1), (1, 1), (0, 3), (0, 1), (0, 1), (1, 1), (0, 2), (0, 2), (0, 2), (0, 1)]
    raw = bits(*SIZE, *more, (0, 1), (0, 2), (1, 1), (1, 2), *depth, (0, 1), (1, 1), (1, 1))
    assert lost("JXL", raw) == ["animation", "channel of depth", "name of a channel: zz"]


# -- the others ------------------------------------------------------------------------------------------


def test_qoi_of_linear_samples():
    assert kept("QOI", files.qoi(1)) == {Tag.GAMMA: struct.pack(">I", 100000)}


def test_tga_areas():
    area = files.tga_area({2: b"author", 367: struct.pack("<6H", 1, 2, 2003, 4, 5, 6), 474: struct.pack("<HH", 2, 1)})
    ledger = account("TGA", files.tga(b"identification", area=area, developer=b"data"))
    assert [loss.what for loss in ledger.losses] == [
        "identification field 'identification' (14 bytes)",
        "author 'author'",
        "date and time",
        "developer area (4 bytes)",
    ]
    assert ledger.tags == {Tag.DENSITY: struct.pack(">IIB", 1, 2, 0)}
    stamp = files.tga_area({486: struct.pack("<I", 30 + 495)}) + bytes([1, 1, 9, 9, 9])
    assert lost("TGA", files.tga(area=stamp)) == ["thumbnail (5 bytes)"]


def test_tga_packets_end_with_the_last_pixel():
    assert lost("TGA", files.tga(packed=True) + b"x") == ["1 byte behind the end"]


def test_sgi_name_is_a_title():
    raw = bytearray(files.saved("SGI"))
    raw[24:29] = b"sunny"
    assert unpack_text(kept("SGI", bytes(raw))[Tag.TEXT]) == [Text(b"Title", b"sunny")]


def test_sgi_rows_wherever_they_are():
    head = struct.pack(">HBBHHHH", 474, 1, 1, 2, 4, 2, 1).ljust(512, b"\0")
    raw = head + struct.pack(">4I", 532, 528, 4, 4) + b"row1row2"
    assert kept("SGI", raw) == {}
    assert lost("SGI", raw + b"more") == ["4 bytes behind the end"]


def test_pcx_runs_resolution_and_palette():
    runs = b"\xc4a" + b"bcde" * 4 + b"\xc4f"
    assert kept("PCX", files.pcx(runs, dpi=(300, 200))) == {Tag.DPI: struct.pack("<dd", 300, 200)}
    assert kept("PCX", files.pcx(runs, dpi=(4, 2))) == {}  # the size of the picture
    assert lost("PCX", files.pcx(runs, dpi=(1, 5))) == ["resolution 1x5"]
    grey = files.pcx(b"\xc8a", channels=1) + b"\x0c" + bytes(768)
    assert kept("PCX", grey) == {}
    assert lost("PCX", grey + b"x") == ["palette that is not at the end of the file", "1 byte behind the end"]
