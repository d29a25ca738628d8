"""The doctor leaves everything as it was, survives whatever a loss does, and says what a student can act on."""

import copy
import pickle
import random
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from gradient_cases import BROKEN
from gradient_cases.case import GNN, Case, graph, mlp, node_case, row_case, row_loss, table
from torch import nn
from torch.nn.functional import cross_entropy, softplus
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrizations, parametrize
from torch.utils.checkpoint import checkpoint
from torch_geometric.nn import SAGEConv

from course_utils.gradients import Diagnosis, FailureKind, Finding, diagnose
from course_utils.runtime import seed_everything


class Busy(nn.Module):
    """Batch norm, dropout, shared and frozen weights, a counter, a cache, and a generator of its own."""

    def __init__(self):
        super().__init__()
        self.lin, self.norm, self.drop = nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(0.3)
        self.again = nn.Linear(8, 8)
        self.again.weight = self.lin.weight
        self.rest = nn.Linear(8, 3)
        self.rest.bias.requires_grad_(requires_grad=False)
        self.count, self.cache, self.history = 0, {}, []
        self.generator = torch.Generator().manual_seed(5)

    def forward(self, x):
        self.count += 1
        self.cache["last"] = x
        self.history.append(self.count)
        h = self.drop(self.norm(self.lin(x)).relu()) + torch.randn(8, generator=self.generator)
        return self.rest(self.again(h) + random.random() + np.random.rand())  # noqa: NPY002 (the global generator must be kept)


def trained(model, loss_fn, steps=3):
    optimizer = torch.optim.Adam((p for p in model.parameters() if p.requires_grad), lr=0.01, amsgrad=True)
    for _ in range(steps):
        optimizer.zero_grad()
        loss_fn(model).backward()
        optimizer.step()
    return optimizer


def everything(model, optimizer):
    """Write down all that must not change, as bytes."""
    state = {
        "values": [(name, value.numpy().tobytes()) for name, value in model.state_dict().items()],
        "gradients": [None if p.grad is None else p.grad.numpy().tobytes() for p in model.parameters()],
        "asks": [p.requires_grad for p in model.parameters()],
        "modes": [module.training for module in model.modules()],
        "hooks": [
            [len(value) for key, value in sorted(vars(module).items()) if "hooks" in key]
            for module in model.modules()
        ],
        "python": random.getstate(),
        "numpy": pickle.dumps(np.random.get_state()),  # noqa: NPY002 (as above)
        "torch": torch.get_rng_state().numpy().tobytes(),
        "grad": torch.is_grad_enabled(),
    }
    if optimizer is not None:
        remembered = [
            (name, value.numpy().tobytes() if isinstance(value, torch.Tensor) else value)
            for entry in optimizer.state.values()
            for name, value in entry.items()
        ]
        settings = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
        state |= {"remembered": remembered, "settings": settings}
    return state


def busy_case():
    seed_everything(0)
    x, y = table()
    model = Busy()
    loss_fn = row_loss(x, y)
    return model, loss_fn, (x, y), trained(model, loss_fn)


def raising(at):
    """Make a loss that raises at its n-th call."""
    x, y = table()
    calls = []

    def loss_fn(model):
        calls.append(1)
        loss = cross_entropy(model(x), y)
        model.rest.weight.data.mul_(2)
        if len(calls) == at:
            msg = "out of patience"
            raise RuntimeError(msg)
        return loss

    return loss_fn


@pytest.mark.parametrize(
    "what", ["well", "raises at once", "raises later", "changes the mode", "no optimizer"]
)
def test_everything_is_left_as_it_was(what):
    model, loss_fn, data, optimizer = busy_case()
    plain = loss_fn
    if what == "raises at once":
        loss_fn = raising(1)
    elif what == "raises later":
        loss_fn = raising(3)
    elif what == "changes the mode":
        model.norm.eval()

        def loss_fn(m):
            return plain(m.train())

    elif what == "no optimizer":
        optimizer = None
    objects = [(p, p.data_ptr(), p.grad) for p in model.parameters()]
    before, counts = everything(model, optimizer), (model.count, dict(model.cache), list(model.history))
    generator = model.generator.get_state()
    diagnose(model, loss_fn, data=data, optimizer=optimizer)
    assert everything(model, optimizer) == before
    assert (model.count, model.cache, model.history) == counts
    assert torch.equal(model.generator.get_state(), generator)
    after = [(p, p.data_ptr(), p.grad) for p in model.parameters()]
    assert all(a is b and c == d and e is f for (a, c, e), (b, d, f) in zip(objects, after, strict=True))


