"""What goes through the modules of a model in one forward pass."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from course_utils.gradients._numbers import norm, sample_rows, stored
from course_utils.smoothness import mean_cosine_distance

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from torch.autograd.graph import Node
    from torch.utils.hooks import RemovableHandle

ROOT = "model"
FEW_ROWS = 8  # fewer may well be alike
ROUNDING = 1e-5  # of the largest entry


class Signal:
    """Measures of one tensor; those that compare rows are taken of a sample of the rows, when asked for."""

    def __init__(self, tensor: Tensor) -> None:
        self.shape = tuple(tensor.shape)
        values = stored(tensor.detach())
        size = norm(values)
        self.num_nan = self.num_inf = 0
        if not math.isfinite(size):
            self.num_nan, self.num_inf = int(values.isnan().sum()), int(values.isinf().sum())
            values = values.double().nan_to_num(0, 0, 0)  # in double precision no norm is too large
            size = norm(values)
        self.rms = size / math.sqrt(max(values.numel(), 1))  # over the finite entries
        self._rows: Tensor | None = None
        if values.dim() and values.numel() and tensor.layout == torch.strided:
            # A copy: the next operation may write in place.
            width = values.shape[-1] if values.dim() > 1 else 1
            self._rows = sample_rows(values.reshape(-1, width)).clone()

    @property
    def finite(self) -> bool:
        """Whether all entries are numbers."""
        return self.num_nan == self.num_inf == 0

    @cached_property
    def varying(self) -> float:
        """Root mean square of the entries less the mean of their column; nan unless there are rows."""
        if self._rows is None:
            return math.nan
        return norm(self._rows - self._rows.mean(dim=0)) / math.sqrt(self._rows.numel())

    @cached_property
    def rows_equal(self) -> bool:
        """Whether there are rows enough to compare, and all but one at most are the same up to rounding."""
        if self._rows is None or len(self._rows) < FEW_ROWS:
            return False
        differs = (self._rows - self._rows.median(dim=0).values).abs() > ROUNDING * self._rows.abs().max()
        return int(differs.any(dim=1).sum()) <= 1

    @cached_property
    def distance(self) -> float:
        """Mean cosine distance of the rows; nan unless it is a matrix of two columns or more."""
        return mean_cosine_distance(self._rows) if self._is_matrix and self._rows is not None else math.nan

    @cached_property
    def beyond_one(self) -> float:
        """The share of what differs between rows that a single direction does not explain."""
        assert self._rows is not None
        rows = self._rows.double()
        energy = torch.linalg.svdvals(rows - rows.mean(dim=0)).square()
        # Differences that are no more than rounding count as none.
        if energy.sum() <= torch.finfo(torch.float32).eps ** 2 * 100 * rows.square().sum():
            return 0.0
        return float(energy[1:].sum() / energy.sum())

    @property
    def columns_equal(self) -> bool:
        """Whether the rows differ, and the columns do not."""
        if self._rows is None or not self._is_matrix:
            return False
        return bool((self._rows == self._rows[:, :1]).all()) and self.varying > 0

    @property
    def _is_matrix(self) -> bool:
        return len(self.shape) == 2 and self.shape[1] > 1  # noqa: PLR2004 (rows and columns)


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a module."""

    name: str
    module: nn.Module
    owns: bool  # whether the module has parameters of its own, not only those of modules inside it
    inputs: list[Signal]
    outputs: list[Signal]
    data: list[Tensor]  # rows, or sequences, among the inputs that no operation with a gradient has made
    nodes_in: list[Node]
    nodes_out: list[Node]
    began: int  # how many calls were over when it began


class Trace:
    """Hooks on all modules of a model, those hidden in lists too, while the context lasts."""

    def __init__(self, model: nn.Module, modules: Mapping[str, nn.Module]) -> None:
        self.model, self.modules = model, modules
        self.calls: list[Call] = []
        self.open: list[str] = []  # entered and not left: after an exception, where it was raised
        # Of the first call of the model itself, and of its first graph layer.
        self.arguments: dict[str, Any] = {}
        self.inputs: dict[int, Tensor] = {}  # leaves given to a module that are no parameters
        # What one module puts out, others take in. The tensor is kept so that no other gets its identity.
        self._known: dict[tuple[int, int], tuple[Tensor, Signal]] = {}
        self._handles: list[RemovableHandle] = []
        self._has_edges = False

    def __enter__(self) -> Self:
        for name, module in self.modules.items():
            if isinstance(module, torch.jit.ScriptModule):  # takes no hooks
                continue
            before, after = self._hooks(name or ROOT)
            self._handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
            self._handles.append(module.register_forward_hook(after))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._known.clear()

    def _measure(self, tensor: Tensor) -> Signal:
        key = id(tensor), tensor._version  # noqa: SLF001 (PyTorch has no public way to see a change in place)
        if key not in self._known:
            self._known[key] = tensor, Signal(tensor)
        return self._known[key][1]

    def _take_names(self, given: dict[str, Any]) -> None:
        """Call data as the first graph layer does, which takes for `edge_index` what the model may call `e`."""
        edges, x = given.get("edge_index"), given.get("x")
        if not (isinstance(edges, Tensor) and isinstance(x, Tensor)):
            return
        self._has_edges = True
        if self.arguments.get("edge_index", edges) is edges:
            data = {role: given.get(role) for role in ("x", "edge_index", "edge_weight", "edge_attr")}
            leaves = {role: each for role, each in data.items() if isinstance(each, Tensor) and each.is_leaf}
            self.arguments = leaves | self.arguments

    def _hooks(self, name: str) -> tuple[Any, Any]:
        entered: list[tuple[list[Tensor], list[Signal], list[Node], int]] = []

        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if module is self.model and not self.arguments:
                self.arguments = _bind(module, args, kwargs)
            elif not self._has_edges:
                self._take_names(_bind(module, args, kwargs))
            numbers = [each for each in find_tensors((args, kwargs)) if each.is_floating_point()]
            data = [each for each in numbers if each.is_leaf and not isinstance(each, nn.Parameter)]
            self.inputs.update((id(each), each) for each in data)
            self.open.append(name)
            signals = [self._measure(each) for each in numbers]
            entered.append((data, signals, _nodes(numbers), len(self.calls)))

        def after(module: nn.Module, _: Any, output: Any) -> None:
            if self.open:
                self.open.pop()
            data, inputs, nodes_in, began = entered.pop()
            numbers = [each for each in find_tensors(output) if each.is_floating_point()]
            owns = any(True for _ in module.parameters(recurse=False))
            outputs = [self._measure(each) for each in numbers]
            matrices = [each for each in data if each.dim() in {2, 3}]
            self.calls.append(
                Call(name, module, owns, inputs, outputs, matrices, nodes_in, _nodes(numbers), began)
            )

        return before, after


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


def _nodes(tensors: list[Tensor]) -> list[Node]:
    return [each.grad_fn for each in tensors if each.grad_fn is not None]


def _bind(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Name the arguments of a call as the module's `forward` does."""
    try:
        bound = inspect.signature(module.forward).bind(*args, **kwargs)
    except TypeError:  # the call itself is about to fail for the same reason
        return dict(kwargs)
    return dict(bound.arguments)
