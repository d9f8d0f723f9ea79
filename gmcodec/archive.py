# SPDX-License-Identifier: MIT
"""Archives: many images in one .gma file; small ones of equal size are coded together by one model.

pack     images --jobs--> groups and singles --encode_group, encode_single--> blocks --index--> file
Archive  file --index--> blocks --decode_group, decode_single--> images

blocks.py codes blocks.

A small image that is coded alone pays for a header, and only one processor can work on it.  In a group it pays for its
name and two bytes.  Reading one image of a group decodes the whole group.  The bytes do not depend on the number of
threads.
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from gmcodec import codec
from gmcodec.blocks import EncodedBlock, decode_group, decode_single, encode_group, encode_single
from gmcodec.errors import GmcError, ImageTooLargeError, MemberNameError, TruncatedFileError, UnknownModelError
from gmcodec.files import PERMISSIONS, attributes, replacing
from gmcodec.formats import gma
from gmcodec.formats.gma import GROUP, GROUP_MODES, HEAD, KINDS, Attributes, Block
from gmcodec.image import reading
from gmcodec.image.modes import DEFAULT_MAX_PIXELS
from gmcodec.image.planes import Planes
from gmcodec.progress import Progress, Stoppable
from gmcodec.threads import in_order, interruptible

if TYPE_CHECKING:
    from PIL import Image

    from gmcodec.models.registry import Loaded

MEMBER_PIXELS = 1 << 14  # larger images are coded alone
# pixels and images of a group, at most: reading one member decodes the whole group
GROUP_PIXELS, GROUP_COUNT = 1 << 18, 1024
CHAIN_PIXELS = 1 << 20  # of a chain: seeds should be a small share of it
FLOW_PIXELS, FLOW_COUNT = 1 << 21, 2048  # of the chain of a flow, which is faster and needs more seeds
WAITING_PIXELS = 1 << 24  # of all images that wait for others of their size, at most


@dataclass(frozen=True)
class Member:
    """The entry of an image in the index.  ``bytes``: those of its block, divided by the number of images in it.

    ``modified`` (seconds since 1970) and ``permissions`` are those of the packed file; None if unknown.
    """

    name: str
    mode: str
    width: int
    height: int
    kind: str
    code: str
    bytes: float
    modified: float | None = None
    permissions: int | None = None


@dataclass(frozen=True)
class Packed:
    """The result of ``pack``.

    ``bytes`` and ``dimensions`` are those of the whole file, ``index_bytes`` those of its index and footer; all other
    numbers count only what this call added.  ``estimated_bits`` as in ``codec.Encoded``.
    """

    bytes: int
    dimensions: int
    images: int
    groups: int
    grouped: int
    with_metadata: int  # small images that were coded alone because they have metadata
    added_bytes: int
    added_dimensions: int
    index_bytes: int
    estimated_bits: float

    @property
    def bits_per_dimension(self) -> float:
        """Bits per dimension of the whole file, with head, index and footer."""
        return 8 * self.bytes / self.dimensions


# -- pack ------------------------------------------------------------------------------------------------


def pack(
    sources: Mapping[str, Any] | Iterable[tuple[str, Any]],
    output: str | os.PathLike,
    *,
    model: str | None = None,
    effort: str = "default",
    strip: bool = False,
    first: bool = False,
    strict: bool = False,
    times: bool = True,
    append: bool = False,
    force: bool = False,
    threads: int | None = None,
    max_pixels: int | None = DEFAULT_MAX_PIXELS,
    progress: Progress | None = None,
) -> Packed:
    """Write images into an archive.  The file appears, or changes, only when everything is done.

    sources     names (relative POSIX paths) and images as ``encode`` takes them; read one after the other
    model       name of the model for all groups that it supports; default: the best one for a few images of each group
    effort      of images that are coded alone, as in ``encode``
    strip       drop metadata; small images with metadata are coded alone
    first       take the first of several frames or pages
    strict      raise NotKeptError, instead of a warning, when something in a file cannot be kept
    times       store when files were modified, for images that are given as paths
    append      add to ``output`` if it exists; its bytes stay as they are
    force       overwrite ``output``
    threads     default all processors; the bytes do not depend on it
    max_pixels  larger images are refused; None: no limit

    Permissions of files are stored, too; the archive can be read only by users who could read all of the files.

    Raises what ``encode`` raises; OutputExistsError; MemberNameError for a name that is refused or taken;
    GmcError when there is no image; ValueError for an unknown model; with ``append`` what ``Archive`` raises.
    """
    progress, threads, place = Stoppable(progress or Progress()), threads or codec.available_threads(), Path(output)
    from gmcodec.models import registry

    named_model = registry.named(model) if model else None
    pairs = sources.items() if isinstance(sources, Mapping) else sources
    before: list[Block] = []

    def read(source: Any) -> Planes:
        planes = codec.to_planes(source, strip=strip, max_pixels=max_pixels, first=first)
        codec.report_losses(planes, strict)
        return planes

    queue = _Queue(named_model, effort, times, read, progress)
    with replacing(place, append, force, lambda: queue.permissions) as file:
        if append and (start := file.tell()):
            before = gma.read_blocks(partial(_read_at, file), start)
            file.seek(start)
        else:
            file.write(HEAD)
        start = file.tell()
        queue.taken = {name for block in before for name in block.names}
        blocks, bits = _write_blocks(file, queue, queue.jobs(pairs, threads), threads, progress)
        file.write(index := gma.write_index(blocks, start))
        size = file.tell()
        gma.read_blocks(partial(_read_at, file), size)  # raises if the index cannot be read back
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


def _write_blocks(
    file: BinaryIO,
    queue: _Queue,
    jobs: Iterable[Callable[[], list[EncodedBlock]]],
    threads: int,
    progress: Progress,
) -> tuple[list[Block], float]:
    """Run jobs and write their blocks; returns the blocks and their estimated bits.  Raises GmcError without any."""
    blocks, bits = [], 0.0
    with closing(in_order(jobs, threads, progress)) as results:
        for encoded in (block for found in results for block in found):
            file.write(encoded.data)
            own = tuple(queue.attributes[name] for name in encoded.block.names)
            blocks.append(replace(encoded.block, attributes=own))
            bits += encoded.estimated_bits
            progress.images(len(encoded.block.names))
    if not blocks:
        raise GmcError("there is no image to pack, so nothing was written")
    return blocks, bits


class _Queue:
    """Turns images into jobs; small images wait until there are enough of their size for a group."""

    def __init__(
        self,
        named_model: Loaded | None,
        effort: str,
        times: bool,
        read: Callable[[Any], Planes],
        progress: Progress,
    ) -> None:
        self._model, self._effort, self._times, self._planes_of = named_model, effort, times, read
        self.taken: set[str] = set()  # names
        self.attributes: dict[str, Attributes] = {}
        self.permissions: int | None = None  # those that all files grant
        self._largest = GROUP_PIXELS, GROUP_COUNT  # of a group: pixels, images
        if named_model and hasattr(named_model.model, "latent_bits"):
            is_flow = hasattr(named_model.model, "flow_state")
            self._largest = (FLOW_PIXELS, FLOW_COUNT) if is_flow else (CHAIN_PIXELS, GROUP_COUNT)
        self._progress, self._large = progress, threading.Lock()
        self._waiting: dict[tuple[str, int, int], list[tuple[str, Planes]]] = {}
        self.with_metadata = 0

    def jobs(self, sources: Iterable[tuple[str, Any]], threads: int) -> Iterator[Callable[[], list[EncodedBlock]]]:
        """Jobs that make the blocks, in the order of the file."""
        waiting_pixels = 0
        for name, source in sources:
            try:
                planes = self._read(name, source)
            except (GmcError, OSError) as error:
                self._progress.failed([name], error)
                continue
            small = planes.mode in GROUP_MODES and planes.height * planes.width <= MEMBER_PIXELS
            if not small or planes.metadata:
                self.with_metadata += small
                yield partial(self._single, name, planes, threads)
                continue
            key, area = (planes.mode, planes.width, planes.height), planes.height * planes.width
            self._waiting.setdefault(key, []).append((name, planes))
            waiting_pixels += area
            max_pixels, max_images = self._largest
            if len(self._waiting[key]) < min(max_images, max_pixels // area):
                if waiting_pixels <= WAITING_PIXELS:
                    continue
                key = max(self._waiting, key=lambda k: len(self._waiting[k]) * k[1] * k[2])
            waiting_pixels -= len(self._waiting[key]) * key[1] * key[2]
            yield self._group(self._waiting.pop(key))
        for rest in self._waiting.values():
            yield self._group(rest)

    def _read(self, name: str, source: Any) -> Planes:
        if problem := gma.name_problem(name):
            raise MemberNameError(f"cannot be the name of a member: it {problem}")
        if name in self.taken:
            raise MemberNameError(f"the archive already holds {name!r}")
        state = attributes(Path(source)) if isinstance(source, str | os.PathLike) else None
        planes = interruptible(partial(self._planes_of, source), self._progress)
        self.taken.add(name)
        self._remember(name, state)
        return planes

    def _remember(self, name: str, state: os.stat_result | None) -> None:
        if state is None:
            self.attributes[name] = Attributes()
            return
        permissions = state.st_mode & PERMISSIONS
        self.attributes[name] = Attributes(permissions, state.st_mtime_ns if self._times else None)
        self.permissions = permissions if self.permissions is None else self.permissions & permissions

    def _single(self, name: str, planes: Planes, threads: int) -> list[EncodedBlock]:
        large = planes.height * planes.width > GROUP_PIXELS
        with self._large if large else nullcontext():  # one large image at a time, with all threads
            return encode_single(name, planes, self._effort, threads if large else 1, self._progress)

    def _group(self, members: list[tuple[str, Planes]]) -> Callable[[], list[EncodedBlock]]:
        from gmcodec.models import registry

        names, images = [name for name, _ in members], [planes for _, planes in members]
        if len(members) == 1:
            return partial(encode_single, names[0], images[0], self._effort, 1, self._progress)
        channels = images[0].channels
        area, named_model = images[0].height * images[0].width, self._model
        fits = named_model is not None and named_model.entry.codes_groups and named_model.entry.supports(channels, area)
        models = [named_model] if named_model and fits else registry.installed(channels, area)
        return partial(encode_group, names, images, models, self._effort, self._progress)


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
    max_pixels  larger images are refused when they are read; None: no limit

    Opening reads only the index.  Raises GmcFormatError, OSError.  Reading raises GmcFormatError, WeightsError,
    ImageTooLargeError, and MemberNameError for a name that is not there.  Threads may share it.
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
            self.blocks = gma.read_blocks(self._read, self.size)
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
        """The entries of the index, in the order they are stored."""
        return [self._member(name, block, place) for block in self.blocks for place, name in enumerate(block.names)]

    def _member(self, name: str, block: Block, place: int) -> Member:
        b, kept = block, block.attributes[place] if block.attributes else Attributes()
        kind, code = KINDS.get(b.kind, f"unknown ({b.kind})"), codec.name_or_number(b.method)
        modified = None if kept.modified is None else kept.modified / 1e9
        return Member(name, b.mode, b.width, b.height, kind, code, b.length / len(b.names), modified, kept.permissions)

    def attributes(self, name: str) -> Attributes:
        """Permissions of the packed file, and when it was modified, in nanoseconds since 1970."""
        block = self._find(name)
        return block.attributes[block.names.index(name)] if block.attributes else Attributes()

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
        return reading.to_image(self.planes(name))

    def planes(self, name: str) -> Planes:
        """The image as integer planes.  The last group read is kept for the next call."""
        block = self._find(name)
        if block is not (last := self._last)[0]:
            progress = Stoppable()
            self._last = last = block, interruptible(lambda: self._decode(block, progress), progress)
        return last[1][block.names.index(name)]

    def items(
        self, names: Iterable[str] | None = None, *, progress: Progress | None = None
    ) -> Iterator[tuple[str, Planes]]:
        """Names and images of all members, or of ``names``, in the order they are stored; each block is decoded once.

        A damaged member is reported to ``progress.failed``; if that returns, the others follow.
        """
        progress = Stoppable(progress or Progress())
        wanted = set(self._block_of if names is None else names)
        of = {self._find(name).offset for name in sorted(wanted)}
        blocks = [block for block in self.blocks if block.offset in of]
        jobs = (partial(self._attempt, block, progress) for block in blocks)
        with closing(in_order(jobs, self._threads, progress)) as results:
            for block, result in zip(blocks, results, strict=True):
                here = [name for name in block.names if name in wanted]
                if isinstance(result, list):
                    for name in here:
                        yield name, result[block.names.index(name)]
                else:
                    progress.failed(here, result)
                progress.images(len(here))

    def _find(self, name: str) -> Block:
        if name not in self._block_of:
            raise MemberNameError(f"the archive does not hold {name!r}")
        return self._block_of[name]

    def _attempt(self, block: Block, progress: Progress) -> list[Planes] | GmcError:
        try:
            return self._decode(block, progress)
        except GmcError as error:
            return error

    def _decode(self, block: Block, progress: Progress) -> list[Planes]:
        if block.kind not in KINDS:
            raise UnknownModelError(f"blocks of kind {block.kind} are not known to this release")
        if self._max_pixels is not None and block.pixels > self._max_pixels:
            raise ImageTooLargeError(
                f"{block.width}x{block.height} is {block.pixels} pixels, the limit is {self._max_pixels}"
            )
        if block.kind == GROUP:
            return decode_group(block, self._read(block.offset, block.length), progress)
        large = block.pixels > GROUP_PIXELS
        with self._large if large else nullcontext():  # one large image at a time, with all threads
            data = self._read(block.offset, block.length)
            return decode_single(block, data, self._threads if large else 1, progress)

    def _read(self, offset: int, count: int) -> bytes:
        with self._lock:
            return _read_at(self._file, offset, count)
