"""Healthy graph networks that look ill to a doctor with absolute thresholds."""

from __future__ import annotations

import warnings
from functools import partial

import torch
from torch import nn
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    cosine_similarity,
    cross_entropy,
    dropout,
    logsigmoid,
)
from torch_geometric.data import Batch, Data
from torch_geometric.nn import (
    DirGNNConv,
    GATConv,
    GATv2Conv,
    GINConv,
    GraphConv,
    SAGEConv,
    TransformerConv,
    global_add_pool,
    global_mean_pool,
)
from torch_geometric.utils import to_undirected

from course_utils.gcn import GCN, normalize_rows
from gradient_cases.case import GNN, Case, graph, healthy, mlp, node_case, node_loss, scale_free_graph, train


@healthy
def fresh_gcn():
    return node_case(graph())


@healthy
def converged_gcn():
    return train(node_case(graph()), 400)


@healthy
def gat():
    data = graph()
    conv = partial(GATConv, heads=1)
    return node_case(data, GNN(data.num_features, conv=conv))


@healthy
def gat_on_a_tree_where_nodes_hear_one_node():
    edges = torch.tensor([[0, 0, 1, 1, 2, 2], [1, 2, 3, 4, 5, 6]])
    data = Data(
        x=torch.randn(7, 4),
        edge_index=edges,
        y=torch.randint(3, (7,)),
        train_mask=torch.ones(7, dtype=torch.bool),
    )
    conv = partial(GATConv, add_self_loops=False)
    return node_case(data, GNN(4, conv=conv))


@healthy
def gatv2():
    return node_case(graph(), GNN(conv=partial(GATv2Conv, heads=1)))


@healthy
def sage():
    return node_case(graph(), GNN(conv=SAGEConv))


@healthy
def lazy_sage():
    data = graph()
    model = GNN(-1, conv=SAGEConv)
    return Case(model, node_loss(data), data)


@healthy
def graph_transformer():
    return node_case(graph(), GNN(conv=TransformerConv))


@healthy
def deep_enough_gcn_with_jumping_knowledge():
    data = graph(120)
    return node_case(data, GCN(16, 32, 3, num_layers=4, residual="jumping"))


@healthy
def gcnii_of_sixteen_layers():
    data = graph(120)
    return node_case(data, GCN(16, 32, 3, num_layers=16, residual="initial"))


@healthy
def four_layers_of_gcn():
    return node_case(graph(120), GCN(16, 32, 3, num_layers=4))


def bag_of_words(num_nodes=200, num_words=500):
    data = graph(num_nodes)
    gen = torch.Generator().manual_seed(1)
    likely = 0.003 + 0.05 * torch.rand(3, num_words, generator=gen) ** 4
    data.x = (torch.rand(num_nodes, num_words, generator=gen) < likely[data.y]).float()
    return data


@healthy
def words_that_are_mostly_zero():
    return node_case(bag_of_words(), GCN(500, 16, 3))


@healthy
def words_shared_out_and_weight_decay():
    data = bag_of_words()
    data.x = normalize_rows(data.x)
    case = node_case(data, GCN(500, 16, 3))
    case.optimizer = torch.optim.Adam(case.model.parameters(), lr=0.01, weight_decay=5e-4)
    return case


@healthy
def biases_louder_than_shared_out_words():
    data = bag_of_words()
    data.x = normalize_rows(data.x)
    model = mlp(500, 64, 7)
    return Case(
        model,
        lambda m: cross_entropy(m(data.x)[data.train_mask], data.y[data.train_mask]),
        data,
        torch.optim.Adam(model.parameters(), lr=0.01),
    )


@healthy
def sparse_words():
    data = bag_of_words()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
        data.x = data.x.to_sparse_csr()
    return node_case(data, GCN(500, 16, 3))


