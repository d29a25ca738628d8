"""Exercises of notebook 03: Word2Vec."""

# Students read the solutions: they hold no casts for the type checker's sake.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F  # noqa: N812 (the name that PyTorch's users know)

from course_utils.exercises._kinds import FunctionExercise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np

    Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def skip_gram_pairs(sentence: list[str], window: int) -> list[tuple[str, str]]:
    """List the pairs (word, context word) of a sentence, for all words at most `window` places apart.

    A word is not its own context, but the same word at another place may be. Go through the sentence from left
    to right, and for each word through its context from left to right.
    """
    pairs = []
    for i, word in enumerate(sentence):
        for j in range(max(i - window, 0), min(i + window + 1, len(sentence))):
            if j != i:
                pairs.append((word, sentence[j]))  # noqa: PERF401 (a loop is easier to read here)
    return pairs


def _sentence_cases(rng: np.random.Generator) -> Iterator[tuple[list[str], int]]:
    yield ["a", "rose", "is", "red"], 1
    yield ["a", "rose", "is", "a", "rose"], 3
    yield ["word"], 2
    yield [str(letter) for letter in rng.permutation(list("abcdefg"))], int(rng.integers(3, 5))


def _pairs(
    sentence: list[str],
    window: int,
    *,
    itself: bool = False,
    left: bool = True,
    right: bool = True,
    wraps: bool = False,
) -> list[tuple[str, str]]:
    """List pairs by another rule."""
    around = [
        d for d in range(-window, window + 1) if (d or itself) and (left or d >= 0) and (right or d <= 0)
    ]
    size = len(sentence)
    return [
        (sentence[i], sentence[(i + d) % size])
        for i in range(size)
        for d in around
        if i + d < size and (wraps or i + d >= 0)
    ]


def _unequal_pairs(sentence: list[str], window: int) -> list[tuple[str, str]]:
    return [(word, other) for word, other in skip_gram_pairs(sentence, window) if word != other]


_SKIP_GRAM_PAIRS = FunctionExercise(
    skip_gram_pairs,
    cases=_sentence_cases,
    misconceptions={
        "The context stops one place too early. `window` places to each side belong to it.": (
            lambda sentence, window: skip_gram_pairs(sentence, window - 1)
        ),
        "The last place on the right is missing. The end of a range is not in it.": (
            lambda sentence, window: [
                (sentence[i], sentence[i + d])
                for i in range(len(sentence))
                for d in range(-window, window)
                if d and 0 <= i + d < len(sentence)
            ]
        ),
        "Only the words to the right are here. Those to the left are context, too.": partial(
            _pairs, left=False
        ),
        "Only the words to the left are here. Those to the right are context, too.": partial(
            _pairs, right=False
        ),
        "A word is paired with itself. Leave its own place out.": partial(_pairs, itself=True),
        "Places before the sentence count from its end: sentence[-1] is the last word. Begin at 0.": (
            partial(_pairs, wraps=True)
        ),
        "Pairs of equal words are missing. Compare places, not words.": _unequal_pairs,
        "A pair that occurs twice is listed once. Each occurrence is an example.": (
            lambda sentence, window: list(dict.fromkeys(skip_gram_pairs(sentence, window)))
        ),
        "The pairs are turned round. The word comes first, then its context.": (
            lambda sentence, window: [pair[::-1] for pair in skip_gram_pairs(sentence, window)]
        ),
    },
    hints=(
        "Two loops: over the places i of the sentence, and over the places j around i.",
        "j runs from max(i - window, 0) to i + window, and not beyond the end of the sentence.",
        "Leave out j == i, and append (sentence[i], sentence[j]).",
    ),
    why="These pairs are all that skip-gram ever sees of a text.",
)


def cbow_input(embedding: torch.Tensor, windows: torch.Tensor) -> torch.Tensor:
    """Take the mean of the embeddings in each window, as CBOW does.

    `embedding` is (V, D), one row a word. `windows` is (B, 2 * window) and holds rows of it, and -1 where a
    window reaches beyond its sentence. Every window holds one word or more. Return (B, D).
    """
    there = (windows >= 0)[:, :, None]  # (B, 2 * window, 1)
    return (embedding[windows] * there).sum(dim=1) / there.sum(dim=1)


