# SPDX-License-Identifier: MIT
"""How long work tells that it advances, and how it is ended early: a callback that may raise.

Code that works on pixels takes a ``Callback`` and calls it with the number of pixels just finished, from any of its
threads.  Whoever starts the work may pass a plain function, or a ``Progress``, which hears of images and failures too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gmcodec.errors import GmcError

Callback = Callable[[int], None]  # told the number of pixels just finished; what it raises ends the work


def ignore(pixels: int) -> None:
    """The callback of work that nobody watches."""


def without_pixels(callback: Callback) -> Callback:
    """A callback for side work, such as trials: it may end the work, but none of its pixels count as finished."""
    return lambda pixels: callback(0)


class Progress:
    """Told how work advances.  This class passes pixels to a callback; others draw bars or collect errors.

    Once ``stopped`` is set, the next report from any thread raises KeyboardInterrupt: Ctrl-C must not wait for the end
    of a tile.
    """

    stopped = False

    def __init__(self, callback: Callback = ignore) -> None:
        self._callback = callback

    def __call__(self, pixels: int) -> None:
        """Report pixels that went through a model.  Raises KeyboardInterrupt once ``stopped``."""
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
        """These images could not be read, for one reason; if this returns, the work goes on without them."""
        raise error


class Stoppable(Progress):
    """Passes all reports on to a callback or another Progress; stopping it leaves that one as it is."""

    def __init__(self, target: Callback | Progress = ignore) -> None:
        super().__init__(target)
        if isinstance(target, Progress):
            self.images, self.failed = target.images, target.failed  # type: ignore[method-assign]
