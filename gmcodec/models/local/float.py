# SPDX-License-Identifier: MIT
"""The local causal PixelCNN as a float torch module: what is trained, and then frozen.

The likelihood is the discretised mixture of logistics of PixelCNN++ (Salimans et al. 2017; thesis section 2.9): the
colour channels share K components and are coupled linearly.  Differences from the paper:

* The net is one causal window followed by pointwise residual layers, so a pixel needs only its window.
* Inputs are differences to the local mean.
* The coupling acts on residuals.
* A linear predictor over the nearest pixels is added to the means.
* Log-scales are clamped.

Layout is [features, pixels] throughout, so that the loss vectorises over pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import torch
from torch import Tensor, nn

from gmcodec.exact.logistic import LOG_SCALE_MAX, LOG_SCALE_MIN
from gmcodec.exact.ops import LEAK_SHIFT
from gmcodec.models.local.config import LocalConfig
from gmcodec.models.shared.window import CLAMP, OUTSIDE, Window

SLOPE = 2.0**-LEAK_SHIFT  # of the leaky ReLU: a shift in the frozen net
INPUT_UNIT = 1 / 16  # grey levels -> input units
# of weights, at most, so that they have room to learn; inputs of the first layer are small, so its weights are finer
LAYER_BITS, FIRST_BITS = 13, 14


def quantise_rows(weight: Tensor, bits: int = 8) -> Tensor:
    """Round every row to integers of ``bits`` times a row scale, with a straight-through gradient."""
    scale = weight.abs().amax(1, keepdim=True).clamp_min(1e-8) / (2 ** (bits - 1) - 1)
    return weight + (torch.round(weight / scale) * scale - weight).detach()


class LocalNet(nn.Module):
    """Window -> K logistics per pixel.  ``forward`` takes features, ``features`` makes them."""

    def __init__(self, config: LocalConfig) -> None:
        super().__init__()
        self.config = config
        c, w = config, config.width
        generator = torch.Generator().manual_seed(0)

        def matrix(rows: int, columns: int, gain: float) -> nn.Parameter:
            return nn.Parameter(torch.randn(rows, columns, generator=generator) * gain * columns**-0.5)

        self.first = matrix(w, c.inputs, 1.0)
        self.first_bias = nn.Parameter(torch.zeros(w))
        self.up = nn.ParameterList([matrix(w, w, 1.0) for _ in range(c.blocks)])
        self.up_bias = nn.ParameterList([nn.Parameter(torch.zeros(w)) for _ in range(c.blocks)])
        self.down = nn.ParameterList([matrix(w, w, 0.1) for _ in range(c.blocks)])
        self.down_bias = nn.ParameterList([nn.Parameter(torch.zeros(w)) for _ in range(c.blocks)])
        self.last = matrix(c.outputs, w, 0.05)
        self.last_bias = nn.Parameter(initial_outputs(c.channels, c.mixtures, 0.3))
        self.linear = nn.Parameter(torch.zeros(c.channels, c.channels * c.neighbours))
        # zero at first, so that a net trained without a condition stays the same until these have learned
        self.condition = nn.ParameterList(
            [nn.Parameter(torch.zeros(w, c.condition)) for _ in range(c.blocks + 1 if c.condition else 0)]
        )
        self.fake_quant = False
        self.mixture: Callable[..., Tensor] = mixture_bits

    def hidden_matrices(self) -> list[nn.Parameter]:
        """The matrices that Muon optimises.

        The first one is among them, since its inputs are strongly correlated; with AdamW the files were 2 % larger.
        """
        return [self.first, *self.up, *self.down, *self.condition]

    def initialise(self, padded: Tensor, loaded: Collection[str] = ()) -> None:
        """Nothing to do: no initial scale of this net depends on data."""

    def bits(self, padded: Tensor, dtype: torch.dtype = torch.float32, condition: Tensor | None = None) -> Tensor:
        """Bits of each scored pixel, float32 [B*H*W], of padded patches int16 [B, C, H + r, W + 2r].

        ``condition`` [B, D, H, W]: for a net that has one.
        """
        r, c = self.config.reach, self.config
        height, width = padded.shape[2] - r, padded.shape[3] - 2 * r
        features, mean = self.features(padded, height, width)
        flat = None if condition is None else condition.transpose(0, 1).flatten(1)
        out, linear = self(features, dtype, flat)
        target = padded[:, :, r:, r : r + width].transpose(0, 1).reshape(mean.shape).float()
        return self.mixture(out, mean.float() + linear, target, c.channels, c.mixtures)

    def features(self, padded: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """``window_features`` of this net's window."""
        return window_features(self.config.window, padded, height, width)

    def forward(
        self, features: Tensor, dtype: torch.dtype = torch.float32, condition: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Raw outputs float32 [outputs, N] and the linear prediction minus the mean [C, N]; ``condition`` [D, N]."""
        q = quantise_rows if self.fake_quant else (lambda w, bits: w)

        def product(weight: Tensor, bias: Tensor, x: Tensor, bits: int = LAYER_BITS) -> Tensor:
            return torch.addmm(bias.to(dtype)[:, None], q(weight, bits).to(dtype), x)

        c = self.config
        x = features.to(dtype) * INPUT_UNIT
        h = nn.functional.leaky_relu(product(self.first, self.first_bias, x, FIRST_BITS), SLOPE)
        for b in range(c.blocks + 1):
            if b:
                inner = nn.functional.leaky_relu(product(self.up[b - 1], self.up_bias[b - 1], h), SLOPE)
                h = h + product(self.down[b - 1], self.down_bias[b - 1], inner)
            if condition is not None:
                h = h + q(self.condition[b], 8).to(dtype) @ condition.to(dtype)
        out = product(self.last, self.last_bias, h).float()
        near = x[: c.channels * c.neighbours]
        return out, (self.linear.to(dtype) @ near).float() / INPUT_UNIT


def initial_outputs(channels: int, mixtures: int, log_scale: float) -> Tensor:
    """Bias of the last layer, [outputs]: equal weights, means within three grey levels, the outer ones wider."""
    spread = torch.linspace(-1, 1, mixtures)
    couplings = channels * (channels - 1) // 2 * mixtures
    return torch.cat([
        torch.zeros(mixtures),
        (spread * 3).repeat(channels),
        (spread.abs() * 1.5 + log_scale).repeat(channels),
        torch.full((couplings,), 0.4),
    ])  # fmt: skip


def window_features(window: Window, padded: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Features of the height x width pixels inside the padding.

    ``padded`` int16 [B, C, height + r, width + 2r], samples or OUTSIDE.  Returns features int16
    [inputs, B*height*width] in grey levels, and the local mean int16 [C, B*height*width].
    """
    r, c = padded.shape[2] - height, window.channels
    planes = padded.transpose(0, 1)

    def shifted(dy: int, dx: int) -> Tensor:
        return planes[:, :, r + dy : r + dy + height, r + dx : r + dx + width]

    pixels = torch.stack([shifted(dy, dx) for dy, dx in window.offsets])
    difference, mean = relative(pixels, shifted(0, -1), shifted(-1, 0))
    features = torch.cat([difference.reshape(-1, mean[0].numel()), (mean - 128).reshape(c, -1)])
    return features, mean.reshape(c, -1)


def relative(pixels: Tensor, left: Tensor, above: Tensor) -> tuple[Tensor, Tensor]:
    """Differences of a window's pixels [O, ...] to the mean of left and above, and that mean, [...]: int16 each."""
    left = torch.where(left == OUTSIDE, above, left)
    above = torch.where(above == OUTSIDE, left, above)
    mean = torch.where(left == OUTSIDE, 128, (left + above) >> 1)
    difference = pixels - mean
    difference.masked_fill_(pixels == OUTSIDE, 0)
    return difference.clamp_(-CLAMP, CLAMP), mean


def mixture_bits(out: Tensor, base: Tensor, target: Tensor, channels: int, mixtures: int) -> Tensor:
    """Bits of each pixel, [N], under the coupled mixture of discretised logistics.

    ``out`` float32 [outputs, N]; ``base`` float32 [C, N], the centre of the means in grey levels;
    ``target`` float32 [C, N].  Components are weighted jointly over channels (PixelCNN++, eq. 2-3).
    """
    k, n = mixtures, out.shape[1]
    log_p = torch.log_softmax(out[:k], 0)
    means = out[k : k * (1 + channels)].reshape(channels, k, n)
    log_scales = out[k * (1 + channels) : k * (1 + 2 * channels)].reshape(channels, k, n)
    coupling = out[k * (1 + 2 * channels) :].reshape(-1, k, n)
    residual = target - base
    pair = 0
    for c in range(channels):
        mean = means[c]
        for previous in range(c):
            mean = mean + coupling[pair] * residual[previous]
            pair += 1
        inverse = torch.exp(-log_scales[c].clamp(LOG_SCALE_MIN, LOG_SCALE_MAX))
        low = torch.where(target[c] < 0.5, -1e4, residual[c] - 0.5)
        high = torch.where(target[c] > 254.5, 1e4, residual[c] + 0.5)
        a, b = (high - mean) * inverse, (low - mean) * inverse
        # sigma(a) - sigma(b) = sigma(a) sigma(-b) (1 - exp(b - a)): no cancellation in the tails
        gap = (a - b).clamp_max(40.0)
        log_p = log_p - nn.functional.softplus(-a) - nn.functional.softplus(b) + torch.log(-torch.expm1(-gap))
    return torch.logsumexp(log_p, 0) * -1.4426950408889634
