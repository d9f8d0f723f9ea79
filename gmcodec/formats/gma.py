# SPDX-License-Identifier: MIT
"""The ``.gma`` archive: bytes <-> ``Block``s. This docstring is the format specification, versions 1 and 2.

MUST, MAY, little-endian integers and ``v`` (``formats/varint.py``) have the same meaning as in ``formats/gmc.py``.

::

    file      +---+---+---+----+=========+=========+===    one section or more; the last ends the file
              | g | m | a |  V | section | section | ...
              +---+---+---+----+=========+=========+===

    section   +=======+=======+===   +=======+--------------+-----+---+---+---+----+
              | block | block | ...  | index | index length | CRC | a | m | g |  V |
              +=======+=======+===   +=======+--------------+-----+---+---+---+----+
                                                  4 bytes     4 bytes     footer of 12 bytes in all

    index     +-------+---------+-------------+---+===============+===============+
              | start | packing | body length | n | n bytes: body | pixel CRCs    |
              +-------+---------+-------------+---+===============+===============+
                  v        1          v         v                   2 bytes each

    body      +--------+=======+=======+   +==============+==========+======+============+
              | blocks | entry | entry | ..| v per member | v per m. | text | attributes |
              +--------+=======+=======+   +==============+==========+======+============+
                  v                             shared        own             version 2

    attribut. +------+==============+==============+============+
              | kept | v per member | v per member | 4 bytes .. |   each part only if ``kept`` says so
              +------+==============+==============+============+
                  1    permissions      seconds     nanoseconds

    entry     +------+------+--------+-------+--------+-------+--------+
              | kind | mode | method | width | height | count | length |
              +------+------+--------+-------+--------+-------+--------+
                  1      1       1       v       v        v       v

    group     +---------+=========+-----------+-----------+
              | weights | payload | pixel CRC | block CRC |
              +---------+=========+-----------+-----------+
                4 bytes               4 bytes     4 bytes

**Sections.** An archive grows by whole sections at its end; bytes once written never change. A reader starts
with the footer at the end of the file, which leads to its index. ``start`` is the offset where the section
begins: 4 for the first section, for others the end of the section before, whose footer stands there. Therefore a file
that is cut exactly at the end of a section is a valid, older archive; any other cut MUST be refused. ``V`` is the
version of a section, 1 or 2. It stands in the footer of the section, and that of the first section also at the head of
the file. Versions MUST NOT decrease from one section to the next; a reader MUST refuse a section of a version that it
does not know. The blocks of a section MUST fill the bytes from ``start`` to its index without gaps. CRC: CRC-32 (ISO
3309) of the index and of the four bytes of its length.

**Index.** ``packing`` 0: the body is stored uncompressed, and n MUST be the body length; 1: raw deflate (RFC 1951),
which MUST give exactly ``body length`` bytes, at most 2**28. Names of members follow one another in the order of the
blocks and, within a block, of its images. A name consists of the first ``shared`` bytes of the name before it in the
section (of none for the first name) and the next ``own`` bytes of ``text``; together names MUST use up ``text``. Names
are UTF-8 of 1 to 4096 bytes, and 2**28 bytes at most in the archive: relative POSIX paths, their parts separated by
``/``. A reader MUST refuse names with an empty part, ``.`` or ``..``, a backslash, a control character (below 32, or
127), a drive letter (``C:``) in front, and a name that is in the archive twice. ``pixel CRCs``: for each member that is
not in a block of kind 1, in order, the low 16 bits of the CRC-32 of its samples.

**Attributes** (version 2; a body of version 1 ends with ``text``). ``kept``, bit 0: permissions follow; bit 1: times
follow; other bits MUST be 0. ``permissions``: for each member 0 if they are not known, else 1 + the nine bits of POSIX,
so at most 512. ``seconds``: for each member 0 if its time of modification is not known, else 1 + the
zigzag number (0, -1, 1, -2, ... are 0, 1, 2, 3, ...) of a difference: the seconds since 1970 minus those of the last
member before it in the section whose time is known, or minus 0 if there is none. The seconds MUST be below 2**40 in
magnitude. ``nanoseconds``: for each member whose time is known, below 10**9. No bytes may follow them. Attributes are
hints: a reader MUST NOT grant more permissions than the umask of its user does.

**Entries.** ``mode``: a mode id of ``formats/gmc.py``; ``width``, ``height``: in pixels, as there. All images of a
block have this mode and size; ``count`` >= 1 is their number. ``method``: the method id of the images; where the block
contains it again, it is for people only. ``length``: bytes of the block, at least 1. ``kind``: what the block contains.
Kinds are permanent: append only. A reader MUST NOT decode a kind that it does not know, and MAY read the other members.

===== ======== ==========================================================================================
kind  name     the block
===== ======== ==========================================================================================
1     single   one image (``count`` 1): a whole ``.gmc`` file of the same mode and dimensions. ``method`` is
               that of its first part.
2     group    ``count`` images of mode L or RGB coded together by the learned model ``method`` with the weights
               ``weights`` (as in ``formats/gmc.py``). ``count`` MUST be at most 2**12, ``count`` x ``width`` x
               ``height`` at most 2**22, because a decoder holds all images and their features in memory.
               ``payload``: a batch of ``coding/autoregressive.py`` or, if the model has latents, a chain of
               ``coding/chain.py``. Pixel CRC: CRC-32 of the samples of all images, each C H W, in
               order. Block CRC: CRC-32 of all bytes of the block before it.
===== ======== ==========================================================================================

Whatever a file claims, a reader needs memory proportional to its size, and a few times 2**28 bytes. For each member the
file has at least one byte of a block or of CRCs, and a reader MUST check this before it unpacks names.
"""

