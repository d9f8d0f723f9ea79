# SPDX-License-Identifier: MIT
"""Flow coding: couplings and features are bijections of integers, and images cost what the flow says."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import toy
from hypothesis import given, settings
from hypothesis import strategies as st
from test_bitsback import buried, images

from gmcodec import native
from gmcodec.coding import autoregressive, bitsback, chain, flow, strips
from gmcodec.coding.chain import decode_chain, encode_chain
from gmcodec.coding.flow import pop_batch, push_batch
from gmcodec.coding.stack import Stack
from gmcodec.errors import GmcFormatError
from gmcodec.models.ade.tables import Gaussians, make_tables

DEVIATIONS = np.array([0.3, 20.0, 3000.0, 1e6])
GAUSSIANS = Gaussians(np.ones((1, 4)), DEVIATIONS[None])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-(2**40), 2**40), st.integers(-(2**17), 2**17), st.integers(1, 2**16)), min_size=1)
)
def test_a_coupling_is_a_bijection(rows: list[tuple[int, int, int]]) -> None:
    x, mean, scale = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    stack = Stack(words := buried(len(rows) + 8))
    h, _ = flow.push_affine(stack, x, SimpleNamespace(mean=mean, scale=scale))
    assert (np.abs(h - (x - mean) * (scale / 1024)) <= scale / 1024 + 1).all()
    assert np.array_equal(flow.pop_affine(stack, h, SimpleNamespace(mean=mean, scale=scale)), x)
    assert np.array_equal(stack.words(), words)


def test_a_coupling_costs_its_determinant() -> None:
    random = np.random.default_rng(0)
    x, scale = random.integers(-5000, 5000, 20000), random.integers(20, 55000, 20000)
    stack = Stack(buried(30000))
    before = stack.bits
    flow.push_affine(stack, x, SimpleNamespace(mean=np.zeros(20000, np.int64), scale=scale))
    # what is uniform below R costs a little more than log2(R): 2**24 is no multiple of R
    assert stack.bits - before == pytest.approx(-np.log2(scale / 1024).sum(), rel=2e-3)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(-(2**46), 2**46), st.integers(0, 3)), min_size=1))
def test_features_come_back_however_large(rows: list[tuple[int, int]]) -> None:
    rest, kinds = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    tables, stack = make_tables(GAUSSIANS.shifts, GAUSSIANS.masses()), Stack(words := buried(8))
    before = stack.bits
    bits = flow.push_features(stack, rest, kinds, tables)
    assert stack.bits - before == pytest.approx(bits.sum(), abs=33)  # the stack tells whole words
    assert np.array_equal(flow.pop_features(stack, kinds, tables), rest)
    assert np.array_equal(stack.words(), words)


def test_features_cost_their_density() -> None:
    """Within a thousandth of the entropy of a Gaussian that is wide beside the grid."""
    tables, random = make_tables(GAUSSIANS.shifts, GAUSSIANS.masses()), np.random.default_rng(0)
    for kind in (1, 2, 3):
        rest = np.rint(random.normal(0, DEVIATIONS[kind], 200_000)).astype(np.int64)
        density = np.log2(DEVIATIONS[kind] * np.sqrt(2 * np.pi)) + (rest / DEVIATIONS[kind]) ** 2 / 2 / np.log(2)
        bits = flow.push_features(Stack(), rest, np.full(200_000, kind), tables)
        assert bits.mean() == pytest.approx(density.mean(), rel=1e-3)


@pytest.mark.parametrize("kind", toy.FLOWS)
def test_buried_bits_come_back_and_images_cost_their_estimate(kind: str) -> None:
    model, batch, words = toy.ade(toy.FLOWS[kind]), images(3), buried(9000)
    stack = Stack(words)
    before = stack.bits
    pushed = push_batch(stack, batch, model)
    assert pushed.bits.shape == (3,)
    assert stack.bits - before == pytest.approx(pushed.bits.sum(), rel=5e-4)  # what is below R costs a little more
    assert 0 < pushed.borrowed < before
    assert model.config.noise or pushed.borrowed > 8 * batch.size
    assert np.array_equal(pop_batch(stack, batch.shape, model), batch)
    assert np.array_equal(stack.words(), words)


def test_an_image_costs_the_same_whatever_the_grid_of_noise_draws() -> None:
    """Noise and remainders are drawn from the stack: two stacks, two draws, nearly the same cost."""
    model, batch = toy.ade(toy.FLOWS["colours"]), images(4, (32, 32))
    costs = [push_batch(Stack(words), batch, model).bits.sum() for words in (buried(40000), buried(40000)[::-1])]
    assert costs[0] != costs[1]
    assert costs[0] == pytest.approx(costs[1], rel=0.02)


def test_too_little_on_the_stack_is_noticed() -> None:
    model, batch = toy.ade(toy.FLOWS["colours"]), images(2)
    borrowed = push_batch(Stack(buried(9000)), batch, model).borrowed
    push_batch(Stack(buried(int(borrowed) // 32 + 8)), batch, model)
    with pytest.raises(flow.Underflow):
        push_batch(Stack(buried(int(borrowed) // 32 - 8)), batch, model)


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "FLOW", flow.FLOW._replace(batch_pixels=2 * 256))


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("kind", toy.FLOWS)
def test_chains_round_trip_with_instruction_sets_in_the_same_bytes(kind: str) -> None:
    batch, coded = images(19), set()
    for isa in native.isas() if kind == "colours" else (None,):
        model = toy.ade(toy.FLOWS[kind], isa)
        found = encode_chain(batch, model)
        assert np.array_equal(decode_chain(found.payload, batch.shape, model), batch)
        coded.add(found.payload)
    assert len(coded) == 1
    assert 1 <= found.seeds < 18
    assert 8 * len(found.payload) == pytest.approx(found.bits.sum(), rel=5e-4)
    assert model.config.noise or found.initial_bits > 8 * batch[:2].size


@pytest.mark.usefixtures("small_batches")
def test_a_chain_whose_images_borrow_more_than_the_first_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "FLOW", flow.FLOW._replace(required_bits=lambda model, batch: 2000))
    model, batch = toy.ade(toy.FLOWS["colours"]), images(19)
    found = encode_chain(batch, model)
    assert 1 < found.seeds < 19
    assert np.array_equal(decode_chain(found.payload, batch.shape, model), batch)


def test_images_that_are_no_whole_cells_are_seeds() -> None:
    model, batch = toy.ade(toy.FLOWS["colours"]), images(3, (14, 16))
    found = encode_chain(batch, model)
    assert found.seeds == 3
    assert np.array_equal(decode_chain(found.payload, batch.shape, model), batch)
    with pytest.raises(GmcFormatError, match="cannot have latents"):
        decode_chain(b"\x02\x01" + found.payload[2:], batch.shape, model)


def test_samples_out_of_range_are_refused() -> None:
    model = toy.ade(toy.FLOWS["colours"])
    with pytest.raises(GmcFormatError, match=r"outside 0\.\.255"):
        pop_batch(Stack(buried(9000)), (2, 3, 16, 16), model)


def test_pictures_are_drawn_by_random_words() -> None:
    model = toy.ade(toy.FLOWS["colours"])
    drawn = [flow.sample(Stack(words), (2, 3, 16, 16), model) for words in (buried(9000), buried(9000)[::-1])]
    assert drawn[0].shape == (2, 3, 16, 16)
    assert (drawn[0] != drawn[1]).mean() > 0.5


# -- images of any size --------------------------------------------------------------------------------


def forced(tile: np.ndarray, model: object) -> np.ndarray:
    """Words of a tile whose strips use the flow although it does not pay."""
    found = strips._push_latents(tile, model, max(1, tile.shape[2] // 8 // 2), None)  # type: ignore[arg-type]
    assert found is not None
    assert 32 * len(found[0]) == pytest.approx(float(found[1][0]), rel=1e-3)
    return found[0]


@pytest.mark.parametrize("size", [(160, 24), (163, 29), (90, 8)])
def test_strips_round_trip(size: tuple[int, int]) -> None:
    model, tile = toy.ade(toy.FLOWS["colours"]), images(1, size)
    used, push = [], flow.push_batch

    def watched(*args: object, **more: object) -> object:
        used.append(args)
        return push(*args, **more)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flow, "FLOW", flow.FLOW._replace(push_batch=watched))
        words = forced(tile, model)
    assert len(used) > 1
    assert np.array_equal(strips.pop_strips(words, tile.shape, model, lambda n: None, None), tile)


@pytest.mark.parametrize("size", [(1, 1), (7, 3), (8, 64), (60, 50)])
def test_an_image_of_any_size_is_never_larger_than_its_base_makes_it(size: tuple[int, int]) -> None:
    model, image = toy.ade(toy.FLOWS["colours"]), images(1, size)[0]
    coded = strips.encode_image(image, model)
    assert len(coded.data) <= len(autoregressive.encode(image, model.plain).data) + 4
    assert np.array_equal(strips.decode_image(coded.data, image.shape, model), image)


def test_a_model_knows_its_scheme() -> None:
    assert chain.scheme(toy.ade(toy.FLOWS["none"])) is flow.FLOW
    assert chain.scheme(toy.agave(toy.AGAVE["plain"])) is bitsback.BITSBACK
