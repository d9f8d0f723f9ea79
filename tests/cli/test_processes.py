# SPDX-License-Identifier: MIT
"""The program among others: signals, pipes, closed streams, workers, and where it imports from."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from commands import GMCODEC, environment, names, photo, run, shell

import gmcodec
from gmcodec import safe_path
from gmcodec.bench import memory
from gmcodec.cli import workers
from gmcodec.progress import Stoppable
from gmcodec.threads import interruptible

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


# -- where it imports from ---------------------------------------------------------------------------------------

SHADOWS = (
    "socket", "typing", "subprocess", "pickle", "struct", "logging", "json", "secrets", "queue", "click", "numpy",
    "__future__", "PIL", "dataclasses", "weakref", "selectors", "multiprocessing", "ctypes", "hashlib", "random",
    "tempfile",
)  # fmt: skip


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A folder of pictures and of modules that must not be imported."""
    folder = tmp_path / "pictures"
    for number in range(3):
        photo(folder / f"{number}.png", seed=number)
    for name in SHADOWS:
        (folder / f"{name}.py").write_text(f"open('RAN-{name}', 'w').close(); raise SystemExit('imported {name}')")
    return folder


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_files_of_the_current_folder_do_not_run(trap: Path, jobs: str) -> None:
    done = shell("compress", "-r", ".", "-j", jobs, cwd=trap)
    assert (done.returncode, [name for name in names(trap) if name.startswith("RAN")]) == (0, []), done.stderr
    assert done.stdout.count(b" bpd; ") == 3


def test_a_checkout_in_the_current_folder_comes_last(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    root = Path(gmcodec.__file__).parent.parent
    monkeypatch.chdir(root)
    monkeypatch.setattr(sys, "path", ["", str(root), ".", "/usr/lib/python"])
    assert safe_path.import_path() == ["/usr/lib/python", os.path.realpath(root)]
    monkeypatch.chdir(tmp_path)
    assert safe_path.import_path() == [str(root), "/usr/lib/python"]
    monkeypatch.setattr(sys, "path", [str(tmp_path), "", "/usr/lib/python"])
    assert safe_path.import_path() == ["/usr/lib/python", str(root)]
    tmp_path.rmdir()
    assert safe_path.import_path() == sys.path


def test_measuring_memory_does_not_run_files_of_the_current_folder(trap: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trap)
    peak = memory.of_codec(memory.BASELINE, np.zeros((4, 4), np.uint8), 1)
    assert peak is not None
    assert peak > 1 << 22
    assert not any(name.startswith("RAN") for name in names(trap))


# -- workers -----------------------------------------------------------------------------------------------------


def _die(number: int) -> int:
    if number == 1:
        os.kill(os.getpid(), 9)
    return 10 * number


def _print(number: int) -> int:
    sys.stdout.write("this is no result")
    return number


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_worker_that_dies_costs_one_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, count: int) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(Path(__file__).parent)])
    left = tmp_path / "left.part"
    left.touch()
    jobs = [(number, left if number == 1 else None) for number in range(6)]
    assert list(workers.run_in_processes(_die, jobs, count)) == [0, None, 20, 30, 40, 50]
    assert not left.exists()
    assert not children(os.getpid())


def test_what_a_worker_prints_is_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(Path(__file__).parent)])
    assert list(workers.run_in_processes(_print, [(number, None) for number in range(3)], 2)) == [0, 1, 2]


def test_a_dead_worker_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = photo(tmp_path / "a.png"), photo(tmp_path / "b.png")
    real = workers.run_in_processes
    monkeypatch.setattr(workers, "run_in_processes", lambda function, jobs, count: [*real(function, jobs[:1], 1), None])
    result = run("compress", good, bad, "-j", "2")
    assert result.exit_code == 1
    assert f"gmcodec: {bad}: a worker process died, perhaps for lack of memory\n" in result.output
    assert (tmp_path / "a.gmc").exists()


# -- signals -----------------------------------------------------------------------------------------------------


