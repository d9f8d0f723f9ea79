# SPDX-License-Identifier: MIT
"""What is not kept is said; it keeps the source from being deleted, and with --strict nothing is written."""

from __future__ import annotations

import array
import io
import logging
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from samples import chunk, random_planes, saved, with_chunks

import gmcodec
from gmcodec import codec
from gmcodec.cli.main import cli
from gmcodec.errors import NotKeptError, UnsupportedImageError
from gmcodec.image import reading as pixels

pytestmark = pytest.mark.usefixtures("toy_weights")
NOT_KEPT = NotKeptError.exit_code


def run(*args: str | Path) -> Result:
    result = CliRunner().invoke(cli, [str(a) for a in args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def image(mode: str = "RGB") -> Image.Image:
    return pixels.to_image(random_planes(mode, (9, 7)))


SECOND = saved(image("L"), "JPEG")
LOSING = {  # a file, and what is to be named
    "a.png": (saved(image(), "PNG") + b"PK\3\4 archive", "12 bytes behind the end (ZIP)"),
    "b.jpg": (saved(image(), "JPEG") + SECOND, f"{len(SECOND)} bytes behind the end (JPEG)"),
    "c.jpg": (saved(image(), "JPEG") + b"\0\0\0\x18ftypmp42" + bytes(50), "62 bytes behind the end (MP4"),
    "d.png": (with_chunks(saved(image(), "PNG"), (b"gAMA", bytes(3)), (b"gAMA", bytes(4))), "malformed chunk gAMA"),
    "e.gif": (saved(image("P"), "GIF") + b"GIF89a", "6 bytes behind the end"),
    "f.ppm": (saved(image(), "PPM") + b"trailer", "7 bytes behind the end"),
    "g.bmp": (saved(image(), "BMP") + b"trailer", "7 bytes behind the end"),
    "h.webp": (saved(image(), "WEBP", lossless=True) + b"trailer", "7 bytes behind the end"),
    "i.tga": (b"\4" + saved(image(), "TGA")[1:18] + b"name" + saved(image(), "TGA")[18:], "identification"),
    "j.jpg": (saved(image(), "JPEG")[:2] + b"\xff\xeb\0\7jumbf" + saved(image(), "JPEG")[2:], "APP11 segment"),
}


@pytest.mark.parametrize("name", LOSING)
def test_delete_keeps_a_source_that_is_not_kept_whole(tmp_path: Path, name: str) -> None:
    source, (raw, named) = tmp_path / name, LOSING[name]
    source.write_bytes(raw)
    result = run("compress", source)
    assert result.exit_code == 0
    assert f"{source}: warning: not kept: " in result.output
    assert named in result.output
    result = run("compress", source, "--force", "--delete")
    assert result.exit_code == NOT_KEPT
    assert source.read_bytes() == raw
    lines = [line for line in result.output.splitlines() if named in line]
    assert len(lines) == 1
    assert "the source is kept" in lines[0]
    assert pixels.read(source) == codec.decode_planes((tmp_path / name).with_suffix(".gmc").read_bytes())
    source.with_suffix(".gmc").unlink()
    result = run("compress", source, "--strict")
    assert result.exit_code == NOT_KEPT
    assert named in result.output
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_delete_of_what_is_kept_whole(tmp_path: Path) -> None:
    for name, raw in {
        "a.png": with_chunks(saved(image(), "PNG"), (b"prVt", b"private"), (b"gAMA", bytes([0, 0, 1, 1]))),
        "b.jpg": saved(image(), "JPEG", comment="a comment", dpi=(300, 300)),
        "c.ppm": b"P6\n# comment\n1 1\n100\nabc",
    }.items():
        (tmp_path / name).write_bytes(raw)
        result = run("compress", tmp_path / name, "--delete", "--strict")
        assert result.exit_code == 0, result.output
        assert not (tmp_path / name).exists()


def test_stripping_gives_up_metadata_but_not_content(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(LOSING["j.jpg"][0])
    assert run("compress", tmp_path / "a.jpg", "--strip", "--delete").exit_code == 0
    assert not (tmp_path / "a.jpg").exists()
    (tmp_path / "b.jpg").write_bytes(LOSING["b.jpg"][0])
    assert run("compress", tmp_path / "b.jpg", "--strip", "--delete").exit_code == NOT_KEPT
    assert (tmp_path / "b.jpg").exists()


def test_first_of_several(tmp_path: Path) -> None:
    frames = [image("L"), image("L").rotate(180)]
    for name in ("a.gif", "a.tif", "a.png", "a.webp"):
        options = {"lossless": True} if name.endswith("webp") else {}
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
        (tmp_path / "a.gmc").unlink(missing_ok=True)
        result = run("compress", tmp_path / name)
        assert result.exit_code == 3
        assert "--first" in result.output
        result = run("compress", tmp_path / name, "--first", "--delete")
        assert result.exit_code == NOT_KEPT, name
        assert (tmp_path / name).exists()
        with Image.open(tmp_path / name) as first:
            expected = np.asarray(first.convert("RGB"))
        kept = gmcodec.decode((tmp_path / "a.gmc").read_bytes()).convert("RGB")
        assert np.array_equal(np.asarray(kept), expected), name


def test_what_a_format_cannot_hold(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(with_chunks(saved(image(), "PNG"), (b"tEXt", b"key\0value")))
    run("compress", tmp_path / "a.png")
    result = run("decompress", tmp_path / "a.gmc", "--format", "bmp")
    assert result.exit_code == 0
    assert "warning: BMP cannot hold TEXT (11 bytes)" in result.output
    (tmp_path / "a.bmp").unlink()
    result = run("decompress", tmp_path / "a.gmc", "--format", "bmp", "--strict")
    assert result.exit_code == NOT_KEPT
    assert not (tmp_path / "a.bmp").exists()
    result = run("decompress", tmp_path / "a.gmc", "--format", "bmp", "--delete")
    assert (result.exit_code, (tmp_path / "a.gmc").exists()) == (NOT_KEPT, True)
    assert "the source is kept: BMP cannot hold TEXT" in result.output
    result = run("decompress", tmp_path / "a.gmc", "--format", "bmp", "--delete", "--strip", "--force")
    assert (result.exit_code, (tmp_path / "a.gmc").exists()) == (0, False)


def test_ink_goes_to_tiff(tmp_path: Path) -> None:
    image("CMYK").save(tmp_path / "a.tif")
    assert run("compress", tmp_path / "a.tif", "--delete").exit_code == 0
    assert run("decompress", tmp_path / "a.gmc", "--format", "png").exit_code == 3
    assert run("decompress", tmp_path / "a.gmc").exit_code == 0
    with Image.open(tmp_path / "a.tiff") as back:
        assert np.array_equal(np.asarray(back), np.asarray(image("CMYK")))


# -- the library --------------------------------------------------------------------------------------------


def test_the_library_warns_or_refuses(caplog: pytest.LogCaptureFixture) -> None:
    raw = LOSING["a.png"][0]
    with caplog.at_level(logging.WARNING, "gmcodec"):
        data = codec.encode(raw)
    assert caplog.messages == ["not kept: 12 bytes behind the end (ZIP)"]
    with pytest.raises(NotKeptError, match="ZIP"):
        codec.encode(raw, strict=True)
    assert codec.decode_planes(data) == pixels.read(raw)
    assert codec.decode_planes(codec.encode(saved(image(), "PNG"), strict=True)).mode == "RGB"


def test_whatever_holds_bytes_or_samples() -> None:
    raw, samples = saved(image(), "PNG"), np.asarray(image())
    expected = codec.encode(raw)

    class Holder:
        def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
            return samples

    at_end = io.BytesIO()
    image().save(at_end, "PNG")
    assert at_end.tell() == len(raw)
    for source in (raw, bytearray(raw), memoryview(raw), memoryview(array.array("B", raw)), io.BytesIO(raw), at_end,
                   samples, Holder(), image(), memoryview(samples) and samples[:]):  # fmt: skip
        assert codec.encode(source) == expected
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as end:
        end.write(raw)
    with os.fdopen(reading, "rb") as pipe:  # which has no start to go back to
        assert codec.encode(pipe) == expected


@pytest.mark.parametrize("source", [None, 7, object(), {"a": 1}])
def test_what_holds_no_image_is_refused(source: object) -> None:
    with pytest.raises(UnsupportedImageError, match="holds no image"):
        codec.encode(source)


def test_iend_with_a_body_and_a_chunk_behind_it() -> None:
    raw = saved(image(), "PNG")
    assert "behind the end" in pixels.read(raw + chunk(b"tEXt", b"k\0v")).lost[0].what
    assert pixels.read(raw + struct.pack(">I", 0)).lost == ()  # four zeros are no message
