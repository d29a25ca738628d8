"""Word2Vec draws what the papers say it draws, has true losses and gradients, and learns what words go together."""

from __future__ import annotations

import copy
import itertools
import math
from collections import Counter

import pytest
import torch
from torch.nn.functional import embedding_bag

from course_utils._negative_sampling import WalkLoss, Workspace, negative_sampling_loss
from course_utils.datasets import load_python_docs
from course_utils.word2vec import CBOW, SkipGram, train_word2vec

KINDS = pytest.mark.parametrize("kind", [SkipGram, CBOW])
TEXT = [
    ["the", "cat", "sat", "on", "the", "mat"],
    ["the", "dog", "sat"],
    [],
    ["cat"],
    ["a", "dog", "on", "a", "cat"],
]


def make_model(kind=SkipGram, sentences=TEXT, **changes):
    torch.manual_seed(0)
    return kind(sentences, **({"embedding_dim": 6, "min_count": 1, "sample": 1.0, "window": 2} | changes))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def two_topics(num_sentences=400):
    """Write sentences about weather or about music, with some words in common."""
    topics = (["rain", "wind", "cloud", "storm"], ["song", "drum", "flute", "choir"])
    drawn = torch.randint(0, 4, (num_sentences, 5), generator=generator(3)).tolist()
    return [
        [word for number in numbers for word in ("the", topics[i % 2][number])]
        for i, numbers in enumerate(drawn)
    ]


def test_words_are_counted_and_rare_ones_left_out():
    model = make_model(min_count=2)
    expected = {word: n for word, n in Counter(itertools.chain(*TEXT)).items() if n >= 2}
    assert dict(zip(model.words, model.counts.tolist(), strict=True)) == expected
    assert model.counts.tolist() == sorted(model.counts.tolist(), reverse=True)
    assert model().shape == (len(expected), 6)
    torch.testing.assert_close(
        model(["dog", "the"]), model()[[model.words.index("dog"), model.words.index("the")]]
    )
    assert str(model) == f"SkipGram({len(expected)} words, 6)"


def test_random_words_are_drawn_by_count_to_three_quarters():
    model = make_model(num_negative_samples=4)
    weights = [count**0.75 for count in model.counts.tolist()]
    expected = torch.tensor([weight / sum(weights) for weight in weights])
    torch.testing.assert_close(model.noise, expected)
    drawn = model.draw_negatives(25_000, generator=generator())
    assert drawn.shape == (25_000, 4)
    found = torch.bincount(drawn.flatten(), minlength=len(weights))
    chi_square = ((found - 100_000 * expected) ** 2 / (100_000 * expected)).sum()
    assert chi_square < 22.5  # 99.9 % of the distribution with 6 degrees of freedom
    assert len(weights) == 7


def test_frequent_words_are_thinned_out_by_the_published_share():
    sentences = [["a"] * 90 + ["b"] * 9 + ["c"]] * 40
    model = make_model(sentences=sentences, sample=0.04)
    torch.testing.assert_close(model.keep, torch.tensor([math.sqrt(0.04 / 0.9), math.sqrt(0.04 / 0.09), 1.0]))
    kept = torch.zeros(3)
    for seed in range(20):
        kept += torch.bincount(model.contexts(generator=generator(seed))[0], minlength=3)
    total = 20 * model.counts
    error = (kept / total - model.keep).abs()
    assert (error <= 4 * (model.keep * (1 - model.keep) / total).sqrt()).all()
    assert kept[2] == total[2]


def test_a_window_holds_the_words_around_and_ends_with_its_sentence():
    model = make_model(window=3)
    center, context = model.contexts(generator=generator())
    text = [model.index[word] for word in itertools.chain(*TEXT)]
    sentence = [i for i, words in enumerate(TEXT) for _ in words]
    assert center.tolist() == text
    assert context.shape == (len(text), 6)
    widths = []
    for place, row in enumerate(context.tolist()):
        found = {offset: word for offset, word in zip((-3, -2, -1, 1, 2, 3), row, strict=True) if word >= 0}
        near = [o for o in (-3, -2, -1, 1, 2, 3) if 0 <= place + o < len(text)]
        near = [o for o in near if sentence[place + o] == sentence[place]]
        widths.append(max(map(abs, found), default=0))
        assert found == {o: text[place + o] for o in near if abs(o) <= widths[-1]}
    assert {1, 2, 3} <= set(widths)


