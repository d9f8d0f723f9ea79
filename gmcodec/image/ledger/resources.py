# SPDX-License-Identifier: MIT
"""Photoshop's image resource blocks, which contain IPTC: JPEG and TIFF have them as bytes, PNG as hexadecimal text.

::

    block   8BIM | id (2 bytes) | name (Pascal string, even) | size (4 bytes) | data, even        IPTC has id 0x0404

    text    \\n8bim\\n      628\\n3842494d0404...\\n       with the keyword "Raw profile type 8bim": lines of 72 digits
"""

from __future__ import annotations

KEY = b"Raw profile type 8bim"
_IPTC = 0x0404


def to_text(blocks: bytes) -> bytes:
    """Blocks as a text, in the form in which ImageMagick and ExifTool write them into a PNG."""
    digits = blocks.hex().encode()
    lines = [digits[at : at + 72] for at in range(0, len(digits), 72)]
    return b"\n8bim\n%8d\n" % len(blocks) + b"".join(line + b"\n" for line in lines)


def from_text(text: bytes) -> bytes | None:
    """Inverse of ``to_text``; None for a text in another form."""
    fields = text.split(None, 2)
    try:
        blocks = bytes.fromhex(fields[2].decode("ascii")) if len(fields) == 3 else b""
    except ValueError:
        return None
    return blocks if blocks and to_text(blocks) == text else None


def iptc_block(iptc: bytes) -> bytes:
    """A block with this IPTC."""
    return b"8BIM" + _IPTC.to_bytes(2, "big") + b"\0\0" + len(iptc).to_bytes(4, "big") + iptc + b"\0" * (len(iptc) & 1)


def find_iptc(blocks: bytes) -> bytes | None:
    """The IPTC in blocks, or None."""
    at = 0
    while at + 12 <= len(blocks):
        number = int.from_bytes(blocks[at + 4 : at + 6], "big")
        name = blocks[at + 6] + 1
        start = at + 6 + name + (name & 1) + 4
        size = int.from_bytes(blocks[start - 4 : start], "big")
        if number == _IPTC:
            return blocks[start : start + size]
        at = start + size + (size & 1)
    return None
