"""Node2Vec side by side with PyTorch Geometric's class, and what walks and training cost.

Run `python benchmarks/node2vec.py`, or with `--quick` for 2 epochs of the comparison instead of 50.
PyTorch Geometric's class needs a compiled walker. It gets the course's uniform walker under that name, so
that both sides walk equally fast and everything else of the class runs as it is published.
"""

from __future__ import annotations

import multiprocessing
import platform
import resource
import sys
import time
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


def train_pyg(edge_index: Tensor, num_nodes: int, epochs: int) -> float:
    """Train PyTorch Geometric's class and return the last epoch's mean loss."""
    model = pyg.Node2Vec(edge_index, num_nodes=num_nodes, **RECIPE)
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


def compare(edge_index: Tensor, num_nodes: int, epochs: int) -> Tensor:
    """Print the recipe's cost on both sides and return the course's embeddings."""
    torch.manual_seed(0)
    model = Node2Vec(edge_index, num_nodes=num_nodes, **RECIPE)
    begin = time.perf_counter()
    ours_loss = train_node2vec(model, epochs=epochs, progress=False, seed=0)["loss"].iloc[-1]
    ours = time.perf_counter() - begin
    torch.manual_seed(0)
    begin = time.perf_counter()
    theirs_loss = train_pyg(edge_index, num_nodes, epochs)
    theirs = time.perf_counter() - begin
    print(f"| recipe, {epochs} epochs | seconds | final loss |\n|---|---|---|")
    print(f"| course_utils | {ours:.1f} | {ours_loss:.4f} |")
    print(f"| torch_geometric | {theirs:.1f} | {theirs_loss:.4f} |")
    print(f"| ratio | {theirs / ours:.1f} | {theirs_loss / ours_loss:.4f} |\n")
    return model().detach()


def best_time(run: Callable[[], object], repeats: int) -> float:
    """Return the shortest of several durations in seconds."""
    durations = []
    for _ in range(repeats):
        begin = time.perf_counter()
        run()
        durations.append(time.perf_counter() - begin)
    return min(durations)


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


def compare_walks(graphs: dict[str, Tensor]) -> None:
    """Print the time of uniform and of biased walks, 10 from each node, 19 steps."""
    print("| graph | edges | uniform, ms | p=.5 q=2, ms | ratio | p=q=4, ms | ratio |")
    print("|---|---|---|---|---|---|---|")
    for name, edge_index in graphs.items():
        uniform, paper, strong = (time_walks(edge_index, p=p, q=q) for p, q in ((1, 1), (0.5, 2), (4, 4)))
        print(
            f"| {name} | {edge_index.size(1)} | {uniform:.0f} | {paper:.0f} | {paper / uniform:.2f} "
            f"| {strong:.0f} | {strong / uniform:.2f} |"
        )
    print()


def time_walks(edge_index: Tensor, *, p: float, q: float) -> float:
    """Time 10 walks of 19 steps from each node, in milliseconds."""
    model = Node2Vec(edge_index, 1, 2, 2)
    start = torch.arange(model.num_nodes).repeat(10)
    repeats = 20 if model.num_nodes < 10**4 else 2
    return 1000 * best_time(
        lambda: biased_random_walks(model.rowptr, model.col, start, 19, p=p, q=q), repeats
    )


def scale(side: int) -> None:
    """Print one row: an epoch of a lighter recipe on a grid. Runs in a process of its own."""
    model = Node2Vec(grid(side), 16, 10, 5, walks_per_node=1, p=0.5, q=2.0, sparse=True)
    begin = time.perf_counter()
    train_node2vec(model, epochs=1, batch_size=2048, progress=False, seed=0)
    seconds = time.perf_counter() - begin
    # The kernel counts kilobytes on Linux and bytes on macOS.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)
    print(f"| {side**2} | {seconds:.2f} | {1e6 * seconds / side**2:.1f} | {peak:.2f} |", flush=True)


def compare_sizes() -> None:
    """Print time and memory against the number of nodes."""
    print("d=16, walks of 10 nodes, context 5, 1 walk per node, p=.5, q=2, batch 2048, 1 epoch\n")
    print("| nodes | seconds | microseconds per node | peak memory, GiB |\n|---|---|---|---|", flush=True)
    context = multiprocessing.get_context("spawn")
    for side in (32, 100, 316, 1000):
        process = context.Process(target=scale, args=(side,))
        process.start()
        process.join()
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
    describe_machine()
    register_walker()
    network = load_cambridge()
    data = network.data
    print(f"Street graph ({network.source}): {data.num_nodes} nodes, {data.num_edges} edges\n")
    quick = "--quick" in sys.argv[1:]
    embeddings = compare(data.edge_index, data.num_nodes, 2 if quick else 50)
    if not quick:
        quality(embeddings, data.pos.numpy(), network.nodes["neighbourhood"].to_numpy())
    compare_walks(
        {"streets": data.edge_index, "grid": grid(316), "preferential attachment": preferential(20_000, 5)}
    )
    compare_sizes()


if __name__ == "__main__":
    main()
