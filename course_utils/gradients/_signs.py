"""What a look shows of the loss, the forward pass, and the connections: one rule to a function."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from course_utils.gradients._advice import found
from course_utils.gradients._feature_checks import column_sizes, unscaled
from course_utils.gradients._findings import FailureKind as Kind
from course_utils.gradients._graph_checks import count_nodes
from course_utils.gradients._tape import operation, saved
from course_utils.gradients._trace import Signal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from course_utils.gradients._findings import Finding, Severity
    from course_utils.gradients._look import Look, Patient
    from course_utils.gradients._trace import Call

# Words of the errors that PyTorch raises if targets do not fit.
TARGET_WORDS = ("target", "scalar type long", "labels")
# A unit of a random ReLU layer is dead for rows that are all alike with probability 1/2: a share of dead units beyond
# half by 3.5 standard deviations is no accident, and below three quarters the layer still learns.
DEAD_SHARE, DEVIATIONS = 0.75, 3.5
# A layer with a fifth of its entries in the steep part still passes gradients.
SATURATED_SHARE = 0.8
# Nodes whose directions differ by so little (mean of 1 - cosine) cannot be told apart, if what differs is a single
# number besides: a large bias alone makes directions alike, and leaves differences in all columns. Inputs differ by a
# hundred times as much at least.
ALIKE, BEYOND, DIFFERENT = 1e-3, 0.02, 1e-1
FEW_ROWS, FEW_COLUMNS = 8, 4  # fewer may well be alike
# A signal that has shrunk so much is lost behind any bias.
SHRUNK = 1e-4
ONE_HOP = 1e-3


def crash(look: Look) -> Iterator[Finding]:
    """Say what an exception, or a loss that is none, means."""
    if look.error is not None:
        text = f"{type(look.error).__name__}: {look.error}".strip().splitlines()[0]
        if look.in_backward:
            mend = "Call `loss_fn(model).backward()` by itself; `torch.autograd.detect_anomaly()` names the place."
            yield found(Kind.CRASH, "loss", f"`loss.backward()` raised {text}.", remedy=mend, error=text)
        elif any(word in text.lower() for word in TARGET_WORDS) and look.error_in == "loss":
            what = f"The loss raised {text}: its targets do not fit the model's output."
            yield found(Kind.TARGET_MISMATCH, "y", what, error=text)
        else:
            what = f"`loss_fn` raised {text}, in `{look.error_in}`."
            yield found(Kind.CRASH, look.error_in, what, error=text)
        return
    loss = look.loss
    if isinstance(loss, Tensor):
        if loss.numel() != 1:
            what = f"`loss_fn` returned a tensor of shape {tuple(loss.shape)}; a loss is one number."
            yield found(Kind.CRASH, "loss", what, remedy="Return its mean: `return loss.mean()`.")
    elif not hasattr(loss, "__float__"):
        what = f"`loss_fn` returned {type(loss).__name__}, not a tensor."
        yield found(Kind.CRASH, "loss", what, remedy="End the function with `return loss`.")


def detached(look: Look, patient: Patient) -> Iterator[Finding]:
    """Say why a loss has no graph behind it, or none that leads to the model."""
    loss = look.loss
    if not isinstance(loss, Tensor):
        what = f"`loss_fn` returned a plain {type(loss).__name__}."
        yield found(Kind.DETACHED_LOSS, "loss", what)
    elif loss.requires_grad:
        what = "The loss is a new tensor that asks for a gradient itself, and knows nothing of the model."
        yield found(Kind.DETACHED_LOSS, "loss", what)
    else:
        trainable = [name for name, parameter in patient.registered.items() if parameter.requires_grad]
        if not trainable:
            what = "All parameters are frozen, so the loss depends on none that may change."
            mend = "Thaw what should learn: `model.requires_grad_(True)`."
            yield found(Kind.DETACHED_LOSS, "loss", what, remedy=mend)
        elif not torch.is_grad_enabled():
            what = "Gradients are switched off where the doctor was called."
            mend = "Leave the `torch.no_grad()` block, or call `torch.set_grad_enabled(True)`."
            yield found(Kind.DETACHED_LOSS, "loss", what, remedy=mend)
        else:
            cut = next((call.name for call in look.calls if call.trainable and not call.needs_grad), "loss")
            what = "The loss has no graph behind it." + (
                f" `{cut}` has parameters, and its output depends on none of them: computed under `no_grad`."
                if cut != "loss"
                else " The modules' outputs have one, so it was cut between them and the loss."
            )
            yield found(Kind.DETACHED_LOSS, "loss", what, cut_in=cut)


def non_finite(look: Look) -> Iterator[Finding]:
    """Find the first module that turned numbers into NaN or inf, or the loss itself."""
    harmful = not math.isfinite(look.value) or any(
        each.norm is not None and not math.isfinite(each.norm) for each in look.gradients.values()
    )
    for call in look.calls:
        bad = next((out for out in call.outputs if not out.finite), None)
        if bad is None or not all(signal.finite for signal in call.inputs):
            continue
        # Masks of -inf before a softmax are an ordinary thing.
        if harmful or bad.num_nan:
            what = (
                f"`{call.name}` got finite numbers and put out {bad.num_nan} NaN and {bad.num_inf} infinite entries"
                f" of {math.prod(bad.shape)}{_bad_operation(look, call.name)}."
            )
            severity: Severity = "error" if harmful else "warning"
            yield found(
                Kind.NON_FINITE_ACTIVATION, call.name, what, severity, nan=bad.num_nan, inf=bad.num_inf
            )
            return
    if math.isfinite(look.value):
        return
    if look.averages_nothing:
        what = "The loss is an average over no entries, which is 0/0."
        yield found(Kind.EMPTY_MASK, "loss", what, loss=look.value)
        return
    size = max((out.rms for call in look.calls for out in call.outputs), default=0.0)
    what = f"The loss is {look.value}, and all modules put out finite numbers{_bad_operation(look, 'loss')}."
    yield found(Kind.NON_FINITE_LOSS, "loss", what, loss=look.value, largest_output=size)


def _bad_operation(look: Look, region: str) -> str:
    """Name the first operation of a module whose kept numbers are not finite, or become so."""
    if look.tape is None:
        return ""
    for node in reversed(look.tape.nodes):
        if look.tape.region.get(node, "loss") != region:
            continue
        before, after, divisor = saved(node, "self"), saved(node, "result"), saved(node, "other")
        name = operation(node).lower()
        if (
            before is not None
            and name.startswith(("log", "sqrt", "rsqrt", "pow"))
            and bool((before <= 0).any())
        ):
            return f"; `{name}` was given {float(before.min()):.3g} there"
        if after is not None and after.is_floating_point() and not bool(after.isfinite().all()):
            return f"; `{name}` overflowed there"
        if name == "div" and divisor is not None and bool((divisor == 0).any()):
            return "; something was divided by zero there"
    return ""


def forward(look: Look, *, tensors: dict[str, Tensor], learned: bool) -> Iterator[Finding]:
    """Look for dead, saturated, collapsed and vanishing signals, each at the first place."""
    yield from _scale(look, tensors)
    if learned:  # Whatever its units look like, a model far better than guessing does its work.
        return
    yield from _dead(look)
    for unit in look.activations:
        if unit.saturated > SATURATED_SHARE and unit.width > 1:
            what = f"{unit.saturated:.0%} of what enters the {unit.kind} after `{unit.where}` is in its flat part."
            yield found(Kind.SATURATED_UNITS, unit.where, what, share=unit.saturated)
            break
    yield from _collapsed(look, tensors)
    yield from _vanishing(look)


def _scale(look: Look, tensors: dict[str, Tensor]) -> Iterator[Finding]:
    """Judge the size of the features where they enter the first layer, which may come after a normalisation."""
    x = tensors.get("x")
    entering = [
        (call, sizes)
        for call in look.calls
        if call.owns
        for sizes in call.raw
        if x is None or sizes.shape == tuple(x.shape)
    ]
    if not entering and x is not None and x.dim() == 2 and x.is_floating_point():  # noqa: PLR2004
        yield from unscaled("x", column_sizes(x))
    for call, sizes in entering:
        if "norm" not in type(call.module).__name__.lower():
            findings = list(unscaled("x", sizes))
            yield from findings
            if findings:
                return


def _dead(look: Look) -> Iterator[Finding]:
    for unit in look.activations:
        needed = max(DEAD_SHARE, 0.5 + DEVIATIONS * 0.5 / math.sqrt(unit.width))
        if unit.kind != "relu" or not unit.hidden or unit.dead < min(needed, 1.0):
            continue
        signal = next((c.outputs[0] for c in look.calls if c.name == unit.where and c.outputs), None)
        if signal is not None and signal.rms == 0:  # zero before the ReLU too: weights that are zero
            continue
        what = f"{unit.dead:.0%} of the {unit.width} units behind `{unit.where}` are zero for all {unit.rows} rows."
        severity: Severity = "error" if unit.dead == 1 else "warning"
        yield found(Kind.DEAD_UNITS, unit.where, what, severity, share=unit.dead, width=unit.width)
        return


def _collapsed(look: Look, tensors: dict[str, Tensor]) -> Iterator[Finding]:
    """Compare how alike the nodes are behind each layer with how alike they were."""
    for call in look.calls:
        if call.owns and call.outputs and call.outputs[0].columns_equal:
            what = f"All {call.outputs[0].shape[-1]} units of `{call.name}` compute the same."
            mend = "Begin with different weights: `layer.reset_parameters()`."
            yield found(Kind.COLLAPSED_REPRESENTATION, call.name, what, remedy=mend)
            return
    if "edge_index" not in tensors:  # Only messages make nodes alike.
        return
    num_rows = count_nodes(tensors)
    chain = [
        (call, out)
        for call in look.calls
        if call.owns
        for out in call.outputs[:1]
        if len(out.shape) == 2 and out.shape[0] == num_rows and out.shape[1] >= FEW_COLUMNS  # noqa: PLR2004
    ]
    if num_rows is None or num_rows < FEW_ROWS or not chain:
        return
    x = tensors.get("x")
    start = math.nan if x is None or x.dim() != 2 else Signal.of(x).distance  # noqa: PLR2004 (a matrix)
    if math.isnan(start):  # sparse features, or a single one
        start = chain[0][1].distance
    if start < DIFFERENT:
        return
    if any(_is_faint(call) for call in look.calls):
        return
    for call, out in chain:
        if out.distance < ALIKE and out.beyond_one < BEYOND and call.inputs[0].rms:
            what = (
                f"Behind `{call.name}` the {num_rows} nodes point the same way: mean cosine distance "
                f"{out.distance:.2g}, {start:.2g} at the start."
            )
            yield found(
                Kind.COLLAPSED_REPRESENTATION, call.name, what, distance=out.distance, at_the_start=start
            )
            return


def _is_faint(call: Call) -> bool:
    """Whether a single map of rows has lost the signal, as one with tiny weights does."""
    if not (call.inputs and call.outputs and "Linear" in type(call.module).__name__):
        return False
    return call.outputs[0].varying < ONE_HOP * min(call.inputs[0].varying, 1.0)


def _vanishing(look: Look) -> Iterator[Finding]:
    chain = [(call, call.outputs[0]) for call in look.calls if call.owns and call.outputs]
    largest = max((s.rms for call, _ in chain[:1] for s in call.inputs), default=0.0)
    largest = min(largest, 1.0) if largest else 1.0
    for call, out in chain:
        lost = 0 < out.rms < SHRUNK * largest
        if lost or (_is_faint(call) and out.varying):
            what = (
                f"The signal behind `{call.name}` has a size of {out.rms:.2g}; it was {largest:.2g} before."
                if lost
                else f"What differs between rows is {call.outputs[0].varying:.2g} behind `{call.name}`, and "
                f"{call.inputs[0].varying:.2g} before it."
            )
            yield found(Kind.VANISHING_SIGNAL, call.name, what, size=out.rms, before=largest)
            return
        largest = max(largest, out.rms)


def targets(look: Look) -> Iterator[Finding]:
    """Look at how the loss compares output and target."""
    if look.broadcast is not None:
        count = look.broadcast[0]
        what = (
            f"Output ({count}, 1) and target ({count},) were subtracted: all {count} x {count} pairs, not {count} "
            "differences."
        )
        yield found(Kind.TARGET_MISMATCH, "y", what, shape=look.broadcast)
    elif any("Using a target size" in text for text in look.warnings):
        text = next(text for text in look.warnings if "Using a target size" in text)
        yield found(Kind.TARGET_MISMATCH, "y", f"PyTorch warned: {text.split('. ')[0]}.")
    if look.odd_targets is not None:
        low, high = look.odd_targets
        what = f"The targets of the binary cross-entropy run from {low:.3g} to {high:.3g}, not from 0 to 1."
        yield found(Kind.TARGET_MISMATCH, "y", what, lowest=low, highest=high)
