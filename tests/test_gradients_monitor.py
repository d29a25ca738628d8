"""The monitor records what the optimizer sees, drops nothing, and gets out of the way."""

import importlib.util
import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from gradient_cases.case import mlp, table
from matplotlib.patches import Rectangle
from torch import nn
from torch.nn.functional import cross_entropy

from course_utils.gradients import GradientMonitor


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def train(model, optimizer, steps=4, loss_fn=None, change=None, **settings):
    """Train inside a monitor; `change` may touch the gradients of a step."""
    x, y = table()
    with GradientMonitor(model, **settings) as monitor:
        for step in range(steps):
            optimizer.zero_grad()
            loss = cross_entropy(model(x), y) if loss_fn is None else loss_fn(model)
            loss.backward()
            if change is not None:
                change(step)
            optimizer.step()
    return monitor


def row(frame, step, name):
    return frame[(frame["step"] == step) & (frame["name"] == name)].iloc[0]


def test_numbers_are_those_of_a_step_done_by_hand():
    x, y = table()
    torch.manual_seed(0)
    model = mlp(8, 16, 3)
    weight = model[0].weight
    monitor = GradientMonitor(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    cross_entropy(model(x), y).backward()
    size, gradient = weight.detach().norm().item(), weight.grad.norm().item()
    hidden = model[1](model[0](x))
    with monitor:
        cross_entropy(model(x), y)
        optimizer.step()
    frame = monitor.to_frame()
    first = row(frame, 0, "0.weight")
    assert first["weight_norm"] == pytest.approx(size, rel=1e-5)
    assert first["gradient_norm"] == pytest.approx(gradient, rel=1e-5)
    assert first["update_ratio"] == pytest.approx(0.5 * gradient / size, rel=1e-4)
    relu = row(frame, 0, "1")
    assert relu["rms"] == pytest.approx(hidden.square().mean().sqrt().item(), rel=1e-5)
    assert relu["zero_share"] == pytest.approx((hidden == 0).float().mean().item())
    assert (first["kind"], relu["kind"], first["nonfinite"]) == ("parameter", "activation", 0)


def test_one_row_for_each_step_and_layer():
    model = mlp(8, 16, 3)
    frame = train(model, torch.optim.Adam(model.parameters()), 5).to_frame()
    assert frame.groupby("step").size().tolist() == [8] * 5
    assert not frame.duplicated(["step", "name"]).any()


def test_a_training_in_the_monitor_gives_the_same_weights():
    def end(*, watched):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 16), nn.Dropout(), nn.Linear(16, 3))
        optimizer = torch.optim.Adam(model.parameters())
        if watched:
            train(model, optimizer, histograms=True)
        else:
            x, y = table()
            for _ in range(4):
                optimizer.zero_grad()
                cross_entropy(model(x), y).backward()
                optimizer.step()
        return model.state_dict()

    for a, b in zip(end(watched=True).values(), end(watched=False).values(), strict=True):
        assert torch.equal(a, b)


