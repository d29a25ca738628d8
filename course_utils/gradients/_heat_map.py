"""The monitor's picture: layers down, steps across, nothing dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from course_utils.gradients._monitor import Quantity

LABELS = {
    "gradient_norm": "norm of the gradient",
    "weight_norm": "norm of the weights",
    "update_ratio": "size of the step / size of the weights",
    "zero_share": "share of zeros in the gradient",
    "rms": "size of the output (root mean square)",
}
# Cells that have no colour on a logarithmic scale; told apart by pattern as well.
SPECIAL: dict[str, dict[str, Any]] = {
    "none": {"facecolor": "white", "edgecolor": "0.55", "hatch": "///"},
    "zero": {"facecolor": "white", "edgecolor": "0.55", "hatch": ".."},
    "nonfinite": {"facecolor": "0.15", "edgecolor": "white", "hatch": "xxx"},
}
MEANING = {"none": "none (no gradient, no step)", "zero": "exactly zero", "nonfinite": "NaN or inf"}


def draw(table: pd.DataFrame, quantity: Quantity, *, ax: Axes | None) -> Axes:
    """Draw one quantity of the table of `GradientMonitor.to_frame`; see `GradientMonitor.plot`."""
    if quantity not in LABELS:
        msg = f"quantity={quantity!r} is unknown; take one of {', '.join(map(repr, LABELS))}."
        raise ValueError(msg)
    rows = table[table["kind"] == ("activation" if quantity == "rms" else "parameter")]
    names = list(dict.fromkeys(rows["name"]))
    cells = rows.set_index(["name", "step"])
    steps = np.unique(rows["step"])
    index = pd.MultiIndex.from_product([names, steps])
    grid = cells[[quantity, "state"]].reindex(index)
    numbers = grid[quantity].to_numpy(float).reshape(len(names), -1)
    states = grid["state"].to_numpy().reshape(len(names), -1)
    marks = _marks(numbers, states, quantity)
    shown = np.where(marks == "", numbers, np.nan)
    if ax is None:
        height = min(1.6 + 0.28 * len(names), 11)
        ax = plt.subplots(figsize=(min(5 + 0.12 * numbers.shape[1], 10), height))[1]
    edges = np.append(steps, steps[-1] + 1) - 0.5
    scale = LogNorm() if quantity != "zero_share" else None
    if np.isfinite(shown).any():
        mesh = ax.pcolormesh(edges, np.arange(len(names) + 1) - 0.5, shown, norm=scale, cmap="viridis")
        ax.figure.colorbar(mesh, ax=ax, label=LABELS[quantity])
    for row, column in zip(*np.nonzero(marks != ""), strict=True):
        corner, width = (edges[column], row - 0.5), edges[column + 1] - edges[column]
        ax.add_patch(Rectangle(corner, width, 1, linewidth=0, **SPECIAL[marks[row, column]]))
    ax.set(xlabel="step", xlim=(edges[0], edges[-1]), ylim=(len(names) - 0.5, -0.5))
    ax.set_yticks(range(len(names)), names, fontsize="small" if len(names) <= 30 else 6)  # noqa: PLR2004
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(visible=False)
    used = [name for name in SPECIAL if (marks == name).any()]
    if used:
        patches = [Patch(label=MEANING[name], **SPECIAL[name]) for name in used]
        ax.legend(handles=patches, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(used), fontsize="small")
    return ax


def _marks(numbers: np.ndarray, states: np.ndarray, quantity: Quantity) -> np.ndarray:
    """Say which cells need a pattern: "none", "zero", "nonfinite", or "" for a colour."""
    # Weights always have a norm, and outputs a size: without a number they are NaN themselves.
    gap = "nonfinite" if quantity in {"weight_norm", "rms"} else "none"
    marks = np.where(np.isnan(numbers), gap, np.where(np.isinf(numbers), "nonfinite", ""))
    marks = np.where(numbers == 0, "zero", marks)
    if quantity in {"gradient_norm", "zero_share"}:
        return np.where(np.isin(states, ["none", "nonfinite"]), states.astype(str), marks)
    return np.where((marks == "none") & (states == "nonfinite"), "nonfinite", marks)
