"""Exercises of notebook 05: message passing."""

# Students read the solutions: they hold no casts for the type checker's sake.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from course_utils.exercises._kinds import FunctionExercise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np


def _features(rng: np.random.Generator, num_nodes: int, num_features: int = 2) -> torch.Tensor:
    return torch.as_tensor(rng.normal(size=(num_nodes, num_features)).round(2), dtype=torch.float32)


def mean_readout(x: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
    """Give each graph of a batch the mean of its nodes' features.

    `x` is (num_nodes, F). `batch` is (num_nodes,) and holds the number of each node's graph, from 0 to the
    largest number in it. Return (num_graphs, F). A graph without nodes gets zeros.
    """
    num_graphs = int(batch.max()) + 1
    total = x.new_zeros(num_graphs, x.shape[1]).index_add(0, batch, x)
    size = torch.bincount(batch, minlength=num_graphs)  # (num_graphs,)
    return total / size.clamp(min=1)[:, None]


def _readout_cases(rng: np.random.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    yield torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 9.0]]), torch.tensor([0, 0, 1])
    yield torch.tensor([[1.0], [3.0], [5.0], [6.0], [10.0]]), torch.tensor([0, 0, 2, 2, 2])  # 1 is empty
    for num_nodes in (7, 9):
        numbers = torch.as_tensor(rng.choice([0, 1, 3, 4], size=num_nodes - 1)).sort().values
        yield _features(rng, num_nodes), torch.cat([numbers, torch.tensor([5])])


