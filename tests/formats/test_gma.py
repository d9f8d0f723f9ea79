# SPDX-License-Identifier: MIT
"""The archive's index: round trips, frozen bytes and damage. tests/hostile/README.md numbers the attacks."""

import itertools
import tracemalloc
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmcodec.errors import (
    ChecksumError,
    GmcError,
    GmcFormatError,
    MemberNameError,
    NotAGmcFileError,
    TruncatedFileError,
    UnsupportedVersionError,
)
from gmcodec.formats import gma, varint
from gmcodec.formats.gma import (
    END,
    GROUP,
    HEAD,
    MAX_GROUP_COUNT,
    MAX_GROUP_PIXELS,
    SINGLE,
    Attributes,
    Block,
    Group,
    name_problem,
    read_blocks,
    read_group,
    write_group,
    write_index,
)

TWO = (
    Block(GROUP, 5, 16, 32, 16, 3, ("pé", "pq"), (0x1234, 0xFFFF), offset=4),
    Block(SINGLE, 2, 3, 300, 1, 2, ("b",), (), offset=7),
)
GOLDEN = bytes.fromhex(
    "676d6101"  # gma, version 1
    "aaaaaa bbbb"  # the blocks, not this module's business
    "04 00 1b 1b"  # the section starts at 4; stored; 27 bytes, stored in 27
    "02"  # 2 blocks
    "02 05 10 20 10 02 03"  # group, RGB, method 16, 32 x 16, 2 images, 3 bytes
    "01 02 03 ac02 01 01 02"  # single, L, method 3, 300 x 1, 1 image, 2 bytes
    "00 01 00  03 01 01"  # shared and own lengths of the names
    "70c3a9 71 62"  # pé (p)q b
    "3412 ffff"  # CRCs of the members of the group
    "23000000"  # length of the index
    "6a254e24 616d6701"  # its CRC-32, and the end
)


NEW = (
    replace(TWO[0], attributes=(Attributes(0o644, 1_700_000_000_123_456_789), Attributes(None, None))),
    replace(TWO[1], attributes=(Attributes(0o600, 1_699_999_999_000_000_000),)),
)
NEW_GOLDEN = bytes.fromhex(
    "676d6102"  # gma, version 2
    "aaaaaa bbbb"
    "04 00 30 30"  # 48 bytes
    "02  02 05 10 20 10 02 03  01 02 03 ac02 01 01 02  00 01 00  03 01 01  70c3a9 71 62"  # as in version 1
    "03"  # permissions and times
    "a503 00 8103"  # 1 + 0o644, not known, 1 + 0o600
    "81c49fd50c 00 02"  # 1 + zigzag of the seconds; not known; a second before
    "15cd5b07 00000000"  # nanoseconds
    "3412 ffff"
    "38000000"
    "33d69619 616d6702"
)


def archive(*sections: tuple[Block, ...]) -> bytes:
    """Sections with blocks of zeros."""
    data = HEAD
    for blocks in sections:
        start = len(data)
        data += bytes(sum(block.length for block in blocks))
        data += write_index(blocks, start)
    return data


def read(data: bytes) -> list[Block]:
    return read_blocks(lambda offset, count: data[offset : offset + count], len(data))


def sealed(index: bytes, blocks: bytes = b"", version: int = 1) -> bytes:
    """An archive of one section with a correct CRC, so that only the structure of the index is wrong."""
    tail = index + len(index).to_bytes(4, "little")
    head, end = HEAD[:3] + bytes([version]), END[:3] + bytes([version])
    return head + blocks + tail + zlib.crc32(tail).to_bytes(4, "little") + end


def index(body: bytes, crcs: bytes = b"", method: int = 0, length: int | None = None, start: int = 4) -> bytes:
    length = len(body) if length is None else length
    return varint.write(start) + bytes([method]) + varint.write(length) + varint.write(len(body)) + body + crcs


