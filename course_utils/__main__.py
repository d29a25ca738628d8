"""The course from the command line: ``python -m course_utils check | data | run | release``."""

from __future__ import annotations

import argparse
import sys

from course_utils import _cli_check, _cli_data, _cli_release, _cli_run


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code.

    Parameters
    ----------
    arguments
        The words after ``python -m course_utils``; those of this process by default.
    """
    parser = argparse.ArgumentParser(
        prog="python -m course_utils", description="Helper commands of the course."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (_cli_check, _cli_data, _cli_run, _cli_release):
        command.add_parser(commands)
    options = parser.parse_args(arguments)
    code: int = options.func(options)
    return code


if __name__ == "__main__":
    sys.exit(main())
