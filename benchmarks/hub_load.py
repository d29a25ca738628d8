"""What a class costs a hub: students who run the same notebook at the same time, against one shared data folder.

Run `python benchmarks/hub_load.py`, with `--students 1 30` for other numbers of students, or with `--quick` for a
short notebook. Each student has what a hub would give: a process with its own kernel, a home that is empty at first
(so libraries build their caches in it, as on the first day), and a copy of the notebook in it. All share the folder
with the data, which is read-only and must be as it was afterwards. Limits are not set: eight students on two cores
start sixteen threads. Processor seconds are the median over students; memory is that of the largest kernel.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import resource
import shutil
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
STREETS = "04_node2vec_cambridge"
LAYERS = "07_how_many_layers"
START = "00_start_here"


class Visit(NamedTuple):
    """How one student fared."""

    processor_seconds: float
    peak_bytes: int
    failure: str


def visit(home: Path, name: str, data: Path) -> Visit:
    """Run a notebook as one student; this is a process of its own, which the kernel takes its variables from."""
    os.environ.update(HOME=str(home), COURSE_DATA_DIR=str(data), TQDM_DISABLE="1")
    os.environ.pop("COURSE_CACHE_DIR", None)
    import nbformat

    from course_utils._execute import execute

    folder = home / "notebooks"
    shutil.copytree(ROOT / "notebooks", folder, ignore=shutil.ignore_patterns(".*"))
    done = execute(nbformat.read(folder / f"{name}.ipynb", as_version=4), folder)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)  # the kernel's, which has ended
    return Visit(used.ru_utime + used.ru_stime, done.peak_bytes, done.failure)


def shared_data(folder: Path) -> Path:
    """Copy the real data, if there are any, into a folder that cannot be written to."""
    real = os.environ.get("COURSE_DATA_DIR")
    if real:
        shutil.copytree(real, folder)
    else:
        folder.mkdir()
    for path in [*folder.rglob("*"), folder]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    return folder


def snapshot(folder: Path) -> list[tuple[Path, int, str]]:
    """Return path, time and hash of everything in a folder: root may write whatever the mode says."""
    return [
        (
            path,
            path.stat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
        )
        for path in sorted([folder, *folder.rglob("*")])
    ]


def run_class(name: str, students: int, data: Path, folder: Path) -> tuple[list[Visit], float]:
    """Let so many students run a notebook at once; return how each fared and the seconds until the last is done."""
    homes = [folder / f"{name}-{students}-{number}" for number in range(students)]
    begin = time.perf_counter()
    with ProcessPoolExecutor(students, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        visits = list(pool.map(visit, homes, [name] * students, [data] * students))
    return visits, time.perf_counter() - begin


def rows(plan: dict[str, list[int]], data: Path, folder: Path) -> Iterator[str]:
    """Measure, and yield the rows of the table one by one."""
    for name, classes in plan.items():
        for students in classes:
            visits, seconds = run_class(name, students, data, folder)
            failures = [done.failure for done in visits if done.failure]
            if failures:
                sys.exit(f"{name}, {students} at once: {len(failures)} failed. The first: {failures[0]}")
            used = median(done.processor_seconds for done in visits)
            most = max(done.peak_bytes for done in visits) / 2**20
            yield f"| {name} | {students} | {used:.0f} | {seconds:.0f} | {most:.0f} |"


def main() -> None:
    """Print the table; fail if a student fails or if the shared folder changes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a short notebook, few students")
    parser.add_argument("--students", type=int, nargs="+", metavar="N", help="how many at once")
    options = parser.parse_args()
    plan = {START: [1, 2]} if options.quick else {STREETS: [1, 4, 8], LAYERS: [1, 4, 8]}
    if options.students:
        plan = dict.fromkeys(plan, options.students)
    memory = psutil.virtual_memory().total / 2**30
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GB, Python {platform.python_version()}"
    )
    print(
        "\n| notebook | students at once | processor s each | s until all are done | peak memory each, MB |"
    )
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = shared_data(folder / "data")
        before = snapshot(data)
        for row in rows(plan, data, folder):
            print(row, flush=True)
        if snapshot(data) != before:
            sys.exit("The shared data folder has changed.")
    print("\nThe shared data folder is as it was.")


if __name__ == "__main__":
    main()
