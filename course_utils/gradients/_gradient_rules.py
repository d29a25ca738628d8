"""What the backward pass shows: gradients that are not finite, that end on their way, or are of the wrong size."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from course_utils.gradients._advice import found
from course_utils.gradients._connections import group_names, is_expected
from course_utils.gradients._findings import FailureKind as Kind
from course_utils.gradients._numbers import norm
from course_utils.gradients._tape import is_blocker, is_parameter, operation, upstream
from course_utils.gradients._trace import ROOT

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from course_utils.gradients._findings import Finding, Severity
    from course_utils.gradients._look import Gradient, Look, Patient
    from course_utils.gradients._pace import Run

# What is so much weaker than the strongest gradient does not learn while the strongest does. Two layers of
# attention differ by a hundred at most, five layers of sigmoids by a few thousand.
VANISHED = 1e-4
# Changing a layer by its own size changes a healthy loss by a few times itself at most. Likewise a healthy network
# puts out about what is put in; if it puts out 300 times as much, and is worse off by far than if it knew nothing,
# it was begun too large.
EXPLODED, WORSE = 300.0, 30.0
GROWN = 10.0  # from the first look to a later one
# Operations that choose among rows.
CHOOSING = ("index", "slice", "select", "gather", "scatter", "embedding", "maskedselect", "take")
# What a smooth bound (softplus, sigmoid) lets through when its input is far out.
HELD_BACK = 1e-6


def non_finite_gradient(look: Look) -> Iterator[Finding]:
    """Find the operation that turned a finite gradient into NaN or inf."""
    bad = [name for name, gradient in look.gradients.items() if not math.isfinite(gradient.norm)]
    if not bad or not math.isfinite(look.value):
        return
    where, how = bad[0], ""
    for passage in look.passages:
        went = [each for each in passage.went if each is not None]
        if math.isfinite(passage.came) and not all(map(math.isfinite, went)) and look.tape:
            place = look.tape.place(passage.node)
            where = place if place not in {"loss", "model"} else where
            how = f" The backward pass of `{operation(passage.node).lower()}` made them, in `{place}` or behind it."
            break
    what = f"{len(bad)} of {len(look.gradients)} gradients are NaN or inf, and the loss is {look.value:.3g}.{how}"
    yield found(Kind.NON_FINITE_GRADIENT, where, what, parameters=bad[:5])


def zero_gradients(first: Look, later: Look, expected: Collection[str]) -> Iterator[Finding]:
    """Tell which gradients are zero and stay so, and what holds them back.

    What is zero at first only, such as what stands before a gate that begins at zero, mends itself.
    """
    causes: dict[tuple[Kind, str, str, bool], list[str]] = {}
    for name, gradient in first.gradients.items():
        if (
            gradient.value is not None
            and (gradient.norm == 0 or _held_back(first, gradient))
            and name in later.gradients
            and later.gradients[name].strength <= max(GROWN * gradient.strength, HELD_BACK * later.strongest)
            and not is_expected(name, expected)
            and not (_is_idle_bias(name, first) or _is_idle_bias(name, later))
        ):
            kind, how, place, at_rest = _cause(first, gradient)
            at_rest = at_rest or _is_alternative(first, name)
            causes.setdefault((kind, how, place, at_rest), []).append(name)
    something_learns = any(gradient.norm for gradient in first.gradients.values())
    for (kind, how, place, at_rest), names in causes.items():
        severity: Severity | None = "info" if at_rest and something_learns else None
        if len(names) > 1 and any(is_expected(name, [place]) for name in names):
            places = [place]  # What holds up a whole layer holds up those before it too.
        else:
            places = group_names(names, first.gradients)[:1] if kind is Kind.ZERO_GRADIENT else names
        for where in places:
            yield found(kind, where, f"The gradient of `{where}` is zero{how}.", severity, gradient=0.0)


def _cause(look: Look, gradient: Gradient) -> tuple[Kind, str, str, bool]:
    """Follow the gradient from the loss towards a parameter, to the operation that lets nothing through.

    Returns the kind, a description, the module of an operation that blocks it, and whether the parameter is only at
    rest: no row of these data goes through it, or what it is multiplied by is zero, or terms cancel as they do in
    attention over one neighbour.
    """
    key, tape = id(gradient.parameter), look.tape
    assert tape is not None
    ways_to = [way for passage in look.passages for way in passage.ways]
    arrived = [went for before, went in ways_to if getattr(before, "variable", None) is gradient.parameter]
    if gradient.norm == 0 and len(arrived) == 1 and arrived[0]:  # with several uses they may cancel
        return Kind.ZERO_GRADIENT, ": it arrives, and a hook on the parameter makes it zero", "", False
    for passage in look.passages:
        if not passage.came or not math.isfinite(passage.came):
            continue
        ways = [(before, went or 0.0) for before, went in passage.ways if key in upstream(before)]
        if not ways or any(went > HELD_BACK * passage.came for _, went in ways):
            continue
        name = operation(passage.node).lower()
        if "softmax" in name:
            return Kind.ZERO_GRADIENT, f": `{name}` lets none through, as over a single entry", "", False
        if is_blocker(passage.node) or (name == "relu" and gradient.parameter.numel() == 1):
            place = tape.place(passage.node)
            return Kind.BLOCKED_GRADIENT, f": `{name}` in `{place}` lets none through", place, False
        if all(went == 0 for _, went in ways):
            if name.startswith(CHOOSING):
                return Kind.ZERO_GRADIENT, ": none of these data goes through it", "", True
            direct = any(is_parameter(before) for before, _ in ways)
            return Kind.ZERO_GRADIENT, f": `{name}` multiplies it by zero", "", direct
    return Kind.ZERO_GRADIENT, ": its terms cancel", "", True


def _is_alternative(look: Look, name: str) -> bool:
    """Whether another one of a list of layers, not after it on the way to the loss, learns in its place."""
    assert look.tape is not None
    pattern = re.sub(r"\d+", "", name)
    alike = [each for other, each in look.gradients.items() if re.sub(r"\d+", "", other) == pattern]
    learns = [each.parameter for each in alike if each.norm and each is not look.gradients[name]]
    after = look.tape.downstream(look.gradients[name].parameter) if learns else set()
    return any(id(parameter) not in after for parameter in learns)


def _held_back(look: Look, gradient: Gradient) -> bool:
    """Whether a smooth bound on this parameter alone lets hardly any gradient through."""
    return gradient.parameter.dim() < 2 and any(  # noqa: PLR2004
        passage.came > 0
        and is_blocker(passage.node)
        and all(way is not None and way < HELD_BACK * passage.came for way in passage.went)
        and upstream(passage.node) == {id(gradient.parameter)}
        for passage in look.passages
    )


def _is_idle_bias(name: str, look: Look) -> bool:
    """Whether it is a bias whose layer learns: before a normalisation it changes nothing, and is harmless."""
    layer, _, last = name.rpartition(".")
    others = [other for other in look.gradients if other != name and other.rpartition(".")[0] == layer]
    return "bias" in last and any(look.gradients[other].norm for other in others)


def exploding(patient: Patient, look: Look, run: Run) -> Iterator[Finding]:
    """Compare the strongest gradient, and the largest signal, with the loss of knowing nothing.

    A gradient that is strong at the first look only, and does no harm, is left to the optimizer.
    """
    top, calls = look.strongest, look.layers
    ends = [call for call in look.trace.calls if call.name == ROOT and call.outputs]
    largest = max((call.outputs[0].rms for call in calls + ends), default=0.0)
    grown = largest > EXPLODED * max(calls[0].inputs[0].rms if calls else 0.0, 1.0)
    if not grown and top <= EXPLODED * abs(look.value):
        return
    ignorant = patient.ignorant_loss
    scale = ignorant if ignorant > 0 and math.isfinite(ignorant) else abs(look.value)
    # A loss whose terms cancel may be next to nothing; what it is made of is not.
    sizes = [abs(look.value), scale, *(min(out.rms, 1.0) for call in calls[-1:] for out in call.outputs)]
    if not (grown and look.value > WORSE * scale > 0) and top <= EXPLODED * max(sizes):
        return
    if run.later.strongest <= EXPLODED * scale and run.values[-1] < min(look.value, WORSE * scale):
        return
    # The layer that enlarges the signal most, if one stands out.
    gains = {call.name: call.outputs[0].rms / call.inputs[0].rms for call in calls if call.inputs[0].rms > 0}
    where = max(gains, key=gains.__getitem__, default="")
    if not where or gains[where] <= 10 * max(1.0, min(gains.values())):
        where = max(look.gradients, key=lambda name: look.gradients[name].strength)
    change = (
        f"Changing `{where}` by its own size would change the loss by {top:.2g}, as far as its gradient tells"
    )
    what = f"{change}; a model that knows nothing has a loss of {scale:.2g}."
    yield found(Kind.EXPLODING_GRADIENT, where, what, strength=top, loss=look.value)


def vanishing_gradient(first: Look, run: Run) -> Iterator[Finding]:
    """Find layers whose gradient is far weaker than the strongest, at first and later."""
    faint = _faint(first) & _faint(run.later)
    matrices = [name for name, gradient in first.gradients.items() if gradient.parameter.dim() > 1]
    strong = {id(g.parameter) for name, g in first.gradients.items() if g.strength and name not in faint}
    steps = {id(tensor): change for tensor, change in run.step}
    weak: list[str] = []
    for name in faint.intersection(matrices):
        gradient = first.gradients[name]
        step = steps.get(id(gradient.parameter))
        if (
            # A gradient that vanishes on its way does so for a whole layer. Within one that learns, a parameter may
            # well count for nothing, such as the targets' part in attention, which nearly cancels in the softmax.
            faint.issuperset(_of_the_same_layer(name, matrices))
            # What begins next to zero, as a branch may, and is far from there after a step, is not held up.
            and (step is None or norm(step) <= GROWN * gradient.weight_norm)
            # What stands alone before a small part of the loss is weak there already.
            and first.tape is not None
            and first.tape.downstream(gradient.parameter) & strong
        ):
            weak.append(name)
    if weak:
        where = min(weak, key=lambda name: first.gradients[name].strength)
        share = first.gradients[where].strength / first.strongest
        count = f"{len(weak)} of {len(first.gradients)}"
        what = (
            f"{count} parameters get a far weaker gradient than the strongest, `{where}` {share:.2g} of it."
        )
        numbers: dict[str, Any] = {"gradient_norm": first.gradients[where].norm, "share": share}
        yield found(Kind.VANISHING_GRADIENT, where, what, **numbers)


def _faint(look: Look) -> set[str]:
    limit = VANISHED * look.strongest
    return {name for name, gradient in look.gradients.items() if 0 < gradient.strength < limit}


def _of_the_same_layer(name: str, names: list[str]) -> list[str]:
    """Return those of the names that stand in the module that holds a parameter, or below it."""
    layer = name.rpartition(".")[0]
    return [other for other in names if layer and other.startswith(f"{layer}.")] or [name]
