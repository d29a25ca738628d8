"""Training finds the published accuracy, chooses without the test set, and refuses data that do not fit."""

import copy
import math
import warnings

import pandas as pd
import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.utils import stochastic_blockmodel_graph

from course_utils.datasets import StandInWarning, load_cora
from course_utils.gcn import GCN, normalize_rows
from course_utils.training import train_node_classifier

N = 60


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Graphs as small as these take longer on two threads than on one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def cora():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StandInWarning)
        data = load_cora()
    data.x = normalize_rows(data.x)
    return data


@pytest.fixture
def blocks():
    """Three groups of twenty nodes, linked mostly inside, with noisy features."""
    torch.manual_seed(0)
    links = torch.full((3, 3), 0.03) + 0.2 * torch.eye(3)
    y = torch.arange(3).repeat_interleave(20)
    x = torch.nn.functional.one_hot(y).float() + torch.randn(N, 3)
    role = torch.arange(N) % 4
    masks = {name: role == i for i, name in enumerate(("train_mask", "val_mask", "test_mask"))}
    return Data(x=x, y=y, edge_index=stochastic_blockmodel_graph([20] * 3, links), num_classes=3, **masks)


def train(data, model=None, *, seed=0, **kwargs):
    torch.manual_seed(0)
    model = model or GCN(3, 8, 3)
    return train_node_classifier(model, data, seed=seed, **({"epochs": 30, "progress": False} | kwargs))


def assert_same(a, b):
    pd.testing.assert_frame_equal(a.history, b.history)
    assert (a.best_epoch, a.val_accuracy, a.test_accuracy) == (b.best_epoch, b.val_accuracy, b.test_accuracy)


def test_two_layers_reach_the_published_accuracy_on_cora(cora):
    """Kipf & Welling report 81.5 % (arXiv:1609.02907, table 2)."""
    torch.manual_seed(0)
    model = GCN(cora.num_features, 64, cora.num_classes)
    result = train_node_classifier(model, cora, epochs=100, seed=0, progress=False)
    assert result.test_accuracy == pytest.approx(0.815, abs=0.03)


def test_history_has_a_row_an_epoch(blocks):
    history = train(blocks).history
    assert list(history) == ["epoch", "loss", "val_loss", "train_accuracy", "val_accuracy"]
    assert history["epoch"].tolist() == list(range(1, 31))
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]


def test_best_epoch_is_the_best_on_the_validation_nodes(blocks):
    result = train(blocks)
    history = result.history
    best = history[history["val_accuracy"] == history["val_accuracy"].max()]
    assert result.best_epoch == best.loc[best["val_loss"].idxmin(), "epoch"]
    assert result.val_accuracy == history["val_accuracy"].max()


@pytest.mark.parametrize("norm", [None, "batch"])
def test_the_model_is_left_as_it_was_in_its_best_epoch(blocks, norm):
    torch.manual_seed(0)
    model = GCN(3, 8, 3, norm=norm)
    result = train(blocks, model, lr=0.1, epochs=100)
    assert result.best_epoch < 100
    with torch.no_grad():
        right = model.eval()(blocks.x, blocks.edge_index).argmax(dim=1) == blocks.y
    assert float(right[blocks.test_mask].float().mean()) == result.test_accuracy
    assert float(right[blocks.val_mask].float().mean()) == result.val_accuracy


@pytest.mark.parametrize(
    ("weight_decay", "of_first", "of_second"),
    [
        (0.1, 0.1, 0.1),
        ({"convs.0": 0.1}, 0.1, 0.0),
        ({"convs.1": 0.2, "convs": 0.1}, 0.1, 0.2),
        ({}, 0.0, 0.0),
    ],
)
def test_one_step_is_adam_on_the_training_nodes(blocks, weight_decay, of_first, of_second):
    torch.manual_seed(0)
    model = GCN(3, 8, 3, dropout=0.0)
    twin = copy.deepcopy(model)
    result = train(blocks, model, epochs=1, lr=0.02, weight_decay=weight_decay)
    groups = [
        {"params": conv.parameters(), "weight_decay": decay}
        for conv, decay in zip(twin.convs, (of_first, of_second), strict=True)
    ]
    optimizer = torch.optim.Adam(groups, lr=0.02)
    logits = twin(blocks.x, blocks.edge_index).log_softmax(dim=1)
    loss = -logits[torch.arange(N), blocks.y][blocks.train_mask].mean()
    loss.backward()
    optimizer.step()
    assert result.history["loss"].item() == pytest.approx(loss.item())
    torch.testing.assert_close(model.state_dict(), twin.state_dict())


def test_test_labels_change_nothing_but_the_test_accuracy(blocks):
    other = blocks.clone()
    where = blocks.test_mask.nonzero().flatten()
    other.y[where] = blocks.y[where.roll(5)]
    results, states = [], []
    for data in (blocks, other):
        torch.manual_seed(0)
        model = GCN(3, 8, 3)
        results.append(train(data, model, patience=5))
        states.append(model.state_dict())
    pd.testing.assert_frame_equal(results[0].history, results[1].history)
    assert results[0].best_epoch == results[1].best_epoch
    assert results[0].val_accuracy == results[1].val_accuracy
    assert results[0].test_accuracy != results[1].test_accuracy
    torch.testing.assert_close(*states, rtol=0, atol=0)


def test_nodes_in_no_mask_need_no_label(blocks):
    expected = train(blocks)
    blocks.y[~(blocks.train_mask | blocks.val_mask | blocks.test_mask)] = -1
    assert_same(train(blocks), expected)