def _window_cases(rng: np.random.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    yield torch.tensor([[1.0, 0.0], [3.0, 2.0], [8.0, 5.0]]), torch.tensor([[0, 1], [-1, 1], [2, -1]])
    for size in (4, 6):
        windows = torch.as_tensor(rng.integers(0, 7, size=(5, size)))
        windows[0, : size // 2] = -1
        windows[1, 1:] = -1
        yield torch.as_tensor(rng.normal(size=(7, 3)), dtype=torch.float32), windows


def _window_sum(embedding: torch.Tensor, windows: torch.Tensor) -> torch.Tensor:
    return (embedding[windows] * (windows >= 0)[:, :, None]).sum(dim=1)


_CBOW_INPUT = FunctionExercise(
    cbow_input,
    cases=_window_cases,
    misconceptions={
        "The -1 was taken for a word: embedding[-1] is the last row. Leave these places out.": (
            lambda embedding, windows: embedding[windows].mean(dim=1)
        ),
        "The -1 was taken for word 0. Leave these places out of the sum and of the number of words.": (
            lambda embedding, windows: embedding[windows.clamp(min=0)].mean(dim=1)
        ),
        "These are sums. Divide by the number of words in each window.": _window_sum,
        "The sums are divided by the width of the window. Divide by the number of words that are there.": (
            lambda embedding, windows: _window_sum(embedding, windows) / windows.shape[1]
        ),
        "This is the largest value, not the mean.": (
            lambda embedding, windows: (
                embedding[windows].masked_fill((windows < 0)[:, :, None], -torch.inf).amax(dim=1)
            )
        ),
    },
    hints=(
        "embedding[windows] is (B, 2 * window, D). What does it hold where a window has -1?",
        "(windows >= 0)[:, :, None] is 1 where there is a word. Multiply with it, and sum over dim=1.",
        "The number of words in each window is the sum of the same mask.",
    ),
    why="The mean forgets the order of the context: to CBOW a window is a bag of words.",
)


def noise_distribution(counts: torch.Tensor) -> torch.Tensor:
    """Compute the probability with which each word is drawn as a negative sample.

    `counts` (V,) says how often each word occurs in the text. The probability is proportional to the count to
    the power of 3/4. Return a tensor (V,) whose sum is 1.
    """
    weight = counts**0.75
    return weight / weight.sum()


def _count_cases(rng: np.random.Generator) -> Iterator[tuple[torch.Tensor]]:
    yield (torch.tensor([16.0, 1.0]),)
    yield (torch.tensor([81, 16, 16, 1]),)
    for size in (5, 9):
        yield (torch.as_tensor(rng.integers(1, 500, size=size), dtype=torch.float64),)


_NOISE_DISTRIBUTION = FunctionExercise(
    noise_distribution,
    cases=_count_cases,
    misconceptions={
        "These are the shares in the text. Raise the counts to the power of 3/4 first.": (
            lambda counts: counts / counts.sum()
        ),
        "Every word has the same probability. Frequent words are drawn more often.": (
            lambda counts: torch.ones_like(counts) / len(counts)
        ),
        "The sum is not 1. Divide by it.": lambda counts: counts**0.75,
        "The sum is not 1: the power was taken of the shares. Take it first, and divide by its sum.": (
            lambda counts: (counts / counts.sum()) ** 0.75
        ),
        "This is a softmax: the most frequent word gets nearly all. Divide by the sum.": (
            lambda counts: torch.softmax(counts**0.75, dim=0)
        ),
        "The exponent is 3/4, and this is 4/3: frequent words gain instead of losing.": (
            lambda counts: counts ** (4 / 3) / (counts ** (4 / 3)).sum()
        ),
        "The exponent is 3/4, and this is the square root.": lambda counts: counts**0.5 / (counts**0.5).sum(),
    },
    hints=("First the power, counts**0.75. Then what makes the sum 1?", "Divide the powers by their sum."),
    why="Between the shares of the text and equal chances, rare words are seen as negatives, too.",
)


def negative_sampling_loss(
    center: torch.Tensor, context: torch.Tensor, negatives: torch.Tensor
) -> torch.Tensor:
    """Compute the loss of skip-gram with negative sampling for one pair of words.

    `center` (D,) is the embedding of the word, `context` (D,) the output weights of its context word, and
    `negatives` (k, D) those of k random words. A score is an inner product with `center`. Return a scalar:
    -log sigmoid(score of the context) minus the sum over the random words of log sigmoid(-score).
    """
    return -F.logsigmoid(context @ center) - F.logsigmoid(-(negatives @ center)).sum()


def _loss_cases(rng: np.random.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    yield torch.tensor([1.0, 0.0]), torch.tensor([2.0, 5.0]), torch.tensor([[-1.0, 3.0], [0.5, 1.0]])
    for k, dim in ((1, 3), (3, 4), (5, 8)):
        drawn = torch.as_tensor(rng.normal(size=(k + 2, dim)), dtype=torch.float32)
        yield drawn[0], drawn[1], drawn[2:]
    yield torch.full((4,), 10.0), torch.full((4,), -10.0), torch.full((2, 4), 1.0)  # badly wrong


def _loss(
    log_sigmoid: Callable[[torch.Tensor], torch.Tensor] = F.logsigmoid,
    *,
    positive: float = 1,
    negative: float = -1,
) -> Loss:
    """Make a loss with other signs or another logarithm."""

    def loss(center: torch.Tensor, context: torch.Tensor, negatives: torch.Tensor) -> torch.Tensor:
        return (
            -log_sigmoid(positive * (context @ center)) - log_sigmoid(negative * (negatives @ center)).sum()
        )

    return loss


def _per_negative(center: torch.Tensor, context: torch.Tensor, negatives: torch.Tensor) -> torch.Tensor:
    return -F.logsigmoid(context @ center) - F.logsigmoid(-(negatives @ center))


_NEGATIVE_SAMPLING_LOSS = FunctionExercise(
    negative_sampling_loss,
    cases=_loss_cases,
    misconceptions={
        "The random words' scores need a minus inside the sigmoid: they should become small.": _loss(
            negative=1
        ),
        "The minus stands outside: log sigmoid(-score) is due, and -log sigmoid(score) is another number.": (
            lambda center, context, negatives: (
                -F.logsigmoid(context @ center) + F.logsigmoid(negatives @ center).sum()
            )
        ),
        "The minus belongs to the random words. The score of the context should become large.": (
            _loss(positive=-1)
        ),
        "The two signs are exchanged: this loss drives the context away.": _loss(positive=-1, negative=1),
        "The sign is turned round. A loss is what gets smaller: -log.": (
            lambda center, context, negatives: -negative_sampling_loss(center, context, negatives)
        ),
        "The random words enter with their mean. Take their sum.": (
            lambda center, context, negatives: _per_negative(center, context, negatives).mean()
        ),
        "The loss of the context is counted once for each random word. Sum only over the random words.": (
            lambda center, context, negatives: _per_negative(center, context, negatives).sum()
        ),
        "This is one number for each random word. Sum them, and a scalar is left.": _per_negative,
        "The random words are compared with the context. Compare them with `center`.": (
            lambda center, context, negatives: (
                -F.logsigmoid(context @ center) - F.logsigmoid(-(negatives @ context)).sum()
            )
        ),
        "The random words are missing: without them, larger vectors are always better.": (
            lambda center, context, negatives: -F.logsigmoid(context @ center)  # noqa: ARG005 (the mistake)
        ),
        "The logarithm is missing. This adds the sigmoids themselves.": _loss(torch.sigmoid),
        "log(sigmoid(x)) is -inf where the score is badly wrong, as sigmoid(x) is rounded to 0. "
        "torch.nn.functional.logsigmoid stays finite.": _loss(lambda scores: torch.sigmoid(scores).log()),
        "A small number inside the logarithm makes the loss flat where the score is badly wrong. "
        "torch.nn.functional.logsigmoid needs none.": (
            _loss(lambda scores: torch.log(torch.sigmoid(scores) + 1e-15))
        ),
    },
    hints=(
        "Scores first: context @ center is one number, negatives @ center is (k,).",
        "torch.nn.functional.logsigmoid is safe for scores of any size. The random words get -scores.",
        "-logsigmoid(context @ center) - logsigmoid(-(negatives @ center)).sum()",
    ),
    why="It costs k + 1 inner products, where a softmax costs one for each word of the vocabulary.",
)


EXERCISES = (_SKIP_GRAM_PAIRS, _CBOW_INPUT, _NOISE_DISTRIBUTION, _NEGATIVE_SAMPLING_LOSS)
