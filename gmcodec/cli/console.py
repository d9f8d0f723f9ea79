# SPDX-License-Identifier: MIT
"""What the commands share: messages, the progress bar, and options that come in sets."""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import click

from gmcodec.cli.paths import Found
from gmcodec.progress import Progress

NUMBER = click.IntRange(min=1)


def tell(line: str) -> None:
    """A line on standard error; where it cannot be written, nobody can be told."""
    with suppress(OSError, ValueError):
        click.echo(line, err=True)


def say_error(message: str) -> None:
    """One line on standard error."""
    tell(f"gmcodec: {message}")


effort_option = click.option(
    "--effort", type=click.Choice(["fast", "default", "best"]), default="default", show_default=True,
    help="Slower efforts never give larger files.",
)  # fmt: skip


times_option = click.option(
    "--times/--no-times", default=True, help="Give each output the time of its source  [default: times]."
)


def report_skipped(found: Found, at_most: int | None) -> None:
    """Name the files met in folders that are left out, by reason; of one reason ``at_most``, others are counted."""
    reasons: dict[str, list[str]] = {}
    for name, reason in found.skipped:
        reasons.setdefault(reason, []).append(name)
    for reason, names in reasons.items():
        more = [] if at_most is None or len(names) <= at_most else [f"and {len(names) - at_most} more"]
        few = names[:at_most] if more else names
        click.echo(f"skipped, {reason}: {', '.join(few + more)}", err=True)


def known_model(context: click.Context, option: click.Parameter, name: str | None) -> str | None:
    """Check the name of a model, for ``click.option(callback=...)``."""
    if name is None:
        return None
    from gmcodec.models.registry import ENTRIES

    if name not in (known := [entry.name for entry in ENTRIES]):
        raise click.UsageError(f"unknown model {name!r}; choose from {', '.join(known)}")
    return name


class ProgressBar(Progress):
    """A progress bar on standard error once work takes a second: pixels of one file, or files of several."""

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
        if not self.by_file:
            self._open(what, pixels, "px")

    def advance(self, pixels: int) -> None:
        with self.lock:  # tiles report from their threads
            if not self.by_file and self.bar is not None:
                self.bar.update(pixels)

    def file_done(self) -> None:
        if not self.by_file:
            self.close()
        elif self.bar is not None:
            self.bar.update()

    def say(self, line: str, err: bool) -> None:
        """A line that does not run into the bar."""
        if self.bar is not None:
            self.bar.clear()
        if err:
            tell(line)
        else:
            click.echo(line)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def together(*parts: Callable) -> Callable:
    """Several click decorators as one."""
    return lambda command: functools.reduce(lambda made, part: part(made), reversed(parts), command)
