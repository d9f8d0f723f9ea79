# SPDX-License-Identifier: MIT
"""Images in memory and batches of them: patches of photographs, or small images whole.

A local net learns from patches with a margin, the pixels that its window reaches: r rows above, r columns on both
sides.  Only the inner square is scored, because otherwise border effects would dominate the loss.

Sets of small images come as mosaics: files that hold squares of one size, edge to edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image
from tqdm import tqdm

from gmcodec.errors import TrainingError
from gmcodec.models.ade.config import AdeConfig
from gmcodec.models.agave.config import AgaveConfig
from gmcodec.models.local.config import LocalConfig
from gmcodec.models.shared.window import OUTSIDE
from gmcodec.training.presets import ModelConfig, Preset

LOSSLESS_SUFFIXES = {
    ".png",
    ".webp",
    ".tif",
    ".tiff",
    ".bmp",
    ".ppm",
}  # artefacts of JPEG must not be learned
TRAINING_PREFIX = "train"  # of the names of training mosaics: the same folder may hold the test set
VALIDATION_SIDE = 96  # side of the central square of each validation photograph, pixels
META_VALIDATION_SIDE = 256  # ... for nets that learn from the image
VALIDATION_BATCH = 100  # small images evaluated at once
QUICK_VALIDATION_IMAGES = 500  # small images on which a run is validated before its end


@dataclass(frozen=True)
class Batch:
    """Images in the form that a net's ``bits`` takes, and classes, int64 [N], if the net depends on them.

    Sources give numpy arrays, the training loop turns them into tensors.
    """

    images: Any
    labels: Any = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def condition(self) -> dict[str, Any]:
        """Keyword arguments of a net's ``bits`` beside the images."""
        return {} if self.labels is None else {"labels": self.labels}

    def part(self, chosen: slice | np.ndarray) -> Batch:
        """The images, and their labels, at these indices."""
        return Batch(self.images[chosen], None if self.labels is None else self.labels[chosen])

    def of_class(self, label: int) -> Batch:
        """The images of one class.  Raises TrainingError if there are none."""
        if self.labels is None or not (found := self.labels == label).any():
            raise TrainingError(f"no images of class {label}")
        return self.part(found)


class Source(Protocol):
    """An endless source of training batches whose whole state is one random generator."""

    random: np.random.Generator

    def batch(self, count: int) -> Batch:
        """The next ``count`` images."""


def find_images(path: Path, prefix: str = "") -> list[Path]:
    """``path`` if it is a file, else the images in and below the folder whose names start with ``prefix``, sorted.

    Raises TrainingError if there are none.
    """
    path = Path(path)
    found = [path] if path.is_file() else sorted(
        p for p in path.rglob("*") if p.suffix.lower() in LOSSLESS_SUFFIXES and p.name.startswith(prefix)
    )  # fmt: skip
    if not found:
        kind = f"{prefix}* " if prefix else ""
        raise TrainingError(f"no images ({kind}{', '.join(sorted(LOSSLESS_SUFFIXES))}) below {path}")
    return found


def read_labels(mosaic: Path, count: int) -> np.ndarray | None:
    """Classes, int64 [count], of the squares of a mosaic from the file ``name_labels.npy`` beside it, or None.

    Raises TrainingError if that file exists and does not fit.
    """
    path = mosaic.with_name(f"{mosaic.stem}_labels.npy")
    if not path.exists():
        return None
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise TrainingError(f"{path} is not an array: {error}") from error
    if found.shape != (count,) or found.dtype.kind not in "iu" or found.min() < 0:
        raise TrainingError(f"{path} should hold {count} classes, not {found.dtype} {list(found.shape)}")
    return found.astype(np.int64)


def load_squares(path: Path, channels: int, side: int, progress: bool = False, prefix: str = "") -> Batch:
    """All squares of mosaics, uint8 [N, C, side, side], and their classes if all mosaics have them.

    Raises TrainingError.
    """
    files = find_images(path, prefix)
    parts = [cut(mosaic, side) for mosaic in _read(files, channels, progress)]
    labels = [found for f, part in zip(files, parts, strict=True) if (found := read_labels(f, len(part))) is not None]
    return Batch(np.concatenate(parts), np.concatenate(labels) if len(labels) == len(parts) else None)


def load_folder(path: Path, channels: int, progress: bool = False) -> list[np.ndarray]:
    """The image of a file, or all in and below a folder sorted by name, as uint8 [C, H, W] each.

    With one channel, colours become grey as in Pillow's mode "L".  Raises TrainingError.
    """
    return _read(find_images(path), channels, progress)


def _read(files: Sequence[Path], channels: int, progress: bool) -> list[np.ndarray]:
    images = []
    for file in tqdm(files, desc="reading", unit="image", disable=not progress):
        try:
            with Image.open(file) as image:
                pixels = np.asarray(image.convert("RGB" if channels == 3 else "L"))
        except OSError as error:
            raise TrainingError(f"{file} is not an image: {error}") from error
        images.append(np.ascontiguousarray(pixels.reshape(*pixels.shape[:2], channels).transpose(2, 0, 1)))
    return images


