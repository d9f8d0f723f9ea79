# SPDX-License-Identifier: MIT
"""Files, Pillow images and arrays become integers and come back exactly, or a typed error says why not."""

import io
import struct
import zlib

import numpy as np
import png
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, features
from places import PNGSUITE
from samples import SIZES, chunk, png_with_everything, random_planes, saved, tags_of, with_chunks

from gmcodec.errors import GmcFormatError, ImageReadError, ImageTooLargeError, UnsupportedImageError
from gmcodec.image import metadata, reading, writing
from gmcodec.image.metadata import Tag, Text
from gmcodec.image.modes import MODES
from gmcodec.image.planes import Planes

SUITE_FILES = sorted(PNGSUITE.glob("*.png"))
PILLOW_MODES = [name for name, mode in MODES.items() if mode.depth < 16 or name == "I;16"]


def pypng_array(raw: bytes) -> np.ndarray:
    """The independent reader: [C, H, W], no transparency or palette applied."""
    width, height, rows, _ = png.Reader(bytes=raw).read()
    return np.array([list(row) for row in rows]).reshape(height, width, -1).transpose(2, 0, 1)


# --- PNG ---------------------------------------------------------------------------------------------------


def test_pngsuite_is_there():
    if not SUITE_FILES:
        pytest.skip("PngSuite is not in ../shared/data/pngsuite")
    assert len(SUITE_FILES) > 170


@pytest.mark.parametrize("path", [p for p in SUITE_FILES if p.name[0] != "x"], ids=lambda p: p.stem)
def test_pngsuite_round_trip(path):
    planes = reading.read(path)
    again = reading.read(writing.write_png(planes))
    assert again == planes
    bits, kind = path.read_bytes()[24:26]
    if bits == 16:
        np.testing.assert_array_equal(planes.data, pypng_array(path.read_bytes()))
    else:
        with Image.open(path) as image:
            array = np.asarray(image).reshape(planes.height, planes.width, -1)
            np.testing.assert_array_equal(planes.data, array.transpose(2, 0, 1))
            assert (image.mode == "P") == (kind == 3)
    if planes.mode in PILLOW_MODES:  # what Pillow shows of it is the same, too
        ours = reading.to_image(planes)
        with Image.open(path) as image:
            if "transparency" not in image.info or (bits, kind) == (8, 3):
                shown = "I" if planes.mode == "I;16" else "RGBA"
                np.testing.assert_array_equal(np.asarray(ours.convert(shown)), np.asarray(image.convert(shown)))


@pytest.mark.parametrize("path", [p for p in SUITE_FILES if p.name[0] == "x"], ids=lambda p: p.stem)
def test_pngsuite_corrupt(path):
    with pytest.raises((ImageReadError, UnsupportedImageError)):
        reading.read(path)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("mode", sorted(writing._WRITABLE["PNG"]))
def test_png_round_trip(mode, size):
    planes = random_planes(mode, size)
    raw = writing.write_png(planes)
    assert reading.read(raw) == planes
    np.testing.assert_array_equal(pypng_array(raw), planes.data)


@pytest.mark.parametrize("interlace", [False, True])
@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("I;16", {"greyscale": True}),
        ("LA;16", {"greyscale": True, "alpha": True}),
        ("RGB;16", {"greyscale": False}),
        ("RGBA;16", {"greyscale": False, "alpha": True}),
    ],
)
def test_16_bits_are_not_truncated(mode, options, interlace):
    planes = random_planes(mode, (11, 6))
    out = io.BytesIO()
    rows = planes.data.transpose(1, 2, 0).reshape(11, -1)
    png.Writer(6, 11, bitdepth=16, interlace=interlace, **options).write(out, rows.tolist())
    assert reading.read(out.getvalue()) == planes


