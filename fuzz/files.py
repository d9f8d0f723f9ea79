# SPDX-License-Identifier: MIT
"""Fuzz targets of containers, conventional methods, graphics and metadata: the readers in Python.

Checksums would stop all but one of 2**32 changed files.  Therefore inputs get the right CRC-32 of files, blocks and
indexes before they are read, and checksums of pixels and ids of weights are accepted whatever they are.
"""

from __future__ import annotations

import functools
import io
import itertools
import os
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import toy
from entry import Entry, Input, Mismatch, agree
from samples import random_planes

from gmcodec import codec, coders, native
from gmcodec.archive import Archive, pack
from gmcodec.coding import compressors, conventional, filters, graphics, palette, reduction
from gmcodec.errors import GmcError, UnsupportedImageError
from gmcodec.formats import gma, gmc, varint
from gmcodec.image import metadata, reading, writing
from gmcodec.image.metadata import Chunk, Tag, Text
from gmcodec.image.modes import MODES
from gmcodec.image.planes import Planes
from gmcodec.models import registry
from gmcodec.models.graphics.config import BILEVEL, CONTEXT_SETS, GUESSING
from gmcodec.models.graphics.model import GraphicsModel
from gmcodec.pillow_plugin import GmcImageFile

MAX_FILE_PIXELS = 512  # of an image, so that decoding is fast enough
MODE_NAMES = tuple(MODES)

# -- checksums that are always accepted, toy weights --------------------------------------------------------


class AnyNumber(int):
    """A checksum that equals any other."""

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    def __and__(self, other: int) -> AnyNumber:
        return AnyNumber(int(self) & other)

    __hash__ = int.__hash__


class AnyBytes(bytes):
    """An id of weights that equals any other."""

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = bytes.__hash__


_pixels_crc, _load = gmc.pixels_crc, registry.load


@functools.cache
def toy_model(method: int) -> registry.Loaded:
    """``registry.load`` for toy weights whose id equals any other."""
    with mock.patch.dict(os.environ, {registry.WEIGHTS_VARIABLE: str(toy_folder())}):
        loaded = _load(method)
    return replace(loaded, weights_id=AnyBytes(loaded.weights_id))


@functools.cache
def toy_folder() -> Path:
    """A folder of toy weights."""
    return toy.write_weights(Path(tempfile.mkdtemp(prefix="gmcodec-fuzz-")))


@contextmanager
def without_checks() -> Iterator[None]:
    """Within the block, checksums of pixels and ids of weights are accepted whatever they are."""
    crc = lambda samples: AnyNumber(_pixels_crc(samples))  # noqa: E731
    with (
        mock.patch("gmcodec.formats.gmc.pixels_crc", crc),
        mock.patch("gmcodec.blocks.pixels_crc", crc),
        mock.patch.object(registry, "load", toy_model),
    ):
        yield


# -- .gmc files ------------------------------------------------------------------------------------------


def with_crc(data: bytes) -> bytes:
    """A file, or a block of an archive, with its CRC-32 appended."""
    return data + zlib.crc32(data).to_bytes(4, "little")


def decode_gmc(data: bytes) -> None:
    """Call everything that reads a file.  A header must be written as the bytes from which it was read."""
    file = with_crc(data)
    header = gmc.unpack(file, max_pixels=None)
    if gmc.pack(header) != file:
        raise Mismatch("two different files have the same header")
    with without_checks():
        codec.info(file)
        planes = codec.decode_planes(file, threads=1, max_pixels=MAX_FILE_PIXELS)
    reading.to_array(planes)
    use(planes)


def use(planes: Planes) -> None:
    """Convert a decoded image to Pillow and to a file."""
    try:
        reading.to_image(planes)
    except UnsupportedImageError:
        pass  # 16-bit colour
    writing.write(planes, "TIFF" if planes.mode in ("CMYK", "CMYK;16", "LAB", "LAB;16") else "PNG")


