"""wer and cer against jiwer's values (tests/metric/golden/error_rates.json), and what jiwer does not decide."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmtasks.errors import UsageError
from lmtasks.metric import estimate, make_metric, value_of
from lmtasks.metric.error_rate import edits
from lmtasks.records import Text

GOLDEN = json.loads((Path(__file__).parent / "golden" / "error_rates.json").read_text(encoding="utf-8"))


def outcomes(language: str) -> list[Text]:
    rows = [row for row in GOLDEN["rows"] if row["language"] == language]
    return [Text(references=(row["reference"],), prediction=row["prediction"]) for row in rows]


@pytest.mark.parametrize("name", ["wer", "cer"])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_values_are_jiwers_of_each_row_and_of_all(name: str, language: str) -> None:
    metric = make_metric(name, language=language)
    statistics = metric.statistics(outcomes(language))
    wanted = [row[name] for row in GOLDEN["rows"] if row["language"] == language]
    np.testing.assert_allclose(metric.per_example(statistics), wanted, atol=1e-12)
    assert value_of(metric, statistics) == pytest.approx(GOLDEN["corpus"][language][name], abs=1e-12)
    found = estimate(metric, statistics)
    assert found.ci95 is not None
    assert found.ci95[0] < found.value < found.ci95[1]
    assert not metric.higher_is_better


def plain_edits(wanted: str, given: str) -> int:
    """Levenshtein as in a textbook."""
    row = list(range(len(given) + 1))
    for number, one in enumerate(wanted, start=1):
        before, row[0] = row[0], number
        for place, other in enumerate(given, start=1):
            before, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, before + (one != other))
    return row[-1]


@given(st.text(alphabet="abcd", max_size=12), st.text(alphabet="abcd", max_size=12))
def test_edits_are_the_fewest(wanted: str, given: str) -> None:
    assert edits(wanted, given) == plain_edits(wanted, given)


def value(name: str, prediction: str, *references: str, **options: object) -> float:
    metric = make_metric(name, options=options)
    return value_of(metric, metric.statistics([Text(references=references, prediction=prediction)]))


def test_of_several_references_the_nearest_counts() -> None:
    assert value("wer", "a b c", "x y", "a b d") == pytest.approx(1 / 3)


def test_case_and_marks_count_unless_a_task_says_otherwise() -> None:
    assert value("wer", "He went, home", "he went home") == pytest.approx(2 / 3)
    assert value("wer", "He went, home", "he went home", ignore_case=True, ignore_punctuation=True) == 0
    assert value("cer", "你好，世界。", "你好世界", ignore_punctuation=True) == 0
    with pytest.raises(UsageError, match="ignore_case must be true or false"):
        value("wer", "a", "a", ignore_case="yes")
    with pytest.raises(UsageError, match="did you mean 'ignore_case'"):
        value("wer", "a", "a", ignore_cas=True)


def test_an_example_without_right_words_adds_its_edits_alone() -> None:
    metric = make_metric("wer")
    texts = [Text(references=("",), prediction="a b"), Text(references=("a b c d",), prediction="a b c d")]
    statistics = metric.statistics(texts)
    assert value_of(metric, statistics) == 0.5
    assert metric.per_example(statistics).tolist() == [2.0, 0.0]


def test_words_of_chinese_are_told_to_be_none() -> None:
    metric = make_metric("wer", language="zh")
    assert metric.remarks is not None
    (sentence,) = metric.remarks([Text(references=("今天天气很好",), prediction="今天")])
    assert "use cer" in sentence
