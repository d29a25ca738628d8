"""The solutions of notebook 03's exercises, against other implementations of the same thing."""

from __future__ import annotations

from collections import Counter
from functools import partial

import numpy as np
import pytest
import torch
from _solutions import run_solution
from torch.nn.functional import binary_cross_entropy_with_logits

from course_utils import _negative_sampling
from course_utils.exercises import load
from course_utils.word2vec import CBOW, SkipGram

EXERCISES = load("03_word2vec")
solved = partial(run_solution, EXERCISES)
SENTENCE = ["the", "cat", "sat", "on", "the", "mat", "and", "the", "dog", "sat", "by", "the", "door"]


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_names_that_are_fixed_and_their_order():
    assert [exercise.name for exercise in EXERCISES] == [
        "skip_gram_pairs",
        "cbow_input",
        "noise_distribution",
        "negative_sampling_loss",
    ]


def test_skip_gram_pairs_are_those_that_the_package_trains_on():
    model = SkipGram([SENTENCE], 4, window=1, min_count=1, sample=1)
    center, context = model.examples()
    drawn = zip((model.words[i] for i in center), (model.words[i] for i in context), strict=True)
    assert Counter(drawn) == Counter(solved("skip_gram_pairs")(SENTENCE, 1))


@pytest.mark.parametrize("window", [1, 2, 5, 20])
def test_there_is_a_pair_for_every_two_places_within_the_window(window):
    pairs = solved("skip_gram_pairs")(SENTENCE, window)
    place = np.arange(len(SENTENCE))
    apart = np.abs(place[:, None] - place)
    rows, columns = np.nonzero((apart > 0) & (apart <= window))
    assert pairs == [(SENTENCE[i], SENTENCE[j]) for i, j in zip(rows, columns, strict=True)]


def test_cbow_input_is_the_hidden_layer_of_the_package():
    model = CBOW([SENTENCE], 4, window=3, min_count=1, sample=1)
    windows, _ = model.examples()
    assert (windows < 0).any()
    torch.testing.assert_close(solved("cbow_input")(model(), windows), model.hidden(windows))


def test_noise_distribution_is_that_of_the_package():
    model = SkipGram([SENTENCE], 4, min_count=1)
    torch.testing.assert_close(solved("noise_distribution")(model.counts), model.noise)


@pytest.mark.parametrize("k", [1, 5])
def test_negative_sampling_loss_is_a_cross_entropy_and_the_loss_of_the_package(k):
    center, context, negatives = random(6), random(6, seed=1), random(k, 6, seed=2)
    loss = solved("negative_sampling_loss")(center, context, negatives)
    scores = torch.cat([context[None], negatives]) @ center
    labels = torch.zeros(k + 1, dtype=torch.float64)
    labels[0] = 1
    torch.testing.assert_close(loss, binary_cross_entropy_with_logits(scores, labels, reduction="sum"))
    torch.testing.assert_close(
        loss, _negative_sampling.negative_sampling_loss(scores[:1], scores[1:], weight=k)
    )


def test_negative_sampling_loss_has_exact_gradients_and_stays_finite():
    inputs = [part.requires_grad_() for part in (random(4), random(4, seed=1), random(3, 4, seed=2))]
    assert torch.autograd.gradcheck(solved("negative_sampling_loss"), inputs)
    wrong = torch.full((4,), 1e3)
    assert solved("negative_sampling_loss")(wrong, -wrong, wrong[None]) == 8e6


def by_softplus(center, context, negatives):
    """Do what `negative_sampling_loss` does with softplus."""
    softplus = torch.nn.functional.softplus
    return softplus(-(context * center).sum()) + sum(softplus((row * center).sum()) for row in negatives)


def by_slices(sentence, window):
    """Do what `skip_gram_pairs` does with slices."""
    return [
        (word, other)
        for i, word in enumerate(sentence)
        for other in sentence[max(i - window, 0) : i] + sentence[i + 1 : i + 1 + window]
    ]


def by_loop(embedding, windows):
    """Do what `cbow_input` does, window by window."""
    return torch.stack([embedding[window[window >= 0]].mean(dim=0) for window in windows])


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("negative_sampling_loss", by_softplus),
        ("skip_gram_pairs", by_slices),
        ("cbow_input", by_loop),
        ("noise_distribution", lambda counts: torch.nn.functional.normalize(counts**0.75, p=1, dim=0)),
    ],
)
def test_other_ways_to_the_right_result_are_correct(name, answer):
    assert EXERCISES.__getattr__(name).check(answer).status == "correct"
