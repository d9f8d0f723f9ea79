# SPDX-License-Identifier: MIT
"""The drawings of how-it-works.md: ``python docs/draw.py`` writes them into docs/drawings.

The tests compare those that are committed with what this script makes.
"""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import escape

from gmcodec.models.shared.window import window_offsets

FOLDER = Path(__file__).parent / "drawings"
SLOPE, RADIUS2 = 4, 36  # of the shipped small net, local-rgb-fast
INK, LINE, PAPER = "#263238", "#90a4ae", "#ffffff"
DONE, NOW, LATER = "#c5cae9", "#ffb74d", "#ffffff"
GREEN, GREY = "#c8e6c9", "#eceff1"


def box(x: float, y: float, width: float, height: float, fill: str = PAPER, more: str = "") -> str:
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="{fill}" stroke="{LINE}"{more}/>'


def text(x: float, y: float, words: str, size: int = 13, anchor: str = "middle", more: str = "") -> str:
    return f'<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}"{more}>{escape(words)}</text>'


def drawing(width: int, height: int, title: str, parts: list[str]) -> str:
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
            f' font-family="Helvetica, Arial, sans-serif" fill="{INK}" role="img">',
            f"<title>{escape(title)}</title>",
            f'<rect width="{width}" height="{height}" fill="{PAPER}"/>',
            *parts,
            "</svg>\n",
        ]
    )


def wavefront() -> str:
    """A corner of a tile, each pixel with its step; one step stands out, all before it are decoded."""
    side, left, top, rows, columns, now = 34, 60, 40, 5, 16, 13
    parts = [text(left + columns * side / 2, 22, "column j"), text(30, top + rows * side / 2, "row i")]
    for i in range(rows):
        for j in range(columns):
            step = SLOPE * i + j
            fill = NOW if step == now else DONE if step < now else LATER
            x, y = left + j * side, top + i * side
            parts += [box(x, y, side, side, fill), text(x + side / 2, y + side / 2 + 4, str(step), 12)]
    y = top + rows * side + 16
    for x, fill, words in (
        (left, DONE, "decoded"),
        (left + 100, NOW, f"step {now}: decoded now, together"),
        (left + 350, LATER, "later"),
    ):
        parts += [box(x, y, 16, 16, fill), text(x + 24, y + 13, words, anchor="start")]
    return drawing(left + columns * side + 20, y + 32, "Wavefront: pixel (i, j) is decoded at step 4 i + j", parts)


def window() -> str:
    """The window of the small net around the pixel that it predicts."""
    side, left, top = 30, 20, 20
    reach = int(RADIUS2**0.5)
    inside = set(window_offsets(RADIUS2, SLOPE))
    parts = []
    for dy in range(-reach, 1):
        for dx in range(-reach, reach + 1):
            near = dy * dy + dx * dx <= RADIUS2 and (dy < 0 or dx < 0)
            x, y = left + (dx + reach) * side, top + (dy + reach) * side
            if (dy, dx) == (0, 0):
                parts += [box(x, y, side, side, NOW), text(x + side / 2, y + side / 2 + 4, "?", 14)]
            elif (dy, dx) in inside:
                parts.append(box(x, y, side, side, DONE))
            elif near:
                parts += [box(x, y, side, side, GREY), text(x + side / 2, y + side / 2 + 4, "\u00d7", 14)]
            elif dy < 0 or dx < 0:
                parts.append(box(x, y, side, side, PAPER, ' stroke-dasharray="2 3"'))
    y = top + (reach + 1) * side + 16
    for x, fill, words in (
        (left, NOW, "pixel to be predicted"),
        (left, DONE, f"{len(inside)} pixels that the net sees"),
        (left, GREY, "near enough, but decoded at the same step or later"),
    ):
        parts += [box(x, y, 16, 16, fill), text(x + 24, y + 13, words, anchor="start")]
        y += 24
    return drawing(left * 2 + (2 * reach + 1) * side, y + 8, "The causal window of the small net", parts)


def bytes_of_a_file() -> str:
    """The fields of a .gmc file, and of a part of it."""

    def row(y: int, fields: list[tuple[str, str, int, str]], left: int) -> tuple[list[str], int]:
        parts, x = [], left
        for name, size, width, fill in fields:
            parts += [box(x, y, width, 40, fill), text(x + width / 2, y + 25, name)]
            parts.append(text(x + width / 2, y + 58, size, 11))
            x += width
        return parts, x

    whole = [
        ("gmc", "3 bytes", 56, GREY), ("version", "1", 64, GREY), ("mode", "1", 56, GREY), ("width", "v", 56, GREY),
        ("height", "v", 56, GREY), ("CRC of pixels", "4", 104, GREY), ("metadata", "optional", 92, GREEN),
        ("part", "1 to 4 of them", 150, DONE), ("CRC of file", "4", 92, GREY),
    ]  # fmt: skip
    part = [
        ("method", "1 byte", 64, DONE), ("channels", "1", 80, DONE), ("weights", "4, if learned", 110, DONE),
        ("length", "v", 64, DONE), ("payload: the words of the ANS stacks", "length bytes", 290, NOW),
    ]  # fmt: skip
    first, end = row(24, whole, 20)
    start = 20 + sum(width for *_, width, _ in whole[:-2])
    second, last = row(136, part, 100)
    lines = [
        f'<path d="M{start} 84 L100 136 M{start + 150} 84 L{last} 136" stroke="{LINE}" fill="none"'
        ' stroke-dasharray="4 3"/>'
    ]
    note = text(20, 226, "v: a number of variable length, 1 to 9 bytes (unsigned LEB128)", 12, "start")
    return drawing(end + 20, 242, "The bytes of a .gmc file", [*first, *lines, *second, note])


def effort_ladder() -> str:
    """What each effort tries: all that the effort below it tries, and more."""
    rungs = [
        ("best", NOW, "+ pair-rgb: two nets that learn side by side, averaged weights"),
        ("", NOW, "+ mirrored images, up to 2^18 pixels"),
        ("default", DONE, "+ learning-rgb-fast: the small net, learning while it codes"),
        ("", DONE, "+ WebP's slow settings where they can win"),
        ("fast", GREEN, "local-rgb-fast: the small net, fitted to the image"),
        ("", GREEN, "conventional methods where they can win"),
    ]
    parts, height = [], 62
    for number, (name, fill, words) in enumerate(rungs):
        rung, line = divmod(number, 2)
        y = 16 + rung * (height + 10)
        if name:
            parts.append(box(20, y, 680 - 40 * (2 - rung), height, fill, ' rx="6"'))
            parts.append(text(36, y + 37, name, 16, "start", ' font-weight="bold"'))
        parts.append(text(120, y + 26 + 21 * line, words, 13, "start"))
    y = 16 + 3 * (height + 10) + 14
    note = "An effort keeps the smallest file that it has tried. Shown: colour of 8 bits."
    parts.append(text(20, y, note, 12, "start"))
    return drawing(720, y + 14, "The effort ladder", parts)


DRAWINGS = {
    "wavefront.svg": wavefront,
    "window.svg": window,
    "file.svg": bytes_of_a_file,
    "effort.svg": effort_ladder,
}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, draw in DRAWINGS.items():
        (FOLDER / name).write_text(draw(), "utf-8")
