# SPDX-License-Identifier: MIT
"""The pixel model of graphics, the canvases that it works on, and the decisions that an image is decoded from."""

from __future__ import annotations

import sys
import weakref
from ctypes import byref, c_int64, c_uint32, pointer
from typing import Any

import numpy as np

from gmcodec.arrays import Int64, UInt8, UInt16, UInt32
from gmcodec.native.library import (
    InstructionSet,
    _address,
    _DecisionReader,
    _Graphics,
    _GraphicsNet,
    _in_range,
    _MixingTables,
    _output_address,
)
from gmcodec.native.nets import Net

MARGIN, ROWS_ABOVE = 16, 6  # of a canvas: pixels left and right of each row, and rows above the first
ALL_CONTEXTS, TEMPLATES, MAX_CONTEXTS = 21, 13, 24
BUCKET_BITS_LIMIT, PLACE_BITS_LIMIT = 24, 26
MAX_CANVAS_SIZE = 2**32 - 2  # pixels, margins included: the library numbers them from 1 on


class DecisionReader:
    """Blocks of words that decisions are popped from: exact/decisions.py."""

    def __init__(
        self, words: UInt16[np.ndarray, " words"], sizes: Int64[np.ndarray, " blocks"], block_decisions: int
    ) -> None:
        """words uint16 of all blocks; sizes int64: words of each; a block has ``block_decisions``, the last one fewer.

        Raises ValueError if the sizes do not add up.
        """
        if block_decisions < 1 or (len(sizes) and (sizes.min() < 0 or sizes.max() > len(words))):
            raise ValueError("blocks of words that are not there")
        if sizes.sum() != len(words):
            raise ValueError(f"blocks have {sizes.sum()} words, not {len(words)}")
        self._keep_alive = words, sizes
        self.structure = _DecisionReader(
            _address(words, np.uint16, None), _address(sizes, np.int64, None), len(sizes), block_decisions
        )

    @property
    def finished(self) -> bool:
        """Whether all words were used up, and no more than there are."""
        s = self.structure
        return s.block == s.blocks and not (s.state or s.count or s.damaged)


