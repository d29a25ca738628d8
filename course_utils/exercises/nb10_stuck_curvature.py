"""Exercises of notebook 10: the curvature that would not learn."""

# Students read the solutions: they hold no casts for the type checker's sake.
# mypy: disable-error-code="no-any-return, no-untyped-call"

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from course_utils.exercises._kinds import FunctionExercise

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np


def _points(rng: np.random.Generator, n: int, c: float) -> torch.Tensor:
    """Draw points of the ball, (n, 2)."""
    v = torch.as_tensor(rng.normal(size=(n, 2)), dtype=torch.float32)
    return v / (c**0.5 * (0.2 + v.norm(dim=1, keepdim=True)))


def exp_at_origin(v: torch.Tensor, c: float) -> torch.Tensor:
    """Walk from the origin of the ball along each tangent vector: tanh(sqrt(c) |v|) v / (sqrt(c) |v|).

    `v` is (n, d), and the ball has curvature -c. A zero vector stays at the origin. No gradient is needed.
    """
    length = c**0.5 * v.norm(dim=1, keepdim=True)  # (n, 1)
    ratio = length.tanh() / length.clamp(min=1e-12)
    return ratio * v


def _exp_cases(rng: np.random.Generator) -> Iterator[tuple[torch.Tensor, float]]:
    yield torch.tensor([[0.5, 0.0], [0.0, 2.0]]), 1.0
    yield torch.tensor([[0.0, 0.0], [3.0, 4.0]]), 1.0
    yield torch.as_tensor(rng.normal(size=(3, 4)).round(2), dtype=torch.float32), 0.25


def _unguarded(v: torch.Tensor, c: float) -> torch.Tensor:
    length = c**0.5 * v.norm(dim=1, keepdim=True)
    return length.tanh() / length * v


def _along_columns(v: torch.Tensor, c: float) -> torch.Tensor:
    length = c**0.5 * v.norm(dim=1)
    return length.tanh() / length * v


_EXP_AT_ORIGIN = FunctionExercise(
    exp_at_origin,
    cases=_exp_cases,
    misconceptions={
        "A zero vector gives 0 / 0. Keep the divisor above 0.": _unguarded,
        "c stands in place of its square root.": lambda v, c: exp_at_origin(v, c**2),
        "c is left out. That is the ball with c = 1.": lambda v, _c: exp_at_origin(v, 1.0),
        "The lengths went along the columns. keepdim=True keeps them (n, 1), one for each row.": _along_columns,
        "One length serves all rows here. Take the length of each row: dim=1.": (
            lambda v, c: v * (c**0.5 * v.norm()).tanh() / (c**0.5 * v.norm())
        ),
        "tanh is taken of each coordinate. The length shrinks, and the direction stays.": (
            lambda v, c: (c**0.5 * v).tanh() / c**0.5
        ),
        "The result is not divided by sqrt(c). The ball has radius 1 / sqrt(c).": (
            lambda v, c: c**0.5 * exp_at_origin(v, c)
        ),
    },
    hints=(
        "The length of each row is v.norm(dim=1, keepdim=True), (n, 1).",
        "The factor before v is tanh(length) / length, with length = sqrt(c) |v|.",
        "length.clamp(min=1e-12) as a divisor is right for zero vectors, too: the product with v is 0.",
    ),
    why="An encoder gives any vector; this map makes a point of the ball of it.",
)


def ball_distance(x: torch.Tensor, y: torch.Tensor, c: float) -> torch.Tensor:
    """Measure the distance of points in the ball of curvature -c: row by row, (n,).

    With a = 1 - c |x|^2 and b = 1 - c |y|^2 it is 2 / sqrt(c) arsinh(sqrt(c) |x - y| / sqrt(a b)). `x` and `y`
    are (n, d).
    """
    a = 1 - c * x.square().sum(dim=1)
    b = 1 - c * y.square().sum(dim=1)
    gap = (x - y).norm(dim=1)
    return 2 / c**0.5 * (c**0.5 * gap / (a * b).sqrt()).asinh()


