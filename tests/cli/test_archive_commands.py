# SPDX-License-Identifier: MIT
"""The commands on archives: what they write, say and return."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from commands import names, opened, photo, photos, run, same
from PIL import Image

from gmcodec.archive import Archive
from gmcodec.cli.archive import output_names
from gmcodec.cli.paths import default_format
from gmcodec.image import reading

pytestmark = pytest.mark.usefixtures("toy_weights")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five small images of one size in two folders, a larger one, one with metadata, and a text file."""
    photos(tmp_path / "set")
    photo(tmp_path / "set/dpi.png", 8, 9, seed=5, dpi=(300, 300))
    (tmp_path / "set/notes.txt").write_text("hello")
    return tmp_path / "set"


def test_there_and_back(folder: Path, tmp_path: Path) -> None:
    result = run("pack", folder, "-o", tmp_path / "x.gma")
    assert result.exit_code == 0, result.output
    size = (tmp_path / "x.gma").stat().st_size
    for part in (f"x.gma: 7 images -> {size} bytes, ", " bpd; estimate ", "5 in 1 group, 2 alone, 1 of them small but",
                 f"skipped, not an image: {folder / 'notes.txt'}\n"):  # fmt: skip
        assert part in result.output
    result = run("unpack", tmp_path / "x.gma")
    assert result.exit_code == 0
    assert f"{tmp_path / 'x'}: 7 images" in result.output
    assert names(tmp_path / "x") == ["a/0.png", "a/1.png", "a/2.png", "b/0.png", "b/0.ppm.png", "dpi.png", "wide.png"]
    for packed, unpacked in (("a/0.png", "a/0.png"), ("b/0.ppm", "b/0.ppm.png"), ("wide.webp", "wide.png")):
        assert same(folder / packed, tmp_path / "x" / unpacked)
    assert reading.read(tmp_path / "x/dpi.png") == reading.read(folder / "dpi.png")
    assert run("verify", tmp_path / "x.gma").output.endswith("x.gma: ok, 7 images\n")


def test_some_members(folder: Path, tmp_path: Path) -> None:
    run("pack", folder, "-o", tmp_path / "x.gma", "-q")
    assert run("unpack", tmp_path / "x.gma", "a/1.png", "b/", "-o", tmp_path / "out").exit_code == 0
    assert names(tmp_path / "out") == ["a/1.png", "b/0.png", "b/0.ppm.png"]
    result = run("unpack", tmp_path / "x.gma", "a/1", "-o", tmp_path / "none")
    assert result.exit_code == 13
    assert "does not hold 'a/1'" in result.output
    assert names(tmp_path / "none") == []


def test_list(folder: Path, tmp_path: Path) -> None:
    run("pack", folder, "-o", tmp_path / "x.gma", "--strip", "--quiet")
    lines = run("list", tmp_path / "x.gma").output.splitlines()
    assert lines[0].split()[:4] == ["a/0.png", "9x8", "RGB", "local-rgb"]
    assert lines[-1].startswith(f"7 images in 2 blocks, {(tmp_path / 'x.gma').stat().st_size} bytes, ")
    said = json.loads(run("list", "--json", tmp_path / "x.gma").output)
    assert [member["name"] for member in said["members"]] == sorted(opened(tmp_path / "x.gma").names)
    assert said["members"][0] | {"bytes": 0} == {
        "name": "a/0.png", "mode": "RGB", "width": 9, "height": 8, "kind": "group", "code": "local-rgb", "bytes": 0,
        "modified": (folder / "a/0.png").stat().st_mtime_ns / 1e9,
        "permissions": (folder / "a/0.png").stat().st_mode & 0o777,
    }  # fmt: skip
    assert said["bits_per_dimension"] == 8 * said["bytes"] / said["dimensions"]


def test_append(folder: Path, tmp_path: Path) -> None:
    run("pack", folder / "a", "-o", tmp_path / "x.gma")
    result = run("pack", folder / "b", "-o", tmp_path / "x.gma")
    assert result.exit_code == 11
    assert "--append adds to it" in result.output
    result = run("pack", photo(tmp_path / "new.png"), "-o", tmp_path / "x.gma", "--append")
    assert result.exit_code == 0
    assert f"now {(tmp_path / 'x.gma').stat().st_size} bytes" in result.output
    assert opened(tmp_path / "x.gma").names == ["0.png", "1.png", "2.png", "new.png"]
    assert run("pack", folder / "a", "-o", tmp_path / "x.gma", "--append").exit_code == 13


def test_failures_do_not_stop_the_others(folder: Path, tmp_path: Path) -> None:
    (folder / "a/bad.png").write_bytes(b"damaged")
    Image.new("F", (4, 4)).save(folder / "c.tif")
    result = run("pack", folder, tmp_path / "missing.png", "-o", tmp_path / "x.gma")
    assert result.exit_code == 3
    assert f"gmcodec: {folder / 'a/bad.png'}: not an image of a known format\n" in result.output
    assert f"gmcodec: {tmp_path / 'missing.png'}: No such file or directory\n" in result.output
    assert "3 of 10 images are NOT in the archive" in result.output
    assert len(opened(tmp_path / "x.gma")) == 7
    result = run("pack", tmp_path / "missing.png", "-o", tmp_path / "y.gma")
    assert result.exit_code == 12
    assert "nothing was written" in result.output
    assert not (tmp_path / "y.gma").exists()


