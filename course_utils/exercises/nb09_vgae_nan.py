"""Exercises of notebook 09: the VGAE whose loss becomes NaN."""

# Students read the solutions: they hold no casts for the type checker's sake.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from course_utils.exercises._kinds import FunctionExercise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np


def _draw(rng: np.random.Generator, *shape: int) -> torch.Tensor:
    return torch.as_tensor(rng.normal(size=shape).round(2), dtype=torch.float32)


def sample_latent(mu: torch.Tensor, logvar: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Draw latent vectors: the mean plus the standard deviation times the noise.

    All three are (n, d). `logvar` is the logarithm of the variance, and `noise` is standard normal.
    """
    return mu + (logvar / 2).exp() * noise


def _sample_cases(rng: np.random.Generator) -> Iterator[tuple[torch.Tensor, ...]]:
    yield torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, -1.0]])
    for n, d in ((3, 2), (2, 4)):
        yield _draw(rng, n, d), _draw(rng, n, d), _draw(rng, n, d)


_SAMPLE_LATENT = FunctionExercise(
    sample_latent,
    cases=_sample_cases,
    misconceptions={
        "The noise is multiplied by the variance. Its square root, the standard deviation, is due.": (
            lambda mu, logvar, noise: mu + logvar.exp() * noise
        ),
        "The noise is multiplied by logvar. exp makes a variance of it.": (
            lambda mu, logvar, noise: mu + logvar * noise
        ),
        "There is no noise in it: this is the mean.": lambda mu, _logvar, _noise: mu.clone(),
        "The noise is not the one given. Do not draw your own.": (
            lambda mu, logvar, noise: sample_latent(mu, logvar, torch.full_like(noise, 0.5))
        ),
    },
    hints=(
        "exp(logvar) is the variance. What is the standard deviation?",
        "The root of exp(logvar) is exp(logvar / 2).",
    ),
    why="The noise comes from outside, so the gradient flows to mean and variance: the reparameterisation trick.",
)


def stable_link_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Compute the mean binary cross-entropy from logits, right for logits of any size.

    Both are (P,); a label is 1 for a link and 0 for none. With p = sigmoid(logit), a link costs -log(p) and any
    other pair -log(1 - p). Do not call PyTorch's own loss.
    """
    # -log(sigmoid(a)) = log(1 + exp(-a)), which softplus computes without overflow.
    signed = (2 * labels - 1) * logits
    return nn.functional.softplus(-signed).mean()


def _loss_cases(rng: np.random.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    # No logit is 0: there the usual stable form, max(a, 0) - a y + log(1 + exp(-|a|)), has no slope of its own.
    yield torch.tensor([0.5, 2.0, -1.0]), torch.tensor([1.0, 1.0, 0.0])
    yield 3 * _draw(rng, 6), torch.tensor([1.0, 0.0, 1.0, 0.0, 0.0, 1.0])
    yield torch.tensor([-200.0, 300.0, 5.0]), torch.tensor([1.0, 0.0, 1.0])


def _with_gradient(answer: Callable[..., Any], logits: torch.Tensor, labels: torch.Tensor) -> dict[str, Any]:
    """Compute a loss and its gradient."""
    asked = logits.clone().requires_grad_()
    loss = answer(asked, labels)
    if not (isinstance(loss, torch.Tensor) and loss.requires_grad and loss.numel() == 1):
        return {"loss": loss, "gradient": "none: the loss is no single number, or is cut off from the logits"}
    return {"loss": loss.detach(), "gradient": torch.autograd.grad(loss.sum(), asked)[0]}


class _LossExercise(FunctionExercise):
    """A loss is asked for; its gradient is compared, too."""

    def observe(self, answer: Any, case: tuple[Any, ...]) -> Any:
        """Compute loss and gradient."""
        return ... if answer(*case) is ... else _with_gradient(answer, *case)


def _by_probability(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    p = logits.sigmoid()
    return -torch.where(labels > 0, p + 1e-15, 1 - p + 1e-15).log().mean()


def _by_exp(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return (1 + ((1 - 2 * labels) * logits).exp()).log().mean()


_STABLE_LINK_LOSS = _LossExercise(
    stable_link_loss,
    cases=_loss_cases,
    misconceptions={
        "Far out the loss stays at 34.54 and its gradient is 0. Do not compute the probability at all.": (
            _by_probability
        ),
        "exp overflows far out. softplus(a) is log(1 + exp(a)) without that.": _by_exp,
        "This is the sum. The mean is asked for.": lambda x, y: stable_link_loss(x, y) * len(x),
        "The labels are swapped: links are treated as none, and the others as links.": (
            lambda x, y: stable_link_loss(x, 1 - y)
        ),
        "Only the links count here. The other pairs have a cost as well.": (
            lambda x, y: (nn.functional.softplus(-x) * y).mean()
        ),
    },
    hints=(
        "Write -log(sigmoid(a)) with one exp: it is log(1 + exp(-a)).",
        "1 - sigmoid(a) = sigmoid(-a). So a pair that is no link costs log(1 + exp(a)).",
        "torch.nn.functional.softplus(a) is log(1 + exp(a)), and stays finite.",
    ),
    why="A pair that is wrong with certainty must be the one that is corrected first, and here its gradient is 1.",
)


def gaussian_kl(mu: torch.Tensor, logvar: torch.Tensor) -> torch.Tensor:
    """Compute the divergence of normal distributions from the standard normal, without overflow.

    `mu` and `logvar` (log variances) are (n, d), float32. Per entry it is
    -1/2 (1 + logvar - mu^2 - exp(logvar)). Sum over d, average over n: one number. It must be exact where
    logvar <= 60. Beyond, up to 200, and down to -200, value and gradient need only be finite.
    """
    bounded = logvar.clamp(max=60)
    # Beyond 60 exp goes on as its tangent line, so that its gradient stays large instead of becoming 0.
    variance = bounded.exp() * (1 + logvar - bounded)
    return -0.5 * (1 + logvar - mu.square() - variance).sum(dim=1).mean()


def _kl_cases(rng: np.random.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    yield torch.zeros(1, 2), torch.zeros(1, 2)
    yield torch.tensor([[0.0, 1.0], [2.0, 0.0]]), torch.tensor([[0.0, 0.0], [0.0, 1.0]])
    yield _draw(rng, 4, 3), 2 * _draw(rng, 4, 3)
    yield _draw(rng, 2, 2), torch.tensor([[-200.0, 30.0], [-120.0, 4.0]])
    yield _draw(rng, 2, 1), torch.tensor([[60.0], [-3.0]])
    yield _draw(rng, 2, 2), torch.tensor([[89.0, 0.0], [0.0, 0.0]])
    yield _draw(rng, 2, 2), torch.tensor([[200.0, -200.0], [150.0, 0.0]])


class _KLExercise(FunctionExercise):
    """The divergence: compared where it must be exact, and else only whether it is finite."""

    def observe(self, answer: Any, case: tuple[Any, ...]) -> Any:
        """Compute the divergence and its gradients."""
        mu, logvar = (each.clone().requires_grad_() for each in case)
        value = answer(mu, logvar)
        if not (isinstance(value, torch.Tensor) and value.requires_grad and value.numel() == 1):
            return value if value is ... else {"divergence": value, "gradients": "none"}
        gradients = torch.autograd.grad(value.sum(), (mu, logvar), allow_unused=True)
        if case[1].max() <= 60:  # noqa: PLR2004 (up to there it must be exact)
            return {"divergence": value.detach(), "gradients": list(gradients)}
        finite = all(each is not None and bool(each.isfinite().all()) for each in gradients)
        return {"divergence is finite": bool(value.isfinite()), "gradients are finite": finite}


def _kl(mu: torch.Tensor, logvar: torch.Tensor) -> torch.Tensor:
    return -0.5 * (1 + logvar - mu.square() - logvar.exp()).sum(dim=1).mean()


def _replaced(mu: torch.Tensor, logvar: torch.Tensor) -> torch.Tensor:
    variance = torch.where(logvar.exp().isinf(), torch.zeros_like(logvar), logvar.exp())
    return -0.5 * (1 + logvar - mu.square() - variance).sum(dim=1).mean()


def _repaired(mu: torch.Tensor, logvar: torch.Tensor) -> torch.Tensor:
    return -0.5 * (1 + logvar - mu.square() - logvar.exp()).nan_to_num().sum(dim=1).mean()


_GAUSSIAN_KL = _KLExercise(
    gaussian_kl,
    cases=_kl_cases,
    misconceptions={
        "This is the formula as it stands: exp overflows above 88.7. Bound what goes into exp.": _kl,
        "The whole of logvar is clamped, below 60. Up to 60 the result must be exact.": (
            lambda mu, logvar: _kl(mu, logvar.clamp(-10, 10))
        ),
        "What is infinite is replaced behind exp. Its gradient is 0 * inf = NaN: bound logvar first.": _replaced,
        "nan_to_num repairs the value. The gradient behind it is still NaN: bound what goes into exp.": _repaired,
        "logvar is treated as the log of the standard deviation. It is that of the variance.": (
            lambda mu, v: gaussian_kl(mu, 2 * v)
        ),
        "The sign is wrong: a divergence is never negative.": lambda mu, v: -gaussian_kl(mu, v),
        "This is the mean over n and d. Over d, sum.": lambda mu, v: gaussian_kl(mu, v) / v.shape[1],
        "This is the sum over n and d. Over n, take the mean.": lambda mu, v: gaussian_kl(mu, v) * len(v),
        "mu is not squared.": lambda mu, v: gaussian_kl(0 * mu, v) + mu.sum(dim=1).mean() / 2,
    },
    hints=(
        "First the formula as it stands, with .sum(dim=1).mean(). Then: what may go into exp at most?",
        "bounded = logvar.clamp(max=60), and bounded.exp() for logvar.exp(). That passes. But see its gradient.",
        "Beyond 60 you can go on along the tangent: bounded.exp() * (1 + logvar - bounded).",
    ),
    why="An infinite loss now is a NaN in every parameter one step later.",
)


def first_bad_module(model: nn.Module, x: torch.Tensor) -> str:
    """Name the module whose inputs are finite and whose output is not: the first one, in the order they finish.

    Call `model(x)` with forward hooks on all modules of `model.named_modules()`. The name of the model itself is
    "", so give "none" where there is no such module. Inputs and outputs are tensors. NaN and infinite numbers are
    both not finite. Remove the hooks at the end.
    """
    found: list[str] = []

    def watch(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            if all(each.isfinite().all() for each in inputs) and not output.isfinite().all():
                found.append(name)

        return hook

    handles = [module.register_forward_hook(watch(name)) for name, module in model.named_modules()]
    model(x)
    for handle in handles:
        handle.remove()
    return found[0] if found else "none"


class _Apply(nn.Module):
    """Any function as a module."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply it."""
        return self.function(x)


def _module_cases(rng: np.random.Generator) -> Iterator[tuple[nn.Module, torch.Tensor]]:
    def chain(**modules: Callable[[torch.Tensor], torch.Tensor]) -> nn.Sequential:
        model = nn.Sequential()
        for name, function in modules.items():
            model.add_module(name, _Apply(function))
        return model

    x = _draw(rng, 3, 2)
    yield chain(twice=lambda t: 2 * t, root=lambda t: (-t.abs() - 1).sqrt(), add=lambda t: t + 1), x
    yield chain(scale=lambda t: 100 * t.abs() + 100, exp=torch.exp, shift=lambda t: t - 1), x
    yield chain(exp=lambda t: (t + 100).exp(), back=lambda t: 1 / (1 + t), log=lambda t: (0 * t).log()), x
    yield chain(twice=lambda t: 2 * t, shift=lambda t: t - 1), x
    yield chain(twice=lambda t: 2 * t), torch.full((2, 2), torch.inf)
    outer = chain(scale=lambda t: t + 100)
    outer.add_module("inner", chain(same=lambda t: t, exp=torch.exp))
    yield outer, x


def _last_name(model: nn.Module, x: torch.Tensor) -> str:
    """Make the hooks in a loop, where each of them sees the loop's last name."""
    return "none" if first_bad_module(model, x) == "none" else [name for name, _ in model.named_modules()][-1]


def _children_only(model: nn.Module, x: torch.Tensor) -> str:
    return first_bad_module(model, x).split(".")[0]


def _search(kind: str) -> Callable[[nn.Module, torch.Tensor], str]:
    """Search as a typical wrong answer does."""

    def search(model: nn.Module, x: torch.Tensor) -> str:
        bad, caused = [], []

        def watch(name: str) -> Callable[..., None]:
            def hook(_module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
                seen = output.isnan().any() if kind == "nan" else not output.isfinite().all()
                if seen:
                    bad.append(name)
                    caused.extend([name] if inputs[0].isfinite().all() else [])

            return hook

        handles = [module.register_forward_hook(watch(name)) for name, module in model.named_modules()]
        model(x)
        for handle in handles:
            handle.remove()
        names = bad if kind == "any input" else caused
        return ["none", *names][-1] if kind == "last" else [*names, "none"][0]

    return search


_FIRST_BAD_MODULE = FunctionExercise(
    first_bad_module,
    cases=_module_cases,
    misconceptions={
        "You look for NaN only. inf comes first: ask for output.isfinite().": _search("nan"),
        "Its input was bad already. Look for a module with finite inputs.": _search("any input"),
        "Every hook reports the name on which the loop ended. Make each hook in a function that takes the name.": (
            _last_name
        ),
        "A module inside of this one finishes first. named_modules() goes inside, named_children() does not.": (
            _children_only
        ),
        "This is the last such module. The first one to finish is the cause.": _search("last"),
    },
    hints=(
        "A forward hook is a function of (module, inputs, output), called each time the module has run.",
        "The hook does not know the name of its module: make one hook for each, in a function that takes the name.",
        "Append the name to a list if all inputs are finite and the output is not. The first entry is the answer.",
    ),
    why="The loss tells that something is wrong. The first operation that turns good into bad tells what.",
)


EXERCISES = (_SAMPLE_LATENT, _STABLE_LINK_LOSS, _FIRST_BAD_MODULE, _GAUSSIAN_KL)
