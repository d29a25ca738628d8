"""Exercises of notebook 07: how many layers a graph network needs."""

# Students read the solutions: they hold no casts for the type checker's sake.
# mypy: disable-error-code="no-any-return, misc"

# ruff: noqa: D102, FBT001, N801 (answers have the exercises' names, GCNConv's switches, and short stubs)

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch_geometric.nn import ChebConv, GATConv, GCNConv, SAGEConv

from course_utils.exercises._display import difference
from course_utils.exercises._kinds import FunctionExercise, ModuleExercise, output_and_parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np


_PATH = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
_LINKS = torch.tensor([[0, 1, 2, 3, 0, 0], [1, 2, 3, 4, 2, 4]])
_GRAPH = torch.cat([_LINKS, _LINKS.flip(0)], dim=1)  # five nodes
_WIDTHS = {"in_channels": 3, "hidden_channels": 5, "out_channels": 4}


def _features(rng: np.random.Generator) -> torch.Tensor:
    return torch.as_tensor(rng.normal(size=(5, 3)).round(2), dtype=torch.float32)


def dirichlet_energy(h: torch.Tensor, edge_index: torch.Tensor) -> float:
    """Add up how much the two ends of each link differ, in the way that suits a GCN.

    `h` is (num_nodes, d). `edge_index` holds both directions of each link, and no loops. First divide each
    row of `h` by sqrt(1 + degree of its node). The energy is the sum, over all links, of the squared distance
    between the rows of the two ends. A link counts once.
    """
    source, target = edge_index
    degree = torch.bincount(target, minlength=len(h))  # (num_nodes,)
    scaled = h / (1 + degree).sqrt()[:, None]
    return float((scaled[source] - scaled[target]).square().sum() / 2)


