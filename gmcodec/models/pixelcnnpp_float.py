# SPDX-License-Identifier: MIT
"""PixelCNN++ (Salimans et al. 2017) as a float torch module: what is trained, and then frozen.

Thesis section 3.4 conditions this net on the output of a variational autoencoder; ``condition`` is for that.
Differences from the paper, all of them:

* The means are relative to the local mean of the left and upper pixel and in grey levels, couplings act on
  residuals, log-scales are clamped to the range of exact/tables.py: the outputs are those of the local net, so that
  both share their loss and their integer tables.
* Inputs are (x - 128) / 128, which is exact in integers, and the shifts of the first layers are applied to
  the image and not to their output, so that borders see a bias.
* Filters and blocks may differ between resolutions, and the window of the first layers may be larger (``rows``,
  ``columns``); the published size is a preset.
* ``weight_norm=False`` trains plain weights, orthogonalised updates (Muon) taking the place of the normalisation;
  they start with the same data-dependent scale.  Both fold into plain weights when frozen.
* ``nonlinearity`` may be a plain ELU or the leaky ReLU of the local net instead of concat-ELU: with the same number of
  multiplications twice as many features.
* The last layer follows the net's own non-linearity, where the paper has a plain ELU.
* Layers that the paper applies to concatenated inputs are sums of one layer each, and the activation of a
  feature is computed once for all its readers: the same function, less work, and one cache for a decoder that
  evaluates pixel by pixel.
* The paper averages weights and drops half of the features; here both are the training preset's choice.

There is no normalisation over batches or positions: a pixel's features depend on the pixels before it only.
Convolutions pad both sides and crop, which torch does without a copy of the input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice, pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..exact.ops import LEAK_SHIFT
from .local_float import mixture_bits, quantise_rows
from .pixelcnnpp import PixelCNNConfig

SLOPE = 2.0**-LEAK_SHIFT  # of the leaky ReLU
CENTRE, INPUT_UNIT = 128, 1 / 128  # grey levels -> inputs within -1..1
BLOCK_GAIN = 0.1  # initial scale of what a block adds to its stream, as in the paper
LAST_GAIN = 0.05  # initial scale of the last layer: the first bits come from its bias
SMALLEST_SPREAD = 0.01  # standard deviation; a feature that hardly varies is not blown up when a net starts


def concat_elu(x: Tensor) -> Tensor:
    """ELU of x and of -x: [B, F, H, W] -> [B, 2F, H, W]."""
    return functional.elu(torch.cat([x, -x], 1))


def leaky(x: Tensor) -> Tensor:
    """Leaky ReLU with the slope of the integer one."""
    return functional.leaky_relu(x, SLOPE)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "concat_elu": concat_elu,
    "elu": functional.elu,
    "leaky": leaky,
}


class Conv(nn.Module):
    """A convolution that never looks ahead; ``shape`` says how it is placed.

    =========  =====================================================================================
    down       rows i-r+1 .. i, columns j-c//2 .. j+c//2 (c is odd)
    right      rows i-r+1 .. i, columns j-c+1 .. j
    up         transposed "down" of 2x3 with stride 2; "up-right": transposed "right" of 2x2
    =========  =====================================================================================

    The weight is a matrix [outputs, inputs * rows * columns], for Muon and for rounding by rows.
    """

    def __init__(
        self, shape: str, inputs: int, outputs: int, rows: int = 1, columns: int = 1, *,
        stride: int = 1, gain: float = 1.0, weight_norm: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.shape, self.stride, self.gain = shape, stride, gain
        self.kernel = (inputs, rows, columns)
        size = inputs * rows * columns
        self.weight = nn.Parameter(torch.randn(outputs, size) * gain * size**-0.5)
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.length = nn.Parameter(self.weight.detach().norm(dim=1)) if weight_norm else None
        self.fake_quant = False
        self.starting = False  # while the net is initialised from data

    def matrix(self) -> Tensor:
        """The weight as used: [outputs, inputs * rows * columns]."""
        weight = self.weight
        if self.length is not None:
            weight = weight * (self.length / weight.norm(dim=1))[:, None]
        return quantise_rows(weight) if self.fake_quant else weight

    def forward(self, x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """[B, inputs, H, W] -> [B, outputs, H', W']; ``size`` H', W' crops what is upsampled."""
        if self.starting:
            self._start(self._convolve(x, size, None))
        return self._convolve(x, size, self.bias.to(x.dtype))

    def _convolve(self, x: Tensor, size: tuple[int, int] | None, bias: Tensor | None) -> Tensor:
        weight = self.matrix().to(x.dtype).unflatten(1, self.kernel)
        _, rows, columns = self.kernel
        if size is not None:
            weight = weight.transpose(0, 1)
            padding = (0, 1) if self.shape == "up" else (0, 0)
            y = functional.conv_transpose2d(x, weight, bias, 2, padding, padding)
            return y[:, :, : size[0], : size[1]]
        left = columns // 2 if self.shape == "down" else columns - 1
        y = functional.conv2d(x, weight, bias, self.stride, (rows - 1, left))
        return y[:, :, : -(-x.shape[2] // self.stride), : -(-x.shape[3] // self.stride)]

    def _start(self, y: Tensor) -> None:
        """Scale and shift so that outputs ``y``, made without a bias, get mean 0 and deviation ``gain``."""
        deviation, mean = torch.std_mean(y.float(), (0, 2, 3))
        scale = self.gain / deviation.clamp_min(SMALLEST_SPREAD)
        if self.length is None:
            self.weight.data.mul_(scale[:, None])
        else:
            self.length.data.mul_(scale)
        self.bias.data.copy_(-mean * scale)


class GatedBlock(nn.Module):
    """x + a * sigmoid(b), where a, b come from two convolutions of x, side inputs and the condition."""

    def __init__(self, config: PixelCNNConfig, shape: str, filters: int, sides: int) -> None:
        super().__init__()
        wide, columns = filters * config.widening, 3 if shape == "down" else 2
        norm = config.weight_norm
        self.activation = ACTIVATIONS[config.nonlinearity]
        self.first = Conv(shape, wide, filters, 2, columns, weight_norm=norm)
        self.sides = nn.ModuleList([Conv("right", wide, filters, weight_norm=norm) for _ in range(sides)])
        self.second = Conv(shape, wide, 2 * filters, 2, columns, gain=BLOCK_GAIN, weight_norm=norm)
        self.dropout = config.dropout
        # starts at zero: a net trained without a condition is the same net until the condition has learned
        self.condition = nn.Parameter(torch.zeros(2 * filters, config.condition)) if config.condition else None

    def forward(self, x: Tensor, active: Tensor, sides: list[Tensor], condition: Tensor | None) -> Tensor:
        """x [B, F, H, W], its activation, activations of side inputs, condition [B, D, H, W] -> [B, F, H, W]."""
        inner = self.first(active)
        for side, layer in zip(sides, self.sides, strict=True):
            inner = inner + layer(side)
        inner = functional.dropout(self.activation(inner), self.dropout, self.training)
        gated = self.second(inner)
        if self.condition is not None and condition is not None:
            weight = quantise_rows(self.condition) if self.second.fake_quant else self.condition
            gated = gated + functional.conv2d(condition, weight.to(x.dtype)[:, :, None, None])
        return x + functional.glu(gated, 1)


class PixelCNN(nn.Module):
    """Images -> K logistics for every pixel, each from the pixels before it in raster order."""

    def __init__(self, config: PixelCNNConfig) -> None:
        super().__init__()
        self.config, self.activation = config, ACTIVATIONS[config.nonlinearity]
        c, norm = config, config.weight_norm
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            inputs, f = c.channels + 1, c.filters
            width = 2 * c.columns + 1
            self.first_upper = Conv("down", inputs, f[0], c.rows, width, weight_norm=norm)
            self.first_above = Conv("down", inputs, f[0], c.rows - 1, width, weight_norm=norm)
            self.first_left = Conv("right", inputs, f[0], c.rows, c.columns, weight_norm=norm)
            # blocks in the order in which they run
            self.down_upper, self.down_left = self._blocks(f, c.blocks, 0, 1)
            self.up_upper, self.up_left = self._blocks(f[::-1], self._ups(), 1, 2)
            pairs = list(pairwise(f))
            self.shrink_upper = nn.ModuleList([Conv("down", a, b, 2, 3, stride=2, weight_norm=norm) for a, b in pairs])
            self.shrink_left = nn.ModuleList([Conv("right", a, b, 2, 2, stride=2, weight_norm=norm) for a, b in pairs])
            self.grow_upper = nn.ModuleList([Conv("up", b, a, 2, 3, weight_norm=norm) for a, b in pairs])
            self.grow_left = nn.ModuleList([Conv("up-right", b, a, 2, 2, weight_norm=norm) for a, b in pairs])
            self.last = Conv("right", f[0] * c.widening, c.outputs, gain=LAST_GAIN)
        self.last.bias.data.copy_(self._initial_outputs())
        self.mixture: Callable[..., Tensor] = mixture_bits

    def _ups(self) -> list[int]:
        """Blocks of every resolution on the way up, from the coarsest: one more than down where a layer shrank."""
        coarsest, *finer = self.config.blocks[::-1]
        return [coarsest, *(n + 1 for n in finer)]

    def _blocks(
        self, filters: Sequence[int], counts: Sequence[int], upper: int, left: int
    ) -> tuple[nn.ModuleList, nn.ModuleList]:
        """Blocks of both streams, so many a resolution and with so many side inputs."""
        sizes = [f for f, n in zip(filters, counts, strict=True) for _ in range(n)]
        return (
            nn.ModuleList([GatedBlock(self.config, "down", f, upper) for f in sizes]),
            nn.ModuleList([GatedBlock(self.config, "right", f, left) for f in sizes]),
        )

    def _initial_outputs(self) -> Tensor:
        c, k = self.config, self.config.mixtures
        spread = torch.linspace(-1, 1, k)
        means, scales = spread * 3, spread.abs() * 1.5 + 1
        return torch.cat([torch.zeros(k), means.repeat(c.channels), scales.repeat(c.channels),
                          torch.full((c.couplings * k,), 0.4)])  # fmt: skip

    # -- what a trainer needs ----------------------------------------------------------------------

    def layers(self) -> Iterator[Conv]:
        """All convolutions, the conditioning ones apart."""
        return (m for m in self.modules() if isinstance(m, Conv))

    def hidden_matrices(self) -> list[nn.Parameter]:
        """The matrices that Muon optimises: all but the last; none when lengths are learned apart (weight norm)."""
        return [] if self.config.weight_norm else [m.weight for m in self.layers() if m is not self.last]

    @property
    def fake_quant(self) -> bool:
        """Whether weights are rounded to 8 bits in the forward pass."""
        return self.last.fake_quant

    @fake_quant.setter
    def fake_quant(self, on: bool) -> None:
        for layer in self.layers():
            layer.fake_quant = on

    @torch.no_grad()
    def initialise(self, images: Tensor) -> None:
        """Data-dependent initialisation (the paper's section on weight normalisation) from uint8 [B, C, H, W]."""
        hidden = [m for m in self.layers() if m is not self.last]
        for layer in hidden:
            layer.starting = True
        training = self.training
        self.eval()(images)
        self.train(training)
        for layer in hidden:
            layer.starting = False

    def bits(self, images: Tensor, dtype: torch.dtype = torch.float32, condition: Tensor | None = None) -> Tensor:
        """Bits of each pixel, float32 [B*H*W], of images uint8 [B, C, H, W]."""
        out, base = self(images, dtype, condition)
        c = self.config
        target = images.transpose(0, 1).reshape(c.channels, -1).float()
        return self.mixture(out, base, target, c.channels, c.mixtures)

    # -- the net -----------------------------------------------------------------------------------

    def forward(
        self, images: Tensor, dtype: torch.dtype = torch.float32, condition: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """uint8 [B, C, H, W] -> raw outputs float32 [outputs, B*H*W] and the centre of the means [C, B*H*W].

        ``condition`` float [B, D, H, W] is seen whole by every pixel.  Computed in ``dtype``.
        """
        c = self.config
        x = (images.to(dtype) - CENTRE) * INPUT_UNIT
        x = torch.cat([x, torch.ones_like(x[:, :1])], 1)
        above, left = functional.pad(x, (0, 0, 1, -1)), functional.pad(x, (1, -1))
        conditions: list[Tensor | None] = [None if condition is None else condition.to(dtype)]
        act = self.activation

        # (value, activation) of both streams; every one is read again on the way up
        u = self.first_upper(above)
        ul = self.first_above(above) + self.first_left(left)
        streams = [(u, act(u), ul, act(ul))]
        down = zip(self.down_upper, self.down_left, strict=True)
        for level in range(len(c.filters)):
            if level:
                u, ul = self.shrink_upper[level - 1](u), self.shrink_left[level - 1](ul)
                streams.append((u, act(u), ul, act(ul)))
                finer = conditions[-1]
                conditions.append(None if finer is None else functional.avg_pool2d(finer, 2, ceil_mode=True))
            for upper, leftward in islice(down, c.blocks[level]):
                _, active_u, _, active_ul = streams[-1]
                u = upper(u, active_u, [], conditions[level])
                active_u = act(u)
                ul = leftward(ul, active_ul, [active_u], conditions[level])
                streams.append((u, active_u, ul, act(ul)))

        u, active_u, ul, active_ul = streams.pop()
        up = zip(self.up_upper, self.up_left, strict=True)
        for level, count in zip(reversed(range(len(c.filters))), self._ups(), strict=True):
            for upper, leftward in islice(up, count):
                _, skip_u, _, skip_ul = streams.pop()
                u = upper(u, active_u, [skip_u], conditions[level])
                active_u = act(u)
                ul = leftward(ul, active_ul, [active_u, skip_ul], conditions[level])
                active_ul = act(ul)
            if level:
                size = tuple(streams[-1][0].shape[2:])
                u, ul = self.grow_upper[level - 1](u, size), self.grow_left[level - 1](ul, size)
                active_u, active_ul = act(u), act(ul)
        out = self.last(active_ul).transpose(0, 1).reshape(c.outputs, -1).float()
        return out, local_mean(images).transpose(0, 1).reshape(c.channels, -1).float()


def local_mean(images: Tensor) -> Tensor:
    """Mean of the left and upper sample, rounded down: uint8 -> int16 [B, C, H, W].

    At the border the one that exists; 128 at the first pixel.
    """
    x = images.to(torch.int16)
    left, above = functional.pad(x, (1, -1)), functional.pad(x, (0, 0, 1, -1))
    left[:, :, :, 0] = above[:, :, :, 0]
    above[:, :, 0] = left[:, :, 0]
    mean = (left + above) >> 1
    mean[:, :, 0, 0] = CENTRE
    return mean
