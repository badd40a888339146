"""N-best lists ranked again: weights from validation rows alone, rivals, bounds, and lists that are wrong."""

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from small_tasks import LISTS, model, scored, small_task

from lmtasks.data.splits import load_task_data
from lmtasks.errors import UsageError
from lmtasks.evaluation.baselines import BASELINES, BaselineSolver
from lmtasks.evaluation.evaluate import TaskResult, evaluate
from lmtasks.evaluation.prepare import EvalOptions
from lmtasks.evaluation.rescoring import ScoredList, choose_weights
from lmtasks.evaluation.rivals import RivalSolver, baseline_names
from lmtasks.metric import compare, make_metric, value_of
from lmtasks.records import Row, Text
from lmtasks.settings.data import DataAccess
from lmtasks.task.kinds.rescoring import Hypothesis
from lmtasks.task.load import load_task
from lmtasks.task.task import Task

TASK = """task: lists
kind: rescoring
dataset_path: json
dataset_kwargs: {{data_files: {{validation: v.jsonl, test: t.jsonl}}}}
validation_split: validation
test_split: test
inputs: {{hypotheses: heard, references: said}}
{more}
"""


def heard(*scored: tuple[str, float, float]) -> list[dict[str, object]]:
    return [{"text": text, "acoustic": acoustic, "language": language} for text, acoustic, language in scored]


def task_of(folder: Path, *, validation: Sequence[Row], test: Sequence[Row], more: str = "") -> Task:
    for name, rows in (("v", validation), ("t", test)):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    (folder / "lists.yaml").write_text(TASK.format(more=more), encoding="utf-8")
    return load_task(folder / "lists.yaml")


def test_a_model_and_all_baselines_answer_lists(tmp_path: Path) -> None:
    task = small_task(tmp_path, "rescoring")
    results = {name: scored(RivalSolver([name]), task) for name in ("first-best", "reweighted", "oracle")}
    mine = scored(model(), task)
    assert results["oracle"].metrics["wer"].value == 0  # every list holds what was said
    assert results["first-best"].metrics["wer"].value == pytest.approx(2 / 6)  # "cat hat on a mat"
    # The language scores of these lists rise with the place, so that the second or a worse one is chosen.
    assert mine.n == len(LISTS)
    (note,) = mine.notes
    assert note.startswith("weights chosen on 5 validation rows (there wer ")
    assert "acoustic 1" in note
    sample = mine.samples[0]
    assert len(sample["raw"]) == len(LISTS[0]["heard"])  # a log-probability for each hypothesis
    assert sample["answer"] in [each["text"] for each in LISTS[0]["heard"]]
    assert sample["target"] == LISTS[0]["said"]


def test_validation_rows_alone_choose_the_weights(tmp_path: Path) -> None:
    """On validation rows the acoustic score is right, on test rows the language score: it stays unused."""
    validation = [{"said": "a b", "heard": heard(("a b", -1.0, -9.0), ("c d", -5.0, -1.0))}] * 8
    test = [{"said": "a b", "heard": heard(("c d", -1.0, -9.0), ("a b", -5.0, -1.0))}] * 8
    result = scored(BaselineSolver("reweighted"), task_of(tmp_path, validation=validation, test=test))
    assert result.metrics["wer"].value == 1.0
    swapped = scored(BaselineSolver("reweighted"), task_of(tmp_path, validation=test, test=validation))
    assert swapped.metrics["wer"].value == 1.0
    same = scored(BaselineSolver("reweighted"), task_of(tmp_path, validation=test, test=test))
    assert same.metrics["wer"].value == 0.0


def lists_of(seed: int, *, count: int, language: bool = True) -> list[ScoredList]:
    draw = np.random.default_rng(seed)
    found = []
    for number in range(count):
        size = int(draw.integers(1, 7))
        texts = [" ".join(draw.choice(list("abc"), size=int(draw.integers(1, 5)))) for _ in range(size)]
        found.append(
            ScoredList(
                hypotheses=tuple(
                    Hypothesis(
                        text=text,
                        acoustic=float(draw.normal() * 20),
                        language=float(draw.normal()) if language else None,
                    )
                    for text in texts
                ),
                references=(texts[int(draw.integers(size))],),
                model=tuple(float(draw.normal() * 5) for _ in texts),
                where=f"row {number}",
            )
        )
    return found


