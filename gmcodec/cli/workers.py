# SPDX-License-Identifier: MIT
"""Worker processes of the command line, each on one task at a time; none of them outlives the run.

::

    the run: a thread for each worker --tasks-->  its standard input   | worker: a thread reads, the main thread works
             results, in order       <--pipe---  its standard output  |

A task and its result are pickles, each preceded by its length.  When the input of a worker ends, the run has ended, for
whatever reason: the worker removes the temporary file of its task and exits.  Workers do not import from the current
folder.
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
EXIT_TIMEOUT = 5.0  # seconds to wait for a process or thread to end
Task = tuple[Any, "Path | None"]  # the argument of the function, and the temporary file that it may leave


def _send(pipe: IO[bytes], message: Any) -> None:
    data = pickle.dumps(message)
    pipe.write(LENGTH.pack(len(data)) + data)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> Any:
    """The next message.  Raises EOFError if the pipe ends before or within it."""
    head = pipe.read(LENGTH.size)
    if len(head) < LENGTH.size:
        raise EOFError
    (length,) = LENGTH.unpack(head)
    data = pipe.read(length)
    if len(data) < length:
        raise EOFError
    return pickle.loads(data)  # noqa: S301  (from our own process)


# -- the run ---------------------------------------------------------------------------------------------


def run_in_processes(function: Callable[[Any], Any], tasks: Sequence[Task], count: int) -> Generator[Any, None, None]:
    """The results of ``function`` for all tasks, in their order, by ``count`` processes; None if a process died.

    ``function`` must be importable by its name.  If the generator is closed early, the workers are killed and leave no
    temporary file.
    """
    futures: list[Future[Any]] = [Future() for _ in tasks]
    waiting = deque((future, (function, *task)) for future, task in zip(futures, tasks, strict=True))
    workers = _Workers()
    threads = [threading.Thread(target=workers.serve, args=(waiting,), daemon=True) for _ in range(count)]
    try:
        for thread in threads:
            thread.start()
        for future in futures:
            yield result_of(future)
    finally:
        waiting.clear()
        workers.kill()
        for thread in threads:
            if thread.ident is not None:
                thread.join(EXIT_TIMEOUT)
        for _, temporary in tasks:
            if temporary is not None:
                temporary.unlink(missing_ok=True)


class _Workers:
    """The processes of a run."""

    def __init__(self) -> None:
        self._lock, self._processes, self._ended = threading.Lock(), set[subprocess.Popen[bytes]](), False

    def serve(self, waiting: deque[tuple[Future[Any], Any]]) -> None:
        """Send one worker task after task; if it dies, start another."""
        if hasattr(signal, "pthread_sigmask"):  # workers inherit this: Ctrl-C must reach the run only
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
        """End a process that has no more tasks, or that failed."""
        if process is None:
            return
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with suppress(OSError):  # the process may have ended without reading everything
                pipe.close()
        with suppress(subprocess.TimeoutExpired):
            process.wait(EXIT_TIMEOUT)
        with self._lock:
            process.kill()
            self._processes.discard(process)

    def kill(self) -> None:
        """Kill all processes, and start no more."""
        with self._lock:
            self._ended = True
            for process in self._processes:
                process.kill()


# -- a worker --------------------------------------------------------------------------------------------


def main() -> NoReturn:
    """The worker: results go to its standard output, so anything that is printed goes to standard error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tasks, results = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    queue: SimpleQueue[Any] = SimpleQueue()
    threading.Thread(target=_listen, args=(tasks, queue), daemon=True).start()
    try:
        while True:
            function, argument, _ = queue.get()
            _send(results, function(argument))
    except BaseException:  # an error that the function did not turn into its result
        traceback.print_exc()
    finally:
        os._exit(1)


def _listen(tasks: IO[bytes], queue: SimpleQueue[Any]) -> None:
    """Pass tasks on; when the input ends, end the process, whatever it is doing."""
    temporary = None
    try:
        while True:
            queue.put(message := _receive(tasks))
            temporary = message[2]
    except EOFError:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)
