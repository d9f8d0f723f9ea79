# SPDX-License-Identifier: MIT
"""Split the steps of a wavefront into calls of the native core, between which progress is reported."""

from __future__ import annotations

from gmcodec.progress import Callback


def split_steps(steps: int, pixels: int, each: int) -> list[tuple[int, int]]:
    """First and last step of every call, for a tile of ``pixels`` pixels: about ``each`` pixels a call."""
    steps_a_call = max(1, each * steps // pixels)
    return [(start, min(start + steps_a_call, steps)) for start in range(0, steps, steps_a_call)]


def report(progress: Callback, pixels: int, number: int, calls: int) -> None:
    """Report the pixels of call ``number``; those of all calls add up to ``pixels``."""
    progress(pixels * (number + 1) // calls - pixels * number // calls)