@pytest.mark.parametrize("make", [torch.optim.LBFGS, torch.optim.RMSprop, torch.optim.NAdam])
def test_other_optimizers_are_left_as_they_were(make):
    x, y = table()
    model, loss_fn = mlp(8, 16, 3), row_loss(x, y)
    optimizer = make(model.parameters(), lr=0.01)

    def closure():
        optimizer.zero_grad()
        loss = loss_fn(model)
        loss.backward()
        return loss

    for _ in range(2):
        optimizer.step(closure)
    continued = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())
    diagnose(model, loss_fn, optimizer=optimizer)
    for old, new in zip(continued, (model.state_dict(), optimizer.state_dict()), strict=True):
        assert str(old) == str(new)


def test_the_users_hooks_stay_and_run():
    seen = []
    case = row_case(mlp(8, 16, 3))
    case.model.register_forward_hook(lambda *_: seen.append("forward"))
    case.optimizer.register_step_post_hook(lambda *_: seen.append("step"))
    assert diagnose(case.model, case.loss_fn, optimizer=case.optimizer).ok
    assert {"forward", "step"} <= set(seen)
    seen.clear()
    case.loss_fn(case.model)
    assert seen == ["forward"]


def test_a_training_goes_on_as_if_nothing_had_been_asked():
    def end(*, asks):
        model, loss_fn, data, optimizer = busy_case()
        if asks:
            diagnose(model, loss_fn, data=data, optimizer=optimizer)
        for _ in range(3):
            optimizer.zero_grad()
            loss_fn(model).backward()
            optimizer.step()
        return everything(model, optimizer)

    assert end(asks=True) == end(asks=False)


def test_lazy_layers_stay_lazy():
    data = graph()
    model = GNN(-1, conv=SAGEConv)
    assert diagnose(model, lambda m: m(data.x, data.edge_index).square().mean()).ok
    assert is_lazy(model.conv1.lin_l.weight)
    assert not is_lazy(model.conv2.lin_r.weight)


def test_layers_hidden_in_a_list_and_in_the_loss_are_left_as_they_were():
    x, y = table()
    outside = nn.Sequential(nn.Linear(16, 3), nn.BatchNorm1d(3))

    class Listed(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers, self.lin = [nn.Linear(8, 8), nn.BatchNorm1d(8)], nn.Linear(8, 16)

        def forward(self, x):
            for layer in self.layers:
                x = layer(x)
            return self.lin(x)

    model = Listed()
    parts = [*model.layers, outside]
    before = [copy.deepcopy(part.state_dict()) for part in parts]
    diagnosis = diagnose(model, lambda m: cross_entropy(outside(m(x)), y))
    assert diagnosis.primary.kind == "unregistered_parameter"
    for part, state in zip(parts, before, strict=True):
        assert str(part.state_dict()) == str(state)
        assert all(parameter.grad is None for parameter in part.parameters())


def test_parametrised_and_shared_weights():
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(8, 8)), nn.ReLU(), nn.Linear(8, 3))

    class Positive(nn.Module):
        def forward(self, raw):
            return softplus(raw)

    parametrize.register_parametrization(model[2], "weight", Positive())
    case = row_case(model)
    assert diagnose(case.model, case.loss_fn, optimizer=case.optimizer).findings == ()


def test_expected_unused_covers_what_is_below_a_name():
    make, _, _ = BROKEN["layer_never_called"]
    case = make()
    primary = diagnose(case.model, case.loss_fn).primary
    assert (primary.kind, primary.where) == ("unconnected_parameter", "conv2")
    for names in (["conv2"], ["conv2.lin", "conv2.bias"]):
        assert diagnose(case.model, case.loss_fn, expected_unused=names).ok
    assert diagnose(case.model, case.loss_fn, expected_unused=["conv2.bias"]).primary.where == "conv2.lin"


def test_a_head_used_in_some_steps_only_is_connected():
    class Either(nn.Module):
        def __init__(self):
            super().__init__()
            self.heads, self.calls = nn.ModuleList([nn.Linear(8, 3), nn.Linear(8, 3)]), 0

        def forward(self, x):
            self.calls += 1
            return self.heads[self.calls % 2](x)

    case = row_case(Either())
    assert diagnose(case.model, case.loss_fn, optimizer=case.optimizer).ok


def test_frozen_parameters_are_worth_knowing_and_no_fault():
    case = row_case(mlp(8, 16, 3))
    case.model[0].requires_grad_(requires_grad=False)
    diagnosis = diagnose(case.model, case.loss_fn, optimizer=case.optimizer)
    assert diagnosis.ok
    assert [(each.kind, each.where, each.severity) for each in diagnosis.findings] == [
        ("frozen_parameter", "0", "info")
    ]


