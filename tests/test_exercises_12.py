"""The solutions of notebook 12's exercises, against other implementations and against what really happens."""

import heapq
from functools import partial

import numpy as np
import pytest
import torch
from _solutions import run_solution

from course_utils.exercises import load
from course_utils.node2vec import Node2Vec

EXERCISES = load("12_scaling_out")
solved = partial(run_solution, EXERCISES)


def test_names_that_are_fixed_and_their_order():
    assert [exercise.name for exercise in EXERCISES] == [
        "finish_time",
        "combine",
        "extrapolate",
        "training_bytes",
    ]


@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.7])
def test_a_power_law_is_continued_exactly(exponent):
    sizes = np.array([1e3, 1e4, 1e5])
    found = solved("extrapolate")(sizes, 3e-6 * sizes**exponent, 1e6)
    assert found == pytest.approx(3e-6 * 1e6**exponent)


def test_the_bytes_are_those_of_the_tensors_that_training_keeps():
    edges = torch.randint(50, (2, 300), generator=torch.Generator().manual_seed(0)).unique(dim=1)
    model = Node2Vec(edges, 8, 6, 3, num_nodes=50)
    optimizer = torch.optim.Adam(model.parameters())
    model.loss(*model.sample(torch.arange(50))).backward()
    optimizer.step()
    weight = model.embedding.weight
    state = optimizer.state[weight]
    kept = [weight, weight.grad, state["exp_avg"], state["exp_avg_sq"], model.rowptr, model.col]
    found = solved("training_bytes")(50, model.col.numel(), 8)
    assert found == sum(tensor.numel() * tensor.element_size() for tensor in kept)


def test_the_combined_gradient_is_that_of_the_whole_batch():
    torch.manual_seed(0)
    x, y = torch.randn(9, 3), torch.randn(9)
    weight = torch.randn(3, requires_grad=True)

    def gradient(rows):
        return torch.autograd.grad((x[rows] @ weight - y[rows]).square().mean(), weight)[0]

    parts = [slice(0, 5), slice(5, 8), slice(8, 9)]
    combined = solved("combine")([gradient(part) for part in parts], [5, 3, 1])
    torch.testing.assert_close(combined, gradient(slice(None)))


def by_heap(durations, workers):
    heap = [0.0] * workers
    for duration in durations:
        heapq.heappush(heap, heapq.heappop(heap) + duration)
    return max(heap)


def by_lstsq(sizes, seconds, target):
    design = np.stack([np.ones_like(sizes), np.log10(sizes)], axis=1)
    (a, b), *_ = np.linalg.lstsq(design, np.log10(seconds))
    return 10 ** (a + b * np.log10(target))


def by_stacking(gradients, sizes):
    shares = torch.tensor(sizes) / sum(sizes)
    return torch.einsum("p,p...->...", shares, torch.stack(gradients))


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("finish_time", by_heap),
        ("extrapolate", by_lstsq),
        ("combine", by_stacking),
        ("training_bytes", lambda n, e, d: 16 * n * d + 8 * n + 8 * e + 8),
    ],
)
def test_other_ways_to_the_right_result_are_correct(name, answer):
    assert EXERCISES.__getattr__(name).check(answer).status == "correct"
