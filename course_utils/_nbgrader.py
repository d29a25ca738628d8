"""A notebook of the course as an nbgrader assignment: metadata, marks around the solutions, cells that grade."""

from __future__ import annotations

import ast
import re
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from course_utils._execute import CELL_TIMEOUT
from course_utils.exercises import solved_notebook

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nbformat import NotebookNode

    from course_utils.exercises import NotebookExercises

EXPLORE_POINTS = 10
# Seconds. A check stops an answer after 4; what it compares with needs time as well.
GRADED_CELL_TIMEOUT = 60

CONFIG = f'''\
"""nbgrader's settings for this course. `python -m course_utils release` made this file."""

c = get_config()  # noqa: F821 (nbgrader defines it)

c.CourseDirectory.course_id = "graph-ml-course"

# In a student's notebook nothing takes the place of a solution: the line below it, `return ...`, is the stub.
c.ClearSolutions.code_stub = {{"python": ""}}

# Seconds that a cell may take before it is interrupted. Cells with answers and their tests are quick.
c.Execute.timeout_func = lambda cell: {GRADED_CELL_TIMEOUT} if "nbgrader" in cell.metadata else {CELL_TIMEOUT}

# Seconds to wait for a cell's last outputs. On a busy machine the default, 4, is too few, and a submission fails.
c.Execute.iopub_timeout = {CELL_TIMEOUT}
'''

_EXPLORE = re.compile(r"^## (\d+ )?Explore$", re.MULTILINE)
_RECAP = re.compile(r"^## Recap$", re.MULTILINE)
_HANDING_IN = "Answer in new cells below this one: text, code and figures."


def assignment(notebook: NotebookNode, exercises: NotebookExercises) -> NotebookNode:
    """Make an assignment of a notebook.

    The first exercise is worth one point, the second two, and so on; the open task `EXPLORE_POINTS`.

    Parameters
    ----------
    notebook
        Stays as it is.
    exercises
        Those of this notebook.

    Raises
    ------
    ValueError
        If an exercise does not have exactly one cell with its stub, and one that checks it.
    """
    solved = solved_notebook(notebook, exercises)
    made = deepcopy(notebook)
    names = {exercise.stub: exercise.name for exercise in exercises}
    checks = {
        f"exercises.{name}.check({name})": (name, points)
        for points, name in enumerate(names.values(), start=1)
    }
    cells = []
    for cell, solved_cell in zip(made.cells, solved.cells, strict=True):
        cells.append(cell)
        if "exercise" in cell.metadata.get("tags", []):
            cell.metadata.nbgrader = _metadata(names[cell.source], solution=True)
            cell.source = mark_solution(cell.source, solved_cell.source)
        elif cell.source.strip() in checks:
            name, points = checks.pop(cell.source.strip())
            cells.append(_test_cell(exercises.notebook, name, points))
    if checks:
        msg = f"{exercises.notebook!r} lacks the cells {', '.join(checks)}; give it each of them once"
        raise ValueError(msg)
    made.cells = list(_split_at_headings(cells))
    _make_task(made.cells)
    # Assignments are folders side by side.
    for cell in made.cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"\]\((\d\d_\w+)\.ipynb\)", r"](../\1/\1.ipynb)", cell.source)
    return made


