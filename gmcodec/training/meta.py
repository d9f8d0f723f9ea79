# SPDX-License-Identifier: MIT
"""First-order meta-learning: train a local net for the weights that it has after learning from the image it codes.

Many photographs are coded at once, each with a copy of the net that learns by the rules of exact/rmsprop.py and
models/online/rules.py, in floats.  The optimiser of the net follows the mean gradient at the copies' weights, because
these are the weights that code, and every copy moves along with the net.  That is first-order MAML (Finn et al. 2017;
Nichol et al. 2018) with the gradient of every inner step counted::

    copy_i = net                      when photograph i begins
    loss   = mean_i cost(copy_i, the next pixels of photograph i)
    net    = net    - optimiser(d loss / d copies, summed)
    copy_i = copy_i - learning(d loss / d copy_i) + the change of net
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from gmcodec.exact.rmsprop import MOVE_LIMIT, SQUARE_MEMORY
from gmcodec.models.local import freeze as local_freeze
from gmcodec.models.local.config import LocalConfig
from gmcodec.models.local.float import INPUT_UNIT, SLOPE, mixture_bits, relative
from gmcodec.models.online.rules import BIAS_INPUT, FIRST_BIAS_INPUT, LAYER_SHARES, LINEAR_RATE, RATE_BITS, RATES
from gmcodec.training.data import Patches
from gmcodec.training.loop import Trainer

STEP_PIXELS = 104  # pixels of a photograph in one step: about online.rules.MIN_BATCH_PIXELS, a multiple of 8
MIRROR_PROBABILITY = 0.5  # that a photograph's mirror image follows it, with the same copy: some copies must get old
UNIT_EVENNESS = 0.75  # argument of local.freeze.spread_units for the units of activations
CALIBRATION_BATCHES = 8  # batches of patches on which the range of activations is measured


class PixelBatch(NamedTuple):
    """The next STEP_PIXELS pixels of each of M photographs: tensors on the device."""

    features: Tensor  # int16 [M, inputs, P], grey levels
    mean: Tensor  # int16 [C, M * P]
    target: Tensor  # int16 [C, M * P]
    starting: Tensor  # bool [M]: the photograph begins with these pixels


class PhotographStreams:
    """Photographs in coding order, one in each of ``slots`` slots; a random one follows when one is finished.

    images  int16 [C, H + r, W + 2r] each, as padded by data.pad
    random  None: image number i stays in slot i and is coded once
    """

    def __init__(
        self, config: LocalConfig, images: list[np.ndarray], slots: int, device: torch.device,
        random: np.random.Generator | None,
    ) -> None:  # fmt: skip
        self.config, self.device, self.random = config, device, random
        self._lay_out(images)
        offsets = torch.tensor(config.window.offsets, device=device)
        self.rows_away, self.columns_away = (offsets[:, k, None, None] for k in range(2))
        self.photograph = np.arange(slots) if random is None else self._draw(slots)
        self.mirrored = np.zeros(slots, bool)
        self.done = np.zeros(slots, np.int64)
        if random is not None:  # slots start at different places, so that photographs do not all end at once
            self.done[:] = random.random(slots) * self.sizes[self.photograph] // STEP_PIXELS * STEP_PIXELS
        self.starting = np.ones(slots, bool)
        self.any_starting = False  # whether a photograph begins with the pixels returned last

    def _lay_out(self, images: list[np.ndarray]) -> None:
        """All samples in one tensor, all coding orders in another, and where each image begins in them."""
        c, r = self.config.channels, self.config.reach
        shapes = [(i.shape[1] - r, i.shape[2] - 2 * r) for i in images]
        order = {shape: _coding_order(*shape, self.config.slope) for shape in set(shapes)}
        starts = np.cumsum([0] + [len(order[shape]) for shape in order])
        self.order = torch.from_numpy(np.concatenate(list(order.values()))).to(self.device)
        first = dict(zip(order, starts.tolist(), strict=False))
        corners = np.cumsum([0] + [i[0].size for i in images])[:-1]
        flat = np.concatenate([i.transpose(1, 2, 0).reshape(-1, c) for i in images])
        self.samples = torch.from_numpy(flat).to(self.device)
        # int64 [images, 4]: index of the first pixel, length of a padded row, width, index of its coding order
        self.layout = np.array(
            [
                (corner + r * (w + 2 * r) + r, w + 2 * r, w, first[h, w])
                for corner, (h, w) in zip(corners, shapes, strict=True)
            ],
            np.int64,
        )
        self.sizes = np.array([h * w for h, w in shapes], np.int64)

    def _draw(self, count: int) -> np.ndarray:
        assert self.random is not None
        return self.random.choice(len(self.sizes), count, p=self.sizes / self.sizes.sum())

    def _replace_finished(self) -> None:
        """Put another photograph into each slot that has fewer than STEP_PIXELS pixels left."""
        finished = np.flatnonzero(self.sizes[self.photograph] - self.done < STEP_PIXELS)
        if self.random is None or not len(finished):
            return
        mirror = self.random.random(len(finished)) < MIRROR_PROBABILITY
        self.mirrored[finished] = np.where(mirror, ~self.mirrored[finished], self.random.random(len(finished)) < 0.5)
        self.photograph[finished] = np.where(mirror, self.photograph[finished], self._draw(len(finished)))
        self.done[finished] = 0
        self.starting[finished[~mirror]] = True

    def next(self) -> PixelBatch:
        """The next STEP_PIXELS pixels of every slot."""
        self._replace_finished()
        columns = np.stack([*self.layout[self.photograph].T, self.done, self.mirrored, self.starting])[:, :, None]
        tensor = torch.from_numpy(columns)
        if self.device.type == "cuda":
            tensor = tensor.pin_memory()
        origin, stride, width, first, done, mirrored, starting = tensor.to(self.device, non_blocking=True)
        self.done += STEP_PIXELS
        self.any_starting = bool(self.starting.any())
        self.starting[:] = False
        return self.gather(origin, stride, width, first + done, mirrored, starting)

    def gather(
        self, origin: Tensor, stride: Tensor, width: Tensor, first: Tensor, mirrored: Tensor, starting: Tensor
    ) -> PixelBatch:
        """Pixels by their place in ``samples`` and ``order``; arguments int64 [M, 1] each."""
        pixel = self.order[first + torch.arange(STEP_PIXELS, device=self.device)].long()
        y, x = pixel // width, pixel % width
        at = origin + y * stride + torch.where(mirrored > 0, width - 1 - x, x)
        left = 1 - 2 * mirrored  # the left neighbour in coding order is this many samples before
        pixels = self.samples[at + self.rows_away * stride + self.columns_away * left]  # [O, M, P, C]
        difference, mean = relative(pixels, self.samples[at - left], self.samples[at - stride])
        slots, c = len(at), self.config.channels
        features = torch.cat(
            [difference.permute(1, 0, 3, 2).reshape(slots, -1, STEP_PIXELS), (mean - 128).transpose(1, 2)], 1
        )
        return PixelBatch(
            features, mean.permute(2, 0, 1).reshape(c, -1), self.samples[at].permute(2, 0, 1).reshape(c, -1),
            starting[:, 0] > 0,
        )  # fmt: skip


def _coding_order(height: int, width: int, slope: int) -> np.ndarray:
    """int32 [H * W]: pixels by step of the wavefront, then by row."""
    y, x = np.divmod(np.arange(height * width), width)
    return np.lexsort((y, slope * y + x)).astype(np.int32)


class LearnedLayer(NamedTuple):
    """A layer of all copies: the names of its parameters, and how it learns."""

    weight: str
    bias: str | None
    unit: Tensor  # float32 [K]: value of one integer step of each input
    bias_input: Tensor  # scalar: the integer that the bias is multiplied by
    rate: Tensor  # scalar: step relative to the root mean square of a row's weights; absolute for the linear predictor


class MetaTrainer(Trainer):
    """A trainer whose preset has an ``adaptation``: an index of online.rules.RATES, the rate at which copies learn."""

    validate_every = 20_000

    def _set_up(self) -> None:
        assert isinstance(self.source, Patches)
        assert isinstance(self.preset.model, LocalConfig)
        self.model = self.preset.model
        patches, random = self.source, self.source.random
        self.layers = self._layers(patches)
        self.streams = PhotographStreams(self.model, patches.images, self.preset.batch, self.device, random)
        self.copies, self.mean_squares, self.counts = self._copy(self.net, self.preset.batch)
        self.pixel_bits, self.update_layer = _pixel_bits, _update_layer
        if self.compiled:
            self.pixel_bits = torch.compile(_pixel_bits, dynamic=False)
            self.update_layer = torch.compile(_update_layer, dynamic=False)

    def _layers(self, patches: Patches) -> list[LearnedLayer]:
        """How each layer learns, with units of activations as freezing would choose them."""
        assert self.preset.adaptation is not None
        c, rate = self.model, RATES[self.preset.adaptation] / 2**RATE_BITS
        units = self._activation_units(patches)
        ones = torch.ones(c.inputs, device=self.device)

        def layer(name: str, bias: str | None, unit: Tensor, bias_input: int, rate: float) -> LearnedLayer:
            # as tensors, because torch.compile would compile again for every new number
            return LearnedLayer(name, bias, unit, ones.new_tensor(bias_input), ones.new_tensor(rate))

        layers = [
            layer("first", "first_bias", ones * INPUT_UNIT, FIRST_BIAS_INPUT, rate * LAYER_SHARES["first"] / 16),
            layer("last", "last_bias", units[0], BIAS_INPUT, rate * LAYER_SHARES["last"] / 16),
            layer("linear", None, ones[: c.channels * c.neighbours], 0, LINEAR_RATE / 2**RATE_BITS),
        ]
        for b in range(c.blocks):
            layers.append(layer(f"up.{b}", f"up_bias.{b}", units[0], BIAS_INPUT, rate * LAYER_SHARES["up"] / 16))
            down = rate * LAYER_SHARES["down"] / 16
            layers.append(layer(f"down.{b}", f"down_bias.{b}", units[b + 1], BIAS_INPUT, down))
        return layers

    def _activation_units(self, patches: Patches) -> list[Tensor]:
        """Units of the residual stream, then of every block's inner activations, float32 [K] each."""
        size = patches.size
        batches = [(torch.from_numpy(patches.batch(64).images), size, size) for _ in range(CALIBRATION_BATCHES)]
        cpu = type(self.net)(self.model)
        cpu.load_state_dict({name: value.cpu() for name, value in self.net.state_dict().items()})
        peaks = local_freeze.activation_peaks(cpu, batches)
        units = local_freeze.spread_units({str(k): peak for k, peak in enumerate(peaks)}, UNIT_EVENNESS)
        return [torch.from_numpy(unit).float().to(self.device) for unit in units.values()]

    def _copy(self, net: nn.Module, slots: int) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        """Copies of a net's parameters, mean squares of their gradients [slots, rows], steps they made [slots]."""
        copies = {
            name: p.detach()[None].expand(slots, *p.shape).clone().requires_grad_()
            for name, p in net.named_parameters()
        }
        mean_squares = {layer.weight: copies[layer.weight].detach()[:, :, 0] * 0 for layer in self.layers}
        return copies, mean_squares, torch.zeros(slots, device=self.device)

    def load_extra(self, state: dict[str, Any]) -> None:
        """Checkpoints hold no copies: all photographs begin again, with the net of the checkpoint."""
        assert isinstance(self.source, Patches)
        self.layers = self._layers(self.source)
        self.streams.starting[:] = True

    def train_step(self) -> Tensor:
        """One step of all copies and of the net."""
        self._set_rates()
        pixels = self.streams.next()
        net = dict(self.net.named_parameters())
        with torch.no_grad():
            if self.streams.any_starting:
                _reset(pixels.starting, net, self.copies, self.mean_squares, self.counts)
        loss = self.pixel_bits(self.model, self.copies, pixels, self.dtype).mean() / self.model.channels
        loss.backward()
        before = {name: p.detach().clone() for name, p in net.items()}
        for name, p in net.items():
            p.grad = _grad(self.copies[name]).sum(0)
        self._optimise()
        with torch.no_grad():
            change = {name: p - before[name] for name, p in net.items()}
            self._update(net, self.copies, self.mean_squares, self.counts, change)
        self._finish_step()
        return loss.detach()

    def _update(self, net: dict[str, Tensor], copies: dict[str, Tensor], mean_squares: dict[str, Tensor],
                counts: Tensor, change: dict[str, Tensor]) -> None:  # fmt: skip
        """Let all copies learn from their gradients, and move them by the net's ``change``."""
        counts += 1
        for layer in self.layers:
            w, b = layer.weight, layer.bias
            bias = None if b is None else (copies[b], _grad(copies[b]), change[b])
            self.update_layer(
                copies[w], _grad(copies[w]), mean_squares[w], counts, net[w].detach(), layer.unit, layer.rate,
                w == "linear", change[w], bias, layer.bias_input,
            )  # fmt: skip
        for copy in copies.values():
            copy.grad = None

    def average(self, whole: bool) -> dict[str, float]:
        """bpsp of the EMA weights, learning, on the validation images: as many pixels of each as the smallest has."""
        images = [batch.images[0] for batch in self.validation]
        streams = PhotographStreams(self.model, images, len(images), self.device, None)
        net = {name: p.detach() for name, p in self.ema.named_parameters()}
        copies, mean_squares, counts = self._copy(self.ema, len(images))
        no_change = {name: torch.zeros_like(p) for name, p in net.items()}
        bits, steps = torch.zeros((), dtype=torch.float64, device=self.device), int(streams.sizes.min()) // STEP_PIXELS
        for _ in range(steps):
            loss = self.pixel_bits(self.model, copies, streams.next(), self.dtype).mean()
            (loss / self.model.channels).backward()
            with torch.no_grad():
                bits += loss.double() / self.model.channels / steps
                self._update(net, copies, mean_squares, counts, no_change)
        return {"bpsp": bits.item()}


