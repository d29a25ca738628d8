"""Maps: over tiles from a real server on loopback, over local layers, and never an error for want of a network."""

import io
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from course_utils.maps import WATER, add_basemap, plot_roads

RED = (200, 30, 30)


class TileHandler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append((self.path, self.headers["User-Agent"]))
        body = self.server.body
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Keep the test's output clean."""


@pytest.fixture
def tile_server():
    tile = io.BytesIO()
    Image.new("RGB", (256, 256), RED).save(tile, "PNG")
    server = ThreadingHTTPServer(("127.0.0.1", 0), TileHandler)
    server.body, server.status, server.requests = tile.getvalue(), 200, []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{server.server_port}/{{z}}/{{x}}/{{y}}.png"
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def texts(ax):
    return " | ".join(text.get_text() for text in ax.texts)


def pixels(ax):
    ax.figure.canvas.draw()
    return np.asarray(ax.figure.canvas.buffer_rgba())[..., :3]


def share_of(ax, color):
    return np.isclose(pixels(ax) / 255, to_rgb(color), atol=0.03).all(-1).mean()


def empty_map(network):
    ax = plt.subplots()[1]
    west, south, east, north = network.streets.total_bounds
    ax.set(xlim=(west, east), ylim=(south, north))
    return ax


def test_tiles_are_drawn_when_asked_for_and_reachable(standin_roads, tile_server):
    ax = empty_map(standin_roads)
    assert add_basemap(ax, standin_roads, tiles=True, source=tile_server.url) == "tiles"
    assert share_of(ax, [c / 255 for c in RED]) > 0.3
    assert tile_server.requests
    assert all("graph-ml-course" in agent for _, agent in tile_server.requests)


def test_tiles_carry_the_attribution_of_streets_and_provider(standin_roads, tile_server):
    ax = empty_map(standin_roads)
    from xyzservices import TileProvider

    provider = TileProvider(name="Loopback", url=tile_server.url, attribution="Tiles by Loopback")
    assert add_basemap(ax, standin_roads, tiles=True, source=provider) == "tiles"
    assert "Tiles by Loopback" in texts(ax)
    assert standin_roads.attribution in texts(ax)


@pytest.mark.parametrize("fault", ["refused", "404", "503", "not an image"])
def test_without_tiles_the_local_layers_are_drawn_and_it_is_said(standin_roads, tile_server, capsys, fault):
    source = tile_server.url
    if fault == "refused":
        source = "http://127.0.0.1:9/{z}/{x}/{y}.png"
    elif fault == "not an image":
        tile_server.body = b"<html>Log in first</html>"
    else:
        tile_server.status = int(fault)
    ax = empty_map(standin_roads)
    assert add_basemap(ax, standin_roads, tiles=True, source=source) == "layers"
    assert "Drawing the local layers instead" in capsys.readouterr().out
    assert share_of(ax, WATER) > 0.01


def test_no_tiles_are_asked_for_by_default(standin_roads, tile_server):
    ax = empty_map(standin_roads)
    assert add_basemap(ax, standin_roads, source=tile_server.url) == "layers"
    assert not tile_server.requests


def test_a_network_without_layers_gets_a_plain_ground(standin_roads):
    import dataclasses

    bare = dataclasses.replace(
        standin_roads,
        **{
            name: getattr(standin_roads, name).iloc[:0]
            for name in ("water", "parks", "boundary", "neighbourhoods")
        },
    )
    assert add_basemap(empty_map(bare), bare) == "plain"


def test_a_basemap_keeps_the_limits(standin_roads):
    ax = empty_map(standin_roads)
    limits = ax.axis()
    add_basemap(ax, standin_roads)
    assert ax.axis() == limits


def test_every_group_is_named_and_has_a_style_of_its_own(roads):
    ax = plot_roads(roads, groups=roads.nodes["neighbourhood"], title="Neighbourhoods")
    labels = texts(ax).replace("-\n", "-").replace("\n", " ")  # long names take two lines
    for name in roads.nodes["neighbourhood"].unique():
        assert name in labels
    drawn = [c for c in ax.collections if len(c.get_offsets()) > 1 and c.get_paths()]
    styles = {
        (tuple(c.get_facecolor()[0]), len(c.get_paths()[0].vertices))
        for c in drawn
        if len(c.get_facecolor()) == 1
    }
    assert len(styles) >= 13


def test_a_standin_says_so_in_the_title(standin_roads):
    ax = plot_roads(standin_roads, title="Streets")
    assert ax.get_title() == "Streets (stand-in)"


def test_values_get_a_labelled_colour_bar(standin_roads):
    ax = plot_roads(standin_roads, values=standin_roads.nodes["street_count"], label="streets that meet")
    assert [other.get_ylabel() for other in ax.figure.axes if other is not ax] == ["streets that meet"]


def test_the_map_has_a_scale_and_equal_axes(standin_roads):
    ax = plot_roads(standin_roads)
    assert "1 km" in texts(ax)
    assert ax.get_aspect() == 1
    bar = next(line for line in ax.lines if len(line.get_xdata()) == 2)
    assert np.ptp(bar.get_xdata()) == pytest.approx(1000)


@pytest.mark.parametrize("name", ["values", "groups"])
def test_one_value_a_node_or_an_error(standin_roads, name):
    with pytest.raises(
        ValueError, match=rf"{name} must be one a node, shape \({len(standin_roads.nodes)},\)"
    ):
        plot_roads(standin_roads, **{name: [1, 2, 3]})


def test_values_and_groups_together_are_an_error(standin_roads):
    both = standin_roads.nodes["street_count"]
    with pytest.raises(ValueError, match="not both"):
        plot_roads(standin_roads, values=both, groups=both)
