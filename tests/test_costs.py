# SPDX-License-Identifier: MIT
"""What pixels cost: maps add up to the estimates of all kinds of methods, and say where the bits are."""

from __future__ import annotations

import io

import numpy as np
import pytest
import toy
from PIL import Image

import gmcodec
from gmcodec import codec, costs
from gmcodec.coders import ChainCoder, HighDepthCoder, PixelCoder, coder_of
from gmcodec.coding import autoregressive, chain, high_depth, strips
from gmcodec.errors import ChecksumError, GmcFormatError, ImageTooLargeError, TruncatedFileError
from gmcodec.formats import gmc
from gmcodec.image.planes import Planes
from gmcodec.models import registry

pytestmark = pytest.mark.usefixtures("toy_weights")

ALL = [entry.name for entry in registry.ENTRIES]


def image(channels: int, height: int, width: int, depth: int = 8) -> np.ndarray:
    planes = toy.smooth(np.random.default_rng(1), (channels, height, width))
    return planes if depth == 8 else planes.astype(np.uint16) * 97 + planes[:, ::-1]


def encoded(planes: np.ndarray, code: str) -> codec.Encoded:
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[len(planes)] + (";16" if planes.dtype == np.uint16 else "")
    return codec.encode_planes(Planes(planes, mode.replace("L;16", "I;16")), code=code, threads=1)


def total(found: np.ndarray) -> float:
    return float(found.sum(dtype=np.float64))


# -- sums ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("size", [(35, 53), (16, 16), (1, 1)])
def test_a_map_adds_up_to_the_estimate(name: str, size: tuple[int, int]) -> None:
    entry = registry.by_name(name)[0]
    made = encoded(image(entry.channels, *size, entry.depth), name)
    assert made.parts[0][0] == name
    found = gmcodec.cost_map(made.data, threads=1)
    assert (found.shape, found.dtype) == (size, np.float32)
    exact = not isinstance(coder_of(registry.load(entry.method)), ChainCoder)
    # with latents, what is on the stack is counted, not what models say
    assert total(found) == pytest.approx(made.estimated_bits, rel=1e-5, abs=0 if exact else 96)
    assert 8 * sum(size for _, _, size in made.parts) == pytest.approx(total(found), abs=200)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_all_parts_count(channels: int, dtype: type) -> None:
    made = encoded(image(channels, 21, 40, 8 * np.dtype(dtype).itemsize), "learned")
    assert total(gmcodec.cost_map(made.data)) == pytest.approx(made.estimated_bits, rel=1e-5)


@pytest.mark.parametrize("mode", ["1", "P", "L", "CMYK"])
def test_conventional_methods_are_spread_evenly(mode: str) -> None:
    channels = 4 if mode == "CMYK" else 1
    planes = Planes(image(channels, 9, 14) >> (7 if mode == "1" else 0), mode)
    made = codec.encode_planes(planes, code="conventional")
    found = gmcodec.cost_map(made.data)
    assert len(np.unique(found)) == 1
    assert total(found) == pytest.approx(8 * sum(size for _, _, size in made.parts), rel=1e-5)
    (line,) = costs.spread_evenly(made.data)
    assert "does not say what a pixel costs" in line


# -- pixels ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mirror", range(4))
@pytest.mark.parametrize("size", [(13, 30), (40, 7), (1, 9), (9, 1)])
def test_bits_of_a_model_that_learns_lie_where_its_pixels_do(size: tuple[int, int], mirror: int) -> None:
    """Without learning, which takes a batch of pixels to begin, a pixel costs what it does in a net that stays."""
    model = toy.online(3, mirror=mirror)
    planes = image(3, *size)
    found = model.tile_coder.pixel_bits(planes, lambda n: None)
    assert found.shape == size
    turned = planes[:, :: -1 if mirror & 2 else 1, :: -1 if mirror & 1 else 1]
    stays = autoregressive.pixel_bits(turned[None], model.members[0], lambda n: None)[0]
    stays = stays[:: -1 if mirror & 2 else 1, :: -1 if mirror & 1 else 1]
    assert found == pytest.approx(stays, rel=0.05, abs=0.3)


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_samples_of_more_bits_lie_where_their_pixels_do(bits: int) -> None:
    model = toy.online(3)
    planes = image(3, 13, 30).astype(np.uint16)
    coder = model.high_depth_coder(bits, bits - 8, model.rates[0])
    plain = model.tile_coder.pixel_bits(planes.astype(np.uint8), lambda n: None)
    found = coder.pixel_bits(planes << (bits - 8), lambda n: None)
    # the samples are those of 8 bits, and what lies between them costs each of them nearly the same
    assert np.corrcoef(found.ravel(), plain.ravel())[0, 1] > 0.98


