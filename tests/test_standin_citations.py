"""The made-up citation graph is the committed one and resembles Cora in what the course measures."""

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy.sparse.csgraph import connected_components
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import cross_entropy, dropout, one_hot

from course_utils import _store
from course_utils._citations import load_cora
from course_utils._standin_citations import FULL, generate_citations, write_standin

# Measured on the Planetoid files of Cora (Yang et al. 2016, arXiv:1603.08861).
DEGREES = {0.1: 1, 0.5: 3, 0.9: 7, 0.99: 19}
PAPERS_PER_WORD = {0.1: 5, 0.5: 15, 0.9: 78.8, 0.99: 252.7}
CLUSTERING, HOMOPHILY, WORDS_PER_PAPER, MAX_DEGREE = 0.241, 0.810, 18.2, 168
GCN, MLP, LABEL_PROPAGATION, LOGISTIC_REGRESSION = 0.815, 0.568, 0.710, 0.576

REAL = Path(os.environ.get("COURSE_DATA_DIR", "")) / "cora" / "ind.cora.x"
ORIGINS = ["stand-in", *(["real"] if REAL.is_file() else [])]


def load_standin():
    with pytest.MonkeyPatch.context() as monkeypatch:
        files = _store.obtain_standin("cora")
        monkeypatch.setattr(_store, "obtain", lambda _name, *, missing: files if missing else None)
        return load_cora()


@pytest.fixture(scope="module")
def data():
    return load_standin()


def adjacency_of(data):
    return sp.csr_matrix((np.ones(data.num_edges), data.edge_index.numpy()))


def words_of(data):
    return sp.csr_matrix((data.x.values(), data.x.col_indices(), data.x.crow_indices()), shape=data.x.shape)


def measure(data):
    """Return the statistics that the stand-in is calibrated to."""
    adjacency, words = adjacency_of(data), words_of(data)
    degree = adjacency.sum(axis=1).A1
    triangles = (adjacency @ adjacency).multiply(adjacency).sum(axis=1).A1
    source, target = data.edge_index
    return {
        "degrees": {q: np.quantile(degree, q) for q in DEGREES},
        "max_degree": degree.max(),
        "clustering": np.mean(triangles / np.maximum(degree * (degree - 1), 1)),
        "homophily": (data.y[source] == data.y[target]).float().mean().item(),
        "words_per_paper": words.sum(axis=1).mean(),
        "papers_per_word": {q: np.quantile(words.sum(axis=0).A1, q) for q in PAPERS_PER_WORD},
    }


def propagation_of(data):
    adjacency = adjacency_of(data) + sp.eye_array(data.num_nodes, format="csr")
    scale = sp.diags_array(1 / np.sqrt(np.asarray(adjacency.sum(axis=1)).ravel()))
    matrix = (scale @ adjacency @ scale).tocsr().astype(np.float32)
    parts = (torch.from_numpy(part) for part in (matrix.indptr, matrix.indices, matrix.data))
    return torch.sparse_csr_tensor(*parts, size=matrix.shape, check_invariants=True)


def accuracy(data, *, num_layers, propagation, seed=0):
    """Train a GCN, or an MLP without a propagation; return test accuracy where validation is best."""
    torch.manual_seed(seed)
    sizes = [data.num_features, *[64] * (num_layers - 1), data.num_classes]
    layers = torch.nn.ModuleList(torch.nn.Linear(*pair) for pair in itertools.pairwise(sizes))
    for layer in layers:  # as GCNConv starts
        torch.nn.init.xavier_uniform_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    optimizer = torch.optim.Adam(layers.parameters(), lr=0.01, weight_decay=5e-4)

    def forward(*, training):
        rowptr, col, value = data.x.crow_indices(), data.x.col_indices(), data.x.values()
        value = dropout(value, training=training)
        h = torch.sparse_csr_tensor(rowptr, col, value, size=data.x.shape, check_invariants=False)
        for depth, layer in enumerate(layers):
            if depth:
                h = dropout(h.relu(), training=training)
            h = h @ layer.weight.t()
            h = (h if propagation is None else propagation @ h) + layer.bias
        return h

    best = (0.0, 0.0)
    for _ in range(200):
        optimizer.zero_grad()
        cross_entropy(forward(training=True)[data.train_mask], data.y[data.train_mask]).backward()
        optimizer.step()
        with torch.no_grad():
            right = (forward(training=False).argmax(dim=1) == data.y).float()
        best = max(best, (right[data.val_mask].mean().item(), right[data.test_mask].mean().item()))
    return best[1]


