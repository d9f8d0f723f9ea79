# SPDX-License-Identifier: MIT
"""GIF: a screen with a colour table, then extensions and images, each a label and a chain of sub-blocks.

::

    GIF89a  screen  [colours]  { ! label blocks | , image [colours] bits blocks }  ;

The first image is the picture.  https://www.w3.org/Graphics/GIF/spec-gif89a.txt
"""

from __future__ import annotations

import re
import struct

from gmcodec.image.ledger.base import Fate, Ledger, printable
from gmcodec.image.metadata import Tag, Text

_BLOCK = re.compile(rb"[!,;]")
# bytes 1, 255, 254 ... 0: from any of them a reader that skips sub-blocks arrives at the final zero
_XMP_TRAILER = b"\1" + bytes(range(255, -1, -1))


class _State:
    """What a parser of one part of the file needs to know about other parts."""

    images = 0
    control = b""  # graphic control extension of the next image
    loops = False
    local = False  # whether the picture has its own colour table
    palette = b""
    uncovered = False  # whether the picture leaves a part of the screen uncovered


def account(ledger: Ledger) -> None:
    """Claim the parts of a GIF file."""
    state = _State()
    screen = ledger.pixels(13, "screen descriptor")
    if len(screen) < 13:
        return
    flags, background, aspect = screen[10:13]
    if flags & 128:
        state.palette = ledger.pixels(3 << (flags & 7) + 1, "global colour table")
    while (found := _BLOCK.search(ledger.raw, ledger.at)) is not None:
        ledger.at = found.start()  # readers skip bytes that are no block; they get no claim
        if found[0] == b";":
            ledger.pixels(1, "trailer")
            break
        (_extension if found[0] == b"!" else _image)(ledger, state)
    if state.images > 1:
        further = state.images - 1
        ledger.lose(f"{further} further frame{'s' * (further > 1)}", metadata=False)
    if aspect:
        # the pixel's width to its height is (aspect + 15) : 64, and pHYs counts pixels per length
        ledger.keep(Tag.DENSITY, struct.pack(">IIB", 64, aspect + 15, 0), "pixel aspect ratio")
    _background(ledger, state, background if flags & 128 else 0)


def _image(ledger: Ledger, state: _State) -> None:
    state.images += 1
    fate, name = (Fate.PIXELS, "image") if state.images == 1 else (Fate.LOST, "further frame")
    start = ledger.at
    descriptor = ledger.raw[start + 1 : start + 10]
    ledger.at = start + 10
    if len(descriptor) == 9 and descriptor[8] & 128:
        size = 3 << (descriptor[8] & 7) + 1
        if state.images == 1:
            state.local, state.palette = True, ledger.raw[ledger.at : ledger.at + size]
        ledger.at += size
    ledger.at = min(ledger.at + 1, len(ledger.raw))  # the size of the first codes
    _skip_blocks(ledger)
    ledger.claim(start, ledger.at, name, fate)
    if state.images == 1:
        left, top, width, height = struct.unpack("<4H", descriptor.ljust(9, b"\0")[:8])
        across, down = struct.unpack("<2H", ledger.raw[6:10])
        covers = (left, top) == (0, 0) and width >= across and height >= down
        transparent = bool(state.control and state.control[0] & 1)
        state.uncovered = not covers and not transparent
        _control(ledger, state.control)
    state.control = b""


def _control(ledger: Ledger, control: bytes) -> None:
    """Name losses of a graphic control: transparency is in the pixels, and disposal does not concern one frame."""
    if len(control) >= 3:
        delay = int.from_bytes(control[1:3], "little")
        if delay:
            ledger.lose(f"frame delay of {delay * 10} ms")
        if control[0] & 2:
            ledger.lose("frame waits for the user's input")


