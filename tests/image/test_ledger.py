# SPDX-License-Identifier: MIT
"""Every byte of a file has a claim, and what is not kept has a name: PNG, JPEG, TIFF, BMP, PNM."""

import io
import itertools
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, TiffImagePlugin
from samples import chunk, random_planes, saved, with_chunks

from gmcodec.image import ledger, metadata, reading, tiff, writing
from gmcodec.image.ledger import Fate, Ledger, resources
from gmcodec.image.metadata import Tag, Text


def covered(found: Ledger) -> bool:
    """Whether the claims leave no byte out."""
    at = 0
    for claim in sorted(found.claims, key=lambda claim: claim.start):
        if claim.start > at:
            return False
        at = max(at, claim.end)
    return at == len(found.raw)


def names(found: Ledger) -> str:
    return " | ".join(loss.what for loss in found.losses)


def image(mode: str = "RGB", size=(20, 17)) -> Image.Image:
    return reading.to_image(random_planes(mode, size))


def segment(number: int, body: bytes) -> bytes:
    return bytes([0xFF, number]) + (len(body) + 2).to_bytes(2, "big") + body


def jpeg(*segments: bytes, behind: bytes = b"") -> bytes:
    raw = saved(image(), "JPEG")
    return raw[:20] + b"".join(segments) + raw[20:] + behind  # behind SOI and JFIF


def tiff_file(tags: dict[int, object] | None = None, **options: object) -> bytes:
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in (tags or {}).items():
        if isinstance(value, bytes):
            directory.tagtype[tag] = 7
        directory[tag] = value
    return saved(image(), "TIFF", tiffinfo=directory, **options)


ORDINARY = {
    "PNG": saved(image(), "PNG", dpi=(72, 72)),
    "PNG P": saved(image("P"), "PNG"),
    "PNG 1": saved(image("1"), "PNG"),
    "JPEG": saved(image(), "JPEG", dpi=(300, 300)),
    "JPEG progressive": saved(image(), "JPEG", progressive=True, optimize=True),
    "JPEG restarts": saved(image(), "JPEG", restart_marker_blocks=1),
    "JPEG CMYK": saved(Image.new("CMYK", (20, 17)), "JPEG"),
    "TIFF": saved(image(), "TIFF", dpi=(72, 72)),
    "TIFF big": saved(image(), "TIFF", big_tiff=True),
    "TIFF deflated": saved(image(), "TIFF", compression="tiff_adobe_deflate"),
    "TIFF JPEG": saved(image(), "TIFF", compression="jpeg"),
    "TIFF P": saved(image("P"), "TIFF"),
    "BMP": saved(image(), "BMP", dpi=(96, 96)),
    "BMP P": saved(image("P"), "BMP"),
    "BMP 1": saved(image("1"), "BMP"),
    "BMP RGBA": saved(image("RGBA"), "BMP"),
    "DIB": saved(image(), "DIB"),
    "PPM": saved(image(), "PPM"),
    "PPM 1": saved(image("1"), "PPM"),
    "PPM 16": saved(image("I;16"), "PPM"),
    "PPM plain": b"P2\n# note\n3 1\n7\n0 1 # more\n 7\n",
}


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_files_lose_nothing(name):
    found = ledger.account(name.split()[0], ORDINARY[name])
    assert covered(found)
    assert names(found) == ""


@pytest.mark.parametrize("name", ORDINARY)
def test_bytes_behind_the_end_are_named(name):
    found = ledger.account(name.split()[0], ORDINARY[name] + b"\0\0PK\3\4 something else")
    assert covered(found)
    assert len(found.losses) == 1
    assert not found.losses[0].metadata


@pytest.mark.parametrize("name", ORDINARY)
def test_no_truncation_stops_a_walk(name):
    raw = ORDINARY[name]
    for end in range(0, len(raw), max(1, len(raw) // 200)):
        assert covered(ledger.account(name.split()[0], raw[:end]))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(ORDINARY)), st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), max_size=6))
def test_no_damage_stops_a_walk(name, changes):
    raw = bytearray(ORDINARY[name])
    for at, value in changes:
        raw[at % min(len(raw), 400)] = value
    assert covered(ledger.account(name.split()[0], bytes(raw)))


