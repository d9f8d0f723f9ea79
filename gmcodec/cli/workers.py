# SPDX-License-Identifier: MIT
"""Processes that work for the command line, each on one job at a time; none of them outlives the run.

::

    run       a thread a worker --jobs--> its standard input    | worker: a thread reads, the main thread works
              results, in order <--pipe-- its standard output   |

A job and its result are pickles, each after its length.  A worker whose input ends has nobody to work for, whatever
ended the run: it removes the temporary file of its job and is gone.  Workers do not import from the current folder.
"""

from __future__ import annotations

import os
import pickle
import signal
import struct
import subprocess
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any, NoReturn

from gmcodec import safe_path
from gmcodec.threads import result_of

LENGTH = struct.Struct("<Q")
PATIENCE = 5.0  # seconds that a process which was ended may take to be gone
Job = tuple[Any, "Path | None"]  # what the function is given, and the temporary file that it may leave


def _send(pipe: IO[bytes], message: Any) -> None:
    data = pickle.dumps(message)
    pipe.write(LENGTH.pack(len(data)) + data)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> Any:
    """The next message.  Raises EOFError when there is none, or not all of it."""
    head = pipe.read(LENGTH.size)
    if len(head) < LENGTH.size:
        raise EOFError
    (length,) = LENGTH.unpack(head)
    data = pipe.read(length)
    if len(data) < length:
        raise EOFError
    return pickle.loads(data)  # noqa: S301  (from our own process)


# -- the run ---------------------------------------------------------------------------------------------


def outcomes(function: Callable[[Any], Any], jobs: Sequence[Job], count: int) -> Generator[Any, None, None]:
    """``function`` of each job, in their order, by ``count`` processes; None where the process died.

    ``function`` is found by its name.  When this ends early, workers are ended at once and leave no temporary file.
    """
    futures: list[Future[Any]] = [Future() for _ in jobs]
    waiting = deque((future, (function, *job)) for future, job in zip(futures, jobs, strict=True))
    team = _Team()
    threads = [threading.Thread(target=team.serve, args=(waiting,), daemon=True) for _ in range(count)]
    try:
        for thread in threads:
            thread.start()
        for future in futures:
            yield result_of(future)
    finally:
        waiting.clear()
        team.end()
        for thread in threads:
            if thread.ident is not None:
                thread.join(PATIENCE)
        for _, temporary in jobs:
            if temporary is not None:
                temporary.unlink(missing_ok=True)


class _Team:
    """The processes that are there."""

    def __init__(self) -> None:
        self._lock, self._processes, self._ended = threading.Lock(), set[subprocess.Popen[bytes]](), False

    def serve(self, waiting: deque[tuple[Future[Any], Any]]) -> None:
        """Give one worker job after job; another one takes its place when it dies."""
        if hasattr(signal, "pthread_sigmask"):  # what a process starts with: Ctrl-C is for the run, which ends them
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        process: subprocess.Popen[bytes] | None = None
        while waiting:
            try:
                future, message = waiting.popleft()
            except IndexError:  # another thread took it
                break
            try:
                process = process or self._start()
                assert process.stdin is not None
                assert process.stdout is not None
                _send(process.stdin, message)
                future.set_result(_receive(process.stdout))
            except (EOFError, BrokenPipeError):
                self._finish(process)
                process = None
                future.set_result(None)
            except BaseException as error:
                self._finish(process)
                process = None
                future.set_exception(error)
        self._finish(process)

    def _start(self) -> subprocess.Popen[bytes]:
        command = safe_path.command("from gmcodec.cli.workers import main; main()")
        with self._lock:
            if self._ended:
                raise EOFError
            process = subprocess.Popen(  # noqa: S603
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=safe_path.environment()
            )
            self._processes.add(process)
        return process

    def _finish(self, process: subprocess.Popen[bytes] | None) -> None:
        """Let a process go that has no work, or is no good."""
        if process is None:
            return
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with suppress(OSError):  # what it did not read is lost
                pipe.close()
        with suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
        with self._lock:
            process.kill()
            self._processes.discard(process)

    def end(self) -> None:
        """Kill all that are there; none is started any more."""
        with self._lock:
            self._ended = True
            for process in self._processes:
                process.kill()


# -- a worker --------------------------------------------------------------------------------------------


def main() -> NoReturn:
    """What a worker does: its standard output carries results, so what is printed goes to standard error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    jobs, results = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    queue: SimpleQueue[Any] = SimpleQueue()
    threading.Thread(target=_listen, args=(jobs, queue), daemon=True).start()
    try:
        while True:
            function, argument, _ = queue.get()
            _send(results, function(argument))
    except BaseException:  # not one of those that the function turns into its result
        traceback.print_exc()
    finally:
        os._exit(1)


def _listen(jobs: IO[bytes], queue: SimpleQueue[Any]) -> None:
    """Pass jobs on; when there are no more, end the process, whatever it is doing."""
    temporary = None
    try:
        while True:
            queue.put(message := _receive(jobs))
            temporary = message[2]
    except EOFError:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)
