"""GCN gives PyTorch Geometric's numbers on every path, at every depth, and never those of another graph."""

import copy
import pickle
import warnings
from functools import partial

import pytest
import torch
from torch.nn.functional import relu
from torch_geometric.nn import MLP, ChebConv, GATConv, GATv2Conv, GCN2Conv, GCNConv, GINConv, SAGEConv, SGConv
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.utils import erdos_renyi_graph, to_dense_adj

from course_utils.datasets import StandInWarning, load_cora
from course_utils.gcn import GCN, normalize_rows

N, F, H, C = 40, 30, 16, 5
NO_EDGES = torch.empty(2, 0, dtype=torch.int64)


def make_gin(in_channels, out_channels):
    return GINConv(MLP([in_channels, out_channels, out_channels], norm=None))


def make(*args, **kwargs):
    torch.manual_seed(0)
    return GCN(F, H, C, *args, **({"dropout": 0.0} | kwargs))


def to_csr(x):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
        return x.to_sparse_csr()


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Matrices as small as these take longer on two threads than on one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def edge_index():
    """A directed graph with a node that has no edges, a self-loop and a parallel edge."""
    torch.manual_seed(1)
    edges = erdos_renyi_graph(N - 1, 0.1, directed=True)
    return torch.cat([edges, torch.tensor([[3, 5, 5], [3, 6, 6]])], dim=1)


@pytest.fixture
def words():
    """Mostly zeros, with an empty row and an empty column."""
    torch.manual_seed(2)
    words = (torch.rand(N, F) < 0.2) * torch.rand(N, F)
    words[4], words[:, 7] = 0, 0
    return words


@pytest.fixture(scope="module")
def cora():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StandInWarning)
        return load_cora()


def run_plain(model, x, edge_index, edge_weight=None, **kwargs):
    """Put the model's weights into PyTorch Geometric's own layers and run those."""
    for i, conv in enumerate(model.convs):
        twin = GCNConv(conv.in_channels, conv.out_channels, **kwargs)
        twin.load_state_dict(conv.state_dict())
        x = twin.to(x.dtype)(x, edge_index, edge_weight)
        if i < len(model.convs) - 1:
            x = relu(x)
    return x


def gradients(model, output):
    model.zero_grad()
    output.square().sum().backward()
    return [parameter.grad.clone() for parameter in model.parameters()]


@pytest.mark.parametrize("num_layers", [1, 2, 8])
@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"improved": True},
        {"add_self_loops": False},
        {"normalize": False},
        {"bias": False},
        {"flow": "target_to_source"},
        {"aggr": "mean"},
        {"aggr": "max"},
    ],
    ids=str,
)
@pytest.mark.parametrize("weighted", [False, True])
def test_sparse_and_dense_equal_pytorch_geometric(edge_index, words, num_layers, kwargs, weighted):
    model = make(num_layers, **kwargs)
    edge_weight = torch.rand(edge_index.size(1)) if weighted else None
    expected = run_plain(model, words, edge_index, edge_weight, **kwargs)
    for x in (words, to_csr(words)):
        torch.testing.assert_close(model(x, edge_index, edge_weight), expected, atol=1e-5, rtol=1e-5)