from __future__ import annotations

import itertools
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from gmcodec.errors import (
    ChecksumError,
    GmcFormatError,
    MemberNameError,
    NotAGmcFileError,
    TruncatedFileError,
    UnsupportedVersionError,
)
from gmcodec.formats import varint
from gmcodec.formats.gmc import MAX_SIDE, WEIGHTS_ID_BYTES, Reader
from gmcodec.image.modes import MODES_BY_ID

ARCHIVE_VERSION = 2  # of the sections that are written
VERSIONS = (1, 2)  # of the sections that can be read
HEAD = b"gma" + bytes([ARCHIVE_VERSION])
END = b"amg" + bytes([ARCHIVE_VERSION])
SINGLE, GROUP = 1, 2
KINDS = {SINGLE: "single", GROUP: "group"}  # append only; never renumber, never reuse
GROUP_MODES = ("L", "RGB")
MAX_GROUP_PIXELS, MAX_GROUP_COUNT = 1 << 22, 1 << 12
MAX_NAME_BYTES = 4096
MAX_INDEX_BYTES = 1 << 28  # of the body of an index, and of all names of an archive
FOOTER_BYTES = 12
_STORED, _DEFLATED = 0, 1
_MIN_ENTRY_BYTES, _MIN_MEMBER_BYTES = 7, 2  # of a body: smallest size of an entry, and of the data of a member
_PERMISSIONS, _TIMES = 1, 2  # bits of ``kept``
_MAX_PERMISSIONS = 0o777
_MAX_SECONDS = 2**40
_SECOND = 10**9  # nanoseconds

ReadAt = Callable[[int, int], bytes]  # offset, count -> exactly ``count`` bytes of the file


class Attributes(NamedTuple):
    """Attributes of the file of a member, None if unknown.

    permissions  the nine bits of POSIX
    modified     time of modification, nanoseconds since 1970
    """

    permissions: int | None = None
    modified: int | None = None


