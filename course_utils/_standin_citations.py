"""Stand-ins for the two Cora citation graphs: made-up papers with the statistics of the real ones.

A stand-in is grown in three steps. Every paper has a class and, inside it, a topic; some topics lean on
another class in what they cite and how they write, and some papers cite in a field that is not theirs. Then
papers cite: each newcomer cites one earlier paper, famous ones more often (preferential attachment, Barabasi
& Albert 1999, doi:10.1126/science.286.5439.509); further citations often go to what a cited paper cites,
which closes triangles (Holme & Kim 2002, doi:10.1103/PhysRevE.65.026107). Last, each paper draws its words:
class and topic add effects to the log frequency of each word (Eisenstein, Ahmed & Xing, ICML 2011, "Sparse
additive generative models of text"). The knobs were set so that the graph, the words and the accuracy of
simple models come out as on the real data.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.random import Generator
    from numpy.typing import NDArray

    Array = NDArray[Any]

# Papers per word at these quantiles of Planetoid's words. Only the shape counts: it serves both vocabularies.
WORD_QUANTILES = (0.0, 0.1, 0.5, 0.9, 0.99, 1.0)
PAPERS_PER_WORD = (2.5, 6.0, 16.0, 80.0, 280.0, 1600.0)
NO_SPLIT, TRAIN, VALIDATION, TEST = range(4)
TRAIN_PER_CLASS, NUM_VALIDATION, NUM_TEST = 20, 500, 1_000


@dataclass(frozen=True, kw_only=True)
class CitationShape:
    """Sizes that come out exactly, and the knobs behind the statistics.

    Words of a paper are a rounded normal, cut off at 1 and at the maximum. ``leaning`` is the share of topics
    that lean on another class, ``stray`` the share of papers that cite in another field, ``in_topic`` and
    ``in_class`` the shares of citations that stay in the topic and, of the others, in the class. ``closing``
    is the share of further citations that close a triangle, ``fame`` the exponent of fame (small means a few
    stars), ``classic`` the fame of a book that everybody cites. Effects are standard deviations on the log
    frequency of a word.
    """

    class_counts: tuple[int, ...]
    num_links: int
    num_components: int
    largest_component: int
    num_words: int
    words_mean: float
    words_sd: float
    words_max: int
    papers_per_topic: int = 30
    leaning: float = 0.23
    stray: float = 0.06
    in_topic: float = 0.8
    in_class: float = 0.7
    closing: float = 0.3
    fame: float = 1.2
    classic: int = 1_200
    class_effect: float = 1.2
    topic_effect: float = 1.3


def _uneven_counts(num_classes: int, total: int, *, smallest: int, steepness: float) -> tuple[int, ...]:
    """Class sizes that fall off from the largest to the smallest and sum to ``total``."""
    fall = np.linspace(1, 0, num_classes) ** steepness
    counts = (smallest + fall * (total - smallest * num_classes) / fall.sum()).astype(int)
    counts[0] += total - counts.sum()
    return tuple(counts.tolist())


# Sizes of the Planetoid files (Yang et al. 2016, arXiv:1603.08861).
PLANETOID = CitationShape(
    class_counts=(351, 217, 418, 818, 426, 298, 180),
    num_links=5_278,
    num_components=78,
    largest_component=2_485,
    num_words=1_433,
    words_mean=18.3,
    words_sd=5.8,
    words_max=30,
)
# Papers, links, words and classes of CitationFull (Bojchevski & Guennemann 2018, arXiv:1707.03815); the sizes
# of classes and components are made up.
FULL = CitationShape(
    class_counts=_uneven_counts(70, 19_793, smallest=15, steepness=2.4),
    num_links=63_421,
    num_components=300,
    largest_component=18_800,
    num_words=8_710,
    words_mean=58.0,
    words_sd=15.0,
    words_max=100,
    stray=0.15,
    leaning=0.3,
)


def generate_citations(shape: CitationShape = PLANETOID, *, seed: int = 0) -> dict[str, Array]:
    """Grow a stand-in; the same shape and seed give the same arrays.

    Returns
    -------
    dict
        ``labels`` (N,) uint8; ``links`` (L, 2) uint16, the smaller paper first, sorted; ``word_counts`` (N,)
        uint8 and ``words`` (sum of word_counts,) uint16, the papers' sorted words one after the other;
        ``split`` (N,) uint8 with 0 for none, 1 train (20 a class), 2 validation (500), 3 test (1,000).
    """
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(shape.class_counts)), shape.class_counts))
    topics, class_of_topic = _draw_topics(labels, shape=shape, rng=rng)
    links = _draw_links(topics, class_of_topic, shape=shape, rng=rng)
    word_counts, words = _draw_words(topics, class_of_topic, shape=shape, rng=rng)
    return {
        "labels": labels.astype(np.uint8),
        "links": links.astype(np.uint16),
        "word_counts": word_counts.astype(np.uint8),
        "words": words.astype(np.uint16),
        "split": _draw_split(labels, rng=rng).astype(np.uint8),
    }


def write_standin(folder: Path) -> Path:
    """Write the stand-in of Planetoid's Cora to ``folder/cora.npz`` and return the path."""
    path = folder / "cora.npz"
    np.savez_compressed(path, allow_pickle=False, **generate_citations())
    return path


