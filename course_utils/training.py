"""Training a node classifier on one graph, with its history, and with the test set left for the end."""

from __future__ import annotations

import itertools
import math
import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm.auto import trange

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch_geometric.data import Data

__all__ = ["TrainingResult", "train_node_classifier"]

MASKS = ("train_mask", "val_mask", "test_mask")
# A loss this many times that of guessing, and that of the first epoch, is on no way back.
DIVERGED = 1e3


@dataclass(frozen=True)
class TrainingResult:
    """What a training gave.

    Parameters
    ----------
    history
        One row an epoch: `epoch` (from 1), `loss` (training nodes, with dropout), `val_loss`, `train_accuracy` and
        `val_accuracy` (after the step, without dropout).
    best_epoch
        Epoch of the highest validation accuracy, of several that of the lowest validation loss.
    val_accuracy, test_accuracy
        Shares of right answers after that epoch.
    seconds
        Duration of the training.
    """

    history: pd.DataFrame
    best_epoch: int
    val_accuracy: float
    test_accuracy: float
    seconds: float


def train_node_classifier(
    model: nn.Module,
    data: Data,
    *,
    epochs: int = 200,
    lr: float = 0.01,
    weight_decay: float | Mapping[str, float] = 5e-4,
    patience: int | None = None,
    seed: int | None = None,
    progress: bool = True,
) -> TrainingResult:
    """Train a model with Adam and cross-entropy on the whole graph, and leave it as it was in its best epoch.

    The best epoch is chosen on the validation nodes. Labels of test nodes are read once, after the training.

    Parameters
    ----------
    model
        ``model(x, edge_index)``, or ``model(x, edge_index, edge_weight)`` if the data have weights, gives logits
        (N, C). It starts from the weights it has.
    data
        `x` (N, F), `edge_index` (2, E), `y` (N,), `num_classes` C, and the masks `train_mask`, `val_mask` and
        `test_mask` (N,), on the device of the model.
    epochs
        Number of steps.
    lr
        Learning rate.
    weight_decay
        Of all parameters, or of those whose names begin with a key: ``{"convs.0": 5e-4}`` is for the first
        layer of a `GCN` alone, as Kipf & Welling have it (arXiv:1609.02907). Parameters under no key have none.
    patience
        Stop after so many epochs without a better one.
    seed
        Seed of the dropout. The global generator is left as it was. Without a seed it is used as it is.
    progress
        Whether to show a progress bar.

    Returns
    -------
    TrainingResult
        History, best epoch and accuracies.

    Raises
    ------
    ValueError
        If the data or the model's output do not fit together, or a key of `weight_decay` names nothing.
        Raised before the first step.
    FloatingPointError
        If the loss is not finite, or a thousand times that of the first epoch and that of guessing.
    """
    if epochs < 1:
        msg = f"epochs must be 1 or more, got {epochs}."
        raise ValueError(msg)
    _check_data(data)
    _check_output(_predict(model, data), data)
    optimizer = torch.optim.Adam(_group_parameters(model, weight_decay), lr=lr)
    rows: list[dict[str, float]] = []
    best_row: dict[str, float] = {"epoch": 0, "val_accuracy": -math.inf, "val_loss": math.inf}
    best_state: dict[str, Tensor] = {}
    begin = time.perf_counter()
    with nullcontext() if seed is None else torch.random.fork_rng():
        if seed is not None:
            torch.manual_seed(seed)
        bar = trange(1, epochs + 1, desc="Training", unit="epoch", disable=not progress)
        for epoch in bar:
            loss = _step(model, data, optimizer)
            start = max(rows[0]["loss"] if rows else loss, math.log(data.num_classes))
            if not math.isfinite(loss) or loss > DIVERGED * start:
                msg = (
                    f"The loss became {loss:.3g} in epoch {epoch}. Try a lower lr (now {lr}) with a new model; "
                    "notebook 08, the gradient clinic, shows how the cause is found."
                )
                raise FloatingPointError(msg)
            rows.append({"epoch": epoch, "loss": loss} | _evaluate(_predict(model, data), data))
            bar.set_postfix(loss=f"{loss:.3f}", val_accuracy=f"{rows[-1]['val_accuracy']:.3f}")
            if _rank(rows[-1]) > _rank(best_row):
                best_row = rows[-1]
                best_state = {name: value.clone() for name, value in model.state_dict().items()}
            elif patience is not None and epoch - best_row["epoch"] >= patience:
                break
    seconds = time.perf_counter() - begin
    model.load_state_dict(best_state)
    right = _predict(model, data).argmax(dim=1) == data.y
    return TrainingResult(
        history=pd.DataFrame(rows),
        best_epoch=int(best_row["epoch"]),
        val_accuracy=best_row["val_accuracy"],
        test_accuracy=float(right[data.test_mask].float().mean()),
        seconds=seconds,
    )


