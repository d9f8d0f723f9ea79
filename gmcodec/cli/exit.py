# SPDX-License-Identifier: MIT
"""How a run of the command line begins and ends: standard streams, signals and exit codes."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import click

from gmcodec.cli.console import print_error
from gmcodec.cli.jobs import STDOUT_NAME, failure
from gmcodec.errors import GmcError
from gmcodec.files import naming

INTERRUPTED = 130
BROKEN_PIPE = 141  # as shells show a program that SIGPIPE ended
SIGNALLED = 128  # plus the number of the signal: as shells show a program that another signal ended
STREAMS = ("stdin", "r"), ("stdout", "w"), ("stderr", "w")
closed_streams: set[str] = set()  # names of the standard streams that were closed when the program began


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP, which end the work in the same way as Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.code = SIGNALLED + number


def prepare_streams() -> None:
    """Open the null device in place of closed standard streams, and let errors name standard output.

    Otherwise the next file opened would get the number of a standard stream.
    """
    for number, (name, mode) in enumerate(STREAMS):
        try:
            os.fstat(number)
        except OSError:
            closed_streams.add(name)
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", errors="replace", closefd=False))
    out: Any = sys.stdout
    sys.stdout = named = _NamedOutput(out.buffer, out.encoding, out.errors, line_buffering=out.line_buffering)
    named.original = out


class _NamedOutput(io.TextIOWrapper):
    """Standard output whose errors name it as their file."""

    original: Any  # keeps the first wrapper alive, which would close the shared buffer when it is collected

    def write(self, text: str) -> int:
        with naming(STDOUT_NAME):
            return super().write(text)

    def flush(self) -> None:
        with naming(STDOUT_NAME):
            super().flush()


@contextmanager
def signals_as_exceptions() -> Iterator[None]:
    """Within the block SIGTERM and SIGHUP raise Terminated, unless they are ignored or handled already."""
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():  # only the main thread may handle signals
        numbers = []
    numbers = [number for number in numbers if signal.getsignal(number) == signal.SIG_DFL]

    def stop(number: int, frame: object) -> None:
        for other in numbers:  # a second signal must not interrupt the cleaning up
            signal.signal(other, signal.SIG_IGN)
        raise Terminated(number)

    for number in numbers:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def errors_as_exit_codes() -> Iterator[None]:
    """Errors that a user can meet become one line on standard error and click's ``Exit`` with a code."""
    code: int | None = None
    try:
        yield
    except click.exceptions.Exit as error:
        code = error.exit_code
    except (GmcError, OSError, MemoryError, KeyboardInterrupt) as error:
        code = _report(error)
    try:
        sys.stdout.flush()
    except OSError as error:
        _abandon_output()
        code = code or _report(error)
    if code is not None:
        raise click.exceptions.Exit(code)


def _report(error: GmcError | OSError | MemoryError | KeyboardInterrupt) -> int:
    """Print an error.  Returns the exit code."""
    if isinstance(error, BrokenPipeError):  # the reader, such as "head", has ended; writing more would fail again
        _abandon_output()
        return BROKEN_PIPE
    if isinstance(error, KeyboardInterrupt):
        print_error("terminated" if isinstance(error, Terminated) else "interrupted")
        return error.code if isinstance(error, Terminated) else INTERRUPTED
    if isinstance(error, OSError) and error.filename == STDOUT_NAME:
        _abandon_output()
    message, code = failure(error)
    print_error(f"error: {message}")
    return code


def _abandon_output() -> None:
    """Discard what could not be written: Python would try again when it exits, and print another error."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def exit_after_signal(code: object) -> None:
    """If a signal ended the program, end the process at once, without waiting for threads that work or read."""
    if not isinstance(code, int) or code not in (INTERRUPTED, SIGNALLED + signal.SIGTERM, SIGNALLED + 1):
        return
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
