# SPDX-License-Identifier: MIT
"""PNM: comments are kept as texts, further pictures are lost."""

from __future__ import annotations

from gmcodec.errors import ImageReadError
from gmcodec.image import pnm
from gmcodec.image.ledger.base import Fate, Ledger
from gmcodec.image.metadata import Text

_SPACES = b" \t\n\v\f\r"


def account(ledger: Ledger) -> None:
    """Claim the pictures of a PNM file."""
    raw = ledger.raw
    try:
        header = pnm.read_header(raw)
        end = pnm.end_of_samples(raw, header)
    except ImageReadError:
        return
    ledger.pixels(end, "picture")
    ledger.texts += [Text(b"Comment", comment) for comment in pnm.comments(raw, header, end)]
    ledger.pixels(_after_spaces(raw, end) - end, "spaces")
    if further := count_further(raw, ledger.at):
        ledger.claim(ledger.at, len(raw), "further pictures", Fate.LOST)
        ledger.lose("a further picture" if further == 1 else f"{further} further pictures", metadata=False)


def count_further(raw: bytes, at: int) -> int:
    """The number of pictures from an offset to the end of the file; 0 if there is anything else."""
    found, at = 0, _after_spaces(raw, at)
    while at < len(raw):
        try:
            header = pnm.read_header(rest := raw[at:])
            at = _after_spaces(raw, at + pnm.end_of_samples(rest, header))
        except ImageReadError:
            return 0
        found += 1
    return found


def _after_spaces(raw: bytes, at: int) -> int:
    while at < len(raw) and raw[at] in _SPACES:
        at += 1
    return at
