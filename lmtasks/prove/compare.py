"""When do two answers agree?

fp32 must agree to 1e-3 in every number, and in every choice that torch's two best logits do not leave open by as much.
Rounded weights answer differently by design. Shares of equal answers depend on how decided a model is (on an untrained
head they say nothing), so they are recorded, and what must hold is that the answer is still the same answer with some
noise: a cosine of at least 0.9 between the logits, each row centred (noise under half of the signal), and at most
0.3 nats of mean difference in log-probability. The accidents that are known of rounding, saturated products and outlier
channels, miss these by far; a sound rounding stays above 0.99, and below 0.1 nats. Whether a task's score suffers is
the question of the quality gate, not of this proof. 16 bits are a tenth of that: 8 binary digits of bf16 leave errors
of 0.4 % in each step.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lmtasks.records import Bools, Floats, Floats32, TokenScores, softmax_log
from lmtasks.results.proof import Check, Rule
from lmtasks.settings.runtimes import Precision

ROUNDED = Rule(max_difference=None, least_cosine=0.9, most_mean_difference=0.3)
HALF = Rule(max_difference=None, least_cosine=0.999, most_mean_difference=0.02)
RULES: Mapping[Precision, Rule] = {
    "fp32": Rule(max_difference=1e-3, least_cosine=None, most_mean_difference=None),
    "fp16": HALF,
    "bf16": HALF,
    "int8": ROUNDED,
    "int8-static": ROUNDED,
    "int8-tensor": ROUNDED,
    "w8": ROUNDED,
    "int4": ROUNDED,
}
ALL_CASES = "all cases together"


@dataclass(frozen=True, kw_only=True)
class Logits:
    """Answers to one case, wanted and found: arrays of (rows, choices)."""

    case: str
    wanted: tuple[Floats32, ...]
    found: tuple[Floats32, ...]
    chosen: bool = True
    """Does a softmax over a row say how likely its choices are? Not of vectors."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Answers to one case, wanted and found: every next token of its rows."""

    case: str
    wanted: TokenScores
    found: TokenScores


def check_logits(graph: str, answers: Sequence[Logits], *, rule: Rule) -> list[Check]:
    """One check a case, or one for all of them, as the rule has it."""
    if rule.together:
        answers = [
            Logits(
                case=ALL_CASES,
                wanted=tuple(part for answer in answers for part in answer.wanted),
                found=tuple(part for answer in answers for part in answer.found),
                chosen=all(answer.chosen for answer in answers),
            )
        ]
    return [_check_logits(graph, answer, rule) for answer in answers]


def check_scores(answers: Sequence[Scores], *, rule: Rule) -> list[Check]:
    """One check a case, or one for all of them, as the rule has it."""
    picked = [
        (
            answer.case,
            np.abs(answer.wanted.logprobs.astype(np.float64) - answer.found.logprobs),
            answer.wanted.greedy == answer.found.greedy,
        )
        for answer in answers
    ]
    if rule.together:
        picked = [
            (ALL_CASES, np.concatenate([item[1] for item in picked]), np.concatenate([item[2] for item in picked]))
        ]
    return [_check_scores(case, distance, equal, rule) for case, distance, equal in picked]


def _check_logits(graph: str, answer: Logits, rule: Rule) -> Check:
    pairs = list(zip(answer.wanted, answer.found, strict=True))
    distance = np.concatenate([np.abs(one.astype(np.float64) - two).ravel() for one, two in pairs])
    equal = np.concatenate([one.argmax(axis=1) == two.argmax(axis=1) for one, two in pairs])
    tied: Bools = ~equal & (np.concatenate([_gap(one) for one, _ in pairs]) <= (rule.max_difference or 0.0))
    largest, cosine = _largest(distance), _cosine(answer.wanted, answer.found)
    decided = rule.max_difference is None or bool((equal | tied).all())
    return Check(
        graph=graph,
        case=answer.case,
        numbers=int(distance.size),
        max_difference=largest,
        mean_difference=float(distance.mean()),
        cosine=cosine,
        agreement=float(equal.mean()),
        divergence=_divergence(pairs) if answer.chosen else None,
        open_choices=int(tied.sum()),
        ok=decided and _within(largest, rule.max_difference) and cosine >= (rule.least_cosine or -1.0),
    )


def _check_scores(case: str, distance: Floats, equal: Bools, rule: Rule) -> Check:
    largest, mean = _largest(distance), float(distance.mean()) if distance.size else 0.0
    return Check(
        graph="score",
        case=case,
        numbers=int(distance.size),
        max_difference=largest,
        mean_difference=mean,
        cosine=None,
        agreement=float(equal.mean()) if equal.size else 1.0,
        open_choices=0,
        ok=_within(largest, rule.max_difference) and _within(mean, rule.most_mean_difference),
    )


def _divergence(pairs: Sequence[tuple[Floats32, Floats32]]) -> float | None:
    """Mean over all rows of the sum of p (log p - log q), p wanted and q found; None: there is nothing to choose."""
    if not pairs or pairs[0][0].shape[1] < 2:
        return None
    sums = [
        float((np.exp(wanted) * (wanted - found)).sum())
        for wanted, found in ((softmax_log(one), softmax_log(two)) for one, two in pairs)
    ]
    mean = sum(sums) / sum(len(one) for one, _ in pairs)
    return max(0.0, mean) if np.isfinite(mean) else float("inf")


def _gap(logits: Floats32) -> Floats:
    """How far the best choice of each row lies above the second, (rows, choices) -> (rows,)."""
    if logits.shape[1] < 2:
        return np.full(logits.shape[0], np.inf)
    best = np.sort(logits.astype(np.float64), axis=1)[:, -2:]
    gap: Floats = best[:, 1] - best[:, 0]
    return gap


def _cosine(wanted: Sequence[Floats32], found: Sequence[Floats32]) -> float:
    """Between all logits, each row centred: what a softmax sees of them."""
    one, two = (
        np.concatenate([(part - part.mean(axis=1, keepdims=True)).ravel() for part in parts]).astype(np.float64)
        for parts in (wanted, found)
    )
    size = float(np.linalg.norm(one) * np.linalg.norm(two))
    if size == 0.0:
        return 1.0 if np.array_equal(one, two) else 0.0
    return float(one @ two) / size


def _largest(distance: Floats) -> float:
    """The largest difference; a number that is not finite differs infinitely."""
    return float(np.where(np.isfinite(distance), distance, np.inf).max(initial=0.0))


def _within(value: float, most: float | None) -> bool:
    return most is None or value <= most