def _energy_cases(rng: np.random.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    yield torch.tensor([[1.0], [3.0], [8.0]]), _PATH
    yield torch.tensor([[1.0], [1.0], [1.0], [5.0]]), _PATH  # the last node has no link
    yield _features(rng), _GRAPH


def _root(h: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
    return (1 + torch.bincount(edge_index[1], minlength=len(h))).sqrt()[:, None]  # (num_nodes, 1)


def _summed(power: int, loop: int) -> Callable[[torch.Tensor, torch.Tensor], float]:
    """Sum another power of the distances, of rows divided by sqrt(loop + degree)."""

    def energy(h: torch.Tensor, edge_index: torch.Tensor) -> float:
        scaled = h / (loop + torch.bincount(edge_index[1], minlength=len(h))).sqrt()[:, None]
        return float((scaled[edge_index[0]] - scaled[edge_index[1]]).norm(dim=1).pow(power).sum() / 2)

    return energy


_DIRICHLET_ENERGY = FunctionExercise(
    dirichlet_energy,
    cases=_energy_cases,
    misconceptions={
        "This is twice as much. Both directions of a link are in edge_index, and it counts once.": (
            lambda h, edge_index: 2 * dirichlet_energy(h, edge_index)
        ),
        "The rows are not divided by sqrt(1 + degree).": (
            lambda h, edge_index: dirichlet_energy(h * _root(h, edge_index), edge_index)
        ),
        "The rows are divided by 1 + degree. Take its square root.": (
            lambda h, edge_index: dirichlet_energy(h / _root(h, edge_index), edge_index)
        ),
        "The rows are divided by sqrt(degree). The 1 is missing: a node counts itself.": _summed(2, 0),
        "These are distances. Square them before you add them up.": _summed(1, 1),
    },
    hints=(
        "source, target = edge_index. h[source] - h[target] holds the difference along each edge.",
        "Scale h first: the degrees are torch.bincount(target, minlength=len(h)).",
        "Square the differences, add up all of them, and halve the sum: each link is there twice.",
    ),
    why="Each GCN step without weights can only lower it. At 0 a node shows its degree and nothing else.",
)


def _changed(correct: Any, change: Callable[[Any, dict[str, Any]], Any]) -> type[nn.Module]:
    """Derive a class whose modules are changed once they are built, given their settings."""

    class Changed(correct):
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            change(self, settings)

    return Changed


def _with_other_steps(correct: Any) -> dict[str, type[nn.Module]]:
    """Name what can go wrong between and after the layers of either class."""

    def followed_by(step: Callable[[torch.Tensor], torch.Tensor]) -> type[nn.Module]:
        return _changed(correct, lambda model, _: model.register_forward_hook(lambda *seen: step(seen[-1])))

    return {
        "A ReLU follows the last layer. Logits may be negative.": followed_by(torch.relu),
        "A softmax follows the last layer. Cross-entropy has one of its own.": followed_by(nn.LogSoftmax(1)),
        "There is no ReLU. Layers that are linear in x make one linear map together.": (
            _changed(correct, lambda module, _: module.register_module("act", nn.Identity()))
        ),
        "Dropout stays on in eval(). Use nn.Dropout, or functional.dropout(x, training=self.training).": (
            followed_by(nn.functional.dropout)
        ),
    }


class adjustable_gcn(nn.Module):
    """Build a GCN of `num_layers` graph convolutions, with a ReLU between one and the next.

    The layers are GCNConv. The first takes `in_channels` numbers a node, the last gives `out_channels`, and
    between them there are `hidden_channels`. With num_layers=1 one layer is both the first and the last.
    `forward` returns logits, (num_nodes, out_channels): nothing follows the last layer.
    """

    def __init__(self, in_channels: int, hidden_channels: int, out_channels: int, num_layers: int) -> None:
        super().__init__()
        widths = [in_channels, *[hidden_channels] * (num_layers - 1), out_channels]
        self.convs = nn.ModuleList(GCNConv(*pair) for pair in pairwise(widths))
        self.act = nn.ReLU()

    def forward(self, x: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
        *hidden, last = self.convs
        for conv in hidden:
            x = self.act(conv(x, edge_index))
        return last(x, edge_index)


def _depth_cases(rng: np.random.Generator) -> Iterator[tuple[dict[str, int], tuple[torch.Tensor, ...]]]:
    for num_layers in (2, 1, 4):
        yield _WIDTHS | {"num_layers": num_layers}, (_features(rng), _GRAPH)


def _measured_twice(module: nn.Module, inputs: tuple[Any, ...]) -> dict[str, Any]:
    """Measure what any module should get right, and whether a second call gives the same output."""
    measured = output_and_parameters(module, inputs)
    if not difference(measured["output"], module(*inputs)):
        return {"different outputs in two calls": 1} | measured
    # The random numbers themselves say nothing: dropout is the same mistake wherever it stands.
    return {"different outputs in two calls": 2} | measured | {"output": "random"}


def _with_depth(depth: Callable[[int], int]) -> type[nn.Module]:
    def rebuild(module: adjustable_gcn, settings: dict[str, Any]) -> None:
        adjustable_gcn.__init__(module, **settings | {"num_layers": depth(settings["num_layers"])})

    return _changed(adjustable_gcn, rebuild)


def _with_layers(keep: Callable[[list[Any]], Any]) -> type[nn.Module]:
    def replace(module: Any, _settings: dict[str, Any]) -> None:
        convs = list(module.convs)
        del module.convs
        module.convs = keep(convs)

    return _changed(adjustable_gcn, replace)


_ADJUSTABLE_GCN = ModuleExercise(
    adjustable_gcn,
    cases=_depth_cases,
    measure=_measured_twice,
    misconceptions={
        "There is one layer too many: num_layers counts the last one, too.": _with_depth(lambda n: n + 1),
        "There is one layer too few: num_layers counts all.": _with_depth(lambda n: max(n - 1, 1)),
        "There are two layers at least, and num_layers=1 asks for one.": _with_depth(lambda n: max(n, 2)),
        "The layers stand in a Python list. No optimiser finds them: use nn.ModuleList.": _with_layers(list),
        "One layer is used many times, and so its weights are shared. Make a new one for each place.": (
            _with_layers(lambda own: nn.ModuleList(own[:2] + own[1:2] * (len(own) - 3) + own[2:][-1:]))
        ),
        **_with_other_steps(adjustable_gcn),
    },
    hints=(
        "Write down the widths for num_layers=3: in, hidden, hidden, out. A layer leads from one to the next.",
        "For any depth they are [in_channels, *[hidden_channels] * (num_layers - 1), out_channels].",
        "Keep the layers in an nn.ModuleList. In forward, a ReLU follows each but the last.",
    ),
    why="With one number to turn you can measure what depth does, all else being equal.",
)


def propagation_matrix(
    edge_index: torch.Tensor, num_nodes: int, improved: bool, add_self_loops: bool, normalize: bool
) -> torch.Tensor:
    """Give the matrix that GCNConv multiplies the features with, for each setting of its switches.

    All edges have weight 1. The matrix begins as A: row i, column j holds the weight of the edge from j to i.
    `add_self_loops` adds loops of weight 1, or of weight 2 if `improved` is on as well; `edge_index` has
    none. Then `normalize` makes D^-1/2 (that matrix) D^-1/2 of it, where D holds the sums of its rows. A row
    of zeros stays as it is.
    """
    source, target = edge_index
    matrix = torch.zeros(num_nodes, num_nodes)
    matrix.index_put_((target, source), torch.ones(len(source)), accumulate=True)
    if add_self_loops:
        matrix += (2 if improved else 1) * torch.eye(num_nodes)
    if normalize:
        scale = matrix.sum(dim=1).pow(-0.5)  # (num_nodes,)
        scale[scale.isinf()] = 0
        matrix = scale[:, None] * matrix * scale
    return matrix


def _switch_cases(_rng: np.random.Generator) -> Iterator[tuple[torch.Tensor, int, bool, bool, bool]]:
    for edge_index, num_nodes in ((_PATH, 3), (_PATH, 4), (_GRAPH[:, :-2], 5)):  # in the last, one-way links
        for improved in (False, True):
            yield edge_index, num_nodes, improved, True, True
            yield edge_index, num_nodes, improved, False, True
            yield edge_index, num_nodes, improved, False, False


def _scaled(scale_of: Callable[[torch.Tensor], torch.Tensor]) -> Callable[..., torch.Tensor]:
    def rule(edge_index: Any, num_nodes: Any, improved: Any, loops: Any, normalize: Any) -> torch.Tensor:
        matrix = propagation_matrix(edge_index, num_nodes, improved, loops, False)
        scale = scale_of(matrix)
        return scale[:, None] * matrix * scale if normalize else matrix

    return rule


_PROPAGATION_MATRIX = FunctionExercise(
    propagation_matrix,
    cases=_switch_cases,
    misconceptions={
        "`improved` changes nothing here. With it, a loop weighs 2.": (
            lambda e, n, _improved, *rest: propagation_matrix(e, n, False, *rest)
        ),
        "`improved` adds loops although add_self_loops is off. It only changes what a loop weighs.": (
            lambda e, n, improved, loops, norm: propagation_matrix(e, n, improved, loops or improved, norm)
        ),
        "Rows and columns are swapped. Row 0 of edge_index is the source: matrix[target, source].": (
            lambda e, *rest: propagation_matrix(e.flip(0), *rest)
        ),
        "A row of zeros became NaN: its sum to the power of -1/2 is infinite. Put 0 there.": (
            _scaled(lambda matrix: matrix.sum(dim=1).pow(-0.5))
        ),
        "The rows are divided by their sums, which makes a mean. D^-1/2 belongs on both sides.": (
            lambda e, n, improved, loops, norm: (
                (matrix := propagation_matrix(e, n, improved, loops, False))
                / (matrix.sum(dim=1, keepdim=True).clamp(min=1) if norm else 1)
            )
        ),
        "The sums leave the loops out. Take the rows of the matrix that has them.": (
            _scaled(lambda matrix: (matrix.sum(dim=1) - matrix.diag()).pow(-0.5).nan_to_num(posinf=0.0))
        ),
    },
    hints=(
        "Three steps in this order: the edges, the loops, the scaling. The switches turn the last two.",
        "matrix.index_put_((target, source), torch.ones(len(source)), accumulate=True) writes the edges.",
        "scale = matrix.sum(dim=1) ** -0.5, infinite ones set to 0; then scale[:, None] * matrix * scale.",
    ),
    why="The diagonal is what a node keeps of itself. But see that you pass edge_weight: without it GCNConv "
    "gives its loops weight 1, `improved` or not (PyTorch Geometric 2.8).",
)


class conv_model(nn.Module):
    """Build two layers of any graph convolution, with a ReLU between.

    `conv(in_channels, out_channels)` makes a layer: a class such as SAGEConv, or a function that calls one
    with more arguments. `forward` returns logits, (num_nodes, out_channels).
    """

    def __init__(self, conv: Any, in_channels: int, hidden_channels: int, out_channels: int) -> None:
        super().__init__()
        self.first = conv(in_channels, hidden_channels)
        self.act = nn.ReLU()
        self.second = conv(hidden_channels, out_channels)

    def forward(self, x: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
        return self.second(self.act(self.first(x, edge_index)), edge_index)


def _conv_cases(rng: np.random.Generator) -> Iterator[tuple[dict[str, Any], tuple[torch.Tensor, ...]]]:
    for conv in (SAGEConv, partial(ChebConv, K=3), partial(GATConv, heads=4, concat=False)):
        yield _WIDTHS | {"conv": conv}, (_features(rng), _GRAPH)


_CONV_MODEL = ModuleExercise(
    conv_model,
    cases=_conv_cases,
    measure=_measured_twice,
    misconceptions={
        "`conv` is not used: the layers are GCNConv.": (
            _changed(conv_model, lambda model, own: conv_model.__init__(model, **own | {"conv": GCNConv}))
        ),
        "Only the first layer is made by `conv`. Make the second by it, too.": (
            _changed(conv_model, lambda module, _: module.register_module("second", GCNConv(5, 4)))
        ),
        **_with_other_steps(conv_model),
    },
    hints=(
        "A class is a value like others: inside __init__, call `conv` as you would call GCNConv.",
        "conv(in_channels, hidden_channels) is the first layer, conv(hidden_channels, out_channels) the second.",
    ),
    why="With the convolution as an argument all else stays equal, and a comparison is fair.",
)


EXERCISES = (_ADJUSTABLE_GCN, _DIRICHLET_ENERGY, _PROPAGATION_MATRIX, _CONV_MODEL)