def _graph_sums(x: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
    return x.new_zeros(int(batch.max()) + 1, x.shape[1]).index_add(0, batch, x)


_MEAN_READOUT = FunctionExercise(
    mean_readout,
    cases=_readout_cases,
    misconceptions={
        "These are sums. Divide by the number of nodes of each graph.": _graph_sums,
        "A graph without nodes became NaN, which is 0/0. It gets zeros.": (
            lambda x, batch: _graph_sums(x, batch) / torch.bincount(batch)[:, None]
        ),
        "Graphs without nodes are left out. They need their row, or all later rows move up.": (
            lambda x, batch: mean_readout(x, batch.unique(return_inverse=True)[1])
        ),
        "Everything is divided by the number of all nodes. Each graph has its own number.": (
            lambda x, batch: _graph_sums(x, batch) / len(x)
        ),
        "This is one mean over all nodes. Nodes of different graphs must not mix.": (
            lambda x, _batch: x.mean(dim=0, keepdim=True)
        ),
        "Only one node of each graph arrived: out[batch] += x writes to each row once. Use index_add.": (
            lambda x, batch: (
                torch.zeros_like(_graph_sums(x, batch)).index_put((batch,), x)
                / torch.bincount(batch).clamp(min=1)[:, None]
            )
        ),
    },
    hints=(
        "Two things per graph are needed: the sum of its nodes' features, and how many nodes it has.",
        "torch.zeros(num_graphs, F).index_add(0, batch, x) adds row i of x to row batch[i].",
        "torch.bincount(batch) counts the nodes. clamp(min=1) keeps 0/0 away.",
    ),
    why="A readout makes one vector of a graph of any size, and the order of its nodes does not matter.",
)


def mean_aggregate(x: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
    """Give each node the mean of the features that its incoming edges bring.

    `x` is (num_nodes, F) and `edge_index` (2, num_edges). A message runs along an edge from its source, in
    row 0, to its target, in row 1. A node that no edge leads to gets zeros. Return (num_nodes, F).
    """
    source, target = edge_index
    total = torch.zeros_like(x).index_add(0, target, x[source])
    degree = torch.bincount(target, minlength=len(x))  # (num_nodes,)
    return total / degree.clamp(min=1)[:, None]


def _aggregate_cases(rng: np.random.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    yield torch.tensor([[1.0], [3.0], [8.0]]), torch.tensor([[0, 1, 2], [2, 2, 0]])
    yield torch.tensor([[1.0, 2.0], [3.0, 5.0], [9.0, 4.0]]), torch.tensor([[0, 1, 0, 2], [1, 0, 2, 0]])
    for num_nodes in (6, 8):
        # Edges of one direction, in no order. The last node has none at all.
        pairs = torch.tensor([(i, j) for i in range(num_nodes - 1) for j in range(num_nodes - 1) if i != j])
        yield _features(rng, num_nodes), pairs[rng.permutation(len(pairs))[: 2 * num_nodes]].T


def _messages(x: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
    source, target = edge_index
    return torch.zeros_like(x).index_add(0, target, x[source])


def _degree(x: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    return torch.bincount(ends, minlength=len(x))[:, None]  # (num_nodes, 1)


def _one_message(x: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
    source, target = edge_index
    last = torch.zeros_like(x).index_put((target,), x[source])
    return last / _degree(x, target).clamp(min=1)


_MEAN_AGGREGATE = FunctionExercise(
    mean_aggregate,
    cases=_aggregate_cases,
    misconceptions={
        "The messages run backwards. They leave the node in row 0 and reach the node in row 1.": (
            lambda x, edge_index: mean_aggregate(x, edge_index.flip(0))
        ),
        "These are sums. Divide by the number of incoming edges.": _messages,
        "A node that no edge leads to became NaN, which is 0/0. It gets zeros.": (
            lambda x, edge_index: _messages(x, edge_index) / _degree(x, edge_index[1])
        ),
        "The sums are divided by all edges of a node. Only the incoming ones have brought something.": (
            lambda x, edge_index: _messages(x, edge_index) / _degree(x, edge_index.flatten()).clamp(min=1)
        ),
        "The sums are divided by the number of outgoing edges. Count the incoming ones.": (
            lambda x, edge_index: _messages(x, edge_index) / _degree(x, edge_index[0]).clamp(min=1)
        ),
        "The node itself is in the mean. Without a self-loop it sends itself no message.": (
            lambda x, edge_index: (_messages(x, edge_index) + x) / (_degree(x, edge_index[1]) + 1)
        ),
        "A node that no edge leads to keeps its own features. It gets zeros.": (
            lambda x, edge_index: torch.where(
                _degree(x, edge_index[1]) == 0, x, mean_aggregate(x, edge_index)
            )
        ),
        "Only one message arrived at each node: out[target] += ... writes to each row once. Use index_add.": (
            _one_message
        ),
    },
    hints=(
        "source, target = edge_index. x[source] holds one message per edge. Where does each belong?",
        "torch.zeros_like(x).index_add(0, target, x[source]) adds the messages up at their targets.",
        "torch.bincount(target, minlength=len(x)) counts them. clamp(min=1) keeps 0/0 away.",
    ),
    why="Reversed edges raise no error: a network trains on the wrong graph and is only a little worse.",
)


def receptive_field(edge_index: torch.Tensor, node: int, num_layers: int) -> set[int]:
    """Find the nodes whose features can change a node's output after some layers of message passing.

    `edge_index` is (2, num_edges), and messages run from row 0 to row 1. In each layer a node sees itself,
    too. Return the set of node numbers. With no layers it is {node}.
    """
    field = {node}
    for _ in range(num_layers):
        field |= {source for source, target in edge_index.T.tolist() if target in field}
    return field


def _field_cases(rng: np.random.Generator) -> Iterator[tuple[torch.Tensor, int, int]]:
    path = torch.tensor([[3, 2, 1, 0], [4, 3, 2, 1]])  # 0 -> 1 -> 2 -> 3 -> 4, last edge first
    for num_layers in (0, 1, 2):
        yield path, 3, num_layers
    yield path.flip(1), 4, 2
    for num_nodes, num_layers in ((9, 2), (12, 3)):
        pairs = rng.integers(0, num_nodes, size=(num_nodes, 2))
        yield torch.as_tensor(pairs[pairs[:, 0] != pairs[:, 1]].T.copy()), int(pairs[0, 1]), num_layers


def _eager_field(edge_index: torch.Tensor, node: int, num_layers: int) -> set[int]:
    field = {node}
    for _ in range(num_layers):
        for source, target in edge_index.T.tolist():
            if target in field:
                field.add(source)
    return field


_RECEPTIVE_FIELD = FunctionExercise(
    receptive_field,
    cases=_field_cases,
    misconceptions={
        "These are the nodes that `node` reaches. Go against the edges: who reaches `node`?": (
            lambda edge_index, node, num_layers: receptive_field(edge_index.flip(0), node, num_layers)
        ),
        "Both directions of each edge are used. A message runs from row 0 to row 1 only.": (
            lambda edge_index, node, num_layers: receptive_field(
                torch.cat([edge_index, edge_index.flip(0)], dim=1), node, num_layers
            )
        ),
        "It is one layer too far. The first layer already brings the neighbours.": (
            lambda edge_index, node, num_layers: receptive_field(edge_index, node, num_layers + 1)
        ),
        "It is one layer short. Each layer brings one more step.": (
            lambda edge_index, node, num_layers: receptive_field(edge_index, node, max(num_layers - 1, 0))
        ),
        "The node itself is missing. It sees itself in each layer.": (
            lambda edge_index, node, num_layers: receptive_field(edge_index, node, num_layers) - {node}
        ),
        "Only the nodes reached last are here. Those of earlier layers stay, as each node sees itself.": (
            lambda edge_index, node, num_layers: (
                receptive_field(edge_index, node, num_layers)
                - (receptive_field(edge_index, node, num_layers - 1) if num_layers else set())
            )
        ),
        "A node found in a layer already brings its own sources in that layer. Finish the layer first.": (
            _eager_field
        ),
    },
    hints=(
        "Begin with {node}. What does one layer add to a set of nodes that are already in the field?",
        "An edge adds its source if its target is in the field: `for source, target in edge_index.T.tolist()`.",
        "Collect all sources of one layer in a new set, and only then unite it with the field.",
    ),
    why="What lies outside this set cannot matter: too few layers are blind, and many see the whole graph.",
)


def gcn_propagate(x: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
    """Propagate features as a GCN layer does before its weights: D^-1/2 (A + I) D^-1/2 x.

    `x` is (num_nodes, F). `edge_index` is (2, num_edges), holds both directions of each link, and no loops.
    A is its adjacency matrix, and D holds the degrees of A + I. Return (num_nodes, F).
    """
    loops = torch.arange(len(x)).repeat(2, 1)  # (2, num_nodes)
    source, target = torch.cat([edge_index, loops], dim=1)
    scale = torch.bincount(target, minlength=len(x)).pow(-0.5)[:, None]  # (num_nodes, 1)
    return scale * torch.zeros_like(x).index_add(0, target, (scale * x)[source])


def _propagate_cases(rng: np.random.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    yield torch.tensor([[1.0], [3.0], [8.0]]), torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    for num_nodes in (5, 7):
        # A path with some more links. In the larger graph the last node has none.
        links = {(i, i + 1) for i in range(4)} | {(0, int(j)) for j in rng.choice([2, 3, 4], size=2)}
        pairs = torch.tensor(sorted(links)).T
        yield _features(rng, num_nodes), torch.cat([pairs, pairs.flip(0)], dim=1)


def _propagation(
    power: float = -0.5, *, loop: float = 1.0, counted: float = 1.0, left: bool = True, right: bool = True
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Make a rule of this kind with other loops, other loops in the degrees, or other scaling."""

    def propagate(x: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
        scale = (_degree(x, edge_index[1]) + counted).pow(power)
        scaled = scale * x if right else x
        total = _messages(scaled, edge_index) + loop * scaled
        return scale * total if left else total

    return propagate


_GCN_PROPAGATE = FunctionExercise(
    gcn_propagate,
    cases=_propagate_cases,
    misconceptions={
        "There are no self-loops: a node forgets its own features. Use A + I, and its degrees.": (
            lambda x, edge_index: torch.nan_to_num(
                _propagation(loop=0.0, counted=0.0)(x, edge_index), nan=0.0
            )
        ),
        "The degrees leave the self-loops out. Count them in A + I.": _propagation(counted=0.0),
        "The degrees count the self-loops, but no message runs along them. Add I to A as well.": (
            _propagation(loop=0.0)
        ),
        "Each self-loop counts twice. Add I once.": _propagation(loop=2.0, counted=2.0),
        "The sums are not scaled, and grow with the degree. D^-1/2 belongs on both sides.": _propagation(0.0),
        "This is the mean, D^-1 (A + I) x. D^-1/2 belongs on both sides.": _propagation(-1.0, right=False),
        "D^-1 stands on both sides. The exponent is -1/2.": _propagation(-1.0),
        "D^-1/2 stands only on the left. It belongs on both sides.": _propagation(right=False),
        "D^-1/2 stands only on the right. It belongs on both sides.": _propagation(left=False),
        "The zeros beside the diagonal of D became infinite. Take the power of the degrees, then make the matrix.": (
            lambda x, _edge_index: x * torch.nan
        ),
        "The exponent has the wrong sign: well-linked nodes grow. It is -1/2.": _propagation(0.5),
    },
    hints=(
        "First give each node an edge to itself. From then on, A + I is all there is.",
        "torch.arange(len(x)).repeat(2, 1) holds the loops. Degrees: torch.bincount(target).",
        "From right to left: scale the rows of x by degree**-0.5, add up the messages, and scale again.",
    ),
    why="Multiply by a weight matrix, and this is GCNConv. Plain sums would grow with every layer.",
)


EXERCISES = (_MEAN_AGGREGATE, _MEAN_READOUT, _GCN_PROPAGATE, _RECEPTIVE_FIELD)
