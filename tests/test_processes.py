# SPDX-License-Identifier: MIT
"""The program among others: signals, pipes, closed streams, workers, and where it imports from."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import GMCODEC, environment, names, photo, run, same, shell

import gmcodec
from gmcodec import codec

pytestmark = pytest.mark.usefixtures("toy_weights")


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
