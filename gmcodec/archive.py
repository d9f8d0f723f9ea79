# SPDX-License-Identifier: MIT
"""Archives: many images in one .gma file, small ones of equal size coded together by one model.

pack     images --_jobs--> groups and singles --_encode_group, _encode_single--> blocks --index--> file
Archive  file --index--> blocks --_decode_group, _decode_single--> images

A small image alone pays for a header and cannot use more than one processor; in a group it pays for
its name and two bytes.  Reading one image of a group decodes the group.  The bytes do not depend on the
number of threads.
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from . import archive_format, codec, container, pixels
from .archive_format import GROUP, GROUP_MODES, HEAD, KINDS, SINGLE, Block, Group
from .container import DEFAULT_MAX_PIXELS, Part, pixels_crc
from .errors import (
    ChecksumError,
    GmcError,
    GmcFormatError,
    ImageTooLargeError,
    MemberNameError,
    TruncatedFileError,
    UnknownModelError,
)
from .pixels import MODES, Planes
from .work import StoppableWatch, Watch, in_order, interruptible, replacing, single_threaded_blas

if TYPE_CHECKING:
    from PIL import Image

    from .models.registry import Loaded

MEMBER_PIXELS = 1 << 14  # an image of more is coded alone
TRIAL_COUNT = 16  # images of a group on which models are compared
GROUP_PIXELS, GROUP_COUNT = 1 << 18, 1024  # of a group, at most: reading one member decodes all of it
CHAIN_PIXELS = 1 << 20  # the same of a chain, whose seeds should be few
FLOW_PIXELS, FLOW_COUNT = 1 << 21, 2048  # of a flow's chain, which is fast and has more seeds
WAITING_PIXELS = 1 << 24  # of images that wait for others of their size
SINGLE_BYTES = 26  # that a small image alone costs beside its payload, in the container and in the index


@dataclass(frozen=True)
class Member:
    """What the index says of an image.  ``bytes``: of its block, shared evenly by the block's images."""

    name: str
    mode: str
    width: int
    height: int
    kind: str
    code: str
    bytes: float


@dataclass(frozen=True)
class Packed:
    """What ``pack`` did.

    ``bytes`` and ``dimensions`` are those of the whole file; the rest counts only what this call added.
    ``estimated_bits``: as of ``codec.Encoded``.  ``index_bytes`` includes the footer.
    """

    bytes: int
    dimensions: int
    images: int
    groups: int
    grouped: int
    with_metadata: int  # coded alone only because of their metadata
    added_bytes: int
    added_dimensions: int
    index_bytes: int
    estimated_bits: float

    @property
    def bits_per_dimension(self) -> float:
        """Of the whole file: head, index and footer included."""
        return 8 * self.bytes / self.dimensions


@dataclass(frozen=True)
class _Coded:
    block: Block
    data: bytes
    estimated_bits: float


# -- blocks: encode and decode ---------------------------------------------------------------------------


def _encode_single(name: str, planes: Planes, effort: str, threads: int, watch: Watch) -> list[_Coded]:
    coded = codec.encode_planes(planes, effort=effort, threads=threads, progress=watch.pixels)
    form = container.unpack(coded.data, max_pixels=None).parts[0].form
    block = Block(SINGLE, MODES[planes.mode].id, form, planes.width, planes.height, len(coded.data), (name,))
    return [_Coded(block, coded.data, coded.estimated_bits)]


def _decode_single(block: Block, data: bytes, threads: int, watch: Watch) -> list[Planes]:
    planes = codec.decode_planes(data, threads=threads, max_pixels=block.pixels, progress=watch.pixels)
    if (planes.mode, planes.width, planes.height) != (block.mode, block.width, block.height):
        raise GmcFormatError(f"{block.names[0]!r} is not the image that the index promises")
    return [planes]


def _encode_group(
    names: list[str], images: list[Planes], models: list[Loaded], effort: str, watch: Watch
) -> list[_Coded]:
    """A group with the best of ``models``, then as singles those that cost less alone: flat, drawings, noise."""
    from .coding import conventional

    samples = np.stack([planes.data for planes in images])
    quietly = lambda count: watch.pixels(0)  # noqa: E731  (it may end the work)
    loaded = _best(models, samples, quietly)
    payload, bits = _encode_samples(samples, loaded, watch)
    quick = [len(conventional.encode(image, 8, "quick", quietly)[1]) + SINGLE_BYTES for image in samples]
    stay = np.flatnonzero(bits / 8 <= quick)
    if len(stay) < 2:
        stay = stay[:0]
    coded = []
    if len(stay):
        if len(stay) < len(images):
            samples = samples[stay]
            payload, bits = _encode_samples(samples, loaded, watch)
        data = archive_format.write_group(Group(loaded.weights_id, payload, _crc(samples)))
        mode, width, height = MODES[images[0].mode].id, images[0].width, images[0].height
        crcs = tuple(pixels_crc(image) & 0xFFFF for image in samples)
        members = tuple(names[i] for i in stay)
        block = Block(GROUP, mode, loaded.entry.form, width, height, len(data), members, crcs)
        coded.append(_Coded(block, data, float(bits.sum())))
    for i in sorted({*range(len(images))} - {*stay.tolist()}):
        coded += _encode_single(names[i], images[i], effort, 1, watch)
    return coded


