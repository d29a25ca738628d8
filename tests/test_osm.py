"""OpenStreetMap, asked politely: against a loopback server that answers as Nominatim and Overpass do, or not."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import osmnx as ox
import pytest

from course_utils import _download, _osm, _store, datasets
from course_utils.datasets import DatasetUnavailableError

STATUS = "Connected as: 1\nCurrent time: 2026-01-01T00:00:00Z\nRate limit: 2\n\n2 slots available now.\n"
SQUARE = [[-71.13, 42.36], [-71.08, 42.36], [-71.08, 42.39], [-71.13, 42.39], [-71.13, 42.36]]
PLACE = [
    {
        "place_id": 1, "osm_type": "relation", "osm_id": 2, "lat": "42.37", "lon": "-71.1", "class": "boundary",
        "type": "administrative", "display_name": "Cambridge", "importance": 0.7, "addresstype": "city",
        "name": "Cambridge", "place_rank": 16, "boundingbox": ["42.36", "42.39", "-71.13", "-71.08"],
        "geojson": {"type": "Polygon", "coordinates": [SQUARE]},
    }
]  # fmt: skip
CORNERS = {1: (-71.110, 42.370), 2: (-71.105, 42.370), 3: (-71.105, 42.375), 4: (-71.110, 42.375)}


def way(number, nodes, **tags):
    return {"type": "way", "id": number, "nodes": nodes, "tags": {"highway": "residential", **tags}}


STREETS = {
    "elements": [
        *({"type": "node", "id": n, "lon": x, "lat": y} for n, (x, y) in CORNERS.items()),
        way(10, [1, 2], name="South Street"),
        way(11, [2, 3], name="East Street", oneway="yes"),
        way(12, [3, 4], name="North Street"),
        way(13, [4, 1], name="West Street"),
        way(14, [1, 3], name="First Diagonal"),
        way(15, [2, 4], name="Second Diagonal"),
    ]
}


class Handler(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.reply(200, b"")

    def do_GET(self):
        self.server.agents.append(self.headers["User-Agent"])
        if self.path.startswith("/api/status"):
            self.reply(200, STATUS.encode())
        else:
            self.reply(200, json.dumps(PLACE).encode())

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.queries += 1
        self.reply(self.server.status, self.server.answer)

    def reply(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Keep the test's output clean."""


@pytest.fixture
def overpass(monkeypatch, tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.queries, server.agents = 0, []
    server.status, server.answer = 200, json.dumps(STREETS).encode()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(ox.settings, "nominatim_url", url)
    monkeypatch.setattr(ox.settings, "overpass_url", f"{url}/api")
    monkeypatch.setattr(_download, "_answered", {})
    monkeypatch.setenv("COURSE_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path / "shared"))
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_one_query_is_saved_and_serves_everyone(overpass, tmp_path):
    path = _osm.fetch_cambridge_osm()
    assert path == tmp_path / "cambridge-osm" / "cambridge.graphml"
    assert path.stat().st_mode & 0o044 == 0o044  # others who share the cache may read it
    assert overpass.queries == 1
    graph = _osm.load_osm_graph()
    assert overpass.queries == 1
    assert sorted(graph) == [1, 2, 3, 4]
    assert graph.number_of_edges() == 11  # five two-way streets and a one-way street
    assert sorted(p.name for p in path.parent.iterdir()) == ["cambridge.graphml"]


def test_the_course_names_itself_and_leaves_the_settings_alone(overpass):
    before = dict(vars(ox.settings))
    _osm.fetch_cambridge_osm()
    assert {agent for agent in overpass.agents if "graph-ml-course" not in agent} == set()
    assert overpass.agents
    assert dict(vars(ox.settings)) == before


@pytest.mark.parametrize("status", [429, 504])
def test_a_busy_server_is_asked_once(overpass, status):
    overpass.status = status
    with pytest.raises(
        DatasetUnavailableError, match=rf"the server is busy \(HTTP {status}\); try again in an hour"
    ):
        _osm.load_osm_graph()
    assert overpass.queries == 1


@pytest.mark.parametrize(
    "answer",
    [b"<html>Log in</html>", b"[]", b'{"elements": []}', b'{"remark": "runtime error"}', b"\x00\xff"],
)
def test_garbage_is_an_error_with_a_mend_and_nothing_is_saved(overpass, tmp_path, answer):
    overpass.answer = answer
    with pytest.raises(
        DatasetUnavailableError, match=r"OpenStreetMap could not be asked.*Ask your instructor"
    ):
        _osm.load_osm_graph()
    assert not list(tmp_path.rglob("*.graphml"))


def test_without_a_network_it_says_so_at_once(monkeypatch, tmp_path):
    monkeypatch.setattr(ox.settings, "nominatim_url", "http://127.0.0.1:9")
    monkeypatch.setattr(_download, "_answered", {})
    monkeypatch.setenv("COURSE_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path))
    with pytest.raises(DatasetUnavailableError, match="no network"):
        _osm.load_osm_graph()


@pytest.mark.parametrize(
    "text",
    [
        "<html><body>Log in</body></html>",
        "not xml at all",
        "",
        '<?xml version="1.0"?><graphml xmlns="http://graphml.graphdrawing.org/xmlns"></graphml>',
        (
            '<?xml version="1.0"?><graphml xmlns="http://graphml.graphdrawing.org/xmlns"><graph '
            'edgedefault="directed"><node id="0"/><node id="1"/><edge source="0" target="1"/></graph></graphml>'
        ),
    ],
    ids=["a web page", "text", "empty", "no graph", "no coordinates"],
)
def test_a_graphml_that_is_not_one_is_named_with_the_mend(monkeypatch, tmp_path, text):
    path = tmp_path / _osm.KEY
    path.parent.mkdir()
    path.write_text(text)
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path))
    with pytest.raises(DatasetUnavailableError, match=r"cambridge.graphml .* data fetch cambridge-osm"):
        _osm.load_osm_graph()


def test_the_network_from_openstreetmap(overpass, monkeypatch, tmp_path):
    """With the city's layers for the map; the stand-in's, here, so that the test needs no data."""
    monkeypatch.setattr(_store, "obtain", lambda name, **_: _store.obtain_standin(name))
    network = datasets.load_cambridge(source="osm")
    assert network.source == "osm"
    assert not network.is_standin
    assert "OpenStreetMap contributors" in network.attribution
    assert len(network.streets) == 6
    assert network.data.num_edges == 11
    assert sorted(network.graph.nodes(data="source_node")) == [(i, i + 1) for i in range(4)]
    assert overpass.queries == 1
    assert (tmp_path / "cambridge-osm").is_dir()
