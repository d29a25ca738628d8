"""For each kind of failure: how grave it is, why it stops learning, the mend, and where the course teaches it."""

from __future__ import annotations

from typing import Any, NamedTuple

from course_utils.gradients._findings import FailureKind as Kind
from course_utils.gradients._findings import Finding, Severity

CLINIC = "08 The gradient clinic"
VGAE = "09 The VGAE whose loss becomes NaN"
CURVATURE = "10 The curvature that would not learn"
UNCONNECTED = "11 Unconnected gradients"


class Advice(NamedTuple):
    """What is said of every finding of one kind."""

    severity: Severity
    why: str
    remedy: str
    notebook: str = CLINIC


ADVICE = {
    Kind.CRASH: Advice(
        "error",
        "No loss comes out, so nothing can be learned from it.",
        "Call `loss_fn(model)` by itself and read the last line of the traceback.",
    ),
    Kind.NON_FINITE_INPUT: Advice(
        "error",
        "Each sum that such an entry enters becomes NaN or inf, and soon all weights are.",
        "Fill the gaps before training: `x = x.nan_to_num(0.0)`, or leave those rows out of the mask.",
    ),
    Kind.INVALID_EDGE_INDEX: Advice(
        "error",
        "Messages would go to nodes that are not there, or to the wrong ones.",
        "Edges are int64 of shape (2, E) with numbers from 0 to N - 1: `edge_index = edge_index.t().contiguous()` "
        "for rows of pairs, `edge_index - 1` where counting began at 1.",
    ),
    Kind.EMPTY_MASK: Advice(
        "error",
        "The loss is an average over the chosen nodes: 0/0 over none, and misleading over the wrong ones.",
        "Choose training nodes: `data.train_mask = torch.rand(data.num_nodes) < 0.7`.",
    ),
    Kind.TARGET_MISMATCH: Advice(
        "error",
        "The loss compares each prediction with something that is not its target.",
        "Give both the same shape and the type the loss wants: `loss = mse_loss(out.squeeze(-1), y.float())` for "
        "quantities, `cross_entropy(out, y.long())` with labels from 0 to C - 1 for classes.",
    ),
    Kind.NEGATIVE_EDGE_WEIGHT: Advice(
        "warning",
        "Normalised convolutions divide by the square root of a node's summed weights, NaN if the sum is negative.",
        "Weights say how strong a tie is: `edge_weight = edge_weight.abs()`, or `torch.exp(-distance)`; signs can "
        "go into `edge_attr`.",
    ),
    Kind.SUSPICIOUS_EDGE_INDEX: Advice(
        "warning",
        "The model trains without a complaint, on another graph than you meant.",
        "For links without direction write `edge_index = torch_geometric.utils.to_undirected(edge_index)`, and draw "
        "a few nodes with their neighbours to check.",
    ),
    Kind.UNSCALED_FEATURES: Advice(
        "warning",
        "The largest entries rule each sum, and no learning rate suits both the large and the small.",
        "Standardise the columns: `x = (x - x.mean(0)) / x.std(0).clamp(min=1e-6)`.",
    ),
    Kind.CONSTANT_FEATURE: Advice(
        "warning",
        "It tells no row from another, and dividing by its standard deviation of 0 gives NaN.",
        "Leave such columns out: `x = x[:, x.std(0) > 0]`.",
    ),
    Kind.NON_FINITE_ACTIVATION: Advice(
        "error",
        "From here on all is NaN or inf, and so are the loss and the gradients.",
        "Keep what goes into exp, log, sqrt and divisions in range, before and not after: "
        "`logvar = logvar.clamp(max=20)`, `log(x.clamp(min=1e-6))`, `a / b.clamp(min=1e-6)`.",
        VGAE,
    ),
    Kind.DEAD_UNITS: Advice(
        "error",
        "A ReLU that is zero for all rows has derivative zero for all of them: its weights get no gradient.",
        "Begin anew with `layer.reset_parameters()` and a lower learning rate, or use "
        "`torch.nn.functional.leaky_relu`.",
    ),
    Kind.SATURATED_UNITS: Advice(
        "warning",
        "Where a sigmoid or tanh is flat its derivative is nearly zero, and hardly any gradient gets through.",
        "Make its inputs smaller: scale the features, begin with `torch.nn.init.xavier_uniform_(layer.weight)`, or "
        "put `torch.nn.LayerNorm(width)` before it.",
    ),
    Kind.COLLAPSED_REPRESENTATION: Advice(
        "warning",
        "What follows cannot tell the nodes apart, however it is trained.",
        "Use fewer layers, or `GCN(..., residual='initial')`, which keeps a share of the input in each.",
        "07 How many layers?",
    ),
    Kind.VANISHING_SIGNAL: Advice(
        "warning",
        "The output hardly depends on the input, and gradients shrink on the way back as the signal did.",
        "Begin with `torch.nn.init.kaiming_uniform_(layer.weight, nonlinearity='relu')`; in deep networks add "
        "normalisation (`torch.nn.LayerNorm(width)`) or residual connections.",
    ),
    Kind.NON_FINITE_LOSS: Advice(
        "error",
        "A loss that is NaN or inf has gradients of NaN, and after one step so are the weights.",
        "Use a loss that takes logits, `binary_cross_entropy_with_logits(out, y)`, in place of "
        "`log(sigmoid(out))`, and bound what goes into exp.",
        VGAE,
    ),
    Kind.DETACHED_LOSS: Advice(
        "error",
        "`loss.backward()` cannot reach any parameter, so none will change.",
        "Return the loss as a tensor, and stay in tensors on the way to it: no `.item()`, `.detach()`, `.numpy()`, "
        "`argmax` or `with torch.no_grad():`.",
        UNCONNECTED,
    ),
    Kind.UNREGISTERED_PARAMETER: Advice(
        "error",
        "`model.parameters()` does not list it, so an optimizer never moves it, nor is it saved.",
        "Make layers in `__init__`, lists of them as `self.layers = torch.nn.ModuleList(layers)`, and single "
        "tensors as `self.scale = torch.nn.Parameter(torch.ones(1))`.",
        UNCONNECTED,
    ),
    Kind.UNCONNECTED_PARAMETER: Advice(
        "error",
        "The loss does not depend on it: its gradient is None, and optimizers skip it.",
        "Use its result in `forward` without cutting the graph (`.detach()`, `.item()`, `argmax`, `no_grad`). If "
        "it is meant to rest, say so: `diagnose(..., expected_unused=['{where}'])`.",
        UNCONNECTED,
    ),
    Kind.NOT_IN_OPTIMIZER: Advice(
        "error",
        "It gets a gradient at each step, and nothing ever applies it.",
        "Make the optimizer when the model is complete: `torch.optim.Adam(model.parameters(), lr=0.01)`, or "
        "`optimizer.add_param_group({{'params': model.{where}.parameters()}})`.",
        UNCONNECTED,
    ),
    Kind.FROZEN_PARAMETER: Advice(
        "info",
        "It keeps its value, which may well be meant so.",
        "To train it, write `model.{where}.requires_grad_(True)`.",
        UNCONNECTED,
    ),
    Kind.NON_FINITE_GRADIENT: Advice(
        "error",
        "The loss is finite, but the next step makes the weights NaN; with Adam one infinite entry is enough.",
        "Keep away from the point where the derivative is infinite: `(x + 1e-12).sqrt()`, "
        "`(difference.square().sum(-1) + 1e-12).sqrt()`; inside `torch.where` bound the input, not the result.",
        VGAE,
    ),
    Kind.BLOCKED_GRADIENT: Advice(
        "error",
        "The derivative is zero there, and a parameter that gets no gradient never comes back on its own.",
        "Replace the bound by a smooth one, `torch.nn.functional.softplus(raw) + 1e-3`, or move it behind the step: "
        "`with torch.no_grad(): parameter.clamp_(low, high)` after `optimizer.step()`.",
        CURVATURE,
    ),
    Kind.ZERO_GRADIENT: Advice(
        "error",
        "A gradient of exactly zero moves nothing, and it does not pass after a few steps.",
        "Look for a factor of zero on its way to the loss: weights that all begin at zero "
        "(`layer.reset_parameters()` mends that), a mask, `dropout(p=1.0)`.",
    ),
    Kind.VANISHING_GRADIENT: Advice(
        "warning",
        "While the last layers learn, these stay as they began.",
        "Use ReLU in place of sigmoid, `torch.nn.BatchNorm1d(width)` between layers, residual connections "
        "(`h = h + layer(h)`), or fewer layers.",
    ),
    Kind.EXPLODING_GRADIENT: Advice(
        "error",
        "A step along such a gradient throws the weights far away, and the loss jumps or overflows.",
        "Begin smaller (`layer.reset_parameters()`), or cut the norm before each step: "
        "`torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)`.",
    ),
    Kind.LEARNING_RATE_TOO_HIGH: Advice(
        "error",
        "Each step overshoots, so that the loss climbs or jumps in place of falling.",
        "Divide the learning rate by ten until the loss falls: `torch.optim.Adam(model.parameters(), lr=0.01)`.",
    ),
    Kind.LEARNING_RATE_TOO_LOW: Advice(
        "warning",
        "The weights do not move measurably, so the loss will not within any training you can wait for.",
        "Multiply the learning rate by ten until the loss falls at once: "
        "`torch.optim.Adam(model.parameters(), lr=0.01)`.",
    ),
}


def found(
    kind: Kind,
    where: str,
    what: str,
    severity: Severity | None = None,
    *,
    remedy: str | None = None,
    **evidence: Any,
) -> Finding:
    """Make a finding; `severity` and `remedy` are those of its kind unless given."""
    advice = ADVICE[kind]
    severity = severity or advice.severity
    # What is only good to know stops nothing, and needs no mend.
    harmless = severity == "info" != advice.severity
    why = "" if harmless else f" {advice.why}"
    mend = "None, if it is meant so." if harmless else advice.remedy.format(where=where)
    return Finding(
        kind=kind,
        severity=severity,
        where=where,
        message=what + why,
        remedy=remedy or mend,
        evidence=evidence,
        notebook=advice.notebook,
    )
