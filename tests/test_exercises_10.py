"""The solutions of notebook 10's exercises, against other implementations of the same thing."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from _solutions import run_solution
from torch.nn.functional import softplus

from course_utils import hyperbolic
from course_utils.exercises import load

EXERCISES = load("10_stuck_curvature")
solved = partial(run_solution, EXERCISES)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def explicit(optimizer, parameter, low, high):
    """Wrap the step, without a hook."""
    step = optimizer.step

    def bounded_step():
        step()
        parameter.data = parameter.data.clamp(low, high)

    optimizer.step = bounded_step


def test_names_that_are_fixed_and_their_order():
    assert [exercise.name for exercise in EXERCISES] == [
        "exp_at_origin",
        "ball_distance",
        "inverse_softplus",
        "keep_in_bounds",
    ]


@pytest.mark.parametrize("c", [0.1, 1.0, 4.0])
def test_map_and_distance_are_those_of_the_course(c):
    v, w = draw(20, 3), draw(20, 3, seed=1)
    x, y = (solved("exp_at_origin")(each, c) for each in (v, w))
    torch.testing.assert_close(x, hyperbolic.expmap0(v, c))
    torch.testing.assert_close(solved("ball_distance")(x, y, c), hyperbolic.distance(x, y, c))


def test_inverse_softplus_undoes_softplus():
    c = torch.logspace(-4, 2.69, 200)  # up to 490
    undone = softplus(solved("inverse_softplus")(c))
    torch.testing.assert_close(undone, c, rtol=1e-5, atol=0)
    assert solved("inverse_softplus")(torch.ones(1)).item() == pytest.approx(0.5413, abs=1e-4)


def test_keep_in_bounds_does_not_block_the_way_back():
    parameter = torch.nn.Parameter(torch.tensor(1.0))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    assert solved("keep_in_bounds")(optimizer, parameter, 0.0, 2.0) is None
    seen = []
    for slope in (-50.0, 0.5, 0.5):
        optimizer.zero_grad()
        (slope * parameter).backward()
        optimizer.step()
        seen.append(parameter.item())
    assert seen == [2.0, 1.5, 1.0]


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("exp_at_origin", hyperbolic.expmap0),
        ("ball_distance", hyperbolic.distance),
        ("keep_in_bounds", explicit),
    ],
)
def test_other_ways_to_the_right_result_are_correct(name, answer):
    assert EXERCISES.__getattr__(name).check(answer).status == "correct"


def hook_of_one_argument(optimizer, parameter, low, high):
    def hook(_optimizer):
        parameter.data.clamp_(low, high)

    optimizer.register_step_post_hook(hook)


@pytest.mark.parametrize(
    ("name", "answer", "says"),
    [
        (
            "exp_at_origin",
            lambda v, c: (n := c**0.5 * v.norm(dim=1)).tanh() * v / n,
            "went along the columns",
        ),
        (
            "inverse_softplus",
            lambda c: torch.log(torch.exp(c) - 1),
            "exp overflows for large c, and for small c",
        ),
        ("keep_in_bounds", hook_of_one_argument, "A post-hook gets (optimizer, args, kwargs)"),
    ],
)
def test_mistakes_that_students_make(name, answer, says):
    assert says in repr(EXERCISES.__getattr__(name).check(answer))
