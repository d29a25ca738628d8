"""Helper package of the course on graph machine learning: what its notebooks share, and nothing else."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from course_utils.runtime import preset, seed_everything, setup_notebook

# How long PyTorch's threads spin while they wait for each other, before they sleep (GNU OpenMP counts in turns of
# a loop). Spinning for long, as they do by default, makes PyTorch tens of times slower
# where other programs share the cores. Sleeping at once halves its speed where none do. OpenMP reads this once, when
# PyTorch is loaded: hence here, and hence the notebooks import this package first.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

__all__ = ["preset", "seed_everything", "setup_notebook"]


def __getattr__(name: str) -> Any:
    """Import `runtime`, and PyTorch with it, only when one of its names is asked for."""
    if name in __all__:
        from course_utils import runtime

        return getattr(runtime, name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
