"""Exercises of notebook 02: neural networks and backpropagation."""

# Students read the solutions: they hold no casts for the type checker's sake.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Callable  # noqa: TC003 (the stub that uses it is run)
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from course_utils.exercises._kinds import FunctionExercise

if TYPE_CHECKING:
    from collections.abc import Iterator


def count_parameters(widths: list[int]) -> int:
    """Count the numbers that a fully connected network learns.

    `widths` holds how many inputs there are, then how many units each layer has: [4, 8, 3] is a network with
    4 inputs, one hidden layer of 8 units, and 3 outputs. Each unit has a weight for every unit of the layer
    before it, and a bias.
    """
    return sum((inputs + 1) * units for inputs, units in pairwise(widths))


def _width_cases(rng: np.random.Generator) -> Iterator[tuple[list[int]]]:
    yield ([2, 1],)  # one unit
    yield ([4, 8, 3],)
    for depth in (3, 5):
        yield ([int(width) for width in rng.integers(2, 12, size=depth)],)


def _weights(widths: list[int]) -> int:
    return sum(inputs * units for inputs, units in pairwise(widths))


_COUNT_PARAMETERS = FunctionExercise(
    count_parameters,
    cases=_width_cases,
    misconceptions={
        "The biases are missing. Each unit has one.": _weights,
        "The inputs have no bias: they are given, and nothing is added to them.": (
            lambda widths: _weights(widths) + sum(widths)
        ),
        "The last layer has biases, too.": lambda widths: _weights(widths) + sum(widths[1:-1]),
    },
    hints=(
        "Take one unit first. How many numbers does it learn if the layer before it has n units?",
        "A layer with m units after one with n has m * (n + 1) numbers.",
        "`for inputs, units in itertools.pairwise(widths)` goes through the layers.",
    ),
    why="It is the first thing to know of a network, and a quick test that each layer is where it should be.",
)


