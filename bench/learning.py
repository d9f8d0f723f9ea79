# SPDX-License-Identifier: MIT
"""Measure the gain of models that learn while they code, in integers: by rate, with whole images or tiles.

python -m bench.learning PHOTOS/val --every 7 --model learning-rgb-fast --rate 4 --rate 5

Prints the model's estimate without learning (and without the fit that is sent in that case), and its change in percent
for each rate, an index of online.rules.RATES.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np

from gmcodec.coding import autoregressive
from gmcodec.coding.tiles import tile_shape, tiles
from gmcodec.models import registry
from gmcodec.models.online import rules
from gmcodec.models.online.model import OnlineModel
from gmcodec.progress import ignore
from gmcodec.training.data import load_folder


def bits(model: Any, image: np.ndarray, whole: bool) -> float:
    """The model's estimate for uint8 [C, H, W], bits; of one tile if ``whole``."""
    _, height, width = image.shape
    tile = (height, width) if whole else tile_shape(height, width)
    return sum(
        autoregressive.push_words(np.ascontiguousarray(image[None, :, y, x]), model, ignore)[1][0]
        for y, x in tiles(height, width, tile)
    )


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--model", "name", default="learning-rgb-fast", show_default=True)
@click.option("--rate", "rates", type=click.IntRange(0, len(rules.RATES) - 1), multiple=True,
              help="Of online.rules.RATES.  [default: the model's own]")  # fmt: skip
@click.option("--every", default=7, show_default=True, help="Take every so many photographs of the folder.")
@click.option("--whole", is_flag=True, help="One tile an image.")
@click.option("--averaged", is_flag=True, help="Code with means of the weights.")
def main(folder: Path, name: str, rates: tuple[int, ...], every: int, whole: bool, averaged: bool) -> None:
    """Print the change of the rate by learning."""
    loaded = registry.named(name)
    model = loaded.model
    if not isinstance(model, OnlineModel) or len(model.members) > 1:
        raise click.UsageError(f"{name} does not learn, or has several members")
    rates = rates or model.rates
    plain = model.members[0]
    learning = [OnlineModel(model.members, [rate], averaged) for rate in rates]
    totals, samples = np.zeros(1 + len(rates)), 0
    for image in load_folder(folder, model.channels)[::every]:
        found = np.array([bits(m, image, whole) for m in (plain, *learning)])
        click.echo(line("x".join(map(str, image.shape[1:])), rates, found / image.size))
        totals, samples = totals + found, samples + image.size
    click.echo(line("all", rates, totals / samples))


def line(name: str, rates: tuple[int, ...], found: np.ndarray) -> str:
    changes = (f"rate {r} {100 * (b / found[0] - 1):+.2f} %" for r, b in zip(rates, found[1:], strict=True))
    return f"{name}: {found[0]:.4f} bpsp, {', '.join(changes)}"


if __name__ == "__main__":
    main()
