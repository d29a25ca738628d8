"""The kinds of exercise: a function, a value, a `torch.nn.Module` class.

An exercise is a reference solution, inputs to try, typical wrong answers, and words. A check runs the
student's answer and the reference on the same inputs and compares what is observed. Where the two differ,
it runs the wrong answers as well: one that gives what the student's gave names the mistake.
"""

from __future__ import annotations

import copy
import inspect
import io
import linecache
import signal
import textwrap
import threading
import time
import traceback
import warnings
import zlib
from abc import ABC, abstractmethod
from contextlib import contextmanager, redirect_stderr
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, NoReturn

import numpy as np
import torch

from course_utils.exercises._display import Card, Outcome, Row, Source, comparable, describe, difference
from course_utils.exercises._source import solution_source, stub_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

TIME_LIMIT_S = 4.0  # for all runs of a student's code in one check
_CHANGED = "your code changed it in place, and the caller still needs it. Work on a copy."
_SYMBOLS = {"not attempted": "○", "not yet": "◐", "correct": "✓"}


class _Trial(NamedTuple):
    """What one run gave, or the error it raised, and the names of the inputs it changed in place."""

    result: Any = None
    error: BaseException | None = None
    changed: tuple[str, ...] = ()

    def agrees(self, other: _Trial) -> bool:
        if self.error or other.error:
            return type(self.error) is type(other.error)
        return not difference(self.result, other.result)


class _TimeUpError(BaseException):
    """The time is up. Not an Exception, so that a student's `except Exception` lets it through."""


@dataclass(repr=False, eq=False)
class Exercise(ABC):
    """An exercise that can be checked, hinted at and solved.

    Parameters
    ----------
    reference
        The solution, which needs nothing but imports. Its source is what `solution` shows, its name is the
        exercise's name, and the first paragraph of its docstring is the prompt.
    cases
        Makes the inputs to try from a generator, simple ones first.
    misconceptions
        Typical wrong answers, as a student would hand them in, by the sentence that names the mistake. The
        cases together must tell them from the reference and from each other.
    hints
        From a first nudge to nearly the answer.
    why
        One sentence on why the thing matters, shown with "correct".
    """

    reference: Callable[..., Any]
    _: KW_ONLY
    cases: Callable[[np.random.Generator], Iterable[tuple[Any, ...]]]
    misconceptions: dict[str, Any]
    hints: tuple[str, ...]
    why: str
    _revealed: int = field(default=0, init=False)
    shows_expected: ClassVar[bool] = True

    @abstractmethod
    def complaint(self, answer: Any) -> str:
        """Say why an answer cannot even be tried; empty where it can."""

    @abstractmethod
    def inputs(self, case: tuple[Any, ...]) -> dict[str, Any]:
        """Name the inputs of a case."""

    @abstractmethod
    def observe(self, answer: Any, case: tuple[Any, ...]) -> Any:
        """Try an answer on one case and give what is to be compared; `...` means not written yet."""

    @property
    def name(self) -> str:
        """The name that the answer has in the notebook."""
        return self.reference.__name__

    @property
    def prompt(self) -> str:
        """What is to be done."""
        return " ".join((inspect.getdoc(self.reference) or "").split("\n\n")[0].split())

    @property
    def stub(self) -> str:
        """The code of the notebook's cell before the student starts."""
        return stub_source(self.reference)

    @property
    def wrong_answers(self) -> list[tuple[Any, str]]:
        """Typical wrong answers, each with the sentence that a check answers it with."""
        return [(answer, says) for says, answer in self.misconceptions.items()]

    def __repr__(self) -> str:
        return f"{self.name}: {self.prompt}\n  .check({self.name}), .hint(), .solution()"

    def correct_answer(self) -> Any:
        """Give the solution in the form that `check` takes."""
        return self.reference

    def solution(self) -> Source:
        """Show source that solves the exercise and runs by itself."""
        return Source(solution_source(self.reference))

    def hint(self) -> Card:
        """Reveal one more hint at each call, then say that there are no more."""
        self._revealed += 1
        shown = self.hints[: self._revealed]
        rows = [Row(str(number), text) for number, text in enumerate(shown, start=1)]
        if self._revealed > len(self.hints):
            rows.append(Row("end", f"There are no more hints. {self.name}.solution() shows a solution."))
        return Card(f"Hint {len(shown)} of {len(self.hints)}: {self.name}", tuple(rows))

    def grade(self, answer: Any) -> None:
        """Check an answer for a grader: silent when it is correct.

        What the answer writes to the standard error, warnings among it, is dropped: a grader such as nbgrader
        would take it for a failure.

        Raises
        ------
        AssertionError
            If it is not; the message is the feedback.
        """
        with redirect_stderr(io.StringIO()):
            outcome = self.check(answer)
        if outcome.status != "correct":
            raise AssertionError(str(outcome))

    def check(self, answer: Any, *, seed: int | None = None) -> Outcome:
        """Try an answer and say what was found. Of what the answer raises, only KeyboardInterrupt passes.

        Parameters
        ----------
        answer
            The student's function, value or class; `...` counts as not attempted.
        seed
            Draws other inputs than the exercise's usual ones.
        """
        if answer is ...:
            return self._not_attempted()
        if complaint := self.complaint(answer):
            return self._outcome("not yet", [Row("answer", complaint)])
        rng = np.random.default_rng(zlib.crc32(self.name.encode()) if seed is None else seed)
        cases = list(self.cases(rng))
        # The notebook's own random numbers stay as they are. The inputs are small: threads would only wait.
        with torch.random.fork_rng(devices=[]), _single_thread():
            # The reference goes first: what PyTorch imports at a first use, which on a busy machine takes longer
            # than the limit, is not the student's time.
            expected = [_Trial(self.observe(self.correct_answer(), copy.deepcopy(case))) for case in cases]
            trials = self._tries(answer, cases)
            if all(trial.result is ... for trial in trials):
                return self._not_attempted()
            return self._judge(answer, cases[: len(trials)], expected[: len(trials)], trials)

    def _judge(
        self, answer: Any, cases: list[tuple[Any, ...]], expected: list[_Trial], trials: list[_Trial]
    ) -> Outcome:
        wrong = [not due.agrees(came) for due, came in zip(expected, trials, strict=True)]
        for case, due, came, is_wrong in zip(cases, expected, trials, wrong, strict=True):
            if is_wrong or came.changed:
                rows = [Row("input", _listing(self.inputs(case)), code=True)] if case else []
                if is_wrong:
                    rows += self._fault(answer, due, came)
                    rows += [Row("perhaps", says) for says in self._mistake(cases, trials, wrong)]
                rows += [Row("input changed", f"{name}: {_CHANGED}") for name in came.changed]
                return self._outcome("not yet", rows)
        return self._outcome("correct", [Row("why it matters", self.why)])

    def _tries(self, answer: Any, cases: list[tuple[Any, ...]]) -> list[_Trial]:
        """Run the cases in turn until the time is up; the case that used it up is the last."""
        deadline = time.monotonic() + TIME_LIMIT_S
        trials: list[_Trial] = []
        for case in cases:
            trials.append(self._try(answer, case, seconds=max(deadline - time.monotonic(), 0.01)))
            if isinstance(trials[-1].error, _TimeUpError):
                break
        return trials

    def _try(self, answer: Any, case: tuple[Any, ...], *, seconds: float) -> _Trial:
        given = copy.deepcopy(case)
        try:
            with _time_limit(seconds):
                result = self.observe(answer, given)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a student's SystemExit, too, is shown and not raised
            return _Trial(error=error)
        before, after = self.inputs(case), self.inputs(given)
        changed = (
            name for name in before if comparable(before[name]) and difference(before[name], after[name])
        )
        return _Trial(result, changed=tuple(changed))

    def _mistake(self, cases: list[tuple[Any, ...]], trials: list[_Trial], wrong: list[bool]) -> list[str]:
        """Name the misconception that explains every wrong result, and most of the right ones."""
        best, says = 0, []
        for wrong_answer, sentence in self.wrong_answers:
            with warnings.catch_warnings(action="ignore"):  # they are not the student's
                others = self._tries(wrong_answer, cases)
            same = [came.agrees(other) for came, other in zip(trials, others, strict=False)]
            explains = all(agrees for agrees, is_wrong in zip(same, wrong, strict=False) if is_wrong)
            if explains and sum(same) > best:
                best, says = sum(same), [sentence]
        return says

    def _fault(self, answer: Any, due: _Trial, came: _Trial) -> list[Row]:
        rows = [Row("expected", describe(due.result), code=True)] if self.shows_expected else []
        if isinstance(came.error, _TimeUpError):
            return [*rows, Row("stopped", f"Not done after {TIME_LIMIT_S:.0f} s. Does a loop never end?")]
        if came.error:
            message = "".join(traceback.format_exception_only(came.error)).strip()
            return [*rows, Row("raised", message, code=True), *_place(came.error, answer)]
        rows.append(Row("your answer", describe(came.result), code=True))
        return [*rows, Row("difference", difference(due.result, came.result))]

    def _not_attempted(self) -> Outcome:
        return self._outcome("not attempted", [Row("to do", f"{self.prompt} Replace the `...`.")])

    def _outcome(self, status: str, rows: list[Row]) -> Outcome:
        return Outcome(f"{_SYMBOLS[status]} {status}: {self.name}", tuple(rows), status)


