"""Word2Vec: embeddings of words, learned from the words around them.

`SkipGram` predicts the words around a word, `CBOW` a word from the words around it (Mikolov et al. 2013,
arXiv:1301.3781, section 3). In place of a softmax over all words, each prediction is told from a few random words;
and the most frequent words are thinned out (Mikolov et al. 2013, arXiv:1310.4546, sections 2.2 and 2.3).

A word is anything that can be a key of a dictionary. The nodes of a random walk are a sentence, too.
"""

from __future__ import annotations

import collections
import itertools
import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import normalize

from course_utils._negative_sampling import negative_sampling_loss

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

    import pandas as pd

__all__ = ["CBOW", "SkipGram", "Word2Vec", "train_word2vec"]

NOISE_POWER = 0.75  # random words are drawn by count to this power (arXiv:1310.4546, section 2.2)
START_SCALE = 0.1  # standard deviation of the start embeddings


class Word2Vec(torch.nn.Module, ABC):
    """Embeddings of words and the sentences they are learned from.

    Parameters
    ----------
    sentences
        Sequences of words. A window does not reach beyond its sentence.
    embedding_dim
        Length D of an embedding.
    window
        Most words to the left, and to the right, that count as context. For each word the width is drawn
        anew from 1 to this number, so that near words count more.
    num_negative_samples
        Random words k that each prediction is told from.
    min_count
        Words that occur more rarely are left out of the sentences.
    sample
        Share t of the text above which a word is thinned out: of occurrences of a word with share f, a
        share of min(1, sqrt(t / f)) is kept in an epoch. 1 keeps all.

    Attributes
    ----------
    words
        The V words, most frequent first. Row i of the embeddings is that of word i.
    counts
        How often each occurs, int64, shape (V,).
    keep
        The share of its occurrences that an epoch keeps, shape (V,).
    noise
        The probability with which each is drawn as a random word, proportional to count^0.75, shape (V,).

    Raises
    ------
    TypeError
        If the sentences are texts that have not been split.
    ValueError
        If a size is below 1, `sample` is not in (0, 1], or fewer than two words are left.
    """

    def __init__(
        self,
        sentences: Sequence[Sequence[Hashable]],
        embedding_dim: int,
        *,
        window: int = 5,
        num_negative_samples: int = 5,
        min_count: int = 5,
        sample: float = 1e-3,
    ) -> None:
        super().__init__()
        sizes = {"embedding_dim": embedding_dim, "window": window, "min_count": min_count}
        for name, size in (sizes | {"num_negative_samples": num_negative_samples}).items():
            if size < 1:
                msg = f"{name} must be 1 or more, got {size}."
                raise ValueError(msg)
        if not 0 < sample <= 1:
            msg = f"sample must be above 0 and at most 1, got {sample}: 1 keeps all words, 0.001 thins some out."
            raise ValueError(msg)
        self.window, self.num_negative_samples = window, num_negative_samples
        self.min_count, self.sample = min_count, sample
        self._read(sentences)
        share = self.counts / self.counts.sum()
        self.keep = (sample / share).sqrt().clamp(max=1)
        self.noise = normalize(self.counts**NOISE_POWER, p=1, dim=0)
        self.embedding = torch.nn.Embedding(len(self.words), embedding_dim)
        self.output = torch.nn.Embedding(len(self.words), embedding_dim)
        self.reset_parameters()

    def _read(self, sentences: Sequence[Sequence[Hashable]]) -> None:
        """Give the words numbers, and write all sentences one behind the other."""
        for text in itertools.chain([sentences], sentences):
            if isinstance(text, str):
                msg = f"sentences must be lists of words, but {text[:40]!r} is a text: split it into words."
                raise TypeError(msg)
        found = collections.Counter(itertools.chain.from_iterable(sentences))
        ranked = [(word, count) for word, count in found.most_common() if count >= self.min_count]
        if len(ranked) < 2:  # noqa: PLR2004 - a word and its context
            msg = (
                f"{len(ranked)} of {len(found)} words occur {self.min_count} times or more, and two are needed: "
                "lower min_count or give more text."
            )
            raise ValueError(msg)
        self.words = tuple(word for word, _ in ranked)
        self.counts = torch.tensor([count for _, count in ranked])
        self.index = {word: i for i, word in enumerate(self.words)}
        numbers = [[self.index[word] for word in words if word in self.index] for words in sentences]
        self._tokens = torch.tensor([*itertools.chain.from_iterable(numbers)])  # (num_tokens,)
        lengths = torch.tensor([len(number) for number in numbers])
        self._sentence = torch.arange(len(numbers)).repeat_interleave(lengths)  # (num_tokens,)

    def reset_parameters(self) -> None:
        """Draw the embeddings from a narrow normal distribution, and set the output weights to zero."""
        torch.nn.init.normal_(self.embedding.weight, std=START_SCALE)
        torch.nn.init.zeros_(self.output.weight)

    def forward(self, words: Sequence[Hashable] | None = None) -> Tensor:
        """Return the embeddings of some words, which must be known, or of all, shape (num_words, D)."""
        if words is None:
            return self.embedding.weight
        for word in words:
            if word not in self.index:
                known = f"the {len(self.words)} words that occur {self.min_count} times or more"
                msg = f"{word!r} is not one of {known}: see `words`."
                raise ValueError(msg)
        return self.embedding.weight[[self.index[word] for word in words]]

    @torch.no_grad()
    def nearest(self, word: Hashable, k: int = 8) -> list[tuple[Hashable, float]]:
        """List the `k` words of largest cosine with `word`, which must be known, and the cosines."""
        cosine = (normalize(self([word])) @ normalize(self.embedding.weight).t())[0]  # (V,)
        cosine[self.index[word]] = -math.inf
        values, rows = cosine.topk(min(k, len(self.words) - 1))
        return [(self.words[row], value) for row, value in zip(rows.tolist(), values.tolist(), strict=True)]

    def contexts(self, *, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Thin out the frequent words, and draw a window around each of the T that are left.

        Returns
        -------
        center, context : Tensor
            Rows of the embeddings, int64, shapes (T,) and (T, 2 * window); -1 where no word is.
        """
        kept = torch.rand(len(self._tokens), generator=generator) < self.keep[self._tokens]
        tokens, sentence = self._tokens[kept], self._sentence[kept]
        reach = torch.randint(1, self.window + 1, (len(tokens), 1), generator=generator)
        offset = torch.arange(-self.window, self.window + 1)
        offset = offset[offset != 0]
        place = torch.arange(len(tokens))[:, None] + offset  # (T, 2 * window)
        inside = (place >= 0) & (place < len(tokens)) & (offset.abs() <= reach)
        place[~inside] = 0
        inside &= sentence[place] == sentence[:, None]
        return tokens, tokens[place].masked_fill(~inside, -1)

    def draw_negatives(self, num_examples: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw random words for each of some examples, int64, shape (num_examples, k)."""
        size = num_examples * self.num_negative_samples
        drawn = torch.multinomial(self.noise, size, replacement=True, generator=generator)
        return drawn.view(num_examples, self.num_negative_samples)

    @abstractmethod
    def examples(self, *, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Draw the inputs and the targets of an epoch, as rows of the embeddings."""

    @abstractmethod
    def hidden(self, inputs: Tensor) -> Tensor:
        """Turn the inputs of B examples into vectors that the output weights are compared with, (B, D)."""

    def loss(self, inputs: Tensor, targets: Tensor, negatives: Tensor) -> Tensor:
        """Compute the mean over examples of equation 4 of arXiv:1310.4546, with its sign changed.

        Parameters
        ----------
        inputs, targets
            B rows of what `examples` returns.
        negatives
            Random words, int64, shape (B, k).
        """
        words = torch.cat([targets[:, None], negatives], dim=1)  # (B, 1 + k)
        # A product and a sum: the backward pass of a batched matrix product of such small matrices is slower.
        scores = (self.output(words) * self.hidden(inputs)[:, None]).sum(dim=2)  # (B, 1 + k)
        return negative_sampling_loss(scores[:, 0], scores[:, 1:], weight=negatives.size(1))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.words)} words, {self.embedding.embedding_dim})"


class SkipGram(Word2Vec):
    """Word2Vec in which a word predicts each word of its window. Arguments as for `Word2Vec`."""

    def examples(self, *, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Draw words, and words in their windows, both (num_pairs,)."""
        center, context = self.contexts(generator=generator)
        row, column = (context >= 0).nonzero(as_tuple=True)
        return center[row], context[row, column]

    def hidden(self, inputs: Tensor) -> Tensor:
        """Look up the embeddings of words, (B,)."""
        vectors: Tensor = self.embedding(inputs)
        return vectors


class CBOW(Word2Vec):
    """Word2Vec in which the words of a window predict the one in its middle. Arguments as for `Word2Vec`."""

    def examples(self, *, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Draw windows, (num_windows, 2 * window), and the words in their middle, (num_windows,)."""
        center, context = self.contexts(generator=generator)
        some = (context >= 0).any(dim=1)
        return context[some], center[some]

    def hidden(self, inputs: Tensor) -> Tensor:
        """Take the mean of the embeddings in each window, (B, 2 * window) with -1 where no word is."""
        there = (inputs >= 0)[:, :, None]  # (B, 2 * window, 1)
        vectors: Tensor = self.embedding(inputs.clamp(min=0)) * there  # (B, 2 * window, D)
        return vectors.sum(dim=1) / there.sum(dim=1)


def train_word2vec(
    model: SkipGram | CBOW,
    *,
    epochs: int,
    batch_size: int = 512,
    lr: float = 0.005,
    progress: bool = True,
    seed: int | None = None,
) -> pd.DataFrame:
    """Train the embeddings with Adam, on the CPU.

    Parameters
    ----------
    model
        The model, trained in place from the embeddings it has.
    epochs, batch_size, lr, progress
        How often the text is read, examples in a step, learning rate, and whether to show a progress bar.
    seed
        Seed of all that is drawn here. The same seed, start embeddings and number of threads give the same
        result. Without it the global generator of PyTorch is used, as it is by the constructor for the start.

    Returns
    -------
    pandas.DataFrame
        Columns `epoch` (1 to `epochs`) and `loss` (mean over the examples).

    Raises
    ------
    ValueError
        If no two words of the vocabulary stand in one sentence.
    FloatingPointError
        If the mean loss of an epoch is not finite.
    """
    import pandas as pd
    from tqdm.auto import trange

    generator = torch.default_generator if seed is None else torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=True)
    history = []
    bar = trange(1, epochs + 1, desc=type(model).__name__, unit="epoch", disable=not progress)
    for epoch in bar:
        total, num_examples = torch.zeros(()), 0
        for inputs, targets, negatives in _draw_epoch(model, batch_size, generator):
            optimizer.zero_grad()
            loss = model.loss(inputs, targets, negatives)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += loss.detach() * len(targets)
            num_examples += len(targets)
        mean = float(total) / num_examples
        if not math.isfinite(mean):
            msg = f"The loss became {mean} in epoch {epoch}: lower lr (now {lr}) and start from a new model."
            raise FloatingPointError(msg)
        bar.set_postfix(loss=f"{mean:.3f}")
        history.append({"epoch": epoch, "loss": mean})
    return pd.DataFrame(history, columns=["epoch", "loss"])


def _draw_epoch(
    model: SkipGram | CBOW, batch_size: int, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield batches of inputs, targets and random words in a random order."""
    inputs, targets = model.examples(generator=generator)
    if len(targets) == 0:
        msg = "No two words stand together in a sentence: give longer sentences, or lower min_count."
        raise ValueError(msg)
    for rows in torch.split(torch.randperm(len(targets), generator=generator), batch_size):
        yield inputs[rows], targets[rows], model.draw_negatives(len(rows), generator=generator)
