"""The solutions of notebook 05's exercises, against other implementations of the same thing."""

from __future__ import annotations

from functools import partial

import networkx as nx
import numpy as np
import pytest
import torch
from _solutions import run_solution
from torch_geometric.nn import GCNConv, SimpleConv, global_mean_pool

from course_utils.exercises import load

EXERCISES = load("05_message_passing")
solved = partial(run_solution, EXERCISES)


def one_way_streets(seed, num_nodes=20):
    """Draw a directed graph without loops; its last node has no edge, and some edges stand there twice."""
    graph = nx.gnp_random_graph(num_nodes - 1, 0.12, seed=seed, directed=True)
    edge_index = torch.tensor(list(graph.edges())).T
    return torch.cat([edge_index, edge_index[:, :5]], dim=1)


def propagated(x, edge_index):
    """Propagate with PyTorch Geometric: a GCNConv whose weight is the identity."""
    conv = GCNConv(x.shape[1], x.shape[1], bias=False).requires_grad_(requires_grad=False)
    torch.nn.init.eye_(conv.lin.weight)
    return conv(x, edge_index)


def test_names_that_are_fixed_and_their_order():
    assert [exercise.name for exercise in EXERCISES] == [
        "mean_aggregate",
        "mean_readout",
        "gcn_propagate",
        "receptive_field",
    ]


def test_mean_readout_is_global_mean_pool():
    x, batch = torch.randn(9, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0] * 4 + [3] * 5)
    torch.testing.assert_close(solved("mean_readout")(x, batch), global_mean_pool(x, batch))


@pytest.mark.parametrize("seed", range(3))
def test_mean_aggregate_is_pyg_mean_with_directed_and_repeated_edges(seed):
    x, edge_index = torch.randn(20, 3, generator=torch.Generator().manual_seed(seed)), one_way_streets(seed)
    aggregated = solved("mean_aggregate")(x, edge_index)
    torch.testing.assert_close(aggregated, SimpleConv(aggr="mean")(x, edge_index))
    assert not aggregated[-1].any()


def test_a_message_runs_from_row_0_to_row_1():
    x = torch.tensor([[2.0], [5.0]])
    assert solved("mean_aggregate")(x, torch.tensor([[0], [1]])).tolist() == [[0.0], [2.0]]


def test_permuting_the_nodes_permutes_what_they_receive():
    x, edge_index = torch.randn(20, 3, generator=torch.Generator().manual_seed(0)), one_way_streets(0)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    for name in ("mean_aggregate", "gcn_propagate"):
        function = solved(name)
        relabelled = function(x[order], order.argsort()[edge_index])
        torch.testing.assert_close(relabelled, function(x, edge_index)[order])


@pytest.mark.parametrize("seed", range(3))
def test_gcn_propagate_is_gcn_conv_without_weights(seed):
    x, directed = torch.randn(20, 3, generator=torch.Generator().manual_seed(seed)), one_way_streets(seed)
    for edge_index in (directed, torch.cat([directed, directed.flip(0)], dim=1)):
        torch.testing.assert_close(solved("gcn_propagate")(x, edge_index), propagated(x, edge_index))


def test_gcn_propagate_is_the_matrix_formula():
    graph = nx.karate_club_graph()
    adjacency = nx.to_numpy_array(graph, weight=None) + np.eye(34)
    scale = np.diag(adjacency.sum(axis=1) ** -0.5)
    edge_index = torch.tensor(list(graph.to_directed().edges())).T
    matrix = solved("gcn_propagate")(torch.eye(34), edge_index)
    np.testing.assert_allclose(matrix.numpy(), scale @ adjacency @ scale, rtol=1e-5)


@pytest.mark.parametrize("num_layers", [0, 1, 2, 3])
def test_receptive_field_is_where_the_jacobian_is_not_zero(num_layers):
    edge_index = one_way_streets(1)
    x = torch.ones(20, 1)
    for node in (0, 4, 19):

        def output(features, node=node):
            for _ in range(num_layers):
                features = propagated(features, edge_index)
            return features[node]

        jacobian = torch.autograd.functional.jacobian(output, x)  # (1, 20, 1)
        reached = set(jacobian.flatten().nonzero().flatten().tolist())
        assert solved("receptive_field")(edge_index, node, num_layers) == reached


def test_receptive_field_is_an_ego_graph_of_the_reversed_graph():
    edge_index = one_way_streets(2)
    graph = nx.DiGraph(edge_index.T.tolist())
    for num_layers in range(5):
        ego = nx.ego_graph(graph.reverse(), 3, radius=num_layers)
        assert solved("receptive_field")(edge_index, 3, num_layers) == set(ego)


def by_loop(x, edge_index):
    """Do what `mean_aggregate` does, the long way."""
    rows = []
    for node in range(len(x)):
        sources = edge_index[0, edge_index[1] == node]
        rows.append(x[sources].mean(dim=0) if len(sources) else torch.zeros(x.shape[1]))
    return torch.stack(rows)


def by_matrix(x, edge_index):
    """Do what `gcn_propagate` does with a dense matrix."""
    adjacency = torch.zeros(len(x), len(x))
    adjacency[edge_index[0], edge_index[1]] = 1
    adjacency += torch.eye(len(x))
    scale = adjacency.sum(dim=1).rsqrt().diag()
    return scale @ adjacency @ scale @ x


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("mean_readout", global_mean_pool),
        ("mean_aggregate", by_loop),
        ("mean_aggregate", SimpleConv(aggr="mean")),
        ("gcn_propagate", by_matrix),
        ("gcn_propagate", propagated),
    ],
)
def test_other_ways_to_the_right_result_are_correct(name, answer):
    assert EXERCISES.__getattr__(name).check(answer).status == "correct"
