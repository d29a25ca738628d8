"""The sampler under `course_utils.walks`: a graph made ready for many second-order random walks."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["Walker"]

# Nodes with at most this many out-links are walked from a table of their exact distributions.
TABLE_DEGREE = 8
# Walks drawn side by side: what they need fits into a processor's cache.
BLOCK = 1 << 15
# Rounds of plain rejection before the slower one that copes with any weights.
PLAIN_ROUNDS = 4
# Proposals held at a time: this bounds the memory of the rejection sampler.
MAX_PROPOSALS = 1 << 20


class Walker:
    """A graph made ready for many walks with the same p and q.

    `course_utils.walks.biased_random_walks` makes one for a call, `Node2Vec` keeps one.

    Out of nodes of low degree each step is drawn from a table that holds the exact distribution after each
    edge, if there are enough steps to pay for it. Out of the others it is drawn by rejection: the weights
    are cut into a part that is uniform, a part that is known (the way back), and a rest that is proposed and
    tested. Time and memory for the preparation grow linearly with the number of edges.

    Parameters
    ----------
    rowptr, col
        A graph with sorted rows, as `course_utils.walks.biased_random_walks` checks it.
    p, q
        Return and in-out parameter, checked likewise.
    expected_steps
        About how many steps will be drawn in all.
    """

    def __init__(self, rowptr: Tensor, col: Tensor, *, p: float, q: float, expected_steps: int) -> None:
        self.p, self.q = p, q
        self.rowptr, self.col = _loop_dead_ends(rowptr, col)
        self.degree = self.rowptr.diff()
        self.num_nodes = self.degree.numel()
        self.uniform = p == 1 and q == 1
        if self.uniform or self.col.numel() == 0:
            return
        row = torch.repeat_interleave(self.degree)
        self.keys = row * self.num_nodes + self.col  # ascending: an edge is found by bisection
        self.seen = torch.zeros(1 << (8 * self.col.numel()).bit_length(), dtype=torch.bool, device=col.device)
        self.seen[self._hash(self.keys)] = True
        self.max_copies = int(self._count(self.keys).max())
        self.table_degree = min(TABLE_DEGREE, int(self.degree.max()))
        if expected_steps < self.col.numel():
            self.table_degree = 0
        self.has_hubs = bool((self.degree > self.table_degree).any())
        self.table = self._cumulative_probabilities(row)

    def walk(self, start: Tensor, walk_length: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw one walk of `walk_length` steps from every node of `start`.

        Parameters and result are those of `course_utils.walks.biased_random_walks`.
        """
        walks = start.new_empty(start.numel(), walk_length + 1)
        for first in range(0, start.numel(), BLOCK):
            block = slice(first, first + BLOCK)
            walks[block] = self._walk_block(start[block], walk_length, generator).t()
        return walks

    def _walk_block(self, start: Tensor, walk_length: int, generator: torch.Generator | None) -> Tensor:
        """Draw the walks of one block, shape (walk_length + 1, num_walks)."""
        walks = start.new_empty(walk_length + 1, start.numel())
        walks[0] = start
        edge = start
        for step in range(1, walk_length + 1):
            if step == 1 or self.uniform:
                edge = self._uniform_step(walks[step - 1], generator)
            else:
                edge = self._biased_step(walks[step - 2], walks[step - 1], edge, generator)
            torch.index_select(self.col, 0, edge, out=walks[step])
        return walks

    def _uniform_step(self, node: Tensor, generator: torch.Generator | None) -> Tensor:
        """Choose one of the edges out of each node."""
        draw = _rand(node.shape, node.device, generator).mul_(self.degree.index_select(0, node))
        return draw.long().add_(self.rowptr.index_select(0, node))

    def _biased_step(
        self, previous: Tensor, node: Tensor, edge: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        """Choose the edge that follows `edge`, which led from `previous` to `node`."""
        if self.table_degree == 0:
            return self._reject(previous, node, generator)
        draw = _rand((node.numel(), 1), node.device, generator)
        following = (self.table.index_select(0, edge) <= draw).sum(1)
        following += self.rowptr.index_select(0, node)
        if self.has_hubs:
            hubs = (self.degree.index_select(0, node) > self.table_degree).nonzero().view(-1)
            following[hubs] = self._reject(previous[hubs], node[hubs], generator)
        return following

    def _cumulative_probabilities(self, row: Tensor) -> Tensor:
        """Tabulate, for each edge t -> v into a node of low degree, the distribution of the step out of v.

        Shape (num_edges, table_degree - 1), float64: the cumulative probabilities of all neighbours but the
        last, infinite where there are no more.
        """
        width = max(1, self.table_degree)
        slot = torch.arange(width, device=self.col.device)
        table = torch.full(
            (self.col.numel(), width - 1), math.inf, dtype=torch.float64, device=self.col.device
        )
        low = (self.degree[self.col] <= self.table_degree).nonzero().view(-1)
        for edges in torch.split(low, MAX_PROPOSALS // width):
            previous, node = row[edges, None], self.col[edges, None]
            degree = self.degree[node]
            x = self.col[(self.rowptr[node] + slot).clamp_(max=self.col.numel() - 1)]  # (edges, width)
            weight = torch.full(x.shape, 1 / self.q, dtype=torch.float64, device=x.device)
            weight[self._has_edge(previous, x)] = 1.0
            weight[x == previous] = 1 / self.p
            weight[slot >= degree] = 0.0
            cumulative = weight.cumsum(1) / weight.sum(1, keepdim=True)
            table[edges] = cumulative.masked_fill_(slot >= degree - 1, math.inf)[:, :-1]
        return table

    def _count(self, keys: Tensor) -> Tensor:
        """Count how often the edge with each key (row * num_nodes + col) occurs."""
        return torch.searchsorted(self.keys, keys, right=True) - torch.searchsorted(self.keys, keys)

    def _has_edge(self, row: Tensor, col: Tensor) -> Tensor:
        """Say which of the edges row -> col exist."""
        keys = row * self.num_nodes + col
        found = self.seen.index_select(0, self._hash(keys.view(-1))).view(keys.shape)
        # The filter says "no" for certain and "yes" for most: only a "yes" is looked up.
        doubtful = keys[found]
        place = torch.searchsorted(self.keys, doubtful).clamp_(max=self.keys.numel() - 1)
        found[found.clone()] = self.keys.index_select(0, place) == doubtful
        return found

    def _hash(self, keys: Tensor) -> Tensor:
        """Scatter keys over the filter, whose size is a power of two (Knuth's multiplicative hashing)."""
        return (keys * 0x9E3779B97F4A7C1 >> 20).bitwise_and_(self.seen.numel() - 1)

    def _reject(self, previous: Tensor, node: Tensor, generator: torch.Generator | None) -> Tensor:
        """Choose an edge out of each node by rejection."""
        chosen = torch.empty_like(node)
        todo = torch.arange(node.numel(), device=node.device)
        for _ in range(PLAIN_ROUNDS):
            edge, accepted = self._propose_any(previous[todo], node[todo], generator)
            chosen[todo[accepted]] = edge[accepted]
            todo = todo[~accepted]
        tries = 1
        while todo.numel():
            edge, accepted, cost = self._propose(previous[todo, None], node[todo, None], tries, generator)
            done, best = accepted.max(1)  # the first candidate that was accepted
            chosen[todo[done]] = edge[done, best[done]]
            # Where more proposals are to be expected than there are neighbours, go through the neighbours.
            listed = ~done & (cost >= self.degree[node[todo]])
            chosen[todo[listed]] = self._enumerate(previous[todo[listed]], node[todo[listed]], generator)
            todo = todo[~(done | listed)]
            # Doubling keeps the number of rounds small where most candidates fail (q far from 1).
            tries = max(1, min(2 * tries, MAX_PROPOSALS // max(1, todo.numel())))
        return chosen

    def _enumerate(self, previous: Tensor, node: Tensor, generator: torch.Generator | None) -> Tensor:
        """Choose an edge out of each node by weighing all of them, a bounded number at a time."""
        chosen = torch.empty_like(node)
        load = self.degree[node].cumsum(0) // MAX_PROPOSALS
        for part in range(int(load[-1]) + 1 if load.numel() else 0):
            walks = (load == part).nonzero().view(-1)
            degree = self.degree[node[walks]]
            walk = torch.repeat_interleave(degree)  # one entry for each neighbour of each walk's node
            offset = torch.arange(walk.numel(), device=walk.device) - (degree.cumsum(0) - degree)[walk]
            edge = self.rowptr[node[walks]][walk] + offset
            t, x = previous[walks][walk], self.col[edge]
            weight = torch.where(self._has_edge(t, x), 1.0, 1 / self.q).double()
            weight[t == x] = 1 / self.p
            total = torch.zeros(walks.shape, dtype=torch.float64, device=walk.device).index_add_(
                0, walk, weight
            )
            cumulative = (weight / total[walk]).cumsum(0)  # rises by 1 for each walk
            draw = _rand(walks.shape, walk.device, generator)
            last = degree.cumsum(0) - 1
            low = torch.where(last >= degree, cumulative[last - degree], 0.0)
            place = torch.searchsorted(cumulative, low + draw * (cumulative[last] - low), right=True)
            chosen[walks] = edge[torch.minimum(place, last)]
        return chosen

    def _propose_any(
        self, previous: Tensor, node: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Propose one edge out of each node, all alike, and accept it in proportion to its weight."""
        edge = self._uniform_step(node, generator)
        weights = torch.tensor([1 / self.p, 1.0, 1 / self.q], dtype=torch.float64)
        draw = _rand(node.shape, node.device, generator) * float(weights.max())
        accepted = draw < float(weights.min())
        # Only where the draw lies between the smallest and the largest weight must the weight be known.
        open_ = (~accepted).nonzero().view(-1)
        t, x = previous[open_], self.col[edge[open_]]
        weight = torch.where(self._has_edge(t, x), 1.0, 1 / self.q)
        weight[t == x] = 1 / self.p
        accepted[open_] = draw[open_] < weight
        return edge, accepted

    def _propose(
        self, previous: Tensor, node: Tensor, tries: int, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Propose `tries` edges out of each node, say which may be taken, and how many it may take at most.

        The way back weighs 1/p. Every other way weighs at least min(1, 1/q): that part needs no test. What is
        left weighs |1 - 1/q| and belongs to the neighbours of t if q > 1, to the others if q < 1: a candidate
        is proposed and tested. For q > 1 it comes from the list of t where that is shorter than that of v.

        Shapes: (num_walks, 1) in, (num_walks, tries), (num_walks, tries) and (num_walks,) out.
        """
        copies = self.max_copies
        first_back = torch.searchsorted(self.keys, node * self.num_nodes + previous)
        back = self._count(node * self.num_nodes + previous)
        onward = self.degree[node] - back
        listed = self.degree[previous] * copies
        from_previous = (listed < onward) & (self.q > 1)
        plain, extra = min(1.0, 1 / self.q), abs(1 - 1 / self.q)
        turned = back.double() / self.p
        untested = turned + onward * plain
        total = untested + torch.where(from_previous, listed, onward) * extra

        draw = _rand((node.numel(), tries), node.device, generator) * total
        tested = draw >= untested
        place = torch.where(tested, (draw - untested) / (extra or 1.0), (draw - turned) / plain).long()
        edge = self.rowptr[node] + torch.minimum(place, onward - 1).clamp_(min=0)
        edge += torch.where(edge >= first_back, back, 0)  # over the way back, which stands in the same list
        edge = torch.where(draw < turned, first_back, edge)

        walk, attempt = tested.nonzero(as_tuple=True)
        t, v, place, swap = previous[walk, 0], node[walk, 0], place[walk, attempt], from_previous[walk, 0]
        listing = self.rowptr[t] + torch.minimum(place // copies, self.degree[t] - 1)
        candidate = torch.where(swap, listing, edge[walk, attempt])
        x = self.col[candidate]
        key = torch.where(swap, v, t) * self.num_nodes + x
        count = self._count(key)
        first = torch.searchsorted(self.keys, key)
        # Out of the list of t each neighbour is taken once, and then the copy of v -> x that `place` names.
        fresh = (torch.searchsorted(self.keys, self.keys[candidate]) == candidate) & (x != t)
        near = count > 0
        accepted = ~tested
        accepted[walk, attempt] = torch.where(swap, fresh & (place % copies < count), near == (self.q > 1))
        edge[walk, attempt] = torch.where(swap, first + place % copies, candidate)
        return edge, accepted, (total / untested).view(-1)


def _rand(shape: tuple[int, ...], device: torch.device, generator: torch.Generator | None) -> Tensor:
    """Draw from [0, 1) with the 53 bits of float64: with fewer, the neighbours of a hub were not alike."""
    return torch.rand(shape, dtype=torch.float64, device=device, generator=generator)


def _loop_dead_ends(rowptr: Tensor, col: Tensor) -> tuple[Tensor, Tensor]:
    """Give each node without out-links a self-loop: to stay is then a step like any other."""
    degree = rowptr.diff()
    dead = degree == 0
    if not dead.any():
        return rowptr, col
    row = torch.cat([torch.repeat_interleave(degree), dead.nonzero().view(-1)])
    order = row.argsort(stable=True)
    looped = torch.cat([col, dead.nonzero().view(-1)])[order]
    return torch.cat([rowptr[:1], (degree + dead).cumsum(0)]), looped
