# SPDX-License-Identifier: MIT
"""Code planes with an autoregressive pixel model: a sheared wavefront within a tile, a stream for each tile.

Images of equal size may share a stream: they are coded in step, as one batch.  A tile is a batch of one.

::

    order of a tile, slope 2:   0 1 2 3 4 5        digit = step; the pixels of a step do not
                                2 3 4 5 6 7        depend on one another and are one batch
                                4 5 6 7 8 9

Order within a step: the high nibbles of channel 0 of all its pixels, their low nibbles, the high nibbles of channel 1,
and so on; pixels image by image, then row by row.  A model without a slope is coded in raster order: a step is then one
pixel of each image.  The encoder knows all samples, so it may evaluate many steps at once; the model's integers come
out the same.  ANS is a stack: the encoder goes through the steps backwards.

A model that learns while it codes starts anew with every tile.  How it changes from one step of a tile to the next is
in models/online/rules.py.  It does not learn from images that share a stream.

Payload of one part, in this order (numbers as in formats/varint.py):

==================================  ======================  ======================================================
what                                present                 meaning
==================================  ======================  ======================================================
number, 0 for most small images     always                  bit 0: there are changes;
                                                            bit c + 1: channel c has weights of values
number, then that many bytes        if there are changes    length of the changes, and the changes (below)
number                              if there are weights    how many words the weights take
two numbers                         always                  height and width of a tile, at most 2**23 pixels together
a number for each tile              always                  how many words it takes; tiles in raster order
32-bit words, little-endian         always                  words of the weights (coding/value_weights.py),
                                                            then those of all tiles
==================================  ======================  ======================================================

Changes fit the model to the image (models/local/fit.py).  Those of a model that learns are the rates at which its nets
learn, a byte each, and, if tiles are mirrored, a byte that says how (``online.tile_coder.mirrored``).  The words of a
tile are those of one stack, or, of a model that learns, of two (models/online/tile_coder.py).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from gmcodec import native
from gmcodec.arrays import Float64, Int64, UInt8, UInt32
from gmcodec.coding import value_weights
from gmcodec.coding.stack import ROW_TOTAL, Stack
from gmcodec.coding.tiles import read_tiles, squares, tile_shape, tiles, workers
from gmcodec.errors import GmcFormatError
from gmcodec.formats import varint
from gmcodec.progress import Callback, ignore
from gmcodec.threads import Threads

CHUNK_PIXELS = 8192  # that the encoder evaluates at once
HISTOGRAM_SQUARES = 32  # the sample of an image on which weights of values are tried
ADAPT_FROM_PIXELS = 1 << 16  # of an image, from which weights and changes may pay
FIT_SIDE, FIT_SQUARES = 32, 24  # the sample of an image that a model is fitted to
# for each channel the weights of its values 0..255, int64 [256], or None if it has none
Weights = Sequence[np.ndarray | None] | None
# what decoders fill where it is asked for: bits of each pixel, all its channels together, float64 [H, W] or [B, H, W]
Costs = np.ndarray | None


class Prediction(Protocol):
    """Frequencies of some pixels: call high, low and observe for each channel in turn."""

    samples: np.ndarray

    def high(self) -> np.ndarray: ...
    def low(self, high: np.ndarray) -> np.ndarray: ...
    def observe(self, sample: np.ndarray) -> None: ...


class Canvas(Protocol):
    """A batch of B tiles of equal size while they are coded.

    ``pixels`` are int64 flat indices image * H * W + row * W + column, ``planes`` uint8 [B, C, H, W],
    ``samples`` int32 [N, C].
    """

    def fill(self, planes: np.ndarray) -> None: ...
    def write(self, pixels: np.ndarray, samples: np.ndarray) -> None: ...
    def planes(self) -> np.ndarray: ...


class TileCoder(Protocol):
    """Codes one tile uint8 [C, H, W] into the same words as ``push`` and ``pop``, but faster."""

    def push_words(
        self, planes: np.ndarray, progress: Callback, weights: Weights, threads: int = 1
    ) -> tuple[np.ndarray, np.ndarray]: ...
    def pop_words(
        self, words: np.ndarray, height: int, width: int, progress: Callback, weights: Weights, threads: int = 1
    ) -> tuple[np.ndarray, bool]: ...


class PixelModel(Protocol):
    """What coding needs of a model.

    ``slope``: pixel (i, j) can be predicted once all pixels of the steps before ``slope * i + j`` are finished; None
    if the model needs raster order.  Images of a batch MUST NOT influence one another.
    """

    @property
    def channels(self) -> int: ...
    @property
    def slope(self) -> int | None: ...
    @property
    def tile_coder(self) -> TileCoder | None: ...
    def canvas(self, height: int, width: int, count: int = 1) -> Canvas: ...
    def predict(self, canvas: Any, pixels: np.ndarray) -> Prediction: ...
    def fit(self, sample: np.ndarray, pixels: int) -> bytes: ...
    def adapted(self, changes: bytes) -> PixelModel: ...


@dataclass(frozen=True)
class Payload:
    """The payload of a part, and the model's own estimate of its size in bits."""

    data: bytes
    estimated_bits: float


