"""What each notebook takes under the quick preset: time, processor time and memory, beside its budget.

Run `python benchmarks/course.py`, or with names or numbers of notebooks for only those.
"""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import nbformat
import torch

from course_utils import _execute
from course_utils._machine import available_cores
from course_utils.runtime import data_line, preset

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"


def main() -> None:
    """Print a table."""
    wanted = tuple(sys.argv[1:]) or ("",)
    print(f"{platform.machine()}, {available_cores()} cores, PyTorch {torch.__version__}, preset {preset()}")
    print(f"Data: {data_line()}\n")
    print("| notebook | seconds | processor seconds | budget, processor seconds | peak memory, MB |")
    print("|---|---|---|---|---|")
    total = cpu = 0.0
    for path in sorted(FOLDER.glob("[0-9]*.ipynb")):
        if not path.stem.startswith(wanted):
            continue
        notebook = nbformat.read(path, as_version=4)
        done = _execute.execute(notebook, FOLDER)
        if done.failure:
            sys.exit(f"{path.name}, {done.failure}")
        total, cpu = total + done.seconds, cpu + done.cpu_seconds
        budget, memory = notebook.metadata.course.budget_s, done.peak_bytes / 2**20
        print(
            f"| {path.stem} | {done.seconds:.0f} | {done.cpu_seconds:.0f} | {budget} | {memory:.0f} |",
            flush=True,
        )
    print(f"| **together** | {total:.0f} ({total / 60:.1f} min) | {cpu:.0f} | | |")


if __name__ == "__main__":
    main()
