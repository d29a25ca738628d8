"""What a case is, the registers of cases, and the graphs and networks that several of them use."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv
from torch_geometric.utils import barabasi_albert_graph

if TYPE_CHECKING:
    from collections.abc import Callable

BROKEN: dict[str, tuple[Callable[[], Case], set[str], tuple[str, ...]]] = {}
HEALTHY: dict[str, Callable[[], Case]] = {}


@dataclass
class Case:
    """The arguments of `diagnose`."""

    model: nn.Module
    loss_fn: Callable[[Any], Any]
    data: Any = None
    optimizer: torch.optim.Optimizer | None = None
    expected_unused: tuple[str, ...] = ()


def broken(*kinds: str, at: str | tuple[str, ...]):
    """Register a broken case: the kinds that are right as the primary one, and the places that are right."""

    def register(make):
        BROKEN[make.__name__] = (make, set(kinds), (at,) if isinstance(at, str) else at)
        return make

    return register


def healthy(make):
    """Register a healthy case."""
    HEALTHY[make.__name__] = make
    return make


class GNN(nn.Module):
    """Two convolutions, the ReLU between them a function as in most examples."""

    def __init__(self, num_features=16, hidden=32, num_classes=3, conv=GCNConv):
        super().__init__()
        self.conv1, self.conv2 = conv(num_features, hidden), conv(hidden, num_classes)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.conv2(self.conv1(x, edge_index).relu(), edge_index)


class Probe(nn.Module):
    """A head on an encoder whose outputs are computed without a graph."""

    def __init__(self):
        super().__init__()
        self.encoder, self.head = mlp(8, 16, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            h = self.encoder(x)
        return self.head(h)


def mlp(*widths: int, act=nn.ReLU, last=True):
    """Linear layers with an activation between them."""
    layers = []
    for a, b in pairwise(widths):
        layers += [nn.Linear(a, b), act()]
    return nn.Sequential(*(layers[:-1] if last else layers))


def graph(num_nodes=60, num_features=16, num_classes=3, seed=0):
    """Make a graph whose classes show in features and links."""
    gen = torch.Generator().manual_seed(seed)
    y = torch.randint(num_classes, (num_nodes,), generator=gen)
    x = torch.randn(num_nodes, num_features, generator=gen)
    x[:, :num_classes] += 2 * nn.functional.one_hot(y, num_classes)
    edges = torch.randint(num_nodes, (2, 4 * num_nodes), generator=gen)
    same = (y[edges[0]] == y[edges[1]]) | (torch.rand(edges.size(1), generator=gen) < 0.3)
    edges = edges[:, same & (edges[0] != edges[1])]
    edges = torch.cat([edges, edges.flip(0)], dim=1).unique(dim=1)
    train = torch.rand(num_nodes, generator=gen) < 0.5
    return Data(x=x, edge_index=edges, y=y, train_mask=train, val_mask=~train)


def table(num_rows=80, num_features=8, num_classes=3, seed=0):
    """Make rows of features and their classes."""
    gen = torch.Generator().manual_seed(seed)
    x = torch.randn(num_rows, num_features, generator=gen)
    return x, (x @ torch.randn(num_features, num_classes, generator=gen)).argmax(dim=1)


def node_loss(data):
    """Return the usual loss of a node classifier."""

    def loss_fn(model):
        return cross_entropy(model(data.x, data.edge_index)[data.train_mask], data.y[data.train_mask])

    return loss_fn


def row_loss(x, y):
    """Return the usual loss of a classifier of rows."""
    return lambda model: cross_entropy(model(x), y)


def node_case(data, model=None, lr=0.01, **others):
    """Make a case of a node classifier with Adam."""
    model = GNN(data.num_features) if model is None else model
    return Case(model, node_loss(data), data, torch.optim.Adam(model.parameters(), lr=lr), **others)


def row_case(model, x=None, y=None, lr=0.01):
    """Make a case of a classifier of rows with Adam."""
    if x is None:
        x, y = table()
    return Case(model, row_loss(x, y), (x, y), torch.optim.Adam(model.parameters(), lr=lr))


def train(case, steps=300):
    """Train a case's model."""
    for _ in range(steps):
        case.optimizer.zero_grad()
        case.loss_fn(case.model).backward()
        case.optimizer.step()
    return case


def scale_free_graph(num_nodes=200):
    """Return the edges of a graph with hubs."""
    return barabasi_albert_graph(num_nodes, 2)
