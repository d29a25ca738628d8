"""Every notebook: its form, and its exercises with the solutions put in.

The whole notebook, with the exercises as a student meets them, is run by nbval (pytest collects notebooks/ too);
conftest.py at the top holds it to its budget of time and memory.
"""

import re
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest

from course_utils import _execute
from course_utils.exercises import load, solved_notebook

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MAX_LINES = 20  # About 12 is the aim.
CHECK = re.compile(r"exercises\.\w+\.check\(\w+\)")


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request):
    return request.param


@pytest.fixture
def notebook(path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_are_notebooks():
    assert [path.stem[:2] for path in NOTEBOOKS] == sorted({path.stem[:2] for path in NOTEBOOKS})
    assert len(NOTEBOOKS) >= 2


def test_it_is_valid_and_says_how_long_it_takes(notebook):
    nbformat.validate(notebook)
    assert notebook.metadata.course.minutes > 0
    assert notebook.metadata.course.budget_s > 0


def test_it_is_stored_without_outputs(notebook):
    for cell in code_cells(notebook):
        if "nbval-check-output" not in cell.metadata.get("tags", []):
            assert cell.outputs == []
            assert cell.execution_count is None
    assert "widgets" not in notebook.metadata


def test_it_opens_with_goals_and_closes_with_a_recap_and_references(notebook):
    prose = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    assert prose[0].startswith("# ")
    for word in ("You will be able to", "You need", "Time:"):
        assert word in prose[0]
    text = "\n".join(prose)
    assert "Stop and think" in text
    assert "## Recap" in text
    assert "## References" in text


def test_the_first_code_cell_sets_the_notebook_up(notebook):
    assert code_cells(notebook)[0].source.rstrip().endswith("setup_notebook()")


def test_cells_are_short_and_install_nothing(notebook):
    for cell in code_cells(notebook):
        assert len(cell.source.splitlines()) <= MAX_LINES, cell.source
        assert not re.search(r"^\s*[!%]", cell.source, flags=re.MULTILINE)


def test_links_to_other_notebooks_lead_somewhere(notebook, path):
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for target in re.findall(r"\]\(([^):]+\.(?:ipynb|md))\)", cell.source):
                assert (path.parent / target).exists(), target


def test_exercise_cells_are_the_stubs_and_each_is_checked(notebook, path):
    exercises = {exercise.stub.strip(): exercise.name for exercise in load(path.stem)}
    cells = code_cells(notebook)
    found = []
    for cell, following in pairwise(cells):
        if "exercise" in cell.metadata.get("tags", []):
            name = exercises[cell.source.strip()]
            assert following.source.strip() == f"exercises.{name}.check({name})"
            found.append(name)
    assert found == list(exercises.values())


def test_solved_it_passes_its_checks(notebook, path):
    """Run what an exercise needs, with the solutions put in: the set-up, the exercises and their checks."""
    solved = solved_notebook(notebook, load(path.stem))
    solved.cells = [
        cell
        for cell in code_cells(solved)
        if CHECK.fullmatch(cell.source.strip())
        or "exercise" in cell.metadata.get("tags", [])
        or cell.source.rstrip().endswith("setup_notebook()")
        or "course_exercises.load(" in cell.source
    ]
    done = _execute.execute(solved, path.parent)
    assert done.failure == ""
    verdicts = [
        output.data["text/plain"]
        for cell in solved.cells
        if CHECK.fullmatch(cell.source.strip())
        for output in cell.outputs
        if output.output_type == "execute_result"
    ]
    assert len(verdicts) == len(list(load(path.stem)))
    assert all("correct" in verdict.splitlines()[0].lower() for verdict in verdicts), verdicts