# --- PNG ---------------------------------------------


@pytest.mark.parametrize("kind", [b"caBX", b"oFFs", b"hIST", b"sPLT", b"prVt", b"dSIG", b"vpAg"])
def test_further_chunks_are_kept_where_they_stand(kind):
    end = len(chunk(b"IEND", b""))
    raw = saved(image("P"), "PNG")
    at = raw.index(b"IDAT") - 4
    pieces = raw[:33], raw[33:at], raw[at:-end], raw[-end:]
    added = *(chunk(kind, body) for body in (b"1st", b"2nd", b"3rd")), b""
    raw = b"".join(map(bytes.__add__, pieces, added))
    planes = reading.read(raw)
    assert planes.lost == ()
    again = writing.write_png(planes)
    places = list(itertools.product((b"1st", b"2nd", b"3rd"), (b"PLTE", b"IDAT")))
    assert [raw.index(kind + body) < raw.index(place) for body, place in places] == [
        again.index(kind + body) < again.index(place) for body, place in places
    ]
    assert reading.read(again) == planes


def test_a_palette_for_true_colour_is_kept():
    raw = with_chunks(saved(image(), "PNG"), (b"PLTE", bytes(range(30))), (b"hIST", bytes(20)))
    planes = reading.read(raw)
    assert planes.lost == ()
    assert chunk(b"PLTE", bytes(range(30))) + chunk(b"hIST", bytes(20)) in writing.write_png(planes)


def test_what_says_how_image_data_is_cut_is_not_kept():
    planes = reading.read(with_chunks(saved(image(), "PNG"), (b"iDOT", bytes(28))))
    assert (planes.lost, planes.metadata) == ((), ())


def test_second_chunks_are_named():
    raw = with_chunks(saved(image(), "PNG"), (b"gAMA", bytes([0, 0, 1, 1])), (b"gAMA", bytes([0, 0, 1, 2])),
                      (b"tIME", bytes(7)), (b"tIME", bytes(7)))  # fmt: skip
    assert names(ledger.account("PNG", raw)) == "a second chunk gAMA (4 bytes)"  # the times say the same


def icc(size: int = 600) -> bytes:
    return size.to_bytes(4, "big") + np.random.default_rng(1).bytes(size - 4)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda z: z + bytes(5), ""),
        (lambda z: z + b"junk!", "5 bytes behind the ICC profile"),
        (lambda z: z[:-4] + b"abcd", ""),  # the checksum
        (lambda z: z[:-4], ""),
        (lambda z: z[: len(z) // 2], "malformed chunk iCCP"),
        (lambda z: z[:40] + b"\xff" * 40 + z[80:], None),  # whatever it inflates to
        (lambda z: b"", "malformed chunk iCCP"),
    ],
    ids=["padded", "followed", "checksum", "no checksum", "cut", "damaged", "empty"],
)
def test_profiles_of_damaged_streams_are_kept_when_they_inflate(change, named):
    body = b"name\0\0" + change(zlib.compress(icc(), 0 if named is None else 9))
    raw = with_chunks(saved(image(), "PNG"), (b"iCCP", body))
    found = ledger.account("PNG", raw)
    if named is None:
        return
    assert named in names(found)
    assert (named == "") == (names(found) == "")
    assert (found.tags.get(Tag.ICC) == icc()) == ("malformed" not in named)
    if "malformed" not in named:
        assert found.tags[Tag.PROFILE_NAME] == b"name"
        assert b"iCCPname\0\0" in writing.write_png(reading.read(raw))


def test_texts_are_kept_up_to_a_limit():
    raw = saved(image("L"), "PNG")
    large = b"k\0" + bytes(1 << 24)
    found = ledger.account("PNG", with_chunks(raw, *[(b"tEXt", large)] * 3))
    assert names(found).startswith("malformed or too large chunk tEXt, the limit of all texts is 33,554,432 bytes")
    assert len(metadata.unpack_text(found.tags[Tag.TEXT])) == 2  # they have as many bytes as the limit
    bomb = b"k\0\0" + zlib.compress(bytes(1 << 26))
    found = ledger.account("PNG", with_chunks(raw, (b"zTXt", bomb)))
    assert "inflates to more than" in names(found)