def deflated(body: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(body) + packer.flush()


def entry(
    kind: int = 1, mode: int = 2, method: int = 1, width: int = 1, height: int = 1, count: int = 1, length: int = 1
):
    return bytes([kind, mode, method]) + b"".join(map(varint.write, (width, height, count, length)))


def one(name: bytes = b"x", **changes: int) -> bytes:
    """An archive of one single, whose entry is changed."""
    body = b"\1" + entry(**changes) + b"\0" + varint.write(len(name)) + name
    return sealed(index(body), bytes(changes.get("length", 1)))


# -- round trips and frozen bytes --------------------------------------------------------------------------


def test_golden_bytes():
    assert tuple(read(GOLDEN)) == TWO
    made = HEAD + b"\xaa\xaa\xaa\xbb\xbb" + write_index(NEW, 4)
    assert made == NEW_GOLDEN
    assert tuple(read(NEW_GOLDEN)) == NEW


def test_a_section_of_version_2_may_follow_one_of_version_1():
    added = replace(NEW[1], names=("c",), offset=len(GOLDEN))
    data = GOLDEN + bytes(2) + write_index([added], len(GOLDEN))
    assert tuple(read(data)) == (*TWO, added)


def test_what_nothing_is_known_of_costs_a_byte():
    assert len(archive(TWO)) == len(GOLDEN) + 1
    assert tuple(read(archive(TWO))) == TWO


@pytest.mark.parametrize("modified", [10**30, -(10**30)])
def test_times_that_no_file_has_are_not_kept(modified):
    made = replace(NEW[1], attributes=(Attributes(0o600, modified),), offset=4)
    assert read(archive((made,)))[0].attributes == (Attributes(0o600, None),)


NAMES = st.text(st.sampled_from("ab/.é1"), min_size=1, max_size=12).filter(lambda name: name_problem(name) is None)


ATTRIBUTES = st.builds(
    Attributes, st.none() | st.integers(0, 0o777), st.none() | st.integers(-(2**40 - 1) * 10**9, 2**40 * 10**9 - 1)
)


@st.composite
def sections(draw: st.DrawFn) -> list[tuple[Block, ...]]:
    names = draw(st.lists(NAMES, unique=True, min_size=1, max_size=20))
    out: list[list[Block]] = [[]]
    while names:
        kind = draw(st.sampled_from([SINGLE, GROUP, 77]))
        count = 1 if kind == SINGLE else draw(st.integers(1, 5))
        mine, names = tuple(names[:count]), names[count:]
        crcs = () if kind == SINGLE else tuple(draw(st.integers(0, 65535)) for _ in mine)
        mode = draw(st.sampled_from([2, 5])) if kind == GROUP else draw(st.integers(1, 10))
        side = st.integers(1, 128)
        method, length = draw(st.integers(1, 255)), draw(st.integers(1, 300))
        kept = tuple(draw(ATTRIBUTES) for _ in mine)
        out[-1].append(Block(kind, mode, method, draw(side), draw(side), length, mine, crcs, kept))
        if draw(st.booleans()):
            out.append([])
    return [tuple(blocks) for blocks in out]


def as_made(block: Block) -> Block:
    """Without what is not stored: where it is, and that nothing is known."""
    return replace(block, offset=0, attributes=block.attributes if any(map(any_known, block.attributes)) else ())


def any_known(kept: Attributes) -> bool:
    return kept != Attributes()


@settings(max_examples=150, deadline=None)
@given(sections())
def test_round_trip(made):
    blocks = read(archive(*made))
    assert [as_made(block) for block in blocks] == [as_made(block) for section in made for block in section]
    for block, following in itertools.pairwise(blocks):
        assert block.offset + block.length <= following.offset


@pytest.mark.parametrize("name", ["{:05d}.png", "photos/2024/IMG_{}.jpg", "{:x}"])
def test_numbered_names_cost_a_tenth_of_a_byte(name):
    names = tuple(name.format(i) for i in range(4_000))
    block = Block(GROUP, 2, 17, 4, 4, 1, names, (7,) * 4_000)
    assert len(write_index([block], 4)) < 4_000 * 2.1 + 100


@pytest.mark.parametrize(("equal", "cost"), [(True, 0.05), (False, 8.5)])
def test_times_and_permissions_cost_little(equal, cost):
    """Of 1,000 files: of one moment, as when they come from an archive, or of any nanosecond of three years."""
    random, names = np.random.default_rng(0), tuple(f"{i:04d}.png" for i in range(1000))
    times = [1_700_000_000_000_000_000 + (0 if equal else int(random.integers(10**17))) for _ in names]
    plain = Block(GROUP, 2, 17, 4, 4, 1, names, (7,) * 1000)
    kept = replace(plain, attributes=tuple(Attributes(0o644, time) for time in times))
    more = len(write_index([kept], 4)) - len(write_index([plain], 4))
    print(f"{more / 1000:.3f} bytes a member")
    assert more < 1000 * cost


def test_properties():
    assert (TWO[0].mode, TWO[0].channels, TWO[0].pixels, TWO[0].dimensions) == ("RGB", 3, 512, 3072)


# -- damage ------------------------------------------------------------------------------------------------


def test_every_truncation_is_refused_but_at_the_end_of_a_section():
    first, whole = archive(TWO), archive(TWO, (replace(TWO[1], names=("c",)),))
    assert whole.startswith(first)
    for cut in range(len(whole)):
        if cut == len(first):
            assert tuple(read(whole[:cut])) == TWO
        else:
            with pytest.raises(GmcFormatError):
                read(whole[:cut])


def test_every_flipped_bit_outside_the_blocks_is_refused():
    data = archive(TWO)
    for bit in range(8 * len(data)):
        if 4 <= bit // 8 < 9:
            continue
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(GmcError):
            read(bytes(damaged))


@pytest.mark.parametrize("extra", [b"\0", b"amg\1", bytes(100)])
def test_bytes_that_follow(extra):
    with pytest.raises(GmcFormatError):
        read(archive(TWO) + extra)


GOOD_2 = b"\1" + bytes([1, 2, 1, 1, 1, 1, 1]) + b"\0\1x"
DAY = varint.write(1 + varint.to_unsigned(86400))


def test_the_helpers_make_good_attributes():
    for rest, kept in (
        (b"\0", ()),
        (b"\1\0", (Attributes(),)),
        (b"\1" + varint.write(512), (Attributes(0o777),)),
        (b"\2\0", (Attributes(),)),
        (b"\3\1" + DAY + b"\1\0\0\0", (Attributes(0, 86400 * 10**9 + 1),)),
    ):
        assert read(sealed(index(GOOD_2 + rest), b"\0", 2))[0].attributes == kept


@pytest.mark.parametrize(
    "rest",
    [
        b"",
        b"\0\0",
        b"\4\0\0",  # nobody knows what is kept
        b"\xff\1\1\0\0\0\0",
        b"\1",
        b"\1" + varint.write(513),
        b"\1" + varint.write(2**62),
        b"\1\x81\0",  # padded
        b"\1\1\1",
        b"\2",
        b"\2" + DAY,
        b"\2" + DAY + bytes(3),
        b"\2" + DAY + bytes(5),
        b"\2" + DAY + (10**9).to_bytes(4, "little"),
        b"\2" + DAY + b"\xff" * 4,
        b"\2\0" + bytes(4),  # nanoseconds of a time that is not known
        b"\2\x81\0" + bytes(4),
        b"\2" + varint.write(1 + varint.to_unsigned(2**40)) + bytes(4),
        b"\2" + varint.write(1 + varint.to_unsigned(-(2**40))) + bytes(4),
        b"\2" + varint.write(2**63 - 1) + bytes(4),
    ],
)
def test_bad_attributes(rest):
    with pytest.raises(GmcFormatError):
        read(sealed(index(GOOD_2 + rest), b"\0", 2))


def test_attributes_in_version_1():
    with pytest.raises(GmcFormatError, match="follow the end"):
        read(sealed(index(GOOD_2 + b"\0"), b"\0", 1))


def test_versions_of_sections():
    second = archive((replace(TWO[1], names=("c",)),))
    with pytest.raises(GmcFormatError, match="the first section has version 2"):
        read(b"gma\1" + second[4:])
    with pytest.raises(GmcFormatError, match="the first section has version 1"):
        read(b"gma\2" + GOLDEN[4:])
    with pytest.raises(UnsupportedVersionError, match="version 3"):
        read(archive(TWO)[:-1] + b"\3")
    older = sealed(index(GOOD_2, start=len(second)), b"\0")[4:]
    with pytest.raises(GmcFormatError, match="version 1 follows one of version 2"):
        read(second + older)


def test_other_files():
    for data in (b"\x89PNG\r\n\x1a\n" + bytes(40), b"gmc\1" + bytes(40), b"x"):
        with pytest.raises(NotAGmcFileError):
            read(data)
    for data in (b"", b"g", b"gma\1"):
        with pytest.raises(TruncatedFileError):
            read(data)
    with pytest.raises(UnsupportedVersionError, match="version 3"):
        read(b"gma\3" + archive(TWO)[4:])


GOOD_BODY = b"\1" + entry() + b"\0\1x"


def test_the_helpers_make_good_archives():
    assert read(sealed(index(GOOD_BODY), b"\0"))[0].names == ("x",)
    assert read(sealed(index(deflated(GOOD_BODY), method=1, length=len(GOOD_BODY)), b"\0"))[0].names == ("x",)
    assert read(one())[0].names == ("x",)


@pytest.mark.parametrize(
    "made",
    [
        index(GOOD_BODY, start=3),
        index(GOOD_BODY, start=5),  # the block does not fill what is left
        index(GOOD_BODY, start=99),
        index(GOOD_BODY, b"\0\0"),  # a CRC too many
        index(GOOD_BODY, length=99),
        index(GOOD_BODY, method=2),
        index(GOOD_BODY, method=1),  # is not deflated
        index(deflated(GOOD_BODY) + b"\0", method=1, length=len(GOOD_BODY)),  # goes on after the stream
        index(deflated(GOOD_BODY)[:-2], method=1, length=len(GOOD_BODY)),
        index(deflated(GOOD_BODY), method=1, length=len(GOOD_BODY) - 1),
        index(deflated(GOOD_BODY), method=1, length=2**40),
        index(b""),
        index(GOOD_BODY + b"\0"),
        index(GOOD_BODY[:-1]),
        index(b"\x81\0" + GOOD_BODY[1:]),  # padded number
        index(b"\1" + entry() + b"\1\1x"),  # shares a byte with no name
        index(b"\1" + entry() + b"\0\2x\xff"),  # not UTF-8
        index(b"\1" + entry(count=2) + b"\0\0\1\1xy"),  # a single of two images
        index(b"\0"),  # no block, but a byte
    ],
)
def test_bad_indexes(made):
    with pytest.raises(GmcFormatError):
        read(sealed(made, b"\0"))


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": 0},
        {"mode": 0},
        {"mode": 15},
        {"method": 0},
        {"width": 0},
        {"height": 2**31},
        {"count": 0},
        {"length": 0},
    ],
)
def test_bad_entries(changes):
    with pytest.raises(GmcFormatError):
        read(one(**changes))


