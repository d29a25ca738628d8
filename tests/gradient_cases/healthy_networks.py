"""Healthy networks that look ill to a doctor with absolute thresholds."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss, one_hot

from gradient_cases.case import Case, Probe, healthy, mlp, row_case, row_loss, table, train


@healthy
def fresh_mlp():
    return row_case(mlp(8, 32, 32, 3))


@healthy
def converged_mlp_with_the_optimizer_that_trained_it():
    return train(row_case(mlp(8, 32, 3)), 600)


@healthy
def converged_mlp_with_a_fresh_optimizer():
    case = train(row_case(mlp(8, 32, 3)), 600)
    case.optimizer = torch.optim.Adam(case.model.parameters(), lr=0.01)
    return case


@healthy
def regression_converged_to_its_noise():
    x = torch.randn(100, 5)
    y = x @ torch.randn(5, 1) + torch.randn(100, 1)
    model = nn.Linear(5, 1)
    case = Case(model, lambda m: mse_loss(m(x), y), (x, y), torch.optim.SGD(model.parameters(), lr=0.1))
    return train(case, 500)


@healthy
def regression_on_weak_signal_converged():
    x, y = torch.randn(100, 5), torch.randn(100, 1)
    model = nn.Linear(5, 1)
    case = Case(model, lambda m: mse_loss(m(x), y), (x, y), torch.optim.SGD(model.parameters(), lr=0.1))
    return train(case, 500)


@healthy
def nearly_converged_on_noise():
    x, y = torch.randn(100, 5), torch.randn(100, 1)
    model = nn.Linear(5, 1)
    case = Case(model, lambda m: mse_loss(m(x), y), (x, y), torch.optim.SGD(model.parameters(), lr=0.01))
    return train(case, 150)


@healthy
def exact_regression_converged_to_zero():
    x = torch.randn(100, 5)
    y = x @ torch.randn(5, 1)
    model = nn.Linear(5, 1)
    case = Case(model, lambda m: mse_loss(m(x), y), (x, y), torch.optim.SGD(model.parameters(), lr=0.3))
    return train(case, 500)


@healthy
def loss_scaled_down():
    case = row_case(mlp(8, 32, 3))
    plain = case.loss_fn
    case.loss_fn = lambda m: 1e-8 * plain(m)
    case.optimizer = None
    return case


@healthy
def loss_scaled_up_for_half_precision():
    case = row_case(mlp(8, 32, 3))
    plain = case.loss_fn
    case.loss_fn = lambda m: 65536.0 * plain(m)
    return case


@healthy
def loss_summed():
    x, y = table(800)
    model = mlp(8, 32, 3)
    return Case(
        model,
        lambda m: cross_entropy(m(x), y, reduction="sum"),
        (x, y),
        torch.optim.Adam(model.parameters(), lr=0.01),
    )


@healthy
def double_precision():
    x, y = table()
    return row_case(mlp(8, 16, 3).double(), x.double(), y)


@healthy
def bias_before_batch_norm():
    return row_case(nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 3)))


@healthy
def layer_norm_and_dropout():
    model = nn.Sequential(
        nn.Linear(8, 32), nn.LayerNorm(32), nn.GELU(), nn.Dropout(0.5), nn.Linear(32, 32), nn.LayerNorm(32),
        nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 3),
    )  # fmt: skip
    return row_case(model)


@healthy
def transformer_block():
    x, y = torch.randn(16, 10, 32), torch.randint(4, (16,))

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = nn.TransformerEncoder(
                nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), 2, enable_nested_tensor=False
            )
            self.head = nn.Linear(32, 4)

        def forward(self, x):
            return self.head(self.block(x).mean(dim=1))

    return row_case(Encoder(), x, y, lr=1e-3)


@healthy
def transformer_with_a_causal_mask_of_minus_infinity():
    tokens = torch.randint(20, (8, 12))

    class Language(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.place = nn.Embedding(20, 16), nn.Embedding(12, 16)
            self.block = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
            self.head = nn.Linear(16, 20, bias=False)
            self.head.weight = self.embed.weight  # shared

        def forward(self, tokens):
            h = self.embed(tokens) + self.place(torch.arange(12))
            mask = nn.Transformer.generate_square_subsequent_mask(12)
            return self.head(self.block(h, src_mask=mask))

    model = Language()
    return Case(
        model,
        lambda m: cross_entropy(m(tokens)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()),
        tokens,
        torch.optim.AdamW(model.parameters(), lr=1e-3),
    )


@healthy
def recurrent_network():
    x, y = torch.randn(12, 20, 4), torch.randint(3, (12,))

    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = nn.LSTM(4, 16, batch_first=True), nn.Linear(16, 3)

        def forward(self, x):
            return self.head(self.rnn(x)[0][:, -1])

    return row_case(Recurrent(), x, y)


@healthy
def gate_that_begins_at_zero():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.start, self.branch, self.head = nn.Linear(8, 16), mlp(16, 16, 16), nn.Linear(16, 3)
            self.gate = nn.Parameter(torch.zeros(()))

        def forward(self, x):
            h = self.start(x)
            return self.head(h + self.gate * self.branch(h))

    return row_case(Gated())


@healthy
def layer_scale_of_a_millionth():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.start, self.branch, self.head = nn.Linear(8, 16), mlp(16, 16, 16), nn.Linear(16, 3)
            self.scale = nn.Parameter(torch.full((16,), 1e-6))

        def forward(self, x):
            h = self.start(x)
            return self.head(h + self.scale * self.branch(h))

    return row_case(Scaled(), lr=1e-3)


@healthy
def last_layer_begins_at_zero():
    case = row_case(mlp(8, 32, 3))
    nn.init.zeros_(case.model[-1].weight)
    nn.init.zeros_(case.model[-1].bias)
    case.optimizer = None
    return case


@healthy
def low_rank_adapter_on_a_frozen_layer():
    class Adapted(nn.Module):
        def __init__(self):
            super().__init__()
            self.base = mlp(8, 32, 3).requires_grad_(requires_grad=False)
            self.down, self.up = nn.Parameter(torch.randn(8, 2)), nn.Parameter(torch.zeros(2, 3))

        def forward(self, x):
            return self.base(x) + x @ self.down @ self.up

    model = Adapted()
    x, y = table()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return Case(model, row_loss(x, y), (x, y), torch.optim.Adam(trained, lr=0.01))


@healthy
def features_with_gaps_that_the_model_fills():
    x, y = table()
    x[::4, 2] = float("nan")

    class Filling(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = mlp(16, 16, 3)

        def forward(self, x):
            return self.body(torch.cat([x.nan_to_num(0.0), x.isnan().float()], dim=1))

    return row_case(Filling(), x, y)


@healthy
def layers_left_out_by_chance():
    class Stochastic(nn.Module):
        def __init__(self):
            super().__init__()
            self.start, self.head = nn.Linear(8, 16), nn.Linear(16, 3)
            self.blocks = nn.ModuleList(nn.Linear(16, 16) for _ in range(6))

        def forward(self, x):
            h = self.start(x)
            for block in self.blocks:
                if torch.rand(()) > 0.5:
                    h = h + block(h).relu()
            return self.head(h)

    return row_case(Stochastic())


@healthy
def experts_that_none_of_these_rows_chooses():
    x, y = table(4)

    class Experts(nn.Module):
        def __init__(self):
            super().__init__()
            self.choose = nn.Linear(8, 8)
            self.experts = nn.ModuleList(mlp(8, 8, 3) for _ in range(8))

        def forward(self, x):
            weight, chosen = self.choose(x).softmax(dim=1).max(dim=1)
            return sum(((chosen == i) * weight)[:, None] * each(x) for i, each in enumerate(self.experts))

    return row_case(Experts(), x, y)


@healthy
def gates_that_begin_closed():
    class Highway(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate, self.change = nn.Linear(16, 16), nn.Linear(16, 16)
            nn.init.constant_(self.gate.bias, -7.0)

        def forward(self, h):
            share = self.gate(h).sigmoid()
            return share * self.change(h).relu() + (1 - share) * h

    return row_case(nn.Sequential(nn.Linear(8, 16), Highway(), Highway(), nn.Linear(16, 3)))


@healthy
def encoder_that_the_optimizer_leaves_alone():
    case = row_case(Probe())
    case.optimizer = torch.optim.Adam(case.model.head.parameters(), lr=0.01)
    return case


@healthy
def forces_as_the_slope_of_an_energy():
    """The positions are a tensor that asks for a gradient, made anew in each call, and no parameter."""
    positions = torch.randn(20, 3)
    model = nn.Sequential(nn.Linear(3, 16), nn.SiLU(), nn.Linear(16, 1, bias=False))

    def loss_fn(m):
        point = positions.clone().requires_grad_()
        (slope,) = torch.autograd.grad(m(point).sum(), point, create_graph=True)
        return (slope - positions).square().mean()

    return Case(model, loss_fn, None, torch.optim.Adam(model.parameters(), lr=0.01))


@healthy
def branch_that_begins_next_to_zero():
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(8, 16), nn.Linear(16, 3)
            self.branch = mlp(16, 16, 16)
            for parameter in self.branch.parameters():
                nn.init.normal_(parameter, std=1e-6)

        def forward(self, x):
            h = self.first(x).relu()
            return self.last(h + self.branch(h))

    return row_case(Branching())


@healthy
def one_distribution_for_all_rows():
    """Without an input there is nothing that rows could be told apart by."""
    y = 0.4 * torch.randn(80, 2) + 1.5

    class Prior(nn.Module):
        def __init__(self):
            super().__init__()
            self.code, self.net = nn.Parameter(torch.randn(3)), mlp(3, 8, 2)

        def forward(self, count):
            return self.net(self.code.expand(count, 3))

    model = Prior()
    return Case(
        model, lambda m: (m(80) - y).square().mean(), None, torch.optim.Adam(model.parameters(), lr=0.01)
    )


@healthy
def categories_never_met():
    y = torch.arange(80) % 3
    return row_case(mlp(5, 16, 3), one_hot(y, 5).float(), y)


@healthy
def residual_branch_that_batch_norm_closes_at_first():
    class Branch(nn.Module):
        def __init__(self):
            super().__init__()
            self.lin, self.norm, self.head = nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)
            nn.init.zeros_(self.norm.weight)

        def forward(self, x):
            return self.head(x + self.norm(self.lin(x)))

    return row_case(Branch())


@healthy
def slope_in_which_the_last_bias_has_no_part():
    case = forces_as_the_slope_of_an_energy()
    case.model[2] = nn.Linear(16, 1)
    case.optimizer = torch.optim.Adam(case.model.parameters(), lr=0.01)
    return case


@healthy
def rows_one_by_one_under_vmap():
    """What the doctor measures cannot be measured there."""
    x, y = table()
    model = mlp(8, 16, 3)
    return Case(model, lambda m: cross_entropy(torch.func.vmap(m)(x), y), (x, y))


@healthy
def warm_up_that_begins_at_zero():
    case = row_case(mlp(8, 32, 3))
    torch.optim.lr_scheduler.LambdaLR(case.optimizer, lambda step: step / 100)
    return case
