"""Metrics of a choice among labels or continuations, with lm-evaluation-harness' meaning (0.4.13).

`acc` takes the most likely choice, `acc_norm` and `acc_bytes` the most likely one per character or byte; of equals the
first. With scores (-4, -6) and texts of 2 and 6 characters, `acc` answers 0 and `acc_norm` (-2 against -1) answers 1.

`ece`: expected calibration error of the choices (Guo et al. 2017, https://arxiv.org/abs/1706.04599).

The confidence of an example is the probability of its answer (softmax of the scores). Confidences are cut into bins of
equal width, (0, 1/15], (1/15, 2/15], ...; ece is the mean over examples of a bin's |accuracy - mean confidence|.
Ten answers with confidence 0.9, of which seven are right, have an ece of 0.2.

Noise alone moves every bin away from zero, so an ece over few examples is too large, and resamples of it larger still.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import comb, log2

import numpy as np
from numpy.typing import NDArray

from lmtasks.errors import UsageError, WorkError
from lmtasks.metric.base import Formula, MetricSettings, mean, of_rows, only
from lmtasks.records import Choice, Floats, Ints, Outcome, Ranks, RankTie

Lengths = Callable[[Choice], Sequence[int]]

ECE_OPTIONS = ("bins",)
GAIN_DEPTH = 10
NOTHING = -2
"""The answer that is none of the choices. (-1 is a truth that is none of them.)"""
BINS = 15
"""The paper's."""


def accuracy(settings: MetricSettings) -> Formula:
    """`acc`: the most likely choice is right."""
    return mean(_right, signature="answer:argmax")


def accuracy_of_letters(settings: MetricSettings) -> Formula:
    """`acc_letters`: the letter that the model wrote stands for a right choice. Where it wrote none, that is wrong."""
    return mean(_right, signature="answer:written-letter")


def accuracy_per_character(settings: MetricSettings) -> Formula:
    """`acc_norm`: the choice with the highest log-probability per character is right."""
    return mean(partial(_right, lengths=lambda choice: choice.chars), signature="answer:argmax|norm:chars")


def accuracy_per_byte(settings: MetricSettings) -> Formula:
    """`acc_bytes`: the choice with the highest log-probability per UTF-8 byte is right."""
    return mean(partial(_right, lengths=lambda choice: choice.bytes), signature="answer:argmax|norm:utf8-bytes")


def accuracy_of_information(settings: MetricSettings) -> Formula:
    """`acc_mutual_info`: the choice that the context makes more likely than any other is right.

    That is the highest log-probability behind the context minus the one behind no context.
    """
    return mean(_informatively_right, signature="answer:argmax|norm:unconditional")


def exact_match(settings: MetricSettings) -> Formula:
    """`exact_match`: greedy decoding yields a right choice. A head decodes nothing: its greedy answer is its argmax.

    The options of the metric on texts have no effect here, as in lm-evaluation-harness.
    """
    return mean(_greedily_right, signature="answer:greedy")


def brier_score(settings: MetricSettings) -> Formula:
    """`brier_score`: squared distance between the probabilities (softmax of the scores) and the truth, 0-2.

    Where several choices are right, the truth is spread evenly over them.
    """
    return mean(_squared_distance, signature="probabilities:softmax")


def recall_at(k: int) -> Callable[[MetricSettings], Formula]:
    """`recall_1` and the like: of the right choices the share that is among the k with the highest scores."""

    def build(settings: MetricSettings) -> Formula:
        del settings

        def values(outcomes: Sequence[Outcome]) -> Floats:
            found = []
            for outcome in _ranked(outcomes):
                if (count := _counted(outcome)) < k:
                    raise UsageError(
                        f"an example has {count} candidates, fewer than the {k} of recall_{k}; take "
                        "the metric out, or give more."
                    )
                shares = [float(np.clip((k - tie.above) / tie.size, 0, 1)) for tie in _ties(outcome)]
                found.append(sum(shares) / max(1, len(shares)))
            return np.array(found)

        return mean(values, signature=f"rank:score|at:{k}|ties:mean")

    return build


