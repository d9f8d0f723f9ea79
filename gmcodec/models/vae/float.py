# SPDX-License-Identifier: MIT
"""A hierarchical VAE as float torch modules: what is trained, and then frozen (thesis, section 2.10.2).

The VAE follows Kingma et al. 2016, as the thesis does: residual blocks, ELU, weight normalisation, a top-down hierarchy
of latent groups, and a posterior of independent Gaussians or with one step of inverse autoregressive flow (eq. 2.60).
Differences from the paper, as far as we know them:

* Latents are standardised (vae/config.py): the posterior is given relative to the conditional prior.
* An IAF step is autoregressive over the channels of a group and sees all cells of the channels before.  A coder that
  inverts it takes as many steps as there are channels.
* An IAF step sees the features of the way up only, not those of the way down.
* What a block adds to its stream is scaled by a tenth at first and grows by learning, without a constant factor.
* A cell of the first layer may have 4x4 pixels.  Means have one deviation for each channel (section 3.4.1), not one for
  all.
* Upsampling repeats cells and then convolves.  The net is not causal, so nothing is shifted.
* Log-scales are clamped, so that tables can hold them.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from gmcodec.exact.gaussian import LATENT_LOG_SCALE_MAX, LATENT_LOG_SCALE_MIN
from gmcodec.models.local.float import FIRST_BITS
from gmcodec.models.pixelcnnpp.float import ACTIVATIONS, BLOCK_GAIN, Conv
from gmcodec.models.vae.config import VAEConfig

NAT = 1 / log(2)  # bits
FIRST_LOG_SCALE = 3.0  # of the logistics of y, nats above a grey level


def around(inputs: int, outputs: int, size: int = 3, *, stride: int = 1, gain: float = 1.0, bits: int = 8) -> Conv:
    """A weight-normalised convolution of size x size that sees all sides."""
    return Conv("around", inputs, outputs, size, size, stride=stride, gain=gain, weight_norm=True, bits=bits)


def twice(x: Tensor) -> Tensor:
    """Repeat every cell twice in rows and columns: [B, F, H, W] -> [B, F, 2H, 2W]."""
    return functional.interpolate(x, scale_factor=2, mode="nearest")


def log_scales(x: Tensor) -> Tensor:
    """Log-scales clamped to the range of the tables."""
    return x.clamp(LATENT_LOG_SCALE_MIN, LATENT_LOG_SCALE_MAX)


class Divergence(NamedTuple):
    """log q(e) - log p(e) of each image in nats, float32 [B].

    ``sampled``: at the sampled e.  ``expected``: over q, eq. 2.45; with a flow there is no closed form, so it is the
    same as ``sampled``.
    """

    expected: Tensor
    sampled: Tensor

    @staticmethod
    def none(noise: Tensor) -> Divergence:
        zero = torch.zeros(len(noise), device=noise.device)
        return Divergence(zero, zero)


class Residual(nn.Module):
    """x + second(activation(first(activation(x)))), 3x3 both."""

    def __init__(self, config: VAEConfig, filters: int) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[config.nonlinearity]
        self.first, self.second = around(filters, filters), around(filters, filters, gain=BLOCK_GAIN)

    def forward(self, x: Tensor) -> Tensor:
        """[B, F, H, W] -> [B, F, H, W]."""
        return x + self.second(self.activation(self.first(self.activation(x))))


class Flow(nn.Module):
    """A step of inverse autoregressive flow, eq. 2.60: e = mean(e0) + scale(e0) * e0, masked over channels.

    Hidden feature j sees the channels before j * L // H; mean and scale of channel i see hidden features of
    degree i at most.
    """

    def __init__(self, config: VAEConfig, filters: int) -> None:
        super().__init__()
        latents, hidden = config.latents, config.hidden
        self.activation = ACTIVATIONS[config.nonlinearity]
        self.first, self.context = around(latents, hidden), around(filters, hidden)
        self.last = around(hidden, 2 * latents, gain=BLOCK_GAIN)
        degree = torch.arange(hidden) * latents // hidden
        channel = torch.arange(latents)
        self.first.mask_inputs(channel[None, :] < degree[:, None])
        self.last.mask_inputs((degree[None, :] <= channel[:, None]).repeat(2, 1))

    def forward(self, e0: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-scale, [B, L, H, W] each."""
        inner = self.activation(self.first(e0) + self.context(features))
        mean, log_scale = self.last(inner).chunk(2, 1)
        return mean, log_scales(log_scale)


