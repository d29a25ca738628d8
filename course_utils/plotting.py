"""Pictures that more than one notebook draws."""

from __future__ import annotations

from textwrap import fill
from typing import TYPE_CHECKING, Any, Protocol

import matplotlib.pyplot as plt
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

MARKERS = "os^Dv"  # With ten colours: fifty groups told apart by colour and shape together.
NUM_COLORS = 10
LABEL_WIDTH = 14  # Letters. Names of neighbours on a map would else run into each other.


class HasProvenance(Protocol):
    """Data that say whether they are a stand-in (a road network, a citation graph)."""

    @property
    def is_standin(self) -> bool:
        """Whether the data are made up."""


def set_title(ax: Axes, title: str, data: HasProvenance) -> None:
    """Title a picture of `data`; if they are a stand-in, the title says so."""
    ax.set_title(f"{title} (stand-in)" if data.is_standin else title)


def category_style(index: int) -> dict[str, Any]:
    """Give colour and marker of the ``index``-th group. Neighbours differ in both, and fifty groups in one."""
    shape = (index + index // NUM_COLORS) % len(MARKERS)
    return {"color": f"C{index % NUM_COLORS}", "marker": MARKERS[shape]}


def plot_history(history: pd.DataFrame, columns: Sequence[str], *, ax: Axes | None = None) -> Axes:
    """Draw columns of a training history against its column ``epoch``, each labelled at its end.

    Parameters
    ----------
    history
        One row an epoch.
    columns
        What to draw; the last values are written beside the lines.

    Raises
    ------
    KeyError
        If a column is missing; the message lists those there are.
    """
    missing = {"epoch", *columns} - set(history.columns)
    if missing:
        msg = f"The history has no column {sorted(missing)}. It has {list(history.columns)}."
        raise KeyError(msg)
    ax = ax or plt.subplots(figsize=(6, 3.2))[1]
    for i, column in enumerate(columns):
        ax.plot(history["epoch"], history[column], color=f"C{i}", linestyle=("-", "--", "-.", ":")[i % 4])
        last = history.iloc[-1]
        ax.annotate(
            f" {column} {last[column]:.3g}", (last["epoch"], last[column]), color=f"C{i}", va="center"
        )
    ax.set(
        xlabel="epoch", ylabel=columns[0] if len(columns) == 1 else "", xlim=(history["epoch"].iloc[0], None)
    )
    ax.margins(x=0.2)
    return ax


def plot_bands(table: pd.DataFrame, x: str, y: str, *, by: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw the mean of `y` against `x` over repeated trials, in a band of one standard deviation either way.

    Parameters
    ----------
    table
        One row a trial, as `course_utils.experiments.run_grid` returns it.
    x, y
        Columns with numbers. Trials that failed have no `y` and are left out.
    by
        Column whose values have a line each, in the order in which they come, with a legend.

    Raises
    ------
    KeyError
        If a column is missing; the message lists those there are.
    """
    missing = {x, y, by} - {None, *table.columns}
    if missing:
        msg = f"The table has no column {sorted(map(str, missing))}. It has {list(table.columns)}."
        raise KeyError(msg)
    ax = ax or plt.subplots(figsize=(6, 3.6))[1]
    groups = [("", table)] if by is None else table.groupby(by, sort=False)
    for i, (name, rows) in enumerate(groups):
        repeats = rows.groupby(x)[y]
        mean, spread = repeats.mean(), repeats.std(ddof=0)
        style = category_style(i)
        ax.plot(mean.index, mean, linestyle=("-", "--", "-.", ":")[i % 4], label=name, **style)
        ax.fill_between(
            mean.index, mean - spread, mean + spread, color=style["color"], alpha=0.2, linewidth=0
        )
    ax.set(xlabel=x, ylabel=y)
    if by is not None:
        ax.legend(title=by)
    return ax


def plot_embedding(
    points: ArrayLike, groups: Sequence[str], *, ax: Axes | None = None, size: float = 10
) -> Axes:
    """Draw points in the plane, each group with its own colour and shape and its name at its middle.

    Parameters
    ----------
    points
        (N, 2).
    groups
        N names.

    Raises
    ------
    ValueError
        If the points are not (N, 2) or the names not N.
    """
    xy, names = np.asarray(points), np.asarray(groups)
    if xy.ndim != 2 or xy.shape[1] != 2 or len(xy) != len(names):  # noqa: PLR2004 (the plane)
        msg = f"points must be (N, 2) with N names in groups; they are {xy.shape} and {names.shape}."
        raise ValueError(msg)
    ax = ax or plt.subplots(figsize=(6.5, 6))[1]
    middles = {}
    for i, name in enumerate(np.unique(names)):
        member = names == name
        ax.scatter(xy[member, 0], xy[member, 1], s=size, linewidth=0, alpha=0.8, **category_style(i))
        middles[name] = np.median(xy[member], axis=0)
    for name, middle in middles.items():
        write_label(ax, str(name), middle)
    return ax


def write_label(ax: Axes, text: str, position: ArrayLike) -> None:
    """Write a short text over a crowded picture, on a pale ground; a long name in several lines."""
    x, y = np.asarray(position, dtype=float)
    text = fill(text, LABEL_WIDTH)
    box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.75}
    ax.text(x, y, text, ha="center", va="center", fontsize="small", bbox=box, zorder=6)