def reciprocal_rank(settings: MetricSettings) -> Formula:
    """`mrr`: one over the rank of the best right choice."""
    del settings

    def value(outcome: Choice | Ranks) -> float:
        best = min(_ties(outcome), key=lambda tie: tie.above, default=None)
        if best is None:
            return 0.0
        # Of all orders of m equal choices, g of them right, the share in which the first right one stands at place j.
        orders = comb(best.size, best.right)
        return sum(
            comb(best.size - place, best.right - 1) / orders / (best.above + place)
            for place in range(1, best.size - best.right + 2)
        )

    return mean(
        lambda outcomes: np.array([value(outcome) for outcome in _ranked(outcomes)], dtype=np.float64),
        signature="rank:score|ties:mean",
    )


def discounted_gain(settings: MetricSettings) -> Formula:
    """`ndcg_10`: 1 / log2(1 + rank) of each right choice among the first ten, over the most that there could be
    (Järvelin and Kekäläinen 2002, https://doi.org/10.1145/582415.582418), as scikit-learn's `ndcg_score` has it."""
    del settings
    gains = [1 / log2(1 + rank) for rank in range(1, GAIN_DEPTH + 1)]

    def value(outcome: Choice | Ranks) -> float:
        ties = _ties(outcome)
        found = sum(sum(gains[tie.above : tie.above + tie.size]) / tie.size for tie in ties)
        return found / sum(gains[: len(ties)]) if ties else 0.0

    return mean(
        lambda outcomes: np.array([value(outcome) for outcome in _ranked(outcomes)], dtype=np.float64),
        signature=f"rank:score|at:{GAIN_DEPTH}|gain:binary|ties:mean",
    )


def _ranked(outcomes: Sequence[Outcome]) -> Sequence[Choice | Ranks]:
    """Those of a kind that has an order."""
    return only(Ranks, outcomes) if outcomes and isinstance(outcomes[0], Ranks) else only(Choice, outcomes)


def _ties(outcome: Choice | Ranks) -> Sequence[RankTie]:
    """One for each right choice, or right text."""
    if isinstance(outcome, Ranks):
        return outcome.ties
    right = [place for place in outcome.gold if 0 <= place < len(outcome.scores)]
    if not outcome.chosen:  # the right ones stand last
        return [RankTie(above=len(outcome.scores) - len(right), size=len(right), right=len(right))] * len(right)
    return rank_ties(_scores([outcome])[0], right)


def rank_ties(scores: NDArray[np.floating], right: Sequence[int]) -> list[RankTie]:
    """Where the right ones of some scores (N,) stand."""
    return [
        RankTie(
            above=int((scores > scores[place]).sum()),
            size=int((scores == scores[place]).sum()),
            right=sum(bool(scores[other] == scores[place]) for other in right),
        )
        for place in right
    ]


def _counted(outcome: Choice | Ranks) -> int:
    """How much was put in order."""
    return outcome.count if isinstance(outcome, Ranks) else len(outcome.scores)


def answers(choices: Sequence[Choice], lengths: Lengths | None = None) -> Ints:
    """(N,) index of the answer: the highest score, over the choice's length if asked; of equals the lowest index.
    `NOTHING` where none was answered."""
    scores = _scores(choices)
    if lengths is not None:
        sizes = _padded([lengths(choice) for choice in choices], fill=0.0)
        # An empty choice can be normalised by nothing, so it is never the answer.
        scores = np.divide(scores, sizes, out=np.full_like(scores, -np.inf), where=sizes > 0)
    result: Ints = np.where([choice.chosen for choice in choices], scores.argmax(axis=1), NOTHING)
    return result


def probabilities(choices: Sequence[Choice]) -> Floats:
    """(N, C) softmax of the scores, 0 beyond an example's own choices."""
    scores = _scores(choices)
    # Where every choice is impossible, none is more likely than another.
    hopeless = np.isneginf(scores).all(axis=1)
    for row in np.flatnonzero(hopeless).tolist():
        scores[row, : len(choices[row].scores)] = 0.0
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    result: Floats = weights / weights.sum(axis=1, keepdims=True)
    return result


def _right(outcomes: Sequence[Outcome], lengths: Lengths | None = None) -> Floats:
    choices = only(Choice, outcomes)
    found = answers(choices, lengths).tolist()
    return np.array([float(answer in choice.gold) for answer, choice in zip(found, choices, strict=True)])


