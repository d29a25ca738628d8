"""What is handed out, made of the notebooks and exercises: for students, for teachers, for nbgrader."""

from __future__ import annotations

import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Literal

from course_utils import _nbgrader
from course_utils.exercises import load, solved_notebook

if TYPE_CHECKING:
    from nbformat import NotebookNode

Variant = Literal["student", "instructor", "nbgrader"]

_README = """\
# Graph machine learning, by notebook

{about}

Begin with `00_start_here.ipynb`. The notebooks need Python 3.11 or later and the package `graph-ml-course` {version},
which a course's JupyterHub has installed; to work elsewhere, set up the course itself, which brings that package.
`python -m course_utils check` says, in a terminal, whether all is ready.

Code: MIT. Text and figures: CC BY 4.0. See [LICENSE](LICENSE).
"""
_ABOUT: dict[Variant, str] = {
    "student": "The notebooks of the course, with exercises that answer back.",
    "instructor": "For teachers, not for students: the notebooks with solutions and with speaker notes.",
}


class ReleaseError(ValueError):
    """A release cannot be made."""


def release(notebooks: list[Path], out: Path, *, variant: Variant) -> None:
    """Write a variant of the course into a new folder, all of it or nothing.

    Parameters
    ----------
    notebooks
        The notebooks as they are in the repository.
    out
        The folder; it must not exist, or be empty.
    variant
        "student": exercises to be solved. "instructor": solutions, and speaker notes as cells. "nbgrader": a course
        directory with one assignment for each notebook.

    Raises
    ------
    ReleaseError
        If the folder holds something, or a notebook and its exercises do not fit together.
    """
    import nbformat

    out = out.resolve()
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        msg = f"{out} is not empty, and nothing is overwritten. Name another folder, or remove this one."
        raise ReleaseError(msg)
    out.parent.mkdir(parents=True, exist_ok=True)
    # Beside its place, so that the finished folder can be moved there in one step.
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".release-") as scratch:
        folder = Path(scratch) / "release"
        folder.mkdir()
        for path in notebooks:
            try:
                notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]  # nbformat is not annotated
                made = _make(notebook, path.stem, variant)
                nbformat.validate(made)
            except (ValueError, nbformat.ValidationError) as error:
                msg = f"{path}: {error}"
                raise ReleaseError(msg) from error
            place = folder / "source" / path.stem if variant == "nbgrader" else folder
            place.mkdir(parents=True, exist_ok=True)
            nbformat.write(made, place / path.name)  # type: ignore[no-untyped-call]  # as above
        if variant == "nbgrader":
            (folder / "nbgrader_config.py").write_text(_nbgrader.CONFIG, encoding="utf-8")
        else:
            readme = _README.format(about=_ABOUT[variant], version=version("graph-ml-course"))
            (folder / "README.md").write_text(readme, encoding="utf-8")
        shutil.copyfile(notebooks[0].resolve().parent.parent / "LICENSE", folder / "LICENSE")
        if out.exists():
            out.rmdir()
        folder.rename(out)


def _make(notebook: NotebookNode, name: str, variant: Variant) -> NotebookNode:
    from nbconvert.preprocessors import ClearOutputPreprocessor

    notebook, _ = ClearOutputPreprocessor().preprocess(notebook, {})  # type: ignore[no-untyped-call]  # as above
    exercises = load(name)
    if variant == "instructor":
        return _with_notes(solved_notebook(notebook, exercises))
    for cell in notebook.cells:
        _take_note(cell)
    if variant == "nbgrader":
        return _nbgrader.assignment(notebook, exercises)
    solved_notebook(notebook, exercises)  # raises where an exercise cell is no stub
    return notebook


def _with_notes(notebook: NotebookNode) -> NotebookNode:
    """Put each cell's speaker note into a Markdown cell below it."""
    from nbformat.v4 import new_markdown_cell

    cells = []
    for cell in notebook.cells:
        cells.append(cell)
        if note := _take_note(cell):
            quoted = indent(f"**Note to the teacher**\n\n{note}", "> ", lambda _: True)
            cells.append(new_markdown_cell(quoted, id=f"{cell.id}-note"))  # type: ignore[no-untyped-call]  # as above
            cells[-1].metadata.slideshow = {"slide_type": "notes"}
    notebook.cells = cells
    return notebook


def _take_note(cell: NotebookNode) -> str:
    """Take the speaker note, `metadata.course.notes`, out of a cell; "" where there is none."""
    course = cell.metadata.get("course", {})
    note: str = course.pop("notes", "")
    if not course:
        cell.metadata.pop("course", None)
    return note
