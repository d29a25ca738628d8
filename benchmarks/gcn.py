"""Training a GCN side by side with PyTorch Geometric's plain dense loop, and memory on the 70-class graph.

Run `python benchmarks/gcn.py`, or with `--quick` for 20 epochs of one seed instead of 200 of five.
Both sides train with Kipf & Welling's settings (row-normalised words, weight decay on the first layer) and
evaluate the whole graph after every epoch.
"""

from __future__ import annotations

import multiprocessing
import platform
import resource
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, dropout
from torch_geometric.nn import GCNConv

from course_utils.datasets import load_cora
from course_utils.gcn import GCN, normalize_rows
from course_utils.training import train_node_classifier

if TYPE_CHECKING:
    from torch_geometric.data import Data

HIDDEN = 64


class PlainGCN(torch.nn.Module):
    """The network of PyTorch Geometric's examples, at any depth."""

    def __init__(self, in_channels: int, out_channels: int, num_layers: int) -> None:
        super().__init__()
        widths = [in_channels] + [HIDDEN] * (num_layers - 1) + [out_channels]
        self.convs = torch.nn.ModuleList(GCNConv(*widths[i : i + 2]) for i in range(num_layers))

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """Return the logits."""
        for conv in self.convs[:-1]:
            x = conv(dropout(x, training=self.training), edge_index).relu()
        return self.convs[-1](dropout(x, training=self.training), edge_index)


def train_plain(data: Data, num_layers: int, epochs: int) -> tuple[float, float]:
    """Train as PyTorch Geometric's examples do; return test accuracy at best validation, and seconds."""
    model = PlainGCN(data.num_features, data.num_classes, num_layers)
    groups = [
        {"params": model.convs[0].parameters(), "weight_decay": 5e-4},
        {"params": model.convs[1:].parameters()},
    ]
    optimizer = torch.optim.Adam(groups, lr=0.01)
    best_val = test = 0.0
    begin = time.perf_counter()
    for _ in range(epochs):
        model.train()
        optimizer.zero_grad()
        loss = cross_entropy(model(data.x, data.edge_index)[data.train_mask], data.y[data.train_mask])
        loss.backward()
        optimizer.step()
        model.eval()
        with torch.no_grad():
            right = model(data.x, data.edge_index).argmax(dim=1) == data.y
        val = float(right[data.val_mask].float().mean())
        if val > best_val:
            best_val, test = val, float(right[data.test_mask].float().mean())
    return test, time.perf_counter() - begin


def train_ours(data: Data, num_layers: int, epochs: int) -> tuple[float, float]:
    """Train with the package; return the same two numbers."""
    model = GCN(data.num_features, HIDDEN, data.num_classes, num_layers)
    result = train_node_classifier(model, data, epochs=epochs, weight_decay={"convs.0": 5e-4}, progress=False)
    return result.test_accuracy, result.seconds


def compare(sparse: Data, dense: Data, *, epochs: int, num_seeds: int) -> None:
    """Print milliseconds an epoch and accuracy of both sides, and the ratio of the times."""
    print(
        f"{epochs} epochs with evaluation, {HIDDEN} units; shortest time and mean accuracy of {num_seeds} seeds\n"
    )
    print(
        "| layers | PyG dense, ms/epoch | course_utils, ms/epoch | ratio | PyG accuracy | course_utils accuracy |"
    )
    print("|---|---|---|---|---|---|", flush=True)
    for num_layers in (2, 8):
        results = []
        for seed in range(num_seeds):  # in turn, so that both sides meet the same disturbances
            torch.manual_seed(seed)
            theirs = train_plain(dense, num_layers, epochs)
            torch.manual_seed(seed)
            results.append((theirs, train_ours(sparse, num_layers, epochs)))
        table = np.array(results)  # one layer a seed, one row a side, accuracy and seconds
        their_accuracy, our_accuracy = table[:, :, 0].mean(axis=0)
        their_time, our_time = table[:, :, 1].min(axis=0)
        print(
            f"| {num_layers} | {1e3 * their_time / epochs:.1f} | {1e3 * our_time / epochs:.1f} "
            f"| {their_time / our_time:.1f} | {their_accuracy:.3f} | {our_accuracy:.3f} |",
            flush=True,
        )
    print()


def train_full() -> None:
    """Print one row: five epochs on the 70-class graph. Runs in a process of its own."""
    data = load_cora("full")
    test, seconds = train_ours(data, 2, 5)
    # The kernel counts kilobytes on Linux and bytes on macOS.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        1e9 if sys.platform == "darwin" else 1e6 / 1.024
    )
    print(f"| {data.num_nodes} | {data.num_edges} | {seconds / 5:.2f} | {peak:.2f} | {test:.2f} |\n")


def main() -> None:
    """Print all tables."""
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}\n")
    sparse = load_cora()
    sparse.x = normalize_rows(sparse.x)
    dense = sparse.clone()
    dense.x = sparse.x.to_dense()
    print(f"Cora ({sparse.source})")
    quick = "--quick" in sys.argv[1:]
    compare(sparse, dense, epochs=20 if quick else 200, num_seeds=1 if quick else 5)
    print("The shapes of the 70-class graph, 8,710 words\n")
    print(
        "| nodes | edges | seconds/epoch | peak memory of the process, GB | accuracy |\n|---|---|---|---|---|",
        flush=True,
    )
    process = multiprocessing.get_context("spawn").Process(target=train_full)
    process.start()
    process.join()


if __name__ == "__main__":
    main()