def _informatively_right(outcomes: Sequence[Outcome]) -> Floats:
    choices = only(Choice, outcomes)
    scores = _scores(choices)
    for row, choice in enumerate(choices):
        if len(choice.unconditional) != len(choice.scores) or np.isnan(choice.unconditional).any():
            raise WorkError(
                f"example {row} has {len(choice.scores)} choices and the unconditional log-probabilities "
                f"{choice.unconditional}; acc_mutual_info needs one for each. A head has none: answer by a prompt."
            )
    bare = _padded([choice.unconditional for choice in choices], fill=0.0)
    # What is impossible behind its context stays so, however unlikely it is without.
    gains = np.subtract(scores, bare, out=np.full_like(scores, -np.inf), where=np.isfinite(scores))
    found = gains.argmax(axis=1).tolist()
    return np.array([float(answer in choice.gold) for answer, choice in zip(found, choices, strict=True)])


def _greedily_right(outcomes: Sequence[Outcome]) -> Floats:
    choices = only(Choice, outcomes)
    found = answers(choices).tolist()
    values = [
        any(choice.greedy[gold] for gold in choice.gold if 0 <= gold < len(choice.greedy))
        if choice.greedy
        else answer in choice.gold
        for answer, choice in zip(found, choices, strict=True)
    ]
    return np.array(values, dtype=np.float64)


def _squared_distance(outcomes: Sequence[Outcome]) -> Floats:
    choices = only(Choice, outcomes)
    distance = probabilities(choices)
    for row, choice in enumerate(choices):
        for gold in choice.gold:
            if 0 <= gold < len(choice.scores):
                distance[row, gold] -= 1.0 / len(choice.gold)
    result: Floats = np.square(distance).sum(axis=1)
    return result


def _scores(choices: Sequence[Choice]) -> Floats:
    scores = _padded([choice.scores for choice in choices], fill=-np.inf)
    # `<` is false for NaN as well. A NaN would win every argmax, so it must never pass for an answer.
    wrong = ~(scores < np.inf).all(axis=1) | np.array([not choice.scores for choice in choices])
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        raise WorkError(
            f"example {first} has the scores {choices[first].scores}; each choice must have one, "
            "below infinity and not NaN. Did the model overflow in this precision?"
        )
    return scores


def _padded(rows: Sequence[Sequence[float]], *, fill: float) -> Floats:
    widths = set(map(len, rows))
    if len(widths) == 1 and 0 not in widths:
        return np.array(rows, dtype=np.float64)
    matrix = np.full((len(rows), max(1, *map(len, rows))) if rows else (0, 1), fill)
    for index, row in enumerate(rows):
        matrix[index, : len(row)] = row
    return matrix


def expected_calibration_error(settings: MetricSettings) -> Formula:
    """`ece`, with the option `bins`.

    Raises:
        UsageError: `bins` is no whole number above 0.
    """
    bins = _bins(settings.options)

    def weighted(rows: Floats, weights: Floats) -> Floats:
        place = np.clip(np.ceil(rows[:, 0] * bins).astype(np.int64) - 1, 0, bins - 1)
        gaps = np.zeros((len(rows), bins))
        gaps[np.arange(len(rows)), place] = rows[:, 1] - rows[:, 0]
        result: Floats = np.abs(weights @ gaps).sum(axis=1) / weights.sum(axis=1)
        return result

    return of_rows(
        weighted,
        statistics=_confidences,
        per_example=lambda rows: np.abs(rows[:, 1] - rows[:, 0]),
        signature=f"bins:{bins}|width:equal|confidence:softmax-max",
        skewed=True,
    )


def _confidences(outcomes: Sequence[Outcome]) -> Floats:
    """(N, 2): the probability of the answer, and whether it is right."""
    choices = only(Choice, outcomes)
    table = probabilities(choices)
    found = table.argmax(axis=1)
    right = [float(answer in choice.gold) for answer, choice in zip(found.tolist(), choices, strict=True)]
    return np.stack([table.max(axis=1), np.array(right)], axis=1)


def _bins(options: Mapping[str, object]) -> int:
    given = options.get("bins", BINS)
    if not isinstance(given, int) or isinstance(given, bool) or given < 1:
        raise UsageError(f"ece: bins must be a whole number above 0, was: {given!r}.")
    return given
