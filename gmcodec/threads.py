# SPDX-License-Identifier: MIT
"""Threads that can be left behind: jobs side by side with results in order, and work that Ctrl-C ends at once.

Python waits for the threads of ``concurrent.futures`` when a program ends.  These are given a moment, in which those
that report progress come to an end.

Signals are heard by the main thread only, and only between steps of Python.  So another thread does the main thread's
work while the main thread waits; what a signal raises there ends the work at its next report of progress.
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

MOMENT = 1.0  # seconds that threads get when the program ends
LOOK_UP = 0.1  # seconds: where a signal does not wake a waiting thread, it is heard then
_there: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


def start(run: Callable[[], object]) -> threading.Thread:
    """A thread that does this."""
    thread = threading.Thread(target=run, name="gmcodec", daemon=True)
    _there.add(thread)
    thread.start()
    return thread


@atexit.register
def _wait_a_moment() -> None:
    end = time.monotonic() + MOMENT
    for thread in list(_there):
        thread.join(max(0.0, end - time.monotonic()))


def fulfil(future: Future[Any], call: Callable[[], Any]) -> None:
    """Put what a call gives, or raises, into a future."""
    try:
        future.set_result(call())
    except BaseException as error:
        future.set_exception(error)


class Threads(Executor):
    """At most ``count`` of them, which take what is submitted in its order."""

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
            del job  # what it holds may be large

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
    """The result of a future; the waiting thread hears signals, on every system."""
    while not wait([future], LOOK_UP).done:
        pass
    return future.result()


def interruptible(task: Callable[[], T], progress: Progress) -> T:
    """The result of ``task``.  In the main thread, signals are heard meanwhile, and what they raise stops the task."""
    if threading.current_thread() is not threading.main_thread():
        return task()
    future: Future[T] = Future()
    context = contextvars.copy_context()
    try:
        start(lambda: context.run(fulfil, future, task))  # a signal may be heard as soon as it runs
        return result_of(future)
    finally:
        if not future.done():
            progress.stopped = True


def in_order(jobs: Iterable[Callable[[], T]], threads: int, progress: Progress) -> Generator[T, None, None]:
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
        progress.stopped = progress.stopped or not finished
        pool.shutdown(wait=finished, cancel_futures=True)
