"""Exercises of notebook 11: parameters that no gradient reaches."""

# Students read the solutions: they hold no casts for the type checker's sake.
# mypy: disable-error-code="no-any-return, no-untyped-call"

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from course_utils.exercises._kinds import FunctionExercise

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np


class _Numbers(nn.Module):
    """Parameters of shape (2,) by name, one called `frozen` without a gradient, and one in a Python list."""

    def __init__(self, rng: np.random.Generator, names: str) -> None:
        super().__init__()
        for name in names.split():
            values = torch.as_tensor(rng.normal(size=2).round(2) + 3, dtype=torch.float32)
            self.register_parameter(name, nn.Parameter(values, requires_grad=name != "frozen"))
        self.layers = [nn.Parameter(torch.tensor([5.0, 6.0]))]  # parameters() does not find it


@dataclass(repr=False, eq=False)
class _LossExercise(FunctionExercise):
    """What is asked for looks at a loss, and leaves alone the gradients that an earlier step left."""

    takes_model: bool = False

    def inputs(self, case: tuple[Any, ...]) -> dict[str, Any]:
        """Name the parameters, and say what the loss is."""
        model, _, words, *further = case
        names = [name for name, _ in model.named_parameters()]
        return {"parameters": names, "loss": words} | dict(zip(["name"], further, strict=False))

    def observe(self, answer: Any, case: tuple[Any, ...]) -> Any:
        """Compute the loss, call the function, and see whether it left the gradients alone."""
        model, loss_fn, _, *names = case
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        parameters, loss = dict(model.named_parameters()), loss_fn(model)
        further = [parameters[name] for name in names]
        result = answer(model, loss) if self.takes_model else answer(loss, *further)
        if result is ...:
            return ...
        untouched = all(p.grad is not None and bool((p.grad == 1).all()) for p in parameters.values())
        return {
            "answer": _named(result, parameters),
            "every .grad": "as before" if untouched else "changed by your code",
        }


def _named(result: Any, parameters: dict[str, nn.Parameter]) -> Any:
    """Write a set of tensors as a set of names, so that it can be compared and shown."""
    if not isinstance(result, set):
        return result
    names = {id(parameter): name for name, parameter in parameters.items()}
    return {
        names.get(id(each), f"another tensor {each.tolist()}") if isinstance(each, torch.Tensor) else each
        for each in result
    }


