"""Checks of a graph before anything is trained on it."""

from __future__ import annotations

import itertools
import sys
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

from course_utils.gradients import _feature_checks as features
from course_utils.gradients._advice import found
from course_utils.gradients._findings import FailureKind as Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from course_utils.gradients._findings import Finding, Severity

MASKS = ("train_mask", "val_mask", "test_mask")
ROLES = ("x", "edge_index", "edge_weight", "edge_attr", "pos", "y", "batch", *MASKS)
# With so many edges, a random orientation of links puts the smaller number first everywhere once in a thousand.
MANY_EDGES = 10
MOST, NEARLY_ALL = 0.5, 0.9  # in a tree of three branches each, two thirds of the nodes are leaves


def check_graph(data: Any) -> list[Finding]:
    """Look for faults in a graph before training on it.

    Looked at, where there: `x`, `edge_index`, `edge_weight`, `edge_attr`, `pos`, `y`, `batch` and the masks.

    Parameters
    ----------
    data
        `torch_geometric.data.Data`, or anything with such attributes, or a dictionary of tensors.

    Returns
    -------
    list of Finding
        Gravest first; empty if nothing was noticed. Isolated nodes, duplicate edges and other things that may well
        be meant so are "info".

    Raises
    ------
    TypeError
        If `data` holds none of these.
    """
    tensors = named_tensors(data)
    if not tensors:
        msg = f"check_graph looks at x, edge_index, y and masks; {type(data).__name__} has none of them."
        raise TypeError(msg)
    rows = features.feature_rows(tensors)
    sizes = [] if rows is None else features.unscaled("x", rows)
    return sorted([*sizes, *look_at_tensors(tensors)], key=lambda finding: finding.rank)


def look_at_tensors(
    tensors: dict[str, Tensor], *, gaps: Severity | None = None, one_way: Severity | None = None
) -> Iterator[Finding]:
    """Yield what is wrong with tensors known by name, the sizes of the features left out.

    `gaps` says how grave it is what may make numbers NaN, and `one_way` that all links lead from lower to higher
    numbers, or back.
    """
    for name in ("x", "edge_weight", "edge_attr", "pos", "y"):
        if name in tensors:
            yield from features.check_numbers(name, tensors[name], gaps)
    if (rows := features.feature_rows(tensors)) is not None:
        yield from features.constant_columns(rows, alone="edge_index" not in tensors)
    num_nodes = count_nodes(tensors)
    if "edge_index" in tensors:
        yield from _check_edges(tensors["edge_index"], num_nodes, tensors, one_way)
        yield from _check_weights(tensors, gaps)
    yield from _check_masks(tensors, num_nodes)
    yield from _check_labels(tensors, num_nodes)


def goes_by_direction(modules: Iterable[nn.Module]) -> bool:
    """Whether there are layers for graphs, and all of them are as good for links in one direction.

    GCN and its kin divide by the root of both ends' degrees, which takes for granted that each link goes both ways.
    """
    layers = [module for module in modules if isinstance(module, MessagePassing)]
    symmetric = {"gcn_norm", "get_laplacian"}
    sources = [vars(sys.modules[kind.__module__]) for module in layers for kind in type(module).__mro__]
    return bool(layers) and all(symmetric.isdisjoint(names) for names in sources)


def named_tensors(data: Any) -> dict[str, Tensor]:
    """Return the tensors of a graph by name; those of a lone tensor or a pair as "x" and "y".

    Left out are single and complex numbers, of which there is nothing to say, and what is sparse beside the features.
    """
    if isinstance(data, Tensor | tuple | list):
        named = dict(zip(("x", "y"), [data] if isinstance(data, Tensor) else data, strict=False))
    elif isinstance(data, dict):
        named = {str(name): value for name, value in data.items()}
    else:
        named = {name: getattr(data, name, None) for name in ROLES}
    return {
        name: value
        for name, value in named.items()
        if isinstance(value, Tensor) and (value.dim() or name == "edge_index") and not value.is_complex()
        if value.layout == torch.strided or name not in {"edge_weight", "y", "batch", *MASKS}
    }


def count_nodes(tensors: dict[str, Tensor]) -> int | None:
    """Return the number of nodes if the features, positions or masks tell it."""
    known = (tensors[name] for name in ("x", "pos", "batch", *MASKS) if name in tensors)
    return next((each.size(0) for each in known if each.dim()), None)


