# SPDX-License-Identifier: MIT
"""Photographs in memory, and random patches of them with their causal margin.

A patch is cut with the pixels its window reaches (r rows above, r columns on both sides) and only the
inner square is scored: without that margin border effects would dominate the loss.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..errors import TrainingError
from ..models.window import OUTSIDE

SUFFIXES = {".png", ".webp", ".tif", ".tiff", ".bmp", ".ppm"}  # lossless containers; JPEG is left out on purpose


def load_folder(folder: Path, channels: int, progress: bool = False) -> list[np.ndarray]:
    """All images below ``folder`` as uint8 [C, H, W], sorted by name; grey is Pillow's "L" conversion."""
    paths = sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in SUFFIXES)
    if not paths:
        raise TrainingError(f"no images ({', '.join(sorted(SUFFIXES))}) below {folder}")
    images = []
    for path in tqdm(paths, desc="reading", unit="image", disable=not progress):
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB" if channels == 3 else "L"))
        images.append(np.ascontiguousarray(pixels.reshape(*pixels.shape[:2], channels).transpose(2, 0, 1)))
    return images


def pad(image: np.ndarray, reach: int) -> np.ndarray:
    """uint8 [C, H, W] -> int16 [C, H + r, W + 2r] with OUTSIDE above, left and right."""
    return np.pad(image.astype(np.int16), ((0, 0), (reach, 0), (reach, reach)), constant_values=OUTSIDE)


def centre(image: np.ndarray, size: int) -> np.ndarray:
    """The central size x size square of [C, H, W], or less where the image is smaller."""
    h, w = image.shape[1:]
    y, x = max(0, (h - size) // 2), max(0, (w - size) // 2)
    return image[:, y : y + size, x : x + size]


class Patches:
    """An endless source of random training patches; its state is one random generator.

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
