"""What is asked for: a function, a value, or a `torch.nn.Module` class."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from course_utils.exercises._core import Exercise
from course_utils.exercises._display import Source, kind
from course_utils.exercises._source import value_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy as np


class FunctionExercise(Exercise):
    """A function is asked for. A case is the tuple of its arguments; what it returns is compared."""

    def complaint(self, answer: Any) -> str:
        """Say so if this is no function, or one that takes other arguments."""
        if not callable(answer):
            return (
                f"A function is due, and {kind(answer)} came. Hand in {self.name} itself, without calling it."
            )
        parameters = list(inspect.signature(self.reference).parameters)
        try:
            signature = inspect.signature(answer)
        except ValueError:  # some functions written in C do not tell
            return ""
        try:
            signature.bind(*parameters)
        except TypeError:
            taken = ", ".join(signature.parameters)
            return f"The check calls {self.name}({', '.join(parameters)}), and your function takes ({taken})."
        return ""

    def inputs(self, case: tuple[Any, ...]) -> dict[str, Any]:
        """Name the arguments."""
        return dict(zip(inspect.signature(self.reference).parameters, case, strict=True))

    def observe(self, answer: Any, case: tuple[Any, ...]) -> Any:
        """Call the function."""
        return answer(*case)


def _once(_rng: np.random.Generator) -> list[tuple[Any, ...]]:
    return [()]


@dataclass(repr=False, eq=False)
class ValueExercise(Exercise):
    """A value is asked for: a number, a string, an array, a tensor, a list or a dictionary of these.

    The reference is a function without arguments whose last statement returns the value. Its body is the
    solution. The feedback keeps the value to itself.
    """

    cases: Callable[[np.random.Generator], Iterable[tuple[Any, ...]]] = field(default=_once, kw_only=True)
    shows_expected: ClassVar[bool] = False

    @property
    def stub(self) -> str:
        """The code of the notebook's cell before the student starts."""
        return f"{self.name} = ..."

    def correct_answer(self) -> Any:
        """Give the value."""
        return self.reference()

    def solution(self) -> Source:
        """Show source that computes the value."""
        return Source(value_source(self.reference))

    def complaint(self, answer: Any) -> str:
        """Find nothing: what is wrong with a value, the comparison says."""
        del answer
        return ""

    def inputs(self, case: tuple[Any, ...]) -> dict[str, Any]:
        """Name nothing: a value has no inputs."""
        del case
        return {}

    def observe(self, answer: Any, case: tuple[Any, ...]) -> Any:
        """Take the value as it is."""
        del case
        return answer


def output_and_parameters(module: nn.Module, inputs: tuple[Any, ...]) -> dict[str, Any]:
    """Measure what any module should get right.

    Returns
    -------
    dict
        The output in evaluation mode, how many numbers the module learns, and how many of its parameters
        the gradient of the output's sum reaches.
    """
    output = module.eval()(*inputs)
    parameters = list(module.parameters())
    reached = 0
    if parameters and isinstance(output, torch.Tensor) and output.requires_grad:
        gradients = torch.autograd.grad(output.sum(), parameters, allow_unused=True)
        reached = sum(gradient is not None for gradient in gradients)
    return {
        "learned numbers": sum(parameter.numel() for parameter in parameters),
        "parameters the gradient reaches": reached,
        "output": output,
    }


@dataclass(repr=False, eq=False)
class ModuleExercise(Exercise):
    """A `torch.nn.Module` class is asked for.

    A case is `(settings, inputs)`: the keyword arguments of the constructor and the arguments of `forward`.
    All parameters of one shape are given the same numbers, so that neither their names nor the order in
    which layers are made matters; then `measure(module, inputs)` is compared.
    """

    measure: Callable[[nn.Module, tuple[Any, ...]], Any] = field(default=output_and_parameters, kw_only=True)

    def complaint(self, answer: Any) -> str:
        """Say so if this is no module class."""
        if isinstance(answer, nn.Module):
            return f"The class is due, and one of its modules came. Hand in {self.name}, without calling it."
        if not (isinstance(answer, type) and issubclass(answer, nn.Module)):
            came = f"the class {answer.__name__}" if isinstance(answer, type) else kind(answer)
            return f"A class derived from torch.nn.Module is due, and {came} came."
        return ""

    def inputs(self, case: tuple[Any, ...]) -> dict[str, Any]:
        """Name the settings and the arguments of `forward`."""
        settings: dict[str, Any]
        settings, inputs = case
        names = list(inspect.signature(self.reference.forward).parameters)[1:]  # type: ignore[attr-defined]
        return settings | dict(zip(names, inputs, strict=False))

    def observe(self, answer: Any, case: tuple[Any, ...]) -> Any:
        """Build a module, fill its parameters, and measure it."""
        settings, inputs = case
        torch.manual_seed(0)
        module = answer(**settings)
        if module(*inputs) is ...:  # this first call also gives lazy layers their shapes
            return ...
        with torch.no_grad():
            for parameter in module.parameters():
                numbers = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
                parameter.copy_(numbers / max(parameter.shape[-1:], default=1) ** 0.5)
        return self.measure(module, inputs)
