"""For each kind of failure: how grave it is, why it stops learning, the mend, and where the course teaches it."""

from __future__ import annotations

import re
from typing import Any, NamedTuple, cast

from course_utils.gradients._findings import FailureKind as Kind
from course_utils.gradients._findings import Finding, Severity

CLINIC = "08 The gradient clinic"
NOTEBOOKS = {
    "07": "07 How many layers?",
    "08": CLINIC,
    "09": "09 The VGAE whose loss becomes NaN",
    "10": "10 The curvature that would not learn",
    "11": "11 Unconnected gradients",
}
# Kind, severity and notebook; below them why it stops learning, and behind the arrow the mend.
TABLE = """\
crash | error | 08
  No loss comes out, so nothing can be learned from it.
  -> Call `loss_fn(model)` by itself and read the last line of the traceback.
non_finite_input | error | 08
  Each sum that such an entry enters becomes NaN or inf, and soon all weights are.
  -> Fill the gaps before training: `x = x.nan_to_num(0.0)`, or leave those rows out of the mask.
invalid_edge_index | error | 08
  Messages would go to nodes that are not there, or to the wrong ones.
  -> Edges are int64 of shape (2, E) with numbers from 0 to N - 1: `edge_index = edge_index.t().contiguous()`
  for rows of pairs, `edge_index - 1` where counting began at 1.
empty_mask | error | 08
  A loss or a score is an average over the chosen nodes: 0/0 over none, and misleading over the wrong ones.
  -> Choose training nodes: `data.train_mask = torch.rand(data.num_nodes) < 0.7`.
target_mismatch | error | 08
  A loss compares each prediction with its target, and these do not go together.
  -> Give both the same shape and the type the loss wants: `loss = mse_loss(out.squeeze(-1), y.float())` for
  quantities, `cross_entropy(out, y.long())` with labels from 0 to C - 1 for classes.
negative_edge_weight | warning | 08
  Normalised convolutions divide by the square root of a node's summed weights, NaN if the sum is negative.
  -> Weights say how strong a tie is: `edge_weight = edge_weight.abs()`, or `torch.exp(-distance)`; signs can go
  into `edge_attr`.
suspicious_edge_index | warning | 08
  The model trains without a complaint, on another graph than you meant.
  -> For links without direction write `edge_index = torch_geometric.utils.to_undirected(edge_index)`, and draw
  a few nodes with their neighbours to check.
unscaled_features | warning | 08
  The largest entries rule each sum, and no learning rate suits both the large and the small.
  -> Standardise the columns: `x = (x - x.mean(0)) / x.std(0).clamp(min=1e-6)`.
constant_feature | warning | 08
  It tells no row from another, and dividing by its standard deviation of 0 gives NaN.
  -> Leave such columns out: `x = x[:, x.std(0) > 0]`.
non_finite_activation | error | 09
  From here on all is NaN or inf, and so are the loss and the gradients.
  -> Keep what goes into exp, log, sqrt and divisions in range, before and not after: `logvar =
  logvar.clamp(max=20)`, `log(x.clamp(min=1e-6))`, `a / b.clamp(min=1e-6)`.
dead_units | error | 08
  A ReLU that is zero for all rows has derivative zero for all of them: its weights get no gradient.
  -> Begin anew with `layer.reset_parameters()` and a lower learning rate, or use
  `torch.nn.functional.leaky_relu`.
saturated_units | warning | 08
  Where a sigmoid or tanh is flat its derivative is nearly zero, and hardly any gradient gets through.
  -> Make its inputs smaller: scale the features, begin with `torch.nn.init.xavier_uniform_(layer.weight)`, or
  put `torch.nn.LayerNorm(width)` before it.
collapsed_representation | warning | 07
  What follows cannot tell the nodes apart, however it is trained.
  -> Use fewer layers, or `GCN(..., residual='initial')`, which keeps a share of the input in each.
vanishing_signal | warning | 08
  The output hardly depends on the input, and gradients shrink on the way back as the signal did.
  -> Begin with `torch.nn.init.kaiming_uniform_(layer.weight, nonlinearity='relu')`; in deep networks add
  normalisation (`torch.nn.LayerNorm(width)`) or residual connections.
non_finite_loss | error | 09
  A loss that is NaN or inf has gradients of NaN, and after one step so are the weights.
  -> Use a loss that takes logits, `binary_cross_entropy_with_logits(out, y)`, in place of `log(sigmoid(out))`,
  and bound what goes into exp.
detached_loss | error | 11
  `loss.backward()` cannot reach any parameter, so none will change.
  -> Return the loss as a tensor, and stay in tensors on the way to it: no `.item()`, `.detach()`, `.numpy()`,
  `argmax` or `with torch.no_grad():`.
unregistered_parameter | error | 11
  `model.parameters()` does not list it, so an optimizer never moves it, nor is it saved.
  -> Make layers in `__init__`, lists of them as `self.layers = torch.nn.ModuleList(layers)`, and single tensors
  as `self.scale = torch.nn.Parameter(torch.ones(1))`.
unconnected_parameter | error | 11
  The loss does not depend on it: its gradient is None, and optimizers skip it.
  -> Use its result in `forward` without cutting the graph (`.detach()`, `.item()`, `argmax`, `no_grad`). If it
  is meant to rest, say so: `diagnose(..., expected_unused=['{where}'])`.
not_in_optimizer | error | 11
  It gets a gradient at each step, and nothing ever applies it.
  -> Make the optimizer when the model is complete: `torch.optim.Adam(model.parameters(), lr=0.01)`, or
  `optimizer.add_param_group({{'params': model.{where}.parameters()}})`.
frozen_parameter | info | 11
  It keeps its value, which may well be meant so.
  -> To train it, write `model.{where}.requires_grad_(True)`.
non_finite_gradient | error | 09
  The loss is finite, but the next step makes the weights NaN; with Adam one infinite entry is enough.
  -> Keep away from the point where the derivative is infinite: `(x + 1e-12).sqrt()`,
  `(difference.square().sum(-1) + 1e-12).sqrt()`; inside `torch.where` bound the input, not the result.
blocked_gradient | error | 10
  The derivative is zero there, and a parameter that gets no gradient never comes back on its own.
  -> Replace the bound by a smooth one, `torch.nn.functional.softplus(raw) + 1e-3`, or move it behind the step:
  `with torch.no_grad(): parameter.clamp_(low, high)` after `optimizer.step()`.
zero_gradient | error | 08
  A gradient of exactly zero moves nothing, and it does not pass after a few steps.
  -> Look for a factor of zero on its way to the loss: weights that all begin at zero
  (`layer.reset_parameters()` mends that), a mask, `dropout(p=1.0)`.
vanishing_gradient | warning | 08
  While the last layers learn, these stay as they began.
  -> Use ReLU in place of sigmoid, `torch.nn.BatchNorm1d(width)` between layers, residual connections (`h = h +
  layer(h)`), or fewer layers.
exploding_gradient | error | 08
  A step along such a gradient throws the weights far away, and the loss jumps or overflows.
  -> Begin smaller (`layer.reset_parameters()`), or cut the norm before each step:
  `torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)`.
learning_rate_too_high | error | 08
  Each step overshoots, so that the loss climbs or jumps in place of falling.
  -> Divide the learning rate by ten until the loss falls: `torch.optim.Adam(model.parameters(), lr=0.01)`.
learning_rate_too_low | warning | 08
  The weights do not move measurably, so the loss will not within any training you can wait for.
  -> Multiply the learning rate by ten until the loss falls at once: `torch.optim.Adam(model.parameters(),
  lr=0.01)`.
"""


