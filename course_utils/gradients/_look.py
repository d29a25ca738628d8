"""One look at a model: a forward pass with everything measured, and the backward pass behind it."""

from __future__ import annotations

import math
import warnings
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from course_utils.gradients._snapshot import (
    Snapshot,
    get_rng_state,
    set_rng_state,
    walk_modules,
    walk_parameters,
)
from course_utils.gradients._tape import Activation, Passage, Tape, norm
from course_utils.gradients._trace import Call, Trace

if TYPE_CHECKING:
    from collections.abc import Callable

    from course_utils.gradients._trace import Measured


@dataclass(frozen=True)
class Gradient:
    """What one parameter got."""

    name: str
    parameter: Tensor
    norm: float | None  # None without a gradient, nan or inf if it is not finite
    weight_norm: float

    @property
    def strength(self) -> float:
        """How much the loss would change if the parameter changed by about its own size.

        Unlike the norm of the gradient it stays the same if the parameter is written in other units. What begins at
        zero (biases) gets a tenth for each entry as its size.
        """
        size = self.weight_norm
        if self.parameter.dim() < 2:  # noqa: PLR2004 (biases)
            size = max(size, 0.1 * math.sqrt(self.parameter.numel()))
        return (self.norm or 0.0) * size


@dataclass
class Look:
    """What one look gave."""

    loss: Any = None  # what loss_fn returned
    value: float = math.nan
    error: Exception | None = None
    error_in: str = "model"
    in_backward: bool = False
    calls: list[Call] = field(default_factory=list)
    arguments: dict[str, Any] = field(default_factory=dict)
    inputs: dict[int, Tensor] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    tape: Tape | None = None
    leaves: dict[int, Tensor] = field(default_factory=dict)
    activations: list[Activation] = field(default_factory=list)
    averages_nothing: bool = False
    broadcast: tuple[int, ...] | None = None
    odd_targets: tuple[float, float] | None = None
    passages: list[Passage] = field(default_factory=list)
    gradients: dict[str, Gradient] = field(default_factory=dict)  # of registered parameters that ask for one

    @property
    def is_finite(self) -> bool:
        """Whether the loss and all gradients are numbers."""
        return math.isfinite(self.value) and all(
            math.isfinite(g.norm or 0.0) for g in self.gradients.values()
        )


class Patient:
    """A model under examination: how to run it, and what it was before.

    Parameters
    ----------
    model, loss_fn, optimizer
        As `diagnose` takes them.
    """

    def __init__(
        self, model: nn.Module, loss_fn: Callable[[Any], Any], optimizer: torch.optim.Optimizer | None
    ) -> None:
        self.model, self.loss_fn, self.optimizer = model, loss_fn, optimizer
        self.snapshot = Snapshot(model, loss_fn, optimizer)
        self.rng = get_rng_state()
        self.measured: Measured = {}
        self.registered = dict(model.named_parameters())
        self.hidden = {id(tensor): name for name, tensor in walk_parameters(model)}
        self.modules = {name: module for name, module in walk_modules(model) if name}
        self.in_optimizer = (
            None
            if optimizer is None
            else {id(tensor) for group in optimizer.param_groups for tensor in group["params"]}
        )

    def look(self, *, measures: bool = True) -> Look:
        """Run `loss_fn` and the backward pass, with the random numbers of the first look.

        Without `measures` the loss, the gradients and the leaves are all that is looked at.
        """
        set_rng_state(self.rng)
        look = Look()
        trace = Trace(self.model, self.measured)
        try:
            with warnings.catch_warnings(record=True) as caught, trace if measures else nullcontext():
                warnings.simplefilter("always")
                look.loss = self.loss_fn(self.model)
        except Exception as error:  # noqa: BLE001 (whatever the student's code raises is a finding)
            look.error, look.error_in = error, trace.open[-1] if trace.open else "loss"
        look.warnings = [str(each.message) for each in caught]
        look.calls, look.arguments, look.inputs = trace.calls, trace.arguments, trace.inputs
        loss = look.loss
        if look.error is not None:
            return look
        if isinstance(loss, Tensor) and loss.numel() == 1:
            look.value = float(loss.detach())
            if loss.grad_fn is not None:
                self._look_back(look, loss, measures=measures)
        elif hasattr(loss, "__float__") and not isinstance(loss, Tensor):
            look.value = float(loss)
        return look

    def _look_back(self, look: Look, loss: Tensor, *, measures: bool) -> None:
        tape = look.tape = Tape(loss, look.calls)
        look.leaves = {id(leaf): leaf for leaf in tape.leaves}
        if measures:
            look.activations = tape.activations()
            look.averages_nothing = tape.averages_nothing()
            look.broadcast, look.odd_targets = tape.broadcast_target(), tape.targets_outside_unit_interval()
            look.passages = tape.listen()
        self.clear_gradients(look)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                loss.backward()  # type: ignore[no-untyped-call]
        except Exception as error:  # noqa: BLE001 (hooks of the student's run here too)
            look.error, look.in_backward = error, True
            return
        look.gradients = {
            name: Gradient(
                name, parameter, None if parameter.grad is None else norm(parameter.grad), norm(parameter)
            )
            for name, parameter in self.registered.items()
            if parameter.requires_grad
        }

    def clear_gradients(self, look: Look) -> None:
        """Take the gradients away from all that the loss reaches."""
        self.snapshot.keep(look.leaves.values())
        for tensor in [*look.leaves.values(), *self.registered.values()]:
            tensor.grad = None

    def loss_value(self) -> float:
        """Return the loss alone, with the random numbers of the first look; nan if that raises."""
        set_rng_state(self.rng)
        try:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return float(self.loss_fn(self.model))
        except Exception:  # noqa: BLE001 (with other weights the student's code may well fail)
            return math.nan

    def plain_pass(self) -> float:
        """Compute loss and gradients and measure nothing: an optimizer such as LBFGS asks for many."""
        set_rng_state(self.rng)
        loss = self.loss_fn(self.model)
        for tensor in self.registered.values():
            tensor.grad = None
        loss.backward()
        return float(loss.detach())

    def ignorant_loss(self, look: Look) -> float:
        """Return the loss with all parameters zero, which is that of a model that knows nothing.

        Classes are then all as likely, quantities are guessed as 0, and links are as likely as not. This is the
        scale on which a loss is large or small. nan if the model cannot be computed so.
        """
        tensors = [leaf for leaf in look.leaves.values() if leaf.is_leaf]
        with self.other_values(tensors):
            for tensor in tensors:
                tensor.data.zero_()
            return self.loss_value()

    def other_values(self, tensors: list[Tensor]) -> _OtherValues:
        """Put the values of tensors and buffers back when the context ends."""
        return _OtherValues(
            [*tensors, *(each for each in self.model.buffers() if each.layout == torch.strided)]
        )


class _OtherValues:
    def __init__(self, tensors: list[Tensor]) -> None:
        self.values = [(tensor, tensor.detach().clone()) for tensor in tensors]

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        for tensor, values in self.values:
            tensor.data.copy_(values)
