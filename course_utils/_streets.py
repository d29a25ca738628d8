"""Turn layers of streets into a road network: a graph to route on, tensors to learn from, layers to draw."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch_geometric.data import Data

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import networkx as nx
    from geopandas import GeoDataFrame

SNAP_METRES = 1.0  # Segment ends nearer than this are one intersection.
HIGHWAY = {1: "primary", 2: "secondary"}  # The city's MajorRoad codes in OpenStreetMap's words.


@dataclass(frozen=True, repr=False)
class RoadNetwork:
    """A city's streets: intersections and dead ends as nodes, street segments as edges.

    Node ``i`` of `graph` is row ``i`` of `nodes`, of ``data.pos`` and of anything learned from `data`.

    Attributes
    ----------
    graph
        Streets in OSMnx's conventions, in degrees (WGS 84). Nodes have ``x``, ``y`` and ``street_count``; edges
        have ``length`` (metres, along the street), ``oneway``, ``name``, ``highway`` and ``geometry``. A two-way
        street is two edges, a one-way street one.
    data
        ``edge_index`` (2, E), sorted by its rows; ``edge_length`` (E,) in metres; ``pos`` (N, 2) in metres east
        and north of the network's south-west corner. Parallel streets stay parallel edges.
    nodes
        One row a node: ``name`` (of the streets that meet), ``street_count``, ``neighbourhood`` and the point,
        projected to metres.
    streets
        One row a street segment, whatever its directions, projected to metres.
    water, parks, boundary, neighbourhoods
        Layers for the map, projected to metres; `neighbourhoods` has a column ``neighbourhood``.
    source
        "city", "osm" or "standin".
    attribution
        The line a map made from these data has to carry.
    dropped
        What the source held and the network does not, and why.
    """

    graph: nx.MultiDiGraph[int]
    data: Data
    nodes: GeoDataFrame
    streets: GeoDataFrame
    water: GeoDataFrame
    parks: GeoDataFrame
    boundary: GeoDataFrame
    neighbourhoods: GeoDataFrame
    source: str
    attribution: str
    dropped: str = ""

    @property
    def is_standin(self) -> bool:
        """Whether this is the made-up city."""
        return self.source == "standin"

    def __repr__(self) -> str:
        return (
            f"RoadNetwork(source={self.source!r}, {len(self.nodes):,} nodes, {len(self.streets):,} streets, "
            f"{self.data.num_edges:,} directed edges, {len(self.neighbourhoods)} neighbourhoods)"
        )


def from_layers(paths: Mapping[str, Path], *, source: str, attribution: str) -> RoadNetwork:
    """Build the network from the city's GeoJSON layers.

    Two segments meet where their drawn ends meet, not where their node numbers say so: 44 of the city's segments
    carry numbers of intersections elsewhere, up to six kilometres away, and 43 carry them swapped, which would
    turn a one-way street round. Only the largest weakly connected component is kept.

    Parameters
    ----------
    paths
        File key (``"cambridge/TRANS_Centerlines.geojson"``) to file, for the five layers.
    source, attribution
        Passed on to the network.
    """
    layers = read_map_layers(paths)
    streets = _read(paths, "TRANS_Centerlines").to_crs(layers["boundary"].crs)
    graph = _directed_graph(streets)
    total_nodes, total_streets = graph.number_of_nodes(), len(streets)
    network = from_graph(graph, layers, source=source, attribution=attribution)
    lost = total_nodes - len(network.nodes)
    dropped = (
        f"{lost} of {total_nodes:,} nodes and {total_streets - len(network.streets)} of {total_streets:,} "
        "segments, which no street joins to the rest"
        if lost
        else ""
    )
    return replace(network, dropped=dropped)


def from_graph(
    graph: nx.MultiDiGraph[int], layers: Mapping[str, GeoDataFrame], *, source: str, attribution: str
) -> RoadNetwork:
    """Build the network from a street graph in OSMnx's conventions and the layers of `read_map_layers`."""
    import networkx as nx
    import osmnx as ox

    graph = nx.MultiDiGraph(
        nx.convert_node_labels_to_integers(
            ox.truncate.largest_component(graph, strongly=False), label_attribute="source_node"
        )
    )
    nx.set_node_attributes(graph, ox.stats.count_streets_per_node(graph), "street_count")
    crs = layers["boundary"].crs
    projected = ox.convert.graph_to_gdfs(graph, edges=False).to_crs(crs)
    nodes = projected[["street_count", "geometry"]].assign(
        name=[_corner_name(graph, node) for node in graph],
        neighbourhood=_nearest_neighbourhood(projected, layers["neighbourhoods"]),
    )
    edges = ox.convert.graph_to_gdfs(ox.convert.to_undirected(graph), nodes=False).to_crs(crs)
    return RoadNetwork(
        graph=graph,
        data=_to_data(graph, nodes),
        nodes=nodes[["name", "street_count", "neighbourhood", "geometry"]],
        streets=edges.reset_index(drop=True),
        source=source,
        attribution=attribution,
        **layers,
    )


