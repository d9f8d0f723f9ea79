# SPDX-License-Identifier: MIT
"""Compile the native library: ``python build_tools/compiler.py`` rebuilds the one in ``gmcodec/native/``.

    gmcodec/native/*.cpp  --- once for each instruction set --->  build/native/<target>/<set>-<file>-<hash>.o
    gmcodec/native/isa.cpp  --- once --->                         build/native/<target>/isa-<hash>.o
    all of them  --->  build/native/<target>/<hash>/libgmcodec.so  --->  gmcodec/native/libgmcodec.so

The hash of a file's name covers everything that the file depends on, so files that exist are not compiled again.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import symbols
import targets
from targets import Target

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "gmcodec" / "native"
BUILD = ROOT / "build" / "native"
CANDIDATES = ("c++", "g++", "clang++")  # tried in this order, after $CXX
ZIGLANG = "ziglang>=0.13"  # the requirement of the build backend if there is no compiler

FLAGS = (
    # The same results everywhere: no implicit fused multiply-add, and integers that wrap around.
    "-std=c++20", "-O3", "-ffp-contract=off", "-fwrapv", "-fno-math-errno", "-fno-trapping-math",
    # No part of the C++ library: the result needs the C library only.
    "-fno-exceptions", "-fno-rtti", "-fno-threadsafe-statics",
    "-fvisibility=hidden",
    # -Wno-psabi: gcc warns of how vectors are passed to functions, which matters only between compilers.
    "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wno-psabi",
)  # fmt: skip
SANITIZE = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer")
# For fuzz/: reports which code runs.  -fsanitize=function is off, because it needs the runtime of the same clang.
FUZZ = (*SANITIZE, "-O2", "-fsanitize=fuzzer-no-link", "-fno-sanitize=function")


class BuildError(Exception):
    """The library cannot be built; the message says what to do."""


@dataclass(frozen=True)
class Compiler:
    """A C++ compiler.  ``command``: before its options.  zig has other names for processors, and takes a target."""

    command: tuple[str, ...]
    zig: bool = False

    def run(self, *arguments: str, as_c: bool = False) -> subprocess.CompletedProcess[str]:
        """Run it from the root of the repository.  ``as_c``: as a C compiler, to link without the C++ library."""
        command = [*self.command, *arguments]
        if self.zig and as_c:
            command[command.index("c++")] = "cc"
        try:
            return subprocess.run(
                command, cwd=ROOT, env=_environment(), capture_output=True, text=True, errors="replace"
            )
        except OSError as error:
            return subprocess.CompletedProcess(command, 127, "", str(error))

    def version(self) -> str:
        """The first line of its version, or ""."""
        return next(iter(self.run("--version").stdout.splitlines()), "")

    def arch(self) -> str:
        """The processor that it compiles for; "" if unknown."""
        return "" if self.zig else self.run("-dumpmachine").stdout.partition("-")[0].strip()

    def supports(self, target: Target) -> bool:
        """Whether it supports C++20 and the instruction sets of ``target``."""
        best, _ = next(iter(target.sets.values()))
        with tempfile.TemporaryDirectory() as folder:
            empty = Path(folder, "empty.cpp")
            empty.write_text("namespace a::b { template <typename T> concept C = true; }\n", "utf-8")
            return self.run("-std=c++20", *best, "-c", str(empty), "-o", str(empty.with_suffix(".o"))).returncode == 0


def _environment() -> dict[str, str]:
    """The environment of a compiler: messages in English, and zig's cache in the build folder."""
    cache = str(BUILD / "zig-cache")
    return {"ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": cache, **os.environ, "LC_ALL": "C"}


def zig() -> Compiler | None:
    """The compiler in the ``ziglang`` package; None if that is not installed."""
    spec = importlib.util.find_spec("ziglang")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        if path := shutil.which("zig", path=folder):
            return Compiler((path, "c++"), zig=True)
    return None


