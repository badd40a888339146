"""When two answers agree, in each precision."""

import numpy as np
import pytest
from scipy.stats import entropy

from lmtasks.prove.compare import RULES, Logits, Scores, check_logits, check_scores
from lmtasks.records import Floats32, TokenScores

WANTED = np.array([[1.0, 3.0, 2.0], [0.5, 0.0, 0.0]], dtype=np.float32)


def floats(values: object) -> Floats32:
    return np.array(values, dtype=np.float32)


def answers(found: Floats32, case: str = "case") -> Logits:
    return Logits(case=case, wanted=(WANTED,), found=(found,))


def scores(wanted: list[float], found: list[float]) -> Scores:
    return Scores(
        case="case",
        wanted=TokenScores(logprobs=np.array(wanted, np.float32), greedy=np.ones(len(wanted), np.bool_)),
        found=TokenScores(logprobs=np.array(found, np.float32), greedy=np.ones(len(wanted), np.bool_)),
    )


def test_fp32_holds_every_number_to_a_thousandth() -> None:
    (near,) = check_logits("decoder", [answers(WANTED + 5e-4)], rule=RULES["fp32"])
    (far,) = check_logits("decoder", [answers(WANTED + floats([2e-3, 0, 0]))], rule=RULES["fp32"])
    assert near.ok
    assert not far.ok
    assert (near.agreement, near.numbers) == (1.0, 6)


def test_a_tie_may_break_either_way_and_nothing_else() -> None:
    wanted = np.array([[1.0, 1.0004, 0.0]], dtype=np.float32)
    found = np.array([[1.0004, 1.0, 0.0]], dtype=np.float32)
    (tie,) = check_logits("decoder", [Logits(case="", wanted=(wanted,), found=(found,))], rule=RULES["fp32"])
    assert tie.ok
    assert (tie.agreement, tie.open_choices) == (0.0, 1)


def test_a_number_that_is_not_finite_fails() -> None:
    broken = WANTED.copy()
    broken[0, 0] = np.nan
    for rule in RULES.values():
        assert not any(check.ok for check in check_logits("decoder", [answers(broken)], rule=rule))
        assert not any(check.ok for check in check_scores([scores([-1, -2], [-1, np.nan])], rule=rule))


def test_rounded_answers_are_judged_over_all_cases_together() -> None:
    turned = Logits(case="undecided", wanted=(floats([[0.01, 0.0]]),), found=(floats([[0.0, 0.01]]),))
    (check,) = check_logits("head.x", [answers(WANTED * 1.05), turned], rule=RULES["int8"])
    assert check.ok
    assert check.case == "all cases together"
    (wrong,) = check_logits("head.x", [answers(WANTED[:, ::-1].copy())], rule=RULES["int8"])
    assert not wrong.ok
    (noisy,) = check_scores([scores([-1, -2, -3], [-1.2, -2.2, -3.2]), scores([-1], [-1.5])], rule=RULES["int8"])
    assert noisy.ok
    assert not check_scores([scores([-1, -2], [-1.5, -2.5])], rule=RULES["int8"])[0].ok


def test_the_divergence_is_the_mean_over_all_choices() -> None:
    found = WANTED[:, ::-1].copy()
    one, two = (np.exp(each) / np.exp(each).sum(1, keepdims=True) for each in (WANTED.astype(float), found))
    wanted = entropy(one, two, axis=1).mean()
    (check,) = check_logits("head.x", [answers(WANTED), answers(WANTED)], rule=RULES["int8"])
    assert check.divergence == 0
    (check,) = check_logits("head.x", [answers(found)], rule=RULES["int8"])
    assert check.divergence == pytest.approx(wanted)
    vectors = Logits(case="", wanted=(WANTED,), found=(found,), chosen=False)
    assert check_logits("head.x", [vectors], rule=RULES["int8"])[0].divergence is None
    assert check_logits("head.x", [answers(np.full_like(found, np.nan))], rule=RULES["int8"])[0].divergence == np.inf


def test_nothing_to_compare_is_no_failure() -> None:
    assert check_scores([scores([], [])], rule=RULES["fp32"])[0].ok
