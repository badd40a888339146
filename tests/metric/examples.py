"""Outcomes that several tests score: random but seeded, and small."""

from collections.abc import Sequence

import numpy as np

from lmtasks.metric import Metric, value_of
from lmtasks.metric.choice import rank_ties
from lmtasks.records import Choice, CustomValues, LabelSet, Likelihood, Outcome, OutcomeKind, Quantity, Ranks, Text

WORDS = ("the", "cat", "sat", "on", "a", "mat", "running", "dogs", "barked", ".", "loudly", "in", "1999", ",")
HAN = "今天天气很好我们去北京大学看书。吃饭，"


def choices(n: int, *, classes: int = 2, seed: int = 0) -> list[Outcome]:
    draw = np.random.default_rng(seed)
    lengths = draw.integers(1, 9, size=(n, classes))
    return [
        Choice(
            gold=(int(draw.integers(classes)),),
            scores=tuple(draw.normal(-5, 2, size=classes).tolist()),
            chars=tuple(row.tolist()),
            bytes=tuple((2 * row + 1).tolist()),
            greedy=tuple((draw.random(classes) < 0.4).tolist()),
            unconditional=tuple(draw.normal(-5, 2, size=classes).tolist()),
        )
        for row in lengths
    ]


def texts(n: int, *, references: int = 1, seed: int = 0, chinese: bool = False) -> list[Outcome]:
    draw = np.random.default_rng(seed)

    def text() -> str:
        length = int(draw.integers(3, 14))
        return "".join(draw.choice(list(HAN), length)) if chinese else " ".join(draw.choice(WORDS, length))

    # The prediction is a reference with its tail exchanged, so that there is something to find.
    found: list[Outcome] = []
    for _ in range(n):
        golds = tuple(text() for _ in range(references))
        found.append(Text(references=golds, prediction=golds[0][: len(golds[0]) // 2] + text()[:20]))
    return found


def likelihoods(n: int, *, seed: int = 0) -> list[Outcome]:
    draw = np.random.default_rng(seed)
    found: list[Outcome] = []
    for _ in range(n):
        tokens = int(draw.integers(1, 30))
        logprob = float(-tokens * draw.uniform(0.5, 4))
        found.append(
            Likelihood(logprob=logprob, tokens=tokens, words=tokens, bytes=5 * tokens, greedy=bool(draw.random() < 0.3))
        )
    return found


def quantities(n: int, *, seed: int = 0, decimals: int = 1) -> list[Outcome]:
    """Rounded, so that there are ties."""
    draw = np.random.default_rng(seed)
    gold = draw.normal(3, 2, n)
    pairs = zip(gold.round(decimals).tolist(), (gold + draw.normal(size=n)).round(decimals).tolist(), strict=True)
    return [Quantity(gold=number, prediction=answer) for number, answer in pairs]


def label_sets(n: int, *, labels: int = 4, seed: int = 0) -> list[Outcome]:
    """Among them sets without labels and with all, and scores that are equal."""
    draw = np.random.default_rng(seed)
    true, scores = draw.random((n, labels)) < 0.4, draw.normal(size=(n, labels)).round(1)
    return [
        LabelSet(gold=tuple(np.flatnonzero(row).tolist()), scores=tuple(values.tolist()))
        for row, values in zip(true, scores, strict=True)
    ]


def ranks(n: int, *, count: int = 120, seed: int = 0) -> list[Outcome]:
    """One to three right texts among so many, with scores that are equal among them."""
    draw = np.random.default_rng(seed)
    scores = draw.normal(size=(n, count)).round(1)
    right = [draw.choice(count, size=draw.integers(1, 4), replace=False).tolist() for _ in range(n)]
    return [Ranks(ties=tuple(rank_ties(row, gold)), count=count) for row, gold in zip(scores, right, strict=True)]


def value(metric: Metric, outcomes: Sequence[Outcome]) -> float:
    """The metric over the outcomes."""
    return value_of(metric, metric.statistics(outcomes))


def of_kind(kind: OutcomeKind, n: int, *, seed: int = 0) -> list[Outcome]:
    makers = {
        "choice": choices,
        "text": texts,
        "likelihood": likelihoods,
        "number": quantities,
        "labels": label_sets,
        "ranks": ranks,
        "made": made,
    }
    return makers[kind](n, seed=seed)


def made(n: int, *, seed: int = 0) -> list[Outcome]:
    """Values of pairs, under the names of the metrics that take them."""
    draw = np.random.default_rng(seed)
    names = ("preference", "preference_gap", "label_gap", "distance", "answers_differ")
    return [CustomValues(values=dict(zip(names, draw.random(len(names)).tolist(), strict=True))) for _ in range(n)]
