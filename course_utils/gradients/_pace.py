"""A few steps of training: whether the loss falls, and whether it would at another learning rate."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from course_utils.gradients._advice import found
from course_utils.gradients._connections import group_names
from course_utils.gradients._findings import FailureKind as Kind
from course_utils.gradients._look import LEARNED
from course_utils.gradients._loss_rules import crash, first_line
from course_utils.gradients._numbers import norm
from course_utils.gradients._tape import saved

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from course_utils.gradients._findings import Finding, Severity
    from course_utils.gradients._look import Look, Patient

# A loss this many times that of the start and of knowing nothing is no noise of a batch or of dropout.
CLIMBED = 1.5
# At a pace of less than 1/10,000 of the loss a step, learning takes 10,000 steps and more. The rate is to blame if
# moving the weights down the gradient a hundred times as far, up to their size, gains 0.1 % of the loss at once.
PACE, FARTHER, GAIN = 1e-4, 1e2, 1e-3
# A first step of so many times the size of the weights leaves nothing of what they were.
OVERWRITTEN = 3.0
# Targets so many times larger than what the model puts out are far away for steps of a size that does not know them.
FAR = 1e3
# Schedules begin at nothing or at some thousandths of the rate meant; what is this far below it is their end.
SPENT = 1e-4
SIZES = (1e-3, 1e-2, 0.03, 0.1, 0.3, 1.0)
SHORTER = (0.1, 1e-2, 1e-3, 1e-4, 1e-6)


@dataclass
class Run:
    """What a few steps of training gave."""

    looks: list[Look]  # the first one before any step
    findings: list[Finding] = field(default_factory=list)
    step: list[tuple[Tensor, Tensor]] = field(default_factory=list)  # the first change of each tensor trained

    @property
    def values(self) -> list[float]:
        """The losses."""
        return [look.value for look in self.looks]

    @property
    def later(self) -> Look:
        """The last look with gradients, which is the first if none came after it."""
        return next(look for look in reversed(self.looks) if look.gradients)


def train(patient: Patient, first: Look, *, steps: int) -> Run:
    """Train for a few steps, with the random numbers of the first look each time.

    The passes of the training are the looks; after the last step a forward pass tells the loss. Without an optimizer
    of the user's the steps are Adam's, with a rate of 0.001.
    """
    run = Run([first])
    trained = patient.trained
    if patient.optimizer is None:  # Adam takes no sparse gradients.
        given = [(each.parameter, each.value) for each in first.gradients.values()]
        trained = [parameter for parameter, value in given if value is not None and not value.is_sparse]
    if not trained:
        return run
    optimizer = patient.optimizer or torch.optim.Adam(trained, lr=1e-3, foreach=False)
    for count in range(1, steps + 1):
        try:
            if isinstance(optimizer, torch.optim.LBFGS):
                optimizer.step(patient.plain_pass)  # type: ignore[no-untyped-call]
            else:
                optimizer.step()
        except Exception as error:  # noqa: BLE001 (an optimizer that does not fit the gradients is a finding)
            text = first_line(error)
            crashed = found(Kind.CRASH, "optimizer", f"`optimizer.step()` raised {text}.", error=text)
            run.findings.append(crashed)
            break
        if count == 1:
            run.step = [(tensor, tensor.detach() - patient.snapshot.original(tensor)) for tensor in trained]
        look = patient.look(measures=False, backward=count < steps or steps == 1)
        if look.error is None and not look.is_finite:
            look = patient.look()  # once more, to see where
        if look.error is not None:
            run.findings += crash(look)
            break
        run.looks.append(look)
        if not look.is_finite:
            break
    return run


def learning_rate(patient: Patient, run: Run) -> Iterator[Finding]:
    """Judge the learning rate of the user's optimizer by the losses, and by those of shorter and longer steps."""
    if patient.optimizer is None or len(run.looks) == 1:
        return
    groups = patient.optimizer.param_groups
    rates = {float(group["lr"]) for group in groups if "lr" in group}
    numbers: dict[str, Any] = {"losses": [float(f"{value:.3g}") for value in run.values]}
    if rates:
        numbers["lr"] = max(rates)
    if what := _too_high(patient, run):
        # A loss that has come down again may still learn, from weights that are not those it began with.
        first, last = run.looks[0], run.looks[-1]
        passed = last.value <= CLIMBED * abs(first.value) and _num_dead(last) <= _num_dead(first)
        severity: Severity | None = "warning" if passed else None
        yield found(Kind.LEARNING_RATE_TOO_HIGH, "optimizer", what, severity, **numbers)
    elif not run.looks[-1].is_finite or any(_warms_up(patient, group) for group in groups):
        return  # The rate is not low, or a schedule is at work and will raise it.
    elif still := {id(each) for group in groups if group.get("lr") == 0 for each in group["params"]}:
        gradients = run.looks[0].gradients
        names = [name for name, gradient in gradients.items() if id(gradient.parameter) in still]
        where = "optimizer" if len(names) == len(gradients) else group_names(names, gradients)[0]
        yield found(Kind.LEARNING_RATE_TOO_LOW, where, "The learning rate is 0.", lr=0.0)
    elif not _stands_still(patient, run):
        return
    elif what := _too_low(patient, run):
        yield found(Kind.LEARNING_RATE_TOO_LOW, "optimizer", what, **numbers)
    elif what := _out_of_reach(run):
        mend = "Standardise the targets, `y = (y - y.mean()) / y.std()`; turn predictions back afterwards."
        yield found(Kind.UNSCALED_FEATURES, "y", what, remedy=mend, **numbers)


