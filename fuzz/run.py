# SPDX-License-Identifier: MIT
"""Fuzz all decoders: ``python fuzz/run.py --seconds 60``, ``--executions 1000000``, or one entry.

::

    run.py  --- for each entry, one process --->  target.py  --- libFuzzer (atheris) --->  entry.decode(bytes)
                                                     gmcodec's Python and C++ report which code an input reached

Needs Linux, clang and ``pip install -e ".[fuzz]"``; the native library is compiled with sanitizers of memory and
arithmetic.  The targets are in the modules of this folder, and encoders make their seeds.  Hostile bytes may raise a
typed error.  Any other exception, a sanitizer's report, more than ten seconds or two GB of memory are faults: the input
is then in ``build/fuzz/ENTRY/found/``.  Decode it again with ``run.py ENTRY --input FILE``.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import files as files_of
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
FUZZ_BUILD = ROOT / "build" / "fuzz"
ENTRY_NAMES = {
    "nets": ("tile", "changes", "online", "online-threads", "high-depth", "high-depth-threads", "streams",
             "agave-chain", "agave-strips", "ade-chain", "ade-strips"),
    "payloads": ("payload", "values", "lists"),
    "files": ("gmc", "plugin", "gma", "index", "conventional", "filters", "graphics", "metadata",
              "numbers"),
    "images": ("image", "ledger"),
}  # fmt: skip
MODULES = {name: module for module, names in ENTRY_NAMES.items() for name in names}
LIMITS = ("-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1", "-verbosity=1")
_STATUS = re.compile(r"^#(\d+)\s+\w+\s+cov: (\d+) ft: (\d+) corp: (\d+)", re.M)


class Result(NamedTuple):
    """The result of fuzzing an entry."""

    name: str
    executions: int
    seconds: float
    coverage: int
    features: int
    inputs: int
    fault: str

    def row(self) -> str:
        """A line of the table."""
        numbers = (
            f"{self.executions:>11,} {self.seconds:>9.0f} {self.coverage:>8,} {self.features:>8,} {self.inputs:>6,}"
        )
        return f"{self.name:<18} {numbers}  {self.fault or 'none'}"


TABLE_HEAD = f"{'entry':<18} {'executions':>11} {'seconds':>9} {'coverage':>8} {'features':>8} {'inputs':>6}  fault"


def environment() -> dict[str, str]:
    """Compile the instrumented library.  Returns an environment with it, the sanitizers' runtime and libFuzzer."""
    library = ROOT / "build" / "native" / "fuzzed" / "libgmcodec.so"
    subprocess.run([sys.executable, ROOT / "build_tools" / "compiler.py", "--fuzz"], check=True)
    runtime = next(path for path in files_of("atheris") or () if path.name == "asan_with_fuzzer.so")
    return {
        **os.environ,
        "GMCODEC_NATIVE_LIBRARY": str(library),
        "LD_PRELOAD": str(runtime.locate()),
        # Python never frees some memory; numpy handles failed allocations
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:quarantine_size_mb=64",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }


def fuzz(name: str, options: Sequence[str], environ: dict[str, str]) -> Result:
    """Fuzz an entry in a new process, whose output goes to ``build/fuzz/NAME/log``."""
    folder = FUZZ_BUILD / name
    folder.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with open(folder / "log", "w+", errors="replace") as log:
        done = subprocess.run([*target(name), folder, *LIMITS, *options], env=environ, stdout=log, stderr=log)
        log.seek(0)
        text = log.read()
    seen = _STATUS.findall(text) or [("0",) * 4]
    executions, coverage, features, inputs = map(int, seen[-1])
    problem = fault(text, done.returncode) if executions or done.returncode else "no input was executed"
    return Result(name, executions, time.monotonic() - start, coverage, features, inputs, problem)


def target(name: str) -> list[str]:
    """The command that starts the process of an entry."""
    return [sys.executable, str(ROOT / "fuzz" / "target.py"), MODULES[name], name]


def fault(text: str, status: int) -> str:
    """The fault in the output of a process, one line, or "" if its exit status is 0."""
    if not status:
        return ""
    marks = ("=== Uncaught Python exception: ===", "SUMMARY:", "ERROR:", "runtime error:")
    lines = text.splitlines()
    for mark in marks:
        for number, line in enumerate(lines):
            if mark in line:
                return lines[number + 1][:150] if mark == marks[0] else line[:150]
    return f"exit status {status}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Fuzz the decoders.")
    parser.add_argument("names", nargs="*", metavar="ENTRY", help=f"default: all of {', '.join(MODULES)}")
    parser.add_argument("--executions", type=int, help="of each entry")
    parser.add_argument("--seconds", type=float, help="of all entries together")
    parser.add_argument("--jobs", type=int, default=1, help="entries at a time")
    parser.add_argument("--input", type=Path, help="decode a file that was found, by one entry")
    options = parser.parse_args(arguments)
    names = options.names or list(MODULES)
    if unknown := set(names) - set(MODULES):
        parser.error(f"there is no entry {', '.join(unknown)}; there are {', '.join(MODULES)}")
    environ = environment()
    if options.input:
        sys.exit(subprocess.run([*target(names[0]), options.input], env=environ).returncode)
    limits = [f"-runs={options.executions}"] if options.executions else []
    if options.seconds or not limits:
        limits.append(f"-max_total_time={max(1, round((options.seconds or 60) / len(names)))}")
    print(TABLE_HEAD, flush=True)
    faults = 0
    with ThreadPoolExecutor(options.jobs) as pool:
        for result in pool.map(lambda name: fuzz(name, limits, environ), names):
            print(result.row(), flush=True)
            faults += bool(result.fault)
    sys.exit(f"{faults} entries have faults; their inputs are in {FUZZ_BUILD}" if faults else 0)


if __name__ == "__main__":
    main()
