"""Cora's files become the right graph: made-up ones always, the real ones where they are at hand."""

import collections
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy.sparse.csgraph import connected_components
from torch_geometric.datasets import Planetoid
from torch_geometric.utils import homophily, is_undirected

from course_utils import _citations, _standin_citations, _store
from course_utils._citations import load_cora

SHARED = Path(os.environ.get("COURSE_DATA_DIR", "")) / "cora"
ORIGINS = ["made-up", *(["real"] if (SHARED / "ind.cora.x").is_file() else [])]


def write_planetoid(folder):
    """Write the stand-in as Planetoid's eight pickles, with the test papers in a shuffled order."""
    arrays = _standin_citations.generate_citations()
    split = arrays["split"]
    order = np.concatenate([np.flatnonzero(split == part) for part in (1, 2, 0, 3)])
    rank = np.argsort(order)
    rowptr = np.concatenate([[0], np.cumsum(arrays["word_counts"], dtype=int)])
    words = sp.csr_matrix(
        (np.ones(rowptr[-1], np.float32), arrays["words"].astype(np.int32), rowptr), (2708, 1433)
    )
    words, labels = words[order], np.eye(7, dtype=np.int32)[arrays["labels"][order]]
    graph = collections.defaultdict(list)
    for a, b in rank[arrays["links"].astype(int)].tolist():
        graph[a].append(b)
        graph[b].append(a)
    graph[0] += [0, graph[0][0]]  # a loop and a duplicate, as the real file has
    test_index = np.random.default_rng(0).permutation(np.arange(1708, 2708))
    parts = {
        "x": words[:140],
        "y": labels[:140],
        "allx": words[:1708],
        "ally": labels[:1708],
        "tx": words[test_index],
        "ty": labels[test_index],
        "graph": graph,
    }
    for key, part in parts.items():
        content = pickle.dumps(part, protocol=3).replace(b"numpy._core", b"numpy.core")
        content = content.replace(b"scipy.sparse._csr", b"scipy.sparse.csr").replace(
            b"cbuiltins", b"c__builtin__"
        )
        # Said to be of protocol 2, it is read like the real files, with Python 2's names.
        (folder / f"ind.cora.{key}").write_bytes(content.replace(b"\x80\x03", b"\x80\x02", 1))
    (folder / "ind.cora.test.index").write_text("".join(f"{i}\n" for i in test_index))


@pytest.fixture
def folder(request, tmp_path, monkeypatch):
    """Return a folder of Planetoid's files, which the store hands out."""
    folder = tmp_path / "Cora" / "raw"
    folder.mkdir(parents=True)
    if getattr(request, "param", "made-up") == "real":
        for path in SHARED.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
    else:
        write_planetoid(folder)
    paths = {f"cora/{path.name}": path for path in folder.iterdir()}
    hand_out(monkeypatch, paths, is_standin=False)
    return folder


def hand_out(monkeypatch, paths, *, is_standin):
    files = _store.DatasetFiles("cora", paths, "standin" if is_standin else "shared", is_standin)
    monkeypatch.setattr(_store, "obtain", lambda _name, *, missing: files if missing else None)


@pytest.fixture
def standin(monkeypatch):
    hand_out(monkeypatch, _store.obtain_standin("cora").paths, is_standin=True)


