# SPDX-License-Identifier: MIT
"""Train a local net for what it will know after learning from the image that it codes: first-order meta-learning.

Many photographs are gone through at once, each by a copy of the net that learns by the rules of exact/rmsprop.py and
models/online/rules.py, in floats.  What the optimiser follows is the mean gradient at the copies' weights, where
codecs need the net to be good, and every copy moves along with the net.  First-order MAML (Finn et al. 2017;
Nichol et al. 2018) with the gradient of every inner step counted::

    copy_i = net                      when photograph i begins
    loss   = mean_i cost(copy_i, the next pixels of photograph i)
    net    = net    - optimiser(d loss / d copies, summed)
    copy_i = copy_i - learning(d loss / d copy_i) + what the net moved by
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from gmcodec.exact.rmsprop import CLIP, MEMORY
from gmcodec.models.local import freeze as local_freeze
from gmcodec.models.local.config import LocalConfig
from gmcodec.models.local.float import INPUT_UNIT, SLOPE, mixture_bits, relative
from gmcodec.models.online.rules import FIRST_UNIT, LAYER_SHARES, LINEAR_RATE, RATE_BITS, RATES, UNIT
from gmcodec.training.data import Patches
from gmcodec.training.loop import Trainer

PIXELS = 104  # of a photograph that a step goes through: about online.rules.BATCH, a multiple of 8
AGAIN = 0.5  # how often a photograph is followed by its mirror image and not by another: so copies get older
EVENNESS = 0.75  # of activations' units: local.freeze.spread_units
CALIBRATED = 8  # batches of patches that show how large activations are


class Pixels(NamedTuple):
    """The next pixels of every photograph: tensors on the device."""

    features: Tensor  # int16 [M, inputs, P], grey levels
    mean: Tensor  # int16 [C, M * P]
    target: Tensor  # int16 [C, M * P]
    fresh: Tensor  # bool [M]: photographs that begin


class Streams:
    """Photographs in coding order, ``slots`` at once; each slot takes another at random when one is finished.

    ``images``: int16 [C, H + r, W + 2r] as of data.pad.  With ``random`` None: the images in turn, one a slot, once.
    """

    def __init__(
        self, config: LocalConfig, images: list[np.ndarray], slots: int, device: torch.device,
        random: np.random.Generator | None,
    ) -> None:  # fmt: skip
        self.config, self.device, self.random = config, device, random
        r = config.reach
        shapes = [(i.shape[1] - r, i.shape[2] - 2 * r) for i in images]
        order = {shape: _coding_order(*shape, config.slope) for shape in set(shapes)}
        starts = np.cumsum([0] + [len(order[shape]) for shape in order])
        self.order = torch.from_numpy(np.concatenate(list(order.values()))).to(device)
        first = dict(zip(order, starts.tolist(), strict=False))
        corners = np.cumsum([0] + [i[0].size for i in images])[:-1]
        flat = np.concatenate([i.transpose(1, 2, 0).reshape(-1, config.channels) for i in images])
        self.samples = torch.from_numpy(flat).to(device)
        # of every image: where its first pixel lies, a row's length, its width, where its order begins, its pixels
        self.about = np.array(
            [
                (corner + r * (w + 2 * r) + r, w + 2 * r, w, first[h, w], h * w)
                for corner, (h, w) in zip(corners, shapes, strict=True)
            ],
            np.int64,
        )
        self.share = self.about[:, 4] / self.about[:, 4].sum()
        offsets = torch.tensor(config.window.offsets, device=device)
        self.dy, self.dx = (offsets[:, k, None, None] for k in range(2))
        self.chosen = np.arange(slots) if random is None else self._draw(slots)
        self.mirrored = np.zeros(slots, bool)
        self.done = np.zeros(slots, np.int64)
        if random is not None:  # not all of them begin at once
            self.done[:] = random.random(slots) * self.about[self.chosen, 4] // PIXELS * PIXELS
        self.fresh = np.ones(slots, bool)
        self.begin = False  # whether some of the pixels given last are of photographs that begin

    def _draw(self, count: int) -> np.ndarray:
        assert self.random is not None
        return self.random.choice(len(self.about), count, p=self.share)

    def _turn(self) -> None:
        """Other photographs where fewer than PIXELS are left."""
        over = np.flatnonzero(self.about[self.chosen, 4] - self.done < PIXELS)
        if self.random is None or not len(over):
            return
        again = self.random.random(len(over)) < AGAIN
        self.mirrored[over] = np.where(again, ~self.mirrored[over], self.random.random(len(over)) < 0.5)
        self.chosen[over] = np.where(again, self.chosen[over], self._draw(len(over)))
        self.done[over] = 0
        self.fresh[over[~again]] = True

    def next(self) -> Pixels:
        """PIXELS pixels of every slot."""
        self._turn()
        about = self.about[self.chosen]
        sent = np.stack([*about.T, self.done, self.mirrored, self.fresh])[:, :, None]
        tensor = torch.from_numpy(sent)
        if self.device.type == "cuda":
            tensor = tensor.pin_memory()
        origin, stride, width, first, _, done, mirrored, fresh = tensor.to(self.device, non_blocking=True)
        self.done += PIXELS
        self.begin = bool(self.fresh.any())
        self.fresh[:] = False
        return self.gather(origin, stride, width, first + done, mirrored, fresh)

    def gather(
        self, origin: Tensor, stride: Tensor, width: Tensor, first: Tensor, mirrored: Tensor, fresh: Tensor
    ) -> Pixels:
        """Pixels, of int64 [M, 1] each."""
        place = self.order[first + torch.arange(PIXELS, device=self.device)].long()
        y, x = place // width, place % width
        at = origin + y * stride + torch.where(mirrored > 0, width - 1 - x, x)
        step = 1 - 2 * mirrored
        pixels = self.samples[at + self.dy * stride + self.dx * step]  # [O, M, P, C]
        difference, mean = relative(pixels, self.samples[at - step], self.samples[at - stride])
        slots, c = len(at), self.config.channels
        features = torch.cat(
            [difference.permute(1, 0, 3, 2).reshape(slots, -1, PIXELS), (mean - 128).transpose(1, 2)], 1
        )
        return Pixels(
            features, mean.permute(2, 0, 1).reshape(c, -1), self.samples[at].permute(2, 0, 1).reshape(c, -1),
            fresh[:, 0] > 0,
        )  # fmt: skip


def _coding_order(height: int, width: int, slope: int) -> np.ndarray:
    """int32 [H * W]: pixels by step of the wavefront, then by row."""
    y, x = np.divmod(np.arange(height * width), width)
    return np.lexsort((y, slope * y + x)).astype(np.int32)


class Learnt(NamedTuple):
    """A layer of all copies: names of its parameters, and how it learns."""

    weight: str
    bias: str | None
    unit: Tensor  # float32 [K]: what one integer of an input is worth
    bias_input: Tensor  # [], integers
    rate: Tensor  # [], of the root mean square of a row; of a weight of 1 for the linear predictor


class Adapting(Trainer):
    """A trainer whose preset has an ``adaptation``: rate of learning, an index of online.rules.RATES."""

    validate_every = 20_000

    def _begin(self) -> None:
        assert isinstance(self.source, Patches)
        assert isinstance(self.preset.model, LocalConfig)
        self.model = self.preset.model
        patches, random = self.source, self.source.random
        self.layers = self._layers(patches)
        self.streams = Streams(self.model, patches.images, self.preset.batch, self.device, random)
        self.names = list(dict(self.net.named_parameters()))
        self.copies, self.squares, self.counts = self._copy(self.net, self.preset.batch)
        self.slot_bits, self.learn = _slot_bits, _learn
        if self.compiled:
            self.slot_bits = torch.compile(_slot_bits, dynamic=False)
            self.learn = torch.compile(_learn, dynamic=False)
        held_out = [batch.images[0] for batch in self.validation]
        self.held_out = lambda: Streams(self.model, held_out, len(held_out), self.device, None)

    def _layers(self, patches: Patches) -> list[Learnt]:
        assert self.preset.adaptation is not None
        c, step, size = self.model, RATES[self.preset.adaptation] / 2**RATE_BITS, patches.size
        seen = [(torch.from_numpy(patches.batch(64).images), size, size) for _ in range(CALIBRATED)]
        cpu = type(self.net)(c)
        cpu.load_state_dict({name: value.cpu() for name, value in self.net.state_dict().items()})
        peaks = local_freeze.activation_peaks(cpu, seen)
        found = local_freeze.spread_units({str(k): peak for k, peak in enumerate(peaks)}, EVENNESS)
        units = [torch.from_numpy(unit).float().to(self.device) for unit in found.values()]
        ones = torch.ones(c.inputs, device=self.device)

        def learnt(name: str, bias: str | None, unit: Tensor, bias_input: int, rate: float) -> Learnt:
            # tensors: compiled code would be made anew for every number
            return Learnt(name, bias, unit, ones.new_tensor(bias_input), ones.new_tensor(rate))

        near = ones[: c.channels * c.neighbours]
        layers = [
            learnt("first", "first_bias", ones * INPUT_UNIT, FIRST_UNIT, step * LAYER_SHARES["first"] / 16),
            learnt("last", "last_bias", units[0], UNIT, step * LAYER_SHARES["last"] / 16),
            learnt("linear", None, near, 0, LINEAR_RATE / 2**RATE_BITS),
        ]
        for b in range(c.blocks):
            layers.append(learnt(f"up.{b}", f"up_bias.{b}", units[0], UNIT, step * LAYER_SHARES["up"] / 16))
            layers.append(learnt(f"down.{b}", f"down_bias.{b}", units[b + 1], UNIT, step * LAYER_SHARES["down"] / 16))
        return layers

    def _copy(self, net: nn.Module, slots: int) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        """Copies of a net's parameters, mean squares [slots, rows] of their gradients, steps [slots]."""
        copies = {
            name: p.detach()[None].expand(slots, *p.shape).clone().requires_grad_()
            for name, p in net.named_parameters()
        }
        squares = {layer.weight: copies[layer.weight].detach()[:, :, 0] * 0 for layer in self.layers}
        return copies, squares, torch.zeros(slots, device=self.device)

    def load_extra(self, state: dict[str, Any]) -> None:
        """Copies are not kept: photographs begin anew, with the net of the checkpoint."""
        assert isinstance(self.source, Patches)
        self.layers = self._layers(self.source)
        self.streams.fresh[:] = True

    def train_step(self) -> Tensor:
        """One step of all copies and of the net."""
        factor = self.learning_rate()
        for optimiser, base in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = base * factor
        pixels = self.streams.next()
        net = dict(self.net.named_parameters())
        with torch.no_grad():
            if self.streams.begin:
                _restart(pixels.fresh, net, self.copies, self.squares, self.counts)
        loss = self.slot_bits(self.model, self.copies, pixels, self.dtype).mean() / self.model.channels
        loss.backward()
        before = {name: p.detach().clone() for name, p in net.items()}
        for name, p in net.items():
            p.grad = _grad(self.copies[name]).sum(0)
        for optimiser, _ in self.optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        with torch.no_grad():
            change = {name: p - before[name] for name, p in net.items()}
            self._learn(net, self.copies, self.squares, self.counts, change)
            decay = min(self.preset.ema, (1 + self.step) / (10 + self.step))
            torch._foreach_lerp_(list(self.ema.parameters()), list(self.net.parameters()), 1 - decay)
        self.step += 1
        if self.minutes is None:
            self.share = self.step / self.preset.steps
        return loss.detach()

    def _learn(self, net: dict[str, Tensor], copies: dict[str, Tensor], squares: dict[str, Tensor], counts: Tensor,
               change: dict[str, Tensor]) -> None:  # fmt: skip
        counts += 1
        for layer in self.layers:
            w, b = layer.weight, layer.bias
            bias = None if b is None else (copies[b], _grad(copies[b]), change[b])
            self.learn(
                copies[w], _grad(copies[w]), squares[w], counts, net[w].detach(), layer.unit, layer.rate,
                w == "linear", change[w], bias, layer.bias_input,
            )  # fmt: skip
        for copy in copies.values():
            copy.grad = None

    def average(self, whole: bool) -> dict[str, float]:
        """bpsp of the averaged net, learning, on as many pixels of every validation image as the smallest has."""
        streams, net = self.held_out(), {name: p.detach() for name, p in self.ema.named_parameters()}
        copies, squares, counts = self._copy(self.ema, len(streams.about))
        nothing = {name: torch.zeros_like(p) for name, p in net.items()}
        bits, steps = torch.zeros((), dtype=torch.float64, device=self.device), int(streams.about[:, 4].min()) // PIXELS
        for _ in range(steps):
            loss = self.slot_bits(self.model, copies, streams.next(), self.dtype).mean()
            (loss / self.model.channels).backward()
            with torch.no_grad():
                bits += loss.double() / self.model.channels / steps
                self._learn(net, copies, squares, counts, nothing)
        return {"bpsp": bits.item()}


