# SPDX-License-Identifier: MIT
"""Where this program's own processes import from: never from the current folder, which may hold anybody's files.

A picture folder with a file in it that is called like a module of the standard library (socket) must not decide what
runs.  Python puts the current folder first for ``-c`` and ``-m``; its switch against that (-P) is younger than the
oldest Python that we support.  Nothing is imported here that Python has not loaded when it starts.
"""

import os
import sys


def import_path() -> list[str]:
    """``sys.path`` without the current folder; where packages lie in that folder, it comes last instead."""
    try:
        here = os.path.realpath(os.getcwd())
    except OSError:  # the folder was deleted: nothing can be imported from it
        return list(sys.path)
    ours = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    kept = [os.path.abspath(entry) for entry in sys.path if entry and os.path.realpath(entry) != here]
    if os.path.realpath(ours) == here or os.path.basename(here) in ("site-packages", "dist-packages"):
        return [*kept, here]  # the standard library wins, and so do other packages
    return kept if ours in kept else [*kept, ours]


def command(code: str, *arguments: str) -> list[str]:
    """What starts this Python anew, to run ``code`` with that path, and ``environment``."""
    from subprocess import _args_from_interpreter_flags  # type: ignore[attr-defined]  # multiprocessing does so too

    start = f"import sys; sys.path[:] = {import_path()!r}; {code}"
    return [sys.executable, *_args_from_interpreter_flags(), "-c", start, *arguments]


def environment() -> dict[str, str]:
    """The environment without PYTHONPATH, of which an empty entry stands for the current folder."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