def _warms_up(patient: Patient, group: dict[str, Any]) -> bool:
    """Whether a schedule has begun low and is on its way up, as far as can be told."""
    rate, meant = group.get("lr", 0.0), group.get("initial_lr", 0.0)
    return SPENT * meant < rate < meant or (rate == 0 < meant and not patient.has_begun)


def _too_high(patient: Patient, run: Run) -> str:
    """Say how the loss climbs; empty if it does not, or if shorter steps are no better."""
    first, last = run.looks[0], run.looks[-1]
    if _num_dead(last) > _num_dead(first):
        return f"After {len(run.looks) - 1} steps a layer of ReLUs is dead that was alive before."
    overwritten = _moved(patient, run) > OVERWRITTEN
    risen = max(each for each in run.values if math.isfinite(each)) > CLIMBED * abs(first.value)
    if not (last.is_finite or risen or overwritten):
        return ""  # No step was too long: an operation failed.
    # A jump that has passed by the last step is the ordinary start of a training, unless nothing is left of the
    # weights that it started from.
    reached = max(run.values[1:]) if overwritten else last.value
    # A loss whose terms cancel is measured by what it would change if the weights changed by their size.
    least = max(abs(first.value), first.strongest)
    if reached <= CLIMBED * least or reached <= CLIMBED * patient.ignorant_loss:
        return ""
    losses = ", ".join(f"{value:.3g}" for value in run.values)
    for length in SHORTER:
        if _loss_along(patient, run, length) < first.value:
            return f"The losses are {losses}; along the first step, {length:g} times as long, the loss falls."
    return ""


def _too_low(patient: Patient, run: Run) -> str:
    """Say what a far longer step would do to a loss that stands still; empty if it is no better."""
    first = run.looks[0]
    original = patient.snapshot.original
    moves = [(norm(change), norm(original(tensor))) for tensor, change in run.step]
    moved = max((change / size for change, size in moves if size), default=0.0)
    slopes = [(g.parameter, g.value) for g in first.gradients.values() if g.value is not None and g.norm]
    weights = math.hypot(*(norm(original(tensor)) for tensor, _ in slopes))
    slope = math.hypot(*(norm(gradient) for _, gradient in slopes))
    for size in SIZES if slopes else ():
        if size < FARTHER * moved:
            continue
        length = size * weights / slope
        loss = patient.loss_with((tensor, original(tensor) - length * along) for tensor, along in slopes)
        if first.value - loss > GAIN * _scale(patient, first):
            return (
                f"The first step moved the weights by {moved:.2g} of their size, and the loss from {first.value:.6g} "
                f"to {run.values[1]:.6g}; a step of {size:g} of their size would bring it to {loss:.4g}."
            )
    return ""


def _out_of_reach(run: Run) -> str:
    """Say how far away the targets of a regression are; empty if they are not."""
    for node in run.looks[0].nodes:
        output, target = saved(node, "self"), saved(node, "target")
        if output is not None and target is not None and target.is_floating_point():
            sizes = [norm(each) / math.sqrt(max(each.numel(), 1)) for each in (output, target)]
            if sizes[1] > FAR * max(sizes[0], 1.0):
                return (
                    f"The targets are about {sizes[1]:.3g} in size, what the model puts out {sizes[0]:.3g}, and the "
                    f"loss hardly moves: {run.values[0]:.6g}, then {run.values[-1]:.6g}."
                )
    return ""


def _stands_still(patient: Patient, run: Run) -> bool:
    """Whether the loss hardly moves, though the model has not learned yet."""
    first = run.looks[0]
    gain = abs(first.value - min(run.values[1:]))
    # A loss that is not far below that of knowing nothing need not be compared with it, which takes another pass.
    if (1 - LEARNED) * gain >= PACE * abs(first.value) * len(run.values):
        return False
    return gain < PACE * _scale(patient, first) * len(run.values) and not patient.has_learned(first.value)


def _moved(patient: Patient, run: Run) -> float:
    """Return the length of the first step, as a share of the size of all weights together."""
    before = math.hypot(*(norm(patient.snapshot.original(tensor)) for tensor, _ in run.step))
    return math.hypot(*(norm(change) for _, change in run.step)) / before if before else 0.0


def _loss_along(patient: Patient, run: Run, length: float) -> float:
    """Return the loss after the first step, so many times as long."""
    original = patient.snapshot.original
    return patient.loss_with((tensor, original(tensor) + length * change) for tensor, change in run.step)


def _scale(patient: Patient, first: Look) -> float:
    """Return the loss at the start or of knowing nothing, whichever is larger."""
    return max(abs(first.value), patient.ignorant_loss if math.isfinite(patient.ignorant_loss) else 0.0)


def _num_dead(look: Look) -> int:
    return sum(unit.hidden and unit.dead == 1 for unit in look.activations)
