"""The solutions of notebook 06's exercises, against other implementations of the same thing."""

from __future__ import annotations

from functools import partial

import networkx as nx
import numpy as np
import pytest
import torch
from _solutions import run_solution
from sklearn.metrics import accuracy_score
from torch_geometric.utils import homophily

from course_utils.exercises import load

EXERCISES = load("06_gcn_on_cora")
solved = partial(run_solution, EXERCISES)


def karate():
    """Give the karate club: two classes, 34 nodes, no node without a link."""
    graph = nx.karate_club_graph()
    y = torch.tensor([int(club == "Officer") for _, club in graph.nodes(data="club")])
    return graph, torch.tensor(list(graph.to_directed().edges())).T, y


def test_names_and_their_order():
    assert [exercise.name for exercise in EXERCISES] == [
        "edge_homophily",
        "random_split",
        "masked_accuracy",
        "label_propagation",
    ]


@pytest.mark.parametrize("seed", range(3))
def test_masked_accuracy_is_scikit_learns(seed):
    rng = np.random.default_rng(seed)
    logits, y, mask = rng.normal(size=(40, 3)), rng.integers(0, 3, size=40), rng.random(40) < 0.4
    expected = accuracy_score(y[mask], logits.argmax(axis=1)[mask])
    got = solved("masked_accuracy")(*map(torch.as_tensor, (logits, y, mask)))
    assert got == pytest.approx(expected)


def test_edge_homophily_is_pyg():
    _, edge_index, y = karate()
    assert solved("edge_homophily")(edge_index, y) == pytest.approx(homophily(edge_index, y, method="edge"))


@pytest.mark.parametrize("num_nodes", [20, 100, 2700])
def test_random_split_covers_each_node_once(num_nodes):
    masks = solved("random_split")(num_nodes, torch.Generator().manual_seed(0))
    assert torch.equal(sum(mask.int() for mask in masks), torch.ones(num_nodes, dtype=torch.int32))
    assert [int(mask.sum()) * 100 // num_nodes for mask in masks] == [70, 15, 15]


def test_random_split_puts_every_node_everywhere_at_the_same_rate():
    generator = torch.Generator().manual_seed(0)
    split = solved("random_split")
    drawn = torch.stack([torch.stack(split(20, generator)) for _ in range(4000)]).float()
    rate = drawn.mean(dim=0)  # (3, 20)
    share = torch.tensor([0.7, 0.15, 0.15])[:, None]
    # Five standard errors: by chance one of the 60 rates in 30,000 runs is further off.
    assert ((rate - share).abs() < 5 * (share * (1 - share) / 4000).sqrt()).all()


def by_subsets(num_nodes, generator):
    """Split with PyTorch's own splitter of data sets."""
    subsets = torch.utils.data.random_split(range(num_nodes), [0.7, 0.15, 0.15], generator=generator)
    masks = []
    for subset in subsets:
        mask = torch.zeros(num_nodes, dtype=torch.bool)
        mask[subset.indices] = True
        masks.append(mask)
    return masks


def by_cutting(num_nodes, generator):
    order = torch.randperm(num_nodes, generator=generator)
    masks = torch.zeros(3, num_nodes, dtype=torch.bool)
    cuts = int(0.7 * num_nodes), int(0.85 * num_nodes)
    for mask, part in zip(masks, order.tensor_split(cuts), strict=True):
        mask[part] = True
    return tuple(masks)


@pytest.mark.parametrize("answer", [by_subsets, by_cutting])
@pytest.mark.parametrize("seed", range(5))
def test_other_right_splits_are_correct(answer, seed):
    assert EXERCISES.random_split.check(answer, seed=seed).status == "correct"


@pytest.mark.parametrize(
    "answer",
    [lambda _n, _g: None, lambda _n, _g: [[0, 1], [2], [3]], lambda n, g: torch.rand(n, generator=g)],
)
def test_what_is_no_split_at_all_is_told_what_is_due(answer):
    feedback = repr(EXERCISES.random_split.check(answer))
    assert "three masks are due, each a tensor of True and False of shape (20,)" in feedback


def test_label_propagation_ends_in_the_harmonic_function():
    graph, edge_index, y = karate()
    train = torch.zeros(34, dtype=torch.bool)
    train[[0, 5, 32, 33]] = True
    scores = solved("label_propagation")(y, edge_index, train, 2, 500)

    walk = nx.to_numpy_array(graph, weight=None)
    walk /= walk.sum(axis=1, keepdims=True)
    known = np.eye(2)[y[train]]
    inner, outer = walk[np.ix_(~train, ~train)], walk[np.ix_(~train, train)]
    harmonic = np.linalg.solve(np.eye(30) - inner, outer @ known)
    np.testing.assert_allclose(scores[~train].numpy(), harmonic, atol=1e-5)

    nx.set_node_attributes(
        graph, {node: int(y[node]) for node in train.nonzero().flatten().tolist()}, "label"
    )
    nx.set_edge_attributes(graph, 1, "weight")
    assert scores.argmax(dim=1).tolist() == nx.node_classification.harmonic_function(graph, max_iter=500)


def test_label_propagation_step_by_step():
    path = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    train = torch.tensor([True, False, False])
    spread = solved("label_propagation")
    y = torch.tensor([1, 0, 0])
    assert spread(y, path, train, 2, 0).tolist() == [[0, 1], [0, 0], [0, 0]]
    assert spread(y, path, train, 2, 1).tolist() == [[0, 1], [0, 0.5], [0, 0]]
    assert spread(y, path, train, 2, 2).tolist() == [[0, 1], [0, 0.5], [0, 0.5]]


def test_label_propagation_does_not_read_the_classes_to_be_predicted():
    _, edge_index, y = karate()
    train = torch.arange(34) % 4 == 0
    spread = solved("label_propagation")
    others = torch.where(train, y, 1 - y)
    assert torch.equal(spread(y, edge_index, train, 2, 3), spread(others, edge_index, train, 2, 3))