def mark_solution(stub: str, solution: str) -> str:
    """Put a solution into its stub, between the marks that nbgrader cuts out.

    Imports that only the solution needs go with it. What a stub says in place of the solution stays below the marks,
    where it is never reached, so that the stub is left when the solution has been cut out.
    """
    given, solved = ast.parse(stub), ast.parse(solution)
    if not isinstance(given.body[-1], ast.FunctionDef | ast.ClassDef):  # a value: `name = ...`
        return "\n".join([stub, *_region(solution)])
    known = {ast.unparse(statement) for statement in given.body}
    imports = [
        node
        for node in solved.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        if ast.unparse(node) not in known
    ]
    lines, solution_lines = stub.splitlines(), solution.splitlines()
    solved_functions = {function.name: function for function in _functions(solved)}
    for function in reversed(list(_functions(given))):
        *kept, last = function.body  # the docstring, `super().__init__()`, `return ...`
        if not isinstance(last, ast.Return):
            kept.append(last)
        body = solved_functions[function.name].body[len(kept) :]
        start = solved_functions[function.name].body[len(kept) - 1].end_lineno if kept else body[0].lineno - 1
        region = "\n".join(solution_lines[start : body[-1].end_lineno])
        margin = " " * body[0].col_offset
        if isinstance(last, ast.Return) and not isinstance(body[-1], ast.Return):
            region += f"\n{margin}return"  # The function gives nothing back, least of all the stub's `...`.
        if needed := "\n".join(margin + line for line in _needed(imports, body)):
            region = f"{needed}\n\n{region}"
        place = kept[-1].end_lineno if kept else last.lineno - 1
        lines[place:place] = _region(region, margin=margin)
    return "\n".join(lines)


def _region(code: str, *, margin: str = "") -> list[str]:
    return [f"{margin}### BEGIN SOLUTION", *code.splitlines(), f"{margin}### END SOLUTION"]


def _functions(module: ast.Module) -> Iterator[ast.FunctionDef]:
    """Yield the function that a module defines at its end, or the methods of its class."""
    definition = module.body[-1]
    members = definition.body if isinstance(definition, ast.ClassDef) else [definition]
    return (member for member in members if isinstance(member, ast.FunctionDef))


def _needed(imports: list[ast.Import | ast.ImportFrom], body: list[ast.stmt]) -> Iterator[str]:
    used = {node.id for statement in body for node in ast.walk(statement) if isinstance(node, ast.Name)}
    for node in imports:
        if used & {alias.asname or alias.name.split(".")[0] for alias in node.names}:
            yield ast.unparse(node)


def _metadata(grade_id: str, **more: bool | int) -> dict[str, Any]:
    kinds = {"grade": False, "solution": False, "locked": False, "task": False}
    return {"schema_version": 3, "grade_id": grade_id} | kinds | more


def _test_cell(notebook: str, name: str, points: int) -> NotebookNode:
    """Make the cell that grades an answer, whatever the student has done to the cells above it.

    Its tag lets "Run all" go on where an answer is still missing.
    """
    from nbformat.v4 import new_code_cell

    source = (
        f"# Graded, {points} point{'s' if points > 1 else ''}. Silent when the answer is right.\n"
        "from course_utils import exercises as course_exercises\n\n"
        f'course_exercises.load("{notebook}").{name}.grade({name})'
    )
    cell: NotebookNode = new_code_cell(source, id=f"test-{name}")  # type: ignore[no-untyped-call]  # nbformat's
    cell.metadata.tags = ["raises-exception"]
    cell.metadata.nbgrader = _metadata(f"test-{name}", grade=True, locked=True, points=points)
    return cell


def _split_at_headings(cells: list[NotebookNode]) -> Iterator[NotebookNode]:
    """Give the open task and the recap cells of their own."""
    for cell in cells:
        rest = cell
        for heading, name in ((_EXPLORE, "explore"), (_RECAP, "recap")):
            found = heading.search(rest.source) if rest.cell_type == "markdown" else None
            if found and rest.source[: found.start()].strip():
                before, rest = rest, deepcopy(rest)
                rest.id = f"{cell.id}-{name}"
                rest.source = before.source[found.start() :]
                before.source = before.source[: found.start()].rstrip()
                yield before
        yield rest


def _make_task(cells: list[NotebookNode]) -> None:
    """Let a teacher grade the open task, where there is one, in its last text: what a good answer does."""
    section: list[NotebookNode] = []
    for cell in cells:
        if cell.cell_type == "markdown" and _RECAP.match(cell.source):
            break
        if cell.cell_type == "markdown" and (section or _EXPLORE.match(cell.source)):
            section.append(cell)
    if section:
        task = section[-1]
        task.metadata.nbgrader = _metadata("explore", locked=True, task=True, points=EXPLORE_POINTS)
        task.source += f"\n\n{_HANDING_IN} It is graded by hand: {EXPLORE_POINTS} points."
