# SPDX-License-Identifier: MIT
"""The table of misses of the test that tells graphics from photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from places import ROOT
from samples import text_picture

from bench import graphics
from gmcodec import codec, effort


def written(folder: Path) -> Path:
    """A folder with text, a small photograph, a large one, and a file that is no image."""
    pictures = {
        "text": text_picture(130, 140),
        "small": codec.to_planes(ROOT / "examples" / "photo.png").data[:, :30, :40],
        "large": codec.to_planes(ROOT / "examples" / "photo.png").data[:, 200:330, 300:440],
    }
    for name, planes in pictures.items():
        Image.fromarray(np.ascontiguousarray(planes.transpose(1, 2, 0))).save(folder / f"{name}.png")
    (folder / "README").write_text("no image")
    return folder


def table(folder: Path) -> list[str]:
    return CliRunner().invoke(graphics.main, [str(folder)], catch_exceptions=False).output.splitlines()


def test_misses_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = table(written(tmp_path))
    assert "3 images (1 photograph, 1 graphic and photograph, 1 graphic); 0 misses" in line
    monkeypatch.setattr(effort, "GRAPHIC_REPEATS", 2)  # everything large is a photograph
    miss, line = table(tmp_path)
    assert miss.startswith("  text.png: {'photograph': ")
    assert "(2 photograph, 1 graphic and photograph); 1 misses" in line
