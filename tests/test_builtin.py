"""The built-in data: words as a reader sees them, and the characters of a novel."""

import sys

import networkx as nx
import pytest
import torch

from course_utils._builtin import tokenize
from course_utils.datasets import load_les_miserables, load_python_docs


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('The "list.sort()" method', ["the", "list", "sort", "method"]),
        ("object.__getattr__(self, name)", ["object", "__getattr__", "self", "name"]),
        ("*x* += 1 if y1 == 2 else 1e5j", ["x", "if", "y1", "else"]),
        ("Python\u2019s lists don\u2019t copy", ["python", "lists", "don\u2019t", "copy"]),
        ("built-in, or a built-\n   in type", ["built-in", "or", "a", "built-in", "type"]),
        ("x - y, x-1, -z", ["x", "y", "x", "z"]),
        ("+---+\n| a | b |\n+===+", ["a", "b"]),
        ("Ångström _ __ 3.14", ["ångström", "_", "__"]),
        ("", []),
    ],
)
def test_tokenize(text, words):
    assert tokenize(text) == words


def test_the_docs_are_paragraphs_of_the_running_python():
    corpus = load_python_docs()
    version = f"Python {sys.version_info.major}.{sys.version_info.minor}"
    assert corpus.source.startswith(version)
    assert version in corpus.attribution
    assert not corpus.is_standin
    assert min(map(len, corpus.sentences)) == 2
    assert len(set(corpus.sentences)) == len(corpus.sentences)  # topics share paragraphs
    assert sum(map(len, corpus.sentences)) > 40_000
    start = "the while statement is used for repeated execution as long as an expression is true"
    assert any(" ".join(sentence).startswith(start) for sentence in corpus.sentences)
    assert str(corpus).startswith(f"Corpus({corpus.source}: {len(corpus.sentences):,} sentences, ")
    assert load_python_docs() == corpus


def test_no_word_holds_space_or_upper_case():
    for word in {word for sentence in load_python_docs().sentences for word in sentence}:
        assert word == word.lower()
        assert not set(word) & set(' \n\t"*|+=()[]{}.,:;')


def test_the_words_of_the_course_are_there_often_enough():
    words = [word for sentence in load_python_docs().sentences for word in sentence]
    for word in (
        "list",
        "yield",
        "import",
        "class",
        "exception",
        "integer",
        "while",
        "async",
        "true",
        "generator",
    ):
        assert words.count(word) >= 10, word


def test_les_miserables_is_the_graph_of_networkx():
    data = load_les_miserables()
    graph = nx.les_miserables_graph()
    assert (data.num_nodes, data.num_edges, data.edge_index.dtype) == (77, 508, torch.int64)
    assert data.names == list(graph)
    found = {
        (data.names[a], data.names[b]): weight
        for (a, b), weight in zip(data.edge_index.t().tolist(), data.edge_weight.tolist(), strict=True)
    }
    expected = {(a, b): weight for a, b, weight in graph.to_directed().edges(data="weight")}
    assert found == expected
    assert data.is_undirected()
    assert data.is_sorted(sort_by_row=True)
    assert data.validate()
    assert (data.source, data.is_standin) == ("networkx", False)
    assert "Knuth" in data.attribution
