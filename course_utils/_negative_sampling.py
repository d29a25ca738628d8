"""The loss of negative sampling, for single scores and for whole walks.

Skip-gram with negative sampling (Mikolov et al. 2013, arXiv:1310.4546, equation 4) raises the score of pairs
that occur together and lowers that of random pairs. A score is the inner product of two embeddings.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import logsigmoid, softplus

__all__ = ["WalkLoss", "Workspace", "negative_sampling_loss"]

# Numbers in the embeddings of the walks scored at a time: few enough for a cache, enough for several threads.
BLOCK = 1 << 19


def negative_sampling_loss(positive: Tensor, negative: Tensor, *, weight: float = 1) -> Tensor:
    """Compute -mean(log sigmoid(positive)) - weight * mean(log sigmoid(-negative)).

    Parameters
    ----------
    positive
        Scores of pairs that occur together, any shape.
    negative
        Scores of random pairs, any shape.
    weight
        How much the random pairs count. With k of them for each other pair, k gives the sum over them of
        equation 4, and 1 the mean that Node2Vec takes.

    Returns
    -------
    Tensor
        The loss, a scalar. Its gradient does not vanish where the scores are badly wrong.
    """
    return -logsigmoid(positive).mean() - weight * logsigmoid(-negative).mean()


class Workspace:
    """Memory that serves one loss after the other: to get fresh pages at each step doubles its time.

    A copy of it, or what comes out of a file, starts empty.
    """

    memory: Tensor | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def take(self, shapes: list[tuple[int, ...]], like: Tensor) -> list[Tensor]:
        """Return tensors of the given shapes, with the type and place of `like` and arbitrary entries."""
        sizes = [math.prod(shape) for shape in shapes]
        memory = self.memory
        if (
            memory is None
            or memory.numel() < sum(sizes)
            or (memory.dtype, memory.device) != (like.dtype, like.device)
        ):
            memory = self.memory = like.new_empty(sum(sizes))
        parts = torch.split(memory[: sum(sizes)], sizes)
        return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]


class WalkLoss(torch.autograd.Function):
    """`negative_sampling_loss` of all the pairs in windows along walks, with its gradient in closed form.

    A window of `context_size` nodes slides along each walk and pairs its first node with each later one.
    With Z (L, d) the embeddings of a walk and A its first L - context_size + 1 rows, all scores are in a
    band of A Z^T. With G (L, L) the derivative by the scores, that by the embeddings is (G + G^T) Z.
    Each walk is looked up once, and its rows of the gradient are merged once.
    """

    @staticmethod
    def forward(
        ctx: Any,
        weight: Tensor,
        positive: Tensor,
        negative: Tensor,
        context_size: int,
        sparse: bool,  # noqa: FBT001 - likewise
        workspace: Workspace,
    ) -> Tensor:
        """Compute the loss, and the gradient along with it.

        Parameters
        ----------
        weight
            Embeddings, shape (num_nodes, d).
        positive, negative
            Walks and random sequences of nodes, int64, shapes (B, L) and (B', L') with L, L' >= context_size.
        context_size
            Number of nodes in a window.
        sparse
            Whether the gradient is a sparse tensor of the rows that occur.
        workspace
            Memory for what is computed on the way.

        Returns
        -------
        Tensor
            The loss, a scalar.
        """
        nodes = torch.cat([positive.reshape(-1), negative.reshape(-1)])
        # Rows of the gradient are added up in a buffer. One for all nodes of a much larger graph
        # would cost more than sorting the nodes that occur.
        few = sparse and len(weight) > 2 * len(nodes)
        touched, rows = torch.unique(nodes, return_inverse=True) if few else (None, nodes)
        buffer = weight.new_zeros(len(weight) if touched is None else len(touched), weight.size(1))
        target = buffer if ctx.needs_input_grad[0] else None
        ends = rows.split([positive.numel(), negative.numel()])
        add = partial(_add_walks, weight, context_size=context_size, gradient=target, workspace=workspace)
        loss = add(positive, ends[0].view_as(positive), sign=1)
        loss += add(negative, ends[1].view_as(negative), sign=-1)
        if ctx.needs_input_grad[0]:
            ctx.size, ctx.sparse = weight.shape, sparse
            if sparse and touched is None:
                touched = torch.bincount(nodes, minlength=len(weight)).nonzero().view(-1)
                if len(touched) < len(buffer):
                    buffer = buffer.index_select(0, touched)
            ctx.save_for_backward(buffer, touched)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        """Scale the gradient that `forward` has computed."""
        rows, touched = ctx.saved_tensors
        gradient = rows * grad_output
        if ctx.sparse:
            # One row for each node, ascending: nothing is left to merge.
            gradient = torch.sparse_coo_tensor(
                touched[None], gradient, ctx.size, is_coalesced=True, check_invariants=False
            )
        return gradient, None, None, None, None, None


def _add_walks(
    weight: Tensor,
    walks: Tensor,
    rows: Tensor,
    *,
    context_size: int,
    sign: int,
    gradient: Tensor | None,
    workspace: Workspace,
) -> Tensor:
    """Return -mean(log sigmoid(sign * score)) of all pairs, and add its derivative to rows of `gradient`."""
    length, dim = walks.size(1), weight.size(1)
    num_windows, width = length - context_size + 1, context_size - 1
    num_pairs = len(walks) * num_windows * width
    blocks = math.ceil(walks.numel() * dim / BLOCK)
    shapes = [(length, dim), (length, dim), (num_windows, length), (length, length), (num_windows, width)]
    parts = workspace.take([(math.ceil(len(walks) / blocks), *shape) for shape in shapes], weight)
    parts[3].zero_()
    loss = weight.new_zeros(())
    for block, row in zip(walks.chunk(blocks), rows.chunk(blocks), strict=True):
        z, derivative, scores, pull, signed = (part[: len(block)] for part in parts)
        torch.index_select(weight, 0, block.reshape(-1), out=z.view(-1, dim))
        torch.bmm(z[:, :num_windows], z.transpose(1, 2), out=scores)
        torch.mul(_band(scores, num_windows, width), -sign, out=signed)
        loss += softplus(signed).sum()  # -log sigmoid(x) = softplus(-x)
        if gradient is not None:
            slope = signed.sigmoid_().mul_(-sign / num_pairs)
            # Each pair pulls at both its nodes: the band stands in G + G^T twice, mirrored.
            _band(pull, num_windows, width).copy_(slope)
            _band(pull.transpose(1, 2), num_windows, width).copy_(slope)
            torch.bmm(pull, z, out=derivative)
            gradient.index_add_(0, row.reshape(-1), derivative.view(-1, dim))
    return loss / num_pairs


def _band(square: Tensor, num_windows: int, width: int) -> Tensor:
    """View the entries (j, j + k), k = 1 ... width, of the first rows of each matrix of a batch."""
    batch, row, column = square.stride()
    shape = (len(square), num_windows, width)
    return square.as_strided(shape, (batch, row + column, column), square.storage_offset() + column)
