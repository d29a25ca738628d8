"""``python -m course_utils data``: which data are here, fetch them, check them, make the stand-ins."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from course_utils import _store

if TYPE_CHECKING:
    import argparse

OSM = "cambridge-osm"


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command ``data`` and its four subcommands to the parser's `commands`."""
    parser = commands.add_parser("data", help="see, fetch and check the course's data")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    status = actions.add_parser("status", help="say where each data set comes from, without downloading")
    status.set_defaults(func=_status)
    fetch = actions.add_parser("fetch", help="download data sets into the cache")
    registry = _store.registry()
    usual = [name for name, dataset in registry.items() if not dataset.on_request]
    fetch.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        default=usual,
        help=f"{', '.join([*registry, OSM])}; without a name {' and '.join(usual)}",
    )
    fetch.set_defaults(func=_fetch)
    verify = actions.add_parser("verify", help="compare the hash of every file that is here")
    verify.set_defaults(func=_verify)
    standins = actions.add_parser("standins", help="generate data/standin again")
    standins.set_defaults(func=_standins)


def _status(_: argparse.Namespace) -> int:
    print(f"{'data set':12}{'from':10}{'files':8}{'hash':20}folder")
    for state in _store.status():
        folders = sorted({str(copy.folder) for copy in state.found.values()})
        if state.wrong:
            hashed = "wrong, see below"
        elif not state.found:
            hashed = "-"
        else:
            hashed = "ok" if all(file.sha256 for file in state.dataset.files) else "no published hash"
        files = f"{len(state.found)}/{len(state.dataset.files)}"
        print(f"{state.dataset.name:12}{state.origin:10}{files:8}{hashed:20}{', '.join(folders) or '-'}")
        for copy in state.wrong:
            print(f"  {copy.path}: {copy.fault}")
    return 0


def _fetch(options: argparse.Namespace) -> int:
    failures = 0
    for name in options.names:
        try:
            print(f"{name}: {_fetch_one(name)}")
        except (_store.DatasetUnavailableError, ValueError) as error:
            print(error, file=sys.stderr)
            failures += 1
    return 1 if failures else 0


def _fetch_one(name: str) -> str:
    """Fetch one data set and say in a few words where it is now."""
    if name == OSM:
        from course_utils import _osm

        return str(_osm.fetch_cambridge_osm())
    files = _store.obtain(name, missing="error")
    state = "hash ok" if all(file.sha256 for file in _store.registered(name).files) else "no published hash"
    if files.origin == "download" and not (_store.cache_folder() / next(iter(files.paths))).is_file():
        msg = f"{name}: downloaded, but {_store.cache_folder()} cannot keep it. Set COURSE_CACHE_DIR."
        raise _store.DatasetUnavailableError(msg)
    folders = sorted({str(path.parent) for path in files.paths.values()})
    return f"{len(files.paths)} file(s) in {', '.join(folders)} ({files.origin}, {state})"


def _verify(_: argparse.Namespace) -> int:
    shared = _store.shared_folder()
    faulty = shared is not None and not shared.is_dir()
    if faulty:
        print(f"COURSE_DATA_DIR names {shared}, which is no folder.", file=sys.stderr)
    for dataset in _store.registry().values():
        for file in dataset.files:
            for copy in _store.copies(file):
                if copy.fault in {_store.MISSING, _store.NO_FOLDER}:
                    continue
                if not copy.fault:
                    print(f"{'ok' if file.sha256 else 'no published hash':18}{copy.path}")
                    continue
                faulty = True
                mend = f"Run `python -m course_utils data fetch {dataset.name}`."
                if copy.origin == "shared":
                    mend = f"Replace it with the file from {file.url}."
                print(f"{copy.path}: {copy.fault}. {mend}", file=sys.stderr)
    return 1 if faulty else 0


def _standins(_: argparse.Namespace) -> int:
    from course_utils import _standin_citations, _standin_streets

    folder = _store.data_folder() / "standin"
    for module in (_standin_streets, _standin_citations):
        module.write_standin(folder)
    print(f"Stand-ins written to {folder}.")
    return 0
