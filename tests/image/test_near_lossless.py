# SPDX-License-Identifier: MIT
"""Near-lossless: no sample differs by more than K, what must not be rounded is not, and files say what they hold."""

from __future__ import annotations

import io
import math
from dataclasses import replace

import numpy as np
import pytest
import toy
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from places import ROOT
from samples import random_planes

import gmcodec
from gmcodec import codec, costs, pillow_plugin
from gmcodec.coding import conventional
from gmcodec.errors import ChecksumError, GmcFormatError, UnsupportedImageError
from gmcodec.formats import gmc
from gmcodec.image import metadata, near_lossless
from gmcodec.image.metadata import Tag
from gmcodec.image.modes import MODES
from gmcodec.image.near_lossless import ALPHA_MODES, EXACT_MODES, Near
from gmcodec.image.planes import Planes

pytestmark = pytest.mark.usefixtures("toy_weights")
ROUNDED_MODES = sorted(set(MODES) - EXACT_MODES)


def every_value(mode: str) -> Planes:
    """All values of a sample."""
    values = np.arange(256, dtype=np.uint8)
    if MODES[mode].depth == 16:
        values = np.arange(1 << 16, dtype=np.uint16)
    return Planes(np.tile(values, (MODES[mode].channels, 1, 1)), mode)


def differences(planes: Planes, other: Planes) -> list[int]:
    """The largest one of each channel."""
    return np.abs(planes.data.astype(int) - other.data).max(axis=(1, 2)).tolist()


# -- bounds ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ROUNDED_MODES)
@pytest.mark.parametrize("most", [1, 2, 3, 10, 84, 85, 127, 128, 5000, 32767])
@pytest.mark.parametrize("alpha", [False, True])
def test_no_sample_differs_by_more_than_k(mode, most, alpha):
    near, planes = Near(most, alpha), every_value(mode)
    if not near.fits(mode):
        with pytest.raises(UnsupportedImageError):
            near_lossless.encode(planes, near)
        return
    rounded = near_lossless.rounded(planes, near)
    found = differences(planes, rounded)
    exact = mode in ALPHA_MODES and not alpha
    assert max(found) == near_lossless.difference(planes, rounded)[0] == most
    assert (found[-1] == 0) == exact
    coded = near_lossless.encode(planes, near).data
    assert len(np.unique(coded[0])) == coded[0].max() - coded[0].min() + 1  # dense
    assert coded[0].min() == 0 or abs(int(coded[0].min()) + int(coded[0].max()) - 255) <= 2  # in the middle
    again = near_lossless.rounded(rounded, near)
    assert again == rounded  # levels stay


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(ROUNDED_MODES), st.integers(1, 127), st.booleans(), st.integers(0, 99))
def test_files_come_back_within_their_bound(mode, most, alpha, seed):
    planes, near = random_planes(mode, (7, 9), seed), Near(most, alpha and mode in ALPHA_MODES)
    data = codec.encode_planes(planes, effort="fast", threads=1, near=near).data
    found = codec.decode_planes(data)
    assert found == near_lossless.rounded(planes, near)
    assert max(differences(planes, found)) <= most
    assert (codec.info(data)["near"], codec.info(data)["near_alpha"]) == (most, near.alpha)


@pytest.mark.parametrize("code", ["auto", "learned", "graphics", "conventional"])
def test_every_code(code):
    planes = Planes(toy.smooth(np.random.default_rng(0), (3, 40, 50)), "RGB")
    sizes = []
    for near in (None, Near(1), Near(3)):
        made = codec.encode_planes(planes, code=code, threads=1, near=near)
        expected = near_lossless.rounded(planes, near) if near else planes
        assert codec.decode_planes(made.data, threads=2) == expected
        assert costs.cost_map(made.data).sum() == pytest.approx(made.estimated_bits, rel=1e-4)
        sizes.append(len(made.data))
    assert sizes[0] > sizes[1] > sizes[2]


def test_few_colours_of_a_rounded_photograph_are_no_reason_for_slow_methods(monkeypatch):
    monkeypatch.delenv("GMCODEC_WEIGHTS")  # the shipped ones, since toy weights do not win clearly
    photograph = Planes(codec.to_planes(ROOT / "examples" / "photo.png").data[:, 200:330, 300:440], "RGB")
    tried = []
    monkeypatch.setattr(conventional, "encode", lambda *args: tried.append(args) or (1, bytes(10**6)))
    made = codec.encode_planes(photograph, near=Near(2))
    assert conventional.has_few_colours(near_lossless.encode(photograph, Near(2)).data)
    assert codec.decode_planes(made.data) == near_lossless.rounded(photograph, Near(2))
    assert not tried


def test_psnr():
    planes = Planes(np.full((1, 4, 4), 100, np.uint8), "L")
    other = Planes(np.full((1, 4, 4), 102, np.uint8), "L")
    assert near_lossless.difference(planes, other) == (2, pytest.approx(20 * math.log10(255 / 2)))
    assert near_lossless.difference(planes, planes) == (0, math.inf)


