"""Models whose data are wrong."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss, nll_loss, one_hot
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv, SAGEConv

from gradient_cases.case import GNN, Case, broken, graph, mlp, node_case, row_case, table


@broken("non_finite_input", at="x")
def one_feature_is_nan():
    data = graph()
    data.x[3, 2] = float("nan")
    return node_case(data)


@broken("non_finite_input", at="x")
def infinite_feature_without_data():
    x, y = table()
    x[5] = float("inf")
    case = row_case(mlp(8, 16, 3), x, y)
    case.data = None
    return case


@broken("non_finite_input", at="y")
def target_is_nan():
    x, y = torch.randn(40, 4), torch.randn(40, 1)
    y[7] = float("nan")
    model = mlp(4, 16, 1)
    return Case(model, lambda m: mse_loss(m(x), y), (x, y), torch.optim.Adam(model.parameters()))


@broken("unscaled_features", at="x")
def one_feature_in_other_units():
    data = graph()
    data.x[:, 4] *= 1e4
    return node_case(data)


@broken("unscaled_features", at="x")
def all_features_huge():
    x, y = table()
    return row_case(mlp(8, 16, 3), 1e4 * x, y)


@broken("unscaled_features", at="x")
def huge_features_into_tanh():
    x, y = table()
    case = row_case(mlp(8, 32, 3, act=nn.Tanh), 1e3 * x, y)
    case.data = None
    return case


@broken("constant_feature", at="x")
def column_of_sevens():
    data = graph()
    data.x[:, 3] = 7.0
    return node_case(data)


@broken("non_finite_input", "constant_feature", "non_finite_activation", at=("x", "model"))
def standardised_over_a_constant_column():
    data = graph()
    data.x[:, 3] = 7.0
    data.x = (data.x - data.x.mean(0)) / data.x.std(0)
    return node_case(data)


@broken("invalid_edge_index", at="edge_index")
def node_numbers_from_one():
    data = graph()
    data.edge_index = data.edge_index + 1
    data.edge_index[1, 0] = data.num_nodes
    return node_case(data)


@broken("invalid_edge_index", at="edge_index")
def padded_with_minus_one():
    data = graph()
    data.edge_index = torch.cat([data.edge_index, torch.full((2, 5), -1)], dim=1)
    return node_case(data)


@broken("invalid_edge_index", at="edge_index")
def pairs_in_rows():
    data = graph()
    data.edge_index = data.edge_index.t().contiguous()
    return node_case(data)


@broken("invalid_edge_index", at="edge_index")
def edges_as_decimals_without_data():
    data = graph()
    data.edge_index = data.edge_index.float()
    case = node_case(data)
    case.data = None
    return case


@broken("invalid_edge_index", at="edge_index")
def dense_adjacency_as_edges():
    data = graph()
    adjacency = torch.zeros(60, 60, dtype=torch.long)
    adjacency[data.edge_index[0], data.edge_index[1]] = 1
    data.edge_index = adjacency
    return node_case(data)


@broken("suspicious_edge_index", at="edge_index")
def half_of_each_link_lost():
    data = graph()
    data.edge_index = data.edge_index[:, data.edge_index[0] < data.edge_index[1]]
    return node_case(data)


@broken("suspicious_edge_index", at="edge_index")
def reversed_so_that_training_nodes_hear_nothing():
    y = torch.arange(40) % 3
    x = torch.randn(160, 8)
    x[:, :3] += 3 * nn.functional.one_hot(torch.cat([y, y.repeat_interleave(3)]), 3)
    x[:40] = torch.randn(40, 8)
    edges = torch.stack([torch.arange(40).repeat_interleave(3), torch.arange(40, 160)])
    mask = torch.arange(160) < 40
    data = Data(x=x, edge_index=edges, y=torch.cat([y, y.repeat_interleave(3)]), train_mask=mask)
    return node_case(data, GNN(8, conv=SAGEConv))


@broken("suspicious_edge_index", at="edge_index")
def only_self_loops():
    data = graph()
    data.edge_index = torch.arange(60).expand(2, 60).contiguous()
    return node_case(data)


@broken("suspicious_edge_index", at="edge_index")
def edges_across_the_graphs_of_a_batch():
    gen = torch.Generator().manual_seed(0)
    batch = torch.arange(10).repeat_interleave(6)
    edges = torch.randint(60, (2, 150), generator=gen)
    data = Data(x=torch.randn(60, 4), edge_index=edges, y=torch.arange(10) % 2, batch=batch)
    model = GNN(4, 16, 2)
    return Case(
        model,
        lambda m: cross_entropy(torch.zeros(10, 2).index_add(0, batch, m(data.x, data.edge_index)), data.y),
        data,
        torch.optim.Adam(model.parameters()),
    )


class Weighted(GNN):
    def forward(self, x, edge_index, edge_weight):
        return self.conv2(self.conv1(x, edge_index, edge_weight).relu(), edge_index, edge_weight)


@broken("negative_edge_weight", at="edge_weight")
def similarities_below_zero():
    data = graph()
    data.edge_weight = torch.randn(data.num_edges)
    model = Weighted()
    return Case(
        model,
        lambda m: cross_entropy(
            m(data.x, data.edge_index, data.edge_weight)[data.train_mask], data.y[data.train_mask]
        ),
        data,
        torch.optim.Adam(model.parameters()),
    )


@broken("empty_mask", at="train_mask")
def nobody_to_train_on():
    data = graph()
    data.train_mask[:] = False
    return node_case(data)


@broken("empty_mask", at=("loss", "train_mask"))
def nobody_to_train_on_without_data():
    data = graph()
    data.train_mask[:] = False
    case = node_case(data)
    case.data = None
    return case


@broken("empty_mask", at="train_mask")
def mask_of_zeros_and_ones():
    data = graph()
    data.train_mask = data.train_mask.long()
    return node_case(data)


@broken("empty_mask", at=("loss", "y"))
def every_label_ignored():
    x, y = table()
    case = row_case(mlp(8, 16, 3), x, torch.full_like(y, -100))
    case.data = None
    return case


@broken("target_mismatch", at="y")
def column_minus_row():
    x, y = torch.randn(40, 4), torch.randn(40)
    model = mlp(4, 16, 1)
    return Case(model, lambda m: ((m(x) - y) ** 2).mean(), (x, y), torch.optim.Adam(model.parameters()))


@broken("target_mismatch", at="y")
def column_and_row_in_mse_loss():
    x, y = torch.randn(40, 4), torch.randn(40)
    model = mlp(4, 16, 1)
    return Case(model, lambda m: mse_loss(m(x), y), None, torch.optim.Adam(model.parameters()))


@broken("target_mismatch", at="y")
def one_class_too_many():
    x, y = table()
    y[4] = 3
    return row_case(mlp(8, 16, 3), x, y)


@broken("target_mismatch", at="y")
def labels_as_decimals():
    x, y = table()
    return row_case(mlp(8, 16, 3), x, y.float())


@broken("target_mismatch", at="y")
def binary_labels_of_one_and_two():
    x, y = table()
    y = (y > 0).float() + 1
    model = mlp(8, 16, 1)
    return Case(
        model,
        lambda m: binary_cross_entropy_with_logits(m(x)[:, 0], y),
        (x, y),
        torch.optim.Adam(model.parameters()),
    )


@broken("target_mismatch", at="y")
def unlabelled_nodes_in_the_mask():
    data = graph()
    data.y[data.train_mask.nonzero()[0]] = -1
    return node_case(data)


@broken("crash", at=("conv1", "conv1.lin", "model"))
def wrong_number_of_features():
    return node_case(graph(), GNN(12, conv=GCNConv))


@broken("crash", at=("loss", "model"))
def name_that_is_not_there():
    model = mlp(8, 3)
    return Case(model, lambda m: m.weights.sum())


@broken("suspicious_edge_index", at="edge_index")
def second_graph_without_an_offset():
    """The numbers of the second graph's nodes begin at 0 again, so its nodes, all that are trained on, are alone."""
    one, other = graph(40), graph(40, seed=1)
    data = Data(
        x=torch.cat([one.x, other.x]),
        edge_index=torch.cat([one.edge_index, other.edge_index], dim=1),
        y=torch.cat([one.y, other.y]),
        train_mask=torch.arange(80) >= 40,
    )
    return node_case(data)


