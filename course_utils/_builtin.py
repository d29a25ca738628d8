"""Data that come with installed software: real on every machine, with no download and no stand-in."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass

import torch
from torch_geometric.data import Data
from torch_geometric.utils import to_undirected

BLANK_LINES = re.compile(r"\n\s*\n")
HYPHEN_AT_LINE_END = re.compile(r"(?<=\w)-\n\s*(?=\w)")
# A word begins with a letter or an underscore; digits may follow. Parts joined by a hyphen or an apostrophe stay
# together, but not the 's of a genitive. The lookbehind passes over that s, and over the e of 1e5.
WORD = re.compile(r"(?<![\w\u2019])[^\W\d]\w*(?:-[^\W\d]\w*|\u2019(?!s\b)\w+)*")


@dataclass(frozen=True)
class Corpus:
    """A text as sentences of words, and where it came from.

    Parameters
    ----------
    sentences
        The words of each sentence, in the order of the text.
    source
        Which edition this is.
    attribution
        Whose text it is.
    is_standin
        Whether it takes the place of another text.
    """

    sentences: tuple[tuple[str, ...], ...]
    source: str
    attribution: str
    is_standin: bool = False

    def __repr__(self) -> str:
        num_words = sum(map(len, self.sentences))
        return f"Corpus({self.source}: {len(self.sentences):,} sentences, {num_words:,} words)"


def tokenize(text: str) -> list[str]:
    """Split a text into words.

    Lower case, as `List` at the start of a sentence is the word `list`. Names of the language stay whole
    (`__init__`, `built-in`), dotted names fall into their parts (`os.path`). Numbers, operators and all other
    signs are dropped: a plain text uses the same signs for stars of emphasis, rules and frames of tables.

    Examples
    --------
    >>> tokenize('The built-in "list.sort()" calls "__lt__": x += 1')
    ['the', 'built-in', 'list', 'sort', 'calls', '__lt__', 'x']
    """
    return WORD.findall(HYPHEN_AT_LINE_END.sub("-", text.lower()))


def load_python_docs() -> Corpus:
    """Load the Python language reference, which Python itself brings along for its `help()`.

    A paragraph is a sentence: what stands between blank lines of `pydoc_data.topics`. Several topics share
    paragraphs, so each is taken once. Python versions differ a little in the text.

    Returns
    -------
    Corpus
        The words of each paragraph, see `tokenize`. Paragraphs without two words are left out.
    """
    from pydoc_data.topics import topics

    texts = (topics[name] for name in sorted(topics))
    paragraphs = (tuple(tokenize(paragraph)) for text in texts for paragraph in BLANK_LINES.split(text))
    sentences = dict.fromkeys(paragraph for paragraph in paragraphs if len(paragraph) > 1)
    version = platform.python_version()
    return Corpus(
        tuple(sentences),
        source=f"Python {version} language reference",
        attribution=f"Python Software Foundation: Python {version} documentation, PSF License.",
    )


def load_les_miserables() -> Data:
    """Load the characters of *Les Misérables* by Victor Hugo, linked where they appear in a chapter together.

    Returns
    -------
    Data
        ``edge_index`` (2, 508) int64, both directions of each link, sorted by source and then target;
        ``edge_weight`` (508,) float32, number of chapters; ``names`` of the 77 characters, in the order of the
        nodes; ``num_nodes``; ``source``; ``is_standin``; ``attribution``. There are no node features.
    """
    import networkx as nx

    graph = nx.les_miserables_graph()
    number = {name: node for node, name in enumerate(graph)}
    links = torch.tensor([[number[a], number[b]] for a, b in graph.edges]).t()
    chapters = torch.tensor([weight for _, _, weight in graph.edges(data="weight")], dtype=torch.float32)
    edge_index, edge_weight = to_undirected(links, chapters, num_nodes=len(number))
    return Data(
        edge_index=edge_index,
        edge_weight=edge_weight,
        num_nodes=len(number),
        names=list(number),
        source="networkx",
        is_standin=False,
        attribution="D. E. Knuth 1993: The Stanford GraphBase, ACM Press.",
    )
