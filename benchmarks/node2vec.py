"""Node2Vec side by side with PyTorch Geometric's class, and what walks and training cost.

Run `python benchmarks/node2vec.py` on a machine with nothing else to do, or with `--quick` to see that it runs.
PyTorch Geometric's class needs a compiled walker. It gets the course's uniform walker under that name, so
that both sides walk equally fast and everything else of the class runs as it is published.
"""

from __future__ import annotations

import platform
import resource
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_mutual_info_score
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.neighbors import KNeighborsRegressor
from torch import Tensor
from torch_geometric.nn.models import node2vec as pyg

from course_utils.datasets import load_cambridge
from course_utils.node2vec import Node2Vec, train_node2vec
from course_utils.walks import biased_random_walks

if TYPE_CHECKING:
    from collections.abc import Callable

RECIPE = {
    "embedding_dim": 32,
    "walk_length": 20,
    "context_size": 10,
    "walks_per_node": 10,
    "num_negative_samples": 1,
    "p": 1.0,
    "q": 1.0,
    "sparse": True,
}


def describe_machine() -> None:
    """Print what the figures were measured on."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = lines[0].partition(":")[2].strip() if lines else cpu
    print(f"{cpu}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}\n")


def register_walker() -> None:
    """Give PyTorch Geometric's class the walker that it looks for."""
    library = torch.library.Library("pyg", "FRAGMENT")
    library.define(
        "random_walk(Tensor rowptr, Tensor col, Tensor seed, int walk_length, float p, float q) -> Tensor"
    )

    def random_walk(
        rowptr: Tensor, col: Tensor, seed: Tensor, walk_length: int, p: float, q: float
    ) -> Tensor:
        return biased_random_walks(rowptr, col, seed, walk_length, p=p, q=q)

    library.impl("random_walk", random_walk, "CPU")
    register_walker.library = library  # the operator lives as long as this object
    pyg.WITH_PYG_LIB = True


def train_pyg(model: torch.nn.Module, epochs: int) -> float:
    """Train PyTorch Geometric's class and return the last epoch's mean loss."""
    loader = model.loader(batch_size=128, shuffle=True)
    optimizer = torch.optim.SparseAdam(list(model.parameters()), lr=0.01)
    mean = float("nan")
    for _ in range(epochs):
        losses = []
        for pos_rw, neg_rw in loader:
            optimizer.zero_grad()
            loss = model.loss(pos_rw, neg_rw)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        mean = float(np.mean(losses))
    return mean


def train_ours(model: Node2Vec, epochs: int) -> float:
    """Train the course's class and return the last epoch's mean loss."""
    return train_node2vec(model, epochs=epochs, progress=False, seed=0)["loss"].iloc[-1]


def compare(edge_index: Tensor, num_nodes: int, epochs: int) -> Tensor:
    """Print the recipe's cost on both sides and return the course's embeddings."""
    print(f"| recipe, {epochs} epochs | seconds | final loss |\n|---|---|---|")
    seconds, losses, models = {}, {}, {}
    for name, kind, train in (("course_utils", Node2Vec, train_ours), ("PyG", pyg.Node2Vec, train_pyg)):
        torch.manual_seed(0)
        models[name] = kind(edge_index, num_nodes=num_nodes, **RECIPE)
        begin = time.perf_counter()
        losses[name] = train(models[name], epochs)
        seconds[name] = time.perf_counter() - begin
        print(f"| {name} | {seconds[name]:.1f} | {losses[name]:.4f} |", flush=True)
    ratios = [values["PyG"] / values["course_utils"] for values in (seconds, losses)]
    print(f"| ratio | {ratios[0]:.1f} | {ratios[1]:.4f} |\n", flush=True)
    return models["course_utils"]().detach()


def compare_epochs(edge_index: Tensor, num_nodes: int, repeats: int) -> None:
    """Print the time of an epoch on one thread and on all, medians of runs that take turns."""
    print("| threads | course_utils, ms per epoch | PyG, ms per epoch | ratio |\n|---|---|---|---|")
    ours = Node2Vec(edge_index, num_nodes=num_nodes, **RECIPE)
    theirs = pyg.Node2Vec(edge_index, num_nodes=num_nodes, **RECIPE)
    available = torch.get_num_threads()
    for threads in sorted({1, available}):
        torch.set_num_threads(threads)
        times = median_times([lambda: train_ours(ours, 5), lambda: train_pyg(theirs, 1)], repeats)
        epoch = times[0] / 5
        print(
            f"| {threads} | {1000 * epoch:.0f} | {1000 * times[1]:.0f} | {times[1] / epoch:.1f} |", flush=True
        )
    torch.set_num_threads(available)
    print()


def median_times(runs: list[Callable[[], object]], repeats: int) -> list[float]:
    """Return the median duration of each run in seconds. They take turns, so that noise meets all alike."""
    durations: list[list[float]] = [[] for _ in runs]
    for _ in range(repeats):
        for run, seconds in zip(runs, durations, strict=True):
            begin = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - begin)
    return [statistics.median(seconds) for seconds in durations]


def grid(side: int) -> Tensor:
    """Return the edges of a square grid, both ways, shape (2, num_edges)."""
    node = torch.arange(side * side).view(side, side)
    across = torch.stack([node[:, :-1].flatten(), node[:, 1:].flatten()])
    down = torch.stack([node[:-1].flatten(), node[1:].flatten()])
    edges = torch.cat([across, down], dim=1)
    return torch.cat([edges, edges.flip(0)], dim=1)


