"""Node2Vec behaves as PyTorch Geometric's class, with the same loss and true gradients."""

from __future__ import annotations

import copy
import inspect
import itertools
import math
import pickle

import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_mutual_info_score
from torch_geometric.nn.models.node2vec import Node2Vec as PygNode2Vec

from course_utils import _negative_sampling, node2vec
from course_utils._negative_sampling import WalkLoss, Workspace, negative_sampling_loss
from course_utils.node2vec import Node2Vec, train_node2vec

PATH = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])


def ring_of_cliques(num_cliques=4, size=6):
    """Join cliques by single links into a ring."""
    edges = [
        (clique * size + a, clique * size + b)
        for clique in range(num_cliques)
        for a in range(size)
        for b in range(size)
        if a != b
    ]
    for clique in range(num_cliques):
        link = (clique * size, ((clique + 1) % num_cliques) * size + 1)
        edges += [link, link[::-1]]
    return torch.tensor(edges).t()


def make_model(**changes):
    torch.manual_seed(0)
    arguments = {"embedding_dim": 8, "walk_length": 7, "context_size": 4, "walks_per_node": 3} | changes
    return Node2Vec(ring_of_cliques(), **arguments)


def cut(walks, context_size):
    return torch.cat([walks[:, j : j + context_size] for j in range(walks.size(1) - context_size + 1)])


def formula(weight, positive, negative):
    """Compute the published formula on windows, log(sigmoid(x) + 1e-15), pair by pair."""

    def scores(windows):
        return (weight[windows[:, :1]] * weight[windows[:, 1:]]).sum(-1)

    found = -torch.log(torch.sigmoid(scores(positive)) + 1e-15).mean()
    return found - torch.log(1 - torch.sigmoid(scores(negative)) + 1e-15).mean()


def test_same_constructor_and_methods_as_pytorch_geometric():
    theirs = inspect.signature(PygNode2Vec.__init__).parameters
    ours = inspect.signature(Node2Vec.__init__).parameters
    assert list(ours) == list(theirs)
    assert [p.default for p in ours.values()] == [p.default for p in theirs.values()]
    public = {name for name in vars(PygNode2Vec) if not name.startswith("_")}
    assert public <= set(vars(Node2Vec))


def test_first_use_as_in_pytorch_geometric():
    model = Node2Vec(PATH, embedding_dim=16, walk_length=2, context_size=2, p=0.5, q=2.0)
    assert str(model) == "Node2Vec(3, 16)"
    assert list(model.state_dict()) == ["embedding.weight"]
    assert model().shape == model(torch.arange(3)).shape == (3, 16)
    assert (model.num_nodes, model.walk_length, model.context_size, model.p, model.q) == (3, 1, 2, 0.5, 2.0)
    assert model.rowptr.tolist() == [0, 1, 3, 4]
    assert model.col.tolist() == [1, 0, 2, 1]
    assert model.loss(*model.sample(torch.arange(3))).item() >= 0
    accuracy = model.test(
        torch.ones(20, 16), torch.arange(20) % 10, torch.ones(20, 16), torch.arange(20) % 10
    )
    assert 0 <= accuracy <= 1


def test_samples_are_walks_from_the_batch():
    model = make_model(num_negative_samples=2)
    positive, negative = model.sample([5, 1])
    assert positive.shape == (6, 7)
    assert negative.shape == (12, 7)
    assert positive[:, 0].tolist() == [5, 1] * 3
    assert negative[:, 0].tolist() == [5, 1] * 6
    edges = set(zip(*ring_of_cliques().tolist(), strict=True))
    assert all(pair in edges for walk in positive.tolist() for pair in itertools.pairwise(walk))


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("num_nodes", [24, 10_000])
@pytest.mark.parametrize("block", [300, 1 << 19])
def test_value_and_gradient_are_those_of_the_formula(sparse, num_nodes, block, monkeypatch):
    monkeypatch.setattr(_negative_sampling, "BLOCK", block)
    model = make_model(num_nodes=num_nodes, sparse=sparse)
    positive, negative = model.sample(torch.arange(24))
    with torch.no_grad():
        model.embedding.weight *= 0.3  # scores at which the formula is not saturated
    weight = model().detach().clone().requires_grad_()
    expected = formula(weight, cut(positive, 4), cut(negative, 4))
    expected.backward()
    for pos_rw, neg_rw in ((positive, negative), (cut(positive, 4), cut(negative, 4))):
        model.zero_grad()
        loss = model.loss(pos_rw, neg_rw)
        loss.backward()
        gradient = model.embedding.weight.grad
        assert gradient.is_sparse == sparse
        assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
        torch.testing.assert_close(
            gradient.to_dense() if sparse else gradient, weight.grad, atol=1e-6, rtol=1e-4
        )
    if sparse:
        touched = torch.cat([positive, negative]).unique()
        # One row for each node that occurs, already merged.
        assert torch.equal(gradient._indices()[0], touched)


