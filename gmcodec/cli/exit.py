# SPDX-License-Identifier: MIT
"""How a run of the command line begins and ends: its standard streams, signals, and what it returns."""

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

from gmcodec.cli.console import say_error
from gmcodec.cli.jobs import OUTPUT, failure
from gmcodec.errors import GmcError
from gmcodec.files import naming

INTERRUPTED = 130
BROKEN_PIPE = 141  # what a shell shows for a program ended by SIGPIPE
SIGNALLED = 128  # and this much more than its number for another signal
STREAMS = ("stdin", "r"), ("stdout", "w"), ("stderr", "w")
missing: set[str] = set()  # standard streams that were closed when the program began


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP: the work ends as by Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.code = SIGNALLED + number


def prepare_streams() -> None:
    """Put a device that takes all where standard streams are closed: the next file opened would get their place."""
    for number, (name, mode) in enumerate(STREAMS):
        try:
            os.fstat(number)
        except OSError:
            missing.add(name)
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", errors="replace", closefd=False))
    out: Any = sys.stdout
    sys.stdout = named = _Output(out.buffer, out.encoding, out.errors, line_buffering=out.line_buffering)
    named.before = out


class _Output(io.TextIOWrapper):
    """Standard output, which errors name."""

    before: Any  # who has the same buffer, and closes it when it goes

    def write(self, text: str) -> int:
        with naming(OUTPUT):
            return super().write(text)

    def flush(self) -> None:
        with naming(OUTPUT):
            super().flush()


@contextmanager
def heeding_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP raise Terminated meanwhile, unless something else was arranged for."""
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        numbers = []
    numbers = [number for number in numbers if signal.getsignal(number) == signal.SIG_DFL]

    def stop(number: int, frame: object) -> None:
        for other in numbers:  # cleaning up takes a moment
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
def reported() -> Iterator[None]:
    """Errors that a user can meet become one line and an exit code, click's ``Exit``."""
    code: int | None = None
    try:
        yield
    except click.exceptions.Exit as leaving:
        code = leaving.exit_code
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
    if isinstance(error, BrokenPipeError):  # e.g. "| head"; nothing more can be said there, not even while exiting
        _abandon_output()
        return BROKEN_PIPE
    if isinstance(error, KeyboardInterrupt):
        say_error("terminated" if isinstance(error, Terminated) else "interrupted")
        return error.code if isinstance(error, Terminated) else INTERRUPTED
    if isinstance(error, OSError) and error.filename == OUTPUT:
        _abandon_output()
    message, code = failure(error)
    say_error(f"error: {message}")
    return code


def _abandon_output() -> None:
    """What could not be written goes nowhere: Python would try again, and complain, when it exits."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def leave(code: object) -> None:
    """End the process at once after a signal: work that is going on is not waited for, nor is who waits for input."""
    if not isinstance(code, int) or code not in (INTERRUPTED, SIGNALLED + signal.SIGTERM, SIGNALLED + 1):
        return
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