def molecules(num_graphs=24):
    gen = torch.Generator().manual_seed(2)
    graphs = []
    for i in range(num_graphs):
        size = 6 + i % 5
        ring = torch.stack([torch.arange(size), (torch.arange(size) + 1) % size])
        chord = torch.tensor([[0], [size // 2]]) if i % 2 else torch.empty(2, 0, dtype=torch.long)
        edges = to_undirected(torch.cat([ring, chord], dim=1))
        graphs.append(Data(x=torch.randn(size, 5, generator=gen), edge_index=edges, y=torch.tensor([i % 2])))
    return Batch.from_data_list(graphs)


class GraphClassifier(nn.Module):
    def __init__(self, num_features, pool=global_mean_pool):
        super().__init__()
        self.conv1 = GINConv(mlp(num_features, 32, 32))
        self.conv2 = GINConv(mlp(32, 32, 32))
        self.head, self.pool = nn.Linear(32, 2), pool

    def forward(self, x, edge_index, batch):
        h = self.conv1(x, edge_index).relu()
        return self.head(self.pool(self.conv2(h, edge_index).relu(), batch))


def graph_case(data, pool=global_mean_pool):
    model = GraphClassifier(data.num_features, pool)
    return Case(
        model,
        lambda m: cross_entropy(m(data.x, data.edge_index, data.batch), data.y),
        data,
        torch.optim.Adam(model.parameters(), lr=0.01),
    )


@healthy
def gin_on_many_small_graphs():
    return graph_case(molecules())


@healthy
def gin_on_graphs_without_features():
    data = molecules()
    data.x = torch.ones(data.num_nodes, 1)
    return graph_case(data, global_add_pool)


@healthy
def tiny_graph():
    edges = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    data = Data(
        x=torch.randn(3, 4),
        edge_index=edges,
        y=torch.tensor([0, 1, 0]),
        train_mask=torch.ones(3, dtype=torch.bool),
    )
    return node_case(data, GNN(4, 8, 2))


@healthy
def two_directed_edges():
    edges = torch.tensor([[0, 1], [1, 2]])
    data = Data(
        x=torch.randn(3, 4),
        edge_index=edges,
        y=torch.tensor([0, 1, 0]),
        train_mask=torch.ones(3, dtype=torch.bool),
    )
    return node_case(data, GNN(4, 8, 2))


@healthy
def one_way_streets():
    data = graph()
    gen = torch.Generator().manual_seed(3)
    data.edge_index = data.edge_index[:, torch.rand(data.num_edges, generator=gen) < 0.7]
    return node_case(data)


@healthy
def unlabelled_nodes_outside_the_mask():
    data = graph()
    data.y = torch.where(data.train_mask, data.y, -1)
    return node_case(data)


@healthy
def degrees_beside_zeros_and_ones():
    edges = scale_free_graph()
    degree = torch.bincount(edges[0], minlength=200).float()
    flags = (torch.rand(200, 7, generator=torch.Generator().manual_seed(4)) < 0.2).float()
    data = Data(
        x=torch.cat([degree[:, None], flags], 1),
        edge_index=edges,
        y=(degree > 3).long(),
        train_mask=torch.ones(200, dtype=torch.bool),
    )
    return node_case(data, GNN(8, 16, 2))


@healthy
def link_prediction_on_learned_positions():
    data = graph(80)
    model = nn.Embedding(80, 8)
    away = torch.randint(80, data.edge_index.shape)

    def loss_fn(m):
        h = m.weight
        near = (h[data.edge_index[0]] * h[data.edge_index[1]]).sum(dim=1)
        far = (h[away[0]] * h[away[1]]).sum(dim=1)
        return -logsigmoid(near).mean() - logsigmoid(-far).mean()

    return Case(model, loss_fn, data, torch.optim.Adam(model.parameters(), lr=0.01))


@healthy
def graph_autoencoder():
    data = graph(50)
    model = GNN(16, 32, 16)
    adjacency = torch.zeros(50, 50)
    adjacency[data.edge_index[0], data.edge_index[1]] = 1

    def loss_fn(m):
        z = m(data.x, data.edge_index)
        return binary_cross_entropy_with_logits(z @ z.t(), adjacency)

    return Case(model, loss_fn, data, torch.optim.Adam(model.parameters(), lr=0.01))


@healthy
def drop_out_of_features_words_and_edges():
    class Dropping(GNN):
        def forward(self, x, edge_index):
            h = self.conv1(dropout(x, 0.6, training=self.training), edge_index).relu()
            return self.conv2(dropout(h, 0.6, training=self.training), edge_index)

    return node_case(graph(), Dropping())


@healthy
def input_that_asks_for_a_gradient():
    data = graph()
    data.x.requires_grad_()
    return node_case(data)


@healthy
def signed_edge_features():
    data = graph()
    data.edge_attr = torch.randn(data.num_edges, 1)

    class Edges(GNN):
        def forward(self, x, edge_index):
            h = self.conv1(x, edge_index, data.edge_attr).relu()
            return self.conv2(h, edge_index, data.edge_attr)

    return node_case(data, Edges(conv=partial(GATConv, edge_dim=1)))


@healthy
def trained_attention_with_edge_features():
    """The targets' part of its attention nearly cancels in the softmax; the layer learns all the same."""
    data = graph(num_classes=2)
    data.edge_attr = torch.randn(data.num_edges, 2)

    class Edges(nn.Module):
        def __init__(self):
            super().__init__()
            self.edges, self.head = nn.Linear(2, 4), nn.Linear(16, 2)
            self.conv = GATConv(data.num_features, 16, edge_dim=4)

        def forward(self, x, edge_index):
            return self.head(self.conv(x, edge_index, self.edges(data.edge_attr)).relu())

    return train(node_case(data, Edges()), 100)


@healthy
def weighted_graph_convolution():
    return node_case(graph(), GNN(conv=GraphConv))


@healthy
def papers_that_cite_older_ones():
    data = graph()
    data.edge_index = data.edge_index[:, data.edge_index[0] < data.edge_index[1]]
    return node_case(data, SAGEConv(16, 3))


@healthy
def both_directions_with_weights_of_their_own():
    """The layer inside has weights that the one outside does not use."""
    return node_case(graph(), DirGNNConv(SAGEConv(16, 3)))


@healthy
def constant_column_standardised_with_care():
    data = graph()
    data.x[:, 3] = 7.0
    data.x = (data.x - data.x.mean(0)) / data.x.std(0).clamp(min=1e-6)
    return node_case(data)


@healthy
def cosine_of_a_row_that_is_zero_at_first():
    """Its slope is large once: Adam takes one step of the usual length, and it has passed."""
    data = graph()
    lonely = torch.zeros(60, dtype=torch.bool)
    lonely[data.edge_index[0, 0]] = True
    x = data.x.masked_fill(lonely[:, None], 0.0)
    edges = data.edge_index[:, ~lonely[data.edge_index].any(dim=0)]
    model = SAGEConv(16, 16)
    nn.init.zeros_(model.lin_l.bias)
    return Case(
        model,
        lambda m: (1 - cosine_similarity(m(x, edges), data.x, eps=1e-7)).mean(),
        None,
        torch.optim.Adam(model.parameters(), lr=0.01),
    )