def preferential(num_nodes: int, links: int) -> Tensor:
    """Return the edges of a graph with hubs, both ways: each node links to ends of earlier links."""
    rng = np.random.default_rng(0)
    ends = np.empty(2 * links * num_nodes, dtype=np.int64)
    ends[: 2 * links] = np.arange(2 * links) % (links + 1)
    for node in range(1, num_nodes):
        place = 2 * links * node
        ends[place : place + links] = ends[rng.integers(place, size=links)]
        ends[place + links : place + 2 * links] = node
    pairs = torch.from_numpy(ends).view(num_nodes, 2, links)
    edges = torch.stack([pairs[:, 0].flatten(), pairs[:, 1].flatten()])
    edges = torch.cat([edges, edges.flip(0)], dim=1)
    return edges[:, edges[0] != edges[1]].unique(dim=1)


def compare_walks(graphs: dict[str, Tensor], repeats: int) -> None:
    """Print the time of uniform and of biased walks: 10 from each node, 19 steps, preparation included."""
    print("| graph | edges | uniform, ms | p=.5 q=2, ms | ratio | p=q=4, ms | ratio |")
    print("|---|---|---|---|---|---|---|")
    for name, edge_index in graphs.items():
        model = Node2Vec(edge_index, 1, 2, 2)
        start = torch.arange(model.num_nodes).repeat(10)
        walk = partial(biased_random_walks, model.rowptr, model.col, start, 19)
        biases = ((1.0, 1.0), (0.5, 2.0), (4.0, 4.0))
        rounds = repeats * (1 + 10**5 // start.numel())
        uniform, paper, strong = median_times([partial(walk, p=p, q=q) for p, q in biases], rounds)
        print(
            f"| {name} | {edge_index.size(1)} | {1000 * uniform:.1f} | {1000 * paper:.1f} "
            f"| {paper / uniform:.2f} | {1000 * strong:.1f} | {strong / uniform:.2f} |",
            flush=True,
        )
    print()


def peak_memory() -> float:
    """Return the most memory this process has held, in GiB."""
    status = Path("/proc/self/status")
    if status.exists():  # `getrusage` would begin with the peak of the process that started this one
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**30


def scale(side: int) -> None:
    """Print one row: an epoch of a lighter recipe on a grid."""
    before = peak_memory()
    model = Node2Vec(grid(side), 16, 10, 5, walks_per_node=1, p=0.5, q=2.0, sparse=True)
    begin = time.perf_counter()
    train_node2vec(model, epochs=1, batch_size=2048, progress=False, seed=0)
    seconds = time.perf_counter() - begin
    print(
        f"| {side**2} | {seconds:.2f} | {1e6 * seconds / side**2:.1f} | {before:.2f} | {peak_memory():.2f} |"
    )


def compare_sizes(sides: tuple[int, ...]) -> None:
    """Print time and memory against the number of nodes, each size in a process of its own."""
    print("Grids, d=16, walks of 10 nodes, context 5, 1 walk per node, p=.5, q=2, batch 2048, 1 epoch\n")
    print("| nodes | seconds | microseconds per node | memory before, GiB | peak memory, GiB |")
    print("|---|---|---|---|---|", flush=True)
    for side in sides:
        subprocess.run([sys.executable, "-W", "ignore", __file__, "--grid", str(side)], check=True)  # noqa: S603 - itself
    print()


def quality(embeddings: Tensor, positions: np.ndarray, names: np.ndarray) -> None:
    """Print how well the embeddings know neighbourhoods and positions."""
    features = torch.nn.functional.normalize(embeddings).numpy()
    clusters = KMeans(len(set(names)), n_init=10, random_state=0).fit_predict(features)
    folds = KFold(5, shuffle=True, random_state=0)
    guesses = cross_val_predict(KNeighborsRegressor(10), features, positions, cv=folds)
    error = np.median(np.linalg.norm(guesses - positions, axis=1))
    print("| quality of the embeddings | |\n|---|---|")
    agreement = adjusted_mutual_info_score(names, clusters)
    print(f"| AMI of k-means({len(set(names))}) with the neighbourhoods | {agreement:.3f} |")
    print(f"| median error of position, nearest-neighbour regression | {error:.0f} m |\n")


def main() -> None:
    """Print all tables."""
    quick = "--quick" in sys.argv[1:]
    describe_machine()
    register_walker()
    network = load_cambridge()
    data = network.data
    print(f"Street graph ({network.source}): {data.num_nodes} nodes, {data.num_edges} edges\n", flush=True)
    embeddings = compare(data.edge_index, data.num_nodes, 1 if quick else 50)
    compare_epochs(data.edge_index, data.num_nodes, 1 if quick else 7)
    quality(embeddings, data.pos.numpy(), network.nodes["neighbourhood"].to_numpy())
    graphs = {
        "streets": data.edge_index,
        "grid": grid(316),
        "preferential attachment": preferential(20_000, 5),
    }
    compare_walks(graphs, 1 if quick else 5)
    compare_sizes((32, 100) if quick else (32, 100, 316, 1000))


if __name__ == "__main__":
    if "--grid" in sys.argv[1:]:
        scale(int(sys.argv[-1]))
    else:
        main()
