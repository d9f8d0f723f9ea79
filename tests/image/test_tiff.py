# SPDX-License-Identifier: MIT
"""TIFF: 16 bits a sample, orientations, EXIF, ink; what a reader of its own (tifffile, Pillow) makes of our files."""

import io
import struct
import sys

import numpy as np
import pytest
from PIL import Image
from samples import random_planes, saved, tags_of

from gmcodec.errors import ImageReadError, UnsupportedImageError
from gmcodec.image import metadata, reading, tiff, writing
from gmcodec.image.metadata import Tag
from gmcodec.image.modes import MODES
from gmcodec.image.planes import Planes

tifffile = pytest.importorskip("tifffile")
LIGHT = {"I;16": "minisblack", "LA;16": "minisblack", "RGB;16": "rgb", "RGBA;16": "rgb", "CMYK;16": 5, "LAB;16": 8}


def foreign(planes: Planes, **options: object) -> bytes:
    """A file that tifffile wrote."""
    out = io.BytesIO()
    samples = reading.to_array(planes)
    if planes.mode.startswith("LAB"):
        samples = samples ^ np.array([0, 32768, 32768], np.uint16)
    if options.get("planarconfig") == "separate":
        samples = samples.transpose(2, 0, 1)
    extra = {"extrasamples": ["unassalpha"]} if planes.mode in ("LA;16", "RGBA;16") else {}
    tifffile.imwrite(out, samples, **{"photometric": LIGHT[planes.mode], "metadata": None, **extra, **options})
    return out.getvalue()


@pytest.mark.parametrize("mode", LIGHT)
@pytest.mark.parametrize(
    "options",
    [{}, {"byteorder": ">"}, {"compression": "zlib", "predictor": True}, {"tile": (16, 16)}, {"bigtiff": True}],
)
def test_16_bits_of_other_writers(mode, options):
    planes = random_planes(mode, (21, 34))
    again = reading.read(foreign(planes, **options), strip=True)
    assert again == planes
    assert again.lost == ()


def test_planes_apart_and_zero_as_white():
    planes = random_planes("RGB;16", (21, 34))
    assert reading.read(foreign(planes, planarconfig="separate"), strip=True) == planes
    grey = random_planes("I;16", (21, 34))
    white = foreign(Planes(65535 - grey.data, "I;16"), photometric="miniswhite")
    assert reading.read(white, strip=True) == grey


@pytest.mark.parametrize("mode", sorted(MODES))
def test_our_files_are_what_others_read(mode):
    planes = random_planes(mode, (11, 6))
    data, lost = writing.write(planes, "TIFF")
    assert lost == ()
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        samples = file.pages[0].asarray()
    expected = reading.to_array(planes)
    if mode.startswith("LAB"):
        expected = expected ^ (np.array([0, 1, 1], expected.dtype) << planes.depth - 1)
    assert np.array_equal(samples, expected)
    if planes.depth < 16 or mode == "I;16":
        image = Image.open(io.BytesIO(data))
        assert image.mode == mode
        assert np.array_equal(np.asarray(image), np.asarray(reading.to_image(planes)))


def test_tall_files_have_strips():
    planes = random_planes("RGB", (3000, 200))
    data = writing.write(planes, "TIFF").data
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        assert len(file.pages[0].dataoffsets) == 7
        assert np.array_equal(file.pages[0].asarray(), reading.to_array(planes))


def with_exif(mode: str, orientation: int, order: str = "<") -> Planes:
    """Planes whose EXIF says how they are to be shown, and has a directory of its own."""
    made = tiff.Entry(36867, 2, 20, b"2020:01:02 03:04:05\0")
    entries = [
        tiff.integers(tiff.ORIENTATION, [orientation], order),
        tiff.Entry(271, 2, 6, b"maker\0"),
        tiff.Entry(tiff.EXIF_IFD, 4, 1, b"", None, tiff.Directory(0, 0, [made])),
    ]
    planes = random_planes(mode, (7, 11))
    return Planes(planes.data, mode, metadata.pack({Tag.EXIF: tiff.pack_exif(entries, order)}))


