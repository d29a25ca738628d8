"""Exercises of notebook 08: the gradient clinic."""

# Students read the solutions: they hold no casts for the type checker's sake.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from course_utils.exercises._kinds import FunctionExercise

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np


def standardise(x: torch.Tensor) -> torch.Tensor:
    """Give each column mean 0 and standard deviation 1; a constant column becomes zeros.

    `x` is (N, F). The standard deviation divides by N.
    """
    centred = x - x.mean(dim=0)
    std = centred.square().mean(dim=0).sqrt()  # (F,)
    constant = (x == x[0]).all(dim=0)
    return torch.where(constant, 0.0, centred / std.masked_fill(constant, 1.0))


def _standardise_cases(rng: np.random.Generator) -> Iterator[tuple[torch.Tensor]]:
    yield (torch.tensor([[1.0, 10.0], [3.0, 30.0]]),)
    yield (torch.tensor([[1.0, 5.0], [3.0, 5.0], [8.0, 5.0]]),)
    x = torch.as_tensor(rng.normal(size=(5, 3)).round(2), dtype=torch.float32)
    yield (x * torch.tensor([1.0, 1e4, 1e-4]),)


def _centred(x: torch.Tensor) -> torch.Tensor:
    return x - x.mean(dim=0)


def _population_std(x: torch.Tensor) -> torch.Tensor:
    return _centred(x).square().mean(dim=0).sqrt()


_STANDARDISE = FunctionExercise(
    standardise,
    cases=_standardise_cases,
    misconceptions={
        "A constant column gives 0 / 0. Put 1 in place of its standard deviation.": (
            lambda x: _centred(x) / _population_std(x)
        ),
        "Adding 1 to every standard deviation changes the columns that were well. Guard the constant ones only.": (
            lambda x: _centred(x) / (_population_std(x) + 1)
        ),
        "x.std(dim=0) divides by N - 1 unless it is told otherwise: correction=0.": (
            lambda x: _centred(x) / x.std(dim=0).masked_fill((x == x[0]).all(dim=0), 1.0)
        ),
        "A small number added to every standard deviation is large for a column of small numbers. "
        "Guard the constant ones only.": lambda x: _centred(x) / (_population_std(x) + 1e-8),
        "This scales each row. The features are the columns: dim=0.": (
            lambda x: (x - x.mean(dim=1, keepdim=True)) / x.std(dim=1, keepdim=True, correction=0)
        ),
        "The mean is still in. Take it away before you divide.": (
            lambda x: x / _population_std(x).masked_fill((x == x[0]).all(dim=0), 1.0)
        ),
        "One mean and one deviation serve all columns here. The large column still rules.": (
            lambda x: (x - x.mean()) / x.std(correction=0)
        ),
    },
    hints=(
        "x.mean(dim=0) is (F,), one mean a column.",
        "A column is constant where all its entries equal those of the first row: (x == x[0]).all(dim=0).",
        "std.masked_fill(constant, 1.0) makes a safe divisor.",
    ),
    why="A column a thousand times as large gets gradients as much larger, and no learning rate suits both.",
)


