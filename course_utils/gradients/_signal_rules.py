"""What a look shows of the signals in the forward pass, each fault at the first place where it shows."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import torch
from torch_geometric.nn import MessagePassing

from course_utils.gradients._advice import found
from course_utils.gradients._feature_checks import as_rows, feature_rows, unscaled
from course_utils.gradients._findings import FailureKind as Kind
from course_utils.gradients._graph_checks import count_nodes
from course_utils.gradients._numbers import stored
from course_utils.gradients._trace import FEW_ROWS, ROOT, Signal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from course_utils.gradients._findings import Finding, Severity
    from course_utils.gradients._look import Look
    from course_utils.gradients._trace import Call

# A unit of a random ReLU layer is dead for rows that are all alike with probability 1/2: a share of dead units beyond
# half by 3.5 standard deviations is no accident, and below three quarters the layer still learns.
DEAD_SHARE, DEVIATIONS = 0.75, 3.5
# A layer with a fifth of its entries in the steep part still passes gradients.
SATURATED_SHARE = 0.8
# Nodes whose directions differ by so little (mean of 1 - cosine) cannot be told apart, if what differs is a single
# number besides: a large bias alone makes directions alike, and leaves differences in all columns. Inputs differ by a
# hundred times as much at least.
ALIKE, BEYOND, DIFFERENT = 1e-3, 0.02, 1e-1
FEW_COLUMNS = 4  # fewer may well be alike
# A signal that has shrunk so much is lost behind any bias; a single map of rows keeps more.
SHRUNK, ONE_HOP = 1e-4, 1e-3


def scale(look: Look, tensors: dict[str, Tensor]) -> Iterator[Finding]:
    """Judge the size of the features where they enter the first layer, which may come after a normalisation."""
    x = tensors.get("x")
    entering = [(call, each) for call in look.trace.calls if call.owns for each in call.data]
    rows = feature_rows(tensors)
    if not entering and rows is not None:
        yield from unscaled("x", rows)
    for call, each in entering:
        same = (name for name, tensor in tensors.items() if tensor is each)
        name = next(same, "x" if x is None or len(each) == len(x) else f"the input of {call.name}")
        findings = [] if "norm" in type(call.module).__name__.lower() else list(unscaled(name, as_rows(each)))
        if findings:
            yield from findings
            return


def dead(look: Look) -> Iterator[Finding]:
    """Find a layer whose units are zero for all rows."""
    for unit in look.activations:
        needed = min(max(DEAD_SHARE, 0.5 + DEVIATIONS * 0.5 / math.sqrt(unit.width)), 1.0)
        if unit.kind != "relu" or not unit.hidden or unit.dead < needed:
            continue
        signal = next((c.outputs[0] for c in look.trace.calls if c.name == unit.where and c.outputs), None)
        if signal is not None and signal.rms == 0:  # zero before the ReLU too: weights that are zero
            continue
        what = f"{unit.dead:.0%} of the {unit.width} units behind `{unit.where}` are zero for all {unit.rows} rows."
        severity: Severity = "error" if unit.dead == 1 else "warning"
        yield found(Kind.DEAD_UNITS, unit.where, what, severity, share=unit.dead, width=unit.width)
        return


def saturated(look: Look) -> Iterator[Finding]:
    """Find a layer whose sigmoids or tanhs are flat where it is."""
    for unit in look.activations:
        if unit.saturated > SATURATED_SHARE and unit.width > 1 and not unit.passed_by:
            what = f"{unit.saturated:.0%} of what enters the {unit.kind} after `{unit.where}` is in its flat part."
            yield found(Kind.SATURATED_UNITS, unit.where, what, share=unit.saturated)
            return


def units_alike(look: Look) -> Iterator[Finding]:
    """Find a layer whose units all compute the same."""
    for call in look.trace.calls:
        gradient = look.gradients.get(f"{call.name}.weight")
        slope = None if gradient is None or gradient.value is None else stored(gradient.value)
        # Units that get different gradients part in the first step.
        parts = slope is not None and not torch.allclose(slope, slope[:1].expand_as(slope), rtol=1e-3, atol=0)
        if call.owns and call.outputs and call.outputs[0].columns_equal and not parts:
            what = f"All {call.outputs[0].shape[-1]} units of `{call.name}` compute the same."
            mend = "Begin with different weights: `layer.reset_parameters()`."
            yield found(Kind.COLLAPSED_REPRESENTATION, call.name, what, remedy=mend)
            return


def outputs_alike(look: Look, tensors: dict[str, Tensor]) -> Iterator[Finding]:
    """Find where the rows became the same that are the same in all that the model puts out.

    What enters the last layer must be the same too: one with weights of zero still learns. A model that is given
    neither rows that differ nor edges has nothing to tell apart.
    """
    calls = [call for call in look.trace.calls if call.outputs]
    given = [each for call in calls for each in call.inputs if each.shape >= (FEW_ROWS,)]
    if "edge_index" not in tensors and all(each.rows_equal for each in given):
        return
    ends = [out for call in calls if call.name == ROOT for out in call.outputs]
    entering = [call.inputs[0] for call in calls if call.owns and call.inputs][-1:]
    if not (ends and entering and all(signal.rows_equal for signal in ends + entering)):
        return
    alike = itertools.takewhile(lambda call: all(out.rows_equal for out in call.outputs), reversed(calls))
    *_, first = alike
    where = first.name
    if look.tape and first.nodes_in and all(each.rows_equal for each in first.inputs if each.shape):
        # What came in was the same already, such as the last step of a recurrence.
        where = look.tape.place(first.nodes_in[0])
    what = f"From `{where}` on all rows are the same, so the model puts out the same for each."
    yield found(Kind.COLLAPSED_REPRESENTATION, where, what, rows=ends[0].shape[0])


def nodes_alike(look: Look, tensors: dict[str, Tensor]) -> Iterator[Finding]:
    """Compare how alike the nodes are behind each layer with how alike they were: only messages make them so."""
    num_rows = count_nodes(tensors)
    if "edge_index" not in tensors or num_rows is None or num_rows < FEW_ROWS:
        return
    outputs = [(call, call.outputs[0]) for call in look.trace.calls if call.owns and call.outputs]
    chain = [
        (call, out)
        for call, out in outputs
        if len(out.shape) == 2 and out.shape[0] == num_rows and out.shape[1] >= FEW_COLUMNS  # noqa: PLR2004
    ]
    alike = [
        (call.name, out)
        for call, out in chain
        if out.distance < ALIKE and out.beyond_one < BEYOND and call.inputs and call.inputs[0].rms
        if not math.isnan(call.inputs[0].distance)  # from a single column only one direction can come
    ]
    # A layer on a graph gives nodes that are the same other values again, by their degrees alone.
    mixed = (
        (look.tape.place(call.nodes_in[0]), call.inputs[0])
        for call in look.trace.calls
        if look.tape and isinstance(call.module, MessagePassing) and call.inputs and call.nodes_in
        if call.inputs[0].shape[:1] == (num_rows,) and call.inputs[0].rms and call.inputs[0].rows_equal
    )
    where, out = next(iter([*alike, *mixed]), ("", None))
    if out is None or any(_is_faint(each) for each in look.trace.calls):
        return
    start = Signal(tensors["x"]).distance if "x" in tensors else math.nan
    if math.isnan(start) and chain:  # sparse features, or a single one
        start = chain[0][1].distance
    if start >= DIFFERENT:
        what = (
            f"Behind `{where}` the {num_rows} nodes point the same way: mean cosine distance {out.distance:.2g}, "
            f"{start:.2g} at the start."
        )
        yield found(Kind.COLLAPSED_REPRESENTATION, where, what, distance=out.distance, at_the_start=start)


def vanishing(look: Look) -> Iterator[Finding]:
    """Find a layer behind which hardly anything is left of the signal, or of what differs between rows."""
    chain = look.layers
    largest = min(max((each.rms for call in chain[:1] for each in call.inputs), default=0.0) or 1.0, 1.0)
    if chain and chain[-1].inputs[0].varying >= SHRUNK * largest:
        chain = []  # It is a branch that has shrunk; what tells the rows apart goes past it.
    for call in chain:
        came, out = call.inputs[0], call.outputs[0]
        if 0 < came.rms < SHRUNK * largest and look.tape and call.nodes_in:
            where = look.tape.place(call.nodes_in[0])
            what = f"What enters `{call.name}` has a size of {came.rms:.2g}; it was {largest:.2g} before."
            yield found(Kind.VANISHING_SIGNAL, where, what, size=came.rms, before=largest)
            return
        # What is added to something larger, or put out at last, is not lost for a layer that comes after.
        place = look.trace.calls.index(call)
        goes_on = next((each.inputs[0].varying for each in chain if each.began > place), math.inf)
        if _is_faint(call) and out.varying and goes_on < ONE_HOP * min(came.varying, 1.0):
            sizes = f"{out.varying:.2g} behind `{call.name}`, and {came.varying:.2g} before it"
            what = f"What differs between rows is {sizes}."
            yield found(Kind.VANISHING_SIGNAL, call.name, what, size=out.rms, before=largest)
            return
        largest = max(largest, out.rms)


def _is_faint(call: Call) -> bool:
    """Whether a single map of rows has lost the signal, as one with tiny weights does."""
    if not (call.inputs and call.outputs and "Linear" in type(call.module).__name__):
        return False
    return call.outputs[0].varying < ONE_HOP * min(call.inputs[0].varying, 1.0)
