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

from course_utils._negative_sampling import WalkLoss, Workspace
from course_utils._walker import Walker
from course_utils.walks import check_bias, to_csr

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

__all__ = ["Node2Vec", "train_node2vec"]

# Walks that `train_node2vec` draws at a time, and draws per node from which a batch is sure to reach all nodes.
WALKS = 1 << 15
REACHED = 10


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
        sizes = (embedding_dim, walks_per_node, num_negative_samples)
        for name, size in zip(
            ("embedding_dim", "walks_per_node", "num_negative_samples"), sizes, strict=True
        ):
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
        self.rowptr, self.col = to_csr(edge_index, num_nodes)
        self.num_nodes = self.rowptr.numel() - 1
        self.embedding_dim = embedding_dim
        self.walk_length = walk_length - 1  # steps, as PyTorch Geometric keeps it
        self.context_size = context_size
        self.walks_per_node = walks_per_node
        self.num_negative_samples = num_negative_samples
        steps = self.num_nodes * walks_per_node * self.walk_length
        self._walker = Walker(self.rowptr, self.col, p=p, q=q, expected_steps=steps)
        self._workspace = Workspace()
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
        return self._loss(pos_rw, neg_rw, sparse=self.embedding.sparse)

    def _loss(self, pos_rw: Tensor, neg_rw: Tensor, *, sparse: bool) -> Tensor:
        weight = self.embedding.weight
        loss: Tensor = WalkLoss.apply(  # type: ignore[no-untyped-call]
            weight, pos_rw, neg_rw, self.context_size, sparse, self._workspace
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

    A sparse gradient that no batch leaves without a row is made dense: the two then do the same.

    Parameters
    ----------
    model
        The model, trained in place from the embeddings it has.
    epochs, batch_size, lr, progress
        How often walks are drawn from every node, start nodes in a step, learning rate, and whether to show
        a progress bar.
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

    weight = model.to(device).embedding.weight
    generator = torch.default_generator if seed is None else torch.Generator().manual_seed(seed)
    # A node misses all of REACHED draws per node with probability exp(-REACHED). Dense Adam is much faster.
    draws = batch_size * model.walks_per_node * model.num_negative_samples * model.walk_length
    sparse = model.embedding.sparse and draws < REACHED * model.num_nodes
    make = torch.optim.SparseAdam if sparse else partial(torch.optim.Adam, fused=True)
    optimizer = make([weight], lr=lr)
    history = []
    bar = trange(1, epochs + 1, desc="Node2Vec", unit="epoch", disable=not progress)
    for epoch in bar:
        losses = []
        for pos_rw, neg_rw in _draw_epoch(model, batch_size, generator):
            loss = model._loss(pos_rw.to(weight.device), neg_rw.to(weight.device), sparse=sparse)  # noqa: SLF001
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


def _draw_epoch(model: Node2Vec, batch_size: int, generator: torch.Generator) -> Iterator[list[Tensor]]:
    """Yield what a shuffled loader yields, with the walks of many batches drawn at once: they cost far less."""
    many = batch_size * max(1, WALKS // (batch_size * model.walks_per_node))
    for nodes in torch.split(torch.randperm(model.num_nodes, generator=generator), many):
        # Rows of both stand in the order (walk of a node, node).
        walks = [part.view(-1, len(nodes), part.size(1)) for part in model.sample(nodes, generator=generator)]
        for first in range(0, len(nodes), batch_size):
            yield [part[:, first : first + batch_size].flatten(0, 1) for part in walks]