def test_an_animation_is_refused_and_its_first_picture_can_be_had():
    frames = [image(), image().rotate(180)]
    raw = saved(frames[0], "PNG", save_all=True, append_images=frames[1:])
    with pytest.raises(reading.UnsupportedImageError, match="--first"):
        reading.read(raw)
    planes = reading.read(raw, first=True)
    assert np.array_equal(reading.to_array(planes), np.asarray(frames[0]))
    assert any("fdAT" in loss.what and not loss.metadata for loss in planes.lost)


# --- JPEG ---------------------------------------------


IPTC = resources.iptc_block(b"\x1c\x02x\0\7caption")


@pytest.mark.parametrize("number", [n for n in range(16) if n != 14])
def test_every_kind_of_segment_is_named_or_kept(number):
    found = ledger.account("JPEG", jpeg(segment(0xE0 + number, b"something nobody knows\0 1 2 3")))
    assert names(found) == f"APP{number} segment (something nobody knows) (33 bytes)"
    assert covered(found)


def test_kept_segments():
    extended = b"<x>" * 30000
    guid = b"0123456789ABCDEF" * 2
    parts = [(at, extended[at : at + 40000]) for at in range(0, len(extended), 40000)]
    head = b"http://ns.adobe.com/xmp/extension/\0" + guid + len(extended).to_bytes(4, "big")
    raw = jpeg(
        segment(0xE1, b"Exif\0\0II*\0\10\0\0\0\0\0\0\0\0\0"),
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x note='" + guid + b"'/>"),
        *(segment(0xE1, head + at.to_bytes(4, "big") + part) for at, part in parts[::-1]),  # in any order
        segment(0xE2, b"ICC_PROFILE\0\2\2" + icc()[300:]),
        segment(0xE2, b"ICC_PROFILE\0\1\2" + icc()[:300]),
        segment(0xED, b"Photoshop 3.0\0" + IPTC[:10]),
        segment(0xED, b"Photoshop 3.0\0" + IPTC[10:]),
        segment(0xFE, b"one"),
        segment(0xFE, b"two"),
    )
    planes = reading.read(raw)
    tags = metadata.unpack(planes.metadata, "RGB")
    assert planes.lost == ()
    assert (tags[Tag.ICC], tags[Tag.PHOTOSHOP]) == (icc(), IPTC)
    assert metadata.unpack_text(tags[Tag.TEXT]) == [
        Text(b"Comment", b"one"), Text(b"Comment", b"two"), Text(metadata.EXTENDED_XMP_KEY, extended, True),
    ]  # fmt: skip
    again = reading.read(writing.write_png(planes))
    assert again == planes


