"""Models whose steps are of the wrong size."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import mse_loss

from course_utils.gcn import GCN
from gradient_cases.case import Case, broken, graph, mlp, node_case, row_case


@broken("learning_rate_too_high", at="optimizer")
def rate_of_ten_for_adam():
    return row_case(mlp(8, 32, 3), lr=10.0)


@broken("learning_rate_too_high", at="optimizer")
def gradient_descent_that_diverges():
    x = torch.randn(60, 8)
    y = x @ torch.randn(8, 1)
    model = nn.Linear(8, 1)
    return Case(
        model, lambda m: (m(x) - y).square().mean(), (x, y), torch.optim.SGD(model.parameters(), lr=3.0)
    )


@broken("learning_rate_too_high", at="optimizer")
def gradient_descent_that_overflows_within_three_steps():
    case = row_case(mlp(8, 32, 1), lr=1.0)
    x, y = torch.randn(50, 8), torch.randn(50, 1)
    case.loss_fn = lambda m: (m(x) - y).square().mean()
    case.optimizer = torch.optim.SGD(case.model.parameters(), lr=100.0)
    return case


@broken("learning_rate_too_high", at="optimizer")
def rate_of_one_for_a_gcn():
    return node_case(graph(), GCN(16, 32, 3), lr=1.0)


@broken("learning_rate_too_low", at="optimizer")
def rate_of_a_billionth():
    return row_case(mlp(8, 32, 3), lr=1e-9)


@broken("learning_rate_too_low", at="optimizer")
def rate_at_which_training_takes_weeks():
    return node_case(graph(), lr=1e-5)


@broken("learning_rate_too_low", at="optimizer")
def gradient_descent_that_stands_still():
    case = node_case(graph())
    case.optimizer = torch.optim.SGD(case.model.parameters(), lr=1e-7)
    return case


@broken("learning_rate_too_low", at="optimizer")
def rate_of_zero():
    return row_case(mlp(8, 32, 3), lr=0.0)


@broken("unscaled_features", at="y")
def prices_as_targets():
    x = torch.randn(80, 8)
    y = 9e4 * (x @ torch.randn(8, 1)) + 3.5e5
    model = mlp(8, 32, 1)
    return Case(model, lambda m: mse_loss(m(x), y), (x, y), torch.optim.Adam(model.parameters(), lr=0.01))


@broken("learning_rate_too_high", at="optimizer")
def rate_of_one_for_a_loss_with_derivatives():
    """The second derivative of u is to be sin(3 t), as in a network informed by physics."""
    t = torch.linspace(-1, 1, 40)[:, None]
    model = mlp(1, 32, 32, 1, act=nn.Tanh)

    def loss_fn(m):
        point = t.clone().requires_grad_()
        (slope,) = torch.autograd.grad(m(point).sum(), point, create_graph=True)
        (bend,) = torch.autograd.grad(slope.sum(), point, create_graph=True)
        return (bend - (3 * t).sin()).square().mean() + m(t[[0, -1]]).square().mean()

    return Case(model, loss_fn, None, torch.optim.Adam(model.parameters(), lr=1.0))


@broken("learning_rate_too_low", at="optimizer")
def schedule_that_is_over():
    case = row_case(mlp(8, 32, 3))
    (group,) = case.optimizer.param_groups
    group["initial_lr"], group["lr"] = 0.01, 1e-11
    return case
