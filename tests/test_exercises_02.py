"""The solutions of notebook 02's exercises, against other implementations of the same thing."""

from __future__ import annotations

import inspect
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from _solutions import run_solution
from torch import nn

from course_utils.exercises import load

EXERCISES = load("02_neural_networks")
solved = partial(run_solution, EXERCISES)


def stack(widths, *, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(*(nn.Linear(*pair, dtype=torch.float64) for pair in pairwise(widths)))


def test_names_that_are_fixed_and_their_order():
    assert [exercise.name for exercise in EXERCISES] == [
        "count_parameters",
        "affine_of_stack",
        "momentum_step",
        "output_weight_gradient",
        "central_difference",
    ]
    signature = inspect.signature(solved("output_weight_gradient"))
    assert list(signature.parameters) == ["h", "w", "z"]


@pytest.mark.parametrize("widths", [[3, 1], [4, 8, 3], [1433, 64, 16, 7]])
def test_count_parameters_is_what_torch_counts(widths):
    counted = sum(parameter.numel() for parameter in stack(widths).parameters())
    assert solved("count_parameters")(widths) == counted


@pytest.mark.parametrize("widths", [[3, 2], [2, 5, 3], [4, 4, 4, 4], [3, 7, 1, 5, 2]])
def test_affine_of_stack_gives_what_the_stack_gives(widths):
    layers = stack(widths).requires_grad_(requires_grad=False)
    weights = [layer.weight.numpy() for layer in layers]
    biases = [layer.bias.numpy() for layer in layers]
    matrix, offset = solved("affine_of_stack")(weights, biases)
    x = torch.randn(10, widths[0], dtype=torch.float64)
    np.testing.assert_allclose(x.numpy() @ matrix.T + offset, layers(x).numpy(), rtol=0, atol=1e-13)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_momentum_step_is_that_of_torch_over_many_steps(momentum):
    rng = np.random.default_rng(0)
    w, v = rng.normal(size=4), np.zeros(4)
    parameter = torch.tensor(w)
    optimizer = torch.optim.SGD([parameter], lr=0.1, momentum=momentum)
    for _ in range(20):
        gradient = rng.normal(size=4)
        w, v = solved("momentum_step")(w, v, gradient, 0.1, momentum)
        parameter.grad = torch.tensor(gradient)
        optimizer.step()
        np.testing.assert_allclose(w, parameter.numpy(), rtol=0, atol=1e-13)


@pytest.mark.parametrize("seed", range(5))
def test_output_weight_gradient_is_that_of_autograd(seed):
    rng = np.random.default_rng(seed)
    h, w, z = rng.normal(size=5), rng.normal(size=5), rng.random()
    leaf = torch.tensor(w, requires_grad=True)
    cost = (torch.sigmoid(leaf @ torch.tensor(h)) - z) ** 2
    cost.backward()
    gradient = solved("output_weight_gradient")(h, w, z)
    np.testing.assert_allclose(gradient, leaf.grad.numpy(), rtol=1e-12, atol=1e-15)


def test_a_step_against_the_output_weight_gradient_lowers_the_cost():
    rng = np.random.default_rng(0)
    for _ in range(20):
        h, w, z = rng.normal(size=4), rng.normal(size=4), float(rng.integers(2))

        def cost(w, h=h, z=z):
            return (1 / (1 + np.exp(-w @ h)) - z) ** 2

        gradient = solved("output_weight_gradient")(h, w, z)
        assert cost(w - 0.01 * gradient) < cost(w) < cost(w + 0.01 * gradient)


def test_central_difference_is_exact_for_a_quadratic_and_else_better_the_smaller_eps():
    rng = np.random.default_rng(0)
    w, matrix = rng.normal(size=4), rng.normal(size=(4, 4))
    estimate = solved("central_difference")(lambda u: u @ matrix @ u, w, 0.7)
    np.testing.assert_allclose(estimate, (matrix + matrix.T) @ w, rtol=1e-12)
    errors = [
        np.abs(solved("central_difference")(lambda u: np.exp(u).sum(), w, eps) - np.exp(w)).max()
        for eps in (0.1, 0.01)
    ]
    assert errors[0] / errors[1] == pytest.approx(100, rel=0.01)  # the error is of second order


def test_central_difference_agrees_with_the_gradient_by_hand():
    rng = np.random.default_rng(1)
    h, w, z = rng.normal(size=4), rng.normal(size=4), 1.0
    by_hand = solved("output_weight_gradient")(h, w, z)
    measured = solved("central_difference")(lambda u: (1 / (1 + np.exp(-u @ h)) - z) ** 2, w, 1e-5)
    np.testing.assert_allclose(measured, by_hand, rtol=1e-7)


def layer_by_layer(weights, biases):
    """Do what `affine_of_stack` does: send the corners of space through the stack."""

    def through(x):
        for weight, bias in zip(weights, biases, strict=True):
            x = weight @ x + bias
        return x

    offset = through(np.zeros(weights[0].shape[1]))
    columns = [through(column) - offset for column in np.eye(weights[0].shape[1])]
    return np.stack(columns, axis=1), offset


def by_autograd(h, w, z):
    leaf = torch.tensor(w, requires_grad=True)
    ((torch.sigmoid(leaf @ torch.tensor(h)) - z) ** 2).backward()
    return leaf.grad.numpy()


def with_a_copy(cost, w, eps):
    gradient = []
    for i in range(len(w)):
        above, below = w.copy(), w.copy()
        above[i] += eps
        below[i] -= eps
        gradient.append((cost(above) - cost(below)) / (2 * eps))
    return np.array(gradient)


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("count_parameters", lambda widths: sum(p.numel() for p in stack(widths).parameters())),
        ("affine_of_stack", layer_by_layer),
        ("output_weight_gradient", by_autograd),
        ("central_difference", with_a_copy),
    ],
)
def test_other_ways_to_the_right_result_are_correct(name, answer):
    assert EXERCISES.__getattr__(name).check(answer).status == "correct"


