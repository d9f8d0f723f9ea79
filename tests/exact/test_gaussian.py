# SPDX-License-Identifier: MIT
"""Gaussians over bins of equal mass: the native rows equal the specification, and that is what it says."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest

from gmcodec import native
from gmcodec.exact import gaussian
from gmcodec.exact.gaussian import Gaussians, LatentTables, make_latent_tables
from gmcodec.exact.logistic import ROW_TOTAL

SCALES = (gaussian.LATENT_LOG_SCALE_MAX - gaussian.LATENT_LOG_SCALE_MIN) * gaussian.LATENT_LOG_SCALE_UNIT + 1


def drawn(count: int, extreme: bool = False) -> Gaussians:
    random = np.random.default_rng(count)
    reach = gaussian.LATENT_MEAN_LIMIT if extreme else 3 * gaussian.LATENT_POSITION
    return Gaussians(random.integers(-reach, reach + 1, count), random.integers(0, SCALES, count))


def probabilities(g: Gaussians, tables: LatentTables) -> np.ndarray:
    """Of every bin, float64 [N, 2**bits], from the rows of all its nibbles."""
    shares = np.ones((len(g.mean), 1))
    for shift in range(tables.bits - 4, -1, -4):
        parts = []
        for above in range(shares.shape[1]):
            first = np.full(len(g.mean), (above << 4) << shift, np.int64)
            parts.append(shares[:, above, None] * gaussian.rows(first, 1 << shift, g, tables) / ROW_TOTAL)
        shares = np.concatenate(parts, 1)
    return shares


@pytest.mark.parametrize("bits", [4, 8, 12])
@pytest.mark.parametrize("extreme", [False, True])
def test_native_rows_equal_the_specification(bits: int, extreme: bool) -> None:
    tables, g = make_latent_tables(bits), drawn(500, extreme)
    random = np.random.default_rng(1)
    for shift in range(bits - 4, -1, -4):
        first = (random.integers(0, 1 << bits, 500) >> (shift + 4)) << (shift + 4)
        rows = gaussian.rows(first, 1 << shift, g, tables)
        for isa in native.isas():
            found = native.core(isa).latent_rows(first, 1 << shift, g.mean, g.log_scale, tables)
            assert np.array_equal(found, rows)
        assert rows.min() >= 1
        assert (rows.sum(1, dtype=np.int64) == ROW_TOTAL).all()


def test_bins_have_equal_mass_and_their_values_are_medians() -> None:
    for bits in (4, 8, 12):
        tables, normal = make_latent_tables(bits), NormalDist(0, gaussian.LATENT_POSITION)
        assert tables.bits == bits
        edges = [0.0, *(normal.cdf(edge) for edge in tables.edges), 1.0]
        assert np.diff(edges) == pytest.approx(np.full(2**bits, 2.0**-bits), abs=2e-5)
        assert (tables.values[1:] >= tables.edges).all()
        assert (tables.values[:-1] <= tables.edges).all()


def test_the_prior_costs_its_bits_and_probabilities_are_those_of_a_normal_distribution() -> None:
    tables = make_latent_tables(8)
    zero = -gaussian.LATENT_LOG_SCALE_MIN * gaussian.LATENT_LOG_SCALE_UNIT
    prior = probabilities(Gaussians(np.zeros(1, np.int64), np.array([zero])), tables)
    assert -np.log2(prior) == pytest.approx(np.full((1, 256), 8.0), abs=0.01)
    assert -np.log2(prior).mean() == pytest.approx(8.0, abs=1e-4)
    g = drawn(40)
    edges = np.concatenate([[-np.inf], tables.edges, [np.inf]])
    for mean, index, found in zip(g.mean, g.log_scale, probabilities(g, tables), strict=True):
        scale = np.exp(index / gaussian.LATENT_LOG_SCALE_UNIT + gaussian.LATENT_LOG_SCALE_MIN)
        normal = NormalDist(mean, scale * gaussian.LATENT_POSITION)
        expected = np.diff([0.0 if e == -np.inf else 1.0 if e == np.inf else normal.cdf(e) for e in edges])
        assert found == pytest.approx(expected, abs=1e-3)


def test_scaling_and_its_inverse() -> None:
    tables = make_latent_tables(4)
    x, index = np.arange(-400000, 400000, 9973), np.arange(SCALES)
    scale = np.exp(index / gaussian.LATENT_LOG_SCALE_UNIT + gaussian.LATENT_LOG_SCALE_MIN)
    for i in index[::16]:
        times = gaussian.times_scale(x, np.full(len(x), i), tables)
        over = gaussian.over_scale(x, np.full(len(x), i), tables)
        assert times == pytest.approx(x * scale[i], rel=0.01, abs=1.5)
        assert over == pytest.approx(x / scale[i], rel=1e-3, abs=1.01)
    assert np.array_equal(gaussian.scale_index(np.array([-1000, -192, 0, 64, 1000])), [0, 0, 192, 256, 256])
