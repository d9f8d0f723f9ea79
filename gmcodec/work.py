# SPDX-License-Identifier: MIT
"""Long work: how it is watched, jobs side by side with results in order, a file that changes whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

from .errors import GmcError, OutputExistsError

T = TypeVar("T")


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


@contextmanager
def replacing(place: Path, append: bool, force: bool) -> Iterator[BinaryIO]:
    """A temporary file beside ``place`` that takes its place when all went well: a copy of it to append to."""
    old = _state(place)
    if old is not None and not place.is_file():
        raise OutputExistsError(f"{place} exists and is no file")
    if old is not None and not (append or force):
        raise OutputExistsError(f"{place} exists; --force overwrites it, --append adds to it")
    temporary = place.with_name(f".gmcodec-{secrets.token_hex(6)}.part")
    try:
        with open(temporary, "x+b") as file:
            if append and old is not None:
                with open(place, "rb") as source:
                    shutil.copyfileobj(source, file)
            yield file
            file.flush()
            os.fsync(file.fileno())
        if _state(place) != old:  # the work took a while
            raise OutputExistsError(f"{place} was changed by another program meanwhile; nothing was written")
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