def _check_edges(
    edge_index: Tensor, num_nodes: int | None, tensors: dict[str, Tensor], one_way: Severity | None
) -> Iterator[Finding]:
    where, invalid, shape = "edge_index", Kind.INVALID_EDGE_INDEX, tuple(edge_index.shape)
    if edge_index.layout != torch.strided:  # a sparse adjacency is another way to say it
        return
    if len(shape) != 2 or shape[0] != 2:  # noqa: PLR2004 (two rows: sources and targets)
        is_dense = shape == (num_nodes, num_nodes)
        mend = "A dense adjacency becomes a list of edges with `edge_index = adjacency.nonzero().t()`."
        what = f"`edge_index` has shape {shape}; it must be (2, E), sources above targets."
        yield found(invalid, where, what, remedy=mend if is_dense else None, shape=shape)
        return
    if edge_index.dtype != torch.int64:
        what = f"`edge_index` is {edge_index.dtype}; node numbers must be torch.int64."
        mend = "Write `edge_index = edge_index.long()`, and check that no number was rounded before."
        yield found(invalid, where, what, remedy=mend, dtype=str(edge_index.dtype))
        return
    if not edge_index.numel():
        yield _suspicious("There are no edges, so no node hears of another.", edges=0)
        return
    low, high = int(edge_index.min()), int(edge_index.max())
    if low < 0:
        count = int((edge_index < 0).any(dim=0).sum())
        what = f"{count} edges have a negative node number (the lowest is {low}), which looks like padding."
        mend = "Remove them: `edge_index = edge_index[:, (edge_index >= 0).all(dim=0)]`."
        yield found(invalid, where, what, remedy=mend, negative=count)
    if num_nodes is not None and high >= num_nodes:
        what = f"`edge_index` names node {high}, but there are {num_nodes} nodes, numbered from 0."
        yield found(invalid, where, what, highest=high, num_nodes=num_nodes)
    elif low >= 0:
        yield from _check_links(edge_index, num_nodes or high + 1, tensors, one_way)


def _check_links(
    edge_index: Tensor, num_nodes: int, tensors: dict[str, Tensor], one_way: Severity | None
) -> Iterator[Finding]:
    """Look at a valid list of edges for one that says something else than was meant."""
    source, target = edge_index
    if source.numel() == 2 and not torch.equal(edge_index, edge_index.t()):  # noqa: PLR2004 (2 x 2)
        what = "`edge_index` is 2 x 2: the same numbers transposed are another graph, and nothing would tell."
        yield _suspicious(what, shape=(2, 2))
    loops = source == target
    if loops.all():
        yield _suspicious("All edges lead from a node to itself, so no node hears of another.")
        return
    hears, speaks = (torch.bincount(ends[~loops], minlength=num_nodes) > 0 for ends in (target, source))
    key, back = (source * num_nodes + target).sort().values, (target * num_nodes + source).sort().values
    if duplicates := int((key[1:] == key[:-1]).sum()):
        what = f"{duplicates} of {len(key)} edges are there more than once, and count as often."
        yield _suspicious(what, "info", duplicates=duplicates)
    batch = tensors.get("batch", torch.zeros_like(hears))
    if len(batch) == num_nodes and (crossing := int((batch[source] != batch[target]).sum())):
        what = f"{crossing} edges join nodes of different graphs of the batch."
        mend = "Let `torch_geometric.loader.DataLoader` or `Batch.from_data_list` shift the node numbers."
        yield _suspicious(what, remedy=mend, crossing=crossing)
    learners = _chosen(tensors, num_nodes)
    alone = ~hears & ~speaks
    if isolated := int(alone.sum()):
        what = f"{isolated} of {num_nodes} nodes have no edge."
        beyond = torch.arange(num_nodes, device=alone.device) > (~alone).nonzero().max()
        share = 0.0 if learners is None else float(beyond[learners].float().mean())
        if share > MOST:
            what = (
                f"{what[:-1]}, and {share:.0%} of the training nodes are beyond the last number in any edge."
            )
            mend = "Check the node numbers of the edges: those of a second graph go on where the first one's end."
            yield _suspicious(what, remedy=mend, isolated=isolated)
        else:
            yield _suspicious(what, "info", isolated=isolated)
    if not torch.equal(key, back):
        share = float((~torch.isin(key, back)).sum() / (~loops).sum())
        silent = 0.0 if learners is None else float((~hears & speaks)[learners].float().mean())
        yield from _check_direction(edge_index[:, ~loops], share, silent, one_way)


def _suspicious(what: str, severity: Severity | None = None, **more: Any) -> Finding:
    return found(Kind.SUSPICIOUS_EDGE_INDEX, "edge_index", what, severity, **more)


