"""Minimal pairs: what a language model prefers, how a classifier's answers differ, and the pairs themselves."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_tasks import model, scored, small_task

from lmtasks.engine.requests import ScoreRequest
from lmtasks.errors import UsageError
from lmtasks.evaluation.baselines import BaselineSolver
from lmtasks.evaluation.rivals import RivalSolver
from lmtasks.installation import shipped
from lmtasks.metric import compare, make_metric
from lmtasks.records import HeadSpec, softmax_log
from lmtasks.settings.data import DataAccess
from lmtasks.task.changes import PAIRS, changed, with_clean
from lmtasks.task.index import default_index

BIAS = shipped("tasks") / "bias"
GROUPS = ("gender", "names", "places", "age")
HEAD = HeadSpec(name="classification", kind="classification", labels=("good", "bad"))


def pairs_of(group: str, language: str) -> list[dict[str, str]]:
    text = (BIAS / f"{group}_{language}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_there_are_120_pairs_with_one_difference_each(language: str) -> None:
    rows = [row for group in GROUPS for row in pairs_of(group, language)]
    assert len(rows) == 120
    assert len({row["id"] for row in rows}) == 120
    texts = Counter(text for row in rows for text in (row["first"], row["second"]))
    assert max(texts.values()) == 1
    for row in rows:
        first, second = row["first"], row["second"]
        parts = (list(first), list(second)) if language == "zh" else (first.split(), second.split())
        ahead = next(place for place, (one, two) in enumerate(zip(*parts, strict=False)) if one != two)
        behind = next(
            (place for place, (one, two) in enumerate(zip(*map(reversed, parts), strict=False)) if one != two), 0
        )
        middle = [len(part) - ahead - behind for part in parts]
        assert 0 < max(middle) <= (5 if language == "zh" else 2), row["id"]


def test_a_language_model_prefers_the_likelier_text(tmp_path: Path) -> None:
    task = small_task(tmp_path, "minimal_pairs")
    solver = model()
    result = scored(solver, task)
    tokenizer = solver.engine.tokenizer
    values = []
    for sample in result.samples:
        row = sample["doc"]
        assert isinstance(row, dict)
        requests = [
            ScoreRequest(
                context_ids=(tokenizer.bos or tokenizer.eos or 0,), target_ids=tuple(tokenizer.encode(row[side]))
            )
            for side in ("first", "second")
        ]
        first, second = (each.logprob for each in solver.engine.score(requests, on_progress=None))
        assert sample["raw"] == pytest.approx([first, second])
        assert sample["answer"] == (row["second"] if second > first else row["first"])
        values.append((float(first > second) if first != second else 0.5, first - second))
    wanted = np.mean(values, axis=0)
    assert result.metrics["preference"].value == pytest.approx(wanted[0])
    assert result.metrics["preference_gap"].value == pytest.approx(wanted[1])
    assert result.metrics["preference_gap"].ci95 is not None


def test_a_classifier_is_asked_both_texts_by_its_own_head(tmp_path: Path) -> None:
    """Against its answers to single texts; the head's labels stand in another order than the task's."""
    task = small_task(tmp_path, "classification")
    asked = changed(task, "bias-names")
    solver = model(HEAD)
    result = scored(solver, asked)
    assert result.n == 30
    assert solver.way(asked, way="auto") == "head"
    assert result.overlap is not None
    assert result.overlap.seen == 0
    rows = [{"text": row[side], "label": "bad"} for row in pairs_of("names", "en") for side in ("first", "second")]
    file = tmp_path / "classification-test.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    single = scored(solver, task)
    scores = [np.exp(softmax_log(np.array(sample["raw"]))) for sample in single.samples]
    pairs = list(zip(scores[::2], scores[1::2], strict=True))
    wanted = {
        "label_gap": np.mean([p[-1] - q[-1] for p, q in pairs]),
        "distance": np.mean([np.abs(p - q).sum() / 2 for p, q in pairs]),
        "answers_differ": np.mean([p.argmax() != q.argmax() for p, q in pairs]),
    }
    assert {name: estimate.value for name, estimate in result.metrics.items()} == pytest.approx(wanted)
    (note,) = result.notes
    assert note.startswith("label_gap is of the label 'good'")


def test_a_prompted_model_and_baselines_are_asked_too(tmp_path: Path) -> None:
    task = changed(small_task(tmp_path, "classification"), "bias")
    prompted = scored(model(), task)
    assert model().way(task, way="auto") == "prompt"
    floor, nearest = scored(BaselineSolver("majority"), task), scored(RivalSolver(["nearest"]), task)
    assert (prompted.n, floor.n) == (120, 120)
    assert floor.metrics["label_gap"].value == floor.metrics["answers_differ"].value == 0
    assert nearest.metrics["distance"].value >= abs(nearest.metrics["label_gap"].value) - 1e-12
    metric = make_metric("distance", takes="made")
    result = compare(
        metric, floor.statistics["distance"], prompted.statistics["distance"], resamples=100, seed=1, clusters=None
    )
    assert result.difference >= 0


def test_a_classifier_with_a_bias_shows_it(tmp_path: Path) -> None:
    """Trained where men are good and women are bad."""
    rows = [
        {"text": f"the {who} {what} {number}", "label": label}
        for number in range(12)
        for who, label in (("man", "good"), ("woman", "bad"), ("boy", "good"), ("sister", "bad"))
        for what in ("sang", "left")
    ]
    task = small_task(tmp_path, "classification")
    (tmp_path / "classification-train.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
    )
    result = scored(BaselineSolver("tfidf"), changed(task, "bias-gender"))
    gap = result.metrics["label_gap"]
    assert gap.ci95 is not None
    assert gap.value > gap.ci95[0] > 0
    assert result.metrics["answers_differ"].value > 0


@pytest.mark.parametrize(
    ("name", "told"),
    [("span", "pairs are asked of classifiers of single texts"), ("language_modelling", "pairs are asked of")],
)
def test_what_is_no_classifier_is_told(tmp_path: Path, name: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        changed(small_task(tmp_path, name), "bias")


def test_languages_and_names_that_are_not_there_are_told(tmp_path: Path) -> None:
    task = small_task(tmp_path, "classification")
    with pytest.raises(UsageError, match="there are pairs in en and zh"):
        changed(replace(task, language="de"), "bias")
    with pytest.raises(UsageError, match="did you mean 'bias'"):
        changed(task, "bais")
    native = small_task(tmp_path, "minimal_pairs")
    assert "pairs are asked of a classifier as TASK@bias" in BaselineSolver("tfidf").why_not(native, way="auto")
    with pytest.raises(UsageError, match=r"inputs\.second"):
        scored(model(), replace(native, inputs={"first": "first", "second": "third"}))


def test_the_names_are_found_and_nothing_is_scored_beside_them() -> None:
    (task,) = default_index().find("starter_sentiment_zh@bias")
    assert task.kind == "minimal_pairs"
    assert with_clean([task]) == (task,)
    assert {each.groups for each in PAIRS.values()} == {GROUPS, *((group,) for group in GROUPS)}
    (group,) = default_index().find_groups("bias_en")
    assert group.tasks == tuple(f"bias_{name}_en" for name in GROUPS)


def test_worked_examples_stand_before_pairs_as_before_rows(tmp_path: Path) -> None:
    task = changed(small_task(tmp_path, "classification"), "bias-age")
    few = scored(model(max_length=200), task, way="prompt", shots=2)
    none = scored(model(max_length=200), task, way="prompt")
    assert few.n == none.n == 30
    prompts = few.samples[0]["prompt"]
    assert isinstance(prompts, list | tuple)
    assert all(str(prompt).count("Mood:") == 3 for prompt in prompts)
    assert few.metrics["distance"].value != none.metrics["distance"].value


def test_pairs_are_checked_as_they_are_asked() -> None:
    from lmtasks.workflow.split_check import CheckOptions
    from lmtasks.workflow.validate import check_task

    (task,) = default_index().find("starter_sentiment_en@bias")
    found = check_task(task, options=CheckOptions(data=DataAccess(offline=True)), report=lambda progress: None)
    assert [split.wrong for split in found.splits] == [0, 0]
