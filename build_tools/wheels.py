# SPDX-License-Identifier: MIT
"""Make all wheels, cross-compiled with zig, and check their contents.

``python build_tools/wheels.py`` writes them into ``dist/``.  Needs ``pip install "setuptools>=77" ziglang``.
"""

from __future__ import annotations

import argparse
import os
import re
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

import compiler
import symbols
import targets
from setup_commands import TARGET_VARIABLE
from targets import Target

MAX_WHEEL_BYTES = 25_000_000
MAX_GLIBC = (2, 17)  # the newest version that a library may need
_ELF_MACHINES = {"x86_64": 62, "aarch64": 183}
_MACHO_MACHINES = {"x86_64": 0x01000007, "aarch64": 0x0100000C}
_MACHO_SIGNATURE, _MACHO_NEEDED = 0x1D, 0xC
_PE_MACHINES = {"x86_64": 0x8664}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Make and check the wheels of all platforms.")
    parser.add_argument("--out", type=Path, default=compiler.ROOT / "dist", help="their folder (dist/)")
    parser.add_argument("target", nargs="*", help=f"only these: {', '.join(targets.SHIPPED)}")
    options = parser.parse_args(arguments)
    if unknown := set(options.target) - set(targets.SHIPPED):
        parser.error(f"no wheel is made for {', '.join(sorted(unknown))}")
    bad = 0
    for triple in options.target or targets.SHIPPED:
        start = time.perf_counter()
        try:
            wheel = make(targets.SHIPPED[triple], options.out)
        except compiler.BuildError as error:
            sys.exit(str(error))
        wrong = problems(wheel, targets.SHIPPED[triple])
        seconds = time.perf_counter() - start
        with zipfile.ZipFile(wheel) as opened:
            (size,) = [i.file_size for i in opened.infolist() if i.filename in libraries(opened)] or [0]
        print_line(
            f"{triple:26} {wheel.stat().st_size / 1e6:6.2f} MB {size / 1e3:7.1f} kB {seconds:6.1f} s  {wheel.name}"
        )
        for problem in wrong:
            print_line(f"    wrong: {problem}")
        bad += bool(wrong)
    if bad:
        sys.exit(f"{bad} wheels have errors")


