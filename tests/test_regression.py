# SPDX-License-Identifier: MIT
"""Least squares around every pixel: compiled code against its specification."""

import numpy as np
import pytest
import toy
from hypothesis import given, settings
from hypothesis import strategies as st

from gmcodec.models import regression, regression_spec


def image(kind: str, shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    if kind == "extremes":
        return random.choice([0, 255], shape).astype(np.uint8)
    if kind == "flat":
        return np.full(shape, random.integers(256), np.uint8)
    return random.integers(0, 256, shape, np.uint8) if kind == "noise" else toy.smooth(random, shape)


@pytest.mark.parametrize(("kind", "slope"), [("smooth", 3), ("noise", 4), ("extremes", 12)])
def test_predictions_are_those_of_the_specification(kind, slope):
    planes = image(kind, (3, 12, 23))
    assert np.array_equal(regression.predictions(planes, slope), regression_spec.predictions(planes, slope))


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from([1, 3]), st.integers(1, 9), st.integers(1, 11),
    st.sampled_from(["smooth", "noise", "extremes", "flat"]), st.integers(0, 1000),
)  # fmt: skip
def test_images_of_any_size(channels, height, width, kind, seed):
    planes = image(kind, (channels, height, width), seed)
    assert np.array_equal(regression.predictions(planes, 4), regression_spec.predictions(planes, 4))


def test_they_predict_a_linear_texture():
    """Every colour a fixed combination of its neighbours: a few rows suffice to find it."""
    y, x = np.mgrid[0:40, 0:60]
    planes = np.stack([128 + 60 * np.sin(0.7 * x + f * y) for f in (0.2, 0.5, 0.9)])
    planes = np.rint(planes).astype(np.uint8)
    error = np.abs(planes.astype(int) * 64 - regression.predictions(planes, 4).astype(int))[:, 12:, 12:-12] / 64
    assert error.mean() < 0.8
    left = np.abs(np.diff(planes.astype(int), axis=2))[:, 12:, 12:-12]
    assert left.mean() > 20


def test_a_pixel_knows_nothing_that_comes_later():
    """What a pixel's step does not reach may change without it."""
    planes = image("smooth", (3, 24, 40))
    found, slope = regression.predictions(planes, 4), 4
    y, x = np.mgrid[0:24, 0:40]
    later = slope * y + x >= slope * 11 + 17
    changed = np.where(later, 255 - planes, planes)
    again = regression.predictions(changed, slope)
    known = slope * y + x <= slope * 11 + 17
    assert np.array_equal(found[:, known & ~later], again[:, known & ~later])
    # the pixel itself too: its own colours are not among what it is predicted from
    assert np.array_equal(found[:, 11, 17], again[:, 11, 17])
