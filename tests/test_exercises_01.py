"""The solutions of notebook 01's exercises, against other implementations of the same thing."""

from __future__ import annotations

from functools import partial

import networkx as nx
import numpy as np
import pytest
import scipy.spatial
import scipy.stats
from _solutions import run_solution
from sklearn.metrics import pairwise, roc_auc_score
from sklearn.neighbors import NearestNeighbors

from course_utils.exercises import load

EXERCISES = load("01_embeddings")
solved = partial(run_solution, EXERCISES)


def weighted_graph(seed, num_nodes=14):
    """Draw a connected graph with weights, as an adjacency matrix."""
    rng = np.random.default_rng(seed)
    graph = nx.connected_watts_strogatz_graph(num_nodes, 4, 0.3, seed=seed)
    adjacency = np.triu(nx.to_numpy_array(graph) * rng.uniform(0.5, 2, size=(num_nodes, num_nodes)))
    return adjacency + adjacency.T


def test_names_and_their_order():
    names = [exercise.name for exercise in EXERCISES]
    assert names == ["cosine_similarity", "auc", "nearest_neighbours", "same_side"]


@pytest.mark.parametrize("seed", range(3))
def test_cosine_similarity_is_that_of_scikit_learn_and_of_scipy(seed):
    x = np.random.default_rng(seed).normal(size=(9, 4))
    cosine = solved("cosine_similarity")
    np.testing.assert_allclose(1 - cosine(x), scipy.spatial.distance.cdist(x, x, "cosine"), atol=1e-12)
    x[3] = 0
    np.testing.assert_allclose(cosine(x), pairwise.cosine_similarity(x), atol=1e-12)


