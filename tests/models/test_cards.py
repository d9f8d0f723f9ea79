# SPDX-License-Identifier: MIT
"""What the cards of shipped weights say of their architecture is what the weights files hold."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from places import WEIGHTS as FOLDER
from safetensors import safe_open

from gmcodec.models.families import ADE, AGAVE, LOCAL
from gmcodec.models.local.config import LocalConfig

NAMES = sorted(path.stem for path in FOLDER.glob("*.safetensors"))
NUMBERS = {"two": 2, "three": 3, "14": 14}


def card(name: str) -> dict[str, str]:
    """The rows of a card."""
    return dict(re.findall(r"^\| ([^|]+?) \| (.*) \|$", (FOLDER / f"{name}.md").read_text("utf-8"), re.M))


def stored(name: str) -> tuple[dict, dict[str, np.ndarray], dict[str, str]]:
    with safe_open(FOLDER / f"{name}.safetensors", "np") as file:
        metadata = file.metadata()
        return json.loads(metadata["config"]), {key: file.get_tensor(key) for key in file.keys()}, metadata


def bits(weight: np.ndarray) -> int:
    return int(np.abs(weight.astype(np.int64)).max()).bit_length() + 1


def numbers(text: str) -> list[int]:
    return [int(n) for n in re.findall(r"\d+", text)]


@pytest.mark.parametrize("name", NAMES)
def test_size_and_bits(name: str) -> None:
    _, tensors, metadata = stored(name)
    said = card(name)
    text = said["architecture"] + said["integers"]
    count, unit = re.search(r"([\d.]+) (thousand|million) parameters", text).groups()
    own = [t.size for key, t in tensors.items() if key.endswith((".weight", ".bias")) and "condition" not in key]
    digits = len(count.partition(".")[2])
    size = sum(own) / {"thousand": 1e3, "million": 1e6}[unit]
    # of flows the float net's are counted, whose posterior has its biases twice
    assert abs(size - float(count)) <= (1.5 if metadata["kind"] == ADE.kind else 0.5001) * 10**-digits
    plain, first = re.search(r"weights of (\d+) bits \(first layers?(?: and linear parts)? (\d+)", text).groups()
    linear = re.search(r"linear predictor (\d+)", text)
    for key, tensor in tensors.items():
        if key.endswith(".weight"):
            layer = key.removesuffix(".weight")
            early = re.fullmatch(r"(vae\.|told\.|noise\.|flow\.\d+\.)?first(_\w+)?", layer) or layer.endswith(".linear")
            expected = int(linear[1]) if linear and layer == "linear" else int(first if early else plain)
            assert bits(tensor) == expected, key


@pytest.mark.parametrize("name", NAMES)
def test_architecture(name: str) -> None:
    config, _, metadata = stored(name)
    text = card(name)["architecture"]
    assert metadata["kind"] in text
    if metadata["kind"] == LOCAL.kind:
        said = re.search(r"LocalConfig\(([^)]*)\)", text)[1]
        values = {key: int(value) for key, value in (part.split("=") for part in said.split(", "))}
        assert LocalConfig(**values) == LocalConfig(**config)
        window = re.search(r"(\d+)-pixel window", text)
        assert window is None or int(window[1]) == LocalConfig(**config).window.inputs // config["channels"] - 1
    elif metadata["kind"] == ADE.kind:
        vae, couplings = config["vae"], [name for names in config["scales"] for name in names]
        scales, count = re.search(r"Real-NVP of (\w+) scales?, (\w+) affine couplings", text).groups()
        assert {"one": 1, "two": 2}[scales] == len(config["scales"])
        assert NUMBERS[count] == len(couplings)
        whole = all(name.endswith(":rgb") for name in couplings)
        assert ("checkerboard" in text) == (whole and set(couplings) <= {"bc:rgb", "ad:rgb"})
        assert ("by position and colour" in text) == (not whole)
        assert f"a net of {config['filters']} features" in text
        assert f"residual blocks of {config['kernels'][0]}x{config['kernels'][0]} and {config['kernels'][1]}x" in text
        assert NUMBERS[re.search(r"(\w+) residual blocks", text)[1]] == config["blocks"]
        assert ("mixtures of three" in text) == (config["mixtures"] == 3)
        assert ("each feature has one Gaussian" in text) == (config["mixtures"] == 1)
        assert f"{config['dequantisation']} dequantisation" in text
        assert numbers(re.search(r"a VAE of three resolutions \(([^)]*)\)", text)[1]) == [
            *vae["filters"],
            vae["latents"],
        ]
    elif metadata["kind"] == AGAVE.kind:
        assert [int(n) for n in re.search(r"(\d+) features on a grid .*?(\d+) on one", text).groups()] == config[
            "filters"
        ]
        assert f"a group of {config['latents']} latents per cell on each" in text
        assert config["groups"] == [1, 1]
        assert f"a conditioner of {config['decoder']['condition']} features" in text
    else:
        assert set(config["filters"]) == {int(re.search(r"resolutions of (\d+) features", text)[1])}
        assert f"{config['mixtures']} logistics" in text
    base = re.search(r"`([\w-]+)` \(weights (\w{8})\)", text)
    assert (base and base.groups()) == ((metadata["base"], metadata["base_id"]) if "base" in metadata else None)
