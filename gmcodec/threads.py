# SPDX-License-Identifier: MIT
"""Threads that do not keep a program from ending: parallel jobs with results in order, and work that Ctrl-C stops.

When a program ends, Python waits for all threads of ``concurrent.futures``.  The threads here are daemons: they get a
moment to stop at their next report of progress, and are then abandoned.

Python handles signals in the main thread only, and only between two bytecodes.  So a worker thread does the work while
the main thread waits; an exception that a signal raises there stops the work at its next report of progress.
"""

from __future__ import annotations

import atexit
import contextvars
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Executor, Future, wait
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from gmcodec.progress import Progress

T = TypeVar("T")

EXIT_GRACE_SECONDS = 1.0  # that threads get when the program ends
POLL_SECONDS = 0.1  # a waiting main thread handles signals this often, on systems where they do not wake it
_started: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


def start(run: Callable[[], object]) -> threading.Thread:
    """A running daemon thread that calls ``run``."""
    thread = threading.Thread(target=run, name="gmcodec", daemon=True)
    _started.add(thread)
    thread.start()
    return thread


@atexit.register
def _wait_at_exit() -> None:
    end = time.monotonic() + EXIT_GRACE_SECONDS
    for thread in list(_started):
        thread.join(max(0.0, end - time.monotonic()))


def fulfil(future: Future[Any], call: Callable[[], Any]) -> None:
    """Put the result of a call, or what it raises, into a future."""
    try:
        future.set_result(call())
    except BaseException as error:
        future.set_exception(error)


class Threads(Executor):
    """A pool of at most ``count`` daemon threads; jobs start in the order in which they are submitted."""

    def __init__(self, count: int) -> None:
        self._count, self._threads = count, list[threading.Thread]()
        self._waiting: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self._waiting.put((future, lambda: function(*args, **kwargs)))
        if len(self._threads) < self._count:
            self._threads.append(start(self._serve))
        return future

    def _serve(self) -> None:
        while (job := self._waiting.get()) is not None:
            if job[0].set_running_or_notify_cancel():
                fulfil(*job)
            del job  # it may hold large arrays

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        while cancel_futures:
            try:
                job = self._waiting.get_nowait()
            except Empty:
                break
            if job is not None:
                job[0].cancel()
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads if wait else ():
            thread.join()


def result_of(future: Future[T]) -> T:
    """The result of a future; the waiting thread handles signals, on every system."""
    while not wait([future], POLL_SECONDS).done:
        pass
    return future.result()


def interruptible(task: Callable[[], T], progress: Progress) -> T:
    """The result of ``task``.  Called in the main thread, an exception that a signal raises stops the task."""
    if threading.current_thread() is not threading.main_thread():
        return task()
    future: Future[T] = Future()
    context = contextvars.copy_context()
    try:
        start(lambda: context.run(fulfil, future, task))  # inside ``try``: a signal may come as soon as it runs
        return result_of(future)
    finally:
        if not future.done():
            progress.stopped = True


def in_order(jobs: Iterable[Callable[[], T]], threads: int, progress: Progress) -> Generator[T, None, None]:
    """Results in the order of the jobs, of which ``threads`` run at once.

    When it ends early, by an error or a signal, it stops the running jobs and does not wait for them.
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
        progress.stopped = progress.stopped or not finished
        pool.shutdown(wait=finished, cancel_futures=True)