@pytest.mark.parametrize(
    "changes", [{"mode": 6}, {"width": MAX_GROUP_PIXELS + 1}, {"width": 2**30, "height": 2**30}, {"mode": 7}]
)
def test_groups_beyond_the_limits(changes):
    body = b"\1" + entry(**{"kind": GROUP, **changes}) + b"\0\1x"
    with pytest.raises(GmcFormatError, match="group"):
        read(sealed(index(body, b"\0\0"), b"\0"))


def test_groups_of_too_many_images():
    names = tuple(map(str, range(MAX_GROUP_COUNT + 1)))
    block = Block(GROUP, 2, 17, 1, 1, 9, names, (0,) * len(names))
    most = replace(block, names=names[:-1], crcs=block.crcs[:-1])
    assert read(HEAD + bytes(9) + write_index([most], len(HEAD)))[0].names == most.names
    with pytest.raises(GmcFormatError, match="group of 4097"):
        write_index([block], len(HEAD))


def test_a_kind_from_the_future_is_listed():
    body = b"\1" + entry(kind=9) + b"\0\1x"
    assert read(sealed(index(body, b"\0\0"), b"\0"))[0].kind == 9


@pytest.mark.parametrize(
    "name",
    ["", "/etc/passwd", "..", "../x", "a/../b", "a/./b", ".", "a//b", "a/", "C:/x", "c:x", "a\\b", "a\nb", "a\0",
     "x" * 4097],
)  # fmt: skip
def test_names_that_are_refused(name):
    assert name_problem(name)
    with pytest.raises(GmcFormatError):
        read(one(name.encode()))
    with pytest.raises(MemberNameError):
        write_index([replace(TWO[1], names=(name,))], 4)