def children(parent: int) -> list[int]:
    """Processes that a process has started and that are there, where the system tells."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs to see processes")
@pytest.mark.parametrize(("number", "code"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGKILL", -9)])
@pytest.mark.parametrize("jobs", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_no_worker_outlives_the_run(tmp_path: Path, number: str, code: int, jobs: int) -> None:
    small, *large = (photo(tmp_path / f"{n}.ppm", s, s) for n, s in (("a", 20), ("b", 1500), ("c", 1500), ("d", 1500)))
    command = [*GMCODEC, "compress", "--code", "learned", "-j", str(jobs), *map(str, (small, *large))]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment(), **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(os.fsencode(small))  # so others are being worked on
        team = children(process.pid)
        assert len(team) == (2 if jobs == 2 else 0)
        os.kill(process.pid, getattr(signal, number))
        begun = time.monotonic()
        _, err = process.communicate(timeout=30)  # to the end of both pipes
        assert time.monotonic() - begun < 1.5
        assert process.returncode == code
        assert wait_until(lambda: not any(map(alive, team)), 1.0)
    if number != "SIGKILL":
        assert err == b"gmcodec: terminated\n"
    if number != "SIGKILL" or jobs == 2:
        assert names(tmp_path) == ["a.gmc", "a.ppm", "b.ppm", "c.ppm", "d.ppm"]


@pytest.mark.parametrize(("number", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_an_archive_that_is_not_finished(tmp_path: Path, number: str, code: int) -> None:
    for n in range(3):
        photo(tmp_path / f"{n}.ppm", 1500, 1500)
    command = [*GMCODEC, "pack", str(tmp_path), "-o", str(tmp_path / "a.gma"), "--effort", "best"]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert wait_until(lambda: any(name.endswith(".part") for name in names(tmp_path)), 30.0)
        time.sleep(0.3)
        os.kill(process.pid, getattr(signal, number))
        begun = time.monotonic()
        _, err = process.communicate(timeout=30)
        assert time.monotonic() - begun < 1.5
    assert (process.returncode, err) == (code, b"gmcodec: terminated\n" if code == 143 else b"gmcodec: interrupted\n")
    assert names(tmp_path) == ["0.ppm", "1.ppm", "2.ppm"]


def test_a_signal_that_is_ignored_stays_so(tmp_path: Path) -> None:
    source = photo(tmp_path / "a.png")
    code = (
        "import os, signal, sys\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\nos.execv(sys.executable, sys.argv[1:])"
    )
    test = (
        "import signal\nfrom gmcodec.cli import exit\nwith exit.signals_as_exceptions(): "
        "print(signal.getsignal(signal.SIGHUP) == signal.SIG_IGN, signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)"
    )
    command = [sys.executable, "-c", code, sys.executable, "-c", test]
    done = subprocess.run(command, capture_output=True, env=environment(), text=True, check=True)
    assert done.stdout == "True False\n"
    assert source.exists()


INTERRUPT = """
import os, signal, sys, threading, time
import numpy as np
import gmcodec
from gmcodec.progress import Progress

smooth = np.add.outer(np.arange(1000), np.arange(1000))[..., None] * np.array([1, 2, 3]) / 60
image = (120 + 60 * np.sin(smooth) + np.random.default_rng(0).normal(0, 6, smooth.shape)).clip(0, 255).astype(np.uint8)
small = image[:150, :150]
what, path = sys.argv[1:]

def pack(image, effort="default"):
    gmcodec.pack({f"{n}.png": image for n in range(2)}, path, effort=effort, force=True)

if what == "encode":
    prepare, work = None, lambda image: gmcodec.encode(image, effort="best")
elif what == "decode":
    prepare, work = gmcodec.encode, gmcodec.decode
elif what == "pack":
    prepare, work = None, lambda image: pack(image, "best")
else:
    prepare, work = pack, lambda _: gmcodec.Archive(path)["1.png"] if what == "read" else list(
        gmcodec.Archive(path).items())
made = prepare(small) if prepare else small
work(made)  # everything is loaded
begun = time.monotonic()
made = prepare(image) if prepare else image
sent = []

def send():
    sent.append(time.monotonic())
    os.kill(os.getpid(), signal.SIGINT)

timer = threading.Timer(0.7, send)
timer.daemon = True
timer.start()
try:
    work(made)
except KeyboardInterrupt:
    print(time.monotonic() - sent[0], time.monotonic())
"""


@pytest.mark.weights
@pytest.mark.parametrize(
    "what", ["encode", *(pytest.param(w, marks=pytest.mark.slow) for w in ("decode", "pack", "read", "items"))]
)
def test_interrupt_of_a_library_call(tmp_path: Path, shipped: Path, what: str) -> None:
    command = [sys.executable, "-c", INTERRUPT, what, str(tmp_path / "a.gma")]
    done = subprocess.run(command, capture_output=True, env=environment(), text=True, check=False)
    end = time.monotonic()
    assert (done.returncode, done.stderr) == (0, "")
    heard, at = map(float, done.stdout.split())
    assert heard < 0.5
    assert end - at < 2.5
    assert not [name for name in names(tmp_path) if name.endswith(".part")]


def test_work_goes_on_after_an_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    """An embedding program may catch it; nothing is left that slows down or disturbs what it does next."""
    begun, ended = threading.Event(), threading.Event()

    def work(stop: Stoppable) -> None:
        begun.set()
        try:
            while True:
                time.sleep(0.01)
                stop(1)
        finally:
            ended.set()

    stop = Stoppable()
    threading.Thread(target=lambda: begun.wait() and signal.raise_signal(signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        interruptible(lambda: work(stop), stop)
    assert ended.wait(1.0)
    other = Stoppable()
    assert interruptible(lambda: 5, other) == 5
    assert not other.stopped


def test_errors_of_the_work_are_those_of_the_call() -> None:
    stop = Stoppable()
    with pytest.raises(ZeroDivisionError):
        interruptible(lambda: 1 // 0, stop)
    assert not stop.stopped
