# SPDX-License-Identifier: MIT
"""The native library is built by the compiler that is there, again only where it must be, and holds what it should."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import compiler
import constriction
import constriction_standin
import numpy as np
import pytest
import symbols
import targets
import wheels

from gmcodec.coding import stack

GOOD = """#!/bin/sh
case "$*" in
  *-dumpmachine*) echo x86_64-linux-gnu;;
  *--version*) echo "a compiler, 1.0";;
  *) while [ "$1" != -o ]; do shift; done; : > "$2";;
esac
"""
OLD = '#!/bin/sh\necho "unknown option -std=c++20" >&2\nexit 1\n'
SOURCES = {
    "common.h": "namespace gm::GM_ISA { int add(int, int); }\n",
    "one.cpp": '#include "common.h"\nint gm::GM_ISA::add(int a, int b) { return a + b; }\n',
    "two.cpp": '#include "gmcodec.h"\nnamespace gm::GM_ISA { extern const gm_functions functions; }\n'
    "const gm_functions gm::GM_ISA::functions = {};\n",
}  # fmt: skip
posix = pytest.mark.skipif(os.name == "nt", reason="the compilers of these tests are shell scripts")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with nothing in it, on a machine without ziglang."""
    folder = tmp_path / "path"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(compiler, "zig", lambda: None)
    return folder


def script(folder: Path, name: str, text: str = GOOD) -> Path:
    file = folder / name
    file.write_text(text, "utf-8")
    file.chmod(0o755)
    return file


@posix
def test_the_first_compiler_on_path_that_is_new_enough(path: Path) -> None:
    clang = script(path, "clang++")
    assert compiler.find().command == (str(clang),)
    gxx = script(path, "g++")
    assert compiler.find().command == (str(gxx),)
    script(path, "c++", OLD)
    assert compiler.find().command == (str(gxx),)
    cxx = script(path, "c++")
    assert compiler.find().command == (str(cxx),)


