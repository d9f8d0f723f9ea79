# SPDX-License-Identifier: MIT
"""Plots of one set: rate against encoding speed, rate against decoding speed, each image against JPEG XL.

In SVG for the page TEXT_COLOUR becomes ``currentColor``, so that it follows the page; files have a white background.
"""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gmcodec.bench import labels
from gmcodec.bench.codecs import OURS
from gmcodec.bench.measure import OK
from gmcodec.bench.run import SetResult
from gmcodec.bench.summary import Figures, Spread, strongest

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TEXT_COLOUR, OURS_COLOUR, THEIRS_COLOUR = "#222223", "#d1495b", "#3a7ca5"
FIGURE_SIZE = 6.4, 4.4  # inches
MARKER_SIZE = 6  # points
NAME_WIDTH_FACTOR = 1.06  # a browser may show SVG text in a wider font than the one in which it is measured
RASTER_FROM = 2000  # scatter plots of more points draw them as pixels, because SVG shapes would be too large
MATPLOTLIB_STYLE: Any = {
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), TEXT_COLOUR),
    "font.size": 10, "svg.fonttype": "none", "svg.hashsalt": "gmcodec", "axes.spines.top": False,
    "axes.spines.right": False, "axes.titlesize": 11,
}  # fmt: skip
REFERENCE = "JPEG XL"


def draw(result: SetResult, figures: list[Figures], stem: Path) -> dict[str, str]:
    """Write ``stem``-KIND.svg and .png of each plot.  Returns SVG for the page by title."""
    pages = {}
    for kind, name, paint in (
        ("encode", "Rate against encoding speed", lambda axes: speed(axes, figures, "encode")),
        ("decode", "Rate against decoding speed", lambda axes: speed(axes, figures, "decode")),
        ("scatter", f"Each image: gmcodec against {REFERENCE}", lambda axes: _scatter(axes, result, figures)),
    ):
        svg = _figure(f"{name} ({result.name})", paint, stem.with_name(f"{stem.name}-{kind}"))
        if svg:
            pages[name] = svg
    return pages


def styled() -> AbstractContextManager[None]:
    """A context in which matplotlib uses the style of all plots."""
    from matplotlib import rc_context

    return rc_context(MATPLOTLIB_STYLE)


