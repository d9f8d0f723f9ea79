# SPDX-License-Identifier: MIT
"""Planes are written into lossless formats, and what a format does not give back is refused or named."""

import struct

import numpy as np
import pytest
from PIL import features
from samples import SIZES, png_with_everything, random_planes, tags_of

from gmcodec.errors import UnsupportedImageError
from gmcodec.image import metadata, reading, writing
from gmcodec.image.metadata import Tag
from gmcodec.image.planes import Planes

WRITABLE = [(f, m) for f, modes in writing._WRITABLE.items() for m in sorted(modes)]


@pytest.mark.parametrize(("format", "mode"), WRITABLE)
def test_write_and_read_other_formats(format, mode):
    if format == "WEBP" and not features.check("webp"):
        pytest.skip("Pillow without WebP")
    for size in SIZES:
        planes = random_planes(mode, size)
        again = reading.read(writing.write(planes, format).data, strip=True)
        assert (again.mode, again.data.tolist()) == (planes.mode, planes.data.tolist())


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
def test_colour_of_transparent_pixels_stays(format):
    planes = random_planes("RGBA")
    planes.data[3] = 0
    assert np.array_equal(reading.read(writing.write(planes, format).data).data, planes.data)


@pytest.mark.parametrize(
    ("format", "mode"),
    [
        ("PPM", "RGBA"),
        ("PPM", "P"),
        ("BMP", "LA"),
        ("BMP", "RGBA"),
        ("BMP", "I;16"),
        ("WEBP", "L"),
        ("WEBP", "I;16"),
        ("PNG", "CMYK"),
        ("PNG", "LAB;16"),
        ("JPEG", "RGB"),
        ("GIF", "P"),
        ("nonsense", "L"),
    ],
)
def test_formats_that_would_lose_are_refused(format, mode):
    with pytest.raises(UnsupportedImageError):
        writing.write(random_planes(mode), format)


@pytest.mark.parametrize("format", ["TIFF", "BMP", "PPM", "WEBP"])
def test_transparency_is_not_lost_silently(format):
    planes = reading.read(png_with_everything()[0])
    with pytest.raises(UnsupportedImageError, match="transparency"):
        writing.write(planes, format)


@pytest.mark.parametrize("format", ["TIFF", "BMP", "PPM", "WEBP"])
def test_what_a_format_does_not_give_back_is_named(format):
    planes = reading.read(png_with_everything()[0])
    tags = tags_of(planes)
    del tags[Tag.TRANSPARENCY], tags[Tag.EXIF]  # of which the orientation is a matter of its own
    planes = Planes(planes.data, "RGB", metadata.pack(tags))
    data, lost = writing.write(planes, format)
    again = reading.read(data)
    assert np.array_equal(again.data, planes.data)
    for tag, value in tags_of(planes).items():
        named = any(what.startswith(f"{tag.name} (") for what in lost)
        same = tags_of(again).get(tag) == value or (tag == Tag.DENSITY and format in ("TIFF", "BMP"))
        assert named != same, tag


@pytest.mark.parametrize("format", ["PNG", "TIFF", "PPM", "BMP", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "1", "P", "I;16", "LA"])
def test_nothing_is_invented(format, mode):
    if mode not in writing._WRITABLE[format]:
        return
    planes = random_planes(mode)
    data, lost = writing.write(planes, format)
    assert lost == ()
    assert tags_of(reading.read(data)).keys() == tags_of(planes).keys()


@pytest.mark.parametrize("metres", [1, 72, 2834, 2835, 3937, 11811, 39370, 1000003])
def test_density_of_bmp_and_tiff(metres):
    density = {Tag.DENSITY: struct.pack(">IIB", metres, metres + 1, 1)}
    planes = Planes(random_planes("RGB").data, "RGB", metadata.pack(density))
    for format in ("BMP", "TIFF", "PNG"):
        data, lost = writing.write(planes, format)
        assert lost == (), format
        assert reading.read(data).metadata == planes.metadata, format
