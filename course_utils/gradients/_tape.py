"""The operations behind a loss: which leaves they reach, which module made each, and where a gradient ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch.autograd.graph import Node

    from course_utils.gradients._trace import Call

# Activations, and where autograd keeps what they put out.
ACTIVATIONS = {"ReluBackward0": "relu", "SigmoidBackward0": "sigmoid", "TanhBackward0": "tanh"}
# Operations with parts where the derivative is zero.
BLOCKERS = (
    "Clamp",
    "Round",
    "Floor",
    "Ceil",
    "Trunc",
    "Sign",
    "Hardtanh",
    "Hardsigmoid",
    "Heaviside",
    "Frac",
    "Threshold",
    "Softplus",
    "Sigmoid",
    "Tanh",
    "Maximum",
    "Minimum",
    "Where",
    "Softmax",
    "Exp",
    "Erf",
    "LogSigmoid",
    "Relu6",
    "Softshrink",
    "Hardshrink",
    "Remainder",
)
VIEWS = ("TBackward", "Transpose", "View", "Unsqueeze", "Permute", "Reshape", "Expand", "ToCopy", "Squeeze")
# The derivative of a saturated unit, as a share of the largest one. A sigmoid's input is then beyond 6 or so.
SATURATED = 0.01
# Beyond these the squares leave the range of single precision; a norm is then computed in double precision.
SMALLEST, LARGEST = 1e-16, 1e18


class Activation(NamedTuple):
    """One use of an activation function."""

    kind: str
    where: str
    hidden: bool  # whether parameters come after it
    width: int
    rows: int
    dead: float  # share of the units that are zero for all rows
    saturated: float  # share of the entries where the derivative is below 1 % of the largest one


class Passage(NamedTuple):
    """What one operation did to a gradient in the backward pass."""

    node: Node
    came: float  # norm of the gradient that came, nan or inf if it was not finite
    went: list[float | None]  # norms of those that it passed on


class Tape:
    """The graph behind a loss.

    Parameters
    ----------
    loss
        A tensor with a `grad_fn`.
    calls
        The modules called, in the order in which they finished.
    """

    def __init__(self, loss: Tensor, calls: Iterable[Call]) -> None:
        assert loss.grad_fn is not None
        self.nodes = _walk(loss.grad_fn)
        self.region: dict[Node, str] = {}
        self.ends: dict[Node, str] = {}  # the last operation of each module with parameters of its own
        for call in calls:
            self._claim(call)

    @property
    def leaves(self) -> list[Tensor]:
        """The tensors that the gradient would reach."""
        return [node.variable for node in self.nodes if hasattr(node, "variable")]

    def place(self, node: Node) -> str:
        """Name the nearest module with parameters at or before an operation, else where the operation is."""
        region = self.region.get(node, "loss")
        for before in _walk(node):
            if before in self.ends:
                return self.ends[before]
        return region

    def leaf_place(self, leaf: Tensor) -> str:
        """Name the module that uses a leaf."""
        for node in self.nodes:
            if getattr(node, "variable", None) is leaf:
                return self.region.get(node, "loss")
        return "loss"

    def upstream(self, node: Node) -> set[int]:
        """Return the ids of the leaves behind an operation."""
        return {id(before.variable) for before in _walk(node) if hasattr(before, "variable")}

    def activations(self) -> list[Activation]:
        """Measure the activation functions. Must come before the backward pass, which frees what they keep."""
        deep = self._before_parameters()
        found = []
        for node in self.nodes:
            kind = ACTIVATIONS.get(node.name())
            out = saved(node, "result") if kind else None
            if kind is None or out is None or not out.numel() or out.dim() == 0:
                continue
            out = out.detach()
            columns = out.reshape(-1, out.shape[-1])
            slope = out if kind == "relu" else 4 * out * (1 - out) if kind == "sigmoid" else 1 - out * out
            found.append(
                Activation(
                    kind,
                    self.place(node),
                    node in deep,
                    columns.size(1),
                    columns.size(0),
                    dead=float((columns == 0).all(dim=0).float().mean()) if kind == "relu" else 0.0,
                    saturated=0.0 if kind == "relu" else float((slope < SATURATED).float().mean()),
                )
            )
        return found[::-1]

    def averages_nothing(self) -> bool:
        """Whether the loss is an average over no entries, as of an empty mask."""
        for node in self.nodes:
            name = node.name()
            if name.startswith("NllLoss"):
                total = saved(node, "total_weight")
                if total is not None and float(total) == 0:
                    return True
            if name.startswith("MeanBackward0") and getattr(node, "_saved_self_sym_numel", 1) == 0:
                return True
            inputs = saved(node, "self")
            if "Loss" in name.removeprefix("Nll") and inputs is not None and not inputs.numel():
                return True
        return False

    def broadcast_target(self) -> tuple[int, ...] | None:
        """Return the shape (N, N) of differences that should have been N: (N, 1) minus (N,), only one learned."""
        for node in self.nodes:
            if not node.name().startswith(("Sub", "Rsub")):
                continue
            learned = [before for before, _ in node.next_functions if before is not None]
            shape = node_shape(node)
            if len(shape) == 2 and shape[0] == shape[1] > 1 and len(learned) == 1:  # noqa: PLR2004 (a matrix)
                count = shape[0]
                if node_shape(learned[0]) in {(count, 1), (count,)}:
                    return shape
        return None

    def targets_outside_unit_interval(self) -> tuple[float, float] | None:
        """Return the range of the targets of a binary cross-entropy if it leaves [0, 1]."""
        for node in self.nodes:
            if node.name().startswith("BinaryCrossEntropy"):
                target = saved(node, "target")
                if target is not None and target.numel() and (target.min() < 0 or target.max() > 1):
                    return float(target.min()), float(target.max())
        return None

    def listen(self) -> list[Passage]:
        """Record from now on what each operation does to the gradient, in the order of the backward pass."""
        passages: list[Passage] = []
        for node in self.nodes:
            if hasattr(node, "variable"):
                continue

            def note(went: Any, came: Any, node: Node = node) -> None:
                norms = [norm(each) for each in came if each is not None]
                passages.append(
                    Passage(node, max(norms, default=0.0), [None if g is None else norm(g) for g in went])
                )

            node.register_hook(note)
        return passages

    def _claim(self, call: Call) -> None:
        """Give the operations of a module its name, unless a module inside it has them already."""
        outside = set(call.nodes_in)
        todo = [node for node in call.nodes_out if node not in outside]
        if call.owns:
            for node in todo:
                self.ends.setdefault(node, call.name)
        while todo:
            node = todo.pop()
            if node not in outside:
                outside.add(node)
                self.region.setdefault(node, call.name)
                todo += [before for before, _ in node.next_functions if before is not None]

    def _before_parameters(self) -> set[Node]:
        """Return the operations whose result meets parameters later on."""
        deep: set[Node] = set()
        for node in self.nodes:
            behind = [before for before, _ in node.next_functions if before is not None]
            meets = node in deep or any(is_parameter(before) for before in behind)
            if meets:
                deep.update(behind)
        return deep


def saved(node: Node, name: str) -> Tensor | None:
    """Return a tensor that autograd keeps for the backward pass, if it still has it."""
    try:
        value = getattr(node, f"_saved_{name}", None)
    except RuntimeError:  # freed, or changed in place since
        return None
    return value if isinstance(value, Tensor) else None


def node_shape(node: Node) -> tuple[int, ...]:
    """Return the shape of what an operation put out."""
    # PyTorch has no public way to ask for it.
    return tuple(node._input_metadata[0].shape)  # noqa: SLF001


def stored(tensor: Tensor) -> Tensor:
    """Return the entries that are stored: all, unless the tensor is sparse."""
    if tensor.layout == torch.strided:
        return tensor
    return tensor.coalesce().values() if tensor.layout == torch.sparse_coo else tensor.values()


def norm(tensor: Tensor) -> float:
    """Return the Euclidean norm of all entries, whatever the layout and the size."""
    values = stored(tensor.detach())
    size = float(torch.linalg.vector_norm(values, dtype=torch.promote_types(values.dtype, torch.float32)))
    if SMALLEST < size < LARGEST:
        return size
    return float(torch.linalg.vector_norm(values, dtype=torch.float64))


def operation(node: Node) -> str:
    """Name an operation as its backward pass is called, without the suffix: "Log", "Clamp"."""
    return node.name().split("Backward")[0]


def is_blocker(node: Node) -> bool:
    """Whether an operation has parts where its derivative is zero."""
    return operation(node).startswith(BLOCKERS)


def is_parameter(node: Node) -> bool:
    """Whether an operation is the end of the graph, or only another view of it."""
    while not hasattr(node, "variable") and node.name().startswith(VIEWS) and node.next_functions:
        before = node.next_functions[0][0]
        if before is None:
            return False
        node = before
    return hasattr(node, "variable")


def _walk(start: Node) -> list[Node]:
    """Return all operations from one on, each before those that it depends on."""
    waiting: dict[Node, int] = {start: 0}
    todo = [start]
    while todo:  # count how many operations use each
        for before, _ in todo.pop().next_functions:
            if before is not None:
                if before not in waiting:
                    waiting[before] = 0
                    todo.append(before)
                waiting[before] += 1
    order, ready = [], [start]
    while ready:
        node = ready.pop()
        order.append(node)
        for before, _ in node.next_functions:
            if before is not None:
                waiting[before] -= 1
                if waiting[before] == 0:
                    ready.append(before)
    return order
