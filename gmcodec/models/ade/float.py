# SPDX-License-Identifier: MIT
"""Adaptive density estimation as float torch modules: what is trained, and then frozen (thesis, chapter 5).

The flow is Real-NVP after Dinh et al. 2017: affine couplings with 3x3 convolutions and residual blocks.  The VAE is
that of AGAVE, with its own differences (agave/float.py).  Differences from the paper and from chapter 5, as far as we
know them:

* h = (x - mean) * exp(log_scale), where Real-NVP has x * exp(log_scale) + mean.  This is the same family, and the mean
  is a prediction of the sample, in units of samples.
* Log-scales are clamped: those of couplings to +-4, where Real-NVP has a tanh times a learned factor; those of latents
  and noise to the range of the tables.
* Samples are grey levels on a linear scale; Real-NVP models their logits.
* Nets of couplings see cells of 2x2 pixels (ade/config.py), not masked pixels, also in checkerboards.  There is no
  squeezing and no partition by channels between them, unless a configuration names such couplings ("cd:rgb").
* Nets of couplings have leaky ReLUs, and only the linear part bypasses their residual blocks.
* The mean has a linear part, a convolution of the features that are kept, which starts from least squares: 5.0 bits/dim
  before any training.
* A scale factors out by position, three quarters at once.  The features that a coupling changes may differ by colour.
* Couplings have weight normalisation, or plain weights and Muon like the PixelCNN++ here.  They have no batch
  statistics, which are harmful in a VAE (Kingma et al. 2016) and would have to be folded; the thesis has both (A.2).
  Real-NVP's penalty on the lengths of its weights is left out.
* The VAE begins and ends with cells of 2x2 pixels, a quarter as many as the pixels of the thesis' VAE (Table A.1).
* h given z has a deviation for each feature of the coarsest cell, not one for all.  As a mixture of Gaussians around
  one mean it can have the heavy tails of prediction errors of images.
* Classes, where there are any, change the VAE by conditional weight normalisation (eq. 5.8), on its ways up and down,
  and do not change the flow.
* Variational dequantisation (Ho et al. 2019): u is the normal distribution function of e, and e is Gaussian with mean
  and scale from a net of x.  e is a latent variable like the others: its prior is N(0, 1), and it costs its divergence.

Units: samples are (x + u - 128) / 32, h is in the same unit.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from math import log, log2, pi
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from gmcodec.models.ade.config import AdeConfig
from gmcodec.models.ade.tables import COUPLING_LOG_SCALE_MAX
from gmcodec.models.local.float import FIRST_BITS
from gmcodec.models.pixelcnnpp.float import ACTIVATIONS, BLOCK_GAIN, Conv, RoundedNet, start_layers
from gmcodec.models.shared.activations import MID_GREY
from gmcodec.models.vae.float import NAT, VAE, Divergence, log_scales

UNIT_LEVELS = 32  # grey levels in a sample of 1.0
FIRST_DEVIATION = 0.25  # of every feature of h, at first
FIRST_GAIN = 0.02  # initial scale of the mean of h
FIRST_SPREAD = 0.7  # nats between the deviation of a feature and those of its narrowest and widest Gaussian
SMALLEST_DEVIATION = 0.01  # that initialisation assumes
RIDGE = 0.1  # of the initial least squares, times unknowns over samples and the inputs' variance


def squeeze(x: Tensor) -> Tensor:
    """Pixels to cells of 2x2: [B, C, H, W] -> [B, 4C, H/2, W/2], the channels of a position together."""
    b, c, h, w = x.shape
    cells = x.view(b, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 1, 2, 4)
    return cells.reshape(b, 4 * c, h // 2, w // 2)


def unsqueeze(x: Tensor) -> Tensor:
    """Inverse of ``squeeze``."""
    b, c, h, w = x.shape
    pixels = x.view(b, 2, 2, c // 4, h, w).permute(0, 3, 4, 1, 5, 2)
    return pixels.reshape(b, c // 4, 2 * h, 2 * w)


def tiled(pattern: Tensor, shape: Sequence[int]) -> Tensor:
    """Repeat a pattern [.., s, s] to [.., H, W], the last two of ``shape``."""
    side = pattern.shape[-1]
    return pattern.repeat(*[1] * (pattern.ndim - 2), shape[-2] // side, shape[-1] // side)


class ResidualBlock(nn.Module):
    """x + second(activation(first(activation(x))))."""

    def __init__(self, config: AdeConfig, filters: int) -> None:
        super().__init__()
        (a, b), norm = config.kernels, config.weight_norm
        self.activation = ACTIVATIONS[config.nonlinearity]
        self.first = Conv("around", filters, filters, a, a, weight_norm=norm)
        self.second = Conv("around", filters, filters, b, b, gain=BLOCK_GAIN, weight_norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(self.activation(self.first(self.activation(x))))


class Net(nn.Module):
    """Some features -> mean and log-scale of others: residual blocks, and a linear part of the mean."""

    def __init__(self, config: AdeConfig, inputs: int, outputs: int, filters: int, linear: bool) -> None:
        super().__init__()
        size = config.window
        self.activation = ACTIVATIONS[config.nonlinearity]
        self.first = Conv("around", inputs, filters, size, size, weight_norm=config.weight_norm, bits=FIRST_BITS)
        self.blocks = nn.ModuleList([ResidualBlock(config, filters) for _ in range(config.blocks)])
        self.last = Conv("around", filters, 2 * outputs, 1, 1)
        self.last.weight.data.zero_()
        self.linear = Conv("around", inputs, outputs, size, size, bits=FIRST_BITS) if linear else None
        if self.linear is not None:
            self.linear.weight.data.zero_()

    def forward(self, x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """[B, inputs, H, W] -> mean and log-scale, float32 [B, outputs, H, W] each."""
        inner = self.first(x.to(dtype))
        for block in self.blocks:
            inner = block(inner)
        mean, log_scale = self.last(self.activation(inner)).float().chunk(2, 1)
        return (mean if self.linear is None else mean + self.linear(x)), log_scale

    def inner_matrices(self) -> list[nn.Parameter]:
        """The matrices that Muon optimises."""
        return [m.weight for m in self.modules() if isinstance(m, Conv) and m is not self.last and m is not self.linear]


class Coupling(nn.Module):
    """An affine coupling: some features of a cell are moved and scaled, depending on the others."""

    def __init__(self, config: AdeConfig, name: str) -> None:
        super().__init__()
        self.kept, self.changed = config.kept(name), config.changed(name)
        self.net = Net(config, len(self.kept), len(self.changed), config.filters, True)
        self.starting = False

    def parts(self, x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        mean, log_scale = self.net(x[:, self.kept], dtype)
        return mean, log_scale.clamp(-COUPLING_LOG_SCALE_MAX, COUPLING_LOG_SCALE_MAX)

    def forward(self, x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """f: [B, 4C, H, W] -> the same shape, and the logarithm of the determinant, nats [B]."""
        if self.starting:
            self._start(x)
        mean, log_scale = self.parts(x, dtype)
        out = x.clone()
        out[:, self.changed] = (x[:, self.changed] - mean) * log_scale.exp()
        return out, log_scale.sum((1, 2, 3))

    def inverse(self, h: Tensor, dtype: torch.dtype) -> Tensor:
        mean, log_scale = self.parts(h, dtype)
        out = h.clone()
        out[:, self.changed] = h[:, self.changed] * (-log_scale).exp() + mean
        return out

    def _start(self, x: Tensor) -> None:
        """Start the linear part from least squares, and scales so that every feature has ``FIRST_DEVIATION``."""
        assert self.net.linear is not None
        kept, changed = x[:, self.kept], x[:, self.changed]
        size = self.net.linear.kernel[1]
        inputs = functional.unfold(kept, size, padding=size // 2).transpose(1, 2).flatten(0, 1).double()
        inputs = torch.cat([inputs, torch.ones_like(inputs[:, :1])], 1)
        target = changed.flatten(2).transpose(1, 2).flatten(0, 1).double()
        gram, (count, unknown) = inputs.mT @ inputs, inputs.shape
        gram.diagonal().add_(RIDGE * unknown / count * gram.diagonal().mean())
        solution = torch.linalg.solve(gram, inputs.mT @ target)
        fitted = (target - inputs @ solution).std(0) * (count / max(count - unknown, count / 4)) ** 0.5
        deviation = fitted.float().clamp_min(SMALLEST_DEVIATION)
        self.net.linear.weight.data.copy_(solution[:-1].mT)
        self.net.linear.bias.data.copy_(solution[-1])
        self.net.last.bias.data.copy_(torch.cat([torch.zeros_like(deviation), torch.log(FIRST_DEVIATION / deviation)]))


class RealNVP(nn.Module):
    """The bijection f between samples and features."""

    def __init__(self, config: AdeConfig) -> None:
        super().__init__()
        self.config = config
        self.couplings = nn.ModuleList([Coupling(config, name) for _, name in config.couplings])

    def forward(self, y: Tensor, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        """y [B, C, H, W] -> h [B, 4C, H/2, W/2] and log |det df/dy|, nats [B]."""
        determinant, c = torch.zeros(len(y), device=y.device), self.config.channels
        done, x = [], squeeze(y)
        for level in range(self.config.levels):
            if level:
                done.append(x[:, c:])
                x = squeeze(x[:, :c])
            for coupling in self._of(level):
                x, more = coupling(x, dtype)
                determinant = determinant + more
        for rest in reversed(done):
            x = torch.cat([unsqueeze(x), rest], 1)
        return x, determinant

    def inverse(self, h: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """h [B, 4C, H/2, W/2] -> y [B, C, H, W]."""
        done, x, c = [], h, self.config.channels
        for level in range(self.config.levels):
            if level:
                done.append(x[:, c:])
                x = squeeze(x[:, :c])
        for level in reversed(range(self.config.levels)):
            for coupling in reversed(self._of(level)):
                x = coupling.inverse(x, dtype)
            x = unsqueeze(x)
            if level:
                x = torch.cat([x, done[level - 1]], 1)
        return x

    def _of(self, level: int) -> list[Coupling]:
        placed = zip(self.config.couplings, self.couplings, strict=True)
        return [coupling for (at, _), coupling in placed if at == level]  # type: ignore[misc]


class Terms(NamedTuple):
    """Bits of each image, float32 [B]: h given z minus the determinant; log q - log p of z, [B, groups], and of u."""

    features: Tensor
    divergence: Tensor  # expected, as in Divergence
    sampled: Tensor
    noise: Tensor
    noise_sampled: Tensor

    @property
    def bound(self) -> Tensor:
        """The negative ELBO (eq. 5.5) in bits, estimated with one sample: float32 [B]."""
        return self.features + self.divergence.sum(1) + self.noise

    @property
    def sampled_bits(self) -> Tensor:
        """Bits at the sampled z and u: log q(z, u) - log p(x, z, u), float32 [B]."""
        return self.features + self.sampled.sum(1) + self.noise_sampled

    @property
    def parts(self) -> dict[str, Tensor]:
        """The summands of the bound, by name."""
        return {"features": self.features, "KL": self.divergence.sum(1), "noise": self.noise}


class Ade(RoundedNet):
    """Dequantisation, flow and VAE.  Images are uint8 [B, C, H, W]."""

    mixture: Callable[..., Tensor] | None = None  # there is none

    def __init__(self, config: AdeConfig) -> None:
        super().__init__()
        self.config = config
        features, side = 4 * config.channels, 2 ** (config.levels - 1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.flow, self.vae = RealNVP(config), VAE(config.vae)
            self.noise = Net(config, features, features, config.noise, False) if config.noise else None
            self.vae.register_parameter("log_scale", None)  # only logistics have one
            self.vae.last.gain = FIRST_GAIN
            for layer in self._layers() if config.classes else ():
                layer.depend_on(config.classes)
            shape = (config.mixtures, features, side, side)
            self.log_deviation = nn.Parameter(torch.zeros(shape))  # of h given z
            self.logits = nn.Parameter(torch.zeros(shape)) if config.mixtures > 1 else None  # of its Gaussians

    # -- classes -----------------------------------------------------------------------------------

    def _layers(self) -> list[Conv]:
        """The layers that depend on the class, if there are classes."""
        return [layer for layer in self.vae.modules() if isinstance(layer, Conv)]

    def _set_labels(self, labels: Tensor | None) -> None:
        """Set the classes of the next images, int64 [B].  Raises ValueError."""
        if (labels is None) != (self.config.classes == 0):
            raise ValueError(f"{self.config.classes} classes, and labels {'missing' if labels is None else 'given'}")
        if labels is not None:
            for layer in self._layers():
                layer.labels = labels

    def of_class(self, label: int) -> Ade:
        """The net of one class, without labels, so that it can be frozen.  Raises ValueError."""
        if not 0 <= label < self.config.classes:
            raise ValueError(f"{label} is not one of {self.config.classes} classes")
        net = copy.deepcopy(self)
        net.config = replace(self.config, classes=0)
        for layer in net._layers():
            layer.fix_class(label)
        return net

    # -- for trainers: members of DensityNet -------------------------------------------------------

    def hidden_matrices(self) -> list[nn.Parameter]:
        """The matrices that Muon optimises: those inside couplings; none with weight normalisation."""
        nets = [m for m in self.modules() if isinstance(m, Net)]
        return [] if self.config.weight_norm else [matrix for net in nets for matrix in net.inner_matrices()]

    @torch.no_grad()
    def initialise(self, images: Tensor, loaded: Collection[str] = ()) -> None:
        """Data-dependent initialisation from images of the layers whose parameters were not ``loaded``."""
        fresh = [
            c
            for n, c in self.flow.named_modules()
            if isinstance(c, Coupling) and f"flow.{n}.net.last.weight" not in loaded
        ]
        for coupling in fresh:
            coupling.starting = True
        h, _ = self.flow(self.dequantised(images)[0])
        for coupling in fresh:
            coupling.starting = False
        layers = {name: m for name, m in self.named_modules() if isinstance(m, Conv)}
        skipped = {id(m) for net in self.modules() if isinstance(net, Net) for m in (net.last, net.linear)}
        parts = [m for name, m in layers.items() if f"{name}.weight" not in loaded and id(m) not in skipped]
        labels = torch.zeros(len(images), dtype=torch.int64, device=images.device) if self.config.classes else None
        start_layers(self, parts, lambda: self.terms(images, labels=labels))
        if "log_deviation" not in loaded:
            # a loaded VAE keeps its mean; otherwise the deviations are around the mean of each feature
            self._start_deviation(h, self._mean(h) if "vae.last.weight" in loaded else None)

    def _start_deviation(self, h: Tensor, mean: Tensor | None) -> None:
        """Start from the deviation of h [B, 4C, H/2, W/2] around ``mean``, else around the mean of each feature."""
        count, _, side, _ = self.log_deviation.shape
        parts = (h if mean is None else h - mean).unfold(2, side, side).unfold(3, side, side)
        deviation = parts.std((0, 2, 3)) if mean is None else parts.square().mean((0, 2, 3)).sqrt()
        middle = deviation.clamp_min(SMALLEST_DEVIATION).log()
        spread = torch.linspace(-FIRST_SPREAD, FIRST_SPREAD, count) if count > 1 else torch.zeros(1)
        self.log_deviation.data.copy_(middle + spread.to(middle.device)[:, None, None, None])

    def _mean(self, h: Tensor) -> Tensor:
        """The mean of features h for one sample of the posterior, with the classes that were set last."""
        noise = self.vae.noise(len(h), h.shape[2], h.shape[3])
        return self.vae(noise, self.vae.features(h))[0]

    # -- likelihoods -------------------------------------------------------------------------------

    def bits(self, images: Tensor, dtype: torch.dtype = torch.float32, labels: Tensor | None = None) -> Tensor:
        """The negative ELBO of each image, in bits a pixel, float32 [B]; ``labels`` int64 [B] are of classes."""
        return self.terms(images, dtype, labels=labels).bound / images[0, 0].numel()

    def dequantised(self, images: Tensor, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Divergence]:
        """Samples y, float32 [B, C, H, W], and the divergence of their noise."""
        x = images.float() - MID_GREY
        if self.noise is None:
            return (x + torch.rand_like(x)) / UNIT_LEVELS, Divergence.none(x)
        mean, log_scale = self.noise(squeeze(x / UNIT_LEVELS), dtype)
        log_scale = log_scales(log_scale)
        noise = torch.randn_like(mean)
        e = mean + log_scale.exp() * noise
        expected = ((mean.square() + (2 * log_scale).exp() - 1) / 2 - log_scale).sum((1, 2, 3))
        sampled = ((e.square() - noise.square()) / 2 - log_scale).sum((1, 2, 3))
        return (x + unsqueeze(torch.special.ndtr(e))) / UNIT_LEVELS, Divergence(expected, sampled)

    def terms(
        self,
        images: Tensor,
        dtype: torch.dtype = torch.float32,
        noise: Sequence[Tensor] | None = None,
        labels: Tensor | None = None,
    ) -> Terms:
        """The summands of eq. 5.5, with one sample of the posterior and of u."""
        self._set_labels(labels)
        count, channels, height, width = images.shape
        y, cost = self.dequantised(images, dtype)
        h, determinant = self.flow(y, dtype)
        if noise is None:
            noise = self.vae.noise(count, height // 2, width // 2)
        mean, _, divergence = self.vae(noise, self.vae.features(h, dtype))
        features = (self.nats(h - mean).sum((1, 2, 3)) - determinant) * NAT + log2(
            UNIT_LEVELS
        ) * channels * height * width
        return Terms(features, *(part * NAT for part in (*divergence, *cost)))

    def nats(self, rest: Tensor) -> Tensor:
        """-log p(h | z) of each feature, [B, 4C, H/2, W/2]; ``rest``: h minus its mean, of that shape."""
        log_deviation = tiled(self.log_deviation, rest.shape)
        if self.logits is None:
            return (rest * (-log_deviation[0]).exp()).square() / 2 + log_deviation[0] + log(2 * pi) / 2
        shares = tiled(self.logits.log_softmax(0), rest.shape) - log_deviation
        squares = rest.square()
        parts = [share - squares * scale / 2 for share, scale in zip(shares, (-2 * log_deviation).exp(), strict=True)]
        return log(2 * pi) / 2 - torch.logsumexp(torch.stack(parts), 0)

    def sample(
        self, count: int, height: int, width: int, deviation: float = 1.0, labels: Tensor | None = None
    ) -> Tensor:
        """Images sampled from the prior, float32 [B, C, H, W] in grey levels; ``deviation`` 0: f^-1 of the mean."""
        self._set_labels(labels)
        mean, _, _ = self.vae(self.vae.noise(count, height // 2, width // 2))
        each = tiled(self.log_deviation[0], mean.shape).exp().expand_as(mean)
        if self.logits is not None:
            shares = tiled(self.logits.softmax(0), mean.shape).movedim(0, -1).expand(*mean.shape, -1)
            which = torch.multinomial(shares.flatten(0, -2), 1).view(1, *mean.shape)
            each = tiled(self.log_deviation, mean.shape)[:, None].expand(-1, *mean.shape).gather(0, which)[0].exp()
        h = mean + deviation * each * torch.randn_like(mean)
        return self.flow.inverse(h) * UNIT_LEVELS + MID_GREY