def test_damage_is_named_and_the_rest_is_unpacked(folder: Path, tmp_path: Path) -> None:
    run("pack", folder, "-o", tmp_path / "x.gma", "-q")
    data = bytearray((tmp_path / "x.gma").read_bytes())
    group = next(block for block in Archive(bytes(data)).blocks if len(block.names) > 1)
    data[group.offset + 9] ^= 1
    (tmp_path / "x.gma").write_bytes(data)
    result = run("unpack", tmp_path / "x.gma", "-o", tmp_path / "out")
    assert result.exit_code == 5
    assert "a/0.png and 4 more: a group does not match its CRC-32" in result.output
    assert names(tmp_path / "out") == ["dpi.png", "wide.png"]
    assert run("verify", tmp_path / "x.gma").exit_code == 5


def test_existing_pictures_are_kept(folder: Path, tmp_path: Path) -> None:
    run("pack", folder / "a", "-o", tmp_path / "x.gma")
    (tmp_path / "x").mkdir()
    (tmp_path / "x/2.png").write_bytes(b"precious")
    assert run("unpack", tmp_path / "x.gma").exit_code == 11
    assert names(tmp_path / "x") == ["2.png"]
    assert run("unpack", tmp_path / "x.gma", "--force").exit_code == 0
    assert same(folder / "a/2.png", tmp_path / "x/2.png")


def test_mistakes(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.gma"
    assert run("pack", folder).exit_code == 2  # no -o
    assert run("pack", folder, "-o", "-").exit_code == 2
    assert run("pack", folder, "-o", out, "--model", "remote").exit_code == 2
    result = run("pack", folder / "a/0.png", folder / "b/0.png", "-o", out)
    assert result.exit_code == 2
    assert "would both be called 0.png" in result.output
    (tmp_path / "empty").mkdir()
    assert "nothing to do" in run("pack", tmp_path / "empty", "-o", out).output
    result = run("pack", folder / "a", "-o", tmp_path / "no" / "x.gma")
    assert result.exit_code == 12
    assert f"No such file or directory: {tmp_path / 'no' / 'x.gma'}" in result.output
    assert not out.exists()
    assert run("pack", folder / "a", "-o", out, "--max-pixels", "71").exit_code == 4
    run("pack", folder / "a", "-o", out)
    assert run("unpack", out, "--max-pixels", "71").exit_code == 4
    assert run("list", folder / "a/0.png").exit_code == 5
    out.rename(tmp_path / "x")
    assert run("unpack", tmp_path / "x").exit_code == 2  # where to?
    for command in ("info", "decompress"):
        result = run(command, tmp_path / "x")
        assert result.exit_code == 5
        assert "is an archive: see gmcodec list" in result.output


def test_interrupt_leaves_no_file(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(descriptor: int) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)

    monkeypatch.setattr(os, "fsync", interrupt)
    assert run("pack", folder, "-o", tmp_path / "x.gma").exit_code == 130
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_place_names() -> None:
    assert output_names(dict.fromkeys(["a/b.png", "c", "d.v2", "e.webp"], "png")) == {
        "a/b.png": "a/b.png", "c": "c.png", "d.v2": "d.v2.png", "e.webp": "e.png",
    }  # fmt: skip
    assert output_names(dict.fromkeys(["x.webp", "x.bmp", "x.png"], "png")) == {
        "x.webp": "x.webp.png", "x.bmp": "x.bmp.png", "x.png": "x.png",
    }  # fmt: skip
    assert output_names({"x.jpg": "tiff", "x.webp": "png", "y.tif": "tiff", "y.jpg": "tiff"}) == {
        "x.jpg": "x.tif", "x.webp": "x.png", "y.tif": "y.tif", "y.jpg": "y.jpg.tif",
    }  # fmt: skip


def test_formats_of_modes() -> None:
    assert {default_format(mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "RGB;16")} == {"png"}
    assert {default_format(mode) for mode in ("CMYK", "LAB", "CMYK;16", "LAB;16")} == {"tiff"}


def test_names_are_those_of_any_language(tmp_path: Path) -> None:
    source = photo(tmp_path / "set/für dich/ž 1.png", 8, 9)
    run("pack", tmp_path / "set", "-o", tmp_path / "x.gma")
    assert run("unpack", tmp_path / "x.gma").exit_code == 0
    assert same(tmp_path / "x/für dich/ž 1.png", source)


def test_pack_names_all_that_it_leaves_out(folder: Path, tmp_path: Path) -> None:
    for number in range(25):
        (folder / f"a/{number:02d}.txt").touch()
    photo(folder / "old.png", 8, 9)
    run("compress", folder / "old.png")
    output = run("pack", folder, "-o", tmp_path / "x.gma").output
    for number in range(25):
        assert str(folder / f"a/{number:02d}.txt") in output
    assert f"skipped, already .gmc: {folder / 'old.gmc'}\n" in output
    assert "skipped" not in run("pack", folder, "-o", tmp_path / "y.gma", "--quiet").output