def test_smooth_rows_use_every_filter():
    y, x = np.mgrid[:130, :97]
    planes = reading.from_array(np.stack([x + y, x * y // 40, (x - y) % 256], 2).astype(np.uint8))
    raw = writing.write_png(planes)
    np.testing.assert_array_equal(pypng_array(raw), planes.data)
    assert len(raw) < planes.dimensions // 8


@pytest.mark.parametrize("bits", [2, 4])
def test_grey_of_few_bits_is_widened_with_its_colour_key(bits):
    values = np.arange(1 << bits)
    out = io.BytesIO()
    png.Writer(1 << bits, 1, greyscale=True, bitdepth=bits, transparent=1).write(out, [values.tolist()])
    planes = reading.read(out.getvalue())
    factor = 255 // ((1 << bits) - 1)
    assert planes.data[0, 0].tolist() == (values * factor).tolist()
    assert tags_of(planes)[Tag.TRANSPARENCY] == struct.pack(">H", factor)


# --- metadata ----------------------------------------------------------------------------------------------


def test_png_metadata_round_trip():
    raw, icc = png_with_everything()
    planes = reading.read(raw)
    tags = tags_of(planes)
    assert reading.read(writing.write_png(planes)) == planes
    assert [tag for tag, _ in planes.metadata] == [2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 16]
    assert tags[Tag.ICC] == icc
    assert tags[Tag.XMP] == b"<x:xmpmeta/>"
    assert tags[Tag.EXIF][:4] in (b"II*\0", b"MM\0*")
    assert metadata.unpack_text(tags[Tag.TEXT]) == [
        Text(b"Title", b"caf\xe9"),
        Text(b"Title", b"again"),
        Text(b"Author", "J\u00f6rg \u2603".encode(), True, b"de", b"Autor"),
    ]
    assert tags[Tag.DENSITY] == struct.pack(">IIB", 2835, 3937, 1)
    assert planes.data.shape == (3, 5, 9)  # the orientation is not applied


def test_pillow_metadata_round_trip():
    raw, _ = png_with_everything()
    planes = reading.read(raw)
    image = reading.to_image(planes)
    with Image.open(io.BytesIO(raw)) as theirs:
        theirs.load()
        for key, value in theirs.info.items():
            if key not in ("XML:com.adobe.xmp", "interlace"):
                assert image.info[key] == value, key
        from_pillow = reading.from_image(theirs)
    again = reading.from_image(image)
    for other in (again, from_pillow):
        kept = {t: v for t, v in tags_of(planes).items() if t < Tag.CICP and t != Tag.TEXT}
        assert {t: v for t, v in tags_of(other).items() if t != Tag.TEXT} == kept
        texts = metadata.unpack_text(tags_of(other)[Tag.TEXT])
        assert set(texts) == set(metadata.unpack_text(tags_of(planes)[Tag.TEXT])[1:])


def test_strip_keeps_what_pixels_mean():
    assert [tag for tag, _ in reading.read(png_with_everything()[0], strip=True).metadata] == [2]
    image = reading.to_image(random_planes("P"))
    image.info.update(transparency=3, dpi=(72, 72), icc_profile=b"x")
    planes = reading.from_image(image, strip=True)
    assert [tag for tag, _ in planes.metadata] == [1, 2]
    assert reading.to_image(planes).info == {"transparency": 3}


@pytest.mark.parametrize(
    ("mode", "key"),
    [
        ("1", 255),
        ("L", 7),
        ("I;16", 40000),
        ("RGB", (1, 2, 3)),
        ("P", 4),
        ("P", b"\x01\x80\xff\x07"),
    ],
)
def test_transparency_round_trip(mode, key):
    image = reading.to_image(random_planes(mode))
    image.info["transparency"] = key
    planes = reading.from_image(image)
    assert reading.to_image(planes).info["transparency"] == key
    raw = writing.write_png(planes)
    assert reading.read(raw) == planes
    with Image.open(io.BytesIO(raw)) as again:
        again.load()
        assert again.info["transparency"] == key


def test_rgba_palette_becomes_palette_and_transparency():
    image = Image.frombytes("P", (3, 1), b"\0\1\2")
    image.putpalette(bytes([1, 2, 3, 4, 5, 6, 7, 255, 9, 10, 11, 12]), "RGBA")
    planes = reading.from_image(image)
    assert tags_of(planes) == {
        Tag.PALETTE: bytes([1, 2, 3, 5, 6, 7, 9, 10, 11]),
        Tag.TRANSPARENCY: b"\4\xff\14",
    }
    assert np.array_equal(np.asarray(reading.to_image(planes).convert("RGBA")), np.asarray(image.convert("RGBA")))
    assert reading.read(writing.write_png(planes)) == planes


def test_palette_longer_than_used_stays():
    image = Image.frombytes("P", (2, 1), b"\0\1")
    image.putpalette(bytes(range(60)))
    planes = reading.from_image(image)
    assert tags_of(planes)[Tag.PALETTE] == bytes(range(60))
    assert reading.from_image(reading.to_image(planes)) == planes == reading.read(writing.write_png(planes))


def test_jpeg_keeps_its_metadata():
    exif = Image.Exif()
    exif[274] = 3
    image = reading.to_image(random_planes("RGB", (16, 16)))
    raw = saved(image, "JPEG", exif=exif, dpi=(300, 300), comment=b"hi", icc_profile=b"p" * 200, xmp=b"<x/>")
    planes = reading.read(raw)
    with Image.open(io.BytesIO(raw)) as theirs:
        assert np.array_equal(reading.to_array(planes), np.asarray(theirs))
        info = reading.to_image(planes).info
        assert {k: info[k] for k in ("exif", "dpi", "icc_profile", "xmp")} == {
            k: theirs.info[k] for k in ("exif", "dpi", "icc_profile", "xmp")
        }
    assert info["Comment"] == "hi"
    assert reading.from_image(reading.to_image(planes)) == planes


@pytest.mark.parametrize("dpi", [float("nan"), (0, 0), (float("inf"), 1), "x", (1,), (-1, -1), None])
def test_odd_dpi_is_dropped_and_not_fatal(dpi):
    image = Image.new("L", (2, 2))
    image.info.update(dpi=dpi, gamma="?", chromaticity=(1, 2))
    planes = reading.from_image(image)
    assert reading.read(writing.write_png(planes)) == planes


def test_metadata_bytes_are_frozen():
    tags = {Tag.TEXT: metadata.pack_text([Text(b"k", b"v"), Text(b"k", b"w" * 200, True, b"de", b"K")])}
    assert tags[Tag.TEXT] == b"\0\1k\1v\1\1k\2de\1K\xc8\1" + b"w" * 200
    assert metadata.pack({Tag.PALETTE: b"abc", Tag.GAMMA: b"\0\0\1\2"}) == ((1, b"\0abc"), (9, b"\0\0\1\2"))
    assert {t.name: int(t) for t in Tag}["XMP"] == 5
    assert [(m.name, m.id) for m in MODES.values()] == [
        ("1", 1), ("L", 2), ("LA", 3), ("P", 4), ("RGB", 5), ("RGBA", 6),
        ("I;16", 7), ("LA;16", 8), ("RGB;16", 9), ("RGBA;16", 10),
        ("CMYK", 11), ("LAB", 12), ("CMYK;16", 13), ("LAB;16", 14),
    ]  # fmt: skip


def parse_or_refuse(pairs, mode):
    """Everything that reads metadata: it works or raises GmcFormatError."""
    data = random_planes(mode).data
    try:
        planes = Planes(data, mode, tuple(pairs))
        raw = writing.write_png(planes)
        reading.to_image(planes) if mode in PILLOW_MODES else None
    except GmcFormatError:
        return
    assert np.array_equal(reading.read(raw).data, data)


def test_every_truncation_of_metadata():
    planes = reading.read(png_with_everything()[0])
    for i, (tag, value) in enumerate(planes.metadata):
        for cut in range(0, len(value), 1 + len(value) // 40):
            parse_or_refuse((*planes.metadata[:i], (tag, value[:cut]), *planes.metadata[i + 1 :]), "RGB")


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.integers(-1, 20), st.binary(max_size=40)), max_size=4),
    st.sampled_from(["P", "RGB", "1", "LA;16"]),
    st.booleans(),
)
def test_random_metadata(pairs, mode, tidy):
    parse_or_refuse(dict(sorted(pairs)).items() if tidy else pairs, mode)


def test_metadata_bombs_and_disorder_are_refused():
    bomb = b"\1" + zlib.compress(bytes(metadata.MAX_VALUE_BYTES + 1), 9)
    for pairs in (
        [(3, bomb)],
        [(4, b"\0"), (3, b"\0")],
        [(3, b"\0"), (3, b"\0")],
        [(1, b"\0abc")],
        [(6, b"\0\0\xff\xff")],
    ):
        with pytest.raises(GmcFormatError):
            metadata.unpack(pairs, "RGB")


def test_unknown_tag_is_skipped_with_a_warning(caplog):
    assert metadata.unpack([(99, b"?")], "L") == {}
    assert "99" in caplog.text


# --- arrays and Planes -------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.data(), st.sampled_from([np.uint8, np.uint16, np.dtype(">u2")]))
def test_array_round_trip(data, dtype):
    shape = data.draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=6))
    channels = data.draw(st.sampled_from([None, 2, 3, 4]))
    array = data.draw(hnp.arrays(dtype, shape if channels is None else (*shape, channels)))
    planes = reading.from_array(array)
    assert planes.mode in ("L LA RGB RGBA" if array.dtype.itemsize == 1 else "I;16 LA;16 RGB;16 RGBA;16")
    np.testing.assert_array_equal(reading.to_array(planes), array)
    assert reading.read(writing.write_png(planes)) == planes
    assert planes.data.flags.c_contiguous
    assert (planes.height, planes.width, planes.dimensions) == (*shape, array.size)
    if planes.mode in PILLOW_MODES:
        assert reading.from_image(reading.to_image(planes)) == planes


