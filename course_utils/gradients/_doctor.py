"""The doctor, who looks for the reason why a model does not learn."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from course_utils.gradients import _connections as connections
from course_utils.gradients import _gradient_rules as gradient_rules
from course_utils.gradients import _loss_rules as loss_rules
from course_utils.gradients import _signal_rules as signal_rules
from course_utils.gradients._advice import ADVICE
from course_utils.gradients._findings import Diagnosis, Finding
from course_utils.gradients._findings import FailureKind as Kind
from course_utils.gradients._graph_checks import ROLES, goes_by_direction, look_at_tensors, named_tensors
from course_utils.gradients._look import Look, Patient
from course_utils.gradients._pace import Run, learning_rate, train
from course_utils.gradients._tape import saved
from course_utils.gradients._trace import find_tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

# What a fault brings about, which is then left out: it goes when its cause is mended. What is left out explains
# nothing more itself, so the causes stand in the order in which they are asked.
PACE = {Kind.LEARNING_RATE_TOO_HIGH, Kind.LEARNING_RATE_TOO_LOW}
SLOW = PACE | {Kind.BLOCKED_GRADIENT, Kind.ZERO_GRADIENT, Kind.VANISHING_GRADIENT, Kind.EXPLODING_GRADIENT}
WEAK = SLOW | {Kind.COLLAPSED_REPRESENTATION, Kind.VANISHING_SIGNAL}
SIGNALS = WEAK | {Kind.DEAD_UNITS, Kind.SATURATED_UNITS}
NON_FINITE = {Kind.NON_FINITE_ACTIVATION, Kind.NON_FINITE_LOSS, Kind.NON_FINITE_GRADIENT}
INVALID = {Kind.NON_FINITE_INPUT, Kind.INVALID_EDGE_INDEX, Kind.EMPTY_MASK, Kind.TARGET_MISMATCH}
UNTRAINED = {Kind.UNREGISTERED_PARAMETER, Kind.UNCONNECTED_PARAMETER, Kind.NOT_IN_OPTIMIZER}
CONSEQUENCES: tuple[tuple[set[Kind], set[Kind]], ...] = (
    (INVALID, SIGNALS | NON_FINITE | {Kind.CRASH}),
    ({Kind.UNSCALED_FEATURES}, SIGNALS | NON_FINITE),
    ({Kind.NEGATIVE_EDGE_WEIGHT}, SLOW | NON_FINITE),
    ({Kind.SUSPICIOUS_EDGE_INDEX}, {Kind.COLLAPSED_REPRESENTATION, Kind.ZERO_GRADIENT, Kind.CRASH}),
    ({Kind.DEAD_UNITS, Kind.SATURATED_UNITS}, WEAK),
    ({Kind.EXPLODING_GRADIENT}, PACE | NON_FINITE | {Kind.COLLAPSED_REPRESENTATION}),
    ({Kind.NON_FINITE_ACTIVATION}, SIGNALS | NON_FINITE),
    ({Kind.COLLAPSED_REPRESENTATION, Kind.VANISHING_SIGNAL, Kind.NON_FINITE_GRADIENT}, SLOW),
    (UNTRAINED, {Kind.LEARNING_RATE_TOO_LOW}),
    ({Kind.BLOCKED_GRADIENT, Kind.ZERO_GRADIENT}, PACE | {Kind.ZERO_GRADIENT, Kind.VANISHING_GRADIENT}),
)
# At this share of the loss of knowing nothing, nothing is left to learn.
IDEAL = 1e-6


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
        How many steps of training to look at. The cost is theirs and that of one to three more
        (measured in docs/gradient-doctor.md).
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

    Notes
    -----
    Sizes are judged by ratios, so that other units, or a loss times 1e-8, change nothing:

    - features: one column 100 times the typical one, or all above 100. Counts beside zeros and ones stay below.
    - dead units: three quarters of a layer. Of random units half are dead, if all rows are alike.
    - saturated units: 80 % where the slope is 1 % of its maximum. A fifth in the steep part still passes gradients.
    - nodes alike: a cosine distance below 0.001, from above 0.1 at the start. Two layers keep it above 0.1.
    - vanishing signal: a ten-thousandth of what it was. A head scaled to a thousandth is still healthy.
    - gradients, each times the norm of its weights: vanishing at 1e-4 of the strongest (six sigmoids differ by some
      thousands, and learn), exploding at 300 times the loss (healthy ones have 0.01 to 10 times).
    - learning rate: too high if the loss climbs to 1.5 times (noise is less) and a shorter step lowers it; too low if
      it falls by less than 1e-4 a step and a hundred times as long a step would gain (not so where it has converged).

    All of them, and how well they do, are in docs/gradient-doctor.md.
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
    if first.error is not None and (bare := patient.look(measures=False)).error is None:
        # The hooks do not fit what the model does, as under `torch.func.vmap`: less can be seen.
        first = bare
    tensors = _inputs(first, data)
    # A gap that gets no farther than the input, as behind a mask, is no fault.
    stays = first.is_finite and all(out.finite for call in first.trace.calls for out in call.outputs)
    directed = goes_by_direction(patient.modules.values())
    yield from look_at_tensors(tensors, gaps="info" if stays else None, one_way="info" if directed else None)
    yield from loss_rules.targets(first)
    yield from (crashes := list(loss_rules.crash(first)))
    if crashes:
        return
    yield from loss_rules.non_finite(first)
    if first.tape is None or connections.misses_all(patient, first.tape):
        yield from loss_rules.detached(first, patient)
        yield from connections.frozen(patient)
        return
    yield from gradient_rules.non_finite_gradient(first)
    run = train(patient, first, steps=steps) if first.is_finite else Run([first])
    yield from run.findings
    if first.is_finite:
        yield from _examine_training(patient, run, tensors, expected)
    inputs = [*find_tensors([data, tensors, first.trace.arguments]), *first.trace.inputs.values()]
    inputs = [each for each in inputs if not isinstance(each, nn.Parameter)]
    yield from connections.unregistered(patient, first, run.looks[-1], inputs)
    patient.try_other_chances()
    yield from connections.unconnected(patient, first, expected)
    yield from connections.not_in_optimizer(patient, expected)
    yield from connections.frozen(patient)


def _examine_training(
    patient: Patient, run: Run, tensors: dict[str, Tensor], expected: Collection[str]
) -> Iterator[Finding]:
    """Judge the signals, the gradients and the steps of a model whose first loss and gradients are finite."""
    first, last = run.looks[0], run.looks[-1]
    alike = list(signal_rules.outputs_alike(first, tensors)) if last.is_finite else []
    if alike:  # unless a gate that begins at zero has opened since
        alike = list(signal_rules.outputs_alike(patient.look(backward=False), tensors))
    yield from signal_rules.scale(first, tensors)
    sizes = [*signal_rules.dead(first), *signal_rules.saturated(first)]
    sizes += list(signal_rules.units_alike(first)) or signal_rules.nodes_alike(first, tensors)
    sizes += signal_rules.vanishing(first)
    exploding = list(gradient_rules.exploding(patient, first, run))
    sizes += exploding or gradient_rules.vanishing_gradient(first, run)
    # Whatever its units look like, a model far better than guessing does its work.
    if (sizes or alike) and patient.has_learned(first.value):
        sizes = alike = []
    yield from sizes
    pace = [] if run.findings else list(learning_rate(patient, run))
    yield from pace
    if not (pace or run.findings or last.is_finite):
        yield from loss_rules.non_finite(last)
        yield from gradient_rules.non_finite_gradient(last)
    zero = list(gradient_rules.zero_gradients(first, run.later, expected))
    # At a loss of zero nothing is left to learn, unless it is zero whatever the model does.
    if zero and abs(first.value) < IDEAL * patient.ignorant_loss:
        zero = []
    yield from zero
    # What goes wrong in a layer makes rows alike behind it.
    if all(finding.severity == "info" for finding in [*sizes, *pace, *run.findings, *zero]):
        yield from alike


def _inputs(look: Look, data: Any) -> dict[str, Tensor]:
    """Return the inputs by name: those of `data`, or else those that were seen."""
    seen = _given(look)
    if data is None:
        return seen
    tensors = named_tensors(data)
    if tensors.get("x") is seen.get("x"):  # Edges and their weights may go past `data`, or by another name.
        return {name: seen[name] for name in ("edge_index", "edge_weight") if name in seen} | tensors
    return tensors


def _given(look: Look) -> dict[str, Tensor]:
    """Name what the model and the loss were called with as a graph's parts are named."""
    targets = (saved(node, "target") for node in look.nodes)
    tensors = named_tensors(look.trace.arguments | {"y": next((y for y in targets if y is not None), None)})
    has_rows = any(value.is_floating_point() and value.dim() == 2 for value in tensors.values())  # noqa: PLR2004
    for name, value in list(tensors.items()):  # A layer of one's own may call its edges e, ei or adj.
        is_list = value.dtype == torch.int64 and value.dim() == 2 and len(value) == 2  # noqa: PLR2004
        if has_rows and is_list and name.startswith(("e", "adj")):
            tensors.setdefault("edge_index", value)
    edges = tensors.get("edge_index", torch.empty(2, 0))
    # Edges that the model took name none but the nodes of their own kind.
    is_list = look.error is None and edges.layout == torch.strided and edges.numel() > 0
    num_nodes = int(edges.max()) + 1 if is_list else 0
    for name, value in list(tensors.items()):
        if name not in ROLES and value.is_floating_point():
            role = "edge_weight" if value.shape == edges.shape[-1:] else "x"
            if role not in tensors and (role == "edge_weight" or len(value) >= num_nodes):
                tensors[role] = tensors.pop(name)
    return tensors


def _causes(findings: list[Finding]) -> Iterator[Finding]:
    """Leave out what follows from something else, and what was found twice."""
    grave = {finding.kind for finding in findings if finding.severity == "error"}
    # What is milder than others of its kind, such as an empty mask for tests, explains nothing.
    faults = grave | {each.kind for each in findings if each.severity == ADVICE[each.kind].severity != "info"}
    explained: set[Kind] = set()
    blamed: set[Kind] = set()  # for numbers that are lost: an error, whatever it is otherwise
    for causes, consequences in CONSEQUENCES:
        for cause in (causes & faults) - explained:
            explained |= consequences - {cause}
            if grave & NON_FINITE & consequences:
                blamed.add(cause)
    seen = set()
    for each in findings:
        finding = replace(each, severity="error") if each.kind in blamed and each.severity != "info" else each
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
        if not any(connections.is_expected(name, [prefix]) for name in names):
            msg = f"expected_unused has {prefix!r}, which names no parameter. The parameters are {names}."
            raise ValueError(msg)
