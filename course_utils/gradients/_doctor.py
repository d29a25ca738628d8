"""The doctor, who looks for the reason why a model does not learn."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from course_utils.gradients import _backward_signs, _connections, _dynamics, _signs
from course_utils.gradients._findings import Diagnosis, Finding
from course_utils.gradients._findings import FailureKind as Kind
from course_utils.gradients._graph_checks import look_at_tensors, named_tensors
from course_utils.gradients._look import Look, Patient
from course_utils.gradients._trace import find_tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

GRADIENTS = {Kind.BLOCKED_GRADIENT, Kind.ZERO_GRADIENT, Kind.VANISHING_GRADIENT, Kind.EXPLODING_GRADIENT}
PACE = {Kind.LEARNING_RATE_TOO_HIGH, Kind.LEARNING_RATE_TOO_LOW}
SIGNALS = {Kind.DEAD_UNITS, Kind.SATURATED_UNITS, Kind.COLLAPSED_REPRESENTATION, Kind.VANISHING_SIGNAL}
NON_FINITE = {Kind.NON_FINITE_ACTIVATION, Kind.NON_FINITE_LOSS, Kind.NON_FINITE_GRADIENT}
ALL_LATER = NON_FINITE | SIGNALS | GRADIENTS | PACE | {Kind.CRASH}
# What each cause brings about. A consequence is left out: it goes when its cause is mended.
CONSEQUENCES: dict[Kind, set[Kind]] = {
    Kind.NON_FINITE_INPUT: ALL_LATER,
    Kind.INVALID_EDGE_INDEX: ALL_LATER,
    Kind.EMPTY_MASK: ALL_LATER,
    Kind.TARGET_MISMATCH: ALL_LATER,
    Kind.NEGATIVE_EDGE_WEIGHT: NON_FINITE | GRADIENTS | PACE,
    Kind.SUSPICIOUS_EDGE_INDEX: {Kind.COLLAPSED_REPRESENTATION, Kind.ZERO_GRADIENT, Kind.CRASH},
    Kind.UNSCALED_FEATURES: SIGNALS | GRADIENTS | PACE | NON_FINITE,
    Kind.CONSTANT_FEATURE: {Kind.COLLAPSED_REPRESENTATION, Kind.NON_FINITE_ACTIVATION},
    Kind.NON_FINITE_ACTIVATION: {Kind.NON_FINITE_LOSS, Kind.NON_FINITE_GRADIENT} | SIGNALS | GRADIENTS | PACE,
    Kind.DEAD_UNITS: {Kind.COLLAPSED_REPRESENTATION, Kind.VANISHING_SIGNAL} | GRADIENTS | PACE,
    Kind.SATURATED_UNITS: {Kind.COLLAPSED_REPRESENTATION, Kind.VANISHING_SIGNAL} | GRADIENTS | PACE,
    Kind.COLLAPSED_REPRESENTATION: GRADIENTS | PACE,
    Kind.VANISHING_SIGNAL: GRADIENTS | PACE,
    Kind.NON_FINITE_LOSS: {Kind.NON_FINITE_GRADIENT} | GRADIENTS | PACE,
    Kind.UNREGISTERED_PARAMETER: {Kind.LEARNING_RATE_TOO_LOW},
    Kind.UNCONNECTED_PARAMETER: {Kind.LEARNING_RATE_TOO_LOW},
    Kind.NOT_IN_OPTIMIZER: {Kind.LEARNING_RATE_TOO_LOW},
    Kind.NON_FINITE_GRADIENT: GRADIENTS | PACE,
    Kind.BLOCKED_GRADIENT: {Kind.ZERO_GRADIENT, Kind.VANISHING_GRADIENT} | PACE,
    Kind.ZERO_GRADIENT: {Kind.VANISHING_GRADIENT} | PACE,
    Kind.VANISHING_GRADIENT: PACE,
    Kind.EXPLODING_GRADIENT: PACE | NON_FINITE,
}
# The model has learned if its loss is this far below that of knowing nothing; at this share nothing is left to learn.
LEARNED, IDEAL = 0.7, 1e-6


def diagnose(
    model: nn.Module,
    loss_fn: Callable[[Any], Any],
    *,
    data: Any = None,
    optimizer: torch.optim.Optimizer | None = None,
    steps: int = 3,
    expected_unused: Collection[str] = (),
) -> Diagnosis:
    """Look for the reason why a model does not learn.

    The order of looking: inputs, forward pass, loss, connections (the graph behind the loss against the parameters),
    backward pass, and a few steps of training. What follows from something found earlier is left out. Afterwards the
    model, its buffers, gradients, hooks and modes, the optimizer and the random generators are as they were.

    Parameters
    ----------
    model
        The model, in the mode in which it trains.
    loss_fn
        Returns the loss tensor (one number) of ``loss_fn(model)``. It may raise: that is a finding.
    data
        What the model is trained on: `torch_geometric.data.Data`, a tensor, a pair of features and targets, or a
        dictionary of tensors. Without it the inputs are those that the model is called with.
    optimizer
        The optimizer, if it is to be examined too: whether it holds all parameters, and its learning rate.
    steps
        How many steps of training to look at. The cost is that of one step more, and of measuring two of them.
    expected_unused
        Names of parameters or modules that are at rest on purpose; a name covers all that is below it.

    Returns
    -------
    Diagnosis
        Findings, the primary cause first. Shown as text, and as HTML in a notebook.

    Raises
    ------
    TypeError
        If `model` is no module or `loss_fn` cannot be called.
    ValueError
        If `steps` is below 1, or a name in `expected_unused` names nothing.
    """
    _check_arguments(model, loss_fn, steps=steps, expected_unused=expected_unused)
    if any(is_lazy(parameter) for parameter in model.parameters()):
        # The first call gives such parameters their shapes for good.
        model, optimizer = copy.deepcopy((model, optimizer))
    patient = Patient(model, loss_fn, optimizer)
    try:
        findings = list(_examine(patient, data=data, steps=steps, expected=expected_unused))
    finally:
        patient.snapshot.restore()
    return Diagnosis(tuple(sorted(_causes(findings), key=lambda finding: finding.rank)))


def _examine(patient: Patient, *, data: Any, steps: int, expected: Collection[str]) -> Iterator[Finding]:
    first = patient.look()
    tensors = named_tensors(data) if data is not None else _given(first)
    yield from look_at_tensors(tensors, scale=False)
    yield from _signs.targets(first)
    is_number = (
        first.loss.numel() == 1 if isinstance(first.loss, Tensor) else hasattr(first.loss, "__float__")
    )
    if first.error is not None or not is_number:
        yield from _signs.crash(first)
        return
    if not (isinstance(first.loss, Tensor) and first.loss.grad_fn is not None):
        yield from _signs.non_finite(first)
        yield from _signs.detached(first, patient)
        yield from _frozen(patient)
        return
    scale = patient.ignorant_loss(first)
    comparable = math.isfinite(scale) and scale > 0
    learned = math.isfinite(scale) and scale - first.value > LEARNED * abs(scale)
    looks = [first]
    yield from _signs.non_finite(first)
    yield from _backward_signs.non_finite_gradient(first)
    if first.is_finite:
        if not comparable:
            scale = abs(first.value)
        yield from _signs.forward(first, tensors=tensors, learned=learned)
        run = _dynamics.train(patient, first, steps=steps, scale=max(scale, abs(first.value)))
        looks += run.looks
        yield from run.findings
        if run.looks and not (run.findings or run.looks[-1].is_finite):
            yield from _signs.non_finite(run.looks[-1])
            yield from _backward_signs.non_finite_gradient(run.looks[-1])
        second = run.looks[-1] if run.looks and run.looks[-1].gradients else first
        ideal = comparable and abs(first.value) <= IDEAL * scale
        yield from _backward_signs.zero_gradients(first, second, ideal=ideal, expected=expected)
        if not learned:
            yield from _backward_signs.sizes(first, second, scale=scale)
    reached = {
        id(patient.registered[name])
        for look in looks
        for name, gradient in look.gradients.items()
        if gradient.norm is not None
    } | {key for look in looks for key in look.leaves}
    inputs = [*find_tensors(data), *tensors.values(), *find_tensors(first.arguments), *first.inputs.values()]
    inputs = [each for each in inputs if not isinstance(each, nn.Parameter)]
    yield from _connections.connections(patient, looks, reached, inputs, expected)


def _given(look: Look) -> dict[str, Tensor]:
    """Name what the model was called with as a graph's parts are named."""
    tensors = {name: value for name, value in look.arguments.items() if isinstance(value, Tensor)}
    features = [name for name, value in tensors.items() if value.is_floating_point()]
    if features and "x" not in tensors:
        tensors["x"] = tensors.pop(features[0])
    return tensors


