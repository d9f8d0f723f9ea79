# SPDX-License-Identifier: MIT
"""AGAVE as float torch modules: what is trained, and then frozen (thesis, chapter 3).

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

The conditioner turns f(z) into the condition of every block of the PixelCNN++.  It has as many non-masked 3x3
convolutions as the decoder has blocks (section 3.4.1), in one residual chain for each resolution.  A block adds its
condition by a matrix, where the thesis has one more convolution.  A local net, whose blocks see one pixel, gets the
same condition at every block.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from math import log
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from gmcodec.exact.gaussian import LOG_SCALE_MAX, LOG_SCALE_MIN
from gmcodec.models.agave.config import AgaveConfig
from gmcodec.models.local.config import LocalConfig
from gmcodec.models.local.float import FIRST_BITS, LocalNet
from gmcodec.models.pixelcnnpp.float import (
    ACTIVATIONS,
    BLOCK_GAIN,
    SAMPLE_UNIT,
    Conv,
    PixelCNN,
    RoundedNet,
    start_layers,
)
from gmcodec.models.shared.activations import MID_GREY

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
    return x.clamp(LOG_SCALE_MIN, LOG_SCALE_MAX)


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

    def __init__(self, config: AgaveConfig, filters: int) -> None:
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

    def __init__(self, config: AgaveConfig, filters: int) -> None:
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

    def __init__(self, config: AgaveConfig, filters: int, first: bool) -> None:
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

        Without features e is the noise, a sample of the prior.  Returns the next features, e [B, L, H, W], and its
        divergence.
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

    def __init__(self, config: AgaveConfig) -> None:
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


class Conditioner(nn.Module):
    """f(z) -> D features for every block of the decoder."""

    def __init__(self, config: AgaveConfig) -> None:
        super().__init__()
        assert config.decoder is not None
        self.config, self.activation = config, ACTIVATIONS[config.nonlinearity]
        d = config.decoder.condition
        self.first = around(config.planes, d, bits=FIRST_BITS)
        self.shrink = nn.ModuleList([around(d, d, stride=2) for _ in range(max(config.condition_levels))])
        self.chain = nn.ModuleList([around(d, d, gain=BLOCK_GAIN) for _ in config.condition_levels])

    def forward(self, means: Tensor, size: tuple[int, int], dtype: torch.dtype = torch.float32) -> list[Tensor]:
        """f(z) [B, planes, H'', W''] in grey levels -> [B, D, H', W'] for each of ``AgaveConfig.condition_levels``."""
        x = ((means - MID_GREY) * SAMPLE_UNIT).to(dtype)
        x = functional.interpolate(x, size, mode="nearest")
        streams = [self.first(x)]
        for layer in self.shrink:
            streams.append(layer(self.activation(streams[-1])))
        found = []
        for layer, level in zip(self.chain, self.config.condition_levels, strict=True):
            streams[level] = streams[level] + layer(self.activation(streams[level]))
            found.append(self.activation(streams[level]))
        return found


class Terms(NamedTuple):
    """Bits of each image, float32 [B]: of the image given z, of y given z; and log q - log p, [B, groups]."""

    primary: Tensor
    auxiliary: Tensor
    divergence: Tensor  # expected, as in Divergence
    sampled: Tensor

    @property
    def bound(self) -> Tensor:
        """The negative ELBO (eq. 2.44) in bits, float32 [B]; with a flow, an estimate from one sample."""
        return self.primary + self.divergence.sum(1)

    @property
    def sampled_bits(self) -> Tensor:
        """Bits at the sampled z: log q(z | x) - log p(x, z), float32 [B]."""
        return self.primary + self.sampled.sum(1)

    @property
    def parts(self) -> dict[str, Tensor]:
        """The summands of the bound by name, and the bits of y given z."""
        return {"KL": self.divergence.sum(1), "image": self.primary, "y": self.auxiliary}


class Agave(RoundedNet):
    """VAE, conditioner and conditional decoder; or, where the architecture has no decoder, a plain VAE.

    Images are uint8 [B, C, H, W], or, where the decoder is a local net, padded: int16 [B, C, H + r, W + 2r].
    """

    def __init__(self, config: AgaveConfig) -> None:
        super().__init__()
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.vae = VAE(config)
            self.conditioner = Conditioner(config) if config.decoder else None
            self.decoder = _decoder(config)

    # -- for trainers: members of DensityNet -------------------------------------------------------

    def hidden_matrices(self) -> list[nn.Parameter]:
        """The matrices that Muon optimises: those of the decoder."""
        return self.decoder.hidden_matrices() if self.decoder is not None else []

    @property
    def mixture(self) -> Callable[..., Tensor] | None:
        """The decoder's loss function."""
        return self.decoder.mixture if self.decoder is not None else None

    @mixture.setter
    def mixture(self, function: Callable[..., Tensor]) -> None:
        if self.decoder is not None:
            self.decoder.mixture = function

    @torch.no_grad()
    def initialise(self, images: Tensor, loaded: Collection[str] = ()) -> None:
        """Data-dependent initialisation from images of the layers whose parameters were not ``loaded``."""
        layers = {name: m for name, m in self.named_modules() if isinstance(m, Conv) and name != "decoder.last"}
        parts = [layer for name, layer in layers.items() if f"{name}.weight" not in loaded]
        start_layers(self, parts, lambda: self.terms(images))

    # -- likelihoods -------------------------------------------------------------------------------

    def bits(self, images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """The negative ELBO of each image, in bits a pixel, float32 [B]."""
        return self.terms(images, dtype).bound / self.inner(images)[0, 0].numel()

    def inner(self, images: Tensor) -> Tensor:
        """Images without their padding, uint8 [B, C, H, W]."""
        if not isinstance(self.config.decoder, LocalConfig):
            return images
        r = self.config.decoder.reach
        return images[:, :, r:, r : images.shape[3] - r].to(torch.uint8)

    def terms(self, images: Tensor, dtype: torch.dtype = torch.float32, noise: Sequence[Tensor] | None = None) -> Terms:
        """The summands of eq. 3.13, with one sample of the posterior."""
        padded, images = images, self.inner(images)
        count, _, height, width = images.shape
        if noise is None:
            noise = self.vae.noise(count, height, width)
        means, divergence = self.means(images, noise, dtype)
        y = auxiliary_image(self.config, images)
        auxiliary = logistic_bits(y, means, self.vae.log_scale, self.config.levels)
        if self.decoder is None:
            primary = logistic_bits(y, means, self.vae.log_scale, 256)
        else:
            conditions = self.conditions(means, (height, width), dtype)
            if isinstance(self.decoder, LocalNet):
                bits = self.decoder.bits(padded, dtype, conditions[0])
            else:
                bits = self.decoder.bits(images, dtype, conditions)
            primary = bits.view(count, -1).sum(1)
        return Terms(primary, auxiliary, divergence.expected * NAT, divergence.sampled * NAT)

    def means(
        self, images: Tensor, noise: Sequence[Tensor], dtype: torch.dtype = torch.float32
    ) -> tuple[Tensor, Divergence]:
        """f(z) in grey levels, float32 [B, planes, H'', W''], with z from the posterior; its divergences."""
        found, _, divergence = self.vae(noise, self.vae.features((images.to(dtype) - MID_GREY) * SAMPLE_UNIT, dtype))
        return MID_GREY + found / SAMPLE_UNIT, divergence

    def conditions(self, means: Tensor, size: tuple[int, int], dtype: torch.dtype = torch.float32) -> list[Tensor]:
        """The conditions of the decoder's blocks, from f(z)."""
        assert self.conditioner is not None
        return self.conditioner(means, size, dtype)


def _decoder(config: AgaveConfig) -> PixelCNN | LocalNet | None:
    if isinstance(config.decoder, LocalConfig):
        return LocalNet(config.decoder)
    return PixelCNN(config.decoder) if config.decoder else None


def auxiliary_image(config: AgaveConfig, images: Tensor) -> Tensor:
    """Images uint8 [B, C, H, W] -> y in whole grey levels, float32 [B, planes, H'', W'']; grey or smaller by config."""
    y = images.float()
    if config.grey:
        y = y.mean(1, keepdim=True)
    if config.auxiliary > 1:
        y = functional.avg_pool2d(y, config.auxiliary)
    return y.round()


def logistic_bits(y: Tensor, means: Tensor, log_scale: Tensor, levels: int) -> Tensor:
    """Bits of each y, float32 [B], under one logistic a sample: eq. 3.17 with b = ``levels`` colours.

    y and means [B, P, H, W] in grey levels, log_scale [P].  The lowest and the highest colour get the tails.  Edges
    lie half a grey level lower than in the thesis, as in the decoder; the means compensate for that.
    """
    step = 256 // levels
    low = torch.floor(y / step) * step - 0.5
    inverse = torch.exp(-log_scale)[:, None, None]
    a, b = (low + step - means) * inverse, (low - means) * inverse
    # sigma(a) - sigma(b) = sigma(a) * sigma(-b) * (1 - exp(b - a))
    inside = functional.logsigmoid(a) + functional.logsigmoid(-b) + torch.log(-torch.expm1(b - a))
    nats = torch.where(
        low < 0, functional.logsigmoid(a), torch.where(low + step > 255, functional.logsigmoid(-b), inside)
    )
    return -nats.sum((1, 2, 3)) * NAT


@torch.no_grad()
def importance_bits(net: Any, images: Tensor, samples: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """The importance-weighted bound with some ``samples`` (eq. 2.64; Burda et al. 2016): bits, float32 [B].

    On average it is not below the true cost, and nearer to it with more samples; with one sample it is the ELBO.
    ``net``: an Agave; or an Ade, whose samples are of latents and of the noise below the grey levels.
    """
    each = []
    for _ in range(samples):
        each.append(net.terms(images, dtype).sampled_bits)
    return (log(samples) - torch.logsumexp(-torch.stack(each) / NAT, 0)) * NAT