class Advice(NamedTuple):
    """What is said of every finding of one kind."""

    severity: Severity
    notebook: str
    why: str
    remedy: str


def _read(table: str) -> dict[Kind, Advice]:
    advice = {}
    for entry in re.split(r"\n(?=\w)", table.strip()):
        head, text = entry.split("\n", 1)
        kind, severity, notebook = head.split(" | ")
        why, remedy = (" ".join(part.split()) for part in text.split("->"))
        advice[Kind(kind)] = Advice(cast("Severity", severity), NOTEBOOKS[notebook], why, remedy)
    return advice


ADVICE = _read(TABLE)


def found(
    kind: Kind,
    where: str,
    what: str,
    severity: Severity | None = None,
    *,
    remedy: str | None = None,
    notebook: str | None = None,
    **evidence: Any,
) -> Finding:
    """Make a finding; `severity`, `remedy` and `notebook` are those of its kind unless given."""
    advice = ADVICE[kind]
    severity, notebook = severity or advice.severity, notebook or advice.notebook
    if severity == "info" != advice.severity:  # What is only good to know stops nothing, and needs no mend.
        return Finding(kind, severity, where, what, remedy or "None, if it is meant so.", evidence, notebook)
    remedy = remedy or advice.remedy.format(where=where)
    return Finding(kind, severity, where, f"{what} {advice.why}", remedy, evidence, notebook)