def _run(model: nn.Module, data: Data) -> Tensor:
    edge_weight = getattr(data, "edge_weight", None)
    weights = () if edge_weight is None else (edge_weight,)
    logits: Tensor = model(data.x, data.edge_index, *weights)
    return logits


@torch.no_grad()
def _predict(model: nn.Module, data: Data) -> Tensor:
    model.eval()
    return _run(model, data).detach()  # a bare parameter would keep its gradient even here


def _step(model: nn.Module, data: Data, optimizer: torch.optim.Optimizer) -> float:
    model.train()
    optimizer.zero_grad()
    loss = cross_entropy(_run(model, data)[data.train_mask], data.y[data.train_mask])
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.item()


def _evaluate(logits: Tensor, data: Data) -> dict[str, float]:
    """Look at the training and validation nodes, and at no others."""
    train, val = (logits[mask].argmax(dim=1) == data.y[mask] for mask in (data.train_mask, data.val_mask))
    return {
        "val_loss": float(cross_entropy(logits[data.val_mask], data.y[data.val_mask])),
        "train_accuracy": float(train.float().mean()),
        "val_accuracy": float(val.float().mean()),
    }


def _rank(row: dict[str, float]) -> tuple[float, float]:
    return row["val_accuracy"], -row["val_loss"]


def _group_parameters(model: nn.Module, weight_decay: float | Mapping[str, float]) -> list[dict[str, Any]]:
    """Sort the parameters by their weight decay; the first key that fits counts."""
    decays = {"": weight_decay} if isinstance(weight_decay, (int, float)) else dict(weight_decay)
    groups: dict[str | None, list[nn.Parameter]] = {key: [] for key in (*decays, None)}
    for name, parameter in model.named_parameters():
        key = next((key for key in decays if not key or f"{name}.".startswith(f"{key}.")), None)
        groups[key].append(parameter)
    unused = [key for key in decays if not groups[key]]
    if unused:
        names = [name for name, _ in model.named_parameters()]
        msg = f"weight_decay has keys that begin no parameter's name: {unused}. The names are {names}."
        raise ValueError(msg)
    return [
        {"params": params, "weight_decay": 0.0 if key is None else decays[key]}
        for key, params in groups.items()
        if params
    ]


def _check_data(data: Data) -> None:
    """Check that features, labels, masks and edges fit together."""
    num_nodes = data.x.size(0)
    for name in ("y", *MASKS):
        shape = tuple(getattr(data, name).shape)
        if shape != (num_nodes,):
            msg = f"{name} has shape {shape}, but x has {num_nodes} rows: it must be ({num_nodes},)."
            raise ValueError(msg)
    _check_masks(data)
    edge_index = data.edge_index
    if edge_index.dtype != torch.int64 or edge_index.dim() != 2 or edge_index.size(0) != 2:  # noqa: PLR2004
        msg = (
            f"edge_index must be int64 of shape (2, E), with sources above targets; it is {edge_index.dtype} of "
            f"shape {tuple(edge_index.shape)}."
        )
        raise ValueError(msg)
    if edge_index.numel() and not 0 <= int(edge_index.min()) <= int(edge_index.max()) < num_nodes:
        msg = (
            f"edge_index holds nodes from {int(edge_index.min())} to {int(edge_index.max())}, but there are "
            f"{num_nodes} nodes, numbered from 0. Remove padding, or renumber the nodes."
        )
        raise ValueError(msg)


def _check_masks(data: Data) -> None:
    for name in MASKS:
        mask = getattr(data, name)
        if mask.dtype != torch.bool:
            msg = f"{name} must be of dtype torch.bool, got {mask.dtype}."
            raise ValueError(msg)
        if not mask.any():
            msg = f"{name} is empty: no node would be left to train, choose or test on. Split the nodes anew."
            raise ValueError(msg)
    for a, b in itertools.combinations(MASKS, 2):
        shared = int((getattr(data, a) & getattr(data, b)).sum())
        if shared:
            msg = f"{a} and {b} share {shared} nodes: the accuracy would be too good. Split the nodes anew."
            raise ValueError(msg)


def _check_output(logits: Tensor, data: Data) -> None:
    """Check that there is a logit for each node and class, and that the labels are classes."""
    expected = (data.x.size(0), data.num_classes)
    if tuple(logits.shape) != expected:
        msg = (
            f"The model gives logits of shape {tuple(logits.shape)}; nodes and classes of the data ask for "
            f"{expected}. Set the model's out_channels to {data.num_classes}."
        )
        raise ValueError(msg)
    used = data.y[data.train_mask | data.val_mask | data.test_mask]
    if used.dtype != torch.int64 or not 0 <= int(used.min()) <= int(used.max()) < data.num_classes:
        msg = (
            f"y must be int64 from 0 to {data.num_classes - 1}; on the masked nodes it is {used.dtype} from "
            f"{used.min().item()} to {used.max().item()}."
        )
        raise ValueError(msg)