def test_near_words_count_more():
    model = make_model(sentences=[list("abcdefgh") * 500], window=4)
    _, context = model.contexts(generator=generator())
    share = (context >= 0).double().mean(dim=0)
    # The width is 1 to 4 with a chance of 1/4 each.
    expected = torch.tensor([0.25, 0.5, 0.75, 1.0, 1.0, 0.75, 0.5, 0.25], dtype=torch.float64)
    assert (share - expected).abs().max() < 0.03


def test_pairs_and_windows_are_those_of_a_loop():
    pairs = Counter()
    windows = []
    for words in TEXT:
        for i, word in enumerate(words):
            around = [words[j] for j in (i - 1, i + 1) if 0 <= j < len(words)]
            pairs.update((word, other) for other in around)
            windows += [(tuple(around), word)] if around else []
    model = make_model(window=1)
    found = [[model.words[i] for i in part] for part in model.examples(generator=generator())]
    assert Counter(zip(*found, strict=True)) == pairs
    model = make_model(CBOW, window=1)
    inputs, targets = model.examples(generator=generator())
    found = [tuple(model.words[i] for i in row if i >= 0) for row in inputs.tolist()]
    assert list(zip(found, [model.words[i] for i in targets], strict=True)) == windows


def test_cbow_takes_the_mean_of_the_words_that_are_there():
    model = make_model(CBOW, window=3)
    inputs, _ = model.examples(generator=generator())
    table = torch.cat([model(), torch.zeros(1, 6)])
    padded = inputs.where(inputs >= 0, len(model.words))
    expected = embedding_bag(padded, table, mode="mean", padding_idx=len(model.words))
    torch.testing.assert_close(model.hidden(inputs), expected)


@KINDS
def test_the_loss_is_equation_4_example_by_example(kind):
    model = make_model(kind, num_negative_samples=3)
    torch.nn.init.normal_(model.output.weight)
    model.requires_grad_(requires_grad=False)
    inputs, targets = model.examples(generator=generator())
    negatives = model.draw_negatives(len(targets), generator=generator())
    total = 0.0
    for i in range(len(targets)):
        rows = [row for row in inputs[i].reshape(-1).tolist() if row >= 0]
        hidden = torch.stack([model()[row] for row in rows]).mean(dim=0)
        total -= math.log(torch.sigmoid(hidden @ model.output.weight[targets[i]]))
        total -= sum(math.log(torch.sigmoid(-hidden @ model.output.weight[row])) for row in negatives[i])
    assert model.loss(inputs, targets, negatives).item() == pytest.approx(total / len(targets), rel=1e-5)


@KINDS
def test_gradients_are_exact(kind):
    model = make_model(kind, embedding_dim=3).double()
    inputs, targets = model.examples(generator=generator())
    negatives = model.draw_negatives(len(targets), generator=generator())
    weights = [
        torch.randn(len(model.words), 3, dtype=torch.float64, generator=generator(i)) for i in range(2)
    ]

    def loss(embedding, output):
        parameters = {"embedding.weight": embedding, "output.weight": output}
        call = copy.deepcopy(model)
        call.forward = call.loss
        return torch.func.functional_call(call, parameters, (inputs, targets, negatives))

    assert torch.autograd.gradcheck(loss, [weight.requires_grad_() for weight in weights])


def test_node2vec_has_the_same_loss_with_weight_1():
    weight = torch.randn(9, 4, dtype=torch.float64, generator=generator())
    positive, negative = torch.randint(9, (2, 7, 2), generator=generator(1))  # windows of two nodes
    scores = [(weight[pairs[:, 0]] * weight[pairs[:, 1]]).sum(dim=1) for pairs in (positive, negative)]
    walks = WalkLoss.apply(weight, positive, negative, 2, False, Workspace())
    torch.testing.assert_close(negative_sampling_loss(*scores), walks)


@KINDS
def test_words_of_one_topic_become_neighbours(kind):
    model = make_model(kind, two_topics(), embedding_dim=8)
    history = train_word2vec(model, epochs=10, batch_size=64, lr=0.02, progress=False, seed=0)
    assert list(history["epoch"]) == list(range(1, 11))
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]
    for topic in (["rain", "wind", "cloud", "storm"], ["song", "drum", "flute", "choir"]):
        for word in topic:
            nearest = [other for other, _ in model.nearest(word, k=3)]
            assert sorted([word, *nearest]) == sorted(topic)