def masked_mean_pool(h: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Average the real nodes of each graph in a padded batch; a graph without any gives zeros.

    `h` is (B, N, D), `mask` a bool (B, N), True for real nodes. The result is (B, D).
    """
    total = h.masked_fill(~mask[:, :, None], 0.0).sum(dim=1)  # (B, D)
    count = mask.sum(dim=1, keepdim=True)  # (B, 1)
    return total / count.clamp(min=1)


def _pool_cases(rng: np.random.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    h = torch.as_tensor(rng.normal(size=(2, 3, 2)).round(1), dtype=torch.float32)
    yield h, torch.tensor([[True, True, False], [True, False, False]])
    h = torch.as_tensor(rng.normal(size=(3, 4, 3)).round(1), dtype=torch.float32)
    yield h, torch.tensor([[False, True, True, False], [True] * 4, [False] * 4])
    h = torch.as_tensor(rng.normal(size=(2, 2, 2)).round(1), dtype=torch.float32)
    h[0, 1] = math.nan
    yield h, torch.tensor([[True, False], [True, True]])


def _times_mask(h: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return (h * mask[:, :, None]).sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1)


_MASKED_MEAN_POOL = FunctionExercise(
    masked_mean_pool,
    cases=_pool_cases,
    misconceptions={
        "The padding is in the mean. Use the mask.": lambda h, _mask: h.mean(dim=1),
        "The sum is right, and divided by N. Divide by the number of real nodes of each graph.": (
            lambda h, mask: h.masked_fill(~mask[:, :, None], 0.0).mean(dim=1)
        ),
        "A graph without a real node gives 0 / 0. Count at least 1.": (
            lambda h, mask: h.masked_fill(~mask[:, :, None], 0.0).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        ),
        "NaN times 0 is NaN: rubbish in the padding gets through a product. Use masked_fill.": _times_mask,
        "All graphs are averaged into one here. Keep a row for each graph.": (
            lambda h, mask: h[mask].mean(dim=0).expand(len(h), -1)
        ),
    },
    hints=(
        "mask[:, :, None] is (B, N, 1) and fits to h.",
        "h.masked_fill(~mask[:, :, None], 0.0) puts zeros into the padding, whatever was there.",
        "Divide the sum over dim=1 by mask.sum(dim=1, keepdim=True), and that by 1 at least.",
    ),
    why="Without the mask, the answer for a graph depends on how large its neighbours in the batch are.",
)


def cosine_decay(step: int, num_steps: int, highest: float, lowest: float) -> float:
    """Give a step's learning rate: `highest` at step 0, along half a cosine to `lowest` at `num_steps` and after."""
    done = min(step / num_steps, 1.0)
    return lowest + (highest - lowest) * (1 + math.cos(math.pi * done)) / 2


def _decay_cases(rng: np.random.Generator) -> Iterator[tuple[int, int, float, float]]:
    yield 0, 100, 0.1, 0.0
    yield 50, 100, 0.1, 0.02
    yield int(rng.integers(10, 40)), 100, 0.4, 0.1
    yield 130, 100, 0.1, 0.02


_COSINE_DECAY = FunctionExercise(
    cosine_decay,
    cases=_decay_cases,
    misconceptions={
        "After num_steps the cosine rises again. Let the share that is done stop at 1.": (
            lambda step, num_steps, highest, lowest: (
                lowest + (highest - lowest) * (1 + math.cos(math.pi * step / num_steps)) / 2
            )
        ),
        "This falls along a straight line. The cosine is flat at both ends.": (
            lambda step, num_steps, highest, lowest: highest + (lowest - highest) * min(step / num_steps, 1.0)
        ),
        "This is a quarter of a cosine, flat at the start only. Half a cosine goes from 0 to pi.": (
            lambda step, num_steps, highest, lowest: (
                lowest + (highest - lowest) * math.cos(math.pi / 2 * min(step / num_steps, 1.0))
            )
        ),
        "It begins at highest + lowest. What falls is the difference of the two.": (
            lambda step, num_steps, highest, lowest: lowest + cosine_decay(step, num_steps, highest, 0.0)
        ),
        "It ends at 0 in place of `lowest`.": (
            lambda step, num_steps, highest, lowest: cosine_decay(step, num_steps, highest, 0 * lowest)
        ),
        "It runs from `lowest` to `highest`. Turn it round.": (
            lambda step, num_steps, highest, lowest: cosine_decay(step, num_steps, lowest, highest)
        ),
    },
    hints=(
        "The share that is done is min(step / num_steps, 1).",
        "(1 + cos(pi * done)) / 2 falls from 1 to 0.",
        "Spread that from `highest` to `lowest`: lowest + (highest - lowest) * ...",
    ),
    why="Large steps find the valley, small steps its floor: a schedule need not choose between them.",
)


def clip_by_global_norm(gradients: list[torch.Tensor], max_norm: float) -> list[torch.Tensor]:
    """Shorten all gradients by one factor, so that their norm together is at most `max_norm`; shorter ones stay."""
    total = torch.stack([gradient.norm() for gradient in gradients]).norm()
    factor = (max_norm / total.clamp(min=1e-12)).clamp(max=1.0)
    return [factor * gradient for gradient in gradients]


def _clip_cases(rng: np.random.Generator) -> Iterator[tuple[list[torch.Tensor], float]]:
    yield [torch.tensor([30.0]), torch.tensor([0.3])], 1.0
    yield [torch.tensor([0.3, 0.4]), torch.tensor([[0.1]])], 2.0
    a, b = (
        torch.as_tensor(rng.normal(size=shape).round(1) * 5, dtype=torch.float32) for shape in (3, (2, 2))
    )
    yield [a + 4, b], 2.0
    yield [torch.zeros(2), torch.zeros(1)], 1.0


def _per_tensor(gradients: list[torch.Tensor], max_norm: float) -> list[torch.Tensor]:
    return [clip_by_global_norm([gradient], max_norm)[0] for gradient in gradients]


def _always(gradients: list[torch.Tensor], max_norm: float) -> list[torch.Tensor]:
    total = torch.stack([gradient.norm() for gradient in gradients]).norm().clamp(min=1e-12)
    return [gradient * max_norm / total for gradient in gradients]


def _sum_of_norms(gradients: list[torch.Tensor], max_norm: float) -> list[torch.Tensor]:
    total = torch.stack([gradient.norm() for gradient in gradients]).sum().clamp(min=1e-12)
    return [gradient * (max_norm / total).clamp(max=1.0) for gradient in gradients]


def _by_square(gradients: list[torch.Tensor], max_norm: float) -> list[torch.Tensor]:
    total = torch.stack([gradient.norm() for gradient in gradients]).norm()
    return [gradient * (max_norm / total.square() if total > max_norm else 1.0) for gradient in gradients]


_CLIP_BY_GLOBAL_NORM = FunctionExercise(
    clip_by_global_norm,
    cases=_clip_cases,
    misconceptions={
        "Each tensor is shortened by itself, so the direction of the step changes. Use one factor for all.": (
            _per_tensor
        ),
        "This bounds each entry, so the direction of the step changes. Multiply by one factor.": (
            lambda gradients, max_norm: [gradient.clamp(-max_norm, max_norm) for gradient in gradients]
        ),
        "Gradients below the bound were made longer. The factor is 1 at most.": _always,
        "The factor has the square of the norm in it. Take the root of the sum of squares.": _by_square,
        "The norms are added. The norm of all together is the root of the sum of their squares.": _sum_of_norms,
    },
    hints=(
        "The norm of all together is the norm of the norms.",
        "The factor is max_norm / total, and 1 at most.",
        "All gradients 0: keep the divisor above 0 with clamp(min=1e-12).",
    ),
    why="One factor keeps the direction that the loss asks for, and only the step gets shorter.",
)


EXERCISES = (_STANDARDISE, _MASKED_MEAN_POOL, _COSINE_DECAY, _CLIP_BY_GLOBAL_NORM)
