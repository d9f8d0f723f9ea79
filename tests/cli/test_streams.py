# SPDX-License-Identifier: MIT
"""Pipes, streams that are closed or full, and what else the system refuses: one line, and the right exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import toy
from commands import GMCODEC, environment, names, photo, run, same, shell

import gmcodec
from gmcodec import codec
from gmcodec.image import writing
from gmcodec.models import weights

pytestmark = pytest.mark.usefixtures("toy_weights")


# -- pipes, start-up ------------------------------------------------------------------------------------


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom gmcodec.cli.main import cli\n"
        "for args in (['--help'], ['compress', '--help'], ['train', '--help'], ['--version']):\n"
        "    try: cli(args)\n    except SystemExit as e: assert e.code == 0\n"
        "print(sorted({'numpy', 'torch', 'PIL', 'tqdm', 'safetensors'} & set(sys.modules)))"
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


# -- standard streams that are closed or full ----------------------------------------------------------------------


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("jobs", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_closed_streams(tmp_path: Path, closed: str, jobs: str) -> None:
    files = photo(tmp_path / "a.png"), photo(tmp_path / "b.png", seed=1), tmp_path / "missing.png"
    for files, code in ((files[:2], 0), (files, 12)):  # noqa: B020
        done = in_shell(f"compress --force -j {jobs} {' '.join(map(str, files))} {closed}")
        assert done.returncode == code, done.stderr
        assert b"Traceback" not in done.stderr
        assert b"None" not in done.stderr
        if closed != "<&-" and not code:
            assert done.stderr == b""
    assert names(tmp_path) == ["a.gmc", "a.png", "b.gmc", "b.png"]
    for name in ("a", "b"):
        assert same(tmp_path / f"{name}.png", codec_image(tmp_path / f"{name}.gmc"))


def codec_image(path: Path) -> bytes:
    return writing.write_png(codec.decode_planes(path.read_bytes()))


def in_shell(command: str, **options: object) -> subprocess.CompletedProcess[bytes]:
    line = f"exec {sys.executable} -m gmcodec {command}"
    return subprocess.run(["sh", "-c", line], capture_output=True, env=environment(), check=False, **options)  # type: ignore[call-overload]


def test_a_result_for_a_closed_stream_is_an_error(tmp_path: Path) -> None:
    done = in_shell(f"compress {photo(tmp_path / 'a.png')} -o - >&-")
    assert (done.returncode, done.stderr) == (12, b"gmcodec: error: Bad file descriptor: standard output\n")
    done = in_shell("compress - <&-")
    assert (done.returncode, done.stderr) == (3, b"gmcodec: stdin: the file is empty\n")


needs_full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")


@needs_full
@pytest.mark.parametrize(
    "command",
    [
        "--version",
        "--help",
        "compress --help",
        "models",
        "info a.gmc",
        "verify a.gmc",
        "compress a.png -o -",
        "compress a.png -f",
        "info --json a.gmc",
        "list a.gma",
        "pack a.png -o b.gma",
        "unpack a.gma -o out",
        "decompress a.gmc -o -",
    ],
)
def test_a_full_output(tmp_path: Path, command: str) -> None:
    photo(tmp_path / "a.png")
    run("compress", tmp_path / "a.png")
    run("pack", tmp_path / "a.png", "-o", tmp_path / "a.gma")
    done = in_shell(f"{command} > /dev/full", cwd=tmp_path)
    assert done.returncode == 12
    assert done.stderr.count(b"\n") == 1, done.stderr
    assert done.stderr.endswith(b": No space left on device: standard output\n")
    assert not [name for name in names(tmp_path) if name.endswith(".part")]


@needs_full
def test_full_errors(tmp_path: Path) -> None:
    good = photo(tmp_path / "a.png")
    assert in_shell(f"compress {good} {tmp_path / 'missing.png'} 2> /dev/full").returncode == 12
    assert (tmp_path / "a.gmc").exists()
    assert in_shell("nonsense 2> /dev/full").returncode == 2


@pytest.mark.parametrize("command", ["models", "--help", "info a.gmc", "compress a.png -o -"])
def test_a_closed_pipe_is_quiet(tmp_path: Path, command: str) -> None:
    photo(tmp_path / "a.png")
    run("compress", tmp_path / "a.png")
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as closed:
        done = subprocess.run(
            [*GMCODEC, *command.split()], stdout=closed, stderr=subprocess.PIPE, env=environment(), cwd=tmp_path
        )
    assert (done.returncode, done.stderr) == (141, b"")


# -- what the system refuses ---------------------------------------------------------------------------------------

LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
sys.dont_write_bytecode = True
from gmcodec.cli.main import main
main()
"""


@pytest.mark.parametrize("command", [
    "compress a.png -f", "compress a.png b.png -j 2 -f", "decompress a.gmc -o c.png", "pack a.png -o b.gma",
    "unpack a.gma -o out", "sample local-rgb --size 24 -o s.png",
])  # fmt: skip
def test_a_full_disk(tmp_path: Path, command: str) -> None:
    pytest.importorskip("resource")
    for name in ("a", "b"):
        photo(tmp_path / f"{name}.png", 60, 60)
    run("compress", tmp_path / "a.png")
    run("pack", tmp_path / "a.png", "-o", tmp_path / "a.gma")
    before = names(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *command.split()],
        capture_output=True,
        env=environment(),
        cwd=tmp_path,
        text=True,
    )
    assert done.returncode == 12, done.stderr
    for line in done.stderr.splitlines():
        assert "File too large: " in line
        assert line.rsplit(": ", 1)[1] in ("a.gmc", "b.gmc", "c.png", "b.gma", "out/a.png", "s.png")
    assert names(tmp_path) == before


@pytest.mark.parametrize("command", [
    "compress a.png -o no/a.gmc", "decompress a.gmc -o no/a.png", "pack a.png -o no/b.gma",
    "sample local-rgb --size 8 -o no/s.png", "unpack a.gma -o a.png/out",
])  # fmt: skip
def test_a_missing_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.chdir(tmp_path)
    photo(tmp_path / "a.png")
    run("compress", "a.png")
    run("pack", "a.png", "-o", "a.gma")
    result = run(*command.split())
    assert result.exit_code == 12
    assert result.output.count("\n") == 1
    assert result.output.rstrip().endswith(command.split()[-1])
    assert ".part" not in result.output


def test_frozen_weights_name_their_place(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        weights.write(toy.model(3), tmp_path / "no" / "w.safetensors")
    assert caught.value.filename == str(tmp_path / "no" / "w.safetensors")
