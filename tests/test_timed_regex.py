"""Patterns of strangers: as Python reads them, and with an end."""

import re

import pytest

from lmtasks.errors import UsageError
from lmtasks.metric import make_metric
from lmtasks.records import Text
from lmtasks.task.filters import multi_choice_regex
from lmtasks.task.filters import regex as regex_filter
from lmtasks.timed_regex import timed

SLOW = r"(a|aa)+$"
TEXT = "a" * 60 + "b"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmtasks.timed_regex.MOST_SECONDS", 0.05)


def test_a_pattern_that_runs_away_is_refused_wherever_a_task_may_name_one() -> None:
    for run in (
        lambda: timed(SLOW).findall(TEXT),
        lambda: timed(SLOW).sub("", TEXT),
        lambda: regex_filter([TEXT], {}, {"regex_pattern": SLOW}),
        lambda: multi_choice_regex([TEXT], {"choices": ["x"]}, {"regexes_to_ignore": [SLOW]}),
        lambda: make_metric("exact_match", options={"regexes_to_ignore": [SLOW]}).statistics(
            [Text(prediction=TEXT, references=("x",))]
        ),
    ):
        with pytest.raises(UsageError, match=r"took longer than 0.05 seconds on a text of 61 characters"):
            run()


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"#### (\-?[0-9\.\,]+)", "so #### 1,234.5. #### -7"),
        (r"(?i)the answer is \(?([A-D])\)?", "The answer is (b). the ANSWER is C"),
        (r"(\d+)|([a-z]+)", "12 ab 3"),
        (r"\b[A-Z]\b", "A BC D"),
        (r"[^\w\s]", "a, b! 中。"),
        (r"(?<=x)y|z$", "xy yz"),
        (r"", "ab"),
        (r"[[]a]", "[a] a]"),
        (r"答案[:：]\s*(\S+)", "答案：北京 答案: 上海"),
    ],
)
def test_matches_are_those_of_python(pattern: str, text: str) -> None:
    assert timed(pattern).findall(text) == re.compile(pattern).findall(text)
    assert timed(pattern).sub("_", text) == re.sub(pattern, "_", text)


def test_what_python_refuses_is_refused() -> None:
    with pytest.raises(re.error):
        timed("(")
