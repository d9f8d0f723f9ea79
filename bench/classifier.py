# SPDX-License-Identifier: MIT
"""A small classifier of 32x32 images, whose features replace those of Inception (thesis, section 2.12.3).

python -m bench.classifier CIFAR -o runs/classifier.safetensors [--minutes 8 | --steps 2500] [--test test.webp]

    image 3x32x32 -> 12x16x16 -> width 0, 16x16 -> width 1, 8x8 -> width 2, 4x4 -> mean: the features -> classes
                   pixels of 2x2            '------ a strided and a residual convolution each ------'

Squares of 2x2 pixels become channels first, because convolutions at full resolution would take most of the time.  Muon
trains the filters and AdamW the rest, at rates that rise for a tenth of the steps and then fall to zero; images are
mirrored and shifted.  The result depends on the number of steps, the machine and the number of threads only.

Sets of images are mosaics of squares, such as ``name.webp``, with classes in ``name_labels.npy``.  In a folder only
mosaics named train* are used for training; their last images are held out.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click
import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn
from tqdm import tqdm

from gmcodec.errors import TrainingError
from gmcodec.files import write_then_rename
from gmcodec.training.data import TRAINING_PREFIX, load_squares
from gmcodec.training.muon import Muon

from . import HELD_OUT_IMAGES

SIDE = 32  # pixels, of the images
PREDICTION_BATCH = 500  # images at once without training
TIMED_STEPS = range(10, 50)  # steps on which speed is measured for --minutes; the first steps are slower
WARM_UP_FRACTION = 0.1  # of the steps, during which rates rise


@dataclass(frozen=True)
class Recipe:
    """An architecture and its training.  ``shift``: pixels; ``smoothing``: of labels."""

    classes: int = 10
    widths: tuple[int, ...] = (24, 48, 96)
    steps: int = 2_500
    batch: int = 100
    muon_lr: float = 0.05
    muon_decay: float = 0.3
    adam_lr: float = 0.005
    smoothing: float = 0.1
    shift: int = 2
    seed: int = 0


class Filters(nn.Module):
    """A 3x3 convolution, then batch normalisation.  The filters are one matrix, as Muon needs them."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.matrix = nn.Parameter(torch.randn(outputs, inputs * 9) / (inputs * 9) ** 0.5)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.matrix.unflatten(1, (-1, 3, 3)).contiguous(memory_format=torch.channels_last)
        return self.norm(F.conv2d(x, weight, stride=self.stride, padding=1))


class Classifier(nn.Module):
    """The net that is drawn above: uint8 [N, 3, 32, 32] -> features and logits.

    ``accuracies``: those that its file contains, by the name of the set.
    """

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.accuracies: dict[str, float] = {}
        first, *others = recipe.widths
        self.stem = Filters(12, first)
        self.down = nn.ModuleList(Filters(a, b, stride=2) for a, b in zip(recipe.widths, others, strict=False))
        self.same = nn.ModuleList(Filters(width, width) for width in others)
        self.head = nn.Linear(recipe.widths[-1], recipe.classes)

    def embed(self, images: Tensor) -> Tensor:
        """Features, the input of the last layer: float32 [N, F], not negative."""
        x = F.pixel_unshuffle(images.float() / 64 - 2, 2).contiguous(memory_format=torch.channels_last)
        x = F.relu(self.stem(x))
        for down, same in zip(self.down, self.same, strict=True):
            x = F.relu(down(x))
            x = x + F.relu(same(x))
        return x.mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Logits, float32 [N, classes]."""
        return self.head(self.embed(images))

    @torch.no_grad()
    def features(self, images: np.ndarray) -> np.ndarray:
        """Features of uint8 [N, 3, 32, 32]: float32 [N, F]."""
        self.eval()
        found = [self.embed(torch.from_numpy(part)).numpy() for part in _parts(images)]
        return np.concatenate(found)

    @torch.no_grad()
    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Class probabilities of uint8 [N, 3, 32, 32]: float32 [N, classes], with rows that sum to one."""
        self.eval()
        found = [self(torch.from_numpy(part)).softmax(1).numpy() for part in _parts(images)]
        return np.concatenate(found)

    def accuracy(self, images: np.ndarray, labels: np.ndarray) -> float:
        """Fraction of uint8 [N, 3, 32, 32] whose most probable class is that in int [N]."""
        return float((self.probabilities(images).argmax(1) == labels).mean())


