# SPDX-License-Identifier: MIT
"""Plots, dialogs, textures: a file is never larger than the best lossless WebP of its pixels and 32 bytes."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from gmcodec import codec
from gmcodec.coding import conventional
from gmcodec.image.planes import Planes

MARGIN = 32
pytestmark = pytest.mark.usefixtures("toy_weights")


def plot(height: int, width: int, colours: int) -> np.ndarray:
    """Curves with soft edges on a grid, [H, W, 3]."""
    random, scale = np.random.default_rng(colours), 3
    page = Image.new("RGB", (width * scale, height * scale), "white")
    draw = ImageDraw.Draw(page)
    for y in range(0, height, 40):
        draw.line([(0, y * scale), (width * scale, y * scale)], "#ddd", scale)
    x = np.linspace(0, 1, 200)
    for _ in range(colours):
        y = 0.5 + 0.4 * np.sin(random.uniform(4, 20) * x + random.uniform(0, 6)) * random.uniform(0.3, 1)
        points = [(a * width * scale, b * height * scale) for a, b in zip(x, y, strict=True)]
        draw.line(points, tuple(random.integers(0, 230, 3).tolist()), 2 * scale)
    return np.asarray(page.resize((width, height), Image.Resampling.BOX))


def dialog(height: int, width: int) -> np.ndarray:
    """Lines of soft glyphs, frames, and buttons with a gradient, [H, W, 3]."""
    random = np.random.default_rng(1)
    page = np.full((height, width, 3), 236, np.uint8)
    glyphs = random.choice([0, 60, 110, 170, 236, 236, 236], (26, 9, 6)).astype(np.uint8)
    for top in range(8, height - 60, 16):
        for left in range(12, width - 20 - int(random.integers(width // 2)), 7):
            page[top : top + 9, left : left + 6] = glyphs[random.integers(26), :, :, None]
    for left in range(10, width - 90, 100):
        button = np.linspace(250, 205, 30).astype(np.uint8)[:, None, None] - np.array([12, 6, 0], np.uint8)
        page[height - 45 : height - 15, left : left + 80] = button
        page[height - 46, left : left + 80] = page[height - 15, left : left + 80] = (90, 100, 120)
    return page


def texture(height: int, width: int) -> np.ndarray:
    """Tiles of a picture of a few hundred colours, with holes, [H, W, 3]."""
    random = np.random.default_rng(2)
    palette = random.integers(0, 256, (400, 3)).astype(np.uint8)
    tile = palette[random.integers(0, 400, (32, 32))]
    page = np.tile(tile, (-(-height // 32), -(-width // 32), 1))[:height, :width]
    page[random.random((height, width)) < 0.02] = 0
    return page


def grain(height: int, width: int, colours: int) -> np.ndarray:
    """A rough surface of few colours, unlike their neighbours in value: WebP guesses the wrong transform."""
    random = np.random.default_rng(colours)
    y, x = np.mgrid[0:height, 0:width]
    wave = (np.sin(x / 30) + np.cos(y / 25) + 2) / 4 * (colours - 1)
    index = (wave + random.normal(0, colours / 40, wave.shape)).clip(0, colours - 1).astype(int)
    return np.sort(random.integers(0, 256, (colours, 3)), 0).astype(np.uint8)[index]


def icon(height: int, width: int) -> np.ndarray:
    """A shaded disc with soft edges, [H, W, 4]."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    inside = np.clip((0.9 - np.hypot(x, y)) * height / 4, 0, 1)
    shade = [(150 + 80 * np.round(20 * np.sin(2 * x + y + c)) / 20).astype(np.uint8) for c in range(3)]
    pixels = np.stack([*shade, (255 * inside).astype(np.uint8)], axis=-1)
    pixels[inside == 0] = 0
    return pixels


PICTURES = {
    "plot": lambda: plot(300, 400, 4),
    "plot of many colours": lambda: plot(260, 400, 40),
    "large plot": lambda: plot(800, 900, 3),
    "dialog": lambda: dialog(300, 420),
    "large dialog": lambda: dialog(900, 1200),
    "texture": lambda: texture(200, 260),
    "grain": lambda: grain(200, 240, 500),
    "grain of fewer colours": lambda: grain(160, 200, 300),
    "icon": lambda: icon(200, 220),
    "grey page": lambda: dialog(300, 400)[:, :, :1],
    "plot and texture": lambda: np.concatenate([plot(150, 256, 3), texture(100, 256)]),
}


def webp_bytes(pixels: np.ndarray) -> int:
    file = io.BytesIO()
    image = Image.fromarray(pixels.squeeze())
    image.save(file, "WEBP", lossless=True, quality=100, method=6, exact=True)
    return len(file.getvalue())


def planes_of(name: str) -> tuple[np.ndarray, Planes]:
    pixels = PICTURES[name]()
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[pixels.shape[2]]
    return pixels, Planes(np.ascontiguousarray(pixels.transpose(2, 0, 1)), mode)


SLOW = {"large dialog", "plot of many colours", "grain of fewer colours", "large plot", "plot"}


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in PICTURES])
def test_never_larger_than_webp(name: str) -> None:
    pixels, planes = planes_of(name)
    made = codec.encode_planes(planes)
    assert len(made.data) <= webp_bytes(pixels) + MARGIN
    assert codec.decode_planes(made.data) == planes
    assert len(codec.encode_planes(planes, effort="fast").data) >= len(made.data)


@pytest.mark.parametrize("name", ["plot", "dialog", "icon", "texture"])
def test_palettes_are_never_larger_but_for_the_palette(name: str) -> None:
    """The order of a palette, and what it holds beyond the colours in use, is kept; WebP keeps the colours only."""
    pixels = planes_of(name)[0]
    image = Image.fromarray(pixels.squeeze()).convert("RGB").quantize(200)
    planes = codec.to_planes(image)
    made = codec.encode_planes(planes)
    palette = sum(len(value) for _, value in planes.metadata)
    assert len(made.data) <= webp_bytes(np.asarray(image.convert("RGB"))) + palette + MARGIN


def test_what_slow_settings_are_for() -> None:
    planes = planes_of("grain")[1].data
    sizes = {effort: len(conventional.encode(planes, 8, effort)[1]) for effort in ("fast", "best")}
    assert sizes["best"] < 0.85 * sizes["fast"] < conventional.quick_size(planes, 8)
    assert conventional.has_few_colours(planes)
    assert not conventional.has_few_colours(planes[:1])
    noise = np.random.default_rng(0).integers(0, 256, (3, 200, 260), dtype=np.uint8)
    assert not conventional.has_few_colours(noise)


def test_slow_settings_are_not_tried_for_photographs(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    real = conventional._encode_webp
    monkeypatch.setattr(conventional, "_encode_webp", lambda planes, q, m: tried.append((q, m)) or real(planes, q, m))
    y, x = np.mgrid[0:600, 0:600]
    wave = 128 + 60 * np.sin(x / 40) + 40 * np.cos(y / 23) + np.random.default_rng(0).normal(0, 6, (3, 600, 600))
    photograph = np.clip(wave, 0, 255).astype(np.uint8)
    conventional.encode(photograph, 8, "best")
    assert (100, 6) not in tried  # too large
    tried.clear()
    conventional.encode(photograph[:, :200, :200].copy(), 8, "best", below=10_000)
    assert (100, 6) not in tried  # the learned code wins clearly
