"""Releases for students and teachers: what is in them, what is not, and that a failure leaves nothing."""

import argparse
import math
import shutil
from pathlib import Path

import nbformat
import pytest

from course_utils import _execute
from course_utils.__main__ import main
from course_utils.exercises import load, notebooks, solved_notebook

ROOT = Path(__file__).resolve().parent.parent
NAMES = [path.stem for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
NOTE = "Ask first.\n\n- Who has seen this?\n- Wait ten seconds."


def read(path):
    return nbformat.read(path, as_version=4)


def is_exercise(cell):
    return "exercise" in cell.metadata.get("tags", [])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a folder with the releases of all notebooks, for students and for teachers."""
    folder = tmp_path_factory.mktemp("made")
    for variant in ("student", "instructor"):
        assert main(["release", str(folder / variant), "--variant", variant]) == 0
    return folder


@pytest.fixture
def course(tmp_path, monkeypatch):
    """Return a course of one notebook, which has been run and has two speaker notes, as the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notebooks").mkdir()
    shutil.copy(ROOT / "LICENSE", tmp_path)
    notebook = read(ROOT / "notebooks/00_start_here.ipynb")
    for cell in notebook.cells:  # The two notes below shall be the only ones.
        cell.metadata.pop("course", None)
        cell.metadata.pop("slideshow", None)
    notebook.cells[0].metadata.course = {"notes": NOTE}
    next(cell for cell in notebook.cells if is_exercise(cell)).metadata.course = {"notes": "Five minutes."}
    code = next(cell for cell in notebook.cells if cell.cell_type == "code")
    code.execution_count = 1
    code.outputs = [nbformat.v4.new_output("stream", text="secret of this machine\n")]
    nbformat.write(notebook, tmp_path / "notebooks/00_start_here.ipynb")
    return tmp_path


@pytest.mark.parametrize("variant", ["student", "instructor"])
def test_a_folder_holds_all_notebooks_a_readme_and_the_licence(made, variant):
    names = sorted(path.name for path in (made / variant).iterdir())
    assert names == sorted([*(f"{name}.ipynb" for name in NAMES), "LICENSE", "README.md"])
    assert (made / variant / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert ("not for students" in (made / variant / "README.md").read_text()) == (variant == "instructor")


@pytest.mark.parametrize("name", NAMES)
def test_students_get_the_stubs_and_teachers_the_solutions(made, name):
    source = read(ROOT / f"notebooks/{name}.ipynb")
    student, instructor = (read(made / variant / f"{name}.ipynb") for variant in ("student", "instructor"))
    exercises = {exercise.stub: exercise for exercise in load(name)}
    assert [cell.source for cell in student.cells] == [cell.source for cell in source.cells]
    assert {cell.source for cell in student.cells if is_exercise(cell)} == set(exercises)
    solved = [cell.source for cell in instructor.cells if is_exercise(cell)]
    assert set(solved) == {exercise.solution() for exercise in exercises.values()}
    for notebook in (student, instructor):
        nbformat.validate(notebook)
        assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)


def test_a_notebook_for_teachers_runs_whole_and_every_check_says_correct(made):
    notebook = read(made / "instructor/05_message_passing.ipynb")
    assert _execute.execute(notebook, made).failure == ""
    verdicts = [
        cell.outputs[0].data["text/plain"]
        for cell in notebook.cells
        if cell.cell_type == "code" and ".check(" in cell.source
    ]
    assert len(verdicts) == len(load("05_message_passing"))
    assert all(verdict.startswith("✓ correct") for verdict in verdicts), verdicts


def test_speaker_notes_are_for_teachers_and_outputs_for_nobody(course):
    for variant in ("student", "instructor", "nbgrader"):
        assert main(["release", variant, "--variant", variant]) == 0
    files = {variant: next((course / variant).rglob("*.ipynb")) for variant in ("student", "nbgrader")}
    for path in files.values():
        assert "Ask first" not in path.read_text()
        assert "Five minutes" not in path.read_text()
        assert "secret of this machine" not in path.read_text()
    cells = read(course / "instructor/00_start_here.ipynb").cells
    notes = [place for place, cell in enumerate(cells) if cell.metadata.get("slideshow")]
    assert [cells[place].source.splitlines()[0] for place in notes] == ["> **Note to the teacher**"] * 2
    assert cells[1].source.splitlines()[2:] == [f"> {line}" for line in NOTE.splitlines()]
    assert cells[1].metadata == {"slideshow": {"slide_type": "notes"}}
    assert is_exercise(cells[notes[1] - 1])
    assert "secret of this machine" not in (course / "instructor/00_start_here.ipynb").read_text()


@pytest.mark.parametrize("variant", ["student", "instructor", "nbgrader"])
def test_a_folder_that_holds_something_is_refused_and_stays_as_it_is(course, capsys, variant):
    (course / "taken").mkdir()
    (course / "taken/answers.txt").write_text("mine")
    assert main(["release", "taken", "--variant", variant]) == 2
    assert "taken is not empty, and nothing is overwritten. Name another folder" in capsys.readouterr().err
    assert [path.name for path in (course / "taken").iterdir()] == ["answers.txt"]


def test_an_empty_folder_is_taken(course):
    (course / "empty").mkdir()
    assert main(["release", "empty", "--variant", "student"]) == 0
    assert (course / "empty/00_start_here.ipynb").exists()


def test_a_solved_exercise_in_the_source_stops_the_release_and_nothing_is_left(course, capsys):
    path = course / "notebooks/00_start_here.ipynb"
    nbformat.write(solved_notebook(read(path), load("00_start_here")), path)
    for variant in ("student", "instructor", "nbgrader"):
        assert main(["release", "out/new", "--variant", variant]) == 2
        assert "00_start_here.ipynb: this cell tagged `exercise` is no stub" in capsys.readouterr().err
    assert list((course / "out").iterdir()) == []


def test_a_file_that_is_no_notebook_is_named(course, capsys):
    (course / "notebooks/01_broken.ipynb").write_text("{")
    assert main(["release", "out", "--variant", "student"]) == 2
    assert "01_broken.ipynb: Notebook does not appear to be JSON" in capsys.readouterr().err
    assert not (course / "out").exists()


def test_an_exercise_without_its_check_cannot_be_graded(course, capsys):
    path = course / "notebooks/00_start_here.ipynb"
    notebook = read(path)
    notebook.cells = [
        cell for cell in notebook.cells if ".check(" not in cell.source or cell.cell_type != "code"
    ]
    nbformat.write(notebook, path)
    assert main(["release", "out", "--variant", "nbgrader"]) == 2
    assert "lacks the cells exercises.count_links.check(count_links); give it" in capsys.readouterr().err


def test_without_notebooks_the_command_says_where_to_run_it(tmp_path, monkeypatch, capsys):
    from course_utils import _cli_release, _store

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_store, "data_folder", lambda: tmp_path / "site-packages/course_utils/_data")
    assert _cli_release._run(argparse.Namespace(out=tmp_path / "out", variant="student")) == 2
    assert "Run this in the course's folder" in capsys.readouterr().err


