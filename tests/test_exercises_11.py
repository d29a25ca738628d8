"""The solutions of notebook 11's exercises, against other implementations of the same thing."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from _solutions import run_solution
from torch import nn

from course_utils.exercises import load

EXERCISES = load("11_unconnected_gradients")
solved = partial(run_solution, EXERCISES)


class Patient(nn.Module):
    """A chain of layers, one of which is cut off, one frozen, one in a list, and one never called."""

    def __init__(self):
        super().__init__()
        self.cut, self.frozen, self.head, self.idle = (nn.Linear(4, 4) for _ in range(4))
        self.frozen.requires_grad_(requires_grad=False)
        self.listed = [nn.Linear(4, 4)]

    def forward(self, x):
        return self.head(self.listed[0](self.frozen(self.cut(x).detach())).relu())


@pytest.fixture
def patient():
    torch.manual_seed(0)
    return Patient()


def loss_of(model):
    return model(torch.randn(8, 4, generator=torch.Generator().manual_seed(1))).square().mean()


def test_names_that_are_fixed_and_their_order():
    assert [exercise.name for exercise in EXERCISES] == [
        "gradient_or_none",
        "unconnected_parameters",
        "leaves_of",
        "straight_through_round",
    ]


def test_unconnected_parameters_are_those_that_backward_leaves_without_a_gradient(patient):
    found = solved("unconnected_parameters")(patient, loss_of(patient))
    loss_of(patient).backward()
    assert found == {name for name, p in patient.named_parameters() if p.requires_grad and p.grad is None}
    assert found == {"cut.weight", "cut.bias", "idle.weight", "idle.bias"}


def test_unconnected_parameters_changes_no_gradient_and_leaves_the_graph(patient):
    patient.head.weight.grad = torch.full((4, 4), 3.0)
    loss = loss_of(patient)
    solved("unconnected_parameters")(patient, loss)
    assert patient.head.bias.grad is None
    assert bool((patient.head.weight.grad == 3).all())
    loss.backward()
    assert patient.head.bias.grad is not None


def test_all_parameters_are_unconnected_to_a_loss_without_a_graph(patient):
    assert solved("unconnected_parameters")(patient, loss_of(patient).detach()) == {
        name for name, p in patient.named_parameters() if p.requires_grad
    }
    assert (
        solved("unconnected_parameters")(patient.requires_grad_(requires_grad=False), torch.ones(1)) == set()
    )


def test_a_zero_gradient_is_not_none(patient):
    loss = loss_of(patient) + 0 * patient.idle.weight.sum()
    assert "idle.weight" not in solved("unconnected_parameters")(patient, loss)
    gradient_or_none = solved("gradient_or_none")
    assert not gradient_or_none(loss, patient.idle.weight).any()
    assert gradient_or_none(loss, patient.idle.bias) is None


def test_gradient_or_none_is_what_backward_gives(patient):
    gradient = solved("gradient_or_none")(loss_of(patient), patient.head.weight)
    loss_of(patient).backward()
    torch.testing.assert_close(gradient, patient.head.weight.grad)


def test_leaves_are_what_backward_reaches_even_in_a_list(patient):
    leaves = solved("leaves_of")(loss_of(patient))
    assert leaves == {*patient.head.parameters(), *patient.listed[0].parameters()}


def test_leaves_of_a_graph_whose_ways_meet_a_thousand_times():
    leaf = torch.ones(2, requires_grad=True)
    h = leaf
    for _ in range(1000):  # 2 ** 1000 ways
        h = h + h
    assert solved("leaves_of")(h.sum()) == {leaf}


def test_straight_through_round_is_a_rounding_with_the_gradient_of_the_identity():
    x = torch.linspace(-3, 3, 61, requires_grad=True)
    rounded = solved("straight_through_round")(x)
    torch.testing.assert_close(rounded, x.round())
    (gradient,) = torch.autograd.grad((rounded * torch.arange(61.0)).sum(), x)
    torch.testing.assert_close(gradient, torch.arange(61.0))


class Round(torch.autograd.Function):
    """Round, with a derivative of its own."""

    @staticmethod
    def forward(_ctx, x):
        return x.round()

    @staticmethod
    def backward(_ctx, gradient):
        return gradient


def by_walking(model, loss):
    """Compare the leaves behind the loss with the parameters."""
    leaves = solved("leaves_of")(loss)
    return {name for name, p in model.named_parameters() if p.requires_grad and p not in leaves}


def plain(model, loss):
    """Ask for all gradients, without a thought for losses that have no graph."""
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    gradients = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return {name for name, gradient in zip(named, gradients, strict=True) if gradient is None}


def by_recursion(loss):
    def below(node):
        if node is None:
            return set()
        own = {node.variable} if hasattr(node, "variable") else set()
        return own.union(*(below(before) for before, _ in node.next_functions))

    return below(loss.grad_fn)


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("unconnected_parameters", by_walking),
        ("unconnected_parameters", plain),
        ("leaves_of", by_recursion),
        ("straight_through_round", Round.apply),
    ],
)
def test_other_ways_to_the_right_result_are_correct(name, answer):
    assert EXERCISES.__getattr__(name).check(answer).status == "correct"


def test_an_answer_that_is_right_and_overwrites_the_gradients_is_told_so():
    def overwriting(model, loss):
        names = plain(model, loss)
        model.zero_grad()
        return names

    outcome = EXERCISES.unconnected_parameters.check(overwriting)
    assert outcome.status == "not yet"
    assert "changed by your code" in str(outcome)
