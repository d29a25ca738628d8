"""Healthy losses and optimizers that look ill to a doctor with absolute thresholds."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    logsigmoid,
    mse_loss,
    normalize,
    softplus,
)

from gradient_cases.case import Case, healthy, mlp, row_case, table


@healthy
def embedding_with_sparse_gradients():
    words, context = torch.randint(500, (32,)), torch.randint(500, (32,))
    model = nn.Embedding(500, 16, sparse=True)
    return Case(
        model,
        lambda m: (
            -logsigmoid((m(words) * m(context)).sum(dim=1)).mean()
            - logsigmoid(-(m(words) * m(context.flip(0))).sum(dim=1)).mean()
        ),
        None,
        torch.optim.SparseAdam(model.parameters(), lr=0.01),
    )


@healthy
def a_head_at_rest_on_purpose():
    class Heads(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = mlp(8, 16, last=False)
            self.classify, self.rank = nn.Linear(16, 3), nn.Linear(16, 1)

        def forward(self, x):
            return self.classify(self.body(x))

    case = row_case(Heads())
    case.expected_unused = ("rank",)
    return case


@healthy
def second_order_optimizer():
    case = row_case(mlp(8, 16, 3, act=nn.Tanh))
    case.optimizer = torch.optim.LBFGS(case.model.parameters(), lr=0.5)
    return case


@healthy
def momentum_and_groups():
    case = row_case(mlp(8, 16, 16, 3))
    groups = [{"params": case.model[0].parameters(), "lr": 0.01}, {"params": case.model[2:].parameters()}]
    case.optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9, weight_decay=5e-4)
    return case


@healthy
def gradients_accumulated():
    case = row_case(mlp(8, 16, 3))
    case.loss_fn(case.model).backward()
    return case


@healthy
def variational_autoencoder():
    x = (torch.rand(64, 20) < 0.3).float()

    class Variational(nn.Module):
        def __init__(self):
            super().__init__()
            self.encode, self.mu, self.logvar = mlp(20, 32, last=False), nn.Linear(32, 4), nn.Linear(32, 4)
            self.decode = mlp(4, 32, 20)

        def forward(self, x):
            h = self.encode(x)
            mu, logvar = self.mu(h), self.logvar(h)
            return self.decode(mu + torch.randn_like(mu) * (0.5 * logvar).exp()), mu, logvar

    def loss_fn(m):
        out, mu, logvar = m(x)
        kl = -0.5 * (1 + logvar - mu.square() - logvar.exp()).sum(dim=1).mean()
        return binary_cross_entropy_with_logits(out, x, reduction="none").sum(dim=1).mean() + kl

    model = Variational()
    return Case(model, loss_fn, x, torch.optim.Adam(model.parameters(), lr=1e-3))


@healthy
def loss_that_switches_the_mode():
    case = row_case(
        nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(), nn.Linear(32, 3))
    )
    plain = case.loss_fn
    case.model.eval()
    case.loss_fn = lambda m: plain(m.train())
    return case


@healthy
def linear_model():
    return row_case(nn.Linear(8, 3))


@healthy
def one_hot_features():
    return row_case(mlp(40, 16, 3), torch.eye(40), torch.randint(3, (40,)))


@healthy
def normalised_first():
    x, y = table()
    x = x * torch.tensor([1e4, 1, 1, 1, 1e-2, 1, 1, 1])
    return row_case(nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3)), x, y)


@healthy
def contrastive_loss():
    x = torch.randn(32, 8)
    model = mlp(8, 32, 16)

    def loss_fn(m):
        a, b = (normalize(m(x + 0.1 * torch.randn_like(x)), dim=1) for _ in range(2))
        return cross_entropy(a @ b.t() / 0.2, torch.arange(32))

    return Case(model, loss_fn, x, torch.optim.Adam(model.parameters(), lr=1e-3))


@healthy
def learned_curvature_inside_its_range():
    class Curved(nn.Module):
        def __init__(self):
            super().__init__()
            self.raw, self.lin = nn.Parameter(torch.tensor(0.54)), nn.Linear(8, 3)

        def forward(self, x):
            c = softplus(self.raw) + 1e-3
            return torch.tanh(c.sqrt() * self.lin(x)) / c.sqrt()

    return row_case(Curved())


@healthy
def large_targets():
    x = torch.randn(80, 8)
    y = 100 * (x @ torch.randn(8, 1)) + 300
    model = mlp(8, 32, 1)
    return Case(model, lambda m: mse_loss(m(x), y), (x, y), torch.optim.Adam(model.parameters(), lr=0.01))


@healthy
def pairwise_differences():
    x, target = torch.randn(20, 6), torch.rand(20, 1)
    model = mlp(6, 16, 1)

    def loss_fn(m):
        score = m(x)
        margin = (score - score.t()) * (target - target.t()).sign()
        return softplus(-margin).mean()

    return Case(model, loss_fn, x, torch.optim.Adam(model.parameters(), lr=0.01))


@healthy
def vector_and_matrix_shapes_agree():
    x, y = torch.randn(30, 6), torch.randn(30)
    model = mlp(6, 16, 1)
    return Case(
        model,
        lambda m: ((m(x).squeeze(-1) - y) ** 2).mean(),
        (x, y),
        torch.optim.SGD(model.parameters(), lr=0.01),
    )


@healthy
def recurrent_network_of_one_step():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = nn.GRU(8, 16, batch_first=True), nn.Linear(16, 3)

        def forward(self, x):
            return self.head(self.rnn(x[:, None])[0][:, -1])

    return row_case(Recurrent())


@healthy
def tiny_targets():
    x = torch.randn(60, 8)
    y = 1e-3 * x[:, :1]
    model = mlp(8, 32, 1)
    return Case(model, lambda m: mse_loss(m(x), y), (x, y), torch.optim.Adam(model.parameters(), lr=1e-3))


@healthy
def targets_with_gaps_that_the_loss_leaves_out():
    x, y = torch.randn(60, 8), torch.randn(60, 2)
    y[::3, 1] = float("nan")
    known = ~y.isnan()
    model = mlp(8, 16, 2)
    return Case(
        model, lambda m: mse_loss(m(x)[known], y[known]), (x, y), torch.optim.Adam(model.parameters())
    )


@healthy
def critic_whose_terms_cancel():
    real, fake = torch.randn(200, 4), torch.randn(200, 4) + 0.3
    model = mlp(4, 16, 1)
    return Case(
        model, lambda m: m(fake).mean() - m(real).mean(), None, torch.optim.Adam(model.parameters(), lr=0.01)
    )


@healthy
def small_weight_of_a_second_task():
    x, y = table()

    class Heads(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head, self.second = mlp(8, 16, 16), nn.Linear(16, 3), mlp(16, 16, 1)

        def forward(self, x):
            h = self.body(x).relu()
            return self.head(h), self.second(h)

    def loss_fn(m):
        out, second = m(x)
        return cross_entropy(out, y) + 1e-6 * mse_loss(second, x[:, :1])

    model = Heads()
    return Case(model, loss_fn, (x, y), torch.optim.Adam(model.parameters(), lr=0.01))