def _parts(images: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(images), PREDICTION_BATCH):
        yield np.ascontiguousarray(images[start : start + PREDICTION_BATCH])


# -- data ----------------------------------------------------------------------------------------------------------


def read_mosaics(path: Path, prefix: str = "") -> tuple[np.ndarray, np.ndarray | None]:
    """The images of a mosaic or of a folder of mosaics, uint8 [N, 3, 32, 32], and classes, int64 [N], if all have them.

    ``prefix``: of the names of mosaics in a folder.  Raises TrainingError.
    """
    found = load_squares(path, 3, SIDE, prefix=prefix)
    return found.images, found.labels


def batches(images: np.ndarray, labels: np.ndarray, recipe: Recipe) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches of images, mirrored and shifted at random, and their classes, in epochs."""
    random = np.random.default_rng(recipe.seed)
    s = recipe.shift
    padded = np.pad(images, ((0, 0), (0, 0), (s, s), (s, s)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, images.shape[2:], (2, 3))
    order = np.empty(0, np.int64)
    while True:
        while len(order) < recipe.batch:
            order = np.concatenate([order, random.permutation(len(images))])
        chosen, order = order[: recipe.batch], order[recipe.batch :]
        y, x = random.integers(2 * s + 1, size=(2, recipe.batch))
        picked = windows[chosen, :, y, x]
        mirrored = random.random(recipe.batch) < 0.5
        picked[mirrored] = picked[mirrored, :, :, ::-1]
        yield torch.from_numpy(picked), torch.from_numpy(labels[chosen])


# -- training ------------------------------------------------------------------------------------------------------


def train(
    images: np.ndarray, labels: np.ndarray, recipe: Recipe, minutes: float | None = None, progress: bool = False
) -> Classifier:
    """Train a net to classify uint8 [N, 3, 32, 32] by int64 [N] classes.  Raises TrainingError.

    With ``minutes`` the speed of some steps determines the number of steps, which is then in the net's recipe.
    """
    if len(images) != len(labels) or not len(images) or labels.max() >= recipe.classes:
        raise TrainingError(f"cannot learn {recipe.classes} classes from {len(images)} images, {len(labels)} labels")
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        net = Classifier(recipe).train()
    hidden = [p for name, p in net.named_parameters() if name.endswith("matrix")]
    rest = [p for name, p in net.named_parameters() if not name.endswith("matrix")]
    optimisers: list[tuple[torch.optim.Optimizer, float]] = [
        (Muon(hidden, lr=recipe.muon_lr, weight_decay=recipe.muon_decay), recipe.muon_lr),
        (torch.optim.AdamW(rest, lr=recipe.adam_lr, weight_decay=0.0), recipe.adam_lr),
    ]
    source = batches(images, labels, recipe)
    bar = tqdm(total=None if minutes else recipe.steps, unit="step", disable=not progress)
    step = 0
    begun = timed = time.monotonic()
    while step < recipe.steps:
        if minutes and step == TIMED_STEPS.start:
            timed = time.monotonic()
        if minutes and step == TIMED_STEPS.stop:
            now = time.monotonic()
            left = int((60 * minutes - (now - begun)) * len(TIMED_STEPS) / (now - timed))
            recipe = net.recipe = replace(recipe, steps=step + max(1, left))
        warm = max(1.0, WARM_UP_FRACTION * recipe.steps)
        factor = min((step + 1) / warm, (recipe.steps - step) / (recipe.steps - warm + 1))
        for optimiser, base in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = base * factor
        batch, classes = next(source)
        loss = F.cross_entropy(net(batch), classes, label_smoothing=recipe.smoothing)
        loss.backward()
        for optimiser, _ in optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        step += 1
        bar.update()
        if step % 50 == 0:
            bar.set_postfix_str(f"of {recipe.steps}, loss {loss.item():.3f}")
    bar.close()
    if not np.isfinite(loss.item()):
        raise TrainingError("the loss is not finite; train with lower rates")
    return net.eval()


# -- files ---------------------------------------------------------------------------------------------------------


def save(net: Classifier, path: Path) -> None:
    """Write weights in half precision, the recipe and the accuracies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {
        name: tensor.half().contiguous() for name, tensor in net.state_dict().items() if tensor.is_floating_point()
    }
    metadata = {"recipe": json.dumps(asdict(net.recipe)), "accuracies": json.dumps(net.accuracies)}
    with write_then_rename(path) as file:
        file.write(to_safetensors(state, metadata))


