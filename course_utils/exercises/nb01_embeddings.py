"""Exercises of notebook 01: embeddings."""

# Students read the solutions: they hold no casts for the type checker's sake.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import linalg

from course_utils.exercises._kinds import FunctionExercise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def cosine_similarity(x: np.ndarray) -> np.ndarray:
    """Compare each row of a table with each row: the cosine of the angle between the two.

    `x` is (N, F). Entry (i, j) of the result, which is (N, N), is the dot product of rows i and j, divided by
    the lengths of both. A row of zeros has no direction: its cosine with every row is 0.
    """
    length = np.linalg.norm(x, axis=1, keepdims=True)  # (N, 1)
    unit = x / np.where(length == 0, 1, length)
    return unit @ unit.T


def _cosine_cases(rng: np.random.Generator) -> Iterator[tuple[np.ndarray]]:
    yield (np.array([[3.0, 4.0], [4.0, 3.0], [6.0, 8.0]]),)
    yield (np.array([[1.0, 2.0, 2.0], [0.0, 0.0, 0.0], [2.0, 0.0, 0.0]]),)
    for num_rows in (4, 5):
        x = rng.normal(size=(num_rows, 3)).round(1) + np.array([0.0, 2.0, -1.0])
        x[1] = 0
        yield (x,)


def _guarded(divisor: np.ndarray) -> np.ndarray:
    return np.where(divisor == 0, 1, divisor)


def _lengths(x: np.ndarray) -> np.ndarray:
    return _guarded(np.linalg.norm(x, axis=1, keepdims=True))


