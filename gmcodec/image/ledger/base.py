# SPDX-License-Identifier: MIT
"""The ledger of an image file: every byte is claimed, and everything that is lost has a name.

::

    | header  | Exif   | comment | scan    | ?????????? |
      pixels    kept     kept      pixels    lost: "13 bytes behind the end (MP4)"

The module of a format parses the file and claims ranges of bytes, each with one of three fates.  Bytes that have no
claim at the end are lost, so a parser cannot silently skip a part of its format that it does not know.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from gmcodec.image.metadata import MAX_VALUE_BYTES, Tag, Tags, Text, pack_text

_MAX_PADDING = 16  # zeros between parts of a file that count as padding


class Fate(Enum):
    """What happens to a range of bytes."""

    PIXELS = "pixels"  # samples, or a description of how this format stores them
    KEPT = "kept"  # metadata that ``Planes.metadata`` can hold
    LOST = "lost"  # everything else


@dataclass(frozen=True)
class Loss:
    """Something that the source contains and ``Planes`` cannot hold.

    what        a description: "Photoshop resources (1,204 bytes)"
    metadata    whether it is metadata, which --strip drops deliberately; otherwise it is other content, such as further
                images or data behind the end
    """

    what: str
    metadata: bool = True


@dataclass(frozen=True)
class Claim:
    """Bytes ``start`` to ``end`` (exclusive) of the file, with a name and a fate."""

    start: int
    end: int
    name: str
    fate: Fate


@dataclass
class Ledger:
    """Claims on the bytes ``raw``, and the metadata found in them.

    Parsers of formats whose parts follow one another use ``pixels``, ``kept`` and ``lost``: these claim the next
    ``count`` bytes from position ``at``, or less at the end of the file.  Parsers of formats with pointers use
    ``claim``; there claims may overlap.
    """

    raw: bytes
    tags: Tags = field(default_factory=dict)
    texts: list[Text] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    at: int = 0

    @property
    def left(self) -> int:
        """Bytes behind the position."""
        return len(self.raw) - self.at

    def pixels(self, count: int, name: str) -> bytes:
        """Claim the next bytes: they are samples, or describe how samples are stored."""
        return self._next(count, name, Fate.PIXELS)

    def kept(self, count: int, name: str) -> bytes:
        """Claim the next bytes: they are metadata, which the caller adds to ``tags`` or ``texts``."""
        return self._next(count, name, Fate.KEPT)

    def lost(self, count: int, name: str, *, metadata: bool = True) -> bytes:
        """Claim the next bytes: they are lost."""
        self.losses.append(Loss(f"{name} ({byte_text(min(count, self.left))})", metadata))
        return self._next(count, name, Fate.LOST)

    def _next(self, count: int, name: str, fate: Fate) -> bytes:
        start, self.at = self.at, min(self.at + count, len(self.raw))
        self.claim(start, self.at, name, fate)
        return self.raw[start : self.at]

    def claim(self, start: int, end: int, name: str, fate: Fate) -> None:
        """Claim a range.  If it is lost, the caller adds to ``losses``."""
        if start < end:
            self.claims.append(Claim(start, end, name, fate))

    def keep(self, tag: Tag, value: bytes, name: str) -> None:
        """Keep metadata.  A tag can have one value: the first is kept, and different ones are lost."""
        if len(value) > MAX_VALUE_BYTES:
            self.lose(f"{name} of {byte_text(len(value))}, the limit is {MAX_VALUE_BYTES:,}")
        elif self.tags.setdefault(tag, value) != value:
            self.lose(f"a second {name} ({byte_text(len(value))})")

    def lose(self, what: str, *, metadata: bool = True) -> None:
        """Add a loss that is not one range of bytes."""
        self.losses.append(Loss(what, metadata))

    def close(self) -> Ledger:
        """Claim the rest: zeros as padding, other gaps and bytes behind the end as lost.  Texts become a tag."""
        end = max((claim.end for claim in self.claims), default=0)
        for start, stop in list(self._gaps()):
            found = self.raw[start:stop]
            if not any(found) and (stop < len(self.raw) or len(found) <= _MAX_PADDING):
                self.claim(start, stop, "padding", Fate.PIXELS)
            elif stop == len(self.raw) and start >= end:
                self.claim(start, stop, "behind the end", Fate.LOST)
                self.lose(f"{byte_text(len(found))} behind the end{_kind(found)}", metadata=False)
            else:
                self.claim(start, stop, "unknown", Fate.LOST)
                self.lose(f"{byte_text(len(found))} that belong to no part of the format", metadata=False)
        if self.texts:
            self.keep(Tag.TEXT, pack_text(self.texts), "texts")
        return self

    def _gaps(self) -> Iterator[tuple[int, int]]:
        """Ranges without a claim, in order."""
        at = 0
        for claim in sorted(self.claims, key=lambda claim: claim.start):
            if claim.start > at:
                yield at, claim.start
            at = max(at, claim.end)
        if at < len(self.raw):
            yield at, len(self.raw)


def printable(name: bytes) -> str:
    """A name found in a file as text that every terminal can print: ``b"caBX"`` as caBX, ``b"a\\0"`` as a\\x00."""
    return "".join(chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}" for byte in name)


def byte_text(count: int) -> str:
    """A number of bytes as text: "1,204 bytes"."""
    return "1 byte" if count == 1 else f"{count:,} bytes"


_SIGNATURES = (
    (b"\xff\xd8\xff", 0, "JPEG"),
    (b"\x89PNG\r\n\x1a\n", 0, "PNG"),
    (b"ftyp", 4, "MP4, HEIC or AVIF"),
    (b"PK\x03\x04", 0, "ZIP"),
    (b"RIFF", 0, "RIFF"),
    (b"%PDF", 0, "PDF"),
    (b"GIF8", 0, "GIF"),
)


def _kind(data: bytes) -> str:
    """The kind of some data by its first bytes, in parentheses; "" if unknown."""
    return next((f" ({name})" for magic, at, name in _SIGNATURES if data[at : at + len(magic)] == magic), "")