@pytest.mark.parametrize("array", [
    np.zeros((0, 3), np.uint8), np.zeros((3, 0, 3), np.uint8), np.zeros((2, 2, 0), np.uint8),
    np.zeros((2, 2, 5), np.uint8), np.zeros(4, np.uint8), np.zeros((1, 2, 2, 3), np.uint8), np.zeros((2, 2)),
    np.zeros((2, 2), np.int16), np.zeros((2, 2), np.uint32), np.zeros((2, 2), bool), [], "x", None,
])  # fmt: skip
def test_odd_arrays_are_refused(array):
    with pytest.raises(UnsupportedImageError):
        reading.from_array(array)


@pytest.mark.parametrize(
    ("data", "mode"),
    [
        (np.zeros((1, 2, 2), np.uint8), "RGB"),
        (np.zeros((3, 2, 2), np.uint16), "RGB"),
        (np.full((1, 2, 2), 2, np.uint8), "1"),
        (np.zeros((1, 2, 2), np.uint8), "CMYK"),
    ],
)
def test_planes_check_themselves(data, mode):
    with pytest.raises(UnsupportedImageError):
        Planes(data, mode)


# --- Pillow images -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("mode", PILLOW_MODES)
def test_image_round_trip(mode, size):
    planes = random_planes(mode, size)
    image = reading.to_image(planes)
    assert image.mode == mode
    assert reading.from_image(image) == planes
    if mode != "LAB":  # a and b of Pillow are signed
        np.testing.assert_array_equal(np.asarray(image), reading.to_array(planes))


