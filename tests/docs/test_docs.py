# SPDX-License-Identifier: MIT
"""The site: its file trees, drawings, notebook, pages, and docstrings turned into Markdown.

``mkdocs build --strict`` of .ci/run checks the rest: links, names of what is generated, and that the notebook runs.
"""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest
from places import ROOT

from bench.tree import SUFFIXES, said

DOCS = ROOT / "docs"
SOURCES = {path for path in (ROOT / "gmcodec").rglob("*") if path.suffix in SUFFIXES and path.name != "__init__.py"}


def module(name: str) -> ModuleType:
    """One of the scripts of docs/, which is no package."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    assert spec
    assert spec.loader
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def paths_of_trees(page: Path) -> list[Path]:
    """Files and folders of the trees in a page."""
    found, above = [], [ROOT]
    for block in re.findall(r"<!-- tree: \S+ -->\n```text\n(.*?)```", page.read_text("utf-8"), re.S):
        for line in block.splitlines():
            if not re.match(r" {0,10}[\w.]", line):  # goes on with the words of the line above
                continue
            depth, name = (len(line) - len(line.lstrip())) // 2, line.split()[0]
            above[depth + 1 :] = [above[depth] / name]
            found.append(above[depth + 1])
    return found


def test_trees_name_what_is_there() -> None:
    paths = paths_of_trees(DOCS / "architecture.md")
    assert all(path.exists() for path in paths), [path for path in paths if not path.exists()]
    assert set(paths) >= SOURCES
    assert set(paths) >= {path.parent for path in SOURCES}


def test_a_source_says_what_it_is(tmp_path: Path) -> None:
    python, header = tmp_path / "a.py", tmp_path / "b.hpp"
    python.write_text('# SPDX-License-Identifier: MIT\n"""Words of ``a`` that go\non.  And more."""\n')
    header.write_text("// SPDX-License-Identifier: MIT\n// What it is: a thing.\n//\n// More.\n#pragma once\n")
    assert said(python) == "Words of a that go on"
    assert said(header) == "What it is: a thing"
    assert said(tmp_path / "none.py") == ""


def test_drawings_are_those_of_the_script() -> None:
    drawn = module("draw")
    assert {path.name for path in drawn.FOLDER.glob("*.svg")} == set(drawn.DRAWINGS)
    for name, draw in drawn.DRAWINGS.items():
        assert (drawn.FOLDER / name).read_text("utf-8") == draw(), f"python docs/draw.py makes another {name}"


def test_the_notebook_has_no_outputs() -> None:
    for cell in json.loads((DOCS / "notebook.ipynb").read_text("utf-8"))["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text("utf-8").partition("\nnav:\n")[2]
    pages = {path.name for path in DOCS.iterdir() if path.suffix in (".md", ".ipynb")}
    assert set(re.findall(r": (\S+\.(?:md|ipynb))", navigation)) == pages


def test_docstrings_become_markdown() -> None:
    pytest.importorskip("griffe")
    text = """A line of 2**18.

    ::

        a  drawing

    fields   of two
             columns
    second   one

    === ======
    id  name
    === ======
    1   long
        name
    === ======
    """
    markdown = module("docstrings").markdown(re.sub(r"^    ", "", text, flags=re.M))
    assert markdown.split("\n\n") == [
        "A line of 2\\*\\*18.",
        "```text\na  drawing\n```",
        "- `fields`: of two\n    columns\n- `second`: one",
        "| id | name |\n|---|---|\n| 1 | long name |",
    ]