def test_hooks_are_gone_afterwards_even_after_an_error():
    model = mlp(8, 16, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = train(model, optimizer, 1)
    with pytest.raises(IndexError), GradientMonitor(model):
        model[7]
    assert all(not module._forward_hooks for module in model.modules())
    count = len(monitor.to_frame())
    optimizer.step()
    assert len(monitor.to_frame()) == count


def test_none_zero_and_non_finite_are_told_apart():
    model = mlp(8, 16, 16, 3)
    model.rest = nn.Parameter(torch.ones(2))

    def change(step):
        if step == 1:
            model[0].weight.grad.zero_()
        if step == 2:
            model[2].weight.grad[0, :2] = torch.tensor([float("nan"), float("inf")])

    monitor = train(model, torch.optim.SGD(model.parameters(), lr=0.1), 3, _sequential_loss, change)
    frame = monitor.to_frame()
    assert row(frame, 0, "rest")["state"] == "none"
    assert math.isnan(row(frame, 0, "rest")["gradient_norm"])
    assert (row(frame, 1, "0.weight")["state"], row(frame, 1, "0.weight")["gradient_norm"]) == ("zero", 0)
    assert (row(frame, 2, "2.weight")["state"], row(frame, 2, "2.weight")["nonfinite"]) == ("nonfinite", 2)


def _sequential_loss(model):
    x, y = table()
    return cross_entropy(model(x), y)


def test_tiny_gradients_do_not_underflow_to_zero():
    model = nn.Linear(8, 3)

    def change(_):
        model.weight.grad.fill_(1e-30)

    first = row(
        train(model, torch.optim.SGD(model.parameters(), lr=0.1), 1, change=change).to_frame(), 0, "weight"
    )
    assert first["gradient_norm"] == pytest.approx(1e-30 * math.sqrt(24), rel=1e-5)


def test_clipped_gradients_are_recorded_as_clipped():
    model = mlp(8, 16, 3)

    def change(_):
        nn.utils.clip_grad_norm_(model.parameters(), 1e-3)

    frame = train(model, torch.optim.SGD(model.parameters(), lr=0.1), 1, change=change).to_frame()
    total = math.sqrt((frame["gradient_norm"] ** 2).sum())
    assert total == pytest.approx(1e-3, rel=1e-3)


def test_sparse_gradients():
    model = nn.Embedding(100, 4, sparse=True)
    optimizer = torch.optim.SparseAdam(model.parameters(), lr=0.1)
    words = torch.tensor([3, 3, 7])
    frame = train(model, optimizer, 2, lambda m: m(words).square().sum()).to_frame()
    first = row(frame, 0, "weight")
    assert first["zero_share"] == pytest.approx(0.98)
    assert first["gradient_norm"] > 0
    assert first["update_ratio"] > 0


def test_shared_parameters_are_recorded_once():
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 3))
    model[2].weight = model[0].weight
    names = train(model, torch.optim.SGD(model.parameters(), lr=0.1), 1).to_frame()["name"]
    assert (names == "0.weight").sum() == 1
    assert "2.weight" not in set(names)


def test_automatic_mixed_precision():
    model = mlp(8, 16, 3)

    def loss_fn(m):
        x, y = table()
        with torch.autocast("cpu", torch.bfloat16):
            return cross_entropy(m(x), y)

    frame = train(model, torch.optim.Adam(model.parameters()), 2, loss_fn).to_frame()
    assert set(frame["state"]) == {"finite"}


def test_half_precision_weights():
    model = nn.Linear(8, 3).bfloat16()
    x = torch.randn(20, 8, dtype=torch.bfloat16)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    frame = train(model, optimizer, 2, lambda m: m(x).square().mean()).to_frame()
    assert set(frame["state"]) == {"finite"}


def test_two_optimizers_share_a_step():
    model = mlp(8, 16, 3)
    first, second = (torch.optim.SGD(model[i].parameters(), lr=0.1) for i in (0, 2))
    x, y = table()
    with GradientMonitor(model) as monitor:
        for _ in range(3):
            model.zero_grad()
            cross_entropy(model(x), y).backward()
            first.step()
            second.step()
    frame = monitor.to_frame()
    assert frame["step"].max() == 2
    assert (frame[frame["kind"] == "parameter"]["update_ratio"] > 0).all()


def test_another_models_optimizer_makes_no_steps():
    model, other = mlp(8, 3), mlp(8, 3)
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
    with GradientMonitor(model) as monitor:
        optimizer.step()
    with pytest.raises(RuntimeError, match="no optimizer that holds parameters of this model made a step"):
        monitor.to_frame()


def test_what_is_in_no_optimizer_is_recorded_too():
    model = mlp(8, 16, 3)
    frame = train(model, torch.optim.SGD(model[0].parameters(), lr=0.1), 2).to_frame()
    rest = frame[frame["name"] == "2.weight"]
    assert (rest["gradient_norm"] > 0).all()
    assert rest["update_ratio"].isna().all()


