# SPDX-License-Identifier: MIT
"""Code planes as a graphic: reduced, then pixel after pixel by a model that mixes contexts, in binary decisions.

Payload of one part (numbers as in formats/varint.py):

=============================  ============================================================================
what                           meaning
=============================  ============================================================================
one byte                       bits 0, 1: number of the set of contexts; 2, 3: which pixels are guessed;
                               4, 5: kind of the reduction; others 0 (models/graphics/config.py)
one byte                       bits 0..4: bits of the table of contexts; 5..7: bits of a sample, minus 1
head                           of the reduction (coding/reduction.py)
number                         how many blocks there are, minus 1
a number for each block        how many words it takes; those of the last one end the payload
but the last
16-bit words, little-endian    the blocks, BLOCK_DECISIONS decisions each (exact/decisions.py)
=============================  ============================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from gmcodec import native
from gmcodec.arrays import Float64, UInt, UInt8, UInt16, UInt32
from gmcodec.coding import reduction
from gmcodec.coding.autoregressive import Costs, Payload
from gmcodec.coding.reduction import Reduced
from gmcodec.errors import GmcFormatError, TruncatedFileError
from gmcodec.exact.decisions import BLOCK_DECISIONS
from gmcodec.formats import varint
from gmcodec.progress import Callback, ignore

METHOD, NAME = 5, "graphics"  # permanent id in files
CALL_PIXELS = 1 << 14  # between two reports of progress
SMALL_CANVAS = 1 << 24  # pixels, margins included, that every graphic may take


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the model codes a reduced image.

    channels     samples of a pixel, 1 to 4
    depth        bits of a sample, 1 to 8
    green        the channel of green, which red and blue follow, or -1
    contexts     number of a set of contexts
    guessing     which pixels are guessed before their samples are coded: 0 none, 1 few, 2 many
    bucket_bits  of the table of contexts
    """

    channels: int
    depth: int
    green: int
    contexts: int
    guessing: int
    bucket_bits: int


class Model(Protocol):
    """The model of graphics: models/graphics/model.py."""

    core: native.Core

    @property
    def has_net(self) -> bool:
        """Whether a net is one of the mixer's inputs."""

    def open(self, canvas: np.ndarray, settings: Settings) -> native.Graphics:
        """The model at the first pixel of a canvas.  Raises GmcFormatError if the settings do not suit the image."""


# -- encode and decode -------------------------------------------------------------------------------------


def is_possible(height: int, width: int) -> bool:
    """Whether an image of this shape may be a graphic: margins must not double the memory of a large one."""
    size = native.canvas_size(height, width)
    return size <= min(native.MAX_CANVAS_SIZE, max(SMALL_CANVAS, 2 * height * width))


def encode(reduced: Reduced, settings: Settings, model: Model, progress: Callback = ignore) -> Payload:
    """A reduced image -> payload."""
    graphics = model.open(native.fill_canvas(reduced.planes), settings)
    blocks, bits = _push_pixels(graphics, reduced.planes[0].size, model.core, progress)
    head = bytes([
        settings.contexts | settings.guessing << 2 | reduced.kind << 4, settings.bucket_bits | settings.depth - 1 << 5
    ])  # fmt: skip
    numbers = [len(blocks) - 1, *(len(words) for words in blocks[:-1])]
    sizes = b"".join(varint.write(number) for number in numbers)
    words = b"".join(words.astype("<u2").tobytes() for words in blocks)
    return Payload(head + reduced.head + sizes + words, bits + 8 * len(reduced.head))


def decode(
    payload: bytes,
    shape: tuple[int, int, int],
    depth: int,
    colours: UInt8[np.ndarray, "N 3"] | None,
    model: Model,
    progress: Callback = ignore,
    costs: Costs = None,
) -> UInt[np.ndarray, "C H W"]:
    """Inverse of ``encode``: uint8 [C, H, W], or uint16 if the depth is 16.  Raises GmcFormatError.

    colours  of the image's palette, if it has one
    costs    float64 [H, W], gets the bits of each pixel, and the same share of the reduction's head for all; then
             ``progress`` is told of every pixel twice
    """
    opened = _read(payload, shape, depth)
    if (opened.kind == reduction.NET_COLOURS) != model.has_net:
        raise GmcFormatError(f"reduction {opened.kind} is for graphics {'without' if model.has_net else 'with'} a net")
    if not is_possible(shape[1], shape[2]):
        raise GmcFormatError(f"an image of {shape[1]} rows of {shape[2]} pixels cannot be a graphic")
    canvas, pixels = native.new_canvas(shape[1], shape[2]), shape[1] * shape[2]
    graphics, at = model.open(canvas, opened.settings), 0
    while at < pixels:
        end = graphics.decode(at, min(at + CALL_PIXELS, pixels), opened.reader)
        progress(end - at)
        at = end
    if not opened.reader.finished:
        raise GmcFormatError("the blocks of a graphic do not end where its pixels do")
    if costs is not None:
        found = _pixel_costs(model.open(canvas.copy(), opened.settings), pixels, progress)
        costs[...] = found.reshape(costs.shape) + 8 * opened.head_size / pixels
    planes = native.read_canvas(canvas, opened.settings.channels)
    expanded = reduction.expand(opened.kind, opened.head, planes, shape, depth, colours)
    if depth < 8 and expanded.max() >> depth:
        raise GmcFormatError(f"a sample is {expanded.max()}, depth is {depth}")
    return expanded


