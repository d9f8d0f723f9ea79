# SPDX-License-Identifier: MIT
"""Long work: how it is watched, jobs side by side with results in order, a file that changes whole or not at all.

A new file that stands for others gets their permissions, or fewer, and their times; until it is complete only its owner
can read it.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import stat
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

from .errors import GmcError, OutputExistsError

T = TypeVar("T")
PERMISSIONS = 0o777  # the bits of a mode that go along: set-user-id and the like do not
log = logging.getLogger("gmcodec")


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Tiles are the unit of parallel work; BLAS threads inside each would only compete."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        yield


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


def in_order(jobs: Iterable[Callable[[], T]], threads: int) -> Generator[T, None, None]:
    """Results in the order of the jobs, ``threads`` of which are at work; a few more wait."""
    pool = ThreadPoolExecutor(threads)
    waiting: deque[Future[T]] = deque()
    try:
        for job in jobs:
            waiting.append(pool.submit(job))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


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
        with create(temporary, 0o600) as file:
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
        os.replace(temporary, place)
    except OSError as error:
        if str(error.filename) == str(temporary):
            error.filename = str(place)  # the name the user knows
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _state(place: Path) -> tuple[int, ...] | None:
    """Changes when the file does; None where there is none."""
    try:
        state = place.stat()
    except FileNotFoundError:
        return None
    return state.st_ino, state.st_size, state.st_mtime_ns