@dataclass(frozen=True)
class Block:
    """The entry of a block in the index, with the names, CRCs and attributes of its members.

    crcs        low 16 bits of each member's pixel CRC; empty for a single
    attributes  one for each member, or empty
    """

    kind: int
    mode_id: int
    method: int
    width: int
    height: int
    length: int
    names: tuple[str, ...]
    crcs: tuple[int, ...] = ()
    attributes: tuple[Attributes, ...] = ()
    offset: int = 0  # in the file; not stored

    @property
    def mode(self) -> str:
        """Name of the mode."""
        return MODES_BY_ID[self.mode_id].name

    @property
    def channels(self) -> int:
        """Samples per pixel, 1 to 4."""
        return MODES_BY_ID[self.mode_id].channels

    @property
    def pixels(self) -> int:
        """Pixels of one image."""
        return self.width * self.height

    @property
    def dimensions(self) -> int:
        """Number of samples of all images."""
        return len(self.names) * self.pixels * self.channels


@dataclass(frozen=True)
class Group:
    """The content of a block of kind 2."""

    weights_id: bytes
    payload: bytes
    pixels_crc: int


# -- names -----------------------------------------------------------------------------------------------


def name_problem(name: str) -> str | None:
    """Why a member cannot be called ``name``; None if it can."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return "is not Unicode"
    if not 1 <= size <= MAX_NAME_BYTES:
        return f"has {size} bytes, not 1 to {MAX_NAME_BYTES}"
    if re.search(r"[\x00-\x1f\x7f\\]", name):
        return "has a control character or a backslash"
    if re.match("[A-Za-z]:", name):
        return "starts with a drive letter"
    if {"", ".", ".."} & set(name.split("/")):
        return "is not a plain relative path"
    return None


# -- group: write and read -------------------------------------------------------------------------------


def write_group(group: Group) -> bytes:
    """The bytes of a block of kind 2."""
    body = group.weights_id + group.payload + group.pixels_crc.to_bytes(4, "little")
    return body + zlib.crc32(body).to_bytes(4, "little")


def read_group(data: bytes) -> Group:
    """Inverse of ``write_group``.  Raises TruncatedFileError or ChecksumError."""
    if len(data) < WEIGHTS_ID_BYTES + 8:
        raise TruncatedFileError(f"a group has {len(data)} bytes, the smallest possible one has {WEIGHTS_ID_BYTES + 8}")
    if zlib.crc32(data[:-4]) != int.from_bytes(data[-4:], "little"):
        raise ChecksumError("a group does not match its CRC-32: the archive is damaged")
    crc = int.from_bytes(data[-8:-4], "little")
    return Group(data[:WEIGHTS_ID_BYTES], data[WEIGHTS_ID_BYTES:-8], crc)


# -- index: write and read -------------------------------------------------------------------------------


def write_index(blocks: Sequence[Block], start: int) -> bytes:
    """Index and footer of a section whose blocks, in this order, begin at offset ``start`` of the file.

    Raises MemberNameError for a name that no archive may contain, GmcFormatError for other violations of the format.
    """
    body = bytearray(varint.write(len(blocks)))
    for block in blocks:
        for name in block.names:
            if problem := name_problem(name):
                raise MemberNameError(f"{name!r} {problem}")
        _check(block)
        body += bytes([block.kind, block.mode_id, block.method])
        body += b"".join(map(varint.write, (block.width, block.height, len(block.names), block.length)))
    body += _write_names([name.encode() for block in blocks for name in block.names])
    body += _write_attributes([each for b in blocks for each in b.attributes or (Attributes(),) * len(b.names)])
    if len(body) > MAX_INDEX_BYTES:
        raise GmcFormatError(f"an index of {len(body)} bytes is larger than the format allows: pack fewer images")
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = deflate.compress(body) + deflate.flush()
    packing, stored = (_DEFLATED, packed) if len(packed) < len(body) else (_STORED, bytes(body))
    head = varint.write(start) + bytes([packing]) + varint.write(len(body)) + varint.write(len(stored))
    crcs = b"".join(crc.to_bytes(2, "little") for block in blocks for crc in block.crcs)
    index = head + stored + crcs
    index += len(index).to_bytes(4, "little")
    return index + zlib.crc32(index).to_bytes(4, "little") + END


def read_blocks(read: ReadAt, size: int) -> list[Block]:
    """All blocks of a file of ``size`` bytes, in file order.  Only its indexes are read.

    Raises NotAGmcFileError, UnsupportedVersionError, TruncatedFileError, ChecksumError, GmcFormatError.
    """
    head = read(0, min(size, len(HEAD)))
    if not HEAD.startswith(head[:3]):
        raise NotAGmcFileError(f"starts with {head[:3]!r}, not with {HEAD[:3]!r}")
    if len(head) == len(HEAD):
        _check_version(head[3])
    sections: list[list[Block]] = []
    end, room, version = size, MAX_INDEX_BYTES, max(VERSIONS)
    while end > len(HEAD) or not sections:
        blocks, end, mine = _read_section(read, end, room)
        if mine > version:
            raise GmcFormatError(f"a section of version {version} follows one of version {mine}")
        version = mine
        room -= sum(len(name.encode()) for block in blocks for name in block.names)
        sections.append(blocks)
    if version != head[3]:
        raise GmcFormatError(f"the first section has version {version}, the archive starts with version {head[3]}")
    blocks = [block for section in reversed(sections) for block in section]
    seen: set[str] = set()
    for block in blocks:
        for name in block.names:
            if name in seen:
                raise GmcFormatError(f"the archive holds {name!r} twice")
            seen.add(name)
    return blocks


def _check_version(version: int) -> None:
    if version not in VERSIONS:
        known = " and ".join(map(str, VERSIONS))
        raise UnsupportedVersionError(f"archive version {version}; this release reads versions {known}")


def _read_section(read: ReadAt, end: int, name_bytes: int) -> tuple[list[Block], int, int]:
    """The blocks of the section that ends at ``end``, its start and its version.

    Raises GmcFormatError if its names have more than ``name_bytes`` bytes.
    """
    room = end - len(HEAD) - FOOTER_BYTES
    if room < 0 or (footer := read(end - FOOTER_BYTES, FOOTER_BYTES))[8:11] != END[:3]:
        raise TruncatedFileError("the archive does not end in a footer: it is truncated or damaged")
    _check_version(version := footer[11])
    length = int.from_bytes(footer[:4], "little")
    if length > room:
        raise GmcFormatError(f"an index of {length} bytes does not fit before its footer")
    at = end - FOOTER_BYTES - length
    index = read(at, length)
    if zlib.crc32(index + footer[:4]) != int.from_bytes(footer[4:8], "little"):
        raise ChecksumError("an index does not match its CRC-32: the archive is damaged")
    reader = Reader(memoryview(index))
    start = reader.varint("the start of a section")
    if not len(HEAD) <= start <= at:
        raise GmcFormatError(f"a section with its index at {at} cannot start at {start}")
    blocks = _read_body(_inflate_body(reader), reader, at - start, name_bytes, version)
    offsets = itertools.accumulate((block.length for block in blocks), initial=start)
    return [replace(block, offset=offset) for block, offset in zip(blocks, offsets, strict=False)], start, version


def _inflate_body(reader: Reader) -> bytes:
    """The body of an index, inflated."""
    packing, length = reader.byte("the packing of the index"), reader.varint("the length of the index")
    stored = reader.take(reader.varint("the size of the index"), "the body of the index")
    if length > MAX_INDEX_BYTES:
        raise GmcFormatError(f"an index of {length} bytes is larger than the format allows")
    if packing == _STORED:
        body = bytes(stored)
    elif packing == _DEFLATED:
        inflate = zlib.decompressobj(-15)
        try:
            body = inflate.decompress(stored, length + 1)  # one byte more, to notice a stream that is too long
        except zlib.error as error:
            raise GmcFormatError(f"the index cannot be inflated: {error}") from error
        if not inflate.eof or inflate.unused_data:
            raise GmcFormatError("the deflate stream of the index does not end with its data")
    else:
        raise GmcFormatError(f"packing {packing} of the index is unknown")
    if len(body) != length:
        raise GmcFormatError(f"the index unpacks to {len(body)} bytes, not {length}")
    return body


def _read_body(body: bytes, tail: Reader, room: int, name_bytes: int, version: int) -> list[Block]:
    """The blocks of an index, which must fill ``room`` bytes; ``tail`` holds the CRCs of their members."""
    reader = Reader(memoryview(body))
    number = reader.varint("the number of blocks")
    if number > min(reader.left // _MIN_ENTRY_BYTES, room):
        raise GmcFormatError(f"{number} blocks are promised in {room} bytes")
    entries = []
    for _ in range(number):
        ids = tuple(reader.take(3, "the entry of a block"))
        entries.append(ids + tuple(reader.varint("the entry of a block") for _ in range(4)))
    if sum(entry[6] for entry in entries) != room or any(entry[6] < 1 for entry in entries):
        raise GmcFormatError("the blocks do not fill their section")
    counts = [entry[5] for entry in entries]
    if any(count != 1 for entry, count in zip(entries, counts, strict=True) if entry[0] == SINGLE):
        raise GmcFormatError("a single holds more than one image, or none")
    if 2 * sum(count for entry, count in zip(entries, counts, strict=True) if entry[0] != SINGLE) != tail.left:
        raise GmcFormatError(f"{tail.left} bytes of CRCs do not fit the members")
    names = _read_names(reader, sum(counts), name_bytes)
    attributes = _read_attributes(reader, len(names)) if version > 1 else []
    if reader.left:
        raise GmcFormatError(f"{reader.left} bytes follow the end of the index")
    ends = list(itertools.accumulate(counts, initial=0))
    blocks = []
    for entry, first, last in zip(entries, ends[:-1], ends[1:], strict=True):
        kind, mode_id, method, width, height, count, length = entry
        crcs = b"" if kind == SINGLE else bytes(tail.take(2 * count, "the CRCs of the members"))
        pairs = tuple(int.from_bytes(crcs[i : i + 2], "little") for i in range(0, len(crcs), 2))
        mine = tuple(names[first:last]), pairs, tuple(attributes[first:last])
        blocks.append(Block(kind, mode_id, method, width, height, length, *mine))
        _check(blocks[-1])
    return blocks


def _write_names(names: Sequence[bytes]) -> bytes:
    """Names with shared beginnings left out, in columns: deflate shrinks numbered names to a tenth of a byte."""
    shared, own, text, before = bytearray(), bytearray(), bytearray(), b""
    for name in names:
        same = next((i for i, (a, b) in enumerate(zip(before, name, strict=False)) if a != b), None)
        same = min(len(before), len(name)) if same is None else same
        shared += varint.write(same)
        own += varint.write(len(name) - same)
        text += name[same:]
        before = name
    return bytes(shared + own + text)


def _read_names(reader: Reader, count: int, room: int) -> list[str]:
    """Inverse of ``_write_names``.  Raises GmcFormatError for names that are refused."""
    if count > reader.left // _MIN_MEMBER_BYTES:
        raise GmcFormatError(f"{count} names are promised in {reader.left} bytes")
    shared = [reader.varint("a shared length") for _ in range(count)]
    own = [reader.varint("a length of its own") for _ in range(count)]
    if sum(shared) + sum(own) > room:  # a few bytes can describe many long names
        raise GmcFormatError("the names have more bytes than the format allows")
    names, before = [], b""
    for same, rest in zip(shared, own, strict=True):
        if same > len(before) or same + rest > MAX_NAME_BYTES:
            raise GmcFormatError(f"a name shares {same} bytes with one of {len(before)} and has {rest} more")
        before = before[:same] + bytes(reader.take(rest, "a name"))
        try:
            names.append(before.decode())
        except UnicodeDecodeError as error:
            raise GmcFormatError(f"a name is not UTF-8: {before!r}") from error
        if problem := name_problem(names[-1]):
            raise GmcFormatError(f"the name {names[-1]!r} {problem}")
    return names


def _write_attributes(members: Sequence[Attributes]) -> bytes:
    """Attributes in columns.  After deflate, repeated ones take almost no bytes, an unrelated time takes about 8."""
    members = [Attributes(permissions, _storable_time(modified)) for permissions, modified in members]
    known = [member.modified for member in members if member.modified is not None]
    kept = _PERMISSIONS * any(member.permissions is not None for member in members) | _TIMES * bool(known)
    out = bytearray([kept])
    if kept & _PERMISSIONS:
        for permissions, _ in members:
            out += varint.write(0 if permissions is None else 1 + (permissions & _MAX_PERMISSIONS))
    if kept & _TIMES:
        before = 0
        for _, modified in members:
            if modified is None:
                out += varint.write(0)
                continue
            seconds = modified // _SECOND
            out += varint.write(1 + varint.to_unsigned(seconds - before))
            before = seconds
        out += b"".join((modified % _SECOND).to_bytes(4, "little") for modified in known)
    return bytes(out)


def _storable_time(modified: int | None) -> int | None:
    return modified if modified is not None and abs(modified // _SECOND) < _MAX_SECONDS else None


def _read_attributes(reader: Reader, count: int) -> list[Attributes]:
    """Inverse of ``_write_attributes``.  Raises GmcFormatError."""
    kept = reader.byte("the kinds of attributes")
    if kept & ~(_PERMISSIONS | _TIMES):
        raise GmcFormatError(f"the kinds of attributes, {kept:#04x}, are not known")
    permissions: list[int | None] = [None] * count
    seconds: list[int | None] = [None] * count
    if kept & _PERMISSIONS:
        found = [reader.varint("the permissions of a file") for _ in range(count)]
        if found and max(found) > 1 + _MAX_PERMISSIONS:
            raise GmcFormatError(f"the permissions {max(found) - 1:#o} have more than nine bits")
        permissions = [each - 1 if each else None for each in found]
    if kept & _TIMES:
        before = 0
        for number in range(count):
            if step := reader.varint("the time of a file"):
                seconds[number] = before = before + varint.to_signed(step - 1)
                if abs(before) >= _MAX_SECONDS:
                    raise GmcFormatError(f"a time of modification, {before} seconds after 1970, is out of range")
    moments = [None if second is None else second * _SECOND + _nanoseconds(reader) for second in seconds]
    return list(map(Attributes, permissions, moments)) if kept else []


def _nanoseconds(reader: Reader) -> int:
    found = int.from_bytes(reader.take(4, "the time of a file"), "little")
    if found >= _SECOND:
        raise GmcFormatError(f"a time of modification has {found} nanoseconds, more than a second")
    return found


def _check(block: Block) -> None:
    """Raise GmcFormatError if ``block`` has a value that the format does not allow."""
    b = block
    if not (1 <= b.kind <= 255 and 1 <= b.method <= 255 and b.mode_id in MODES_BY_ID):
        raise GmcFormatError(f"a block of kind {b.kind}, mode id {b.mode_id} and method {b.method} is not allowed")
    if not (1 <= b.width < MAX_SIDE and 1 <= b.height < MAX_SIDE):
        raise GmcFormatError(f"dimensions {b.width}x{b.height} are outside 1..{MAX_SIDE - 1}")
    if not b.names or (b.kind == SINGLE and len(b.names) != 1):
        raise GmcFormatError(f"a block of kind {b.kind} holds {len(b.names)} images")
    if b.attributes and len(b.attributes) != len(b.names):
        raise GmcFormatError(f"a block of {len(b.names)} images has attributes of {len(b.attributes)}")
    if len(b.crcs) != (0 if b.kind == SINGLE else len(b.names)) or b.length < 1:
        raise GmcFormatError(f"a block of {len(b.names)} images has {len(b.crcs)} CRCs and {b.length} bytes")
    too_much = len(b.names) > MAX_GROUP_COUNT or len(b.names) * b.pixels > MAX_GROUP_PIXELS
    if b.kind == GROUP and (b.mode not in GROUP_MODES or too_much):
        raise GmcFormatError(f"a group of {len(b.names)} images {b.width}x{b.height} {b.mode} is not allowed")
