"""Cambridge's streets as users meet them: an OSMnx graph, tensors, layers, provenance."""

import json
import math
import os

import geopandas as gpd
import networkx as nx
import numpy as np
import osmnx as ox
import pytest
import torch
from shapely.geometry import LineString

from course_utils import _store, _streets
from course_utils.datasets import DatasetUnavailableError, StandInWarning, load_cambridge


@pytest.fixture(params=["best", "standin"])
def network(request, roads, standin_roads):
    """Return the best network there is (real, where COURSE_DATA_DIR has it) and, always, the stand-in."""
    return roads if request.param == "best" else standin_roads


def test_the_network_is_one_piece_with_consecutive_nodes(network):
    assert nx.is_weakly_connected(network.graph)
    assert list(network.graph) == list(range(len(network.nodes)))
    assert list(network.nodes.index) == list(network.graph)


def test_every_node_and_edge_has_what_osmnx_expects(network):
    for _, node in network.graph.nodes(data=True):
        assert -71.2 < node["x"] < -71.0
        assert 42.3 < node["y"] < 42.5
        assert node["street_count"] >= 1
    for _, _, edge in network.graph.edges(data=True):
        assert edge["length"] > 0
        assert isinstance(edge["oneway"], bool)
        assert isinstance(edge["name"], str)
        assert isinstance(edge["geometry"], LineString)
    assert network.graph.graph["crs"] == "epsg:4326"


def test_osmnx_works_on_the_graph(network):
    nodes, edges = ox.graph_to_gdfs(network.graph)
    assert (len(nodes), len(edges)) == (network.data.num_nodes, network.data.num_edges)
    stats = ox.stats.basic_stats(network.graph)
    assert stats["street_segment_count"] == len(network.streets)
    assert stats["circuity_avg"] > 1
    projected = ox.project_graph(network.graph)
    assert projected.graph["crs"] == network.nodes.crs
    figure, _ = ox.plot_graph(network.graph, show=False, close=True)
    assert figure.axes
    graph = ox.routing.add_edge_travel_times(ox.routing.add_edge_speeds(network.graph, fallback=40))
    start, end = 0, len(nodes) - 1
    route = ox.routing.shortest_path(graph, start, end, weight="length")
    assert (route[0], route[-1]) == (start, end)
    assert ox.routing.route_to_gdf(graph, route)["length"].sum() == pytest.approx(
        nx.shortest_path_length(graph, start, end, weight="length")
    )


def test_geometry_runs_from_tail_to_head(network):
    position = {node: (data["x"], data["y"]) for node, data in network.graph.nodes(data=True)}
    for tail, head, edge in network.graph.edges(data=True):
        first, last = edge["geometry"].coords[0], edge["geometry"].coords[-1]
        # Within the snapping distance of a metre (1e-5 degrees), and never the wrong way round.
        assert math.dist(first, position[tail]) < 2e-5
        assert math.dist(last, position[head]) < 2e-5


def test_a_street_is_at_least_as_long_as_the_straight_line(network):
    data = network.data
    straight = (data.pos[data.edge_index[0]] - data.pos[data.edge_index[1]]).norm(dim=1)
    assert (data.edge_length >= straight - 2.5).all()  # a metre of snapping at each end, and rounding


def test_lengths_agree_with_great_circles(network):
    """An independent measure: OSMnx's own, along the sphere, for edges that are nearly straight."""
    edges = ox.graph_to_gdfs(network.graph, nodes=False).reset_index()
    x, y = (network.graph.nodes(data=axis) for axis in "xy")
    u, v = edges["u"], edges["v"]
    sphere = ox.distance.great_circle(
        *(np.array([axis[n] for n in nodes]) for nodes in (u, v) for axis in (y, x))
    )
    straight = (edges["length"] < 1.0005 * sphere) & (edges["length"] > 50)
    assert straight.sum() > 500
    ratio = edges["length"][straight] / sphere[straight]
    assert abs(ratio.median() - 1) < 0.005  # a sphere is not an ellipsoid


def test_tensors_say_what_the_graph_says(network):
    data = network.data
    assert data.validate()
    assert data.edge_index.shape == (2, network.graph.number_of_edges())
    edges = [tuple(edge) for edge in data.edge_index.t().tolist()]
    assert edges == sorted(network.graph.edges())
    length = sorted(d for _, _, d in network.graph.edges(data="length"))
    torch.testing.assert_close(data.edge_length.sort().values, torch.tensor(length, dtype=torch.float32))
    assert data.pos.min() == 0
    assert data.pos.dtype == torch.float32


