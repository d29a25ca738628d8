"""What goes through the modules of a model in one forward pass."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from course_utils.gradients._feature_checks import ColumnSizes, column_sizes
from course_utils.gradients._snapshot import walk_modules
from course_utils.gradients._tape import norm, stored
from course_utils.smoothness import mean_cosine_distance

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from torch.autograd.graph import Node
    from torch.utils.hooks import RemovableHandle

ROOT = "model"
SIMILAR = 1e-2  # directions of rows worth a closer look
ENOUGH_ROWS = 512  # to see whether rows are alike


@dataclass(frozen=True)
class Signal:
    """Measures of one tensor."""

    shape: tuple[int, ...]
    rms: float  # over the finite entries
    varying: float  # the same, less the mean of each column
    distance: float  # mean cosine distance of the rows, nan unless it is a matrix of two columns or more
    beyond_one: (
        float  # share of what differs between rows that one direction does not explain, if they are alike
    )
    num_nan: int
    num_inf: int
    columns_equal: bool  # whether the rows differ, and the columns do not

    @classmethod
    def of(cls, tensor: Tensor) -> Signal:
        """Measure a tensor of numbers."""
        shape = tuple(tensor.shape)
        values = stored(tensor.detach())
        num_nan = num_inf = 0
        if not math.isfinite(norm(values)):
            num_nan, num_inf = int(values.isnan().sum()), int(values.isinf().sum())
            values = values.double().nan_to_num(0, 0, 0)  # in double precision no norm is too large
        rms = norm(values) / math.sqrt(max(values.numel(), 1))
        varying, distance, beyond_one, columns_equal = math.nan, math.nan, math.nan, False
        if values.dim() >= 2 and values.numel() and tensor.layout == torch.strided:  # noqa: PLR2004 (a matrix)
            rows = values.reshape(-1, shape[-1])
            varying = norm(rows - rows.mean(dim=0)) / math.sqrt(rows.numel())
            if shape[-1] > 1 and values.dim() == 2:  # noqa: PLR2004 (as above)
                some = rows[:: math.ceil(len(rows) / ENOUGH_ROWS)]
                distance = mean_cosine_distance(some)
                if distance < SIMILAR:
                    beyond_one = _beyond_one_direction(some)
                columns_equal = varying > 0 and bool((some == some[:, :1]).all())
        return cls(shape, rms, varying, distance, beyond_one, num_nan, num_inf, columns_equal)

    @property
    def finite(self) -> bool:
        """Whether all entries are numbers."""
        return self.num_nan == self.num_inf == 0


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a module."""

    name: str
    module: nn.Module
    owns: bool  # whether the module has parameters of its own, not only those of modules inside it
    trainable: bool  # whether the module or one inside it has a parameter that asks for a gradient
    inputs: list[Signal]
    outputs: list[Signal]
    raw: list[ColumnSizes]  # in the first trace: column sizes of inputs that come straight from the data
    nodes_in: list[Node]
    nodes_out: list[Node]
    needs_grad: bool  # whether an output depends on something that asks for a gradient


# By identity and version of a tensor; the tensor itself is kept so that no other gets its identity.
Measured = dict[tuple[int, int], tuple[Tensor, Signal, ColumnSizes | None]]


class Trace:
    """Hooks on all modules of a model, those hidden in lists too, while the context lasts.

    Parameters
    ----------
    model
        The model.
    measured
        What is known of the data already, from other traces; this one adds to it.
    """

    def __init__(self, model: nn.Module, measured: Measured) -> None:
        self.model = model
        self.calls: list[Call] = []
        self.open: list[str] = []  # entered and not left: after an exception, where it was raised
        self.arguments: dict[str, Any] = {}  # of the first call of the model itself
        self.inputs: dict[int, Tensor] = {}  # leaves given to a module that are no parameters
        self._measured = measured
        self._is_first = not measured
        self._handles: list[RemovableHandle] = []
        self._before: list[tuple[list[Signal], list[ColumnSizes], list[Node]]] = []

    def __enter__(self) -> Self:
        for name, module in walk_modules(self.model):
            before, after = self._hooks(name or ROOT)
            self._handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
            self._handles.append(module.register_forward_hook(after))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()

    def _measure(self, tensor: Tensor) -> tuple[Signal, ColumnSizes | None]:
        """Measure what enters a module; data, which may enter several, once."""
        if tensor.grad_fn is not None:
            return Signal.of(tensor), None
        key = id(tensor), tensor._version  # noqa: SLF001 (PyTorch has no public way to see a change in place)
        if key not in self._measured:
            wanted = self._is_first and tensor.dim() == 2  # noqa: PLR2004 (a matrix)
            sizes = column_sizes(tensor) if wanted else None
            self._measured[key] = (tensor, Signal.of(tensor), sizes)
        return self._measured[key][1:]

    def _hooks(self, name: str) -> tuple[Any, Any]:
        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if module is self.model and not self.arguments:
                self.arguments = _bind(module, args, kwargs)
            tensors = find_tensors((args, kwargs))
            numbers = [each for each in tensors if each.is_floating_point()]
            given = [each for each in numbers if each.is_leaf and not isinstance(each, nn.Parameter)]
            self.inputs.update((id(each), each) for each in given)
            nodes = [each.grad_fn for each in numbers if each.grad_fn is not None]
            self.open.append(name)
            measures = [self._measure(each) for each in numbers]
            raw = [sizes for _, sizes in measures if sizes is not None]
            self._before.append(([signal for signal, _ in measures], raw, nodes))

        def after(module: nn.Module, _: Any, output: Any) -> None:
            if self.open:
                self.open.pop()
            inputs, raw, nodes_in = self._before.pop()
            numbers = [each for each in find_tensors(output) if each.is_floating_point()]
            self.calls.append(
                Call(
                    name,
                    module,
                    any(True for _ in module.parameters(recurse=False)),
                    any(parameter.requires_grad for parameter in module.parameters()),
                    inputs,
                    [Signal.of(each) for each in numbers],
                    raw,
                    nodes_in,
                    [each.grad_fn for each in numbers if each.grad_fn is not None],
                    any(each.requires_grad for each in numbers),
                )
            )

        return before, after


def _beyond_one_direction(rows: Tensor) -> float:
    rows = rows.double()
    differing = rows - rows.mean(dim=0)
    energy = torch.linalg.svdvals(differing).square()
    # Differences that are no more than rounding count as none.
    if energy.sum() <= torch.finfo(torch.float32).eps ** 2 * 100 * rows.square().sum():
        return 0.0
    return float(energy[1:].sum() / energy.sum())


def find_tensors(value: Any) -> list[Tensor]:
    """Return the tensors in nested tuples, lists, dictionaries and objects with a dictionary."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        return [tensor for item in value.values() for tensor in find_tensors(item)]
    if isinstance(value, tuple | list):
        return [tensor for item in value for tensor in find_tensors(item)]
    if hasattr(value, "to_dict"):  # the data of PyTorch Geometric
        return find_tensors(value.to_dict())
    return []


def _bind(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Name the arguments of a call as the module's `forward` does."""
    try:
        bound = inspect.signature(module.forward).bind(*args, **kwargs)
    except TypeError:  # the call itself is about to fail for the same reason
        return dict(kwargs)
    return dict(bound.arguments)
