# SPDX-License-Identifier: MIT
"""Where the names of points stand in a plot: each near its point, none over another name or a point.

Every name starts at the best of many places around its point, whatever the other names do; then, one after the other,
each takes the place that is best beside the others, until none moves.  Numbers are pixels, upwards; nothing is random.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import cos, hypot, pi, sin
from typing import NamedTuple

GAP = 2.0  # between names, and from a name to a marker
DIRECTIONS = 24
DISTANCES = (3, 7, 12, 18, 25, 33, 42, 52, 64, 80, 100)  # of a name from its marker
FAR = 9.0  # a name further away is tied to its point by a line
# costs: what must not be; a line under a name; a point that is as near as the name's own; a line to its own
COVERED, CROSSED, DOUBTFUL, TIED = 1000.0, 14.0, 12.0, 8.0
ROUNDS = 30


class Box(NamedTuple):
    """A rectangle."""

    left: float
    bottom: float
    right: float
    top: float

    @staticmethod
    def around(x: float, y: float, width: float, height: float) -> Box:
        return Box(x - width / 2, y - height / 2, x + width / 2, y + height / 2)

    def wider(self, by: float) -> Box:
        return Box(self.left - by, self.bottom - by, self.right + by, self.top + by)

    def overlaps(self, other: Box) -> bool:
        """Whether they have an inner point in common."""
        across = self.left < other.right and other.left < self.right
        return across and self.bottom < other.top and other.bottom < self.top

    def within(self, other: Box) -> bool:
        across = other.left <= self.left and self.right <= other.right
        return across and other.bottom <= self.bottom and self.top <= other.top

    def nearest(self, x: float, y: float) -> tuple[float, float]:
        """The point of the rectangle that is nearest to another."""
        return min(max(x, self.left), self.right), min(max(y, self.bottom), self.top)

    def is_met(self, line: Line) -> bool:
        """Whether a line passes through it (Liang and Barsky 1984)."""
        first, last = 0.0, 1.0
        for start, step, low, high in (
            (line.x0, line.x1 - line.x0, self.left, self.right),
            (line.y0, line.y1 - line.y0, self.bottom, self.top),
        ):
            if step == 0:
                if not low < start < high:
                    return False
                continue
            enters, leaves = sorted(((low - start) / step, (high - start) / step))
            first, last = max(first, enters), min(last, leaves)
        return first < last


class Line(NamedTuple):
    """From a point to another."""

    x0: float
    y0: float
    x1: float
    y1: float


class Point(NamedTuple):
    """What a name belongs to: a marker with a line through it, and the size of the name."""

    marker: Box
    line: Line  # across, from left to right
    width: float
    height: float

    @property
    def middle(self) -> tuple[float, float]:
        return (self.marker.left + self.marker.right) / 2, (self.marker.bottom + self.marker.top) / 2


def tie(point: Point, name: Box) -> Line | None:
    """The line from a point to a name that is far from it."""
    x, y = point.middle
    return Line(x, y, *name.nearest(x, y)) if _distance(point, name) > FAR else None


def place(points: Sequence[Point], lines: Sequence[Line], area: Box) -> list[Box]:
    """Where each name stands, within ``area``.  ``lines``: what names should not cover if they can help it."""
    markers = [point.marker.wider(GAP) for point in points]
    alone = [_alone(point, markers, lines, area) for point in points]
    names = [min(choices, key=lambda choice: choice[0])[1] for choices in alone]
    for _ in range(ROUNDS):
        before = list(names)
        for n, point in enumerate(points):
            others = [name.wider(GAP) for k, name in enumerate(names) if k != n]
            ties = [t for k, (p, name) in enumerate(zip(points, names, strict=True)) if k != n and (t := tie(p, name))]

            def cost(choice: tuple[float, Box], point: Point = point, others: list[Box] = others,
                     ties: list[Line] = ties) -> float:  # fmt: skip
                found, box = choice
                own = tie(point, box)
                found += COVERED * sum(box.overlaps(other) for other in others)
                found += COVERED / 4 * sum(box.is_met(line) for line in ties)
                return found + (COVERED / 4 * sum(other.is_met(own) for other in others) if own else 0.0)

            names[n] = min(alone[n], key=cost)[1]
        if names == before:
            break
    return names


def _alone(point: Point, markers: list[Box], lines: Sequence[Line], area: Box) -> list[tuple[float, Box]]:
    """Places of a name, and what each costs when there are no other names."""
    found = []
    for number, box in enumerate(_choices(point)):
        own = tie(point, box)
        away = _distance(point, box)
        cost = (number > 0) + away + CROSSED * sum(box.is_met(line) for line in lines)
        cost += DOUBTFUL * sum(box.overlaps(m.wider(away + GAP)) for m in markers if m != point.marker.wider(GAP))
        cost += COVERED * (sum(box.overlaps(marker) for marker in markers) + (not box.within(area)))
        if own:
            met = sum(marker.is_met(own) for marker in markers if not marker.overlaps(point.marker))
            cost += TIED + COVERED / 4 * met
        found.append((cost, box))
    return found


def _distance(point: Point, name: Box) -> float:
    """Of a name from its marker; along the marker's line it may stand at the end."""
    x, y = point.middle
    near = name.nearest(x, y)
    away = hypot(near[0] - x, near[1] - y) - (point.marker.right - point.marker.left) / 2
    ends = [hypot(p - q, r - y) for q in (point.line.x0, point.line.x1) for p, r in [name.nearest(q, y)]]
    return max(0.0, min(away, *ends))


def _choices(point: Point) -> Iterator[Box]:
    """Right and left of the marker's line first, then around the marker, further and further away."""
    x, y = point.middle
    width, height = point.width, point.height
    radius = (point.marker.right - point.marker.left) / 2 + GAP
    yield Box.around(max(point.line.x1, x + radius) + GAP + width / 2, y, width, height)
    yield Box.around(min(point.line.x0, x - radius) - GAP - width / 2, y, width, height)
    for distance in DISTANCES:
        for n in range(DIRECTIONS):
            across, up = cos(2 * pi * n / DIRECTIONS), sin(2 * pi * n / DIRECTIONS)
            longer = max(abs(across), abs(up))  # names stand around a square: a corner or a side looks at the marker
            dx, dy = across / longer, up / longer
            reach = radius + distance
            yield Box.around(x + dx * (reach + width / 2), y + dy * (reach + height / 2), width, height)