def wavefront(
    height: int, width: int, slope: int | None, count: int = 1
) -> tuple[Int64[np.ndarray, " N"], Int64[np.ndarray, " starts"]]:
    """All pixels of ``count`` images in decoding order: by step ``slope * row + column``, then by image, then by row.

    Returns ``order`` (int64 [count*H*W], flat indices) and ``starts`` (int64 [steps+1]): the pixels of step t
    are ``order[starts[t]:starts[t + 1]]``.
    """
    slope = width if slope is None else slope  # raster order: a row starts when the one above is finished
    rows = np.arange(height, dtype=np.int32)[:, None]
    step = np.tile((slope * rows + np.arange(width, dtype=np.int32)).ravel(), count)
    order = np.argsort(step, kind="stable")
    starts = np.zeros(slope * (height - 1) + width + 1, np.int64)
    np.cumsum(np.bincount(step, minlength=len(starts) - 1), out=starts[1:])
    return order, starts


# -- a batch of tiles or images: push and pop --------------------------------------------------------------


def push(
    stack: Stack, planes: UInt8[np.ndarray, "B C H W"], model: PixelModel, progress: Callback, weights: Weights = None
) -> Float64[np.ndarray, " B"]:
    """Push uint8 [B, C, H, W]; returns the estimated bits of each image, float64 [B].  Inverse of ``pop``."""
    bits = np.zeros(len(planes))
    for pixels, symbols, rows, cost in _chunks(planes, model, weights):
        stack.push(symbols, rows)
        bits += np.bincount(pixels // planes[0, 0].size, cost, len(planes))
        progress(len(pixels))
    return bits


def pixel_bits(planes: np.ndarray, model: PixelModel, progress: Callback, weights: Weights = None) -> np.ndarray:
    """The bits that ``push`` would take for each pixel of uint8 [B, C, H, W]: float64 [B, H, W]."""
    out = np.empty(planes[:, 0].size)
    for pixels, _, _, cost in _chunks(planes, model, weights):
        out[pixels] = cost
        progress(len(pixels))
    return out.reshape(planes[:, 0].shape)


def _chunks(
    planes: np.ndarray, model: PixelModel, weights: Weights
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Of uint8 [B, C, H, W], from the last pixels to the first: pixels, symbols and rows in coding order, pixels' bits.

    int64 [N], flat indices; int32 [2 * C * N]; int32 [2 * C * N, 16]; float64 [N].
    """
    count, c, height, width = planes.shape
    canvas = model.canvas(height, width, count)
    canvas.fill(planes)
    order, starts = wavefront(height, width, model.slope, count)
    samples = planes.transpose(1, 0, 2, 3).reshape(c, -1).astype(np.int32)
    last = len(starts) - 1
    while last > 0:
        # as many whole steps as fit into a chunk
        first = min(last - 1, int(np.searchsorted(starts, starts[last] - CHUNK_PIXELS)))
        pixels = order[starts[first] : starts[last]]
        prediction = model.predict(canvas, pixels)
        where = _symbol_positions(starts[first : last + 1], 2 * c)
        symbols = np.empty(2 * c * len(pixels), np.int32)
        rows = np.empty((len(symbols), 16), np.int32)
        for channel in range(c):
            sample = samples[channel, pixels]
            high, low = sample >> 4, sample & 15
            symbols[where[2 * channel]], rows[where[2 * channel]] = high, prediction.high()
            symbols[where[2 * channel + 1]] = low
            rows[where[2 * channel + 1]] = _low_rows(prediction, high, weights, channel)
            prediction.observe(sample)
        cost = -np.log2(rows[np.arange(len(rows)), symbols] / ROW_TOTAL)
        yield pixels, symbols, rows, cost[where].sum(axis=0)
        last = first


def pop(
    stack: Stack, shape: tuple[int, int, int, int], model: PixelModel, progress: Callback, weights: Weights = None
) -> UInt8[np.ndarray, "B C H W"]:
    """Pop uint8 ``shape`` [B, C, H, W].  An empty stack gives zeros."""
    count, c, height, width = shape
    canvas = model.canvas(height, width, count)
    order, starts = wavefront(height, width, model.slope, count)
    for first, last in itertools.pairwise(starts):
        if first == last:
            continue
        pixels = order[first:last]
        prediction = model.predict(canvas, pixels)
        for channel in range(c):
            high = stack.pop(prediction.high())
            low = stack.pop(_low_rows(prediction, high, weights, channel))
            prediction.observe((high << 4) | low)
        canvas.write(pixels, prediction.samples)
        progress(len(pixels))
    return canvas.planes()


def push_words(
    planes: UInt8[np.ndarray, "B C H W"],
    model: PixelModel,
    progress: Callback,
    weights: Weights = None,
    threads: int = 1,
) -> tuple[UInt32[np.ndarray, " N"], Float64[np.ndarray, " B"]]:
    """uint8 [B, C, H, W] -> words uint32 of a new stack, and the estimated bits of each image, float64 [B].

    ``threads``: how many may share the work; some models can use more than one.
    """
    coder = model.tile_coder
    if coder is not None and len(planes) == 1:
        return coder.push_words(planes[0], progress, weights, threads)
    stack = Stack()
    bits = push(stack, planes, model, progress, weights)
    return stack.words(), bits


def pop_words(
    words: UInt32[np.ndarray, " words"],
    shape: tuple[int, int, int, int],
    model: PixelModel,
    progress: Callback,
    weights: Weights = None,
    threads: int = 1,
    costs: Costs = None,
) -> UInt8[np.ndarray, "B C H W"]:
    """Inverse of ``push_words``; ``costs`` [B, H, W].  Raises GmcFormatError when the words are not used up exactly."""
    coder = model.tile_coder
    if coder is not None and shape[0] == 1:
        check_words(words)
        tile, finished = coder.pop_words(words, *shape[2:], progress, weights, threads)
        planes = tile[None]
    else:
        stack = open_stack(words)
        planes = pop(stack, shape, model, progress, weights)
        finished = stack.is_empty()
    if not finished:
        raise GmcFormatError("coded data is left over after the last pixel")
    if costs is not None:
        learns = shape[0] == 1 and hasattr(coder, "pixel_bits")  # else nothing is faster than going through the model
        costs[:] = (
            coder.pixel_bits(planes[0], progress, weights, threads)  # type: ignore[union-attr]
            if learns
            else pixel_bits(planes, model, progress, weights)
        )
    return planes


def open_stack(words: UInt32[np.ndarray, " words"]) -> Stack:
    """A stack of the words of a file.  Raises GmcFormatError."""
    check_words(words)
    return Stack(words)


def check_words(words: UInt32[np.ndarray, " words"]) -> None:
    """Raise GmcFormatError for words that no stack can have."""
    if len(words) and words[-1] == 0:
        raise GmcFormatError(
            "coded data ends in a zero word"
        )  # is never written, and constriction would raise a bare ValueError


def _low_rows(prediction: Prediction, high: np.ndarray, weights: Weights, channel: int) -> np.ndarray:
    rows = prediction.low(high)
    values = None if weights is None else weights[channel]
    if values is not None:
        native.core().reweighted(rows, high, values)
    return rows


def _symbol_positions(starts: np.ndarray, streams: int) -> np.ndarray:
    """Position in coding order of each symbol, int64 [streams, pixels]; a stream is one nibble of one channel.

    ``starts`` int64 [steps + 1]: where the pixels of each step begin.
    """
    counts = np.diff(starts)
    before = np.repeat(starts[:-1] - starts[0], counts)
    within = np.arange(starts[-1] - starts[0]) - before
    return before * streams + within + np.arange(streams)[:, None] * np.repeat(counts, counts)


# how a tile uint8 [1, C, h, w] becomes words, and back: functions like ``push_words`` and ``pop_words``
PushTile = Callable[[np.ndarray, PixelModel, Callback, Weights, int], tuple[np.ndarray, np.ndarray]]
PopTile = Callable[[np.ndarray, tuple[int, int, int, int], PixelModel, Callback, Weights, int, Costs], np.ndarray]


# -- weights of values -----------------------------------------------------------------------------------


def choose_weight_indices(planes: np.ndarray, model: PixelModel) -> np.ndarray:
    """Weight indices uint8 [C, 256] for an image uint8 [C, H, W]; neutral where weights do not pay."""
    c, height, width = planes.shape
    indices = np.full((c, value_weights.VALUES), value_weights.NEUTRAL_INDEX, np.uint8)
    counts = [np.bincount(plane.ravel(), minlength=value_weights.VALUES) for plane in planes]
    if height * width < ADAPT_FROM_PIXELS or not any(map(value_weights.is_sparse, counts)):
        return indices
    sample = squares(planes, HISTOGRAM_SQUARES)
    half = sample[:, 0].size // 2  # weights from the first half are tried on the second
    canvas = model.canvas(sample.shape[2], sample.shape[3], len(sample))
    canvas.fill(sample)
    prediction = model.predict(canvas, np.arange(2 * half))
    for channel in range(c):
        value = sample[:, channel].ravel().astype(np.int32)
        high, low = value >> 4, value & 15
        rows = prediction.low(high)
        prediction.observe(value)
        used, first, second = counts[channel] > 0, slice(None, half), slice(half, None)

        def found(part: slice, value=value, rows=rows, high=high, used=used) -> np.ndarray:
            count = np.bincount(value[part], minlength=value_weights.VALUES)
            return value_weights.weight_indices(used, count, value_weights.expectation(rows[part], high[part]))

        tried = rows[second].copy()
        native.core().reweighted(tried, high[second], value_weights.WEIGHTS[found(first)])
        symbol = np.arange(len(tried)), low[second]
        saved = np.log2(tried[symbol] / rows[second][symbol]).mean() * height * width
        candidate = found(slice(None))
        if saved > 32 * len(value_weights.pack(candidate[None])[1]):
            indices[channel] = candidate
    return indices


def _weights(indices: np.ndarray) -> Weights:
    return [None if (row == value_weights.NEUTRAL_INDEX).all() else value_weights.WEIGHTS[row] for row in indices]


# -- the tiles of an image: encode and decode ------------------------------------------------------------


def encode(
    planes: UInt8[np.ndarray, "C H W"],
    model: PixelModel,
    threads: int = 1,
    progress: Callback = ignore,
    tile: tuple[int, int] | None = None,
    push_tile: PushTile = push_words,
    weight_indices: Callable[[], np.ndarray] | None = None,
    mirror: int = 0,
) -> Payload:
    """uint8 [C, H, W] -> payload.  The bytes do not depend on ``threads``.

    tile            height and width of a tile; default: ``tile_shape``
    push_tile       how a tile becomes words
    weight_indices  gives the result of ``choose_weight_indices`` where that is known already
    mirror          below online.rules.MIRRORS: how tiles are mirrored, for a model that learns
    """
    _, height, width = planes.shape
    tile = tile or tile_shape(height, width)
    changes = b""
    if height * width >= ADAPT_FROM_PIXELS or mirror:
        changes = model.fit(squares(planes, FIT_SQUARES, FIT_SIDE), height * width)
        changes += bytes([mirror]) if mirror else b""
        model = model.adapted(changes)
    indices = weight_indices() if weight_indices else choose_weight_indices(planes, model)
    mask, weight_words = value_weights.pack(indices)
    weights = _weights(indices)
    parts = [planes[None, :, y, x] for y, x in tiles(height, width, tile)]
    side_by_side, each = workers(len(parts), threads)
    with Threads(side_by_side) as pool:
        coded = list(pool.map(lambda part: push_tile(part, model, progress, weights, each), parts))
    head = varint.write(bool(changes) | mask << 1)
    head += varint.write(len(changes)) + changes if changes else b""
    head += varint.write(len(weight_words)) if mask else b""
    head += b"".join(map(varint.write, (*tile, *(len(words) for words, _ in coded))))
    body = b"".join(words.astype("<u4").tobytes() for words in (weight_words, *(words for words, _ in coded)))
    bits = np.sum([bits for _, bits in coded], 0) + 32.0 * len(weight_words) + 8.0 * len(changes)
    return Payload(head + body, float(bits[0]))


def sampled_bits(
    planes: UInt8[np.ndarray, "C H W"],
    model: PixelModel,
    threads: int,
    weight_indices: Callable[[], np.ndarray] | None,
    progress: Callback = ignore,
) -> tuple[float, float] | None:
    """An estimate of the bits that ``encode`` takes, several times faster, and its standard error in bits.

    None for a model that learns, or that has no tile coder: only local.tile_coder.TileCoder takes samples.
    """
    variance: list[float] = []

    def sample(
        part: np.ndarray, model: Any, progress: Callback, weights: Weights, _: int
    ) -> tuple[np.ndarray, np.ndarray]:
        bits, square = model.tile_coder.sampled_bits(part[0], progress, weights)
        variance.append(square)
        return np.empty(0, np.uint32), np.array([bits])

    if not hasattr(model.tile_coder, "sampled_bits"):
        return None
    bits = encode(planes, model, threads, progress, push_tile=sample, weight_indices=weight_indices).estimated_bits
    return bits, math.sqrt(math.fsum(variance))  # fsum: the order in which threads finish does not matter


def decode(
    payload: bytes,
    shape: tuple[int, int, int],
    model: PixelModel,
    threads: int = 1,
    progress: Callback = ignore,
    pop_tile: PopTile = pop_words,
    costs: Costs = None,
) -> UInt8[np.ndarray, "C H W"]:
    """Inverse of ``encode``: uint8 [C, H, W].  Raises GmcFormatError before large allocations.

    ``costs``, float64 [H, W], gets the bits of each pixel; those of changes and weights, a share of each.  They take
    about as long as decoding, and their pixels are reported once more.
    """
    channels, height, width = shape
    extras, position = varint.read(payload, 0, "the head of a payload")
    changed, position = varint.read(payload, position, "the length of the changes") if extras & 1 else (0, position)
    changes, position = payload[position : position + changed], position + changed
    mask = extras >> 1
    weight_length, position = varint.read(payload, position, "the length of the weights") if mask else (0, position)
    tile, lengths, position = read_tiles(payload, position, height, width)
    if position + 4 * (weight_length + sum(lengths)) != len(payload):
        raise GmcFormatError("the lengths of the tiles do not add up to the payload")
    if extras & 1:
        model = model.adapted(changes)
    words = np.frombuffer(payload, "<u4", offset=position)
    weights = _weights(value_weights.unpack(mask, words[:weight_length], channels))
    ends = np.cumsum([weight_length, *lengths])
    out = np.empty(shape, np.uint8)

    side_by_side, each = workers(len(lengths), threads)

    def decode_tile(number: int, where: tuple[slice, slice]) -> None:
        part, spent = out[None, :, where[0], where[1]], None if costs is None else costs[None, where[0], where[1]]
        part[:] = pop_tile(words[ends[number] : ends[number + 1]], part.shape, model, progress, weights, each, spent)

    with Threads(side_by_side) as pool:
        list(pool.map(decode_tile, range(len(lengths)), tiles(height, width, tile)))
    spread(costs, 32 * weight_length + 8 * changed)
    return out


def spread(costs: Costs, bits: float) -> None:
    """Add bits that belong to no pixel to all of them alike."""
    if costs is not None and costs.size:
        costs += bits / costs.size


# -- a batch of images in one stream ---------------------------------------------------------------------


def encode_batch(
    images: UInt8[np.ndarray, "B C H W"], model: PixelModel, progress: Callback = ignore
) -> tuple[bytes, Float64[np.ndarray, " B"]]:
    """uint8 [B, C, H, W] -> payload, and the estimated bits of each image, float64 [B]."""
    words, bits = push_words(images, model, progress)
    return words.astype("<u4").tobytes(), bits


def decode_batch(
    payload: bytes, shape: tuple[int, int, int, int], model: PixelModel, progress: Callback = ignore
) -> UInt8[np.ndarray, "B C H W"]:
    """Inverse of ``encode_batch``: uint8 ``shape`` [B, C, H, W].  Raises GmcFormatError.

    Memory and time grow with ``shape``, whatever the payload is: the caller must limit it.
    """
    if len(payload) % 4:
        raise GmcFormatError(f"{len(payload)} bytes are no whole number of 32-bit words")
    return pop_words(np.frombuffer(payload, "<u4"), shape, model, progress)
