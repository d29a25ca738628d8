"""Streets for a made-up city: fill its quarters, cut the streets where they meet, bend some, direct some."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from shapely import LineString, STRtree, affinity, distance, get_parts
from shapely.ops import substring

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from shapely import Polygon

MARGIN = 34.0  # metres that a street keeps from a main road it runs alongside
REACH = 150.0  # metres that it will go on beyond, to end on that main road
OVERSHOOT = 1.0  # metres past its end, so that rounding cannot part a street from the one it ends on
MERGE, SQUARE = 8.0, 30.0  # metres: corners this close along a street are one; where main roads cross
DEAD_ENDS, GAPS = 0.23, 0.05  # shares of the cross streets that are cut short, and left out
SHORTEST, CLEAR = 50.0, 10.0  # metres: length of what may be bent, and what has to stay free around it

Line = tuple[float, float, float]  # Along an axis: where on the other axis, from, to.


@dataclass(frozen=True)
class Quarter:
    """A grid of streets: a point inside it, its bearing, its shape, and roughly how many nodes it gets."""

    name: str  # of the neighbourhood; several quarters may form one
    centre: tuple[float, float]  # metres
    bearing: float  # of the long streets, degrees anticlockwise from east
    aspect: float  # distance between cross streets over distance between long streets
    nodes: int
    through: float  # chance that a cross street goes straight on where it meets a long one


@dataclass(frozen=True)
class Street:
    """A named line in metres. Major streets divide the quarters."""

    name: str
    line: LineString
    major: bool = False


@dataclass(frozen=True)
class Segment:
    """A piece of a street between two nodes; its line in metres."""

    street: Street
    line: LineString
    start: int
    end: int


def fill(cell: Polygon, quarter: Quarter, *, area: float, rng: np.random.Generator) -> list[LineString]:
    """Lay a jittered grid over a cell: long streets right through it, cross streets from each to the next.

    A cross street that goes straight on makes a crossing, one that starts afresh two T-junctions, one that is
    cut short a dead end. The quarter's `area` (square metres) and ``quarter.nodes`` set the distance between
    streets.
    """
    # In the rotated frame long streets are horizontal and cross streets vertical.
    ground = affinity.rotate(cell, -quarter.bearing, origin=quarter.centre)
    spacing = float(np.sqrt(2 * area / quarter.nodes / quarter.aspect))  # Each cross street brings two nodes.
    rows = _long_streets(ground, spacing=spacing, shortest=spacing * quarter.aspect, rng=rng)
    columns = _cross_streets(ground, rows, spacing=spacing, quarter=quarter, rng=rng)
    lines = [LineString([(x0, y), (x1, y)]) for y, x0, x1 in rows]
    lines += [LineString([(x, y0), (x, y1)]) for x, y0, y1 in columns]
    return [affinity.rotate(line, quarter.bearing, origin=quarter.centre) for line in lines]


def _spans(area: Polygon, line: LineString, axis: int) -> list[tuple[float, float]]:
    """Where a line along an axis is inside an area: from and to, along that axis."""
    parts = get_parts(area.intersection(line))
    return sorted((float(part.bounds[axis]), float(part.bounds[axis + 2])) for part in parts)


def _long_streets(
    ground: Polygon, *, spacing: float, shortest: float, rng: np.random.Generator
) -> list[Line]:
    """Return (y, x0, x1) of streets that run to the edge of the ground where they meet it at a fair angle."""
    west, south, east, north = ground.bounds
    core = ground.buffer(-MARGIN)
    levels = np.arange(south + spacing * rng.uniform(0.3, 0.7), north, spacing)
    rows = []
    for y in (levels + spacing * rng.uniform(-0.25, 0.25, len(levels))).tolist():
        line = LineString([(west - 1, y), (east + 1, y)])
        whole = _spans(ground, line, 0)
        for low, high in _spans(core, line, 0):
            if high - low > shortest:
                left, right = next(span for span in whole if span[0] <= low <= span[1])
                x0 = left - OVERSHOOT if low - left < REACH else low
                x1 = right + OVERSHOOT if right - high < REACH else high
                rows.append((y, x0, x1))
    return rows


def _cross_streets(
    ground: Polygon, rows: list[Line], *, spacing: float, quarter: Quarter, rng: np.random.Generator
) -> list[Line]:
    """Return (x, y0, y1) of streets that run from each long street to the next, or to the edge."""
    west, _, east, _ = ground.bounds
    pitch = spacing * quarter.aspect
    columns = np.arange(west, east, pitch)
    shift = pitch * rng.uniform(-0.42, 0.42, len(columns))
    pieces = []
    for y in sorted({row[0] for row in rows}):
        fresh = rng.random(len(columns)) > quarter.through
        shift = np.where(fresh, pitch * rng.uniform(-0.42, 0.42, len(columns)), shift)
        fate, share, side = rng.random((3, len(columns)))
        for column, x in enumerate((columns + shift).tolist()):
            for low, high in _gaps(ground, rows, x=x, y=y):
                y0, y1 = low - OVERSHOOT, high + OVERSHOOT
                if fate[column] < DEAD_ENDS or high - low > 2.5 * spacing:
                    length = min((0.35 + 0.4 * share[column]) * (high - low), spacing)
                    y0, y1 = (y0, low + length) if side[column] < 1 / 2 else (high - length, y1)
                if high - low > MARGIN and fate[column] < 1 - GAPS:
                    pieces.append((x, y0, y1))
    joined: list[Line] = []
    for x, y0, y1 in sorted(pieces):
        if joined and joined[-1][0] == x and joined[-1][2] >= y0:
            joined[-1] = (x, joined[-1][1], y1)
        else:
            joined.append((x, y0, y1))
    return joined


def _gaps(ground: Polygon, rows: list[Line], *, x: float, y: float) -> list[tuple[float, float]]:
    """Return from and to of what is free above (x, y) on a long street and, if it is the first, below."""
    if not any(row == y and x0 + MARGIN / 2 < x < x1 - MARGIN / 2 for row, x0, x1 in rows):
        return []
    _, south, _, north = ground.bounds
    spans = _spans(ground, LineString([(x, south - 1), (x, north + 1)]), 1)
    bottom, top = next(span for span in spans if span[0] <= y <= span[1])
    met = [row for row, x0, x1 in rows if x0 <= x <= x1 and bottom < row < top]
    above = (y, min((row for row in met if row > y), default=top))
    return [above] if min(met) < y else [(bottom, y), above]


def split(streets: list[Street]) -> list[Segment]:
    """Cut every street where it meets another, make one of corners that nearly coincide, drop loose pieces.

    Major streets have to come first.
    """
    points, squares, stops = _meetings(streets)
    corner = np.arange(len(points))  # which point stands for each
    for along in stops:
        for (here, one), (there, other) in pairwise(along):
            first, second = sorted((corner[one], corner[other]))
            if there - here < (SQUARE if first < squares else MERGE):
                corner[corner == second] = first
    segments: dict[tuple[int, int], Segment] = {}
    for street, along in zip(streets, stops, strict=True):
        for (here, one), (there, other) in pairwise(along):
            start, end = int(corner[one]), int(corner[other])
            if start != end and (start, end) not in segments and (end, start) not in segments:
                between = substring(street.line, here, there).coords[1:-1]
                line = LineString([points[start], *between, points[end]])
                segments[start, end] = Segment(street, line, start, end)
    linked = _largest_component(np.array(list(segments)), connection="weak")
    return [segment for segment in segments.values() if linked[segment.start]]


def _meetings(
    streets: list[Street],
) -> tuple[list[tuple[float, float]], int, list[list[tuple[float, int]]]]:
    """Find all corners and ends: points, how many of them (the first) join major streets, stops by street.

    A stop is the distance along the street and the number of the point.
    """
    lines = [street.line for street in streets]
    points: list[tuple[float, float]] = []
    stops: list[list[tuple[float, int]]] = [[] for _ in streets]
    squares = 0
    pairs = STRtree(lines).query(lines, predicate="intersects").T.tolist()
    # Sorted by the later street of each pair: corners of major streets with one another come first.
    for other, one in sorted(pair for pair in pairs if pair[0] > pair[1]):
        for point in get_parts(lines[one].intersection(lines[other])):
            for street in (one, other):
                stops[street].append((float(lines[street].project(point)), len(points)))
            points.append(point.coords[0])
            squares += streets[other].major
    for line, along in zip(lines, stops, strict=True):
        for place in (0.0, line.length):
            # An overshoot is no dead end.
            if not line.is_ring and all(abs(place - stop) > 2 * OVERSHOOT for stop, _ in along):
                along.append((place, len(points)))
                points.append(line.interpolate(place).coords[0])
        along.sort()
    return points, squares, stops


def bend(segments: list[Segment], *, bent: int, corners: int, rng: np.random.Generator) -> list[Segment]:
    """Bow `bent` of the segments, chosen among those with room around, and cut the first few in two.

    The cuts are `corners` nodes with two neighbours.
    """
    t = np.linspace(0, 1, 7)[:, None]
    lines = np.array([segment.line for segment in segments])
    bowed = list(segments)
    node = 1 + max(max(segment.start, segment.end) for segment in segments)
    bows = 0
    for place in rng.permutation(len(segments)).tolist():
        street, start, end = segments[place].street, segments[place].start, segments[place].end
        if street.major or lines[place].length < SHORTEST or bows == bent:
            continue
        first, last = np.array(lines[place].coords)[[0, -1]]
        aside = (last - first)[::-1] * (-1, 1) * rng.uniform(0.24, 0.84) * rng.choice([-1, 1])
        bow = first + t * (last - first) + t * (1 - t) * aside
        if distance(LineString(bow[1:-1]), np.delete(lines, place)).min() < CLEAR:
            continue
        lines[place] = LineString(bow)
        bowed[place] = Segment(street, lines[place], start, end)
        if bows < corners:
            bowed[place] = Segment(street, LineString(bow[:4]), start, node + bows)
            bowed.append(Segment(street, LineString(bow[3:]), node + bows, end))
        bows += 1
    return bowed


def choose_directions(
    segments: list[Segment], *, one_way: int, cut_off: int, rng: np.random.Generator
) -> list[int]:
    """Make whole minor streets one-way, in random order, up to `one_way` segments.

    At most `cut_off` nodes may then be outside the largest strongly connected component. Returns for each
    segment whether it is open along its line (1), against it (-1) or both ways (0).
    """
    ends = np.array([(segment.start, segment.end) for segment in segments])
    streets: dict[str, list[int]] = defaultdict(list)
    for place, segment in enumerate(segments):
        if not segment.street.major:
            streets[segment.street.name].append(place)
    fewest = len(np.unique(ends)) - cut_off
    direction = np.zeros(len(segments), dtype=int)
    for name in rng.permutation(list(streets)).tolist():
        if np.abs(direction).sum() + len(streets[name]) > one_way:
            continue
        first = rng.choice([-1, 1])
        for way in (first, -first, 0):
            direction[streets[name]] = way
            edges = np.r_[ends[direction >= 0], ends[direction <= 0, ::-1]]
            if _largest_component(edges, connection="strong").sum() >= fewest:
                break
    return direction.tolist()


def _largest_component(edges: NDArray[Any], *, connection: str) -> NDArray[np.bool_]:
    """Return which nodes of the edges, (E, 2), are in the largest "weak" or "strong" component."""
    count = edges.max() + 1
    adjacency = coo_array((np.ones(len(edges)), tuple(edges.T)), shape=(count, count))
    _, label = connected_components(adjacency, connection=connection)
    return np.asarray(label == np.bincount(label).argmax())
