"""The loss of negative sampling, for single scores and for whole walks.

Skip-gram with negative sampling (Mikolov et al. 2013, arXiv:1310.4546, equation 4) raises the score of pairs
that occur together and lowers that of random pairs. A score is the inner product of two embeddings.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import logsigmoid

__all__ = ["WalkLoss", "negative_sampling_loss"]

# Walks scored at a time: what they need stays in a processor's cache.
BLOCK = 512


def negative_sampling_loss(positive: Tensor, negative: Tensor) -> Tensor:
    """Compute -mean(log sigmoid(positive)) - mean(log sigmoid(-negative)).

    Parameters
    ----------
    positive
        Scores of pairs that occur together, any shape.
    negative
        Scores of random pairs, any shape.

    Returns
    -------
    Tensor
        The loss, a scalar. Its gradient does not vanish where the scores are badly wrong.
    """
    return -logsigmoid(positive).mean() - logsigmoid(-negative).mean()


class WalkLoss(torch.autograd.Function):
    """`negative_sampling_loss` of all the pairs in windows along walks, with its gradient in closed form.

    A window of `context_size` nodes slides along each walk and pairs its first node with each later one.
    With Z (L, d) the embeddings of a walk and A its first L - context_size + 1 rows, all scores are in the
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

        Returns
        -------
        Tensor
            The loss, a scalar.
        """
        loss = weight.new_zeros(())
        nodes = torch.cat([positive.reshape(-1), negative.reshape(-1)])
        # Rows of the gradient are added up in a buffer. One for all nodes of a much larger graph
        # would cost more than sorting the nodes that occur.
        few = sparse and len(weight) > 2 * len(nodes)
        touched, places = torch.unique(nodes, return_inverse=True) if few else (None, nodes)
        buffer = weight.new_zeros(len(weight) if touched is None else len(touched), weight.size(1))
        ends = torch.split(places, [positive.numel(), negative.numel()])
        for walks, place, sign in ((positive, ends[0], 1.0), (negative, ends[1], -1.0)):
            num_pairs = len(walks) * (walks.size(1) - context_size + 1) * (context_size - 1)
            blocks = zip(torch.split(walks, BLOCK), torch.split(place, BLOCK * walks.size(1)), strict=True)
            for block, rows in blocks:
                embedded = weight.index_select(0, block.reshape(-1)).view(*block.shape, -1)
                signed = _scores(embedded, context_size) * sign
                loss -= logsigmoid(signed).sum() / num_pairs
                if ctx.needs_input_grad[0]:
                    slope = signed.neg_().sigmoid_().mul_(-sign / num_pairs)
                    buffer.index_add_(0, rows, _spread(slope, embedded))
        if ctx.needs_input_grad[0]:
            ctx.size, ctx.sparse = weight.shape, sparse
            if sparse and touched is None:
                occurs = torch.zeros(len(weight), dtype=torch.bool, device=weight.device)
                occurs.index_fill_(0, nodes, True)
                touched = occurs.nonzero().view(-1)
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
        return gradient, None, None, None, None


def _scores(embedded: Tensor, context_size: int) -> Tensor:
    """Score the first node of each window with each later one.

    Shapes: (B, L, d) in, (B, num_windows, context_size - 1) out.
    """
    firsts = embedded[:, : embedded.size(1) - context_size + 1]
    scores = torch.bmm(firsts, embedded.transpose(1, 2))  # (B, num_windows, L)
    # Node j meets node j + k: a band of the scores, seen by skipping one entry more in each row.
    return _band(scores, firsts.size(1), context_size)


def _spread(slope: Tensor, embedded: Tensor) -> Tensor:
    """Turn the derivative by the scores into that by the embeddings, shape (B * L, d)."""
    batch, num_windows, width = slope.shape
    length, dim = embedded.shape[1:]
    # Each pair pulls at both its nodes: the band stands in G + G^T twice, mirrored.
    pull = embedded.new_zeros(batch, length, length)
    _band(pull, num_windows, width + 1).copy_(slope)
    _band(pull.transpose(1, 2), num_windows, width + 1).copy_(slope)
    return torch.bmm(pull, embedded).view(-1, dim)


def _band(square: Tensor, num_windows: int, context_size: int) -> Tensor:
    """View the entries (j, j + k), k = 1 ... context_size - 1, of each matrix of a batch."""
    batch, row, column = square.stride()
    shape = (len(square), num_windows, context_size - 1)
    return square.as_strided(shape, (batch, row + column, column), column)
