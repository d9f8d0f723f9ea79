# SPDX-License-Identifier: MIT
"""AGAVE as float torch modules: what is trained, and then frozen (thesis, chapter 3).

The VAE is that of vae/float.py.

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
from gmcodec.models.vae.float import NAT, VAE, Divergence, around


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
