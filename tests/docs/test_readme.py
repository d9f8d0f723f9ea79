# SPDX-License-Identifier: MIT
"""Commands and snippets of the README and of docs/ work as printed, and what these pages name exists."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from places import ROOT

README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PARTS = "bench build_tools cli coding docs exact examples float-weights formats fuzz gmcodec image models native tests"
NAMED = re.compile(rf"`((?:{'|'.join([*PARTS.split(), 'training'])})/[\w./*-]*)`")
PAST = {"experiments.md"}  # says what was, under the names that it had then


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.S | re.M)


def slugs(page: Path) -> set[str]:
    """Anchors of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.M)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.usefixtures("shipped")
def test_commands(tmp_path: Path) -> None:
    """The six of the README; the last one needs pictures and an extra."""
    commands = [line for block in blocks(README, "") for line in block.splitlines() if line.startswith("gmcodec ")]
    assert [c.split()[1] for c in commands] == ["compress", "decompress", "info", "verify", "pack", "bench"]
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples/photo.png").symlink_to(ROOT / "examples/photo.png")
    for command in commands[:5]:
        words = shlex.split(command, comments=True)
        subprocess.run([sys.executable, "-m", *words], cwd=tmp_path, check=True, capture_output=True)
    before, after = Image.open(ROOT / "examples/photo.png"), Image.open(tmp_path / "photo.png")
    assert before.mode == after.mode
    assert np.array_equal(np.asarray(before), np.asarray(after))
    assert (tmp_path / "photo.gmc").stat().st_size < (ROOT / "examples/photo.png").stat().st_size


@pytest.mark.usefixtures("shipped")
@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=lambda p: p.name)
def test_python_snippets(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.open(ROOT / "examples/photo.png").crop((0, 0, 192, 160)).save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for snippet in blocks(page, "python"):
        exec(snippet, names)  # noqa: S102
    if page == README:
        assert np.array_equal(names["array"], np.asarray(Image.open("photo.png")))
        assert np.array_equal(np.asarray(names["image"]), names["array"])


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_files_and_links_exist(page: Path) -> None:
    text = page.read_text("utf-8")
    for link in re.findall(r"\]\((?!http)([^)]+)\)", text):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in slugs(target), link
    for path in NAMED.findall(text) if page.name not in PAST else ():
        assert any(next(iter(place.glob(path)), None) for place in (ROOT, ROOT / "gmcodec")), path
    assert "@@" not in text


def test_the_readme_is_short() -> None:
    assert len(README.read_text("utf-8").splitlines()) <= 150


def test_tables_and_trees_are_up_to_date() -> None:
    command = [sys.executable, "-m", "bench.readme", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