@pytest.mark.parametrize("mode", ["RGB", "RGB;16", "L", "1"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_into_tiff(mode, order, orientation):
    planes = with_exif(mode, orientation, order)
    data, lost = writing.write(planes, "TIFF")
    assert lost == ()
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        assert file.pages[0].tags[274].value == orientation
        assert np.array_equal(file.pages[0].asarray(), reading.to_array(planes))
    again = reading.read(data)
    shown = np.asarray(Image.open(io.BytesIO(data))) if mode != "RGB;16" else reading.to_array(again)
    assert np.array_equal(reading.to_array(again).squeeze(), shown)
    assert again.data.shape[1:] == ((7, 11) if orientation < 5 else (11, 7))
    exif = Image.Exif()
    exif.load(tags_of(again)[Tag.EXIF])
    assert (exif.get(274), exif[271], exif.get_ifd(34665)[36867]) == (None, "maker", "2020:01:02 03:04:05")


@pytest.mark.parametrize("format", ["PPM", "BMP"])
def test_an_orientation_is_not_lost(format):
    with pytest.raises(UnsupportedImageError, match="EXIF orientation"):
        writing.write(with_exif("RGB", 6), format)
    data, lost = writing.write(with_exif("RGB", 1), format)
    assert lost[0].startswith("EXIF (")
    assert reading.read(data, strip=True).data.shape == (3, 7, 11)


def test_orientation_is_kept_by_png_and_webp():
    planes = with_exif("RGB", 8)
    for format in ("PNG", "WEBP"):
        data, lost = writing.write(planes, format)
        assert lost == ()
        assert reading.read(data) == planes


def test_a_thumbnail_of_exif_is_missed():
    block = tags_of(with_exif("RGB", 1))[Tag.EXIF]
    end = 10 + 12 * 3
    chained = block[:end] + struct.pack("<I", len(block)) + block[end + 4 :] + struct.pack("<HI", 0, 0)
    planes = Planes(random_planes("RGB").data, "RGB", metadata.pack({Tag.EXIF: chained}))
    assert writing.write(planes, "TIFF").lost == (f"EXIF ({len(chained)} bytes)",)
    planes = Planes(planes.data, "RGB", metadata.pack({Tag.EXIF: b"no EXIF at all"}))
    assert writing.write(planes, "TIFF").lost == ("EXIF (14 bytes)",)


def test_without_tifffile_the_extra_is_named(monkeypatch):
    raw = foreign(random_planes("RGB;16"))
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(UnsupportedImageError, match=r'pip install "gmcodec\[tiff\]"'):
        reading.read(raw)
    with pytest.raises(UnsupportedImageError, match=r"gmcodec\[tiff\]"):
        writing.write(random_planes("RGB;16"), "TIFF")


@pytest.mark.parametrize(
    ("samples", "options"),
    [
        (np.zeros((5, 6, 3), np.int16), {"photometric": "rgb"}),
        (np.zeros((5, 6, 3), np.float16), {"photometric": "rgb"}),
        (np.zeros((5, 6, 4), np.uint16), {"photometric": "rgb", "extrasamples": ["assocalpha"]}),
        (np.zeros((5, 6, 5), np.uint16), {"photometric": "rgb", "extrasamples": ["unassalpha", "unspecified"]}),
        (np.zeros((5, 6, 3), np.uint32), {"photometric": "rgb"}),
        (np.zeros((2, 5, 6, 3), np.uint16), {"photometric": "rgb"}),
    ],
    ids=["signed", "float", "premultiplied", "five", "32 bits", "two pages"],
)
def test_other_samples_are_refused(samples, options):
    out = io.BytesIO()
    tifffile.imwrite(out, samples, metadata=None, **options)
    with pytest.raises((UnsupportedImageError, ImageReadError)):
        reading.read(out.getvalue())


def test_damage_is_an_error_of_its_own():
    raw = foreign(random_planes("RGB;16"), compression="zlib")
    for end in range(0, len(raw), 7):
        with pytest.raises((ImageReadError, UnsupportedImageError)):  # without a directory it is Pillow's to refuse
            reading.read(raw[:end])
    with pytest.raises(reading.ImageTooLargeError):
        reading.read(raw, max_pixels=44)


def test_ink_through_pillow():
    for mode in ("CMYK", "LAB"):
        planes = random_planes(mode, (8, 8))
        for format in ("TIFF", "JPEG") if mode == "CMYK" else ("TIFF",):
            raw = saved(reading.to_image(planes), format)
            again = reading.read(raw)
            assert (again.mode, again.lost) == (mode, ())
            if format == "TIFF":
                assert again == planes
