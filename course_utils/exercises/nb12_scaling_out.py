"""Exercises of notebook 12: scaling out."""

# Students read the solutions: they hold no casts for the type checker's sake.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from course_utils.exercises._kinds import FunctionExercise

if TYPE_CHECKING:
    from collections.abc import Iterator


def extrapolate(sizes: np.ndarray, seconds: np.ndarray, target: float) -> float:
    """Predict the time that a problem of size `target` takes, from measured times.

    Fit the line log(seconds) = a + b * log(size) by least squares, and read it at `target`.
    """
    b, a = np.polyfit(np.log(sizes), np.log(seconds), 1)
    return np.exp(a + b * np.log(target))


def _extrapolate_cases(rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray, float]]:
    yield np.array([1.0, 10.0, 100.0]), np.array([2.0, 20.0, 200.0]), 1000.0  # in proportion
    sizes = np.array([1e3, 1e4, 3e4, 1e5])
    for exponent in (1.2, 0.7):
        noise = np.exp(rng.normal(0, 0.2, size=4))
        yield sizes, (1e-5 * sizes**exponent * noise).round(6), 1e6


_EXTRAPOLATE = FunctionExercise(
    extrapolate,
    cases=_extrapolate_cases,
    misconceptions={
        "A straight line is fitted to the times themselves. The largest size then decides alone; take logarithms.": (
            lambda sizes, seconds, target: np.polyval(np.polyfit(sizes, seconds, 1), target)
        ),
        "This is the logarithm of the time. Undo it with np.exp.": (
            lambda sizes, seconds, target: np.log(extrapolate(sizes, seconds, target))
        ),
        "The largest measurement is scaled in proportion. That takes the slope for 1 and forgets the others.": (
            lambda sizes, seconds, target: seconds[-1] * target / sizes[-1]
        ),
        "Only the first and the last measurement are used. Least squares hears all of them.": (
            lambda sizes, seconds, target: extrapolate(sizes[[0, -1]], seconds[[0, -1]], target)
        ),
        "Only one side is a logarithm: that is an exponential curve, which explodes. Take both.": (
            lambda sizes, seconds, target: np.exp(np.polyval(np.polyfit(sizes, np.log(seconds), 1), target))
        ),
    },
    hints=(
        "On paper with logarithmic axes, a power of the size is a straight line.",
        "np.polyfit(x, y, 1) gives slope and intercept of a line, in that order. What are x and y here?",
        "np.exp(intercept + slope * np.log(target)) goes back from the logarithm to seconds.",
    ),
    why="A minute of small runs tells whether the large one takes an hour or a month.",
)


def training_bytes(num_nodes: int, num_edges: int, dim: int) -> int:
    """Count the bytes that training Node2Vec with dense Adam needs at least.

    Kept for each node: its embedding, the gradient, and Adam's two running means, each `dim` numbers of 4 bytes.
    The graph is stored as `rowptr` (one more number than nodes) and `col` (one number for each directed edge),
    numbers of 8 bytes.
    """
    learned = 4 * num_nodes * dim * 4
    graph = (num_nodes + 1 + num_edges) * 8
    return learned + graph


def _bytes_cases(rng: np.random.Generator) -> Iterator[tuple[int, int, int]]:
    yield 2, 2, 1
    yield 1_869, 4_347, 32
    yield from map(tuple, rng.integers([10, 100, 2], [1000, 9000, 64], size=(2, 3)).tolist())


_TRAINING_BYTES = FunctionExercise(
    training_bytes,
    cases=_bytes_cases,
    misconceptions={
        "The two running means of Adam are missing. They are as large as the embeddings.": (
            lambda n, e, d: 2 * n * d * 4 + (n + 1 + e) * 8
        ),
        "The gradient is missing. While it is dense, it is as large as the embeddings.": (
            lambda n, e, d: 3 * n * d * 4 + (n + 1 + e) * 8
        ),
        "Only the embeddings are counted. Training needs a gradient and Adam's two running means besides.": (
            lambda n, e, d: n * d * 4 + (n + 1 + e) * 8
        ),
        "The graph is missing: rowptr and col.": lambda n, _e, d: 4 * n * d * 4,
        "rowptr has one number more than there are nodes.": lambda n, e, d: 4 * n * d * 4 + (n + e) * 8,
        "The graph is stored as rowptr and col. An edge is one number in col, not a pair.": (
            lambda n, e, d: 4 * n * d * 4 + (n + 1 + 2 * e) * 8
        ),
        "The embeddings are counted with 8 bytes a number. PyTorch's float has 4.": (
            lambda n, e, d: 4 * n * d * 8 + (n + 1 + e) * 8
        ),
    },
    hints=(
        "How many arrays are as large as the embeddings? Count what Adam keeps.",
        "Four arrays of num_nodes * dim numbers, 4 bytes each.",
        "Add 8 * (num_nodes + 1) for rowptr and 8 * num_edges for col.",
    ),
    why="Memory is what ends on one machine first. It can be computed before anything runs.",
)