def decode_plugin(data: bytes) -> None:
    """Pillow's plugin must report damage as Pillow's own plugins do: by SyntaxError, then by OSError."""
    file = with_crc(data)
    gmc.unpack(file, max_pixels=MAX_FILE_PIXELS)
    with without_checks():
        try:
            image = GmcImageFile(io.BytesIO(file))
            image.load()
        except (SyntaxError, OSError):
            return
    if image.size != image.im.size:
        raise Mismatch(f"an image of {image.size} has pixels of {image.im.size}")


def seeds_of_gmc() -> Iterator[bytes]:
    """Files of every mode, by conventional methods, as graphics, and by every model that supports it."""
    with without_checks():
        for mode in MODE_NAMES:
            for size, metadata_ in (((3, 5), False), ((1, 1), True)):
                planes = random_planes(mode, size)
                planes = with_metadata(planes) if metadata_ else planes
                for code in ("conventional", "graphics"):
                    yield codec.encode_planes(planes, code=code, effort="fast", threads=1).data[:-4]
        for entry, depth in itertools.product(registry.ENTRIES, (8, 16)):
            colour = "RGB" if entry.channels == 3 else "L"
            for mode in (colour, colour + "A") if depth == 8 else ("RGB;16" if colour == "RGB" else "I;16",):
                if entry.depth == depth:
                    planes = random_planes(mode, (8, 8))
                    yield codec.encode_planes(planes, code=entry.name, threads=1).data[:-4]


# -- .gma archives ---------------------------------------------------------------------------------------


def with_right_crcs(data: bytes) -> bytes:
    """An archive with the right CRC-32 in all indexes and blocks that can be found."""
    out = bytearray(data)
    end = len(out)
    while end >= len(gma.HEAD) + gma.FOOTER_BYTES:
        at = end - 12 - int.from_bytes(out[end - 12 : end - 8], "little")
        if at < 4:
            break
        out[end - 8 : end - 4] = zlib.crc32(out[at : end - 8]).to_bytes(4, "little")
        try:
            start, _ = varint.read(bytes(out), at, "a start")
        except GmcError:
            break
        if not 4 <= start < end:
            break
        end = start
    file = bytes(out)
    for block in gma.read_blocks(lambda at, count: file[at : at + count], len(file)):
        last = block.offset + block.length
        if block.length >= 4:
            out[last - 4 : last] = zlib.crc32(out[block.offset : last - 4]).to_bytes(4, "little")
    return bytes(out)


def opened(data: bytes) -> Archive:
    """Read everything that an index contains."""
    archive = Archive(with_right_crcs(data), threads=1, max_pixels=MAX_FILE_PIXELS)
    if len(archive.members) != len(archive) or archive.dimensions < len(archive):
        raise Mismatch("the index disagrees with itself")
    for name in archive.names:
        archive.attributes(name)
        if name.startswith("/") or ".." in name.split("/"):
            raise Mismatch(f"a member is called {name!r}")
    return archive


def decode_gma(data: bytes) -> None:
    """Decode the first members of an archive, except those of large groups, which would take long."""
    with without_checks(), opened(data) as archive:
        for name in archive.names[:4]:
            block = archive._find(name)
            if len(block.names) * block.pixels > MAX_FILE_PIXELS // 4:
                continue
            try:
                use(archive.planes(name))
            except GmcError:
                pass


def with_plain_index(data: bytes, version: int = gma.ARCHIVE_VERSION) -> bytes:
    """An archive of one section whose index is not deflated, so that changes of its bytes have an effect.

    It can be converted to version 1 if it has no attributes of files.
    """
    length = int.from_bytes(data[-12:-8], "little")
    at = len(data) - 12 - length
    reader = gmc.Reader(memoryview(data)[at : len(data) - 12])
    start = reader.varint("a start")
    body = gma._inflate_body(reader)
    body = body if version > 1 else body[:-1]
    index = varint.write(start) + b"\0" + 2 * varint.write(len(body)) + body + bytes(reader.take(reader.left, "CRCs"))
    index += len(index).to_bytes(4, "little")
    end = zlib.crc32(index).to_bytes(4, "little") + gma.END[:3] + bytes([version])
    return data[:3] + bytes([version]) + data[4:at] + index + end


