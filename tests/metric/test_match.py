"""exact_match with lm-evaluation-harness' options (harness-semantics 2.7), worked by hand."""

import pytest

from lmtasks.errors import UsageError
from lmtasks.metric import make_metric
from lmtasks.records import Text


def matches(prediction: str, *references: str, **options: object) -> bool:
    metric = make_metric("exact_match", options=options)
    return bool(metric.statistics([Text(references=references, prediction=prediction)])[0, 0])


def test_equal_means_equal() -> None:
    assert matches("Paris", "Paris")
    assert not matches("paris", "Paris")
    assert not matches(" Paris", "Paris")  # no stripping: that is a filter's business


def test_one_reference_of_several_suffices() -> None:
    assert matches("4", "four", "4")


def test_no_reference_wants_no_answer() -> None:
    assert matches("")
    assert not matches("Paris")


def test_options() -> None:
    assert matches("PARIS", "Paris", ignore_case=True)
    assert matches("Paris.", "Paris", ignore_punctuation=True)
    assert not matches("巴黎。", "巴黎", ignore_punctuation=True)  # ASCII only
    assert matches("route 66", "route ", ignore_numbers=True)


def test_patterns_act_first_and_on_both_sides() -> None:
    # GSM8K's patterns in lm-evaluation-harness: commas, dollars, the reasoning before ####, a last full stop.
    gsm8k = [",", "\\$", "(?s).*#### ", "\\.$"]
    assert matches("He pays so.\n#### $1,200.", "#### 1200", regexes_to_ignore=gsm8k)
    # Before the case is lowered, "The" is not "the".
    assert not matches("The end", "end", regexes_to_ignore=["the "], ignore_case=True)
    assert matches("the end", "end", regexes_to_ignore=["the "], ignore_case=True)


def test_what_is_ignored_stands_in_the_signature() -> None:
    plain, loose = make_metric("exact_match"), make_metric("exact_match", options={"ignore_case": True})
    assert "ignore:nothing" in plain.signature
    assert "ignore:case" in loose.signature


def test_options_are_checked() -> None:
    with pytest.raises(UsageError, match="ignore_case must be true or false, was: 'yes'"):
        matches("a", "a", ignore_case="yes")
    with pytest.raises(UsageError, match="must be a list"):
        matches("a", "a", regexes_to_ignore=",")
    with pytest.raises(UsageError, match="no regular expression"):
        matches("a", "a", regexes_to_ignore=["("])