def test_the_weights_have_the_value_that_they_say(tmp_path: Path) -> None:
    metric = make_metric("wer")
    for seed, language in product(range(5), (True, False)):
        lists = lists_of(seed, count=40, language=language)
        weights = choose_weights(lists, metric=metric)
        texts = [
            Text(references=each.references, prediction=each.hypotheses[weights.best(each)].text) for each in lists
        ]
        assert weights.value == pytest.approx(value_of(metric, metric.statistics(texts)))
        assert weights.value <= weights.first + 1e-12 or weights.value < 1.2 * weights.first
        assert language or weights.language == 0


def test_a_score_of_noise_alone_changes_little() -> None:
    """With many lists in which the acoustic score tells the right one, a random score gets next to no weight."""
    draw = np.random.default_rng(3)
    lists = []
    for number in range(200):
        right = int(draw.integers(3))
        hypotheses = tuple(
            Hypothesis(text=letter, acoustic=float(draw.normal() + 3 * (place == right)), language=float(draw.normal()))
            for place, letter in enumerate("abc")
        )
        lists.append(ScoredList(hypotheses=hypotheses, references=("abc"[right],), where=f"row {number}"))
    weights = choose_weights(lists, metric=make_metric("cer"))
    assert weights.value < 0.6 * weights.first
    assert weights.language < 0.5


def test_equal_scores_leave_the_first_and_the_scale_of_a_score_does_not_matter() -> None:
    flat = ScoredList(
        hypotheses=tuple(Hypothesis(text=text, acoustic=-3.0, language=None) for text in ("a", "b")),
        references=("b",),
        where="row 0",
    )
    weights = choose_weights([flat], metric=make_metric("wer"))
    assert weights.best(flat) == 0
    lists = lists_of(7, count=60)
    larger = [
        replace(each, hypotheses=tuple(replace(one, acoustic=one.acoustic * 1000) for one in each.hypotheses))
        for each in lists
    ]
    metric = make_metric("wer")
    one, other = choose_weights(lists, metric=metric), choose_weights(larger, metric=metric)
    assert [one.best(each) for each in lists] == [other.best(each) for each in larger]
    assert other.model == pytest.approx(1000 * one.model)


def test_a_systems_scores_are_paired_with_the_recognisers(tmp_path: Path) -> None:
    task = small_task(tmp_path, "rescoring")
    first, best = (scored(RivalSolver([name]), task) for name in ("first-best", "oracle"))
    result = compare(
        make_metric("wer"), first.statistics["wer"], best.statistics["wer"], resamples=200, seed=1, clusters=None
    )
    assert result.difference < 0


def test_chunks_do_not_matter(tmp_path: Path) -> None:
    task = small_task(tmp_path, "rescoring")
    options = EvalOptions(data=DataAccess(offline=True), resamples=20)

    def result(chunk: int) -> TaskResult:
        (found,) = evaluate(solver=model(), tasks=[task], options=options, chunk=chunk)
        return found

    small, large = result(2), result(10_000)
    np.testing.assert_array_equal(small.statistics["wer"], large.statistics["wer"])
    assert small.notes == large.notes


def test_rows_that_chose_the_weights_are_known(tmp_path: Path) -> None:
    """Five of the scored rows are the validation rows themselves."""
    result = scored(BaselineSolver("reweighted"), small_task(tmp_path, "rescoring"))
    assert result.overlap is not None
    assert result.overlap.chosen is not None
    assert result.overlap.chosen.rows == 5


def test_a_task_without_validation_rows_is_not_answered(tmp_path: Path) -> None:
    task = small_task(tmp_path, "rescoring")
    alone = replace(task, sources={"test": task.sources["test"]})
    assert "weights of its scores could be chosen on" in model().why_not(alone, way="auto")
    assert "has none" in BaselineSolver("reweighted").why_not(alone, way="auto")
    assert not BaselineSolver("first-best").why_not(alone, way="auto")


def test_the_oracle_is_no_rival() -> None:
    assert "oracle" not in baseline_names(["trivial", "classical"])
    assert "reweighted" in baseline_names(["classical"])
    with pytest.raises(UsageError, match="oracle has seen the right answers"):
        baseline_names(["oracle", "first-best"])
    assert BASELINES["oracle"].kinds == ("rescoring",)