def _encode_samples(samples: np.ndarray, loaded: Loaded, watch: Watch) -> tuple[bytes, np.ndarray]:
    """uint8 [B, C, H, W] -> payload of a group, and the estimated bits of each image, float64 [B]."""
    from .coding import autoregressive, chain

    if not loaded.latents:
        return autoregressive.encode_batch(samples, loaded.pixels, watch.pixels)
    found = chain.encode_chain(samples, loaded.latents, watch.pixels)
    return found.payload, found.bits


def _decode_samples(payload: bytes, shape: tuple[int, int, int, int], loaded: Loaded, watch: Watch) -> np.ndarray:
    """Inverse of ``_encode_samples``."""
    from .coding import autoregressive, chain

    if not loaded.latents:
        return autoregressive.decode_batch(payload, shape, loaded.pixels, watch.pixels)
    return chain.decode_chain(payload, shape, loaded.latents, watch.pixels)


def _best(models: list[Loaded], samples: np.ndarray, progress: Callable[[int], None]) -> Loaded:
    """The model that codes a few images of uint8 [B, C, H, W], spread over them, in the fewest bits."""
    from .coding import autoregressive

    if len(models) == 1:
        return models[0]
    trial = samples[:: -(-len(samples) // TRIAL_COUNT)]
    bits = [autoregressive.push_words(trial, loaded.pixels, progress)[1].sum() for loaded in models]
    return models[int(np.argmin(bits))]


def _decode_group(block: Block, data: bytes, watch: Watch) -> list[Planes]:
    from .models import registry

    group = archive_format.read_group(data)
    if block.form < container.FIRST_LEARNED_FORM:
        raise UnknownModelError(f"a group cannot have the conventional form {block.form}")
    codec.check_form(Part(block.form, block.channels, b"", group.weights_id), block.width * block.height)
    shape = (len(block.names), block.channels, block.height, block.width)
    samples = _decode_samples(group.payload, shape, registry.load(block.form), watch)
    if _crc(samples) != group.pixels_crc:
        raise ChecksumError("the decoded pixels of a group do not match their checksum")
    for name, image, crc in zip(block.names, samples, block.crcs, strict=True):
        if pixels_crc(image) & 0xFFFF != crc:
            raise ChecksumError(f"the decoded pixels of {name!r} do not match their checksum")
    return [Planes(image, block.mode) for image in samples]


def _crc(samples: np.ndarray) -> int:
    """CRC-32 of uint8 [B, C, H, W]."""
    return pixels_crc(samples.reshape(-1, *samples.shape[2:]))


# -- pack ------------------------------------------------------------------------------------------------


def pack(
    sources: Mapping[str, Any] | Iterable[tuple[str, Any]],
    output: str | os.PathLike,
    *,
    model: str | None = None,
    effort: str = "default",
    strip: bool = False,
    append: bool = False,
    force: bool = False,
    threads: int | None = None,
    max_pixels: int | None = DEFAULT_MAX_PIXELS,
    watch: Watch | None = None,
) -> Packed:
    """Write images into an archive.  The file appears, or changes, only when all is done.

    sources     names (relative POSIX paths) and images: whatever ``encode`` takes; read one after the other
    model       name of the model of the groups that it can code; default: the best for a few images of each group
    effort      of images that are coded alone, as of ``encode``
    strip       drop metadata; small images with metadata are coded alone
    append      add to ``output`` if it exists; its bytes stay as they are
    force       overwrite ``output``
    threads     default all processors; the bytes do not depend on it
    max_pixels  refuse larger images; None lifts the limit

    Raises what ``encode`` raises; OutputExistsError; MemberNameError for names that are refused or taken;
    GmcError when there is no image; ValueError for an unknown model; with ``append`` what ``Archive`` raises.
    """
    watch, threads, place = StoppableWatch(watch or Watch()), threads or codec.available_threads(), Path(output)
    from .models import registry

    asked = registry.named(model) if model else None
    pairs = sources.items() if isinstance(sources, Mapping) else sources
    before: list[Block] = []
    with replacing(place, append, force) as file:
        if append and (start := file.tell()):
            before = archive_format.read_blocks(partial(_read_at, file), start)
            file.seek(start)
        else:
            file.write(HEAD)
        start = file.tell()
        queue = _Queue({name for block in before for name in block.names}, asked, effort, strip, max_pixels, watch)
        blocks, bits = [], 0.0
        with single_threaded_blas(), closing(in_order(queue.jobs(pairs, threads), threads, watch)) as results:
            for coded in (block for made in results for block in made):
                file.write(coded.data)
                blocks.append(coded.block)
                bits += coded.estimated_bits
                watch.images(len(coded.block.names))
        if not blocks:
            raise GmcError("there is no image to pack, so nothing was written")
        file.write(index := archive_format.write_index(blocks, start))
        size = file.tell()
        archive_format.read_blocks(partial(_read_at, file), size)  # what cannot be read must not be written
    added = sum(block.dimensions for block in blocks)
    groups = [block for block in blocks if block.kind == GROUP]
    return Packed(
        bytes=size,
        dimensions=added + sum(block.dimensions for block in before),
        images=sum(len(block.names) for block in blocks),
        groups=len(groups),
        grouped=sum(len(block.names) for block in groups),
        with_metadata=queue.with_metadata,
        added_bytes=size - (start if before else 0),
        added_dimensions=added,
        index_bytes=len(index),
        estimated_bits=bits,
    )


class _Queue:
    """Images in, jobs out: those of the same size wait for one another."""

    def __init__(
        self,
        taken: set[str],
        asked: Loaded | None,
        effort: str,
        strip: bool,
        max_pixels: int | None,
        watch: StoppableWatch,
    ) -> None:
        self._taken, self._asked, self._effort = taken, asked, effort
        self._strip, self._max_pixels = strip, max_pixels
        self._largest = GROUP_PIXELS, GROUP_COUNT  # of a group: pixels, images
        if asked and asked.latents:
            self._largest = (FLOW_PIXELS, FLOW_COUNT) if asked.is_flow else (CHAIN_PIXELS, GROUP_COUNT)
        self._watch, self._large = watch, threading.Lock()
        self._waiting: dict[tuple[str, int, int], list[tuple[str, Planes]]] = {}
        self.with_metadata = 0

    def jobs(self, sources: Iterable[tuple[str, Any]], threads: int) -> Iterator[Callable[[], list[_Coded]]]:
        """Work that makes the blocks, in their order in the file."""
        waiting_pixels = 0
        for name, source in sources:
            try:
                planes = self._read(name, source)
            except (GmcError, OSError) as error:
                self._watch.failed([name], error)
                continue
            small = planes.mode in GROUP_MODES and planes.height * planes.width <= MEMBER_PIXELS
            if not small or planes.metadata:
                self.with_metadata += small
                yield partial(self._single, name, planes, threads)
                continue
            key, area = (planes.mode, planes.width, planes.height), planes.height * planes.width
            self._waiting.setdefault(key, []).append((name, planes))
            waiting_pixels += area
            most_pixels, most_images = self._largest
            if len(self._waiting[key]) < min(most_images, most_pixels // area):
                if waiting_pixels <= WAITING_PIXELS:
                    continue
                key = max(self._waiting, key=lambda k: len(self._waiting[k]) * k[1] * k[2])
            waiting_pixels -= len(self._waiting[key]) * key[1] * key[2]
            yield self._group(self._waiting.pop(key))
        for rest in self._waiting.values():
            yield self._group(rest)

    def _read(self, name: str, source: Any) -> Planes:
        if problem := archive_format.name_problem(name):
            raise MemberNameError(f"cannot be the name of a member: it {problem}")
        if name in self._taken:
            raise MemberNameError(f"the archive already holds {name!r}")
        read = partial(codec.to_planes, source, strip=self._strip, max_pixels=self._max_pixels)
        planes = interruptible(read, self._watch)
        self._taken.add(name)
        return planes

    def _single(self, name: str, planes: Planes, threads: int) -> list[_Coded]:
        large = planes.height * planes.width > GROUP_PIXELS
        with self._large if large else nullcontext():  # one large image at a time, with all threads
            return _encode_single(name, planes, self._effort, threads if large else 1, self._watch)

    def _group(self, members: list[tuple[str, Planes]]) -> Callable[[], list[_Coded]]:
        from .models import registry

        names, images = [name for name, _ in members], [planes for _, planes in members]
        if len(members) == 1:
            return partial(_encode_single, names[0], images[0], self._effort, 1, self._watch)
        channels = images[0].channels
        area, asked = images[0].height * images[0].width, self._asked
        fits = asked is not None and asked.entry.takes(channels, area)
        models = [asked] if asked and fits else registry.installed(channels, area)
        return partial(_encode_group, names, images, models, self._effort, self._watch)


def _read_at(file: BinaryIO, offset: int, count: int) -> bytes:
    file.seek(offset)
    data = file.read(count)
    if len(data) != count:
        raise TruncatedFileError(f"{count} bytes at {offset} of the archive are not all there")
    return data


# -- Archive ---------------------------------------------------------------------------------------------


class Archive:
    """An archive to read: ``with gmcodec.Archive("set.gma") as archive: archive["a/b.png"].show()``.

    source      a path, or the bytes of an archive
    threads     default all processors
    max_pixels  refuse larger images when they are read; None lifts the limit

    Opening reads the index only.  Raises GmcFormatError, OSError.  Reading raises GmcFormatError, WeightsError,
    ImageTooLargeError, and MemberNameError for a name that is not there.  Safe to use by several threads.
    """

    def __init__(
        self,
        source: str | os.PathLike | bytes,
        *,
        threads: int | None = None,
        max_pixels: int | None = DEFAULT_MAX_PIXELS,
    ) -> None:
        self._threads, self._max_pixels = threads or codec.available_threads(), max_pixels
        self._lock, self._large = threading.Lock(), threading.Lock()
        self._file: BinaryIO = io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb")
        self._last: tuple[Block | None, list[Planes]] = None, []
        try:
            self.size = self._file.seek(0, io.SEEK_END)  # bytes of the archive
            self.blocks = archive_format.read_blocks(self._read, self.size)
        except BaseException:
            self._file.close()
            raise
        self._block_of = {name: block for block in self.blocks for name in block.names}

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def names(self) -> list[str]:
        """Names of the members, in the order they are stored."""
        return list(self._block_of)

    @cached_property
    def members(self) -> list[Member]:
        """What the index says of each member, in the order they are stored."""
        return [
            Member(name, b.mode, b.width, b.height, KINDS.get(b.kind, f"unknown ({b.kind})"),
                   codec.name_or_number(b.form), b.length / len(b.names))
            for b in self.blocks for name in b.names
        ]  # fmt: skip

    @property
    def dimensions(self) -> int:
        """Samples of all images: the denominator of bits per dimension."""
        return sum(block.dimensions for block in self.blocks)

    def __len__(self) -> int:
        return len(self._block_of)

    def __iter__(self) -> Iterator[str]:
        return iter(self._block_of)

    def __contains__(self, name: object) -> bool:
        return name in self._block_of

    def __getitem__(self, name: str) -> Image.Image:
        """The image as a PIL image."""
        return pixels.to_image(self.planes(name))

    def planes(self, name: str) -> Planes:
        """The image as integer planes.  The last group read is kept for the next call."""
        block = self._find(name)
        if block is not (last := self._last)[0]:
            watch = StoppableWatch(Watch())
            self._last = last = block, interruptible(lambda: self._decode(block, watch), watch)
        return last[1][block.names.index(name)]

    def items(self, names: Iterable[str] | None = None, *, watch: Watch | None = None) -> Iterator[tuple[str, Planes]]:
        """Names and images, of all members or of ``names``, in the order they are stored; each block is decoded once.

        ``watch.failed`` may let damaged members pass.
        """
        watch = StoppableWatch(watch or Watch())
        wanted = set(self._block_of if names is None else names)
        of = {self._find(name).offset for name in sorted(wanted)}
        blocks = [block for block in self.blocks if block.offset in of]
        jobs = (partial(self._attempt, block, watch) for block in blocks)
        with single_threaded_blas(), closing(in_order(jobs, self._threads, watch)) as results:
            for block, result in zip(blocks, results, strict=True):
                here = [name for name in block.names if name in wanted]
                if isinstance(result, list):
                    for name in here:
                        yield name, result[block.names.index(name)]
                else:
                    watch.failed(here, result)
                watch.images(len(here))

    def _find(self, name: str) -> Block:
        if name not in self._block_of:
            raise MemberNameError(f"the archive does not hold {name!r}")
        return self._block_of[name]

    def _attempt(self, block: Block, watch: Watch) -> list[Planes] | GmcError:
        try:
            return self._decode(block, watch)
        except GmcError as error:
            return error

    def _decode(self, block: Block, watch: Watch) -> list[Planes]:
        if block.kind not in KINDS:
            raise UnknownModelError(f"blocks of kind {block.kind} are not known to this release")
        if self._max_pixels is not None and block.pixels > self._max_pixels:
            raise ImageTooLargeError(
                f"{block.width}x{block.height} is {block.pixels} pixels, the limit is {self._max_pixels}"
            )
        if block.kind == GROUP:
            return _decode_group(block, self._read(block.offset, block.length), watch)
        large = block.pixels > GROUP_PIXELS
        with self._large if large else nullcontext():  # one large image at a time, with all threads
            data = self._read(block.offset, block.length)
            return _decode_single(block, data, self._threads if large else 1, watch)

    def _read(self, offset: int, count: int) -> bytes:
        with self._lock:
            return _read_at(self._file, offset, count)
