# SPDX-License-Identifier: MIT
"""Images of 16 bits: the nets of 8 bits on a scale of their own."""

import functools

import numpy as np
import pytest
import toy
from hypothesis import given, settings
from hypothesis import strategies as st

from gmcodec import codec, native
from gmcodec.coding import high_depth
from gmcodec.coding.tiles import tile_shape
from gmcodec.errors import GmcError, GmcFormatError, UnknownModelError, WeightsError
from gmcodec.exact.logistic import scale_of
from gmcodec.formats.gmc import pack, unpack
from gmcodec.image.planes import Planes
from gmcodec.models.online import high_depth_spec
from gmcodec.models.online import spec as learning_spec
from gmcodec.models.online.model import OnlineModel
from gmcodec.models.online.spec import Learner

pytestmark = pytest.mark.native
RATE = 5


def ignore(count: int) -> None:
    pass


@functools.cache
def model(channels: int, averaged: bool = False, isa: str | None = None) -> OnlineModel:
    return toy.online(channels, RATE, averaged, isa)


def image(channels: int, height: int, width: int, bits: int = 16, seed: int = 0) -> np.ndarray:
    """A smooth picture with noise of about four of 256 grey levels, uint16 [C, H, W]."""
    random = np.random.default_rng(seed)
    smooth = toy.smooth(random, (channels, height, width)).astype(float)
    return np.clip((smooth + random.normal(0, 4, smooth.shape)) * 2.0 ** (bits - 8), 0, 2**bits - 1).astype(np.uint16)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("bits", "shift", "averaged"), [(8, 0, False), (12, 3, False), (13, 0, True), (16, 8, True), (16, 5, False)]
)
def test_every_range_is_that_of_the_specification(channels, bits, shift, averaged):
    found = model(channels, averaged)
    planes = image(channels, 26, 45, bits)
    planes[:, 3:6, 4:9], planes[:, 10:12] = 0, 2**bits - 1
    scale = scale_of(bits, shift)
    learner = Learner(found.members[0].frozen, RATE, scale, averaged)
    expected = learning_spec.intervals(
        [learner], planes, functools.partial(high_depth_spec.nibbles, bits=bits, shift=shift)
    )
    for isa in native.isas():
        coder = model(channels, averaged, isa).high_depth_coder(bits, shift, RATE)
        both, _ = coder.intervals(planes, ignore)
        assert np.array_equal(np.concatenate(both).T, expected[:2])
        assert len(both[0]) == expected[2]
    assert learner.count > 3


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 14), st.integers(1, 14), st.sampled_from([1, 3]), st.integers(0, 2**32 - 1), st.booleans())
def test_any_samples_come_back(height, width, channels, seed, smooth):
    planes = np.random.default_rng(seed).integers(0, 65536, (channels, height, width)).astype(np.uint16)
    if smooth:
        planes = image(channels, height, width, 8 + seed % 9, seed)
    coded = high_depth.encode(planes, model(channels), tile=(max(1, height // 2), width))
    assert np.array_equal(high_depth.decode(coded.data, planes.shape, model(channels)), planes)
    assert 8 * len(coded.data) < coded.estimated_bits + 8 * (20 + 21 * 3)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.none(), st.sets(st.integers(0, 65535), min_size=2)), min_size=1, max_size=3))
def test_lists_of_values_come_back(values):
    lists = [None if v is None else np.array(sorted(v), np.uint16) for v in values]
    mask, packed = high_depth.pack_lists(lists)
    if not mask:
        assert packed == b""
        return
    back = high_depth.unpack_lists(mask, packed, len(lists))
    for before, after in zip(lists, back, strict=True):
        assert (before is None) == (after is None)
        assert before is None or np.array_equal(before, after)


def test_all_values_may_be_listed():
    every = np.arange(65536).astype(np.uint16)
    assert np.array_equal(high_depth.unpack_lists(*high_depth.pack_lists([every]), 1)[0], every)


def test_a_comb_is_told_and_few_samples_are_not():
    random = np.random.default_rng(0)
    values = np.clip(random.normal(2000, 300, (1, 90, 90)), 0, 4095).astype(np.uint16)
    assert high_depth.choose_lists(values) == [None]
    for comb in (values * 16, values << 4 | values >> 8, (np.sqrt(values / 4095) * 65535).astype(np.uint16)):
        (used,) = high_depth.choose_lists(comb.astype(np.uint16))
        assert used is not None
        assert np.array_equal(used, np.unique(comb))
    assert high_depth.choose_lists(random.integers(0, 65536, (1, 90, 90)).astype(np.uint16)) == [None]


def test_what_was_multiplied_costs_as_much_as_before():
    planes = image(3, 64, 64, 12)
    few, many = (len(high_depth.encode(p, model(3)).data) for p in (planes, planes * 16))
    assert many < few + 4 * planes.size / 8 / 4  # of four bits a sample that say nothing