def print_line(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def make(target: Target, out: Path) -> Path:
    """Build a wheel with the backend, in a new process, because setuptools keeps state.  Raises BuildError."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as folder:
        done = subprocess.run(
            [sys.executable, "-c", "import backend, sys; backend.build_wheel(sys.argv[1])", folder],
            cwd=compiler.ROOT, capture_output=True, text=True,
            env={**os.environ, TARGET_VARIABLE: target.triple, "PYTHONPATH": str(Path(__file__).parent)},
        )  # fmt: skip
        if done.returncode:
            raise compiler.BuildError(f"No wheel for {target.triple}:\n{done.stderr.strip()}")
        (made,) = Path(folder).glob("*.whl")
        return made.replace(out / made.name)


def libraries(wheel: zipfile.ZipFile) -> list[str]:
    """Names of the libraries in a wheel."""
    return [name for name in wheel.namelist() if name.endswith((".so", ".dylib", ".dll", ".pyd"))]


def problems(path: Path, target: Target) -> list[str]:
    """Errors of a wheel."""
    wrong = [] if path.stat().st_size < MAX_WHEEL_BYTES else [f"larger than {MAX_WHEEL_BYTES} bytes"]
    if not path.name.endswith(f"-py3-none-{target.tag}.whl"):
        wrong.append(f"its name does not say py3-none-{target.tag}")
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
        library = f"gmcodec/native/{target.library}"
        if (found := libraries(wheel)) != [library]:
            return [*wrong, f"its libraries are {found}, not {library}"]
        with tempfile.TemporaryDirectory() as folder:
            wrong += library_problems(Path(wheel.extract(library, folder)), target)
        wrong += [
            f"{name} differs from its source" for name in sorted(names & sources()) if wheel.read(name) != _read(name)
        ]
        (tags,) = [wheel.read(name).decode() for name in names if name.endswith(".dist-info/WHEEL")]
    for tag in target.tag.split("."):
        if f"Tag: py3-none-{tag}\n" not in tags:
            wrong.append(f"its tags do not say {tag}")
    wrong += [f"{name} is missing" for name in sorted(sources() - names)]
    allowed = sources() | {library}
    wrong += [f"{name} is not for users" for name in sorted(names - allowed) if ".dist-info/" not in name]
    if not any(name.endswith("/licenses/LICENSE") for name in names):
        wrong.append("no licence")
    return wrong


def sources() -> set[str]:
    """The files that a wheel must contain besides its library: the Python files, and the weights with their cards."""
    package = compiler.ROOT / "gmcodec"
    weights = [*package.glob("weights/*.safetensors")]
    files = [*package.rglob("*.py"), *weights, *(path.with_suffix(".md") for path in weights), package / "py.typed"]
    return {path.relative_to(compiler.ROOT).as_posix() for path in files}


def _read(name: str) -> bytes:
    return (compiler.ROOT / name).read_bytes()


def library_problems(path: Path, target: Target) -> list[str]:
    """Errors of a library: wrong format or processor, unknown dependencies, paths of this machine."""
    data = path.read_bytes()
    wrong = []
    if str(compiler.ROOT).encode() in data:
        wrong.append(f"{path.name} holds the path of the build folder")
    check = {"linux": _elf_problems, "macos": _macho_problems, "windows": _pe_problems}[target.system]
    try:
        return wrong + check(path, data, target)
    except (struct.error, IndexError, ValueError) as error:
        return [*wrong, f"{path.name} cannot be read: {error}"]


def _elf_problems(path: Path, data: bytes, target: Target) -> list[str]:
    if not symbols.is_elf(path) or struct.unpack_from("<H", data, 18)[0] != _ELF_MACHINES[target.arch]:
        return [f"{path.name} is no ELF library for {target.arch}"]
    wrong = symbols.check_library(path)
    needed = {name.decode() for name in re.findall(rb"\0([a-z0-9_.-]+\.so(?:\.[0-9]+)?)(?=\0)", data)}
    versions = {(int(a), int(b)) for a, b in re.findall(rb"\0GLIBC_(\d+)\.(\d+)", data)}
    if "musl" in target.triple:
        libc = {"libc.so"}
        wrong += [f"{path.name} needs glibc"] * bool(versions)
    else:
        libc = {"libc.so.6", "libm.so.6", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}
        wrong += [f"{path.name} needs glibc {a}.{b}" for a, b in versions if (a, b) > MAX_GLIBC]
    return wrong + [f"{path.name} needs {name}" for name in sorted(needed - libc - {path.name})]


def _macho_problems(path: Path, data: bytes, target: Target) -> list[str]:
    magic, machine, _, _, commands, _ = struct.unpack_from("<6I", data)
    if magic != 0xFEEDFACF or machine != _MACHO_MACHINES[target.arch]:
        return [f"{path.name} is no Mach-O library for {target.arch}"]
    at, kinds, needed = 32, set(), set()
    for _ in range(commands):
        kind, size, name = struct.unpack_from("<III", data, at)
        kinds.add(kind)
        if kind == _MACHO_NEEDED:
            needed.add(data[at + name : at + size].rstrip(b"\0").decode())
        at += size
    wrong = [f"{path.name} lacks {name}" for name in sorted(symbols.EXPORTED) if f"_{name}\0".encode() not in data]
    if target.arch == "aarch64" and _MACHO_SIGNATURE not in kinds:
        wrong.append(f"{path.name} is not signed: macOS would not load it")
    return wrong + [f"{path.name} needs {name}" for name in sorted(needed - {"/usr/lib/libSystem.B.dylib"})]


def _pe_problems(path: Path, data: bytes, target: Target) -> list[str]:
    (start,) = struct.unpack_from("<I", data, 60)
    if (
        data[start : start + 4] != b"PE\0\0"
        or struct.unpack_from("<H", data, start + 4)[0] != _PE_MACHINES[target.arch]
    ):
        return [f"{path.name} is no Windows library for {target.arch}"]
    wrong = [f"{path.name} lacks {name}" for name in sorted(symbols.EXPORTED) if f"{name}\0".encode() not in data]
    needed = {name.decode().lower() for name in re.findall(rb"[A-Za-z0-9_.-]+\.dll(?=\0)", data)} - {path.name}
    return wrong + [
        f"{path.name} needs {name}"
        for name in sorted(needed)
        if not name.startswith("api-ms-win-crt-") and name not in ("kernel32.dll", "ntdll.dll")
    ]


if __name__ == "__main__":
    main()
