"""What the backward passes of two looks show, and where a gradient ends."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from course_utils.gradients._advice import found
from course_utils.gradients._connections import group_names, is_expected
from course_utils.gradients._findings import FailureKind as Kind
from course_utils.gradients._tape import is_blocker, is_parameter, operation

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from course_utils.gradients._findings import Finding, Severity
    from course_utils.gradients._look import Gradient, Look

# What is so much weaker than the strongest gradient does not learn while the strongest does. Two layers of
# attention differ by a hundred at most, five layers of sigmoids by a few thousand.
VANISHED = 1e-4
# Changing a layer by its own size changes a healthy loss by a few times itself at most. Likewise a healthy network
# puts out about what is put in; if it puts out 300 times as much, and is worse off by far than if it knew nothing,
# it was begun too large.
EXPLODED, WORSE = 300.0, 30.0
# Operations that choose among rows.
CHOOSING = ("index", "slice", "select", "gather", "scatter", "embedding", "maskedselect", "take")
# What a smooth bound (softplus, sigmoid) lets through when its input is far out.
HELD_BACK = 1e-6


def non_finite_gradient(look: Look) -> Iterator[Finding]:
    """Find the operation that turned a finite gradient into NaN or inf."""
    bad = [
        each.name
        for each in look.gradients.values()
        if each.norm is not None and not math.isfinite(each.norm)
    ]
    if not bad or not math.isfinite(look.value):
        return
    tape = look.tape
    culprit = next(
        (p for p in look.passages if math.isfinite(p.came) and not all(map(math.isfinite, _norms(p.went)))),
        None,
    )
    where, how = bad[0], ""
    if tape is not None and culprit is not None:
        place = tape.place(culprit.node)
        where = place if place not in {"loss", "model"} else bad[0]
        how = (
            f" The backward pass of `{operation(culprit.node).lower()}` made them, in `{place}` or behind it."
        )
    what = f"{len(bad)} of {len(look.gradients)} gradients are NaN or inf, and the loss is {look.value:.3g}.{how}"
    yield found(Kind.NON_FINITE_GRADIENT, where, what, parameters=bad[:5])


def zero_gradients(first: Look, second: Look, *, ideal: bool, expected: Collection[str]) -> Iterator[Finding]:
    """Tell which gradients are exactly zero in both looks, and what holds them back.

    What is zero at first only, such as what stands before a gate that begins at zero, mends itself.
    """
    if ideal:  # At a loss of zero nothing is left to learn.
        return
    zero = [
        name
        for name, gradient in first.gradients.items()
        if (gradient.norm == 0 or _held_back(first, gradient))
        and (again := second.gradients.get(name)) is not None
        and (again.norm == 0 or _held_back(second, again))
        and not is_expected(name, expected)
        and not _is_idle_bias(name, first)
    ]
    something_learns = any(gradient.norm for gradient in first.gradients.values())
    causes: dict[tuple[Kind, str, bool], list[str]] = {}
    for name in zero:
        causes.setdefault(_cause(first, first.gradients[name]), []).append(name)
    for (kind, how, at_rest), names in causes.items():
        severity: Severity | None = "info" if at_rest and something_learns else None
        for where in group_names(names, first.gradients) if kind is Kind.ZERO_GRADIENT else names:
            gradient = first.gradients.get(where)
            numbers: dict[str, Any] = {} if gradient is None else {"size": gradient.weight_norm}
            yield found(
                kind, where, f"The gradient of `{where}` is zero{how}.", severity, gradient=0.0, **numbers
            )
            if kind is Kind.ZERO_GRADIENT:
                break


def _cause(look: Look, gradient: Gradient) -> tuple[Kind, str, bool]:
    """Follow the gradient from the loss towards a parameter, to the operation that lets nothing through.

    Returns the kind, a description, and whether the parameter is only at rest: no row of these data goes through it,
    or what it is multiplied by is zero, or terms cancel as they do in attention over one neighbour.
    """
    key, tape = id(gradient.parameter), look.tape
    assert tape is not None
    for passage in look.passages:
        if not passage.came or not math.isfinite(passage.came):
            continue
        ways = [
            (before, went)
            for (before, _), went in zip(passage.node.next_functions, passage.went, strict=False)
            if before is not None and key in tape.upstream(before)
        ]
        if not ways or any(went is not None and went > HELD_BACK * passage.came for _, went in ways):
            continue
        name = operation(passage.node).lower()
        if "softmax" in name:
            return Kind.ZERO_GRADIENT, f": `{name}` over a single entry is 1 whatever it is given", True
        if is_blocker(passage.node) or (name == "relu" and gradient.parameter.numel() == 1):
            return (
                Kind.BLOCKED_GRADIENT,
                f": `{name}` in `{tape.place(passage.node)}` lets none through",
                False,
            )
        if all(went is None or went == 0 for _, went in ways):
            if name.startswith(CHOOSING):
                return Kind.ZERO_GRADIENT, ": none of these data goes through it", True
            direct = any(is_parameter(before) for before, _ in ways)
            return Kind.ZERO_GRADIENT, f": `{name}` multiplies it by zero", direct
    return Kind.ZERO_GRADIENT, ": its terms cancel", True


def _held_back(look: Look, gradient: Gradient) -> bool:
    """Whether a smooth bound on this parameter alone lets hardly any gradient through."""
    if not gradient.norm or look.tape is None or gradient.parameter.dim() > 1:
        return False
    return any(
        is_blocker(passage.node)
        and passage.came > 0
        and all(way is not None and way < HELD_BACK * passage.came for way in passage.went)
        and look.tape.upstream(passage.node) == {id(gradient.parameter)}
        for passage in look.passages
    )


def _is_idle_bias(name: str, look: Look) -> bool:
    """Whether it is a bias whose layer learns: before a normalisation it changes nothing, and is harmless."""
    layer, _, last = name.rpartition(".")
    siblings = [
        other for key, other in look.gradients.items() if key.rpartition(".")[0] == layer and key != name
    ]
    return "bias" in last and any(sibling.norm for sibling in siblings)


def sizes(first: Look, second: Look, *, scale: float) -> Iterator[Finding]:
    """Compare the strengths of the gradients with each other, and with the loss of knowing nothing."""
    strengths = {name: gradient.strength for name, gradient in first.gradients.items()}
    later = {name: gradient.strength for name, gradient in second.gradients.items()}
    top, top_later = max(strengths.values(), default=0.0), max(later.values(), default=0.0)
    gain = max((call.outputs[0].rms for call in first.calls if call.owns and call.outputs), default=0.0)
    start = next((call.inputs[0].rms for call in first.calls if call.owns and call.inputs), 0.0)
    grown = gain > EXPLODED * max(start, 1.0) and first.value > WORSE * scale > 0
    if grown or top > EXPLODED * max(abs(first.value), scale) > 0:
        where = _source_of_explosion(first, strengths)
        what = (
            f"Changing `{where}` by its own size would change the loss by {top:.2g}, as far as its gradient tells; "
            f"a model that knows nothing has a loss of {scale:.2g}."
        )
        numbers: dict[str, Any] = {
            "gradient_norm": first.gradients[max(strengths, key=strengths.__getitem__)].norm
        }
        yield found(Kind.EXPLODING_GRADIENT, where, what, strength=top, loss=first.value, **numbers)
        return
    matrices = [name for name, gradient in first.gradients.items() if gradient.parameter.dim() > 1]
    faint = {
        name
        for name in matrices
        if 0 < strengths[name] < VANISHED * top and 0 < later.get(name, 0.0) < VANISHED * top_later
    }
    # A gradient that vanishes on its way does so for a whole layer. Within one that learns, a parameter may
    # well count for nothing, such as the targets' part in attention, which nearly cancels in the softmax.
    weak = [name for name in matrices if faint.issuperset(_of_the_same_layer(name, matrices))]
    if weak:
        where = min(weak, key=strengths.__getitem__)
        what = (
            f"{len(weak)} of {len(strengths)} parameters get a gradient far weaker than the strongest; that of "
            f"`{where}` has {strengths[where] / top:.2g} times its strength."
        )
        norms = first.gradients[where].norm
        yield found(Kind.VANISHING_GRADIENT, where, what, gradient_norm=norms, share=strengths[where] / top)


def _of_the_same_layer(name: str, names: list[str]) -> list[str]:
    """Return those of the names that stand in the module that holds a parameter, or below it."""
    layer = name.rpartition(".")[0]
    return [other for other in names if layer and other.startswith(f"{layer}.")] or [name]


def _source_of_explosion(look: Look, strengths: dict[str, float]) -> str:
    """Name the layer that enlarges the signal most, or else the parameter with the strongest gradient."""
    gains = {
        call.name: call.outputs[0].rms / call.inputs[0].rms
        for call in look.calls
        if call.owns and call.inputs and call.outputs and call.inputs[0].rms > 0
    }
    where = max(gains, key=gains.__getitem__, default="")
    others = sorted(gains.values())
    if where and gains[where] > 10 * max(1.0, others[0]):
        return where
    return max(strengths, key=strengths.__getitem__)


def _norms(norms: list[float | None]) -> list[float]:
    return [each for each in norms if each is not None]
