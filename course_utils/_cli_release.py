"""``python -m course_utils release``: make what students, teachers or nbgrader are given."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from course_utils._cli_run import _find

if TYPE_CHECKING:
    import argparse

_NEXT = {
    "student": "Copy them into the repository that nbgitpuller serves, or hand the folder out.",
    "instructor": "They hold the solutions: keep them from students.",
    "nbgrader": "Go there and run: nbgrader generate_assignment 05_message_passing. docs/grading.md says the rest.",
}


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command ``release`` to the parser's `commands`."""
    parser = commands.add_parser("release", help="make the notebooks for students, teachers or nbgrader")
    parser.add_argument("out", type=Path, metavar="OUT", help="a new folder")
    parser.add_argument("--variant", required=True, choices=_NEXT, help="who it is for")
    parser.set_defaults(func=_run)


def _run(options: argparse.Namespace) -> int:
    from course_utils import _release

    notebooks = _find([])
    if isinstance(notebooks, str):
        print(notebooks, file=sys.stderr)
        return 2
    try:
        _release.release(notebooks, options.out, variant=options.variant)
    except (_release.ReleaseError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{len(notebooks)} notebooks ({options.variant}) in {options.out.resolve()}")
    print(_NEXT[options.variant])
    return 0
