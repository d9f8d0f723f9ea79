# SPDX-License-Identifier: MIT
"""The arrows between modules, read from the syntax trees: no circles, no arrow upward, nothing heavy too early."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import gmcodec

ROOT = Path(gmcodec.__file__).parent
MODULES = {
    ".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix("__init__").rstrip("."): p
    for p in sorted(ROOT.rglob("*.py"))
}
# Packages and modules from the top to the bottom: each may import what stands below it, and itself.  Imports inside
# functions and those for type checkers only count too.
LAYERS = (
    "__main__",
    "cli",
    "bench",
    "pillow_plugin",
    "training",
    "",  # gmcodec itself, whose functions load with their first use
    "archive",
    "sampling",
    "costs",
    "blocks",
    "codec",
    "effort",
    "coders",
    "coding",
    "models.registry",
    "models.weights",
    "models.families",
    "models.ade",
    "models.agave",
    "models.vae",
    "models.pixelcnnpp",
    "models.graphics",
    "models.online",
    "models.local",
    "models.shared",
    "native",
    "exact",
    "formats",
    "image",
    "formats.varint",
    "files",
    "threads",
    "progress",
    "arrays",
    "safe_path",
    "errors",
)
# below what stands above them, and yet not for them
FORBIDDEN = {
    "coding": {"models", "image", "files"},  # a coder takes what it needs as an argument
    "bench": {"training"},
    "pillow_plugin": {"bench", "training"},
    "archive": {"sampling"},
    "models": {"image", "archive", "codec", "effort", "coders", "coding"},
    "exact": {"native"},
    "native": {"exact", "image", "formats"},
}
TORCH = {"float", "freeze"}  # modules of a family that need torch; so does training
LIGHT = ("cli", "files", "threads", "progress", "safe_path", "__main__", "", "errors", "image.modes")
HEAVY = {"numpy", "torch", "PIL", "constriction", "safetensors", "tqdm", "imagecodecs",
         "matplotlib"}  # fmt: skip


@cache
def imports(module: str, top_only: bool = False) -> frozenset[str]:
    """Dotted names that a module imports; those of gmcodec start with a dot.  ``top_only``: what importing loads."""
    found: set[str] = set()

    def add(name: str) -> None:
        found.add(f".{name.removeprefix('gmcodec').lstrip('.')}" if name.split(".")[0] == "gmcodec" else name)

    def walk(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if top_only and isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            if top_only and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                continue
            if isinstance(child, ast.Import):
                for alias in child.names:
                    add(alias.name)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{module}: relative imports hide where things are"
                for alias in child.names:
                    # "from gmcodec.exact import ops" names a module, "from gmcodec.exact.ops import Layer" does not
                    name = f"{child.module}.{alias.name}"
                    inside = name.removeprefix("gmcodec.") in MODULES and name.startswith("gmcodec.")
                    add(name if inside else str(child.module))
            walk(child)

    walk(ast.parse(MODULES[module].read_text("utf-8")))
    return frozenset(found)


def ours(module: str, top_only: bool = False) -> set[str]:
    """Modules of gmcodec that a module imports; the package itself is ''."""
    return {name[1:] for name in imports(module, top_only) if name.startswith(".")} - {module}


def foreign(module: str, top_only: bool) -> set[str]:
    return {name.split(".")[0] for name in imports(module, top_only) if not name.startswith(".")}


def layer(module: str) -> int:
    """How far from the top: by the longest name in LAYERS that the module's begins with."""
    parts = module.split(".")
    names = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
    return next(LAYERS.index(name) for name in names if name in LAYERS)


