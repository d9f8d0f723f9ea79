# SPDX-License-Identifier: MIT
"""An option that would do nothing is refused, not ignored."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import toy
from click.testing import CliRunner, Result
from PIL import Image

pytest.importorskip("torch")

import torch

from bench import ade, likelihood, runs
from gmcodec.cli.main import cli
from gmcodec.errors import TrainingError
from gmcodec.models.ade.float import Ade
from gmcodec.models.pixelcnnpp.float import PixelCNN
from gmcodec.training.nets import load_whole, save_float
from gmcodec.training.presets import PRESETS, Preset


def run(*arguments: object, command=cli) -> Result:
    return CliRunner().invoke(command, [str(a) for a in arguments])


def refused(result: Result, what: str) -> None:
    assert result.exit_code == 2, result.output
    assert what in " ".join(result.output.split())


@pytest.fixture
def mosaic(tmp_path: Path) -> Path:
    squares = toy.smooth(np.random.default_rng(0), (3, 32, 16)).transpose(1, 2, 0)
    Image.fromarray(np.ascontiguousarray(squares)).save(tmp_path / "test.png")
    return tmp_path / "test.png"


def saved(preset: Preset, path: Path) -> Path:
    torch.manual_seed(0)
    kind = Ade if preset.model.channels == 3 and "ade" in preset.name else PixelCNN
    save_float(kind(preset.model), preset, path)
    return path


def test_importance_of_a_flow(mosaic: Path, tmp_path: Path) -> None:
    weights = saved(PRESETS["toy-ade"], tmp_path / "flow.safetensors")
    options = ("ade", mosaic, "--tiles", 16, "--only-float", "--float", weights)
    result = run(*options, "--importance", 4, command=likelihood.main)
    assert result.exit_code == 0, result.output
    found = dict(re.findall(r"(-ELBO|features|KL|noise|IW 4) +([\d.-]+) bits per dimension", result.output))
    found = {name: float(bits) for name, bits in found.items()}
    assert found["-ELBO"] == pytest.approx(found["features"] + found["KL"] + found["noise"], abs=2e-4)
    assert abs(found["IW 4"] / found["-ELBO"] - 1) < 0.2


def test_options_of_likelihood(mosaic: Path, tmp_path: Path) -> None:
    plain = saved(PRESETS["toy-pixelcnnpp"], tmp_path / "plain.safetensors")
    classes = replace(PRESETS["toy-ade"], model=replace(PRESETS["toy-ade"].model, classes=2))
    classes = saved(classes, tmp_path / "classes.safetensors")
    options = ("pixelcnnpp", mosaic, "--tiles", 16)
    main = likelihood.main
    refused(run(*options, "--importance", 4, command=main), "--importance needs --float")
    refused(run(*options, "--only-float", command=main), "--only-float needs --float")
    refused(run(*options, "--only-float", "--float", plain, "--importance", 4, command=main), "models with latents")
    refused(
        run(*options, "--only-float", "--float", plain, "--threads", 2, command=main), "--threads is for the archive"
    )
    refused(run(*options, "--only-float", "--float", classes, command=main), "depends on classes")


def test_weights_that_are_given_twice(tmp_path: Path) -> None:
    weights = saved(PRESETS["toy-ade"], tmp_path / "flow.safetensors")
    with pytest.raises(TrainingError, match="which another file holds too"):
        load_whole([weights, weights])


def test_runs_of_other_settings_are_not_taken_for_these(tmp_path: Path) -> None:
    results = {"vae": {"preset": runs.asdict(ade.runs(1000)[0].preset), "result": {"elbo": 1.0}, "curve": []}}
    (tmp_path / "results.json").write_text(json.dumps(results))
    kept = runs.run_all(ade.runs(1000), tmp_path, tmp_path, tmp_path, "vae")
    assert kept["vae"].result == {"elbo": 1.0}
    refused(run(tmp_path, "-o", tmp_path, "--steps", 500, "--only", "vae", command=ade.main), "vae with other settings")


def test_options_of_the_program(tmp_path: Path) -> None:
    photos = toy.write_photos(tmp_path / "photos", 40, 48)
    train = ("train", "toy-rgb", "--data", photos, "--val", photos, "--out", tmp_path / "run")
    refused(run(*train, "--steps", 3, "--minutes", 1), "either --steps or --minutes")
    weights = saved(PRESETS["toy-ade"], tmp_path / "flow.safetensors")
    refused(run(*train, "--resume", "--init", weights), "leave out --init")
    image = photos / "0.png"
    refused(run("compress", image, "--model", "local-rgb", "--effort", "best"), "--effort chooses")
    refused(run("compress", image, "--code", "conventional", "--effort", "fast"), "--effort chooses")
    refused(run("bench", image, "-o", tmp_path, "--resume", "--force"), "exclude one another")


def test_there_is_nothing_to_compile_of_a_flow(tmp_path: Path) -> None:
    squares = toy.smooth(np.random.default_rng(0), (3, 64, 64)).transpose(1, 2, 0)
    Image.fromarray(np.ascontiguousarray(squares)).save(tmp_path / "train_0.png")
    options = ("--data", tmp_path, "--val-last", 4, "--out", tmp_path / "run", "--compile")
    refused(run("train", "toy-ade", *options), "--compile cannot make toy-ade faster")
