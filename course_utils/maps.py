"""Maps of a road network, over tiles from the internet or over layers that are always there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import matplotlib.pyplot as plt
import numpy as np

from course_utils.plotting import category_style, set_title, write_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike, NDArray

    from course_utils.datasets import RoadNetwork

WATER, PARK, LAND, STREET = "#cfe3ee", "#dfeed6", "#f7f6f2", "#9a9a9a"
MARGIN = 200  # Metres around the network.
USER_AGENT = {"user-agent": "graph-ml-course (a course on graph machine learning)"}


def plot_roads(
    network: RoadNetwork,
    *,
    values: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    label: str = "",
    title: str = "",
    ax: Axes | None = None,
    node_size: float = 7,
    bounds: tuple[float, float, float, float] | None = None,
    tiles: bool = False,
) -> Axes:
    """Draw streets and intersections on a map.

    Parameters
    ----------
    network
        What to draw.
    values
        (N,) numbers, one a node: drawn as a colour scale.
    groups
        N names, one a node: drawn as colours and shapes, each name written at a node in their middle.
    label
        What `values` are, with their unit.
    title
        Says "(stand-in)" after it where the city is made up.
    node_size
        In points squared; 0 draws the streets alone.
    bounds
        West, south, east and north edge of the map in the network's projection; the whole network by default.
    tiles
        Ask the internet for a base map (see `add_basemap`).

    Raises
    ------
    ValueError
        If there is not one value, or one name, a node, or if both are given.
    """
    _check_per_node(network, values, groups)
    ax = ax or plt.subplots(figsize=(8.5, 7))[1]
    network.streets.plot(ax=ax, color=STREET, linewidth=0.7, zorder=2)
    x, y = network.nodes.geometry.x, network.nodes.geometry.y
    if groups is not None:
        _draw_groups(ax, np.stack([x, y], axis=1), np.asarray(groups), node_size)
    elif node_size:
        drawn = ax.scatter(x, y, s=node_size, c="C0" if values is None else values, linewidth=0, zorder=3)
        if values is not None:
            ax.figure.colorbar(drawn, ax=ax, label=label, shrink=0.6, pad=0.01)
    west, south, east, north = bounds or network.streets.buffer(MARGIN).total_bounds
    ax.set(xlim=(west, east), ylim=(south, north), aspect="equal")
    ax.set_axis_off()
    add_basemap(ax, network, tiles=tiles)
    _draw_scale(ax)
    if title:
        set_title(ax, title, network)
    return ax


def add_basemap(
    ax: Axes, network: RoadNetwork, *, tiles: bool = False, source: object = None, timeout: float = 5.0
) -> Literal["tiles", "layers", "plain"]:
    """Put a map under what is drawn: tiles when asked for and reachable, else the network's own layers.

    It never raises for want of a network: it says what it drew, and prints why there are no tiles.

    Parameters
    ----------
    ax
        Axes in the network's projection, with their limits set.
    network
        Gives projection, layers and attribution.
    tiles
        Whether to ask a tile server. A class behind one address looks like one abuser: leave it off in class.
    source
        What contextily takes: a provider, a URL with ``{z}/{x}/{y}`` or a local raster. OpenStreetMap by default.
    timeout
        Seconds to wait for the tile server.
    """
    if tiles and _add_tiles(ax, network, source, timeout):
        return "tiles"
    limits = ax.axis()
    drawn = False
    ax.set_facecolor(LAND)
    for layer, color in ((network.boundary, LAND), (network.parks, PARK), (network.water, WATER)):
        if len(layer):
            layer.plot(ax=ax, color=color, linewidth=0, zorder=0)
            drawn = True
    if len(network.neighbourhoods):
        network.neighbourhoods.boundary.plot(ax=ax, color="#555555", linewidth=0.6, linestyle=":", zorder=1)
    ax.axis(limits)
    _write_attribution(ax, network.attribution)
    return "layers" if drawn else "plain"


def _add_tiles(ax: Axes, network: RoadNetwork, source: object, timeout: float) -> bool:
    import contextily
    import requests
    from PIL import UnidentifiedImageError

    source = source or contextily.providers.OpenStreetMap.Mapnik
    try:
        contextily.add_basemap(
            ax, crs=network.nodes.crs, source=source, timeout=timeout, headers=USER_AGENT, attribution=""
        )
    except (requests.RequestException, UnidentifiedImageError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        print(f"No map tiles ({reason[:120]}). Drawing the local layers instead.")  # noqa: T201 (the fallback announces itself)
        return False
    # Contextily adds no attribution for a URL or a local file, so all of it is written here.
    provider = source.get("attribution", "") if isinstance(source, dict) else ""  # A TileProvider is a dict.
    _write_attribution(ax, " · ".join(filter(None, [network.attribution, provider])))
    return True


def _check_per_node(network: RoadNetwork, values: ArrayLike | None, groups: ArrayLike | None) -> None:
    if values is not None and groups is not None:
        msg = "Give values (a colour scale) or groups (named colours), not both."
        raise ValueError(msg)
    for name, given in (("values", values), ("groups", groups)):
        shape = None if given is None else np.asarray(given).shape
        if shape not in {None, (len(network.nodes),)}:
            msg = f"{name} must be one a node, shape ({len(network.nodes)},); its shape is {shape}."
            raise ValueError(msg)


def _draw_groups(ax: Axes, xy: NDArray[Any], groups: NDArray[Any], node_size: float) -> None:
    names = np.unique(groups)
    for i, name in enumerate(names):
        x, y = xy[groups == name].T
        ax.scatter(x, y, s=1.8 * node_size, linewidth=0, zorder=3, **category_style(i))
    for name in names:
        members = xy[groups == name]
        # At a member, not at the median itself: that may lie in another group, or in the river.
        middle = np.linalg.norm(members - np.median(members, axis=0), axis=1).argmin()
        write_label(ax, str(name), members[middle])


def _draw_scale(ax: Axes) -> None:
    """Draw a bar of a round length, about a seventh of the map's width, in the lower left corner."""
    west, east, south, north = ax.axis()
    length = max(step for step in (50, 100, 200, 500, 1000, 2000) if step <= max(50, (east - west) / 6))
    x, y = west + 0.02 * (east - west), south + 0.04 * (north - south)
    ax.plot([x, x + length], [y, y], color="black", linewidth=2, solid_capstyle="butt", zorder=5)
    text = f"{length // 1000} km" if length >= 1000 else f"{length} m"  # noqa: PLR2004 (metres in a kilometre)
    ax.text(
        x + length / 2,
        y + 0.012 * (north - south),
        text,
        ha="center",
        va="bottom",
        fontsize="small",
        zorder=5,
    )


def _write_attribution(ax: Axes, text: str) -> None:
    """Write the source under the map, where it covers nothing."""
    ax.text(
        1, -0.01, text, transform=ax.transAxes, ha="right", va="top", fontsize=7, color="#444444", zorder=7
    )