def test_the_lengths_of_the_rows_do_not_matter():
    rng = np.random.default_rng(0)
    x, length = rng.normal(size=(6, 3)), rng.uniform(0.1, 9, size=(6, 1))
    cosine = solved("cosine_similarity")
    np.testing.assert_allclose(cosine(x * length), cosine(x), atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_auc_is_that_of_scikit_learn_and_the_mann_whitney_statistic(seed):
    rng = np.random.default_rng(seed)
    positive, negative = rng.integers(0, 6, size=20) / 2, rng.integers(-2, 4, size=31) / 2  # with ties
    auc = solved("auc")(positive, negative)
    is_linked = np.repeat([True, False], [20, 31])
    assert auc == pytest.approx(roc_auc_score(is_linked, np.concatenate([positive, negative])), abs=1e-12)
    statistic = scipy.stats.mannwhitneyu(positive, negative).statistic
    assert auc == pytest.approx(statistic / (20 * 31), abs=1e-12)


def test_auc_asks_for_the_order_of_the_scores_only():
    rng = np.random.default_rng(0)
    positive, negative = rng.normal(1, size=30), rng.normal(size=40)
    auc = solved("auc")
    assert auc(np.exp(positive), np.exp(negative)) == auc(positive, negative)
    assert auc(negative, positive) == pytest.approx(1 - auc(positive, negative))


@pytest.mark.parametrize("seed", range(3))
def test_nearest_neighbours_are_those_of_scikit_learn(seed):
    z = np.random.default_rng(seed).normal(size=(25, 6))
    search = NearestNeighbors(n_neighbors=4, metric="cosine").fit(z)
    np.testing.assert_array_equal(
        solved("nearest_neighbours")(z, 4), search.kneighbors(return_distance=False)
    )


def test_a_row_is_never_its_own_neighbour_though_others_are_equal_to_it():
    z = np.repeat(np.eye(3), 4, axis=0)  # three directions, four rows each
    near = solved("nearest_neighbours")(z, 3)
    for row, found in enumerate(near):
        assert sorted(found) == [i for i in range(12) if i // 4 == row // 4 and i != row]


@pytest.mark.parametrize("seed", range(5))
def test_same_side_follows_the_eigenvector_of_the_random_walk(seed):
    adjacency = weighted_graph(seed)
    # L z = lambda D z and D^-1 A z = (1 - lambda) z are the same.
    values, vectors = np.linalg.eig(adjacency / adjacency.sum(axis=1, keepdims=True))
    coordinate = vectors[:, np.argsort(-values.real)[1]].real
    expected = {i for i, value in enumerate(coordinate) if value * coordinate[0] > 0}
    assert solved("same_side")(adjacency) == expected


def test_same_side_finds_the_cheapest_cut_of_two_cliques():
    graph = nx.barbell_graph(5, 0)
    _, sides = nx.stoer_wagner(graph)
    assert solved("same_side")(nx.to_numpy_array(graph)) == set(range(5))
    assert list(range(5)) in map(sorted, sides)


def test_numbering_the_nodes_otherwise_gives_the_same_cut():
    adjacency = weighted_graph(3)
    order = np.concatenate([[0], 1 + np.random.default_rng(0).permutation(13)])  # node 0 stays
    renumbered = solved("same_side")(adjacency[np.ix_(order, order)])
    assert {int(order[i]) for i in renumbered} == solved("same_side")(adjacency)


def auc_by_ranks(positive, negative):
    """Do what `auc` does by the sum of the ranks."""
    ranks = scipy.stats.rankdata(np.concatenate([positive, negative]))[: len(positive)]
    return (ranks.sum() - len(positive) * (len(positive) + 1) / 2) / (len(positive) * len(negative))


def auc_by_loops(positive, negative):
    """Do the same the long way."""
    won = sum((p > n) + (p == n) / 2 for p in positive for n in negative)
    return float(won / (len(positive) * len(negative)))


def neighbours_by_loop(z, k):
    """Do what `nearest_neighbours` does, row by row."""
    angles = scipy.spatial.distance.cdist(z, z, "cosine")
    others = [[i for i in np.argsort(row, kind="stable") if i != own] for own, row in enumerate(angles)]
    return np.array([row[:k] for row in others])


def side_by_plain_laplacian(adjacency):
    """Cut by the Fiedler vector of L z = lambda z, with NumPy alone."""
    degree = adjacency.sum(axis=1)
    fiedler = np.linalg.eigh(np.diag(degree) - adjacency)[1][:, 1]
    return {node for node in range(len(adjacency)) if fiedler[node] * fiedler[0] > 0}


def side_by_symmetric_laplacian(adjacency):
    """Do what `same_side` does with D^-1/2 L D^-1/2; the signs are the same."""
    scale = np.diag(adjacency.sum(axis=1) ** -0.5)
    vector = np.linalg.eigh(np.eye(len(adjacency)) - scale @ adjacency @ scale)[1][:, 1]
    return {i for i in range(len(adjacency)) if vector[i] * vector[0] > 0}


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("cosine_similarity", pairwise.cosine_similarity),
        ("auc", auc_by_ranks),
        ("auc", auc_by_loops),
        ("nearest_neighbours", neighbours_by_loop),
        ("same_side", side_by_symmetric_laplacian),
    ],
)
def test_other_ways_to_the_right_result_are_correct(name, answer):
    assert EXERCISES.__getattr__(name).check(answer).status == "correct"


@pytest.mark.parametrize(
    ("name", "answer", "says"),
    [
        ("cosine_similarity", lambda x: x @ x.T, "Divide them by the lengths of both rows."),
        ("cosine_similarity", lambda x: 1 - pairwise.cosine_similarity(x), "These are distances"),
        ("auc", lambda p, n: np.mean(p[:, None] > n), "Ties count nothing."),
        ("auc", lambda p, n: np.mean(p[:, None] >= n), "Ties count as won."),
        ("auc", lambda p, n: auc_by_ranks(n, p), "the wrong way round"),
        (
            "nearest_neighbours",
            lambda z, k: np.argsort(-pairwise.cosine_similarity(z), axis=1)[:, :k],
            "Each row is its own first neighbour.",
        ),
        (
            "nearest_neighbours",
            lambda z, k: NearestNeighbors(n_neighbors=k).fit(z).kneighbors(return_distance=False),
            "These are the nearest by distance.",
        ),
        ("same_side", lambda adjacency: set(range(len(adjacency))), "All nodes are on one side"),
        ("same_side", side_by_plain_laplacian, "D is missing on the right"),
        (
            "same_side",
            lambda adjacency: set(range(len(adjacency))) - side_by_symmetric_laplacian(adjacency),
            "These are the nodes on the other side.",
        ),
    ],
)
def test_wrong_answers_of_other_hands_are_named(name, answer, says):
    outcome = EXERCISES.__getattr__(name).check(answer)
    assert outcome.status == "not yet"
    assert says in repr(outcome)