@pytest.mark.parametrize(
    ("returned", "kind", "message"),
    [
        (None, "crash", "returned NoneType, not a tensor"),
        ((torch.ones(1), 2), "crash", "returned tuple, not a tensor"),
        (torch.ones(3, requires_grad=True), "crash", r"tensor of shape \(3,\); a loss is one number"),
        (0.5, "detached_loss", "returned a plain float"),
        (np.float32(0.5), "detached_loss", "returned a plain float32"),
        (torch.tensor(3), "detached_loss", "The loss has no graph behind it"),
    ],
)
def test_other_returns_are_findings(returned, kind, message):
    primary = diagnose(mlp(8, 3), lambda _: returned).primary
    assert primary.kind == kind
    with pytest.raises(ValueError, match=message):
        raise ValueError(primary.message)


def test_gradients_switched_off_around_the_doctor():
    case = row_case(mlp(8, 3))
    with torch.no_grad():
        primary = diagnose(case.model, case.loss_fn).primary
    assert primary.kind == "detached_loss"
    assert "switched off where the doctor was called" in primary.message


def test_an_optimizer_that_does_not_fit_is_a_finding():
    model = nn.Embedding(10, 4, sparse=True)
    diagnosis = diagnose(
        model, lambda m: m(torch.arange(5)).sum(), optimizer=torch.optim.Adam(model.parameters())
    )
    assert (diagnosis.primary.kind, diagnosis.primary.where) == ("crash", "optimizer")
    assert "sparse" in diagnosis.primary.message


def test_consequences_are_not_repeated_as_causes():
    data = graph()
    data.x[0] = float("nan")
    case = node_case(data)
    diagnosis = diagnose(case.model, case.loss_fn, data=case.data, optimizer=case.optimizer)
    assert {each.kind for each in diagnosis.findings if each.severity != "info"} == {"non_finite_input"}


def test_the_scale_of_the_loss_does_not_matter():
    make, kinds, _ = BROKEN["forty_layers_of_tanh"]
    case = make()
    for scale in (1e-8, 1.0, 1e8):
        found = diagnose(case.model, lambda m, scale=scale: scale * case.loss_fn(m))
        assert found.primary.kind in kinds


def test_a_loss_that_raises_later_is_a_finding():
    case = busy_case()
    primary = diagnose(case[0], raising(3), optimizer=case[3]).primary
    assert (primary.kind, primary.where) == ("crash", "loss")
    assert "RuntimeError: out of patience" in primary.message


def test_numbers_that_are_lost_on_the_way_are_found_where_they_are_lost():
    class Shrinking(nn.Module):
        def __init__(self):
            super().__init__()
            self.lin, self.calls = nn.Linear(8, 3), 0

        def forward(self, x):
            self.calls += 1
            return self.lin(x) / (0 if self.calls > 2 else 1)

    case = row_case(Shrinking())
    primary = diagnose(case.model, case.loss_fn, optimizer=case.optimizer).primary
    assert (primary.kind, primary.where) == ("non_finite_activation", "model")


def test_the_cost_is_about_that_of_the_steps():
    calls = []
    case = row_case(mlp(8, 16, 3))

    def loss_fn(m):
        calls.append(1)
        return case.loss_fn(m)

    diagnose(case.model, loss_fn, optimizer=case.optimizer, steps=5)
    assert len(calls) <= 5 + 2


def test_arguments():
    model = mlp(8, 3)
    with pytest.raises(TypeError, match=r"takes a torch.nn.Module and a function of it, got function"):
        diagnose(lambda: 1, model)
    with pytest.raises(TypeError, match="loss_fn must be a function that takes the model, got Tensor"):
        diagnose(model, torch.ones(1))
    with pytest.raises(ValueError, match="steps must be 1 or more, got 0"):
        diagnose(model, lambda _: 1, steps=0)
    with pytest.raises(ValueError, match=r"'heads', which names no parameter\. The parameters are"):
        diagnose(model, lambda _: 1, expected_unused=["heads"])
    with pytest.raises(TypeError, match=r"is a list of names: write \['0'\]"):
        diagnose(model, lambda _: 1, expected_unused="0")


def test_kinds_are_strings_with_fixed_values():
    assert len(FailureKind) == 27
    assert FailureKind.CRASH == "crash"
    assert f"{FailureKind.VANISHING_SIGNAL}" == "vanishing_signal"


class Text(HTMLParser):
    def __init__(self):
        super().__init__()
        self.words, self.open = [], []

    def handle_data(self, data):
        self.words.append(data)

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        assert all("color:" not in value.replace("currentColor", "") for _, value in attrs)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("name", ["curvature_clamped_outside_its_range", "layers_in_a_list", "pairs_in_rows"])
def test_text_and_html_say_what_where_why_and_the_mend(name):
    case = BROKEN[name][0]()
    diagnosis = diagnose(case.model, case.loss_fn, data=case.data, optimizer=case.optimizer)
    primary = diagnosis.primary
    parser = Text()
    parser.feed(diagnosis._repr_html_())
    assert parser.open == []
    html, text = " ".join("".join(parser.words).split()), " ".join(repr(diagnosis).split())
    assert text.startswith(f"Mend this first: {primary.kind} in {primary.where}.")
    assert f"✖ error: {primary.kind} in {primary.where}" in text
    for part in (primary.message, primary.remedy, primary.notebook):
        assert part in text
        assert part.replace("`", "") in html
    assert "✖ error" in html


