# SPDX-License-Identifier: MIT
"""Start Python processes that do not import from the current folder, which may contain files of others.

A folder of pictures may contain a file with the name of a module of the standard library, such as socket, which must
not run.  Python puts the current folder first for ``-c`` and ``-m``, and its option against that (-P) does not exist in
the oldest supported Python.  This module imports only modules that Python loads when it starts.
"""

import os
import sys


def import_path() -> list[str]:
    """``sys.path`` without the current folder, which comes last if gmcodec or its requirements lie in it."""
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
    """The command line of a new Python that runs ``code`` with this path, in ``environment()``."""
    from subprocess import _args_from_interpreter_flags  # type: ignore[attr-defined]  # multiprocessing does so too

    start = f"import sys; sys.path[:] = {import_path()!r}; {code}"
    return [sys.executable, *_args_from_interpreter_flags(), "-c", start, *arguments]


def environment() -> dict[str, str]:
    """The environment without PYTHONPATH, because an empty entry in it means the current folder."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