def system() -> Compiler | None:
    """The machine's compiler: ``$CXX`` or, if that is not set, the first on PATH that is new enough.

    None if there is none, or if ``$CXX`` is ``ziglang``.
    """
    if chosen := os.environ.get("CXX"):
        if chosen == "ziglang":
            return None
        command = tuple(shlex.split(chosen, posix=os.name != "nt"))
        return Compiler(command, zig="zig" in Path(command[0]).stem or "ziglang" in command)
    if os.name == "nt":  # gcc does not align the stack for vectors there, and Microsoft's has other options
        return None
    for name in CANDIDATES:
        if path := shutil.which(name):
            compiler = Compiler((path,))
            if compiler.supports(targets.here(compiler.arch())):
                return compiler
    return None


def find(target: Target | None = None) -> Compiler:
    """The compiler to use, which is zig for other platforms than this one.  Raises BuildError if there is none."""
    compiler = zig() if target and target.triple else system() or zig()
    if compiler is None:
        what = f"To compile for {target.triple}" if target and target.triple else "To install gmcodec from its sources"
        raise BuildError(
            f"{what}, a C++ compiler is needed, and there is none.\n"
            f"Looked for: $CXX, {', '.join(CANDIDATES)} (gcc 11, clang 12 or newer), the Python package ziglang.\n"
            "Do one of these, then try again:\n"
            "  install one with the system's tools (Debian, Ubuntu: apt install g++; macOS: xcode-select --install)\n"
            "  pip install ziglang\n"
            "  set the environment variable CXX to a compiler"
        )
    return compiler


@dataclass(frozen=True)
class Result:
    """The built library, and its object files with their instruction sets, "" for ``isa.cpp``."""

    library: Path
    objects: tuple[tuple[str, Path], ...]
    compiled: int  # number of object files that did not exist before

    def check(self) -> list[str]:
        """Errors of the symbols, see symbols.py."""
        if not symbols.is_elf(self.library):
            return []
        wrong = [problem for isa, path in self.objects for problem in symbols.check_object(path, isa)]
        return wrong + symbols.check_library(self.library)


def build(
    target: Target,
    compiler: Compiler,
    library: Path,
    *,
    sets: Iterable[str] = (),
    strict: bool = False,
    checks: tuple[str, ...] = (),
    sources: Path = SOURCES,
    folder: Path | None = None,
) -> Result:
    """Compile the files that changed, link them, and write ``library``.  Raises BuildError.

    sets     instruction sets; default: all of the target
    strict   treat warnings as errors
    checks   options of sanitizers
    folder   of object files; default: that of the target
    """
    folder = folder or BUILD / target.folder
    folder.mkdir(parents=True, exist_ok=True)
    sets = [name for name in target.sets if name in (tuple(sets) or target.sets)]
    common = [*FLAGS, *_common(target, compiler), *checks]
    key = _digest(compiler.version(), *(path.read_bytes() for path in sorted(sources.glob("*.h*"))))

    def compile_one(job: tuple[str, Path, list[str]]) -> tuple[str, Path, bool]:
        isa, source, flags = job
        digest = _digest(key, *compiler.command, *flags, source.name, source.read_bytes())
        name = "-".join(filter(None, (isa, source.stem, digest)))
        clean = folder / f"{name}-clean.o"  # the same code, known to compile without warnings
        if strict or clean.exists():
            return isa, *_make(compiler, clean, [*flags, "-Werror", "-c", str(source)])
        return isa, *_make(compiler, folder / f"{name}.o", [*flags, "-c", str(source)])

    with ThreadPoolExecutor(max(2, min(os.cpu_count() or 2, 8))) as pool:
        objects = list(pool.map(compile_one, _jobs(target, compiler, sets, common, sources)))
    link = [str(path) for _, path, _ in objects] + _link(target, compiler, checks)
    # the hash names the folder and not the file, because a library may contain its own file name
    linked, _ = _make(compiler, folder / _digest(key, *link) / target.library, link, as_c=True)
    _install(linked, library)
    _remove_unused(folder, {linked, *(path for _, path, _ in objects)}, library)
    return Result(library, tuple((isa, path) for isa, path, _ in objects), sum(new for *_, new in objects))


