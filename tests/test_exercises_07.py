"""The solutions of notebook 07's exercises, against other implementations of the same thing."""

from __future__ import annotations

from functools import partial

import networkx as nx
import numpy as np
import pytest
import torch
from _solutions import run_solution
from torch import nn
from torch_geometric.nn import GATConv, GCNConv, GINConv, SAGEConv
from torch_geometric.nn.models import GCN, GraphSAGE

from course_utils import smoothness
from course_utils.exercises import load

EXERCISES = load("07_how_many_layers")
solved = partial(run_solution, EXERCISES)


@pytest.fixture
def karate():
    graph = nx.karate_club_graph()
    x = torch.randn(34, 6, generator=torch.Generator().manual_seed(0))
    return x, torch.tensor(list(graph.to_directed().edges())).T


def test_names_that_are_fixed_and_their_order():
    assert [exercise.name for exercise in EXERCISES] == [
        "adjustable_gcn",
        "dirichlet_energy",
        "propagation_matrix",
        "conv_model",
    ]


def test_dirichlet_energy_is_that_of_the_course_and_of_the_laplacian(karate):
    x, edge_index = karate
    energy = solved("dirichlet_energy")(x, edge_index)
    assert energy == pytest.approx(smoothness.dirichlet_energy(x, edge_index), rel=1e-5)
    adjacency = nx.to_numpy_array(nx.karate_club_graph(), weight=None) + np.eye(34)
    scale = np.diag(adjacency.sum(axis=1) ** -0.5)
    laplacian = np.eye(34) - scale @ adjacency @ scale
    assert energy == pytest.approx(np.trace(x.T.numpy() @ laplacian @ x.numpy()), rel=1e-5)


@pytest.mark.parametrize("num_layers", [1, 2, 3, 6])
def test_adjustable_gcn_is_pyg_gcn(karate, num_layers):
    model = solved("adjustable_gcn")(6, 8, 3, num_layers)
    reference = GCN(in_channels=6, hidden_channels=8, num_layers=num_layers, out_channels=3)
    model.load_state_dict(reference.state_dict())
    torch.testing.assert_close(model.eval()(*karate), reference.eval()(*karate))
    assert sum(isinstance(module, GCNConv) for module in model.modules()) == num_layers


class OtherGCN(nn.Module):
    """A right answer that is written in another way, with dropout where it belongs."""

    def __init__(self, in_channels, hidden_channels, out_channels, num_layers):
        super().__init__()
        self.dropout = nn.Dropout(0.3)
        self.out = GCNConv(hidden_channels if num_layers > 1 else in_channels, out_channels)
        for number in range(num_layers - 1):
            width = hidden_channels if number else in_channels
            self.add_module(f"layer{number}", GCNConv(width, hidden_channels))
        self.num_layers = num_layers

    def forward(self, x, edge_index):
        for number in range(self.num_layers - 1):
            x = torch.relu(getattr(self, f"layer{number}")(self.dropout(x), edge_index))
        return self.out(x, edge_index)


class DropoutElsewhere(OtherGCN):
    def forward(self, x, edge_index):
        return super().forward(nn.functional.dropout(x, 0.2), edge_index)


class WithoutGradient(OtherGCN):
    def forward(self, x, edge_index):
        with torch.no_grad():
            return super().forward(x, edge_index)


class HiddenInAList(OtherGCN):
    def __init__(self, in_channels, hidden_channels, out_channels, num_layers):
        super().__init__(in_channels, hidden_channels, out_channels, num_layers)
        for number in range(num_layers - 1):
            layer = getattr(self, f"layer{number}")
            delattr(self, f"layer{number}")
            self.__dict__[f"layer{number}"] = layer


def test_layer_names_order_and_dropout_in_training_do_not_matter():
    assert EXERCISES.adjustable_gcn.check(OtherGCN).status == "correct"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (DropoutElsewhere, "Dropout stays on in eval()."),
        (WithoutGradient, "'parameters the gradient reaches': 0 is too small."),
        (HiddenInAList, "'learned numbers': 24 is too small."),
    ],
)
def test_faults_that_the_output_alone_does_not_show_are_found(answer, says):
    outcome = EXERCISES.adjustable_gcn.check(answer)
    assert outcome.status == "not yet"
    assert says in repr(outcome)


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("improved", [False, True])
@pytest.mark.parametrize(("add_self_loops", "normalize"), [(True, True), (False, True), (False, False)])
def test_propagation_matrix_is_what_gcn_conv_multiplies_with(directed, improved, add_self_loops, normalize):
    graph = nx.gnp_random_graph(15, 0.1, seed=3, directed=directed)
    graph.remove_edges_from(list(graph.edges(14)))  # in the undirected graph, a node without links
    edge_index = torch.tensor(list(graph.to_directed().edges())).T
    edge_index = torch.cat([edge_index, edge_index[:, :2]], dim=1)  # two edges stand there twice
    switches = {"improved": improved, "add_self_loops": add_self_loops, "normalize": normalize}
    conv = GCNConv(15, 15, bias=False, **switches)
    with torch.no_grad():
        conv.lin.weight.copy_(torch.eye(15))
        expected = conv(torch.eye(15), edge_index, torch.ones(edge_index.shape[1]))
    torch.testing.assert_close(solved("propagation_matrix")(edge_index, 15, **switches), expected)


def test_gcn_conv_ignores_improved_where_no_weights_are_passed(karate):
    x, edge_index = karate
    plain, improved = GCNConv(6, 3), GCNConv(6, 3, improved=True)
    improved.load_state_dict(plain.state_dict())
    torch.testing.assert_close(improved(x, edge_index), plain(x, edge_index))
    ones = torch.ones(edge_index.shape[1])
    assert not torch.allclose(improved(x, edge_index, ones), plain(x, edge_index, ones))


def test_conv_model_is_pyg_graph_sage(karate):
    model = solved("conv_model")(SAGEConv, 6, 8, 3)
    reference = GraphSAGE(in_channels=6, hidden_channels=8, num_layers=2, out_channels=3)
    weights = reference.state_dict().items()
    model.load_state_dict(
        {name.replace("convs.0", "first").replace("convs.1", "second"): weight for name, weight in weights}
    )
    torch.testing.assert_close(model(*karate), reference.eval()(*karate))


@pytest.mark.parametrize(
    "conv", [GATConv, partial(GATConv, heads=4, concat=False), lambda i, o: GINConv(nn.Linear(i, o))]
)
def test_conv_model_takes_any_convolution(karate, conv):
    assert solved("conv_model")(conv, 6, 8, 3)(*karate).shape == (34, 3)