def _check_direction(
    edge_index: Tensor, share: float, silent: float, severity: Severity | None
) -> Iterator[Finding]:
    """Look at edges of which a share has no edge back, and the share of training nodes that hear nothing."""
    source, target = edge_index
    ordered = bool((source < target).all() or (source > target).all())
    # Where no node both sends and receives, there are two kinds of nodes, and their order is that of the kinds.
    one_kind = bool(torch.isin(source, target).any())
    if silent > NEARLY_ALL:
        what = f"{silent:.0%} of the training nodes send messages and receive none: the edges look reversed."
        mend = "Turn them round: `edge_index = edge_index.flip(0)`. Messages go from row 0 to row 1."
        yield _suspicious(what, remedy=mend, one_way_share=share, training_nodes_that_hear_nothing=silent)
    elif share == 1 and ordered and one_kind and len(source) >= MANY_EDGES:
        what = "Each link is there in one direction only, always between the same ends: half seems lost."
        yield _suspicious(what, severity, one_way_share=share)
    elif share:
        what = f"{share:.0%} of the edges have no edge back. Messages go from row 0 to row 1."
        yield _suspicious(what, "info", one_way_share=share)


def _check_weights(tensors: dict[str, Tensor], severity: Severity | None) -> Iterator[Finding]:
    weight = tensors.get("edge_weight")
    if weight is None or not weight.numel():
        return
    num_edges = tensors["edge_index"].size(-1)
    if weight.size(0) != num_edges:
        what = f"`edge_weight` has {weight.size(0)} entries for {num_edges} edges."
        yield found(Kind.INVALID_EDGE_INDEX, "edge_weight", what)
    if count := int((weight < 0).sum()):
        what = f"{count} of {weight.numel()} edge weights are negative (the lowest is {float(weight.min()):.3g})."
        yield found(Kind.NEGATIVE_EDGE_WEIGHT, "edge_weight", what, severity, negative=count)
    positive = weight[weight > 0].detach().double()
    if positive.numel() and (ratio := float(positive.max() / positive.median())) > features.SPREAD:
        what = f"The largest edge weight is {ratio:.3g} times the typical one."
        yield found(Kind.UNSCALED_FEATURES, "edge_weight", what, ratio=ratio)


def _check_masks(tensors: dict[str, Tensor], num_nodes: int | None) -> Iterator[Finding]:
    masks = {name: tensors[name] for name in MASKS if name in tensors}
    flags = {name: mask for name, mask in masks.items() if mask.dtype == torch.bool}
    for name, mask in masks.items():
        if not mask.numel() or (name in flags and not mask.any()):
            severity: Severity = "error" if name == "train_mask" else "warning"
            yield found(Kind.EMPTY_MASK, name, f"`{name}` chooses no node.", severity, chosen=0)
        elif name not in flags and mask.size(0) == num_nodes and bool(((mask == 0) | (mask == 1)).all()):
            what = f"`{name}` is {mask.dtype}: as an index its zeros and ones choose nodes 0 and 1 only."
            mend = f"Write `data.{name} = data.{name}.bool()`."
            yield found(Kind.EMPTY_MASK, name, what, remedy=mend, dtype=str(mask.dtype))
    for a, b in itertools.combinations(flags, 2):
        if flags[a].shape == flags[b].shape and (shared := int((flags[a] & flags[b]).sum())):
            what = f"`{a}` and `{b}` share {shared} nodes: what is measured on one is known from the other."
            mend = f"Split the nodes anew, or write `data.{b} &= ~data.{a}`."
            yield found(Kind.EMPTY_MASK, b, what, "warning", remedy=mend, shared=shared)


def _check_labels(tensors: dict[str, Tensor], num_nodes: int | None) -> Iterator[Finding]:
    y = tensors.get("y")
    if y is None or not y.dim():
        return
    if "train_mask" in tensors and num_nodes is not None and y.size(0) != num_nodes:
        what = f"`y` has {y.size(0)} entries for {num_nodes} nodes."
        yield found(Kind.TARGET_MISMATCH, "y", what, entries=y.size(0), num_nodes=num_nodes)
    if y.is_floating_point() or y.dtype == torch.bool:
        return
    # -1 and -100 mark what has no label, which is harmless outside the training mask, or everywhere if ignored.
    learners = _chosen(tensors, len(y))
    used = y if learners is None else y[learners]
    negative = used[used < 0]
    if "train_mask" in tensors and not bool((negative == -100).all()):  # noqa: PLR2004 (what PyTorch ignores)
        what = f"{len(negative)} training nodes have a negative label (the lowest is {int(negative.min())})."
        yield found(Kind.TARGET_MISMATCH, "y", what, negative=len(negative))
    if y.dim() == 2 and y.size(1) == 1:  # noqa: PLR2004
        what = f"`y` has shape {tuple(y.shape)}; class labels must be ({y.size(0)},)."
        yield found(Kind.TARGET_MISMATCH, "y", what, "info", remedy="Write `data.y = data.y.squeeze(1)`.")


def _chosen(tensors: dict[str, Tensor], num_nodes: int) -> Tensor | None:
    """Return the training mask if it is one of so many nodes and chooses some."""
    mask = tensors.get("train_mask")
    if mask is None or mask.dtype != torch.bool or mask.shape != (num_nodes,) or not mask.any():
        return None
    return mask
