"""Exercises of notebook 04: Node2Vec on Cambridge's streets."""

# Students read the solutions: they hold no casts and no type arguments for the type checker's sake.
# mypy: disable-error-code="no-any-return, no-untyped-call, type-arg"

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import networkx as nx
import torch

from course_utils.exercises._kinds import FunctionExercise
from course_utils.exercises._nb04_embeddings_at_work import KMEANS_STEP, LINK_AUC

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np


def degree_counts(edge_index: torch.Tensor, num_nodes: int) -> torch.Tensor:
    """Count the nodes of each degree in the graph seen as undirected and simple.

    `edge_index` is (2, num_edges). The degree of a node is the number of different other nodes that it has
    an edge with, in either direction. Return a tensor of whole numbers whose entry d is the number of nodes
    of degree d, up to the largest degree.
    """
    pairs = edge_index.sort(dim=0).values.unique(dim=1)  # (2, num_links), each link once
    pairs = pairs[:, pairs[0] != pairs[1]]
    degree = torch.bincount(pairs.flatten(), minlength=num_nodes)  # (num_nodes,)
    return torch.bincount(degree)


def _degree_cases(rng: np.random.Generator) -> Iterator[tuple[torch.Tensor, int]]:
    yield torch.tensor([[0, 1, 1, 2, 1, 3], [1, 0, 2, 1, 3, 1]]), 4  # a T-junction, two-way
    yield torch.tensor([[0, 1, 3, 2], [1, 2, 1, 2]]), 5  # one-way streets, a loop, a node without a street
    for num_nodes in (7, 9):
        pairs = torch.as_tensor(rng.integers(0, num_nodes - 1, size=(2, 8)))
        yield torch.cat([pairs, pairs[:, :4].flip(0)], dim=1), num_nodes


def _simple_links(edge_index: torch.Tensor) -> torch.Tensor:
    pairs = edge_index.sort(dim=0).values.unique(dim=1)
    return pairs[:, pairs[0] != pairs[1]]


def _histogram(nodes: torch.Tensor, num_nodes: int) -> torch.Tensor:
    return torch.bincount(torch.bincount(nodes, minlength=num_nodes))


_DEGREE_COUNTS = FunctionExercise(
    degree_counts,
    cases=_degree_cases,
    misconceptions={
        "Every edge counts at both of its ends. A two-way street is two edges, and so it counts twice.": (
            lambda edge_index, num_nodes: _histogram(edge_index.flatten(), num_nodes)
        ),
        "These are out-degrees. A one-way street joins its far end as well.": (
            lambda edge_index, num_nodes: _histogram(edge_index[0], num_nodes)
        ),
        "Only edges from a lower to a higher number are used. A one-way street may run the other way.": (
            lambda edge_index, num_nodes: degree_counts(
                edge_index[:, edge_index[0] < edge_index[1]], num_nodes
            )
        ),
        "A street that ends where it starts is counted. It joins no other node.": (
            lambda edge_index, num_nodes: _histogram(
                edge_index.sort(dim=0)[0].unique(dim=1).flatten(), num_nodes
            )
        ),
        "These are the degrees, one for each node. Count how often each degree occurs: bincount once more.": (
            lambda edge_index, num_nodes: torch.bincount(
                _simple_links(edge_index).flatten(), minlength=num_nodes
            )
        ),
        "The last nodes of the numbering are missing, for they have no edge. num_nodes tells of them.": (
            lambda edge_index, _num_nodes: degree_counts(edge_index, int(edge_index.max()) + 1)
        ),
    },
    hints=(
        "First make each link appear once, whatever its direction. Then count ends. Then count the counts.",
        "edge_index.sort(dim=0).values writes both directions of a link alike; unique(dim=1) keeps one.",
        "Drop the loops. torch.bincount(pairs.flatten(), minlength=num_nodes) then gives the degrees.",
    ),
    why="Degree 1 is a dead end, 3 a T-junction and 4 a crossing, but only if two-way streets count once.",
)


def walk_pairs(walk: list[int], context_size: int) -> list[tuple[int, int]]:
    """List the (start, context) pairs that Node2Vec learns from in one walk.

    A window of `context_size` nodes slides over the walk, one node at a time, and always lies wholly
    inside. Each window pairs its first node with each of its other nodes. Keep the order of the windows,
    and of the nodes within a window.
    """
    pairs = []
    for start in range(len(walk) - context_size + 1):
        window = walk[start : start + context_size]
        pairs += [(window[0], node) for node in window[1:]]
    return pairs


def _walk_cases(rng: np.random.Generator) -> Iterator[tuple[list[int], int]]:
    yield [0, 1, 2, 3], 3
    yield [4, 7], 3  # too short for a window
    yield rng.permutation(40)[:9].tolist(), 4
    yield rng.integers(0, 4, size=8).tolist(), 2  # a walk that comes back


def _both_sides(walk: list[int], context_size: int) -> list[tuple[int, int]]:
    near = range(1 - context_size, context_size)
    length = len(walk)
    return [(walk[j], walk[j + k]) for j in range(length) for k in near if k and 0 <= j + k < length]


