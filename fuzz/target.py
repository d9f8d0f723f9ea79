# SPDX-License-Identifier: MIT
"""The process that fuzzes one entry: ``target.py MODULE NAME FOLDER [options of libFuzzer]``; run.py starts it.

Seeds are written to ``FOLDER/corpus/``, to which libFuzzer adds interesting inputs; faults go to ``FOLDER/found/``.  If
FOLDER is a file, that input is decoded.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
import sys
from contextlib import nullcontext
from pathlib import Path

import atheris

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]


def digest(data: bytes) -> str:
    """A name for an input."""
    return hashlib.sha256(data).hexdigest()[:16]


def main() -> None:
    module, name, folder, *options = sys.argv[1:]
    path = Path(folder)
    corpus, found = path / "corpus", path / "found"
    # for nets only C++ matters, and instrumenting Python would take half of the time
    counted = nullcontext() if module == "nets" else atheris.instrument_imports(include=["gmcodec"])
    with counted:
        entry = next(e for e in importlib.import_module(module).ENTRIES if e.name == name)
    from gmcodec.errors import GmcError

    logging.disable()  # no warnings about the content of files

    def once(data: bytes) -> None:
        try:
            entry.decode(data)
        except GmcError:
            pass
        except Exception:
            if path.is_dir():  # libFuzzer writes the input too, unless it dies while it prints the stack
                (found / f"exception-{digest(data)}").write_bytes(data)
            raise

    if path.is_dir():
        corpus.mkdir(exist_ok=True)
        found.mkdir(exist_ok=True)
        for seed in entry.seeds():
            (corpus / digest(seed)).write_bytes(seed)
        options += [f"-max_len={entry.length}", f"-artifact_prefix={found}/"]
    atheris.Setup([sys.argv[0], str(corpus if path.is_dir() else path), *options], once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