@pytest.fixture(scope="module")
def full():
    """Return the large stand-in, generated once."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        hand_out(monkeypatch, {}, is_standin=True)
        return load_cora("full", seed=1)


def write_full(path, data, **changes):
    """Write a graph in the layout of graph2gauss: each link in one direction only, one of them twice."""
    x = data.x
    source, target = data.edge_index[:, data.edge_index[0] < data.edge_index[1]].numpy()
    adjacency = sp.csr_matrix(
        (np.ones(len(source)), (source, target)), shape=(data.num_nodes, data.num_nodes)
    )
    adjacency = adjacency + sp.csr_matrix(
        ([1.0, 1.0], ([5, target[0]], [5, source[0]])), shape=adjacency.shape
    )
    arrays = {
        "adj_data": adjacency.data,
        "adj_indices": adjacency.indices,
        "adj_indptr": adjacency.indptr,
        "adj_shape": np.array(adjacency.shape),
        "attr_data": np.full(x.values().numel(), 2.0, np.float32),
        "attr_indices": x.col_indices().numpy(),
        "attr_indptr": x.crow_indices().numpy(),
        "attr_shape": np.array(x.shape),
        "labels": data.y.numpy(),
    }
    np.savez(path, **arrays | changes)


@pytest.mark.parametrize("folder", ORIGINS, indirect=True)
def test_equals_the_reader_of_pytorch_geometric(folder, tmp_path):
    data = load_cora(sparse=False)
    expected = Planetoid(tmp_path, "Cora")[0]
    for key in ("x", "y", "edge_index", "train_mask", "val_mask", "test_mask"):
        assert torch.equal(data[key], expected[key]), key
        assert data[key].dtype == expected[key].dtype
    assert len(list(folder.iterdir())) == 8


@pytest.mark.parametrize("folder", ORIGINS, indirect=True)
@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.usefixtures("folder")
def test_published_facts(sparse):
    data = load_cora(sparse=sparse)
    assert (data.num_nodes, data.num_edges, data.num_features, data.num_classes) == (2708, 10556, 1433, 7)
    assert not data.has_self_loops()
    assert not data.has_isolated_nodes()
    assert is_undirected(data.edge_index)
    assert torch.unique(data.edge_index, dim=1).shape == data.edge_index.shape
    assert data.y.bincount().tolist() == [351, 217, 418, 818, 426, 298, 180]
    assert [int(mask.sum()) for mask in (data.train_mask, data.val_mask, data.test_mask)] == [140, 500, 1000]
    assert homophily(data.edge_index, data.y) == pytest.approx(0.810, abs=0.02)
    adjacency = sp.coo_matrix((np.ones(10556), data.edge_index.numpy()))
    components, component = connected_components(adjacency, directed=False)
    assert (components, np.bincount(component).max()) == (78, 2485)
    x = data.x.to_dense() if sparse else data.x
    assert x.dtype == torch.float32
    assert x.unique().tolist() == [0, 1]
    assert data.x.layout == (torch.sparse_csr if sparse else torch.strided)
    assert (data.source, data.is_standin) == ("planetoid", False)
    assert "10.1609/aimag.v29i3.2157" in data.attribution
    assert "1603.08861" in data.attribution
    assert data.class_names[int(data.y.bincount().argmax())] == "Neural_Networks"


@pytest.mark.parametrize("folder", ORIGINS, indirect=True)
def test_reads_a_folder_it_cannot_write_to_and_leaves_it_alone(folder):
    before = {path: path.read_bytes() for path in folder.iterdir()}
    for path in folder.iterdir():
        path.chmod(0o444)
    folder.chmod(0o555)
    load_cora()
    folder.chmod(0o755)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.usefixtures("standin")
def test_standin_says_what_it_is():
    data = load_cora()
    assert (data.source, data.is_standin, data.num_classes) == ("standin", True, 7)
    assert data.attribution.startswith("Stand-in")
    assert torch.equal(data.x.to_dense(), load_cora(sparse=False).x)
    assert int(data.train_mask.sum()) == 140


@pytest.mark.usefixtures("standin")
def test_random_split_is_seeded_and_covers_all_papers():
    first, again, other = (load_cora(split="random", seed=seed) for seed in (0, 0, 1))
    masks = torch.stack([first.train_mask, first.val_mask, first.test_mask])
    assert masks.sum(dim=1).tolist() == [1895, 406, 407]
    assert masks.sum(dim=0).eq(1).all()
    assert torch.equal(first.train_mask, again.train_mask)
    assert not torch.equal(first.train_mask, other.train_mask)


def test_full_standin_is_split_at_random(full):
    assert (full.num_nodes, full.num_edges, full.num_features, full.num_classes) == (19793, 126842, 8710, 70)
    assert (full.source, full.is_standin, full.class_names[3]) == ("standin", True, "class 3")
    assert [int(mask.sum()) for mask in (full.train_mask, full.val_mask)] == [13855, 2968]


def test_full_archive_is_made_undirected_and_binary(full, tmp_path, monkeypatch):
    write_full(tmp_path / "cora.npz", full)
    hand_out(monkeypatch, {"cora-full/cora.npz": tmp_path / "cora.npz"}, is_standin=False)
    data = load_cora("full", split="random", seed=1)
    assert torch.equal(data.edge_index, full.edge_index)
    assert torch.equal(data.x.col_indices(), full.x.col_indices())
    assert data.x.values().eq(1).all()
    assert torch.equal(data.test_mask, full.test_mask)
    assert (data.source, data.is_standin) == ("full", False)
    assert "1707.03815" in data.attribution


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"labels": np.array([None])},
            "not the archive of CitationFull's Cora: Object arrays cannot be loaded",
        ),
        ({"attr_shape": np.array([19793, 5])}, "not the archive of CitationFull's Cora"),
        ({"labels": np.zeros(19793, int)}, "Cora 'full' should have .* but the shared file has .*, 8710, 1"),
    ],
)
def test_full_archive_with_other_contents_is_refused(full, tmp_path, monkeypatch, changes, message):
    write_full(tmp_path / "cora.npz", full, **changes)
    hand_out(monkeypatch, {"cora-full/cora.npz": tmp_path / "cora.npz"}, is_standin=False)
    with pytest.raises(ValueError, match=message):
        load_cora("full")


@pytest.mark.parametrize("content", [b"version https://git-lfs.github.com/spec/v1\n", pickle.dumps([1])])
def test_full_file_that_is_no_archive_is_refused(tmp_path, monkeypatch, content):
    (tmp_path / "cora.npz").write_bytes(content)
    hand_out(monkeypatch, {"cora-full/cora.npz": tmp_path / "cora.npz"}, is_standin=False)
    with pytest.raises(
        ValueError, match=r"not the archive of CitationFull's Cora.*Remove it and fetch it again"
    ):
        load_cora("full")


class Shell:
    def __reduce__(self):
        return os.system, ("exit 1",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_runs_a_command_is_refused(tmp_path, protocol):
    path = tmp_path / "ind.cora.x"
    path.write_bytes(pickle.dumps(Shell(), protocol=protocol))
    with pytest.raises(pickle.UnpicklingError, match=r"asks for \w+\.system"):
        _citations._unpickle(path)


def test_a_gap_in_the_test_index_is_refused(folder):
    path = folder / "ind.cora.test.index"
    path.write_text(path.read_text().replace("2000\n", "2708\n"))
    with pytest.raises(ValueError, match=r"test\.index should number the papers after allx without a gap"):
        load_cora()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("citeseer", {}, "name='citeseer' is unknown; take 'planetoid' or 'full'"),
        (
            "planetoid",
            {"split": "half"},
            "split='half' does not exist for 'planetoid'; take 'public' or 'random'",
        ),
        ("full", {"split": "public"}, "split='public' does not exist for 'full'; take 'random'"),
    ],
)
def test_unknown_names_are_met_with_the_known_ones(name, options, message):
    with pytest.raises(ValueError, match=message):
        load_cora(name, **options)