GOOD = {"said": "a", "heard": heard(("a", -1.0, -2.0), ("b", -2.0, -1.0))}


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ({"said": "a", "heard": []}, r"row 1: 'heard' is an empty list"),
        ({"said": "a", "heard": "a b"}, r"row 1: 'heard' \(inputs.hypotheses\) must be a list"),
        ({"said": "a", "heard": ["a", "b"]}, r"row 1, hypothesis 0 has no scores"),
        ({"said": "a", "heard": [{"text": "a", "acoustic": -1.0}, {"text": "b"}]}, r"hypothesis 1 has no score 'acous"),
        ({"said": "a", "heard": [{"acoustic": -1.0}]}, r"row 1, hypothesis 0 has no text"),
        (
            {"said": "a", "heard": [{"text": "a", "acoustic": "loud"}]},
            r"the score 'acoustic' must be a number",
        ),
        (
            {"said": "a", "heard": [*heard(("a", -1.0, -2.0)), {"text": "b", "acoustic": -1.0}]},
            r"row 1, hypothesis 1 has no score 'language', and others",
        ),
        ({"said": "a", "heard": [{"text": "a", "acoustic": -1.0}]}, r"row 1: its hypotheses have no score 'language'"),
        ({"said": None, "heard": GOOD["heard"]}, r"row 1 has no reference: 'said' is empty"),
    ],
)
def test_a_wrong_list_is_told_with_its_row(tmp_path: Path, bad: Row, told: str) -> None:
    task = task_of(tmp_path, validation=[GOOD] * 3, test=[GOOD, bad])
    for solver in (BaselineSolver("reweighted"), model()):
        with pytest.raises(UsageError, match=told):
            scored(solver, task)
    validating = task_of(tmp_path, validation=[GOOD, bad], test=[GOOD])
    with pytest.raises(UsageError, match=told.replace("row 1", "validation row 1")):
        scored(BaselineSolver("reweighted"), validating)


def test_lists_may_differ_in_length_and_hold_silence(tmp_path: Path) -> None:
    rows = [GOOD, {"said": "a", "heard": heard(("", -1.0, -2.0))}, {"said": "b", "heard": [*GOOD["heard"]] * 5}]
    result = scored(model(), task_of(tmp_path, validation=rows, test=rows))
    assert result.n == 3
    assert result.samples[1]["answer"] == ""


def test_a_metric_of_the_tasks_own_code_chooses_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def score(doc, results):\n    return {'mine': 1.0}\n", encoding="utf-8")
    more = "process_results: !function mine.score\nmetric_list: [{metric: mine}]"
    with pytest.raises(UsageError, match="trust-code"):
        task_of(tmp_path, validation=[GOOD], test=[GOOD], more=more)
    task = load_task(tmp_path / "lists.yaml", trust_code=True)
    with pytest.raises(UsageError, match="name wer or cer first"):
        scored(BaselineSolver("reweighted"), task)


def test_the_task_needs_both_roles(tmp_path: Path) -> None:
    text = TASK.format(more="").replace(", references: said", "")
    (tmp_path / "lists.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match="references not given"):
        load_task(tmp_path / "lists.yaml")


def test_data_of_lists_is_read_as_it_stands(tmp_path: Path) -> None:
    task = small_task(tmp_path, "rescoring")
    data = load_task_data(task, options=DataAccess(offline=True), need=frozenset({"validation", "test"}))
    assert data.test is not None
    assert [row["heard"] for row in data.test.rows] == [row["heard"] for row in LISTS]


def test_chinese_lists_are_ranked_by_characters(tmp_path: Path) -> None:
    """The metric that a file does not name, the weights and the words that are counted go by characters."""
    right, wrong = "今天天气很好", "今天天汽很好"
    rows = [{"said": right, "heard": heard((wrong, -1.0, -9.0), (right, -1.5, -4.0))} for _ in range(6)]
    task = task_of(tmp_path, validation=rows, test=rows, more="language: zh")
    assert [use.name for use in task.metrics] == ["cer"]
    first, anew = scored(RivalSolver(["first-best"]), task), scored(BaselineSolver("reweighted"), task)
    assert first.metrics["cer"].value == pytest.approx(1 / 6)
    assert anew.metrics["cer"].value == 0
    assert scored(model(), task).n == 6
    english = task_of(tmp_path, validation=rows, test=rows)
    assert [use.name for use in english.metrics] == ["wer"]