def cut(marked):
    """Cut the solutions out as nbgrader does with this course's settings."""
    left, inside = [], False
    for line in marked.splitlines():
        inside = (inside or "### BEGIN SOLUTION" in line) and "### END SOLUTION" not in line
        if not inside and "### END SOLUTION" not in line:
            left.append(line)
    return "\n".join(left)


@pytest.mark.parametrize(
    "exercise",
    [exercise for name in notebooks() for exercise in load(name)],
    ids=lambda exercise: exercise.name,
)
def test_marks_enclose_a_solution_that_works_and_leave_the_stub(exercise):
    from course_utils._nbgrader import mark_solution

    marked = mark_solution(exercise.stub, exercise.solution())
    assert cut(marked) == exercise.stub
    namespace = {}
    exec(marked, namespace)
    assert exercise.check(namespace[exercise.name]).status == "correct"


@pytest.mark.parametrize(
    ("stub", "solution", "value"),
    [
        ("answer = ...", "import math\n\nhalf = math.pi / 2\nanswer = 2 * half", math.pi),
        ("def answer():\n    return ...", "def answer():\n    # Why.\n    return 3.14", 3.14),
        (
            'def answer():\n    """Say.\n\n    More.\n    """\n    return ...',
            'import math\n\n\ndef answer():\n    """Say.\n\n    More.\n    """\n    # Why.\n    return math.pi',
            math.pi,
        ),
        ("def answer():\n    return ...", "def answer():\n    if False:\n        return 1", None),
    ],
    ids=["value", "no docstring", "import and comment", "nothing returned"],
)
def test_marks_in_other_forms_of_exercise(stub, solution, value):
    from course_utils._nbgrader import mark_solution

    marked = mark_solution(stub, solution)
    assert [line for line in cut(marked).splitlines() if "# Why." not in line] == stub.splitlines()
    namespace = {}
    exec(marked, namespace)
    answer = namespace["answer"]
    assert (answer() if callable(answer) else answer) == value
