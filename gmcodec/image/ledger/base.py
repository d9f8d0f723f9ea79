# SPDX-License-Identifier: MIT
"""The account that a reader gives of an image file: every byte is claimed, and what is not kept has a name.

::

    | header  | Exif   | comment | scan    | ?????????? |
      pixels    kept     kept      pixels    lost: "13 bytes behind the end (MP4)"

A format's module walks over the file and claims ranges of bytes for one of three fates.  What nobody claims when the
walk ends is lost, so a walk that does not know a part of its format cannot pass over it in silence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from gmcodec.image.metadata import MAX_BYTES, Tag, Tags, Text, pack_text

_MAX_PADDING = 16  # zeros at the end of a file that say nothing


class Fate(Enum):
    """What becomes of a range of bytes."""

    PIXELS = "pixels"  # the samples, or how this format stores them: another file says the same in its own way
    KEPT = "kept"  # metadata with a place in ``Planes.metadata``
    LOST = "lost"  # everything else


@dataclass(frozen=True)
class Loss:
    """Something that the source holds and ``Planes`` do not.

    what        for people: "Photoshop resources (1,204 bytes)"
    metadata    whether it describes the picture, so that --strip gives it up on purpose; else it is content of its
                own: further images, data behind the end
    """

    what: str
    metadata: bool = True


@dataclass(frozen=True)
class Claim:
    """Bytes ``start`` to ``end`` (exclusive) of the file, what they are and what becomes of them."""

    start: int
    end: int
    name: str
    fate: Fate


@dataclass
class Ledger:
    """Claims on the bytes ``raw`` and the metadata found in them.

    ``at`` is where a walk from the front stands: ``pixels``, ``kept`` and ``lost`` claim the next ``count`` bytes, as
    many as are there.  Formats that point to their parts use ``claim``.  Claims may overlap in such formats.
    """

    raw: bytes
    tags: Tags = field(default_factory=dict)
    texts: list[Text] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    at: int = 0

    @property
    def left(self) -> int:
        return len(self.raw) - self.at

    def pixels(self, count: int, name: str) -> bytes:
        """The next bytes hold samples or say how they are stored."""
        return self._next(count, name, Fate.PIXELS)

    def kept(self, count: int, name: str) -> bytes:
        """The next bytes are metadata that the caller puts into ``tags`` or ``texts``."""
        return self._next(count, name, Fate.KEPT)

    def lost(self, count: int, name: str, *, metadata: bool = True) -> bytes:
        """The next bytes have no place in ``Planes``."""
        self.losses.append(Loss(f"{name} ({in_bytes(min(count, self.left))})", metadata))
        return self._next(count, name, Fate.LOST)

    def _next(self, count: int, name: str, fate: Fate) -> bytes:
        start, self.at = self.at, min(self.at + count, len(self.raw))
        self.claim(start, self.at, name, fate)
        return self.raw[start : self.at]

    def claim(self, start: int, end: int, name: str, fate: Fate) -> None:
        """Claim a range; of a lost one the caller adds to ``losses`` what is to be said."""
        if start < end:
            self.claims.append(Claim(start, end, name, fate))

    def keep(self, tag: Tag, value: bytes, name: str) -> None:
        """Metadata of which there can be one: the first is kept, others are lost unless they say the same."""
        if len(value) > MAX_BYTES:
            self.lose(f"{name} of {in_bytes(len(value))}, the limit is {MAX_BYTES:,}")
        elif self.tags.setdefault(tag, value) != value:
            self.lose(f"a second {name} ({in_bytes(len(value))})")

    def lose(self, what: str, *, metadata: bool = True) -> None:
        """Something is lost that is no range of bytes of its own."""
        self.losses.append(Loss(what, metadata))

    def close(self) -> Ledger:
        """Name what nobody claimed: bytes behind the end, gaps that are not all zero.  Texts become a tag."""
        end = max((claim.end for claim in self.claims), default=0)
        for start, stop in list(self._gaps()):
            found = self.raw[start:stop]
            if not any(found) and (stop < len(self.raw) or len(found) <= _MAX_PADDING):
                self.claim(start, stop, "padding", Fate.PIXELS)
            elif stop == len(self.raw) and start >= end:
                self.claim(start, stop, "behind the end", Fate.LOST)
                self.lose(f"{in_bytes(len(found))} behind the end{_kind(found)}", metadata=False)
            else:
                self.claim(start, stop, "unknown", Fate.LOST)
                self.lose(f"{in_bytes(len(found))} that belong to no part of the format", metadata=False)
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


def shown(name: bytes) -> str:
    """A name found in a file as text that every terminal can print: ``b"caBX"`` as caBX, ``b"a\\0"`` as a\\x00."""
    return "".join(chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}" for byte in name)


def in_bytes(count: int) -> str:
    """A number of bytes, for people."""
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
    """What data looks like, in parentheses, by its first bytes."""
    return next((f" ({name})" for magic, at, name in _SIGNATURES if data[at : at + len(magic)] == magic), "")