@pytest.mark.parametrize("mode", ["LA;16", "RGB;16", "RGBA;16", "CMYK;16", "LAB;16"])
def test_16_bit_colour_has_no_pillow_image(mode):
    with pytest.raises(UnsupportedImageError, match="to_array"):
        reading.to_image(random_planes(mode))


@pytest.mark.parametrize("mode", ["I;16L", "I;16B", "I;16N"])
def test_byte_orders_of_16_bit_grey(mode):
    image = Image.frombytes(mode, (2, 1), b"\1\2\3\4")
    expected = [0x102, 0x304] if mode == "I;16B" else [0x201, 0x403]
    assert reading.from_image(image) == reading.from_array(np.array([expected], np.uint16))


@pytest.mark.parametrize("mode", ["YCbCr", "HSV", "F", "I", "La", "RGBa", "RGBX", "PA"])
def test_refused_modes_are_named(mode):
    with pytest.raises(UnsupportedImageError, match=f"mode {mode} "):
        reading.from_image(Image.new(mode, (2, 2)))


def test_empty_image_is_refused():
    with pytest.raises(UnsupportedImageError, match="empty"):
        reading.from_image(Image.new("L", (0, 3)))


def test_16_bit_colour_through_pillow_is_refused():
    raw = writing.write_png(random_planes("RGB;16"))
    with Image.open(io.BytesIO(raw)) as image, pytest.raises(UnsupportedImageError, match="16-bit"):
        reading.from_image(image)