def seeds_of_gma() -> Iterator[bytes]:
    """Archives with groups by every model, single images, both versions, and two sections."""
    with tempfile.TemporaryDirectory() as folder, without_checks():
        path = Path(folder, "seed.gma")
        for entry in registry.ENTRIES:
            if entry.depth == 8:
                mode = "RGB" if entry.channels == 3 else "L"
                images = {f"a/{i}.png": Planes(toy.image("smooth", (entry.channels, 4, 4), i), mode) for i in range(3)}
                pack(images, path, model=entry.name, threads=1, force=True)
                yield with_plain_index(path.read_bytes())
        yield with_plain_index(path.read_bytes(), 1)
        source = Path(folder, "file.png")
        source.write_bytes(writing.write_png(random_planes("RGB")))
        pack({"file.png": source, "one": random_planes("P")}, path, threads=1, force=True)
        yield path.read_bytes()
        yield with_plain_index(path.read_bytes())
        pack({"two": random_planes("LA")}, path, threads=1, append=True)
        yield path.read_bytes()


# -- conventional methods and their filters ----------------------------------------------------------------

SIDES, DEPTHS = ((1, 1), (3, 5), (2, 9)), (1, 2, 4, 8, 16)
CONVENTIONAL_METHODS = tuple(conventional.METHODS)


def decode_conventional(data: bytes) -> None:
    choices = Input(data)
    method, channels, shape, depth = choices.each(CONVENTIONAL_METHODS, (1, 2, 3, 4), SIDES, DEPTHS)
    found = conventional.decode(method, choices.rest(), (channels, *shape), depth)
    if found.shape != (channels, *shape) or int(found.max()) >> depth:
        raise Mismatch(f"{found.shape} of at most {found.max()} are no samples of {depth} bits")


def seeds_of_conventional() -> Iterator[bytes]:
    for c, s, d in itertools.product(range(4), range(len(SIDES)), range(len(DEPTHS))):
        depth, random = DEPTHS[d], np.random.default_rng(d)
        dtype = np.uint16 if depth == 16 else np.uint8
        for top in (2, 1 << depth):
            planes = random.integers(0, top, (c + 1, *SIDES[s])).astype(dtype)
            yield bytes([0, c, s, d]) + conventional._encode_stored(planes, depth)
            for kind, code in itertools.product(range(5 if c > 1 else 3), (0, 1, 7)):
                stream = filters.to_stream(planes, kind, 0)
                packed = compressors.lzma_raw(stream, code) if code else compressors.deflate(stream, 6)
                yield bytes([1, c, s, d, kind << 3 | code]) + packed
            if depth <= 8:
                yield bytes([2, c, s, d]) + conventional._encode_webp(planes, 0, 1)
            if found := palette.index(planes, depth, False):
                inner = bytes([conventional.STORED])
                inner += conventional._encode_stored(found[1], palette.index_bits(found[0].shape[1]))
                yield bytes([3, c, s, d]) + palette.encode_table(found[0], False) + inner


def decode_filters(data: bytes) -> None:
    """Undo filters of a stream with the best and with the plainest instruction set."""
    choices = Input(data)
    channels, shape, depth, kind = choices.each((1, 2, 3, 4), SIDES, DEPTHS, range(5))
    packing = choices.choose(range(4)) if channels == 1 and depth <= 8 and kind < filters.MED else 0
    if kind == filters.MED_GREEN and channels < 3:
        return
    size = filters.stream_size((channels, *shape), depth, kind, packing)
    stream = choices.rest()[:size].ljust(size, b"\0")

    def undone(isa: str) -> np.ndarray:
        os.environ[native.ISA_VARIABLE] = isa
        return filters.from_stream(stream, (channels, *shape), depth, kind, packing)

    try:
        agree(partial(undone, isa) for isa in (native.isas()[0], native.isas()[-1]))
    finally:
        del os.environ[native.ISA_VARIABLE]


