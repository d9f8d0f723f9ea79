# SPDX-License-Identifier: MIT
"""Images in memory and batches of them: patches of photographs, or small images whole.

A local net learns from patches cut with the pixels its window reaches (r rows above, r columns on both sides),
of which only the inner square is scored: without that margin border effects would dominate the loss.

Sets of small images come as mosaics: files that hold squares of one size, edge to edge.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..errors import TrainingError
from ..models.agave import AgaveConfig
from ..models.local import LocalConfig
from ..models.window import OUTSIDE
from .presets import ModelConfig, Preset

SUFFIXES = {".png", ".webp", ".tif", ".tiff", ".bmp", ".ppm"}  # lossless containers; JPEG is left out on purpose
TRAINING_MOSAICS = "train"  # how names start: a folder may hold the test set too, which must never be learned from
CENTRE = 96  # side of the squares of photographs on which training is validated
CHUNK = 100  # small images evaluated at once when validating
GLIMPSE = 500  # small images on which a run is watched; all that are held out count at its end


class Source(Protocol):
    """An endless source of training batches whose whole state is one random generator."""

    random: np.random.Generator

    def batch(self, count: int) -> np.ndarray:
        """The next images, in the form that the net's ``bits`` takes."""


def load_folder(path: Path, channels: int, progress: bool = False, prefix: str = "") -> list[np.ndarray]:
    """Images below a folder, or of one file, as uint8 [C, H, W], sorted by name; grey is Pillow's "L" conversion.

    ``prefix``: how names must start, unless the file itself is given.
    """
    path = Path(path)
    found = [path] if path.is_file() else sorted(
        p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.name.startswith(prefix)
    )  # fmt: skip
    if not found:
        kind = f"{prefix}* " if prefix else ""
        raise TrainingError(f"no images ({kind}{', '.join(sorted(SUFFIXES))}) below {path}")
    images = []
    for file in tqdm(found, desc="reading", unit="image", disable=not progress):
        try:
            with Image.open(file) as image:
                pixels = np.asarray(image.convert("RGB" if channels == 3 else "L"))
        except OSError as error:
            raise TrainingError(f"{file} is not an image: {error}") from error
        images.append(np.ascontiguousarray(pixels.reshape(*pixels.shape[:2], channels).transpose(2, 0, 1)))
    return images


def cut(mosaic: np.ndarray, side: int) -> np.ndarray:
    """The squares of a mosaic uint8 [C, H, W], row by row: uint8 [N, C, side, side].  Raises TrainingError."""
    c, h, w = mosaic.shape
    if h % side or w % side:
        raise TrainingError(f"a mosaic of {w}x{h} pixels does not consist of squares of {side}x{side}")
    return mosaic.reshape(c, h // side, side, w // side, side).transpose(1, 3, 0, 2, 4).reshape(-1, c, side, side)


def pad(image: np.ndarray, reach: int) -> np.ndarray:
    """uint8 [C, H, W] -> int16 [C, H + r, W + 2r] with OUTSIDE above, left and right."""
    return np.pad(image.astype(np.int16), ((0, 0), (reach, 0), (reach, reach)), constant_values=OUTSIDE)


def centre(image: np.ndarray, size: int) -> np.ndarray:
    """The central size x size square of [C, H, W], or less where the image is smaller."""
    h, w = image.shape[1:]
    y, x = max(0, (h - size) // 2), max(0, (w - size) // 2)
    return image[:, y : y + size, x : x + size]


def load(
    preset: Preset, data: Path, validation: Path | int, progress: bool = False
) -> tuple[Source, list[np.ndarray], int]:
    """The training batches of a preset, its validation batches, and how many of those to watch a run by.

    ``data``: a file or a folder; of a folder with mosaics only files named train* are read.  ``validation``: a file, a
    folder, or a number of images, the last ones, to hold out from ``data``.  Raises TrainingError.
    """
    model = preset.model
    local = local_config(model)

    def read(path: Path, prefix: str) -> list[np.ndarray]:
        images = load_folder(path, model.channels, progress, prefix)
        return images if local else list(np.concatenate([cut(i, preset.patch) for i in images]))

    images = read(data, "" if local else TRAINING_MOSAICS)
    if isinstance(validation, int):
        if not 0 < validation < len(images):
            raise TrainingError(f"cannot hold out {validation} of {len(images)} images")
        images, held_out = images[:-validation], images[-validation:]
    else:
        held_out = read(validation, "")
    if local:
        batches = [pad(centre(i, CENTRE), local.reach)[None] for i in held_out]
        return Patches(images, preset.patch, local.reach, preset.seed), batches, len(batches)
    batches = [np.stack(held_out[i : i + CHUNK]) for i in range(0, len(held_out), CHUNK)]
    return Squares(images, preset.seed), batches, GLIMPSE // CHUNK


def local_config(model: ModelConfig) -> LocalConfig | None:
    """The local net in an architecture, if there is one: it learns from padded patches of photographs."""
    decoder = model.decoder if isinstance(model, AgaveConfig) else model
    return decoder if isinstance(decoder, LocalConfig) else None


class Squares:
    """Small images of one size, drawn at random, half of them mirrored."""

    def __init__(self, images: Iterable[np.ndarray], seed: int) -> None:
        self.images = np.stack(list(images))
        self.random = np.random.default_rng(seed)

    def batch(self, count: int) -> np.ndarray:
        """uint8 [count, C, side, side]."""
        out = self.images[self.random.integers(len(self.images), size=count)]
        mirrored = self.random.random(count) < 0.5
        out[mirrored] = out[mirrored, :, :, ::-1]
        return out


class Patches:
    """Random training patches with their causal margin.

    A share of the patches pretends that its upper or left edge is the image's edge, so that the net
    also learns the rare pixels without a full window (image and tile borders).
    """

    def __init__(self, images: list[np.ndarray], size: int, reach: int, seed: int, edges: float = 0.06) -> None:
        self.size, self.reach, self.edges = size, reach, edges
        self.images = [pad(i, reach) for i in images if min(i.shape[1:]) >= size]
        if not self.images:
            raise TrainingError(f"no image is at least {size}x{size} pixels")
        area = np.array([i.shape[1] * i.shape[2] for i in self.images], float)
        self.share = area / area.sum()
        self.random = np.random.default_rng(seed)

    def batch(self, count: int) -> np.ndarray:
        """int16 [count, C, size + r, size + 2r]."""
        size, r = self.size, self.reach
        out = np.empty((count, self.images[0].shape[0], size + r, size + 2 * r), np.int16)
        for row, chosen in zip(out, self.random.choice(len(self.images), count, p=self.share), strict=True):
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
        return out
