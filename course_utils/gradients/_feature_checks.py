"""Checks of numbers: gaps, sizes, and columns that say nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from course_utils.gradients._advice import found
from course_utils.gradients._findings import FailureKind as Kind
from course_utils.gradients._numbers import ENOUGH_ROWS, sample_rows, stored

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from course_utils.gradients._findings import Finding, Severity

# A feature this many times larger than the typical one outweighs all others together in the first layer's sums.
# Counts and degrees beside zeros and ones stay below.
SPREAD = 100.0
# Features all this large make the first layer's outputs as large: initialisations expect sizes about 1.
LARGE = 100.0
# Fewer rows may agree by chance.
FEW_ROWS = 5


class ColumnSizes(NamedTuple):
    """How large the entries of a matrix are, column by column; zeros, which are no size, left out."""

    shape: tuple[int, ...]
    median: float  # root mean square of the non-zero entries, of the typical column (the lower of two)
    largest: float
    column: int  # where the largest is


def column_sizes(x: Tensor) -> ColumnSizes:
    """Measure the sizes of the columns of a matrix (N, F)."""
    if x.layout == torch.strided:
        values = x.detach().nan_to_num(0, 0, 0)
        total, count = values.square().sum(dim=0), (values != 0).sum(dim=0)
    else:
        entries = x.detach().to_sparse_coo().coalesce()  # type: ignore[no-untyped-call]
        values, column = entries.values().nan_to_num(0, 0, 0), entries.indices()[1]
        total = values.new_zeros(x.size(1)).index_add_(0, column, values.square())
        count = torch.bincount(column[values != 0], minlength=x.size(1))
    sizes = (total / count.clamp(min=1)).sqrt()
    used = sizes[count > 0]
    if not len(used):
        return ColumnSizes(tuple(x.shape), 0.0, 0.0, 0)
    return ColumnSizes(tuple(x.shape), float(used.median()), float(sizes.max()), int(sizes.argmax()))


def check_numbers(name: str, tensor: Tensor) -> Iterator[Finding]:
    """Yield a finding if there are NaN or infinite entries."""
    values = stored(tensor.detach())
    if not values.is_floating_point():
        return
    if values.numel() and not bool(torch.stack(values.aminmax()).isfinite().all()):
        num_nan, num_inf = int(values.isnan().sum()), int(values.isinf().sum())
        what = f"`{name}` holds {num_nan} NaN and {num_inf} infinite entries of {values.numel()}."
        yield found(Kind.NON_FINITE_INPUT, name, what, nan=num_nan, inf=num_inf)


def check_features(x: Tensor | None, *, scale: bool) -> Iterator[Finding]:
    """Yield what is wrong with features (N, F): their sizes, if asked for, and constant columns."""
    if x is None or x.dim() != 2 or not x.numel() or not x.is_floating_point():  # noqa: PLR2004 (a matrix)
        return
    if scale:
        yield from unscaled("x", x)
    if x.layout != torch.strided or x.size(0) < FEW_ROWS:
        return
    sample = sample_rows(x)
    constant = (sample == x[0]).all(dim=0)
    candidates = constant.nonzero()[:, 0]
    constant[candidates] = (x.index_select(1, candidates) == x[0, candidates]).all(dim=0)
    if not constant.any():
        return
    columns = constant.nonzero()[:, 0].tolist()
    value = float(x[0, columns[0]])
    # An empty column is expected among sparse ones, and a column of ones is a deliberate bias.
    sparse = float((sample[:, ~constant] != 0).float().mean()) < 0.5 if not constant.all() else True  # noqa: PLR2004
    harmless = all(float(x[0, c]) == 1 or (float(x[0, c]) == 0 and sparse) for c in columns)
    severity: Severity = "info" if harmless or constant.all() else "warning"
    what = (
        f"{len(columns)} of {x.size(1)} columns of `x` have the same value in all rows "
        f"(column {columns[0]}: {value:.3g})."
    )
    yield found(Kind.CONSTANT_FEATURE, "x", what, severity, columns=columns[:10], value=value)


def unscaled(name: str, x: Tensor) -> Iterator[Finding]:
    """Yield a finding if the columns of a matrix differ wildly in size, or all of them are large."""
    values = stored(x.detach())
    if len(values) > ENOUGH_ROWS:
        # No column is larger than the largest entry, nor the typical one smaller than the smallest that is stored.
        low, high = map(float, values.aminmax())
        typical = column_sizes(sample_rows(x)).median if values.dim() > 1 else low
        if max(-low, high) < min(LARGE, SPREAD * typical):
            return
    sizes = column_sizes(x)
    if sizes.median and sizes.largest > SPREAD * sizes.median:
        what = (
            f"Column {sizes.column} of `{name}` is about {sizes.largest:.3g} in size, the typical column "
            f"{sizes.median:.3g}: {sizes.largest / sizes.median:.3g} times as much."
        )
    elif sizes.median > LARGE:
        what = f"The entries of `{name}` are about {sizes.median:.3g} in size."
    else:
        return
    yield found(
        Kind.UNSCALED_FEATURES,
        name,
        what,
        largest=sizes.largest,
        median=sizes.median,
        column=sizes.column,
    )
