"""How alike the nodes have become: three measures of over-smoothing.

All of them compute in double precision, so that a signal that has almost died away is still measured.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch
from torch_geometric.utils import degree, remove_self_loops

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import Tensor

__all__ = ["between_node_share", "dirichlet_energy", "mean_cosine_distance"]

# Columns of a signal that are taken at a time.
COLUMNS = 64


def dirichlet_energy(h: Tensor, edge_index: Tensor, *, normalization: Literal["sym"] | None = "sym") -> float:
    """Add up the squared differences between the signals of linked nodes.

    Cai & Wang 2020, arXiv:2006.13318, definition 1: with d the degree without self-loops,
    ``E = 1/2 sum_ij ||h_i / sqrt(1 + d_i) - h_j / sqrt(1 + d_j)||^2`` over both directions of each link. This is
    the energy of the Laplacian that GCN smooths with; it is zero where each row is the same times sqrt(1 + d_i).

    Parameters
    ----------
    h
        Signal (N, d).
    edge_index
        Both directions of each link, int64 (2, E). Self-loops are left out.
    normalization
        "sym" as above. None leaves the roots away; the energy is then zero where all rows are equal.

    Returns
    -------
    float
        The energy. It grows with the square of the signal: divide by ``h.square().sum()`` to compare layers.
    """
    if normalization not in {"sym", None}:
        msg = f"normalization={normalization!r} is unknown; take 'sym' or None."
        raise ValueError(msg)
    (source, target), _ = remove_self_loops(edge_index)
    scale = torch.ones(h.size(0), 1, dtype=torch.float64, device=h.device)
    if normalization == "sym":
        scale = (1 + degree(target, h.size(0), dtype=torch.float64)).rsqrt()[:, None]
    parts = (part * scale for part in _columns(h))
    return 0.5 * math.fsum(float((part[source] - part[target]).square().sum()) for part in parts)


def mean_cosine_distance(h: Tensor) -> float:
    """Average 1 - cos(h_i, h_j) over all pairs of different nodes.

    Chen et al. 2020, arXiv:1909.03211, call it MAD, with all nodes as targets. Unlike theirs the average keeps
    pairs at distance zero, since those are what over-smoothing makes. Rows of zeros have no direction and are left
    out. The cost is that of the signal, not of all pairs.

    Parameters
    ----------
    h
        Signal (N, d).

    Returns
    -------
    float
        0 where all rows point the same way, about 1 where directions are spread evenly; NaN if fewer than two rows
        are not zero.
    """
    length = torch.zeros(h.size(0), 1, dtype=torch.float64, device=h.device)
    for part in _columns(h):
        length = torch.hypot(length, part.norm(dim=1, keepdim=True))
    has_direction = length[:, 0] > 0
    count = int(has_direction.sum())
    if count < 2:  # noqa: PLR2004 (a pair)
        return float("nan")
    directions = ((part / length)[has_direction] for part in _columns(h))
    # With u the directions and m their mean, the sum over pairs of |u_i - u_j|^2 / 2 is N times that of |u_i - m|^2.
    return _spread(directions) / (count - 1)


def between_node_share(h: Tensor) -> float:
    """Divide the part of a signal that differs between nodes by the whole: ||h - mean||^2 / ||h||^2.

    Parameters
    ----------
    h
        Signal (N, d). The mean is that of the rows.

    Returns
    -------
    float
        0 where all rows are equal, 1 where they average to zero; NaN if the whole signal is zero.
    """
    whole = math.fsum(float(part.square().sum()) for part in _columns(h))
    return _spread(_columns(h)) / whole if whole else float("nan")


def _columns(h: Tensor) -> Iterator[Tensor]:
    """Yield a few columns at a time in double precision: all of them could fill a small machine's memory."""
    for part in torch.split(h, COLUMNS, dim=1):
        yield part.double()


def _spread(parts: Iterable[Tensor]) -> float:
    """Add up the squared distances from the mean row."""
    return math.fsum(float((part - part.mean(dim=0)).square().sum()) for part in parts)
