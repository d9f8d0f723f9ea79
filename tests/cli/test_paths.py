# SPDX-License-Identifier: MIT
"""The command line on many files: which ones, where results go, and runs that go on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from commands import names, photo, run, same
from PIL import Image

from gmcodec.cli import paths

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
    floats = tmp_path / "c.tif"
    Image.new("F", (4, 4)).save(floats)
    result = run("compress", tmp_path / "missing.png", floats, good)
    assert result.exit_code == paths.OS_ERROR
    assert f"gmcodec: {tmp_path / 'missing.png'}: No such file or directory\n" in result.output
    assert "c.tif: " in result.output
    assert same(good, _decompressed(tmp_path / "a.gmc"))


def _decompressed(path: Path) -> Path:
    out = path.with_suffix(".back.png")
    assert run("decompress", path, "-o", out).exit_code == 0
    return out


def test_several_files_need_a_directory(tmp_path: Path) -> None:
    files = photo(tmp_path / "a.png"), photo(tmp_path / "b.png")
    assert run("compress", *files, "-o", tmp_path / "x.gmc").exit_code == 2
    assert run("compress", *files, "-o", "-").exit_code == 2
    assert run("compress", *files, "-").exit_code == 2
    assert run("compress", *files, "-o", f"{tmp_path}/new/").exit_code == 0
    assert names(tmp_path / "new") == ["a.gmc", "b.gmc"]


# -- one place for two results -----------------------------------------------------------------------------------


@pytest.fixture
def twins(tmp_path: Path) -> Path:
    """Two sources of one stem, and another one."""
    photo(tmp_path / "in" / "a.bmp")
    photo(tmp_path / "in" / "a.png", seed=1)
    photo(tmp_path / "in" / "b.png", seed=2)
    return tmp_path / "in"


@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize("named", [True, False])
def test_two_sources_of_one_stem_do_not_stop_the_others(twins: Path, jobs: str, named: bool) -> None:
    sources = [twins / name for name in ("a.bmp", "a.png", "b.png")] if named else ["-r", twins]
    result = run("compress", *sources, "-j", jobs)
    assert result.exit_code == 11
    assert names(twins) == ["a.bmp", "a.gmc", "a.png", "b.gmc", "b.png"]
    line = next(line for line in result.output.splitlines() if "--keep-suffix" in line)
    for name in ("a.png", "a.bmp", "a.gmc"):
        assert str(twins / name) in line
    assert same(twins / "a.bmp", _back(twins / "a.gmc"))


def _back(path: Path) -> Path:
    out = path.with_suffix(".back.png")
    assert run("decompress", path, "-o", out).exit_code == 0
    return out


def test_a_file_named_twice_is_done_once(twins: Path) -> None:
    assert run("compress", twins / "b.png", twins / "b.png").exit_code == 0
    assert names(twins) == ["a.bmp", "a.png", "b.gmc", "b.png"]


def test_force_never_lets_one_result_replace_another(twins: Path) -> None:
    assert run("compress", "-r", twins, "--force", "--delete").exit_code == 11
    assert names(twins) == ["a.gmc", "a.png", "b.gmc"]


def test_keep_suffix(twins: Path) -> None:
    photo(twins / "c.jpg")
    assert run("compress", "-r", twins, "--keep-suffix", "-o", twins.parent / "out").exit_code == 0
    out = twins.parent / "out"
    assert names(out) == ["a.bmp.gmc", "a.png.gmc", "b.png.gmc", "c.jpg.gmc"]
    result = run("decompress", "-r", out)
    assert result.exit_code == 0
    assert [name for name in names(out) if not name.endswith(".gmc")] == ["a.bmp.png", "a.png", "b.png", "c.jpg.png"]
    assert same(out / "a.png", twins / "a.png")
    assert same(out / "a.bmp.png", twins / "a.bmp")
    assert run("decompress", out / "a.png.gmc").exit_code == 11  # never over a file that is there


def test_two_files_that_give_one_image(twins: Path) -> None:
    run("compress", twins / "a.png", "--keep-suffix", "-q")
    run("compress", twins / "a.bmp", "-q")
    (twins / "a.png").unlink()
    result = run("decompress", twins / "a.gmc", twins / "a.png.gmc")
    assert result.exit_code == 11
    assert f"{twins / 'a.png.gmc'}: would be written to {twins / 'a.png'}, as {twins / 'a.gmc'} is" in result.output
    assert same(twins / "a.png", twins / "a.bmp")


def test_names_of_results() -> None:
    for source, kept, dropped in (("a.png", "a.png.gmc", "a.gmc"), ("a.v2", "a.v2.gmc", "a.v2.gmc")):
        assert paths.gmc_name(Path(source), keep_suffix=True) == kept
        assert paths.gmc_name(Path(source)) == dropped
    for source, format, image in (
        ("a.gmc", "png", "a.png"), ("a.png.gmc", "png", "a.png"), ("a.jpg.gmc", "png", "a.jpg.png"),
        ("a.tif.gmc", "tiff", "a.tif"), ("a.PNG.gmc", "png", "a.PNG"), ("a.png.gmc", "tiff", "a.png.tiff"),
        ("a.v2.gmc", "png", "a.v2.png"),
    ):  # fmt: skip
        assert paths.image_name(Path(source), format) == image


# -- runs that go on ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_run_goes_on(twins: Path, jobs: str) -> None:
    arguments = ["compress", "-r", twins, "--keep-suffix", "-j", jobs]
    run(*arguments, "-q")
    (twins / "b.png.gmc").unlink()
    before = _identity(twins / "a.png.gmc")
    result = run(*arguments, "--skip-existing", "--delete")
    assert result.exit_code == 0, result.output
    assert "skipped, already done: 2 files" in result.output
    assert names(twins) == ["a.bmp", "a.bmp.gmc", "a.png", "a.png.gmc", "b.png.gmc"]  # skipped ones keep their source
    assert _identity(twins / "a.png.gmc") == before
    assert run(*arguments, "--skip-existing", "--force").exit_code == 2


def _identity(path: Path) -> tuple[int, ...]:
    state = path.stat()
    return state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns


def test_what_only_seems_done_is_an_error_of_its_file(twins: Path) -> None:
    run("compress", "-r", twins, "--keep-suffix", "-q")
    for number, spoil in enumerate((_cut, _other_image, _newer_source)):
        source = photo(twins / f"{number}.png", seed=number)
        run("compress", source, "--keep-suffix", "-q")
        spoil(source)
    result = run("compress", "-r", twins, "--keep-suffix", "--skip-existing")
    assert result.exit_code == 11
    for number, why in enumerate(("is no complete .gmc file", "has 40x20 pixels, its source 30x20", "is older than")):
        line = next(line for line in result.output.splitlines() if line.startswith(f"gmcodec: {twins}/{number}.png: "))
        assert why in line
        assert "--force overwrites it" in line
    assert "skipped, already done: 3 files" in result.output


def _cut(source: Path) -> None:
    output = Path(f"{source}.gmc")
    output.write_bytes(output.read_bytes()[:-1])


def _other_image(source: Path) -> None:
    other = photo(source.with_name("other.ppm"), width=40)
    run("compress", other, "-o", f"{source}.gmc", "-f", "-q")
    other.unlink()


def _newer_source(source: Path) -> None:
    state = Path(f"{source}.gmc").stat()
    os.utime(source, ns=(state.st_atime_ns, state.st_mtime_ns + 1))


def test_decompressing_goes_on(twins: Path) -> None:
    out = twins.parent / "out"
    run("compress", "-r", twins, "--keep-suffix", "-o", out, "-q")
    back = twins.parent / "back"
    arguments = ["decompress", "-r", out, "-o", f"{back}/"]
    run(*arguments, "-q")
    (back / "b.png").unlink()
    photo(back / "a.png", width=31)
    (back / "a.bmp.png").write_bytes(b"no image")
    result = run(*arguments, "--skip-existing")
    assert result.exit_code == 11
    assert "a.png exists, but has 31x20 pixels, its source 30x20" in result.output
    assert "a.bmp.png exists, but is no image" in result.output
    assert same(back / "b.png", twins / "b.png")
    result = run("decompress", out / "b.png.gmc", "-o", back / "b.png", "--skip-existing", "--delete")
    assert result.exit_code == 0
    assert "skipped, already done: 1 file\n" in result.output
    assert (out / "b.png.gmc").exists()