def seeds_of_filters() -> Iterator[bytes]:
    for c, s, d, kind in itertools.product(range(4), range(len(SIDES)), range(len(DEPTHS)), range(5)):
        if c < 2 and kind == filters.MED_GREEN:
            continue
        dtype = np.uint16 if DEPTHS[d] == 16 else np.uint8
        planes = np.random.default_rng(d).integers(0, 1 << DEPTHS[d], (c + 1, *SIDES[s])).astype(dtype)
        packing = bytes(c == 0 and DEPTHS[d] <= 8 and kind < filters.MED)
        yield bytes([c, s, d, kind]) + packing + filters.to_stream(planes, kind, 0)


# -- graphics ----------------------------------------------------------------------------------------------

GRAPHIC_SIDES, GRAPHIC_DEPTHS = ((1, 1), (3, 5), (2, 40)), (1, 8, 16)
GRAPHIC_BLOCKS = (graphics.BLOCK_DECISIONS, 40)  # decisions of a block
GRAPHIC_NETS = (0, 1, 3)
PALETTES = (None, np.arange(30, dtype=np.uint8).reshape(10, 3) * 77)


@functools.cache
def graphics_model(net: int, isa: str | None = None) -> GraphicsModel:
    """``net``: its colours, or 0 for none."""
    return GraphicsModel(native.core(isa), toy.model(net, isa) if net else None)


def decode_graphic(data: bytes) -> None:
    """Decode a graphic with the best and with the plainest instruction set."""
    choices = Input(data)
    channels, sides, depth = choices.each((1, 2, 3, 4), GRAPHIC_SIDES, GRAPHIC_DEPTHS)
    size, colours, net = choices.each(GRAPHIC_BLOCKS, PALETTES, GRAPHIC_NETS)
    payload, shape = choices.rest(), (channels, *sides)

    def decoded(isa: str) -> np.ndarray:
        found = graphics.decode(payload, shape, depth, colours, graphics_model(net, isa))
        if found.shape != shape or int(found.max()) >> depth:
            raise Mismatch(f"{found.shape} of at most {found.max()} are no samples of {depth} bits")
        return found

    with mock.patch.object(graphics, "BLOCK_DECISIONS", size):
        agree(partial(decoded, isa) for isa in (native.isas()[0], native.isas()[-1]))


def seeds_of_graphics() -> Iterator[bytes]:
    """All reductions, sets of contexts and guesses, in one block and in several; nets."""
    coder, sizes = coders.GraphicsCoder(), range(len(GRAPHIC_SIDES))
    for c, s, d, p in itertools.product(range(4), sizes, range(len(GRAPHIC_DEPTHS)), range(len(PALETTES))):
        depth, colours = GRAPHIC_DEPTHS[d], PALETTES[p]
        if (depth == 1 and c) or (colours is not None and (c, depth) != (0, 8)):
            continue
        planes = np.random.default_rng(s).integers(0, min(1 << depth, 12), (c + 1, *GRAPHIC_SIDES[s]))
        planes[-1] //= 6 if depth > 1 else 1  # often constant
        for reduced in reduction.reductions(planes.astype(np.uint16 if depth == 16 else np.uint8), depth, colours):
            for (number, contexts), guessing in itertools.product(enumerate(CONTEXT_SETS), GUESSING):
                if contexts == BILEVEL and not reduced.is_bilevel:
                    continue
                b = guessing % len(GRAPHIC_BLOCKS)
                with mock.patch.object(graphics, "BLOCK_DECISIONS", GRAPHIC_BLOCKS[b]):
                    yield bytes([c, s, d, b, p, 0]) + coder.encode(reduced, number, guessing).data
        if depth == 8 and colours is None:
            planes = planes.astype(np.uint8)
            n = GRAPHIC_NETS.index(reduction.colours_of(planes).colours)
            yield (
                bytes([c, s, d, 0, p, n]) + coders.GraphicsNetCoder(graphics_model(GRAPHIC_NETS[n])).encode(planes).data
            )


# -- metadata, numbers ------------------------------------------------------------------

WRITTEN_FORMATS = ("PNG", "TIFF", "PPM", "BMP", "WEBP")