def _background(ledger: Ledger, state: _State, index: int) -> None:
    """Keep the background colour, unless it is 0 or in no table, which writers set if they mean none."""
    if not index or 3 * index >= len(state.palette):
        return
    if state.local:
        ledger.lose(f"background colour {index} of the screen")
        return
    colours = enumerate(zip(*[iter(state.palette)] * 3, strict=False))
    grey = all(colour == (i, i, i) for i, colour in colours)  # then the decoder takes the indices as samples
    ledger.keep(Tag.BACKGROUND, bytes([0, index]) if grey else bytes([index]), "background colour")
    if state.uncovered:  # Pillow fills the rest with colour 0
        ledger.lose("place of the picture on a larger screen of the background colour")


def _extension(ledger: Ledger, state: _State) -> None:
    start = ledger.at
    label = ledger.raw[start + 1 : start + 2]
    ledger.at = min(start + 2, len(ledger.raw))
    first = ledger.raw[ledger.at + 1 : ledger.at + 1 + _size(ledger)]
    if label == b"\xff":
        _application(ledger, state, start, first)
        return
    data = _read_blocks(ledger)
    end, ledger.at = ledger.at, start
    count = end - start
    if label == b"\xf9":
        ledger.pixels(count, "graphic control extension")
        state.control = first
    elif label == b"\xfe":
        ledger.kept(count, "comment")
        if data:
            ledger.texts.append(Text(b"Comment", data))
    elif label == b"\x01":
        ledger.lost(count, "plain text drawn on the picture", metadata=False)
        state.control = b""  # the control belonged to the text
    else:
        ledger.lost(count, f"extension {printable(label)}")


def _application(ledger: Ledger, state: _State, start: int, name: bytes) -> None:
    ledger.at = min(ledger.at + 1 + len(name), len(ledger.raw))
    body = ledger.at
    data = _read_blocks(ledger)
    end, ledger.at = ledger.at, start
    count = end - start
    if name == b"XMP DataXMP":
        packet = ledger.raw[body : end - 1]  # not in sub-blocks, except from writers that ignore the rule
        ledger.kept(count, "XMP")
        value = packet.removesuffix(_XMP_TRAILER) if packet.endswith(_XMP_TRAILER) else data
        if value:
            ledger.keep(Tag.XMP, value, "XMP packet")
    elif name == b"ICCRGBG1012":
        ledger.kept(count, "ICC profile")
        if data:
            ledger.keep(Tag.ICC, data, "ICC profile")
    elif name == b"ImageMagick" and (gamma := re.fullmatch(rb"gamma=(0\.\d{1,9})", data)):
        ledger.kept(count, "gamma")
        ledger.keep(Tag.GAMMA, struct.pack(">I", int(float(gamma[1]) * 100000 + 0.5)), "gamma")
    elif name in (b"NETSCAPE2.0", b"ANIMEXTS1.0") and _only_loops(ledger.raw[body:end]):
        # the number of loops does not matter for one frame; the loss of further frames is named elsewhere
        ledger.pixels(count, "loop count")
    else:
        ledger.lost(count, f"application extension {printable(name)}")


def _only_loops(blocks: bytes) -> bool:
    """Whether sub-blocks contain a loop count, and possibly the size of a buffer, but nothing else."""
    return re.fullmatch(rb"(?:\x03\x01..|\x05\x02....)*\0?", blocks, re.DOTALL) is not None


def _size(ledger: Ledger) -> int:
    """Size of the sub-block at the position; 0 for the terminator and at the end of the file."""
    return ledger.raw[ledger.at] if ledger.at < len(ledger.raw) else 0


def _skip_blocks(ledger: Ledger) -> None:
    raw, at, end = ledger.raw, ledger.at, len(ledger.raw)
    while at < end and raw[at]:
        at += 1 + raw[at]
    ledger.at = min(at + 1, end)


def _read_blocks(ledger: Ledger) -> bytes:
    start = ledger.at
    _skip_blocks(ledger)
    parts, at = [], start
    while at < ledger.at and ledger.raw[at]:
        size = ledger.raw[at]
        parts.append(ledger.raw[at + 1 : at + 1 + size])
        at += 1 + size
    return b"".join(parts)
