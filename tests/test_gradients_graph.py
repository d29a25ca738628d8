"""Faults of a graph are found before training, and what may well be meant so is no fault."""

import pytest
import torch
from gradient_cases.case import graph
from gradient_cases.healthy_graphs import bag_of_words, molecules
from torch_geometric.data import Data

from course_utils.gradients import check_graph


def faults(data):
    return [(each.kind, each.where, each.severity) for each in check_graph(data) if each.severity != "info"]


def notes(data):
    return [(each.kind, each.where) for each in check_graph(data) if each.severity == "info"]


@pytest.fixture
def data():
    return graph(60, seed=1)


def test_a_good_graph_has_no_faults(data):
    assert faults(data) == []
    assert faults(molecules()) == []
    assert faults(bag_of_words()) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda e: e.t().contiguous(), r"shape \(\d+, 2\); it must be \(2, E\)"),
        (lambda e: e.float(), r"torch.float32; node numbers must be torch.int64"),
        (lambda e: e.int(), r"torch.int32; node numbers must be torch.int64"),
        (lambda e: e + 1, "names node 60, but there are 60 nodes"),
        (
            lambda e: torch.cat([e, -torch.ones(2, 3, dtype=torch.long)], 1),
            "3 edges have a negative node number",
        ),
        (lambda e: e[0], r"shape \(\d+,\)"),
    ],
)
def test_invalid_edges(data, change, says):
    data.edge_index = change(data.edge_index)
    (finding,) = (each for each in check_graph(data) if each.severity == "error")
    assert (finding.kind, finding.where) == ("invalid_edge_index", "edge_index")
    with pytest.raises(ValueError, match=says):
        raise ValueError(finding.message)


def test_a_dense_adjacency_is_told_how_to_become_edges(data):
    data.edge_index = torch.zeros(60, 60, dtype=torch.long)
    (finding,) = (each for each in check_graph(data) if each.severity == "error")
    assert "adjacency.nonzero().t()" in finding.remedy


def test_edges_in_one_direction_only(data):
    data.edge_index = data.edge_index[:, data.edge_index[0] > data.edge_index[1]]
    assert faults(data) == [("suspicious_edge_index", "edge_index", "warning")]


def test_a_directed_graph_is_worth_a_note(data):
    keep = torch.rand(data.num_edges, generator=torch.Generator().manual_seed(0)) < 0.6
    data.edge_index = data.edge_index[:, keep]
    assert faults(data) == []
    assert ("suspicious_edge_index", "edge_index") in notes(data)


def test_reversed_edges_leave_training_nodes_without_messages():
    edges = torch.tensor([[5, 6, 7, 8, 9], [0, 1, 2, 3, 4]])
    mask = torch.arange(10) < 5
    right = Data(x=torch.randn(10, 3), edge_index=edges, train_mask=mask)
    assert faults(right) == []
    right.edge_index = edges.flip(0)
    (finding,) = (each for each in check_graph(right) if each.severity != "info")
    assert "100% of the training nodes send messages and receive none" in finding.message
    assert "edge_index.flip(0)" in finding.remedy


def test_the_ambiguous_two_by_two():
    x = torch.randn(4, 2)
    pairs = Data(x=x, edge_index=torch.tensor([[0, 2], [1, 3]]))
    assert faults(pairs) == [("suspicious_edge_index", "edge_index", "warning")]
    symmetric = Data(x=x[:2], edge_index=torch.tensor([[0, 1], [1, 0]]))
    assert check_graph(symmetric) == []


def test_duplicates_and_isolated_nodes_are_notes():
    edges = torch.tensor([[0, 1, 0], [1, 0, 1]])
    found = check_graph(Data(x=torch.randn(4, 2), edge_index=edges))
    text = " ".join(each.message for each in found)
    assert {each.severity for each in found} == {"info"}
    assert "1 of 3 edges are there more than once" in text
    assert "2 of 4 nodes have no edge" in text


def test_no_edges_and_only_loops(data):
    data.edge_index = torch.empty(2, 0, dtype=torch.long)
    assert faults(data) == [("suspicious_edge_index", "edge_index", "warning")]
    data.edge_index = torch.arange(60).expand(2, 60)
    assert faults(data) == [("suspicious_edge_index", "edge_index", "warning")]


def test_edges_between_graphs_of_a_batch():
    batch = molecules()
    batch.edge_index[1, 0] = batch.num_nodes - 1
    assert ("suspicious_edge_index", "edge_index", "warning") in faults(batch)


def test_weights(data):
    data.edge_weight = torch.ones(data.num_edges)
    assert faults(data) == []
    data.edge_weight[3] = -1
    assert faults(data) == [("negative_edge_weight", "edge_weight", "warning")]
    data.edge_weight = torch.ones(data.num_edges)
    data.edge_weight[3] = 1e5
    assert faults(data) == [("unscaled_features", "edge_weight", "warning")]
    data.edge_weight[3] = float("nan")
    assert ("non_finite_input", "edge_weight", "error") in faults(data)
    data.edge_weight = torch.ones(7)
    assert faults(data) == [("invalid_edge_index", "edge_weight", "error")]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_features(data, value):
    data.x[4, 1] = value
    assert faults(data) == [("non_finite_input", "x", "error")]


def test_scales_of_columns(data):
    data.x[:, 5] *= 1000
    (finding,) = (each for each in check_graph(data) if each.severity != "info")
    assert (finding.kind, finding.evidence["column"]) == ("unscaled_features", 5)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
def test_sparse_features_are_measured_as_dense_ones():
    data = bag_of_words()
    data.x = data.x.to_sparse_csr()
    assert faults(data) == []
    data.x = (data.x.to_dense() * torch.tensor([1e4] + [1.0] * 499)).to_sparse_csr()
    assert faults(data) == [("unscaled_features", "x", "warning")]
    data.x.values()[0] = float("nan")
    assert ("non_finite_input", "x", "error") in faults(data)


def test_constant_columns(data):
    data.x[:, 2] = 5
    assert faults(data) == [("constant_feature", "x", "warning")]
    data.x[:, 2] = 1  # a bias
    assert faults(data) == []
    assert ("constant_feature", "x") in notes(data)


def test_a_word_that_nobody_uses_is_a_note():
    data = bag_of_words()
    data.x[:, 7] = 0
    assert faults(data) == []


def test_masks(data):
    data.val_mask = data.train_mask.clone()
    (finding,) = (each for each in check_graph(data) if each.severity != "info")
    assert (finding.where, finding.severity) == ("val_mask", "warning")
    assert f"share {int(data.train_mask.sum())} nodes" in finding.message
    data.train_mask = torch.zeros(60, dtype=torch.bool)
    assert ("empty_mask", "train_mask", "error") in faults(data)
    data.train_mask = (torch.arange(60) < 20).long()
    (finding,) = (each for each in check_graph(data) if each.severity == "error")
    assert "choose nodes 0 and 1 only" in finding.message


def test_labels(data):
    data.y = torch.where(data.train_mask, data.y, -1)
    assert faults(data) == []
    data.y[data.train_mask.nonzero()[0]] = -1
    assert faults(data) == [("target_mismatch", "y", "error")]
    data.y = data.y[:-1]
    assert ("target_mismatch", "y", "error") in faults(data)


def test_a_dictionary_and_what_is_no_graph():
    assert check_graph({"x": torch.randn(9, 2), "edge_index": torch.tensor([[0, 1], [1, 0]])}) != []
    with pytest.raises(TypeError, match="looks at x, edge_index, y and masks; int has none of them"):
        check_graph(3)
