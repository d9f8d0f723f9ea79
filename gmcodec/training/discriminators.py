# SPDX-License-Identifier: MIT
"""Discriminators of adversarial training as float torch modules (thesis, chapters 4 and 5).

The input is images, float in -1..1, or points of the plane.  The output is one logit for each; D = sigmoid(logit) is
the probability that it is real.  There are three nets:

    plain                          residual                     points
    3x3 conv F0, leaky             3x3 conv F0                  dense F0, ReLU
    4x4 conv F0 / 2, leaky         ResBlock F1                  dense F1, ReLU
    3x3 conv F1, leaky             ResBlock down F2             ..
    4x4 conv F1 / 2, leaky         ResBlock down F3 ..          dense 1
    .. 3x3 conv Fn, leaky          ReLU, average pooling
    dense 1                        dense 1

"plain" is that of SNGAN (Miyato et al. 2018, Table 3) without spectral normalisation, as in section 5.5.2; "residual"
is Table A.1, its blocks those of Gulrajani et al. 2017; "points" is that of section 4.5.1.

**Batches.**  With ``batch="mean"`` every linear operation reads its input and the mean rho of its input over the batch
(eq. 4.12).  In no other way does a sample influence the logit of another:

    y_b = bias + B / (B + 1) * Lambda x_b + 1 / (B + 1) * Gamma rho(x)        B: samples of the batch

A permutation of the batch permutes the logits in the same way.  They are the o_1 .. o_B of eqs. 4.13 and 4.14, from
which training/adversarial_losses.py computes the losses.  The factors are those of section 4.4.3; Gamma is initialised
like Lambda.

**Classes.**  With ``classes`` the logit of an image with label y is dense(h) + <V_y, h> (projection discriminator,
Miyato & Koyama 2018), where h is the input of the last layer.  The projection reads no batch means.

Weights are drawn (He et al. 2015) from torch's global generator, which the caller seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn import functional

from gmcodec.training.presets import DiscriminatorConfig

LEAKY_SLOPE = 0.2  # of the leaky ReLU of plain nets (thesis, A.2; Miyato et al. take 0.1)
RELU_GAIN = sqrt(2)  # of initial weights: it keeps the variance through a ReLU


class Equivariant(nn.Module):
    """A linear operation, dense (``size`` 0) or a convolution, that may read batch means (eq. 4.12 without mu)."""

    def __init__(
        self, inputs: int, outputs: int, size: int, batch: str, stride: int = 1, gain: float = RELU_GAIN
    ) -> None:
        super().__init__()
        self.size, self.stride = size, stride
        shape = (outputs, inputs, size, size) if size else (outputs, inputs)
        scale = gain / sqrt(inputs * max(size, 1) ** 2)
        self.weight = nn.Parameter(torch.randn(shape) * scale)  # Lambda
        self.mean_weight = nn.Parameter(torch.randn(shape) * scale) if batch == "mean" else None  # Gamma
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] -> [B, outputs, H / stride, W / stride]; dense: [B, inputs] -> [B, outputs]."""
        if self.mean_weight is None:
            return self._linear(x, self.weight, self.bias)
        factor = 1 / (len(x) + 1)
        batch_term = self._linear(x.mean(0, keepdim=True), self.mean_weight * factor, self.bias)
        return self._linear(x, self.weight * (1 - factor), None) + batch_term

    def _linear(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not self.size:
            return functional.linear(x, weight, bias)
        return functional.conv2d(x, weight, bias, self.stride, (self.size - 1) // 2)


class ResBlock(nn.Module):
    """shortcut(x) + second(ReLU(first(ReLU(x)))), both 3x3; with ``down`` 2x2 pixels are averaged afterwards."""

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
    """A net that gives a logit for each image or point; with classes it also reads their labels."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        layers, features = BODIES[config.kind](config)
        self.body = nn.Sequential(*layers)
        self.last = Equivariant(features, 1, 0, config.batch, gain=1.0)
        shape = (config.classes, features)
        self.classes = nn.Parameter(torch.randn(shape) / sqrt(features)) if config.classes else None  # V

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images [B, C, H, W] in -1..1 or points [B, 2], float, and labels, int64 [B] -> logits [B].

        Raises ValueError if there are labels and no classes, or the other way round.
        """
        if (labels is None) != (self.classes is None):
            raise ValueError(f"{self.config.classes} classes, and labels {'missing' if labels is None else 'given'}")
        features = self.body(x)
        logits = self.last(features)[:, 0]
        if self.classes is None or labels is None:
            return logits
        return logits + (self.classes[labels] * features).sum(1)


def _plain(config: DiscriminatorConfig) -> tuple[list[nn.Module], int]:
    """The layers of a net before its last one, and the number of features that come out of them."""
    layers: list[nn.Module] = []
    before = config.channels
    for filters in config.filters[:-1]:
        layers += [Equivariant(before, filters, 3, config.batch), nn.LeakyReLU(LEAKY_SLOPE)]
        layers += [Equivariant(filters, filters, 4, config.batch, stride=2), nn.LeakyReLU(LEAKY_SLOPE)]
        before = filters
    last = config.filters[-1]
    layers += [Equivariant(before, last, 3, config.batch), nn.LeakyReLU(LEAKY_SLOPE), nn.Flatten()]
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