@posix
def test_the_variable_comes_first(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(path, "c++")
    monkeypatch.setenv("CXX", "g++-13 -m64")
    assert compiler.find() == compiler.Compiler(("g++-13", "-m64"))
    monkeypatch.setenv("CXX", "python3 -m ziglang c++")
    assert compiler.find().zig


@posix
def test_ziglang_where_there_is_no_other_or_when_asked_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zig = compiler.Compiler(("zig", "c++"), zig=True)
    monkeypatch.setattr(compiler, "zig", lambda: zig)
    assert compiler.find() == zig
    script(path, "c++")
    assert compiler.find() != zig
    assert compiler.find(targets.named("aarch64-linux-musl")) == zig
    monkeypatch.setenv("CXX", "ziglang")
    assert compiler.find() == zig


@posix
def test_no_compiler_says_what_to_do(path: Path) -> None:
    script(path, "g++", OLD)
    with pytest.raises(compiler.BuildError, match="pip install ziglang") as caught:
        compiler.find()
    assert "CXX" in str(caught.value)


@posix
def test_a_failing_compiler_is_quoted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = script(
        tmp_path,
        "bad++",
        "#!/bin/sh\nfor i in 0 1 2 3 4; do for j in 0 1 2 3 4 5 6 7 8 9; do echo line $i$j >&2; done; done\nexit 1\n",
    )
    monkeypatch.setenv("CXX", str(bad))
    with pytest.raises(compiler.BuildError, match="The C\\+\\+ compiler failed") as caught:
        compiler.build(targets.here(), compiler.find(), tmp_path / "library.so", folder=tmp_path / "objects")
    message = str(caught.value)
    assert message.count("line 00\n") == 1
    assert "30 more lines" in message
    assert "line 20\n" not in message
    assert "CXX=ziglang" in message


def test_targets() -> None:
    assert targets.here("arm64").arch == targets.here("aarch64").arch == "aarch64"
    assert targets.named("x86_64-windows-gnu").library == "gmcodec.dll"
    assert targets.named("s390x-linux-gnu.2.17").sets == targets.OTHER_SETS
    assert not targets.named("s390x-linux-gnu.2.17").tag
    with pytest.raises(ValueError, match="is no target"):
        targets.named("windows")
    for sets in targets.SETS.values():
        assert list(sets)[-1] == "portable"


# With a compiler


@pytest.fixture(scope="module")
def found() -> compiler.Compiler:
    try:
        return compiler.find()
    except compiler.BuildError as error:
        pytest.skip(str(error))


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Sources that compile at once."""
    folder = tmp_path / "sources"
    folder.mkdir()
    for name, text in SOURCES.items():
        (folder / name).write_text(text, "utf-8")
    for name in ("gmcodec.h", "isa.cpp"):
        shutil.copy(compiler.SOURCES / name, folder)
    return folder


def built(small: Path, found: compiler.Compiler, **options: bool) -> compiler.Result:
    target = targets.here(found.arch())
    out = small.parent
    return compiler.build(target, found, out / target.library, sources=small, folder=out / "objects", **options)


def test_only_what_changed_is_compiled_again(small: Path, found: compiler.Compiler) -> None:
    first = built(small, found)
    sets = len(targets.here(found.arch()).sets)
    assert first.compiled == len(first.objects) == 2 * sets + 1
    assert built(small, found).compiled == 0
    with (small / "one.cpp").open("a") as file:
        file.write("// more\n")
    again = built(small, found)
    assert again.compiled == sets
    assert not any(path.exists() for path in {p for _, p in first.objects} - {p for _, p in again.objects})
    with (small / "common.h").open("a") as file:
        file.write("// more\n")
    assert built(small, found).compiled == 2 * sets + 1


def test_warnings_are_errors_for_developers_only(small: Path, found: compiler.Compiler) -> None:
    with (small / "one.cpp").open("a") as file:
        file.write("static int never() { return 1; }\n")
    built(small, found)
    with pytest.raises(compiler.BuildError, match="never"):
        built(small, found, strict=True)


def test_what_is_made_without_warnings_is_not_made_again(small: Path, found: compiler.Compiler) -> None:
    built(small, found, strict=True)
    assert built(small, found).compiled == 0


@pytest.mark.skipif(sys.platform != "linux", reason="the symbols of ELF files are read")
def test_shared_inline_functions_are_found(small: Path, found: compiler.Compiler) -> None:
    inline = "inline __attribute__((noinline)) int twice(int a) { return 2 * a + __LINE__; }\n"
    use = "namespace gm::GM_ISA {{ int {0}(int); int {0}(int a) {{ return {1}(a); }} }}\n"
    with (small / "one.cpp").open("a") as file:
        file.write(f"namespace gm::GM_ISA {{ {inline} }}\n{use.format('four', 'twice')}")
    assert built(small, found).check() == []
    with (small / "two.cpp").open("a") as file:
        file.write(f"{inline}{use.format('six', '::twice')}")
    wrong = built(small, found).check()
    assert len(wrong) == len(targets.here(found.arch()).sets)
    assert all("twice" in problem and "outside gm::" in problem for problem in wrong)


@pytest.mark.skipif(sys.platform != "linux", reason="the symbols of ELF files are read")
def test_nothing_else_is_exported(small: Path, found: compiler.Compiler) -> None:
    (small / "common.h").write_text('#include "gmcodec.h"\n' + SOURCES["common.h"], "utf-8")
    with (small / "one.cpp").open("a") as file:
        file.write("namespace gm::GM_ISA { GM_EXPORT extern int more; int more; }\n")
    target = targets.here(found.arch())
    options = {"sources": small, "folder": small.parent / "objects", "sets": ["portable"]}
    result = compiler.build(target, found, small.parent / target.library, **options)
    assert any("exports" in problem for problem in result.check())


@pytest.mark.skipif(sys.platform != "linux", reason="the symbols of ELF files are read")
def test_the_library_shares_no_code_between_instruction_sets(tmp_path: Path, found: compiler.Compiler) -> None:
    target = targets.here(found.arch())
    result = compiler.build(target, found, tmp_path / target.library)
    assert result.check() == []
    assert {s.name for s in symbols.symbols(result.library, dynamic=True) if s.defined} == symbols.EXPORTED


@pytest.mark.native
def test_every_set_of_this_processor_opens() -> None:
    place = os.environ.get("GMCODEC_NATIVE_LIBRARY") or compiler.SOURCES / targets.here().library
    if not Path(place).exists():
        pytest.skip("the library is not built in place")
    library = ctypes.CDLL(str(place))
    library.gm_isas.restype, library.gm_open.restype = ctypes.c_char_p, ctypes.c_void_p
    names = library.gm_isas().split(b",")
    assert names[-1] == b"portable"
    tables = [library.gm_open(name) for name in names]
    assert all(tables)
    assert len(set(tables)) == len(names)
    assert library.gm_open(b"") == library.gm_open(None) == tables[0]
    assert library.gm_open(b"abacus") is None


# Other platforms


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel for another platform."""
    pytest.importorskip("ziglang")
    pytest.importorskip("setuptools", "77")
    return wheels.make(targets.SHIPPED["aarch64-linux-musl"], tmp_path_factory.mktemp("dist"))


@pytest.mark.slow
def test_a_wheel_holds_what_it_should(wheel: Path) -> None:
    assert wheels.problems(wheel, targets.SHIPPED["aarch64-linux-musl"]) == []


@pytest.mark.slow
def test_a_wrong_wheel_is_found(wheel: Path, tmp_path: Path) -> None:
    target = targets.SHIPPED["aarch64-linux-musl"]
    other = wheels.problems(wheel, targets.SHIPPED["x86_64-linux-musl"])
    assert any("is no ELF library for x86_64" in problem for problem in other)
    assert any("tags do not say" in problem for problem in other)
    bad = tmp_path / wheel.name
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(bad, "w") as new:
        for name in old.namelist():
            if not name.endswith("local-rgb.md"):
                new.writestr(name, old.read(name))
        new.writestr("tests/native/test_build.py", "")
    problems = wheels.problems(bad, target)
    assert "gmcodec/weights/local-rgb.md is missing" in problems
    assert "tests/native/test_build.py is not for users" in problems


@pytest.mark.slow
def test_ziglang_compiles_for_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ziglang")
    monkeypatch.setenv("CXX", "ziglang")
    found = compiler.find()
    target = targets.here()
    result = compiler.build(target, found, tmp_path / target.library, strict=True, folder=tmp_path / "objects")
    assert compiler.reported_isas(result.library).endswith("portable")
    assert result.check() == []


@pytest.mark.parametrize("seed", range(5))
def test_the_stand_in_for_constriction_makes_its_words(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def use(module: ModuleType) -> list[list[int]]:
        monkeypatch.setattr(stack, "constriction", module)
        monkeypatch.setattr(stack, "_FAMILY", module.stream.model.Categorical(perfect=False))
        monkeypatch.setattr(stack, "_UNIFORM", module.stream.model.Uniform())
        random = np.random.default_rng(seed)
        coder, out = stack.Stack.random(random, 320), []
        for _ in range(5):
            rows = np.ones((30, 16), np.int32)
            rows[np.arange(30), random.integers(0, 16, 30)] = stack.ROW_TOTAL - 15
            coder.push(random.integers(0, 16, 30, np.int32), rows)
            coder.push_uniform(random.integers(0, 64, 9, np.int32), 64)
            sizes = random.integers(1, 1 << 20, 20)
            coder.push_below(random.integers(0, 1 << 40, 20) % sizes, sizes)
            out += [coder.pop(rows[:10]), coder.pop_uniform(3, 256), coder.pop_below(sizes[:7]), coder.words()]
            out.append(np.array([coder.bits, coder.is_empty()]))
        return [values.tolist() for values in out]

    assert use(constriction_standin) == use(constriction)
