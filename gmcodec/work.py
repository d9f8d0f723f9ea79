# SPDX-License-Identifier: MIT
"""Long work: how it is watched and ended, jobs side by side with results in order, a file that changes whole or not
at all.

Signals are heard by the main thread only, and only between steps of Python.  So work of the main thread is done by
another one, while the main thread waits; what a signal raises there ends the work at its next report of progress.

A new file that stands for others gets their permissions, or fewer, and their times; until it is complete only its owner
can read it.
"""

from __future__ import annotations

import contextvars
import logging
import os
import secrets
import shutil
import stat
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

from gmcodec.errors import GmcError, OutputExistsError
from gmcodec.threads import Threads, fulfil, start

T = TypeVar("T")
LOOK_UP = 0.1  # seconds: where a signal does not wake who waits, it is heard then
PERMISSIONS = 0o777  # the bits of a mode that go along: set-user-id and the like do not
log = logging.getLogger("gmcodec")


# -- how work is watched and ended -------------------------------------------------------------------------


class Stoppable(Protocol):
    """Something that threads report to; once it is ``stopped``, reports raise KeyboardInterrupt."""

    stopped: bool


class Stop:
    """Passes reports of progress on, until it is ``stopped``."""

    stopped = False

    def __init__(self, progress: Callable[[int], None]) -> None:
        self._progress = progress

    def __call__(self, count: int) -> None:
        if self.stopped:
            raise KeyboardInterrupt
        self._progress(count)


def interruptible(task: Callable[[], T], stop: Stoppable) -> T:
    """What ``task`` gives.  In the main thread, signals are heard meanwhile, and what they raise stops the task."""
    if threading.current_thread() is not threading.main_thread():
        return task()
    future: Future[T] = Future()
    context = contextvars.copy_context()
    try:
        start(lambda: context.run(fulfil, future, task))  # a signal may be heard as soon as it runs
        return result_of(future)
    finally:
        if not future.done():
            stop.stopped = True


def result_of(future: Future[T]) -> T:
    """What a future gives; who waits hears signals, on every system."""
    while not wait([future], LOOK_UP).done:
        pass
    return future.result()


class Watch:
    """Told how the work goes, from any thread; raising ends the work.  This one ignores all but errors."""

    def __init__(self, progress: Callable[[int], None] = lambda count: None) -> None:
        self._progress = progress

    def pixels(self, count: int) -> None:
        """So many more pixels went through a model."""
        self._progress(count)

    def images(self, count: int) -> None:
        """So many more images are done."""

    def failed(self, names: Sequence[str], error: GmcError | OSError) -> None:
        """These images could not be read, for one reason; when this returns, the work goes on without them."""
        raise error


class StoppableWatch(Watch):
    """Passes everything on to another watch, until it is ``stopped``."""

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch.pixels)
        self.images, self.failed, self.stopped = watch.images, watch.failed, False  # type: ignore[method-assign]

    def pixels(self, count: int) -> None:
        if self.stopped:
            raise KeyboardInterrupt
        super().pixels(count)


def in_order(jobs: Iterable[Callable[[], T]], threads: int, stop: Stoppable) -> Generator[T, None, None]:
    """Results in the order of the jobs, ``threads`` of which are at work; a few more wait.

    When it ends early, by an error or a signal, it stops those at work and does not wait for them.
    """
    pool = Threads(threads)
    waiting: deque[Future[T]] = deque()
    finished = False
    try:
        for job in jobs:
            waiting.append(pool.submit(job))
            if len(waiting) > threads:
                yield result_of(waiting.popleft())
        while waiting:
            yield result_of(waiting.popleft())
        finished = True
    finally:
        stop.stopped = stop.stopped or not finished
        pool.shutdown(wait=finished, cancel_futures=True)


# -- files -------------------------------------------------------------------------------------------------


@contextmanager
def naming(place: Path | str, temporary: Path | None = None) -> Iterator[None]:
    """What the system refuses to do with a temporary file, or without saying with which, names ``place``."""
    try:
        yield
    except OSError as error:
        if error.filename is None or str(error.filename) == str(temporary):
            error.filename, error.filename2 = str(place), None
        raise


# -- permissions and times -------------------------------------------------------------------------------


def create(path: Path, permissions: int = 0o666) -> BinaryIO:
    """A new file to write and read, with at most these permissions, from its first byte on; the umask holds."""
    return open(path, "x+b", opener=lambda name, flags: os.open(name, flags, permissions))


def attributes(path: Path | None) -> os.stat_result | None:
    """The permissions and times of a regular file; None for anything else."""
    try:
        state = None if path is None else path.stat()
    except OSError:
        return None  # who reads the file will say it
    return state if state is not None and stat.S_ISREG(state.st_mode) else None


def copy_attributes(source: os.stat_result | None, target: Path, times: bool) -> None:
    """Give ``target`` the permissions of ``source`` and, with ``times``, its times; what fails is a warning."""
    if source is None:
        return
    if times:
        set_times(target, source.st_atime_ns, source.st_mtime_ns)
    set_permissions(target, source.st_mode & PERMISSIONS)


def set_times(target: Path, accessed: int, modified: int) -> None:
    """Set times in nanoseconds; file systems that refuse are worth a warning, not a failure."""
    try:
        os.utime(target, ns=(accessed, modified))
    except (OSError, OverflowError) as error:
        log.warning("its time cannot be set: %s", getattr(error, "strerror", None) or error)


def set_permissions(target: Path, permissions: int) -> None:
    """Set the permissions; file systems that refuse are worth a warning, not a failure."""
    try:
        os.chmod(target, permissions)
    except OSError as error:
        log.warning("its permissions cannot be set: %s", error.strerror or error)


def usual_permissions() -> int:
    """The permissions of a new file of this process."""
    mask = os.umask(0o077)  # there is no other way to ask; what is created meanwhile is private
    os.umask(mask)
    return 0o666 & ~mask


@contextmanager
def replacing(
    place: Path, append: bool, force: bool, permissions: Callable[[], int | None] = lambda: None
) -> Iterator[BinaryIO]:
    """A temporary file beside ``place`` that takes its place when all went well: a copy of it to append to.

    ``permissions``: asked when the work is done, what the file may have at most; None for no limit.
    """
    old = _state(place)
    if old is not None and not place.is_file():
        raise OutputExistsError(f"{place} exists and is no file")
    if old is not None and not (append or force):
        raise OutputExistsError(f"{place} exists; --force overwrites it, --append adds to it")
    temporary = place.with_name(f".gmcodec-{secrets.token_hex(6)}.part")
    try:
        with naming(place, temporary), create(temporary, 0o600) as file:
            if append and old is not None:
                with open(place, "rb") as source:
                    shutil.copyfileobj(source, file)
            yield file
            file.flush()
            os.fsync(file.fileno())
        if _state(place) != old:  # the work took a while
            raise OutputExistsError(f"{place} was changed by another program meanwhile; nothing was written")
        usual = place.stat().st_mode & PERMISSIONS if append and old is not None else usual_permissions()
        most = permissions()
        # the owner could read all that went into it
        set_permissions(temporary, usual if most is None else usual & most | stat.S_IRUSR)
        with naming(place, temporary):
            os.replace(temporary, place)
    finally:
        temporary.unlink(missing_ok=True)


def _state(place: Path) -> tuple[int, ...] | None:
    """Changes when the file does; None where there is none."""
    try:
        state = place.stat()
    except FileNotFoundError:
        return None
    return state.st_ino, state.st_size, state.st_mtime_ns