# --- other formats -----------------------------------------------------------------------------------------


def test_exact_readers():
    rgb = reading.to_image(random_planes("RGB", (8, 8)))
    for format in ("BMP", "TGA", "PCX", "QOI", "SGI", "TIFF", "PPM"):
        assert np.array_equal(reading.to_array(reading.read(saved(rgb, format))), np.asarray(rgb)), format
    gif = reading.read(saved(reading.to_image(random_planes("P")), "GIF"))
    assert gif.mode == "P"


def ppm(head: bytes, *values: int, bits=8) -> bytes:
    return head + b"".join(v.to_bytes(bits // 8, "big") for v in values)


def test_16_bit_pgm_is_kept():
    planes = random_planes("I;16")
    head = b"P5 9 5 65535\n"
    assert reading.read(head + planes.data.astype(">u2").tobytes()) == planes
    assert reading.read(b"P2 2 1 65535\n1 65535\n") == reading.from_array(np.array([[1, 65535]], np.uint16))


def tiff_rgb16() -> bytes:
    """One RGB pixel of 16 bits, little-endian, uncompressed."""
    entries = [(256, 3, 1, 1), (257, 3, 1, 1), (258, 3, 3, 8), (259, 3, 1, 1), (262, 3, 1, 2),
               (273, 4, 1, 14), (277, 3, 1, 3), (278, 3, 1, 1), (279, 4, 1, 6)]  # fmt: skip
    ifd = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *e) for e in entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", 20) + struct.pack("<3H", 16, 16, 16) + b"\1\2\3\4\5\6" + ifd


INEXACT = {
    "pfm": b"Pf 1 1 -1.0\n\0\0\0\0",
    "tiff float": saved(Image.new("F", (2, 2)), "TIFF"),
    "tiff int32": saved(Image.new("I", (2, 2)), "TIFF"),
    "sgi 16": saved(Image.new("RGB", (2, 2)), "SGI", bpc=2),
}


@pytest.mark.parametrize("raw", INEXACT.values(), ids=INEXACT.keys())
def test_inexact_files_are_refused(raw):
    with pytest.raises(UnsupportedImageError):
        reading.read(raw)


@pytest.mark.skipif(not features.check("jpg_2000"), reason="Pillow without JPEG 2000")
def test_jpeg_2000_depths():
    for mode in ("L", "I;16", "RGB", "RGBA"):
        planes = random_planes(mode, (40, 40))
        assert np.array_equal(reading.read(saved(reading.to_image(planes), "JPEG2000")).data, planes.data)
    raw = bytearray(saved(reading.to_image(random_planes("RGB", (40, 40))), "JPEG2000", no_jp2=True))
    raw[42] = raw[45] = raw[48] = 15
    with pytest.raises(UnsupportedImageError, match="16"):
        reading.read(bytes(raw))


@pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")
def test_avif_depths():
    raw = saved(reading.to_image(random_planes("RGB", (16, 16))), "AVIF")
    assert reading.read(raw).data.shape == (3, 16, 16)
    deep = bytearray(raw)
    deep[raw.index(b"av1C") + 6] |= 0x40
    with pytest.raises((UnsupportedImageError, ImageReadError)):
        reading.read(bytes(deep))


@pytest.mark.parametrize("format", ["GIF", "PNG", "TIFF", "WEBP"])
def test_several_frames_are_refused(format):
    frames = [Image.new("RGB", (4, 4), (i, 9 * i, 0)) for i in (10, 20, 30)]
    raw = saved(frames[0], format, save_all=True, append_images=frames[1:])
    with pytest.raises(UnsupportedImageError, match="3 frames"):
        reading.read(raw)
    with Image.open(io.BytesIO(raw)) as image:
        with pytest.raises(UnsupportedImageError, match="3 frames"):
            reading.from_image(image)
        assert reading.from_image(image.copy()).width == 4


# --- sources, damage, bombs --------------------------------------------------------------------------------


def test_sources(tmp_path):
    planes = random_planes("RGB")
    raw = writing.write_png(planes)
    path = tmp_path / "a.png"
    path.write_bytes(raw)
    for source in (path, str(path), raw, bytearray(raw), io.BytesIO(raw)):
        assert reading.read(source) == planes
    with pytest.raises(FileNotFoundError):
        reading.read(tmp_path / "none.png")
    with pytest.raises(OSError, match="directory"):
        reading.read(tmp_path)


@pytest.mark.parametrize("raw", [b"", b"\0", b"hello world" * 20, b"\x89PNG\r\n\x1a\n", b"P5", b"BM", b"GIF89a"])
def test_no_image(raw):
    with pytest.raises(ImageReadError):
        reading.read(raw)


@pytest.mark.parametrize("mode", ["1", "P", "RGB", "RGBA;16"])
def test_every_truncation_and_flipped_byte_of_a_png(mode):
    planes = random_planes(mode, (3, 4))
    raw = writing.write_png(planes)
    for cut in range(len(raw)):
        with pytest.raises(ImageReadError):
            reading.read(raw[:cut])
        damaged = raw[:cut] + bytes([raw[cut] ^ 16]) + raw[cut + 1 :]
        with pytest.raises(ImageReadError):
            reading.read(damaged, max_pixels=10**6)


@pytest.mark.parametrize("format", ["JPEG", "TIFF", "BMP", "PPM", "GIF", "WEBP", "QOI", "SGI", "JPEG2000", "AVIF"])
def test_truncated_files(format):
    noise = reading.to_image(random_planes("RGB", (33, 32)))
    raw = saved(noise, format)
    for part in (3, 20, len(raw) // 3, len(raw) // 2, len(raw) - 200):
        with pytest.raises((ImageReadError, ImageTooLargeError)):
            reading.read(raw[:part])


@pytest.mark.skipif(not features.check("jpg_2000"), reason="Pillow without JPEG 2000")
def test_every_truncation_of_jpeg_2000():
    raw = saved(reading.to_image(random_planes("L", (6, 6))), "JPEG2000")
    for cut in range(len(raw)):
        with pytest.raises(ImageReadError):
            reading.read(raw[:cut])


def test_png_with_too_few_rows():
    header = struct.pack(">IIBBBBB", 10, 10, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes(11 * 9))
    raw = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    with pytest.raises(ImageReadError, match="11 bytes early"):
        reading.read(raw)


def test_bad_ancillary_chunks_are_named():
    raw = with_chunks(
        writing.write_png(random_planes("L")), (b"gAMA", b"?"), (b"zTXt", b"k\0\0junk"),
        (b"iCCP", b"n\0\0junk"),
        (b"iTXt", b"k\0"), (b"tEXt", b"\0v"), (b"bKGD", b"\0"),
    )  # fmt: skip
    planes = reading.read(raw)
    assert planes == random_planes("L")
    assert len(planes.lost) == 6
    assert all("malformed" in loss.what for loss in planes.lost)


BOMBS = {
    "png": b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)),
    "ppm": b"P6 60000 60000 255\n",
    "bmp": b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, 60000, 60000, 1, 24, 0, 0, 0, 0, 0, 0),
    "gif": b"GIF89a" + struct.pack("<HHBBB", 60000, 60000, 0, 0, 0) + b"," + struct.pack("<4HBB", 0, 0, 1, 1, 0, 8),
    "qoi": b"qoif" + struct.pack(">IIBB", 60000, 60000, 3, 0) + bytes(8),
}


