# SPDX-License-Identifier: MIT
"""PNG <-> samples at every depth, 16-bit colour included, with every checksum verified.

Pillow truncates 16-bit colour to 8 bits, ignores IDAT checksums and accepts missing rows; decoders in pure Python take
seconds per megapixel. Therefore chunks are parsed here, and Pillow gets a minimal PNG (header, palette, image data) to
inflate and unfilter. PNG filters work on bytes, so this is exact and fast for 16-bit samples too:

    grey 16         decoded as 8-bit grey + alpha     (2 bytes per pixel either way: high, low)
    grey+alpha 16   decoded as 8-bit RGBA             (4 bytes per pixel either way)
    RGB, RGBA 16    decoded twice, unpacking the high bytes ("RGB;16B"), then the low ones ("RGB;16L")
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np

from gmcodec.errors import ImageReadError, UnsupportedImageError
from gmcodec.image.ledger import png, resources
from gmcodec.image.metadata import (
    AFTER_DATA,
    AFTER_PALETTE,
    BEFORE_PALETTE,
    ICC_NAME,
    Tag,
    Tags,
    Text,
    find_problem,
    unpack_chunks,
    unpack_text,
)
from gmcodec.image.planes import from_pillow

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER = struct.Struct(">IIBBBBB")  # width height bits colour-type compression filter interlace
_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGBA = 0, 2, 3, 4, 6
_MODES_BY_TYPE = {
    **{(bits, _PALETTE): "P" for bits in (1, 2, 4, 8)},
    **{(bits, _GREY): mode for bits, mode in ((1, "1"), (2, "L"), (4, "L"), (8, "L"), (16, "I;16"))},
    **{(8, kind): mode for kind, mode in ((_RGB, "RGB"), (_GREY_ALPHA, "LA"), (_RGBA, "RGBA"))},
    **{(16, kind): mode for kind, mode in ((_RGB, "RGB;16"), (_GREY_ALPHA, "LA;16"), (_RGBA, "RGBA;16"))},
}
_SAMPLES_BY_TYPE = {_GREY: 1, _RGB: 3, _PALETTE: 1, _GREY_ALPHA: 2, _RGBA: 4}
_AFTER_PALETTE = {b"bKGD", b"pHYs", b"eXIf", b"tIME", b"maXV"}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def read_size(raw: bytes) -> tuple[int, int]:
    """Width and height from the header.  Raises ImageReadError if there is none."""
    _, body = next(_chunks(raw))
    return struct.unpack_from(">II", body)


def read(raw: bytes, *, first: bool = False) -> tuple[str, np.ndarray, Tags]:
    """PNG bytes -> mode, samples [H, W, C] (uint8 or uint16), palette and transparency.

    first   take the picture of an animation that readers without animations show

    Raises ImageReadError for damaged files, UnsupportedImageError for animations without ``first``.
    """
    header = b""
    seen: dict[bytes, list[bytes]] = {}
    for kind, body in _chunks(raw):
        if kind == b"IHDR":
            header = body
        elif not kind[0] & 32 and kind not in (b"PLTE", b"IDAT", b"IEND"):
            raise ImageReadError(f"PNG: unknown critical chunk {kind!r}")
        seen.setdefault(kind, []).append(body)
    if b"IDAT" not in seen:
        raise ImageReadError("PNG: there is no IDAT chunk")
    frames = int.from_bytes(seen.get(b"acTL", [b""])[0][:4], "big")
    if (frames > 1 or b"fdAT" in seen) and not first:
        raise UnsupportedImageError(f"animated PNG with {frames} frames; --first (first=True) takes the first picture")
    bits, colour = header[8:10]
    mode = _MODES_BY_TYPE[bits, colour]
    data = b"".join(seen[b"IDAT"])
    _check_length(data, header)
    palette = seen.get(b"PLTE", [b""])[0]
    if mode == "P" and find_problem(Tag.PALETTE, palette, "P"):
        raise ImageReadError(f"PNG: palette of {len(palette)} bytes")
    return mode, _samples(header, palette, data), _pixel_tags(seen, mode, bits)


def _chunks(raw: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Type and body of the chunks up to IEND.

    Raises ImageReadError unless a valid IHDR comes first and only there, and every CRC is right.
    """
    at = len(PNG_SIGNATURE)
    kind = b""
    while kind != b"IEND":
        if len(raw) < at + 12:
            raise ImageReadError(f"PNG: truncated after {len(raw)} bytes")
        (length,) = struct.unpack_from(">I", raw, at)
        kind = raw[at + 4 : at + 8]
        if at == len(PNG_SIGNATURE) and (kind, length) != (b"IHDR", _HEADER.size):
            raise ImageReadError(f"PNG: starts with a chunk {kind!r} of {length} bytes, not with IHDR")
        if len(raw) < at + 12 + length:
            raise ImageReadError(f"PNG: truncated in its {kind!r} chunk")
        body = raw[at + 8 : at + 8 + length]
        if zlib.crc32(body, zlib.crc32(kind)) != int.from_bytes(raw[at + 8 + length : at + 12 + length], "big"):
            raise ImageReadError(f"PNG: checksum error in its {kind!r} chunk")
        if kind == b"IHDR":
            if at > len(PNG_SIGNATURE):
                raise ImageReadError("PNG: there are two IHDR chunks")
            width, height, bits, colour, compression, filters, interlace = _HEADER.unpack(body)
            if not (0 < width < 1 << 31 and 0 < height < 1 << 31) or (bits, colour) not in _MODES_BY_TYPE:
                raise ImageReadError(f"PNG: {width}x{height}, {bits} bits, colour type {colour}")
            if compression or filters or interlace > 1:
                raise ImageReadError(f"PNG: methods {compression}, {filters}, {interlace}")
        yield kind, body
        at += 12 + length