def test_a_oneway_street_is_one_edge_and_another_two(network):
    forward = {(u, v, d["osmid"]) for u, v, d in network.graph.edges(data=True)}
    for u, v, edge in network.graph.edges(data=True):
        assert ((v, u, edge["osmid"]) in forward) == (not edge["oneway"])


def test_every_node_is_in_one_of_13_neighbourhoods(network):
    assert network.nodes["neighbourhood"].nunique() == 13
    inside = network.nodes.sjoin(network.neighbourhoods, predicate="within", rsuffix="polygon")
    agrees = inside["neighbourhood_left"] == inside["neighbourhood_polygon"]
    assert agrees.mean() > 0.999
    assert len(inside) > 0.8 * len(network.nodes)  # the rest lies on borders or just outside


def test_layers_are_in_metres_and_overlap_the_city(network):
    for layer in (network.water, network.parks, network.boundary, network.neighbourhoods, network.streets):
        assert layer.crs == network.nodes.crs
        assert layer.crs.axis_info[0].unit_name == "metre"
        assert layer.intersects(network.boundary.union_all().buffer(500)).any()


def test_provenance(roads, standin_roads):
    assert (standin_roads.source, standin_roads.is_standin) == ("standin", True)
    assert "made-up" in standin_roads.attribution
    if roads.source == "city":
        assert not roads.is_standin
        assert "City of Cambridge" in roads.attribution
        assert "2 of 1,871 nodes" in roads.dropped
        assert repr(roads).startswith("RoadNetwork(source='city', 1,869 nodes, 2,642 streets")
    else:
        assert roads.source == "standin"


# --- the quirks of the city's street layer, on a street plan small enough to check by hand -----------------


def layer(features):
    return json.dumps(
        {
            "type": "FeatureCollection",
            "features": [
                {
                    "type": "Feature",
                    "properties": properties,
                    "geometry": {"type": kind, "coordinates": coordinates},
                }
                for properties, kind, coordinates in features
            ],
        }
    )


def street(name, direction, *points, kind="LineString", numbers=(1.0, 2.0), major=None):
    properties = dict(
        zip(
            ("Street", "Direction", "MajorRoad", "FromNode", "ToNode"),
            (name, direction, major, *numbers),
            strict=True,
        )
    )
    return properties, kind, points if kind == "LineString" else [list(part) for part in points]


@pytest.fixture
def small_city(tmp_path):
    """Return a function that writes the five layers with given streets and builds the network."""
    square = [[[-71.11, 42.36], [-71.09, 42.36], [-71.09, 42.38], [-71.11, 42.38], [-71.11, 42.36]]]
    west = [[[-71.11, 42.36], [-71.10, 42.36], [-71.10, 42.38], [-71.11, 42.38], [-71.11, 42.36]]]
    east = [[[-71.10, 42.36], [-71.09, 42.36], [-71.09, 42.38], [-71.10, 42.38], [-71.10, 42.36]]]

    def build(*streets):
        texts = {
            "TRANS_Centerlines": layer(streets),
            "BOUNDARY_CityBoundary": layer([({}, "Polygon", square)]),
            "BOUNDARY_CDDNeighborhoods": layer(
                [({"NAME": "West"}, "Polygon", west), ({"NAME": "East"}, "Polygon", east)]
            ),
            "HYDRO_WaterBodies": layer([({"NAME": "Pond"}, "Polygon", west)]),
            "RECREATION_OpenSpace": layer([({"NAME": "Park"}, "Polygon", east)]),
        }
        paths = {}
        for name, text in texts.items():
            paths[f"cambridge/{name}.geojson"] = tmp_path / f"{name}.geojson"
            paths[f"cambridge/{name}.geojson"].write_text(text)
        return _streets.from_layers(paths, source="city", attribution="")

    return build


A, B, C, D = (-71.105, 42.365), (-71.105, 42.370), (-71.099, 42.370), (-71.099, 42.365)


def names(network):
    """Return the directed edges as (name, southern end first?) for reading directions off."""
    y = network.graph.nodes(data="y")
    return sorted((d["name"], bool(y[u] < y[v])) for u, v, d in network.graph.edges(data=True))


