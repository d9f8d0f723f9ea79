# SPDX-License-Identifier: MIT
"""Conventional lossless methods, for planes that models of photographs code badly: screenshots, palettes, masks.

Payloads of the four methods, for samples ``[C, H, W]`` of ``depth`` 1, 2, 4, 8 or 16 bits:

``STORED``    The samples in C H W order: packed when depth < 8 (``filters.pack_rows``), little-endian when it
              is 16.

``DEFLATED``  One byte, then a compressed stream that MUST give exactly as many bytes as the first byte and the
              shape require::

                  bit   7 6     5 4 3    2 1 0
                      packing | filter | compressor

              compressor  0 raw deflate (RFC 1951); 1..7 raw LZMA1 with an end marker and the (lc, lp, pb) of
                          ``compressors.LZMA``. The dictionary is the stream's size, clamped to 4 KiB .. 64 MiB.
              filter      0 interleaved: H W C, 16-bit samples high byte first
                          1 PNG: interleaved, then each row led by its kind (``filters.png_filter``)
                          2 MED: ``filters.med_filter`` and then as 4
                          3 MED after channel 1 was subtracted from channels 0 and 2 (C >= 3)
                          4 planar: C H W order; of 16-bit samples all high bytes, then all low
              packing     0 whole samples; 1, 2, 3: packed 1, 2, 4 bits each (C = 1, filters 0 and 1 only)

``WEBP``      The VP8L chunk of a lossless WebP picture, without its RIFF wrapper (20 bytes that say nothing
              new). C = 1 is coded as grey, C = 2 as grey and alpha, 3 as RGB, 4 as RGBA. At most 16383 on a
              side, depth <= 8.

``PALETTE``   A table, then another method for the indices into it::

                  +------+-------+=========+--------+=========+
                  | kind | n - 1 |  table  | method | payload |   method: STORED, DEFLATED or WEBP
                  +------+-------+=========+--------+=========+

              kind bit 0: 0 = the table holds colours of C samples and the payload one plane of indices; 1 =
              it holds single samples and the payload C planes. Bit 1: the table is raw deflate. Others are 0.
              The table is stored channel by channel; an entry is its difference to the one before, modulo
              2**depth, or modulo 256 when depth < 8; 16-bit differences are little-endian. Index planes have the
              least depth of 1, 2, 4, 8 that n entries need.

``decode`` trusts nothing: sizes are known before anything is allocated, and decompressors are bounded. A damaged
payload gives a ``GmcFormatError``, or wrong samples of the right shape, which the container's CRCs catch.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, WebPImagePlugin

from gmcodec.arrays import UInt
from gmcodec.coding import filters, palette
from gmcodec.coding.compressors import DEFLATE, LZMA, decompress, deflate, lzma_raw
from gmcodec.coding.filters import INTERLEAVED, MED, MED_GREEN, PACKED_BITS, PLANAR, PNG
from gmcodec.errors import GmcFormatError, TruncatedFileError, UnknownModelError
from gmcodec.progress import Callback, ignore

STORED, DEFLATED, WEBP, PALETTE = 1, 2, 3, 4
METHODS = {STORED: "stored", DEFLATED: "deflated", WEBP: "webp", PALETTE: "palette"}

_WEBP_SIDE = 16383
_WEBP_MODES = {1: "RGB", 2: "RGBA", 3: "RGB", 4: "RGBA"}

_QUICK_PIXELS = 1 << 21  # of a band that is compressed for an estimate
_SMALL_BYTES = 1 << 16  # of samples, up to which every method is tried
_SIMPLE_RATIO = 0.05  # WebP's size over raw size, below which an image counts as simple
# pixels up to which the slowest setting of WebP is tried: it takes 1 to 5 s a megapixel for a simple image and up to
# 100 s for others
_SLOW_PIXELS_SIMPLE_FAST, _SLOW_PIXELS_FEW_COLOURS, _SLOW_PIXELS_SIMPLE, _SLOW_PIXELS = (
    1 << 19,
    1 << 24,
    1 << 21,
    1 << 18,
)
_FEW_COLOURS = 2048
# how much smaller that setting made an image, at most: with few colours, and with many or grey
_SLOW_GAIN_FEW_COLOURS, _SLOW_GAIN = 2.2, 1.08


def encode(
    planes: UInt[np.ndarray, "C H W"],
    depth: int,
    effort: str,
    below: float | None = None,
    progress: Callback = ignore,
) -> tuple[int, bytes]:
    """Smallest (method, payload) found for uint8 or uint16 ``[C, H, W]``, C 1..4, values below ``2**depth``.

    effort    "fast" tries all methods that can win: about a second per megasample for a photograph, several seconds
              for a picture of few colours. "best" also tries the slow settings of WebP
    below     bytes that a result must stay below to be of use: slow settings that cannot reach that are left out
    progress  is called with 0 pixels after every trial: it may end the work
    """
    if effort not in ("fast", "best"):
        raise ValueError(f"effort {effort!r} is not one of 'fast', 'best'")
    best = _Smallest(STORED, _encode_stored(planes, depth), progress)  # the floor
    tried = _try_fast(best, planes, depth)
    if effort == "best" and tried.sizes:
        _try_slow_webp(best, planes, tried, below)
    return best.method, best.payload


def quick_size(planes: UInt[np.ndarray, "C H W"], depth: int, progress: Callback = ignore) -> int:
    """A rough estimate of the bytes that ``encode`` would take, in tens of milliseconds per megasample.

    A large image is compressed band by band, since compressing it as a whole takes ten times its memory.
    """
    rows = max(1, _QUICK_PIXELS // planes.shape[2])
    total = 0
    for top in range(0, planes.shape[1], rows):
        band = planes[:, top : top + rows]
        best = _Smallest(STORED, _encode_stored(band, depth), progress)
        _try_quick(best, band, depth)
        total += len(best.payload)
    return total


def has_few_colours(planes: UInt[np.ndarray, "C H W"]) -> bool:
    """Whether uint8 [C, H, W] has few colours, by a sample of its pixels; False for grey images."""
    if planes.shape[0] < 3 or planes.itemsize > 1:
        return False
    step = max(1, planes[0].size >> 16)
    keys = np.zeros(-(-planes[0].size // step), np.uint32)
    for plane in planes:
        keys = keys << 8 | plane.reshape(-1)[::step]
    return len(np.unique(keys)) <= _FEW_COLOURS


def decode(method: int, payload: bytes, shape: tuple[int, int, int], depth: int) -> UInt[np.ndarray, "C H W"]:
    """Inverse of ``encode``: uint8 (uint16 for depth 16) ``[C, H, W]``, values below ``2**depth``.

    Raises ``UnknownModelError`` for a method not in ``METHODS`` and ``GmcFormatError`` for a damaged payload.
    """
    if not 1 <= shape[0] <= 4 or min(shape) < 1 or depth not in (1, 2, 4, 8, 16):
        raise GmcFormatError(f"shape {shape} with depth {depth} is not an image")
    if method not in METHODS:
        raise UnknownModelError(f"method {method} is unknown; this release knows {METHODS}")
    decoder = {
        STORED: _decode_stored,
        DEFLATED: _decode_deflated,
        WEBP: _decode_webp,
        PALETTE: _decode_palette,
    }
    planes = decoder[method](payload, shape, depth)
    if depth < 8 and planes.max() >> depth:
        raise GmcFormatError(f"a sample is {planes.max()}, depth is {depth}")
    return planes


@dataclass
class _Smallest:
    """The smallest payload so far."""

    method: int
    payload: bytes
    progress: Callback

    def offer(self, method: int, payload: bytes) -> int:
        """Keep ``payload`` if it is smaller; returns its size."""
        self.progress(0)
        if len(payload) < len(self.payload):
            self.method, self.payload = method, payload
        return len(payload)


def _try_quick(best: _Smallest, planes: np.ndarray, depth: int) -> None:
    """Offer one fast setting of each method that may win."""
    small = planes.nbytes <= _SMALL_BYTES
    webp = max(planes.shape[1:]) <= _WEBP_SIDE
    if depth <= 8 and webp:
        size = best.offer(WEBP, _encode_webp(planes, quality=0, method=1))
        if not small and size > planes.size / 10:
            return
    found = palette.find(planes, depth) if small or depth == 16 else None
    if found is not None:
        head, indices, _ = found
        best.offer(PALETTE, head + bytes([DEFLATED]) + _deflated(indices, INTERLEAVED, _least_packing(indices), 1))
        if webp:
            best.offer(PALETTE, head + bytes([WEBP]) + _encode_webp(indices, quality=0, method=1))
    else:
        best.offer(DEFLATED, _deflated(planes, INTERLEAVED, _least_packing(planes), 1))
        for kind in _filter_kinds(planes)[2:] if depth == 16 else []:
            best.offer(DEFLATED, _deflated(planes, kind, 0, 1))


@dataclass
class _TriedWebp:
    """Sizes of WebP payloads by (quality, method)."""

    sizes: dict[tuple[int, int], int] = field(default_factory=dict)

    def webp(self, best: _Smallest, planes: np.ndarray, quality: int, method: int) -> int:
        """Offer a setting that was not tried yet; returns its size."""
        setting = quality, method
        if setting not in self.sizes:
            self.sizes[setting] = best.offer(WEBP, _encode_webp(planes, quality, method))
        return self.sizes[setting]


def _try_fast(best: _Smallest, planes: np.ndarray, depth: int) -> _TriedWebp:
    """Offer every method but those that are known to gain nothing.

    A photograph gets one WebP run and nothing else: LZ77 made such images 10 to 50 % larger.
    """
    tried = _TriedWebp()
    small = planes.nbytes <= _SMALL_BYTES
    webp = max(planes.shape[1:]) <= _WEBP_SIDE
    found = palette.find(planes, depth)
    if depth <= 8 and webp:
        fast = tried.webp(best, planes, 0, 1)
        probe = best.offer(DEFLATED, _deflated(planes, INTERLEAVED, 0, 1))
        few = found is not None or _least_packing(planes) > 0
        # the sizes of noise differ less between LZ77 and WebP
        photograph = not (small or few) and fast > _SIMPLE_RATIO * planes.size
        photograph = photograph and probe > (1.4 if fast < planes.size / 2 else 1.05) * fast
        for setting in _webp_settings(planes, few or fast < _SIMPLE_RATIO * planes.size, photograph):
            tried.webp(best, planes, *setting)
        if photograph:
            return tried
    if found is not None:
        head, indices, bits = found
        best.offer(PALETTE, head + bytes([STORED]) + _encode_stored(indices, bits))
        if depth == 16 and webp:  # WebP makes its own palette of 8-bit planes
            best.offer(PALETTE, head + bytes([WEBP]) + _encode_webp(indices, quality=75, method=5))
        _try_deflated(best, indices, PALETTE, head + bytes([DEFLATED]))
    if found is None or small:
        _try_deflated(best, planes, DEFLATED, b"")
    return tried


def _webp_settings(planes: np.ndarray, simple: bool, photograph: bool) -> list[tuple[int, int]]:
    """The settings (quality, method) that are always tried.

    (100, 6) tries all of WebP's transforms. It takes 20 times as long as (75, 5), gains 1 % on photographs, but up to
    half on a picture of few colours.
    """
    pixels = planes[0].size
    if pixels <= _SMALL_BYTES // 4 or (simple and pixels <= _SLOW_PIXELS_SIMPLE_FAST):
        return [(100, 4), (75, 5), (100, 6)]
    return [(75, 5)] if photograph else [(100, 4), (75, 5)]


def _try_slow_webp(best: _Smallest, planes: np.ndarray, tried: _TriedWebp, below: float | None) -> None:
    """Offer WebP's slow settings where they can win within seconds.

    WebP guesses which of its transforms suit a picture; only (100, 6) tries them all. The guess is wrong where
    colours are few but too many for a palette: a texture, or a dithered image.
    """
    least, few = min(tried.sizes.values()), has_few_colours(planes)
    simple = tried.sizes[0, 1] < _SIMPLE_RATIO * planes.size
    target = len(best.payload) if below is None else min(below, len(best.payload))
    if target * (_SLOW_GAIN_FEW_COLOURS if few else _SLOW_GAIN) < least:
        return
    pixels, largest = planes[0].size, _SLOW_PIXELS
    if simple:
        largest = _SLOW_PIXELS_FEW_COLOURS if few else _SLOW_PIXELS_SIMPLE
    for setting in [(100, 4), (100, 5)] if simple or few or pixels <= largest else []:
        tried.webp(best, planes, *setting)
    if pixels <= largest:
        tried.webp(best, planes, 100, 6)


def _encode_stored(planes: np.ndarray, depth: int) -> bytes:
    if depth == 16:
        return np.ascontiguousarray(planes, dtype="<u2").tobytes()
    return filters.pack_rows(planes, depth).tobytes()


def _decode_stored(payload: bytes, shape: tuple[int, int, int], depth: int) -> np.ndarray:
    channels, height, width = shape
    row = (width * depth + 7) // 8
    if len(payload) != channels * height * row:
        raise GmcFormatError(f"stored payload has {len(payload)} bytes, {channels * height * row} are needed")
    if depth == 16:
        return np.frombuffer(payload, "<u2").reshape(shape).astype(np.uint16)
    packed = np.frombuffer(payload, np.uint8).reshape(channels, height, row)
    return filters.unpack_rows(packed, width, depth).copy()


def _try_deflated(best: _Smallest, planes: np.ndarray, method: int, prefix: bytes) -> None:
    """Offer every filter with a fast deflate, and the best of them with slow deflate and LZMA."""
    small = planes.nbytes <= _SMALL_BYTES
    kinds = _filter_kinds(planes) if small or planes.itemsize == 2 else _filter_kinds(planes)[:3]
    settings = [(kind, 0) for kind in kinds]
    if planes.shape[0] == 1 and planes.itemsize == 1:
        least = _least_packing(planes)
        packings = [code for code, bits in PACKED_BITS.items() if PACKED_BITS[least] <= bits < 8]
        settings += [(kind, packing) for packing in packings for kind in (INTERLEAVED, PNG)]
    tried = [(best.offer(method, prefix + _deflated(planes, *setting, 6)), setting) for setting in settings]
    tried.sort()
    least_size = tried[0][0]
    if not small and least_size > 1.35 * len(best.payload):
        return  # LZMA gains up to 30 %
    for size, (kind, packing) in tried if small else tried[:2]:
        if size > (1.3 if small else 1.1) * least_size + 64:
            continue
        head, stream = packing << 6 | kind << 3, filters.to_stream(planes, kind, packing)
        sizes = {
            code: best.offer(method, prefix + bytes([head | code]) + lzma_raw(stream, code))
            for code in (LZMA if small else [1])
        }
        if small or sizes[1] > 0.95 * size:
            for strategy in (zlib.Z_DEFAULT_STRATEGY, zlib.Z_FILTERED):
                best.offer(method, prefix + bytes([head | DEFLATE]) + deflate(stream, 9, strategy))
        if not small and sizes[1] < 1.05 * len(best.payload):
            for code in (2, 3):
                best.offer(method, prefix + bytes([head | code]) + lzma_raw(stream, code))


def _filter_kinds(planes: np.ndarray) -> list[int]:
    """The filters for ``planes``, the likeliest first."""
    return [INTERLEAVED, PNG, *([MED_GREEN] if planes.shape[0] >= 3 else []), MED, PLANAR]


def _least_packing(planes: np.ndarray) -> int:
    """The code of the tightest packing that holds ``planes``."""
    if planes.shape[0] > 1 or planes.itemsize > 1:
        return 0
    top = int(planes.max())
    return min((code for code, bits in PACKED_BITS.items() if top < 2**bits), key=PACKED_BITS.__getitem__)


def _deflated(planes: np.ndarray, kind: int, packing: int, level: int) -> bytes:
    """A DEFLATED payload; ``_decode_deflated`` is the inverse."""
    return bytes([packing << 6 | kind << 3 | DEFLATE]) + deflate(filters.to_stream(planes, kind, packing), level)


def _decode_deflated(payload: bytes, shape: tuple[int, int, int], depth: int) -> np.ndarray:
    if not payload:
        raise TruncatedFileError("deflated payload has no first byte")
    compressor, kind, packing = payload[0] & 7, payload[0] >> 3 & 7, payload[0] >> 6
    if kind > PLANAR or (kind == MED_GREEN and shape[0] < 3):
        raise GmcFormatError(f"filter {kind} is unknown, or not for {shape[0]} channels")
    if packing and (shape[0] > 1 or depth > 8 or kind not in (INTERLEAVED, PNG)):
        raise GmcFormatError(f"packing {packing} does not go with filter {kind} of {shape[0]} channels")
    size = filters.stream_size(shape, depth, kind, packing)
    stream = decompress(compressor, memoryview(payload)[1:], size)
    return filters.from_stream(stream, shape, depth, kind, packing)


def _encode_webp(planes: np.ndarray, quality: int, method: int) -> bytes:
    channels, height, width = planes.shape
    order = {1: [0, 0, 0], 2: [0, 0, 0, 1], 3: [0, 1, 2], 4: [0, 1, 2, 3]}[channels]
    pixels = np.empty((height, width, len(order)), np.uint8)
    for index, channel in enumerate(order):
        pixels[..., index] = planes[channel]
    file = io.BytesIO()
    image = Image.frombuffer(_WEBP_MODES[channels], (width, height), pixels, "raw", _WEBP_MODES[channels], 0, 1)
    image.save(file, "WEBP", lossless=True, quality=quality, method=method, exact=True)
    data = file.getvalue()
    at = 12
    while data[at : at + 4] != b"VP8L":  # usually the first chunk, but the library may add others
        at += 8 + int.from_bytes(data[at + 4 : at + 8], "little") + 1 & ~1
    return data[at + 8 : at + 8 + int.from_bytes(data[at + 4 : at + 8], "little")]


def _decode_webp(payload: bytes, shape: tuple[int, int, int], depth: int) -> np.ndarray:
    channels, height, width = shape
    if len(payload) < 5:
        raise TruncatedFileError(f"WebP payload has {len(payload)} bytes only")
    size = int.from_bytes(payload[1:5], "little")  # 14 bits w - 1, 14 bits h - 1, alpha, 3 bits version
    if payload[0] != 0x2F or size >> 29 or depth > 8:
        raise GmcFormatError("WebP payload is not a lossless picture")
    if ((size & 0x3FFF) + 1, (size >> 14 & 0x3FFF) + 1) != (width, height):
        raise GmcFormatError(f"WebP payload is not {width}x{height}")
    padding = b"\0" * (len(payload) & 1)
    head = struct.pack("<4sI4s4sI", b"RIFF", 12 + len(payload) + len(padding), b"WEBP", b"VP8L", len(payload))
    try:
        # not Image.open: its limit is meant for unchecked sizes, and this size is known
        with WebPImagePlugin.WebPImageFile(io.BytesIO(head + payload + padding)) as image:
            image.load()
            found = image.size, image.mode
            pixels = np.asarray(image.convert(_WEBP_MODES[channels]))
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise GmcFormatError(f"WebP payload is damaged: {error}") from error
    if found[0] != (width, height) or pixels.shape[:2] != (height, width):
        raise GmcFormatError(f"WebP payload is {found}, not {width}x{height}")
    order = {1: [1], 2: [1, 3], 3: [0, 1, 2], 4: [0, 1, 2, 3]}[channels]
    planes = np.empty(shape, np.uint8)
    for index, channel in enumerate(order):
        planes[index] = pixels[..., channel]
    return planes


def _decode_palette(payload: bytes, shape: tuple[int, int, int], depth: int) -> np.ndarray:
    if len(payload) < 2 or payload[0] > palette.SHARED | palette.DEFLATED_TABLE:
        raise GmcFormatError("palette payload has no table")
    shared, entries = bool(payload[0] & palette.SHARED), payload[1] + 1
    table, rest = palette.decode_table(payload, (1 if shared else shape[0], entries), depth)
    if not rest or rest[0] not in (STORED, DEFLATED, WEBP):  # palettes do not nest
        raise GmcFormatError("palette payload has no known method of indices")
    inner = shape if shared else (1, *shape[1:])
    indices = decode(rest[0], rest[1:], inner, palette.index_bits(entries))
    if indices.max() >= entries:
        raise GmcFormatError(f"index {indices.max()} is beyond the table's {entries} entries")
    return table[0][indices] if shared else table[:, indices[0]]
