"""Sizes of tensors, whatever their layout and range."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Beyond these the squares leave the range of single precision; a norm is then computed in double precision.
SMALLEST, LARGEST = 1e-16, 1e18
# So many rows tell what is typical of them.
ENOUGH_ROWS = 512


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


def sample_rows(matrix: Tensor) -> Tensor:
    """Return every k-th row, so that there are no more than enough."""
    return matrix[:: math.ceil(len(matrix) / ENOUGH_ROWS) or 1]