def test_gradient_in_double_precision():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(6, 3, dtype=torch.float64, generator=generator).requires_grad_()
    walks = torch.randint(6, (5, 6), generator=generator)
    assert torch.autograd.gradcheck(
        lambda w: WalkLoss.apply(w, walks[:3], walks[3:], 4, False, Workspace()), (weight,)
    )


@pytest.mark.parametrize("sparse", [False, True])
def test_loss_obeys_autograd(sparse):
    model = make_model(sparse=sparse)
    walks = model.sample(torch.arange(24))
    weight = model.embedding.weight

    def gradient(loss):
        found = torch.autograd.grad(loss, weight, retain_graph=True)[0]
        return found.to_dense() if found.is_sparse else found

    loss = model.loss(*walks)
    once = gradient(loss)
    torch.testing.assert_close(gradient(loss), once)
    torch.testing.assert_close(gradient(3 * loss), 3 * once)
    torch.testing.assert_close(gradient(loss + model.loss(*walks)), 2 * once)
    if not sparse:
        torch.testing.assert_close(gradient(loss + weight.square().sum()), once + 2 * weight)
    with torch.no_grad():
        assert not model.loss(*walks).requires_grad


def test_losses_share_their_memory_without_mixing():
    model = make_model()
    walks = model.sample(torch.arange(24))
    weight = model.embedding.weight
    first = model.loss(*walks)
    memory = model._workspace.memory
    expected = torch.autograd.grad(first, weight, retain_graph=True)[0].clone()
    model.loss(walks[1], walks[0])  # overwrites what the first left in the workspace
    assert model._workspace.memory is memory
    assert torch.equal(torch.autograd.grad(first, weight)[0], expected)
    model.double()
    assert model.loss(*walks).dtype == torch.float64
    copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    for other in copies:
        assert other._workspace is not model._workspace
        assert other._workspace.memory is None
        assert torch.equal(other.loss(*walks), model.loss(*walks))


