# SPDX-License-Identifier: MIT
"""The file tree of a folder: each source beside the first sentence of its docstring, or of the comment at its head."""

from __future__ import annotations

import ast
import re
import textwrap
from pathlib import Path

SUFFIXES = {".py", ".cpp", ".hpp", ".h"}
WIDTH, COLUMN = 100, 28


def tree(folder: Path) -> str:
    """Lines of text for all sources below ``folder``, files before folders.  A folder says what its package says."""
    return "".join(_lines(folder, 0))


def _lines(folder: Path, depth: int) -> list[str]:
    lines = [_line(f"{folder.name}/", said(folder / "__init__.py"), depth)]
    inside = [path for path in sorted(folder.iterdir()) if path.name != "__pycache__"]
    for path in inside:
        if path.suffix in SUFFIXES and path.name != "__init__.py":
            lines.append(_line(path.name, said(path), depth + 1))
    for path in inside:
        if path.is_dir() and any(p.suffix in SUFFIXES for p in path.rglob("*")):
            lines += _lines(path, depth + 1)
    return lines


def _line(name: str, words: str, depth: int) -> str:
    head = "  " * depth + name
    if not words:
        return f"{head}\n"
    first, rest = f"{head:{COLUMN - 1}} ", " " * COLUMN
    return textwrap.fill(words, WIDTH, initial_indent=first, subsequent_indent=rest) + "\n"


def said(source: Path) -> str:
    """The first sentence that a source says of itself; nothing if it says nothing, or is not there."""
    if not source.is_file():
        return ""
    text = source.read_text("utf-8")
    words = (ast.get_docstring(ast.parse(text)) or "") if source.suffix == ".py" else _comment(text)
    paragraph = " ".join(words.split("\n\n")[0].split()).replace("``", "")
    return re.split(r"(?<=[^.][.?!])\s+(?=[A-Z])", paragraph)[0].removesuffix(".")


def _comment(text: str) -> str:
    """The comment that C++ begins with, its licence left out."""
    block = re.match(r"\s*/\*(.*?)\*/", text, re.S)
    lines = re.findall(r"^ ?\*? ?(.*)$", block[1], re.M) if block else []
    for line in () if block else text.splitlines():
        if not line.startswith("//"):
            break
        lines.append(line[2:].strip())
    return "\n".join(line for line in lines if "SPDX" not in line).strip()
