# SPDX-License-Identifier: MIT
"""The arrows between modules, read from the syntax trees: who may import whom, and what is heavy and when."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import gmcodec

ROOT = Path(gmcodec.__file__).parent
MODULES = {
    ".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix("__init__").rstrip("."): p
    for p in sorted(ROOT.rglob("*.py"))
}
# what a module, or every module of a package, may import from gmcodec, at any depth of nesting
ALLOWED = {
    "errors": set(),
    "varint": {"errors"},
    "container": {"errors", "varint"},
    "metadata": {"errors", "varint"},
    "tiff": set(),
    "pnm": {"errors"},
    "bmp": {"errors"},
    "ledger": {"bmp", "errors", "ledger", "metadata", "pnm", "tiff"},
    "png16": {"errors", "ledger", "metadata", "planes"},
    "plugins": {"errors", "ledger", "metadata"},
    "planes": {"errors", "ledger"},
    "tiff16": {"errors", "planes", "tiff"},
    "exactness": {"errors"},
    "pillow_info": {"errors", "metadata"},
    "pixels": {
        "bmp",
        "errors",
        "exactness",
        "ledger",
        "metadata",
        "pillow_info",
        "planes",
        "plugins",
        "png16",
        "pnm",
        "tiff16",
    },
    "writing": {"errors", "ledger", "metadata", "pixels", "planes", "png16", "pnm", "tiff"},
    "native": {"errors", "native"},
    "exact": {"errors", "exact"},
    "models": {"errors", "exact", "models", "native", "threads", "varint"},
    "coding": {"errors", "exact", "coding", "native", "threads", "varint"},
    "choice": {"errors", "container", "pixels", "coding", "models", "threads", "varint", "work"},
    "codec": {"errors", "choice", "container", "pixels", "coding", "models", "work"},
    "archive_format": {"errors", "container", "varint"},
    "sampling": {"pixels", "coding", "models"},
    "threads": set(),
    "work": {"errors", "threads"},
    "safe_path": set(),
    "workers": {"", "safe_path", "work"},
    "archive_blocks": {"archive_format", "codec", "coding", "container", "errors", "models", "pixels", "work"},
    "archive": {"archive_blocks", "archive_format", "codec", "container", "errors", "models", "pixels", "work"},
    "training": {"errors", "exact", "models", "coding", "training"},
    "costs": {"codec", "coders", "coding", "errors", "formats", "image", "progress", "threads"},
    "bench": {"", "safe_path", "archive", "errors", "pixels", "codec", "costs", "models", "bench"},
}
TORCH_AT_TOP = {
    "models.ade_float",
    "models.ade_freeze",
    "models.agave_float",
    "models.agave_freeze",
    "models.local_float",
    "models.local_freeze",
    "models.pixelcnnpp_float",
    "models.pixelcnnpp_freeze",
    "models.vae_freeze",
}  # and training
LIGHT = ("cli", "cli_archive", "cli_bench", "cli_doctor", "cli_exit", "cli_files", "cli_resume", "cli_show", "cli_work",
         "work", "workers", "safe_path", "threads", "__main__", "", "errors")  # fmt: skip
HEAVY = {"numpy", "torch", "PIL", "constriction", "safetensors", "tqdm", "imagecodecs",
         "matplotlib"}  # fmt: skip


def imports(module: str, top_only: bool = False) -> set[str]:
    """Dotted names that a module imports; those of gmcodec start with a dot.  Not what is for type checkers only."""
    path = MODULES[module]
    package = list(path.relative_to(ROOT).parent.parts)
    found: set[str] = set()

    def add(name: str, level: int = 0) -> None:
        if level:
            name = ".".join([*package[: len(package) - level + 1], *filter(None, [name])])
            found.add(f".{name}")
        elif name.split(".")[0] == "gmcodec":
            found.add(f".{name.removeprefix('gmcodec').lstrip('.')}")
        else:
            found.add(name)

    def walk(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            if top_only and isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
                continue
            if isinstance(child, ast.Import):
                for alias in child.names:
                    add(alias.name)
            elif isinstance(child, ast.ImportFrom):
                base = child.module or ""
                for alias in child.names:
                    # "from ..exact import ops" names a module, "from .ops import Layer" does not
                    name = f"{base}.{alias.name}".lstrip(".")
                    inside = child.level or base.split(".")[0] == "gmcodec"
                    add(name if inside and _is_module(name, child.level, package) else base, child.level)
            walk(child)

    walk(ast.parse(path.read_text("utf-8")))
    return found


def _is_module(name: str, level: int, package: list[str]) -> bool:
    prefix = package[: len(package) - level + 1] if level else []
    return ".".join([*prefix, *name.removeprefix("gmcodec.").split(".")]) in MODULES


def ours(module: str) -> set[str]:
    """Top-level parts of gmcodec that a module imports; the package itself is ''."""
    return {name[1:].split(".")[0] for name in imports(module) if name.startswith(".")}


def foreign(module: str, top_only: bool) -> set[str]:
    return {name.split(".")[0] for name in imports(module, top_only) if not name.startswith(".")}


def test_the_reader_of_imports_reads():
    assert ".exact.ops" in imports("models.local")
    assert ".models.window" in imports("models.local")
    assert "numpy" in imports("models.local")
    assert ".coding.autoregressive" in imports("codec")
    assert ".coding.autoregressive" not in imports("codec", top_only=True)
    assert "PIL" not in imports("codec")  # for type checkers only
    assert {"torch"} <= foreign("cli", top_only=False)
    assert len(MODULES) > 25


@pytest.mark.parametrize("module", MODULES)
def test_arrows_point_one_way(module):
    part = module.split(".")[0]
    if part in ALLOWED:
        assert ours(module) <= ALLOWED[part]


@pytest.mark.parametrize("module", MODULES)
def test_training_is_imported_by_commands_only(module):
    if module.split(".")[0] not in ("training", "cli"):
        assert "training" not in ours(module)
    assert not any(name.startswith(".training") for name in imports(module, top_only=True)) or "training" in module


@pytest.mark.parametrize("module", MODULES)
def test_torch_is_for_training_only(module):
    if module.split(".")[0] == "training" or module in TORCH_AT_TOP:
        return
    assert "torch" not in foreign(module, top_only=True)
    if module != "cli":
        assert "torch" not in foreign(module, top_only=False)
    assert not {f".{name}" for name in TORCH_AT_TOP} & imports(module)


def test_the_specification_needs_numpy_only():
    assert foreign("models.local_spec", top_only=False) <= {"__future__", "numpy"}
    assert {name for name in imports("models.local_spec") if name.startswith(".")} <= {
        ".exact", ".exact.ops", ".exact.tables", ".models.local", ".models.window",
    }  # fmt: skip


@pytest.mark.parametrize("module", [m for m in LIGHT if m in MODULES])
def test_the_front_is_light(module):
    assert not HEAVY & foreign(module, top_only=True)
    allowed = {*LIGHT} - {"__main__"}
    assert {n[1:].split(".")[0] for n in imports(module, top_only=True) if n.startswith(".")} <= allowed


def loaded_after(code: str) -> set[str]:
    """Top-level modules of a fresh process after ``code``."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"],
        capture_output=True, text=True, check=True, cwd=ROOT.parent,
    )  # fmt: skip
    return {name.split(".")[0] for name in done.stdout.split()}


def test_importing_the_package_loads_nothing_heavy():
    assert not HEAVY & loaded_after("import gmcodec")


@pytest.mark.skipif("cli" not in MODULES, reason="no command line in this tree")
def test_importing_the_command_line_loads_nothing_heavy():
    assert not HEAVY & loaded_after("import gmcodec.cli")


def test_coding_and_models_load_no_torch():
    assert "torch" not in loaded_after("import gmcodec.codec, gmcodec.models.registry, gmcodec.coding.autoregressive")
