# SPDX-License-Identifier: MIT
"""Threads that a program which ends does not wait for, or not for long.

Those of ``concurrent.futures`` are waited for, and after Ctrl-C one may be compiling for a minute.  These are given a
moment, in which those that report progress come to an end.
"""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import Empty, SimpleQueue
from typing import Any

MOMENT = 1.0  # seconds
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