def sign_error(h, w, z):
    y = 1 / (1 + np.exp(-np.dot(w, h)))
    return 2 * (z - y) * y * (1 - y) * h


def one_factor_short(h, w, z):
    y = 1 / (1 + np.exp(-np.dot(w, h)))
    return 2 * (y - z) * h


def velocity_in_place(w, v, gradient, lr, momentum):
    v *= momentum
    v += gradient
    return w - lr * v, v


def in_place_and_not_put_back(cost, w, eps):
    gradient = np.zeros(len(w))
    for i in range(len(w)):
        w[i] += eps
        above = cost(w)
        w[i] -= 2 * eps
        gradient[i] = (above - cost(w)) / (2 * eps)
    return gradient


def first_layer_on_the_left(weights, biases):
    matrix = np.eye(weights[0].shape[1])
    offset = biases[0]
    for weight in weights:
        matrix = matrix @ weight
    for weight, bias in zip(weights[1:], biases[1:], strict=True):
        offset = weight @ offset + bias
    return matrix, offset


@pytest.mark.parametrize(
    ("name", "answer", "says"),
    [
        ("count_parameters", lambda w: sum(a * b for a, b in pairwise(w)), "The biases are missing."),
        ("affine_of_stack", first_layer_on_the_left, "The matrices are multiplied in the wrong order."),
        ("affine_of_stack", lambda weights, biases: layer_by_layer(weights, biases)[0], "A tuple is due"),
        ("momentum_step", velocity_in_place, "v: your code changed it in place"),
        (
            "momentum_step",
            lambda w, v, gradient, lr, momentum: (w - lr * v, momentum * v + gradient),
            "Renew it first.",
        ),
        ("output_weight_gradient", sign_error, "The sign is wrong"),
        ("output_weight_gradient", one_factor_short, "the derivative of the sigmoid"),
        ("central_difference", in_place_and_not_put_back, "w: your code changed it in place"),
    ],
)
def test_mistakes_as_students_write_them_are_named(name, answer, says):
    outcome = EXERCISES.__getattr__(name).check(answer)
    assert outcome.status == "not yet"
    assert says in repr(outcome)


def test_the_feedback_shows_the_formula_of_the_cost():
    outcome = EXERCISES.central_difference.check(lambda cost, w, eps: cost(w) * w * eps)
    assert "cost = <cost w[0]**2 + 3 w[1]>" in repr(outcome)
