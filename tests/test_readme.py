# SPDX-License-Identifier: MIT
"""The README's commands and snippets work as printed, and what it names exists."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.S | re.M)


@pytest.mark.usefixtures("shipped")
def test_main_job(tmp_path: Path) -> None:
    commands = [line for block in blocks("") for line in block.splitlines() if line.startswith("gmcodec ")]
    assert [c.split()[1] for c in commands[:2]] == ["compress", "decompress"]
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for command in commands[:2]:
        words = shlex.split(command)
        subprocess.run([sys.executable, "-m", *words], cwd=tmp_path, check=True, capture_output=True)
    before, after = Image.open(ROOT / "examples/photo.png"), Image.open(tmp_path / "photo.png")
    assert before.mode == after.mode
    assert np.array_equal(np.asarray(before), np.asarray(after))
    assert (tmp_path / "photo.gmc").stat().st_size < (ROOT / "examples/photo.png").stat().st_size


@pytest.mark.usefixtures("shipped")
def test_python_snippet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.open(ROOT / "examples/photo.png").crop((0, 0, 192, 160)).save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    (snippet,) = blocks("python")
    names: dict = {}
    exec(snippet, names)  # noqa: S102
    assert np.array_equal(names["array"], np.asarray(Image.open("photo.png")))
    assert np.array_equal(np.asarray(names["image"]), names["array"])


def test_files_and_links_exist() -> None:
    for path in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / path).exists(), path
    named = r"`((?:exact|models|coding|training)/[\w.]+|(?:bench|tests|float-weights|examples)/[\w./-]*)`"
    for path in re.findall(named, README):
        assert (ROOT / path).exists() or (ROOT / "gmcodec" / path).exists(), path
    assert "@@" not in README


def test_tables_are_the_measured_ones() -> None:
    command = [sys.executable, "-m", "bench.readme", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