@pytest.mark.parametrize(
    ("segments", "named"),
    [
        ([segment(0xE1, b"Exif\0\0II1"), segment(0xE1, b"Exif\0\0II2")], "a second Exif block (3 bytes)"),
        ([segment(0xE2, b"ICC_PROFILE\0\1\2abc")], "an ICC profile whose parts are not all there (3 bytes)"),
        ([segment(0xE0, b"JFXX\0\x10abc")], "APP0 segment (JFXX) (13 bytes)"),
        ([segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\1\1abc")], "the thumbnail in JFIF (3 bytes)"),
        ([segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(40) + b"abc")], "nothing refers to (3 bytes)"),
    ],
)
def test_segments_without_a_place(segments, named):
    assert named in names(ledger.account("JPEG", jpeg(*segments)))


def test_a_block_of_exif_in_two_segments():
    found = ledger.account("JPEG", jpeg(segment(0xE1, b"Exif\0\0II*\0 some"), segment(0xE1, b"Exif\0\0thing")))
    assert (found.tags[Tag.EXIF], names(found)) == (b"II*\0 something", "")


def test_bytes_between_segments_are_named():
    found = ledger.account("JPEG", jpeg(b"junk", segment(0xFE, b"note")))
    assert names(found) == "bytes between segments (4 bytes)"
    assert metadata.unpack_text(found.tags[Tag.TEXT]) == [Text(b"Comment", b"note")]


@pytest.mark.parametrize("behind", [b"\xff\xd8\xff\xe0 another", b"\0\0\0\x18ftypmp42", b"?"])
def test_what_follows_a_jpeg_is_content(behind):
    planes = reading.read(jpeg(behind=behind), strip=True)  # stripping is about metadata only
    assert [loss.metadata for loss in planes.lost] == [False]
    assert f"{len(behind)} byte" in planes.lost[0].what


def test_density_is_the_file_s_own():
    assert Tag.DPI not in ledger.account("JPEG", saved(image(), "JPEG")).tags
    exif = Image.Exif()
    exif[271] = "maker"
    raw = saved(image(), "JPEG", exif=exif)
    raw = raw[:2] + raw[20:]  # without JFIF, Pillow takes 72 dots per inch for granted
    assert Image.open(io.BytesIO(raw)).info["dpi"] == (72, 72)
    assert {int(tag) for tag, _ in reading.read(raw).metadata} == {Tag.EXIF}
    assert {int(tag) for tag, _ in reading.from_image(Image.open(io.BytesIO(raw))).metadata} == {Tag.EXIF}


# --- TIFF ---------------------------------------------


def test_tags_become_exif_and_come_back():
    exif = {36867: "2020:01:02 03:04:05", 37500: b"maker note"}
    tags = {271: "maker", 305: "a program", 33550: (1.0, 2.0, 0.0), 65000: b"private", 34665: exif}
    planes = reading.read(tiff_file(tags))
    assert planes.lost == ()
    raw = metadata.unpack(planes.metadata, "RGB")[Tag.EXIF]
    found = Image.Exif()
    found.load(raw)
    assert (found[271], found[65000], found.get_ifd(34665)[37500]) == ("maker", b"private", b"maker note")
    data, lost = writing.write(planes, "TIFF")
    assert lost == ()
    assert reading.read(data) == planes
    with Image.open(io.BytesIO(data)) as back:
        assert back.tag_v2[33550] == (1.0, 2.0, 0.0)
        assert back.getexif().get_ifd(34665)[36867] == "2020:01:02 03:04:05"
    assert reading.read(writing.write_png(planes)) == planes


@pytest.mark.parametrize("separate", [False, True])
def test_iptc_of_a_tiff(separate):
    planes = reading.read(tiff_file({33723: b"\x1c\x02x\0\7caption"} | ({} if separate else {34377: IPTC})))
    assert planes.lost == ()
    assert metadata.unpack(planes.metadata, "RGB") == {Tag.PHOTOSHOP: IPTC}
    assert reading.read(writing.write(planes, "TIFF").data) == planes


def test_pages_and_images_below_pages_are_named():
    raw = saved(image(), "TIFF", save_all=True, append_images=[image("L"), image("1")])
    with pytest.raises(reading.UnsupportedImageError, match="3 frames or pages; --first"):
        reading.read(raw)
    planes = reading.read(raw, first=True)
    assert np.array_equal(reading.to_array(planes), np.asarray(image()))
    assert ("2 further pages", False) in [(loss.what, loss.metadata) for loss in planes.lost]
    directory = tiff.Reader(raw).directory(8).start
    found = ledger.account("TIFF", tiff_file({330: directory}))
    assert "1 further image below the first page" in names(found)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({}, {}),
        ({282: 72.0}, {}),
        ({282: 72.0, 283: 72.0}, {Tag.DPI: struct.pack("<dd", 72, 72)}),
        ({282: 72.0, 283: 72.0, 296: 2}, {Tag.DPI: struct.pack("<dd", 72, 72)}),
        ({282: 100.0, 283: 50.0, 296: 3}, {Tag.DENSITY: struct.pack(">IIB", 10000, 5000, 1)}),
        ({282: 1.0, 283: 1.0, 296: 1}, {}),
        ({282: 2.0, 283: 1.0, 296: 1}, {Tag.DENSITY: struct.pack(">IIB", 2, 1, 0)}),
        ({282: 0.0, 283: 0.0, 296: 2}, {}),
    ],
)
def test_no_resolution_is_made_up(tags, expected):
    planes = reading.read(tiff_file(tags))
    assert metadata.unpack(planes.metadata, "RGB") == expected
    again = reading.read(writing.write(planes, "TIFF").data)
    assert again == planes


