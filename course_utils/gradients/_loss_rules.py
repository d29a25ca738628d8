"""What a look shows of the loss: whether there is one, what it compares, and where numbers are lost on its way."""

from __future__ import annotations

import math
import traceback
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from course_utils.gradients._advice import CLINIC, found
from course_utils.gradients._findings import FailureKind as Kind
from course_utils.gradients._tape import behind_views, node_shape, operation, saved

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch.autograd.graph import Node

    from course_utils.gradients._findings import Finding, Severity
    from course_utils.gradients._look import Look, Patient

# Operations between differences and the loss that they make up.
SUMS = ("Mean", "Sum", "Pow", "Abs", "Sqrt", "Mul", "Div", "Add", "Neg", "Log", "Maximum", "Where", "Clamp")
ROUNDING = 1e-3  # by which the logarithm of a probability may lie above 0
# What is said of an average over nothing, such as that of a graph without nodes in a padded batch.
OVER_NOTHING: dict[str, Any] = {
    "remedy": "Leave out graphs without nodes, or divide by one at least: `total / count.clamp(min=1)`. Before a "
    "softmax leave an entry of each row unmasked.",
    "notebook": CLINIC,
}


def first_line(error: Exception) -> str:
    """Write an exception in one line."""
    return f"{type(error).__name__}: {error}".strip().splitlines()[0]


def crash(look: Look) -> Iterator[Finding]:
    """Say what an exception, or a loss that is none, means."""
    loss = look.loss
    if look.error is not None:
        text = first_line(look.error)
        if look.error_in == "backward":
            mend = "Call `loss_fn(model).backward()` by itself; `torch.autograd.detect_anomaly()` names the place."
            yield found(Kind.CRASH, "loss", f"`loss.backward()` raised {text}.", remedy=mend, error=text)
        elif name := _loss_function(look.error):
            what = f"`{name}` raised {text}: its targets do not fit the model's output."
            where = "loss" if "elements of input" in text else "y"  # logits in place of probabilities
            yield found(Kind.TARGET_MISMATCH, where, what, error=text)
        else:
            what = f"`loss_fn` raised {text}, in `{look.error_in}`."
            yield found(Kind.CRASH, look.error_in, what, error=text)
    elif not isinstance(loss, Tensor) and not hasattr(loss, "__float__"):
        what = f"`loss_fn` returned {type(loss).__name__}, not a tensor."
        yield found(Kind.CRASH, "loss", what, remedy="End the function with `return loss`.")
    elif isinstance(loss, Tensor) and loss.numel() != 1:
        what = f"`loss_fn` returned a tensor of shape {tuple(loss.shape)}; a loss is one number."
        yield found(Kind.CRASH, "loss", what, remedy="Return its mean: `return loss.mean()`.")


def _loss_function(error: Exception) -> str:
    """Name the loss function of PyTorch that raised an error; empty if it was none."""
    frames = (frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__))
    names = [code.co_name for code in frames if code.co_filename == functional.__file__]
    endings = ("_loss", "cross_entropy", "kl_div", "with_logits")
    return next((name for name in names if name.endswith(endings)), "")


def detached(look: Look, patient: Patient) -> Iterator[Finding]:
    """Say why a loss has no graph behind it, or none that leads to the model."""
    loss, mend = look.loss, None
    if not isinstance(loss, Tensor):
        what = f"`loss_fn` returned a plain {type(loss).__name__}."
    elif loss.requires_grad:
        what = "The loss depends on new tensors that ask for a gradient themselves, and knows nothing of the model."
    elif not patient.trainable:
        what = "All parameters are frozen, so the loss depends on none that may change."
        mend = "Thaw what should learn: `model.requires_grad_(True)`."
    elif not torch.is_grad_enabled():
        what = "Gradients are switched off where the doctor was called."
        mend = "Leave the `torch.no_grad()` block, or call `torch.set_grad_enabled(True)`."
    else:
        ends = (call for call in look.trace.calls if not call.nodes_out)
        cut = [call for call in ends if any(each.requires_grad for each in call.module.parameters())]
        why = "The modules' outputs have one, so it was cut between them and the loss."
        if cut:
            why = f"`{cut[0].name}` has parameters, and its output depends on none of them: computed under `no_grad`."
        what = f"The loss has no graph behind it. {why}"
    yield found(Kind.DETACHED_LOSS, "loss", what, remedy=mend)


def targets(look: Look) -> Iterator[Finding]:
    """Look at how the loss compares output and target."""
    warned = next((text for text in look.warnings if "Using a target size" in text), None)
    if (count := _broadcast(look)) is not None:
        pairs = f"all {count} x {count} pairs, not {count} differences"
        what = f"Output ({count}, 1) and target ({count},) were subtracted: {pairs}."
        yield found(Kind.TARGET_MISMATCH, "y", what, shape=(count, count))
    elif warned is not None:
        yield found(Kind.TARGET_MISMATCH, "y", f"PyTorch warned: {warned.split('. ')[0]}.")
    yield from _squashed_twice(look)
    for node in look.nodes:
        scores = saved(node, "self") if node.name().startswith("NllLoss") else None
        if scores is not None and scores.numel() and (high := float(scores.max())) > ROUNDING:
            what = f"`nll_loss` takes logarithms of probabilities, none above 0, and is given {high:.3g}."
            mend = "Take `cross_entropy(out, y)`, or `nll_loss(out.log_softmax(dim=-1), y)`."
            yield found(Kind.TARGET_MISMATCH, "loss", what, remedy=mend, highest=high)
        target = saved(node, "target") if node.name().startswith("BinaryCrossEntropy") else None
        if target is not None and target.numel() and (target.min() < 0 or target.max() > 1):
            low, high = float(target.min()), float(target.max())
            what = f"The targets of the binary cross-entropy run from {low:.3g} to {high:.3g}, not 0 to 1."
            yield found(Kind.TARGET_MISMATCH, "y", what, lowest=low, highest=high)