def test_committed_arrays_are_what_the_generator_makes(tmp_path):
    committed = _store.obtain_standin("cora").paths["cora/cora.npz"]
    assert committed.stat().st_size < 150_000
    with (
        np.load(committed, allow_pickle=False) as old,
        np.load(write_standin(tmp_path), allow_pickle=False) as new,
    ):
        assert sorted(old) == sorted(new)
        for key in old:
            assert old[key].dtype == new[key].dtype
            np.testing.assert_array_equal(old[key], new[key])


def test_another_seed_makes_another_graph():
    assert not np.array_equal(generate_citations(seed=1)["links"], generate_citations(seed=2)["links"])


def test_sizes_are_exactly_those_of_cora(data):
    assert (data.num_nodes, data.num_edges, data.num_features) == (2708, 10556, 1433)
    assert data.y.bincount().tolist() == [351, 217, 418, 818, 426, 298, 180]
    components, component = connected_components(adjacency_of(data), directed=False)
    assert (components, np.bincount(component).max(), np.bincount(component).min()) == (78, 2485, 2)
    assert data.y[data.train_mask].bincount().tolist() == [20] * 7
    assert [int(mask.sum()) for mask in (data.val_mask, data.test_mask)] == [500, 1000]
    counts = words_of(data).sum(axis=1).A1
    assert (counts.min(), counts.max()) == (1, 30)


@pytest.mark.parametrize("origin", ORIGINS)
def test_statistics_are_close_to_those_of_cora(origin, data):
    # Where the real files are at hand they show that the constants are right, within rounding.
    slack = 1 if origin == "stand-in" else 0.01
    measured = measure(data if origin == "stand-in" else load_cora(missing="error"))
    for quantile, degree in DEGREES.items():
        assert measured["degrees"][quantile] == pytest.approx(degree, abs=slack)
    assert measured["max_degree"] == pytest.approx(MAX_DEGREE, abs=30 * slack)
    assert measured["clustering"] == pytest.approx(CLUSTERING, abs=0.05 * slack)
    assert measured["homophily"] == pytest.approx(HOMOPHILY, abs=0.02 * slack)
    assert measured["words_per_paper"] == pytest.approx(WORDS_PER_PAPER, rel=0.2 * slack)
    for quantile, papers in PAPERS_PER_WORD.items():
        assert measured["papers_per_word"][quantile] == pytest.approx(papers, rel=0.2 * slack)


def test_neighbours_help_a_gcn_as_on_cora(data):
    propagation = propagation_of(data)
    gcn = np.mean([accuracy(data, num_layers=2, propagation=propagation, seed=seed) for seed in range(2)])
    mlp = accuracy(data, num_layers=2, propagation=None)
    assert gcn == pytest.approx(GCN, abs=0.03)
    assert mlp == pytest.approx(MLP, abs=0.05)


def test_words_alone_and_citations_alone_do_about_as_well_as_on_cora(data):
    words, labels = words_of(data), data.y.numpy()
    train, test = data.train_mask.numpy(), data.test_mask.numpy()
    regression = LogisticRegression(max_iter=500).fit(words[train], labels[train])
    assert regression.score(words[test], labels[test]) == pytest.approx(LOGISTIC_REGRESSION, abs=0.08)

    known = one_hot(data.y, 7).float() * data.train_mask[:, None]
    spread, propagation = known, propagation_of(data)
    for _ in range(50):
        spread = 0.9 * (propagation @ spread) + 0.1 * known
    right = (spread.argmax(dim=1) == data.y)[data.test_mask].float().mean().item()
    assert right == pytest.approx(LABEL_PROPAGATION, abs=0.04)


def test_the_large_shape_adds_up():
    # 19,793 papers, 126,842 directed edges, 70 classes (Bojchevski & Guennemann 2018, arXiv:1707.03815).
    assert sum(FULL.class_counts) == 19_793
    assert len(FULL.class_counts) == 70
    assert min(FULL.class_counts) == 15
    assert 2 * FULL.num_links == 126_842