def cut(mosaic: np.ndarray, side: int) -> np.ndarray:
    """The squares of a mosaic, row by row: uint8 [C, H, W] -> uint8 [N, C, side, side].  Raises TrainingError."""
    c, h, w = mosaic.shape
    if h % side or w % side:
        raise TrainingError(f"a mosaic of {w}x{h} pixels does not consist of squares of {side}x{side}")
    return mosaic.reshape(c, h // side, side, w // side, side).transpose(1, 3, 0, 2, 4).reshape(-1, c, side, side)


def pad(image: np.ndarray, reach: int) -> np.ndarray:
    """uint8 [C, H, W] -> int16 [C, H + r, W + 2r] with OUTSIDE above, left and right."""
    return np.pad(image.astype(np.int16), ((0, 0), (reach, 0), (reach, reach)), constant_values=OUTSIDE)


def centre(image: np.ndarray, size: int) -> np.ndarray:
    """The central square of ``size`` pixels of an image [C, H, W]; less if the image is smaller."""
    h, w = image.shape[1:]
    y, x = max(0, (h - size) // 2), max(0, (w - size) // 2)
    return image[:, y : y + size, x : x + size]


def load_photographs(
    channels: int, data: Path, validation: Path | int, progress: bool = False
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Photographs for training and for validation, uint8 [C, H, W] each; arguments as in ``load``.

    Raises TrainingError.
    """
    photographs = load_folder(data, channels, progress)
    if not isinstance(validation, int):
        return photographs, load_folder(validation, channels, progress)
    begin = _held_out(len(photographs), validation)
    return photographs[:begin], photographs[begin:]


def load(
    preset: Preset, data: Path, validation: Path | int, progress: bool = False, label: int | None = None
) -> tuple[Source, list[Batch], int]:
    """The source of training batches of a preset, its validation batches, and how many of them a quick validation uses.

    data        a file or a folder; in a folder of mosaics only files named train* are read
    validation  a file, a folder, or how many of the last images of ``data`` to hold out
    label       for a net that depends on classes: use images of this class only

    Raises TrainingError.
    """
    model = preset.model
    if local := local_config(model):
        side = VALIDATION_SIDE if preset.adaptation is None else META_VALIDATION_SIDE
        photographs, others = load_photographs(model.channels, data, validation, progress)
        batches = [Batch(pad(centre(i, side), local.reach)[None]) for i in others]
        return Patches(photographs, preset.patch, local.reach, preset.seed), batches, len(batches)
    squares = load_squares(data, model.channels, preset.patch, progress, TRAINING_PREFIX)
    if isinstance(validation, int):
        begin = _held_out(len(squares), validation)
        squares, held_out = squares.part(slice(begin)), squares.part(slice(begin, None))
    else:
        held_out = load_squares(validation, model.channels, preset.patch, progress)
    classes = model.classes if isinstance(model, AdeConfig) else 0
    squares, held_out = (_classed(part, classes) for part in (squares, held_out))
    if label is not None:
        squares, held_out = squares.of_class(label), held_out.of_class(label)
    batches = [held_out.part(slice(i, i + VALIDATION_BATCH)) for i in range(0, len(held_out), VALIDATION_BATCH)]
    return Squares(squares, preset.seed), batches, QUICK_VALIDATION_IMAGES // VALIDATION_BATCH


def _held_out(count: int, last: int) -> int:
    """Index of the first held-out image, of which there are ``last``.  Raises TrainingError."""
    if not 0 < last < count:
        raise TrainingError(f"cannot hold out {last} of {count} images")
    return count - last


def _classed(batch: Batch, classes: int) -> Batch:
    """The batch with its labels if a net has classes, without if not.  Raises TrainingError if labels are missing."""
    if not classes:
        return Batch(batch.images)
    if batch.labels is None or batch.labels.max() >= classes:
        raise TrainingError(f"a net of {classes} classes needs a *_labels.npy with 0..{classes - 1} beside each mosaic")
    return batch


def local_config(model: ModelConfig) -> LocalConfig | None:
    """The local net that an architecture is or contains, or None.  It learns from padded patches of photographs."""
    decoder = model.decoder if isinstance(model, AgaveConfig) else model
    return decoder if isinstance(decoder, LocalConfig) else None


class Squares:
    """Small images of one size, drawn at random, half of them mirrored."""

    def __init__(self, squares: Batch, seed: int) -> None:
        self.squares = squares
        self.random = np.random.default_rng(seed)

    def batch(self, count: int) -> Batch:
        """uint8 [count, C, side, side]."""
        drawn = self.squares.part(self.random.integers(len(self.squares), size=count))
        mirrored = self.random.random(count) < 0.5
        drawn.images[mirrored] = drawn.images[mirrored, :, :, ::-1]
        return drawn


class Patches:
    """Random training patches with their causal margin.

    A fraction ``edges`` of the patches is treated as if its upper or left edge were the image's edge, so that the net
    also learns the rare pixels without a full window, at borders of images and tiles.
    """

    def __init__(self, images: list[np.ndarray], size: int, reach: int, seed: int, edges: float = 0.06) -> None:
        self.size, self.reach, self.edges = size, reach, edges
        self.images = [pad(i, reach) for i in images if min(i.shape[1:]) >= size]
        if not self.images:
            raise TrainingError(f"no image is at least {size}x{size} pixels")
        area = np.array([i.shape[1] * i.shape[2] for i in self.images], float)
        self.probabilities = area / area.sum()  # all pixels of the set are drawn equally often
        self.random = np.random.default_rng(seed)

    def batch(self, count: int) -> Batch:
        """int16 [count, C, size + r, size + 2r], half of them mirrored."""
        size, r = self.size, self.reach
        out = np.empty((count, self.images[0].shape[0], size + r, size + 2 * r), np.int16)
        for row, chosen in zip(out, self.random.choice(len(self.images), count, p=self.probabilities), strict=True):
            image = self.images[chosen]
            y = self.random.integers(image.shape[1] - r - size + 1)
            x = self.random.integers(image.shape[2] - 2 * r - size + 1)
            row[:] = image[:, y : y + size + r, x : x + size + 2 * r]
            if self.random.random() < 0.5:
                row[:] = row[:, :, ::-1]
            if self.random.random() < self.edges:
                row[:, :r] = OUTSIDE
            if self.random.random() < self.edges:
                row[:, :, :r] = OUTSIDE
        return Batch(out)