# -- what is refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", sorted(EXACT_MODES))
def test_samples_that_are_no_amounts_are_refused(mode):
    with pytest.raises(UnsupportedImageError, match="no amounts"):
        codec.encode_planes(random_planes(mode), near=Near(1))


@pytest.mark.parametrize("tag", [Tag.TRANSPARENCY, Tag.MAXIMUM])
def test_values_with_a_meaning_are_refused(tag):
    planes = replace(random_planes("L"), metadata=((int(tag), b"\0\5"),))
    with pytest.raises(UnsupportedImageError, match="would change"):
        codec.encode_planes(planes, near=Near(1))


@pytest.mark.parametrize(("near", "alpha"), [(-1, False), (0, True)])
def test_options_that_there_are_not(near, alpha):
    with pytest.raises(ValueError, match="near"):
        gmcodec.encode(np.zeros((3, 4), np.uint8), near=near, near_alpha=alpha)


@pytest.mark.parametrize(("mode", "most"), [("L", 128), ("RGB;16", 32768)])
def test_bounds_of_half_of_all_values(mode, most):
    with pytest.raises(UnsupportedImageError, match=f"may differ by 1 to {most - 1}, not {most}"):
        codec.encode_planes(random_planes(mode), near=Near(most))


def test_alpha_that_there_is_not():
    with pytest.raises(UnsupportedImageError, match="no alpha"):
        gmcodec.encode(np.zeros((3, 4, 3), np.uint8), near=1, near_alpha=True)


def test_strict_forbids_it():
    with pytest.raises(ValueError, match="strict"):
        gmcodec.encode(np.zeros((3, 4), np.uint8), near=1, strict=True)


# -- files -----------------------------------------------------------------------------------------------------


TWO = Near(2)


def header_of(mode: str = "RGBA", near: Near | None = TWO) -> gmc.Header:
    return gmc.unpack(codec.encode_planes(random_planes(mode), threads=1, near=near, effort="fast").data)


def test_headers_come_back():
    for near in (None, Near(1), Near(127, True)):
        header = header_of(near=near)
        assert header.near == near
        assert gmc.unpack(gmc.pack(header)) == header
        assert len(gmc.pack(header)) == gmc.overhead(header) + sum(len(part.payload) for part in header.parts)


@pytest.mark.parametrize(
    ("mode", "near"),
    [("RGB", Near(0)), ("RGB", Near(128)), ("RGB", Near(1, True)), ("L", Near(1 << 40)), ("I;16", Near(1 << 15))],
)
def test_roundings_that_a_file_cannot_have(mode, near):
    header = replace(header_of(mode, None), near=near)
    with pytest.raises(GmcFormatError, match="cannot have"):
        gmc.pack(header)


@pytest.mark.parametrize("mode", sorted(EXACT_MODES))
def test_modes_that_cannot_be_rounded(mode):
    with pytest.raises(GmcFormatError, match="cannot have"):
        gmc.pack(replace(header_of(mode, None), near=Near(1)))


def test_an_alpha_flag_that_is_none():
    data = bytearray(gmc.pack(header_of()))
    at = data.index(bytes([2, 0]), 11)
    assert at == 11
    with pytest.raises(GmcFormatError, match="0 or 1"):
        gmc.unpack(bytes(data[:12]) + b"\2" + bytes(data[13:]))
    for end in (11, 12):
        with pytest.raises(GmcFormatError):
            gmc.unpack(bytes(data[:end]))


def test_samples_that_are_no_levels_are_told():
    planes = Planes(np.full((1, 5, 6), 255, np.uint8), "L")
    header = replace(gmc.unpack(codec.encode_planes(planes).data), near=Near(3))
    with pytest.raises(GmcFormatError, match="none of 37 levels"):
        codec.decode_planes(gmc.pack(header))


def test_another_bound_is_found_by_the_checksum():
    header = header_of("RGB")
    with pytest.raises(GmcFormatError):
        codec.decode_planes(gmc.pack(replace(header, near=Near(3))))
    with pytest.raises(ChecksumError):
        codec.decode_planes(gmc.pack(replace(header, near=None)))


def test_pillow_saves_it(tmp_path):

    planes = toy.smooth(np.random.default_rng(0), (3, 20, 30))
    image = Image.fromarray(np.ascontiguousarray(planes.transpose(1, 2, 0)))
    image.save(tmp_path / "a.gmc", near=2)
    with Image.open(tmp_path / "a.gmc") as opened:
        assert np.abs(np.asarray(opened).astype(int) - np.asarray(image)).max() == 2
    out = io.BytesIO()
    with pytest.raises(ValueError, match="near"):
        image.save(out, pillow_plugin.FORMAT, near=-2)


def test_metadata_stays():
    planes = replace(random_planes("RGB"), metadata=metadata.pack({Tag.ICC: b"profile"}))
    assert codec.decode_planes(codec.encode_planes(planes, near=Near(4)).data).metadata == planes.metadata
