"""Stored results compared: what is paired, what is refused and why, one family, the examples that differ."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_tasks import model, small_task

from lmtasks.errors import UsageError
from lmtasks.evaluation.comparing import compare_results, examples_that_differ
from lmtasks.evaluation.prepare import question_fields, question_hash
from lmtasks.evaluation.write import StoredResults, StoredTask
from lmtasks.metric import compare, estimate, holm, make_metric
from lmtasks.records import Floats, Json
from lmtasks.results.scores import ResultsRecord, TaskScores, TaskStatistics
from lmtasks.task.task import Task

SOLVER = model()
CONDITIONS: Json = {
    "task_hash": "t",
    "data_fingerprint": "d",
    "prompt_way": "prompt",
    "num_fewshot": 2,
    "shots_fingerprint": "s",
    "seed": 1,
    "limit": None,
    "decoding": {},
}


def stored(
    name: str, values: Floats, *, conditions: Json = CONDITIONS, metrics: tuple[str, ...] = ("acc",)
) -> StoredTask:
    rows = np.stack([values, np.ones_like(values)], axis=1)
    made = {metric: make_metric(metric, takes="choice") for metric in metrics}
    recipe = {"task": name, "takes": "choice", "language": "en", "labels": [], "options": {}}
    return StoredTask(
        name=name,
        scores=TaskScores(
            n=len(rows),
            seconds=1.0,
            seconds_total=1.0,
            truncated=0,
            metrics={metric: estimate(found, rows) for metric, found in made.items()},
            conditions=conditions,
        ),
        statistics=TaskStatistics(
            data_fingerprint="d",
            recipes={metric: {**recipe, "name": metric} for metric in made},
            statistics=dict.fromkeys(made, rows),
        ),
    )


def results(folder: str, *tasks: StoredTask) -> StoredResults:
    return StoredResults(
        folder=Path(folder),
        record=ResultsRecord(
            model=SOLVER.model,
            runtime=SOLVER.card,
            machine={},
            versions={},
            results={task.name: task.scores for task in tasks},
        ),
        tasks={task.name: task for task in tasks},
    )


def clustered(task: StoredTask, clusters: tuple[str, ...] | None) -> StoredTask:
    return replace(task, statistics=task.statistics.model_copy(update={"clusters": clusters}))


def shares(share: float, *, n: int = 200, seed: int = 0) -> Floats:
    return (np.random.default_rng(seed).random(n) < share).astype(float)


def test_every_metric_that_both_have_is_compared_and_counted_together() -> None:
    base = results("a", stored("one", shares(0.8), metrics=("acc", "acc_norm")), stored("two", shares(0.8)))
    weak = results("b", stored("one", shares(0.5, seed=1), metrics=("acc", "acc_norm")), stored("two", shares(0.8)))
    near = results("c", stored("two", shares(0.78, seed=2)))
    found = compare_results(base, [weak, near])
    names = [(str(each.other.folder), each.task, each.name) for each in found.comparisons]
    assert names == [("b", "one", "acc"), ("b", "one", "acc_norm"), ("b", "two", "acc"), ("c", "two", "acc")]
    assert [each.verdict for each in found.comparisons] == ["worse", "worse", "open", "open"]
    assert [each.p_adjusted for each in found.comparisons] == list(
        holm([each.result.p_value for each in found.comparisons])
    )
    alone = compare(
        make_metric("acc"), base.tasks["one"].statistics.tables["acc"], weak.tasks["one"].statistics.tables["acc"]
    )
    assert found.comparisons[0].result.p_value == alone.p_value
    assert "no example is right in one and wrong in the other" in found.comparisons[2].note
    assert found.comparisons[0].note == ""


def test_only_what_is_named_is_one_family() -> None:
    tasks = [stored(name, shares(0.7, seed=place)) for place, name in enumerate(("arc_a", "arc_b", "boolq"))]
    others = [stored(task.name, shares(0.6, seed=9)) for task in tasks]
    base, other = results("a", *tasks), results("b", *others)
    assert [each.task for each in compare_results(base, [other], only=["arc_*/acc"]).comparisons] == ["arc_a", "arc_b"]
    (sole,) = compare_results(base, [other], only=["boolq"]).comparisons
    assert sole.p_adjusted == sole.result.p_value
    with pytest.raises(UsageError, match=r"unknown task/metric 'bolq/acc'; did you mean 'boolq/acc'"):
        compare_results(base, [other], only=["bolq/acc"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"task_hash": "other"}, "another task file \\(t and other; condition task_hash"),
        ({"data_fingerprint": "other"}, "another data"),
        ({"num_fewshot": 0}, "another number of worked examples \\(2 and 0"),
        ({"shots_fingerprint": "other"}, "another pool of worked examples"),
        ({"seed": 2}, "another seed of the worked examples"),
        ({"fewshot_stream": "lm-eval"}, "another draw of worked examples \\(none and lm-eval"),
        ({"chat": {"system_instruction": "Be brief."}}, "another use of a chat template \\(none and set"),
    ],
)
def test_results_under_other_conditions_are_refused(change: Json, said: str) -> None:
    base = results("a", stored("one", shares(0.5)))
    other = results("b", stored("one", shares(0.5), conditions={**CONDITIONS, **change}))
    with pytest.raises(UsageError, match=f"one has {said}"):
        compare_results(base, [other])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"decoding": {"num_beams": 1}}, {"decoding": {"num_beams": 4}}),
        ({"prompt_way": "head", "num_fewshot": 0}, {"seed": 3}),  # a head reads no prompt
        ({"num_fewshot": 0, "seed": 1}, {"num_fewshot": 0, "seed": 2}),  # nothing is drawn
        ({"asked_hash": "x", "task_hash": "1"}, {"asked_hash": "x", "task_hash": "2"}),  # scored otherwise only
        ({"chat": {"template_hash": "1"}}, {"chat": {"template_hash": "2"}}),  # a model's own
    ],
)
def test_how_a_model_answers_may_differ(first: Mapping[str, object], second: Mapping[str, object]) -> None:
    base = results("a", stored("one", shares(0.5), conditions={**CONDITIONS, **first}))
    other = results("b", stored("one", shares(0.5), conditions={**CONDITIONS, **second}))
    assert len(compare_results(base, [other]).comparisons) == 1


def test_the_field_of_the_task_file_that_differs_is_named(tmp_path: Path) -> None:
    """From results to the sentence: both hold a hash of each field that says what is asked."""
    task = small_task(tmp_path, "classification")
    other = replace(task, fields={**task.fields, "doc_to_text": "{{text}}?"})
    base, changed = (
        results(name, stored("one", shares(0.5), conditions={**CONDITIONS, **_asked(each)}))
        for name, each in (("a", task), ("b", other))
    )
    said = r"one has another task file \(\w+ and \w+; condition asked_hash\) in doc_to_text\. "
    with pytest.raises(UsageError, match=said):
        compare_results(base, [changed])
    assert len(compare_results(base, [base]).comparisons) == 1


def _asked(task: Task) -> Json:
    return {"asked_hash": question_hash(task), "asked_fields": question_fields(task)}


def test_another_system_instruction_is_named() -> None:
    chats = [{"chat": {"system_instruction": text, "template_hash": text}} for text in ("Hi", "Ho")]
    base, other = (
        results(text, stored("one", shares(0.5), conditions={**CONDITIONS, **chat}))
        for text, chat in zip("ab", chats, strict=True)
    )
    with pytest.raises(UsageError, match=r"another system instruction \(Hi and Ho; condition chat.system_instruction"):
        compare_results(base, [other])


def test_another_signature_is_refused() -> None:
    base, other = results("a", stored("one", shares(0.5))), stored("one", shares(0.5))
    metrics = {"acc": replace(other.metrics["acc"], signature="answer:other")}
    changed = replace(other, scores=other.scores.model_copy(update={"metrics": metrics}))
    with pytest.raises(UsageError, match=r"acc of one has another signature \(answer:argmax and answer:other\)"):
        compare_results(base, [results("b", changed)])


def test_what_cannot_be_computed_again_is_said() -> None:
    task = stored("one", shares(0.5), metrics=("acc", "acc_norm"))
    recipes = task.statistics.recipes
    theirs = {**recipes, "acc": {**recipes["acc"], "name": "of_their_own"}}
    unknown = replace(task, statistics=task.statistics.model_copy(update={"recipes": theirs}))
    found = compare_results(results("a", unknown), [results("b", unknown)])
    assert [each.name for each in found.comparisons] == ["acc_norm"]
    assert len(found.left_out) == 1
    assert "of_their_own" in found.left_out[0]


def test_clusters_are_heeded() -> None:
    values = np.repeat(shares(0.6, n=40), 5), np.repeat(shares(0.7, n=40, seed=3), 5)
    clusters = tuple(str(number // 5) for number in range(200))
    apart, together = (
        compare_results(
            results("a", clustered(stored("one", values[0]), given)),
            [results("b", clustered(stored("one", values[1]), given))],
        ).comparisons[0]
        for given in (None, clusters)
    )
    assert together.result.p_value > apart.result.p_value
    assert together.result.difference == apart.result.difference


TEXT = {"kind": "text", "prediction": "", "source": ""}
SAMPLE = {"prompt": "", "target": "", "raw": "", "hash": "", "outcome": TEXT}
"""What every sample has besides, and a comparison does not look at."""


def test_examples_that_differ(tmp_path: Path) -> None:
    a, b = np.array([1.0, 0.0, 1.0, 1.0]), np.array([1.0, 1.0, 0.0, 1.0])
    folders = []
    for name, values in (("a", a), ("b", b)):
        (tmp_path / name).mkdir()
        lines = [
            {**SAMPLE, "doc_id": place, "doc": {"q": place}, "answer": f"{name}{place}", "metrics": {"acc": value}}
            for place, value in enumerate(values.tolist())
        ]
        (tmp_path / name / "samples-one.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        folders.append(results(str(tmp_path / name), stored("one", values)))
    base, other = folders
    (comparison,) = compare_results(base, [other]).comparisons
    found = examples_that_differ(base, comparison, count=5)
    assert [(each.doc_id, each.gain) for each in found] == [(1, 1.0), (2, -1.0)]
    assert (found[1].base.answer, found[1].other.answer) == ("a2", "b2")
    assert len(examples_that_differ(base, comparison, count=1)) == 1
    file = tmp_path / "b" / "samples-one.jsonl"
    file.write_text(file.read_text().replace('{"q": 2}', '{"q": 7}'))
    with pytest.raises(UsageError, match="sample 2 of one is of another row"):
        examples_that_differ(base, comparison, count=5)
    file.write_text(file.read_text().splitlines()[0] + "\n")
    with pytest.raises(UsageError, match="holds no sample 1 of one"):
        examples_that_differ(base, comparison, count=5)
    file.unlink()
    with pytest.raises(UsageError, match="no samples of one"):
        examples_that_differ(base, comparison, count=5)
