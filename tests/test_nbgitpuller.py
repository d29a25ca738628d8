"""A course that is updated while students work in it: what the real nbgitpuller does to their notebooks.

docs/hub-guide.md tells administrators what these tests hold.
"""

import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest
from nbformat.warnings import DuplicateCellId

ROOT = Path(__file__).resolve().parent.parent
NAME = "00_start_here.ipynb"
STUB = "    return ..."
WORK = "    return edge_index.shape[1] // 2"


class Course:
    """The course's repository: a teacher changes notebooks there, and commits."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "notebooks").mkdir(parents=True)
        shutil.copy(ROOT / "notebooks" / NAME, folder / "notebooks")
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit()

    def git(self, *arguments):
        author = ["-c", "user.name=course", "-c", "user.email=course@localhost"]
        subprocess.run(["git", *author, *arguments], cwd=self.folder, check=True)

    def commit(self):
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message=A change")


@pytest.fixture
def course(tmp_path, monkeypatch):
    if shutil.which("git") is None:
        pytest.skip("needs git: install it")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")  # as on a hub, where students have not set up git
    return Course(tmp_path / "course")


@pytest.fixture
def student(course, tmp_path):
    """Return the folder of a student who has followed the link once."""
    pull(course, tmp_path / "home")
    return tmp_path / "home" / "notebooks"


def pull(course, home):
    """Do what following the link does, and return what is said."""
    command = [sys.executable, "-m", "nbgitpuller.pull", course.folder.as_uri(), "main", str(home)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def change(path, edit):
    """Read a notebook, let `edit` change it, and write it as JupyterLab does."""
    notebook = nbformat.read(path, as_version=4)
    edit(notebook)
    nbformat.write(notebook, path)


def read(path):
    """Read a notebook that must be whole: valid, and without traces of a merge."""
    text = path.read_text(encoding="utf-8")
    assert "<<<<<<<" not in text
    assert ">>>>>>>" not in text
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    return notebook


def sources(notebook):
    return [cell.source for cell in notebook.cells]


def exercise(notebook):
    return next(cell for cell in notebook.cells if "exercise" in cell.metadata.get("tags", []))


def work(notebook):
    """Solve the exercise, with the outputs and the counts that running leaves, and a cell of notes at the end."""
    exercise(notebook).source = exercise(notebook).source.replace(STUB, WORK)
    for count, cell in enumerate((cell for cell in notebook.cells if cell.cell_type == "code"), start=1):
        cell.execution_count = count
        cell.outputs = [nbformat.v4.new_output("stream", text=f"ran as {count}\n")]
    notebook.metadata.language_info.update(version="3.11.7", mimetype="text/x-python")
    notebook.cells.append(nbformat.v4.new_markdown_cell("My notes.", id="notes"))


def test_work_and_a_correction_elsewhere_are_both_kept(course, student):
    change(student / NAME, work)

    def correct(notebook):
        notebook.cells[1].source = notebook.cells[1].source.replace(
            "A notebook is a row", "A notebook is a column"
        )

    change(course.folder / "notebooks" / NAME, correct)
    course.commit()
    pull(course, student.parent)

    notebook = read(student / NAME)
    assert WORK in exercise(notebook).source
    assert exercise(notebook).outputs
    assert sources(notebook)[-1] == "My notes."
    assert "A notebook is a column" in sources(notebook)[1]


def test_new_and_untouched_notebooks_arrive_as_they_are(course, student):
    change(student / NAME, work)
    for name in ("01_embeddings.ipynb", "02_neural_networks.ipynb"):
        shutil.copy(ROOT / "notebooks" / name, course.folder / "notebooks")
    course.commit()
    pull(course, student.parent)
    for name in ("01_embeddings.ipynb", "02_neural_networks.ipynb"):
        assert (student / name).read_bytes() == (ROOT / "notebooks" / name).read_bytes()
    assert WORK in exercise(read(student / NAME)).source


def test_where_both_changed_a_line_the_students_stays(course, student):
    change(student / NAME, work)

    def reword(notebook):
        exercise(notebook).source = exercise(notebook).source.replace(STUB, "    return ...  # one number")

    change(course.folder / "notebooks" / NAME, reword)
    course.commit()
    pull(course, student.parent)
    notebook = read(student / NAME)
    assert WORK in exercise(notebook).source
    assert "one number" not in exercise(notebook).source


def test_where_both_changed_other_lines_of_a_cell_it_has_both(course, student):
    change(student / NAME, work)
    line, new = (
        "Count the links of a graph whose links can all be used both ways.",
        "Count the links of a graph.",
    )

    def reword(notebook):
        exercise(notebook).source = exercise(notebook).source.replace(line, new)

    change(course.folder / "notebooks" / NAME, reword)
    course.commit()
    pull(course, student.parent)
    notebook = read(student / NAME)
    assert WORK in exercise(notebook).source
    assert new in exercise(notebook).source


def test_a_moved_cell_that_was_run_is_there_twice(course, student):
    """Why the guide says: do not move cells."""
    change(student / NAME, work)
    moved = []

    def move(notebook):
        place = next(i for i, cell in enumerate(notebook.cells) if cell.source.startswith("possible = "))
        moved.append(notebook.cells.pop(place))
        notebook.cells.insert(15, moved[0])

    change(course.folder / "notebooks" / NAME, move)
    course.commit()
    pull(course, student.parent)
    with pytest.warns(DuplicateCellId):
        notebook = read(student / NAME)
    assert moved[0].cell_type == "code"
    assert sources(notebook).count(moved[0].source) == 2


def test_a_notebook_that_the_course_deletes_stays_if_it_was_worked_in(course, student):
    change(student / NAME, work)
    before = (student / NAME).read_bytes()
    course.git("rm", "--quiet", f"notebooks/{NAME}")
    course.commit()
    pull(course, student.parent)
    assert (student / NAME).read_bytes() == before


def test_a_renamed_notebook_takes_the_work_along_under_a_name_that_links_do_not_know(course, student):
    change(student / NAME, work)
    before = (student / NAME).read_bytes()
    course.git("mv", f"notebooks/{NAME}", "notebooks/00_welcome.ipynb")
    course.commit()
    pull(course, student.parent)
    assert not (student / NAME).exists()
    assert (student / "00_welcome.ipynb").read_bytes() == before


@pytest.mark.parametrize(
    ("place", "make", "arrives"),
    [
        ("code after prose", nbformat.v4.new_markdown_cell, True),
        ("code after code", nbformat.v4.new_markdown_cell, True),
        ("prose after code", nbformat.v4.new_code_cell, True),
        ("code after code", nbformat.v4.new_code_cell, False),  # Why the guide says: put prose between them.
    ],
)
def test_a_new_cell_arrives_unless_it_is_code_before_code_that_was_run(course, student, place, make, arrives):
    change(student / NAME, work)

    def put_in(notebook):
        kinds = ["code" if cell.cell_type == "code" else "prose" for cell in notebook.cells]
        pairs = [f"{kind} after {before}" for before, kind in pairwise(kinds)]
        notebook.cells.insert(pairs.index(place) + 1, make("A new cell.", id="new"))

    change(course.folder / "notebooks" / NAME, put_in)
    course.commit()
    pull(course, student.parent)
    notebook = read(student / NAME)
    assert ("A new cell." in sources(notebook)) is arrives
    assert WORK in exercise(notebook).source


def test_a_deleted_notebook_comes_back_fresh(course, student):
    change(student / NAME, work)
    (student / NAME).unlink()
    pull(course, student.parent)
    assert (student / NAME).read_bytes() == (course.folder / "notebooks" / NAME).read_bytes()


def test_a_students_own_file_of_a_new_name_is_set_aside(course, student):
    shutil.copy(student / NAME, student / "01_embeddings.ipynb")
    shutil.copy(ROOT / "notebooks" / "01_embeddings.ipynb", course.folder / "notebooks")
    course.commit()
    said = pull(course, student.parent)
    assert "Renamed" in said
    own = next(student.glob("01_embeddings__*.ipynb"))
    assert own.read_bytes() == (student / NAME).read_bytes()
    assert (student / "01_embeddings.ipynb").read_bytes() == (
        ROOT / "notebooks" / "01_embeddings.ipynb"
    ).read_bytes()


def test_following_the_link_again_changes_nothing(course, student):
    change(student / NAME, work)
    before = (student / NAME).read_bytes()
    pull(course, student.parent)
    pull(course, student.parent)
    assert (student / NAME).read_bytes() == before