def read_map_layers(paths: Mapping[str, Path]) -> dict[str, GeoDataFrame]:
    """Read water, parks, boundary and neighbourhoods, projected to the UTM zone of the city (metres)."""
    boundary = _read(paths, "BOUNDARY_CityBoundary")
    crs = boundary.estimate_utm_crs()
    neighbourhoods = _read(paths, "BOUNDARY_CDDNeighborhoods").rename(columns={"NAME": "neighbourhood"})
    parks = _read(paths, "RECREATION_OpenSpace")
    water = _read(paths, "HYDRO_WaterBodies")
    return {
        "water": water[["NAME", "geometry"]].to_crs(crs),
        "parks": parks[["NAME", "geometry"]].to_crs(crs),
        "boundary": boundary[["geometry"]].to_crs(crs),
        "neighbourhoods": neighbourhoods[["neighbourhood", "geometry"]].to_crs(crs),
    }


def _read(paths: Mapping[str, Path], layer: str) -> GeoDataFrame:
    import geopandas as gpd

    return gpd.read_file(paths[f"cambridge/{layer}.geojson"])


def _directed_graph(streets: GeoDataFrame) -> nx.MultiDiGraph[int]:
    """Join the segments (projected, metres) at their ends and give each its directions."""
    import networkx as nx
    from shapely import line_merge

    geometry = streets.geometry.map(line_merge)
    ends = np.array([line.coords[end] for line in geometry for end in (0, -1)])
    node_of_end, centres = _merge_close(ends)
    lonlat = _to_degrees(centres, streets.crs)
    degrees = geometry.to_crs("EPSG:4326")
    graph: nx.MultiDiGraph[int] = nx.MultiDiGraph(crs="epsg:4326")
    graph.add_nodes_from((i, {"x": float(x), "y": float(y)}) for i, (x, y) in enumerate(lonlat))
    columns = zip(streets["Direction"], streets["Street"], streets["MajorRoad"], strict=True)
    for i, (direction, name, major) in enumerate(columns):
        tail, head = node_of_end[2 * i : 2 * i + 2].tolist()
        attributes: dict[str, Any] = {
            "osmid": i,
            "length": float(geometry.iloc[i].length),
            "oneway": direction in ("1", "-1"),
            "name": name if isinstance(name, str) else "unnamed",
            "highway": HIGHWAY.get(major, "residential"),
        }
        line = degrees.iloc[i]
        # "1" runs along the drawn line, "-1" against it; "0", and what is not marked, is two-way.
        if direction != "-1":
            graph.add_edge(tail, head, reversed=False, geometry=line, **attributes)
        if direction != "1":
            graph.add_edge(head, tail, reversed=True, geometry=line.reverse(), **attributes)
    return graph


def _merge_close(points: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Label each point (P, 2) with its cluster within the snapping distance; give the clusters' centres too."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    pairs = cKDTree(points).query_pairs(SNAP_METRES, output_type="ndarray")
    links = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(points),) * 2)
    count, label = connected_components(links, directed=False)
    size = np.bincount(label, minlength=count)
    centres = np.stack([np.bincount(label, weights=axis) / size for axis in points.T], axis=1)
    return label, centres


def _to_degrees(points: np.ndarray[Any, Any], crs: object) -> np.ndarray[Any, Any]:
    from pyproj import Transformer

    to_degrees = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    return np.stack(to_degrees.transform(points[:, 0], points[:, 1]), axis=1)


def _corner_name(graph: nx.MultiDiGraph[int], node: int) -> str:
    """Name a corner after its streets: "First St & Main St"."""
    names: set[str] = set()
    for *_, name in (*graph.in_edges(node, data="name"), *graph.out_edges(node, data="name")):
        # OpenStreetMap: a list where a street changes its name on the way, None where it has none.
        names.update(name if isinstance(name, list) else [name or "unnamed"])
    return " & ".join(sorted(names))


def _nearest_neighbourhood(nodes: GeoDataFrame, neighbourhoods: GeoDataFrame) -> np.ndarray[Any, Any]:
    """Name the neighbourhood around each node, or the nearest: many streets are borders, a few lie outside."""
    joined = nodes[["geometry"]].sjoin_nearest(neighbourhoods)
    first = joined[~joined.index.duplicated()]  # A node on a border lies in two.
    names: np.ndarray[Any, Any] = first.loc[nodes.index, "neighbourhood"].to_numpy()
    return names


def _to_data(graph: nx.MultiDiGraph[int], nodes: GeoDataFrame) -> Data:
    edges: list[tuple[int, int, float]] = sorted(graph.edges(data="length"))
    # UTM northings have seven digits before the point; float32 keeps seven in all. Hence a near origin.
    position = np.stack([nodes.geometry.x, nodes.geometry.y], axis=1)
    position -= position.min(axis=0)
    return Data(
        edge_index=torch.tensor([edge[:2] for edge in edges]).t().contiguous(),  # (2, E)
        edge_length=torch.tensor([edge[2] for edge in edges], dtype=torch.float32),  # (E,)
        pos=torch.tensor(position, dtype=torch.float32),  # (N, 2)
        num_nodes=len(nodes),
    )
