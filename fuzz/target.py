# SPDX-License-Identifier: MIT
"""A process that fuzzes one entry: ``target.py MODULE NAME FOLDER [options of libFuzzer]``; run.py starts it.

Seeds are made here, into ``FOLDER/corpus/``, where interesting inputs are kept, too; faults go to ``FOLDER/found/``.
With a file in place of the folder, that one is decoded.
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
    return hashlib.sha256(data).hexdigest()[:16]


def main() -> None:
    module, name, folder, *options = sys.argv[1:]
    place = Path(folder)
    corpus, found = place / "corpus", place / "found"
    # of nets all that matters is in C++; to count what runs in Python takes half the time
    counted = nullcontext() if module == "nets" else atheris.instrument_imports(include=["gmcodec"])
    with counted:
        entry = next(e for e in importlib.import_module(module).ENTRIES if e.name == name)
    from gmcodec.errors import GmcError

    logging.disable()  # warnings of what a file holds

    def once(data: bytes) -> None:
        try:
            entry.decode(data)
        except GmcError:
            pass
        except Exception:
            if place.is_dir():  # libFuzzer keeps it as well, unless it dies while it prints where it was
                (found / f"exception-{digest(data)}").write_bytes(data)
            raise

    if place.is_dir():
        corpus.mkdir(exist_ok=True)
        found.mkdir(exist_ok=True)
        for seed in entry.seeds():
            (corpus / digest(seed)).write_bytes(seed)
        options += [f"-max_len={entry.length}", f"-artifact_prefix={found}/"]
    atheris.Setup([sys.argv[0], str(corpus if place.is_dir() else place), *options], once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
