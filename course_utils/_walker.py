"""The sampler under `course_utils.walks`: a graph made ready for many second-order random walks."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Walker"]

# Walks drawn side by side: what they need fits into a processor's cache.
BLOCK = 1 << 15
# Most entries of all the distributions that are kept (4 bytes each), and of those written at a time.
MAX_KEPT = 1 << 24
MAX_WRITTEN = 1 << 17
# To draw a step by rejection takes about as long as to write so many entries of a distribution.
REJECTION_COST = 50
# Rounds of rejection. The few walks left then go on by distributions written for this one step.
ROUNDS = 10


class Distributions(NamedTuple):
    """Where walks go on that came along certain edges t -> v.

    The edges out of v stand in the order far from t, near t, back to t. In units of a far one they weigh
    1, q and q/p each. All tensors but the last have an entry for each edge t -> v.
    """

    far: Tensor  # weight of all that lead far from t, float64
    near: Tensor  # weight of all that lead to neighbours of t, float64
    total: Tensor  # weight of all, float64
    first: Tensor  # place of the first one in `following`
    following: Tensor  # edges out of each v


class Walker:
    """A graph made ready for many walks with the same p and q.

    `course_utils.walks.biased_random_walks` makes one for a call, `Node2Vec` keeps one. The state of a walk
    is the edge it came along, which knows its last two nodes.

    After an edge into a node of low degree a step is drawn from the exact distribution, which is written down
    once, if there are enough steps to pay for it. Out of the other nodes, the hubs, it is drawn by rejection:
    the weights are cut into a part that is uniform, a part that is known (the way back), and a rest that is
    proposed and tested. Preparation is linear in the number of edges and of steps.

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
        # Beyond these bounds what is rare never happens, and weights would overflow.
        self.p, self.q = (min(max(value, 1e-100), 1e100) for value in (p, q))
        self.rowptr, self.col = _loop_dead_ends(rowptr, col)
        self.degree = self.rowptr.diff()
        # The edges out of the head of each edge: the first one, and their number.
        self.first, size = self.rowptr.index_select(0, self.col), self.degree.index_select(0, self.col)
        self.fanout = size.double()
        self.uniform = p == 1 and q == 1
        if self.uniform or self.col.numel() == 0:
            return
        self.num_nodes = self.degree.numel()
        self.row = torch.repeat_interleave(self.degree)
        self.keys = self.row * self.num_nodes + self.col  # ascending: an edge is found by bisection
        self.seen = torch.zeros(1 << (8 * self.col.numel()).bit_length(), dtype=torch.bool, device=col.device)
        self.seen[self._hash(self.keys)] = True
        # A distribution has `size` entries and serves steps / edges steps. Short ones go first.
        fits = torch.bincount(size, size).cumsum(0) <= MAX_KEPT
        pays = (
            torch.arange(fits.numel(), device=col.device) * self.col.numel()
            <= REJECTION_COST * expected_steps
        )
        self.hub = (fits & pays).logical_not_().index_select(0, size)
        self.has_hubs = bool(self.hub.any())
        self.max_copies = int(torch.unique_consecutive(self.keys, return_counts=True)[1].max())
        self.kept = self._tabulate(torch.arange(size.numel(), device=col.device), size * ~self.hub)

    def walk(self, start: Tensor, walk_length: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw one walk of `walk_length` steps from every node of `start`.

        Parameters and result are those of `course_utils.walks.biased_random_walks`.
        """
        walks = start.new_empty(start.numel(), walk_length + 1)
        walks[:, 0] = start
        for first in range(0, start.numel() if walk_length else 0, BLOCK):
            block = slice(first, first + BLOCK)
            edges = self._walk_block(start[block], walk_length, generator)
            walks[block, 1:] = self.col.index_select(0, edges.view(-1)).view_as(edges).t()
        return walks

    def _walk_block(self, start: Tensor, walk_length: int, generator: torch.Generator | None) -> Tensor:
        """Draw the walks of one block as edges, shape (walk_length, num_walks)."""
        edges = start.new_empty(walk_length, start.numel())
        edge = edges[0].copy_(_draw_uniform(self.rowptr, self.degree, start, generator))
        for step in range(1, walk_length):
            if self.uniform:
                edge = _draw_uniform(self.first, self.fanout, edge, generator)
            else:
                edge = self._biased_step(edge, generator)
            edges[step] = edge
        return edges

    def _biased_step(self, edge: Tensor, generator: torch.Generator | None) -> Tensor:
        """Choose the edge that follows each edge."""
        following = self._draw(self.kept, edge, generator)
        if self.has_hubs:
            hubs = self.hub.index_select(0, edge).nonzero().view(-1)
            following[hubs] = self._reject(edge[hubs], generator)
        return following

    def _tabulate(self, edge: Tensor, size: Tensor) -> Distributions:
        """Write down the distribution after each edge t -> v. `size` is the degree of v, or 0 to leave it out."""
        end = size.cumsum(0)
        first = end - size
        shift = self.first.index_select(0, edge) - first
        # Half the memory where the numbers of edges allow it. One entry more: even the last `first` is a place.
        dtype = torch.int32 if self.col.numel() < 1 << 31 else torch.int64
        following = torch.zeros(int(size.sum()) + 1, dtype=dtype, device=edge.device)
        near, back = torch.zeros(2, edge.numel(), dtype=torch.float64, device=edge.device)
        for piece in _pieces(size):
            owner = torch.repeat_interleave(size[piece])
            begin = int(first[piece][0])
            out = torch.arange(begin, begin + owner.numel(), device=edge.device)
            out += shift[piece].index_select(0, owner)
            edges = following[begin : begin + owner.numel()].copy_(out)
            t = self.row.index_select(0, edge[piece]).index_select(0, owner)
            x = self.col.index_select(0, out)
            turned = x == t
            special = self._has_edge(t, x).logical_or_(turned).nonzero().view(-1)
            turned, owner = turned[special], owner[special]
            count = torch.bincount(owner, minlength=end[piece].numel())
            back[piece] = torch.bincount(owner, turned, minlength=count.numel())
            near[piece] = count - back[piece]
            # The few near ones and the way back change places with those at the end of the list.
            top = end[piece] - begin - count
            tail = torch.arange(owner.numel(), device=edge.device) + (top - count.cumsum(0) + count)[owner]
            is_special = torch.zeros(out.numel(), dtype=torch.bool, device=edge.device)
            is_special[special] = True
            edges[special[special < top[owner]]] = edges[tail[~is_special[tail]]]
            edges[tail] = out[special[(owner * 2 + turned).argsort(stable=True)]].to(dtype)
        far = size - near - back
        near, back = near * self.q, back * (self.q / self.p)
        # Short of the whole by too little to be seen in draws, but more than rounding can add to a draw.
        total = (far + near + back) * (1 - 2**-30)
        return Distributions(far, near, total, first, following)

    def _draw(self, given: Distributions, index: Tensor, generator: torch.Generator | None) -> Tensor:
        """Draw from the distributions with the given indices."""
        draw = _rand(index, generator).mul_(given.total.index_select(0, index))
        far, near = given.far.index_select(0, index), given.near.index_select(0, index)
        # The draw runs over the three kinds in turn. Divided by what one weighs it counts the edges passed.
        beyond_far = (draw - far).clamp_(min=0)
        beyond_near = (beyond_far - near).clamp_(min=0)
        passed = torch.minimum(draw, far).add_(torch.minimum(beyond_far, near), alpha=1 / self.q)
        place = passed.add_(beyond_near, alpha=self.p / self.q).long()
        place += given.first.index_select(0, index)
        return given.following.index_select(0, place).long()

    def _reject(self, edge: Tensor, generator: torch.Generator | None) -> Tensor:
        """Choose the edge that follows each edge by rejection."""
        chosen = torch.empty_like(edge)
        waiting = torch.arange(edge.numel(), device=edge.device)
        for _ in range(ROUNDS):
            following, accepted = self._propose(edge[waiting], generator)
            chosen[waiting[accepted]] = following[accepted]
            waiting = waiting[~accepted]
            if waiting.numel() == 0:
                return chosen
        size = self.degree[self.col[edge[waiting]]]
        for piece in _pieces(size):
            own = self._tabulate(edge[waiting[piece]], size[piece])
            chosen[waiting[piece]] = self._draw(
                own, torch.arange(own.far.numel(), device=edge.device), generator
            )
        return chosen

    def _propose(self, edge: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Propose an edge to follow each edge t -> v, and say which proposals may be taken.

        The way back weighs 1/p. Every other way weighs at least min(1, 1/q): that part needs no test. What is
        left weighs |1 - 1/q| and belongs to the neighbours of t if q > 1, to the others if q < 1: a candidate
        is proposed and tested. For q > 1 it comes from the list of t where that is shorter than that of v.
        Of the copies of an edge the first is taken: a walk goes on alike from each.
        """
        t, v = self.row[edge], self.col[edge]
        first_back, back = self._find(v * self.num_nodes + t)
        onward = self.degree[v] - back
        listed = self.degree[t] * self.max_copies
        from_t = (listed < onward) & (self.q > 1)
        plain, extra = min(1.0, 1 / self.q), abs(1 - 1 / self.q)
        turned = back.double() / self.p
        untested = turned + onward * plain

        draw = _rand(edge, generator) * (untested + torch.where(from_t, listed, onward) * extra)
        tested = draw >= untested
        place = torch.where(tested, (draw - untested) / (extra or 1.0), (draw - turned) / plain).long()
        following = self.rowptr[v] + torch.minimum(place, onward - 1).clamp_(min=0)
        following += torch.where(following >= first_back, back, 0)  # over the way back in the same list
        following = torch.where(draw < turned, first_back, following)
        accepted = ~tested

        of_v = (tested & ~from_t).nonzero().view(-1)
        accepted[of_v] = self._has_edge(t[of_v], self.col[following[of_v]]) == (self.q > 1)
        of_t = (tested & from_t).nonzero().view(-1)
        t, v, place = t[of_t], v[of_t], place[of_t]
        listing = self.rowptr[t] + torch.minimum(place // self.max_copies, self.degree[t] - 1)
        x = self.col[listing]
        following[of_t], count = self._find(v * self.num_nodes + x)
        # Each neighbour of t is taken once, whatever its copies, and then as often as v -> x occurs.
        fresh = self._find(self.keys[listing])[0] == listing
        accepted[of_t] = fresh & (x != t) & (place % self.max_copies < count)
        return following, accepted

    def _find(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Find the first edge with each key (row * num_nodes + col), and how often it occurs."""
        first = torch.searchsorted(self.keys, keys)
        return first, torch.searchsorted(self.keys, keys, right=True) - first

    def _has_edge(self, row: Tensor, col: Tensor) -> Tensor:
        """Say which of the edges row -> col exist."""
        keys = row * self.num_nodes + col
        found = self.seen.index_select(0, self._hash(keys))
        # The filter says "no" for certain and "yes" for most: only a "yes" is looked up.
        doubtful = found.nonzero().view(-1)
        key = keys[doubtful]
        place = torch.searchsorted(self.keys, key).clamp_(max=self.keys.numel() - 1)
        found[doubtful] = self.keys[place] == key
        return found

    def _hash(self, keys: Tensor) -> Tensor:
        """Scatter keys over the filter, whose size is a power of two (Knuth's multiplicative hashing)."""
        return (keys * 0x9E3779B97F4A7C1 >> 20).bitwise_and_(self.seen.numel() - 1)


def _draw_uniform(first: Tensor, count: Tensor, index: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw from the `count` numbers that begin at `first`, both taken at `index`."""
    draw = _rand(index, generator).mul_(count.index_select(0, index))
    return draw.long().add_(first.index_select(0, index))


def _rand(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw from [0, 1) with the 53 bits of float64: with fewer, the neighbours of a hub were not alike."""
    return torch.rand(like.shape, dtype=torch.float64, device=like.device, generator=generator)


def _pieces(size: Tensor) -> list[slice]:
    """Cut a list of distributions into pieces of about `MAX_WRITTEN` entries, or of a single distribution."""
    lengths = torch.unique_consecutive(size.cumsum(0) // MAX_WRITTEN, return_counts=True)[1]
    ends = lengths.cumsum(0).tolist()
    return [slice(begin, end) for begin, end in zip([0, *ends], ends, strict=False)]


def _loop_dead_ends(rowptr: Tensor, col: Tensor) -> tuple[Tensor, Tensor]:
    """Give each node without out-links a self-loop: to stay is then a step like any other."""
    degree = rowptr.diff()
    dead = (degree == 0).nonzero().view(-1)
    if dead.numel() == 0:
        return rowptr, col
    degree[dead] = 1
    rowptr = torch.cat([rowptr[:1], degree.cumsum(0)])
    is_loop = torch.zeros(col.numel() + dead.numel(), dtype=torch.bool, device=col.device)
    is_loop[rowptr[dead]] = True
    looped = col.new_empty(is_loop.numel())
    looped[is_loop] = dead
    looped[~is_loop] = col
    return rowptr, looped