def _grad(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def _reset(starting: Tensor, net: dict[str, Tensor], copies: dict[str, Tensor], mean_squares: dict[str, Tensor],
           counts: Tensor) -> None:  # fmt: skip
    """Where a photograph begins (``starting``, bool [M]), set the copy to the net itself."""
    for name, p in net.items():
        copy = copies[name]
        copy.copy_(torch.where(starting.view(-1, *[1] * p.dim()), p, copy))
    for square in mean_squares.values():
        square.masked_fill_(starting[:, None], 0.0)
    counts.masked_fill_(starting, 0.0)


def _pixel_bits(c: LocalConfig, w: dict[str, Tensor], pixels: PixelBatch, dtype: torch.dtype) -> Tensor:
    """Bits of each pixel, float32 [M * P]: LocalNet.forward with weights that differ between slots."""

    def product(name: str, bias: str, x: Tensor) -> Tensor:
        return torch.baddbmm(w[bias].to(dtype)[:, :, None], w[name].to(dtype), x)

    def leaky_relu(x: Tensor) -> Tensor:
        return torch.maximum(x, x * SLOPE)  # torch's own leaky ReLU takes four times as long when compiled

    x = pixels.features.to(dtype) * INPUT_UNIT
    h = leaky_relu(product("first", "first_bias", x))
    for b in range(c.blocks):
        inner = leaky_relu(product(f"up.{b}", f"up_bias.{b}", h))
        h = h + product(f"down.{b}", f"down_bias.{b}", inner)
    out = product("last", "last_bias", h).float().transpose(0, 1).reshape(c.outputs, -1)
    near = x[:, : c.channels * c.neighbours]
    linear = torch.bmm(w["linear"].to(dtype), near).float().transpose(0, 1).reshape(c.channels, -1) / INPUT_UNIT
    return mixture_bits(out, pixels.mean.float() + linear, pixels.target.float(), c.channels, c.mixtures)


def _update_layer(
    copy: Tensor, gradient: Tensor, mean_square: Tensor, counts: Tensor, now: Tensor, unit: Tensor, rate: Tensor,
    absolute: bool, change: Tensor, bias: tuple[Tensor, Tensor, Tensor] | None, bias_input: Tensor,
) -> None:  # fmt: skip
    """online.spec.Learner for a layer [M, rows, K] of all copies, in floats; also adds ``change`` to all copies.

    now       the net's weights [rows, K], whose size scales the steps unless ``absolute``
    bias      the copies' biases, their gradients, and the change of the net's
    """
    g = gradient / unit
    mean = g.square().mean(2)
    mean_square += (mean - mean_square) / counts.clamp_max(SQUARE_MEMORY)[:, None]
    root = torch.maximum(mean_square, mean).sqrt().clamp_min(1e-20)
    step = rate.expand_as(root) if absolute else rate * (now * unit).square().mean(1).sqrt()[None]
    copy += change - (g / root[:, :, None]).clamp(-MOVE_LIMIT, MOVE_LIMIT) * step[:, :, None] / unit
    if bias is not None:
        value, bias_gradient, bias_change = bias
        value += bias_change - (bias_gradient * bias_input / root).clamp(-MOVE_LIMIT, MOVE_LIMIT) * step * bias_input
