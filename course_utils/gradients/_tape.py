"""The operations behind a loss: which leaves they reach, which module made each, and where a gradient ends."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from course_utils.gradients._numbers import norm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch.autograd.graph import Node

    from course_utils.gradients._trace import Call

# Activations, and the size of their derivative by what they put out, which autograd keeps.
ACTIVATIONS: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    "ReluBackward0": ("relu", lambda out: out),
    "SigmoidBackward0": ("sigmoid", lambda out: 4 * out * (1 - out)),
    "TanhBackward0": ("tanh", lambda out: 1 - out * out),
}
# Operations with parts where the derivative is zero, or all but zero.
BLOCKERS = re.compile(
    "Clamp|Round|Floor|Ceil|Trunc|Sign|Hardtanh|Hardsigmoid|Heaviside|Frac|Threshold|Softplus|Sigmoid|Tanh|Maximum|"
    "Minimum|Where|Softmax|Exp|Erf|LogSigmoid|Relu6|Softshrink|Hardshrink|Remainder"
)
VIEWS = ("TBackward", "Transpose", "View", "Unsqueeze", "Permute", "Reshape", "Expand", "ToCopy", "Squeeze")
# The derivative of a saturated unit, as a share of the largest one. A sigmoid's input is then beyond 6 or so.
SATURATED = 0.01


class Activation(NamedTuple):
    """One use of an activation function."""

    kind: str
    where: str
    hidden: bool  # whether parameters come after it
    width: int
    rows: int
    dead: float  # share of the units that are zero for all rows; of ReLUs alone
    saturated: float  # share of the entries where the derivative is next to nothing; not of ReLUs
    passed_by: bool  # whether some of what comes before reaches the loss without it, as past a gate


class Passage(NamedTuple):
    """What one operation did to a gradient in the backward pass."""

    node: Node
    came: float  # norm of the gradient that came, nan or inf if it was not finite
    went: list[float | None]  # norms of those that it passed on

    @property
    def ways(self) -> list[tuple[Node, float | None]]:
        """The operations before it, with the norm of what each was passed."""
        pairs = zip(self.node.next_functions, self.went, strict=False)
        return [(before, went) for (before, _), went in pairs if before is not None]


class Tape:
    """The graph behind a loss, and the modules that made it, called in this order."""

    def __init__(self, loss: Tensor, calls: Iterable[Call]) -> None:
        assert loss.grad_fn is not None
        self.nodes = walk(loss.grad_fn)
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
        behind = (self.ends[before] for before in walk(node) if before in self.ends)
        return next(behind, self.region.get(node, "loss"))

    def leaf_place(self, leaf: Tensor) -> str:
        """Name the module that uses a leaf."""
        node = next(node for node in self.nodes if getattr(node, "variable", None) is leaf)
        return self.region.get(node, "loss")

    def activations(self) -> list[Activation]:
        """Measure the activation functions, in the order of the forward pass."""
        deep = self._before_parameters()
        found = []
        for node in reversed(self.nodes):
            if node.name() not in ACTIVATIONS:
                continue
            kind, derivative = ACTIVATIONS[node.name()]
            out = saved(node, "result")
            if out is None or not out.numel() or out.dim() == 0:
                continue
            out = out.reshape(-1, out.shape[-1])
            dead, saturated, passed_by = 0.0, 0.0, False
            if kind == "relu":
                dead = float((out.sum(dim=0) == 0).float().mean())  # none is negative
            else:
                saturated = float((derivative(out) < SATURATED).float().mean())
            if saturated > 0.5:  # noqa: PLR2004 (worth a look)
                passed_by = not upstream(self.nodes[0], without=node).isdisjoint(upstream(node))
            rows, width = out.shape
            where, hidden = self.place(node), node in deep
            found.append(Activation(kind, where, hidden, width, rows, dead, saturated, passed_by))
        return found

    def listen(self) -> list[Passage]:
        """Record from now on what each operation does to the gradient, in the order of the backward pass."""
        passages: list[Passage] = []

        def note(node: Node) -> Any:
            def hook(went: Any, came: Any) -> None:
                size = max((norm(each) for each in came if each is not None), default=0.0)
                passages.append(Passage(node, size, [None if g is None else norm(g) for g in went]))

            return hook

        for node in self.nodes:
            if not hasattr(node, "variable"):
                node.register_hook(note(node))
        return passages

    def downstream(self, leaf: Tensor) -> set[int]:
        """Return the ids of the leaves that come in after a leaf, on its way to the loss."""
        after: set[int] = set()
        for node in self.nodes:
            direct = {key for each in _behind(node) if is_parameter(each) for key in upstream(each)}
            if direct and not is_parameter(node) and id(leaf) not in direct and id(leaf) in upstream(node):
                after |= direct
        return after

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
                todo += _behind(node)

    def _before_parameters(self) -> set[Node]:
        """Return the operations whose result meets parameters later on."""
        deep: set[Node] = set()
        for node in self.nodes:
            behind = _behind(node)
            if node in deep or any(is_parameter(before) for before in behind):
                deep.update(behind)
        return deep


def upstream(node: Node, without: Node | None = None) -> set[int]:
    """Return the ids of the leaves behind an operation, those reached only by way of `without` left out."""
    return {id(before.variable) for before in walk(node, without) if hasattr(before, "variable")}


def saved(node: Node, name: str) -> Tensor | None:
    """Return a tensor that autograd keeps for the backward pass, if it still has it."""
    try:
        value = getattr(node, f"_saved_{name}", None)
    except RuntimeError:  # freed, or changed in place since
        return None
    return value.detach() if isinstance(value, Tensor) else None


def node_shape(node: Node) -> tuple[int, ...]:
    """Return the shape of what an operation put out."""
    # PyTorch has no public way to ask for it.
    return tuple(node._input_metadata[0].shape)  # noqa: SLF001


def operation(node: Node) -> str:
    """Name an operation as its backward pass is called, without the suffix: "Log", "Clamp"."""
    return node.name().split("Backward")[0]


def is_blocker(node: Node) -> bool:
    """Whether an operation has parts where its derivative is zero."""
    return BLOCKERS.match(operation(node)) is not None


def behind_views(node: Node) -> Node | None:
    """Return the operation before one, other views of the same numbers left out."""
    before = next(iter(_behind(node)), None)
    return behind_views(before) if before is not None and before.name().startswith(VIEWS) else before


def is_parameter(node: Node) -> bool:
    """Whether an operation is the end of the graph, or only another view of it."""
    end = behind_views(node) if node.name().startswith(VIEWS) else node
    return hasattr(end, "variable")


def walk(start: Node, without: Node | None = None) -> list[Node]:
    """Return all operations from one on, each before those that it depends on, and none by way of `without`."""
    waiting: dict[Node, int] = {start: 0}
    todo = [start]
    while todo:  # count how many operations use each
        node = todo.pop()
        for before in _behind(node) if node is not without else ():
            if before not in waiting:
                waiting[before] = 0
                todo.append(before)
            waiting[before] += 1
    order, ready = [], [start]
    while ready:
        node = ready.pop()
        order.append(node)
        for before in _behind(node) if node is not without else ():
            waiting[before] -= 1
            if waiting[before] == 0:
                ready.append(before)
    return order


def _behind(node: Node) -> list[Node]:
    return [before for before, _ in node.next_functions if before is not None]