def _jobs(
    target: Target, compiler: Compiler, sets: Sequence[str], common: list[str], sources: Path
) -> list[tuple[str, Path, list[str]]]:
    """Instruction set, source and options of each object file."""

    def chosen(isa: str) -> list[str]:
        return list(target.sets[isa][1 if compiler.zig else 0])

    jobs = []
    for source in sorted(sources.glob("*.cpp")):
        if source.name == "isa.cpp":
            listed = " ".join(f"GM_X({name})" for name in sets)
            jobs.append(("", source, [*common, *chosen("portable"), f"-DGM_ISAS={listed}"]))
            continue
        for isa in sets:
            defines = [f"-DGM_ISA={isa}"] + ["-DGM_PORTABLE"] * (isa == "portable")
            jobs.append((isa, source, [*common, *chosen(isa), *defines]))
    return jobs


def _common(target: Target, compiler: Compiler) -> list[str]:
    """Options of compiler and linker that depend on the platform."""
    options = []
    if compiler.zig and target.triple:
        options += ["-target", target.triple]
    elif target.system == "macos":
        options += ["-arch", target.arch.replace("aarch64", "arm64"), f"-mmacosx-version-min={targets.MACOS}"]
    return options if target.system == "windows" else [*options, "-fPIC"]


def _link(target: Target, compiler: Compiler, checks: tuple[str, ...]) -> list[str]:
    options = ["-shared", *_common(target, compiler)]
    if compiler.zig:
        options += ["-mcpu=baseline", "-s"]
    if target.system == "macos":
        options += [
            f"-Wl,-install_name,@rpath/{target.library}"
        ]  # otherwise the library contains the path of the build folder
        options += [] if compiler.zig else ["-Wl,-dead_strip_dylibs"]
    elif target.system == "linux" and not compiler.zig:
        options += ["-Wl,--as-needed"]  # drops the C++ library, which the driver adds
        options += [] if checks else ["-Wl,-z,defs", "-s"]
    return options + [flag for flag in checks if flag.startswith("-fsanitize=")]


def _make(compiler: Compiler, path: Path, arguments: list[str], as_c: bool = False) -> tuple[Path, bool]:
    """Let the compiler write a file, unless it exists; an incomplete file never has its name.

    Returns the path, and whether the file is new.  Raises BuildError.
    """
    if path.exists():
        return path, False
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        part = Path(folder, path.name)
        done = compiler.run(*arguments, "-o", str(part), as_c=as_c)
        if done.returncode or not part.exists():
            raise BuildError(_failure(compiler, done))
        if done.stderr:
            sys.stderr.write(done.stderr)  # warnings
        part.replace(path)
    return path, True


def _failure(compiler: Compiler, done: subprocess.CompletedProcess[str]) -> str:
    said = (done.stderr or done.stdout).strip().splitlines() or [f"nothing, and exit status {done.returncode}"]
    if len(said) > 20:
        said = [*said[:20], f"... and {len(said) - 20} more lines"]
    if compiler.zig:
        advice = "Report this to the developers of gmcodec, with the lines above."
    else:
        advice = (
            "Try a newer compiler (gcc 11, clang 12 or later) by the environment variable CXX,\n"
            "or the one in the Python package ziglang: CXX=ziglang"
        )
    name = f"{shlex.join(compiler.command)} ({compiler.version() or 'of unknown version'})"
    return "\n".join([f"The C++ compiler failed: {name}", *(f"    {line}" for line in said), advice])


def _install(linked: Path, library: Path) -> None:
    """Replace ``library`` by a copy in one step, so that processes that have loaded the old one can go on."""
    if library.exists() and library.read_bytes() == linked.read_bytes():
        return
    library.parent.mkdir(parents=True, exist_ok=True)
    part = library.with_name(f".{library.name}.{os.getpid()}")
    try:
        shutil.copyfile(linked, part)
        part.replace(library)
    finally:
        part.unlink(missing_ok=True)