@broken("target_mismatch", at="loss")
def softmax_before_cross_entropy():
    return row_case(nn.Sequential(*mlp(8, 16, 3), nn.Softmax(dim=1)))


@broken("target_mismatch", at="loss")
def sigmoid_before_a_loss_of_logits():
    x, y = table()
    model = nn.Sequential(*mlp(8, 16, 1), nn.Sigmoid())
    return Case(
        model,
        lambda m: binary_cross_entropy_with_logits(m(x)[:, 0], (y == 0).float()),
        (x, y),
        torch.optim.Adam(model.parameters()),
    )


@broken("target_mismatch", at="loss")
def nll_loss_of_scores():
    x, y = table()
    model = mlp(8, 16, 3)
    return Case(model, lambda m: nll_loss(m(x), y), (x, y), torch.optim.Adam(model.parameters()))


@broken("target_mismatch", at="y")
def whole_numbers_as_targets_of_a_binary_loss():
    x, y = table()
    return Case(mlp(8, 16, 3), lambda m: binary_cross_entropy_with_logits(m(x), one_hot(y, 3)), (x, y))


@broken("non_finite_input", at="y")
def gap_in_targets_of_a_model_examined_without_data():
    x, y = table()
    y = y.float()
    y[3] = torch.nan
    return Case(mlp(8, 16, 1), lambda m: mse_loss(m(x)[:, 0], y))