def _frozen(patient: Patient) -> Iterator[Finding]:
    reached = {id(parameter) for parameter in patient.registered.values()}
    for finding in _connections.connections(patient, [Look()], reached, (), ()):
        if finding.kind is Kind.FROZEN_PARAMETER:
            yield finding


def _causes(findings: list[Finding]) -> Iterator[Finding]:
    """Leave out what follows from something else, and what was found twice."""
    explained = {
        kind
        for finding in findings
        if finding.severity != "info"
        for kind in CONSEQUENCES.get(finding.kind, ())
    }
    seen = set()
    for finding in findings:
        key = (finding.kind, finding.where, finding.severity, finding.message)
        if finding.kind not in explained and key not in seen:
            seen.add(key)
            yield finding


def _check_arguments(model: Any, loss_fn: Any, *, steps: int, expected_unused: Collection[str]) -> None:
    if not isinstance(model, nn.Module):
        msg = f"diagnose takes a torch.nn.Module and a function of it, got {type(model).__name__}."
        raise TypeError(msg)
    if not callable(loss_fn):
        msg = f"loss_fn must be a function that takes the model, got {type(loss_fn).__name__}. Write `lambda m: ...`."
        raise TypeError(msg)
    if steps < 1:
        msg = f"steps must be 1 or more, got {steps}."
        raise ValueError(msg)
    if isinstance(expected_unused, str):
        msg = f"expected_unused is a list of names: write [{expected_unused!r}]."
        raise TypeError(msg)
    names = [name for name, _ in model.named_parameters()]
    for prefix in expected_unused:
        if not any(_connections.is_expected(name, [prefix]) for name in names):
            msg = f"expected_unused has {prefix!r}, which names no parameter. The parameters are {names}."
            raise ValueError(msg)