def _grad(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def _restart(fresh: Tensor, net: dict[str, Tensor], copies: dict[str, Tensor], squares: dict[str, Tensor],
             counts: Tensor) -> None:  # fmt: skip
    """Copies of photographs that begin are the net itself."""
    for name, p in net.items():
        copy = copies[name]
        copy.copy_(torch.where(fresh.view(-1, *[1] * p.dim()), p, copy))
    for square in squares.values():
        square.masked_fill_(fresh[:, None], 0.0)
    counts.masked_fill_(fresh, 0.0)


def _slot_bits(c: LocalConfig, w: dict[str, Tensor], pixels: Pixels, dtype: torch.dtype) -> Tensor:
    """Bits of each pixel, float32 [M * P]: LocalNet.forward with weights of each slot's own."""

    def product(name: str, bias: str, x: Tensor) -> Tensor:
        return torch.baddbmm(w[bias].to(dtype)[:, :, None], w[name].to(dtype), x)

    def bent(x: Tensor) -> Tensor:
        return torch.maximum(x, x * SLOPE)  # leaky ReLU; compiled, that function takes four times as long

    x = pixels.features.to(dtype) * INPUT_UNIT
    h = bent(product("first", "first_bias", x))
    for b in range(c.blocks):
        inner = bent(product(f"up.{b}", f"up_bias.{b}", h))
        h = h + product(f"down.{b}", f"down_bias.{b}", inner)
    out = product("last", "last_bias", h).float().transpose(0, 1).reshape(c.outputs, -1)
    near = x[:, : c.channels * c.neighbours]
    linear = torch.bmm(w["linear"].to(dtype), near).float().transpose(0, 1).reshape(c.channels, -1) / INPUT_UNIT
    return mixture_bits(out, pixels.mean.float() + linear, pixels.target.float(), c.channels, c.mixtures)


def _learn(
    copy: Tensor, gradient: Tensor, square: Tensor, counts: Tensor, now: Tensor, unit: Tensor, rate: Tensor,
    absolute: bool, change: Tensor, bias: tuple[Tensor, Tensor, Tensor] | None, bias_input: Tensor,
) -> None:  # fmt: skip
    """online.spec.Learner of a layer [M, rows, K] of all copies, in units of the integers; moves all by ``change``.

    ``bias``: itself, its gradient and its change.
    """
    g = gradient / unit
    mean = g.square().mean(2)
    square += (mean - square) / counts.clamp_max(MEMORY)[:, None]
    root = torch.maximum(square, mean).sqrt().clamp_min(1e-20)
    step = rate.expand_as(root) if absolute else rate * (now * unit).square().mean(1).sqrt()[None]
    copy += change - (g / root[:, :, None]).clamp(-CLIP, CLIP) * step[:, :, None] / unit
    if bias is not None:
        own, slope, moves = bias
        own += moves - (slope * bias_input / root).clamp(-CLIP, CLIP) * step * bias_input
