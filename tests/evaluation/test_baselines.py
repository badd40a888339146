"""Answers that need no language model."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from small_tasks import CHOICES, SENTENCES, scored, small_task

from lmtasks.errors import UsageError
from lmtasks.evaluation import baseline_trivial
from lmtasks.evaluation.baseline_trivial import first_sentences
from lmtasks.evaluation.baselines import BASELINES, BaselineSolver
from lmtasks.task.kinds import KINDS
from lmtasks.task.task import MetricUse


def test_majority_scores_the_classs_share(tmp_path: Path) -> None:
    result = scored(BaselineSolver("majority"), small_task(tmp_path, "classification"))
    assert {sample["answer"] for sample in result.samples} == {"good"}
    assert result.metrics["acc"].value == 0.5
    assert result.conditions["prompt_way"] == "baseline"
    assert result.conditions["train_fingerprint"] is not None


def test_majority_of_choices_is_a_number(tmp_path: Path) -> None:
    result = scored(BaselineSolver("majority"), small_task(tmp_path, "multiple_choice"))
    # Right in the training rows: 0, 1, 2, 0, 1, less one row that is kept for validation.
    assert {sample["answer"] for sample in result.samples} <= {"sat", "ran off fast"}
    assert len({sample["answer"] for sample in result.samples}) == 1


def test_random_is_drawn_by_seed_and_row_and_by_nothing_else(tmp_path: Path) -> None:
    task = small_task(tmp_path, "classification")
    rows = [{"text": f"text {number}", "label": "good"} for number in range(600)]
    drawn = [answer.answer for answer in baseline_trivial.random_label(task, (), 1)(rows)]
    parts = [
        *baseline_trivial.random_label(task, (), 1)(rows[300:]),
        *baseline_trivial.random_label(task, (), 1)(rows[:300]),
    ]
    assert [answer.answer for answer in parts] == drawn[300:] + drawn[:300]
    other = [answer.answer for answer in baseline_trivial.random_label(task, (), 2)(rows)]
    same = sum(one == two for one, two in zip(drawn, other, strict=True))
    # 600 fair coins: the share lies within 0.5 +- 0.08 but for one time in ten thousand.
    assert all(252 <= count <= 348 for count in (drawn.count("good"), same))


def test_random_is_near_chance_and_keyed_by_row(tmp_path: Path) -> None:
    task = small_task(tmp_path, "multiple_choice")
    result = scored(BaselineSolver("random"), task)
    part = scored(BaselineSolver("random"), task, limit=3)
    assert [each["answer"] for each in part.samples] == [each["answer"] for each in result.samples[:3]]
    assert len({sample["answer"] for sample in result.samples}) > 1
    assert result.metrics["acc"].value == result.metrics["acc_norm"].value


def test_longest_choice(tmp_path: Path) -> None:
    result = scored(BaselineSolver("longest-choice"), small_task(tmp_path, "multiple_choice"))
    assert {sample["answer"] for sample in result.samples} == {"ran off fast"}
    assert result.metrics["acc"].value == sum(row["right"] == 1 for row in CHOICES) / len(CHOICES)


@pytest.mark.parametrize("name", ["majority", "random", "longest-choice"])
def test_every_metric_of_a_choice_is_told_of_the_same_one(name: str, tmp_path: Path) -> None:
    metrics = tuple(MetricUse(name=metric) for metric in ("acc", "acc_norm", "acc_bytes", "acc_mutual_info"))
    task = replace(small_task(tmp_path, "multiple_choice"), metrics=metrics)
    result = scored(BaselineSolver(name), task)
    assert len({result.metrics[metric.name].value for metric in metrics}) == 1


def test_copy_and_lead_3_and_empty(tmp_path: Path) -> None:
    task = small_task(tmp_path, "summarization")
    copied = scored(BaselineSolver("copy"), task)
    assert [sample["answer"] for sample in copied.samples] == [row["en"] for row in SENTENCES]
    assert copied.metrics["rouge1"].value == 100.0
    lead = scored(BaselineSolver("lead-3"), task)
    assert lead.samples[0]["answer"] == "The the is here. It sat. Why?"
    assert scored(BaselineSolver("empty"), task).metrics["rouge1"].value == 0.0
    spans = scored(BaselineSolver("empty"), small_task(tmp_path, "span"))
    assert spans.metrics["squad_em"].value == 0.25


def test_tfidf_beats_majority(tmp_path: Path) -> None:
    task = small_task(tmp_path, "classification")
    result = scored(BaselineSolver("tfidf"), task)
    assert result.metrics["acc"].value == 1.0
    chinese = scored(BaselineSolver("tfidf"), replace(task, language="zh"))
    assert chinese.metrics["acc"].value == 1.0


def test_tfidf_knows_labels_that_training_lacks(tmp_path: Path) -> None:
    task = replace(small_task(tmp_path, "classification"), labels=("bad", "fair", "good"))
    result = scored(BaselineSolver("tfidf"), task)
    assert Counter(str(sample["answer"]) for sample in result.samples) == {"bad": 10, "good": 10}


def test_tfidf_needs_two_labels(tmp_path: Path) -> None:
    task = small_task(tmp_path, "classification")
    (tmp_path / "classification-train.jsonl").write_text('{"text": "a b", "label": "good"}\n' * 9)
    with pytest.raises(UsageError, match="at least two labels"):
        scored(BaselineSolver("tfidf"), task)


def test_what_a_baseline_does_not_answer_is_a_sentence(tmp_path: Path) -> None:
    task = small_task(tmp_path, "classification")
    assert BaselineSolver("copy").why_not(task, way="auto") == (
        "copy does not answer classification tasks: it answers translation, summarization and generation; "
        "majority, random, tfidf, svm, naive-bayes and nearest do."
    )
    assert BaselineSolver("random").why_not(small_task(tmp_path, "summarization"), way="auto") == (
        "random does not answer summarization tasks: a text that is drawn at random is no floor; "
        "copy, lead-3, lead-chars, empty and nearest do."
    )
    assert BaselineSolver("tfidf").why_not(small_task(tmp_path, "language_modelling"), way="auto") == (
        "tfidf does not answer language_modelling tasks: it answers classification, multi_label and minimal_pairs; "
        "ngram does."
    )
    assert "neither by head nor by prompt" in BaselineSolver("random").why_not(task, way="head")
    without = replace(task, sources={"test": task.sources["test"]})
    assert "learns from training data" in BaselineSolver("majority").why_not(without, way="auto")
    with pytest.raises(UsageError, match="copy does not answer"):
        scored(BaselineSolver("copy"), task)
    with pytest.raises(UsageError, match="did you mean 'majority'"):
        BaselineSolver("majorty")


def test_the_table_is_whole() -> None:
    trivial = {"majority", "mean", "random", "longest-choice", "copy", "lead-3", "lead-chars", "empty", "first-best"}
    trivial |= {"shared-words"}
    classical = {"tfidf", "svm", "naive-bayes", "ridge", "bm25", "nearest", "linear-tagger", "ngram", "reweighted"}
    classical |= {"tfidf-cosine"}
    assert set(BASELINES) == trivial | classical | {"oracle"}
    assert {kind for baseline in BASELINES.values() for kind in baseline.kinds} == set(KINDS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four.", "One. Two! Three?"),
        ("Only one", "Only one"),
        ("", ""),
        ("A: Hi\nB: Hello there. Bye.\nC: Off", "A: Hi\nB: Hello there. Bye."),
        ("“一。”二！三？四。", "“一。”二！三？"),
        ('He said "no." She left. It is 3.5 km. End.', 'He said "no." She left. It is 3.5 km.'),
    ],
)
def test_first_sentences(text: str, expected: str) -> None:
    assert first_sentences(text, count=3) == expected


def test_majority_counts_places_and_random_and_longest_look_at_choices_in_the_context(tmp_path: Path) -> None:
    task = small_task(tmp_path, "blanks")  # the choices stand in the question, as in Winogrande
    with_train = replace(task, sources={**task.sources, "train": task.sources["test"]})
    rows = [{"s": "The cat saw _ near", "a": "it", "b": "the mat", "n": number} for number in (1, 0, 1)]
    answers = baseline_trivial.majority_number(with_train, rows, 0)(rows)
    assert [answer.answer for answer in answers] == ["The cat saw the mat near"] * 3
    longest = baseline_trivial.longest_choice(task, (), 0)(rows)
    assert [answer.answer for answer in longest] == ["The cat saw the mat near"] * 3
    assert scored(BaselineSolver("longest-choice"), task).metrics["acc"].value == 0.5


def test_a_row_with_fewer_choices_gets_the_commonest_place_that_it_has(tmp_path: Path) -> None:
    task = small_task(tmp_path, "multiple_choice")
    train = [{"q": "x", "options": ["a", "b", "c"], "right": place} for place in (2, 2, 2, 1, 1, 0)]
    asked = [{"q": "y", "options": ["a", "b"], "right": 0}, {"q": "y", "options": ["a", "b", "c"], "right": 0}]
    answers = baseline_trivial.majority_number(task, train, 0)(asked)
    assert [answer.answer for answer in answers] == ["b", "c"]
