# SPDX-License-Identifier: MIT
"""Learning from the image that is coded: the rate without learning is the net's, and learning helps."""

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
import toy

from bench.online import rate
from gmcodec.models.local_float import LocalNet
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
