# SPDX-License-Identifier: MIT
"""Pillow opens and saves .gmc: same pixels and metadata, nothing decoded early, Pillow's own errors."""

from __future__ import annotations

import importlib
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy
from PIL import Image, UnidentifiedImageError

import gmcodec.pillow_plugin as plugin
from gmcodec import codec

pytestmark = pytest.mark.usefixtures("toy_weights")


def make(mode: str) -> Image.Image:
    """A small image of a mode, with a palette or profile where there can be one."""
    rgb = Image.fromarray(toy.smooth(np.random.default_rng(1), (3, 17, 23)).transpose(1, 2, 0))
    if mode == "I;16":
        return Image.fromarray(np.arange(17 * 23, dtype=np.uint16).reshape(17, 23) * 150)
    image = rgb.quantize(16) if mode == "P" else rgb.convert(mode)
    image.info["icc_profile"] = b"not really a profile"
    return image


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_save_and_open(mode: str, tmp_path: Path) -> None:
    image = make(mode)
    image.save(tmp_path / "a.gmc")
    with Image.open(tmp_path / "a.gmc") as again:
        assert (again.format, again.mode, again.size) == ("GMC", mode, image.size)
        assert again.info.get("icc_profile") == image.info.get("icc_profile")
        assert again.get_format_mimetype() == "image/x-gmc"
        assert again.tobytes() == image.tobytes()
        assert again.convert("RGBA").tobytes() == image.convert("RGBA").tobytes()


def test_open_does_not_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    data = codec.encode(make("RGB"))
    calls = []
    real = codec.decode_planes
    monkeypatch.setattr(codec, "decode_planes", lambda *a, **k: calls.append(1) or real(*a, **k))
    image = Image.open(io.BytesIO(data))
    assert image.size == (23, 17)
    assert not calls
    image.load()
    image.load()
    assert len(calls) == 1


def test_a_copy_saved_over_the_opened_file(tmp_path: Path) -> None:
    path = tmp_path / "a.gmc"
    make("RGB").save(path)
    image = Image.open(path)
    image.save(path)
    with Image.open(path) as again:
        assert again.tobytes() == make("RGB").tobytes()


@pytest.mark.parametrize("cut", [3, 4, 8, 40, -1])
def test_damage_is_an_unidentified_image(cut: int) -> None:
    data = codec.encode(make("RGB"))
    with pytest.raises(UnidentifiedImageError):
        Image.open(io.BytesIO(data[:cut]))
    with pytest.raises(SyntaxError):
        plugin.GmcImageFile(io.BytesIO(data[:cut]))


def test_sixteen_bit_colour_is_refused_when_opened() -> None:
    data = codec.encode(np.zeros((4, 5, 3), np.uint16))
    with pytest.raises(SyntaxError, match="decode_array"):
        plugin.GmcImageFile(io.BytesIO(data))


def test_missing_weights_are_an_oserror_when_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    out = io.BytesIO()
    make("RGB").save(out, "GMC", code="learned")
    monkeypatch.setenv("GMCODEC_WEIGHTS", str(tmp_path))
    image = Image.open(out)
    with pytest.raises(OSError, match="weights"):
        image.load()


def test_save_options(tmp_path: Path) -> None:
    image = make("RGB")
    exif = Image.Exif()
    exif[0x010E] = "a description"
    image.save(tmp_path / "a.gmc", code="conventional", effort="fast", threads=1, exif=exif, icc_profile=b"another")
    assert "exif" not in image.info
    assert codec.info((tmp_path / "a.gmc").read_bytes())["parts"][0]["code"] != "local-rgb"
    with Image.open(tmp_path / "a.gmc") as again:
        assert again.getexif()[0x010E] == "a description"
        assert again.info["icc_profile"] == b"another"
    image.save(tmp_path / "b.gmc", strip=True)
    with Image.open(tmp_path / "b.gmc") as again:
        assert "icc_profile" not in again.info


