# SPDX-License-Identifier: MIT
"""WebP: a RIFF file, which consists of chunks, each with a name, a length, and data padded to an even length.

https://developers.google.com/speed/webp/docs/riff_container
"""

from __future__ import annotations

from collections.abc import Iterator

from gmcodec.image.ledger.base import Fate, Ledger, printable
from gmcodec.image.metadata import Tag

_IMAGE = (b"VP8 ", b"VP8L")
_METADATA_CHUNKS = {
    b"ICCP": (Tag.ICC, "ICC profile"),
    b"EXIF": (Tag.EXIF, "EXIF"),
    b"XMP ": (Tag.XMP, "XMP packet"),
    b"XMP\0": (Tag.XMP, "XMP packet"),  # by early writers
}
_NO_BACKGROUND = (b"\0\0\0\0", b"\xff\xff\xff\xff")  # default values of writers


def account(ledger: Ledger) -> None:
    """Claim the chunks of a WebP file."""
    header = ledger.pixels(12, "RIFF header")
    end = min(8 + int.from_bytes(header[4:8], "little"), len(ledger.raw))
    seen: set[str] = set()
    frames = 0
    for name, start, body, stop in _chunks(ledger.raw, ledger.at, end):
        ledger.at = start
        _padding(ledger, stop, end)
        count = stop - start
        if name in _METADATA_CHUNKS:
            _metadata(ledger, name, body, stop)
        elif name == b"ANMF":
            frames += 1
            _frame(ledger, body, stop, frames)
        elif name == b"ANIM":
            _animation(ledger, body, stop)
        elif (part := _part(name)) and part not in seen and not (part == "alpha" and "image" in seen):
            seen.add(part)
            ledger.pixels(count, part)
        elif part:
            ledger.lost(count, f"a second {part}", metadata=False)
        else:
            ledger.lost(count, f"chunk {printable(name)}")
    if frames > 1:
        ledger.lose(f"{frames - 1} further frame{'s' * (frames > 2)}", metadata=False)


def _padding(ledger: Ledger, stop: int, end: int) -> None:
    """Claim a zero behind data of odd length; any other byte gets no claim."""
    if (stop - ledger.at) % 2 and stop < end and not ledger.raw[stop]:
        ledger.claim(stop, stop + 1, "padding", Fate.PIXELS)


def _chunks(raw: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int, int]]:
    """Name, start, start of the data and end of the data of each chunk; a byte of padding follows odd lengths."""
    while at + 8 <= end:
        size = int.from_bytes(raw[at + 4 : at + 8], "little")
        stop = min(at + 8 + size, end)
        yield raw[at : at + 4], at, at + 8, stop
        at = stop + size % 2


def _part(name: bytes) -> str:
    if name in _IMAGE:
        return "image"
    return {b"VP8X": "canvas", b"ALPH": "alpha"}.get(name, "")


def _metadata(ledger: Ledger, name: bytes, body: int, stop: int) -> None:
    tag, what = _METADATA_CHUNKS[name]
    ledger.kept(stop - ledger.at, what)
    value = ledger.raw[body:stop]
    if tag == Tag.EXIF:
        value = value.removeprefix(b"Exif\0\0")
    if value:
        ledger.keep(tag, value, what)


def _animation(ledger: Ledger, body: int, stop: int) -> None:
    """Name the loss of a background colour; the loop count does not matter for one frame."""
    ledger.pixels(stop - ledger.at, "animation")
    if ledger.raw[body : min(body + 4, stop)] not in _NO_BACKGROUND:
        ledger.lose("background colour of an animation")


def _frame(ledger: Ledger, body: int, stop: int, number: int) -> None:
    """Claim a frame: the first one is the picture, the others are lost and named together."""
    if number > 1:
        ledger.claim(ledger.at, stop, "further frame", Fate.LOST)
        return
    header = ledger.pixels(min(body + 16, stop) - ledger.at, "frame header")
    if delay := int.from_bytes(header[20:23], "little"):
        ledger.lose(f"frame delay of {delay} ms")
    seen: set[str] = set()
    for name, start, _, end in _chunks(ledger.raw, body + 16, stop):
        ledger.at = start
        _padding(ledger, end, stop)
        part = _part(name)
        if part in ("image", "alpha") and part not in seen:
            seen.add(part)
            ledger.pixels(end - start, part)
        else:
            ledger.lost(end - start, f"chunk {printable(name)} of a frame")
