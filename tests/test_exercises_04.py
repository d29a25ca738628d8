"""The solutions of notebook 04's exercises, against other implementations of the same thing."""

from __future__ import annotations

from functools import partial

import networkx as nx
import numpy as np
import pytest
import torch
from _solutions import run_solution
from sklearn.cluster import KMeans
from sklearn.metrics import roc_auc_score

from course_utils.exercises import load

EXERCISES = load("04_node2vec_cambridge")
solved = partial(run_solution, EXERCISES)


def test_names_that_are_fixed_and_their_order():
    assert [exercise.name for exercise in EXERCISES] == [
        "degree_counts",
        "transition_weight",
        "walk_pairs",
        "kmeans_step",
        "link_auc",
    ]


@pytest.mark.parametrize("seed", range(5))
def test_degree_counts_is_networkx_degree_histogram(seed):
    streets = nx.gnp_random_graph(30, 0.07, seed=seed, directed=True)
    streets.add_edge(3, 3)
    edge_index = torch.tensor(list(streets.edges())).T
    simple = nx.Graph(streets)
    simple.remove_edges_from(list(nx.selfloop_edges(simple)))
    counts = solved("degree_counts")(torch.cat([edge_index, edge_index], dim=1), 30)
    assert counts.tolist() == nx.degree_histogram(simple)


@pytest.mark.parametrize(("length", "context_size"), [(20, 10), (6, 2), (5, 5), (4, 5)])
def test_walk_pairs_are_those_of_sliding_windows(length, context_size):
    walk = np.random.default_rng(length).integers(0, 9, size=length)
    pairs = solved("walk_pairs")(walk.tolist(), context_size)
    if length < context_size:
        assert pairs == []
        return
    windows = np.lib.stride_tricks.sliding_window_view(walk, context_size)
    assert len(pairs) == (length - context_size + 1) * (context_size - 1)
    assert pairs == [(int(window[0]), int(other)) for window in windows for other in window[1:]]


@pytest.mark.parametrize("directed", [False, True])
def test_transition_weight_follows_the_distance_from_the_previous_node(directed):
    graph = nx.gnp_random_graph(12, 0.3, seed=4, directed=directed)
    weight = solved("transition_weight")
    by_distance = {0: 1 / 0.25, 1: 1.0, 2: 1 / 4.0}
    steps = [(t, x) for t, v in graph.to_directed().edges() for x in graph[v]]
    assert len(steps) > 100
    for previous, candidate in steps:
        distance = nx.shortest_path_length(graph, previous, candidate)
        assert weight(graph, previous, candidate, 0.25, 4.0) == by_distance[distance]


def test_transition_weight_back_to_a_node_with_a_loop():
    graph = nx.Graph([(0, 0), (0, 1)])
    assert solved("transition_weight")(graph, 0, 0, 0.25, 4.0) == 4.0


@pytest.mark.filterwarnings("ignore:Number of distinct clusters:sklearn.exceptions.ConvergenceWarning")
def test_kmeans_step_is_one_iteration_of_scikit_learn():
    rng = np.random.default_rng(0)
    points, start = rng.normal(size=(60, 3)), rng.normal(size=(4, 3))
    step = solved("kmeans_step")
    centroids = start
    for _ in range(50):
        centroids = step(points, centroids)
    model = KMeans(4, init=start, n_init=1, tol=0, max_iter=50, algorithm="lloyd").fit(points)
    np.testing.assert_allclose(centroids, model.cluster_centers_)


def test_kmeans_step_keeps_the_centroid_of_an_empty_cluster_and_the_inputs():
    points, start = np.array([[0, 1], [1, 2]]), np.array([[0, 0], [9, 9]])
    moved = solved("kmeans_step")(points, start)
    assert moved.tolist() == [[0.5, 1.5], [9.0, 9.0]]
    assert start.tolist() == [[0, 0], [9, 9]]


@pytest.mark.parametrize("seed", range(5))
def test_link_auc_is_scikit_learns(seed):
    rng = np.random.default_rng(seed)
    embedding = rng.integers(-2, 3, size=(15, 2)).astype("float32")  # with ties
    pairs = rng.permutation(np.array([(i, j) for i in range(15) for j in range(i)]))
    train, held_out, rest = pairs[:20], pairs[20:30], pairs[30:]
    ranked = np.concatenate([held_out, rest])
    score = (embedding[ranked[:, 0]] * embedding[ranked[:, 1]]).sum(axis=1)
    expected = roc_auc_score([1] * len(held_out) + [0] * len(rest), score)
    auc = solved("link_auc")(*(torch.tensor(array) for array in (embedding, train.T, held_out.T)))
    assert auc == pytest.approx(expected)
