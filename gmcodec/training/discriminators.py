# SPDX-License-Identifier: MIT
"""Discriminators of adversarial training as float torch modules (thesis, chapters 4 and 5).

Images, float in -1..1, or points of the plane go in; a logit each comes out, D = sigmoid(logit) being the probability
that it is real.  Three nets:

    plain                          residual                     points
    3x3 conv F0, leaky             3x3 conv F0                  dense F0, ReLU
    4x4 conv F0 / 2, leaky         ResBlock F1                  dense F1, ReLU
    3x3 conv F1, leaky             ResBlock down F2             ..
    4x4 conv F1 / 2, leaky         ResBlock down F3 ..          dense 1
    .. 3x3 conv Fn, leaky          ReLU, average pooling
    dense 1                        dense 1

"plain" is that of SNGAN (Miyato et al. 2018, Table 3) without spectral normalisation, as in section 5.5.2; "residual"
is Table A.1, its blocks those of Gulrajani et al. 2017; "points" is that of section 4.5.1.

**Batches.**  With ``batch="mean"`` every linear operation also reads the mean of what it reads over the batch
(eq. 4.12), the only way in which the samples of a batch meet:

    y_b = bias + B / (B + 1) * Lambda x_b + 1 / (B + 1) * Gamma rho(x)        B: samples of the batch

A permutation of the batch permutes the logits in the same way: they are the o_1 .. o_B of eqs. 4.13 and 4.14, and what
is made of them is up to the loss (training/adversarial_losses.py).  The factors are those of section 4.4.3; Gamma
starts like Lambda.

**Classes.**  With ``classes`` the logit of an image h with label y is dense(h) + <V_y, h> (projection discriminator,
Miyato & Koyama 2018), h being what the last layer reads; the projection is of a sample by itself.

The caller seeds torch: weights are drawn (He et al. 2015) from its global generator.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn import functional

from gmcodec.training.presets import DiscriminatorConfig

SLOPE = 0.2  # of the leaky ReLU of plain nets (thesis, A.2; Miyato et al. take 0.1)
GAIN = sqrt(2)  # initial: keeps the variance behind a ReLU


class Equivariant(nn.Module):
    """A linear operation, dense (``size`` 0) or a convolution, that may read batch means (eq. 4.12 without mu)."""

    def __init__(self, inputs: int, outputs: int, size: int, batch: str, stride: int = 1, gain: float = GAIN) -> None:
        super().__init__()
        self.size, self.stride = size, stride
        shape = (outputs, inputs, size, size) if size else (outputs, inputs)
        scale = gain / sqrt(inputs * max(size, 1) ** 2)
        self.own = nn.Parameter(torch.randn(shape) * scale)  # Lambda
        self.shared = nn.Parameter(torch.randn(shape) * scale) if batch == "mean" else None  # Gamma
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] -> [B, outputs, H / stride, W / stride]; dense: [B, inputs] -> [B, outputs]."""
        if self.shared is None:
            return self._linear(x, self.own, self.bias)
        share = 1 / (len(x) + 1)
        everyone = self._linear(x.mean(0, keepdim=True), self.shared * share, self.bias)
        return self._linear(x, self.own * (1 - share), None) + everyone

    def _linear(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not self.size:
            return functional.linear(x, weight, bias)
        return functional.conv2d(x, weight, bias, self.stride, (self.size - 1) // 2)


class ResBlock(nn.Module):
    """shortcut(x) + second(ReLU(first(ReLU(x)))), 3x3 both; ``down`` averages 2x2 pixels behind them."""

    def __init__(self, inputs: int, outputs: int, batch: str, down: bool) -> None:
        super().__init__()
        self.down = down
        self.first = Equivariant(inputs, outputs, 3, batch)
        self.second = Equivariant(outputs, outputs, 3, batch)
        self.shortcut = Equivariant(inputs, outputs, 1, batch, gain=1.0) if inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] -> [B, outputs, H, W], or half the rows and columns."""
        y = self.second(functional.relu(self.first(functional.relu(x))))
        if self.down:  # a 1x1 convolution and an average commute, and this order is cheaper
            x, y = functional.avg_pool2d(x, 2), functional.avg_pool2d(y, 2)
        return y + (x if self.shortcut is None else self.shortcut(x))


class Discriminator(nn.Module):
    """Images or points, and their labels if there are classes -> logits."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        layers, features = BODIES[config.kind](config)
        self.body = nn.Sequential(*layers)
        self.last = Equivariant(features, 1, 0, config.batch, gain=1.0)
        shape = (config.classes, features)
        self.classes = nn.Parameter(torch.randn(shape) / sqrt(features)) if config.classes else None  # V

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images [B, C, H, W] in -1..1 or points [B, 2], float, and labels, int64 [B] -> logits [B]."""
        if (labels is None) != (self.classes is None):
            raise ValueError(f"{self.config.classes} classes, and labels {'missing' if labels is None else 'given'}")
        features = self.body(x)
        logits = self.last(features)[:, 0]
        if self.classes is None or labels is None:
            return logits
        return logits + (self.classes[labels] * features).sum(1)


def _plain(config: DiscriminatorConfig) -> tuple[list[nn.Module], int]:
    """Layers, and how many features they give."""
    layers: list[nn.Module] = []
    before = config.channels
    for filters in config.filters[:-1]:
        layers += [Equivariant(before, filters, 3, config.batch), nn.LeakyReLU(SLOPE)]
        layers += [Equivariant(filters, filters, 4, config.batch, stride=2), nn.LeakyReLU(SLOPE)]
        before = filters
    last = config.filters[-1]
    layers += [Equivariant(before, last, 3, config.batch), nn.LeakyReLU(SLOPE), nn.Flatten()]
    return layers, last * (config.size >> len(config.filters) - 1) ** 2


def _residual(config: DiscriminatorConfig) -> tuple[list[nn.Module], int]:
    f = config.filters
    layers: list[nn.Module] = [Equivariant(config.channels, f[0], 3, config.batch, gain=1.0)]
    layers += [ResBlock(f[n], f[n + 1], config.batch, down=n > 0) for n in range(len(f) - 1)]
    return [*layers, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()], f[-1]


def _points(config: DiscriminatorConfig) -> tuple[list[nn.Module], int]:
    layers: list[nn.Module] = []
    before = config.channels
    for filters in config.filters:
        layers += [Equivariant(before, filters, 0, config.batch), nn.ReLU()]
        before = filters
    return layers, before


BODIES: dict[str, Callable[[DiscriminatorConfig], tuple[list[nn.Module], int]]] = {
    "plain": _plain,
    "residual": _residual,
    "points": _points,
}