def _distance_cases(rng: np.random.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor, float]]:
    yield torch.zeros(2, 2), torch.tensor([[0.5, 0.0], [0.0, 0.9]]), 1.0
    yield torch.tensor([[0.3, 0.1]]), torch.tensor([[0.3, 0.1]]), 1.0
    for c in (0.5, 3.0):
        yield _points(rng, 3, c), _points(rng, 3, c), c


def _gap(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (x - y).norm(dim=1)


def _margin(x: torch.Tensor, c: float) -> torch.Tensor:
    return 1 - c * x.square().sum(dim=1)


_BALL_DISTANCE = FunctionExercise(
    ball_distance,
    cases=_distance_cases,
    misconceptions={
        "The factor 2 before it is missing.": lambda x, y, c: ball_distance(x, y, c) / 2,
        "The root of a b is missing below the fraction line.": (
            lambda x, y, c: 2 / c**0.5 * (c**0.5 * _gap(x, y) / (_margin(x, c) * _margin(y, c))).asinh()
        ),
        "This is twice the straight distance. It leaves out how near the edge the points lie.": (
            lambda x, y, _c: 2 * _gap(x, y)
        ),
        "|x| and |y| are not squared in a and b.": (
            lambda x, y, c: (
                2
                / c**0.5
                * (c**0.5 * _gap(x, y) / ((1 - c * x.norm(dim=1)) * (1 - c * y.norm(dim=1))).sqrt()).asinh()
            )
        ),
        "c is left out. That is the ball with c = 1.": lambda x, y, _c: ball_distance(x, y, 1.0),
    },
    hints=(
        "a and b are (n,): 1 - c * x.square().sum(dim=1).",
        "torch.asinh is arsinh. Its argument grows without bound as a point nears the edge.",
    ),
    why="Near the edge a and b go to 0 and distances grow without bound: that is where a tree finds room.",
)


def inverse_softplus(c: torch.Tensor) -> torch.Tensor:
    """Find the number whose softplus is `c`: log(exp(c) - 1), right for `c` from 0.0001 to 500.

    `c` is (n,), float32, and positive.
    """
    # log(exp(c) - 1) = c + log(1 - exp(-c)), and -expm1(-c) = 1 - exp(-c) keeps its digits for small c.
    return c + (-torch.expm1(-c)).log()


def _inverse_cases(rng: np.random.Generator) -> Iterator[tuple[torch.Tensor]]:
    yield (torch.tensor([1.0, 0.5, 2.0]),)
    yield (torch.as_tensor(rng.uniform(0.1, 5, size=4).round(2), dtype=torch.float32),)
    yield (torch.tensor([100.0, 500.0]),)
    yield (torch.tensor([0.0001, 0.0003]),)


_INVERSE_SOFTPLUS = FunctionExercise(
    inverse_softplus,
    cases=_inverse_cases,
    misconceptions={
        "exp overflows for large c. Take c out: log(exp(c) - 1) = c + log(1 - exp(-c)).": (
            lambda c: c.expm1().log()
        ),
        "exp overflows for large c, and for small c the difference loses its digits. Mend the large ones first: "
        "log(exp(c) - 1) = c + log(1 - exp(-c)).": lambda c: (c.exp() - 1).log(),
        "For small c the difference loses its digits. torch.expm1(a) is exp(a) - 1 without that.": (
            lambda c: c + (1 - (-c).exp()).log()
        ),
        "This is softplus itself. Its inverse is asked for.": torch.nn.functional.softplus,
        "This is log(c), the inverse of exp.": torch.log,
    },
    hints=(
        "Solve log(1 + exp(a)) = c for a.",
        "Large c: log(exp(c) - 1) = log(exp(c) (1 - exp(-c))) = c + log(1 - exp(-c)).",
        "Small c: 1 - exp(-c) = -torch.expm1(-c).",
    ),
    why="With it a reparametrised model starts at the very curvature that you want.",
)


def keep_in_bounds(
    optimizer: torch.optim.Optimizer, parameter: torch.nn.Parameter, low: float, high: float
) -> None:
    """Make the optimizer put a parameter back between `low` and `high` after each of its steps.

    Nothing is returned. Use `Optimizer.register_step_post_hook`. The gradient must stay as it is.
    """

    @torch.no_grad()
    def project(*_: object) -> None:
        parameter.clamp_(low, high)

    optimizer.register_step_post_hook(project)


def _bounds_cases(rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
    for name, start, low, high in (("SGD", 1.0, 0.5, 2.0), ("Adam", 0.1, 0.01, 0.2), ("SGD", 5.0, -1.0, 1.0)):
        slopes = torch.as_tensor(rng.permutation([-9.0, -4.0, 0.5, 7.0]), dtype=torch.float32)
        yield name, start, low, high, slopes


class _StepsExercise(FunctionExercise):
    """What a parameter does over some steps is compared, once the answer has prepared the optimizer."""

    def inputs(self, case: tuple[Any, ...]) -> dict[str, Any]:
        """Name what the optimizer and the parameter are made of, and the gradients of the steps taken."""
        return dict(zip(("optimizer", "parameter", "low", "high", "gradients"), case, strict=True))

    def observe(self, answer: Any, case: tuple[Any, ...]) -> Any:
        """Prepare an optimizer and take some steps."""
        name, start, low, high, slopes = case
        parameter = torch.nn.Parameter(torch.tensor(start))
        optimizer = getattr(torch.optim, name)([parameter], lr=0.5)
        if answer(optimizer, parameter, low, high) is ...:
            return ...
        seen = []
        for slope in slopes:
            optimizer.zero_grad()
            (slope * parameter).backward()
            optimizer.step()
            seen.append(parameter.item())
        return {"after each step": seen, "gradient": parameter.grad}


def _before_step(_optimizer: Any, parameter: torch.nn.Parameter, low: float, high: float) -> None:
    def clamp(_grad: torch.Tensor) -> None:
        parameter.data.clamp_(low, high)

    parameter.register_hook(clamp)


def _gradient_clamped(_optimizer: Any, parameter: torch.nn.Parameter, low: float, high: float) -> None:
    parameter.register_hook(lambda grad: grad.clamp(low, high))


def _article(_optimizer: Any, parameter: torch.nn.Parameter, low: float, high: float) -> None:
    def project(_module: Any, _grad_input: Any, _grad_output: Any) -> None:
        parameter.data.clamp_(low, high)

    parameter.register_hook(project)


def _now(_optimizer: Any, parameter: torch.nn.Parameter, low: float, high: float) -> None:
    parameter.data.clamp_(low, high)


def _tracked(optimizer: Any, parameter: torch.nn.Parameter, low: float, high: float) -> None:
    optimizer.register_step_post_hook(lambda *_: parameter.clamp_(low, high) and None)


def _copied(optimizer: Any, parameter: torch.nn.Parameter, low: float, high: float) -> None:
    optimizer.register_step_post_hook(lambda *_: parameter.clamp(low, high) and None)


_KEEP_IN_BOUNDS = _StepsExercise(
    keep_in_bounds,
    cases=_bounds_cases,
    misconceptions={
        "The hook takes the wrong arguments. A post-hook gets (optimizer, args, kwargs), a parameter's hook the "
        "gradient alone; (module, grad_input, grad_output) belongs to modules.": _article,
        "This puts it back before the step, which then leaves the bounds. A post-hook comes behind the step.": (
            _before_step
        ),
        "It is put back once, now. A hook does it again after each step.": _now,
        "You bound the gradient. It is the parameter that must stay in bounds.": _gradient_clamped,
        "A leaf cannot be changed in place while gradients are tracked. Put @torch.no_grad() on the hook.": (
            _tracked
        ),
        "clamp gives a new tensor and leaves the parameter alone. clamp_ changes it in place.": _copied,
    },
    hints=(
        "optimizer.register_step_post_hook(hook) calls hook(optimizer, args, kwargs) after each step.",
        "There parameter.clamp_(low, high) changes it in place. Hooks are not under no_grad by themselves.",
        "Decorate the hook with @torch.no_grad(), and let it return nothing.",
    ),
    why="The bound holds after each step, and the gradient is never blocked: the next step can come back inside.",
)


EXERCISES = (_EXP_AT_ORIGIN, _BALL_DISTANCE, _INVERSE_SOFTPLUS, _KEEP_IN_BOUNDS)
