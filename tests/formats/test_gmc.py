# SPDX-License-Identifier: MIT
"""The container: round trips, frozen bytes and damage. tests/hostile/README.md numbers the attacks."""

import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmcodec.errors import (
    ChecksumError,
    GmcError,
    GmcFormatError,
    ImageTooLargeError,
    NotAGmcFileError,
    TruncatedFileError,
    UnsupportedVersionError,
)
from gmcodec.formats import gmc
from gmcodec.formats.gmc import Header, Part, overhead, pack, pixels_crc, unpack
from gmcodec.image.modes import DEFAULT_MAX_PIXELS, MODES_BY_ID

SMALL = Header(
    mode_id=6,
    width=300,
    height=2,
    pixels_crc=0x01020304,
    metadata=((1, b"icc"), (1, b""), (9, b"x")),
    parts=(Part(16, 3, b"abc", b"WxYz"), Part(1, 1, b"")),
)
GOLDEN = bytes.fromhex(
    "676d63 01 86 ac02 02 04030201"  # gmc, version 1, RGBA with metadata, 300 x 2, pixel CRC
    "0a 01 03 696363 01 00 09 01 78"  # 10 bytes of metadata
    "10 03 5778597a 03 616263"  # method 16, 3 channels, weights, payload
    "01 01 00"  # method 1, 1 channel, empty payload
    "d2dc9fff"  # CRC-32 of all that
)


def sealed(body: bytes) -> bytes:
    """``body`` with a correct file CRC, so that only its structure is wrong."""
    return body + zlib.crc32(body).to_bytes(4, "little")


def body(mode: int = 2, sides: bytes = b"\x01\x01", rest: bytes = b"\x01\x01\x01\x07") -> bytes:
    """A 1x1 grey file without its CRC, one field of it replaced."""
    return b"gmc\x01" + bytes([mode]) + sides + bytes(4) + rest


@st.composite
def headers(draw: st.DrawFn) -> Header:
    mode_id = draw(st.sampled_from(sorted(MODES_BY_ID)))
    left, parts = MODES_BY_ID[mode_id].channels, []
    while left:
        channels, method = draw(st.integers(1, left)), draw(st.integers(1, 255))
        weights = draw(st.binary(min_size=4, max_size=4)) if method >= 16 else b""
        parts.append(Part(method, channels, draw(st.binary(max_size=300)), weights))
        left -= channels
    entries = st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=200)), max_size=4)
    metadata = sorted(draw(entries), key=lambda entry: entry[0])
    side = st.integers(1, 2**31 - 1)
    return Header(mode_id, draw(side), draw(side), draw(st.integers(0, 2**32 - 1)), tuple(metadata), tuple(parts))


@settings(max_examples=150, deadline=None)
@given(headers())
def test_round_trip(header):
    data = pack(header)
    assert unpack(data, max_pixels=None) == header
    assert unpack(memoryview(bytearray(data)), max_pixels=None) == header
    assert overhead(header) == len(data) - sum(len(part.payload) for part in header.parts)


def test_golden_bytes():
    assert pack(SMALL) == GOLDEN
    assert unpack(GOLDEN) == SMALL


def test_properties():
    assert (SMALL.channels, SMALL.depth, SMALL.version, SMALL.pixels) == (4, 8, 1, 600)


def test_a_photograph_costs_26_bytes():
    photograph = Header(5, 768, 512, 0, (), (Part(16, 3, bytes(450_000), b"abcd"),))
    assert overhead(photograph) == 26
    assert len(pack(photograph)) == 450_026


@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2"])
def test_pixels_crc_follows_the_specification(dtype, monkeypatch):
    monkeypatch.setattr(gmc, "_CRC_CHUNK", 64)  # so that rows are taken in several bands
    data = np.random.default_rng(1).integers(0, 250, (3, 9, 11)).astype(dtype)
    little = data.astype("<u2" if data.itemsize == 2 else "u1")
    expected = zlib.crc32(little.tobytes())
    assert pixels_crc(data) == expected
    assert pixels_crc(np.ascontiguousarray(data.transpose(1, 2, 0)).transpose(2, 0, 1)) == expected


def test_pixels_crc_refuses_other_types():
    with pytest.raises(TypeError):
        pixels_crc(np.zeros((1, 2, 2), np.float32))


@pytest.mark.parametrize("cut", range(len(GOLDEN)))
def test_every_truncation_is_refused(cut):
    with pytest.raises(GmcFormatError):
        unpack(GOLDEN[:cut])


@pytest.mark.parametrize("bit", range(8 * len(GOLDEN)))
def test_every_flipped_bit_is_refused(bit):
    damaged = bytearray(GOLDEN)
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(GmcError):
        unpack(bytes(damaged))