def test_lbfgs():
    x, y = table()
    model = mlp(8, 3)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=3)

    def closure():
        optimizer.zero_grad()
        loss = cross_entropy(model(x), y)
        loss.backward()
        return loss

    with GradientMonitor(model) as monitor:
        for _ in range(2):
            optimizer.step(closure)
    assert (monitor.to_frame().query("kind == 'parameter'")["update_ratio"] > 0).all()


def test_the_picture_shows_every_cell():
    model = mlp(8, 16, 16, 3)
    model.rest = nn.Parameter(torch.ones(2))

    def change(step):
        if step == 2:
            model[0].weight.grad.zero_()
            model[4].bias.grad[0] = float("inf")

    ax = train(model, torch.optim.SGD(model.parameters(), lr=1e-30), 6, _sequential_loss, change).plot()
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == [name for name, _ in model.named_parameters()]
    (mesh,) = ax.collections
    marked = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    coloured = int((~np.ma.getmaskarray(mesh.get_array())).sum())
    assert coloured + len(marked) == len(names) * 6
    assert {text.get_text() for text in ax.get_legend().get_texts()} == {
        "none (no gradient, no step)",
        "exactly zero",
        "NaN or inf",
    }
    assert all(patch.get_hatch() for patch in marked)
    assert mesh.norm.__class__.__name__ == "LogNorm"


@pytest.mark.parametrize("quantity", ["weight_norm", "update_ratio", "zero_share", "rms"])
def test_other_quantities_are_drawn(quantity):
    model = mlp(8, 16, 3)
    figure, ax = plt.subplots()
    assert train(model, torch.optim.Adam(model.parameters()), 3).plot(quantity, ax=ax) is ax
    figure.canvas.draw()


def test_outputs_that_are_nan_are_drawn_as_such():
    model = nn.Linear(8, 3)

    def change(step):
        if step == 1:
            model.weight.grad.fill_(float("nan"))

    monitor = train(model, torch.optim.SGD(model.parameters(), lr=0.1), 4, change=change)
    for quantity, gaps in (("rms", 2), ("weight_norm", 3), ("update_ratio", 5)):
        ax = monitor.plot(quantity)
        assert len(ax.patches) == gaps
        assert [text.get_text() for text in ax.get_legend().get_texts()] == ["NaN or inf"]


def test_a_picture_of_nothing_but_gaps():
    model = nn.Linear(8, 3)
    x = torch.randn(4, 8)
    model.weight.requires_grad_(requires_grad=False)
    ax = train(model, torch.optim.SGD(model.parameters(), lr=0.1), 2, lambda m: 0 * m(x).sum()).plot()
    ax.figure.canvas.draw()
    assert {text.get_text() for text in ax.get_legend().get_texts()} == {
        "none (no gradient, no step)",
        "exactly zero",
    }


def test_an_unknown_quantity():
    model = mlp(8, 3)
    monitor = train(model, torch.optim.Adam(model.parameters()), 1)
    with pytest.raises(ValueError, match="quantity='norm' is unknown; take one of 'gradient_norm'"):
        monitor.plot("norm")


def test_event_files(tmp_path):
    """Written and read back; without the package, the message says how to get it."""
    model = mlp(8, 16, 3)
    monitor = train(model, torch.optim.Adam(model.parameters()), 3, histograms=True)
    if importlib.util.find_spec("tensorboard") is None:
        with pytest.raises(ModuleNotFoundError, match="pip install tensorboard"):
            monitor.to_tensorboard(tmp_path)
        return
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monitor.to_tensorboard(tmp_path)
    events = EventAccumulator(str(tmp_path), size_guidance={"histograms": 0})
    events.Reload()
    scalars = events.Scalars("gradient_norm/0.weight")
    frame = monitor.to_frame()
    expected = frame[frame["name"] == "0.weight"]["gradient_norm"]
    assert [event.value for event in scalars] == pytest.approx(expected.tolist(), rel=1e-5)
    histograms = events.Histograms("gradient/2.weight")
    assert [each.step for each in histograms] == [0, 1, 2]
    assert histograms[0].histogram_value.num == 48
    assert sum(histograms[0].histogram_value.bucket) == 48