def test_a_mode_that_cannot_be_kept_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="YCbCr"):
        Image.new("YCbCr", (3, 3)).save(tmp_path / "a.gmc")
    assert not list(tmp_path.iterdir())


# -- a save that fails leaves the file as it was ---------------------------------------------------------


@pytest.mark.parametrize("options", [{"effort": "utmost"}, {"code": "remote"}, {"code": "agave", "effort": "no"}])
def test_a_wrong_option_leaves_the_file(tmp_path: Path, options: dict[str, str]) -> None:
    make("RGB").save(tmp_path / "a.gmc")
    before = (tmp_path / "a.gmc").read_bytes()
    with pytest.raises(ValueError, match="must be one of"):
        make("L").save(tmp_path / "a.gmc", **options)
    assert (tmp_path / "a.gmc").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.gmc"]


@pytest.mark.parametrize("name", [str, Path, lambda path: str(path).encode()])
def test_a_mode_that_cannot_be_kept_leaves_the_file(tmp_path: Path, name: Callable[[Path], Any]) -> None:
    path = tmp_path / "a.gmc"
    path.write_bytes(b"precious")
    with pytest.raises(OSError, match="F"):
        Image.new("F", (3, 3)).save(name(path))
    assert path.read_bytes() == b"precious"
    with pytest.raises(OSError, match="F"):
        Image.new("F", (3, 3)).save(name(tmp_path / "b.dat"), "gmc")
    assert [path.name for path in tmp_path.iterdir()] == ["a.gmc"]


def test_an_error_while_writing_leaves_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.gmc").write_bytes(b"precious")

    def refuse(source: str, target: str) -> None:
        raise OSError(28, "No space left on device", str(source))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="No space left") as raised:
        make("RGB").save(tmp_path / "a.gmc")
    assert raised.value.filename == str(tmp_path / "a.gmc")
    assert (tmp_path / "a.gmc").read_bytes() == b"precious"
    assert [path.name for path in tmp_path.iterdir()] == ["a.gmc"]


def test_a_file_keeps_its_permissions_and_a_link_stays_one(tmp_path: Path) -> None:
    make("RGB").save(tmp_path / "a.gmc")
    (tmp_path / "a.gmc").chmod(0o640)
    (tmp_path / "link.gmc").symlink_to("a.gmc")
    make("L").save(tmp_path / "link.gmc")
    assert (tmp_path / "link.gmc").is_symlink()
    assert (tmp_path / "a.gmc").stat().st_mode & 0o777 == 0o640
    with Image.open(tmp_path / "a.gmc") as again:
        assert again.mode == "L"


def test_files_of_other_formats_and_open_files_go_to_pillow(tmp_path: Path) -> None:
    image, out = make("RGB"), io.BytesIO()
    image.save(tmp_path / "a.png")
    image.save(tmp_path / "b.gmc", format="PNG")
    image.save(out, format="GMC")
    with open(tmp_path / "c.gmc", "wb") as file:
        image.save(file, "GMC")
    assert (tmp_path / "a.png").read_bytes()[:4] == (tmp_path / "b.gmc").read_bytes()[:4] == b"\x89PNG"
    assert out.getvalue()[:3] == (tmp_path / "c.gmc").read_bytes()[:3] == b"gmc"
    with pytest.raises(ValueError, match="unknown file extension"):
        image.save(tmp_path / "a.nothing")
    with pytest.raises(FileNotFoundError):
        image.save(tmp_path / "nowhere" / "a.gmc")


def test_the_wrapper_is_there_once() -> None:
    wrapped = Image.Image.save
    importlib.reload(plugin)
    assert Image.Image.save is wrapped
    assert wrapped.__name__ == "save"
    assert not hasattr(wrapped.__wrapped__, "_gmcodec")
    assert wrapped.__doc__ == wrapped.__wrapped__.__doc__
