"""The made-up city that stands in for Cambridge, Massachusetts, on a machine without network and data folder.

Its layers have the format of the city's own. Where its streets run is invented; how many there are, how long
they are, how they meet and how many are one-way is set after the real ones (the figures are in the tests).
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import shapely
from shapely import LineString, Point, Polygon, affinity, union_all
from shapely.ops import polygonize, substring

from course_utils._standin_network import Quarter, Street, bend, choose_directions, fill, split

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry

Feature = dict[str, Any]

SEED = 0
ORIGIN = np.array([-71.1115, 42.3750])  # degrees of longitude and latitude at (0, 0)
METRES = np.array([111_320 * np.cos(np.radians(ORIGIN[1])), 111_132])  # in a degree of each

# The plan, in metres east and north of the origin. Main roads are called after birds, quarters after trees.
NORTHERN_LIMIT = [
    (-3750, 1350), (-3300, 2000), (-2900, 2150), (-2150, 2900), (-1750, 2750), (-350, 980),
    (250, 330), (800, 40), (1900, 20), (2600, -60), (3150, -130), (3540, -330),
]  # fmt: skip
MAIN, SOUTH, NORTH, PLAZA = (-1000, 120), (430, -1370), (-1610, 1150), (-2110, 450)
CORNER, FORK, GATE, MARKET, QUAY = (-2420, 1430), (-1560, 250), (540, -330), (1850, -600), (2000, -1400)
MAIN_ROADS = {
    "Swan Ave": [(-2450, 3300), (-2390, 2100), NORTH, MAIN, SOUTH, (1250, -2600)],
    "Teal Ave": [(-4000, 520), PLAZA, FORK, MAIN],
    "Lark St": [(-4000, 1650), CORNER, NORTH, (110, 820)],
    "Plover St": [CORNER, PLAZA, (-2250, -900)],
    "Finch St": [MAIN, GATE, MARKET, (3900, -1020)],
    "Kestrel St": [(660, 730), GATE, SOUTH],
    "Stork St": [SOUTH, QUAY, (3700, -1150)],
    "Crane St": [(1900, 300), MARKET, QUAY, (2250, -2800)],
    "Egret St": [MAIN, (-750, -220), (-900, -1470)],
    "Snipe St": [CORNER, (-2900, 2100), (-3000, 3000)],
    "Pipit St": [FORK, (-1450, -100), (-1550, -900)],
}
BRIDGES = ("Swan Ave", "Crane St")
QUARTERS = [  # name, a point inside, bearing, aspect, nodes, chance of going straight on
    Quarter("Alder", (-3300, 1850), -12, 0.7, 80, 0.3),
    Quarter("Alder", (-2500, 1800), 25, 0.8, 145, 0.3),
    Quarter("Aspen", (-1500, 1800), -42, 0.8, 215, 0.25),
    Quarter("Beech", (-1800, 800), 35, 0.8, 200, 0.25),
    Quarter("Cedar", (-3000, 1550), 0, 0.8, 55, 0.1),
    Quarter("Birch", (-3100, 150), -8, 0.8, 62, 0.1),
    Quarter("Hazel", (-1900, 0), -12, 0.8, 110, 0.25),
    Quarter("Hazel", (-1200, -100), 38, 0.8, 90, 0.2),
    Quarter("Elm", (-400, 600), 75, 0.7, 130, 0.2),
    Quarter("Larch", (-100, -1200), 50, 1.0, 190, 0.35),
    Quarter("Maple", (0, -300), -30, 0.8, 150, 0.25),
    Quarter("Oak", (1200, -900), 62, 0.8, 195, 0.3),
    Quarter("Rowan", (1200, -200), -15, 0.8, 100, 0.2),
    Quarter("Willow", (2700, -800), 80, 0.8, 190, 0.45),
    Quarter("Juniper", (1400, -1700), 17, 0.8, 52, 0.3),
]
ONE_WAY, CUT_OFF = 950, 20  # segments; nodes that the one-way streets leave unreachable
BENT, CORNERS = 320, 54  # segments; nodes on them
LAWN = (4.2e4, 2e5)  # square metres of the blocks that become parks
THINNED = 5e-5  # degrees, about 5 metres: what a line may move when its vertices are thinned


class Ground(NamedTuple):
    """The shapes that nature and history have left, in metres."""

    built: Polygon  # where streets can be
    city: Polygon
    river: Polygon
    pond: Polygon
    drive: LineString  # the road along the river


def _shore() -> NDArray[np.float64]:
    """Return where the river begins, from west to east: meanders, then a broad bay. (points, 2)."""
    x = np.arange(-3750.0, 3500.0, 50.0)
    meanders = 190 * np.sin(x / 320) * np.exp(-(((x + 1700) / 1000) ** 2))
    y = -380 - 1800 * np.exp(-(((x - 1250) / 1800) ** 2)) + meanders
    return np.concatenate([np.c_[x, y], [[3560, -500], [3540, -330]]])


def _ground() -> Ground:
    shore = _shore()
    width = np.interp(shore[:, 0], [-3750, -800, 1500, 3000], [110, 150, 420, 520])
    land = Polygon(np.r_[NORTHERN_LIMIT, shore[::-1]])
    reaches = [(LineString(shore[i : i + 2]), width[i]) for i in range(len(shore) - 1)]
    basin = Polygon([(-3750, 0), (-3750, -4000), (5000, -4000), (5000, -330), (3000, -330), (3000, 0)])
    river = union_all([line.buffer(wide) for line, wide in reaches]).intersection(basin).difference(land)
    near = union_all([line.buffer(0.45 * wide) for line, wide in reaches]).intersection(basin)
    drive = LineString(shore[:-1]).offset_curve(70)
    built = Polygon(np.r_[NORTHERN_LIMIT[:-1], np.array(drive.coords)[::-1]])
    pond = affinity.rotate(affinity.scale(Point(-3120, 1010).buffer(1), 330, 240), -15)
    return Ground(built, land.union(near).buffer(8), river, pond, drive)


def _main_roads(ground: Ground) -> list[Street]:
    town = ground.built.buffer(1)
    across = town.union(ground.river.buffer(80))
    roads = [Street("Heron Dr", ground.drive, major=True)]
    for name, points in MAIN_ROADS.items():
        line = LineString(points).intersection(across if name in BRIDGES else town)
        roads.append(Street(name, line, major=True))
    ring = LineString(ground.pond.buffer(60).exterior.coords)
    halves = (substring(ring, 0, 1 / 2, normalized=True), substring(ring, 1 / 2, 1, normalized=True))
    return roads + [Street("Coot Rd", half, major=True) for half in halves]


def _minor_streets(ground: Ground, roads: list[Street], rng: np.random.Generator) -> list[Street]:
    """Fill what the main roads leave with the streets of the nearest quarter."""
    cells = polygonize(union_all([ground.built.exterior, *(road.line for road in roads)]))
    by_quarter: dict[Quarter, list[Polygon]] = defaultdict(list)
    for cell in sorted(cells, key=lambda cell: (cell.centroid.x, cell.centroid.y)):
        if not cell.contains(ground.pond):
            by_quarter[min(QUARTERS, key=lambda quarter: cell.distance(Point(quarter.centre)))].append(cell)
    lines: dict[str, list[LineString]] = defaultdict(list)
    for quarter in QUARTERS:
        area = sum(cell.area for cell in by_quarter[quarter])
        for cell in by_quarter[quarter]:
            lines[quarter.name] += fill(cell, quarter, area=area, rng=rng)
    return [Street(f"{name} St {i}", line) for name in lines for i, line in enumerate(lines[name], start=1)]


def _neighbourhoods(ground: Ground) -> dict[str, BaseGeometry]:
    """Divide the city along the main roads.

    The border runs some metres beside the road, so that each of its nodes is clearly on one side.
    """
    borders = [affinity.translate(LineString(points), 14, 9) for points in MAIN_ROADS.values()]
    parts: dict[str, list[Polygon]] = {quarter.name: [] for quarter in QUARTERS}
    for part in polygonize(union_all([ground.city.exterior, *borders])):
        inside = part.buffer(-100)
        nearest = min(QUARTERS, key=lambda quarter: inside.distance(Point(quarter.centre)))
        if ground.city.contains(part.representative_point()):
            parts[nearest.name].append(part)
    return {name: union_all(parts[name]) for name in parts}


def generate_layers() -> dict[str, list[Feature]]:
    """Make the five layers of the city, name to GeoJSON features, in degrees (WGS 84)."""
    rng = np.random.default_rng(SEED)
    ground = _ground()
    roads = _main_roads(ground)
    segments = split(roads + _minor_streets(ground, roads, rng))
    segments = bend(segments, bent=BENT, corners=CORNERS, rng=rng)
    directions = choose_directions(segments, one_way=ONE_WAY, cut_off=CUT_OFF, rng=rng)
    centerlines = [
        _feature(
            segment.line,
            Street=segment.street.name,
            Direction=str(direction),
            **({"MajorRoad": 2} if segment.street.major else {}),
        )
        for segment, direction in zip(segments, directions, strict=True)
    ]
    return {
        "TRANS_Centerlines": centerlines,
        "BOUNDARY_CDDNeighborhoods": _named_features(_neighbourhoods(ground)),
        "BOUNDARY_CityBoundary": [_feature(ground.city)],
        "HYDRO_WaterBodies": _named_features({"Heron River": ground.river, "Coot Pond": ground.pond}),
        "RECREATION_OpenSpace": _named_features(_parks(ground, [segment.line for segment in segments])),
    }


def _parks(ground: Ground, streets: list[LineString]) -> dict[str, BaseGeometry]:
    """Return the banks of the river and of the pond, and the largest blocks between the streets."""
    lawns = [
        block.buffer(-14, join_style="mitre")
        for block in polygonize(streets)
        if LAWN[0] < block.area < LAWN[1] and not block.intersects(ground.pond)
    ]
    lawns.sort(key=lambda lawn: (lawn.centroid.x, lawn.centroid.y))
    bank = ground.city.difference(ground.built.union(ground.river).buffer(12)).buffer(-5).buffer(5)
    return {
        "Heron Bank": bank.intersection(ground.drive.buffer(90)),
        "Coot Pond Reservation": ground.pond.buffer(50).difference(ground.pond),
        **{f"Park {i}": lawn for i, lawn in enumerate(lawns, start=1)},
    }


def _named_features(shapes: dict[str, BaseGeometry]) -> list[Feature]:
    return [_feature(shape, NAME=name) for name, shape in shapes.items()]


def _feature(shape: BaseGeometry, **properties: object) -> Feature:
    curved = shapely.transform(shapely.segmentize(shape, 40), _to_degrees)
    rounded = shapely.transform(curved.simplify(THINNED), lambda degrees: np.round(degrees, 6))
    return {"type": "Feature", "geometry": json.loads(shapely.to_geojson(rounded)), "properties": properties}


def _to_degrees(metres: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bend the plan, as no real town is straight, and put it on the globe: (points, 2) to (points, 2)."""
    x, y = metres.T
    east = x + 150 * np.sin(y / 700 + 1) + 45 * np.sin(y / 240 + x / 500)
    north = y + 150 * np.sin(x / 750 + 0.5) + 45 * np.sin(x / 220 + y / 600)
    return np.asarray(ORIGIN + np.c_[east, north] / METRES)


def write_standin(folder: Path) -> list[Path]:
    """Write the layers, one feature a line, and return the files."""
    (folder / "cambridge").mkdir(parents=True, exist_ok=True)
    paths = []
    for layer, features in generate_layers().items():
        lines = ",\n".join(json.dumps(feature, separators=(",", ":")) for feature in features)
        paths.append(folder / "cambridge" / f"{layer}.geojson")
        paths[-1].write_text(
            f'{{"type":"FeatureCollection","features":[\n{lines}\n]}}\n', "utf-8", newline="\n"
        )
    return paths
