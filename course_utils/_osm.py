"""Cambridge's streets from OpenStreetMap: asked for once, politely, and kept as one GraphML file."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from course_utils import _store
from course_utils._download import is_online
from course_utils._store import DatasetUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import networkx as nx
    import requests

PLACE = "Cambridge, Massachusetts, United States"
KEY = "cambridge-osm/cambridge.graphml"
ATTRIBUTION = "© OpenStreetMap contributors, ODbL 1.0"
USER_AGENT = "graph-ml-course (a course on graph machine learning; one cached query for one city)"
MEND = (
    "Ask your instructor for the file, or put one saved elsewhere at $COURSE_DATA_DIR/" + KEY + ". "
    "The city's own streets need no query: load_cambridge()."
)


def load_osm_graph() -> nx.MultiDiGraph[int]:
    """Load Cambridge's drivable streets as OpenStreetMap has them, from the saved file or, failing that, a query.

    Raises
    ------
    DatasetUnavailableError
        If the saved file is not a street graph, or there is none and the query fails.
    """
    saved = _store.locate_extra(KEY)
    return _read_graphml(saved or fetch_cambridge_osm())


def fetch_cambridge_osm() -> Path:
    """Query OpenStreetMap's public servers once and save the answer, for everyone who shares the cache.

    Returns
    -------
    Path
        The GraphML file in the cache folder.

    Raises
    ------
    DatasetUnavailableError
        If the servers cannot be reached, are busy (HTTP 429 or 504), or answer with something else.
    """
    import osmnx as ox
    import requests

    # Asked first because OSMnx waits a minute for a server that it cannot reach.
    if not is_online(ox.settings.nominatim_url):
        msg = f"OpenStreetMap could not be asked for the streets of {PLACE!r}: no network. {MEND}"
        raise DatasetUnavailableError(msg)
    try:
        with _polite_settings(ox):
            graph = ox.graph_from_place(PLACE, network_type="drive")
    except (requests.RequestException, ValueError, KeyError, TypeError) as error:
        # OSMnx's own errors are ValueErrors; an answer that is JSON but not Overpass's raises the other two.
        msg = f"OpenStreetMap could not be asked for the streets of {PLACE!r}: {error}. {MEND}"
        raise DatasetUnavailableError(msg) from error
    target = _store.writable_cache_folder() / KEY
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        partial = Path(folder) / target.name
        ox.save_graphml(graph, partial)
        partial.chmod(0o644)
        partial.replace(target)  # In one step: nobody ever reads half a graph.
    return target


def _read_graphml(path: Path) -> nx.MultiDiGraph[int]:
    from xml.etree.ElementTree import ParseError

    import networkx as nx
    import osmnx as ox

    mend = f"Remove it and run: python -m course_utils data fetch cambridge-osm. {MEND}"
    try:
        graph = ox.load_graphml(path)
    except (ParseError, nx.NetworkXError, KeyError, ValueError, AttributeError) as error:
        msg = f"{path} is not a GraphML file that OSMnx wrote ({error}). {mend}"
        raise DatasetUnavailableError(msg) from error
    if not graph.number_of_edges() or "x" not in next(iter(graph.nodes.values()), {}):
        msg = f"{path} holds a graph without streets or without coordinates. {mend}"
        raise DatasetUnavailableError(msg)
    return graph


@contextmanager
def _polite_settings(ox: Any) -> Iterator[None]:
    """Name the course to the servers, bound the wait, and stop at the first sign that they are busy."""
    ours = {
        "http_user_agent": USER_AGENT,
        "http_referer": "",
        "requests_timeout": 60,
        "requests_kwargs": {"hooks": {"response": _stop_if_busy}},
        "use_cache": False,  # OSMnx would write ./cache; the GraphML is the cache.
    }
    before = {name: getattr(ox.settings, name) for name in ours}
    try:
        for name, value in ours.items():
            setattr(ox.settings, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(ox.settings, name, value)


def _stop_if_busy(response: requests.Response, *_: object, **__: object) -> None:
    """Raise where OSMnx would wait 55 s and ask again, without end."""
    import requests

    if response.status_code in {429, 504}:
        msg = f"the server is busy (HTTP {response.status_code}); try again in an hour"
        raise requests.HTTPError(msg, response=response)