def _check_length(data: bytes, header: bytes) -> None:
    """Raise ImageReadError if the image data does not inflate to all rows; more is allowed, as in libpng."""
    width, height, bits, kind, _, _, interlace = _HEADER.unpack(header)
    expected = 0
    for x, y, dx, dy in _ADAM7 if interlace else ((0, 0, 1, 1),):
        columns, rows = -((x - width) // dx), -((y - height) // dy)
        if columns > 0 and rows > 0:
            expected += rows * (1 + (columns * _SAMPLES_BY_TYPE[kind] * bits + 7) // 8)
    stream = zlib.decompressobj()
    try:
        while expected > 0 and not stream.eof:
            out = stream.decompress(data, 1 << 20)
            data = stream.unconsumed_tail
            expected -= len(out)
            if not out and not data:
                break
        stream.decompress(data, 1)  # reads to the end of the stream and checks its checksum
    except zlib.error as error:
        raise ImageReadError(f"PNG: image data: {error}") from None
    if expected > 0:
        raise ImageReadError(f"PNG: image data ends {expected} bytes early")


def _samples(header: bytes, palette: bytes, data: bytes) -> np.ndarray:
    """Inflate, unfilter and deinterlace the image data: samples [H, W, C]."""
    width, height, bits, kind, *_, interlace = _HEADER.unpack(header)
    if bits < 16:
        samples = _decode(width, height, bits, kind, interlace, palette, data)
        return samples.astype(np.uint8, copy=False).reshape(height, width, -1)
    if kind in (_GREY, _GREY_ALPHA):
        alias = _GREY_ALPHA if kind == _GREY else _RGBA
        samples = _decode(width, height, 8, alias, interlace, b"", data)
        return np.ascontiguousarray(samples).view(">u2").astype(np.uint16)
    high = _decode(width, height, bits, kind, interlace, b"", data, "B").astype(np.uint16)
    return high << 8 | _decode(width, height, bits, kind, interlace, b"", data, "L")


def _decode(
    width: int,
    height: int,
    bits: int,
    kind: int,
    interlace: int,
    palette: bytes,
    data: bytes,
    order: str = "",
) -> np.ndarray:
    """Let Pillow decode a minimal PNG.  ``order`` "B" or "L" selects the high or low bytes of 16-bit colour."""
    from PIL.PngImagePlugin import PngImageFile

    header = _HEADER.pack(width, height, bits, kind, 0, 0, interlace)
    parts = [
        PNG_SIGNATURE,
        _chunk(b"IHDR", header),
        _chunk(b"PLTE", palette) if palette and kind == _PALETTE else b"",
    ]
    parts += [_chunk(b"IDAT", data), _chunk(b"IEND", b"")]
    try:
        with PngImageFile(io.BytesIO(b"".join(parts)), "") as image:
            if order:
                rawmode = f"{'RGB' if kind == _RGB else 'RGBA'};16{order}"
                image.tile = [tile._replace(args=rawmode) for tile in image.tile]
            image.load()
            return from_pillow(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise ImageReadError(f"PNG: {error}") from error


def _pixel_tags(seen: dict[bytes, list[bytes]], mode: str, bits: int) -> Tags:
    """Palette and transparency.  Raises ImageReadError if they are malformed, because pixels depend on them."""
    tags: Tags = {}
    if mode == "P":
        tags[Tag.PALETTE] = seen[b"PLTE"][0]
    if b"tRNS" in seen and mode not in ("LA", "RGBA", "LA;16", "RGBA;16"):
        value = seen[b"tRNS"][0]
        value = value.rstrip(b"\xff") if mode == "P" else png.scaled(value, bits, mode)
        if mode != "P" or value:
            problem = find_problem(Tag.TRANSPARENCY, value, mode)
            if problem:
                raise ImageReadError(f"PNG: transparency: {problem}")
            tags[Tag.TRANSPARENCY] = value
    return tags


# --- writing ---------------------------------------------


def write(mode: str, samples: np.ndarray, tags: Tags) -> bytes:
    """Mode, samples [C, H, W] and metadata -> PNG bytes, from which ``read`` and the ledger restore all three."""
    bits, kind = next(key for key, name in reversed(_MODES_BY_TYPE.items()) if name == mode and key[0] not in (2, 4))
    channels, height, width = samples.shape
    palette = tags.get(Tag.PALETTE, b"")
    if mode == "P":
        entries = max(int(samples.max()) + 1, len(palette) // 3, len(tags.get(Tag.TRANSPARENCY, b"")))
        bits = next(b for b in (1, 2, 4, 8) if entries <= 1 << b)
        palette = palette or bytes(3 * entries)  # PNG needs a palette
    rows = samples.transpose(1, 2, 0).astype(">u2" if bits == 16 else np.uint8, order="C", copy=False)
    rows = np.ascontiguousarray(rows).reshape(height, width * channels)
    pixel = channels * bits // 8
    packed = rows.view(np.uint8) if bits >= 8 else _pack_bits(rows, bits)
    data = zlib.compress(_filtered(packed, 0 if mode == "P" else pixel), 6)
    parts = [PNG_SIGNATURE, _chunk(b"IHDR", _HEADER.pack(width, height, bits, kind, 0, 0, 0))]
    parts += [_chunk(name, tags[tag]) for name, tag in png.CHUNKS.items() if tag in tags and name not in _AFTER_PALETTE]
    if Tag.ICC in tags:
        name = tags.get(Tag.PROFILE_NAME, ICC_NAME)
        parts.append(_chunk(b"iCCP", name + b"\0\0" + zlib.compress(tags[Tag.ICC], 9)))
    others = unpack_chunks(tags.get(Tag.CHUNKS, b""))
    parts += [_chunk(c.kind, c.body) for c in others if c.position == BEFORE_PALETTE]
    if palette:
        parts.append(_chunk(b"PLTE", palette))
    parts += [_chunk(c.kind, c.body) for c in others if c.kind == b"PLTE"]
    if Tag.TRANSPARENCY in tags:
        parts.append(_chunk(b"tRNS", tags[Tag.TRANSPARENCY]))
    parts += [_chunk(name, tags[tag]) for name, tag in png.CHUNKS.items() if tag in tags and name in _AFTER_PALETTE]
    parts += [_chunk(c.kind, c.body) for c in others if c.position == AFTER_PALETTE and c.kind != b"PLTE"]
    if Tag.DPI in tags and Tag.DENSITY not in tags:
        dpi = struct.unpack("<dd", tags[Tag.DPI])
        parts.append(_chunk(b"pHYs", struct.pack(">IIB", *(min(round(x / 0.0254), 0x7FFFFFFF) for x in dpi), 1)))
    if Tag.XMP in tags:
        parts.append(_chunk(b"iTXt", png.XMP_KEY + b"\0\0\0\0\0" + tags[Tag.XMP]))
    if Tag.PHOTOSHOP in tags:
        parts += _text_chunk(Text(resources.KEY, resources.to_text(tags[Tag.PHOTOSHOP])))
    parts += [part for text in unpack_text(tags.get(Tag.TEXT, b"")) for part in _text_chunk(text)]
    # one chunk may not exceed 2**31 - 1 bytes
    parts += [_chunk(b"IDAT", data[at : at + (1 << 30)]) for at in range(0, len(data), 1 << 30)]
    parts += [_chunk(c.kind, c.body) for c in others if c.position == AFTER_DATA]
    return b"".join([*parts, _chunk(b"IEND", b"")])


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))


def _text_chunk(text: Text) -> list[bytes]:
    if not text.key or any(b"\0" in field for field in (text.key, text.language, text.translated)):
        raise UnsupportedImageError(f"PNG cannot hold a text of the keyword {text.key!r}; --strip drops it")
    short = zlib.compress(text.value, 9) if len(text.value) > 1024 else text.value
    deflated = len(short) < len(text.value)
    if text.international:
        flag = b"\0\1\0" if deflated else b"\0\0\0"
        middle = flag + text.language + b"\0" + text.translated + b"\0"
        return [_chunk(b"iTXt", text.key + middle + (short if deflated else text.value))]
    if deflated:
        return [_chunk(b"zTXt", text.key + b"\0\0" + short)]
    return [_chunk(b"tEXt", text.key + b"\0" + text.value)]


def _pack_bits(rows: np.ndarray, bits: int) -> np.ndarray:
    """uint8 [H, W] of values below 2**bits -> uint8 [H, ceil(W bits / 8)], with the first sample in the high bits."""
    height, width = rows.shape
    planes = np.unpackbits(rows[:, :, None], axis=2)[:, :, 8 - bits :]
    return np.packbits(planes.reshape(height, width * bits), axis=1)


def _filtered(rows: np.ndarray, pixel: int, block: int = 64) -> bytes:
    """Rows uint8 [H, R] -> filtered rows, each by the filter with the smallest sum of absolute residuals.

    pixel  bytes per pixel; 0 for packed or palette rows, which no filter makes smaller
    block  rows that are filtered at once
    """
    height, length = rows.shape
    out = np.zeros((height, length + 1), np.uint8)
    out[:, 1:] = rows
    for top in range(0, height if pixel else 0, block):
        x = rows[top : top + block].astype(np.int16)
        up = np.zeros_like(x)
        up[1:] = x[:-1]
        up[0] = rows[top - 1] if top else 0
        left, corner = np.zeros_like(x), np.zeros_like(x)
        left[:, pixel:], corner[:, pixel:] = x[:, :-pixel], up[:, :-pixel]
        a, b = np.abs(up - corner), np.abs(left - corner)
        c = np.abs(left + up - 2 * corner)
        paeth = np.where((a <= b) & (a <= c), left, np.where(b <= c, up, corner))
        filtered = [(x - guess).astype(np.uint8) for guess in (np.zeros_like(x), left, up, (left + up) >> 1, paeth)]
        costs = [
            np.abs(rows_by_filter.view(np.int8).astype(np.int16)).sum(1, dtype=np.int64) for rows_by_filter in filtered
        ]
        best = np.argmin(costs, axis=0)
        for index, rows_by_filter in enumerate(filtered):
            chosen = np.flatnonzero(best == index)
            out[top + chosen, 0] = index
            out[top + chosen, 1:] = rows_by_filter[chosen]
    return out.tobytes()
