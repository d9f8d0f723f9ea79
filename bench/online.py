# SPDX-License-Identifier: MIT
"""Measure the gain of a local net that learns from the image it codes, after steps of the wavefront, in floats.

python -m bench.online PHOTOS/val --float float-weights/local-rgb.safetensors all:adam:1e-4 last:adam:3e-4

The decoder knows everything that the net learns from, so an exact integer version can gain as much at best.  Nothing is
sent, and nothing is fitted beforehand.  A variant is WHAT:HOW:RATE.

    WHAT   ``bias`` (of the last layer, and the linear predictor), ``last`` (its matrix too) or ``all``
    HOW    ``adam``, ``sgd``, ``sign`` (the gradient's sign), ``mat`` or ``row`` (the gradient divided by its root mean
           square, of a matrix or of a row)
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from pathlib import Path

import click
import numpy as np
import torch
from torch import nn

from gmcodec.coding.autoregressive import wavefront
from gmcodec.exact.rmsprop import SQUARE_MEMORY
from gmcodec.models.local.float import LocalNet
from gmcodec.training.data import load_folder, pad
from gmcodec.training.nets import load_whole

VARIANT = re.compile(r"(bias|last|all):(adam|sgd|sign|mat|row):\d*\.?\d+(e-?\d+)?")
# The gradient is that of the sum over a step's pixels, divided by this and not by their number.
GRADIENT_DIVISOR = 150


class Normalised(torch.optim.Optimizer):
    """Steps of a given size: by the sign of the gradient, or by the gradient divided by its root mean square."""

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, how: str) -> None:
        super().__init__(parameters, {"lr": lr})
        self.how, self.count = how, 0

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        self.count += 1
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                if self.how == "sign":
                    p.sub_(p.grad.sign(), alpha=group["lr"])
                    continue
                square = p.grad.square().mean(None if self.how == "mat" else -1, keepdim=True)
                kept = self.state[p].setdefault("square", square.clone())
                kept.lerp_(square, 1 / min(self.count, SQUARE_MEMORY))
                p.addcdiv_(p.grad, kept.sqrt() + 1e-12, value=-group["lr"])


def parameters(net: LocalNet, what: str) -> list[nn.Parameter]:
    """The parameters that learn."""
    if what == "all":
        return [p for name, p in net.named_parameters() if not name.startswith("condition")]
    return [net.last_bias, net.linear, *([net.last] if what == "last" else [])]


def optimiser(learned: list[nn.Parameter], how: str, rate: float) -> torch.optim.Optimizer:
    if how == "adam":
        return torch.optim.Adam(learned, lr=rate, betas=(0.9, 0.99))
    return torch.optim.SGD(learned, lr=rate) if how == "sgd" else Normalised(learned, rate, how)


def rate(weights: Path, image: np.ndarray, variant: str | None, interval: int = 1) -> float:
    """Bits per sample of uint8 [C, H, W] under a net that learns after every ``interval`` steps.

    Without ``variant`` the net does not learn.
    """
    net = load_whole([weights])
    channels, height, width = image.shape
    with torch.no_grad():
        features, mean = net.features(torch.from_numpy(pad(image, net.config.reach)[None]), height, width)
        features, mean = features.float(), mean.float()
    target = torch.from_numpy(image.reshape(channels, -1)).float()
    what, how, size = variant.split(":") if variant else ("bias", "sgd", "0")
    learned = parameters(net, what)
    for p in net.parameters():
        p.requires_grad_(any(p is q for q in learned))
    update, total = optimiser(learned, how, float(size)), 0.0
    order, starts = wavefront(height, width, net.config.slope)
    for number, (first, last) in enumerate(itertools.pairwise(starts), 1):
        step = torch.from_numpy(order[first:last])
        out, linear = net(features[:, step])
        bits = net.mixture(out, mean[:, step] + linear, target[:, step], channels, net.config.mixtures).sum()
        total += bits.item()
        if variant:
            (bits / GRADIENT_DIVISOR).backward()
            if number % interval == 0:
                update.step()
                update.zero_grad()
    return total / image.size


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("variants", nargs=-1, required=True)
@click.option("--float", "weights", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--every", default=6, show_default=True, help="Take every Nth photograph of the folder.")
@click.option(
    "--size", type=(int, int), default=(256, 384), show_default=True, help="Rows and columns of their central part."
)
@click.option("--interval", default=1, show_default=True, help="Steps of the wavefront between two updates.")
def main(
    folder: Path, variants: tuple[str, ...], weights: Path, every: int, size: tuple[int, int], interval: int
) -> None:
    """Print the rate of each photograph's central part without learning, and its change in percent by variant."""
    for variant in variants:
        if not VARIANT.fullmatch(variant):
            raise click.UsageError(f"{variant} is not bias, last or all : adam, sgd, sign, mat or row : a rate")
    torch.set_num_threads(1)
    channels = load_whole([weights]).config.channels
    rates = []
    for image in load_folder(folder, channels)[::every]:
        y, x = (max(0, (have - want) // 2) for have, want in zip(image.shape[1:], size, strict=True))
        part = np.ascontiguousarray(image[:, y : y + size[0], x : x + size[1]])
        rates.append([rate(weights, part, variant, interval) for variant in (None, *variants)])
        click.echo(line("x".join(map(str, part.shape[1:])), variants, rates[-1]))
    click.echo(line(f"mean of {len(rates)}", variants, np.mean(rates, 0).tolist()))


def line(name: str, variants: tuple[str, ...], rates: list[float]) -> str:
    changes = (f"{v} {100 * (r / rates[0] - 1):+.2f} %" for v, r in zip(variants, rates[1:], strict=True))
    return f"{name}: {rates[0]:.4f} bpsp, {', '.join(changes)}"


if __name__ == "__main__":
    main()
