"""The data of the course, each with its provenance: real where they can be had, else an honest stand-in."""

from __future__ import annotations

from typing import Literal

from course_utils import _store, _streets
from course_utils._builtin import Corpus, load_les_miserables, load_python_docs
from course_utils._citations import load_cora
from course_utils._store import DatasetUnavailableError, StandInWarning
from course_utils._streets import RoadNetwork

__all__ = [
    "Corpus",
    "DatasetUnavailableError",
    "RoadNetwork",
    "StandInWarning",
    "load_cambridge",
    "load_cora",
    "load_les_miserables",
    "load_python_docs",
]

STANDIN_ATTRIBUTION = "A made-up city, generated for this course"


def load_cambridge(
    *,
    source: Literal["auto", "city", "osm", "standin"] = "auto",
    missing: Literal["standin", "error"] = "standin",
) -> RoadNetwork:
    """Load the streets of Cambridge, Massachusetts, as a graph.

    Parameters
    ----------
    source
        "auto" takes the city's open street data from the shared folder, the cache or the network, and the
        stand-in where there are none. "city" does the same and never takes the stand-in. "osm" takes the streets
        as OpenStreetMap has them: a saved GraphML, or else one query to its public servers, whose answer is
        saved. "standin" takes the made-up city even where the real one is at hand.
    missing
        Whether "auto" may take the "standin", or raises an "error". ``COURSE_STRICT_DATA=1`` always raises.

    Returns
    -------
    RoadNetwork
        Graph, tensors and map layers. `RoadNetwork.source` says which streets they are.

    Raises
    ------
    DatasetUnavailableError
        If the real streets are asked for and cannot be had; the message says what was tried and the mend.
    ValueError
        If `source` or `missing` is unknown.

    Warns
    -----
    StandInWarning
        If the stand-in takes the place of the city's data.
    """
    if source == "standin":
        return _from_city(_store.obtain_standin("cambridge"))
    if source == "osm":
        return _from_openstreetmap()
    if source not in {"auto", "city"}:
        msg = f"source={source!r} is unknown; take 'auto', 'city', 'osm' or 'standin'."
        raise ValueError(msg)
    return _from_city(_store.obtain("cambridge", missing="error" if source == "city" else missing))


def _from_city(files: _store.DatasetFiles) -> RoadNetwork:
    if files.is_standin:
        return _streets.from_layers(files.paths, source="standin", attribution=STANDIN_ATTRIBUTION)
    attribution = _store.registered("cambridge").attribution
    return _streets.from_layers(files.paths, source="city", attribution=attribution)


def _from_openstreetmap() -> RoadNetwork:
    from course_utils import _osm

    # The neighbourhoods and the layers under the map are the city's: OpenStreetMap's streets would be lost on
    # a made-up one.
    layers = _streets.read_map_layers(_store.obtain("cambridge", missing="error").paths)
    return _streets.from_graph(_osm.load_osm_graph(), layers, source="osm", attribution=_osm.ATTRIBUTION)