def decode_metadata(data: bytes) -> None:
    """Convert arbitrary metadata for memory and for a file."""
    choices = Input(data)
    mode, file_format = choices.choose(MODE_NAMES), choices.choose(WRITTEN_FORMATS)
    entries = gmc._read_metadata(memoryview(choices.rest()))
    metadata.unpack(entries, mode)
    planes = replace(random_planes(mode, (2, 3)), metadata=entries)
    try:
        reading.to_image(planes)
    except UnsupportedImageError:
        pass
    writing.write(planes, file_format)


def with_metadata(planes: Planes) -> Planes:
    """Planes with all metadata that their mode may have."""
    text = [Text(b"Title", b"a text"), Text(b"Author", "J\u00f6rg".encode(), True, b"de", b"Autor")]
    tags = {
        Tag.ICC: b"profile", Tag.EXIF: b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0",
        Tag.XMP: b"<x:xmpmeta/>", Tag.PROFILE_NAME: b"sRGB",
        Tag.TEXT: metadata.pack_text(text), Tag.DENSITY: b"\0\0\x0b\x13\0\0\x0b\x13\1", Tag.GAMMA: b"\0\0\xb1\x8f",
        Tag.SRGB: b"\1", Tag.CICP: b"\1\r\0\1", Tag.TIME: b"\7\xe8\1\2\3\4\5", Tag.PHOTOSHOP: b"8BIM\4\4\0\0\0\0\0\0",
        Tag.CHUNKS: metadata.pack_chunks([Chunk(0, b"prVt", b"abc"), Chunk(2, b"eNde", b"")]),
    }  # fmt: skip
    if planes.mode in metadata.KEY_SAMPLES:
        tags[Tag.TRANSPARENCY] = b"\0\1" * metadata.KEY_SAMPLES[planes.mode]
    kept = metadata.unpack(planes.metadata, planes.mode)
    return replace(planes, metadata=metadata.pack(kept | tags))


def seeds_of_metadata() -> Iterator[bytes]:
    for m, form in itertools.product(range(len(MODE_NAMES)), range(len(WRITTEN_FORMATS))):
        if MODE_NAMES[m] not in writing._WRITABLE[WRITTEN_FORMATS[form]]:
            continue
        entries = with_metadata(random_planes(MODE_NAMES[m])).metadata
        plain = [(tag, b"\0" + value[1:] if tag in metadata.DEFLATED_TAGS and value[:1] == b"\0" else value)
                 for tag, value in entries]  # fmt: skip
        for some in (plain, *([each] for each in plain)):
            section = io.BytesIO()
            for tag, value in some:
                section.write(bytes([tag]) + varint.write(len(value)) + value)
            yield bytes([m, form]) + section.getvalue()


def decode_numbers(data: bytes) -> None:
    """Read numbers one after the other.  No number may have two encodings."""
    at, again = 0, b""
    while at < len(data):
        value, at = varint.read(data, at, "a number")
        again += varint.write_signed(varint.to_signed(value)) if at % 2 else varint.write(value)
    if again != data:
        raise Mismatch("a number has two encodings")


def seeds_of_numbers() -> Iterator[bytes]:
    numbers = [0, 1, 127, 128, 2**14 - 1, 2**14, 2**32, 2**63 - 1]
    yield from map(varint.write, numbers)
    yield b"".join(map(varint.write, numbers))


ENTRIES = (
    Entry("gmc", decode_gmc, seeds_of_gmc),
    Entry("plugin", decode_plugin, seeds_of_gmc),
    Entry("gma", decode_gma, seeds_of_gma, 1024),
    Entry("index", opened, seeds_of_gma, 1024),
    Entry("conventional", decode_conventional, seeds_of_conventional, 256),
    Entry("filters", decode_filters, seeds_of_filters, 256),
    Entry("graphics", decode_graphic, seeds_of_graphics, 256),
    Entry("metadata", decode_metadata, seeds_of_metadata),
    Entry("numbers", decode_numbers, seeds_of_numbers, 64),
)