def load(path: Path) -> Classifier:
    """The net in a file, in float32, with its accuracies.  Raises TrainingError."""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name).float() for name in file.keys()}
        recipe = json.loads(metadata["recipe"])
        net = Classifier(Recipe(**recipe | {"widths": tuple(recipe["widths"])}))
        net.accuracies = json.loads(metadata["accuracies"])
        kept = {name for name, tensor in net.state_dict().items() if tensor.is_floating_point()}
        if kept != state.keys():
            raise TrainingError(f"{path} lacks {sorted(kept ^ state.keys())}")
        net.load_state_dict(state, strict=False)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise TrainingError(f"{path} is not a classifier: {error}") from error
    return net.eval()


@click.command()
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path), required=True)
@click.option("--steps", type=click.IntRange(1), help=f"Training steps; default: {Recipe.steps}.")
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="Train for this time instead.")
@click.option(
    "--held-out",
    type=click.IntRange(1),
    default=HELD_OUT_IMAGES,
    show_default=True,
    help="Hold out the last images of DATA.",
)
@click.option("--test", type=click.Path(exists=True, path_type=Path), help="Mosaics on which the accuracy is measured.")
@click.option("--seed", default=Recipe.seed, show_default=True)
@click.option("--force", is_flag=True, help="Overwrite the output.")
def main(
    data: Path, out: Path, steps: int | None, minutes: float | None, held_out: int, test: Path | None, seed: int,
    force: bool,
) -> None:  # fmt: skip
    """Train a classifier on the labelled mosaics in DATA (in a folder: those named train*)."""
    if steps and minutes:
        raise click.UsageError("either --steps or --minutes")
    if out.exists() and not force:
        raise click.ClickException(f"{out} exists; --force overwrites it")
    try:
        images, labels = read_mosaics(data, TRAINING_PREFIX)
        tested = {} if test is None else {"test": read_mosaics(test)}
        if labels is None or any(classes is None for _, classes in tested.values()):
            raise TrainingError(f"there are mosaics without *_labels.npy in {data if labels is None else test}")
        if len(images) <= held_out:
            raise TrainingError(f"cannot hold out {held_out} of {len(images)} images")
        recipe = replace(Recipe(), steps=steps or Recipe.steps, seed=seed)
        begun = time.monotonic()
        net = train(images[:-held_out], labels[:-held_out], recipe, minutes, progress=True)
        seconds = time.monotonic() - begun
        save(net, out)
        net = load(out)  # so that the saved weights are measured
        for name, (found, classes) in ({"held out": (images[-held_out:], labels[-held_out:])} | tested).items():
            assert classes is not None
            net.accuracies[name] = net.accuracy(found, classes)
            click.echo(f"{name:8} {net.accuracies[name]:.2%} of {len(found)} images")
        save(net, out)
    except TrainingError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{net.recipe.steps} steps of {net.recipe.batch} images, {seconds:.0f} s; {out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
