# SPDX-License-Identifier: MIT
"""The pixel model of graphics: the specification against itself, and every instruction set against it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import toy

from gmcodec import native
from gmcodec.exact import decisions
from gmcodec.exact.context_mixing import make_tables
from gmcodec.exact.decisions import Reader
from gmcodec.models.graphics.spec import ALL_CONTEXTS, MARGIN, ROWS_ABOVE, GraphicsSpec
from gmcodec.models.local.model import LocalModel

pytestmark = pytest.mark.native
TABLES = make_tables()
CORES = [native.core(isa) for isa in native.isas()]
every_core = pytest.mark.parametrize("core", CORES, ids=native.isas())
EVERY = (1 << ALL_CONTEXTS) - 1
FEW = 1 << 0 | 1 << 6 | 1 << 12 | 1 << 17 | 1 << 19
BLOCK = 50  # decisions of a block in these tests


def samples(kind: str, shape: tuple[int, int, int], depth: int) -> np.ndarray:
    """A picture [H, W, C] of a kind."""
    random, top = np.random.default_rng(sum(shape)), (1 << depth) - 1
    height, width, channels = shape
    colours = random.integers(0, top + 1, (3, channels))
    colours[1] = top - colours[0]
    if kind == "noise":
        return random.integers(0, top + 1, shape)
    if kind == "flat":
        return np.broadcast_to(colours[0], shape)
    if kind == "text":  # two glyphs that come again on a page, and specks
        glyphs = random.random((2, 6, 5)) < 0.4
        line = np.concatenate([glyphs[i] for i in random.integers(0, 2, -(-width // 5))], 1)
        page = np.concatenate([line, np.zeros_like(line)] * (-(-height // 12)))[:height, :width]
        return colours[(page ^ (random.random((height, width)) < 0.01)).astype(int)]
    if kind == "wide":  # runs that end early, and matches that go on beyond the ends of rows
        page = np.zeros((height, width), int)
        page[:, ::23], page[::4, width // 2 :] = 1, 2
        return colours[page]
    if kind == "bars":  # matches that are long, and no runs
        return np.broadcast_to(random.integers(0, top + 1, (1, width, channels)), shape)
    if kind == "slope":  # what the predictors know exactly
        return np.broadcast_to(np.add.outer(np.arange(height), np.arange(width))[..., None], shape)
    ramp = (np.add.outer(3 * np.arange(height), 2 * np.arange(width))[..., None] + random.integers(0, 3, shape)) // 2
    return np.minimum(ramp + 5 * np.arange(channels), top)


def packed(picture: np.ndarray) -> np.ndarray:
    """Pixels uint32 [H, W] of samples [H, W, C]."""
    return sum((plane.astype(np.uint32) << np.uint32(8 * c) for c, plane in enumerate(picture.transpose(2, 0, 1))),
               np.zeros(picture.shape[:2], np.uint32))  # fmt: skip


# (kind, shape), and what differs from the usual options
CASES: list[tuple[str, tuple[int, int, int], dict[str, int]]] = [
    ("noise", (1, 1, 1), {}),
    ("noise", (1, 1, 4), {"guessing": 2}),
    ("noise", (1, 7, 3), {"green": 0}),
    ("text", (7, 1, 3), {"guessing": 1}),
    ("noise", (9, 5, 1), {}),
    ("noise", (9, 5, 2), {"guessing": 1}),
    ("noise", (9, 5, 3), {"green": 0, "guessing": 2}),
    ("noise", (9, 5, 4), {"green": 1}),
    ("noise", (9, 5, 1), {"depth": 1, "guessing": 2}),
    ("noise", (9, 5, 3), {"depth": 2, "green": 0}),
    ("noise", (9, 5, 1), {"depth": 4}),
    ("noise", (5, 9, 3), {"depth": 5, "green": 0}),
    ("flat", (6, 11, 1), {"depth": 4, "guessing": 1}),
    ("flat", (6, 11, 3), {"green": 0, "guessing": 2}),
    ("flat", (3, 4160, 1), {"depth": 1}),  # a run of the longest size, and another
    ("bars", (3, 220, 1), {"depth": 2, "guessing": 1, "contexts": FEW}),
    ("slope", (8, 25, 1), {"contexts": FEW}),
    ("text", (24, 33, 1), {"depth": 1, "guessing": 2, "contexts": FEW}),
    ("text", (24, 33, 1), {"depth": 2, "guessing": 1}),
    ("text", (24, 40, 1), {"depth": 1, "guessing": 1, "contexts": FEW, "bilevel": True}),
    ("noise", (9, 23, 1), {"depth": 1, "contexts": 1 << 3, "bilevel": True}),
    ("text", (15, 24, 3), {"green": 0, "guessing": 2}),
    ("text", (14, 20, 4), {"green": 1, "guessing": 1, "bucket_bits": 3, "place_bits": 2}),
    ("wide", (9, 48, 3), {"green": 0}),
    ("wide", (13, 90, 1), {"guessing": 1, "bucket_bits": 1, "place_bits": 1}),
    ("ramp", (8, 12, 3), {"green": 0}),
    ("ramp", (8, 12, 3), {"guessing": 2}),
    ("ramp", (8, 12, 4), {"green": 1, "bucket_bits": 5}),
    ("ramp", (8, 12, 1), {"depth": 6}),
    ("ramp", (6, 8, 3), {"green": 0, "contexts": 1 << 20, "guessing": 2}),
    ("ramp", (6, 8, 2), {"contexts": 1 << 8, "guessing": 1}),
    # "net": the channels of a net of photographs
    ("ramp", (8, 12, 3), {"green": 0, "net": 3}),
    ("ramp", (7, 9, 4), {"green": 1, "guessing": 2, "net": 3}),
    ("ramp", (8, 12, 2), {"guessing": 1, "net": 1}),
    ("noise", (6, 7, 1), {"net": 1, "contexts": FEW}),
    ("noise", (5, 7, 3), {"depth": 5, "green": 0, "net": 1}),
    ("text", (14, 20, 3), {"green": 0, "guessing": 1, "net": 3}),
    ("bars", (3, 60, 1), {"net": 1}),  # where matches are long, the net is not asked
    ("noise", (1, 1, 3), {"green": 0, "net": 3}),
]


def opened(case: tuple[str, tuple[int, int, int], dict[str, int]]) -> tuple[np.ndarray, GraphicsSpec]:
    kind, (height, width, channels), others = case
    usual = {"depth": 8, "green": -1, "contexts": EVERY, "guessing": 0, "bucket_bits": 12, "place_bits": 10}
    net = {"net": toy.model(others["net"]).frozen} if "net" in others else {}
    spec = GraphicsSpec(width, height, channels, **{**usual, **others, **net})
    return packed(samples(kind, (height, width, channels), spec.depth)), spec


def blocks_of(coded: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The words of decisions, and the number of words of each block."""
    blocks = [decisions.push(coded[i : i + BLOCK]) for i in range(0, len(coded), BLOCK)]
    return np.concatenate(blocks), np.array([len(block) for block in blocks], np.int64)


