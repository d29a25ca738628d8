"""Constant sparse matrices whose products cost the same in the backward pass as in the forward pass.

PyTorch sorts a sparse matrix anew whenever a gradient needs its transpose, which takes longer than the product.
Here both are made once.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch_geometric.nn import GCN2Conv, GCNConv

if TYPE_CHECKING:
    from collections.abc import Callable


CSR_PARTS = ("crow_indices", "col_indices", "values")


@dataclass(frozen=True, eq=False)
class CsrMatrix:
    """A constant matrix (N, M) in compressed rows, with its transpose."""

    matrix: Tensor  # (N, M) sparse CSR
    transpose: Tensor  # (M, N) sparse CSR
    order: Tensor  # (nnz,): for each value of the transpose, its place among the values of the matrix

    @classmethod
    def from_tensor(cls, matrix: Tensor) -> CsrMatrix:
        """Take a sparse CSR tensor (N, M)."""
        rowptr, col, values = matrix.crow_indices(), matrix.col_indices(), matrix.values()
        row = torch.repeat_interleave(rowptr.diff())
        order = col.argsort(stable=True)
        transpose = _csr_tensor(
            _to_rowptr(col, matrix.size(1)), row[order], values[order], (matrix.size(1), matrix.size(0))
        )
        return cls(matrix, transpose, order)

    @classmethod
    def from_edges(cls, edge_index: Tensor, weight: Tensor, num_nodes: int) -> CsrMatrix:
        """Put the weight of each edge j -> i in row i and column j; the weights of parallel edges add up."""
        size = (num_nodes, num_nodes)
        entries = torch.sparse_coo_tensor(edge_index.flip(0), weight, size, check_invariants=True).coalesce()
        row, col = entries.indices()
        return cls.from_tensor(_csr_tensor(_to_rowptr(row, num_nodes), col, entries.values(), size))

    def with_values(self, values: Tensor) -> CsrMatrix:
        """Put other values (nnz,) in the same places."""
        matrix, transpose = (
            _csr_tensor(old.crow_indices(), old.col_indices(), new, old.shape)
            for old, new in ((self.matrix, values), (self.transpose, values[self.order]))
        )
        return CsrMatrix(matrix, transpose, self.order)

    def __matmul__(self, dense: Tensor) -> Tensor:
        product: Tensor = _Product.apply(dense, self.matrix, self.transpose)  # type: ignore[no-untyped-call]
        return product


class _Product(torch.autograd.Function):
    """Sparse times dense, with a gradient for the dense factor."""

    @staticmethod
    def forward(ctx: Any, dense: Tensor, matrix: Tensor, transpose: Tensor) -> Tensor:
        ctx.matrix, ctx.transpose = matrix, transpose
        return matrix @ dense

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        # Through apply, so that the gradient has a gradient too.
        return _Product.apply(grad, ctx.transpose, ctx.matrix), None, None  # type: ignore[no-untyped-call]


class MatrixGCNConv(GCNConv):  # type: ignore[misc] # PyTorch Geometric has no types
    """`GCNConv` that also takes the finished adjacency, and features, as `CsrMatrix`."""

    def forward(self, x: Any, edge_index: Any, edge_weight: Tensor | None = None) -> Tensor:
        """Return the new features (N, out_channels)."""
        if not isinstance(edge_index, CsrMatrix):
            return super().forward(x, edge_index, edge_weight)  # type: ignore[no-any-return]
        out: Tensor = edge_index @ (x @ self.lin.weight.t())
        return out if self.bias is None else out + self.bias


class MatrixGCN2Conv(GCN2Conv):  # type: ignore[misc] # PyTorch Geometric has no types
    """`GCN2Conv` that also takes the finished adjacency as `CsrMatrix`."""

    def forward(self, x: Tensor, x_0: Tensor, edge_index: Any, edge_weight: Tensor | None = None) -> Tensor:
        """Return the new features (N, channels)."""
        if not isinstance(edge_index, CsrMatrix):
            return super().forward(x, x_0, edge_index, edge_weight)  # type: ignore[no-any-return]
        out = torch.lerp(edge_index @ x, x_0, self.alpha)
        return torch.addmm(out, out, self.weight1, beta=1 - self.beta, alpha=self.beta)


class Memo:
    """The last result of a function, kept while the arguments hold the same numbers.

    Numbers are compared, not identities: a tensor may have been changed in place. Comparing takes microseconds.
    """

    def __init__(self) -> None:
        self.arguments: tuple[Any, ...] | None = None
        self.result: Any = None

    def __reduce__(self) -> tuple[type[Memo], tuple[()]]:
        # A copy, deep or pickled, starts empty: PyTorch cannot copy sparse tensors that way.
        return Memo, ()

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call the function, or return what it gave for the same arguments the last time."""
        if self.arguments is None or not all(map(_is_same, arguments, self.arguments)):
            self.result = function(*arguments)
            self.arguments = tuple(each.clone() if isinstance(each, Tensor) else each for each in arguments)
        return self.result


def _is_same(a: Any, b: Any) -> bool:
    if not (isinstance(a, Tensor) and isinstance(b, Tensor)):
        return bool(type(a) is type(b) and a == b)
    if (a.shape, a.dtype, a.device, a.layout) != (b.shape, b.dtype, b.device, b.layout):
        return False
    if a.layout == torch.sparse_csr:
        return all(torch.equal(getattr(a, part)(), getattr(b, part)()) for part in CSR_PARTS)
    return torch.equal(a, b)


def _to_rowptr(row: Tensor, num_rows: int) -> Tensor:
    counts = torch.bincount(row, minlength=num_rows)
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


def _csr_tensor(rowptr: Tensor, col: Tensor, values: Tensor, size: tuple[int, ...]) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
        return torch.sparse_csr_tensor(rowptr, col, values, size, check_invariants=False)
