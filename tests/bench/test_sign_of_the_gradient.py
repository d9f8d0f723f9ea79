# SPDX-License-Identifier: MIT
"""Learning from the image that is coded: the rate without learning is the net's, and learning helps."""

import re

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

pytest.importorskip("torch")

import torch
import toy

from bench import learning
from bench.online import rate
from gmcodec.models.local.float import LocalNet
from gmcodec.training.data import pad
from gmcodec.training.nets import save_float
from gmcodec.training.presets import PRESETS


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    net = LocalNet(PRESETS["toy-rgb"].model)
    save_float(net, PRESETS["toy-rgb"], tmp_path / "float.safetensors")
    return net, tmp_path / "float.safetensors"


def test_without_learning_the_rate_is_that_of_the_net(weights):
    net, path = weights
    image = toy.smooth(np.random.default_rng(0), (3, 20, 30))
    with torch.no_grad():
        whole = net.bits(torch.from_numpy(pad(image, net.config.reach)[None])).mean().item() / 3
    assert rate(path, image, None) == pytest.approx(whole, rel=1e-3)
    assert rate(path, image, "all:sgd:0") == pytest.approx(whole, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["adam:3e-3", "sgd:1e-2", "sign:1e-3", "mat:1e-3", "row:1e-3"])
def test_a_net_that_knows_nothing_learns_from_the_image(weights, how):
    image = toy.smooth(np.random.default_rng(0), (3, 40, 40))
    assert rate(weights[1], image, f"all:{how}") < 0.99 * rate(weights[1], image, None)


def test_what_learning_changes_in_integers(tmp_path, toy_weights):
    for number in range(2):
        picture = toy.smooth(np.random.default_rng(number), (3, 30, 40))
        Image.fromarray(np.ascontiguousarray(picture.transpose(1, 2, 0))).save(tmp_path / f"{number}.png")
    done = CliRunner().invoke(learning.main, [str(tmp_path), "--every", "1", "--rate", "0", "--rate", "5", "--whole"])
    assert done.exit_code == 0, done.output
    assert len(done.output.splitlines()) == 3
    assert re.fullmatch(
        r"all: \d\.\d{4} bpsp, rate 0 [+-]\d+\.\d\d %, rate 5 [+-]\d+\.\d\d %", done.output.splitlines()[-1]
    )
    assert CliRunner().invoke(learning.main, [str(tmp_path), "--model", "pixelcnnpp"]).exit_code == 2