def _draw_topics(labels: Array, *, shape: CitationShape, rng: Generator) -> tuple[Array, Array]:
    """Draw the topic of each paper, shape (N,), and the class that each topic writes and cites like, (T,)."""
    per_class = np.maximum(1, np.asarray(shape.class_counts) // shape.papers_per_topic)
    first_topic = np.cumsum(per_class) - per_class
    topics = first_topic[labels] + rng.integers(per_class[labels])
    class_of_topic = np.repeat(np.arange(len(per_class)), per_class)
    leans = rng.random(len(class_of_topic)) < shape.leaning
    return topics, np.where(leans, rng.permutation(class_of_topic), class_of_topic)


class _Literature:
    """Papers that cite one another. An urn holds a paper once per unit of fame and once per citation."""

    def __init__(self, topics: Array, class_of_topic: Array, *, shape: CitationShape, rng: Generator) -> None:
        self.shape, self.rng = shape, rng
        self.urns_of = [(("topic", t), ("class", class_of_topic[t]), ("all", 0)) for t in topics.tolist()]
        self.urns: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
        # Dictionaries serve as ordered sets, so that a draw does not depend on hashing.
        self.neighbours: list[dict[int, None]] = [{} for _ in topics]
        self.num_links = 0

    def pick(self, papers: list[int]) -> int:
        return papers[int(self.rng.random() * len(papers))]

    def publish(self, paper: int, *, fame: int) -> None:
        for key in self.urns_of[paper]:
            self.urns[key] += [paper] * fame

    def choose(self, paper: int) -> int:
        """Draw a paper to cite: from the topic, else from the class, else from anywhere."""
        topic, class_, everything = self.urns_of[paper]
        if self.rng.random() < self.shape.in_topic and self.urns[topic]:
            return self.pick(self.urns[topic])
        if self.rng.random() < self.shape.in_class and self.urns[class_]:
            return self.pick(self.urns[class_])
        return self.pick(self.urns[everything])

    def choose_near(self, paper: int) -> int:
        """Draw a neighbour of a neighbour: a link to it closes a triangle."""
        return self.pick(list(self.neighbours[self.pick(list(self.neighbours[paper]))]))

    def cite(self, paper: int, cited: int) -> None:
        if cited == paper or cited in self.neighbours[paper]:
            return
        self.neighbours[paper][cited] = self.neighbours[cited][paper] = None
        self.publish(cited, fame=1)
        self.num_links += 1


def _draw_links(topics: Array, class_of_topic: Array, *, shape: CitationShape, rng: Generator) -> Array:
    """Grow the links as pairs of papers, shape (L, 2), the smaller first, sorted."""
    num_papers = len(topics)
    fields = np.where(rng.random(num_papers) < shape.stray, rng.permutation(topics), topics)
    papers = rng.permutation(num_papers)
    main, others = papers[: shape.largest_component].tolist(), papers[shape.largest_component :]
    num_small = shape.num_components - 1
    fame = 1 + rng.pareto(shape.fame, num_papers).astype(int)
    literature = _Literature(fields, class_of_topic, shape=shape, rng=rng)
    literature.publish(main[0], fame=shape.classic)
    for paper in main[1:]:
        literature.cite(paper, literature.choose(paper))
        literature.publish(paper, fame=int(fame[paper]))

    links_of_main = shape.num_links - (len(others) - num_small)
    while literature.num_links < links_of_main:
        paper = literature.pick(main)
        closes = rng.random() < shape.closing
        literature.cite(paper, literature.choose_near(paper) if closes else literature.choose(paper))

    # The small components come last, so that nobody cites them: papers of one topic as far as possible.
    sizes = 2 + rng.multinomial(len(others) - 2 * num_small, rng.dirichlet(np.full(num_small, 0.3)))
    by_topic = others[np.argsort(topics[others], kind="stable")]
    for members in np.split(by_topic, np.cumsum(sizes)[:-1]):
        for position in range(1, len(members)):
            literature.cite(int(members[position]), int(members[rng.integers(position)]))
    return np.array([(a, b) for a in range(num_papers) for b in sorted(literature.neighbours[a]) if a < b])


def _draw_words(
    topics: Array, class_of_topic: Array, *, shape: CitationShape, rng: Generator
) -> tuple[Array, Array]:
    """Draw the number of words of each paper, shape (N,), and all their words in one row."""
    quantiles = (np.arange(shape.num_words) + 0.5) / shape.num_words
    frequency = np.exp(np.interp(quantiles, WORD_QUANTILES, np.log(PAPERS_PER_WORD)))
    num_topics, num_classes = len(class_of_topic), len(shape.class_counts)
    by_class = shape.class_effect * rng.standard_normal((num_classes, shape.num_words))
    effects = by_class[class_of_topic]  # (T, W)
    effects += shape.topic_effect * rng.standard_normal((num_topics, shape.num_words))
    effects *= 1 - quantiles**80  # the most frequent words are at home everywhere
    weights = np.exp(effects)
    papers_in_topic = np.bincount(topics, minlength=num_topics)
    weights *= frequency / (papers_in_topic @ weights)  # effects move words between topics, not their totals

    num_papers = len(topics)
    counts = rng.normal(shape.words_mean, shape.words_sd, num_papers).round().astype(int)
    counts = counts.clip(1, shape.words_max)
    words = []
    # Exponential clocks with the weights as rates: the first k to ring are k distinct words, drawn by weight.
    for block in np.array_split(np.arange(num_papers), max(1, num_papers // 256)):
        clocks = rng.standard_exponential((len(block), shape.num_words), dtype=np.float32)  # (B, W)
        clocks /= weights[topics[block]].astype(np.float32)
        for ring, count in zip(clocks, counts[block], strict=True):
            words.append(np.sort(np.argpartition(ring, count)[:count]))
    return counts, np.concatenate(words)


def _draw_split(labels: Array, *, rng: Generator) -> Array:
    """Draw a split like the public one of Planetoid, shape (N,)."""
    split = np.full(len(labels), NO_SPLIT)
    order = rng.permutation(len(labels))
    for label in range(labels.max() + 1):
        split[order[labels[order] == label][:TRAIN_PER_CLASS]] = TRAIN
    rest = order[split[order] == NO_SPLIT]
    split[rest[:NUM_VALIDATION]] = VALIDATION
    split[rest[NUM_VALIDATION : NUM_VALIDATION + NUM_TEST]] = TEST
    return split
