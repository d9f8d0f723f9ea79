# SPDX-License-Identifier: MIT
"""Graphics with a net: round trips of all kinds of colours, what is refused, and where it is tried."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import toy
from hypothesis import given, settings
from hypothesis import strategies as st
from places import ROOT
from samples import text_picture

from gmcodec import archive, codec, effort, native, sampling
from gmcodec.coders import GraphicsNetCoder, coder_of
from gmcodec.coding import graphics, reduction
from gmcodec.errors import GmcFormatError, UnknownModelError, UnsupportedImageError, WeightsError
from gmcodec.exact.context_mixing import make_tables
from gmcodec.formats import gmc
from gmcodec.formats.gmc import Header, Part
from gmcodec.image.modes import MODES
from gmcodec.image.planes import Planes
from gmcodec.models import registry
from gmcodec.models.graphics.model import GraphicsModel

pytestmark = [pytest.mark.native, pytest.mark.usefixtures("toy_weights")]
CODERS = {n: GraphicsNetCoder(GraphicsModel(native.core(), toy.model(n))) for n in (1, 3)}
CHANNELS = {1: (1, 2, 3, 4), 3: (3, 4)}  # of images, by the colours of the net
KINDS = [(colours, channels) for colours in CHANNELS for channels in CHANNELS[colours]]
FLAG, SIZES, HEAD = 0, 1, 2  # where the parts of a payload begin
NAMES = {1: "graphics-grey", 3: "graphics-rgb"}
MODES_OF = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


def picture(colours: int, channels: int, size: tuple[int, int] = (14, 19), seed: int = 0) -> np.ndarray:
    """Text above a slope, for a net of ``colours``; uint8 [channels, H, W]."""
    random = np.random.default_rng(seed)
    page = np.concatenate([text_picture(*size), text_picture(*size)[:1]])[:channels]
    slope = toy.smooth(random, (channels, *size))
    planes = np.where(np.arange(size[0])[:, None] < size[0] // 2, page, slope)
    if colours == 1 and channels > 2:
        planes[1:3] = planes[0]
    return planes.astype(np.uint8)


def check(colours: int, planes: np.ndarray) -> bytes:
    """Encode and decode; progress counts every pixel once, and the estimate is right."""
    told: list[list[int]] = [[], []]
    made = CODERS[colours].encode(planes, progress=told[0].append)
    assert np.array_equal(CODERS[colours].decode(made.data, planes.shape, progress=told[1].append), planes)
    assert [sum(counts) for counts in told] == [planes[0].size] * 2
    assert abs(len(made.data) - made.estimated_bits / 8) <= 16
    return made.data


# -- round trips -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("colours", "channels"), KINDS)
@pytest.mark.parametrize("size", [(14, 19), (1, 1), (1, 9), (9, 1), (3, 300)])
def test_every_kind_comes_back(colours: int, channels: int, size: tuple[int, int]) -> None:
    for planes in (picture(colours, channels, size), np.zeros((channels, *size), np.uint8)):
        if colours == 1 or planes.any():
            check(colours, planes)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(KINDS), st.tuples(st.integers(1, 30), st.integers(1, 30)), st.integers(1, 256), st.integers(0, 9)
)
def test_round_trip(kind: tuple[int, int], size: tuple[int, int], top: int, seed: int) -> None:
    colours, channels = kind
    planes = np.random.default_rng(seed).integers(0, top, (channels, *size)).astype(np.uint8)
    if colours == 1 and channels > 2:
        planes[1:3] = planes[0]
    if colours == 3:
        planes[:3, 0, 0] = 0, 1, 2  # not grey
    check(colours, planes)


def test_several_calls_make_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    planes = picture(3, 4, (40, 50))
    made = check(3, planes)
    for pixels in (1, 7, 333):
        monkeypatch.setattr(graphics, "CALL_PIXELS", pixels)
        assert check(3, planes) == made


@pytest.mark.parametrize("colours", CODERS)
def test_every_instruction_set_makes_the_same_bytes(colours: int) -> None:
    planes = picture(colours, 4, (30, 40))
    made = {
        GraphicsNetCoder(GraphicsModel(native.core(isa), toy.model(colours, isa))).encode(planes).data
        for isa in native.isas()
    }
    assert made == {check(colours, planes)}


@pytest.mark.parametrize(("colours", "channels"), KINDS)
def test_files(colours: int, channels: int) -> None:
    planes = Planes(picture(colours, channels), MODES_OF[channels])
    made = codec.encode_planes(planes, code=NAMES[colours])
    assert [part[:2] for part in made.parts] == [(NAMES[colours], channels)]
    assert codec.decode_planes(made.data) == planes


def test_the_shipped_net_makes_photographs_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GMCODEC_WEIGHTS")
    planes = Planes(codec.to_planes(ROOT / "examples" / "photo.png").data[:, 200:330, 300:440], "RGB")
    sizes = [len(codec.encode_planes(planes, code=code).data) for code in ("graphics-rgb", "graphics")]
    assert sizes[0] < 0.97 * sizes[1]


# -- what is refused -------------------------------------------------------------------------------------------


def test_a_net_of_other_colours_is_refused() -> None:
    for colours, planes in ((1, picture(3, 3)), (3, picture(1, 3)), (3, picture(1, 2))):
        with pytest.raises(UnsupportedImageError, match="colours"):
            CODERS[colours].encode(planes)
    with pytest.raises(UnsupportedImageError):
        codec.encode_planes(Planes(picture(1, 1), "L"), code="graphics-rgb")


@pytest.mark.parametrize("mode", ["1", "P", "I;16", "RGB;16"])
def test_modes_that_nets_do_not_know(mode: str) -> None:
    spec = MODES[mode]
    planes = Planes(np.zeros((spec.channels, 3, 4), np.uint16 if spec.depth == 16 else np.uint8), mode)
    for name in NAMES.values():
        with pytest.raises(UnsupportedImageError):
            codec.encode_planes(planes, code=name)


def changed(payload: bytes, at: int, value: int) -> bytes:
    return payload[:at] + bytes([value]) + payload[at + 1 :]


def test_first_bytes_that_nobody_writes() -> None:
    planes = picture(3, 4)
    payload = CODERS[3].encode(planes).data

    def refused(data: bytes, match: str, colours: int = 3) -> None:
        with pytest.raises(GmcFormatError, match=match):
            CODERS[colours].decode(data, planes.shape)

    refused(changed(payload, FLAG, payload[FLAG] & 15), "for graphics without a net")  # CHANNELS
    refused(changed(payload, SIZES, payload[SIZES] & 31 | 6 << 5), "of 7 bits")
    refused(payload, "a net of 1 colours cannot see 3", colours=1)
    refused(changed(payload, HEAD, 2), "a net of 3 colours cannot see 1")
    refused(changed(payload, HEAD, 8), "cannot leave out")
    refused(changed(payload, FLAG, payload[FLAG] & ~3 | 2), "have no templates")


def test_damaged_payloads_decode_or_are_refused() -> None:
    planes, random = picture(3, 4, (6, 9)), np.random.default_rng(0)
    payload = CODERS[3].encode(planes).data
    damaged = [payload[:n] for n in range(len(payload))]
    damaged += [changed(payload, at, payload[at] ^ 1 << bit) for at in range(len(payload)) for bit in range(8)]
    damaged += [payload[:HEAD] + random.bytes(40) for _ in range(40)]
    for data in damaged:
        try:
            assert CODERS[3].decode(data, planes.shape).shape == planes.shape
        except GmcFormatError:
            pass


def file_of(planes: Planes, part: Part) -> bytes:
    crc = gmc.pixels_crc(planes.data)
    return gmc.pack(Header(MODES[planes.mode].id, planes.width, planes.height, crc, (), (part,)))


def test_parts_that_a_net_cannot_have(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, planes = registry.named("graphics-rgb"), Planes(picture(3, 3), "RGB")
    part = Part(34, 3, coder_of(loaded).encode(planes.data).data, loaded.weights_id)
    assert codec.decode_planes(file_of(planes, part)) == planes
    with pytest.raises(WeightsError, match="needs weights"):
        codec.decode_planes(file_of(planes, Part(34, 3, part.payload, b"abcd")))
    grey = Planes(planes.data[:1], "L")
    with pytest.raises(UnknownModelError, match="does not code 1 channels"):
        codec.decode_planes(file_of(grey, Part(34, 1, part.payload, loaded.weights_id)))
    deep = Planes(planes.data.astype(np.uint16), "RGB;16")
    with pytest.raises(UnknownModelError):
        codec.decode_planes(file_of(deep, part))
    entries = [registry.Entry(34, "graphics-rgb", 3, max_pixels=100, net="local-rgb-fast")]
    monkeypatch.setattr(registry, "BY_METHOD", {entry.method: entry for entry in entries})
    with pytest.raises(UnknownModelError, match="266 pixels"):
        codec.decode_planes(file_of(planes, part))


def test_graphics_with_a_net_make_no_groups_and_draw_nothing(tmp_path: Any) -> None:
    images = {name: Planes(picture(3, 3, (9, 9), seed), "RGB") for seed, name in enumerate("ab")}
    archive.pack(images, tmp_path / "a.gma", model="graphics-rgb")
    with archive.Archive(tmp_path / "a.gma") as opened:
        assert dict(opened.items()) == images
        assert 34 not in {block.method for block in opened.blocks if block.kind == archive.GROUP}
    with pytest.raises(UnsupportedImageError, match="groups"):
        CODERS[3].encode_group(np.zeros((2, 3, 4, 4), np.uint8))
    with pytest.raises(GmcFormatError, match="group"):
        CODERS[3].decode_group(b"", (2, 3, 4, 4))
    with pytest.raises(ValueError, match="draws no pictures"):
        sampling.sample_page("graphics-rgb", 1, 1, 8)


def test_a_net_that_does_not_fit_an_image_is_refused_by_the_core() -> None:
    core, canvas, (grey, rgb) = native.core(), native.new_canvas(4, 5), (toy.model(1), toy.model(3))
    options: dict[str, Any] = dict(
        channels=3, depth=8, green=0, contexts=1, bilevel=False, guessing=0, bucket_bits=10, place_bits=10
    )
    for net in (
        (rgb.net, rgb.canvas(4, 6)), (rgb.net, rgb.canvas(5, 5)), (rgb.net, rgb.canvas(4, 5, 2)),
        (rgb.net, grey.canvas(4, 5)), (rgb.net, toy.model(3, radius2=4).canvas(4, 5)),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="net"):
            native.Graphics(core, canvas, make_tables(), **options, net=net)
    with pytest.raises(ValueError, match="a net of 3 channels for a pixel of 1"):
        native.Graphics(
            core, canvas, make_tables(), **{**options, "channels": 1, "green": -1}, net=(rgb.net, rgb.canvas(4, 5))
        )


# -- efforts ---------------------------------------------------------------------------------------------------


def names_of_trials(planes: Planes, level: str) -> list[str]:
    """What an effort tries, by name."""
    trials = effort._graphic_trials(planes, effort._reductions(planes), level, effort._with_net(planes))
    return [codec.method_name(trial(lambda n: None)[0][0].method) for trial in trials]


@pytest.mark.parametrize(("colours", "channels"), KINDS)
def test_efforts_try_nets_of_the_colours_that_an_image_has(colours: int, channels: int) -> None:
    planes = Planes(picture(colours, channels, (40, 40)), MODES_OF[channels])
    assert names_of_trials(planes, "fast") == ["graphics"]
    assert names_of_trials(planes, "default") == ["graphics", NAMES[colours]]
    assert names_of_trials(planes, "best")[-1] == NAMES[colours]


def test_default_asks_no_net_of_large_images_or_few_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    planes = Planes(picture(3, 3, (40, 40)), "RGB")
    few = Planes(planes.data // 128, "RGB")
    assert names_of_trials(few, "default") == ["graphics"] * 2
    assert names_of_trials(few, "best") == ["graphics"] * 3 + ["graphics-rgb"]
    monkeypatch.setattr(effort, "NET_PIXELS", 1599)
    assert names_of_trials(planes, "default") == ["graphics"] * 2
    entries = (registry.Entry(34, "graphics-rgb", 3, max_pixels=1599, net="local-rgb-fast"),)
    monkeypatch.setattr(registry, "ENTRIES", entries)
    assert names_of_trials(planes, "best") == ["graphics"] * 2
    assert reduction.NET_COLOURS not in {reduced.kind for reduced in effort._reductions(planes)}


def test_grey_in_three_channels_is_no_photograph_of_colours() -> None:
    grey = np.repeat(toy.smooth(np.random.default_rng(0), (1, 130, 140)), 3, 0)
    assert not effort.is_photograph(Planes(grey, "RGB"))
    grey[2, 60, 70] ^= 1
    assert effort.is_photograph(Planes(grey, "RGB"))
    assert not effort.is_photograph(Planes(np.ascontiguousarray(grey[:, :50, :60]), "RGB"))  # small
    assert not effort.is_photograph(Planes(grey // 64, "RGB"))  # flat
