"""One look at a model: a forward pass and the backward pass behind it, with everything measured or nothing."""

from __future__ import annotations

import math
import warnings
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from course_utils.gradients._numbers import norm
from course_utils.gradients._snapshot import (
    Snapshot,
    get_rng_state,
    set_rng_state,
    walk_modules,
    walk_parameters,
)
from course_utils.gradients._tape import Activation, Passage, Tape
from course_utils.gradients._trace import Call, Trace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch.autograd.graph import Node

# The model has learned if its loss is this far below that of knowing nothing.
LEARNED = 0.7
CHANCES = 8  # passes with other random numbers


@dataclass(frozen=True)
class Gradient:
    """What one parameter got."""

    parameter: Tensor
    value: Tensor | None  # in what is measured
    norm: float  # 0 without a gradient, nan or inf if it is not finite
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
        return self.norm * size


@dataclass
class Look:
    """What one look gave."""

    trace: Trace
    loss: Any = None  # what loss_fn returned
    value: float = math.nan
    error: Exception | None = None
    error_in: str = "loss"
    warnings: list[str] = field(default_factory=list)
    tape: Tape | None = None
    passages: list[Passage] = field(default_factory=list)
    gradients: dict[str, Gradient] = field(default_factory=dict)  # of registered parameters that ask for one

    @property
    def nodes(self) -> list[Node]:
        """The operations behind the loss, from the loss on; none if it has no graph."""
        return self.tape.nodes if self.tape else []

    @property
    def layers(self) -> list[Call]:
        """The calls of modules with parameters of their own that take numbers in and put some out."""
        return [call for call in self.trace.calls if call.owns and call.inputs and call.outputs]

    @property
    def strongest(self) -> float:
        """The strength of the strongest gradient."""
        return max((gradient.strength for gradient in self.gradients.values()), default=0.0)

    @cached_property
    def activations(self) -> list[Activation]:
        """The activation functions behind the loss, measured."""
        return self.tape.activations() if self.tape else []

    @property
    def is_finite(self) -> bool:
        """Whether the loss and all gradients are numbers."""
        return math.isfinite(self.value) and all(math.isfinite(g.norm) for g in self.gradients.values())


