"""Helper package of the course on graph machine learning: what its notebooks share, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from course_utils.runtime import preset, seed_everything, setup_notebook

__all__ = ["preset", "seed_everything", "setup_notebook"]


def __getattr__(name: str) -> Any:
    """Import `runtime`, and PyTorch with it, only when one of its names is asked for."""
    if name in __all__:
        from course_utils import runtime

        return getattr(runtime, name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