@pytest.mark.parametrize("walks", [1, 40, 1 << 15])
def test_an_epoch_of_training_draws_what_the_loader_draws(walks, monkeypatch):
    monkeypatch.setattr(node2vec, "WALKS", walks)
    model = make_model(walks_per_node=3, num_negative_samples=2)
    batches = list(node2vec._draw_epoch(model, 5, torch.Generator().manual_seed(0)))
    loaded = list(model.loader(batch_size=5, shuffle=True))
    assert [[part.shape for part in batch] for batch in batches] == [[p.shape for p in b] for b in loaded]
    seen = torch.cat([positive[: len(positive) // 3, 0] for positive, _ in batches])
    assert sorted(seen.tolist()) == list(range(24))
    assert seen.tolist() != list(range(24))
    edges = set(zip(*ring_of_cliques().tolist(), strict=True))
    for positive, negative in batches:
        assert torch.equal(positive[:, 0].view(3, -1), positive[: len(positive) // 3, 0].expand(3, -1))
        assert torch.equal(negative[:, 0].view(2, -1), positive[:, 0].expand(2, -1))
        assert all(pair in edges for walk in positive.tolist() for pair in itertools.pairwise(walk))


def test_saturated_scores_keep_their_gradient():
    weight = torch.tensor([[50.0], [-1.0]], requires_grad=True)
    pair = torch.tensor([[0, 1]])  # score -50
    harmless = torch.tensor([[1, 0]])
    frozen = torch.autograd.grad(formula(weight, pair, harmless), weight)[0]
    alive = torch.autograd.grad(WalkLoss.apply(weight, pair, harmless, 2, False, Workspace()), weight)[0]
    assert frozen.abs().max() < 1e-5
    assert alive.tolist() == [[1.0], [-50.0]]
    score = torch.tensor([-50.0], requires_grad=True)
    negative_sampling_loss(score, score.detach()).backward()
    assert score.grad.tolist() == [-1.0]


def test_loss_of_scores():
    loss = negative_sampling_loss(torch.tensor([0.0, 2.0]), torch.tensor([[1.0]]))
    expected = (math.log(2) + math.log1p(math.exp(-2))) / 2 + math.log1p(math.exp(1))
    assert loss.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("workers", [0, 1])
def test_loader_covers_every_node_once(workers):
    model = make_model()
    loader = model.loader(batch_size=5, shuffle=True, num_workers=workers, drop_last=False)
    batches = list(loader)
    assert len(batches) == len(loader) == 5
    starts = torch.cat([positive[: len(positive) // 3, 0] for positive, _ in batches])
    assert starts.sort().values.tolist() == list(range(24))


def test_loader_obeys_its_generator():
    model = make_model()
    runs = [
        list(model.loader(batch_size=24, shuffle=True, generator=torch.Generator().manual_seed(seed)))
        for seed in (1, 1, 2)
    ]
    same, different = (torch.equal(runs[0][0][0], run[0][0]) for run in runs[1:])
    assert same
    assert not different


@pytest.mark.parametrize("sparse", [False, True])
def test_training_is_reproducible_and_leaves_the_global_generator(sparse):
    model = make_model(sparse=sparse, p=0.5, q=2.0)
    twin = copy.deepcopy(model)
    state = torch.get_rng_state()
    history = train_node2vec(model, epochs=3, batch_size=8, progress=False, seed=4)
    assert torch.equal(torch.get_rng_state(), state)
    again = train_node2vec(twin, epochs=3, batch_size=8, progress=False, seed=4)
    assert torch.equal(model(), twin())
    assert history.equals(again)
    assert list(history.columns) == ["epoch", "loss"]
    assert history["epoch"].tolist() == [1, 2, 3]
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]


def test_where_batches_reach_every_node_dense_steps_equal_sparse_ones(monkeypatch):
    model = make_model(sparse=True)  # 24 nodes, 504 draws a batch
    twin = copy.deepcopy(model)
    optimizers = []
    for each, draws_per_node in ((model, node2vec.REACHED), (twin, float("inf"))):
        monkeypatch.setattr(node2vec, "REACHED", draws_per_node)
        for name in ("Adam", "SparseAdam"):
            kind = getattr(torch.optim, name)
            monkeypatch.setattr(
                torch.optim, name, lambda *a, kind=kind, **k: optimizers.append(kind) or kind(*a, **k)
            )
        train_node2vec(each, epochs=5, batch_size=24, progress=False, seed=1)
        monkeypatch.undo()
    assert optimizers == [torch.optim.Adam, torch.optim.SparseAdam]
    # They differ in where they add Adam's epsilon; the embeddings have moved by about 0.05.
    torch.testing.assert_close(model(), twin(), rtol=0.0, atol=2e-4)


def test_embeddings_find_the_cliques():
    model = make_model(walks_per_node=10, sparse=True)
    train_node2vec(model, epochs=60, lr=0.05, progress=False, seed=0)
    z = torch.nn.functional.normalize(model().detach()).numpy()
    found = KMeans(4, n_init=10, random_state=0).fit_predict(z)
    assert adjusted_mutual_info_score([node // 6 for node in range(24)], found) > 0.9


def test_isolated_nodes_and_graphs_without_edges_train():
    model = Node2Vec(torch.zeros(2, 0, dtype=torch.int64), 4, 5, 3, num_nodes=6, p=0.5)
    assert torch.equal(model.pos_sample(torch.arange(6)), torch.arange(6)[:, None].expand(6, 5))
    assert math.isfinite(train_node2vec(model, epochs=1, progress=False, seed=0)["loss"].iloc[0])


def test_loss_that_is_not_finite_stops_training():
    model = make_model()
    with torch.no_grad():
        model.embedding.weight[0, 0] = math.nan
    with pytest.raises(FloatingPointError, match="loss became nan in epoch 1: lower lr"):
        train_node2vec(model, epochs=2, progress=False)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"walk_length": 3}, ValueError, r"walk_length \(3\) must not be below context_size \(4\)"),
        ({"context_size": 1}, ValueError, "context_size must be 2 or more, got 1"),
        ({"embedding_dim": 0}, ValueError, "embedding_dim must be 1 or more"),
        ({"walks_per_node": 0}, ValueError, "walks_per_node must be 1 or more"),
        ({"num_negative_samples": 0}, ValueError, "num_negative_samples must be 1 or more"),
        ({"p": 0.0}, ValueError, "p must be positive"),
        ({"q": math.nan}, ValueError, "q must be positive"),
        ({"num_nodes": 2}, ValueError, "num_nodes is 2, but edge_index holds node 2: give at least 3"),
        ({"edge_index": PATH.t()}, ValueError, r"shape \(2, num_edges\), got \(4, 2\)"),
        ({"edge_index": PATH.float()}, TypeError, "dtype torch.int64, got torch.float32"),
        ({"edge_index": PATH - 1}, ValueError, "edge_index holds node -1"),
    ],
)
def test_bad_arguments_are_named(changes, error, message):
    arguments = {"edge_index": PATH, "embedding_dim": 4, "walk_length": 6, "context_size": 4} | changes
    with pytest.raises(error, match=message):
        Node2Vec(**arguments)


def test_walks_too_short_for_a_window_are_named():
    model = make_model()
    positive, negative = model.sample(torch.arange(3))
    with pytest.raises(ValueError, match="neg_rw must hold walks in rows of 7 nodes or windows of 4"):
        model.loss(positive, negative[:, :3])


def test_p_and_q_are_fixed():
    model = make_model(p=0.5, q=2.0)
    for name in ("p", "q"):
        with pytest.raises(AttributeError, match=f"property '{name}'"):
            setattr(model, name, 4.0)
    assert (model.p, model.q) == (0.5, 2.0)