class Stage(nn.Module):
    """One latent group: prior, posterior, and the residual block that reads the latents."""

    def __init__(self, config: VAEConfig, filters: int, first: bool) -> None:
        super().__init__()
        latents = config.latents
        self.activation = ACTIVATIONS[config.nonlinearity]
        self.prior = None if first else around(filters, 2 * latents, gain=BLOCK_GAIN)  # the first one is N(0, 1)
        self.posterior_up = around(filters, 2 * latents, gain=BLOCK_GAIN)
        self.posterior_down = around(filters, 2 * latents, gain=BLOCK_GAIN)
        self.flow = Flow(config, filters) if config.posterior == "iaf" else None
        self.features, self.latents = around(filters, filters), around(latents, filters)
        self.second = around(filters, filters, gain=BLOCK_GAIN)

    def forward(self, down: Tensor, up: Tensor | None, noise: Tensor) -> tuple[Tensor, Tensor, Divergence]:
        """down [B, F, H, W]; the activation of the features of the way up, or None; noise N(0, 1) [B, L, H, W].

        Without features e is the noise, a sample of the prior.  Returns the features that go on, e [B, L, H, W], and
        its divergence.
        """
        active = self.activation(down)
        e, divergence = noise, Divergence.none(noise)
        if up is not None:
            mean, log_scale = (self.posterior_up(up) + self.posterior_down(active)).float().chunk(2, 1)
            log_scale = log_scales(log_scale)
            e = mean + log_scale.exp() * noise
            expected = ((mean.square() + (2 * log_scale).exp() - 1) / 2 - log_scale).sum((1, 2, 3))
            if self.flow is not None:
                flow_mean, flow_scale = (part.float() for part in self.flow(e.to(down.dtype), up))
                e, log_scale = flow_mean + flow_scale.exp() * e, log_scale + flow_scale
            sampled = ((e.square() - noise.square()) / 2 - log_scale).sum((1, 2, 3))
            divergence = Divergence(sampled if self.flow else expected, sampled)
        z = e
        if self.prior is not None:
            prior_mean, prior_scale = self.prior(active).float().chunk(2, 1)
            z = prior_mean + log_scales(prior_scale).exp() * e
        inner = self.features(active) + self.latents(z.to(down.dtype))
        return down + self.second(self.activation(inner)), e, divergence


class VAE(nn.Module):
    """Image -> posterior, latents -> f(z)."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config, self.activation = config, ACTIVATIONS[config.nonlinearity]
        c, f = config, config.filters
        levels = range(len(f))
        self.first = around(c.channels, f[0], 2 * c.stride + 1, stride=c.stride, bits=FIRST_BITS)
        self.up = nn.ModuleList([nn.ModuleList([Residual(c, f[n]) for _ in range(c.groups[n])]) for n in levels])
        self.shrink = nn.ModuleList([around(f[n], f[n + 1], stride=2) for n in levels[:-1]])
        self.top = nn.Parameter(torch.randn(f[-1]))  # where the way down starts, at every cell
        self.stages = nn.ModuleList([Stage(c, f[level], k == 0) for k, (level, _) in enumerate(c.stages)])
        self.grow = nn.ModuleList([around(f[n + 1], f[n]) for n in levels[:-1]])
        self.finer = nn.ModuleList([around(f[0], f[0]) for _ in range(c.doublings)])
        self.last = around(f[0], c.planes, gain=0.3)
        self.log_scale = nn.Parameter(torch.full((c.planes,), FIRST_LOG_SCALE))  # of y: a channel each

    def features(self, x: Tensor, dtype: torch.dtype = torch.float32) -> list[list[Tensor]]:
        """The way up: a float map [B, C, H, W] -> the activation behind each block, for every resolution."""
        x = self.first(x.to(dtype))
        found: list[list[Tensor]] = []
        for level, blocks in enumerate(self.up):
            if level:
                x = self.shrink[level - 1](self.activation(x))
            found.append([])
            assert isinstance(blocks, nn.ModuleList)
            for block in blocks:
                x = block(x)
                found[-1].append(self.activation(x))
        return found

    def forward(
        self, noise: Sequence[Tensor], features: list[list[Tensor]] | None = None
    ) -> tuple[Tensor, list[Tensor], Divergence]:
        """Sample all groups from the posterior, or, without features, from the prior.

        ``noise``: N(0, 1), [B, L, H', W'] for each stage.  Returns f(z), float32 [B, planes, H'', W''],
        the standardised latents e of each stage, and their divergences, [B, stages].
        """
        c = self.config
        count, _, rows, columns = noise[0].shape
        dtype = self.top.dtype if features is None else features[0][0].dtype
        x = self.top.to(dtype)[None, :, None, None].expand(count, -1, rows, columns)
        latents, divergences = [], []
        before = len(c.filters) - 1
        for stage, (level, n), e in zip(self.stages, c.stages, noise, strict=True):
            if level < before:
                x = self.grow[level](twice(self.activation(x)))
                before = level
            x, e, divergence = stage(x, None if features is None else features[level][-1 - n], e)
            latents.append(e)
            divergences.append(divergence)
        for layer in self.finer:
            x = layer(twice(self.activation(x)))
        means = self.last(self.activation(x)).float()
        expected, sampled = (torch.stack(parts, 1) for parts in zip(*divergences, strict=True))
        return means, latents, Divergence(expected, sampled)

    def noise(self, count: int, height: int, width: int, generator: torch.Generator | None = None) -> list[Tensor]:
        """N(0, 1) for ``count`` images."""
        shapes = [self.config.latent_shape(level, height, width) for level, _ in self.config.stages]
        device = self.top.device
        return [torch.randn(count, *shape, device=device, generator=generator) for shape in shapes]