def affine_of_stack(weights: list[np.ndarray], biases: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Fold a stack of linear layers into one: the W and b for which W x + b is what the stack gives.

    Layer k turns x into weights[k] @ x + biases[k]. Layer 0 comes first. weights[k] is (units, inputs) and
    biases[k] is (units,). Nothing stands between the layers. Return W and b, in this order.
    """
    matrix, offset = weights[0], biases[0]
    for weight, bias in zip(weights[1:], biases[1:], strict=True):
        matrix, offset = weight @ matrix, weight @ offset + bias
    return matrix, offset


def _stack_cases(rng: np.random.Generator) -> Iterator[tuple[list[np.ndarray], list[np.ndarray]]]:
    yield (
        [np.array([[1.0, 2.0], [0.0, 1.0]]), np.array([[1.0, 0.0], [3.0, 1.0]])],
        [np.array([1.0, 0.0]), np.array([0.0, 2.0])],
    )
    for widths in ((2, 2, 2, 2), (2, 4, 1), (3, 2, 4, 2)):
        shapes = [(units, inputs) for inputs, units in pairwise(widths)]
        yield (
            [rng.normal(size=shape).round(1) for shape in shapes],
            [rng.normal(size=units).round(1) for units, _ in shapes],
        )


def _other_bias(rule: Callable[[Any, Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Fold the weights rightly, and the biases by another rule of (offset so far, weight, bias)."""

    def fold(weights: list[np.ndarray], biases: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        offset = biases[0]
        for weight, bias in zip(weights[1:], biases[1:], strict=True):
            offset = rule(offset, weight, bias)
        return affine_of_stack(weights, biases)[0], offset

    return fold


_AFFINE_OF_STACK = FunctionExercise(
    affine_of_stack,
    cases=_stack_cases,
    misconceptions={
        "The matrices are multiplied in the wrong order. The first layer stands next to x, on the right.": (
            lambda weights, biases: (reduce(np.matmul, weights), affine_of_stack(weights, biases)[1])
        ),
        "The biases are only added. Each goes through all later layers.": (
            _other_bias(lambda offset, _weight, bias: offset + bias)
        ),
        "Only the last bias is there. The earlier ones go through the later layers, and stay.": (
            _other_bias(lambda _offset, _weight, bias: bias)
        ),
        "A bias is multiplied by its own layer's weights. It is added after them.": (
            _other_bias(lambda offset, weight, bias: weight @ (offset + bias))
        ),
    },
    hints=(
        "Write two layers out: W2 (W1 x + b1) + b2. Multiply the bracket out.",
        "Two layers make W = W2 W1 and b = W2 b1 + b2. Take the result as one layer, and go on.",
        "Begin with the first layer. For each next one: W, b = weight @ W, weight @ b + bias.",
    ),
    why="Without something between them, a hundred layers can do no more than one. Nonlinearity is the point.",
)


def momentum_step(
    w: np.ndarray, v: np.ndarray, gradient: np.ndarray, lr: float, momentum: float
) -> tuple[np.ndarray, np.ndarray]:
    """Take one step of gradient descent with momentum, as `torch.optim.SGD` does.

    `w`, `v` and `gradient` are (n,). First the velocity `v` is multiplied by `momentum`, and the gradient is
    added to it. Then the weights `w` go `lr` times the new velocity downhill. Return the new w and the new v.
    """
    v = momentum * v + gradient
    return w - lr * v, v


def _momentum_cases(rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
    yield np.array([1.0, 2.0]), np.zeros(2), np.array([4.0, -2.0]), 0.5, 0.9
    yield np.array([1.0, 2.0]), np.array([10.0, -10.0]), np.zeros(2), 0.1, 0.5  # it coasts
    for size in (3, 4):
        w, v, gradient = rng.normal(size=(3, size)).round(1)
        yield w, v, gradient, 0.2, 0.9


_MOMENTUM_STEP = FunctionExercise(
    momentum_step,
    cases=_momentum_cases,
    misconceptions={
        "The weights go uphill. The gradient points to where the cost grows: subtract.": (
            lambda w, v, gradient, lr, momentum: momentum_step(w, v, gradient, -lr, momentum)
        ),
        "The weights move by the old velocity. Renew it first.": (
            lambda w, v, gradient, lr, momentum: (w - lr * v, momentum * v + gradient)
        ),
        "The gradient is multiplied by 1 - momentum. Here it is added in full.": (
            lambda w, v, gradient, lr, momentum: momentum_step(w, v, (1 - momentum) * gradient, lr, momentum)
        ),
        "lr stands inside the velocity. It belongs to the step of the weights alone.": (
            lambda w, v, gradient, lr, momentum: momentum_step(w, v, lr * gradient, 1.0, momentum)
        ),
        "The weights follow the gradient alone. They go along the velocity.": (
            lambda w, v, gradient, lr, momentum: (w - lr * gradient, momentum * v + gradient)
        ),
    },
    hints=(
        "There are two lines: one for the velocity, one for the weights.",
        "The velocity: v = momentum * v + gradient. Which v do the weights use, the old or the new one?",
        "Return w - lr * v and v, both with the new v. Do not write `v *= ...`: that changes the caller's v.",
    ),
    why="Steps to and fro across a valley cancel in the velocity, and steps along it add up.",
)


def output_weight_gradient(h: np.ndarray, w: np.ndarray, z: float) -> np.ndarray:
    """Give dC/dw for a sigmoid unit with squared error: y = sigmoid(w . h) and C = (y - z)^2.

    `h` is (n,), what the hidden units give. `w` is (n,), the weights of the output unit. `z` is the target.
    Return (n,).
    """
    y = 1 / (1 + np.exp(-w @ h))
    return 2 * (y - z) * y * (1 - y) * h


def _unit_cases(rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray, float]]:
    yield np.array([1.0, 2.0]), np.array([0.5, -1.0]), 1.0
    yield np.array([2.0, -3.0, 1.0]), np.array([0.5, 0.5, 1.0]), 0.0
    for size, z in ((3, 0.3), (5, 1.0)):
        yield *rng.normal(size=(2, size)).round(1), z


def _output(h: np.ndarray, w: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-w @ h))


_OUTPUT_WEIGHT_GRADIENT = FunctionExercise(
    output_weight_gradient,
    cases=_unit_cases,
    misconceptions={
        "The sign is wrong: (y - z)^2 has the derivative 2 (y - z) with respect to y.": (
            lambda h, w, z: -output_weight_gradient(h, w, z)
        ),
        "y (1 - y) is missing: the derivative of the sigmoid.": lambda h, w, z: 2 * (_output(h, w) - z) * h,
        "The 2 is missing: the square brings it down.": lambda h, w, z: output_weight_gradient(h, w, z) / 2,
        "This is (y - z) h, the gradient of the cross-entropy. The squared error has 2 (y - z) y (1 - y) h.": (
            lambda h, w, z: (_output(h, w) - z) * h
        ),
        "h (1 - h) is the slope of the hidden units. The output's is y (1 - y), one number.": (
            lambda h, w, z: 2 * (_output(h, w) - z) * h * (1 - h)
        ),
        "There is no sigmoid here: y is sigmoid(w . h), and its derivative belongs in the chain.": (
            lambda h, w, z: 2 * (w @ h - z) * h
        ),
        "The last factor is w. That is dC/dh. What o = w . h changes by when w moves is h.": (
            lambda h, w, z: 2 * (_output(h, w) - z) * _output(h, w) * (1 - _output(h, w)) * w
        ),
    },
    hints=(
        "Follow the chain backwards: dC/dw = dC/dy * dy/do * do/dw, where o = w @ h.",
        "dC/dy = 2 (y - z), dy/do = y (1 - y), do/dw = h.",
        "First y = 1 / (1 + np.exp(-w @ h)). Then multiply the three.",
    ),
    why="This product of slopes along the way is backpropagation. A deeper network only has more factors.",
)


@dataclass(frozen=True)
class _Cost:
    """A cost that shows its formula where the feedback lists it."""

    formula: str
    function: Callable[[np.ndarray], float]

    def __call__(self, w: np.ndarray) -> float:
        return self.function(w)

    def __repr__(self) -> str:
        return f"<cost {self.formula}>"


def central_difference(cost: Callable[[np.ndarray], float], w: np.ndarray, eps: float) -> np.ndarray:
    """Estimate the gradient of a cost by moving each weight a little up and a little down.

    `cost` is a function of the weights, `w` is (n,). For each weight take the cost at `eps` above it and at
    `eps` below it, all other weights as they are, and the slope of the line between. Return (n,).
    """
    gradient = np.zeros(len(w))
    for i, step in enumerate(eps * np.eye(len(w))):
        gradient[i] = (cost(w + step) - cost(w - step)) / (2 * eps)
    return gradient


def _cost_cases(rng: np.random.Generator) -> Iterator[tuple[_Cost, np.ndarray, float]]:
    yield _Cost("w[0]**2 + 3 w[1]", lambda w: float(w[0] ** 2 + 3 * w[1])), np.array([3.0, 1.0]), 0.5
    yield _Cost("w[0]**3 w[1]", lambda w: float(w[0] ** 3 * w[1])), np.array([1.0, 2.0]), 0.1
    for size in (3, 4):
        w = rng.normal(size=size).round(1)
        yield _Cost("sum(exp(w)) + w[0] w[1]", lambda w: float(np.exp(w).sum() + w[0] * w[1])), w, 0.25


def _drifting(cost: Callable[[np.ndarray], float], w: np.ndarray, eps: float) -> np.ndarray:
    w, gradient = w.copy(), np.zeros(len(w))
    for i in range(len(w)):
        w[i] += eps
        above = cost(w)
        w[i] -= 2 * eps
        gradient[i] = (above - cost(w)) / (2 * eps)
    return gradient


_CENTRAL_DIFFERENCE = FunctionExercise(
    central_difference,
    cases=_cost_cases,
    misconceptions={
        "This is the forward difference, from w to w + eps. Go to both sides of w.": (
            lambda cost, w, eps: np.array([(cost(w + step) - cost(w)) / eps for step in eps * np.eye(len(w))])
        ),
        "This is twice as much. From w - eps to w + eps it is 2 eps.": (
            lambda cost, w, eps: 2 * central_difference(cost, w, eps)
        ),
        "These are differences of the cost. Divide them by the way between, 2 eps.": (
            lambda cost, w, eps: 2 * eps * central_difference(cost, w, eps)
        ),
        "All weights move at the same time. Move one, and leave the others as they are.": (
            lambda cost, w, eps: np.full(len(w), (cost(w + eps) - cost(w - eps)) / (2 * eps))
        ),
        "A weight that was moved is not put back before the next one moves.": _drifting,
    },
    hints=(
        "How would you find the slope at a point of a curve with a ruler? Take two points, one on each side.",
        "For weight i: a vector that is eps at place i and 0 elsewhere. eps * np.eye(len(w)) has them as rows.",
        "(cost(w + step) - cost(w - step)) / (2 * eps) for each such step.",
    ),
    why="It needs no calculus, so it finds mistakes in a gradient that was derived by hand.",
)


EXERCISES = (
    _COUNT_PARAMETERS,
    _AFFINE_OF_STACK,
    _MOMENTUM_STEP,
    _OUTPUT_WEIGHT_GRADIENT,
    _CENTRAL_DIFFERENCE,
)
