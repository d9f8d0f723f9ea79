# SPDX-License-Identifier: MIT
"""The commands that train and freeze."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from commands import photo, run

pytestmark = pytest.mark.usefixtures("toy_weights")


# -- train, freeze -------------------------------------------------------------------------------------------------


def test_training_without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    folders = ["--data", tmp_path, "--val", tmp_path]
    result = run("train", "toy-rgb", *folders, "--out", tmp_path / "run")
    assert result.exit_code == 9
    assert result.output == "gmcodec: error: training needs torch: pip install gmcodec[train]\n"
    weights = tmp_path / "w.safetensors"
    weights.touch()
    assert run("freeze", weights, *folders, "-o", tmp_path / "out.safetensors").exit_code == 9
    assert run("freeze", weights, *folders, "-o", weights).exit_code == 11


@pytest.mark.slow
def test_train_and_freeze(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    for seed in range(3):
        photo(tmp_path / "data" / f"{seed}.png", 64, 64, seed)
    folders = ["--data", tmp_path / "data", "--val", tmp_path / "data"]
    out = tmp_path / "run"
    assert run("train", "nonsense", *folders, "--out", out).exit_code == 2
    command = ["train", "toy-rgb", *folders, "--out", out, "--fp32", "--steps", "4", "--batch", "2"]
    result = run(*command)
    assert result.exit_code == 0, result.output
    assert str(out / "float.safetensors") in result.output
    assert run(*command).exit_code == 11
    assert run(*command, "--resume").exit_code == 0
    for measured in ([], ["--val", tmp_path / "data", "--val-last", "1"]):
        result = run("train", "toy-rgb", *folders[:2], *measured, "--out", tmp_path / "other")
        assert result.exit_code == 2
        assert "either --val or --val-last" in result.output
    frozen = tmp_path / "local-rgb.safetensors"
    result = run("freeze", out / "float.safetensors", *folders, "-o", frozen)
    assert result.exit_code == 0, result.output
    assert f"{frozen}: {frozen.stat().st_size} bytes" in result.output


@pytest.mark.slow
def test_train_on_mosaics(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    photo(tmp_path / "data" / "train.png", 64, 48, 0)
    photo(tmp_path / "data" / "test.png", 63, 47, 1)  # not made of squares: must not even be looked at
    out = tmp_path / "run"
    command = ["train", "toy-pixelcnnpp", "--data", tmp_path / "data", "--val-last", "2", "--out", out]
    result = run(*command, "--fp32", "--steps", "3")
    assert result.exit_code == 0, result.output
    assert (out / "float.safetensors").exists()