class Gather(nn.Module):
    """A layer of one's own, which takes the last node for the number -1."""

    def __init__(self, width_in, width_out):
        super().__init__()
        self.lin = nn.Linear(width_in, width_out)

    def forward(self, h, e):
        return self.lin(h).index_add(0, e[1].clamp(min=0), self.lin(h)[e[0]])


@broken("invalid_edge_index", at="edge_index")
def padding_in_edges_by_another_name():
    data = graph()
    edges = torch.cat([data.edge_index, torch.full((2, 30), -1)], dim=1)
    model = Gather(16, 3)
    return Case(model, lambda m: cross_entropy(m(data.x, edges), data.y))


class Nameless(GNN):
    """A network whose arguments have no names of their own."""

    def forward(self, *graph):
        return self.conv2(self.conv1(*graph).relu(), *graph[1:])


@broken("negative_edge_weight", at="edge_weight")
def negative_weights_given_without_a_name():
    data = graph()
    weight = torch.ones(data.num_edges)
    weight[data.edge_index[1] == 0] = -1.0
    return Case(Nameless(16), lambda m: cross_entropy(m(data.x, data.edge_index, weight), data.y))


@broken("suspicious_edge_index", at="edge_index")
def two_edges_as_pairs():
    edges = torch.tensor([[0, 2], [1, 3]])
    data = Data(x=torch.eye(4), edge_index=edges, y=torch.arange(4) % 2, train_mask=torch.arange(4) > 1)
    return node_case(data, GNN(4, 8, 2))


@broken("unscaled_features", at="x")
def clock_in_a_sequence():
    x, (_, y) = torch.randn(80, 12, 4), table()
    x[:, :, 1] = 5000 * torch.arange(12)
    model = nn.GRU(4, 3, batch_first=True)
    return Case(model, lambda m: cross_entropy(m(x)[0][:, -1], y), (x, y))


@broken("constant_feature", at="x")
def rows_that_are_all_ones():
    x, y = table()
    return row_case(mlp(8, 16, 3), torch.ones_like(x), y)