def test_sparse_equals_dense_equals_pytorch_geometric_on_cora(cora):
    torch.manual_seed(0)
    model = GCN(cora.num_features, 64, cora.num_classes)
    model.eval()
    dense = cora.x.to_dense()
    expected = run_plain(model, dense, cora.edge_index)
    torch.testing.assert_close(model(cora.x, cora.edge_index), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(model(dense, cora.edge_index), expected, atol=1e-5, rtol=0)


VARIANTS = [
    {},
    {"residual": "residual"},
    {"residual": "initial"},
    {"residual": "jumping"},
    {"norm": "batch"},
    {"norm": "pair"},
    {"norm": "pair", "residual": "initial"},
    {"conv": SAGEConv},
    {"conv": GATConv, "heads": 4},
    {"conv": GATv2Conv, "heads": 4, "residual": "jumping"},
    {"conv": partial(GATConv, dropout=0.6), "heads": 2, "residual": "residual"},
    {"conv": make_gin},
    {"conv": ChebConv, "K": 2},
    {"conv": SGConv, "K": 2},
]


@pytest.mark.parametrize("kwargs", VARIANTS)
@pytest.mark.parametrize("num_layers", [1, 3])
def test_every_variant_is_the_same_for_sparse_and_dense_features(edge_index, words, num_layers, kwargs):
    model = make(num_layers, **kwargs)
    results = []
    for x in (words, to_csr(words)):
        torch.manual_seed(3)  # for the dropout of attention
        logits, hidden = model(x, edge_index, return_hidden=True)
        assert logits.shape == (N, C)
        assert len(hidden) == num_layers
        assert all(h.shape == (N, H) for h in hidden[:-1])
        results.append((logits, gradients(model, logits)))
    torch.testing.assert_close(*results, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("residual", [None, "residual", "initial", "jumping"])
def test_64_layers_train(edge_index, words, residual):
    model = make(64, residual=residual, norm="batch", dropout=0.5)
    logits = model(to_csr(words), edge_index)
    assert all(torch.isfinite(gradient).all() for gradient in gradients(model, logits))


def test_gcnii_equals_pytorch_geometrics_layers(edge_index, words):
    model = make(3, residual="initial", alpha=0.2, theta=1.5)
    start = h = relu(model.first(words))
    for i, conv in enumerate(model.convs):
        twin = GCN2Conv(H, 0.2, 1.5, layer=i + 1)
        twin.load_state_dict(conv.state_dict())
        h = relu(twin(h, start, edge_index))
    torch.testing.assert_close(model(to_csr(words), edge_index), model.head(h), atol=1e-5, rtol=0)


def test_gcnii_with_two_weights_a_layer_equals_pytorch_geometrics(edge_index, words):
    model = make(1, residual="initial", shared_weights=False)
    start = relu(model.first(words))
    twin = GCN2Conv(H, 0.1, 0.5, layer=1, shared_weights=False)
    twin.load_state_dict(model.convs[0].state_dict())
    expected = model.head(relu(twin(start, start, edge_index)))
    torch.testing.assert_close(model(to_csr(words), edge_index), expected, atol=1e-5, rtol=0)


def test_residual_adds_the_input_of_the_hidden_layers_but_the_first(edge_index, words):
    model = make(4, residual="residual")
    plain = [lambda h, conv=conv: relu(conv(h, edge_index)) for conv in model.convs]
    first = plain[0](words)
    second = plain[1](first) + first
    third = plain[2](second) + second
    torch.testing.assert_close(model(words, edge_index), model.convs[3](third, edge_index))


def test_jumping_hears_all_layers(edge_index, words):
    model = make(3, residual="jumping")
    logits, hidden = model(words, edge_index, return_hidden=True)
    torch.testing.assert_close(logits, model.head(torch.cat(hidden, dim=1)))


def test_hidden_states_of_a_plain_network_end_in_the_logits(edge_index, words):
    logits, hidden = make(3)(words, edge_index, return_hidden=True)
    assert hidden[-1] is logits
    assert all((h >= 0).all() for h in hidden[:-1])


def test_pair_norm_centres_and_scales(edge_index, words):
    model = make(2, norm="pair")
    before = model.convs[0](words, edge_index)
    centred = before - before.mean(dim=0)
    expected = relu(centred / centred.square().sum(dim=1).mean().sqrt())
    hidden = model(words, edge_index, return_hidden=True)[1]
    torch.testing.assert_close(hidden[0], expected, atol=1e-4, rtol=1e-3)


def test_hooks_see_every_layer(edge_index, words):
    model, seen = make(3), []
    for conv in model.convs:
        conv.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    hidden = model(to_csr(words), edge_index, return_hidden=True)[1]
    torch.testing.assert_close([relu(h) for h in seen[:-1]], hidden[:-1])


def test_weights_are_those_of_pytorch_geometric():
    theirs = [GCNConv(F, H), GCNConv(H, C)]
    expected = {f"convs.{i}.{name}" for i, conv in enumerate(theirs) for name in conv.state_dict()}
    assert set(make(2).state_dict()) == expected
    assert all(isinstance(conv, GCNConv) for conv in make(2).convs)


# A cached adjacency must never outlive its graph.


def check_fresh(model, x, edge_index, edge_weight=None):
    expected = run_plain(model, x, edge_index, edge_weight)
    torch.testing.assert_close(model(to_csr(x), edge_index, edge_weight), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("training", [True, False])
def test_no_stale_cache_when_the_graph_changes(edge_index, words, training):
    model = make().train(training)
    check_fresh(model, words, edge_index)
    changed = edge_index.clone()
    check_fresh(model, words, changed)
    changed[0, 0] = (changed[0, 0] + 1) % N  # in place
    check_fresh(model, words, changed)
    changed.data[1, 1] = (changed[1, 1] + 1) % N  # in place, behind autograd's back
    check_fresh(model, words, changed)
    check_fresh(model, words, changed.flip(0))
    check_fresh(model, words, changed[:, :-5])
    check_fresh(model, words, edge_index)


def test_no_stale_cache_when_weights_features_or_the_number_of_nodes_change(edge_index, words):
    model = make()
    edge_weight = torch.rand(edge_index.size(1))
    check_fresh(model, words, edge_index, edge_weight)
    edge_weight[0] += 1
    check_fresh(model, words, edge_index, edge_weight)
    check_fresh(model, words, edge_index)
    check_fresh(model, words * 2, edge_index)
    check_fresh(model, words.roll(1, 1), edge_index)
    check_fresh(model, torch.cat([words, words]), edge_index)
    check_fresh(model.double(), words.double(), edge_index)


def test_no_stale_cache_when_sparse_features_change_in_place(edge_index, words):
    model, sparse = make(), to_csr(words)
    model(sparse, edge_index)
    sparse.values().mul_(2)
    torch.testing.assert_close(
        model(sparse, edge_index), run_plain(model, 2 * words, edge_index), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize(("drop_edge", "expected"), [(0.0, 1), (0.5, 3)])
def test_adjacency_is_normalised_once_for_a_graph(edge_index, words, monkeypatch, drop_edge, expected):
    """With edges dropped, once for each pass in training besides."""
    calls = []
    monkeypatch.setattr(
        "course_utils.gcn.gcn_norm", lambda *args, **kwargs: calls.append(1) or gcn_norm(*args, **kwargs)
    )
    model = make(8, drop_edge=drop_edge)
    for training in (True, False, True, False):
        model.train(training)(to_csr(words), edge_index.clone())
    assert len(calls) == expected


def test_a_copied_and_a_pickled_model_give_the_same(edge_index, words):
    model = make(residual="initial")
    expected = model(to_csr(words), edge_index)
    torch.testing.assert_close(copy.deepcopy(model)(to_csr(words), edge_index), expected)
    twin = make(residual="initial")
    torch.testing.assert_close(pickle.loads(pickle.dumps(twin))(to_csr(words), edge_index), expected)


# Gradients


@pytest.mark.parametrize("residual", [None, "residual", "initial", "jumping"])
def test_gradients_by_finite_differences(edge_index, words, residual):
    model = make(3, residual=residual).double()
    sparse = to_csr(words.double())
    model(sparse, edge_index)
    parameters = dict(model.named_parameters())
    name = "convs.1.weight1" if residual == "initial" else "convs.1.lin.weight"

    def run(weight):
        return torch.func.functional_call(model, parameters | {name: weight}, (sparse, edge_index)).sum()

    assert torch.autograd.gradcheck(run, parameters[name].detach().clone().requires_grad_(), fast_mode=True)


def test_gradient_through_dropped_sparse_features(edge_index, words):
    model = make(1, dropout=0.5).double()
    sparse = to_csr(words.double())

    def run(weight):
        torch.manual_seed(5)  # the same values dropped in each call
        changed = dict(model.named_parameters()) | {"convs.0.lin.weight": weight}
        return torch.func.functional_call(model, changed, (sparse, edge_index)).square().sum()

    assert torch.autograd.gradcheck(run, model.convs[0].lin.weight.detach().clone().requires_grad_())


def test_edge_weights_and_features_can_learn(edge_index, words):
    model = make()
    ours = torch.rand(edge_index.size(1)).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    model(to_csr(words), edge_index, ours).square().sum().backward()
    run_plain(model, words, edge_index, theirs).square().sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-5, rtol=1e-4)
    for make_leaf in (torch.clone, to_csr):
        x = make_leaf(words).requires_grad_()
        model(x, edge_index).square().sum().backward()
        y = words.clone().requires_grad_()
        run_plain(model, y, edge_index).square().sum().backward()
        mask = words != 0 if make_leaf is to_csr else torch.ones_like(words)
        gradient = x.grad.to_dense()
        torch.testing.assert_close(gradient * mask, y.grad * mask, atol=1e-5, rtol=1e-4)


def test_jacobian_is_the_receptive_field():
    """On a path of nine nodes, two layers see two steps."""
    path = torch.stack([torch.arange(8), torch.arange(1, 9)])
    path = torch.cat([path, path.flip(0)], dim=1)
    model = make(2, conv=GCNConv)
    jacobian = torch.autograd.functional.jacobian(lambda x: model(x, path)[4].sum(), torch.rand(9, F))
    assert jacobian.abs().sum(dim=1).nonzero().flatten().tolist() == [2, 3, 4, 5, 6]


# Dropout and DropEdge


def make_copier(**kwargs):
    """Return what the (only) layer sees: its weights are the identity."""
    model = GCN(F, H, F, 1, bias=False, **kwargs)
    model.convs[0].lin.weight.data = torch.eye(F)
    return model


@pytest.mark.parametrize("layout", ["dense", "sparse"])
@pytest.mark.parametrize("dropout", [0.2, 0.5])
def test_dropout_keeps_the_promised_share_and_the_mean(words, layout, dropout):
    model = make_copier(dropout=dropout)
    x = words if layout == "dense" else to_csr(words)
    torch.manual_seed(0)
    passes = torch.stack([model(x, NO_EDGES).detach() for _ in range(400)])
    kept = passes[:, words > 0] > 0
    torch.testing.assert_close(
        passes[:, words > 0][kept], words[words > 0].expand(400, -1)[kept] / (1 - dropout)
    )
    error = (dropout * (1 - dropout) / kept.numel()) ** 0.5
    assert float(kept.float().mean()) == pytest.approx(1 - dropout, abs=4 * error)
    assert not (kept.all(dim=0) | ~kept.any(dim=0)).any()  # each value is sometimes kept, sometimes dropped
    torch.testing.assert_close(model.eval()(x, NO_EDGES), words)


def test_dropout_acts_before_every_layer(words, edge_index):
    model = make(3, dropout=0.5)
    torch.manual_seed(0)
    first, second = (model(to_csr(words), edge_index, return_hidden=True)[1] for _ in range(2))
    assert all(not torch.equal(a, b) for a, b in zip(first, second, strict=True))


def adjacency(model, edge_index):
    """Read off the matrix of a layer that copies its input."""
    return model(torch.eye(F), edge_index).detach()


def test_drop_edge_drops_the_promised_share_anew_and_each_direction_on_its_own():
    ring = torch.stack([torch.arange(F), torch.arange(1, F + 1) % F])
    ring = torch.cat([ring, ring.flip(0)], dim=1)
    model = make_copier(dropout=0.0, drop_edge=0.3, normalize=False)
    torch.manual_seed(0)
    passes = torch.stack([adjacency(model, ring) for _ in range(400)])
    kept = passes[:, ring[1], ring[0]]
    assert set(kept.unique().tolist()) == {0, 1}
    assert passes.sum() == kept.sum()
    frequencies = kept.mean(dim=0)
    assert (frequencies - 0.7).abs().max() < 4.5 * (0.7 * 0.3 / 400) ** 0.5
    correlation = torch.corrcoef(torch.stack([kept[:, :F].flatten(), kept[:, F:].flatten()]))[0, 1]
    assert abs(float(correlation)) < 4 / (400 * F) ** 0.5
    assert adjacency(model.eval(), ring).sum() == 2 * F


def test_drop_edge_normalises_what_is_left_and_keeps_self_loops():
    edges = erdos_renyi_graph(F, 0.3)
    model = make_copier(dropout=0.0, drop_edge=0.5)
    torch.manual_seed(0)
    matrix = adjacency(model, edges)
    left = (matrix.t() > 0).nonzero().t()
    assert (matrix.diagonal() > 0).all()
    kept, weight = gcn_norm(left, num_nodes=F)
    torch.testing.assert_close(matrix, to_dense_adj(kept, edge_attr=weight)[0].t())


@pytest.mark.parametrize("kwargs", [{"conv": SAGEConv}, {"aggr": "mean"}])
def test_drop_edge_works_with_every_convolution(edge_index, words, kwargs):
    model = make(drop_edge=0.5, **kwargs)
    assert not torch.equal(model(words, edge_index), model(words, edge_index))
    model.eval()
    assert torch.equal(model(words, edge_index), model(words, edge_index))


def test_drop_edge_drops_weights_along(edge_index, words):
    """With all weights equal it is as if there were none, after normalisation without self-loops."""
    model = make(drop_edge=0.5, add_self_loops=False)
    torch.manual_seed(4)
    plain = model(words, edge_index)
    torch.manual_seed(4)
    weighted = model(words, edge_index, torch.full((edge_index.size(1),), 2.5))
    torch.testing.assert_close(weighted, plain)


# Rows


def test_rows_add_up_to_one(words):
    expected = words / words.sum(dim=1, keepdim=True).clamp(min=1e-12)
    torch.testing.assert_close(normalize_rows(words), expected)
    torch.testing.assert_close(normalize_rows(to_csr(words)).to_dense(), expected)
    assert normalize_rows(words)[4].sum() == 0


# What a user can get wrong


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_layers": 0}, "num_layers must be 1 or more, got 0"),
        ({"num_layers": -3}, "num_layers must be 1 or more, got -3"),
        ({"dropout": 1.0}, r"dropout is a probability and must be in \[0, 1\), got 1.0"),
        ({"drop_edge": -0.1}, r"drop_edge is a probability and must be in \[0, 1\), got -0.1"),
        ({"norm": "layer"}, "norm='layer' is unknown; take None, 'batch', 'pair'"),
        ({"residual": "dense"}, "residual='dense' is unknown; take None, 'residual', 'initial', 'jumping'"),
        ({"residual": "initial", "conv": SAGEConv}, "GCNII, which brings its own convolution"),
        ({"conv": GATConv, "heads": 3}, "3 heads cannot share 16 hidden units evenly"),
    ],
)
def test_wrong_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        make(**kwargs)