class Patient:
    """A model under examination: how to run it, and what it was before."""

    def __init__(
        self, model: nn.Module, loss_fn: Callable[[Any], Any], optimizer: torch.optim.Optimizer | None
    ) -> None:
        self.model, self.loss_fn, self.optimizer = model, loss_fn, optimizer
        self.modules = dict(walk_modules(model))
        self.registered = dict(model.named_parameters())
        self.hidden = {id(tensor): name for name, tensor in walk_parameters(self.modules)}
        self.snapshot = Snapshot(self.modules.values(), loss_fn, optimizer)
        self.rng = get_rng_state()
        self.reached: dict[int, Tensor] = {}  # the leaves of all looks so far
        self.given: set[int] = set()  # parameters that were given a gradient
        self.weight_norms: dict[str, float] = {}  # as last measured
        # A scheduler leaves a mark on the optimizer at the first step.
        self.has_begun = bool(getattr(optimizer, "state", ())) or hasattr(optimizer, "_opt_called")
        groups = optimizer.param_groups if optimizer else ()
        self.trained = [tensor for group in groups for tensor in group["params"]]
        self.held = {id(tensor) for tensor in self.trained}

    @property
    def trainable(self) -> dict[str, nn.Parameter]:
        """The registered parameters that ask for a gradient, by name."""
        return {name: each for name, each in self.registered.items() if each.requires_grad}

    def look(self, *, measures: bool = True, backward: bool = True, anew: bool = False) -> Look:
        """Run `loss_fn` and the backward pass, with the random numbers of the first look unless others are wanted.

        Without `measures` the loss, the gradients and the leaves are all that is looked at.
        """
        if not anew:
            set_rng_state(self.rng)
        trace = Trace(self.model, self.modules)
        look = Look(trace)
        try:
            with warnings.catch_warnings(record=True) as caught, trace if measures else nullcontext():
                warnings.simplefilter("always")
                look.loss = self.loss_fn(self.model)
        except Exception as error:  # noqa: BLE001 (whatever the student's code raises is a finding)
            look.error = error
            look.error_in = trace.open[-1] if trace.open else "loss"
            return look
        look.warnings = [str(each.message) for each in caught]
        loss = look.loss
        if isinstance(loss, Tensor) and loss.numel() == 1:
            look.value = float(loss.detach())
            if loss.grad_fn is not None:
                look.tape = Tape(loss, trace.calls)
                if backward:
                    self._look_back(look, loss, measures=measures)
        elif hasattr(loss, "__float__") and not isinstance(loss, Tensor):
            look.value = float(loss)
        return look

    def _look_back(self, look: Look, loss: Tensor, *, measures: bool) -> None:
        assert look.tape is not None
        leaves = {id(leaf): leaf for leaf in look.tape.leaves}
        self.reached |= leaves
        self.snapshot.keep(leaves.values())
        for tensor in [*leaves.values(), *self.registered.values()]:
            tensor.grad = None
        if measures:
            look.passages = look.tape.listen()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                # What is measured keeps its graph, whose tensors tell where numbers went wrong.
                loss.backward(retain_graph=measures)  # type: ignore[no-untyped-call]
        except Exception as error:  # noqa: BLE001 (hooks of the student's run here too)
            look.error, look.error_in = error, "backward"
            return
        self.given |= {id(each) for each in self.registered.values() if each.grad is not None}
        for name, parameter in self.trainable.items():
            value = parameter.grad
            size = 0.0 if value is None else norm(value)
            kept = value if measures else None  # or each pass would take new memory
            if measures or name not in self.weight_norms:
                self.weight_norms[name] = norm(parameter)
            look.gradients[name] = Gradient(parameter, kept, size, self.weight_norms[name])

    def plain_pass(self) -> float:
        """Compute loss and gradients and measure nothing: an optimizer such as LBFGS asks for many."""
        set_rng_state(self.rng)
        loss = self.loss_fn(self.model)
        for tensor in self.registered.values():
            tensor.grad = None
        loss.backward()
        return float(loss.detach())

    def loss_with(self, values: Iterable[tuple[Tensor, Tensor]]) -> float:
        """Return the loss with other values of some tensors, all else as at first; nan if it raises there."""
        self.snapshot.restore_values()
        set_rng_state(self.rng)
        try:
            # With gradients: the loss may contain derivatives, such as forces.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for tensor, value in values:
                    tensor.data.copy_(value)
                    tensor.grad = None
                return float(self.loss_fn(self.model))
        except Exception:  # noqa: BLE001 (with other weights the student's code may well fail)
            return math.nan
        finally:
            self.snapshot.restore_values()

    @cached_property
    def ignorant_loss(self) -> float:
        """The loss with all parameters zero, which is that of a model that knows nothing.

        Classes are then all as likely, quantities are guessed as 0, and links are as likely as not. This is the
        scale on which a loss is large or small. nan if the model cannot be computed so.
        """
        leaves = (leaf for leaf in self.reached.values() if leaf.is_leaf)
        return self.loss_with((leaf, torch.zeros_like(leaf)) for leaf in leaves)

    def has_learned(self, value: float) -> bool:
        """Whether a loss is far below that of knowing nothing."""
        return self.ignorant_loss - value > LEARNED * abs(self.ignorant_loss)

    def try_other_chances(self) -> None:
        """Look with other random numbers while a parameter is without a gradient: chance may leave it out."""
        self.snapshot.restore_values()
        for _ in range(CHANCES):
            if all(id(each) in self.given for each in self.trainable.values()):
                return
            python, _, cpu, _ = get_rng_state()
            error = self.look(measures=False, anew=True).error
            python_later, _, cpu_later, _ = get_rng_state()
            if error is not None or (python == python_later and torch.equal(cpu, cpu_later)):
                return  # Chance has no part in it.
