"""The solutions of notebook 08's exercises, against other implementations of the same thing."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from _solutions import run_solution
from torch_geometric.nn import global_mean_pool
from torch_geometric.utils import to_dense_batch

from course_utils.exercises import load

EXERCISES = load("08_gradient_clinic")
solved = partial(run_solution, EXERCISES)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def nested_mean(h, mask):
    """Average graph by graph."""
    return torch.stack(
        [
            rows[real].mean(dim=0) if real.any() else torch.zeros(h.size(2))
            for rows, real in zip(h, mask, strict=True)
        ]
    )


def clip_as_pytorch_does(gradients, max_norm):
    parameters = [torch.nn.Parameter(torch.zeros_like(gradient)) for gradient in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.clone()
    torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    return [parameter.grad for parameter in parameters]


def test_names_that_are_fixed_and_their_order():
    assert [exercise.name for exercise in EXERCISES] == [
        "standardise",
        "masked_mean_pool",
        "cosine_decay",
        "clip_by_global_norm",
    ]


def test_standardise_makes_columns_alike_and_constant_ones_zero():
    x = draw(50, 4) * torch.tensor([1.0, 1e5, 1e-5, 0.0]) + torch.tensor([3.0, 0.0, 0.0, 0.1])
    y = solved("standardise")(x)
    torch.testing.assert_close(y[:, :3].mean(dim=0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(y[:, :3].std(dim=0, correction=0), torch.ones(3))
    assert not y[:, 3].any()


def test_masked_mean_pool_is_that_of_the_graphs_unpadded():
    batch = torch.tensor([0, 0, 0, 1, 2, 2])
    x = draw(6, 4)
    h, mask = to_dense_batch(x, batch)
    h[~mask] = torch.nan
    torch.testing.assert_close(solved("masked_mean_pool")(h, mask), global_mean_pool(x, batch))


def test_masked_mean_pool_keeps_gradients_out_of_the_padding():
    h = draw(2, 3, 2).requires_grad_()
    mask = torch.tensor([[True, False, False], [False, False, False]])
    (slope,) = torch.autograd.grad(solved("masked_mean_pool")(h, mask).sum(), h)
    assert torch.equal(slope, mask[:, :, None].expand(2, 3, 2).float())


def test_cosine_decay_is_that_of_pytorch():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20, eta_min=0.01)
    for step in range(21):
        expected = optimizer.param_groups[0]["lr"]
        assert solved("cosine_decay")(step, 20, 0.3, 0.01) == pytest.approx(expected, rel=1e-5)
        optimizer.step()
        schedule.step()


def test_clipping_keeps_the_direction():
    gradients = [draw(3), 100 * draw(2, 2, seed=1)]
    clipped = solved("clip_by_global_norm")(gradients, 1.0)
    before, after = (torch.cat([each.flatten() for each in some]) for some in (gradients, clipped))
    assert after.norm().item() == pytest.approx(1.0)
    assert torch.cosine_similarity(before, after, dim=0).item() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("name", "answer"),
    [("masked_mean_pool", nested_mean), ("clip_by_global_norm", clip_as_pytorch_does)],
)
def test_other_ways_to_the_right_result_are_correct(name, answer):
    assert EXERCISES.__getattr__(name).check(answer).status == "correct"
