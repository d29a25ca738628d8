"""The solutions of notebook 09's exercises, against other implementations of the same thing."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from _solutions import run_solution
from torch import nn
from torch.distributions import Normal, kl_divergence
from torch.nn.functional import binary_cross_entropy_with_logits

from course_utils.exercises import load

EXERCISES = load("09_vgae_nan")
solved = partial(run_solution, EXERCISES)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def clamped_kl(mu, logvar):
    """Stop the variance at a bound: gradient 0 beyond, and right all the same."""
    return -0.5 * (1 + logvar - mu.square() - logvar.clamp(max=70).exp()).sum(dim=1).mean()


def without_overflow(logits, labels):
    """Compute the cross-entropy in the form that PyTorch documents: max(a, 0) - a y + log(1 + exp(-|a|))."""
    return (logits.clamp(min=0) - logits * labels + (-logits.abs()).exp().log1p()).mean()


def test_names_that_are_fixed_and_their_order():
    assert [exercise.name for exercise in EXERCISES] == [
        "sample_latent",
        "stable_link_loss",
        "first_bad_module",
        "gaussian_kl",
    ]


def test_sample_latent_has_the_variance_named():
    logvar = torch.tensor([[-2.0, 0.0, 3.0]]).expand(20_000, 3)
    samples = solved("sample_latent")(torch.full_like(logvar, 5.0), logvar, draw(20_000, 3))
    torch.testing.assert_close(samples.mean(dim=0), torch.full((3,), 5.0), atol=0.2, rtol=0)
    torch.testing.assert_close(samples.var(dim=0).log(), logvar[0], atol=0.06, rtol=0)


def test_stable_link_loss_is_that_of_pytorch_for_logits_of_any_size():
    logits = (100 * draw(200)).requires_grad_()
    labels = (draw(200, seed=1) > 0).float()
    losses = [loss(logits, labels) for loss in (solved("stable_link_loss"), binary_cross_entropy_with_logits)]
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in losses]
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*gradients)


def test_gaussian_kl_is_exact_up_to_60():
    mu = draw(50, 4)
    logvar = torch.linspace(-200, 60, 200).reshape(50, 4)
    normal = Normal(mu.double(), (logvar.double() / 2).exp())
    exact = kl_divergence(normal, Normal(torch.zeros(50, 4).double(), torch.ones(50, 4).double()))
    torch.testing.assert_close(
        solved("gaussian_kl")(mu, logvar).double(), exact.sum(dim=1).mean(), rtol=1e-5, atol=0
    )


def test_gaussian_kl_is_finite_and_still_has_a_gradient_up_to_200():
    logvar = torch.linspace(-200, 200, 400).reshape(100, 4).requires_grad_()
    mu = draw(100, 4).requires_grad_()
    loss = solved("gaussian_kl")(mu, logvar)
    grad_mu, grad_logvar = torch.autograd.grad(loss, (mu, logvar))
    assert loss.isfinite()
    assert grad_mu.isfinite().all()
    assert grad_logvar.isfinite().all()
    assert (grad_logvar[logvar > 60] > 1e20).all()


def test_first_bad_module_finds_the_product_that_overflows():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2), nn.Softmax(dim=1))
    assert solved("first_bad_module")(model, draw(3, 2)) == "none"
    nn.init.constant_(model[0].bias, 1e30)
    nn.init.constant_(model[2].weight, 1e30)
    assert solved("first_bad_module")(model, draw(3, 2)) == "2"


def test_first_bad_module_leaves_no_hooks():
    model = nn.Sequential(nn.Linear(2, 2))
    solved("first_bad_module")(model, draw(3, 2))
    assert all(not module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("gaussian_kl", clamped_kl),
        ("stable_link_loss", binary_cross_entropy_with_logits),
        ("stable_link_loss", without_overflow),
        ("sample_latent", lambda mu, logvar, noise: torch.addcmul(mu, logvar.exp().sqrt(), noise)),
    ],
)
def test_other_ways_to_the_right_result_are_correct(name, answer):
    assert EXERCISES.__getattr__(name).check(answer).status == "correct"


def names_bound_late(model, x):
    """Make the hooks in a loop, all of which see its last name."""
    found = []
    for name, module in model.named_modules():

        def hook(_module, inputs, output):
            if inputs[0].isfinite().all() and not output.isfinite().all():
                found.append(name)  # noqa: B023 (the mistake)

        module.register_forward_hook(hook)
    model(x)
    return found[0] if found else "none"


def children_in_turn(model, x):
    """Look at the children alone, and not at theirs."""
    for name, child in model.named_children():
        if not child(x).isfinite().all() and x.isfinite().all():
            return name
        x = child(x)
    return "none"


@pytest.mark.parametrize(
    ("name", "answer", "says"),
    [
        ("first_bad_module", names_bound_late, "the name on which the loop ended"),
        ("first_bad_module", children_in_turn, "A module inside of this one finishes first"),
        ("first_bad_module", lambda model, _x: model, "A string is due, and a module came."),
    ],
)
def test_mistakes_that_students_make(name, answer, says):
    assert says in repr(EXERCISES.__getattr__(name).check(answer))
