# SPDX-License-Identifier: MIT
"""Docstrings of this project as Markdown, for the generated pages of the site.

Docstrings are laid out as plain text: drawings are indented or follow ``::``, tables have rules of ``=``, and fields
stand in two columns.  ``Plain`` tells griffe, which reads them for mkdocstrings, to pass each through ``markdown``.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

from griffe import Extension, Object

RULE = re.compile(r"=+( +=+)+$")
FIELD = re.compile(r"(\S.*?)( {2,})\S")
POWER = re.compile(r"(`+).*?\1|(?<=\w)\*\*(?=\w)", re.S)


class Plain(Extension):
    """Changes every docstring when it is loaded."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = markdown(obj.docstring.value)


def markdown(text: str) -> str:
    """A docstring, its common indentation taken away, as Markdown."""
    out: list[str] = []
    drawing: list[str] = []
    for paragraph in [*re.split(r"\n(?: *\n)+", text.strip()), ""]:
        lines = paragraph.split("\n")
        if paragraph.startswith("    "):
            drawing.append(paragraph)
            continue
        if drawing:
            out.append(_fenced("\n\n".join(drawing)))
            drawing = []
        if lines[-1] == "::":
            lines.pop()
        elif lines[-1].endswith("::"):
            lines[-1] = lines[-1][:-1]
        if not any(lines):
            continue
        if lines[0].startswith(">>>"):
            out.append(f"```pycon\n{paragraph}\n```")
        elif "-->" in paragraph:
            out.append(_fenced("\n".join(lines)))
        elif RULE.match(lines[0]):
            out.append(_table(lines))
        elif at := _column(lines):
            out.append(_fields(lines, at))
        else:
            out.append(_plain("\n".join(lines)))
    return "\n\n".join(out)


def _plain(text: str) -> str:
    """Outside of code, two asterisks between characters are a power: they do not begin bold text."""
    return POWER.sub(lambda found: found[0] if found[1] else r"\*\*", text)


def _fenced(text: str) -> str:
    least = min(len(line) - len(line.lstrip()) for line in text.split("\n") if line.strip())
    return "```text\n" + "\n".join(line[least:] for line in text.split("\n")) + "\n```"


def _table(lines: list[str]) -> str:
    """A table between rules of ``=``; a row whose first cell is empty goes on with the row above it."""
    starts = [found.start() for found in re.finditer("=+", lines[0])]
    cuts = [*pairwise(starts), (starts[-1], None)]
    rows: list[list[str]] = []
    for line in lines:
        if RULE.match(line):
            continue
        cells = [line[a:b].strip() for a, b in cuts]
        if cells[0]:
            rows.append(cells)
        else:
            rows[-1] = [f"{above} {cell}".strip() for above, cell in zip(rows[-1], cells, strict=True)]
    head, *body = (f"| {_plain(' | '.join(row))} |" for row in rows)
    return "\n".join([head, "|---" * len(starts) + "|", *body])


def _column(lines: list[str]) -> int:
    """Where the second column of a paragraph of fields begins; 0 if it is another paragraph."""
    found = FIELD.match(lines[0])
    if not found or found[0].startswith(("-", "*")):
        return 0
    at = found.end() - 1
    rest = [line for line in lines[1:] if line[:at].strip()]
    fits = all(len(line) > at and line[at] != " " and line[at - 2 : at] == "  " for line in rest)
    return at if fits and (len(lines) > 1 or found[1].endswith("`")) else 0


def _fields(lines: list[str], at: int) -> str:
    """Names and what they mean, as a list; a meaning may hold fields of its own, ``name``: and text."""
    out: list[str] = []
    for line in lines:
        name, said = line[:at].strip(), _plain(line[at:])
        if name:
            out.append(f"- {name if name.startswith('`') else f'`{name}`'}: {said}")
        elif re.match(r"``\w+``: ", said):
            out.append(f"    - {said}")
        else:
            out.append(f"    {said.strip()}")
    return "\n".join(out)
