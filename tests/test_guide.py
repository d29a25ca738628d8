"""The guide for those who teach agrees with the notebooks: minutes, budgets, exercises, and a section for each."""

import re
from pathlib import Path

import nbformat
import pytest

from course_utils.exercises import load, notebooks

ROOT = Path(__file__).resolve().parent.parent
GUIDE = (ROOT / "docs" / "instructor-guide.md").read_text(encoding="utf-8")
NOTEBOOKS = {path.stem: path for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))}
PARTS = ("Aims", "Time plan", "Exercises", "What goes wrong", "Answers", "Open task", "Network")


@pytest.fixture(params=NOTEBOOKS, scope="module")
def stem(request):
    return request.param


@pytest.fixture(scope="module")
def notebook(stem):
    return nbformat.read(NOTEBOOKS[stem], as_version=4)


@pytest.fixture(scope="module")
def parts(stem, notebook):
    """Return what the guide says on a notebook, by the bold word that opens each paragraph."""
    title = notebook.cells[0].source.splitlines()[0].removeprefix("# ")
    heading = f"\n## {stem[:2]} {title} ({notebook.metadata.course.minutes} min)\n"
    assert GUIDE.count(heading) == 1, f"the guide needs one section{heading}"
    section = GUIDE.partition(heading)[2].partition("\n## ")[0]
    return dict(
        re.findall(r"^\*\*([^*]+)\.\*\*\s(.+?)(?=\n\n|\n*\Z)", section, flags=re.MULTILINE | re.DOTALL)
    )


def test_each_section_has_the_same_parts(parts):
    assert tuple(parts) == PARTS


def test_the_time_plan_adds_up_and_names_the_sections_of_the_notebook(notebook, parts):
    plan = " ".join(parts["Time plan"].split())
    entries = re.findall(r"§(\d+)(?:-(\d+))? [^§]+ \((\d+)\)", plan)
    assert sum(int(minutes) for _, _, minutes in entries) == notebook.metadata.course.minutes

    planned = [n for first, last, _ in entries for n in range(int(first), int(last or first) + 1)]
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert planned == [int(n) for n in re.findall(r"^## (\d+) (?!Explore)", prose, flags=re.MULTILINE)]


def test_the_exercises_are_named_in_their_order(stem, parts):
    assert stem in notebooks()
    named = re.findall(r"^- `(\w+)`:", parts["Exercises"], flags=re.MULTILINE)
    assert named == [exercise.name for exercise in load(stem)]


def test_the_table_agrees_with_the_metadata(stem, notebook):
    title = notebook.cells[0].source.splitlines()[0].removeprefix("# ")
    course = notebook.metadata.course
    start = f"| {stem[:2]} | [{title}](../notebooks/{stem}.ipynb) | {course.minutes} | "
    (row,) = [line for line in GUIDE.splitlines() if line.startswith(start)]
    assert row.endswith(f" | {course.budget_s} |")


def test_the_table_names_the_data_that_are_loaded(stem, notebook):
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    loaded = [name for name in ("Cambridge", "Cora") if f"load_{name.lower()}(" in code]
    (row,) = [line for line in GUIDE.splitlines() if line.startswith(f"| {stem[:2]} | [")]
    assert row.split("|")[-3].strip() == (", ".join(loaded) or "none")


def test_the_ways_through_the_course_take_as_long_as_they_say():
    minutes = {
        stem[:2]: nbformat.read(path, as_version=4).metadata.course.minutes
        for stem, path in NOTEBOOKS.items()
    }
    total = re.search(r"\*\*everything\*\*: (\d+) minutes", GUIDE)
    assert int(total[1]) == sum(minutes.values())
    for names, stated in re.findall(r"\*\*: ((?:\d\d,? )+)\((\d+) minutes\)", GUIDE):
        assert int(stated) == sum(minutes[name] for name in re.findall(r"\d\d", names))
