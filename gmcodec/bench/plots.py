# SPDX-License-Identifier: MIT
"""Plots of one set: rate against encoding speed, rate against decoding speed, each image against JPEG XL.

SVG for the page takes the colour of the page's text (INK becomes ``currentColor``); the files have a white ground.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .measure import OK
from .run import SetResult
from .summary import OURS, Figures, Spread, strongest

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, OURS_COLOUR, THEIRS_COLOUR = "#222223", "#d1495b", "#3a7ca5"
MANY = 2000  # points of a scatter plot from which they are drawn as pixels, not as shapes
STYLE: Any = {
    "font.size": 10, "svg.fonttype": "none", "svg.hashsalt": "gmcodec", "text.color": INK, "axes.edgecolor": INK,
    "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK, "axes.spines.top": False,
    "axes.spines.right": False, "axes.titlesize": 11,
}  # fmt: skip
REFERENCE = "JPEG XL"


def draw(result: SetResult, figures: list[Figures], stem: Path) -> dict[str, str]:
    """Write ``stem``-KIND.svg and .png; returns, by title, SVG to put into a page."""
    pages = {}
    for kind, name, paint in (
        ("encode", "Rate against encoding speed", lambda axes: _speed(axes, figures, "encode")),
        ("decode", "Rate against decoding speed", lambda axes: _speed(axes, figures, "decode")),
        ("scatter", f"Each image: gmcodec against {REFERENCE}", lambda axes: _scatter(axes, result, figures)),
    ):
        svg = _figure(f"{name} ({result.name})", paint, stem.with_name(f"{stem.name}-{kind}"))
        if svg:
            pages[name] = svg
    return pages


def _figure(title: str, paint: Callable[[Axes], bool], path: Path) -> str:
    """Draw, save, and return SVG without a ground; nothing when there is nothing to show."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4.4), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.set_title(title, loc="left")
        if not paint(axes):
            return ""
        figure.savefig(path.with_name(path.name + ".png"), dpi=150)
        figure.savefig(path.with_name(path.name + ".svg"), metadata={"Date": None})
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    svg = out.getvalue()
    return svg[svg.index("<svg") :].replace(INK, "currentColor")


def _speed(axes: Axes, figures: list[Figures], verb: str) -> bool:
    """A point a codec; a line across it from quartile to quartile of speed."""
    points: list[tuple[Figures, Spread, float]] = [(f, s, f.bpsp or 0.0) for f in figures if (s := getattr(f, verb))]
    for f, spread, rate in points:
        colour = OURS_COLOUR if f.codec.startswith(OURS) else THEIRS_COLOUR
        axes.plot([spread.low, spread.high], [rate, rate], color=colour, linewidth=1.2, alpha=0.6)
        axes.plot(spread.middle, rate, marker="s" if f.archive else "o", color=colour, markersize=6)
    for effort, colour in ((_jpeg_xl_effort, THEIRS_COLOUR), (_our_effort, OURS_COLOUR)):
        curve = sorted((effort(f.codec), spread.middle, rate) for f, spread, rate in points if effort(f.codec))
        axes.plot([s for _, s, _ in curve], [r for _, _, r in curve], color=colour, linewidth=0.8, alpha=0.5)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, position: f"{value:g}")
    axes.margins(x=0.25, y=0.08)  # room for the names
    axes.set_xlabel(f"{verb[:-1]}ing speed in Mpixel/s, median over images (line: quartiles)")
    axes.set_ylabel("bits per sample (lower is better)")
    axes.grid(which="major", alpha=0.25)
    names = [(f.codec, spread.high, rate) for f, spread, rate in points]
    _label(axes, names, [(spread.middle, rate) for _, spread, rate in points])
    return bool(points)


def _jpeg_xl_effort(codec: str) -> int:
    """The effort of plain JPEG XL, 0 for others."""
    found = re.fullmatch(rf"{REFERENCE} -e (\d+)", codec)
    return int(found[1]) if found else 0


def _our_effort(codec: str) -> int:
    """1 to 3 for gmcodec by effort, 0 for others."""
    efforts = [f"{OURS} fast", OURS, f"{OURS} best"]
    return efforts.index(codec) + 1 if codec in efforts else 0


def _label(axes: Axes, names: list[tuple[str, float, float]], points: list[tuple[float, float]]) -> None:
    """Names to the right of where they belong, moved up or down until none covers another name or a point."""
    axes.figure.canvas.draw()  # the scales are known only when all is laid out
    to_screen = axes.transData.transform
    taken: list[tuple[float, float, float]] = []  # left, right, height in pixels
    dots = [to_screen(point) for point in points]
    for name, x, y in sorted(names, key=lambda n: n[2]):
        left, height = to_screen((x, y))
        start, width, line = left + 9, 7.0 * len(name), 13.0
        shifts = [0.0] + [sign * step * line / 2 for step in range(1, 30) for sign in (1, -1)]
        for shift in shifts:
            if all(start > r or start + width < l_ or abs(height + shift - h) >= line for l_, r, h in taken) and all(
                not (start < dx < start + width) or abs(height + shift - dy) >= 8 for dx, dy in dots
            ):
                break
        taken.append((start, start + width, height + shift))
        colour = OURS_COLOUR if name.startswith(OURS) else INK
        points_per_pixel = 72 / axes.figure.dpi
        axes.annotate(name, (x, y), (9 * points_per_pixel, shift * points_per_pixel), textcoords="offset points",
                      fontsize=8, va="center", color=colour, annotation_clip=False)  # fmt: skip


def _scatter(axes: Axes, result: SetResult, figures: list[Figures]) -> bool:
    """A point an image, in bits per sample; below the line gmcodec is smaller."""
    best = strongest(figures, REFERENCE)
    rate = {(row.codec, row.image): 8 * (row.bytes or 0) / row.samples for row in result.rows if row.status == OK}
    if best is None:
        return False
    images = [image for codec, image in rate if codec == OURS and (best.codec, image) in rate]
    theirs, ours = [rate[best.codec, image] for image in images], [rate[OURS, image] for image in images]
    if not images:
        return False
    ends = min(theirs + ours), max(theirs + ours)
    axes.plot(ends, ends, color=INK, linewidth=0.8, linestyle="--")
    axes.plot(theirs, ours, "o", color=OURS_COLOUR, markersize=5 if len(images) < 200 else 2, alpha=0.7,
              rasterized=len(images) > MANY)  # fmt: skip
    smaller = sum(o < t for o, t in zip(ours, theirs, strict=True))
    axes.set_xlabel(f"{best.codec}, bits per sample")
    axes.set_ylabel("gmcodec, bits per sample")
    axes.text(0.98, 0.04, f"gmcodec smaller for {smaller} of {len(images)} images (below the line)",
              transform=axes.transAxes, ha="right", fontsize=9)  # fmt: skip
    axes.grid(alpha=0.25)
    axes.set_aspect("equal", adjustable="box")
    return True
