# SPDX-License-Identifier: MIT
"""What the commands share: messages, the progress bar, and options that several commands have."""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import click

from gmcodec.cli.paths import Inputs
from gmcodec.progress import Progress

POSITIVE = click.IntRange(min=1)


def print_stderr(line: str) -> None:
    """Print a line on standard error; if that fails, there is no place left to report it."""
    with suppress(OSError, ValueError):
        click.echo(line, err=True)


def print_error(message: str) -> None:
    """Print an error on standard error."""
    print_stderr(f"gmcodec: {message}")


effort_option = click.option(
    "--effort", type=click.Choice(["fast", "default", "best"]), default="default", show_default=True,
    help="Slower efforts never give larger files.",
)  # fmt: skip


times_option = click.option(
    "--times/--no-times", default=True, help="Give each output the time of its source  [default: times]."
)


def report_skipped(inputs: Inputs, at_most: int | None) -> None:
    """Print the skipped files of folders by reason, for each reason ``at_most`` names and the number of the others."""
    reasons: dict[str, list[str]] = {}
    for name, reason in inputs.skipped:
        reasons.setdefault(reason, []).append(name)
    for reason, names in reasons.items():
        more = [] if at_most is None or len(names) <= at_most else [f"and {len(names) - at_most} more"]
        few = names[:at_most] if more else names
        click.echo(f"skipped, {reason}: {', '.join(few + more)}", err=True)


def check_model_name(context: click.Context, option: click.Parameter, name: str | None) -> str | None:
    """Check the name of a model, for ``click.option(callback=...)``.  Raises UsageError."""
    if name is None:
        return None
    from gmcodec.models.registry import ENTRIES

    if name not in (known := [entry.name for entry in ENTRIES]):
        raise click.UsageError(f"unknown model {name!r}; choose from {', '.join(known)}")
    return name


class ProgressBar(Progress):
    """A progress bar on standard error, shown after a second: pixels if there is one file, else files."""

    def __init__(self, files: int, quiet: bool) -> None:
        super().__init__()
        self.hidden, self.lock = quiet or not sys.stderr.isatty(), threading.Lock()
        self.by_file = files > 1
        self.bar: Any = None
        if self.by_file:
            self._open("files", files, "file")

    def _open(self, what: str, total: int, unit: str) -> None:
        self.close()
        if not self.hidden:
            from tqdm import tqdm

            self.bar = tqdm(total=total, desc=what, unit=unit, unit_scale=unit == "px", leave=False, delay=1)

    def start(self, what: str, pixels: int) -> None:
        """Begin a bar of pixels, unless the bar counts files."""
        if not self.by_file:
            self._open(what, pixels, "px")

    def advance(self, pixels: int) -> None:
        """Move a bar of pixels; called from the threads of tiles."""
        with self.lock:
            if not self.by_file and self.bar is not None:
                self.bar.update(pixels)

    def file_done(self) -> None:
        """Move a bar of files, or remove the bar of the file's pixels."""
        if not self.by_file:
            self.close()
        elif self.bar is not None:
            self.bar.update()

    def print(self, line: str, err: bool) -> None:
        """Print a line without mixing it with the bar, on standard error if ``err``."""
        if self.bar is not None:
            self.bar.clear()
        if err:
            print_stderr(line)
        else:
            click.echo(line)

    def close(self) -> None:
        """Remove the bar."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def combined(*decorators: Callable) -> Callable:
    """Several click decorators as one."""
    return lambda command: functools.reduce(lambda inner, outer: outer(inner), reversed(decorators), command)