class Graphics:
    """The model on an image, pixel after pixel: models/graphics/spec.py."""

    def __init__(
        self,
        core: InstructionSet,
        canvas: UInt32[np.ndarray, "H2 W2"],
        tables: Any,
        *,
        channels: int,
        depth: int,
        green: int,
        contexts: int,
        bilevel: bool,
        guessing: int,
        bucket_bits: int,
        place_bits: int,
        net: tuple[Net, Any] | None = None,
    ) -> None:
        """canvas uint32 of pixels, of ``new_canvas``; tables: exact.context_mixing.MixingTables.

        A pixel has ``channels`` samples of ``depth`` bits, in bytes from the lowest on.  ``green``: the channel of
        green, which red and blue follow, or -1.  ``contexts``: a bit for each that is used; ``bilevel``: templates as
        well; ``guessing``: 0, 1 or 2; ``bucket_bits``, ``place_bits``: of the sizes of tables.  ``net``: what predicts
        the last channels as well, and an empty window.Canvas of one image for it.  Raises ValueError, TypeError,
        NativeError.
        """
        height, width = canvas_shape(canvas)
        if height < 1 or width < 1 or canvas.size > MAX_CANVAS_SIZE:
            raise ValueError(f"a canvas of {canvas.shape} holds no image")
        if not 1 <= channels <= 4 or not 1 <= depth <= 8 or green not in (-1, channels - 3) or green < -1:
            raise ValueError(f"{channels} channels of {depth} bits with green in {green}")
        if bin(contexts).count("1") + TEMPLATES * bilevel > MAX_CONTEXTS or (bilevel and (channels, depth) != (1, 1)):
            raise ValueError(f"contexts {contexts:x} and templates for {channels} channels of {depth} bits")
        if not 0 < contexts < 1 << ALL_CONTEXTS or guessing not in (0, 1, 2):
            raise ValueError(f"contexts {contexts:x} with guessing {guessing}")
        if not 1 <= bucket_bits <= BUCKET_BITS_LIMIT or not 1 <= place_bits <= PLACE_BITS_LIMIT:
            raise ValueError(f"tables of {bucket_bits} and {place_bits} bits")
        entries = _MixingTables(
            _address(tables.stretch, np.int16, 4096), _address(tables.squash, np.int32, 5633),
            _address(tables.reciprocal, np.int32, 256), _address(tables.logistic, np.int32, 8191),
            _address(tables.inverse_square, np.int32, 1021),
        )  # fmt: skip
        first = _output_address(canvas, np.uint32, *canvas.shape) + 4 * (ROWS_ABOVE * canvas.shape[1] + MARGIN)
        data = _Graphics(
            width, height, channels, depth, green, contexts, bilevel, guessing, bucket_bits, place_bits,
            canvas.shape[1], first, pointer(entries),
            self._net(core, net, (height, width, channels)) if net else None,
        )  # fmt: skip
        self._core, self._keep_alive = core, (canvas, tables, net)  # the library keeps addresses in them
        self._handle = core.made(core.graphics_new(byref(data)))
        weakref.finalize(self, core.graphics_free, self._handle).atexit = False  # at exit a thread may still use it
        self._scratch = np.empty(0, np.uint32)
        self._next, self._pixels, self._decisions = 0, height * width, 8 * channels + 32  # of a pixel at most

    @staticmethod
    def _net(core: InstructionSet, net: tuple[Net, Any], shape: tuple[int, int, int]) -> Any:
        """A pointer to the structure of a net for an image of ``shape``: rows, columns, channels."""
        used, canvas = net
        if used.core is not core or used.condition or not used.channels == canvas.channels <= shape[2]:
            raise ValueError(f"a net of {used.channels} channels for a pixel of {shape[2]}")
        margin = (canvas.row_size // canvas.channels - canvas.width) // 2
        if not used.within(margin, margin) or (canvas.height, canvas.width, len(canvas.samples)) != (*shape[:2], 1):
            raise ValueError("the canvas of a net must fit its window, and have one image of the same size")
        samples, origin = _output_address(canvas.flat, np.int16, None), canvas.locate(np.zeros(1, np.int64))[0]
        return pointer(_GraphicsNet(used.handle, samples, int(origin), canvas.row_size))

    def _check(self, first: int, last: int) -> None:
        """Every pixel must be coded once, in order."""
        if first != self._next or not first <= last <= self._pixels:
            raise ValueError(f"pixels {first} to {last}; {self._next} of {self._pixels} is the next")

    def encode(self, first: int, last: int) -> tuple[int, UInt32[np.ndarray, " N"]]:
        """The pixel after those coded, at least ``last``, and their decisions: probability of one, plus 2**16 if one.

        Inverse of ``decode``.
        """
        self._check(first, last)
        needed, count = (last - first) * self._decisions, c_int64()
        if len(self._scratch) < needed:  # kept from call to call, since new memory is slow, above all in threads
            self._scratch = np.empty(needed, np.uint32)
        self._next = self._core.graphics_encode(self._handle, first, last, self._scratch.ctypes.data, byref(count))
        return self._next, self._scratch[: count.value].copy()

    def decode(self, first: int, last: int, reader: DecisionReader) -> int:
        """Decode into the canvas; returns the pixel after those decoded, at least ``last``."""
        self._check(first, last)
        self._next = self._core.graphics_decode(self._handle, first, last, byref(reader.structure))
        return self._next


# -- canvases: pixels as numbers, with room around them for neighbours that do not exist ---------------------------


def new_canvas(height: int, width: int) -> UInt32[np.ndarray, "H2 W2"]:
    """A canvas without pixels."""
    return np.zeros((ROWS_ABOVE + height, width + 2 * MARGIN), np.uint32)


def canvas_size(height: int, width: int) -> int:
    """The pixels of a canvas, margins included."""
    return (ROWS_ABOVE + height) * (width + 2 * MARGIN)


def canvas_shape(canvas: UInt32[np.ndarray, "H2 W2"]) -> tuple[int, int]:
    """Height and width of the image on a canvas."""
    return canvas.shape[0] - ROWS_ABOVE, canvas.shape[1] - 2 * MARGIN


def fill_canvas(planes: UInt8[np.ndarray, "C H W"]) -> UInt32[np.ndarray, "H2 W2"]:
    """A canvas of samples uint8 [C, H, W], the first channel in the lowest byte.  Inverse of ``read_canvas``."""
    canvas = new_canvas(planes.shape[1], planes.shape[2])
    for channel, plane in enumerate(planes):
        _channel(canvas, channel)[...] = plane
    return canvas


def read_canvas(canvas: UInt32[np.ndarray, "H2 W2"], channels: int) -> UInt8[np.ndarray, "C H W"]:
    """Samples uint8 [C, H, W] of a canvas."""
    return np.stack([_channel(canvas, channel) for channel in range(channels)])


def _channel(canvas: UInt32[np.ndarray, "H2 W2"], channel: int) -> UInt8[np.ndarray, "H W"]:
    """The bytes of a channel, as a view."""
    byte = channel if sys.byteorder == "little" else 3 - channel
    return canvas.view(np.uint8).reshape(*canvas.shape, 4)[ROWS_ABOVE:, MARGIN:-MARGIN, byte]


# -- decisions -----------------------------------------------------------------------------------------------------


def pushed_decisions(core: InstructionSet, decisions: UInt32[np.ndarray, " N"]) -> UInt16[np.ndarray, " words"]:
    """The words uint16 of a block of decisions uint32, its state included: exact.decisions.push."""
    _in_range(decisions & 0xFFFF, 1, 65535, "probabilities")
    words, state, count = np.empty(len(decisions) + 2, np.uint16), c_uint32(), c_int64()
    address = _address(decisions, np.uint32, None)
    core.push_decisions(address, len(decisions), byref(state), words.ctypes.data, byref(count))
    n, rest = count.value, state.value
    while rest:
        words[n], rest, n = rest & 0xFFFF, rest >> 16, n + 1
    return words[:n].copy()
