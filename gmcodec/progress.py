# SPDX-License-Identifier: MIT
"""Progress reports of long work, and how it is stopped early: a callback that may raise.

Code that works on pixels takes a ``Callback`` and calls it with the number of pixels just finished, from any of its
threads.  The caller passes a plain function, or a ``Progress``, which is also told about images and failures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gmcodec.errors import GmcError

Callback = Callable[[int], None]  # called with the number of pixels just finished; an exception stops the work


def ignore(pixels: int) -> None:
    """The callback that does nothing."""


def without_pixels(callback: Callback) -> Callback:
    """A callback for trials and the like: it may still stop the work, but no pixels count as finished."""
    return lambda pixels: callback(0)


class Progress:
    """Receives progress reports.  This class passes pixels on to a callback; others draw bars or collect errors.

    Once ``stopped`` is set, the next report from any thread raises KeyboardInterrupt, so that Ctrl-C need not wait for
    the end of a tile.
    """

    stopped = False

    def __init__(self, callback: Callback = ignore) -> None:
        self._callback = callback

    def __call__(self, pixels: int) -> None:
        """Report finished pixels.  Raises KeyboardInterrupt once ``stopped``."""
        if self.stopped:
            raise KeyboardInterrupt
        self.advance(pixels)

    def start(self, what: str, pixels: int) -> None:
        """A task over a number of pixels begins."""

    def advance(self, pixels: int) -> None:
        """A number of pixels are done."""
        self._callback(pixels)

    def images(self, count: int) -> None:
        """A number of images are done."""

    def failed(self, names: Sequence[str], error: GmcError | OSError) -> None:
        """These images failed with one error; if this method returns, the work goes on without them."""
        raise error


class Stoppable(Progress):
    """Passes all reports on to a callback or another Progress, which is not stopped with it."""

    def __init__(self, target: Callback | Progress = ignore) -> None:
        super().__init__(target)
        if isinstance(target, Progress):
            self.images, self.failed = target.images, target.failed  # type: ignore[method-assign]
