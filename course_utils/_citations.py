"""Cora as a graph: the files of Planetoid or CitationFull, or a stand-in, become a `Data` with provenance."""

from __future__ import annotations

import collections
import pickle
import warnings
import zipfile
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scipy.sparse as sp
import torch
from torch_geometric.data import Data

from course_utils import _standin_citations, _store

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    # Words (N, W), labels (N,), links (2, L) in any direction, role of each paper in the public split (N,).
    Parts = tuple[sp.csr_matrix, NDArray[Any], NDArray[Any], NDArray[Any]]

SPLITS = {"planetoid": ("public", "random"), "full": ("random",)}
# The order of the Planetoid files, known from the number of papers in each class.
CLASS_NAMES = (
    "Theory",
    "Reinforcement_Learning",
    "Genetic_Algorithms",
    "Neural_Networks",
    "Probabilistic_Methods",
    "Case_Based",
    "Rule_Learning",
)
ATTRIBUTION = {
    "planetoid": (
        "Cora: Sen et al. 2008, doi:10.1609/aimag.v29i3.2157; split: Yang et al. 2016, arXiv:1603.08861."
    ),
    "full": "Cora, full: Bojchevski & Guennemann 2018, arXiv:1707.03815.",
    "standin": "Stand-in for Cora: made-up papers, generated for this course.",
}
# Nodes, directed edges, words and classes, as published with the two data sets.
SIZES = {"planetoid": (2_708, 10_556, 1_433, 7), "full": (19_793, 126_842, 8_710, 70)}


def load_cora(
    name: Literal["planetoid", "full"] = "planetoid",
    *,
    sparse: bool = True,
    split: Literal["public", "random"] | None = None,
    seed: int = 0,
    missing: Literal["standin", "error"] = "standin",
) -> Data:
    """Load the citation graph Cora: papers, the words they contain, and who cites whom.

    Parameters
    ----------
    name
        "planetoid": 2,708 papers in 7 classes (Sen et al. 2008; Yang et al. 2016). "full": 19,793 papers in
        70 classes (Bojchevski & Guennemann 2018).
    sparse
        Whether the words are a sparse CSR tensor, which is faster and smaller, or a dense one.
    split
        "public": 20 papers a class to train, 500 to validate, 1,000 to test. "random": 70, 15 and 15 % of the
        papers. By default "public" where there is one, that is for "planetoid".
    seed
        Seed of the random split.
    missing
        Whether the "standin" takes the place of data that cannot be had, or an "error" is raised.

    Returns
    -------
    Data
        ``x`` (N, W) float32, 1 where a paper contains a word, not normalised; ``y`` (N,) int64;
        ``edge_index`` (2, E) int64, both directions of each link, no loops, no duplicates, sorted by target
        and then source as PyTorch Geometric's own reader has it; ``train_mask``, ``val_mask``, ``test_mask``
        (N,) bool; ``num_classes``; ``class_names``; ``source`` ("planetoid", "full" or "standin");
        ``is_standin``; ``attribution``.

    Raises
    ------
    ValueError
        If `name` or `split` is unknown, "full" is asked for a public split, or a file is wrong.
    DatasetUnavailableError
        If the data cannot be had and no stand-in is wanted.
    """
    if name not in SPLITS:
        msg = f"name={name!r} is unknown; take {_listed(tuple(SPLITS))}."
        raise ValueError(msg)
    if split is not None and split not in SPLITS[name]:
        msg = f"split={split!r} does not exist for {name!r}; take {_listed(SPLITS[name])}."
        raise ValueError(msg)
    files = _store.obtain("cora" if name == "planetoid" else "cora-full", missing=missing)
    if name == "full":
        parts = _generate_full() if files.is_standin else _read_full(files.paths["cora-full/cora.npz"])
    elif files.is_standin:
        parts = _read_standin(files.paths["cora/cora.npz"])
    else:
        parts = _read_planetoid(files.paths)
    words, labels, links, roles = parts

    data = Data(x=_to_tensor(words, sparse=sparse), edge_index=_to_edge_index(links, num_nodes=len(labels)))
    data.y = torch.from_numpy(labels.astype(np.int64))
    data.num_classes = int(labels.max()) + 1
    sizes = (data.num_nodes, data.num_edges, data.num_features, data.num_classes)
    if sizes != SIZES[name]:
        msg = (
            f"Cora {name!r} should have (nodes, directed edges, words, classes) = {SIZES[name]}, but the "
            f"{files.origin} file has {sizes}. Remove that file and fetch it again."
        )
        raise ValueError(msg)
    if split == "random" or name == "full":
        roles = _random_roles(len(labels), seed=seed)
    data.train_mask, data.val_mask, data.test_mask = (
        torch.from_numpy(roles == part)
        for part in (_standin_citations.TRAIN, _standin_citations.VALIDATION, _standin_citations.TEST)
    )
    numbered = tuple(f"class {label}" for label in range(data.num_classes))
    data.class_names = CLASS_NAMES if name == "planetoid" else numbered
    data.source = "standin" if files.is_standin else name
    data.is_standin = files.is_standin
    data.attribution = ATTRIBUTION[data.source]
    return data


def _listed(names: tuple[str, ...]) -> str:
    return " or ".join(repr(name) for name in names)