@pytest.mark.parametrize("raw", BOMBS.values(), ids=BOMBS.keys())
def test_bombs_are_refused_from_the_header(raw):
    before = Image.MAX_IMAGE_PIXELS
    with pytest.raises(ImageTooLargeError, match="60000x60000"):
        reading.read(raw)
    assert Image.MAX_IMAGE_PIXELS == before


def test_max_pixels():
    for format in ("PNG", "BMP"):
        raw = writing.write(random_planes("RGB", (5, 9)), format).data
        assert reading.read(raw, max_pixels=45).dimensions == 135
        with pytest.raises(ImageTooLargeError, match="limit is 44"):
            reading.read(raw, max_pixels=44)


def test_pillow_limit_does_not_apply(monkeypatch):
    raws = [writing.write(random_planes("RGB"), format).data for format in ("PNG", "BMP", "TIFF", "PPM")]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3)
    for raw in raws:
        assert reading.read(raw, max_pixels=None).width == 9


@pytest.mark.parametrize(
    "format", ["PNG", "JPEG", "TIFF", "BMP", "DIB", "PPM", "GIF", "WEBP", "TGA", "SGI", "QOI", "PCX"]
)
def test_sizes_from_headers(format):
    image = reading.to_image(random_planes("P" if format == "GIF" else "RGB", (5, 9)))
    assert reading.read_size(saved(image, format)) == (9, 5)


