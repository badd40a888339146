"""Answers from logits."""

from itertools import product

import numpy as np
import pytest

from lmtasks.engine.requests import Scored
from lmtasks.evaluation.prompt_requests import likelihood_choice
from lmtasks.head.classification import LabelledText
from lmtasks.head.span import SpanWindow, best_span, spans
from lmtasks.records import Floats32, HeadInput

SOURCE = "Abel Fenn lent his customers novels"
WORDS = [(0, 4), (5, 9), (10, 14), (15, 18), (19, 28), (29, 35)]


def window(words: list[tuple[int, int]]) -> SpanWindow:
    """A start token, a question of two tokens, then words of the source, then an end token."""
    offsets = ((0, 0), (0, 3), (4, 6), *words, (0, 0))
    return SpanWindow(
        ids=tuple(range(len(offsets))),
        types=(0,) * len(offsets),
        offsets=offsets,
        context=(False, False, False, *[True] * len(words), False),
        start=None,
        end=None,
        null=0,
        trainable=True,
        truncated=False,
    )


def logits(length: int, *, start: dict[int, float], end: dict[int, float]) -> Floats32:
    table = np.full((length, 2), -5.0, dtype=np.float32)
    for position, value in start.items():
        table[position, 0] = value
    for position, value in end.items():
        table[position, 1] = value
    return table


def test_a_span() -> None:
    only = window(WORDS)
    table = logits(10, start={3: 4.0}, end={4: 3.0})
    found = best_span([table], [only], source=SOURCE)
    assert (found.text, found.start, found.end, found.score) == ("Abel Fenn", 0, 9, 7.0)


def test_the_question_and_a_backward_span_are_no_answers() -> None:
    only = window(WORDS)
    # Best start lies in the question, the best end before the best start inside.
    table = logits(10, start={1: 9.0, 6: 5.0}, end={2: 9.0, 4: 6.0, 7: 4.0})
    assert best_span([table], [only], source=SOURCE).text == "his customers"


def test_an_answer_has_a_longest_length() -> None:
    only = window(WORDS)
    table = logits(10, start={3: 4.0}, end={8: 4.0, 4: 1.0})
    assert best_span([table], [only], source=SOURCE).text == SOURCE
    assert best_span([table], [only], source=SOURCE, max_answer_tokens=5).text == "Abel Fenn"


def test_no_answer_needs_all_windows() -> None:
    first, second = window(WORDS[:3]), window(WORDS[3:])
    nothing = logits(7, start={0: 6.0}, end={0: 6.0})
    something = logits(7, start={0: 1.0, 4: 3.0}, end={0: 1.0, 4: 3.0})
    assert best_span([nothing, nothing], [first, second], source=SOURCE).text == ""
    found = best_span([nothing, something], [first, second], source=SOURCE)
    assert (found.text, found.score) == ("customers", 6.0)
    assert best_span([nothing, something], [first, second], source=SOURCE, null_margin=-5.0).text == ""


def test_a_window_without_context_has_no_answer() -> None:
    assert best_span([logits(4, start={}, end={})], [window([])], source=SOURCE).text == ""


def test_all_pairs_are_ranked() -> None:
    only = window(WORDS)
    table = np.random.default_rng(0).normal(size=(10, 2)).astype(np.float32)
    found = spans([table], [only], source=SOURCE, max_answer_tokens=4, count=50)
    expected = sorted(
        (float(table[a, 0]) + float(table[b, 1]) for a, b in product(range(3, 9), repeat=2) if 0 <= b - a < 4),
        reverse=True,
    )
    assert [span.score for span in found] == pytest.approx(expected)
    assert best_span([table], [only], source=SOURCE, null_margin=99.0, max_answer_tokens=4) == found[0]


def test_overlapping_windows_count_a_piece_once() -> None:
    left, right = window(WORDS[:4]), window(WORDS[2:])
    a = logits(8, start={5: 2.0}, end={6: 2.0})
    b = logits(8, start={3: 3.0}, end={4: 3.0})
    found = spans([a, b], [left, right], source=SOURCE)
    assert [(span.text, span.score) for span in found if span.text == "lent his"] == [("lent his", 6.0)]


def test_a_head_answers_in_the_tasks_order() -> None:
    choice = LabelledText(given=HeadInput(first="", label=2), rows=()).outcome(
        [np.array([0.0, 2.0, 1.0], dtype=np.float32)], order=(1, 2, 0), labels=("negative", "正面", "x")
    )
    total = np.log(np.exp([0.0, 2.0, 1.0]).sum())
    assert choice.scores == pytest.approx((2 - total, 1 - total, -total))
    assert (choice.chars, choice.bytes, choice.greedy, choice.gold) == ((8, 2, 1), (8, 6, 1), (), (2,))


def test_likelihoods_compete() -> None:
    scored = [
        Scored(logprob=-3.0, greedy=False, token_logprobs=(-1.0, -2.0)),
        Scored(logprob=-1.0, greedy=True, token_logprobs=(-1.0,)),
    ]
    choice = likelihood_choice(scored, choices=("no", "好"), gold=(0,))
    assert (choice.scores, choice.greedy, choice.bytes) == ((-3.0, -1.0), (False, True), (2, 3))
