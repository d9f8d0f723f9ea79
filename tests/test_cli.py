# SPDX-License-Identifier: MIT
"""The command line: what it writes, says and returns, and what it must never do to a user's files."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import toy
from click.testing import CliRunner, Result
from PIL import Image

import gmcodec
from gmcodec import cli_files, cli_work, codec, pixels
from gmcodec.cli import cli
from gmcodec.cli_show import Bar

pytestmark = pytest.mark.usefixtures("toy_weights")
GMCODEC = (sys.executable, "-m", "gmcodec")


def run(*args: str | Path, data: bytes | None = None) -> Result:
    """The command in this process; an exception that it does not turn into an exit code fails the test."""
    result = CliRunner().invoke(cli, [str(a) for a in args], input=data)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def shell(*args: str | Path, data: bytes = b"", **options: object) -> subprocess.CompletedProcess[bytes]:
    """The command in its own process."""
    return subprocess.run([*GMCODEC, *map(str, args)], input=data, capture_output=True, env=environment(), **options)  # type: ignore[call-overload]


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(Path(gmcodec.__file__).parent.parent)}


def photo(path: Path, height: int = 20, width: int = 30, seed: int = 0, **options: object) -> Path:
    """Write a small image that the toy model compresses."""
    rgb = toy.smooth(np.random.default_rng(seed), (3, height, width)).transpose(1, 2, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb).save(path, **options)
    return path


def same(one: Path | bytes, other: Path | bytes) -> bool:
    """Same mode and pixels; TIFF and BMP come with DPI of their own."""
    a, b = pixels.read(one), pixels.read(other)
    return a.mode == b.mode and np.array_equal(a.data, b.data)


def names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


# -- one file there and back ---------------------------------------------------------------------------------


def test_there_and_back(tmp_path: Path) -> None:
    source = photo(tmp_path / "a.png", dpi=(300, 300))
    result = run("compress", source, "--verify")
    assert result.exit_code == 0, result.output
    data = (tmp_path / "a.gmc").read_bytes()
    assert data == codec.encode(source)
    for part in ("a.png:", f"{source.stat().st_size} -> {len(data)} bytes", "% of the source", " bpd; estimate ",
                 "overhead ", "-rgb-fast, verified"):  # fmt: skip
        assert part in result.output
    result = run("decompress", tmp_path / "a.gmc", "-o", tmp_path / "back.png")
    assert result.exit_code == 0
    assert "30x20 RGB" in result.output
    assert pixels.read(source) == pixels.read(tmp_path / "back.png")
    assert names(tmp_path) == ["a.gmc", "a.png", "back.png"]


@pytest.mark.parametrize("code", ["learned", "conventional"])
def test_code_is_forced(tmp_path: Path, code: str) -> None:
    result = run("compress", photo(tmp_path / "a.png"), "--code", code, "--threads", "1")
    assert ("-rgb" in result.output) == (code == "learned")
    assert run("verify", tmp_path / "a.gmc").exit_code == 0


def test_a_model_by_name(tmp_path: Path) -> None:
    source = photo(tmp_path / "a.png")
    result = run("compress", source, "--model", "pixelcnnpp", "--verify")
    assert result.exit_code == 0
    assert "pixelcnnpp, verified" in result.output
    assert run("compress", source, "--model", "local-grey", "--force").exit_code == 3
    assert run("compress", source, "--model", "remote", "--force").exit_code == 2
    assert run("compress", source, "--model", "local-rgb", "--code", "learned", "--force").exit_code == 2
    Image.new("RGB", (129, 128)).save(tmp_path / "large.png")
    result = run("compress", tmp_path / "large.png", "--model", "pixelcnnpp")
    assert result.exit_code == 3
    assert "more than 16384 pixels" in result.output


def test_learned_without_a_model_is_refused(tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    Image.open(tmp_path / "a.png").quantize(8).save(tmp_path / "p.png")
    result = run("compress", tmp_path / "p.png", "--code", "learned")
    assert result.exit_code == 3
    assert "no model for images of mode P" in result.output


def test_strip_drops_metadata(tmp_path: Path) -> None:
    run("compress", photo(tmp_path / "a.png", dpi=(300, 300)), "--strip", "--verify")
    assert codec.info((tmp_path / "a.gmc").read_bytes())["metadata"] == []


@pytest.mark.parametrize("suffix", ["png", "tiff", "ppm", "bmp", "webp"])
def test_formats(tmp_path: Path, suffix: str) -> None:
    source = photo(tmp_path / "a.png")
    run("compress", source)
    assert run("decompress", tmp_path / "a.gmc", "-o", tmp_path / f"b.{suffix}").exit_code == 0
    assert same(source, tmp_path / f"b.{suffix}")
    assert run("decompress", tmp_path / "a.gmc", "--format", suffix, "-f").exit_code == 0
    assert same(source, tmp_path / f"a.{suffix}")


def test_formats_that_do_not_fit(tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    Image.open(tmp_path / "a.png").convert("LA").save(tmp_path / "la.png")
    run("compress", tmp_path / "la.png")
    result = run("decompress", tmp_path / "la.gmc", "--format", "ppm")
    assert result.exit_code == 3
    assert "PPM cannot hold LA" in result.output
    assert run("decompress", tmp_path / "la.gmc", "-o", tmp_path / "x.jpg").exit_code == 2
    assert run("decompress", tmp_path / "la.gmc", "-o", tmp_path / "x.bmp", "--format", "tiff").exit_code == 2
    assert names(tmp_path) == ["a.png", "la.gmc", "la.png"]


def test_dropped_metadata_is_said(tmp_path: Path) -> None:
    run("compress", photo(tmp_path / "a.png", dpi=(300, 300)))
    result = run("decompress", tmp_path / "a.gmc", "--format", "ppm", "--quiet")
    assert "a.gmc: warning: PPM cannot hold this metadata, dropped: DENSITY" in result.output


def test_a_larger_result_is_said(tmp_path: Path) -> None:
    result = run("compress", photo(tmp_path / "a.jpg", 60, 80, quality=10), "-q")
    assert result.exit_code == 0
    assert "larger than the source (a JPEG is lossy" in result.output


def test_max_pixels(tmp_path: Path) -> None:
    source = photo(tmp_path / "a.png")
    assert run("compress", source, "--max-pixels", "599").exit_code == 4
    assert run("compress", source, "--max-pixels", "600").exit_code == 0
    assert run("verify", tmp_path / "a.gmc", "--max-pixels", "599").exit_code == 4
    assert run("decompress", tmp_path / "a.gmc", "-f", "--max-pixels", "0").exit_code == 0


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


# -- a user's files are safe -----------------------------------------------------------------------------------


def test_existing_outputs_are_kept(tmp_path: Path) -> None:
    source = photo(tmp_path / "a.png")
    (tmp_path / "a.gmc").write_bytes(b"precious")
    result = run("compress", source)
    assert result.exit_code == 11
    assert "--force" in result.output
    assert (tmp_path / "a.gmc").read_bytes() == b"precious"
    assert run("compress", source, "--force").exit_code == 0
    assert run("verify", tmp_path / "a.gmc").exit_code == 0


def test_a_source_is_not_its_own_output(tmp_path: Path) -> None:
    source = photo(tmp_path / "a.png")
    before = source.read_bytes()
    assert run("compress", source, "-o", source, "--force").exit_code == 2
    assert source.read_bytes() == before


def test_delete(tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    assert run("compress", tmp_path / "a.png", "--delete").exit_code == 0
    assert names(tmp_path) == ["a.gmc"]
    assert run("decompress", tmp_path / "a.gmc", "--delete", "--format", "tiff").exit_code == 0
    assert names(tmp_path) == ["a.tiff"]


def test_delete_only_after_the_result_was_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = photo(tmp_path / "a.png")
    other = pixels.read(photo(tmp_path / "b.png", seed=5))
    monkeypatch.setattr(codec, "decode_planes", lambda *args, **options: other)
    result = run("compress", source, "--delete")
    assert result.exit_code == 1
    assert "does not decode to the same image" in result.output
    assert names(tmp_path) == ["a.png", "b.png"]


def test_delete_keeps_what_the_format_cannot_hold(tmp_path: Path) -> None:
    run("compress", photo(tmp_path / "a.png", dpi=(300, 300)))
    result = run("decompress", tmp_path / "a.gmc", "--format", "ppm", "--delete")
    assert result.exit_code == 1
    assert "decompressed, but kept" in result.output
    assert names(tmp_path) == ["a.gmc", "a.png", "a.ppm"]


def test_delete_needs_a_file(tmp_path: Path) -> None:
    assert run("compress", photo(tmp_path / "a.png"), "--delete", "-o", "-").exit_code == 2
    assert run("compress", tmp_path / "a.png", "--delete", "-o", os.devnull).exit_code == 1
    assert names(tmp_path) == ["a.png"]


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    result = run("compress", photo(tmp_path / "a.png"))
    assert result.exit_code == cli_files.OS_ERROR
    assert "a.png: No space left on device\n" in result.output
    assert names(tmp_path) == ["a.png"]


def test_a_missing_folder_is_named_by_its_output(tmp_path: Path) -> None:
    result = run("compress", photo(tmp_path / "a.png"), "-o", tmp_path / "no" / "b.gmc")
    assert result.exit_code == cli_files.OS_ERROR
    assert f"No such file or directory: {tmp_path / 'no' / 'b.gmc'}" in result.output


def test_devices_are_written_to_and_not_replaced(tmp_path: Path) -> None:
    link = tmp_path / "null"
    link.symlink_to(os.devnull)
    assert run("compress", photo(tmp_path / "a.png"), "-o", link).exit_code == 0
    assert link.is_symlink()


def test_interrupt_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(descriptor: int) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)

    monkeypatch.setattr(os, "fsync", interrupt)
    result = run("compress", photo(tmp_path / "a.png"))
    assert result.exit_code == 130
    assert names(tmp_path) == ["a.png"]


@pytest.mark.parametrize("jobs", [1, 2])
def test_interrupted_process(tmp_path: Path, jobs: int) -> None:
    small, *large = (photo(tmp_path / f"{n}.ppm", s, s) for n, s in (("a", 20), ("b", 1500), ("c", 1500)))
    command = [*GMCODEC, "compress", "--code", "learned", "-j", str(jobs), *map(str, (small, *large))]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment(), start_new_session=True, **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(os.fsencode(small))  # so the next is being worked on
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, b"gmcodec: interrupted\n")
    assert names(tmp_path) == ["a.gmc", "a.ppm", "b.ppm", "c.ppm"]


# -- info, verify, models, doctor --------------------------------------------------------------------------------


def test_info(tmp_path: Path) -> None:
    run("compress", photo(tmp_path / "a.png", dpi=(300, 300)))
    result = run("info", tmp_path / "a.gmc")
    assert "30x20 RGB, 8 bits per sample" in result.output
    assert "-rgb-fast: 3 channels" in result.output
    assert "DENSITY 9 bytes" in result.output


def test_info_json(tmp_path: Path) -> None:
    run("compress", photo(tmp_path / "a.png"), photo(tmp_path / "b.png", seed=1))
    result = run("info", "--json", tmp_path / "a.gmc", tmp_path / "b.gmc")
    lines = [json.loads(line) for line in result.output.splitlines()]
    assert [line["file"] for line in lines] == [str(tmp_path / "a.gmc"), str(tmp_path / "b.gmc")]
    assert lines[0] == {"file": str(tmp_path / "a.gmc")} | codec.info((tmp_path / "a.gmc").read_bytes())


def test_verify_goes_on_after_a_bad_file(tmp_path: Path) -> None:
    run("compress", photo(tmp_path / "a.png"))
    data = bytearray((tmp_path / "a.gmc").read_bytes())
    data[-20] ^= 1
    (tmp_path / "0.gmc").write_bytes(data)
    result = run("verify", "-r", tmp_path)
    assert result.exit_code == 5
    assert "0.gmc: the file's CRC-32 is" in result.output
    assert "a.gmc: ok\n" in result.output


def test_missing_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("compress", photo(tmp_path / "a.png"))
    monkeypatch.setenv("GMCODEC_WEIGHTS", str(tmp_path / "nowhere"))
    result = run("verify", tmp_path / "a.gmc")
    assert result.exit_code == 7
    assert result.output.count("\n") == 1
    assert "not installed" in run("models").output
    assert run("doctor").exit_code == 7


def test_models() -> None:
    result = run("models")
    assert result.exit_code == 0
    assert [line.split()[:3] for line in result.output.splitlines()[2:]] == [
        ["local-rgb", "3", "16"], ["local-grey", "1", "17"], ["pixelcnnpp", "3", "18"],
        ["agave", "3", "19"], ["agave-rgb", "3", "20"], ["ade", "3", "21"], ["av-ade", "3", "22"],
        ["local-rgb-fast", "3", "23"], ["learning-rgb-fast", "3", "24"], ["learning-rgb", "3", "25"],
        ["learning-grey", "1", "26"], ["learning-rgb16-fast", "3", "27"], ["learning-rgb16", "3", "28"],
        ["learning-grey16", "1", "29"], ["pair-rgb", "3", "30"],
        ["averaged-grey", "1", "31"], ["averaged-rgb16", "3", "32"], ["averaged-grey16", "1", "33"],
    ]  # fmt: skip


@pytest.mark.slow
def test_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GMCODEC_EVALUATOR", "float64")
    result = run("doctor")
    assert result.exit_code == 0, result.output
    assert "evaluator    float64: forced" in result.output
    assert result.output.count("same file, same pixels") >= 6
    assert "compiled     " in result.output
    assert os.environ["GMCODEC_EVALUATOR"] == "float64"
    monkeypatch.setenv("GMCODEC_EVALUATOR", "abacus")
    assert run("doctor").exit_code == 10


# -- train, freeze -------------------------------------------------------------------------------------------------


def test_training_without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    folders = ["--data", tmp_path, "--val", tmp_path]
    result = run("train", "toy-rgb", *folders, "--out", tmp_path / "run")
    assert result.exit_code == 9
    assert result.output == "gmcodec: error: training needs torch: pip install gmcodec[train]\n"
    weights = tmp_path / "w.safetensors"
    weights.touch()
    assert run("freeze", weights, *folders, "-o", tmp_path / "out.safetensors").exit_code == 9
    assert run("freeze", weights, *folders, "-o", weights).exit_code == 11


@pytest.mark.slow
def test_train_and_freeze(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    for seed in range(3):
        photo(tmp_path / "data" / f"{seed}.png", 64, 64, seed)
    folders = ["--data", tmp_path / "data", "--val", tmp_path / "data"]
    out = tmp_path / "run"
    assert run("train", "nonsense", *folders, "--out", out).exit_code == 2
    command = ["train", "toy-rgb", *folders, "--out", out, "--fp32", "--steps", "4", "--batch", "2"]
    result = run(*command)
    assert result.exit_code == 0, result.output
    assert str(out / "float.safetensors") in result.output
    assert run(*command).exit_code == 11
    assert run(*command, "--resume").exit_code == 0
    for measured in ([], ["--val", tmp_path / "data", "--val-last", "1"]):
        result = run("train", "toy-rgb", *folders[:2], *measured, "--out", tmp_path / "other")
        assert result.exit_code == 2
        assert "either --val or --val-last" in result.output
    frozen = tmp_path / "local-rgb.safetensors"
    result = run("freeze", out / "float.safetensors", *folders, "-o", frozen)
    assert result.exit_code == 0, result.output
    assert f"{frozen}: {frozen.stat().st_size} bytes" in result.output


@pytest.mark.slow
def test_train_on_mosaics(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    photo(tmp_path / "data" / "train.png", 64, 48, 0)
    photo(tmp_path / "data" / "test.png", 63, 47, 1)  # not made of squares: must not even be looked at
    out = tmp_path / "run"
    command = ["train", "toy-pixelcnnpp", "--data", tmp_path / "data", "--val-last", "2", "--out", out]
    result = run(*command, "--fp32", "--steps", "3")
    assert result.exit_code == 0, result.output
    assert (out / "float.safetensors").exists()


# -- processes, pipes, start-up ------------------------------------------------------------------------------------


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom gmcodec.cli import cli\n"
        "for args in (['--help'], ['compress', '--help'], ['train', '--help'], ['--version']):\n"
        "    try: cli(args)\n    except SystemExit as e: assert e.code == 0\n"
        "print(sorted({'numpy', 'torch', 'PIL', 'numba', 'tqdm', 'safetensors'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment(), text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert f"gmcodec, version {gmcodec.__version__}" in done.stdout


def test_pipes(tmp_path: Path) -> None:
    source = photo(tmp_path / "a.png")
    packed = shell("compress", "-", data=source.read_bytes())
    assert packed.returncode == 0
    assert packed.stdout == codec.encode(source)
    assert packed.stderr.startswith(b"stdin: ")
    unpacked = shell("decompress", "-", "-o", "-", "--format", "bmp", "-q", data=packed.stdout)
    assert (unpacked.returncode, unpacked.stderr) == (0, b"")
    assert same(unpacked.stdout, source)
    checked = run("verify", "-", data=packed.stdout)
    assert checked.output == "stdin: ok\n"


def test_one_line_for_a_mistake() -> None:
    done = shell("compress", "-", data=b"no image")
    assert done.returncode == 3
    assert done.stdout == b""
    assert done.stderr == b"gmcodec: stdin: not an image of a known format\n"


def test_a_broken_pipe_is_silent(tmp_path: Path) -> None:
    run("compress", photo(tmp_path / "a.png"))
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as closed:
        command = [*GMCODEC, "info", str(tmp_path / "a.gmc")]
        done = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, env=environment(), check=False)
    assert (done.returncode, done.stderr) == (141, b"")


def test_no_binary_to_a_terminal(tmp_path: Path) -> None:
    source = photo(tmp_path / "a.png")
    pty = pytest.importorskip("pty")
    main, terminal = pty.openpty()
    try:
        command = [*GMCODEC, "compress", str(source), "-o", "-"]
        done = subprocess.run(command, stdout=terminal, stderr=subprocess.PIPE, env=environment(), check=False)
    finally:
        os.close(terminal)
        os.close(main)
    assert done.returncode == 2
    assert b"refusing to write an image to a terminal" in done.stderr
