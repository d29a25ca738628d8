"""Second-order random walks on graphs in compressed sparse row (CSR) form.

A graph is given by `rowptr` and `col`: the out-neighbours of node v are `col[rowptr[v]:rowptr[v + 1]]`, in
ascending order. A multi-edge counts as often as it occurs. `to_csr` makes both from an `edge_index`.

The bias is that of node2vec (Grover & Leskovec 2016, arXiv:1607.00653, section 3.2.2): a walk that came from
t to v goes on to x with a weight of 1/p if x = t, 1 if d(t, x) = 1 and 1/q otherwise. On a directed graph
d(t, x) = 1 means here that the edge t -> x exists, as in the paper. The authors' published code asks for the
edge x -> t instead; on an undirected graph the two agree.
"""

from __future__ import annotations

import math
from numbers import Real

import torch
from torch import Tensor

from course_utils._walker import Walker

__all__ = ["biased_random_walks", "check_bias", "to_csr", "transition_probabilities"]


def biased_random_walks(
    rowptr: Tensor,
    col: Tensor,
    start: Tensor,
    walk_length: int,
    *,
    p: float = 1.0,
    q: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw one walk from every start node.

    The first step is uniform, the later ones have the bias given at the top of this module. A node without
    out-links keeps its walk: the remaining entries repeat it.

    Parameters
    ----------
    rowptr
        Row pointers of the graph, int64, shape (num_nodes + 1,).
    col
        Out-neighbours, sorted within each row, int64, shape (num_edges,).
    start
        Start nodes, int64, shape (num_walks,). Repeat a node for several walks.
    walk_length
        Number of steps.
    p
        Return parameter. Large values make turning back rare.
    q
        In-out parameter. Above 1 a walk stays near, below 1 it moves away.
    generator
        Source of randomness, on the device of the graph. Without it the global one of PyTorch is used.

    Returns
    -------
    Tensor
        The walks, int64, shape (num_walks, walk_length + 1). Column 0 is `start`.

    Raises
    ------
    TypeError
        If a tensor is not int64, `walk_length` is no integer, or `p` or `q` is no number.
    ValueError
        If the CSR arrays contradict each other or are not sorted, a start node does not exist,
        `walk_length` is negative, or `p` or `q` is not a positive finite number.
    """
    if isinstance(walk_length, bool) or not isinstance(walk_length, int):
        msg = f"walk_length must be an int, got {type(walk_length).__name__}: give the number of steps."
        raise TypeError(msg)
    if walk_length < 0:
        msg = f"walk_length must be 0 or more, got {walk_length}."
        raise ValueError(msg)
    _check_csr(rowptr, col)
    _check_indices(start, "start")
    _check_nodes(start, "start", rowptr.numel() - 1)
    check_bias(p, q)
    walker = Walker(rowptr, col, p=p, q=q, expected_steps=start.numel() * walk_length)
    return walker.walk(start, walk_length, generator=generator)


def transition_probabilities(
    rowptr: Tensor, col: Tensor, previous: int, current: int, *, p: float, q: float
) -> Tensor:
    """Compute the exact distribution of the next step of a walk.

    Parameters
    ----------
    rowptr, col
        The graph, as in `biased_random_walks`.
    previous, current
        The walk came from node `previous` (t) to node `current` (v). After a step along a self-loop the two
        are the same node.
    p, q
        Return and in-out parameter.

    Returns
    -------
    Tensor
        Probabilities, float64, one for each entry of `col[rowptr[current]:rowptr[current + 1]]`.
        Empty if `current` has no out-links.

    Raises
    ------
    TypeError, ValueError
        As `biased_random_walks`.
    """
    _check_csr(rowptr, col)
    check_bias(p, q)
    for name, node in (("previous", previous), ("current", current)):
        _check_nodes(torch.tensor([int(node)]), name, rowptr.numel() - 1)
    neighbours = col[rowptr[current] : rowptr[current + 1]]
    near = torch.isin(neighbours, col[rowptr[previous] : rowptr[previous + 1]])
    weight = torch.full(neighbours.shape, 1 / q, dtype=torch.float64, device=col.device)
    weight[near] = 1.0
    weight[neighbours == previous] = 1 / p
    return weight / weight.sum()


def to_csr(edge_index: Tensor, num_nodes: int | None = None) -> tuple[Tensor, Tensor]:
    """Sort edges into the two arrays that walks need.

    Parameters
    ----------
    edge_index
        Edges, source above target, int64, shape (2, num_edges).
    num_nodes
        Number of nodes. By default the largest entry of `edge_index` plus one.

    Returns
    -------
    rowptr, col : Tensor
        Shapes (num_nodes + 1,) and (num_edges,), on the CPU.

    Raises
    ------
    TypeError
        If `edge_index` is not int64.
    ValueError
        If it has another shape or a node out of range.
    """
    if not isinstance(edge_index, Tensor) or edge_index.dtype != torch.int64:
        kind = edge_index.dtype if isinstance(edge_index, Tensor) else type(edge_index).__name__
        msg = f"edge_index must be a tensor of dtype torch.int64, got {kind}: convert it with .long()."
        raise TypeError(msg)
    if edge_index.dim() != 2 or edge_index.size(0) != 2:  # noqa: PLR2004 - source and target of each edge
        msg = f"edge_index must have shape (2, num_edges), got {tuple(edge_index.shape)}: try .t()."
        raise ValueError(msg)
    low, high = (int(edge_index.min()), int(edge_index.max())) if edge_index.numel() else (0, -1)
    if low < 0:
        msg = f"edge_index holds node {low}: nodes are numbered from 0. Remove what pads it."
        raise ValueError(msg)
    if num_nodes is None:
        num_nodes = high + 1
    if num_nodes <= max(high, 0):
        msg = f"num_nodes is {num_nodes}, but edge_index holds node {high}: give at least {max(high, 0) + 1}."
        raise ValueError(msg)
    keys = (edge_index[0] * num_nodes + edge_index[1]).cpu().sort().values
    counts = torch.bincount(keys // num_nodes, minlength=num_nodes)
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)]), keys % num_nodes


def _check_csr(rowptr: Tensor, col: Tensor) -> None:
    """Refuse arrays that are no sorted CSR graph. Linear in the number of edges."""
    _check_indices(rowptr, "rowptr")
    _check_indices(col, "col")
    mend = "Make both from an edge_index: rowptr, col = to_csr(edge_index)."
    num_edges = col.numel()
    if rowptr.numel() == 0 or rowptr[0] != 0 or rowptr[-1] != num_edges:
        ends = rowptr[[0, -1]].tolist() if rowptr.numel() else "nothing"
        msg = f"rowptr must run from 0 to the {num_edges} entries of col, it runs over {ends}. {mend}"
        raise ValueError(msg)
    fall = (rowptr.diff() < 0).nonzero()
    if fall.numel():
        msg = f"rowptr must not decrease, but it does after entry {int(fall[0])}. {mend}"
        raise ValueError(msg)
    _check_nodes(col, "col", rowptr.numel() - 1)
    starts_row = torch.zeros(num_edges + 1, dtype=torch.bool, device=col.device)
    starts_row[rowptr] = True
    fall = ((col[1:] < col[:-1]) & ~starts_row[1:-1]).nonzero() if num_edges > 1 else col[:0]
    if fall.numel():
        place = int(fall[0])
        row = int(torch.searchsorted(rowptr, torch.tensor(place, device=col.device), right=True)) - 1
        msg = f"col must be sorted within each row, but in row {row} it falls after entry {place}. {mend}"
        raise ValueError(msg)


def _check_indices(indices: Tensor, name: str) -> None:
    """Refuse what is no one-dimensional int64 tensor."""
    if not isinstance(indices, Tensor) or indices.dtype != torch.int64:
        kind = indices.dtype if isinstance(indices, Tensor) else type(indices).__name__
        msg = f"{name} must be a tensor of dtype torch.int64, got {kind}: convert it with .long()."
        raise TypeError(msg)
    if indices.dim() != 1:
        msg = f"{name} must have one dimension, got shape {tuple(indices.shape)}: flatten it with .view(-1)."
        raise ValueError(msg)


def _check_nodes(nodes: Tensor, name: str, num_nodes: int) -> None:
    """Refuse node numbers that do not exist."""
    if nodes.numel() == 0:
        return
    low, high = (int(bound) for bound in nodes.aminmax())
    if low < 0 or high >= num_nodes:
        wrong = low if low < 0 else high
        msg = f"{name} holds node {wrong}, but the graph has the nodes 0 to {num_nodes - 1}."
        raise ValueError(msg)


def check_bias(p: float, q: float) -> None:
    """Refuse p and q that give no weights.

    Raises
    ------
    TypeError, ValueError
        If `p` or `q` is no number, or not positive and finite.
    """
    for name, value in (("p", p), ("q", q)):
        if isinstance(value, bool) or not isinstance(value, Real):
            msg = f"{name} must be a number, got {type(value).__name__}."
            raise TypeError(msg)
        if not (math.isfinite(value) and value > 0):
            msg = f"{name} must be positive and finite, got {value}: 1 leaves the walk unbiased."
            raise ValueError(msg)