def test_direction_follows_the_drawn_line(small_city):
    network = small_city(
        street("Up", "1", A, B),
        street("Down", "-1", D, C),
        street("Both", "0", B, C),
        street("Unmarked", None, A, D),
    )
    edges = names(network)
    assert ("Up", True) in edges  # "1": from A, south, to B, north
    assert ("Up", False) not in edges
    assert ("Down", False) in edges  # "-1": drawn from D, south, and driven from C, north
    assert ("Down", True) not in edges
    assert sum(name == "Both" for name, _ in edges) == 2
    assert sum(name == "Unmarked" for name, _ in edges) == 2


def test_node_numbers_that_contradict_the_drawing_do_not_count(small_city):
    network = small_city(
        street("One", "0", A, B, numbers=(7.0, 8.0)), street("Two", "0", B, C, numbers=(7.0, None))
    )
    assert len(network.nodes) == 3
    assert sorted(network.nodes["street_count"]) == [1, 1, 2]


def test_ends_within_a_metre_meet_and_others_do_not(small_city):
    near = (B[0], B[1] + 0.000004)  # 0.4 m north
    far = (C[0], C[1] + 0.00004)  # 4 m north
    network = small_city(street("One", "0", A, B), street("Two", "0", near, C), street("Three", "0", far, D))
    assert len(network.nodes) == 3
    assert "2 of 5 nodes and 1 of 3 segments" in network.dropped


def test_a_street_drawn_in_parts_is_one_segment(small_city):
    middle = (-71.102, 42.3701)
    network = small_city(
        street("Parts", "0", (B, middle), (middle, C), kind="MultiLineString"), street("One", "0", A, B)
    )
    assert len(network.streets) == 2
    assert len(network.nodes) == 3


def test_parallel_segments_stay_two(small_city):
    bow = (-71.102, 42.371)
    network = small_city(street("Straight", "0", B, C), street("Bow", "0", B, bow, C))
    assert network.data.edge_index.tolist() == [[0, 0, 1, 1], [1, 1, 0, 0]]
    assert len(network.streets) == 2


def test_a_node_on_a_border_or_outside_has_the_nearest_neighbourhood(small_city):
    border, outside = (-71.10, 42.365), (-71.08, 42.365)
    network = small_city(street("One", "0", A, border), street("Two", "0", border, outside))
    by_x = network.nodes.assign(x=network.nodes.geometry.x).sort_values("x")["neighbourhood"].tolist()
    assert by_x[0] == "West"
    assert by_x[1] in {"West", "East"}
    assert by_x[2] == "East"


# --- where it comes from ------------------------------------------------------------------------------------


def test_without_data_and_network_the_standin_announces_itself(monkeypatch, tmp_path):
    monkeypatch.delenv("COURSE_DATA_DIR", raising=False)
    monkeypatch.setenv("COURSE_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("COURSE_STRICT_DATA", raising=False)
    with pytest.warns(StandInWarning, match="cambridge"):
        network = load_cambridge()
    assert network.is_standin
    assert "cambridge" in _store.standins_in_use()


@pytest.mark.parametrize("how", [{"missing": "error"}, {"source": "city"}])
def test_without_data_and_network_an_error_if_asked(monkeypatch, tmp_path, how):
    monkeypatch.delenv("COURSE_DATA_DIR", raising=False)
    monkeypatch.setenv("COURSE_CACHE_DIR", str(tmp_path))
    with pytest.raises(DatasetUnavailableError, match="data fetch cambridge"):
        load_cambridge(**how)


def test_an_unknown_source_is_an_error_that_names_the_sources():
    with pytest.raises(
        ValueError, match="source='google' is unknown; take 'auto', 'city', 'osm' or 'standin'"
    ):
        load_cambridge(source="google")


def test_loading_leaves_the_shared_folder_as_it_was(roads):
    folder = os.environ.get("COURSE_DATA_DIR")
    shared = _store.shared_folder()
    before = {path: path.stat().st_mtime_ns for path in shared.rglob("*")} if folder else {}
    load_cambridge(source="standin" if roads.is_standin else "city")
    after = {path: path.stat().st_mtime_ns for path in shared.rglob("*")} if folder else {}
    assert before == after
    assert isinstance(roads.nodes, gpd.GeoDataFrame)
