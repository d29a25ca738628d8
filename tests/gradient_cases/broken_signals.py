"""Models whose signals, gradients or steps are of the wrong size."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn.functional import dropout, softplus
from torch_geometric.nn import GCNConv

from course_utils.gcn import GCN
from gradient_cases.case import GNN, Case, broken, graph, mlp, node_case, row_case, table


def begin(model, start):
    """Initialise all weights of a model."""
    for parameter in model.parameters():
        if parameter.dim() > 1:
            start(parameter)
    return model


class Curved(nn.Module):
    """A linear layer in a space whose curvature is learned."""

    def __init__(self, value, bound):
        super().__init__()
        self.lin, self.curvature, self.bound = nn.Linear(8, 3), nn.Parameter(torch.tensor(value)), bound

    def forward(self, x):
        c = self.bound(self.curvature).sqrt()
        return torch.tanh(c * self.lin(x)) / c


@broken("dead_units", at="0")
def relu_behind_a_large_negative_bias():
    case = row_case(mlp(8, 32, 3))
    nn.init.constant_(case.model[0].bias, -50)
    return case


@broken("dead_units", at="2")
def most_units_of_the_second_layer_dead():
    case = row_case(mlp(8, 64, 64, 3))
    with torch.no_grad():
        case.model[2].bias[:58] = -50
    return case


@broken("dead_units", at="convs.0")
def dead_convolution():
    data = graph()
    case = node_case(data, GCN(16, 32, 3))
    nn.init.constant_(case.model.convs[0].bias, -30)
    return case


@broken("saturated_units", at="0")
def tanh_begun_too_large():
    return row_case(begin(mlp(8, 32, 32, 3, act=nn.Tanh), lambda w: nn.init.normal_(w, std=30)))


@broken("saturated_units", at="0")
def sigmoid_begun_too_large():
    return row_case(begin(mlp(8, 32, 3, act=nn.Sigmoid), lambda w: nn.init.normal_(w, std=50)))


@broken("collapsed_representation", "vanishing_signal", "vanishing_gradient", at=("convs",))
def sixty_four_convolutions():
    return node_case(graph(100), GCN(16, 32, 3, num_layers=64))


@broken("collapsed_representation", at=("convs",))
def dense_graph_and_eight_layers():
    data = graph(40)
    data.edge_index = torch.cartesian_prod(torch.arange(40), torch.arange(40)).t().contiguous()
    return node_case(data, GCN(16, 32, 3, num_layers=4))


@broken("vanishing_signal", at=("0", "2"))
def begun_far_too_small():
    case = row_case(begin(mlp(8, 32, 32, 3), lambda w: nn.init.normal_(w, std=1e-5)))
    case.optimizer = torch.optim.SGD(case.model.parameters(), lr=0.1)
    return case


@broken("vanishing_signal", at=("convs.0", "convs"))
def convolutions_begun_far_too_small():
    case = node_case(graph(), begin(GCN(16, 32, 3, num_layers=3), lambda w: nn.init.normal_(w, std=1e-4)))
    case.optimizer = torch.optim.SGD(case.model.parameters(), lr=0.1)
    return case


@broken("vanishing_gradient", at=("0", "2"))
def twelve_layers_of_sigmoids():
    return row_case(mlp(8, *[32] * 12, 3, act=nn.Sigmoid))


@broken("vanishing_gradient", at=("0", "2"))
def forty_layers_of_tanh():
    return row_case(mlp(8, *[16] * 40, 3, act=nn.Tanh))


@broken("exploding_gradient", at=("0", "2", "4"))
def begun_far_too_large():
    return row_case(begin(mlp(8, 32, 32, 3), lambda w: nn.init.normal_(w, std=5)))


@broken("exploding_gradient", at=("rnn",))
def recurrent_network_that_explodes():
    x, y = torch.randn(8, 60, 4), torch.randint(3, (8,))

    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = nn.RNN(4, 16, batch_first=True, nonlinearity="relu"), nn.Linear(16, 3)
            nn.init.eye_(self.rnn.weight_hh_l0)
            self.rnn.weight_hh_l0.data.mul_(1.5)

        def forward(self, x):
            return self.head(self.rnn(x)[0][:, -1])

    return row_case(Recurrent(), x, y)


@broken("non_finite_activation", at=("model",))
def log_of_a_relu():
    class Logarithm(nn.Module):
        def __init__(self):
            super().__init__()
            self.lin = nn.Linear(8, 3)

        def forward(self, x):
            return self.lin(x).relu().log()

    return row_case(Logarithm())


@broken("non_finite_activation", at="encoder")
def exp_of_a_large_log_variance():
    class Spread(nn.Module):
        def __init__(self):
            super().__init__()
            self.lin = nn.Linear(8, 16)

        def forward(self, x):
            return (100 * self.lin(x)).exp()

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.head = Spread(), nn.Linear(16, 3)

        def forward(self, x):
            return self.head(self.encoder(x))

    return row_case(Model())


@broken("non_finite_activation", at="norm")
def division_by_a_norm_of_zero():
    class Unit(nn.Module):
        def forward(self, x):
            return x / x.norm(dim=1, keepdim=True)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.head = Unit(), nn.Linear(8, 3)

        def forward(self, x):
            return self.head(self.norm(x))

    x, y = table()
    x[2] = 0
    return row_case(Model(), x, y)


@broken("non_finite_loss", at="loss")
def log_of_a_saturated_sigmoid():
    x, y = table()
    model = mlp(8, 1)
    nn.init.constant_(model[0].bias, 200)
    target = (y > 0).float()

    def loss_fn(m):
        p = m(x)[:, 0].sigmoid()
        return -(target * p.log() + (1 - target) * (1 - p).log()).mean()

    return Case(model, loss_fn, (x, y), torch.optim.Adam(model.parameters()))


@broken("non_finite_loss", at="loss")
def kl_of_a_large_log_variance():
    x = torch.randn(30, 8)
    model = mlp(8, 4)
    nn.init.constant_(model[0].bias, 120)
    return Case(
        model, lambda m: -0.5 * (1 + m(x) - m(x).exp()).mean(), x, torch.optim.Adam(model.parameters())
    )


@broken("non_finite_gradient", at=("0",))
def distance_of_coincident_points():
    x = torch.randn(20, 8)
    x[1] = x[0]
    model = nn.Sequential(nn.Linear(8, 2))

    def loss_fn(m):
        z = m(x)
        return (z[:-1] - z[1:]).square().sum(dim=1).sqrt().mean()

    return Case(model, loss_fn, x, torch.optim.Adam(model.parameters()))


@broken("non_finite_gradient", at=("0", "0.weight"))
def where_around_a_square_root():
    x, _ = table()
    model = nn.Sequential(nn.Linear(8, 1))

    def loss_fn(m):
        z = m(x)
        return torch.where(z > 0, z.sqrt(), 0.0).mean()

    return Case(model, loss_fn, x, torch.optim.Adam(model.parameters()))


@broken("blocked_gradient", at="curvature")
def curvature_clamped_outside_its_range():
    return row_case(Curved(20.0, lambda c: c.clamp(0.1, 10)))


@broken("blocked_gradient", at="curvature")
def curvature_lost_in_softplus():
    return row_case(Curved(-20.0, lambda c: softplus(c) + 1e-2))


@broken("blocked_gradient", at=("0", "0.weight"))
def rounded_in_the_middle():
    class Rounding(nn.Sequential):
        def forward(self, x):
            return self[1](self[0](x).round())

    return row_case(Rounding(nn.Linear(8, 16), nn.Linear(16, 3)))


@broken("blocked_gradient", at=("0", "0.weight"))
def sign_in_the_middle():
    class Signs(nn.Sequential):
        def forward(self, x):
            return self[1](self[0](x).sign())

    return row_case(Signs(nn.Linear(8, 16), nn.Linear(16, 3)))


@broken("blocked_gradient", at=("2", "0", "0.weight"))
def output_clamped_far_away():
    x, y = table()
    case = row_case(mlp(8, 16, 3), x, y)
    nn.init.constant_(case.model[2].bias, 9)
    case.loss_fn = lambda m: (m(x).clamp(0, 1) - 0.5).square().mean()
    return case


@broken("zero_gradient", at=("0", "0.weight"))
def all_weights_zero():
    case = row_case(mlp(8, 16, 16, 3))
    for parameter in case.model.parameters():
        nn.init.zeros_(parameter)
    return case


@broken("collapsed_representation", at="0")
def all_weights_alike():
    case = row_case(mlp(8, 16, 16, 3))
    for parameter in case.model.parameters():
        nn.init.constant_(parameter, 0.1)
    return case


@broken("zero_gradient", at=("encoder", "encoder.weight"))
def everything_dropped():
    class Dropping(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.head = nn.Linear(8, 16), nn.Linear(16, 3)

        def forward(self, x):
            return self.head(dropout(self.encoder(x), 1.0))

    return row_case(Dropping())


@broken("zero_gradient", at=("model", "0", "0.weight"))
def softmax_over_one_class():
    x, _ = table()
    return row_case(mlp(8, 16, 1), x, torch.zeros(80, dtype=torch.long))


@broken("exploding_gradient", "learning_rate_too_high", at=("layers", "optimizer"))
def sums_over_neighbours_that_end_in_nan():
    """Too large at the start, and NaN after a step: neither fault may be taken for a mere consequence."""
    data = graph(40)
    data.edge_index = torch.cartesian_prod(torch.arange(40), torch.arange(40)).t().contiguous()

    class Sums(nn.Module):
        def __init__(self):
            super().__init__()
            widths = (16, 16, 16, 16, 16, 3)
            self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

        def forward(self, x, edge_index):
            for i, layer in enumerate(self.layers):
                x = layer(x.new_zeros(x.shape).index_add(0, edge_index[1], x[edge_index[0]]))
                x = x.relu() if i + 1 < len(self.layers) else x
            return x

    case = node_case(data, Sums())
    case.optimizer = torch.optim.SGD(case.model.parameters(), lr=0.1)
    return case


@broken("zero_gradient", at=("0.weight", "0"))
def hook_that_makes_a_gradient_zero():
    case = row_case(mlp(8, 16, 3))
    case.model[0].weight.register_hook(torch.zeros_like)
    return case


@broken("collapsed_representation", at="context")
def context_in_place_of_the_nodes():
    """The mean of all nodes should be added to each, and takes its place."""

    class Context(nn.Module):
        def forward(self, h):
            return h.mean(dim=0, keepdim=True).expand_as(h)

    class Contextual(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.context, self.head = GCNConv(16, 16), Context(), nn.Linear(16, 3)

        def forward(self, x, edge_index):
            return self.head(self.context(self.conv(x, edge_index).relu()))

    return node_case(graph(), Contextual())


@broken("zero_gradient", at="score")
def softmax_over_the_wrong_axis():
    """Attention over the last axis, which has one entry, in place of the words."""

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.score, self.head = nn.Linear(4, 1), nn.Linear(4, 3)

        def forward(self, x):
            words = x.view(len(x), 2, 4)
            return self.head((self.score(words).softmax(dim=2) * words).sum(dim=1))

    return row_case(Attention())


@broken("blocked_gradient", at="2")
def sigmoid_at_the_end_begun_at_one():
    """It holds up all layers before it, and is named once."""
    x, y = table()
    model = nn.Sequential(*mlp(8, 16, 1), nn.Sigmoid())
    nn.init.constant_(model[2].bias, 30)
    return Case(model, lambda m: (m(x)[:, 0] - (y == 0).float()).square().mean(), (x, y))


@broken("collapsed_representation", at="lin")
def averages_until_all_nodes_are_the_same():
    class Averages(nn.Module):
        def __init__(self):
            super().__init__()
            self.lin, self.conv = nn.Linear(16, 8), GCNConv(8, 3)

        def forward(self, x, edge_index):
            loops = torch.eye(len(x)).to(torch.bool)
            loops[edge_index[0], edge_index[1]] = True
            mean = loops / loops.sum(dim=1, keepdim=True)
            return self.conv(mean.matrix_power(300) @ self.lin(x), edge_index)

    return node_case(graph(), Averages())


@broken("collapsed_representation", at="rnn")
def recurrence_that_forgets_its_beginning():
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = nn.RNN(4, 8, batch_first=True), nn.Linear(8, 3)
            with torch.no_grad():
                self.rnn.weight_hh_l0.copy_(0.5 * torch.eye(8))

        def forward(self, x):
            return self.head(self.rnn(x)[0][:, -1])

    (_, y), x = table(), torch.zeros(80, 80, 4)
    x[:, 0] = torch.randn(80, 4)
    return row_case(Last(), x, y)


@broken("vanishing_signal", at="conv1")
def scaled_down_between_layers():
    class Scaled(GNN):
        def forward(self, x, edge_index):
            return self.conv2(1e-6 * self.conv1(x, edge_index).relu(), edge_index)

    return node_case(graph(), Scaled(16))


@broken("exploding_gradient", at=("0.weight", "2.weight"))
def divided_by_a_small_temperature():
    class Cold(nn.Sequential):
        def forward(self, x):
            return super().forward(x) / 1e-4

    x, y = table()
    return Case(Cold(*mlp(8, 16, 1)), lambda m: (m(x)[:, 0] - y.float()).square().mean(), (x, y))
