"""Checks of a graph and its features before anything is trained on them."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from course_utils.gradients._advice import found
from course_utils.gradients._feature_checks import (
    SPREAD,
    check_features,
    check_numbers,
)
from course_utils.gradients._findings import FailureKind as Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from course_utils.gradients._findings import Finding, Severity

MASKS = ("train_mask", "val_mask", "test_mask")
# With so many edges, a random orientation of links puts the smaller number first everywhere once in a thousand.
MANY_EDGES = 10


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
    return sorted(look_at_tensors(tensors), key=lambda finding: finding.rank)


def look_at_tensors(tensors: dict[str, Tensor], *, scale: bool = True) -> Iterator[Finding]:
    """Yield what is wrong with tensors known by name; `scale` asks for the sizes of the features too."""
    for name in ("x", "edge_weight", "edge_attr", "pos", "y"):
        if name in tensors:
            yield from check_numbers(name, tensors[name])
    yield from check_features(tensors.get("x"), scale=scale)
    num_nodes = count_nodes(tensors)
    if "edge_index" in tensors:
        yield from _check_edges(tensors["edge_index"], num_nodes, tensors)
        yield from _check_weights(tensors)
    yield from _check_masks(tensors, num_nodes)
    yield from _check_labels(tensors, num_nodes)


def named_tensors(data: Any) -> dict[str, Tensor]:
    """Return the tensors of a graph by name; those of a lone tensor or a pair as "x" and "y"."""
    if isinstance(data, Tensor):
        return {"x": data}
    if isinstance(data, dict):
        return {str(name): value for name, value in data.items() if isinstance(value, Tensor)}
    if isinstance(data, tuple | list):
        return {name: v for name, v in zip(("x", "y"), data, strict=False) if isinstance(v, Tensor)}
    names = ("x", "edge_index", "edge_weight", "edge_attr", "pos", "y", "batch", *MASKS)
    values = {name: getattr(data, name, None) for name in names}
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}


def count_nodes(tensors: dict[str, Tensor]) -> int | None:
    """Return the number of nodes if the features, positions or masks tell it."""
    for name in ("x", "pos", "batch", *MASKS):
        if name in tensors and tensors[name].dim():
            return tensors[name].size(0)
    return None


def _check_edges(edge_index: Tensor, num_nodes: int | None, tensors: dict[str, Tensor]) -> Iterator[Finding]:
    shape = tuple(edge_index.shape)
    where, invalid = "edge_index", Kind.INVALID_EDGE_INDEX
    if edge_index.layout != torch.strided:  # a sparse adjacency is another way to say it
        return
    if len(shape) != 2 or shape[0] != 2:  # noqa: PLR2004 (two rows: sources and targets)
        mend = None
        if len(shape) == 2 and shape[0] == shape[1] == num_nodes:  # noqa: PLR2004
            mend = "A dense adjacency becomes a list of edges with `edge_index = adjacency.nonzero().t()`."
        what = f"`edge_index` has shape {shape}; it must be (2, E), sources above targets."
        yield found(invalid, where, what, remedy=mend, shape=shape)
        return
    if edge_index.dtype != torch.int64:
        what = f"`edge_index` is {edge_index.dtype}; node numbers must be torch.int64."
        mend = "Write `edge_index = edge_index.long()`, and check that no number was rounded before."
        yield found(invalid, where, what, remedy=mend, dtype=str(edge_index.dtype))
        return
    if not edge_index.numel():
        what = "There are no edges, so no node hears of another."
        yield found(Kind.SUSPICIOUS_EDGE_INDEX, where, what, edges=0)
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
    if low >= 0 and (num_nodes is None or high < num_nodes):
        yield from _check_shape_of_graph(edge_index, num_nodes or high + 1, tensors)


def _check_shape_of_graph(
    edge_index: Tensor, num_nodes: int, tensors: dict[str, Tensor]
) -> Iterator[Finding]:
    """Look at a valid list of edges for one that says something else than was meant."""
    source, target = edge_index
    where, kind = "edge_index", Kind.SUSPICIOUS_EDGE_INDEX
    if source.numel() == 2 and not torch.equal(edge_index, edge_index.t()):  # noqa: PLR2004 (2 x 2)
        what = "`edge_index` is 2 x 2: the same numbers transposed are another graph, and nothing would tell."
        yield found(kind, where, what, "info", shape=(2, 2))
    loops = source == target
    if loops.all():
        yield found(kind, where, "All edges lead from a node to itself, so no node hears of another.")
        return
    key, back = (source * num_nodes + target).sort().values, (target * num_nodes + source).sort().values
    duplicates = int((key[1:] == key[:-1]).sum())
    if duplicates:
        what = f"{duplicates} of {len(key)} edges are there more than once, and count as often."
        yield found(kind, where, what, "info", duplicates=duplicates)
    batch = tensors.get("batch")
    if (
        batch is not None
        and len(batch) == num_nodes
        and (crossing := int((batch[source] != batch[target]).sum()))
    ):
        what = f"{crossing} edges join nodes of different graphs of the batch."
        mend = "Let `torch_geometric.loader.DataLoader` or `Batch.from_data_list` shift the node numbers."
        yield found(kind, where, what, remedy=mend, crossing=crossing)
    hears, speaks = (torch.bincount(ends[~loops], minlength=num_nodes) > 0 for ends in (target, source))
    isolated = int((~hears & ~speaks).sum())
    if isolated:
        what = f"{isolated} of {num_nodes} nodes have no edge."
        yield found(kind, where, what, "info", isolated=isolated, num_nodes=num_nodes)
    if not torch.equal(key, back):
        yield from _check_direction(edge_index[:, ~loops], hears, speaks, tensors)


def _check_direction(
    edge_index: Tensor, hears: Tensor, speaks: Tensor, tensors: dict[str, Tensor]
) -> Iterator[Finding]:
    source, target = edge_index
    num_nodes = len(hears)
    key = source * num_nodes + target
    one_way = ~torch.isin(key, target * num_nodes + source)
    share = float(one_way.float().mean())
    if not share:
        return
    where, kind = "edge_index", Kind.SUSPICIOUS_EDGE_INDEX
    numbers: dict[str, Any] = {"one_way_share": share}
    mask = tensors.get("train_mask")
    learners = mask if mask is not None and mask.shape == hears.shape and mask.dtype == torch.bool else None
    if learners is not None and learners.any():
        silent = float((~hears & speaks)[learners].float().mean())
        if silent > 0.5:  # noqa: PLR2004 (most)
            what = (
                f"{silent:.0%} of the training nodes send messages and receive none: the edges look reversed."
            )
            mend = "Turn them round: `edge_index = edge_index.flip(0)`. Messages go from row 0 to row 1."
            yield found(kind, where, what, remedy=mend, **numbers, training_nodes_that_hear_nothing=silent)
            return
    ordered = bool((source < target).all() or (source > target).all())
    if share == 1 and ordered and len(key) >= MANY_EDGES:
        what = (
            "Each link is there in one direction only, always between the same ends: half of it seems lost."
        )
        yield found(kind, where, what, **numbers)
    else:
        what = f"{share:.0%} of the edges have no edge back. Messages go from row 0 to row 1."
        yield found(kind, where, what, "info", **numbers)


def _check_weights(tensors: dict[str, Tensor]) -> Iterator[Finding]:
    weight = tensors.get("edge_weight")
    if weight is None or not weight.numel():
        return
    num_edges = tensors["edge_index"].size(-1)
    if weight.size(0) != num_edges:
        what = f"`edge_weight` has {weight.size(0)} entries for {num_edges} edges."
        yield found(Kind.INVALID_EDGE_INDEX, "edge_weight", what)
    count = int((weight < 0).sum())
    if count:
        what = f"{count} of {weight.numel()} edge weights are negative (the lowest is {float(weight.min()):.3g})."
        yield found(Kind.NEGATIVE_EDGE_WEIGHT, "edge_weight", what, negative=count)
    positive = weight[weight > 0].detach().double()
    if positive.numel() and (ratio := float(positive.max() / positive.median())) > SPREAD:
        what = f"The largest edge weight is {ratio:.3g} times the typical one."
        yield found(Kind.UNSCALED_FEATURES, "edge_weight", what, ratio=ratio)


def _check_masks(tensors: dict[str, Tensor], num_nodes: int | None) -> Iterator[Finding]:
    masks = {name: tensors[name] for name in MASKS if name in tensors}
    for name, mask in masks.items():
        empty = not mask.numel() or (mask.dtype == torch.bool and not bool(mask.any()))
        if empty:
            severity: Severity = "error" if name == "train_mask" else "warning"
            yield found(Kind.EMPTY_MASK, name, f"`{name}` chooses no node.", severity, chosen=0)
        elif (
            mask.dtype != torch.bool and mask.size(0) == num_nodes and bool(((mask == 0) | (mask == 1)).all())
        ):
            what = f"`{name}` is {mask.dtype}: as an index its zeros and ones choose nodes 0 and 1 only."
            mend = f"Write `data.{name} = data.{name}.bool()`."
            yield found(Kind.EMPTY_MASK, name, what, remedy=mend, dtype=str(mask.dtype))
    flags = {name: mask for name, mask in masks.items() if mask.dtype == torch.bool}
    for a, b in itertools.combinations(flags, 2):
        if flags[a].shape == flags[b].shape and (shared := int((flags[a] & flags[b]).sum())):
            what = (
                f"`{a}` and `{b}` share {shared} nodes, so what is measured on one is known from the other."
            )
            mend = f"Split the nodes anew, or write `data.{b} &= ~data.{a}`."
            yield found(Kind.EMPTY_MASK, b, what, "warning", remedy=mend, shared=shared)


def _check_labels(tensors: dict[str, Tensor], num_nodes: int | None) -> Iterator[Finding]:
    y = tensors.get("y")
    if y is None or not y.dim():
        return
    mask = tensors.get("train_mask")
    if (
        mask is not None
        and mask.dtype == torch.bool
        and mask.dim() == 1
        and len(mask) == len(y)
        and mask.any()
    ):
        y_used = y[mask]
    else:
        y_used = y
    if mask is not None and num_nodes is not None and y.size(0) != num_nodes:
        what = f"`y` has {y.size(0)} entries for {num_nodes} nodes."
        yield found(Kind.TARGET_MISMATCH, "y", what, shape=tuple(y.shape))
    if not y.is_floating_point() and y.dtype != torch.bool:
        # -1 and -100 mark what has no label, which is harmless outside the training mask, or everywhere if ignored.
        negative = int((y_used < 0).sum()) if mask is not None else 0
        if negative and not bool((y_used[y_used < 0] == -100).all()):  # noqa: PLR2004 (what PyTorch ignores)
            what = f"{negative} training nodes have a negative label (the lowest is {int(y_used.min())})."
            yield found(Kind.TARGET_MISMATCH, "y", what, negative=negative)
        if y.dim() == 2 and y.size(1) == 1:  # noqa: PLR2004
            what = f"`y` has shape {tuple(y.shape)}; class labels must be ({y.size(0)},)."
            yield found(Kind.TARGET_MISMATCH, "y", what, "info", remedy="Write `data.y = data.y.squeeze(1)`.")