def combine(gradients: list[torch.Tensor], sizes: list[int]) -> torch.Tensor:
    """Give the gradient of a whole batch from the gradients of its parts.

    Each part's loss is a mean over its examples, and so is the loss of the batch. `gradients` holds one tensor
    a part, all of one shape, and `sizes` how many examples each part had.
    """
    weighted = [size * gradient for size, gradient in zip(sizes, gradients, strict=True)]
    return torch.stack(weighted).sum(dim=0) / sum(sizes)


def _combine_cases(rng: np.random.Generator) -> Iterator[tuple[list[torch.Tensor], list[int]]]:
    yield [torch.tensor([1.0, 0.0]), torch.tensor([4.0, 2.0])], [3, 1]
    for sizes, shape in (([64, 64], (2,)), ([5, 2, 1], (3,)), ([4, 1], (2, 2))):
        parts = rng.normal(size=(len(sizes), *shape)).round(2)
        yield [torch.as_tensor(part, dtype=torch.float32) for part in parts], sizes


_COMBINE = FunctionExercise(
    combine,
    cases=_combine_cases,
    misconceptions={
        "This is the plain mean. A part with three examples counts three times as much as a part with one.": (
            lambda gradients, _sizes: torch.stack(gradients).mean(dim=0)
        ),
        "This is the plain sum. Each part's gradient belongs to a mean: the sum grows with the number of parts.": (
            lambda gradients, _sizes: torch.stack(gradients).sum(dim=0)
        ),
        "The parts are weighted, and not divided by the number of all examples.": (
            lambda gradients, sizes: combine(gradients, sizes) * sum(sizes)
        ),
        "The weighted sum is divided by the number of parts. Divide by the number of examples.": (
            lambda gradients, sizes: combine(gradients, sizes) * sum(sizes) / len(sizes)
        ),
        "Only the largest part's gradient is taken. The others saw examples, too.": (
            lambda gradients, sizes: gradients[int(np.argmax(sizes))]
        ),
    },
    hints=(
        "A mean times its number of examples is a sum. Sums may be added.",
        "Weigh each gradient with its size, add them up.",
        "Divide by the number of all examples, sum(sizes).",
    ),
    why="Data-parallel training is this line, and a network that carries the gradients.",
)


def finish_time(durations: list[float], workers: int) -> float:
    """Say when the last trial ends, if they are handed out in order.

    There are `workers` workers, all free at time 0. Each trial of the list, in order, goes to the worker that is
    free first and takes its duration there.
    """
    free = [0.0] * workers
    for duration in durations:
        first = free.index(min(free))
        free[first] += duration
    return max(free)


def _finish_cases(rng: np.random.Generator) -> Iterator[tuple[list[float], int]]:
    yield [1.0, 1.0, 1.0, 6.0], 2  # the long one comes last
    yield [6.0, 1.0, 1.0, 1.0, 1.0], 2
    yield [3.0, 4.0], 3
    for count, workers in ((9, 3), (12, 4)):
        yield rng.uniform(0.5, 6, size=count).round(1).tolist(), workers


_FINISH_TIME = FunctionExercise(
    finish_time,
    cases=_finish_cases,
    misconceptions={
        "This divides the work evenly. A trial cannot be cut in pieces, and some workers wait at the end.": (
            lambda durations, workers: sum(durations) / workers
        ),
        "This is the longest trial alone. Workers have other trials to do as well.": (
            lambda durations, _workers: max(durations)
        ),
        "The trials are dealt out like cards. A worker that is free takes the next one, whosever turn it is.": (
            lambda durations, workers: max(sum(durations[k::workers]) for k in range(workers))
        ),
        "The list is cut into blocks beforehand. Trials are handed out one at a time.": (
            lambda durations, workers: max(
                sum(part.tolist()) for part in np.array_split(np.array(durations), workers)
            )
        ),
        "The trials are sorted, longest first. That ends earlier, and is not the order of the list.": (
            lambda durations, workers: finish_time(sorted(durations, reverse=True), workers)
        ),
        "This is when the first worker is done with everything. The last one counts.": (
            lambda durations, workers: _free_at(durations, workers)[0]
        ),
    },
    hints=(
        "Keep a list: when is each worker free? It begins with zeros.",
        "For each duration, find the smallest entry and add the duration to it.",
        "The answer is the largest entry at the end.",
    ),
    why="Two workers halve the time only if the long trials do not come last.",
)


def _free_at(durations: list[float], workers: int) -> list[Any]:
    free = [0.0] * workers
    for duration in durations:
        free[free.index(min(free))] += duration
    return sorted(free)


EXERCISES = (_FINISH_TIME, _COMBINE, _EXTRAPOLATE, _TRAINING_BYTES)
