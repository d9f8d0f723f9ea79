# SPDX-License-Identifier: MIT
"""Names in plots: none over another or a point, whatever was measured."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("matplotlib")

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from places import ROOT

from bench.redraw import redraw
from gmcodec.bench import labels, plots, report
from gmcodec.bench.labels import Box, Line, Point

RESULTS = ROOT / "bench" / "results"
MEASURED = sorted(path.parent.name for path in RESULTS.glob("*/report.html"))
AREA = Box(0, 0, 600, 400)


def boxes(axes) -> Iterator[tuple[str, Box]]:
    renderer = axes.figure.canvas.get_renderer()
    for text in axes.texts:
        assert isinstance(text, Annotation)
        extent = Text.get_window_extent(text, renderer)
        yield text.get_text(), Box(extent.x0, extent.y0, extent.x1, extent.y1)


@pytest.mark.parametrize("name", MEASURED)
@pytest.mark.parametrize("verb", ["encode", "decode"])
def test_names_of_what_was_measured(name: str, verb: str) -> None:
    for result, figures in report.read(RESULTS / name):
        with plots.styled():
            figure = Figure(figsize=plots.FIGURE_SIZE, layout="constrained")
            FigureCanvasAgg(figure)
            axes = figure.add_subplot()
            axes.set_title(result.name)
            assert plots.speed(axes, figures, verb)
            figure.canvas.draw()
            found = dict(boxes(axes))
            shown = [f for f in figures if getattr(f, verb)]
            assert set(found) == {f.codec for f in shown}
            for (one, a), (other, b) in itertools.combinations(found.items(), 2):
                assert not a.overlaps(b), (one, other)
            half = plots.MARKER_SIZE / 2 * figure.dpi / 72
            for f in shown:
                x, y = axes.transData.transform((getattr(f, verb).middle, f.bpsp))
                covering = [n for n, box in found.items() if box.overlaps(Box.around(x, y, 2 * half, 2 * half))]
                assert not covering, (f.codec, covering)
                assert found[f.codec].within(Box(*figure.bbox.extents)), f.codec


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 14), st.integers(0, 10_000))
def test_names_of_any_points(count: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    points, x, y = [], 150.0, 200.0
    for _ in range(count):  # each near the one before, but apart
        x, y = x + random.uniform(9, 40), float(np.clip(y + random.uniform(-30, 30), 60, 340))
        marker = Box.around(x, y, 8, 8)
        points.append(Point(marker, Line(x - random.uniform(0, 9), y, x + 5, y), random.uniform(20, 90), 11))
    found = labels.place(points, [point.line for point in points], AREA)
    assert found == labels.place(points, [point.line for point in points], AREA)
    for a, b in itertools.combinations(found, 2):
        assert not a.overlaps(b)
    assert not any(box.overlaps(point.marker) for box in found for point in points)


def test_a_single_name_stands_to_the_right() -> None:
    point = Point(Box.around(100, 100, 8, 8), Line(90, 100, 120, 100), 50, 10)
    (box,) = labels.place([point], [point.line], AREA)
    assert 120 < box.left < 130
    assert (box.bottom + box.top) / 2 == 100
    assert labels.connection(point, box) is None


def test_lines_and_rectangles_meet() -> None:
    box = Box(0, 0, 10, 10)
    assert box.meets(Line(-5, 5, 15, 6))
    assert box.meets(Line(-1, -1, 11, 11))
    assert box.meets(Line(5, -5, 5, 5))
    assert not box.meets(Line(-5, 12, 15, 12))
    assert not box.meets(Line(-5, 5, -1, 5))
    assert not box.meets(Line(12, -5, 12, 20))
    assert not box.meets(Line(-5, 8, 8, 21))


def test_plots_are_drawn_again_from_what_was_measured(tmp_path: Path) -> None:
    folder = tmp_path / "curve"
    shutil.copytree(RESULTS / "curve", folder)
    before = (folder / "results.json").read_bytes(), (folder / "table.md").read_bytes()
    page = (folder / "report.html").read_text()
    (folder / "kodak-encode.svg").write_text("old")
    assert {path.name for path in redraw(folder)} >= {"kodak-encode.svg", "kodak-encode.png", "kodak-decode.svg"}
    assert (folder / "kodak-encode.svg").read_text().startswith("<?xml")
    assert ((folder / "results.json").read_bytes(), (folder / "table.md").read_bytes()) == before
    again = (folder / "report.html").read_text()
    assert again.count("<svg") == page.count("<svg") == 3
    assert again.count("</figure>") == page.count("</figure>")  # the others show what pixels cost
    assert page.split("<figure", 1)[0] == again.split("<figure", 1)[0]


def test_a_report_reads_back(tmp_path: Path) -> None:
    ((result, figures),) = report.read(RESULTS / "efforts")
    saved = json.loads((RESULTS / "efforts" / "results.json").read_text())["sets"][0]
    assert [f.bytes for f in figures] == [f["bytes"] for f in saved["summary"]]
    assert len(result.rows) == len(saved["rows"])
    assert report.summarise(result) == figures
