"""Node2Vec: embeddings of nodes, learned from random walks (Grover & Leskovec 2016, arXiv:1607.00653).

`Node2Vec` takes the place of PyTorch Geometric's class of that name: same arguments, methods and state.
It needs no compiled extension, its walks follow p and q, and all windows of a walk are scored at once.
TorchScript cannot compile it.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from course_utils._negative_sampling import WalkLoss
from course_utils._walker import Walker
from course_utils.walks import check_bias

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Node2Vec", "train_node2vec"]


class Node2Vec(torch.nn.Module):
    """Embeddings in which nodes that meet on short random walks lie close.

    Parameters
    ----------
    edge_index
        Edges, int64, shape (2, num_edges). A directed graph is walked along its edges.
    embedding_dim
        Length d of an embedding.
    walk_length
        Number of nodes in a walk, the start included.
    context_size
        Number of nodes in a window. The first node of a window is paired with each later one.
    walks_per_node
        Walks from each node in an epoch.
    p, q
        Return and in-out parameter of the walks, see `course_utils.walks`.
    num_negative_samples
        Random sequences for each walk.
    num_nodes
        Number of nodes. By default the largest entry of `edge_index` plus one.
    sparse
        Whether the gradient is sparse, as `torch.optim.SparseAdam` wants it.

    Raises
    ------
    TypeError
        If `edge_index` is not int64.
    ValueError
        If `edge_index` has another shape or a node out of range, a size is not positive,
        `context_size` is below 2 or above `walk_length`, or `p` or `q` is not positive and finite.
    """

    def __init__(
        self,
        edge_index: Tensor,
        embedding_dim: int,
        walk_length: int,
        context_size: int,
        walks_per_node: int = 1,
        p: float = 1.0,
        q: float = 1.0,
        num_negative_samples: int = 1,
        num_nodes: int | None = None,
        sparse: bool = False,  # noqa: FBT001, FBT002 - likewise
    ) -> None:
        super().__init__()
        sizes = {
            "embedding_dim": embedding_dim,
            "walks_per_node": walks_per_node,
            "num_negative_samples": num_negative_samples,
        }
        for name, size in sizes.items():
            if size < 1:
                msg = f"{name} must be 1 or more, got {size}."
                raise ValueError(msg)
        if context_size < 2:  # noqa: PLR2004 - a pair needs two nodes
            msg = (
                f"context_size must be 2 or more, got {context_size}: a window holds a node and its context."
            )
            raise ValueError(msg)
        if walk_length < context_size:
            msg = (
                f"walk_length ({walk_length}) must not be below context_size ({context_size}): "
                "a window has to fit into a walk. Lengthen the walks or narrow the window."
            )
            raise ValueError(msg)
        check_bias(p, q)
        self.num_nodes = _count_nodes(edge_index, num_nodes)
        keys = (edge_index[0] * self.num_nodes + edge_index[1]).cpu().sort().values  # noqa: PD011 - a tensor
        counts = torch.bincount(keys // self.num_nodes, minlength=self.num_nodes)
        self.rowptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        self.col = keys % self.num_nodes
        self.embedding_dim = embedding_dim
        self.walk_length = walk_length - 1  # steps, as PyTorch Geometric keeps it
        self.context_size = context_size
        self.walks_per_node = walks_per_node
        self.num_negative_samples = num_negative_samples
        steps = self.num_nodes * walks_per_node * self.walk_length
        self._walker = Walker(self.rowptr, self.col, p=p, q=q, expected_steps=steps)
        self.embedding = torch.nn.Embedding(self.num_nodes, embedding_dim, sparse=sparse)
        self.reset_parameters()

    @property
    def p(self) -> float:
        """Return parameter of the walks. It is fixed when the model is made, as the walker is prepared for it."""
        return self._walker.p

    @property
    def q(self) -> float:
        """In-out parameter of the walks, fixed likewise."""
        return self._walker.q

    def reset_parameters(self) -> None:
        """Draw all embeddings anew from a standard normal distribution."""
        self.embedding.reset_parameters()

    def forward(self, batch: Tensor | None = None) -> Tensor:
        """Return the embeddings of the nodes in `batch`, or of all, shape (num_nodes, d)."""
        weight = self.embedding.weight
        return weight if batch is None else weight[batch]

    def loader(self, **kwargs: Any) -> DataLoader[Any]:
        """Make a loader that yields positive and negative walks from batches of start nodes.

        Parameters
        ----------
        kwargs
            Arguments of `torch.utils.data.DataLoader`. A `generator` decides the order of the start nodes
            and, with `num_workers=0`, the walks as well. Workers draw from generators of their own.
        """
        generator = None if kwargs.get("num_workers") else kwargs.get("generator")
        nodes: Any = range(self.num_nodes)
        return DataLoader(nodes, collate_fn=partial(self.sample, generator=generator), **kwargs)

    def pos_sample(self, batch: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw `walks_per_node` walks from each node of `batch`, shape (num_walks, nodes in a walk)."""
        start = batch.cpu().repeat(self.walks_per_node)
        return self._walker.walk(start, self.walk_length, generator=generator)

    def neg_sample(self, batch: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Put random nodes behind each node of `batch`, shape (num_sequences, nodes in a walk)."""
        start = batch.cpu().repeat(self.walks_per_node * self.num_negative_samples)
        shape = (start.numel(), self.walk_length)
        rest = torch.randint(self.num_nodes, shape, dtype=start.dtype, generator=generator)
        return torch.cat([start[:, None], rest], dim=1)

    def sample(
        self, batch: list[int] | Tensor, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw positive and negative walks from the nodes of `batch`, whole and on the CPU."""
        nodes = torch.as_tensor(batch)
        return self.pos_sample(nodes, generator=generator), self.neg_sample(nodes, generator=generator)

    def loss(self, pos_rw: Tensor, neg_rw: Tensor) -> Tensor:
        """Compute the loss of negative sampling (see `course_utils._negative_sampling`).

        Parameters
        ----------
        pos_rw, neg_rw
            Whole walks, or windows of `context_size` nodes cut from them: int64, shape (B, walk length) or
            (B, context_size). The value is the same for walks and for all of their windows.

        Returns
        -------
        Tensor
            The loss, a scalar.

        Raises
        ------
        ValueError
            If a tensor has another shape or no rows.
        """
        for name, walks in (("pos_rw", pos_rw), ("neg_rw", neg_rw)):
            if walks.dim() != 2 or walks.size(1) < self.context_size or len(walks) == 0:  # noqa: PLR2004 - rows and columns
                msg = (
                    f"{name} must hold walks in rows of {self.walk_length + 1} nodes or windows of "
                    f"{self.context_size}, got shape {tuple(walks.shape)}: take what `sample` returns."
                )
                raise ValueError(msg)
        weight, sparse = self.embedding.weight, self.embedding.sparse
        loss: Tensor = WalkLoss.apply(  # type: ignore[no-untyped-call]
            weight, pos_rw, neg_rw, self.context_size, sparse
        )
        return loss

    def test(
        self,
        train_z: Tensor,
        train_y: Tensor,
        test_z: Tensor,
        test_y: Tensor,
        solver: str = "lbfgs",
        *args: Any,
        **kwargs: Any,
    ) -> float:
        """Return the accuracy on the test nodes of a logistic regression fitted to the training nodes.

        Further arguments go to `sklearn.linear_model.LogisticRegression`.
        """
        from sklearn.linear_model import LogisticRegression

        train_z, train_y, test_z, test_y = (
            part.detach().cpu() for part in (train_z, train_y, test_z, test_y)
        )
        model = LogisticRegression(*args, solver=solver, **kwargs).fit(train_z.numpy(), train_y.numpy())
        return float(model.score(test_z.numpy(), test_y.numpy()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.num_nodes}, {self.embedding_dim})"


def train_node2vec(
    model: Node2Vec,
    *,
    epochs: int,
    batch_size: int = 128,
    lr: float = 0.01,
    progress: bool = True,
    seed: int | None = None,
    device: str | torch.device | None = None,
) -> pd.DataFrame:
    """Train the embeddings with SparseAdam if the model's gradient is sparse, else with Adam.

    Parameters
    ----------
    model
        The model, trained in place from the embeddings it has.
    epochs
        How often walks are drawn from every node.
    batch_size
        Start nodes in a step.
    lr
        Learning rate.
    progress
        Whether to show a progress bar.
    seed
        Seed of the order of nodes, the walks and the negatives. The same seed, start embeddings and number
        of threads give the same result to the last bit. Without it the global generator of PyTorch is used.
        The embeddings' start is drawn earlier, by the constructor, from the global generator.
    device
        Where to train. By default where the model is. Walks are always drawn on the CPU.

    Returns
    -------
    pandas.DataFrame
        Columns `epoch` (1 to `epochs`) and `loss` (mean over batches).

    Raises
    ------
    FloatingPointError
        If the mean loss of an epoch is not finite.
    """
    import pandas as pd
    from tqdm.auto import trange

    model.to(device)
    weight = model.embedding.weight
    place = weight.device
    # A seed feeds a generator of its own, so that the global one is left as it was.
    generator = torch.default_generator if seed is None else torch.Generator().manual_seed(seed)
    loader = model.loader(batch_size=batch_size, shuffle=True, generator=generator)
    make = torch.optim.SparseAdam if model.embedding.sparse else torch.optim.Adam
    optimizer = make(list(model.parameters()), lr=lr)
    history = []
    bar = trange(1, epochs + 1, desc="Node2Vec", unit="epoch", disable=not progress)
    for epoch in bar:
        losses = []
        for pos_rw, neg_rw in loader:
            loss = model.loss(pos_rw.to(place), neg_rw.to(place))
            # Unlike `backward` this keeps the mark that no row of a sparse gradient occurs twice,
            # and the optimiser need not look for such rows.
            (weight.grad,) = torch.autograd.grad(loss, weight)
            optimizer.step()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
        mean = float(torch.stack(losses).mean())
        if not math.isfinite(mean):
            msg = f"The loss became {mean} in epoch {epoch}: lower lr (now {lr}) and start from a new model."
            raise FloatingPointError(msg)
        bar.set_postfix(loss=f"{mean:.3f}")
        history.append({"epoch": epoch, "loss": mean})
    return pd.DataFrame(history, columns=["epoch", "loss"])


def _count_nodes(edge_index: Tensor, num_nodes: int | None) -> int:
    """Check the edges and return the number of nodes."""
    if not isinstance(edge_index, Tensor) or edge_index.dtype != torch.int64:
        kind = edge_index.dtype if isinstance(edge_index, Tensor) else type(edge_index).__name__
        msg = f"edge_index must be a tensor of dtype torch.int64, got {kind}: convert it with .long()."
        raise TypeError(msg)
    if edge_index.dim() != 2 or edge_index.size(0) != 2:  # noqa: PLR2004 - source and target of each edge
        msg = f"edge_index must have shape (2, num_edges), got {tuple(edge_index.shape)}: try .t()."
        raise ValueError(msg)
    low, high = (int(edge_index.min()), int(edge_index.max())) if edge_index.numel() else (0, -1)
    if low < 0:
        msg = f"edge_index holds node {low}: nodes are numbered from 0. Remove what pads it."
        raise ValueError(msg)
    if num_nodes is None:
        num_nodes = high + 1
    if num_nodes <= max(high, 0):
        msg = f"num_nodes is {num_nodes}, but edge_index holds node {high}: give at least {max(high, 0) + 1}."
        raise ValueError(msg)
    return num_nodes