def test_what_a_model_is_called_cannot_break_the_html():
    finding = Finding(FailureKind.CRASH, "error", "<b>", "raised `<script>`", "call `a < b`")
    assert "<script>" not in Diagnosis((finding,))._repr_html_()


def test_a_healthy_model_is_told_so():
    case = row_case(mlp(8, 16, 3))
    diagnosis = diagnose(case.model, case.loss_fn, data=case.data, optimizer=case.optimizer)
    assert isinstance(case, Case)
    assert diagnosis.primary is None
    assert repr(diagnosis) == "Healthy: nothing stands in the way of learning."


class Pooling(nn.Module):
    """Read padded graphs, in one of three ways that divide by what may be nothing."""

    def __init__(self, way):
        super().__init__()
        self.lin, self.score, self.head, self.way = nn.Linear(4, 8), nn.Linear(8, 1), nn.Linear(8, 2), way

    def forward(self, x, mask):
        h = self.lin(x)
        if self.way == "count":
            return self.head((h * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))
        if self.way == "mean":
            return self.head(torch.stack([rows[real].mean(0) for rows, real in zip(h, mask, strict=True)]))
        weight = self.score(h)[..., 0].masked_fill(~mask, float("-inf")).softmax(1)
        return self.head((weight[..., None] * h).sum(1))


@pytest.mark.parametrize(
    ("way", "says"), [("count", "divided by zero"), ("mean", "over no entries"), ("softmax", "is masked")]
)
def test_a_padded_graph_without_nodes_leads_to_the_notebook_on_padding(way, says):
    mask = torch.tensor([[True, True], [False, False], [True, False]])
    x, y = torch.randn(3, 2, 4), torch.tensor([0, 1, 0])
    model = Pooling(way)
    primary = diagnose(
        model, lambda m: cross_entropy(m(x, mask), y), data={"x": x, "mask": mask, "y": y}
    ).primary
    assert (primary.kind, primary.notebook) == ("non_finite_activation", "08 The gradient clinic")
    assert says in primary.message
    assert "without nodes" in primary.remedy


class Own(torch.optim.Optimizer):
    """An optimizer of a student's own, whose groups have no learning rate."""

    def __init__(self, parameters):
        super().__init__(parameters, {})

    @torch.no_grad()
    def step(self):
        for parameter in self.param_groups[0]["params"]:
            parameter.sub_(parameter.grad, alpha=0.1)


class Odd(nn.Module):
    """A model whose attributes hold themselves, refuse to be copied, or stand for several numbers at once."""

    def __init__(self):
        super().__init__()
        self.lin, self.around = nn.Linear(8, 3), {}
        self.around["itself"] = self.around
        self.settings = type("Settings", (dict,), {"copy": None})(width=3)
        self.register_buffer("ones", torch.ones(1).expand(3))

    def forward(self, x):
        return self.lin(x) * self.ones


class Checkpointed(nn.Module):
    """A model with a part that the graph does not show."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(8, 16), mlp(16, 16, 16), nn.Linear(16, 3)

    def forward(self, x):
        return self.head(checkpoint(self.second, self.first(x).relu(), use_reentrant=True))


@pytest.mark.parametrize(
    ("make", "optimizer"),
    [
        (lambda: mlp(8, 16, 3), Own),
        (Odd, torch.optim.Adam),
        (Checkpointed, torch.optim.Adam),
    ],
)
def test_unusual_models_and_optimizers_can_be_examined(make, optimizer):
    case = row_case(make())
    assert diagnose(case.model, case.loss_fn, optimizer=optimizer(case.model.parameters())).ok


def test_a_note_tells_of_gaps_that_stay_at_the_input():
    x, y = table()
    x[3, 2] = float("nan")
    model = mlp(8, 16, 3)
    diagnosis = diagnose(model, lambda m: cross_entropy(m(x.nan_to_num(0.0)), y), data=(x, y))
    assert [(each.kind, each.where, each.severity) for each in diagnosis.findings] == [
        ("non_finite_input", "x", "info")
    ]


def test_a_rate_for_weights_that_hardly_move_is_judged_by_a_thousandfold_step():
    case = row_case(mlp(8, 32, 3))
    low, usual = (torch.optim.Adam(case.model.parameters(), lr=rate) for rate in (1e-8, 1e-3))
    assert diagnose(case.model, case.loss_fn, optimizer=low).primary.kind == "learning_rate_too_low"
    assert diagnose(case.model, case.loss_fn, optimizer=usual).ok