class _RestrictedUnpickler(pickle.Unpickler):
    """Unpickler that builds arrays, CSR matrices and dictionaries of lists, and nothing else."""

    ADMITTED = {  # noqa: RUF012 (a constant table, never changed)
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("scipy.sparse.csr", "csr_matrix"): sp.csr_matrix,
        ("collections", "defaultdict"): collections.defaultdict,
        ("__builtin__", "list"): list,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ADMITTED:
            msg = f"The file asks for {module}.{name}, which is no part of Planetoid's data. Fetch it anew."
            raise pickle.UnpicklingError(msg)
        return self.ADMITTED[module, name]


def _unpickle(path: Path) -> Any:
    """Read one of Planetoid's Python 2 pickles; the store has checked its hash."""
    with path.open("rb") as file:
        return _RestrictedUnpickler(file, encoding="latin1").load()


def _read_planetoid(paths: dict[str, Path]) -> Parts:
    """Put the eight files together; the rows of the test files are in the order of ``test.index``."""
    part = {
        key: _unpickle(paths[f"cora/ind.cora.{key}"]) for key in ("y", "allx", "ally", "tx", "ty", "graph")
    }
    test_index = np.loadtxt(paths["cora/ind.cora.test.index"], dtype=np.int64)
    num_known = part["allx"].shape[0]
    if not np.array_equal(np.sort(test_index), np.arange(num_known, num_known + len(test_index))):
        msg = "Cora's test.index should number the papers after allx without a gap. Fetch the files again."
        raise ValueError(msg)
    order = np.concatenate([np.arange(num_known), num_known + np.argsort(test_index)])
    words = sp.vstack([part["allx"], part["tx"]], format="csr")[order]
    labels = np.concatenate([part["ally"], part["ty"]])[order].argmax(axis=1)
    links = np.array([(a, b) for a, cited in part["graph"].items() for b in cited]).T

    num_train = len(part["y"])
    roles = np.full(len(labels), _standin_citations.NO_SPLIT)
    roles[:num_train] = _standin_citations.TRAIN
    roles[num_train : num_train + _standin_citations.NUM_VALIDATION] = _standin_citations.VALIDATION
    roles[test_index] = _standin_citations.TEST
    return words, labels, links, roles


def _read_full(path: Path) -> Parts:
    """Read the plain arrays of graph2gauss; there is no published hash, so nothing is ever unpickled."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            words, adjacency = (_read_csr(arrays, prefix) for prefix in ("attr", "adj"))
            labels = arrays["labels"]
    except (KeyError, OSError, TypeError, ValueError, zipfile.BadZipFile) as error:
        msg = f"{path} is not the archive of CitationFull's Cora: {error}. Remove it and fetch it again."
        raise ValueError(msg) from error
    return words > 0, labels, np.stack(adjacency.nonzero()), np.empty(0)


def _read_csr(arrays: Any, prefix: str) -> sp.csr_matrix:
    data, indices, indptr, shape = (
        arrays[f"{prefix}_{part}"] for part in ("data", "indices", "indptr", "shape")
    )
    matrix = sp.csr_matrix((data, indices, indptr), shape=tuple(shape))
    matrix.check_format(full_check=True)  # no index outside the matrix
    return matrix


def _read_standin(path: Path) -> Parts:
    with np.load(path, allow_pickle=False) as arrays:
        return _unpack(arrays, num_words=_standin_citations.PLANETOID.num_words)


def _generate_full() -> Parts:
    shape = _standin_citations.FULL
    return _unpack(_standin_citations.generate_citations(shape), num_words=shape.num_words)


def _unpack(arrays: Mapping[str, NDArray[Any]], *, num_words: int) -> Parts:
    labels, words = arrays["labels"], arrays["words"].astype(np.int64)
    rowptr = np.concatenate([[0], np.cumsum(arrays["word_counts"], dtype=np.int64)])
    matrix = sp.csr_matrix((np.ones(len(words)), words, rowptr), shape=(len(labels), num_words))
    return matrix, labels, arrays["links"].T.astype(np.int64), arrays["split"]


def _to_tensor(words: sp.csr_matrix, *, sparse: bool) -> torch.Tensor:
    words = words.astype(np.float32)
    if not sparse:
        return torch.from_numpy(words.toarray())
    words.sort_indices()
    rowptr, col = words.indptr.astype(np.int64), words.indices.astype(np.int64)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
        return torch.sparse_csr_tensor(
            rowptr, col, torch.from_numpy(words.data), size=words.shape, check_invariants=True
        )


def _to_edge_index(links: NDArray[Any], *, num_nodes: int) -> torch.Tensor:
    """Both directions of each link once, without loops, sorted by target and then source; shape (2, E)."""
    source, target = np.concatenate([links, links[::-1]], axis=1)
    kept = source != target
    codes = np.unique(target[kept] * num_nodes + source[kept])
    return torch.from_numpy(np.stack([codes % num_nodes, codes // num_nodes]))


def _random_roles(num_nodes: int, *, seed: int) -> NDArray[Any]:
    order = np.random.default_rng(seed).permutation(num_nodes)
    num_train, num_validation = int(0.7 * num_nodes), int(0.15 * num_nodes)
    roles = np.full(num_nodes, _standin_citations.TEST)
    roles[order[:num_train]] = _standin_citations.TRAIN
    roles[order[num_train : num_train + num_validation]] = _standin_citations.VALIDATION
    return roles
