"""Exercises of notebook 06: GCN on Cora."""

# Students read the solutions: they hold no casts for the type checker's sake.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch

from course_utils.exercises._kinds import FunctionExercise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np


def _links(rng: np.random.Generator, num_nodes: int, num_links: int) -> torch.Tensor:
    """Draw different links between the nodes and give both directions of each, (2, 2 * num_links)."""
    pairs = torch.triu_indices(num_nodes, num_nodes, offset=1)
    pairs = pairs[:, rng.permutation(pairs.shape[1])[:num_links]]
    return torch.cat([pairs, pairs.flip(0)], dim=1)


def masked_accuracy(logits: torch.Tensor, y: torch.Tensor, mask: torch.Tensor) -> float:
    """Measure which share of the nodes in a mask gets the right class.

    `logits` is (num_nodes, num_classes), and the highest of a row is the predicted class. `y` holds the
    true classes and `mask` True or False, both (num_nodes,). The mask holds at least one node.
    """
    correct = logits.argmax(dim=1) == y
    return float(correct[mask].float().mean())


def _accuracy_cases(rng: np.random.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    logits = torch.tensor([[2.0, -1.0], [0.5, 1.0], [3.0, 0.0], [-1.0, -2.0], [0.0, 4.0]])
    mask = torch.tensor([True, True, True, False, False])
    yield logits, torch.tensor([0, 1, 1, 1, 1]), mask
    for num_nodes, num_classes in ((9, 3), (12, 4)):
        drawn = torch.as_tensor(rng.normal(size=(num_nodes, num_classes)), dtype=torch.float32)
        y = torch.where(torch.as_tensor(rng.random(num_nodes) < 2 / 3), drawn.argmax(1), drawn.argmin(1))
        yield drawn, y, torch.arange(num_nodes) % 3 != 0


_MASKED_ACCURACY = FunctionExercise(
    masked_accuracy,
    cases=_accuracy_cases,
    misconceptions={
        "All nodes are counted. Only those in the mask are asked for.": (
            lambda logits, y, mask: masked_accuracy(logits, y, torch.ones_like(mask))
        ),
        "The other nodes are counted, those outside the mask.": (
            lambda logits, y, mask: masked_accuracy(logits, y, ~mask)
        ),
        "The right ones in the mask are divided by the number of all nodes. Divide by mask.sum().": (
            lambda logits, y, mask: float((logits.argmax(dim=1) == y)[mask].sum() / len(y))
        ),
        "This is how many are right, not which share. Divide by mask.sum().": (
            lambda logits, y, mask: int((logits.argmax(dim=1) == y)[mask].sum())
        ),
        "This is the share of wrong ones.": lambda logits, y, mask: 1 - masked_accuracy(logits, y, mask),
        "argmax() without dim gives one number for the whole table. Take it in each row: dim=1.": (
            lambda logits, y, mask: float((logits[mask].argmax() == y[mask]).float().mean())
        ),
    },
    hints=(
        "logits.argmax(dim=1) gives the predicted class of each node.",
        "Compare it with y. The comparison is True where the class is right; pick its entries with [mask].",
        "The mean of .float() of True and False is the share of True.",
    ),
    why="An accuracy over all nodes would count the training nodes, whose classes the model has been told.",
)


def edge_homophily(edge_index: torch.Tensor, y: torch.Tensor) -> float:
    """Measure which share of the links joins two nodes of the same class.

    `edge_index` is (2, num_edges) and holds each link twice, once in each direction. `y` is (num_nodes,).
    """
    source, target = edge_index
    return float((y[source] == y[target]).float().mean())


def _homophily_cases(rng: np.random.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    star = torch.tensor([[0, 1, 0, 2, 0, 3, 3, 4], [1, 0, 2, 0, 3, 0, 4, 3]])
    yield star, torch.tensor([0, 0, 0, 0, 1])
    yield star, torch.tensor([2, 1, 1, 2, 0])
    for num_nodes in (8, 10):
        y = torch.as_tensor(rng.permutation(num_nodes) % 3)
        yield _links(rng, num_nodes, 2 * num_nodes), y


def _node_homophily(edge_index: torch.Tensor, y: torch.Tensor) -> float:
    source, target = edge_index
    share = [(y[source[target == node]] == y[node]).float().mean() for node in target.unique()]
    return float(torch.stack(share).mean())


_EDGE_HOMOPHILY = FunctionExercise(
    edge_homophily,
    cases=_homophily_cases,
    misconceptions={
        "This is a number of edges. Divide by how many there are.": (
            lambda edge_index, y: int((y[edge_index[0]] == y[edge_index[1]]).sum())
        ),
        "This is the share of links between different classes.": (
            lambda edge_index, y: 1 - edge_homophily(edge_index, y)
        ),
        "It is half of what it should be. Both directions of a link are in the sum, or in neither.": (
            lambda edge_index, y: edge_homophily(edge_index, y) / 2
        ),
        "This is a mean over nodes of each node's own share. Here each link counts the same.": _node_homophily,
        "Node numbers are compared. Compare the classes, y[source] and y[target].": (
            lambda edge_index, _y: float((edge_index[0] == edge_index[1]).float().mean())
        ),
    },
    hints=(
        "source, target = edge_index. y[source] holds the class at the start of each edge.",
        "Both directions of a link agree or disagree together, so the share over all edges is the answer.",
    ),
    why="Averaging over neighbours helps where this is high, as on Cora with 0.81. Know it before you train.",
)


def random_split(
    num_nodes: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Split the nodes at random: 70 % for training, 15 % for validation, 15 % for the test.

    Return three masks, each (num_nodes,) of True and False. Every node is in exactly one of them. Draw with
    `generator` and nothing else, so that a split can be repeated. `num_nodes` is a multiple of 20.
    """
    place = torch.randperm(num_nodes, generator=generator)  # (num_nodes,), each node's place in the row
    train, validation = place < num_nodes * 70 // 100, place < num_nodes * 85 // 100
    return train, validation & ~train, ~validation


class _SplitExercise(FunctionExercise):
    """A random function has no one right result: what every right result has in common is compared."""

    def observe(self, answer: Any, case: tuple[Any, ...]) -> Any:
        """Draw some splits and measure them."""
        num_nodes, generator = case
        twin = copy.deepcopy(generator)
        drawn = answer(num_nodes, generator)
        if drawn is ...:
            return ...
        masks = list(drawn) if isinstance(drawn, tuple | list) else [drawn]
        if [(getattr(mask, "dtype", None), tuple(getattr(mask, "shape", ()))) for mask in masks] != 3 * [
            (torch.bool, (num_nodes,))
        ]:
            msg = f"three masks are due, each a tensor of True and False of shape ({num_nodes},)"
            raise TypeError(msg)
        again = list(answer(num_nodes, twin))
        more = torch.stack([torch.stack(list(answer(num_nodes, generator))) for _ in range(100)])
        parts = torch.stack(masks).sum(dim=0)  # (num_nodes,)
        return {
            "nodes in each mask": [int(mask.sum()) for mask in masks],
            "nodes in several masks": "some" if (parts > 1).any() else "none",
            "nodes in no mask": "some" if (parts < 1).any() else "none",
            "training nodes": "the first ones" if masks[0][: int(masks[0].sum())].all() else "scattered",
            "splits drawn by two equal generators": 1
            if torch.equal(*map(torch.stack, (masks, again)))
            else 2,
            "nodes in the same mask in 100 draws": int((more == more[0]).all(dim=(0, 1)).sum()),
        }


def _split_cases(rng: np.random.Generator) -> Iterator[tuple[int, torch.Generator]]:
    for num_nodes in (20, 60, 200):
        yield num_nodes, torch.Generator().manual_seed(int(rng.integers(1000)))


def _split_at(place: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Split by places from 0 to 1."""
    return place < 0.7, (place >= 0.7) & (place < 0.85), place >= 0.85  # noqa: PLR2004 (the shares asked for)


def _own_permutations(num_nodes: int, generator: torch.Generator) -> list[torch.Tensor]:
    return [random_split(num_nodes, generator)[part] for part in range(3)]


_RANDOM_SPLIT = _SplitExercise(
    random_split,
    cases=_split_cases,
    misconceptions={
        "The nodes are split in the order of their numbers. Often the numbers follow the classes: shuffle.": (
            lambda num_nodes, _generator: _split_at((torch.arange(num_nodes) + 0.5) / num_nodes)
        ),
        "The generator is not used, so the split cannot be repeated. Hand it on: generator=generator.": (
            lambda num_nodes, _generator: random_split(num_nodes, torch.default_generator)
        ),
        "A fixed seed in the function gives the same split each time. Let the caller's generator decide.": (
            lambda num_nodes, _generator: random_split(num_nodes, torch.Generator().manual_seed(42))
        ),
        "Each node draws its mask by itself, so the sizes are right only on average. Shuffle once, then cut.": (
            lambda num_nodes, generator: _split_at(torch.rand(num_nodes, generator=generator))
        ),
        "Each mask has a shuffling of its own, so they overlap: test nodes are trained on. Shuffle once.": (
            _own_permutations
        ),
        "These are not masks but node numbers. mask = torch.zeros(num_nodes, dtype=torch.bool) starts one.": (
            lambda num_nodes, generator: [mask.nonzero()[:, 0] for mask in random_split(num_nodes, generator)]
        ),
    },
    hints=(
        "Shuffle all nodes once. The first 70 % of the row are for training, and so on.",
        "torch.randperm(num_nodes, generator=generator) shuffles. Read it as each node's place in a row.",
        "place < 0.7 * num_nodes is the first mask. Make the others of comparisons with 0.7 and 0.85 as well.",
    ),
    why="A test node that is also trained on makes every model look better, the overfitted one most.",
)


def label_propagation(
    y: torch.Tensor, edge_index: torch.Tensor, train_mask: torch.Tensor, num_classes: int, num_steps: int
) -> torch.Tensor:
    """Spread the training nodes' classes over the graph, without features and without learning.

    `y` and `train_mask` are (num_nodes,), `edge_index` (2, num_edges) holds both directions of each link.
    Scores are (num_nodes, num_classes). They begin with 1 at the class of a training node and 0 elsewhere. In
    a step each node takes the mean of its neighbours' scores, zeros if it has none; then the training nodes
    get back what they began with. Return the scores after `num_steps` steps.
    """
    source, target = edge_index
    known = torch.nn.functional.one_hot(y, num_classes) * train_mask[:, None].float()
    degree = torch.bincount(target, minlength=len(y)).clamp(min=1)[:, None]  # (num_nodes, 1)
    scores = known
    for _ in range(num_steps):
        mean = torch.zeros_like(scores).index_add(0, target, scores[source]) / degree
        scores = torch.where(train_mask[:, None], known, mean)
    return scores


def _propagation_cases(
    rng: np.random.Generator,
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor, int, int]]:
    path = torch.tensor([[0, 1, 1, 2, 2, 3], [1, 0, 2, 1, 3, 2]])
    mask = torch.tensor([True, False, False, True, False])  # node 4 has no neighbours
    for num_steps in (0, 1, 2):
        yield torch.tensor([0, 1, 0, 1, 1]), path, mask, 2, num_steps
    for num_nodes, num_steps in ((8, 2), (10, 3)):
        y = torch.as_tensor(rng.permutation(num_nodes) % 3)
        yield y, _links(rng, num_nodes - 1, 2 * num_nodes), torch.arange(num_nodes) % 3 == 0, 3, num_steps


def _spread(
    *, clamp: bool = True, divide: bool = True, guard: int = 1, loops: bool = False, start: float | None = 0.0
) -> Callable[..., torch.Tensor]:
    """Make a rule of this kind that leaves something out or adds something."""

    def propagate(
        y: torch.Tensor, edge_index: torch.Tensor, train_mask: torch.Tensor, num_classes: int, num_steps: int
    ) -> torch.Tensor:
        own = torch.arange(len(y) if loops else 0).repeat(2, 1)
        source, target = torch.cat([edge_index, own], dim=1)
        is_train = train_mask[:, None]
        known = torch.nn.functional.one_hot(y, num_classes).float()
        degree = torch.bincount(target, minlength=len(y)).clamp(min=guard)[:, None]
        scores = known if start is None else torch.where(is_train, known, torch.tensor(start))
        for _ in range(num_steps):
            total = torch.zeros_like(scores).index_add(0, target, scores[source])
            scores = total / degree if divide else total
            scores = torch.where(is_train, known, scores) if clamp else scores
        return scores

    return propagate


_LABEL_PROPAGATION = FunctionExercise(
    label_propagation,
    cases=_propagation_cases,
    misconceptions={
        "The training nodes forget their classes. Give these back after each step.": _spread(clamp=False),
        "The classes of all nodes are used at the start. Only those of training nodes are known.": _spread(
            start=None
        ),
        "These are sums over the neighbours. Divide by how many there are.": _spread(divide=False),
        "A node without neighbours became NaN, which is 0/0. It gets zeros.": _spread(guard=0),
        "Each node counts itself among its neighbours. It does not.": _spread(loops=True),
        "Nodes of unknown class begin with equal scores. They begin with zeros.": _spread(start=0.5),
    },
    hints=(
        "torch.nn.functional.one_hot(y, num_classes) * train_mask[:, None] is the start. Keep it.",
        "One step is a mean over neighbours, as in notebook 05: index_add, then divide by the degree.",
        "torch.where(train_mask[:, None], start, mean) gives the training nodes back what they began with.",
    ),
    why="No words, no training, and yet a strong baseline: a GCN is worth what it adds to this.",
)


EXERCISES = (_EDGE_HOMOPHILY, _RANDOM_SPLIT, _MASKED_ACCURACY, _LABEL_PROPAGATION)
