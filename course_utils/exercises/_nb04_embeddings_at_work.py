"""The exercises of notebook 04 that use an embedding: k-means, and links ranked above what is not linked."""

# Students read the solutions: they hold no casts and no type arguments for the type checker's sake.
# mypy: disable-error-code="no-any-return, no-untyped-call, type-arg"

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from course_utils.exercises._kinds import FunctionExercise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def kmeans_step(points: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Make one step of k-means: assign each point to its nearest centroid, then move the centroids.

    `points` is (n, d) and `centroids` (k, d). Return the new centroids as (k, d) decimals: each is the mean
    of the points assigned to it. A centroid without points stays where it is.
    """
    distance = np.linalg.norm(points[:, None] - centroids[None], axis=2)  # (n, k)
    nearest = distance.argmin(axis=1)  # (n,)
    moved = centroids.astype(float)
    for cluster in np.unique(nearest):
        moved[cluster] = points[nearest == cluster].mean(axis=0)
    return moved


def _kmeans_cases(rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    yield np.array([[0.0, 0.0], [2.4, 0.0], [2.6, 1.0], [5.0, 1.0]]), np.array([[0.0, 0.0], [5.0, 0.0]])
    yield np.array([[1, 2], [2, 2], [2, 4], [8, 9], [9, 9]]), np.array([[0, 0], [10, 10]])  # whole numbers
    points = rng.normal(size=(7, 2)).round(2)
    yield points, np.vstack([points[0] + 0.1, [50.0, 50.0], points[1] - 0.1])  # the second stays empty
    yield rng.normal(size=(8, 3)).round(2), rng.normal(size=(3, 3)).round(2)
    yield rng.normal(size=(8, 1)).round(2), rng.normal(size=(2, 1)).round(2)


def _nearest(points: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points[:, None] - centroids[None], axis=2).argmin(axis=1)  # (n,)


def _moved(
    points: np.ndarray, centroids: np.ndarray, empty: np.ndarray, centre: Callable[..., Any] = np.mean
) -> np.ndarray:
    mine = [points[_nearest(points, centroids) == cluster] for cluster in range(len(centroids))]
    return np.array([centre(own, axis=0) if len(own) else row for own, row in zip(mine, empty, strict=True)])


def _one_at_a_time(points: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    moved = centroids.astype(float)
    for cluster in range(len(centroids)):
        moved[cluster] = kmeans_step(points, moved)[cluster]
    return moved


KMEANS_STEP = FunctionExercise(
    kmeans_step,
    cases=_kmeans_cases,
    misconceptions={
        "A cluster without points became NaN: it is a mean of nothing. Its centroid stays where it was.": (
            lambda points, centroids: _moved(points, centroids, centroids * np.nan)
        ),
        "A cluster without points went to the origin. Its centroid stays where it was.": (
            lambda points, centroids: _moved(points, centroids, centroids * 0.0)
        ),
        "Clusters without points are left out. There must be as many centroids as before.": (
            lambda points, centroids: kmeans_step(points, centroids)[np.unique(_nearest(points, centroids))]
        ),
        "These are the labels, which say where each point belongs. Now move the centroids.": _nearest,
        "Every centroid went to the mean of all points. Take the mean of its own points only.": (
            lambda points, centroids: np.tile(points.mean(axis=0), (len(centroids), 1))
        ),
        "These are medians. k-means moves a centroid to the mean of its points.": (
            lambda points, centroids: _moved(points, centroids, centroids, np.median)
        ),
        "Each centroid went onto its nearest point: argmin along the wrong axis. Points pick centroids.": (
            lambda points, centroids: points[_nearest(centroids, points)].astype(float)
        ),
        "Points were assigned anew after each centroid had moved. Assign all points first, then move.": (
            _one_at_a_time
        ),
        "The means were cut to whole numbers, for `centroids` holds whole numbers. Make a float array.": (
            lambda points, centroids: kmeans_step(points, centroids).astype(centroids.dtype)
        ),
    },
    hints=(
        "Two halves: which centroid is nearest to each point, and what is the mean of each group?",
        "points[:, None] - centroids[None] is (n, k, d). Take the norm over the last axis, then argmin.",
        "Begin with centroids.astype(float), a copy, and overwrite only the rows that have points.",
    ),
    why="k-means repeats these two halves; neither can raise the sum of squared distances, so it settles.",
)


def link_auc(embedding: torch.Tensor, edge_index: torch.Tensor, held_out: torch.Tensor) -> float:
    """Measure how well an embedding ranks held-out links above pairs that are not linked.

    `embedding` is (num_nodes, d). `edge_index` holds the training edges and `held_out` the hidden links,
    both (2, number); direction does not matter. The score of a pair is the dot product. Return the AUC: the
    chance that a held-out link scores higher than a pair of different nodes that neither tensor links, where
    an equal score counts one half. Compare with all such pairs.
    """
    score = embedding @ embedding.T  # (num_nodes, num_nodes)
    excluded = torch.eye(len(embedding), dtype=torch.bool)
    for source, target in (edge_index, held_out):
        excluded[source, target] = excluded[target, source] = True
    positive = score[held_out[0], held_out[1]]
    negative = score[~excluded].sort().values
    below = torch.searchsorted(negative, positive)
    not_above = torch.searchsorted(negative, positive, right=True)
    return float((below + not_above).double().mean() / (2 * len(negative)))


def _auc_cases(rng: np.random.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    points = torch.tensor([[2.0, 0.0], [2.0, 1.0], [-1.0, 1.0], [0.0, 2.0], [-2.0, 1.0]])
    yield points, torch.tensor([[0, 1, 2], [1, 2, 3]]), torch.tensor([[3], [4]])
    for num_nodes in (7, 8, 9, 10):
        # Small whole numbers make ties, and exact ones. Sources and targets are in no order.
        embedding = torch.as_tensor(rng.integers(-2, 3, size=(num_nodes, 2)), dtype=torch.float32)
        pairs = np.array([(i, j) for i in range(num_nodes) for j in range(i)])
        links = torch.as_tensor(rng.permuted(rng.permutation(pairs)[:9], axis=1).T.copy())  # (2, 9)
        yield embedding, links[:, :6], links[:, 6:]


def _auc(embedding: torch.Tensor, held_out: torch.Tensor, negative: torch.Tensor, tie: float = 0.5) -> float:
    score = embedding @ embedding.T
    positive = score[held_out[0], held_out[1]][:, None]
    return float(((positive > score[negative]) + tie * (positive == score[negative])).mean())


def _unlinked(embedding: torch.Tensor, *edge_indices: torch.Tensor) -> torch.Tensor:
    """Mask the pairs of different nodes, less the given edges in their own direction."""
    mask = ~torch.eye(len(embedding), dtype=torch.bool)
    for source, target in edge_indices:
        mask[source, target] = False
    return mask


def _both_ways(*edge_indices: torch.Tensor) -> torch.Tensor:
    return torch.cat([*edge_indices, *(edge_index.flip(0) for edge_index in edge_indices)], dim=1)


LINK_AUC = FunctionExercise(
    link_auc,
    cases=_auc_cases,
    misconceptions={
        "Training links are among the negatives. They score high, and a good embedding is blamed for it.": (
            lambda embedding, _edge_index, held_out: link_auc(embedding, held_out, held_out)
        ),
        "The held-out links are among the negatives as well, where they compete with themselves.": (
            lambda embedding, edges, held_out: _auc(
                embedding, held_out, _unlinked(embedding, _both_ways(edges))
            )
        ),
        "Links are left out of the negatives in one direction only. If i and j are linked, so are j and i.": (
            lambda embedding, edges, held_out: _auc(
                embedding, held_out, _unlinked(embedding, edges, held_out)
            )
        ),
        "Pairs of a node with itself are among the negatives. They score high for nothing.": (
            lambda embedding, edges, held_out: _auc(
                embedding,
                held_out,
                _unlinked(embedding, _both_ways(edges, held_out))
                | torch.eye(len(embedding), dtype=torch.bool),
            )
        ),
        "Equal scores count nothing here. They count one half.": (
            lambda embedding, edges, held_out: _auc(
                embedding, held_out, _unlinked(embedding, _both_ways(edges, held_out)), tie=0.0
            )
        ),
        "The ranking is upside down. A higher dot product makes a link more likely.": (
            lambda embedding, edges, held_out: 1 - link_auc(embedding, edges, held_out)
        ),
    },
    hints=(
        "Make the table of all scores, embedding @ embedding.T, and a mask of its shape for the negatives.",
        "The mask leaves out the diagonal, and both directions of each link in edge_index and in held_out.",
        "Compare score[held_out[0], held_out[1]][:, None] with score[mask]: mean of (>) plus half of (==).",
    ),
    why="A link taken for a negative makes a good embedding look bad: look at the negatives before the AUC.",
)