def _without_guard(x: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    return unit @ unit.T


def _correlation(x: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return np.corrcoef(x)


_COSINE_SIMILARITY = FunctionExercise(
    cosine_similarity,
    cases=_cosine_cases,
    misconceptions={
        "These are dot products. Divide them by the lengths of both rows.": lambda x: x @ x.T,
        "Only one of the two rows is divided by its length. Divide by both.": lambda x: x / _lengths(x) @ x.T,
        "The rows are divided by their squared lengths. A length is the root of the sum of squares.": (
            lambda x: (x / _lengths(x) ** 2) @ (x / _lengths(x) ** 2).T
        ),
        "The rows are divided by the sums of their entries. The length is the root of the sum of squares.": (
            lambda x: (x @ x.T) / _guarded(np.outer(x.sum(axis=1), x.sum(axis=1)))
        ),
        "A row of zeros became NaN, which is 0/0. Its cosines are 0.": _without_guard,
        "The means are taken off first, which makes it a correlation. Compare the rows as they are.": (
            _correlation
        ),
        "These are cosines of the columns. Lengths of rows are sums along axis 1.": (
            lambda x: cosine_similarity(x.T)
        ),
        "These are distances: 0 for equal rows. The cosine of equal rows is 1.": (
            lambda x: 1 - cosine_similarity(x)
        ),
    },
    hints=(
        "Make each row one unit long first. Then the cosine is a dot product.",
        "np.linalg.norm(x, axis=1, keepdims=True) gives the lengths as a column, (N, 1).",
        "np.where(length == 0, 1, length) keeps 0/0 away. All dot products at once: unit @ unit.T.",
    ),
    why="The cosine ignores length: a busy character and a quiet one with the same friends count as alike.",
)


def auc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Give the chance that a linked pair has a higher score than an unlinked one; a tie counts one half.

    `positive` is (P,) and holds the scores of linked pairs, `negative` is (M,) and holds those of unlinked
    ones. Compare each with each.
    """
    difference = positive[:, None] - negative  # (P, M)
    return (difference > 0).mean() + (difference == 0).mean() / 2


def _auc_cases(rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    yield np.array([0.9, 0.4]), np.array([0.8, 0.1, 0.2])
    yield np.array([0.5, 0.5, 0.5]), np.array([0.5, 0.5])
    yield np.array([3.0, -1.0, 2.0]), np.array([-1.0, 2.0, -5.0, 0.0])
    for num_negative in (4, 9):
        # Whole numbers, so that there are ties.
        yield rng.integers(-2, 7, size=4) / 4, rng.integers(-4, 5, size=num_negative) / 4


def _share_of_pairs(
    beats: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> Callable[[np.ndarray, np.ndarray], Any]:
    return lambda positive, negative: beats(positive[:, None], negative).mean()


def _one_threshold(positive: np.ndarray, negative: np.ndarray) -> Any:
    return np.concatenate([positive > 0.5, negative <= 0.5]).mean()  # noqa: PLR2004 (a student's threshold)


_AUC = FunctionExercise(
    auc,
    cases=_auc_cases,
    misconceptions={
        "Ties count nothing. If all scores are equal, that gives 0, and a coin is right half the time.": (
            _share_of_pairs(np.greater)
        ),
        "Ties count as won. If all scores are equal, that gives 1, and nothing has been told apart.": (
            _share_of_pairs(np.greater_equal)
        ),
        "It is the wrong way round: count the pairs in which the linked one is higher.": (
            lambda positive, negative: auc(negative, positive)
        ),
        "This is the number of pairs. Divide it by how many pairs there are.": (
            lambda positive, negative: auc(positive, negative) * positive.size * negative.size
        ),
        "This is the share of right answers with a threshold. AUC has no threshold: compare each with each.": (
            _one_threshold
        ),
        "Only scores at the same place are compared. Compare each positive with each negative.": (
            lambda positive, negative: np.mean(
                [(p > n) + (p == n) / 2 for p, n in zip(positive, negative, strict=False)]
            )
        ),
        "This is a difference of means. Count pairs: how far apart two scores are does not matter.": (
            lambda positive, negative: positive.mean() - negative.mean()
        ),
    },
    hints=(
        "Take one linked and one unlinked pair. It has won, lost or tied. Average over all such choices.",
        "positive[:, None] - negative is a table with a row for each positive and a column for each negative.",
        "(difference > 0).mean() is the share won. Add half the share of (difference == 0).",
    ),
    why="It asks only for the order of the scores. So cosines, distances and probabilities can be compared.",
)


def nearest_neighbours(z: np.ndarray, k: int) -> np.ndarray:
    """Find for each row the k other rows with the largest cosine, the best first.

    `z` is (N, d), and no row is zero. Return the numbers of the rows, (N, k), as whole numbers. A row is not
    its own neighbour, even where another row is equal to it.
    """
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -np.inf)
    return np.argsort(-cosine, axis=1)[:, :k]


def _neighbour_cases(rng: np.random.Generator) -> Iterator[tuple[np.ndarray, int]]:
    # The one long row is the trap for dot products. In the second table two rows are equal, exactly.
    yield np.array([[2.0, 0.5], [9.0, 20.0], [3.0, 1.0], [-1.0, 3.0], [-3.0, -4.0]]), 2
    yield np.array([[2.0, 0.0], [9.0, 20.0], [2.0, 1.0], [2.0, 0.0], [-1.0, 3.0]]), 1
    for num_rows, k in ((7, 2), (8, 3)):
        # Directions that differ clearly, and lengths that have nothing to do with them.
        angle = rng.permutation(np.cumsum(rng.uniform(0.2, 0.8, size=num_rows)))
        length = np.exp(rng.normal(size=(num_rows, 1)))
        yield (length * np.stack([np.cos(angle), np.sin(angle)], axis=1)).round(3), k


def _first(k: int, score: np.ndarray) -> np.ndarray:
    """Take the k other rows with the largest score."""
    score = score.copy()
    np.fill_diagonal(score, -np.inf)
    return np.argsort(-score, axis=1)[:, :k]


_NEAREST_NEIGHBOURS = FunctionExercise(
    nearest_neighbours,
    cases=_neighbour_cases,
    misconceptions={
        "Each row is its own first neighbour. Leave it out.": (
            lambda z, k: np.argsort(-cosine_similarity(z), axis=1)[:, :k]
        ),
        "The first of the order is dropped. Where two rows are equal, that may be the other one.": (
            lambda z, k: np.argsort(-cosine_similarity(z), axis=1)[:, 1 : k + 1]
        ),
        "These are the farthest rows. argsort sorts upwards, and the largest cosine is due first.": (
            lambda z, k: _first(k, -cosine_similarity(z))
        ),
        "They are the right rows with the worst first. Put the best first.": (
            lambda z, k: nearest_neighbours(z, k)[:, ::-1]
        ),
        "A row's cosine with itself was set to 0. That still wins where all others are negative: put -inf.": (
            lambda z, k: np.argsort(-cosine_similarity(z) * (1 - np.eye(len(z))), axis=1)[:, :k]
        ),
        "These are the nearest by dot product: long rows win. Make the rows one unit long first.": (
            lambda z, k: _first(k, z @ z.T)
        ),
        "These are the nearest by distance. The cosine asks for the direction only.": (
            lambda z, k: _first(k, -np.linalg.norm(z[:, None] - z, axis=2))
        ),
        "These are the cosines. Their places are due: argsort instead of sort.": (
            lambda z, k: np.take_along_axis(cosine_similarity(z), nearest_neighbours(z, k), axis=1)
        ),
    },
    hints=(
        "Start from all cosines, (N, N). What stands on the diagonal, and what should stand there?",
        "np.fill_diagonal(cosine, -np.inf) makes sure that no row finds itself.",
        "np.argsort sorts upwards. Sort -cosine along axis 1, and take the first k columns.",
    ),
    why="Reading the neighbours of a few things you know is the quickest test of any embedding.",
)


def same_side(adjacency: np.ndarray) -> set[int]:
    """Cut a graph in two by the signs of its first eigenmap coordinate, and find the nodes on node 0's side.

    `adjacency` is (N, N), symmetric, of a connected graph, and may hold weights. The coordinate solves
    L z = lambda D z with the smallest lambda above zero; D is diagonal and holds the sums of the rows, and
    L = D - adjacency. Return the set of node numbers, with 0 in it.
    """
    degree = np.diag(adjacency.sum(axis=1))
    _, vectors = linalg.eigh(degree - adjacency, degree)  # in rising order of the eigenvalues
    coordinate = vectors[:, 1]  # column 0 is constant
    return set(np.flatnonzero(coordinate * coordinate[0] > 0).tolist())


def _two_crowds(rng: np.random.Generator, size: int) -> np.ndarray:
    """Draw two crowds with strong links inside and weak links between, their nodes in mixed order."""
    weight = np.full((2 * size, 2 * size), 0.1)
    weight[:size, :size] = weight[size:, size:] = 3
    upper = np.triu(weight * rng.uniform(0.5, 1.5, size=weight.shape), 1)
    order = rng.permutation(2 * size)
    return (upper + upper.T)[np.ix_(order, order)].round(2)


def _graph_cases(rng: np.random.Generator) -> Iterator[tuple[np.ndarray]]:
    triangles = np.kron(np.eye(2), 1 - np.eye(3))
    triangles[0, 3] = triangles[3, 0] = 1  # two triangles and a link between them
    yield (triangles,)
    # A node that hangs on by a thread. Without D on the right, the cheapest cut is the thread.
    hanging = np.pad(3 * triangles, (0, 1))
    hanging[0, 3] = hanging[3, 0] = 1.5
    hanging[4, 6] = hanging[6, 4] = 0.2
    yield (hanging,)
    for size in (3, 4, 5):
        yield (_two_crowds(rng, size),)


def _side(vector: int, sign: float = -1.0, *, laplacian: bool = True) -> Callable[[np.ndarray], set[int]]:
    """Make a cut by another eigenvector, or of another matrix: D + sign * A, or A itself."""

    def cut(adjacency: np.ndarray) -> set[int]:
        degree = np.diag(adjacency.sum(axis=1))
        pair = (degree + sign * adjacency, degree) if laplacian else (adjacency, None)
        coordinate = linalg.eigh(*pair)[1][:, vector]
        return set(np.flatnonzero(coordinate * coordinate[0] > 0).tolist())

    return cut


def _without_degrees(adjacency: np.ndarray) -> set[int]:
    coordinate = linalg.eigh(np.diag(adjacency.sum(axis=1)) - adjacency)[1][:, 1]
    return set(np.flatnonzero(coordinate * coordinate[0] > 0).tolist())


_SAME_SIDE = FunctionExercise(
    same_side,
    cases=_graph_cases,
    misconceptions={
        "All nodes are on one side: the first eigenvector is constant. Take the next one.": _side(0),
        "This cut follows the third eigenvector. The first one after the constant is number 1.": _side(2),
        "This is the eigenvector of the largest eigenvalue: it parts linked nodes. Take the second smallest.": (
            _side(-1)
        ),
        "This eigenvector is one of the adjacency matrix. Take L = D - adjacency.": _side(1, laplacian=False),
        "D is missing on the right of L z = lambda D z: a node with weak links is cut off. eigh takes it second.": (
            _without_degrees
        ),
        "L has the wrong sign: it is D - adjacency.": _side(1, sign=1.0),
        "These are the nodes on the other side. Node 0 belongs to its own.": (
            lambda adjacency: set(range(len(adjacency))) - same_side(adjacency)
        ),
        "The weights are lost. A link of weight 3 holds thirty times as strongly as one of weight 0.1.": (
            lambda adjacency: same_side((adjacency > 0).astype(float))
        ),
    },
    hints=(
        "np.diag(adjacency.sum(axis=1)) is D. What is L? Its rows add up to zero.",
        "scipy.linalg.eigh(L, D) returns eigenvalues in rising order, and eigenvectors as columns.",
        "Take column 1. An eigenvector's sign is free: which entries have the same sign as entry 0?",
    ),
    why="This is spectral clustering into two groups: it finds a cheap cut without trying all of them.",
)


EXERCISES = (_COSINE_SIMILARITY, _AUC, _NEAREST_NEIGHBOURS, _SAME_SIDE)
