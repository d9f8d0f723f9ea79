# SPDX-License-Identifier: MIT
"""The command line on many files: which ones, where results go, and runs that go on."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import names, photo, run, same
from PIL import Image

from gmcodec import cli_files

pytestmark = pytest.mark.usefixtures("toy_weights")


# -- many files ------------------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two images in two folders, a text file, a finished file, and links that form a loop."""
    root = tmp_path / "in"
    photo(root / "a.png")
    photo(root / "sub" / "b.bmp", seed=1)
    (root / "notes.txt").write_text("hello")
    (root / "done.gmc").write_bytes(b"gmc")
    (root / "sub" / "loop").symlink_to(root, target_is_directory=True)
    return root


def test_a_tree(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run("compress", "-r", tree, "-o", out)
    assert result.exit_code == 0, result.output
    assert names(out) == ["a.gmc", "sub/b.gmc"]
    assert "skipped, not an image: " + str(tree / "notes.txt") in result.output
    assert "skipped, already .gmc: " + str(tree / "done.gmc") in result.output
    assert "a link to a directory: " + str(tree / "sub" / "loop") in result.output
    assert run("decompress", "-r", out, "-o", tmp_path / "back/").exit_code == 0
    assert same(tree / "sub" / "b.bmp", tmp_path / "back" / "sub" / "b.png")


def test_processes_give_the_same_in_the_same_order(tree: Path, tmp_path: Path) -> None:
    (tree / "0.png").write_bytes(b"damaged")
    args = ["compress", "-r", str(tree), "-o"]
    one, two = run(*args, tmp_path / "one"), run(*args, tmp_path / "two", "--jobs", "2")
    assert one.exit_code == two.exit_code == 3
    assert one.output == two.output
    assert "0.png: not an image of a known format" in one.output
    assert names(tmp_path / "one") == names(tmp_path / "two") == ["a.gmc", "sub/b.gmc"]
    for name in names(tmp_path / "one"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_directory_needs_r(tree: Path) -> None:
    result = run("compress", tree)
    assert result.exit_code == 2
    assert "is a directory: add -r" in result.output
    assert names(tree) == ["a.png", "done.gmc", "notes.txt", "sub/b.bmp"]


def test_nothing_to_do_is_said(tmp_path: Path) -> None:
    result = run("verify", "-r", tmp_path)
    assert result.exit_code == 0
    assert "nothing to do" in result.output


def test_failures_do_not_stop_the_others(tmp_path: Path) -> None:
    good = photo(tmp_path / "a.png")
    cmyk = tmp_path / "c.tif"
    Image.new("CMYK", (4, 4)).save(cmyk)
    result = run("compress", tmp_path / "missing.png", cmyk, good)
    assert result.exit_code == cli_files.OS_ERROR
    assert f"gmcodec: {tmp_path / 'missing.png'}: No such file or directory\n" in result.output
    assert "c.tif: " in result.output
    assert same(good, _decompressed(tmp_path / "a.gmc"))


def _decompressed(path: Path) -> Path:
    out = path.with_suffix(".back.png")
    assert run("decompress", path, "-o", out).exit_code == 0
    return out


@pytest.mark.parametrize(("terminal", "quiet"), [(True, False), (True, True), (False, False)])
def test_notes_are_for_who_looks_on(monkeypatch, capsys, terminal: bool, quiet: bool) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    bar = Bar(1, quiet)
    with cli_work.noting(bar.note):
        logging.getLogger("gmcodec.compiling").info("a minute")
    assert capsys.readouterr().err == ("gmcodec: a minute\n" if terminal and not quiet else "")


def test_outputs_that_would_collide(tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    photo(tmp_path / "a.bmp")
    result = run("compress", tmp_path / "a.png", tmp_path / "a.bmp")
    assert result.exit_code == 2
    assert "would both be written" in result.output
    assert names(tmp_path) == ["a.bmp", "a.png"]


def test_several_files_need_a_directory(tmp_path: Path) -> None:
    files = photo(tmp_path / "a.png"), photo(tmp_path / "b.png")
    assert run("compress", *files, "-o", tmp_path / "x.gmc").exit_code == 2
    assert run("compress", *files, "-o", "-").exit_code == 2
    assert run("compress", *files, "-").exit_code == 2
    assert run("compress", *files, "-o", f"{tmp_path}/new/").exit_code == 0
    assert names(tmp_path / "new") == ["a.gmc", "b.gmc"]
