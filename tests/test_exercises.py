"""Exercises answer back: every listed exercise, and each kind of feedback on small ones made here."""

from __future__ import annotations

import signal
import sys
import threading
import time
import warnings

import nbformat
import numpy as np
import pytest
import torch
from torch import nn

from course_utils.exercises import _core as core
from course_utils.exercises import load, notebooks, solved_notebook
from course_utils.exercises._display import Card, Row, describe, difference
from course_utils.exercises._kinds import FunctionExercise, ModuleExercise, ValueExercise

ALL = [exercise for notebook in notebooks() for exercise in load(notebook)]
SEEDS = (None, 1, 2, 3)


def each_exercise(function):
    return pytest.mark.parametrize("exercise", ALL, ids=lambda exercise: exercise.name)(function)


# --- what holds for every exercise of every notebook ---


@each_exercise
def test_the_stub_is_not_attempted(exercise):
    namespace = {}
    exec(exercise.stub, namespace)
    outcome = exercise.check(namespace[exercise.name])
    assert outcome.status == "not attempted"
    assert exercise.prompt in repr(outcome)
    assert exercise.check(...).status == "not attempted"


@each_exercise
@pytest.mark.parametrize("seed", SEEDS)
def test_the_shown_solution_is_correct(exercise, seed):
    namespace = {}
    exec(exercise.solution(), namespace)
    outcome = exercise.check(namespace[exercise.name], seed=seed)
    assert outcome.status == "correct"
    assert exercise.why in repr(outcome)


def test_each_notebook_has_exercises_enough():
    counts = {notebook: len(load(notebook)) for notebook in notebooks()}
    first, *others = (counts[notebook] for notebook in sorted(counts))
    assert first == 1
    assert len(others) >= 11
    assert min(others) >= 4
    assert sum(others) >= 44


@each_exercise
@pytest.mark.parametrize("seed", SEEDS)
def test_typical_wrong_answers_are_named(exercise, seed):
    assert len(exercise.wrong_answers) >= 3
    for answer, says in exercise.wrong_answers:
        outcome = exercise.check(answer, seed=seed)
        assert outcome.status == "not yet"
        assert says in repr(outcome)


@each_exercise
def test_there_are_hints_and_a_check_is_quick(exercise):
    assert len(exercise.hints) >= 2
    started = time.perf_counter()
    exercise.check(exercise.wrong_answers[0][0])
    assert time.perf_counter() - started < 5


@each_exercise
def test_a_function_is_tried_on_three_inputs_or_more(exercise):
    if isinstance(exercise, FunctionExercise):
        calls = []

        def count(*case):
            calls.append(case)
            return exercise.reference(*case)

        exercise.check(count)
        assert len(calls) >= 3


# --- an exercise of each kind, to be answered in all ways ---


def doubled(values: np.ndarray) -> np.ndarray:
    """Double each number.

    `values` is (n,).
    """
    return values * 2


def _doubled_cases(rng):
    yield (np.array([1.0, 2.0]),)
    yield (np.array([0.0]),)
    yield (rng.normal(size=3).round(2),)


def best_depth() -> int:
    """Give the depth with the highest accuracy."""
    accuracies = [0.71, 0.82, 0.64]
    return int(np.argmax(accuracies)) + 1


