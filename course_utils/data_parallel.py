"""Node2Vec trained by several processes at once, each with its share of every batch.

``torchrun`` starts the processes and tells each its rank. Here two, on this machine:

    torchrun --standalone --nproc-per-node=2 -m course_utils.data_parallel task.pt result.json

`task.pt` is ``{"model": arguments of Node2Vec, "training": arguments of train_data_parallel}``, written with
`torch.save`. `result.json` gets what `main` measures. `launch` does all this from a notebook.
"""

from __future__ import annotations

import json
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from course_utils._environment import keep_environment
from course_utils.node2vec import Node2Vec

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["average_gradient", "launch", "num_bytes", "train_data_parallel"]


def average_gradient(gradient: Tensor, share: float) -> Tensor:
    """Add up the gradients of all processes, each weighted by its share of the batch.

    Parameters
    ----------
    gradient
        This process's gradient, dense or sparse. A sparse one travels as the rows it has.
    share
        Part of the batch that this process had. The shares of all processes add up to 1.

    Returns
    -------
    Tensor
        The gradient of the whole batch, the same in every process.
    """
    total = gradient * share
    dist.all_reduce(total)
    return total


def train_data_parallel(
    model: Node2Vec, *, epochs: int, batch_size: int, lr: float = 0.01, seed: int = 0
) -> dict[str, Any]:
    """Train a model of which every process has a copy, and keep the copies equal.

    Parameters
    ----------
    model
        This process's copy. It gets the start embeddings of rank 0.
    epochs, batch_size, lr
        As in `train_node2vec`. A batch is divided among the processes.
    seed
        Seed of the order of nodes. Walks are drawn with another seed in each process.

    Returns
    -------
    dict
        `loss`: mean over batches of each epoch; `sent`: bytes that this process handed in to be added up;
        `seconds` of the training and `waited`, those of them spent on communication.
    """
    rank, world = dist.get_rank(), dist.get_world_size()
    weight = model.embedding.weight
    dist.broadcast(weight.detach(), src=0)
    optimizer = (torch.optim.SparseAdam if model.embedding.sparse else torch.optim.Adam)([weight], lr=lr)
    shuffle = torch.Generator().manual_seed(seed)  # the same batches everywhere
    walks = torch.Generator().manual_seed(seed * world + rank + 1)  # not the same walks
    result: dict[str, Any] = {"loss": [], "sent": 0, "waited": 0.0}
    begin = time.perf_counter()
    for _ in range(epochs):
        losses = []
        for batch in torch.split(torch.randperm(model.num_nodes, generator=shuffle), batch_size):
            mine = batch[rank::world]
            if len(batch) < world:  # the last batch may not go round
                continue
            share = len(mine) / len(batch)
            loss = model.loss(*model.sample(mine, generator=walks))
            (gradient,) = torch.autograd.grad(loss, weight)
            before = time.perf_counter()
            weight.grad = average_gradient(gradient, share)
            result["waited"] += time.perf_counter() - before
            result["sent"] += num_bytes(gradient)
            optimizer.step()  # type: ignore[no-untyped-call]
            losses.append(loss.detach() * share)
        mean = torch.stack(losses).mean()
        dist.all_reduce(mean)
        result["loss"].append(mean.item())
    return result | {"seconds": time.perf_counter() - begin}


def num_bytes(gradient: Tensor) -> int:
    """Count the bytes of a gradient: all entries, or the rows that are there and their numbers."""
    parts = [gradient._indices(), gradient._values()] if gradient.is_sparse else [gradient]  # noqa: SLF001
    return sum(part.numel() * part.element_size() for part in parts)


def main(task: str, result: str) -> None:
    """Train what the file `task` says, and write a summary to the file `result`, once for all processes.

    To what `train_data_parallel` returns it adds `gap`, the largest difference between the copies after training,
    and `memory`, the bytes of each process (on Linux its part of what it shares with others, else all of it).
    """
    import psutil

    settings = torch.load(task, weights_only=True)
    dist.init_process_group("gloo")  # ranks and addresses are in variables that torchrun has set
    model = Node2Vec(**settings["model"])
    summary = train_data_parallel(model, **settings["training"])
    low, high = model().detach().clone(), model().detach().clone()
    dist.all_reduce(low, op=dist.ReduceOp.MIN)
    dist.all_reduce(high, op=dist.ReduceOp.MAX)
    memory: list[Any] = [None] * dist.get_world_size()
    taken = psutil.Process().memory_full_info()
    dist.all_gather_object(memory, getattr(taken, "pss", taken.rss))
    if dist.get_rank() == 0:
        summary |= {"gap": (high - low).max().item(), "memory": memory}
        Path(result).write_text(json.dumps(summary), encoding="utf-8")
    dist.destroy_process_group()


def launch(task: dict[str, dict[str, Any]], *, processes: int) -> dict[str, Any]:
    """Train in several processes on this machine.

    Parameters
    ----------
    task
        ``{"model": arguments of Node2Vec, "training": arguments of train_data_parallel}``.
    processes
        How many.

    Returns
    -------
    dict
        What `main` measured.

    Raises
    ------
    torch.distributed.elastic.multiprocessing.errors.ChildFailedError
        If a process failed. What it printed stands before.
    """
    # Calls what the command torchrun calls. The command itself would be one more process with PyTorch in it.
    from torch.distributed.run import main as torchrun

    # It takes over these signals, among them the one by which a notebook is interrupted, and never gives them back.
    # It also tells its processes by a variable to take one thread, and so whatever is started later.
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with tempfile.TemporaryDirectory() as folder, keep_environment():
        files = [str(Path(folder, name)) for name in ("task.pt", "result.json")]
        torch.save(task, files[0])
        try:
            torchrun(["--standalone", f"--nproc-per-node={processes}", "-m", __name__, *files])
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        result: dict[str, Any] = json.loads(Path(files[1]).read_text(encoding="utf-8"))
    return result


if __name__ == "__main__":
    main(*sys.argv[1:])
