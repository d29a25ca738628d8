"""Exercises that answer back: `load` a notebook's exercises, then `check`, `hint` and `solution`."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

from course_utils.exercises._display import Card, Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from course_utils.exercises._core import Exercise

__all__ = ["NotebookExercises", "load", "notebooks", "solved_notebook"]

_PREFIX = "nb"  # a module's name cannot start with a digit


class NotebookExercises:
    """The exercises of one notebook, as attributes, from easy to hard."""

    def __init__(self, notebook: str, exercises: tuple[Exercise, ...]) -> None:
        self.notebook = notebook
        self._exercises = {exercise.name: exercise for exercise in exercises}

    def __getattr__(self, name: str) -> Exercise:
        exercises: dict[str, Exercise] = vars(self).get("_exercises", {})
        if name not in exercises:
            msg = f"{self.notebook!r} has no exercise {name!r}; it has {', '.join(exercises)}"
            raise AttributeError(msg)
        return exercises[name]

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._exercises]

    def __iter__(self) -> Iterator[Exercise]:
        return iter(self._exercises.values())

    def __len__(self) -> int:
        return len(self._exercises)

    def _card(self) -> Card:
        rows = [Row(exercise.name, exercise.prompt) for exercise in self]
        rows.append(Row("each has", ".check(answer), .hint(), .solution()"))
        return Card(f"Exercises of {self.notebook}", tuple(rows))

    def __repr__(self) -> str:
        return repr(self._card())

    def _repr_html_(self) -> str:
        return self._card()._repr_html_()


def notebooks() -> tuple[str, ...]:
    """Name the notebooks that have exercises, in teaching order."""
    names = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name.removeprefix(_PREFIX) for name in names if name.startswith(_PREFIX)))


def load(notebook: str) -> NotebookExercises:
    """Give a notebook's exercises, with all hints still to be revealed.

    Parameters
    ----------
    notebook
        The notebook's file name without `.ipynb`, such as "04_node2vec_cambridge".

    Raises
    ------
    ValueError
        If no notebook of that name has exercises.
    """
    valid = notebooks()
    if notebook not in valid:
        msg = f"no exercises for the notebook {notebook!r}; there are some for {', '.join(valid)}"
        raise ValueError(msg)
    module = importlib.import_module(f"{__name__}.{_PREFIX}{notebook}")
    return NotebookExercises(notebook, tuple(dataclasses.replace(exercise) for exercise in module.EXERCISES))


def solved_notebook(notebook: Any, exercises: NotebookExercises) -> Any:
    """Put the solutions into a notebook.

    Parameters
    ----------
    notebook
        An `nbformat.NotebookNode`; it stays as it is.
    exercises
        The exercises of that notebook.

    Returns
    -------
    nbformat.NotebookNode
        A copy in which each cell tagged `exercise` holds the solution in place of the stub.

    Raises
    ------
    ValueError
        If such a cell differs from every stub, or an exercise does not have exactly one cell.
    """
    solved = copy.deepcopy(notebook)
    cells = [cell for cell in solved.cells if "exercise" in cell.metadata.get("tags", [])]
    stubs = {exercise.stub: exercise for exercise in exercises}
    sources = [cell.source for cell in cells]
    for source in sources:
        if source not in stubs:
            msg = f"this cell tagged `exercise` is no stub of {exercises.notebook!r}; copy one in:\n{source}"
            raise ValueError(msg)
    for stub, exercise in stubs.items():
        if sources.count(stub) != 1:
            msg = f"{exercise.name!r} has {sources.count(stub)} cells tagged `exercise`; give it exactly one"
            raise ValueError(msg)
    for cell in cells:
        cell.source = str(stubs[cell.source].solution())
    return solved
