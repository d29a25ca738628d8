"""Hyperbolic space in the Poincare ball, and a graph convolution that learns how curved it is.

A ball of curvature -c, c > 0, holds the points x with sqrt(c) |x| < 1. Formulas are those of Ganea et al. 2018,
arXiv:1805.09112. In them a small step at the origin has twice its Euclidean length, so that for c -> 0 distances
become twice the Euclidean ones.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch_geometric.nn.conv.gcn_conv import gcn_norm

from course_utils._sparse import CsrMatrix, Memo

__all__ = ["HyperbolicGraphConv", "distance", "expmap0", "logmap0", "mobius_add"]

Curvature = Literal["clamp", "softplus", "project"]
Scalar = Tensor | float


def expmap0(v: Tensor, c: Scalar) -> Tensor:
    """Walk from the origin along `v` and give where one arrives: tanh(sqrt(c) |v|) v / (sqrt(c) |v|).

    Ganea et al. 2018, lemma 2. Points are kept a hundred rounding errors inside the edge, where `logmap0` and
    `distance` are still finite: in float32 they lie at most 12.0 / sqrt(c) from the origin.

    Parameters
    ----------
    v
        Tangent vectors at the origin (..., d).
    c
        Minus the curvature, positive.

    Returns
    -------
    Tensor
        Points of the ball (..., d).
    """
    c = torch.as_tensor(c, dtype=v.dtype, device=v.device)
    length = c.sqrt() * _norm(v)
    return _inside(length.tanh() / length * v, c)


def logmap0(x: Tensor, c: Scalar) -> Tensor:
    """Give the tangent vector at the origin that leads to `x`: artanh(sqrt(c) |x|) x / (sqrt(c) |x|).

    Ganea et al. 2018, lemma 2. The inverse of `expmap0`.

    Parameters
    ----------
    x
        Points of the ball (..., d).
    c
        Minus the curvature, positive.

    Returns
    -------
    Tensor
        Tangent vectors at the origin (..., d); infinite or NaN for points on the edge or outside.
    """
    c = torch.as_tensor(c, dtype=x.dtype, device=x.device)
    length = c.sqrt() * _norm(x)
    tangent: Tensor = length.atanh() / length * x
    return tangent


def mobius_add(x: Tensor, y: Tensor, c: Scalar) -> Tensor:
    """Add in the ball: move the point `y` as the shift does that takes the origin to `x`.

    Ganea et al. 2018, equation 1. Neither commutative nor associative; x + y for c -> 0.

    Parameters
    ----------
    x, y
        Points of the ball (..., d), whose shapes broadcast.
    c
        Minus the curvature, positive.

    Returns
    -------
    Tensor
        Points of the ball (..., d).
    """
    c = torch.as_tensor(c, dtype=x.dtype, device=x.device)
    xy = (x * y).sum(dim=-1, keepdim=True)
    xx, yy = x.square().sum(dim=-1, keepdim=True), y.square().sum(dim=-1, keepdim=True)
    moved = (1 + 2 * c * xy + c * yy) * x + (1 - c * xx) * y
    # Positive, but near the edge rounding may take it to zero.
    divisor = (1 + 2 * c * xy + c * c * xx * yy).clamp(min=torch.finfo(x.dtype).eps)
    return _inside(moved / divisor, c)


def distance(x: Tensor, y: Tensor, c: Scalar) -> Tensor:
    """Measure the length of the shortest way from `x` to `y`.

    With a = 1 - c |x|^2 and b = 1 - c |y|^2 it is 2 / sqrt(c) arsinh(sqrt(c) |x - y| / sqrt(a b)). This equals
    2 / sqrt(c) artanh(sqrt(c) |(-x) + y|), Ganea et al. 2018, section 2.4, with the addition of the ball, and keeps
    its digits near the edge and for neighbours.

    Parameters
    ----------
    x, y
        Points of the ball (..., d), whose shapes broadcast.
    c
        Minus the curvature, positive.

    Returns
    -------
    Tensor
        Distances (...).
    """
    c = torch.as_tensor(c, dtype=x.dtype, device=x.device)
    gap = (x - y).norm(dim=-1)  # the gradient of this norm is 0, not NaN, where x = y
    margins = (1 - c * x.square().sum(dim=-1)) * (1 - c * y.square().sum(dim=-1))
    length: Tensor = 2 / c.sqrt() * (c.sqrt() * gap / margins.sqrt()).asinh()
    return length


class HyperbolicGraphConv(nn.Module):
    """Graph convolution into a Poincare ball whose curvature -c is learned.

    Chami et al. 2019, arXiv:1910.12933, section 4, with the weights and the mean over neighbours in the tangent
    space at the origin: log(exp(W x) + exp(b)) for each node, with the addition of the ball; then the sum with
    the weights of `GCNConv`; then exp. For c -> 0 that is `GCNConv`.

    Parameters
    ----------
    in_channels, out_channels
        Number of input features and of the ball's dimensions.
    curvature
        How c is kept in bounds. "clamp": `raw_c` is clamped in each forward pass; outside of the bounds its gradient
        is exactly 0. "softplus": c = c_min + log(1 + exp(raw_c)), which has no upper bound. "project": c is
        `raw_c` itself, and `project` puts it back after each step of the optimizer.
    c
        What c is to be at the start. With "clamp" it may lie outside of the bounds.
    c_min, c_max
        The bounds.

    Raises
    ------
    ValueError
        If `curvature` is unknown, the bounds are not 0 < c_min < c_max, or `c` cannot be reached.

    Notes
    -----
    The input is a tangent vector at the origin. Between two such layers stands
    ``logmap0(points, layer.c)``, and any activation behind it (Chami et al., equation 10).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        curvature: Curvature = "softplus",
        c: float = 1.0,
        c_min: float = 0.01,
        c_max: float = 10.0,
    ) -> None:
        super().__init__()
        if curvature not in get_args(Curvature):
            msg = f"curvature={curvature!r} is unknown; take {', '.join(map(repr, get_args(Curvature)))}."
            raise ValueError(msg)
        if not 0 < c_min < c_max:
            msg = f"The bounds must be 0 < c_min < c_max, got {c_min} and {c_max}."
            raise ValueError(msg)
        if (curvature == "softplus" and c <= c_min) or (curvature == "project" and not c_min <= c <= c_max):
            msg = f"c={c} cannot be reached with curvature={curvature!r}, c_min={c_min} and c_max={c_max}."
            raise ValueError(msg)
        self.curvature, self.c_min, self.c_max = curvature, c_min, c_max
        self.weight = nn.Parameter(torch.empty(in_channels, out_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        nn.init.xavier_uniform_(self.weight)
        start = torch.tensor(float(c))
        # The inverse of softplus, log(exp(c) - 1), written so that exp does not overflow.
        self.raw_c = nn.Parameter(
            start - c_min + (-(c_min - start).expm1()).log() if curvature == "softplus" else start
        )
        self._adjacency = Memo()

    @property
    def c(self) -> Tensor:
        """Minus the curvature: a scalar, through which gradients flow to `raw_c`."""
        if self.curvature == "softplus":
            return self.c_min + softplus(self.raw_c)
        return self.raw_c.clamp(self.c_min, self.c_max) if self.curvature == "clamp" else self.raw_c

    @torch.no_grad()
    def project(self, *_: Any) -> None:
        """Put `raw_c` back into its bounds: ``optimizer.register_step_post_hook(conv.project)``."""
        self.raw_c.clamp_(self.c_min, self.c_max)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """Give each node a point of the ball.

        Parameters
        ----------
        x
            Features, tangent vectors at the origin (N, in_channels).
        edge_index
            Edges from source to target, int64 (2, E).

        Returns
        -------
        Tensor
            Points (N, out_channels) of the ball of curvature ``-self.c``.
        """
        adjacency: CsrMatrix = self._adjacency(_normalize, edge_index, x.size(0), x.dtype)
        c = self.c
        shifted = mobius_add(expmap0(x @ self.weight, c), expmap0(self.bias, c), c)
        return expmap0(adjacency @ logmap0(shifted, c), c)

    def extra_repr(self) -> str:
        """Name shapes and curvature in the printed model."""
        in_channels, out_channels = self.weight.shape
        return f"{in_channels}, {out_channels}, curvature={self.curvature!r}, c={self.c.item():.3g}"


def _normalize(edge_index: Tensor, num_nodes: int, dtype: torch.dtype) -> CsrMatrix:
    edge_index, edge_weight = gcn_norm(edge_index, None, num_nodes, dtype=dtype)
    return CsrMatrix.from_edges(edge_index, edge_weight, num_nodes)


def _norm(x: Tensor) -> Tensor:
    """Give lengths (..., 1), above 0 so that one can divide by them."""
    length: Tensor = x.norm(dim=-1, keepdim=True)
    return length.clamp(min=torch.finfo(x.dtype).eps)


def _inside(x: Tensor, c: Tensor) -> Tensor:
    """Move points that rounding has put on the edge, or beyond it, back inside."""
    largest = (1 - 100 * torch.finfo(x.dtype).eps) / c.sqrt()
    length = _norm(x)
    return torch.where(length > largest, x / length * largest, x)
