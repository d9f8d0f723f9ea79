# SPDX-License-Identifier: MIT
"""What docstrings, comments and Markdown name exists: files, modules and what is in them, tests, commands, options."""

from __future__ import annotations

import ast
import importlib
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
from places import ROOT

from gmcodec.cli.main import cli
from gmcodec.training.presets import PRESETS

PLACES = ("gmcodec", "bench", "docs", "tests")
SOURCES = sorted(path for place in PLACES for path in (ROOT / place).rglob("*.py"))
PAGES = sorted([*ROOT.glob("*.md"), *(path for place in PLACES for path in (ROOT / place).rglob("*.md"))])
STEMS: dict[str, list[Path]] = {}  # several packages have a model.py
for _path in SOURCES:
    STEMS.setdefault(_path.stem, []).append(_path)
SUFFIXES = {
    "gma",
    "cpp",
    "gmc",
    "h",
    "html",
    "jpg",
    "json",
    "md",
    "npy",
    "png",
    "py",
    "safetensors",
    "svg",
    "webp",
}  # of files, not members
PAST = {"CHANGELOG.md", "experiments.md"}  # say what was, under the names that it had then
FILE = re.compile(r"(?<![\w./*-])([\w*][\w./*-]*\.py)\b")
TEST = re.compile(r"\btest_\w+")
MEMBER = re.compile(r"(?<![\w./-])((?:\w+\.)*[a-z]\w*)\.([A-Za-z_]\w*)(?![\w/])")
CODE = re.compile(r"`([^`]+)`|^\s*((?:gmcodec|python -m bench)[^\n]*)", re.M)
COMMAND = re.compile(r"(?:python -m (bench(?:\.\w+)?)|gmcodec ([a-z]+))(?![\w.])\s*(.*)", re.S)
OPTION = re.compile(r"(?<!\S)(--[a-z][\w-]*|-[a-zA-Z])(?![\w-])")


def said(path: Path) -> str:
    """A page without what test_readme.py runs or compares, or the comments and docstrings of a source."""
    text = path.read_text("utf-8")
    if path.suffix == ".md":
        text = re.sub(r"```python\n.*?```|<!-- tree: .*?<!-- end -->", "", text, flags=re.S)
        return re.sub(r"^```\w*$", "", text, flags=re.M)
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    found = [token.string for token in tokens if token.type == tokenize.COMMENT]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            found.append(node.value.value)
    return "\n".join(found)


@cache
def names(path: Path) -> frozenset[str]:
    """What a module defines or imports, members of its classes included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.id if isinstance(node, ast.Name) else node.attr)
        elif isinstance(node, ast.alias):
            found.add((node.asname or node.name).split(".")[-1])
    return frozenset(found)


def all_said() -> Iterator[tuple[Path, str]]:
    return ((path, said(path)) for path in (*SOURCES, *PAGES) if path.name not in PAST)


def is_there(cited: str, where: Path) -> bool:
    """Whether there is such a file: beside the text that cites it, from the root, or, by a part of its path, anywhere.

    A name that begins with ``_`` is the end of another.
    """
    pattern = f"*{cited}" if cited.startswith("_") else cited
    return (
        any(where.parent.glob(pattern))
        or any(ROOT.glob(pattern))
        or any(any((ROOT / p).rglob(pattern)) for p in PLACES)
    )


def test_files() -> None:
    missing = [
        f"{path.relative_to(ROOT)}: {cited}"
        for path, text in all_said()
        for cited in FILE.findall(text)
        if not is_there(cited, path)
    ]
    assert not missing, missing


def test_tests() -> None:
    tests = {name for path in SOURCES for name in (path.stem, *names(path)) if name.startswith("test_")}
    missing = [
        f"{path.relative_to(ROOT)}: {cited}"
        for path, text in all_said()
        for cited in TEST.findall(text)
        if cited not in tests and not cited.startswith("test_labels")  # of CIFAR-10
    ]
    assert not missing, missing


def test_members_of_modules() -> None:
    missing = []
    for path, text in all_said():
        for module, name in MEMBER.findall(text):
            *parents, stem = module.split(".")
            sources = [p for p in STEMS.get(stem, ()) if not parents or p.parent.name == parents[-1]]
            known = any(name in names(p) for p in sources) or any(p.parent.name == stem for p in STEMS.get(name, ()))
            if sources and not known and name not in SUFFIXES:
                missing.append(f"{path.relative_to(ROOT)}: {module}.{name}")
    assert not missing, missing


def command(module: str, name: str) -> click.Command | None:
    """What is called: of the program, or of an experiment if what it needs is installed.  LookupError if nothing is."""
    if module in ("", "bench"):
        return cli.commands[name or "bench"]
    try:
        return importlib.import_module(module).main
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("bench"):
            raise LookupError from error
        return None


def test_commands_and_options() -> None:
    """With presets of ``gmcodec train``; what is quoted are arguments."""
    missing, seen = [], 0
    for path, text in all_said():
        for span in CODE.findall(text):
            found = COMMAND.match(" ".join("".join(span).split()))
            if not found:
                continue
            module, name, rest = found[1] or "", found[2] or "", re.sub(r"\"[^\"]*\"|\s#.*", "", found[3])
            try:
                called = command(module, name)
            except LookupError:
                if module or path.suffix == ".md" or span[0]:  # a line of a docstring may begin with the name
                    missing.append(f"{path.relative_to(ROOT)}: {found[0]}")
                continue
            known = {o for p in called.params for o in (*p.opts, *p.secondary_opts)} if called else set()
            seen += 1
            unknown = set(OPTION.findall(rest)) - known - {"--help", "-h"} if called else ()
            missing += [f"{path.relative_to(ROOT)}: {found[0]!r} has no {option}" for option in unknown]
            preset = rest.split()[0] if name == "train" and rest else "PRESET"
            if preset not in PRESETS and preset != "PRESET":
                missing.append(f"{path.relative_to(ROOT)}: no preset {preset}")
    assert not missing, missing
    assert seen > 50
