# SPDX-License-Identifier: MIT
"""Discriminators: logits follow permutations of a batch, layers by hand, published sizes, projections of classes."""

from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn
from torch.nn import functional

from gmcodec.training.adversarial_losses import bgan_generator_loss, mbgan_generator_loss
from gmcodec.training.discriminators import LEAKY_SLOPE, Discriminator, Equivariant
from gmcodec.training.presets import PLAIN_DISCRIMINATOR, RESIDUAL_DISCRIMINATOR, DiscriminatorConfig

TOYS = {
    "plain": DiscriminatorConfig("plain", (4, 6, 8), size=12),
    "residual": DiscriminatorConfig("residual", (4, 6, 6, 8), size=12),
    "points": DiscriminatorConfig("points", (8, 6), channels=2),
}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def inputs(config: DiscriminatorConfig, count: int) -> Tensor:
    shape = (count, 2) if config.kind == "points" else (count, config.channels, config.size, config.size)
    return torch.rand(shape) * 2 - 1


def exact(net: nn.Module) -> nn.Module:
    """In float64, where the order of a sum hardly matters."""
    return net.double()


@pytest.mark.parametrize("batch", ["none", "mean"])
@pytest.mark.parametrize("kind", TOYS)
def test_logits_go_with_their_samples(kind: str, batch: str) -> None:
    net = exact(Discriminator(replace(TOYS[kind], batch=batch)))
    x, order = inputs(TOYS[kind], 7).double(), torch.randperm(7)
    logits = net(x)
    assert logits.shape == (7,)
    assert logits.std() > 1e-3  # there is something to permute
    assert torch.allclose(net(x[order]), logits[order], rtol=0, atol=1e-12)
    for loss in (bgan_generator_loss, mbgan_generator_loss):
        assert torch.allclose(loss(net(x[order])), loss(logits), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", TOYS)
def test_samples_meet_in_batch_means_only_where_they_are_told_to(kind: str) -> None:
    """A logit depends on other samples with batch="mean", through their distribution, and else on its own only."""
    x = inputs(TOYS[kind], 4).double()
    other = torch.cat([x[:1], inputs(TOYS[kind], 3).double()])
    alone = exact(Discriminator(TOYS[kind]))
    assert torch.allclose(alone(x)[0], alone(other)[0], rtol=0, atol=1e-12)
    together = exact(Discriminator(replace(TOYS[kind], batch="mean")))
    assert abs(together(x)[0] - together(other)[0]) > 1e-4
    # every layer reads means: the first one, too
    means = [layer.mean_weight is not None for layer in together.modules() if isinstance(layer, Equivariant)]
    assert all(means)


def test_an_equivariant_layer_by_hand() -> None:
    """Two samples of one feature: bias + 2/3 Lambda x + 1/3 Gamma mean(x)."""
    layer = Equivariant(1, 1, 0, "mean")
    assert layer.mean_weight is not None
    for parameter, value in ((layer.weight, 2.0), (layer.mean_weight, -5.0), (layer.bias, 0.5)):
        parameter.data.fill_(value)
    assert torch.allclose(layer(torch.tensor([[3.0], [9.0]])), torch.tensor([[0.5 + 4 - 10], [0.5 + 12 - 10.0]]))


@pytest.mark.parametrize("size", [1, 3, 4])
def test_an_equivariant_convolution_is_two_convolutions(size: int) -> None:
    layer = Equivariant(2, 3, size, "mean", stride=2 if size == 4 else 1)
    assert layer.mean_weight is not None
    nn.init.normal_(layer.bias)
    x = torch.randn(5, 2, 8, 8)
    padding = {1: 0, 3: 1, 4: 1}[size]
    own = functional.conv2d(x, layer.weight, None, layer.stride, padding)
    shared = functional.conv2d(x.mean(0, keepdim=True), layer.mean_weight, None, layer.stride, padding)
    expected = 5 / 6 * own + 1 / 6 * shared + layer.bias[:, None, None]
    assert torch.allclose(layer(x), expected, atol=1e-5)
    assert layer(x).shape[2] == (4 if size == 4 else 8)


def test_published_sizes() -> None:
    """Weights and biases by hand; the nets run, and a smaller image fits the residual one only."""
    plain, residual = Discriminator(PLAIN_DISCRIMINATOR), Discriminator(RESIDUAL_DISCRIMINATOR)
    convolutions = [
        (3, 64, 9),
        (64, 64, 16),
        (64, 128, 9),
        (128, 128, 16),
        (128, 256, 9),
        (256, 256, 16),
        (256, 512, 9),
    ]
    expected = sum(a * b * k + b for a, b, k in convolutions) + 512 * 4 * 4 + 1
    assert sum(p.numel() for p in plain.parameters()) == expected
    blocks = [(16, 32), (32, 64), (64, 128), (128, 256)]
    expected = 3 * 16 * 9 + 16 + 257 + sum((a * b + b * b) * 9 + a * b + 3 * b for a, b in blocks)
    assert sum(p.numel() for p in residual.parameters()) == expected
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    assert plain(x).shape == residual(x).shape == residual(x[:, :, :16, :24]).shape == (2,)
    assert sum(isinstance(m, nn.LeakyReLU) and m.negative_slope == LEAKY_SLOPE == 0.2 for m in plain.modules()) == 7
    with pytest.raises(RuntimeError):
        plain(x[:, :, :16, :16])


def test_configs_that_make_no_net() -> None:
    with pytest.raises(ValueError, match="kind"):
        DiscriminatorConfig("dense", (4,))
    with pytest.raises(ValueError, match="batch 'max'"):
        replace(TOYS["plain"], batch="max")
    with pytest.raises(ValueError, match="halved"):
        replace(TOYS["plain"], size=14)


@pytest.mark.parametrize("kind", TOYS)
def test_projection(kind: str) -> None:
    """What a label adds is linear in V: zero rows leave the unconditional logit, twice the row twice the change."""
    net = Discriminator(replace(TOYS[kind], classes=3))
    x, labels = inputs(TOYS[kind], 6), torch.tensor([0, 1, 2, 2, 1, 0])
    given = net(x, labels)
    assert (given - net(x, (labels + 1) % 3)).abs().min() > 1e-5
    assert net.classes is not None
    rows = net.classes.data.clone()
    net.classes.data[1] *= 2
    twice = net(x, labels)
    net.classes.data.zero_()
    none = net(x, labels)
    assert torch.equal(twice[labels != 1], given[labels != 1])
    assert torch.allclose(twice - none, (given - none) * (1 + (labels == 1)), atol=1e-4)
    net.classes.data.copy_(rows)
    net(x, labels).sum().backward()
    assert (net.classes.grad.abs().sum(1) > 0).all()
    with pytest.raises(ValueError, match="labels"):
        net(x)
    with pytest.raises(ValueError, match="labels"):
        Discriminator(TOYS[kind])(x, labels)