def native_graphics(core: native.Core, spec: GraphicsSpec, pixels: np.ndarray | None) -> tuple[Any, np.ndarray]:
    """The native model and its canvas, with the pixels or none."""
    canvas = np.zeros((ROWS_ABOVE + spec.height, spec.width + 2 * MARGIN), np.uint32)
    if pixels is not None:
        canvas[ROWS_ABOVE:, MARGIN:-MARGIN] = pixels
    options = {name: value for name, value in vars(spec).items() if name not in ("width", "height", "net")}
    if spec.net:
        model = LocalModel(spec.net, core)
        options["net"] = model.net, model.canvas(spec.height, spec.width)
    return native.Graphics(core, canvas, TABLES, **options), canvas


def in_calls(count: int, calls: int, code: Any) -> None:
    """Call ``code(first, last)``, which returns the next pixel, for all pixels in as many calls."""
    first = 0
    for last in np.linspace(0, count, calls + 1).astype(int)[1:].tolist():
        if first < last:
            first = code(first, last)
    assert first == count


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[1]}-{case[2]}")
def test_every_instruction_set_equals_the_specification(case):
    """The specification decodes what it codes; so does the native core, in one call or in several."""
    pixels, spec = opened(case)
    coded = spec.encode(pixels)
    words, sizes = blocks_of(coded)
    reader = Reader(words, sizes.tolist(), BLOCK)
    assert np.array_equal(spec.decode(reader), pixels)
    assert reader.finished
    for core in CORES:
        for calls in (1, 5):
            model, _ = native_graphics(core, spec, pixels)
            parts: list[np.ndarray] = []

            def encode(first: int, last: int, model: Any = model, parts: list[np.ndarray] = parts) -> int:
                following, part = model.encode(first, last)
                parts.append(part)
                return following

            in_calls(pixels.size, calls, encode)
            assert np.array_equal(np.concatenate(parts), coded)
            model, canvas = native_graphics(core, spec, None)
            popped = native.DecisionReader(words, sizes, BLOCK)
            in_calls(pixels.size, calls, lambda a, b, model=model, popped=popped: model.decode(a, b, popped))
            assert np.array_equal(canvas[ROWS_ABOVE:, MARGIN:-MARGIN], pixels)
            assert popped.finished