@pytest.mark.parametrize("data", [b"\x89PNG\r\n\x1a\n", b"gmd\x01", b"GMC\x01", b"x"])
def test_wrong_magic(data):
    with pytest.raises(NotAGmcFileError):
        unpack(data)


@pytest.mark.parametrize("data", [b"", b"g", b"gmc", b"gmc\x01"])
def test_shorter_than_a_header(data):
    with pytest.raises(TruncatedFileError):
        unpack(data)


@pytest.mark.parametrize("version", [0, 2, 255])
def test_unknown_version_comes_before_everything_else(version):
    with pytest.raises(UnsupportedVersionError, match=f"version {version}"):
        unpack(b"gmc" + bytes([version]))


@pytest.mark.parametrize("mode", [0, 15, 31, 1 | 32, 4 | 32, 2 | 64])
def test_bad_mode(mode):
    with pytest.raises(GmcFormatError, match="mode"):
        unpack(sealed(body(mode=mode)))


@pytest.mark.parametrize("sides", [b"\x81\x00\x01", b"\x01\x81\x80\x00", b"\xff" * 10 + b"\x01\x01"])
def test_non_canonical_varints(sides):
    with pytest.raises(GmcFormatError, match=r"padding|more than 9"):
        unpack(sealed(body(sides=sides)))


@pytest.mark.parametrize("sides", [b"\x00\x01", b"\x01\x00", b"\x80\x80\x80\x80\x08\x01"])
def test_sides_out_of_range(sides):
    with pytest.raises(GmcFormatError, match="dimensions"):
        unpack(sealed(body(sides=sides)))


def test_absurd_dimensions_are_refused_and_the_limit_can_be_lifted():
    data = sealed(body(sides=b"\xff\xff\xff\xff\x07" * 2))
    with pytest.raises(ImageTooLargeError, match=str(DEFAULT_MAX_PIXELS)):
        unpack(data)
    assert unpack(data, max_pixels=None).pixels == (2**31 - 1) ** 2
    assert unpack(sealed(body()), max_pixels=1).pixels == 1


def test_damage_is_reported_before_the_size():
    with pytest.raises(ChecksumError):
        unpack(body(sides=b"\xff\xff\xff\xff\x07" * 2) + bytes(4))


@pytest.mark.parametrize("rest", [b"\x01\x01\xff\xff\xff\xff\x0f", b"\x01\x01" + b"\xff" * 8 + b"\x7f"])
def test_absurd_lengths_allocate_nothing(rest):
    tracemalloc.start()
    with pytest.raises(TruncatedFileError):
        unpack(sealed(body(rest=rest)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize("extra", [b"\0", b"gmc", bytes(100)])
def test_trailing_bytes(extra):
    with pytest.raises(GmcFormatError, match="follow"):
        unpack(GOLDEN + extra)
    with pytest.raises(GmcFormatError, match="follow"):
        unpack(sealed(GOLDEN[:-4] + extra))


@pytest.mark.parametrize(
    "section",
    [
        b"\x04\x02\x00\x01\x00",  # tags decrease
        b"\x00",  # present but empty
        b"\x02\x01\x05",  # an entry runs over the section's end
        b"\x03\x01\x80\x00",  # an entry's length is padded
        b"\x01\x01",  # a tag without a length
    ],
)
def test_bad_metadata(section):
    with pytest.raises(GmcFormatError, match=r"metadata|padding"):
        unpack(sealed(body(mode=0x82, rest=section + b"\x01\x01\x01\x07")))


@pytest.mark.parametrize("rest", [b"\x00\x01\x01\x07", b"\x01\x00\x01\x07", b"\x01\x02\x01\x07", b"\x01\xff\x01\x07"])
def test_bad_parts(rest):
    with pytest.raises(GmcFormatError, match="part of method"):
        unpack(sealed(body(rest=rest)))


def test_a_swapped_payload_passes_the_container_only():
    """Consistent lies are for the codec: it compares the pixel CRC after decoding."""
    assert unpack(sealed(body(rest=b"\x01\x01\x01\x08"))).parts[0].payload == b"\x08"


@pytest.mark.parametrize(
    "changes",
    [
        {"mode_id": 15},
        {"width": 0},
        {"height": 2**31},
        {"pixels_crc": -1},
        {"metadata": ((2, b""), (1, b""))},
        {"metadata": ((256, b""),)},
        {"parts": ()},
        {"parts": (Part(1, 3, b""),)},
        {"parts": (Part(16, 4, b""),)},
        {"parts": (Part(1, 4, b"", b"abcd"),)},
        {"parts": (Part(0, 4, b""),)},
        {"parts": (Part(256, 4, b"", b"abcd"),)},
        {"parts": (Part(1, 5, b""), Part(1, -1, b""))},
    ],
)
def test_pack_refuses_what_unpack_would(changes):
    with pytest.raises(GmcFormatError):
        pack(Header(**{**vars(SMALL), **changes}))
