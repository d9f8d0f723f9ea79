# SPDX-License-Identifier: MIT
"""A process that fuzzes one entry: ``target.py MODULE NAME FOLDER [options of libFuzzer]``; run.py starts it.

Seeds are made here, into the folder, where interesting inputs are kept, too.
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


def main() -> None:
    module, name, folder, *options = sys.argv[1:]
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

    if Path(folder).is_dir():
        for seed in entry.seeds():
            Path(folder, hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
        options.append(f"-max_len={entry.length}")
    atheris.Setup([sys.argv[0], folder, *options], once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