def _squashed_twice(look: Look) -> Iterator[Finding]:
    """Find a loss that makes probabilities of what it is given, and is given probabilities."""
    for node in look.nodes:
        inside = _behind_choices(node)
        if operation(node).startswith("NllLoss") and inside is not None and operation(inside) == "LogSoftmax":
            inside = _behind_choices(inside)
        elif not operation(node).startswith("BinaryCrossEntropyWithLogits"):
            continue
        if inside is not None and (name := operation(inside).lower()) in {"softmax", "sigmoid"}:
            what = (
                f"The loss takes logits and makes probabilities of them, and is given the output of a {name}."
            )
            mend = f"Leave the {name} away before the loss, and take it where probabilities are wanted."
            yield found(Kind.TARGET_MISMATCH, "loss", what, "warning", remedy=mend)


def _behind_choices(node: Node) -> Node | None:
    """Return the operation before one, those left out that only choose rows or columns."""
    before = behind_views(node)
    chooses = before is not None and operation(before).startswith(("Index", "Select", "Slice"))
    return _behind_choices(before) if before is not None and chooses else before


def non_finite(look: Look) -> Iterator[Finding]:
    """Find the first module that turned numbers into NaN or inf, or the loss itself."""
    for call in look.trace.calls:
        bad = next((out for out in call.outputs if not out.finite), None)
        if bad is None or not all(signal.finite for signal in call.inputs):
            continue
        # Masks of -inf before a softmax are an ordinary thing.
        if not look.is_finite or bad.num_nan:
            how, advice = _first_bad_operation(look, call.name)
            count = f"{bad.num_nan} NaN and {bad.num_inf} infinite entries of {math.prod(bad.shape)}"
            what = f"`{call.name}` got finite numbers and put out {count}{how}."
            severity: Severity = "warning" if look.is_finite else "error"
            yield found(
                Kind.NON_FINITE_ACTIVATION,
                call.name,
                what,
                severity,
                **advice,
                nan=bad.num_nan,
                inf=bad.num_inf,
            )
            return
    if math.isfinite(look.value):
        return
    if _averages_nothing(look):
        yield found(Kind.EMPTY_MASK, "loss", "The loss is an average over no entries: 0/0.", loss=look.value)
        return
    how, advice = _first_bad_operation(look, "loss")
    size = max((out.rms for call in look.trace.calls for out in call.outputs), default=0.0)
    what = f"The loss is {look.value}, and all modules put out finite numbers{how}."
    yield found(Kind.NON_FINITE_LOSS, "loss", what, **advice, loss=look.value, largest_output=size)


def _first_bad_operation(look: Look, region: str) -> tuple[str, dict[str, Any]]:
    """Say what the first operation of a module did whose numbers are not finite, and give its own advice if any."""
    for node in reversed(look.nodes):
        if look.tape is None or look.tape.region.get(node, "loss") != region:
            continue
        before, after, divisor = saved(node, "self"), saved(node, "result"), saved(node, "other")
        name = operation(node).lower()
        is_lost = after is not None and after.is_floating_point() and not bool(after.isfinite().all())
        has_pole = name.startswith(("log", "sqrt", "rsqrt", "pow"))
        if has_pole and before is not None and bool((before <= 0).any()):
            return f"; `{name}` was given {float(before.min()):.3g} there", {}
        if name.startswith("mean") and 0 in getattr(node, "_saved_self_sym_sizes", ()):
            return "; a mean over no entries was taken there", OVER_NOTHING
        if name == "div" and divisor is not None and bool((divisor == 0).any()):
            # What is divided by whole numbers is an average; the rest are norms and the like.
            is_count = bool((divisor == divisor.round()).all())
            return "; something was divided by zero there", OVER_NOTHING if is_count else {}
        if is_lost and after is not None and "softmax" in name and bool(after.isfinite().any()):
            return "; `softmax` had rows there in which everything is masked", OVER_NOTHING
        if is_lost:
            return f"; `{name}` overflowed there", {}
    return "", {}


def _averages_nothing(look: Look) -> bool:
    """Whether the loss is an average over no entries, as of an empty mask."""
    for node in look.nodes:
        name = node.name()
        total, inputs = saved(node, "total_weight"), saved(node, "self")
        if name.startswith("NllLoss"):
            empty = total is not None and float(total) == 0
        elif name.startswith("MeanBackward0"):
            empty = getattr(node, "_saved_self_sym_numel", 1) == 0
        else:
            empty = "Loss" in name and inputs is not None and not inputs.numel()
        if empty:
            return True
    return False


def _broadcast(look: Look) -> int | None:
    """Return N if differences of shape (N, N) should have been N: (N, 1) minus (N,), only one of them learned."""
    todo = look.nodes[:1]
    while todo:  # from the loss back through what sums up differences
        node = todo.pop()
        learned = [before for before, _ in node.next_functions if before is not None]
        if node.name().startswith(("Sub", "Rsub")) and len(learned) == 1:
            shape, count = node_shape(node), node_shape(node)[:1]
            if shape == 2 * count > (1, 1) and node_shape(learned[0]) in {(*count, 1), count}:
                return shape[0]
        elif node.name().startswith(SUMS):
            todo += learned
    return None
