# SPDX-License-Identifier: MIT
"""Where the names of points stand in a plot: each near its point, none over another name or a point.

Every name starts at the best of many places around its point, regardless of the other names.  Then, one after the
other, each moves to the place that is best with the others where they are, until none moves.  Coordinates are pixels,
y upwards.  Nothing is random.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import cos, hypot, pi, sin
from typing import NamedTuple

NAME_GAP = 2.0  # pixels between names, and between a name and a marker
DIRECTION_COUNT = 24
DISTANCES = (3, 7, 12, 18, 25, 33, 42, 52, 64, 80, 100)  # of a name from its marker, pixels
CONNECT_FROM = 9.0  # a line connects a name that is further away with its point, pixels
COVER_COST = 1000.0  # a name over a marker, another name or the border
CROSS_COST = 14.0  # a name over a line
AMBIGUITY_COST = 12.0  # a name as near to another point as to its own
LINE_COST = 8.0  # a name that needs a line to its point
MAX_ROUNDS = 30


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
        """Whether the other rectangle contains it."""
        across = other.left <= self.left and self.right <= other.right
        return across and other.bottom <= self.bottom and self.top <= other.top

    def nearest(self, x: float, y: float) -> tuple[float, float]:
        """The point of the rectangle that is nearest to (x, y)."""
        return min(max(x, self.left), self.right), min(max(y, self.bottom), self.top)

    def meets(self, line: Line) -> bool:
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
    """A line from a point to another."""

    x0: float
    y0: float
    x1: float
    y1: float


class Point(NamedTuple):
    """A point that has a name: its marker, the line through it, and the size of the name."""

    marker: Box
    line: Line  # across, from left to right
    width: float
    height: float

    @property
    def middle(self) -> tuple[float, float]:
        return (self.marker.left + self.marker.right) / 2, (self.marker.bottom + self.marker.top) / 2


def connection(point: Point, name: Box) -> Line | None:
    """The line from a point to its name, if the name is so far away that it needs one."""
    x, y = point.middle
    return Line(x, y, *name.nearest(x, y)) if _distance(point, name) > CONNECT_FROM else None


def place(points: Sequence[Point], lines: Sequence[Line], area: Box) -> list[Box]:
    """Where each name stands, within ``area``.  Names avoid ``lines`` if they can."""
    markers = [point.marker.wider(NAME_GAP) for point in points]
    alone = [_alone(point, markers, lines, area) for point in points]
    names = [min(choices, key=lambda choice: choice[0])[1] for choices in alone]
    for _ in range(MAX_ROUNDS):
        before = list(names)
        for n, point in enumerate(points):
            others = [name.wider(NAME_GAP) for k, name in enumerate(names) if k != n]
            drawn = (connection(p, name) for k, (p, name) in enumerate(zip(points, names, strict=True)) if k != n)
            connections = [line for line in drawn if line]

            def cost(choice: tuple[float, Box], point: Point = point, others: list[Box] = others,
                     connections: list[Line] = connections) -> float:  # fmt: skip
                found, box = choice
                own = connection(point, box)
                found += COVER_COST * sum(box.overlaps(other) for other in others)
                found += COVER_COST / 4 * sum(box.meets(line) for line in connections)
                return found + (COVER_COST / 4 * sum(other.meets(own) for other in others) if own else 0.0)

            names[n] = min(alone[n], key=cost)[1]
        if names == before:
            break
    return names


def _alone(point: Point, markers: list[Box], lines: Sequence[Line], area: Box) -> list[tuple[float, Box]]:
    """Possible places of a name, each with its cost if there were no other names."""
    found = []
    for number, box in enumerate(_choices(point)):
        own = connection(point, box)
        away = _distance(point, box)
        cost = (number > 0) + away + CROSS_COST * sum(box.meets(line) for line in lines)
        cost += AMBIGUITY_COST * sum(
            box.overlaps(m.wider(away + NAME_GAP)) for m in markers if m != point.marker.wider(NAME_GAP)
        )
        cost += COVER_COST * (sum(box.overlaps(marker) for marker in markers) + (not box.within(area)))
        if own:
            met = sum(marker.meets(own) for marker in markers if not marker.overlaps(point.marker))
            cost += LINE_COST + COVER_COST / 4 * met
        found.append((cost, box))
    return found


def _distance(point: Point, name: Box) -> float:
    """Distance of a name from its marker, or from an end of the marker's line if that is nearer."""
    x, y = point.middle
    near = name.nearest(x, y)
    away = hypot(near[0] - x, near[1] - y) - (point.marker.right - point.marker.left) / 2
    ends = [hypot(p - q, r - y) for q in (point.line.x0, point.line.x1) for p, r in [name.nearest(q, y)]]
    return max(0.0, min(away, *ends))


def _choices(point: Point) -> Iterator[Box]:
    """Places at the right and left end of the marker's line, then around the marker at growing distances."""
    x, y = point.middle
    width, height = point.width, point.height
    radius = (point.marker.right - point.marker.left) / 2 + NAME_GAP
    yield Box.around(max(point.line.x1, x + radius) + NAME_GAP + width / 2, y, width, height)
    yield Box.around(min(point.line.x0, x - radius) - NAME_GAP - width / 2, y, width, height)
    for distance in DISTANCES:
        for n in range(DIRECTION_COUNT):
            across, up = cos(2 * pi * n / DIRECTION_COUNT), sin(2 * pi * n / DIRECTION_COUNT)
            longer = max(abs(across), abs(up))  # places lie on a square around the marker
            dx, dy = across / longer, up / longer
            reach = radius + distance
            yield Box.around(x + dx * (reach + width / 2), y + dy * (reach + height / 2), width, height)
