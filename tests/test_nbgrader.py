"""Grading with nbgrader's own commands: from a release to the exported scores."""

import copy
import csv
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbgrader.nbgraderformat import MetadataValidator

from course_utils import _execute
from course_utils.__main__ import main
from course_utils.exercises import load, notebooks

GRADED = "05_message_passing"
AUTOMATIC, BY_HAND = 1 + 2 + 3 + 4, 10
NBGRADER = Path(sys.executable).parent / "nbgrader"

# Three students, each by how they answer: the solutions, with some text in them replaced.
ANSWERS = {
    "all": [],
    "some": [
        # Right, with a warning on the way.
        (
            "mean_aggregate",
            "    source, target = ",
            "    __import__('warnings').warn('x')\n    source, target = ",
        ),
        ("mean_readout", " / size.clamp(min=1)[:, None]", ""),  # a typical mistake
        ("receptive_field", "import torch\n", "import torch\n\nwhile True:\n    pass\n"),
    ],
    "nothing": None,
}
SCORES = {"all": 1 + 2 + 3 + 4, "some": 1 + 0 + 3 + 0, "nothing": 0}


def read(path):
    return nbformat.read(path, as_version=4)


def solutions(notebook):
    return {
        cell.metadata.nbgrader.grade_id: cell
        for cell in notebook.cells
        if cell.metadata.get("nbgrader", {}).get("solution")
    }


def graded(notebook):
    return [cell for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("grade")]


def code(source):
    return [line for line in source.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def run(course):
    """Return a function that runs nbgrader in the course directory."""

    def run(*words):
        # nbgrader calls alembic by its name.
        path = os.pathsep.join([str(NBGRADER.parent), os.environ["PATH"]])
        done = subprocess.run(
            [NBGRADER, *words],
            cwd=course,
            env=os.environ | {"PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    return run


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """Return a new course directory."""
    folder = tmp_path_factory.mktemp("grading") / "course"
    assert main(["release", str(folder), "--variant", "nbgrader"]) == 0
    return folder


@pytest.fixture(scope="module")
def released(course, run):
    """Return what nbgrader makes for students of all assignments, by name."""
    run("generate_assignment", "*")
    return {name: read(course / f"release/{name}/{name}.ipynb") for name in notebooks()}


@pytest.fixture(scope="module")
def handed_out(course, run, released):
    """Grade a submission of each student, and write the feedback and the scores."""
    for student, changes in ANSWERS.items():
        submission = copy.deepcopy(released[GRADED])
        cells = solutions(submission)
        if changes is not None:
            for name, cell in cells.items():
                cell.source = load(GRADED).__getattr__(name).solution()
            for name, old, new in changes:
                assert old in cells[name].source
                cells[name].source = cells[name].source.replace(old, new)
        folder = course / "submitted" / student / GRADED
        folder.mkdir(parents=True)
        nbformat.write(submission, folder / f"{GRADED}.ipynb")
    config = course / "nbgrader_config.py"
    settings, limit = config.read_text(), "lambda cell: 60 if"
    assert limit in settings
    config.write_text(settings.replace(limit, "lambda cell: 20 if"))  # the endless loop may end sooner
    run("autograde", GRADED)
    run("generate_feedback", GRADED)
    run("export")
    return course


def scores(course):
    rows = csv.DictReader((course / "grades.csv").read_text().splitlines())
    return {
        row["student_id"]: (float(row["score"]), float(row["max_score"]))
        for row in rows
        if row["assignment"] == GRADED
    }


def test_the_sources_pass_nbgrader_s_own_validation(course):
    for name in notebooks():
        notebook = read(course / f"source/{name}/{name}.ipynb")
        nbformat.validate(notebook)
        MetadataValidator().validate_nb(notebook)
        ids = [cell.metadata.nbgrader.grade_id for cell in notebook.cells if "nbgrader" in cell.metadata]
        assert len(ids) == len(set(ids))


def test_the_nth_exercise_is_worth_n_points_and_the_open_task_ten(course):
    for name in notebooks():
        notebook = read(course / f"source/{name}/{name}.ipynb")
        points = [cell.metadata.nbgrader.points for cell in graded(notebook)]
        assert points == list(range(1, len(load(name)) + 1))
        tasks = [cell for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("task")]
        assert len(tasks) == ("Explore\n" in "\n".join(cell.source for cell in notebook.cells))
        for task in tasks:
            assert task.metadata.nbgrader.points == BY_HAND
            assert "## Recap" not in task.source
            assert "good answer" in task.source or "| points |" in task.source


@pytest.mark.parametrize("name", notebooks())
def test_what_nbgrader_makes_for_students_has_our_stubs_and_no_solution(released, name):
    notebook = released[name]
    exercises = {exercise.name: exercise for exercise in load(name)}
    cells = solutions(notebook)
    assert set(cells) == set(exercises)
    for exercise in exercises.values():
        assert code(cells[exercise.name].source) == code(exercise.stub)
        namespace = {}
        exec(cells[exercise.name].source, namespace)
        assert exercise.check(namespace[exercise.name]).status == "not attempted"
    assert not [cell.source for cell in notebook.cells if "SOLUTION" in cell.source]


def test_links_lead_to_the_other_assignments(course):
    assert (
        "](../06_gcn_on_cora/06_gcn_on_cora.ipynb)"
        in (course / f"source/{GRADED}/{GRADED}.ipynb").read_text()
    )


def test_a_student_can_run_all_cells_before_the_first_answer(released, tmp_path):
    notebook = copy.deepcopy(released["00_start_here"])
    assert _execute.execute(notebook, tmp_path).failure == ""
    (test,) = graded(notebook)
    assert [output.output_type for output in test.outputs] == ["error"]
    assert "not attempted" in test.outputs[0].evalue


def test_exported_scores_are_exact(handed_out):
    assert scores(handed_out) == {
        student: (float(score), float(AUTOMATIC + BY_HAND)) for student, score in SCORES.items()
    }


def test_the_cell_that_grades_a_right_answer_is_silent(handed_out):
    for student, silent in (("all", [True] * 4), ("some", [True, False, True, False])):
        cells = graded(read(handed_out / f"autograded/{student}/{GRADED}/{GRADED}.ipynb"))
        assert [cell.outputs == [] for cell in cells] == silent


def test_feedback_names_the_mistake(handed_out):
    page = (handed_out / f"feedback/some/{GRADED}/{GRADED}.html").read_text()
    assert "Score: 4.0 / 20.0" in page
    assert "CellTimeoutError" in page
    assert "These are sums. Divide by the number of nodes of each graph." in page


def test_points_given_by_hand_for_the_open_task_are_exported(handed_out, run):
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{handed_out / 'gradebook.db'}") as gradebook:
        waiting = [submission.student.id for submission in gradebook.assignment_submissions(GRADED)]
        assert set(waiting) == set(ANSWERS)
        grade = gradebook.find_grade("explore", GRADED, GRADED, "all")
        assert grade.needs_manual_grade
        grade.manual_score = 7
        gradebook.db.commit()
    run("export")
    assert scores(handed_out)["all"] == (AUTOMATIC + 7.0, AUTOMATIC + BY_HAND)