def _figure(title: str, paint: Callable[[Axes], bool], path: Path) -> str:
    """Draw and save a plot, and return it as SVG without background; "" if ``paint`` finds nothing to show."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with styled():
        figure = Figure(figsize=FIGURE_SIZE, layout="constrained")
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
    return svg[svg.index("<svg") :].replace(TEXT_COLOUR, "currentColor")


def speed(axes: Axes, figures: list[Figures], verb: str) -> bool:
    """Draw a point for each codec, and a line from the first to the third quartile of its speed.

    ``verb``: "encode" or "decode".  Returns whether there is anything to show.
    """
    points: list[tuple[Figures, Spread, float]] = [(f, s, f.bpsp or 0.0) for f in figures if (s := getattr(f, verb))]
    for f, spread, rate in points:
        colour = _colour(f, THEIRS_COLOUR)
        axes.plot([spread.low, spread.high], [rate, rate], color=colour, linewidth=1.2, alpha=0.6)
        axes.plot(spread.middle, rate, marker="s" if f.archive else "o", color=colour, markersize=MARKER_SIZE)
    curves = []
    for effort, colour in ((_jpeg_xl_effort, THEIRS_COLOUR), (_our_effort, OURS_COLOUR)):
        curve = sorted((effort(f.codec), spread.middle, rate) for f, spread, rate in points if effort(f.codec))
        axes.plot([s for _, s, _ in curve], [r for _, _, r in curve], color=colour, linewidth=0.8, alpha=0.5)
        curves += [[(s, r) for _, s, r in curve]] if curve else []
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, position: f"{value:g}")
    axes.margins(x=0.15, y=0.08)  # room for the names
    axes.set_xlabel(f"{verb[:-1]}ing speed in Mpixel/s, median over images (line: quartiles)")
    axes.set_ylabel("bits per sample (lower is better)")
    axes.grid(which="major", alpha=0.25)
    if points:
        _label(axes, points, curves)
    return bool(points)


def _colour(f: Figures, theirs: str = TEXT_COLOUR) -> str:
    return OURS_COLOUR if f.codec.startswith(OURS) else theirs


def _jpeg_xl_effort(codec: str) -> int:
    """The effort of JPEG XL without other settings; 0 for other codecs."""
    found = re.fullmatch(rf"{REFERENCE} -e (\d+)", codec)
    return int(found[1]) if found else 0


def _our_effort(codec: str) -> int:
    """1 to 3 for gmcodec with effort fast, default and best; 0 for other codecs."""
    efforts = [f"{OURS} fast", OURS, f"{OURS} best"]
    return efforts.index(codec) + 1 if codec in efforts else 0


def _label(axes: Axes, points: list[tuple[Figures, Spread, float]], curves: list[list[tuple[float, float]]]) -> None:
    """Write a name at each point.  ``curves``: lines, besides those of the points, that names should not cover."""
    from matplotlib.text import Text

    axes.figure.canvas.draw()  # the scales are known only after the layout
    renderer = axes.figure.canvas.get_renderer()  # type: ignore[attr-defined]
    to_screen, pixels = axes.transData.transform, axes.figure.dpi / 72
    placed, texts = [], []
    for f, spread, rate in points:
        text = axes.annotate(f.codec, (spread.middle, rate), (0, 0), textcoords="offset points", fontsize=8,
                             ha="center", va="center", color=_colour(f), annotation_clip=False)  # fmt: skip
        text.set_in_layout(False)  # otherwise the axes would shrink to make room for it, and all points would move
        texts.append(text)
        extent = Text.get_window_extent(text, renderer)
        (x, y), left, right = (
            to_screen((spread.middle, rate)),
            *(to_screen((s, rate))[0] for s in (spread.low, spread.high)),
        )
        marker = labels.Box.around(x, y, MARKER_SIZE * pixels, MARKER_SIZE * pixels)
        placed.append(
            labels.Point(marker, labels.Line(left, y, right, y), extent.width * NAME_WIDTH_FACTOR, extent.height)
        )
    lines = [point.line for point in placed]
    for curve in curves:
        lines += [labels.Line(*a, *b) for a, b in itertools.pairwise(to_screen(curve))]
    frame, whole = axes.get_window_extent(), axes.figure.bbox
    area = labels.Box(frame.x0 + 2, frame.y0 + 2, whole.x1 - 2, frame.y1 + 2)
    for text, point, box in zip(texts, placed, labels.place(placed, lines, area), strict=True):
        x, y = point.middle
        text.set_position((((box.left + box.right) / 2 - x) / pixels, ((box.bottom + box.top) / 2 - y) / pixels))
        if line := labels.connection(point, box):
            ends = axes.transData.inverted().transform([line[:2], line[2:]])
            axes.plot(*ends.T, color=text.get_color(), linewidth=0.5, alpha=0.6, scalex=False, scaley=False)


def _scatter(axes: Axes, result: SetResult, figures: list[Figures]) -> bool:
    """Draw a point for each image, in bits per sample; below the diagonal gmcodec is smaller."""
    best = strongest(figures, REFERENCE)
    rate = {(row.codec, row.image): 8 * (row.bytes or 0) / row.samples for row in result.rows if row.status == OK}
    if best is None:
        return False
    images = [image for codec, image in rate if codec == OURS and (best.codec, image) in rate]
    theirs, ours = [rate[best.codec, image] for image in images], [rate[OURS, image] for image in images]
    if not images:
        return False
    ends = min(theirs + ours), max(theirs + ours)
    axes.plot(ends, ends, color=TEXT_COLOUR, linewidth=0.8, linestyle="--")
    axes.plot(theirs, ours, "o", color=OURS_COLOUR, markersize=5 if len(images) < 200 else 2, alpha=0.7,
              rasterized=len(images) > RASTER_FROM)  # fmt: skip
    smaller = sum(o < t for o, t in zip(ours, theirs, strict=True))
    axes.set_xlabel(f"{best.codec}, bits per sample")
    axes.set_ylabel("gmcodec, bits per sample")
    axes.text(0.98, 0.04, f"gmcodec smaller for {smaller}\nof {len(images)} images (below the line)",
              transform=axes.transAxes, ha="right", fontsize=9)  # fmt: skip
    axes.grid(alpha=0.25)
    axes.set_aspect("equal", adjustable="box")
    return True
