"""Accuracy in its three forms, greedy exact match, Brier score: worked by hand."""

import math

import pytest

from lmtasks.metric import make_metric
from lmtasks.records import Choice, OutcomeKind


def choice(
    scores: tuple[float, ...],
    *,
    gold: tuple[int, ...] = (0,),
    chars: tuple[int, ...] = (),
    greedy: tuple[bool, ...] = (),
) -> Choice:
    sizes = chars or (1,) * len(scores)
    return Choice(gold=gold, scores=scores, chars=sizes, bytes=tuple(3 * size for size in sizes), greedy=greedy)


def per_example(name: str, *outcomes: Choice, takes: OutcomeKind = "choice") -> list[float]:
    metric = make_metric(name, takes=takes)
    found: list[float] = metric.per_example(metric.statistics(list(outcomes))).tolist()
    return found


def test_accuracy_takes_the_highest_score_and_of_equals_the_first() -> None:
    found = per_example("acc", choice((-1, -2)), choice((-2, -1)), choice((-1, -1)), choice((-1, -1), gold=(1,)))
    assert found == [1, 0, 1, 0]


def test_any_of_several_right_choices_counts() -> None:
    assert per_example("acc", choice((-3, -2, -1), gold=(0, 2)), choice((-3, -1, -2), gold=(0, 2))) == [1, 0]


def test_a_gold_outside_the_choices_is_wrong() -> None:
    # lm-evaluation-harness marks a gold that it cannot find with -100.
    assert per_example("acc", choice((-1, -2), gold=(-100,)), choice((-1, -2), gold=())) == [0, 0]
    assert per_example("exact_match", choice((-1, -2), gold=(-100,), greedy=(True, True))) == [0]


def test_lengths_normalise() -> None:
    # -4 / 2 = -2 against -6 / 6 = -1: the longer choice wins per character.
    outcome = choice((-4, -6), gold=(1,), chars=(2, 6))
    assert per_example("acc", outcome) == [0]
    assert per_example("acc_norm", outcome) == [1]
    assert per_example("acc_bytes", outcome) == [1]


def test_characters_are_not_bytes() -> None:
    # 好 is one character and three bytes: -3 / 1 < -2 / 1, but -3 / 3 > -2 / 1.
    outcome = Choice(gold=(0,), scores=(-3.0, -2.0), chars=(1, 1), bytes=(3, 1))
    assert per_example("acc_norm", outcome) == [0]
    assert per_example("acc_bytes", outcome) == [1]


def test_an_empty_choice_is_never_the_answer_per_character() -> None:
    assert per_example("acc_norm", choice((0.0, -6), gold=(1,), chars=(0, 6))) == [1]


def test_choices_of_different_number_stand_side_by_side() -> None:
    found = per_example("acc", choice((-1, -2)), choice((-3, -2, -9, -1), gold=(3,)), choice((-5,)))
    assert found == [1, 1, 1]


def test_exact_match_of_choices_is_greedy_decoding() -> None:
    likely_but_not_greedy = choice((-1, -2), greedy=(False, False))
    greedy = choice((-2, -1), greedy=(True, False))
    assert per_example("exact_match", likely_but_not_greedy, greedy) == [0, 1]


def test_exact_match_of_a_head_is_its_answer() -> None:
    assert per_example("exact_match", choice((-1, -2)), choice((-2, -1))) == [1, 0]


def test_brier_score() -> None:
    # Probabilities 3/4 and 1/4 against (1, 0): 2 / 16; against (0, 1): 2 * 9 / 16; truth at both: 2 / 16.
    scores = (math.log(0.75), math.log(0.25))
    found = per_example("brier_score", choice(scores), choice(scores, gold=(1,)), choice(scores, gold=(0, 1)))
    assert found == pytest.approx([0.125, 1.125, 0.125])


def test_brier_score_needs_no_normalised_scores_and_stands_impossible_choices() -> None:
    shifted = (math.log(0.75) - 700, math.log(0.25) - 700)
    impossible = (-math.inf, -math.inf)
    found = per_example("brier_score", choice(shifted), choice(impossible), choice((0.0, -math.inf, -math.inf)))
    assert found == pytest.approx([0.125, 0.5, 0.0])