def test_the_scale_follows_the_noise():
    planes = image(1, 64, 64, 16)
    shifts = [high_depth.choose_shift(planes >> n, model(1), 16 - n)[0] for n in (0, 2, 4)]
    assert shifts[0] - 2 <= shifts[1] + 1 <= shifts[0] + 1
    assert shifts[0] > shifts[2]


def test_an_estimate_is_near_the_size():
    planes = image(3, 96, 96, 14)
    size = 8 * len(high_depth.encode(planes, model(3)).data)
    assert 0.8 < high_depth.estimate(planes, model(3)) / size < 1.25


def test_one_pixel_and_one_value():
    for planes in (np.full((3, 1, 1), 777, np.uint16), np.full((3, 40, 50), 65535, np.uint16)):
        payload = high_depth.encode(planes, model(3)).data
        assert np.array_equal(high_depth.decode(payload, planes.shape, model(3)), planes)


def test_threads_make_no_difference():
    planes = image(1, 60, 50)
    one, two = (high_depth.encode(planes, model(1), threads, tile=(20, 50)).data for threads in (1, 2))
    assert one == two
    assert np.array_equal(high_depth.decode(one, planes.shape, model(1), 2), planes)


def test_damage_is_an_error_or_other_samples():
    planes = image(3, 24, 20, 12) * 16
    payload = high_depth.encode(planes, model(3)).data
    random, refused = np.random.default_rng(1), 0
    for _ in range(150):
        damaged = bytearray(payload[: random.integers(1, len(payload) + 1)])
        damaged[min(int(random.exponential(40)), len(damaged) - 1)] ^= 1 << random.integers(8)
        try:
            assert high_depth.decode(bytes(damaged), planes.shape, model(3)).shape == planes.shape
        except GmcFormatError:
            refused += 1
    assert refused > 50


@pytest.mark.parametrize(
    "head", [b"\x08", b"\x00\x07\x00\x00", b"\x00\x11\x00\x00", b"\x00\x10\x09\x00", b"\x00\x10\x00\x08"]
)
def test_numbers_out_of_range_are_refused(head):
    with pytest.raises(GmcFormatError):
        high_depth.decode(head + bytes(20), (3, 4, 4), model(3))


def test_only_what_can_learn_codes_16_bits():
    with pytest.raises(WeightsError, match="not made to learn"):
        OnlineModel([toy.model(3)], [RATE])


# -- files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "channels"), [("I;16", 1), ("LA;16", 2), ("RGB;16", 3), ("RGBA;16", 4)])
def test_files_of_every_mode(mode, channels, toy_weights):
    planes = Planes(image(channels, 70, 60), mode)
    for code in ("learned", "auto"):
        found = codec.encode_planes(planes, code=code)
        assert codec.decode_planes(found.data) == planes
    assert codec.info(codec.encode_planes(planes, code="learned").data)["parts"][0]["code"].startswith("learning-")


def test_a_higher_effort_is_never_larger(toy_weights):
    planes = Planes(image(3, 150, 160), "RGB;16")
    sizes = [len(codec.encode_planes(planes, effort=effort).data) for effort in ("fast", "default", "best")]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] <= len(codec.encode_planes(planes, code="conventional").data)


def test_what_is_no_photograph_stays_conventional(toy_weights):
    flat = np.zeros((1, 200, 300), np.uint16)
    flat[:, 50:90, 20:200] = 40000
    found = codec.encode_planes(Planes(flat, "I;16"))
    assert codec.decode_planes(found.data).data.tobytes() == flat.tobytes()
    assert len(found.data) <= len(codec.encode_planes(Planes(flat, "I;16"), code="conventional").data)


def test_models_of_other_depths_are_refused(toy_weights):
    deep_file = codec.encode_planes(Planes(image(1, 20, 20), "I;16"), code="learning-grey16").data
    shallow = codec.encode_planes(Planes(image(1, 20, 20, 8).astype(np.uint8), "L"), code="learning-grey").data
    first, second = unpack(deep_file, max_pixels=None), unpack(shallow, max_pixels=None)
    for header, parts in ((first, second.parts), (second, first.parts)):
        swapped = pack(type(header)(header.mode_id, header.width, header.height, header.pixels_crc, (), parts))
        with pytest.raises(UnknownModelError, match="bits"):
            codec.decode_planes(swapped)
    with pytest.raises(GmcError):
        codec.encode_planes(Planes(image(1, 20, 20), "I;16"), code="learning-grey")


def test_tiles_of_large_images_are_those_of_8_bits(toy_weights):
    planes = image(1, 370, 360)
    tile = tile_shape(370, 360)
    assert tile[0] < 370
    payload = high_depth.encode(planes, model(1), 2).data
    assert np.array_equal(high_depth.decode(payload, planes.shape, model(1), 2), planes)
