"""Checks of the numbers in a graph: gaps, columns that say nothing, sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from course_utils.gradients._advice import found
from course_utils.gradients._findings import FailureKind as Kind
from course_utils.gradients._numbers import ENOUGH_ROWS, sample_rows, stored

if TYPE_CHECKING:
    from collections.abc import Iterator

    from course_utils.gradients._findings import Finding, Severity

# A feature this many times larger than the typical one outweighs all others together in the first layer's sums.
# Counts and degrees beside zeros and ones stay below.
SPREAD = 100.0
# Features all this large make the first layer's outputs as large: initialisations expect sizes about 1.
LARGE = 100.0
# Fewer rows may agree by chance.
FEW_ROWS = 5


def check_numbers(name: str, tensor: Tensor, severity: Severity | None = None) -> Iterator[Finding]:
    """Yield a finding if there are NaN or infinite entries."""
    values = stored(tensor.detach())
    if not values.is_floating_point() or not values.numel():
        return
    if not bool(torch.stack(values.aminmax()).isfinite().all()):
        num_nan, num_inf = int(values.isnan().sum()), int(values.isinf().sum())
        what = f"`{name}` holds {num_nan} NaN and {num_inf} infinite entries of {values.numel()}."
        yield found(Kind.NON_FINITE_INPUT, name, what, severity, nan=num_nan, inf=num_inf)


def constant_columns(x: Tensor, *, alone: bool) -> Iterator[Finding]:
    """Yield a finding if columns of features (N, F) have the same value in all rows.

    `alone` says that there is nothing else, such as edges, by which rows differ.
    """
    if x.layout != torch.strided or x.size(0) < FEW_ROWS:
        return
    constant = (sample_rows(x) == x[0]).all(dim=0)
    candidates = constant.nonzero()[:, 0]
    constant[candidates] = (x.index_select(1, candidates) == x[0, candidates]).all(dim=0)
    columns = constant.nonzero()[:, 0].tolist()
    if not columns:
        return
    count, first = len(columns), columns[0]
    what = f"{count} of {x.size(1)} columns of `x` have the same value in all rows (column {first})."
    # A column of ones is a deliberate bias. Zeros add nothing, such as words that no text holds, or what a careful
    # standardising leaves.
    harmless = not alone if constant.all() else set(x[0, columns].tolist()) <= {0.0, 1.0}
    severity: Severity = "info" if harmless else "warning"
    yield found(Kind.CONSTANT_FEATURE, "x", what, severity, columns=columns[:10], value=float(x[0, first]))


def feature_rows(tensors: dict[str, Tensor]) -> Tensor | None:
    """Return the features as a matrix; None without rows, or sequences, of numbers."""
    x = tensors.get("x")
    if x is None or x.dim() not in {2, 3} or not x.numel() or not x.is_floating_point():
        return None
    return as_rows(x)


def as_rows(x: Tensor) -> Tensor:
    """Return a matrix: the steps of sequences (N, T, F) below one another."""
    return x.flatten(0, -2) if x.layout == torch.strided else x


def unscaled(name: str, x: Tensor) -> Iterator[Finding]:
    """Yield a finding if the columns of a matrix differ wildly in size, or all of them are large."""
    values = stored(x.detach())
    if len(values) > ENOUGH_ROWS:
        # No column is larger than the largest entry, nor the typical one smaller than the smallest that is stored.
        low, high = map(float, values.aminmax())
        typical = _typical(_column_sizes(sample_rows(x))) if values.dim() > 1 else low
        if max(-low, high) < min(LARGE, SPREAD * typical):
            return
    sizes = _column_sizes(x)
    median, largest, column = _typical(sizes), float(sizes.max()), int(sizes.argmax())
    if median and largest > SPREAD * median:
        usual = f"the typical column {median:.3g}: {largest / median:.3g} times as much"
        what = f"Column {column} of `{name}` is about {largest:.3g} in size, {usual}."
    elif median > LARGE:
        what = f"The entries of `{name}` are about {median:.3g} in size."
    else:
        return
    yield found(Kind.UNSCALED_FEATURES, name, what, largest=largest, median=median, column=column)


def _column_sizes(x: Tensor) -> Tensor:
    """Return the root mean square of each column of a matrix (N, F); zeros, which are no size, left out."""
    if x.layout == torch.strided:
        values = x.detach().nan_to_num(0, 0, 0)
        total, count = values.square().sum(dim=0), (values != 0).sum(dim=0)
    else:
        entries = x.detach().to_sparse_coo().coalesce()  # type: ignore[no-untyped-call]
        values, column = entries.values().nan_to_num(0, 0, 0), entries.indices()[1]
        total = values.new_zeros(x.size(1)).index_add_(0, column, values.square())
        count = torch.bincount(column[values != 0], minlength=x.size(1))
    return (total / count.clamp(min=1)).sqrt()


def _typical(sizes: Tensor) -> float:
    """Return the median of the sizes that are none of nothing (the lower of two)."""
    used = sizes[sizes > 0]
    return float(used.median()) if len(used) else 0.0