def test_sizes_of_what_pillow_does_not_decode():
    assert reading.read_size(writing.write(random_planes("RGB;16", (5, 9)), "TIFF").data) == (9, 5)
    assert reading.read_size(saved(reading.to_image(random_planes("RGBA", (5, 9))), "BMP")) == (9, 5)
    with pytest.raises(ImageReadError):
        reading.read_size(b"no image")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "LAB", "I;16", "I;16B"])
@pytest.mark.parametrize("height", [1, 6, 7])
def test_large_images_are_read_in_bands(mode: str, height: int, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(height)
    if mode.startswith("I;16"):
        samples = random.integers(0, 65536, (height, 5, 1)).astype(">u2" if mode.endswith("B") else "<u2")
        image = Image.frombytes(mode, (5, height), samples.tobytes())
    else:
        bands = len(Image.new(mode, (1, 1)).getbands())
        samples = random.integers(0, 256, (height, 5, bands), np.uint8)
        if mode == "1":
            samples = samples & 1
            image = Image.fromarray(samples[..., 0] * 255).convert("1")
        else:
            image = Image.frombytes(mode, (5, height), samples.tobytes())
    whole = reading.from_image(image)
    monkeypatch.setattr("gmcodec.image.planes._BAND_PIXELS", 12)  # two rows
    banded = reading.from_image(image)
    assert banded == whole
    expected = samples ^ np.array([0, 128, 128], np.uint8) if mode == "LAB" else samples
    assert np.array_equal(banded.data, expected.transpose(2, 0, 1))