def test_names_that_are_not():
    for name in ("a/b.png", "ü/ž.png", "12:30.png", ".hidden", "...", "a b", "x" * 4096):
        assert name_problem(name) is None
        assert read(one(name.encode()))[0].names == (name,)
    assert name_problem("\udcff")


def test_a_name_twice():
    for data in (archive(TWO, (TWO[1],)), archive((TWO[1], TWO[1]))):
        with pytest.raises(GmcFormatError, match="twice"):
            read(data)


def bomb_of_members(count: int) -> bytes:
    body = b"\1" + entry(kind=GROUP, count=count) + bytes(2 * count)
    return sealed(index(deflated(body), method=1, length=len(body)), b"\0")


def bomb_of_names(count: int) -> bytes:
    """Few bytes that stand for many long names."""
    body = b"\1" + entry(kind=GROUP, count=count) + varint.write(0) + varint.write(4000) * (count - 1)
    body += varint.write(4003) + varint.write(3) * (count - 1) + b"x" * 4000
    body += b"".join(i.to_bytes(3, "little") for i in range(count))
    return sealed(index(deflated(body), bytes(2 * count), method=1, length=len(body)), b"\0")


@pytest.mark.parametrize(
    "data",
    [
        sealed(index(varint.write(2**40) + bytes(20)), b"\0"),  # blocks
        one(count=2**40),
        one(kind=GROUP, count=2**40),
        sealed(index(b"\1" + entry(length=2**40) + b"\0\1x"), b"\0"),
        bomb_of_members(1_000_000),
        bomb_of_names(70_000),
    ],
)
def test_absurd_claims_allocate_nothing(data):
    tracemalloc.start()
    with pytest.raises(GmcFormatError):
        read(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 << 20


def test_writing_refuses_what_reading_would():
    for changes in ({"kind": 0}, {"mode_id": 6}, {"length": 0}, {"names": ()}, {"crcs": ()}, {"width": 2**23}):
        with pytest.raises(GmcFormatError):
            write_index([replace(TWO[0], **changes)], 4)


def test_groups():
    data = write_group(Group(b"WxYz", b"payload!", 7))
    assert data[:16] == b"WxYzpayload!\7\0\0\0"
    assert read_group(data) == Group(b"WxYz", b"payload!", 7)
    for cut in range(len(data)):
        with pytest.raises(GmcFormatError):
            read_group(data[:cut])
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ChecksumError):
            read_group(bytes(damaged))


def test_the_limits_are_those_of_the_specification():
    assert gma.__doc__ is not None
    assert "2**22" in gma.__doc__
    assert MAX_GROUP_PIXELS == 2**22
    assert "2**12" in gma.__doc__
    assert MAX_GROUP_COUNT == 2**12
    assert gma.MAX_INDEX_BYTES == 2**28