@pytest.mark.parametrize("size", [(40, 64), (300, 600)])
@pytest.mark.parametrize("name", ["local-rgb", "learning-rgb-fast", "agave-rgb", "learning-rgb16-fast"])
def test_a_noisy_half_costs_more(name: str, size: tuple[int, int]) -> None:
    depth = registry.by_name(name)[0].depth
    planes = image(3, *size, depth)
    planes[:, :, size[1] // 2 :] = np.random.default_rng(0).integers(0, 1 << depth, (3, size[0], size[1] // 2))
    made = encoded(planes, name)
    found = gmcodec.cost_map(made.data, threads=2)
    assert total(found) == pytest.approx(made.estimated_bits, rel=1e-3)
    flat, noisy = np.split(found, 2, 1)
    assert noisy.mean() > 1.25 * flat.mean()
    assert np.array_equal(found, gmcodec.cost_map(made.data, threads=1))


def test_weights_of_values_and_changes_count() -> None:
    planes = (toy.smooth(np.random.default_rng(0), (3, 320, 320)) // 5 * 5).astype(np.uint8)
    for name in ("local-rgb", "learning-rgb-fast"):
        coder = coder_of(registry.named(name))
        assert (coder.choose_weight_indices(planes) != 8).any()
        payload, costs_of = (
            coder.encode(planes, weight_indices=lambda c=coder: c.choose_weight_indices(planes)),
            np.empty((320, 320)),
        )
        assert np.array_equal(coder.decode(payload.data, planes.shape, costs=costs_of), planes)
        assert total(costs_of) == pytest.approx(payload.estimated_bits, rel=1e-9)


def test_tiles_and_lists_of_values() -> None:
    model, planes = toy.online(3), image(3, 50, 64).astype(np.uint16) << 8
    payload, found = high_depth.encode(planes, model, tile=(20, 30)), np.empty((50, 64))
    assert payload.data[0]  # there are lists
    assert np.array_equal(HighDepthCoder(model).decode(payload.data, planes.shape, costs=found), planes)
    assert total(found) == pytest.approx(payload.estimated_bits, rel=1e-9)
    for model in (toy.model(1), toy.online(1)):
        grey = image(1, 50, 64)
        payload = autoregressive.encode(grey, model, tile=(20, 30))
        assert np.array_equal(PixelCoder(model).decode(payload.data, grey.shape, costs=found), grey)
        assert total(found) == pytest.approx(payload.estimated_bits, rel=1e-9)


# -- latents ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seeds", [1, 2])
def test_strips_with_latents(seeds: int) -> None:
    model, tile = toy.agave(toy.AGAVE["local"]), image(3, 70, 37)[None]
    pushed = strips._push_latents(tile, model, seeds, None)
    assert pushed is not None
    found = np.empty((1, 70, 37))
    assert np.array_equal(strips.pop_strips(pushed[0], tile.shape, model, lambda n: None, None, found), tile)
    assert total(found) == pytest.approx(pushed[1][0], abs=96)
    assert total(found) == pytest.approx(32 * len(pushed[0]), abs=32)
    top = found[0, : 70 - (70 // model.cell - seeds) * model.cell]
    assert top.std() > 0.1


@pytest.mark.parametrize("kind", ["checker", "none"])
def test_strips_of_a_flow(kind: str) -> None:
    model, tile = toy.ade(toy.FLOWS[kind]), image(3, 70, 37)[None]
    pushed = strips._push_latents(tile, model, 70 // model.cell // 2, None)
    assert pushed is not None
    found = np.empty((1, 70, 37))
    assert np.array_equal(strips.pop_strips(pushed[0], tile.shape, model, lambda n: None, None, found), tile)
    assert total(found) == pytest.approx(32 * len(pushed[0]), abs=32)
    cells = 37 // model.cell * model.cell
    assert len(np.unique(found[0, 0, :cells])) == 1  # the flow's
    assert len(np.unique(found[0, 0, cells:])) == 37 - cells  # the base's


@pytest.mark.parametrize("name", ["two", "flow", "plain"])
def test_a_chain_with_latents(name: str) -> None:
    model, images = toy.agave(toy.AGAVE[name]), np.stack([toy.image("smooth", (3, 16, 16), n) for n in range(24)])
    coded = chain.encode_chain(images, model)
    assert coded.seeds < len(images)
    found = np.empty((24, 16, 16))
    assert np.array_equal(chain.decode_chain(coded.payload, images.shape, model, costs=found), images)
    assert total(found) == pytest.approx(coded.bits.sum(), abs=96)
    assert (found.std((1, 2)) > 0.1).all()


# -- files that are none, and progress -------------------------------------------------------------------


def test_what_is_wrong_is_said() -> None:
    made = encoded(image(3, 20, 30), "learned").data
    with pytest.raises(TruncatedFileError):
        gmcodec.cost_map(made[:3])
    with pytest.raises(ImageTooLargeError):
        gmcodec.cost_map(made, max_pixels=599)
    with pytest.raises(GmcFormatError):
        gmcodec.cost_map(b"gma" + made[3:])
    header = gmc.unpack(made)
    wrong = gmc.Header(header.mode_id, 30, 20, header.pixels_crc ^ 1, (), header.parts)
    with pytest.raises(ChecksumError):
        gmcodec.cost_map(gmc.pack(wrong))


@pytest.mark.parametrize("name", ALL)
def test_progress_counts_every_pixel_twice(name: str) -> None:
    entry, seen = registry.by_name(name)[0], []
    costs.cost_map(encoded(image(entry.channels, 35, 53, entry.depth), name).data, progress=seen.append)
    assert sum(seen) == 2 * 35 * 53


# -- the picture -----------------------------------------------------------------------------------------


def test_a_picture_is_dark_where_pixels_are_cheap() -> None:
    found = np.full((30, 40), 2, np.float32)
    found[:, 20:], found[0, 0], found[1, 1] = 10, 400, -1
    drawn = costs.picture(found)
    assert (drawn.end, drawn.most) == (10, 400)
    assert drawn.mean == pytest.approx(found.mean())
    opened = Image.open(io.BytesIO(drawn.png()))
    assert opened.size == (40, 30)
    assert "0 (black) to 10 (white) bits a pixel" in opened.text["Description"]
    grey = np.asarray(opened.convert("L"))
    assert grey[0, 0] == grey[5, 30] == 255
    assert 10 < grey[5, 5] < 80
    assert grey[1, 1] == 0


def test_the_palette_gets_brighter_by_equal_steps() -> None:
    assert costs.COLOUR_MAP.shape == (256, 3)
    assert (costs.COLOUR_MAP[0] == 0).all()
    assert (costs.COLOUR_MAP[-1] == 255).all()
    linear = (costs.COLOUR_MAP / 255) ** 2.2
    light = (linear @ [0.2126, 0.7152, 0.0722]) ** (1 / 3)
    assert (np.diff(light) > -1e-3).all()
    assert np.diff(light[::16]).std() < 0.02


def test_small_pictures_and_maps_of_nothing() -> None:
    found = np.random.default_rng(0).uniform(0, 9, (300, 200)).astype(np.float32)
    drawn = costs.picture(found, side=60)
    assert drawn.indices.shape == (60, 40)
    assert drawn.mean == pytest.approx(found.mean())
    assert costs.picture(np.zeros((2, 3), np.float32)).indices.max() == 0
    assert costs.picture(found[:1, :1], side=60).indices.shape == (1, 1)
