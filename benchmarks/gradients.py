"""What the monitor adds to a training step of the two-layer GCN on Cora, and what a diagnosis costs in such steps.

Run `python benchmarks/gradients.py`, or with `--quick` for fewer steps. What is compared takes
turns, and processor time is counted, so that other work on the machine disturbs both alike.
"""

from __future__ import annotations

import platform
import sys
import time
from statistics import median
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cross_entropy

from course_utils.datasets import load_cora
from course_utils.gcn import GCN, normalize_rows
from course_utils.gradients import GradientMonitor, diagnose

if TYPE_CHECKING:
    from torch import Tensor
    from torch_geometric.data import Data

HIDDEN = 64


class Training:
    """A GCN, its data and its optimizer."""

    def __init__(self, data: Data) -> None:
        torch.manual_seed(0)
        self.data = data
        self.model = GCN(data.num_features, HIDDEN, data.num_classes)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.01, weight_decay=5e-4)

    def loss(self, model: torch.nn.Module) -> Tensor:
        """Return the loss on the training nodes."""
        data = self.data
        return cross_entropy(model(data.x, data.edge_index)[data.train_mask], data.y[data.train_mask])

    def step(self) -> None:
        """Take one step."""
        self.optimizer.zero_grad()
        self.loss(self.model).backward()
        self.optimizer.step()

    def timed(self, num_steps: int) -> float:
        """Return the milliseconds of processor time of one step."""
        begin = time.process_time()
        for _ in range(num_steps):
            self.step()
        return 1e3 * (time.process_time() - begin) / num_steps


def compare_steps(data: Data, *, rounds: int, histograms: bool) -> tuple[float, float]:
    """Return the medians of milliseconds a step without and with the monitor."""
    training = Training(data)
    training.timed(5)
    bare, watched = [], []
    for _ in range(rounds):
        bare.append(training.timed(10))
        with GradientMonitor(training.model, histograms=histograms):
            watched.append(training.timed(10))
    return median(bare), median(watched)


def cost_of_a_diagnosis(data: Data, *, steps: int, rounds: int) -> float:
    """Return the median of what a diagnosis takes, in steps of the training around it."""
    training = Training(data)
    costs = []
    for _ in range(rounds + 3):
        one = training.timed(5)
        begin = time.process_time()
        diagnose(training.model, training.loss, data=data, optimizer=training.optimizer, steps=steps)
        costs.append(1e3 * (time.process_time() - begin) / one)
    return median(costs[3:])  # the first ones are slow: libraries are loaded, memory is asked for


def main() -> None:
    """Print both tables."""
    rounds = 5 if "--quick" in sys.argv[1:] else 30
    sparse = load_cora()
    sparse.x = normalize_rows(sparse.x)
    dense = sparse.clone()
    dense.x = sparse.x.to_dense()
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}")
    print(f"Cora ({sparse.source}), two layers, {HIDDEN} units; processor time\n")
    print("| features | histograms | ms/step | ms/step with the monitor | added |\n|---|---|---|---|---|")
    for name, data in (("dense", dense), ("sparse", sparse)):
        for histograms in (False, True):
            bare, watched = compare_steps(data, rounds=rounds, histograms=histograms)
            print(
                f"| {name} | {'kept' if histograms else 'not kept'} | {bare:.1f} | {watched:.1f} "
                f"| {watched / bare - 1:+.0%} |",
                flush=True,
            )
    print("\n| features | a diagnosis of 1 step, in steps | of 3 steps | of 10 steps |\n|---|---|---|---|")
    for name, data in (("dense", dense), ("sparse", sparse)):
        costs = [f"{cost_of_a_diagnosis(data, steps=steps, rounds=rounds):.1f}" for steps in (1, 3, 10)]
        print(f"| {name} | {' | '.join(costs)} |", flush=True)


if __name__ == "__main__":
    main()