@every_core
def test_blocks_of_every_instruction_set_are_the_same_words(core):
    random = np.random.default_rng(3)
    for count in (0, 1, 2, 700):
        for probabilities in (random.integers(1, 65536, count), random.choice([1, 65535], count)):
            coded = (probabilities | random.integers(0, 2, count) << 16).astype(np.uint32)
            assert np.array_equal(native.pushed_decisions(core, coded), decisions.push(coded))


@pytest.mark.parametrize("case", [*CASES[6:20:3], CASES[-7]], ids=lambda case: f"{case[0]}-{case[1]}-{case[2]}")
def test_words_that_nobody_wrote_give_the_same_pixels_everywhere(case):
    pixels, spec = opened(case)
    spec, random = replace(spec, height=min(spec.height, 5), width=min(spec.width, 20)), np.random.default_rng(5)
    words, sizes = blocks_of(spec.encode(pixels[: spec.height, : spec.width]))
    changed, cut = words.copy(), len(words) // 2
    changed[len(changed) // 3 :: 7] ^= 4097
    for damaged, parts in (
        (changed, sizes),
        (words[:cut].copy(), np.array([cut])),
        (random.integers(0, 1 << 16, 99).astype(np.uint16), np.array([40, 0, 59])),
        (np.full(30, 65535, np.uint16), np.array([30])),
        (np.zeros(0, np.uint16), np.zeros(0, np.int64)),
    ):
        reader = Reader(damaged, parts.tolist(), BLOCK)
        expected = spec.decode(reader)
        for core in CORES:
            model, canvas = native_graphics(core, spec, None)
            popped = native.DecisionReader(damaged, parts, BLOCK)
            model.decode(0, spec.width * spec.height, popped)
            assert np.array_equal(canvas[ROWS_ABOVE:, MARGIN:-MARGIN], expected)
            assert popped.finished == reader.finished


def test_graphics_become_small():
    """That the model does what it is for."""
    for case, bits in (
        (("flat", (30, 40, 3), {"green": 0, "guessing": 2}), 100),
        (("text", (24, 40, 3), {"green": 0, "guessing": 2}), 800),
        (("noise", (9, 12, 3), {}), 1.15 * 9 * 12 * 24),
    ):
        pixels, spec = opened(case)
        assert 16 * len(decisions.push(spec.encode(pixels))) < bits


def test_these_pixels_make_these_words():
    spec = GraphicsSpec(3, 2, 1, 8, -1, EVERY, 0, 12, 10)
    pixels = np.array([[7, 7, 9], [7, 8, 9]], np.uint32)
    assert decisions.push(spec.encode(pixels)).tolist() == [42581, 53970, 412]