@KINDS
def test_neighbours_in_the_python_docs_are_those_a_reader_expects(kind):
    model = make_model(
        kind, load_python_docs().sentences, embedding_dim=32, min_count=10, sample=3e-4, window=5
    )
    train_word2vec(model, epochs=6 if kind is SkipGram else 12, progress=False, seed=0)
    for word, expected in (
        ("true", {"false"}),
        ("async", {"await", "coroutine"}),
        ("import", {"imported", "module", "package"}),
        ("yield", {"generator", "coroutine", "asynchronous"}),
        ("integer", {"integers", "float", "floating"}),
    ):
        assert expected & {other for other, _ in model.nearest(word)}, word


def test_neighbours_are_the_largest_cosines():
    model = make_model()
    cosine = torch.nn.functional.cosine_similarity(model(["cat"]), model()).tolist()
    expected = sorted(zip(model.words, cosine, strict=True), key=lambda pair: -pair[1])[1:]
    for k in (3, 100):
        found = model.nearest("cat", k=k)
        assert [word for word, _ in found] == [word for word, _ in expected[:k]]
        assert [value for _, value in found] == pytest.approx([value for _, value in expected[:k]], abs=1e-6)


def test_nodes_of_walks_are_words_too():
    walks = [[0, 1, 0, 2, 1], [3, 4, 5, 3, 4]] * 20
    model = make_model(sentences=walks)
    train_word2vec(model, epochs=20, batch_size=32, lr=0.02, progress=False, seed=0)
    assert {node for node, _ in model.nearest(0, k=2)} == {1, 2}


@KINDS
def test_a_seed_fixes_everything_and_leaves_the_global_generator_alone(kind):
    def train(seed):
        model = make_model(kind)
        before = torch.get_rng_state()
        history = train_word2vec(model, epochs=2, progress=False, seed=seed)
        assert torch.equal(torch.get_rng_state(), before) == (seed is not None)
        return model().detach(), history

    (first, losses), (again, losses_again), (other, _) = train(1), train(1), train(2)
    assert torch.equal(first, again)
    assert losses.equals(losses_again)
    assert not torch.equal(first, other)
    assert torch.equal(train(None)[0], train(None)[0])  # `make_model` seeds the global generator


def test_the_start_is_drawn_anew_on_request():
    model = make_model()
    train_word2vec(model, epochs=1, progress=False, seed=0)
    assert model.output.weight.any()
    model.reset_parameters()
    assert not model.output.weight.any()


@pytest.mark.parametrize("name", ["embedding_dim", "window", "num_negative_samples", "min_count"])
def test_sizes_below_one_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be 1 or more, got 0"):
        make_model(**{name: 0})


@pytest.mark.parametrize("sample", [0.0, -1.0, 1.5, math.nan])
def test_a_sample_that_is_no_share_is_refused(sample):
    with pytest.raises(ValueError, match="sample must be above 0 and at most 1"):
        make_model(sample=sample)


@pytest.mark.parametrize("sentences", ["the cat sat", ["the cat sat", "the dog"]])
def test_a_text_that_is_not_split_is_refused(sentences):
    with pytest.raises(TypeError, match=r"'the cat sat' is a text: split it"):
        make_model(sentences=sentences)


def test_too_few_words_are_refused():
    with pytest.raises(ValueError, match=r"1 of 7 words occur 4 times or more.*lower min_count"):
        make_model(min_count=4, sentences=[*TEXT[:4], ["the", "a", "dog"]])


@KINDS
def test_sentences_of_one_word_cannot_be_trained_on(kind):
    with pytest.raises(ValueError, match="No two words stand together in a sentence"):
        train_word2vec(make_model(kind, [["cat"], ["dog"]]), epochs=1, progress=False)


def test_unknown_words_are_named():
    model = make_model(min_count=2)
    for ask in (model.nearest, lambda word: model(["the", word])):
        with pytest.raises(ValueError, match="'mat' is not one of the 6 words that occur 2 times or more"):
            ask("mat")


def test_a_loss_that_is_not_finite_stops_the_training():
    with pytest.raises(FloatingPointError, match="The loss became nan in epoch 1: lower lr"):
        train_word2vec(make_model(), epochs=1, batch_size=4, lr=math.inf, progress=False, seed=0)