@dataclass(frozen=True)
class _Opened:
    """What the payload of a graphic says before its decisions."""

    settings: Settings
    kind: int
    head: memoryview  # and what follows
    head_size: int
    reader: native.DecisionReader


def _read(payload: bytes, shape: tuple[int, int, int], depth: int) -> _Opened:
    if len(payload) < 2:
        raise TruncatedFileError("the payload of a graphic has no first bytes")
    flags, sizes = payload[0], payload[1]
    if flags >> 6:
        raise GmcFormatError(f"the first byte of a graphic cannot be {flags:#x}")
    kind, head = flags >> 4, memoryview(payload)[2:]
    channels, green, size = reduction.read_head(kind, head, shape, depth)
    settings = Settings(
        channels=channels, depth=(sizes >> 5) + 1, green=green, contexts=flags & 3, guessing=flags >> 2 & 3,
        bucket_bits=sizes & 31,
    )  # fmt: skip
    return _Opened(settings, kind, head, size, _read_blocks(payload, 2 + size))


def _read_blocks(payload: bytes, at: int) -> native.DecisionReader:
    count, at = varint.read(payload, at, "the number of blocks of a graphic")
    if count > len(payload):
        raise TruncatedFileError(f"{count} blocks are more than a payload of {len(payload)} bytes can have")
    sizes = []
    for _ in range(count):
        size, at = varint.read(payload, at, "the words of a block")
        sizes.append(size)
    if (len(payload) - at) % 2:
        raise GmcFormatError("the payload of a graphic ends inside a word")
    words = np.frombuffer(payload, "<u2", offset=at).astype(np.uint16)
    if sum(sizes) > len(words):
        raise TruncatedFileError(f"blocks of {sum(sizes)} words are more than the {len(words)} that there are")
    sizes.append(len(words) - sum(sizes))
    ends = np.cumsum(sizes, dtype=np.int64)
    if any(size and words[end - 1] == 0 for size, end in zip(sizes, ends, strict=True)):
        raise GmcFormatError("a block of a graphic ends in a zero word")  # is never written
    return native.DecisionReader(words, np.array(sizes, np.int64), BLOCK_DECISIONS)


# -- decisions -----------------------------------------------------------------------------------------------


def _push_pixels(
    graphics: native.Graphics, pixels: int, core: native.Core, progress: Callback
) -> tuple[list[UInt16[np.ndarray, " words"]], float]:
    """The words of all blocks, and their bits: in the memory of one block."""
    blocks, bits, waiting, count, at = [], 0.0, list[np.ndarray](), 0, 0
    while at < pixels:
        end, decisions = graphics.encode(at, min(at + CALL_PIXELS, pixels))
        bits += bits_of(decisions).sum()
        waiting.append(decisions)
        count += len(decisions)
        while count > BLOCK_DECISIONS:
            together = np.concatenate(waiting)
            blocks.append(native.pushed_decisions(core, together[:BLOCK_DECISIONS]))
            waiting, count = [together[BLOCK_DECISIONS:]], count - BLOCK_DECISIONS
        progress(end - at)
        at = end
    blocks.append(native.pushed_decisions(core, np.concatenate(waiting)))
    return blocks, float(bits)


def bits_of(decisions: UInt32[np.ndarray, " N"]) -> Float64[np.ndarray, " N"]:
    """The bits float64 [N] of decisions uint32 [N]."""
    probability = decisions & 0xFFFF
    return 16 - np.log2(np.where(decisions >> 16 > 0, probability, 65536 - probability))


def _pixel_costs(graphics: native.Graphics, pixels: int, progress: Callback) -> Float64[np.ndarray, " N"]:
    """The bits float64 of each pixel; those of a run have the same share."""
    costs, at, told = np.empty(pixels), 0, 0
    while at < pixels:
        end, decisions = graphics.encode(at, at + 1)
        costs[at:end] = bits_of(decisions).sum() / (end - at)
        at = end
        if at - told >= CALL_PIXELS or at == pixels:
            progress(at - told)
            told = at
    return costs