def test_a_seed_decides_the_dropout_and_leaves_the_generator_alone(blocks):
    first = train(blocks, seed=3)
    after = torch.rand(1)
    assert_same(first, train(blocks, seed=3))
    assert not first.history.equals(train(blocks, seed=4).history)
    torch.manual_seed(0)
    GCN(3, 8, 3)
    assert torch.equal(after, torch.rand(1))


def test_without_a_seed_the_global_generator_decides(blocks):
    assert_same(train(blocks, seed=None), train(blocks, seed=None))


def test_patience_stops_after_so_many_epochs_without_a_better_one(blocks):
    result = train(blocks, epochs=500, patience=7)
    assert len(result.history) == result.best_epoch + 7 < 500
    pd.testing.assert_frame_equal(
        result.history, train(blocks, epochs=500).history.iloc[: len(result.history)]
    )


@pytest.mark.parametrize("key", ["convs.5", "conv", "convs.0.lin.weigh", ""])
def test_a_weight_decay_that_names_nothing(blocks, key):
    with pytest.raises(
        ValueError, match=r"keys that begin no parameter's name: .*The names are \['convs.0.bias'"
    ):
        train(blocks, weight_decay={"convs.0": 0.1, "convs.1": 0.1, key: 0.1})


def test_weights_of_edges_are_passed_on(blocks):
    plain = train(blocks)
    blocks.edge_weight = torch.ones(blocks.num_edges)
    assert_same(train(blocks), plain)
    blocks.edge_weight[:10] = 5
    assert not train(blocks).history.equals(plain.history)


# Training that fails


def test_a_loss_that_is_not_finite_points_to_the_clinic(blocks):
    blocks.x[0] = math.nan
    with pytest.raises(
        FloatingPointError, match=r"loss became nan in epoch 1.*notebook 08, the gradient clinic"
    ):
        train(blocks)


def test_a_loss_that_diverges_points_to_the_clinic(blocks):
    with pytest.raises(
        FloatingPointError, match=r"loss became .* in epoch \d+. Try a lower lr \(now 1000.0\)"
    ):
        train(blocks, lr=1000.0)


def test_a_large_loss_that_falls_is_no_divergence(blocks):
    blocks.x *= 1e4
    history = train(blocks).history
    assert history["loss"].iloc[0] > 1e3
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]


class Unlearning(torch.nn.Module):
    """Knows the answers in the first epoch, and nothing later."""

    def __init__(self, y):
        super().__init__()
        self.logits = torch.nn.Parameter(100 * torch.eye(3)[y])
        self.steps = 0

    def forward(self, _x, _edge_index):
        self.steps += self.training
        return self.logits if self.steps < 2 else 0 * self.logits


def test_from_perfect_to_guessing_is_no_divergence(blocks):
    history = train(blocks, Unlearning(blocks.y), epochs=3).history
    assert history["loss"].tolist() == pytest.approx([0, math.log(3), math.log(3)])


# Data that do not fit, found before the first step


def put(values, index, value):
    values = values.clone()
    values[index] = value
    return values


EMPTY = torch.zeros(N, dtype=torch.bool)
# Node 0 is a training node; which field is spoilt, how, and what the message says.
SPOILT = [
    ("x", lambda d: d.x[:-1], r"y has shape \(60,\), but x has 59 rows"),
    ("y", lambda d: d.y[:-1], r"y has shape \(59,\), but x has 60 rows: it must be \(60,\)"),
    ("y", lambda d: torch.eye(3)[d.y], r"y has shape \(60, 3\), but x has 60 rows"),
    ("y", lambda d: put(d.y, 0, 3), r"y must be int64 from 0 to 2; on the masked .*int64 from 0 to 3"),
    ("y", lambda d: put(d.y, 0, -1), r"y must be int64 from 0 to 2; .* from -1 to 2"),
    ("y", lambda d: d.y.float(), r"y must be int64 from 0 to 2; .* torch\.float32"),
    ("num_classes", lambda _: 4, r"logits of shape \(60, 3\).*ask for \(60, 4\)\. Set .* out_channels to 4"),
    ("val_mask", lambda d: d.val_mask[:-1], r"val_mask has shape \(59,\), but x has 60 rows"),
    (
        "train_mask",
        lambda d: d.train_mask.long(),
        r"train_mask must be of dtype torch\.bool, got torch\.int64",
    ),
    ("train_mask", lambda _: EMPTY, r"train_mask is empty.*Split the nodes anew"),
    ("val_mask", lambda _: EMPTY, "val_mask is empty"),
    ("test_mask", lambda _: EMPTY, "test_mask is empty"),
    ("test_mask", lambda d: ~d.val_mask, "train_mask and test_mask share 15 nodes"),
    ("val_mask", lambda d: ~d.train_mask, "val_mask and test_mask share 15 nodes"),
    (
        "edge_index",
        lambda d: put(d.edge_index, (0, 0), N),
        "edge_index holds nodes from 0 to 60, but .* 60 nodes",
    ),
    ("edge_index", lambda d: put(d.edge_index, (1, 0), -1), "edge_index holds nodes from -1 to 59"),
    ("edge_index", lambda d: d.edge_index.t(), r"edge_index must be int64 of shape \(2, E\)"),
    ("edge_index", lambda d: d.edge_index.float(), r"edge_index must be int64 .* is torch\.float32"),
]


@pytest.mark.parametrize(("field", "change", "message"), SPOILT, ids=[case[2] for case in SPOILT])
def test_data_that_do_not_fit(blocks, field, change, message):
    torch.manual_seed(0)
    model = GCN(3, 8, 3)
    before = copy.deepcopy(model.state_dict())
    blocks[field] = change(blocks)
    with pytest.raises(ValueError, match=message):
        train(blocks, model)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


def test_no_epochs(blocks):
    with pytest.raises(ValueError, match="epochs must be 1 or more, got 0"):
        train(blocks, epochs=0)
