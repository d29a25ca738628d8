"""Where a data file comes from: a shared folder, the user's cache, a download, or a stand-in.

One place decides, in that order, and checks the sha256 of `data/registry.toml` at every step. Four
variables steer it: `COURSE_DATA_DIR` (a shared folder, never written to), `COURSE_CACHE_DIR`,
`COURSE_DATA_URL` (a mirror, and then the only server asked) and `COURSE_STRICT_DATA` (1: no stand-ins).
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from course_utils import _download
from course_utils._download import PROBE_SECONDS, DownloadError
from course_utils._folders import (
    cache_folder,
    data_folder,
    locate_extra,
    places,
    shared_folder,
    writable_cache_folder,
)
from course_utils._registry import MISSING, DataFile, Dataset, find_fault, read_registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from course_utils._folders import Origin

__all__ = [
    "MISSING",
    "NO_FOLDER",
    "PROBE_SECONDS",
    "Copy",
    "DataFile",
    "Dataset",
    "DatasetFiles",
    "DatasetStatus",
    "DatasetUnavailableError",
    "StandInWarning",
    "cache_folder",
    "copies",
    "data_folder",
    "is_online",
    "locate_extra",
    "obtain",
    "obtain_standin",
    "registered",
    "registry",
    "shared_folder",
    "sources_in_use",
    "standins_in_use",
    "status",
    "writable_cache_folder",
]

NO_FOLDER = "no such folder"

_NEAREST_FIRST: tuple[Origin, ...] = ("shared", "cache", "download", "standin")
_FILE_SECONDS = 60.0
_SLOWEST = 50_000  # bytes per second below which a download is given up
_SIZE_GUESS = 25_000_000  # bytes, for the time allowed where the size is unknown

_in_use: dict[str, DatasetFiles] = {}


class DatasetUnavailableError(RuntimeError):
    """A data set is nowhere to be had; the message names the places searched and the mend."""


class StandInWarning(UserWarning):
    """Made-up data take the place of a data set that could not be had."""


@dataclass(frozen=True)
class DatasetFiles:
    """The files of a data set by key: all of them real and verified, or all of them stand-ins.

    `origin` is the farthest place that one of them came from.
    """

    name: str
    paths: dict[str, Path]
    origin: Origin
    is_standin: bool


@dataclass(frozen=True)
class Copy:
    """A place where a file may be, and what is wrong with it there ("" if nothing)."""

    origin: Origin
    folder: Path
    path: Path
    fault: str


@dataclass(frozen=True)
class DatasetStatus:
    """Where a data set would come from without a download.

    `found` maps the keys of files to verified copies, `wrong` holds the copies that are there and faulty.
    """

    dataset: Dataset
    origin: Origin
    found: dict[str, Copy]
    wrong: tuple[Copy, ...]


def registry() -> dict[str, Dataset]:
    """Return the registered data sets by name."""
    return read_registry(data_folder() / "registry.toml")


def registered(name: str) -> Dataset:
    """Return one data set of the registry.

    Raises
    ------
    ValueError
        If there is none of that name.
    """
    known = registry()
    if name not in known:
        msg = f"There is no data set {name!r}; there are {', '.join(known)}."
        raise ValueError(msg)
    return known[name]


def obtain(name: str, *, missing: Literal["standin", "error"] = "standin") -> DatasetFiles:
    """Find the files of a data set, downloading them if need be.

    Parameters
    ----------
    name
        A name of the registry: "cambridge", "cora", "cora-full".
    missing
        What to do when the real files cannot be had: take the "standin" with a `StandInWarning`, or
        raise an "error". `COURSE_STRICT_DATA=1` always raises.

    Raises
    ------
    DatasetUnavailableError
        If the real files cannot be had and no stand-in is wanted, or the stand-in is not there either.
    ValueError
        If `name` or `missing` is unknown.
    """
    if missing not in {"standin", "error"}:
        msg = f"missing={missing!r} is unknown; take 'standin' or 'error'."
        raise ValueError(msg)
    dataset = registered(name)
    try:
        files = _real_files(dataset)
    except DatasetUnavailableError as error:
        if missing == "error" or os.environ.get("COURSE_STRICT_DATA", "0") not in {"", "0"}:
            raise
        files = obtain_standin(name)
        text = f"Stand-in for {name!r}: made-up data that only resemble it.\n{error}"
        warnings.warn(text, StandInWarning, stacklevel=3)  # Points at the caller of the public loader.
    _in_use[name] = files
    return files


def obtain_standin(name: str) -> DatasetFiles:
    """Return the stand-in of a data set, without a warning, for those who ask for it.

    Raises
    ------
    DatasetUnavailableError
        If its files are not there.
    """
    paths = {key: data_folder() / "standin" / key for key in registered(name).standin}
    for path in paths.values():
        if not path.is_file():
            msg = f"The stand-in {path} is missing. Make it with `python -m course_utils data standins`."
            raise DatasetUnavailableError(msg)
    _in_use[name] = DatasetFiles(name, paths, "standin", is_standin=True)
    return _in_use[name]


def sources_in_use() -> dict[str, DatasetFiles]:
    """Return the data sets that this process has loaded, as they were last loaded."""
    return dict(_in_use)


def standins_in_use() -> tuple[str, ...]:
    """Return the names of the data sets that this process has loaded as stand-ins."""
    return tuple(name for name, files in _in_use.items() if files.is_standin)


def copies(file: DataFile) -> Iterator[Copy]:
    """Look for a file in the shared folder and then in the cache, and check its hash."""
    for origin, folder in places():
        path = folder / file.key
        fault = find_fault(path, file)
        if fault == MISSING and origin == "shared" and not folder.is_dir():
            fault = NO_FOLDER
        yield Copy(origin, folder, path, fault)


def status() -> list[DatasetStatus]:
    """Say for each data set where it would come from, without downloading anything."""
    result = []
    for dataset in registry().values():
        found, looked = _look(dataset)
        origins: list[Origin] = [copy.origin for copy in found.values()]
        origin = _farthest(origins) if len(origins) == len(dataset.files) else "standin"
        wrong = tuple(c for seen in looked.values() for c in seen if c.fault not in {"", MISSING, NO_FOLDER})
        result.append(DatasetStatus(dataset, origin, found, wrong))
    return result


def is_online() -> bool:
    """Tell within 3 seconds whether the mirror, or else the source of the data, answers."""
    return _download.is_online(_address(next(iter(registry().values())).files[0]))


def _look(dataset: Dataset) -> tuple[dict[str, Copy], dict[str, list[Copy]]]:
    """Return the first verified copy of each file, and all places looked at up to there."""
    found: dict[str, Copy] = {}
    looked: dict[str, list[Copy]] = {}
    for file in dataset.files:
        looked[file.key] = []
        for copy in copies(file):
            looked[file.key].append(copy)
            if not copy.fault:
                found[file.key] = copy
                break
    return found, looked


def _real_files(dataset: Dataset) -> DatasetFiles:
    found, looked = _look(dataset)
    for seen in looked.values():
        if seen[0].origin == "shared" and seen[0].fault not in {"", MISSING, NO_FOLDER}:
            text = f"{seen[0].path} (COURSE_DATA_DIR) is passed over: {seen[0].fault}. It should be replaced."
            warnings.warn(text, stacklevel=4)
    paths: dict[str, Path] = {}
    origins: list[Origin] = []
    for file in dataset.files:
        if file.key in found:
            paths[file.key] = found[file.key].path
            origins.append(found[file.key].origin)
            continue
        try:
            paths[file.key] = _fetch(file)
        except (DownloadError, OSError) as error:
            wanting = len(dataset.files) - len(found)
            what = file.key if wanting == 1 else f"{file.key} (one of {wanting} that are not here)"
            msg = (
                f"The data set {dataset.name!r} is not available: {what} could not be had.\n"
                f"{_places_searched(file, looked[file.key], error)}\n"
                f"To mend it, run `python -m course_utils data fetch {dataset.name}` where there is a "
                "network, or set COURSE_DATA_DIR to a folder with the files, or COURSE_DATA_URL to a mirror, "
                "and restart Python."
            )
            raise DatasetUnavailableError(msg) from None
        origins.append("download")
    return DatasetFiles(dataset.name, paths, _farthest(origins), is_standin=False)


def _fetch(file: DataFile) -> Path:
    """Download a file into the cache, replacing what is there in one step."""
    url = _address(file)
    if not url.startswith(("http://", "https://")):
        msg = "not an http:// or https:// address"
        raise DownloadError(msg)
    if not _download.is_online(url):
        msg = "no network, or the server does not answer (asked once for this process)"
        raise DownloadError(msg)
    target = writable_cache_folder() / file.key
    seconds = _FILE_SECONDS + (file.size or _SIZE_GUESS) / _SLOWEST
    _download.download(
        url, target, size=file.size, seconds=seconds, check=lambda path: find_fault(path, file)
    )
    return target


def _address(file: DataFile) -> str:
    mirror = os.environ.get("COURSE_DATA_URL")
    return f"{mirror.rstrip('/')}/{file.key}" if mirror else file.url


def _places_searched(file: DataFile, looked: list[Copy], error: Exception) -> str:
    lines = [] if shared_folder() else ["COURSE_DATA_DIR: not set"]
    for copy in looked:
        place = "COURSE_DATA_DIR" if copy.origin == "shared" else "cache (COURSE_CACHE_DIR)"
        lines.append(f"{place} {copy.folder}: {copy.fault}")
    source = "mirror (COURSE_DATA_URL)" if os.environ.get("COURSE_DATA_URL") else "source"
    lines.append(f"{source} {_download.without_credentials(_address(file))}: {error}")
    return "\n".join(f"  {line}" for line in lines)


def _farthest(origins: list[Origin]) -> Origin:
    return max(origins, key=_NEAREST_FIRST.index)
