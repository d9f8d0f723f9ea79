# SPDX-License-Identifier: MIT
"""Strips of a tile: images of any size with latents round trip, and are never larger than without."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import toy
from test_bitsback import images

from gmcodec import native
from gmcodec.coding import autoregressive, bitsback, strips
from gmcodec.coding.autoregressive import Weights, encode
from gmcodec.coding.stack import Stack
from gmcodec.errors import GmcFormatError
from gmcodec.models.agave.model import AgaveModel
from gmcodec.models.local.frozen import FrozenLocal
from gmcodec.models.local.model import LocalModel
from gmcodec.progress import Callback

SIZES = [(45, 37), (16, 16), (70, 9), (33, 130)]


def pushed(tile: np.ndarray, model: AgaveModel, seeds: int) -> tuple[np.ndarray, float]:
    found = strips._push_latents(tile, model, seeds, None)
    assert found is not None
    return found[0], found[1][0]


@pytest.mark.parametrize("size", SIZES)
def test_strips_round_trip_with_every_instruction_set_in_the_same_words(size: tuple[int, int]) -> None:
    tile, coded = images(1, size), set()
    for isa in native.isas():
        model = toy.agave(toy.AGAVE["local"], isa)
        words, bits = pushed(tile, model, 1)
        assert np.array_equal(strips.pop_strips(words, tile.shape, model, lambda n: None, None), tile)
        assert 32 * len(words) == pytest.approx(bits, abs=96)
        coded.add(words.tobytes())
    assert len(coded) == 1


def test_strips_grow_with_what_pays_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tile, heights = toy.agave(toy.AGAVE["local"]), images(1, (203, 20)), []
    push_strip = bitsback.push_batch

    def watched(stack: Stack, planes: np.ndarray, *rest: object, **more: object) -> object:
        heights.append(planes.shape[2])
        return push_strip(stack, planes, *rest, **more)

    monkeypatch.setattr(bitsback, "BITSBACK", bitsback.BITSBACK._replace(push_batch=watched))
    words, _ = pushed(tile, model, 3)
    assert sum(heights) == 200 - 3 * model.cell
    assert len(heights) >= 2
    assert all(a < b for a, b in itertools.pairwise(heights[:-1]))
    monkeypatch.setattr(bitsback, "BITSBACK", bitsback.BITSBACK._replace(batch_pixels=20 * 16))
    small, _ = pushed(tile, model, 3)
    assert max(heights) > 16 == max(heights[-5:])
    assert np.array_equal(strips.pop_strips(small, tile.shape, model, lambda n: None, None), tile)
    with pytest.raises(GmcFormatError, match="larger than the format allows"):
        strips.pop_strips(words, tile.shape, model, lambda n: None, None)


def test_latents_that_do_not_pay_are_left_out() -> None:
    """The toy's latents say nothing: an image is its decoder's alone, and 12 bits."""
    model, image = toy.agave(toy.AGAVE["local"]), images(1, (60, 50))[0]
    coded = strips.encode_image(image, model)
    alone = encode(image, model.plain)
    assert len(coded.data) <= len(alone.data) + 4
    assert coded.estimated_bits == pytest.approx(alone.estimated_bits + 12)
    assert np.array_equal(strips.decode_image(coded.data, image.shape, model), image)
    assert strips._push_latents(np.zeros((1, 3, 60, 50), np.uint8), model, 1, None) is None  # black pays for nothing


class Paying(AgaveModel):
    """Its latents cost nothing, and the decoder without them is too sure of itself."""

    @property
    def plain(self) -> LocalModel:
        layers = dict(self.decoder.layers)
        layers["last"] = replace(layers["last"], bias=-3 * layers["last"].bias)
        return LocalModel(FrozenLocal(self.decoder.config, layers, self.tables), self.core)


def test_latents_that_pay_are_used() -> None:
    toy_model, image = toy.agave(toy.AGAVE["local"]), images(1, (90, 70))[0]
    own, known = toy_model.decoder, dict(toy_model.decoder.layers)
    layers = dict(toy_model.layers)
    for some, part in ((layers, "posterior"), (known, "condition")):  # posteriors are the prior, conditions say nothing
        for name, layer in some.items():
            if part in name:
                some[name] = replace(layer, weight=np.zeros_like(layer.weight), bias=np.zeros_like(layer.bias))
    decoder = LocalModel(FrozenLocal(own.config, known, own.tables))
    model = Paying(toy_model.config, layers, toy_model.constants, own.tables, toy_model.latent_tables, decoder)
    tile = image[None]
    words, bits = strips.push_strips(tile, model, lambda n: None, None)
    alone, _ = autoregressive.push_words(tile, model.plain, lambda n: None)
    assert len(words) < 0.9 * len(alone)
    assert 32 * len(words) == pytest.approx(bits[0], abs=96)
    assert np.array_equal(strips.pop_strips(words, tile.shape, model, lambda n: None, None), tile)


def test_an_image_of_several_tiles_with_weights_of_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Latents in every tile, whatever they cost, of an image that leaves values out and has tiles of its own."""
    model, image = toy.agave(toy.AGAVE["local"]), images(1, (150, 90))[0] // 3 * 3
    monkeypatch.setattr(autoregressive, "ADAPT_FROM_PIXELS", 0)
    monkeypatch.setattr(autoregressive, "tile_shape", lambda height, width: (80, 50))

    def forced(tile: np.ndarray, model: AgaveModel, progress: Callback, weights: Weights) -> object:
        return strips._push_latents(tile, model, 1, weights)

    monkeypatch.setattr(strips, "push_strips", forced)
    coded = strips.encode_image(image, model, threads=2)
    assert coded.data[0] > 1  # it has weights
    assert 8 * len(coded.data) == pytest.approx(coded.estimated_bits, abs=4 * 64 + 200)
    assert np.array_equal(strips.decode_image(coded.data, image.shape, model, threads=2), image)
