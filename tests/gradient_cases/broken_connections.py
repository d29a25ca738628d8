"""Models whose gradient does not reach a parameter, or whose optimizer does not hold it."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import cross_entropy, one_hot
from torch_geometric.nn import GATConv, GCNConv, SAGPooling

from gradient_cases.case import GNN, Case, Probe, broken, graph, mlp, node_case, row_case, table


@broken("detached_loss", at="loss")
def item():
    x, y = table()
    return Case(mlp(8, 16, 3), lambda m: cross_entropy(m(x), y).item())


@broken("detached_loss", at="loss")
def no_grad_left_on():
    class Frozen(nn.Sequential):
        @torch.no_grad()
        def forward(self, x):
            return super().forward(x)

    return row_case(Frozen(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3)))


@broken("detached_loss", at="loss")
def through_numpy():
    x, y = table()
    return Case(mlp(8, 3), lambda m: cross_entropy(torch.from_numpy(m(x).detach().numpy()), y), (x, y))


@broken("detached_loss", at="loss")
def accuracy_as_loss():
    x, y = table()
    return Case(mlp(8, 3), lambda m: 1 - (m(x).argmax(dim=1) == y).float().mean(), (x, y))


@broken("detached_loss", at="loss")
def everything_frozen():
    x, y = table()
    return Case(mlp(8, 3).requires_grad_(requires_grad=False), lambda m: cross_entropy(m(x), y), (x, y))


@broken("unregistered_parameter", at=("layers", "layers.0"))
def layers_in_a_list():
    class Listed(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = [nn.Linear(8, 16), nn.Linear(16, 16)]
            self.head = nn.Linear(16, 3)

        def forward(self, x):
            for layer in self.layers:
                x = layer(x).relu()
            return self.head(x)

    return row_case(Listed())


@broken("unregistered_parameter", at=("heads", "heads.b"))
def layers_in_a_dictionary():
    class Keyed(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.heads = nn.Linear(8, 16), {"a": nn.Linear(16, 2), "b": nn.Linear(16, 3)}

        def forward(self, x):
            return self.heads["b"](self.body(x).relu())

    return row_case(Keyed())


@broken("unregistered_parameter", at="model")
def layer_made_in_forward():
    class Making(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Linear(8, 16)

        def forward(self, x):
            return nn.Linear(16, 3)(self.body(x).relu())

    return row_case(Making())


@broken("unregistered_parameter", at="scale")
def plain_tensor_in_place_of_a_parameter():
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.lin, self.scale = nn.Linear(8, 3), torch.ones(3, requires_grad=True)

        def forward(self, x):
            return self.lin(x) * self.scale

    return row_case(Plain())


@broken("unregistered_parameter", at=("scale", "model"))
def parameter_wrapped_anew():
    class Wrapping(nn.Module):
        def __init__(self):
            super().__init__()
            self.lin, self.scale = nn.Linear(8, 3), nn.Parameter(torch.ones(3))

        def forward(self, x):
            self.scale = nn.Parameter(self.scale.abs())
            return self.lin(x) * self.scale

    return row_case(Wrapping())


@broken("unconnected_parameter", at="0")
def detached_between_layers():
    class Cut(nn.Sequential):
        def forward(self, x):
            return self[2](self[1](self[0](x)).detach())

    return row_case(Cut(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3)))


@broken("unconnected_parameter", at="conv2")
def layer_never_called():
    class Short(GNN):
        def __init__(self):
            super().__init__(hidden=3)

        def forward(self, x, edge_index):
            return self.conv1(x, edge_index)

    return node_case(graph(), Short())


@broken("unconnected_parameter", at="attend")
def score_used_as_an_index_only():
    class Choosing(nn.Module):
        def __init__(self):
            super().__init__()
            self.attend, self.head = nn.Linear(8, 1), nn.Linear(8, 3)

        def forward(self, x):
            return self.head(x[self.attend(x)[:, 0].topk(len(x)).indices])

    return row_case(Choosing())


@broken("unconnected_parameter", at="code")
def argmax_in_the_middle():
    class Coding(nn.Module):
        def __init__(self):
            super().__init__()
            self.code, self.head = nn.Linear(8, 5), nn.Linear(5, 3)

        def forward(self, x):
            return self.head(one_hot(self.code(x).argmax(dim=1), 5).float())

    return row_case(Coding())


@broken("unconnected_parameter", at="temperature")
def item_of_a_parameter():
    class Tempered(nn.Module):
        def __init__(self):
            super().__init__()
            self.lin, self.temperature = nn.Linear(8, 3), nn.Parameter(torch.tensor(2.0))

        def forward(self, x):
            return self.lin(x) / self.temperature.item()

    return row_case(Tempered())


@broken("unconnected_parameter", at=("conv1", "conv2"))
def edge_features_forgotten():
    class Forgetful(GNN):
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2 = GATConv(16, 16, edge_dim=2), GATConv(16, 3, edge_dim=2)

    return node_case(graph(), Forgetful())


@broken("unconnected_parameter", at=("encoder",))
def encoder_under_no_grad():
    return row_case(Probe())


@broken("not_in_optimizer", at=("2",))
def optimizer_of_the_first_layer():
    case = row_case(mlp(8, 16, 3))
    case.optimizer = torch.optim.Adam(case.model[0].parameters(), lr=0.01)
    return case


@broken("not_in_optimizer", at=("model", "conv1", "conv2"))
def optimizer_of_another_model():
    case = node_case(graph())
    case.optimizer = torch.optim.Adam(GNN().parameters(), lr=0.01)
    return case


@broken("not_in_optimizer", at="head")
def head_replaced_after_the_optimizer_was_made():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = GCNConv(16, 16), nn.Linear(16, 5)

        def forward(self, x, edge_index):
            return self.head(self.conv(x, edge_index).relu())

    case = node_case(graph(), Net())
    case.model.head = nn.Linear(16, 3)
    return case


@broken("crash", at="loss")
def nothing_returned():
    x, y = table()

    def loss_fn(m):
        cross_entropy(m(x), y)

    return Case(mlp(8, 3), loss_fn, (x, y))


@broken("crash", at="loss")
def one_loss_for_each_row():
    x, y = table()
    return Case(mlp(8, 3), lambda m: cross_entropy(m(x), y, reduction="none"), (x, y))


@broken("crash", at="loss")
def hook_with_the_signature_of_a_module_hook():
    case = row_case(nn.Linear(8, 3))
    case.model.weight.register_hook(lambda module, grad_input, grad_output: grad_input)  # noqa: ARG005 (the fault)
    return case


@broken("crash", at="loss")
def changed_in_place():
    class Hasty(nn.Module):
        def __init__(self):
            super().__init__()
            self.lin, self.head = nn.Linear(8, 16), nn.Linear(16, 3)

        def forward(self, x):
            h = self.lin(x).sigmoid()
            out = self.head(h)
            h += 1
            return out

    return row_case(Hasty())


@broken("unconnected_parameter", at=("pool",))
def pooling_whose_score_goes_nowhere():
    class Pooling(nn.Module):
        def __init__(self):
            super().__init__()
            self.pool, self.head = SAGPooling(16, ratio=0.999), nn.Linear(16, 3)

        def forward(self, x, edge_index):
            chosen = self.pool(x, edge_index)[4]
            return self.head(x[chosen.sort().values])

    return node_case(graph(), Pooling())


@broken("unconnected_parameter", at="0")
def function_whose_backward_pass_gives_nothing():
    class Silent(torch.autograd.Function):
        @staticmethod
        def forward(_, h):
            return 2 * h

        @staticmethod
        def backward(_, __):
            return None

    class Net(nn.Sequential):
        def forward(self, x):
            return self[1](Silent.apply(self[0](x)))

    return row_case(Net(nn.Linear(8, 16), nn.Linear(16, 3)))


@broken("unconnected_parameter", at="scales.1")
def one_of_a_list_of_parameters_forgotten():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.lin, self.scales = nn.Linear(8, 3), nn.ParameterList(torch.ones(3) for _ in range(2))

        def forward(self, x):
            return self.scales[0] * self.lin(x)

    return row_case(Scaled())


@broken("detached_loss", at="loss")
def new_tensor_of_losses_that_asks_for_a_gradient():
    x, y = table()

    def loss_fn(m):
        parts = [cross_entropy(m(x[rows]), y[rows]).item() for rows in (slice(40), slice(40, 80))]
        return torch.tensor(parts, requires_grad=True).mean()

    return Case(mlp(8, 16, 3), loss_fn)