def gradient_or_none(loss: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor | None:
    """Give the gradient of `loss` with respect to `parameter`, or None if they are not connected.

    A gradient that is zero is given as zeros. No `.grad` may change.
    """
    return torch.autograd.grad(loss, parameter, retain_graph=True, allow_unused=True)[0]


# What the loss is, as it is shown and as it is computed.
_SQUARE: tuple[Any, str] = (lambda m: m.first.square().sum(), "(first ** 2).sum()")
_TIMES_ZERO: tuple[Any, str] = (
    lambda m: m.first.sum() + 0 * m.second.sum(),
    "first.sum() + 0 * second.sum()",
)
_CUT: tuple[Any, str] = (lambda m: (m.first.detach() * m.second).sum(), "(first.detach() * second).sum()")


def _gradient_cases(rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
    for loss, name in ((_SQUARE, "first"), (_SQUARE, "second"), (_TIMES_ZERO, "second"), (_CUT, "first")):
        yield _Numbers(rng, "first second"), *loss, name


def _by_backward(loss: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor | None:
    loss.backward()
    return parameter.grad


def _emptied(parameter: torch.Tensor) -> torch.Tensor:
    parameter.grad = None
    return parameter


def _zeros_to_none(loss: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor | None:
    gradient = gradient_or_none(loss, parameter)
    return None if gradient is None or not gradient.any() else gradient


_GRADIENT_OR_NONE = _LossExercise(
    gradient_or_none,
    cases=_gradient_cases,
    misconceptions={
        "An unused parameter raises an error unless you say allow_unused=True.": (
            lambda loss, parameter: torch.autograd.grad(loss, parameter)[0]
        ),
        "materialize_grads=True writes zeros where there is no gradient. They hide that nothing is connected.": (
            lambda loss, parameter: torch.autograd.grad(loss, parameter, materialize_grads=True)[0]
        ),
        "backward() adds to what .grad held before. torch.autograd.grad leaves it alone.": _by_backward,
        "backward() writes into .grad, whatever was there before. torch.autograd.grad leaves it alone.": (
            lambda loss, parameter: _by_backward(loss, _emptied(parameter))
        ),
        "torch.autograd.grad gives a tuple, with one entry here. Take [0].": (
            lambda loss, parameter: torch.autograd.grad(loss, parameter, allow_unused=True)
        ),
        "A gradient of zero is a gradient: the parameter is connected. Only None means that it is not.": (
            _zeros_to_none
        ),
    },
    hints=(
        "loss.backward() writes into .grad. Another function returns the gradients in place of that.",
        "torch.autograd.grad(loss, parameter) returns a tuple with one entry.",
        "Two options: allow_unused=True, and retain_graph=True to keep the graph.",
    ),
    why="None and 0 look alike in a plot of gradients, and optimizers treat them differently.",
)


def unconnected_parameters(model: nn.Module, loss: torch.Tensor) -> set[str]:
    """Find the names of the parameters that require a gradient and get none from `loss`.

    A frozen parameter requires none. A gradient of zero is a gradient. No `.grad` may change.
    """
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not named or not loss.requires_grad:
        return set(named)  # autograd.grad would raise
    gradients = torch.autograd.grad(loss, list(named.values()), retain_graph=True, allow_unused=True)
    return {name for name, gradient in zip(named, gradients, strict=True) if gradient is None}


def _unconnected_cases(rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
    for loss in (_SQUARE, _TIMES_ZERO, _CUT):
        yield _Numbers(rng, "first second"), *loss
    yield _Numbers(rng, "first second frozen third"), *_CUT


def _after_backward(model: nn.Module, loss: torch.Tensor, *, zero: bool = True) -> set[str]:
    if zero:
        model.zero_grad()
    loss.backward()
    return {name for name, p in model.named_parameters() if p.requires_grad and p.grad is None}


def _or_zero(model: nn.Module, loss: torch.Tensor) -> set[str]:
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    gradients = torch.autograd.grad(loss, list(named.values()), materialize_grads=True)
    return {name for name, gradient in zip(named, gradients, strict=True) if not gradient.any()}


_UNCONNECTED_PARAMETERS = _LossExercise(
    unconnected_parameters,
    cases=_unconnected_cases,
    takes_model=True,
    misconceptions={
        "The frozen parameters are in it. They require no gradient, so they miss none.": (
            lambda model, loss: (
                unconnected_parameters(model, loss)
                | {name for name, p in model.named_parameters() if not p.requires_grad}
            )
        ),
        "torch.autograd.grad refuses a frozen parameter. Hand it those that require a gradient.": (
            lambda model, loss: {
                name
                for name, parameter in model.named_parameters()
                if torch.autograd.grad(loss, parameter, retain_graph=True, allow_unused=True)[0] is None
            }
        ),
        "A gradient of exactly zero is a gradient. Only None means that there is no way to the loss.": _or_zero,
        "zero_grad() and backward() change .grad, which belongs to the caller. Use torch.autograd.grad.": (
            _after_backward
        ),
        ".grad still holds what an earlier step left there, so it is None nowhere. Use torch.autograd.grad.": (
            partial(_after_backward, zero=False)
        ),
    },
    hints=(
        "Keep name and parameter together: dict(model.named_parameters()), less those without requires_grad.",
        "torch.autograd.grad(loss, list_of_parameters, allow_unused=True) gives None where nothing is connected.",
        "zip(names, gradients) brings them together. retain_graph=True leaves the graph for backward().",
    ),
    why="One line after the first loss finds layers that would never have learned, in any model.",
)


def leaves_of(loss: torch.Tensor) -> set[torch.Tensor]:
    """Collect the leaf tensors that `loss.backward()` would give a gradient, by walking back from `loss.grad_fn`.

    A node's `next_functions` holds pairs; the first of a pair is the node before it, or None. A node with an
    attribute `variable` is the end of the way, and that attribute is the leaf.
    """
    leaves, seen, waiting = set(), set(), [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)  # ways meet again: without this the work may double at every step
        if hasattr(node, "variable"):
            leaves.add(node.variable)
        waiting.extend(before for before, _ in node.next_functions)
    return leaves


def _leaves_cases(rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
    yield _Numbers(rng, "first second"), *_SQUARE
    yield _Numbers(rng, "first second"), lambda m: (m.first * m.second).sum(), "(first * second).sum()"
    yield (
        _Numbers(rng, "first second third frozen"),
        lambda m: ((m.first + m.frozen).exp() * m.second + m.third.detach()).log().sum(),
        "((first + frozen).exp() * second + third.detach()).log().sum(); frozen is frozen",
    )
    yield (
        _Numbers(rng, "first"),
        lambda m: (m.first * m.layers[0]).sum(),
        "(first * layers[0]).sum(), where layers is a Python list",
    )


def _first_inputs(loss: torch.Tensor) -> set[torch.Tensor]:
    node: Any = loss.grad_fn
    while node is not None and not hasattr(node, "variable"):
        node = node.next_functions[0][0]
    return {node.variable} if node is not None else set()


_LEAVES_OF = _LossExercise(
    leaves_of,
    cases=_leaves_cases,
    misconceptions={
        "Only the first input of each operation is followed. next_functions has one pair for each input.": (
            _first_inputs
        ),
        "Only one step is made. The leaves may be many operations away: go on until there are none left.": (
            lambda loss: {n.variable for n, _ in loss.grad_fn.next_functions if hasattr(n, "variable")}
        ),
        "These are the nodes that end the ways. The leaf is a node's attribute `variable`.": (
            lambda loss: {f"AccumulateGrad of {leaf.tolist()}" for leaf in leaves_of(loss)}
        ),
    },
    hints=(
        "Keep a list of nodes to visit. It begins with [loss.grad_fn], and each visit adds to it.",
        "node.next_functions holds pairs (node, number). The node can be None: that input needs no gradient.",
        'hasattr(node, "variable") tells the leaves. Remember the nodes you have seen.',
    ),
    why="It finds even what parameters() does not list, such as a layer in a Python list.",
)


class _GradientExercise(FunctionExercise):
    """A function of one tensor, whose result is compared, and the gradient of a weighted sum of the result."""

    def observe(self, answer: Any, case: tuple[Any, ...]) -> Any:
        """Call the function with a leaf, and go backward."""
        leaf = case[0].clone().requires_grad_()
        result = answer(leaf)
        if not isinstance(result, torch.Tensor):
            return result
        weights = torch.arange(1.0, result.numel() + 1).view(result.shape)
        loss = (weights * result).sum()
        gradient = gradient_or_none(loss, leaf) if loss.requires_grad else None
        return {"result": result.detach(), "gradient": "None" if gradient is None else gradient}


def straight_through_round(x: torch.Tensor) -> torch.Tensor:
    """Round the entries of `x`, and let the gradient pass as if nothing had happened.

    The result is that of `x.round()`; its derivative with respect to `x` is 1 in each entry.
    """
    return x + (x.round() - x).detach()


def _round_cases(rng: np.random.Generator) -> Iterator[tuple[torch.Tensor]]:
    yield (torch.tensor([0.2, 0.8, 1.6]),)
    yield (torch.tensor([-1.4, -0.6, 2.0, 2.5]),)
    for shape in ((5,), (2, 3)):
        yield (torch.as_tensor(rng.normal(0, 4, size=shape).round(2), dtype=torch.float32),)


_STRAIGHT_THROUGH_ROUND = _GradientExercise(
    straight_through_round,
    cases=_round_cases,
    misconceptions={
        "round() has a gradient of 0 everywhere. It is connected, and nothing comes through.": torch.round,
        "There is no gradient at all: the result is cut off from x.": lambda x: x.detach().round(),
        "The gradient passes, but the numbers are not rounded.": lambda x: x * 1,
        "The signs are turned: the gradient is -1.": lambda x: (x.round() + x).detach() - x,
    },
    hints=(
        "The result should be x plus something that the backward pass takes for a constant.",
        "What must be added to x to make it x.round()? Where does detach() belong?",
        "x + (...).detach() has the gradient of x.",
    ),
    why="Quantised and discrete networks are trained so (Bengio et al. 2013).",
)


EXERCISES = (_GRADIENT_OR_NONE, _UNCONNECTED_PARAMETERS, _LEAVES_OF, _STRAIGHT_THROUGH_ROUND)
