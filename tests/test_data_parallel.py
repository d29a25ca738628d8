"""Node2Vec on two real processes: one model, the loss of a single process, and the whole batch's gradient."""

import os
import signal

import numpy as np
import pytest
import torch
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from course_utils.data_parallel import launch, num_bytes
from course_utils.node2vec import Node2Vec, train_node2vec

EPOCHS = 20
RECIPE = {"embedding_dim": 16, "walk_length": 10, "context_size": 5, "walks_per_node": 4}
# A ring of 301 nodes with chords. Of 7 batches of 50 the last has one node, and is passed over.
RING = torch.arange(301)
LINKS = torch.cat([torch.stack([RING, (RING + step) % 301]) for step in (1, 7)], dim=1)
EDGES = torch.cat([LINKS, LINKS.flip(0)], dim=1)


def task(*, sparse=False, **training):
    return {
        "model": RECIPE | {"edge_index": EDGES, "sparse": sparse},
        "training": {"epochs": EPOCHS, "batch_size": 50} | training,
    }


@pytest.fixture(scope="module")
def pair():
    return launch(task(), processes=2)


def train_alone(*, sparse):
    """Losses of five trainings in one process, shape (5, EPOCHS)."""
    losses = []
    for seed in range(5):
        torch.manual_seed(seed)
        model = Node2Vec(edge_index=EDGES, sparse=sparse, **RECIPE)
        losses.append(train_node2vec(model, epochs=EPOCHS, batch_size=50, seed=seed, progress=False)["loss"])
    return np.array(losses)


def assert_within_noise(losses, alone):
    mean, noise = alone.mean(axis=0), alone.std(axis=0, ddof=1)
    assert mean[-1] < 0.6 * mean[0]
    assert np.all(np.abs(losses - mean) < 5 * noise.max()), (losses, mean, noise)


def test_two_processes_train_one_model(pair):
    assert len(pair["memory"]) == 2
    assert pair["gap"] == 0


def test_the_loss_falls_as_in_a_single_process(pair):
    assert_within_noise(pair["loss"], train_alone(sparse=False))


def test_sparse_gradients_train_as_well_and_their_bytes_are_counted():
    found = launch(task(sparse=True), processes=2)
    assert found["gap"] == 0
    assert_within_noise(found["loss"], train_alone(sparse=True))
    rows = found["sent"] / (8 + 4 * RECIPE["embedding_dim"])
    assert rows == int(rows)
    assert rows <= EPOCHS * 6 * 301  # no more than all nodes in each of the 6 batches


def test_a_dense_gradient_is_sent_whole_at_each_step(pair):
    assert pair["sent"] == EPOCHS * 6 * 301 * RECIPE["embedding_dim"] * 4


def test_twice_the_batch_is_half_the_steps_and_learns_less_in_an_epoch(pair):
    wide = launch(task(batch_size=100), processes=2)
    assert wide["sent"] == EPOCHS * 3 * 301 * RECIPE["embedding_dim"] * 4
    assert wide["loss"][-1] > 1.1 * pair["loss"][-1]


def test_bytes_of_a_sparse_gradient():
    rows = torch.sparse_coo_tensor([[1, 5]], torch.ones(2, 3), (9, 3), check_invariants=True)
    assert num_bytes(rows) == 2 * 8 + 6 * 4
    assert num_bytes(rows.to_dense()) == 9 * 3 * 4


def test_a_failing_process_is_an_error_and_what_was_changed_is_given_back(capfd):
    before, environment = signal.getsignal(signal.SIGINT), dict(os.environ)
    with pytest.raises(ChildFailedError):
        launch(task(surprise=1), processes=2)
    assert "unexpected keyword argument 'surprise'" in capfd.readouterr().err
    assert signal.getsignal(signal.SIGINT) is before
    assert dict(os.environ) == environment