_WALK_PAIRS = FunctionExercise(
    walk_pairs,
    cases=_walk_cases,
    misconceptions={
        "The windows are one node too long. context_size counts the first node, too.": (
            lambda walk, context_size: walk_pairs(walk, context_size + 1)
        ),
        "The windows at the end are cut short. A window lies wholly inside the walk, or is not used.": (
            lambda walk, size: [
                (node, other) for j, node in enumerate(walk) for other in walk[j + 1 : j + size]
            ]
        ),
        "The last window is missing. A walk of n nodes has n - context_size + 1 windows.": (
            lambda walk, context_size: walk_pairs(walk[:-1], context_size)
        ),
        "These are pairs with both sides, as in Word2Vec. Here a window looks ahead only.": _both_sides,
        "The centre stands in the middle of its window, as in Word2Vec. Here it is the window's first node.": (
            lambda walk, size: [
                (node, walk[k])
                for j, node in enumerate(walk)
                for k in range(max(j - size // 2, 0), min(j + size // 2 + 1, len(walk)))
                if k != j
            ]
        ),
        "Each window pairs its first node with itself, too. Start from the second node of the window.": (
            lambda walk, size: [
                (walk[j], node) for j in range(len(walk) - size + 1) for node in walk[j : j + size]
            ]
        ),
        "The pairs are right, and their order is not. Finish one window before the next.": (
            lambda walk, size: [
                (walk[j], walk[j + k]) for k in range(1, size) for j in range(len(walk) - size + 1)
            ]
        ),
    },
    hints=(
        "Write the windows of [0, 1, 2, 3] with context_size 3 on paper. There are two of them.",
        "Windows start at 0, 1, ..., len(walk) - context_size. Each is walk[start : start + context_size].",
        "For each window, add (window[0], node) for each node in window[1:].",
    ),
    why="These pairs are all that the embedding sees of the graph; context_size limits how far it sees.",
)


def transition_weight(graph: nx.Graph, previous: Any, candidate: Any, p: float, q: float) -> float:
    """Give the unnormalised weight of the step to `candidate` for a walk that came from `previous`.

    It is 1/p if the step leads back to `previous`, else 1 if there is an edge from `previous` to
    `candidate`, else 1/q. The graph may be directed.
    """
    if candidate == previous:
        return 1 / p
    if graph.has_edge(previous, candidate):
        return 1.0
    return 1 / q


def _transition_cases(rng: np.random.Generator) -> Iterator[tuple[nx.Graph, int, int, float, float]]:
    # The walk stands at 1 and came from 0. Seen from 0, node 2 is a neighbour and 3 is not; in the
    # directed graph there is an edge from 3 to 0, which leads the wrong way.
    undirected = nx.Graph([(0, 1), (1, 2), (1, 3), (0, 2)])
    directed = nx.DiGraph([(0, 1), (1, 0), (1, 2), (1, 3), (0, 2), (3, 0)])
    looped = nx.Graph([(0, 0), (0, 1), (1, 2)])  # a street that ends where it starts
    for graph, candidates in ((undirected, (0, 2, 3)), (directed, (0, 2, 3)), (looped, (0, 2))):
        label = rng.permutation(20)[: len(graph)].tolist()
        renamed = nx.relabel_nodes(graph, dict(zip(sorted(graph), label, strict=True)))
        small, large = rng.uniform([0.2, 5.5], [0.45, 9.0]).round(2).tolist()
        p, q = rng.permutation([small, large]).tolist()
        for candidate in candidates:
            yield renamed, label[0], label[candidate], p, q


def _weight_by(is_near: Callable[[nx.Graph, Any, Any], bool]) -> Callable[..., float]:
    """Make a rule of the kind asked for that has another notion of what is near."""
    return lambda graph, previous, candidate, p, q: (
        1 / p if candidate == previous else 1.0 if is_near(graph, previous, candidate) else 1 / q
    )


_TRANSITION_WEIGHT = FunctionExercise(
    transition_weight,
    cases=_transition_cases,
    misconceptions={
        "p and q are swapped. p is for the way back, q for the way out.": (
            lambda graph, previous, candidate, p, q: transition_weight(graph, previous, candidate, q, p)
        ),
        "These are p and q themselves. The weights are 1/p and 1/q: a large p makes turning back rare.": (
            lambda graph, previous, candidate, p, q: transition_weight(
                graph, previous, candidate, 1 / p, 1 / q
            )
        ),
        "The edge is looked for before the way back. `previous` may have an edge to itself: first test "
        "candidate == previous.": (
            lambda graph, previous, candidate, p, q: (
                1.0 if graph.has_edge(previous, candidate) else 1 / p if candidate == previous else 1 / q
            )
        ),
        "The edge is looked for in the wrong direction. It must run from `previous` to `candidate`.": (
            _weight_by(lambda graph, previous, candidate: graph.has_edge(candidate, previous))
        ),
        "The edge counts in both directions. On a one-way street only previous -> candidate counts.": (
            _weight_by(lambda graph, previous, candidate: graph.to_undirected().has_edge(previous, candidate))
        ),
        "1/q is given to the neighbours of `previous`. It belongs to the nodes further away.": (
            _weight_by(lambda graph, previous, candidate: not graph.has_edge(previous, candidate))
        ),
        "q is not used. A node that is no neighbour of `previous` has weight 1/q.": (
            lambda graph, previous, candidate, p, _q: transition_weight(graph, previous, candidate, p, 1)
        ),
    },
    hints=(
        "There are three cases, and the first that fits decides. Which one must be tested first?",
        "graph.has_edge(previous, candidate) respects the direction of a one-way street.",
        "if candidate == previous: 1 / p. Else, if there is that edge: 1. Else: 1 / q.",
    ),
    why="These three weights are what sets Node2Vec apart from plain walks: they steer how far one strays.",
)


EXERCISES = (_DEGREE_COUNTS, _TRANSITION_WEIGHT, _WALK_PAIRS, KMEANS_STEP, LINK_AUC)