def _remove_unused(folder: Path, used: set[Path], library: Path) -> None:
    """Remove files of older sources from a build folder."""
    for path in [*folder.glob("*.o"), *folder.glob(f"*/{library.name}")]:
        if path not in used | {library}:
            path.unlink(missing_ok=True)
            if path.parent != folder:
                shutil.rmtree(path.parent, ignore_errors=True)


def _digest(*parts: str | bytes) -> str:
    whole = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        whole.update(len(data).to_bytes(8, "little") + data)
    return whole.hexdigest()[:16]


def reported_isas(library: Path) -> str:
    """The instruction sets that a library of this machine reports, with commas.

    A new process loads it, because it might crash.  Raises BuildError.
    """
    code = "import ctypes, sys; f = ctypes.CDLL(sys.argv[1]).gm_isas; f.restype = ctypes.c_char_p; print(f().decode())"
    done = subprocess.run([sys.executable, "-c", code, str(library)], capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it crashed"])[-1]
        raise BuildError(
            f"The library was built, but this Python cannot load it: {said}\nDoes CXX compile for its processor?"
        )
    return done.stdout.strip()


def build_here(library: Path | None = None, strict: bool = False) -> Result:
    """Build for this machine, and check that Python can load the library.  Raises BuildError."""
    compiler = find()
    target = targets.here(compiler.arch())
    result = build(target, compiler, library or SOURCES / target.library, strict=strict)
    if target.arch == targets.here().arch:
        reported_isas(result.library)
    return result


def clang() -> Compiler:
    """clang, the only compiler that can report which code runs.  Raises BuildError."""
    path = shutil.which("clang++")
    if path is None:
        raise BuildError(
            "The library for fuzz/ needs clang++, which is not on PATH (Debian, Ubuntu: apt install clang)"
        )
    return Compiler((path,))


def build_sanitized(strict: bool = False, fuzz: bool = False) -> Result:
    """Build the portable and the best instruction set with checks of memory and arithmetic, in a folder of their own.

    ``fuzz``: also report which code runs, as libFuzzer needs it.  Raises BuildError.
    """
    best = reported_isas(build_here(strict=strict).library).partition(",")[0]
    compiler = clang() if fuzz else find()
    if compiler.zig:
        raise BuildError("The sanitizers need gcc or clang; zig does not have them.")
    target, folder = targets.here(compiler.arch()), BUILD / ("fuzzed" if fuzz else "sanitized")
    checks, sets = FUZZ if fuzz else SANITIZE, (best, "portable")
    return build(target, compiler, folder / target.library, sets=sets, strict=strict, checks=checks, folder=folder)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Compile the native library into gmcodec/native/.")
    parser.add_argument("--lenient", action="store_true", help="allow warnings, as installations by users do")
    parser.add_argument("--check", action="store_true", help="check the symbols of the library")
    parser.add_argument("--sanitize", action="store_true", help="with sanitizers, into build/native/sanitized/")
    parser.add_argument("--fuzz", action="store_true", help="for fuzz/, by clang, into build/native/fuzzed/")
    parser.add_argument("--target", metavar="TRIPLE", help="for another platform with zig, into build/native/TRIPLE/")
    options = parser.parse_args(arguments)
    try:
        if options.sanitize or options.fuzz:
            result = build_sanitized(not options.lenient, options.fuzz)
        elif options.target:
            target = targets.named(options.target)
            library = BUILD / target.folder / target.library
            result = build(target, find(target), library, strict=not options.lenient)
        else:
            result = build_here(strict=not options.lenient)
        if options.check and not (options.sanitize or options.fuzz) and (wrong := result.check()):
            raise BuildError("\n".join(wrong))
    except (BuildError, ValueError) as error:
        sys.exit(str(error))
    sets = ", ".join(dict.fromkeys(isa for isa, _ in result.objects if isa))
    sys.stdout.write(f"{result.library}: {sets}; {result.compiled} of {len(result.objects)} files compiled\n")


if __name__ == "__main__":
    main()