class TwoLayers(nn.Module):
    """Build a network of two linear layers with a ReLU between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(3, width)
        self.second = nn.Linear(width, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x).relu())


class WithoutReLU(TwoLayers):
    def forward(self, x):
        return self.second(self.first(x))


class LayerInAList(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first = nn.Linear(3, width)
        self.rest = [nn.Linear(width, 2)]

    def forward(self, x):
        return self.rest[0](self.first(x).relu())


class OtherNames(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.out = nn.Linear(width, 2)
        self.hidden = nn.Linear(3, width)

    def forward(self, x):
        return self.out(torch.relu(self.hidden(x)))


def _layer_cases(rng):
    for width in (4, 5, 6):
        yield {"width": width}, (torch.as_tensor(rng.normal(size=(5, 3)), dtype=torch.float32),)


DOUBLED = FunctionExercise(
    doubled,
    cases=_doubled_cases,
    misconceptions={
        "Squared, not doubled.": lambda values: values**2,
        "Only the first is doubled.": lambda values: np.concatenate([values[:1] * 2, values[1:]]),
        "Divided by nothing.": lambda _values: 1 / 0,
    },
    hints=("Think of two.", "Use *."),
    why="Doubling comes up.",
)
BEST_DEPTH = ValueExercise(
    best_depth,
    misconceptions={"Counted from zero: the first depth is 1.": 1},
    hints=("Look at the table.",),
    why="Depth is chosen on validation data.",
)
TWO_LAYERS = ModuleExercise(
    TwoLayers,
    cases=_layer_cases,
    misconceptions={"There is no ReLU.": WithoutReLU, "A Python list hides layers.": LayerInAList},
    hints=("Two nn.Linear.",),
    why="Layers must be registered to be trained.",
)


def not_yet(exercise, answer):
    outcome = exercise.check(answer)
    assert outcome.status == "not yet"
    return repr(outcome)


def test_feedback_shows_input_expectation_answer_and_misconception():
    assert repr(DOUBLED.check(lambda values: values**2)) == (
        "◐ not yet: doubled\n"
        "  input        values = array([1., 2.])\n"
        "  expected     array([2., 4.])\n"
        "  your answer  array([1., 4.])\n"
        "  difference   1 of 2 entries differ, the first at [0]: 1 is too small.\n"
        "  perhaps      Squared, not doubled."
    )


def test_a_misconception_must_explain_every_wrong_result():
    feedback = not_yet(DOUBLED, lambda values: values**2 if len(values) == 2 else values + 7)
    assert "perhaps" not in feedback


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (3, "A function is due, and a number came. Hand in doubled itself, without calling it."),
        (None, "A function is due, and None came."),
        (lambda: 1, "The check calls doubled(values), and your function takes ()."),
        (lambda _values: None, "A NumPy array is due, and None came. Is a `return` missing?"),
        (lambda values: (values * 2).tolist(), "a list came. np.array(...) makes an array of a list."),
        (lambda values: torch.tensor(values * 2), "A NumPy array is due, and a PyTorch tensor came."),
        (lambda _values: 4.0, "A NumPy array is due, and a number came."),
        (lambda _values: 4j, "A NumPy array is due, and an object of type complex came."),
        (
            lambda values: values * 1j,
            "The entries are other values (complex128), and decimals (float64) are due.",
        ),
        (lambda _values: print, "a function came. Call it to get its value."),
        (lambda values: (values * 2)[:, None], "The shape is (2, 1), and (2,) is due."),
        (
            lambda values: (values * 2).astype(int),
            "The entries are whole numbers (int64), and decimals (float64)",
        ),
        (lambda values: values * np.nan, "NaN (not a number) came."),
        (lambda values: values * 2 if values[0] == 1 else ..., "This path of the code still says `...`."),
    ],
)
def test_each_wrong_kind_of_answer_has_its_own_words(answer, says):
    assert says in not_yet(DOUBLED, answer)


def test_an_exception_is_shown_with_its_input_and_line():
    namespace = {}
    exec(
        "def helper(x):\n    return x.nothing\n\ndef doubled(values):\n    return helper(values)\n", namespace
    )
    feedback = not_yet(DOUBLED, namespace["doubled"])
    assert "values = array([1., 2.])" in feedback
    assert "AttributeError: 'numpy.ndarray' object has no attribute 'nothing'" in feedback
    assert "in line   2" in feedback

    def doubled(values):
        return np.linalg.inv(values)

    assert "return np.linalg.inv(values)" in not_yet(DOUBLED, doubled)
    assert "Divided by nothing." in not_yet(DOUBLED, lambda values: [1 / 0 for _ in values])


def test_system_exit_is_shown_and_keyboard_interrupt_passes():
    def interrupted(_values):
        raise KeyboardInterrupt

    assert "SystemExit: 3" in not_yet(DOUBLED, lambda _values: sys.exit(3))
    with pytest.raises(KeyboardInterrupt):
        DOUBLED.check(interrupted)


def test_changing_an_input_is_reported_and_harms_nothing():
    def in_place(values):
        values *= 2
        return values

    assert "input changed  values: your code changed it in place" in not_yet(DOUBLED, in_place)
    assert DOUBLED.check(doubled).status == "correct"


@pytest.fixture
def short_limit(monkeypatch):
    monkeypatch.setattr(core, "TIME_LIMIT_S", 0.3)


@pytest.mark.usefixtures("short_limit")
def test_an_endless_loop_is_stopped_and_other_timers_run_on():
    def endless(_values):
        while True:
            try:
                time.sleep(0.01)
            except Exception:  # noqa: BLE001 - what a student may write
                continue

    handler = signal.getsignal(signal.SIGALRM)
    before = signal.getitimer(signal.ITIMER_REAL)[0]
    started = time.monotonic()
    assert "Does a loop never end?" in not_yet(DOUBLED, endless)
    assert time.monotonic() - started < 3
    assert signal.getsignal(signal.SIGALRM) is handler
    after = signal.getitimer(signal.ITIMER_REAL)[0]
    assert (before == after == 0) or before - 3 < after < before


@pytest.mark.usefixtures("short_limit")
def test_what_is_loaded_at_a_first_use_is_not_the_students_time():
    loaded = []

    def tripled(values):
        if not loaded:
            time.sleep(0.5)  # as PyTorch does when it makes its first optimizer
            loaded.append("now")
        return values * 3

    exercise = FunctionExercise(tripled, cases=_doubled_cases, misconceptions={}, hints=(), why="It counts.")
    assert exercise.check(tripled).status == "correct"


def test_a_check_works_outside_the_main_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(DOUBLED.check(doubled).status))
    thread.start()
    thread.join()
    assert found == ["correct"]


def test_prints_and_warnings_of_the_student_are_not_swallowed(capsys):
    def chatty(values):
        sys.stdout.write("hello")
        warnings.warn("careful", UserWarning, stacklevel=1)
        return values * 2

    with pytest.warns(UserWarning, match="careful"):
        assert DOUBLED.check(chatty).status == "correct"
    assert "hello" in capsys.readouterr().out


def test_grade_is_silent_or_raises_the_feedback(capsys):
    assert DOUBLED.grade(doubled) is None
    with pytest.raises(AssertionError, match=r"Squared, not doubled\."):
        DOUBLED.grade(lambda values: values**2)
    with pytest.raises(AssertionError, match="not attempted"):
        DOUBLED.grade(...)
    assert capsys.readouterr() == ("", "")


def test_a_warning_on_the_way_to_a_right_answer_costs_no_points(capsys):
    def noisy(values):
        sys.stderr.write("how am I doing?")
        return doubled(values)

    DOUBLED.grade(noisy)  # nbgrader gives no points for a cell that writes to standard error
    assert capsys.readouterr().err == ""


# --- values ---


def test_a_value_is_checked_and_never_given_away():
    assert BEST_DEPTH.stub == "best_depth = ..."
    assert BEST_DEPTH.check(...).status == "not attempted"
    assert BEST_DEPTH.check(2).status == "correct"
    assert BEST_DEPTH.check(np.int64(2)).status == "correct"
    assert BEST_DEPTH.check(torch.tensor(2)).status == "correct"
    feedback = not_yet(BEST_DEPTH, 1)
    assert "1 is too small." in feedback
    assert "Counted from zero" in feedback
    assert "expected" not in feedback
    assert "Call it to get its value." in not_yet(BEST_DEPTH, lambda: 2)


def test_the_solution_of_a_value_is_its_computation():
    source = BEST_DEPTH.solution()
    assert source == (
        "import numpy as np\n\naccuracies = [0.71, 0.82, 0.64]\nbest_depth = int(np.argmax(accuracies)) + 1"
    )
    namespace = {}
    exec(source, namespace)
    assert namespace["best_depth"] == 2


# --- module classes ---


def test_a_module_is_judged_by_what_it_does():
    assert TWO_LAYERS.check(TwoLayers).status == "correct"
    assert TWO_LAYERS.check(OtherNames).status == "correct"
    assert "There is no ReLU." in not_yet(TWO_LAYERS, WithoutReLU)
    hidden = not_yet(TWO_LAYERS, LayerInAList)
    assert "'learned numbers': 16 is too small." in hidden
    assert "A Python list hides layers." in hidden
    assert "width = 4" in hidden


def test_the_stub_of_a_module_is_not_attempted():
    assert TWO_LAYERS.stub.endswith(
        "        super().__init__()\n        # Your layers.\n\n"
        "    def forward(self, x: torch.Tensor) -> torch.Tensor:\n        return ..."
    )
    namespace = {}
    exec(TWO_LAYERS.stub, namespace)
    assert TWO_LAYERS.check(namespace["TwoLayers"]).status == "not attempted"


def test_wrong_kinds_of_module_answers():
    assert "one of its modules came" in not_yet(TWO_LAYERS, TwoLayers(4))
    assert "A class derived from torch.nn.Module is due, and a number came." in not_yet(TWO_LAYERS, 3)
    assert "and the class dict came." in not_yet(TWO_LAYERS, dict)
    detached = type(
        "Detached", (TwoLayers,), {"forward": lambda self, x: TwoLayers.forward(self, x).detach()}
    )
    assert "'parameters the gradient reaches': 0 is too small." in not_yet(TWO_LAYERS, detached)


def test_a_check_leaves_the_random_numbers_of_the_notebook_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    TWO_LAYERS.check(TwoLayers)
    assert torch.equal(torch.rand(3), expected)


# --- what is shown ---


def test_hints_come_one_by_one_and_end():
    exercise = load("04_node2vec_cambridge").kmeans_step
    first, second = exercise.hint(), exercise.hint()
    assert exercise.hints[0] in repr(first)
    assert exercise.hints[1] not in repr(first)
    assert exercise.hints[1] in repr(second)
    for _ in exercise.hints:
        last = repr(exercise.hint())
    assert "There are no more hints. kmeans_step.solution() shows a solution." in last
    assert exercise.hints[0] in repr(load("04_node2vec_cambridge").kmeans_step.hint())


@pytest.mark.parametrize(
    ("answer", "word", "symbol"),
    [(..., "not attempted", "○"), (lambda values: values, "not yet", "◐"), (doubled, "correct", "✓")],
)
def test_outcomes_have_a_word_and_a_symbol_as_text_and_as_html(answer, word, symbol):
    outcome = DOUBLED.check(answer)
    for shown in (repr(outcome), outcome._repr_html_()):
        assert f"{symbol} {word}: doubled" in shown
    assert "background" not in outcome._repr_html_()


def test_html_is_escaped():
    shown = DOUBLED.check(lambda _values: "<script>alert(1)</script>")._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown
    assert "<b>" not in Card("<b>", (Row("<b>", "<b>"),))._repr_html_()


def test_a_solution_shows_itself_as_code():
    source = DOUBLED.solution()
    assert source.startswith("import numpy as np\n\n\ndef doubled(")
    assert repr(source) == source
    assert source._repr_markdown_() == f"```python\n{source}\n```"


class Broken:
    def __repr__(self):
        raise RuntimeError


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1 + 0.2, "0.3"),
        (np.float64(0.5), "0.5"),
        (torch.tensor([[0, 1], [2, 3]]), "tensor([[0, 1],\n        [2, 3]])"),
        (np.zeros((30, 2)), "array of shape (30, 2), float64"),
        ([0.1 + 0.2, (1, 2)], "[0.3, (1, 2)]"),
    ],
)
def test_values_are_described_shortly(value, text):
    assert describe(value) == text


def test_long_and_broken_values_can_be_described():
    assert len(describe(list(range(10_000)))) < 200
    assert len(describe("x" * 10_000)) < 300
    assert "Broken" in describe(Broken())
    assert "Broken" in not_yet(DOUBLED, lambda _values: Broken())


@pytest.mark.parametrize(
    ("expected", "got", "says"),
    [
        ({"a": 1, "b": 2}, {"a": 1, "c": 2}, "Missing: 'b'. Too many: 'c'."),
        ({"a": [1, 2]}, {"a": [1, 3]}, "'a': Entry 1: 3 is too large."),
        ({1, 2}, {2, 3}, "Missing: 1. Too many: 3."),
        ([1, 2], [1], "1 entries came, and 2 are due."),
        ((1, 2), 1, "A tuple is due, and a number came."),
        (1, (1,), "A number is due, and a tuple came."),
        ("conv1", nn.ReLU(), "A string is due, and a module came."),
        ({"finite": True}, {"finite": False}, "'finite': False is not what is due."),
        (True, True, ""),
        (torch.tensor(2.0), torch.tensor(3.0), "3 is too large."),
        ("street", "road", "'road' is another value"),
        (torch.tensor([True]), torch.tensor([1]), "whole numbers (torch.int64), and True/False (torch.bool)"),
        (torch.tensor(float("nan")), torch.tensor(float("nan")), ""),
        ((1, 2.0), [1, 2], ""),
    ],
)
def test_differences_in_words(expected, got, says):
    shown = difference(expected, got)
    assert says in shown
    assert bool(says) == bool(shown)


# --- the collection, and notebooks ---


def test_an_unknown_notebook_names_the_valid_ones():
    with pytest.raises(
        ValueError, match=r"no exercises for the notebook '\.\./setup'.*04_node2vec_cambridge"
    ):
        load("../setup")


def test_a_collection_lists_its_exercises():
    exercises = load("04_node2vec_cambridge")
    assert "kmeans_step" in dir(exercises)
    assert len(exercises) == 5
    for exercise in exercises:
        assert exercise.name in repr(exercises)
        assert exercise.name in exercises._repr_html_()
        assert exercise.prompt in repr(exercise)
    with pytest.raises(AttributeError, match=r"no exercise 'kmeans'; it has .*kmeans_step"):
        exercises.kmeans  # noqa: B018 - the access is what fails


@pytest.fixture
def stub_notebook():
    exercises = load("04_node2vec_cambridge")
    notebook = nbformat.v4.new_notebook()
    for exercise in exercises:
        tags = {"tags": ["exercise"]}
        notebook.cells.append(nbformat.v4.new_code_cell(exercise.stub, metadata=tags))
        notebook.cells.append(nbformat.v4.new_code_cell(f"exercises.{exercise.name}.check({exercise.name})"))
    return notebook, exercises


def test_a_notebook_with_solutions_put_in_passes_its_checks(stub_notebook):
    notebook, exercises = stub_notebook
    solved = solved_notebook(notebook, exercises)
    nbformat.validate(solved)
    namespace = {"exercises": exercises}
    for cell in solved.cells:
        if "exercise" in cell.metadata.get("tags", []):
            exec(cell.source, namespace)
        else:
            assert eval(cell.source, namespace).status == "correct"
    assert "return ..." in notebook.cells[0].source


def test_a_notebook_that_differs_from_its_exercises_is_refused(stub_notebook):
    notebook, exercises = stub_notebook
    missing = notebook.copy()
    missing.cells = notebook.cells[2:]
    with pytest.raises(
        ValueError, match="'degree_counts' has 0 cells tagged `exercise`; give it exactly one"
    ):
        solved_notebook(missing, exercises)
    notebook.cells[0].source += "\n# changed"
    with pytest.raises(ValueError, match="this cell tagged `exercise` is no stub of '04_node2vec_cambridge'"):
        solved_notebook(notebook, exercises)
