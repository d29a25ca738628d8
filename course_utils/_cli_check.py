"""Is this machine ready for the course? (``python -m course_utils check``)."""

from __future__ import annotations

import platform
import sys
import tempfile
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING

from course_utils import _machine, _store

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

DISTRIBUTION = "graph-ml-course"
NEEDED_BYTES = 2**30  # Every notebook is held to 1 GB.


@dataclass(frozen=True)
class Answer:
    """One line of the report; a `mend` makes it a problem."""

    topic: str
    found: str
    mend: str = ""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command ``check`` to the parser's `commands`."""
    parser = commands.add_parser("check", help="is this machine ready for the course?")
    parser.set_defaults(func=_check)


def _check(_: argparse.Namespace) -> int:
    problems = 0
    for answer in answers():
        problems += bool(answer.mend)
        print(f"{'PROBLEM' if answer.mend else 'ok':8}{answer.topic:10}{answer.found}")
        if answer.mend:
            print(f"{'':18}Mend: {answer.mend}")
    print(f"\n{problems} problem{'s' * (problems != 1)}." if problems else "\nThis machine is ready.")
    return 1 if problems else 0


def answers() -> Iterator[Answer]:
    """Look at versions, cores, memory, device, cache, data and network, and yield one answer each."""
    yield _python()
    yield _versions()
    yield _cores()
    yield _memory()
    yield _device()
    yield _cache()
    yield from _data()
    online = _store.is_online()
    yield Answer(
        "network", "reachable" if online else "none; what is already here, and the stand-ins, are used"
    )


def _python() -> Answer:
    return Answer("python", f"{platform.python_version()}, {sys.prefix}")


def _versions() -> Answer:
    """Compare what is installed with the pins, as the package's own metadata carry them."""
    from packaging.requirements import Requirement

    pins = [Requirement(line) for line in metadata.requires(DISTRIBUTION) or []]
    wrong, mends = [], []
    checked = [pin for pin in pins if pin.marker is None or pin.marker.evaluate({"extra": ""})]
    for pin in checked:
        try:
            installed = metadata.version(pin.name)
        except metadata.PackageNotFoundError:
            installed = "missing"
        if installed == "missing" or not pin.specifier.contains(installed, prereleases=True):
            wrong.append(f"{pin.name} {installed} (pinned {pin.specifier})")
            mends.append(f"'{pin.name}{pin.specifier}'")
    if wrong:
        return Answer("versions", ", ".join(wrong), f"python -m pip install {' '.join(mends)}")
    return Answer("versions", f"all {len(checked)} packages as pinned")


def _cores() -> Answer:
    import os

    cores, visible = _machine.available_cores(), os.cpu_count()
    limited = (
        f" (a quota; {visible} are visible, and the notebooks use {cores} threads)"
        if cores != visible
        else ""
    )
    return Answer("cores", f"{cores}{limited}")


def _memory() -> Answer:
    limit = _machine.memory_limit()
    found = f"{limit / 2**30:.1f} GB"
    if limit < NEEDED_BYTES:
        return Answer(
            "memory", found, "A notebook may take 1 GB: ask for a larger server, or close other kernels."
        )
    return Answer("memory", found)


def _device() -> Answer:
    import torch

    if torch.cuda.is_available():
        return Answer(
            "device",
            f"{torch.cuda.get_device_name(0)} (CUDA {torch.version.cuda}); not needed, used if asked",
        )
    return Answer("device", "CPU; nothing in this course needs a GPU")


def _cache() -> Answer:
    folder = _store.cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Answer(
            "cache",
            f"{folder} cannot be written ({error.strerror})",
            "Set COURSE_CACHE_DIR to a folder of yours; without one, downloads are lost at the end.",
        )
    return Answer("cache", f"{folder}, writable")


def _data() -> Iterator[Answer]:
    """Say where each data set would come from; a file that is there and wrong is a problem, none is not."""
    folder = _store.shared_folder()
    if folder is not None and not folder.is_dir():
        mend = "Correct the variable, or unset it to use the cache and the network."
        yield Answer("data", f"COURSE_DATA_DIR names {folder}, which is no folder", mend)
    for state in _store.status():
        name = state.dataset.name
        for copy in state.wrong:
            mend = "Replace it." if copy.origin == "shared" else f"python -m course_utils data fetch {name}"
            yield Answer("data", f"{copy.path}: {copy.fault}", mend)
        where = {"shared": f"real, {folder}", "cache": f"real, {_store.cache_folder()}"}.get(
            state.origin, f"stand-in until fetched (python -m course_utils data fetch {name})"
        )
        hashed = ", hashes ok" if state.origin != "standin" else ""
        yield Answer("data", f"{name}: {where}{hashed}")