def circles() -> list[list[str]]:
    """Modules that import one another, however far around: strongly connected components (Tarjan 1972)."""
    index: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        index[module] = lowest[module] = len(index)
        stack.append(module)
        for other in ours(module):
            if other not in index:
                visit(other)
                lowest[module] = min(lowest[module], lowest[other])
            elif other in stack:
                lowest[module] = min(lowest[module], index[other])
        if lowest[module] == index[module]:
            start = stack.index(module)
            if len(stack) - start > 1:
                found.append(sorted(stack[start:]))
            del stack[start:]

    for module in MODULES:
        if module not in index:
            visit(module)
    return found


def test_the_reader_of_imports_reads() -> None:
    assert "exact.ops" in ours("models.local.frozen")
    assert "numpy" in imports("models.local.frozen")
    assert "models.registry" in ours("codec")
    assert "codec" in ours("cli.jobs")
    assert "codec" not in ours("cli.jobs", top_only=True)  # inside functions
    assert "PIL" in foreign("codec", top_only=False)  # for type checkers only
    assert "PIL" not in foreign("codec", top_only=True)
    assert len(MODULES) > 100


def test_there_are_no_circles() -> None:
    assert circles() == []


@pytest.mark.parametrize("module", [m for m in MODULES if MODULES[m].read_text("utf-8")])
def test_arrows_point_down(module: str) -> None:
    upward = sorted(other for other in ours(module) if other in MODULES and layer(other) < layer(module))
    assert not upward
    for part, never in FORBIDDEN.items():
        if f"{module}.".startswith(f"{part}."):
            assert not {other for other in ours(module) if other.split(".")[0] in never}


def test_local_does_not_know_online() -> None:
    local = [m for m in MODULES if m.startswith("models.local")]
    assert local
    assert not [m for m in local if any(other.startswith("models.online") for other in ours(m))]


@pytest.mark.parametrize("module", MODULES)
def test_training_is_imported_by_commands_only(module: str) -> None:
    if module.split(".")[0] not in ("training", "cli"):
        assert not [other for other in ours(module) if other.startswith("training")]
    if module.split(".")[0] != "training":
        assert not [other for other in ours(module, top_only=True) if other.startswith("training")]


def needs_torch(module: str) -> bool:
    package, _, name = module.rpartition(".")
    return module.split(".")[0] == "training" or (package.startswith("models.") and name in TORCH)


@pytest.mark.parametrize("module", MODULES)
def test_torch_is_for_training_only(module: str) -> None:
    if needs_torch(module):
        return
    assert "torch" not in foreign(module, top_only=True)
    if module.split(".")[0] != "cli":
        assert "torch" not in foreign(module, top_only=False)
        assert not [other for other in ours(module) if needs_torch(other)]


@pytest.mark.parametrize("module", [m for m in MODULES if m.rpartition(".")[2].endswith("spec")])
def test_specifications_need_numpy_only(module: str) -> None:
    assert foreign(module, top_only=False) <= {"__future__", "collections", "dataclasses", "math", "numpy"}
    assert not [other for other in ours(module) if other.startswith("native")]


@pytest.mark.parametrize("module", [m for m in MODULES if m in LIGHT or m.startswith("cli.")])
def test_the_front_is_light(module: str) -> None:
    assert not HEAVY & foreign(module, top_only=True)
    loaded = ours(module, top_only=True)
    assert not {m for m in loaded if m not in LIGHT and m != "image" and not m.startswith("cli.")}


def loaded_after(code: str) -> set[str]:
    """Top-level modules of a fresh process after ``code``."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"],
        capture_output=True, text=True, check=True, cwd=ROOT.parent,
    )  # fmt: skip
    return {name.split(".")[0] for name in done.stdout.split()}


def test_importing_the_package_loads_nothing_heavy():
    assert not HEAVY & loaded_after("import gmcodec")


def test_importing_the_command_line_loads_nothing_heavy():
    assert not HEAVY & loaded_after("import gmcodec.cli.main")


def test_coding_and_models_load_no_torch():
    assert "torch" not in loaded_after("import gmcodec.codec, gmcodec.models.registry, gmcodec.coding.autoregressive")
