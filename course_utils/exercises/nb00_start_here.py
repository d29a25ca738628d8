"""The exercise of notebook 00, to try out how exercises work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from course_utils.exercises._kinds import FunctionExercise

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np


def count_links(edge_index: torch.Tensor) -> int:
    """Count the links of a graph whose links can all be used both ways.

    `edge_index` is (2, number) and holds each link twice, once in each direction. There are no loops.
    """
    return edge_index.shape[1] // 2


def _cases(rng: np.random.Generator) -> Iterator[tuple[torch.Tensor]]:
    yield (torch.tensor([[0, 1], [1, 0]]),)  # one link
    yield (torch.tensor([[0, 1, 1, 2, 2, 0], [1, 0, 2, 1, 0, 2]]),)  # a triangle
    for num_nodes in (6, 9):
        links = torch.triu_indices(num_nodes, num_nodes, offset=1)
        kept = links[:, torch.as_tensor(rng.random(links.shape[1]) < 0.5)]  # noqa: PLR2004 (half of them)
        yield (torch.cat([kept, kept.flip(0)], dim=1),)


_COUNT_LINKS = FunctionExercise(
    count_links,
    cases=_cases,
    misconceptions={
        "Every link is counted twice: it stands in edge_index once in each direction.": (
            lambda edge_index: edge_index.shape[1]
        ),
        "That is the number of rows. The links stand in the columns: edge_index.shape[1].": (
            lambda edge_index: edge_index.shape[0]
        ),
        "These are nodes, not links.": lambda edge_index: int(edge_index.max()) + 1,
    },
    hints=(
        "How many columns does edge_index have? edge_index.shape[1] tells.",
        "Each link has two columns, so there are half as many links as columns.",
    ),
    why="PyTorch Geometric stores every undirected graph like this, so its num_edges is twice the links.",
)

EXERCISES = (_COUNT_LINKS,)
