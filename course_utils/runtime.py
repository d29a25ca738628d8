"""What every notebook does first: seeds, threads, figure style, and one line on where it runs and on what data."""

from __future__ import annotations

import os
import random
from typing import Literal, get_args

import numpy as np
import torch

from course_utils import _machine, _store

Preset = Literal["quick", "full"]

STYLE = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "figure.constrained_layout.use": True,
    "figure.dpi": 110,
    "font.size": 11,
    "grid.alpha": 0.3,
    "legend.frameon": False,
}


PLACES = {
    "shared": "real, from the shared folder",
    "cache": "real, from the cache",
    "standin": "not here yet (downloaded when first loaded; without a network, a stand-in)",
}


def setup_notebook(seed: int = 0) -> None:
    """Prepare a notebook: seed the generators, use the cores granted, set the figure style, print one line.

    Parameters
    ----------
    seed
        Seeds Python, NumPy and PyTorch.
    """
    from matplotlib import style
    from threadpoolctl import threadpool_limits

    seed_everything(seed)
    cores = _machine.available_cores()
    torch.set_num_threads(cores)
    threadpool_limits(cores)  # The same for the linear algebra under NumPy and scikit-learn.
    style.use(["default", "petroff10", STYLE])  # petroff10: told apart by colour-blind readers too
    memory = _machine.memory_limit() / 2**30
    print(  # noqa: T201 (the status line)
        f"Ready: {cores} {'core' if cores == 1 else 'cores'}, {memory:.0f} GB, {_device()}, "
        f"preset {preset()}, seed {seed}. Data: {data_line()}."
    )


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and PyTorch's global generators (on all devices)."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (libraries still draw from the global generator)
    torch.manual_seed(seed)


def preset() -> Preset:
    """Return how much the notebooks compute: "quick" (the default) or "full", from ``$COURSE_PRESET``.

    Raises
    ------
    ValueError
        If the variable holds anything else.
    """
    value = os.environ.get("COURSE_PRESET") or "quick"
    for name in get_args(Preset):
        if value == name:
            return name  # type: ignore[no-any-return]  # mypy reads get_args as Any
    msg = f"COURSE_PRESET is {value!r}. It can be 'quick' (the default) or 'full'."
    raise ValueError(msg)


def _device() -> str:
    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else "CPU"


def data_line() -> str:
    """Say which of the data sets that notebooks load are at hand, and where: "cambridge, cora: real, ..."."""
    by_place: dict[str, list[str]] = {}
    for state in _store.status():
        if not state.dataset.on_request:
            by_place.setdefault(PLACES[state.origin], []).append(state.dataset.name)
    return "; ".join(f"{', '.join(names)}: {place}" for place, names in by_place.items())
