# SPDX-License-Identifier: MIT
"""PixelCNN++ (Salimans et al. 2017) as a float torch module: what is trained, and then frozen.

Thesis section 3.4 conditions this net on the output of a variational autoencoder, by ``condition``.  Differences from
the paper, as far as we know them:

* Inputs, outputs, loss and integer tables are those of the local net.  The left stream starts from a window of
  differences to the local mean, whose nearest pixels also enter a linear predictor.  Means are relative to that
  prediction, in grey levels.  Couplings act on residuals, without the tanh of the published code.  Log-scales are
  clamped, from above too.  The upper stream starts from one shifted convolution of samples, of their differences to the
  local mean, and of a constant.  Float likelihood of 500 held-out CIFAR-10 images after 150 s on two cores: 4.26
  bits/dim with convolutions of samples and concat-ELU, 48 features; 3.95 with this and leaky ReLU, 64 features.
* ``upper`` > 0 makes the blocks of the finest resolution pointwise: residual, ungated, in the left stream only, and
  wider.  A net spends most of its work there.  The window takes the place of the convolutions, and the coarser
  resolutions see the rest.  3.67 bits/dim in the same 150 s; the local net has 3.64.
* Filters and blocks may differ between resolutions; the published size is a preset.
* ``weight_norm=False`` trains plain weights with orthogonalised updates (Muon) instead of the normalisation; they start
  with the same data-dependent scale.  Both kinds fold into plain weights when frozen.
* ``nonlinearity`` may be a plain ELU or the leaky ReLU of the local net instead of concat-ELU: twice as many features
  then take the same number of multiplications.
* All layers read activations, also those that change the resolution and the last one.  Only pointwise blocks are
  followed by layers that read the stream itself.
* Where the paper applies a layer to concatenated inputs, there is a sum of one layer for each input, and the activation
  of a feature is computed once for all its readers.  That is the same function with less work, and one cache for a
  decoder that evaluates pixel by pixel.
* A condition is added to the stream behind a block by a matrix without a bias.  The paper's only condition is a class,
  and it enters inside the block.
* The paper averages weights and drops half of the features; here the training preset decides about both.

There is no normalisation over batches or positions, so a pixel's features depend only on the pixels before it.
Convolutions pad both sides and crop, which torch does without a copy of the input.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn import functional

from gmcodec.models.local.float import (
    FIRST_BITS,
    INPUT_UNIT,
    SLOPE,
    initial_outputs,
    mixture_bits,
    quantise_rows,
    window_features,
)
from gmcodec.models.pixelcnnpp.config import PixelCNNConfig
from gmcodec.models.shared.activations import MID_GREY
from gmcodec.models.shared.window import CLAMP, OUTSIDE

SAMPLE_UNIT = 1 / 128  # grey levels, less MID_GREY -> inputs within -1..1
BLOCK_GAIN = 0.1  # initial scale of a block's residual, as in the paper
LAST_GAIN = 0.05  # initial scale of the last layer, so that its bias dominates at first
SMALLEST_NORM = 1e-6  # of a row of weights, since all of a row may be masked
SMALLEST_SPREAD = 0.01  # standard deviation of a feature, so that initialisation does not blow up constant ones


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
    """A convolution; ``shape`` says which positions it sees.  Only "around" looks ahead.

    =========  =====================================================================================
    down       rows i-r+1 .. i, columns j-c//2 .. j+c//2 (c is odd)
    right      rows i-r+1 .. i, columns j-c+1 .. j
    up         transposed "down" of 2x3 with stride 2; "up-right": transposed "right" of 2x2
    around     rows i-r//2 .. i+r//2, columns likewise: for nets that are not causal
    =========  =====================================================================================

    The weight is a matrix [outputs, inputs * rows * columns], for Muon and for rounding by rows.

    With classes, the length of its rows and the bias depend on the class y of an image: conditional weight
    normalisation, w = g(y) / |v| * v (thesis, eq. 5.8).  ``labels`` are the classes of the next images.
    """

    def __init__(
        self, shape: str, inputs: int, outputs: int, rows: int = 1, columns: int = 1, *,
        stride: int = 1, gain: float = 1.0, weight_norm: bool = False, bits: int = 8,
    ) -> None:  # fmt: skip
        super().__init__()
        self.shape, self.stride, self.gain, self.bits = shape, stride, gain, bits
        self.kernel = (inputs, rows, columns)
        size = inputs * rows * columns
        self.weight = nn.Parameter(torch.randn(outputs, size) * gain * size**-0.5)
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.length = nn.Parameter(self.weight.detach().norm(dim=1)) if weight_norm else None
        self.rounding: Tensor  # 1 while weights are rounded, else 0; a tensor, so that nets need not be compiled again
        self.register_buffer("rounding", torch.zeros(()), persistent=False)
        self.mask: Tensor | None
        self.register_buffer("mask", None, persistent=False)
        self.starting = False  # while the net is initialised from data
        self.classes = 0
        self.labels: Tensor | None = None  # int64 [B]

    def depend_on(self, classes: int) -> None:
        """Give each class a length and a bias of its own; all classes start with the same."""
        assert self.length is not None
        self.classes = classes
        self.length = nn.Parameter(self.length.data.repeat(classes, 1))
        self.bias = nn.Parameter(self.bias.data.repeat(classes, 1))

    def fix_class(self, label: int) -> None:
        """Keep the length and bias of one class, for all images."""
        assert self.length is not None
        self.classes = 0
        self.length = nn.Parameter(self.length.data[label].clone())
        self.bias = nn.Parameter(self.bias.data[label].clone())

    def mask_inputs(self, mask: Tensor) -> None:
        """Let every output see only some inputs: bool [outputs, inputs]."""
        self.mask = mask.float().repeat_interleave(self.kernel[1] * self.kernel[2], 1)

    def matrix(self) -> Tensor:
        """The weight as it is used, [outputs, inputs * rows * columns]; with classes, rows have length 1."""
        weight = self.weight if self.mask is None else self.weight * self.mask
        if self.length is not None:
            length = 1.0 if self.classes else self.length
            weight = weight * (length / weight.norm(dim=1).clamp_min(SMALLEST_NORM))[:, None]
        return rounded(weight, self.rounding, self.bits)

    def forward(self, x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """[B, inputs, H, W] -> [B, outputs, H', W']; ``size`` H', W': crop upsampled features."""
        if self.starting:
            self._start(self._of_class(self._convolve(x, size, None), self.length))
        if self.classes:
            return self._of_class(self._convolve(x, size, None), self.length, self.bias)
        return self._convolve(x, size, self.bias.to(x.dtype))

    def _of_class(self, y: Tensor, length: Tensor | None, bias: Tensor | None = None) -> Tensor:
        """Outputs of rows of length 1, [B, outputs, H, W], with the length and bias of each image's class."""
        if not self.classes:
            return y
        if self.labels is None or length is None:
            raise ValueError(f"images of {self.classes} classes need labels")
        y = y * length[self.labels].to(y.dtype)[:, :, None, None]
        return y if bias is None else y + bias[self.labels].to(y.dtype)[:, :, None, None]

    def _convolve(self, x: Tensor, size: tuple[int, int] | None, bias: Tensor | None) -> Tensor:
        weight = self.matrix().to(x.dtype).unflatten(1, self.kernel)
        _, rows, columns = self.kernel
        if size is not None:
            weight = weight.transpose(0, 1)
            padding = (0, 1) if self.shape == "up" else (0, 0)
            y = functional.conv_transpose2d(x, weight, bias, 2, padding, padding)
            return y[:, :, : size[0], : size[1]]
        left = columns - 1 if self.shape == "right" else columns // 2
        y = functional.conv2d(x, weight, bias, self.stride, (rows // 2 if self.shape == "around" else rows - 1, left))
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
    """x + a * sigmoid(b), where a, b come from two convolutions of x and side inputs, and the condition."""

    def __init__(self, config: PixelCNNConfig, shape: str, filters: int, sides: int) -> None:
        super().__init__()
        wide, columns = filters * config.widening, 3 if shape == "down" else 2
        norm = config.weight_norm
        self.activation = ACTIVATIONS[config.nonlinearity]
        self.first = Conv(shape, wide, filters, 2, columns, weight_norm=norm)
        self.sides = nn.ModuleList([Conv("right", wide, filters, weight_norm=norm) for _ in range(sides)])
        self.second = Conv(shape, wide, 2 * filters, 2, columns, gain=BLOCK_GAIN, weight_norm=norm)
        self.dropout = config.dropout
        self.condition = Condition(config, filters)

    def forward(self, x: Tensor, active: Tensor, sides: list[Tensor], condition: Tensor | None) -> Tensor:
        """x [B, F, H, W], its activation, activations of side inputs, condition [B, D, H, W] -> [B, F, H, W]."""
        inner = self.first(active)
        for side, layer in zip(sides, self.sides, strict=True):
            inner = inner + layer(side)
        inner = functional.dropout(self.activation(inner), self.dropout, self.training)
        return self.condition(x + functional.glu(self.second(inner), 1), condition)


class PointwiseBlock(nn.Module):
    """x + second(activation(first(x))) at every pixel by itself, as in the local net."""

    def __init__(self, config: PixelCNNConfig, filters: int) -> None:
        super().__init__()
        norm = config.weight_norm
        self.activation, self.dropout = ACTIVATIONS[config.nonlinearity], config.dropout
        self.first = Conv("right", filters, filters, weight_norm=norm)
        self.second = Conv("right", filters, filters, gain=BLOCK_GAIN, weight_norm=norm)
        self.condition = Condition(config, filters)

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """x [B, F, H, W], condition [B, D, H, W] -> [B, F, H, W]."""
        inner = functional.dropout(self.activation(self.first(x)), self.dropout, self.training)
        return self.condition(x + self.second(inner), condition)


class Condition(nn.Module):
    """Adds a condition to a stream behind a block: a matrix times its D features, at every cell.

    It has no bias and is zero at first, so a net that was trained without a condition starts as the same net.
    """

    def __init__(self, config: PixelCNNConfig, filters: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(filters, config.condition)) if config.condition else None
        self.rounding: Tensor
        self.register_buffer("rounding", torch.zeros(()), persistent=False)

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """x [B, F, H, W], condition [B, D, H, W] or None -> [B, F, H, W]."""
        if self.weight is None or condition is None:
            return x
        return x + functional.conv2d(condition.to(x.dtype), self.matrix().to(x.dtype)[:, :, None, None])

    def matrix(self) -> Tensor:
        """The weight as it is used: [F, D]."""
        assert self.weight is not None
        return rounded(self.weight, self.rounding)


def rounded(weight: Tensor, rounding: Tensor, bits: int = 8) -> Tensor:
    """``weight`` if ``rounding`` is 0, ``quantise_rows`` of it if that is 1."""
    return weight + rounding * (quantise_rows(weight, bits) - weight).detach()


def start_layers(net: nn.Module, layers: Sequence[Conv], run: Callable[[], object]) -> None:
    """Data-dependent initialisation of ``layers``; ``run`` passes images through the net, without dropout."""
    for layer in layers:
        layer.starting = True
    training = net.training
    net.eval()
    run()
    net.train(training)
    for layer in layers:
        layer.starting = False


class RoundedNet(nn.Module):
    """A net that may round the weights of its layers."""

    @property
    def fake_quant(self) -> bool:
        """Whether the forward pass rounds weights, to 8 bits or to the bits of the layer."""
        return any(layer.rounding for layer in self._rounding())

    @fake_quant.setter
    def fake_quant(self, on: bool) -> None:
        for layer in self._rounding():
            layer.rounding.fill_(on)

    def _rounding(self) -> Iterator[Conv | Condition]:
        return (layer for layer in self.modules() if isinstance(layer, Conv | Condition))


class PixelCNN(RoundedNet):
    """Images -> K logistics for every pixel, each from the pixels before it in raster order."""

    def __init__(self, config: PixelCNNConfig) -> None:
        super().__init__()
        self.config, self.activation = config, ACTIVATIONS[config.nonlinearity]
        c, norm = config, config.weight_norm
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            f, fine = c.filters, int(c.upper > 0)
            self.first_upper = Conv(
                "down", c.planes, c.upper or f[0], c.rows, 2 * c.columns + 1, weight_norm=norm, bits=FIRST_BITS
            )
            self.first_left = Conv("right", c.window.inputs, f[0], weight_norm=norm, bits=FIRST_BITS)
            self.linear = nn.Parameter(torch.zeros(c.channels, c.channels * c.neighbours))
            # blocks in the order in which they run: pointwise ones of the finest resolution, then the gated ones
            self.fine_down = nn.ModuleList([PointwiseBlock(c, f[0]) for _ in range(fine * c.blocks[0])])
            self.fine_up = nn.ModuleList([PointwiseBlock(c, f[0]) for _ in range(fine * c.ups[0])])
            self.down_upper, self.down_left = self._blocks(f[fine:], c.blocks[fine:], 0, 1)
            self.up_upper, self.up_left = self._blocks(f[fine:][::-1], c.ups[fine:][::-1], 1, 2)
            wide, upper, left = c.read_widths
            steps = range(len(f) - 1)
            self.shrink_upper, self.shrink_left, self.grow_left = (
                nn.ModuleList([make(n) for n in steps])
                for make in (
                    lambda n: Conv("down", upper[n], f[n + 1], 2, 3, stride=2, weight_norm=norm),
                    lambda n: Conv("right", left[n], f[n + 1], 2, 2, stride=2, weight_norm=norm),
                    lambda n: Conv("up-right", wide[n + 1], f[n], 2, 2, weight_norm=norm),
                )
            )
            self.grow_upper = nn.ModuleList(
                [Conv("up", wide[n + 1], f[n], 2, 3, weight_norm=norm) for n in steps[fine:]]
            )
            self.last = Conv("right", left[0], c.outputs, gain=LAST_GAIN)
        self.last.bias.data.copy_(initial_outputs(c.channels, c.mixtures, 1.0))
        self.mixture: Callable[..., Tensor] = mixture_bits

    def _blocks(
        self, filters: Sequence[int], counts: Sequence[int], upper: int, left: int
    ) -> tuple[nn.ModuleList, nn.ModuleList]:
        """Gated blocks of both streams, ``counts`` for each resolution; ``upper``, ``left``: their side inputs."""
        sizes = [f for f, n in zip(filters, counts, strict=True) for _ in range(n)]
        return (
            nn.ModuleList([GatedBlock(self.config, "down", f, upper) for f in sizes]),
            nn.ModuleList([GatedBlock(self.config, "right", f, left) for f in sizes]),
        )

    # -- for trainers ------------------------------------------------------------------------------

    def layers(self) -> Iterator[Conv]:
        """All convolutions but those of conditions."""
        return (m for m in self.modules() if isinstance(m, Conv))

    def hidden_matrices(self) -> list[nn.Parameter]:
        """The matrices that Muon optimises: all but the last; none with weight normalisation."""
        return [] if self.config.weight_norm else [m.weight for m in self.layers() if m is not self.last]

    @torch.no_grad()
    def initialise(self, images: Tensor, loaded: Collection[str] = ()) -> None:
        """Data-dependent initialisation (the paper's section on weight normalisation) from uint8 [B, C, H, W]."""
        assert not loaded  # either all parameters are loaded or none
        start_layers(self, [m for m in self.layers() if m is not self.last], lambda: self(images))

    def bits(
        self, images: Tensor, dtype: torch.dtype = torch.float32, condition: Sequence[Tensor] | None = None
    ) -> Tensor:
        """Bits of each pixel, float32 [B*H*W], of images uint8 [B, C, H, W]."""
        out, base = self(images, dtype, condition)
        c = self.config
        target = images.transpose(0, 1).reshape(c.channels, -1).float()
        return self.mixture(out, base, target, c.channels, c.mixtures)

    # -- the net -----------------------------------------------------------------------------------

    def forward(
        self, images: Tensor, dtype: torch.dtype = torch.float32, condition: Sequence[Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """uint8 [B, C, H, W] -> raw outputs float32 [outputs, B*H*W] and the centre of the means [C, B*H*W].

        ``condition``: for each of ``config.positions`` float [B, D, H', W'] at its resolution, all of which every pixel
        sees.  Computed in ``dtype``.
        """
        c = self.config
        u, ul, base = self._first(images, dtype)
        # in the order in which blocks run
        conditions: Iterator[Tensor | None] = iter([None] * len(c.positions) if condition is None else condition)
        if c.upper:
            ul = self.activation(ul)
            for block, known in zip(self.fine_down, conditions, strict=False):
                ul = block(ul, known)
            coarse = self._gated(self.activation(u), ul, conditions)
            ul = ul + self.grow_left[0](coarse, images.shape[2:])
            for block, known in zip(self.fine_up, conditions, strict=False):
                ul = block(ul, known)
        else:
            ul = self._gated(u, ul, conditions)
        return self.last(ul).transpose(0, 1).reshape(c.outputs, -1).float(), base

    def _first(self, images: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """Both streams before any block, [B, F, H, W], and the centre of the means, float32 [C, B*H*W]."""
        above, window, near, mean = self._seen(images, dtype)
        base = mean + (self.linear.to(dtype) @ near).float() / INPUT_UNIT
        return self.first_upper(above), self.first_left(window), base

    @torch.compiler.disable  # compiled code would compute these dozens of shifted copies again for every layer
    @torch.no_grad()
    def _seen(self, images: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Inputs of both streams, [B, .., H, W], the nearest pixels [.., B*H*W], the local mean float32 [C, B*H*W]."""
        window = self.config.window
        count, _, height, width = images.shape
        samples, r = images.to(torch.int16), window.reach
        padded = functional.pad(samples, (r, r, r, 0), value=OUTSIDE)
        features, mean = window_features(window, padded, height, width)
        features = features.to(dtype) * INPUT_UNIT
        near = features[: self.linear.shape[1]]
        features = features.unflatten(1, (count, height, width)).transpose(0, 1)
        image_mean = mean.unflatten(1, (count, height, width)).transpose(0, 1)
        difference = (samples - image_mean).clamp(-CLAMP, CLAMP).to(dtype) * INPUT_UNIT
        known = [(images.to(dtype) - MID_GREY) * SAMPLE_UNIT, difference, torch.ones_like(difference[:, :1])]
        above = functional.pad(torch.cat(known, 1), (0, 0, 1, -1))
        layout = torch.channels_last
        return above.contiguous(memory_format=layout), features.contiguous(memory_format=layout), near, mean.float()

    def _gated(self, u: Tensor, ul: Tensor, conditions: Iterator[Tensor | None]) -> Tensor:
        """The gated blocks of all resolutions, down and up again -> the left stream's activation."""
        c, act = self.config, self.activation
        fine = int(c.upper > 0)
        # activations of both streams; each one is read again on the way up
        streams: list[tuple[Tensor, Tensor]] = [(u, ul)] if fine else []
        down = zip(self.down_upper, self.down_left, strict=True)
        for level in range(fine, len(c.filters)):
            if level:
                u, ul = (
                    shrink[level - 1](x)
                    for shrink, x in zip((self.shrink_upper, self.shrink_left), streams[-1], strict=True)
                )
            streams.append((act(u), act(ul)))
            for upper_block, left_block in islice(down, c.blocks[level]):
                condition = next(conditions)
                u = upper_block(u, streams[-1][0], [], condition)
                ul = left_block(ul, streams[-1][1], [act_u := act(u)], condition)
                streams.append((act_u, act(ul)))
        active_u, active_ul = streams.pop()
        up = zip(self.up_upper, self.up_left, strict=True)
        for level in reversed(range(fine, len(c.filters))):
            for upper_block, left_block in islice(up, c.ups[level]):
                (skip_u, skip_ul), condition = streams.pop(), next(conditions)
                u = upper_block(u, active_u, [skip_u], condition)
                active_u = act(u)
                ul = left_block(ul, active_ul, [active_u, skip_ul], condition)
                active_ul = act(ul)
            if level > fine:
                size = streams[-1][0].shape[2:]
                u = self.grow_upper[level - 1 - fine](active_u, size)
                ul = self.grow_left[level - 1](active_ul, size)
                active_u, active_ul = act(u), act(ul)
        return active_ul
