"""Walks follow their exact distribution, on any graph, and refuse what is no graph."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest
import torch
from scipy.stats import chi2

from course_utils import _walker
from course_utils.walks import biased_random_walks, to_csr, transition_probabilities

NUM_NODES = 12
# 110 chi-square tests at this level: a correct sampler fails one of them about once in 1,000 times.
LEVEL = 1e-5
BIASES = list(itertools.product((0.25, 0.5, 1.0, 2.0, 4.0), repeat=2))


def slow_csr(edges, num_nodes):
    """Sort a list of edges into rowptr and col, in plain Python."""
    edges = sorted(edges)
    degree = Counter(tail for tail, _ in edges)
    rowptr = [0, *itertools.accumulate(degree[node] for node in range(num_nodes))]
    return torch.tensor(rowptr), torch.tensor([head for _, head in edges], dtype=torch.int64)


def random_graph(*, directed):
    """Draw a small graph with multi-edges, self-loops and (directed) dead ends."""
    generator = torch.Generator().manual_seed(5)
    edges = torch.randint(NUM_NODES, (44 if directed else 26, 2), generator=generator).tolist()
    edges += edges[:4] + ([] if directed else [edge[::-1] for edge in edges + edges[:4]])
    return [tuple(edge) for edge in edges if not (directed and edge[0] == 3)]


def slow_table(edges, p, q):
    """Give a function for the probability of each next node, by the definition, in plain Python."""
    neighbours = {}
    for tail, head in edges:
        neighbours.setdefault(tail, []).append(head)

    def table(previous, current):
        weights = Counter()
        for head in neighbours.get(current, []):
            near = head in neighbours.get(previous, [])
            weights[head] += 1 / p if head == previous else 1 if near else 1 / q
        return {head: weight / sum(weights.values()) for head, weight in weights.items()}

    return table


def chi_square(walks, edges, p, q):
    """Test all steps after the first one against the exact table, and return the p-value."""
    table = slow_table(edges, p, q)
    visits = {}
    for walk in walks.tolist():
        for previous, current, following in zip(walk, walk[1:], walk[2:], strict=False):
            visits.setdefault((previous, current), Counter())[following] += 1
    statistic, freedom = 0.0, 0
    for (previous, current), seen in visits.items():
        expected = table(previous, current) or {current: 1.0}
        assert set(seen) <= set(expected)
        cells = [(seen[head], seen.total() * share) for head, share in expected.items()]
        common = [cell for cell in cells if cell[1] >= 5]
        rare = [cell for cell in cells if cell[1] < 5]
        if rare:  # pooled, as the chi-square distribution asks for
            common.append((sum(count for count, _ in rare), sum(mean for _, mean in rare)))
        if common[-1][1] < 1:
            continue
        statistic += sum((count - mean) ** 2 / mean for count, mean in common)
        freedom += len(common) - 1
    assert freedom > 20
    return chi2.sf(statistic, freedom)


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize(("p", "q"), BIASES)
def test_table_equals_slow_definition(p, q, directed):
    edges = random_graph(directed=directed)
    rowptr, col = slow_csr(edges, NUM_NODES)
    table = slow_table(edges, p, q)
    for previous, current in set(edges):
        got = transition_probabilities(rowptr, col, previous, current, p=p, q=q)
        total = Counter()
        for head, share in zip(
            col[rowptr[current] : rowptr[current + 1]].tolist(), got.tolist(), strict=True
        ):
            total[head] += share
        assert total == pytest.approx(table(previous, current), abs=1e-12)


def test_csr_is_that_of_plain_python():
    edges = random_graph(directed=True)  # multi-edges, self-loops, a dead end
    for num_nodes in (NUM_NODES, NUM_NODES + 3):
        found = to_csr(torch.tensor(edges).t(), num_nodes)
        assert all(map(torch.equal, found, slow_csr(edges, num_nodes)))
    assert to_csr(torch.tensor([[0], [4]]))[0].tolist() == [0, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("kept", [0, 1 << 24])
@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize(("p", "q"), BIASES)
def test_walks_follow_the_table(p, q, directed, kept, monkeypatch):
    monkeypatch.setattr(_walker, "MAX_KEPT", kept)
    edges = random_graph(directed=directed)
    start = torch.arange(NUM_NODES).repeat(200)
    generator = torch.Generator().manual_seed(1)
    walks = biased_random_walks(*slow_csr(edges, NUM_NODES), start, 8, p=p, q=q, generator=generator)
    assert chi_square(walks, edges, p, q) > LEVEL


@pytest.mark.parametrize("rounds", [0, 4])
@pytest.mark.parametrize(("p", "q"), [(0.05, 20.0), (1e3, 1e3), (20.0, 0.05), (1e-3, 1e-3), (3.0, 40.0)])
def test_rejection_is_exact_for_extreme_bias(p, q, rounds, monkeypatch):
    monkeypatch.setattr(_walker, "MAX_KEPT", 0)
    monkeypatch.setattr(_walker, "ROUNDS", rounds)
    edges = random_graph(directed=False) + [(0, node) for node in range(40, 100)]
    edges += [(head, tail) for tail, head in edges[-60:]]
    start = torch.arange(100).repeat(40)
    generator = torch.Generator().manual_seed(2)
    walks = biased_random_walks(*slow_csr(edges, 100), start, 8, p=p, q=q, generator=generator)
    assert chi_square(walks, edges, p, q) > LEVEL


def test_first_step_is_uniform_over_edges():
    rowptr, col = slow_csr([(0, 1), (0, 1), (0, 1), (0, 2)], 3)
    walks = biased_random_walks(
        rowptr, col, torch.zeros(40_000, dtype=torch.int64), 1, generator=torch.Generator().manual_seed(0)
    )
    # Four standard deviations of the share.
    assert (walks[:, 1] == 1).double().mean().item() == pytest.approx(
        0.75, abs=4 * math.sqrt(0.1875 / 40_000)
    )


def test_paper_setting_turns_back_least_on_a_star_with_a_ring():
    # p=1, q=0.25 on a corner whose other neighbours are far: 1/10, 1/10, 4/10, 4/10.
    edges = [(0, 1), (1, 0), (1, 2), (1, 3), (1, 4), (0, 2)]
    table = transition_probabilities(*slow_csr(edges, 5), 0, 1, p=1.0, q=0.25)
    assert table.tolist() == pytest.approx([0.1, 0.1, 0.4, 0.4])


def test_direction_of_nearness_is_from_previous_to_candidate():
    forward = transition_probabilities(*slow_csr([(0, 1), (0, 2), (1, 2), (1, 3)], 4), 0, 1, p=1, q=4)
    backward = transition_probabilities(*slow_csr([(0, 1), (2, 0), (1, 2), (1, 3)], 4), 0, 1, p=1, q=4)
    assert forward.tolist() == pytest.approx([0.8, 0.2])
    assert backward.tolist() == pytest.approx([0.5, 0.5])


def test_self_loop_makes_current_node_the_previous_one():
    # Once round the loop of node 0: staying is the way back (1/p), all others are neighbours of t.
    table = transition_probabilities(*slow_csr([(0, 0), (0, 1), (0, 2)], 3), 0, 0, p=0.5, q=7)
    assert table.tolist() == pytest.approx([0.5, 0.25, 0.25])


@pytest.mark.parametrize(("p", "q"), [(1, 1), (0.5, 2), (1e3, 1e-3)])
def test_dead_ends_keep_the_walk(p, q):
    rowptr, col = slow_csr([(0, 1), (1, 2)], 4)
    walks = biased_random_walks(rowptr, col, torch.arange(4), 4, p=p, q=q)
    assert walks.tolist() == [[0, 1, 2, 2, 2], [1, 2, 2, 2, 2], [2] * 5, [3] * 5]
    assert transition_probabilities(rowptr, col, 1, 2, p=p, q=q).tolist() == []


@pytest.mark.parametrize(("p", "q"), [(1, 1), (0.5, 2)])
def test_generator_alone_decides(p, q):
    rowptr, col = slow_csr(random_graph(directed=False), NUM_NODES)
    start = torch.arange(NUM_NODES).repeat(50)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first, again, other = (
        biased_random_walks(rowptr, col, start, 9, p=p, q=q, generator=torch.Generator().manual_seed(seed))
        for seed in (7, 7, 8)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_shape_dtype_and_empty_inputs():
    rowptr, col = slow_csr(random_graph(directed=False), NUM_NODES)
    walks = biased_random_walks(rowptr, col, torch.arange(5), 0, p=2.0, q=0.5)
    assert walks.tolist() == [[0], [1], [2], [3], [4]]
    assert biased_random_walks(rowptr, col, rowptr[:0], 3).shape == (0, 4)
    nothing = torch.zeros(0, dtype=torch.int64)
    assert biased_random_walks(torch.tensor([0]), nothing, nothing, 3, p=2.0).shape == (0, 4)
    alone = biased_random_walks(torch.tensor([0, 0]), nothing, torch.tensor([0]), 3, p=2.0)
    assert alone.tolist() == [[0, 0, 0, 0]]
    assert alone.dtype == torch.int64


def test_walks_are_drawn_alike_in_blocks(monkeypatch):
    monkeypatch.setattr(_walker, "BLOCK", 7)
    rowptr, col = slow_csr(random_graph(directed=False), NUM_NODES)
    walks = biased_random_walks(rowptr, col, torch.arange(NUM_NODES).repeat(3), 5, p=0.5, q=2)
    assert torch.equal(walks[:, 0], torch.arange(NUM_NODES).repeat(3))
    edges = set(random_graph(directed=False))
    assert all(
        step in edges or step[0] == step[1] for walk in walks.tolist() for step in itertools.pairwise(walk)
    )


@pytest.mark.parametrize(("p", "q"), [(1e-3, 1e3), (1e3, 1e3), (1e3, 1e-3), (1e-3, 1e-3)])
def test_a_hub_with_100000_leaves_is_walked(p, q):
    leaves = torch.arange(1, 100_001)
    rowptr = torch.cat([torch.tensor([0]), torch.arange(100_000, 200_001)])
    col = torch.cat([leaves, torch.zeros_like(leaves)])
    start = torch.arange(0, 100_001, 5)
    walks = biased_random_walks(rowptr, col, start, 6, p=p, q=q, generator=torch.Generator().manual_seed(0))
    assert bool(((walks[:, :-1] == 0) ^ (walks[:, 1:] == 0)).all())
    back = (walks[1:, 0] == walks[1:, 2]).double().mean().item()
    exact = (1 / p) / (1 / p + 99_999 / q)
    # Five standard deviations, and one walk more for shares near zero.
    assert back == pytest.approx(exact, abs=5 * math.sqrt(exact * (1 - exact) / 20_000) + 1 / 20_000)


GOOD = slow_csr([(0, 1), (0, 2), (1, 0)], 3)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"p": 0.0}, ValueError, "p must be positive and finite, got 0.0"),
        ({"q": -1.0}, ValueError, "q must be positive and finite"),
        ({"p": math.nan}, ValueError, "p must be positive and finite, got nan"),
        ({"q": math.inf}, ValueError, "q must be positive and finite, got inf"),
        ({"p": "1"}, TypeError, "p must be a number, got str"),
        ({"walk_length": -1}, ValueError, "walk_length must be 0 or more, got -1"),
        ({"walk_length": 2.0}, TypeError, "walk_length must be an int, got float"),
        ({"start": torch.tensor([3])}, ValueError, "start holds node 3, but the graph has the nodes 0 to 2"),
        ({"start": torch.tensor([-1])}, ValueError, "start holds node -1"),
        ({"start": torch.tensor([0.0])}, TypeError, "start must be a tensor of dtype torch.int64"),
        ({"start": [0]}, TypeError, "start must be a tensor of dtype torch.int64, got list"),
        ({"start": torch.tensor([[0]])}, ValueError, "start must have one dimension"),
        (
            {"rowptr": GOOD[0].int()},
            TypeError,
            "rowptr must be a tensor of dtype torch.int64, got torch.int32",
        ),
        (
            {"rowptr": torch.tensor([0, 2, 3, 4])},
            ValueError,
            "rowptr must run from 0 to the 3 entries of col",
        ),
        ({"rowptr": GOOD[0][:0]}, ValueError, "it runs over nothing"),
        (
            {"rowptr": torch.tensor([0, 3, 2, 3])},
            ValueError,
            "rowptr must not decrease, but it does after entry 1",
        ),
        ({"col": torch.tensor([1, 3, 0])}, ValueError, "col holds node 3"),
        (
            {"col": torch.tensor([2, 1, 0])},
            ValueError,
            "sorted within each row, but in row 0 .*to_csr",
        ),
    ],
)
def test_bad_input_is_named(changes, error, message):
    arguments = {"rowptr": GOOD[0], "col": GOOD[1], "start": torch.tensor([0]), "walk_length": 2} | changes
    with pytest.raises(error, match=message):
        biased_random_walks(**arguments)


def test_bad_input_of_the_table_is_named():
    with pytest.raises(ValueError, match="previous holds node 5"):
        transition_probabilities(*GOOD, 5, 0, p=1, q=1)
    with pytest.raises(ValueError, match="current holds node -1"):
        transition_probabilities(*GOOD, 0, -1, p=1, q=1)
    with pytest.raises(ValueError, match="p must be positive"):
        transition_probabilities(*GOOD, 0, 1, p=0, q=1)