def _listing(inputs: dict[str, Any]) -> str:
    """Write inputs as assignments, one below the other."""
    margins = {name: " " * len(f"{name} = ") for name in inputs}
    return "\n".join(
        f"{name} = {textwrap.indent(describe(value), margins[name]).lstrip()}"
        for name, value in inputs.items()
    )


def _place(error: BaseException, answer: Any) -> list[Row]:
    """Find the last line of the student's own code on the way to an error."""
    code = getattr(answer, "forward", answer)
    own = [
        (frame.f_code.co_filename, number)
        for frame, number in traceback.walk_tb(error.__traceback__)
        if frame.f_globals is getattr(code, "__globals__", None)
    ]
    if not own:
        return []
    filename, number = own[-1]
    return [
        Row("in line", f"{number}: {linecache.getline(filename, number).strip()}".rstrip(": "), code=True)
    ]


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Stop the body with `_TimeUpError`, where the system can: on Unix, in the main thread.

    A timer that was running before (a test runner's, say) runs on afterwards.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> NoReturn:
        raise _TimeUpError

    started = time.monotonic()
    handler = signal.signal(signal.SIGALRM, stop)
    # Again every 10 ms: a bare `except:` in an endless loop catches most of them, but hardly all.
    remaining, interval = signal.setitimer(signal.ITIMER_REAL, seconds, 0.01)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if remaining:
            signal.setitimer(
                signal.ITIMER_REAL, max(remaining - (time.monotonic() - started), 1e-3), interval
            )


@contextmanager
def _single_thread() -> Iterator[None]:
    """Keep PyTorch to one thread, and then give it back those it had."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
