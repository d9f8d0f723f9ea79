# SPDX-License-Identifier: MIT
"""Draw samples of float flows or VAEs as mosaics, for ``bench.quality``.

python -m bench.draw runs/ade/*/float.safetensors -o runs/samples --count 5000

Each WEIGHTS file gives ``NAME.png``, with the name of its folder.  If the net depends on classes, all classes have the
same number of samples, and ``NAME_labels.npy`` holds the labels.  ``gmcodec sample`` draws with frozen models.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import torch
from PIL import Image

from gmcodec.errors import GmcError
from gmcodec.models.ade.float import Ade
from gmcodec.training.nets import load_whole, read_side

DRAW_BATCH = 100


@torch.no_grad()
def draw(net: Ade, count: int, side: int, deviation: float) -> tuple[np.ndarray, np.ndarray | None]:
    """Samples uint8 [count, C, side, side], and their classes int64 [count] if the net depends on classes."""
    classes = net.config.classes
    labels = torch.arange(count) % classes if classes else None
    drawn = []
    for start in range(0, count, DRAW_BATCH):
        condition = {} if labels is None else {"labels": labels[start : start + DRAW_BATCH]}
        grey = net.sample(min(DRAW_BATCH, count - start), side, side, deviation, **condition)
        drawn.append(grey.floor().clamp(0, 255).to(torch.uint8).numpy())  # grey level plus noise below 1
    return np.concatenate(drawn), None if labels is None else labels.numpy()


def variety(squares: np.ndarray, labels: np.ndarray | None) -> float:
    """Standard deviation between samples of a class, averaged over values, in grey levels."""
    groups = [squares] if labels is None else [squares[labels == label] for label in np.unique(labels)]
    return float(np.mean([group.std(0).mean() for group in groups]))


def mosaic(squares: np.ndarray, columns: int) -> Image.Image:
    """Squares uint8 [N, C, side, side] edge to edge, row by row."""
    count, channels, side, _ = squares.shape
    page = squares.reshape(count // columns, columns, channels, side, side).transpose(0, 3, 1, 4, 2)
    return Image.fromarray(np.ascontiguousarray(page.reshape(-1, columns * side, channels)))


@click.command()
@click.argument("weights", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="A folder.")
@click.option("--count", type=click.IntRange(1), default=5000, show_default=True, help="Samples of each net.")
@click.option("--columns", type=click.IntRange(1), default=100, show_default=True, help="Samples in a row.")
@click.option("--deviation", default=1.0, show_default=True, help="Factor of the features' deviation; 0: their means.")
@click.option("--seed", default=0, show_default=True)
def main(weights: tuple[Path, ...], out: Path, count: int, columns: int, deviation: float, seed: int) -> None:
    """Draw from float WEIGHTS."""
    if count % columns:
        raise click.UsageError(f"{count} samples do not fill rows of {columns}")
    names = [path.resolve().parent.name for path in weights]
    if len(set(names)) < len(names):
        raise click.UsageError("two folders of the same name")
    out.mkdir(parents=True, exist_ok=True)
    for name, path in zip(names, weights, strict=True):
        try:
            net, side = load_whole([path]).eval(), read_side(path)
        except GmcError as error:
            raise click.ClickException(str(error)) from error
        if not isinstance(net, Ade):
            raise click.UsageError(f"{path} holds no flow")
        torch.manual_seed(seed)
        squares, labels = draw(net, count, side, deviation)
        mosaic(squares, columns).save(out / f"{name}.png")
        if labels is not None:
            np.save(out / f"{name}_labels.npy", labels)
        each = "from sample to sample" + ("" if labels is None else " of a class")
        click.echo(f"{out / name}.png: {count} samples; values deviate by {variety(squares, labels):.1f} {each}")


if __name__ == "__main__":
    main()
