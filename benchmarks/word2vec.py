"""Word2Vec side by side with gensim: time to equal quality on the Python docs.

Run `pip install gensim==4.4.0` and `python benchmarks/word2vec.py` on a machine with nothing else to do, or with
`--quick` to see that it runs.

Quality is the chance that two words of one group (below) are nearer, by cosine, than two of different groups: the
area under the ROC curve. Both sides get the same sentences, the same sizes, one thread, and go from sentences to
vectors. Each is tried with several learning rates and lengths of training: the default of gensim, 5 epochs at 0.025,
is meant for longer texts.
"""

from __future__ import annotations

import os

# gensim's linear algebra reads this when it is loaded.
os.environ["OMP_NUM_THREADS"] = "1"

import platform
import sys
import time
from itertools import combinations, product
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score

from course_utils.datasets import load_python_docs
from course_utils.word2vec import CBOW, SkipGram, train_word2vec

try:
    import gensim
except ModuleNotFoundError:
    sys.exit("This benchmark compares with gensim, which is not installed: pip install gensim==4.4.0")

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Sentences = Sequence[Sequence[str]]
    Train = Callable[[Sentences, float, int, int], NDArray[np.float32]]

GROUPS = [
    line.split()
    for line in (
        "list tuple dictionary set sequence mapping",
        "integer float int complex",
        "while break continue loop else",
        "raise raised exception except try finally handler",
        "import imported module package",
        "generator yield iterator next",
        "async await coroutine",
        "attribute __getattr__ __getattribute__ __setattr__",
        "class metaclass base subclass instance",
        "argument arguments keyword positional parameter",
        "true false",
        "string bytes characters lowercase uppercase",
    )
]
WORDS = [word for group in GROUPS for word in group]
RELATED = [any({a, b} <= set(group) for group in GROUPS) for a, b in combinations(WORDS, 2)]
DIM, WINDOW, NEGATIVES, MIN_COUNT, SAMPLE = 64, 5, 5, 5, 1e-3


def quality(vectors: NDArray[np.float32]) -> float:
    """Return the chance that related words are nearer than unrelated ones, from the vectors of `WORDS`."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = (unit @ unit.T)[np.triu_indices(len(WORDS), k=1)]
    return float(roc_auc_score(RELATED, cosines))


def course(kind: type[SkipGram | CBOW]) -> Train:
    """Make a function that trains the course's class and returns the vectors of `WORDS`."""

    def train(sentences: Sentences, lr: float, epochs: int, seed: int) -> NDArray[np.float32]:
        torch.manual_seed(seed)
        model = kind(
            sentences,
            DIM,
            window=WINDOW,
            num_negative_samples=NEGATIVES,
            min_count=MIN_COUNT,
            sample=SAMPLE,
        )
        train_word2vec(model, epochs=epochs, lr=lr, progress=False, seed=seed)
        return model(WORDS).detach().numpy()

    return train


def theirs(skip_gram: int) -> Train:
    """Make a function that trains gensim's class and returns the vectors of `WORDS`."""

    def train(sentences: Sentences, lr: float, epochs: int, seed: int) -> NDArray[np.float32]:
        model = gensim.models.Word2Vec(
            sentences,
            vector_size=DIM,
            window=WINDOW,
            negative=NEGATIVES,
            min_count=MIN_COUNT,
            sample=SAMPLE,
            sg=skip_gram,
            alpha=lr,
            epochs=epochs,
            seed=seed,
            workers=1,
        )
        return model.wv[WORDS]

    return train


def measure(
    train: Train, sentences: Sentences, rates: Sequence[float], lengths: Sequence[int], seeds: range
) -> pd.DataFrame:
    """Return learning rate, epochs, CPU seconds (median) and quality (mean and deviation) of each setting."""
    rows = []
    for lr, epochs in product(rates, lengths):
        seconds, scores = [], []
        for seed in seeds:
            begin = time.process_time()
            vectors = train(sentences, lr, epochs, seed)
            seconds.append(time.process_time() - begin)
            scores.append(quality(vectors))
        rows.append((lr, epochs, np.median(seconds), np.mean(scores), np.std(scores)))
    return pd.DataFrame(rows, columns=["lr", "epochs", "seconds", "quality", "deviation"])


def main() -> None:
    """Print all tables."""
    quick = "--quick" in sys.argv[1:]
    torch.set_num_threads(1)
    corpus = load_python_docs()
    print(f"{platform.machine()}, PyTorch {torch.__version__}, gensim {gensim.__version__}, {corpus}\n")
    seeds = range(1 if quick else 3)
    sides = {
        "skip-gram": (
            (course(SkipGram), (0.0025, 0.005, 0.01, 0.02), (1, 2, 3, 4, 6)),
            (theirs(1), (0.0125, 0.025, 0.05, 0.1), (5, 10, 15, 20, 30)),
        ),
        "CBOW": (
            (course(CBOW), (0.0025, 0.005, 0.01, 0.02), (2, 3, 4, 6, 8, 12)),
            (theirs(0), (0.0125, 0.025, 0.05, 0.1), (5, 10, 20, 30, 40, 60)),
        ),
    }
    for name, settings in sides.items():
        tables = [
            measure(
                train,
                corpus.sentences,
                rates[:1] if quick else rates,
                lengths[:1] if quick else lengths,
                seeds,
            )
            for train, rates, lengths in settings
        ]
        print(f"| {name} | lr | epochs | CPU seconds | quality | deviation |\n|---|---|---|---|---|---|")
        for side, table in zip(("course_utils", "gensim"), tables, strict=True):
            for row in table.itertuples():
                print(
                    f"| {side} | {row.lr} | {row.epochs} | {row.seconds:.2f} "
                    f"| {row.quality:.3f} | {row.deviation:.3f} |"
                )
        best = [table["quality"].max() for table in tables]
        print(f"\nbest quality: course_utils {best[0]:.3f}, gensim {best[1]:.3f}")
        # The very best value of a side is a matter of luck: how long it takes to come close is not.
        for target in (0.9, min(best) - 0.005):
            needed = [table.loc[table["quality"] >= target, "seconds"].min() for table in tables]
            print(
                f"CPU seconds to {target:.3f}: course_utils {needed[0]:.2f}, gensim {needed[1]:.2f}, "
                f"ratio {needed[1] / needed[0]:.1f}"
            )
        print(flush=True)


if __name__ == "__main__":
    main()