def test_a_block_of_resources_as_text():
    assert resources.from_text(resources.to_text(IPTC)) == IPTC
    assert resources.from_text(resources.to_text(IPTC) + b" ") is None
    assert resources.from_text(b"\n8bim\n  2\nzz") is None
    assert resources.find_iptc(IPTC) == b"\x1c\x02x\0\7caption"
    assert resources.find_iptc(IPTC[:9]) is None


# --- BMP ---------------------------------------------


def bmp(bits: int, rows: np.ndarray, masks=(), header: int = 40, compression: int | None = None) -> bytes:
    """A BMP of values [H, W] of 16 or 32 bits."""
    height, width = rows.shape
    values = rows[::-1].astype("<u4" if bits == 32 else "<u2")
    padded = np.zeros((height, -(-width * bits // 32) * 32 // bits), values.dtype)
    padded[:, :width] = values
    data = padded.tobytes()
    kind = compression if compression is not None else 3 if masks else 0
    inside = struct.pack(f"<{len(masks)}I", *masks)
    head = struct.pack("<IiiHHIIiiII", header, width, height, 1, bits, kind, len(data), 0, 0, 0, 0)
    head = (head + inside).ljust(header, b"\0") if header > 40 else head + inside
    return b"BM" + struct.pack("<III", 14 + len(head) + len(data), 0, 14 + len(head)) + head + data


COLOURS = np.random.default_rng(3).integers(0, 1 << 32, (5, 7)).astype(np.int64)


def five(values: np.ndarray) -> np.ndarray:
    return (values & 31) * 255 // 31


EIGHTS = (0xFF, 0xFF00, 0xFF0000, 0xFF000000)
BMPS = {  # a file, and its channels
    "32": (bmp(32, COLOURS & 0xFFFFFF), [COLOURS >> s for s in (16, 8, 0)]),
    "32 undeclared": (bmp(32, COLOURS), [COLOURS >> s for s in (16, 8, 0, 24)]),
    "32 masks undeclared": (bmp(32, COLOURS, EIGHTS[:3]), [COLOURS >> s for s in (0, 8, 16, 24)]),
    "32 alpha mask": (bmp(32, COLOURS, EIGHTS, 56), [COLOURS >> s for s in (0, 8, 16, 24)]),
    "32 masks behind": (bmp(32, COLOURS, EIGHTS, compression=6), [COLOURS >> s for s in (0, 8, 16, 24)]),
    "15": (bmp(16, COLOURS & 0x7FFF), [five(COLOURS >> s) for s in (10, 5, 0)]),
    "15 undeclared": (
        bmp(16, COLOURS & 0xFFFF),
        [*(five(COLOURS >> s) for s in (10, 5, 0)), 255 * (COLOURS >> 15 & 1)],
    ),
    "4444": (
        bmp(16, COLOURS & 0xFFFF, (0xF00, 0xF0, 0xF, 0xF000), 56),
        [17 * (COLOURS >> s & 15) for s in (8, 4, 0, 12)],
    ),
}


@pytest.mark.parametrize(("raw", "expected"), BMPS.values(), ids=BMPS.keys())
def test_alpha_of_bmp(raw, expected):
    planes = reading.read(raw)
    assert planes.lost == ()
    assert np.array_equal(planes.data, np.array(expected).astype(np.uint8))
    if len(expected) == 3:  # nothing that Pillow would drop
        assert np.array_equal(reading.to_array(planes), np.asarray(Image.open(io.BytesIO(raw))))


@pytest.mark.parametrize(
    "raw",
    [
        bmp(32, COLOURS, (0x3FF00000, 0xFFC00, 0x3FF)),
        bmp(32, COLOURS, (0xF00000FF, 0xFF00, 0xFF0000)),
        bmp(16, COLOURS & 0xFFFF, (0xF00, 0xF0, 0x7)),
    ],
    ids=["10 bits", "holes", "bits left in two places"],
)
def test_masks_that_are_not_kept_are_refused(raw):
    with pytest.raises(reading.UnsupportedImageError, match="BMP"):
        reading.read(raw)


def bmp5(space: bytes, profile: bytes = b"", ends: bytes = b"") -> bytes:
    raw = saved(image(), "BMP")
    data = raw[54:]
    head = struct.pack("<I", 124) + raw[18:54] + bytes(16) + space + ends.ljust(48, b"\0")
    head += struct.pack("<IIII", 4, 124 + len(data), len(profile), 0)
    return b"BM" + struct.pack("<III", 138 + len(data) + len(profile), 0, 138) + head + data + profile


def test_colour_space_of_bmp():
    planes = reading.read(bmp5(b"DEBM", icc()))
    assert (metadata.unpack(planes.metadata, "RGB")[Tag.ICC], planes.lost) == (icc(), ())
    found = ledger.account("BMP", bmp5(b"KNIL", b"C:\\p.icc\0"))
    assert names(found) == "the name of a colour profile, 'C:\\\\p.icc'"
    assert names(ledger.account("BMP", bmp5(b"\0\0\0\0", ends=b"\1"))) == "calibrated primaries and gamma"
    assert names(ledger.account("BMP", bmp5(b"BGRs"))) == ""
    raw = bmp5(b" niW")
    assert names(ledger.account("BMP", raw[:6] + b"abcd" + raw[10:])) == "reserved bytes 61626364"


# --- PNM ---------------------------------------------


@pytest.mark.parametrize("maximum", [1, 2, 100, 254, 255, 256, 1000, 1023, 4095, 65534, 65535])
@pytest.mark.parametrize("kind", [5, 6])
def test_any_largest_value_comes_back(kind, maximum):
    size = 2 if maximum > 255 else 1
    values = np.random.default_rng(0).integers(0, maximum + 1, 6 * 4 * (3 if kind == 6 else 1))
    raw = b"P%d\n6 4\n%d\n" % (kind, maximum) + values.astype(">u2" if size == 2 else np.uint8).tobytes()
    planes = reading.read(raw)
    assert planes.lost == ()
    assert planes.depth == 8 * size
    data, lost = writing.write(planes, "PPM")
    assert (data, lost) == (raw, ())
    assert reading.read(writing.write_png(planes)) == planes
    expected = np.floor(values * (255 if size == 1 else 65535) / maximum + 0.5)
    assert np.abs(reading.to_array(planes).ravel() - expected).max() == 0
    plain = b"P%d 6 4 %d " % (kind - 3, maximum) + b" ".join(b"%d" % v for v in values)
    assert reading.read(plain) == planes


def test_samples_above_the_largest_value_are_kept_as_they_are():
    for raw in (b"P5\n2 1\n1023\n\0\2\x1c\2", b"P5\n2 1\n100\nxy", b"P6\n1 1\n1\n\0\1\2"):
        planes = reading.read(raw)
        assert writing.write(planes, "PPM") == (raw, ())
        assert reading.read(writing.write_png(planes)) == planes


def test_comments_of_pnm_come_back():
    raw = b"P6\n# taken 2020-01\n#two\n1 1\n255\nabc"
    planes = reading.read(raw)
    assert metadata.unpack_text(metadata.unpack(planes.metadata, "RGB")[Tag.TEXT])[1] == Text(b"Comment", b"two")
    assert writing.write(planes, "PPM") == (raw, ())


def test_further_pictures_of_pnm_are_refused():
    raws = [b"P6 1 1 255\nabc", b"P5 2 1 1023\n\0\1\2\3", b"P4 9 1\nab", b"P2 1 1 9\n7\n"]
    for one, two in itertools.product(raws, raws):
        assert names(ledger.account("PPM", one + two)) == "a further picture"
        with pytest.raises(reading.UnsupportedImageError, match="2 frames"):
            reading.read(one + two)
        assert reading.read(one + two, first=True) == reading.read(one)
    assert "9 bytes behind the end" in names(ledger.account("PPM", raws[0] + b"P6 1 1 25"))


def test_fates_are_told_apart():
    found = ledger.account("JPEG", jpeg(segment(0xE5, b"abc"), segment(0xFE, b"note"), behind=b"x"))
    of = {fate: sum(c.end - c.start for c in found.claims if c.fate == fate) for fate in Fate}
    assert (of[Fate.LOST], of[Fate.KEPT]) == (7 + 1, 8 + 18)  # 18: JFIF
