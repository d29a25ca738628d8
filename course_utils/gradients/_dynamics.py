"""A few steps of training: whether the loss falls, and whether it would at another learning rate."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from course_utils.gradients._advice import found
from course_utils.gradients._connections import group_names
from course_utils.gradients._findings import FailureKind as Kind
from course_utils.gradients._signs import crash
from course_utils.gradients._tape import norm

if TYPE_CHECKING:
    from collections.abc import Iterator

    from course_utils.gradients._findings import Finding
    from course_utils.gradients._look import Look, Patient

# A loss this many times that of the start and of knowing nothing is no noise of a batch or of dropout.
CLIMBED = 1.5
# At a pace of less than 1/100,000 of the loss a step, learning takes 100,000 steps and more. The learning rate is to
# blame if it moves no weights by 1/10,000 of their size, and moving them down the gradient by more, up to their size,
# gains 0.1 % of the loss at once. The latter is not true of a model that has converged.
PACE, STILL, GAIN = 1e-5, 1e-4, 1e-3
SIZES = (1e-3, 1e-2, 0.03, 0.1, 0.3, 1.0)
SHORTER = (0.1, 1e-2, 1e-3, 1e-4, 1e-6)


@dataclass
class Run:
    """What a few steps of training gave."""

    looks: list[Look] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def train(patient: Patient, first: Look, *, steps: int, scale: float) -> Run:
    """Train for a few steps and look again, with the random numbers of the first look each time.

    Without an optimizer of the user's the steps are Adam's, with a rate of 0.001, and the rate is not judged.
    """
    run = Run()
    trained = _trained(patient, first)
    if not trained:
        return run
    optimizer = patient.optimizer or torch.optim.Adam(trained, lr=1e-3, foreach=False)
    before = [tensor.detach().clone() for tensor in trained]
    slopes = [(tensor, tensor.grad) for tensor in trained if tensor.grad is not None and norm(tensor.grad)]
    values, step = [first.value], []
    for count in range(steps):
        error = _step(optimizer, patient)
        if error is not None:
            text = f"{type(error).__name__}: {error}".splitlines()[0]
            what = f"`optimizer.step()` raised {text}."
            run.findings.append(found(Kind.CRASH, "optimizer", what, error=text))
            return run
        if count == 0:
            step = [tensor.detach() - old for tensor, old in zip(trained, before, strict=True)]
        look = patient.look(measures=count == steps - 1)
        if look.error is not None:
            run.findings += crash(look)
            return run
        if not look.is_finite and count < steps - 1:
            look = patient.look()  # once more, to see where
        run.looks.append(look)
        values.append(look.value)
        if not look.is_finite:
            break
    if patient.optimizer is not None:
        # Put the weights back first: the searches begin where the training did.
        with patient.other_values(trained):
            for tensor, old in zip(trained, before, strict=True):
                tensor.data.copy_(old)
            along = _Search(patient, trained, step, slopes)
            run.findings += _judge(patient, first, run, values, along, scale=scale)
    return run


@dataclass
class _Search:
    """Losses along the first step and down the gradient, as far as wanted."""

    patient: Patient
    trained: list[Tensor]
    step: list[Tensor]
    slopes: list[tuple[Tensor, Tensor]]  # parameters, and their gradients at the start

    @property
    def moved(self) -> float:
        """The largest step of a matrix of weights, as a share of its size."""
        pairs = [(norm(change), norm(tensor)) for tensor, change in zip(self.trained, self.step, strict=True)]
        return max((change / size for change, size in pairs if size), default=0.0)

    def loss_down_the_gradient(self, size: float) -> float:
        """Return the loss after a step down the gradient, as a share of the size of the weights."""
        weights = math.hypot(*(norm(tensor) for tensor, _ in self.slopes))
        slope = math.hypot(*(norm(gradient) for _, gradient in self.slopes))
        with self.patient.other_values(self.trained):
            for tensor, gradient in self.slopes:
                tensor.data.add_(gradient, alpha=-size * weights / slope)
            return self.patient.loss_value()

    def loss(self, length: float) -> float:
        with self.patient.other_values(self.trained):
            for tensor, change in zip(self.trained, self.step, strict=True):
                tensor.data.add_(change, alpha=length)
            return self.patient.loss_value()


def _trained(patient: Patient, first: Look) -> list[Tensor]:
    if patient.optimizer is None:
        # Adam takes no sparse gradients.
        learners = [gradient.parameter for gradient in first.gradients.values()]
        return [each for each in learners if each.grad is not None and not each.grad.is_sparse]
    return [tensor for group in patient.optimizer.param_groups for tensor in group["params"]]


def _step(optimizer: torch.optim.Optimizer, patient: Patient) -> Exception | None:
    def closure() -> float:
        return patient.plain_pass()

    try:
        if isinstance(optimizer, torch.optim.LBFGS):
            optimizer.step(closure)  # type: ignore[no-untyped-call]
        else:
            optimizer.step()
    except Exception as error:  # noqa: BLE001 (an optimizer that does not fit the gradients is a finding)
        return error
    return None


def _too_high(first: Look, run: Run, values: list[float], along: _Search, *, scale: float) -> str:
    """Say how the loss climbs; empty if it does not, or if shorter steps are no better."""
    if run.looks and _dead(run.looks[-1]) > _dead(first):
        return f"After {len(values) - 1} steps a layer of ReLUs is dead that was alive before."
    # A jump that has passed by the last step is the ordinary start of a training.
    ceiling = CLIMBED * max(first.value, scale)
    if all(map(math.isfinite, values)) and values[-1] <= ceiling:
        return ""
    calmer = next((length for length in SHORTER if along.loss(length) < first.value), None)
    if calmer is None:
        return ""
    losses = ", ".join(f"{value:.3g}" for value in values)
    return f"The losses are {losses}; along the first step, {calmer:g} times as long, the loss falls."


def _too_low(first: Look, values: list[float], along: _Search, *, scale: float) -> str:
    """Say how the loss stands still; empty if it does not, or if longer steps are no better."""
    gain = first.value - min(values[1:], default=first.value)
    if abs(gain) >= PACE * scale * len(values) or along.moved >= STILL or not along.slopes:
        return ""
    losses = {size: along.loss_down_the_gradient(size) for size in SIZES}
    better = [size for size, loss in losses.items() if first.value - loss > GAIN * scale]
    if not better:
        return ""
    return (
        f"The first step moved the weights by {along.moved:.2g} of their size, and the loss from {first.value:.6g} "
        f"to {values[1]:.6g}; a step of {better[0]:g} of their size would bring it to {losses[better[0]]:.4g}."
    )


def _judge(
    patient: Patient, first: Look, run: Run, values: list[float], along: _Search, *, scale: float
) -> Iterator[Finding]:
    assert patient.optimizer is not None
    groups = patient.optimizer.param_groups
    numbers: dict[str, Any] = {
        "lr": max(float(group["lr"]) for group in groups),
        "losses": [float(f"{value:.3g}") for value in values],
    }
    if what := _too_high(first, run, values, along, scale=scale):
        yield found(Kind.LEARNING_RATE_TOO_HIGH, "optimizer", what, **numbers)
    elif any(group["lr"] < group.get("initial_lr", 0.0) for group in groups):
        return  # A schedule is at work, and will raise the rate.
    elif still := {id(each) for group in groups if group["lr"] == 0 for each in group["params"]}:
        names = [name for name, gradient in first.gradients.items() if id(gradient.parameter) in still]
        where = "optimizer" if len(names) == len(first.gradients) else group_names(names, first.gradients)[0]
        yield found(Kind.LEARNING_RATE_TOO_LOW, where, "The learning rate is 0.", lr=0.0)
    elif what := _too_low(first, values, along, scale=scale):
        yield found(Kind.LEARNING_RATE_TOO_LOW, "optimizer", what, **numbers)


def _dead(look: Look) -> int:
    return sum(unit.hidden and unit.dead == 1 for unit in look.activations)
