"""Filters, repeats and a task's own code; and all of it computed again from stored samples."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_tasks import SENTENCES, model, small_task

from lmtasks.errors import UsageError
from lmtasks.evaluation.evaluate import TaskResult, evaluate
from lmtasks.evaluation.groups import group_results
from lmtasks.evaluation.prepare import EvalOptions
from lmtasks.evaluation.samples import KeptSamples, sample_files
from lmtasks.evaluation.write import read_results, samples_file, write_results
from lmtasks.records import Json
from lmtasks.settings.data import DataAccess
from lmtasks.task.groups import Group, GroupMetric
from lmtasks.task.load import load_task
from lmtasks.task.task import MetricUse, Task
from lmtasks.workflow.rescore import Rescoring, rescore

TWO_FILTERS = """
filter_list:
  - {name: none, filter: [{function: take_first}]}
  - {name: letter, filter: [{function: regex, regex_pattern: "([a-z])"}, {function: take_first}]}
"""
CODE = """
def keep(rows):
    return rows.filter(lambda row: "dog" not in row["en"])

def values(doc, results):
    return {"length": len(results[0]), "pair": (-float(len(doc["en"])), 2)}

def choices(doc, results):
    best = max(range(len(results)), key=lambda place: results[place][0])
    return {"mine": float(best == doc["right"])}
"""


def score(tasks: Sequence[Task]) -> tuple[TaskResult, ...]:
    return evaluate(solver=model(), tasks=tasks, options=EvalOptions(data=DataAccess(offline=True), resamples=20))


def stored(folder: Path, results: Sequence[TaskResult]) -> Path:
    solver = model()
    write_results(folder, results=results, model=solver.model, runtime=solver.card, machine={}, versions={})
    return folder


def with_code(folder: Path, name: str, more: str) -> Task:
    (folder / "own.py").write_text(CODE)
    small_task(folder, name)
    file = folder / f"{name}.yaml"
    file.write_text(file.read_text() + more)
    return load_task(file, trust_code=True)


def test_each_filter_has_its_metrics_and_the_default_adds_nothing(tmp_path: Path) -> None:
    (result,) = score([small_task(tmp_path, "generation", more=TWO_FILTERS)])
    assert list(result.metrics) == ["exact_match", "distinct_1", "exact_match,letter", "distinct_1,letter"]
    for sample in result.samples:
        filtered = sample["filtered"]
        assert isinstance(filtered, dict)
        letters = [letter for letter in str(sample["raw"]) if "a" <= letter <= "z"]
        assert filtered == {"none": sample["raw"], "letter": letters[0] if letters else "[invalid]"}
        assert sample["answer"] == filtered["none"]


def test_the_only_filter_adds_nothing(tmp_path: Path) -> None:
    steps = '[{function: regex, regex_pattern: "([a-z])"}, {function: take_first}]'
    more = f"filter_list: [{{name: letter, filter: {steps}}}]"
    (result,) = score([small_task(tmp_path, "generation", more=more)])
    assert list(result.metrics) == ["exact_match", "distinct_1"]
    assert all(len(str(sample["answer"])) in (1, len("[invalid]")) for sample in result.samples)


def test_repeats_are_drawn_apart_and_the_first_is_scored(tmp_path: Path) -> None:
    (once,) = score([small_task(tmp_path, "generation")])
    (thrice,) = score([small_task(tmp_path, "generation", more="repeats: 3")])
    texts = [sample["raw"] for sample in thrice.samples]
    assert all(isinstance(each, list) and len(each) == 3 for each in texts)
    assert len({text for each in texts if isinstance(each, list) for text in each}) > len(texts)
    assert [sample["answer"] for sample in thrice.samples] == [each[0] for each in texts if isinstance(each, list)]
    assert once.samples[0]["raw"] == texts[0][0]  # type: ignore[index]  # the first draw of the first row is the same


def test_a_tasks_own_code_makes_rows_and_values(tmp_path: Path) -> None:
    more = """
process_docs: !function own.keep
process_results: !function own.values
"""
    task = with_code(tmp_path, "generation", more)
    task = replace(
        task,
        metrics=(
            MetricUse(name="length", aggregation="mean", higher_is_better=False),
            MetricUse(name="pair", aggregation="weighted_perplexity"),
        ),
    )
    (result,) = score([task])
    kept = [row for row in SENTENCES if "dog" not in str(row["en"])]
    assert [sample["doc"] for sample in result.samples] == kept
    lengths = [len(str(sample["raw"])) for sample in result.samples]
    assert result.metrics["length"].value == pytest.approx(np.mean(lengths))
    assert result.metrics["length"].higher_is_better is False
    characters = sum(len(str(row["en"])) for row in kept)
    assert result.metrics["pair"].value == pytest.approx(np.exp(characters / (2 * len(kept))))


def test_code_is_handed_log_probabilities_of_choices(tmp_path: Path) -> None:
    task = with_code(tmp_path, "multiple_choice", "process_results: !function own.choices\n")
    (plain,) = score([small_task(tmp_path, "multiple_choice")])
    (result,) = score([replace(task, metrics=(MetricUse(name="mine"),))])
    assert result.metrics["mine"].value == plain.metrics["acc"].value


@pytest.mark.parametrize("name", ["multiple_choice", "generation", "language_modelling", "last_words", "span"])
def test_samples_hold_what_metrics_are_computed_from(name: str, tmp_path: Path) -> None:
    more = TWO_FILTERS if name == "generation" else ""
    results = score([small_task(tmp_path, name, more=more)])
    out = read_results(stored(tmp_path / "out", results))
    for tasks in ((), (small_task(tmp_path, name, more=more),)):
        kept = KeptSamples()
        (again,) = rescore(out, Rescoring(tasks=tasks, resamples=20), samples=kept)
        assert again.metrics == results[0].metrics
        assert again.conditions == json.loads(json.dumps(results[0].conditions))
        assert tuple(kept.of[name]) == results[0].samples


def test_new_metrics_and_changed_filters_need_no_model(tmp_path: Path) -> None:
    (first,) = score([small_task(tmp_path, "generation")])
    out = read_results(stored(tmp_path / "out", [first]))
    (other,) = rescore(out, Rescoring(metrics=("chrf", "repetition"), resamples=20), samples=KeptSamples())
    assert list(other.metrics) == ["chrf", "repetition"]
    changed = small_task(tmp_path, "generation", more=TWO_FILTERS)
    (filtered,) = rescore(out, Rescoring(tasks=(changed,), resamples=20), samples=KeptSamples())
    (asked,) = score([changed])
    assert filtered.metrics == asked.metrics


def test_samples_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    task = small_task(tmp_path, "multiple_choice")
    folder = stored(tmp_path / "out", score([task]))
    other = small_task(tmp_path, "multiple_choice", more='description: "Look: "')
    with pytest.raises(UsageError, match="asks something else than the samples"):
        rescore(read_results(folder), Rescoring(tasks=(other,)), samples=KeptSamples())
    with pytest.raises(UsageError, match="bleu scores text"):
        rescore(read_results(folder), Rescoring(metrics=("bleu",)), samples=KeptSamples())
    file = folder / "samples-multiple_choice.jsonl"
    lines = file.read_text().splitlines()
    file.write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(UsageError, match="holds 7 samples of multiple_choice, but 8 rows were scored"):
        rescore(read_results(folder), Rescoring(), samples=KeptSamples())
    changed = {**json.loads(lines[0]), "prompt": "What else?"}
    file.write_text("\n".join([json.dumps(changed), *lines[1:]]) + "\n")
    with pytest.raises(UsageError, match=r"sample 0 of multiple_choice in .* does not fit its hash"):
        rescore(read_results(folder), Rescoring(), samples=KeptSamples())


def test_clusters_widen_the_error(tmp_path: Path) -> None:
    task = small_task(tmp_path, "multiple_choice")
    (alone,) = score([task])
    (clustered,) = score([replace(task, cluster="right")])
    assert clustered.metrics["acc"].value == alone.metrics["acc"].value
    assert clustered.metrics["acc"].stderr != alone.metrics["acc"].stderr
    with pytest.raises(UsageError, match=r"cluster column 'passage' is not in the data. Columns: q, options, right"):
        score([replace(task, cluster="passage")])


def test_groups_weigh_by_size_or_not(tmp_path: Path) -> None:
    results = score([small_task(tmp_path, name) for name in ("multiple_choice", "classification")])
    a, b = (result.metrics["acc"] for result in results)
    inner = Group(name="inner", alias="inner", members=("classification",), aggregations=(GroupMetric(metric="acc"),))
    micro = Group(
        name="all", alias="All", members=("multiple_choice", inner),
        aggregations=(GroupMetric(metric="acc"), GroupMetric(metric="acc_norm", weight_by_size=False)),
    )  # fmt: skip
    found = group_results([micro], results)
    assert list(found) == ["all", "inner"]
    assert (found["all"].alias, found["all"].n) == ("All", 28)
    metrics = found["all"].metrics
    assert metrics["acc"].value == pytest.approx((8 * a.value + 20 * b.value) / 28)
    pooled = (7 * 8 * (a.stderr or 0) ** 2 + 19 * 20 * (b.stderr or 0) ** 2) / 26 / 28
    assert metrics["acc"].stderr == pytest.approx(np.sqrt(pooled))
    assert metrics["acc_norm"].tasks == ("multiple_choice",)
    assert metrics["acc_norm"].value == results[0].metrics["acc_norm"].value


def test_the_mean_of_first_metrics_is_over_one_scale(tmp_path: Path) -> None:
    results = score([small_task(tmp_path, name) for name in ("multiple_choice", "classification")])
    first = [next(iter(result.metrics.values())) for result in results]
    points = replace(first[1], value=100 * first[1].value, stderr=100 * (first[1].stderr or 0), scale="points")
    loss = replace(first[1], higher_is_better=False)
    raw = replace(first[1], scale="raw")
    group = Group(
        name="all", alias="All", members=("multiple_choice", "classification", "lower", "raw"),
        aggregations=(GroupMetric(metric="main", weight_by_size=False),),
    )  # fmt: skip
    given = [
        results[0],
        replace(results[1], metrics={"bleu": points}),
        replace(results[1], task="lower", metrics={"wer": loss}),
        replace(results[1], task="raw", metrics={"token_perplexity": raw}),
    ]
    total = group_results([group], given)["all"].metrics["main"]
    assert total.tasks == ("multiple_choice", "classification")
    assert total.value == pytest.approx((first[0].value + first[1].value) / 2)
    assert total.stderr == pytest.approx(np.hypot(first[0].stderr or 0, first[1].stderr or 0) / 2)
    assert total.ci95 == pytest.approx((total.value - 1.96 * total.stderr, total.value + 1.96 * total.stderr))


def test_streamed_samples_are_the_kept_ones(tmp_path: Path) -> None:
    task = small_task(tmp_path, "multiple_choice")
    (kept,) = score([task])
    out = tmp_path / "out"
    options = EvalOptions(data=DataAccess(offline=True), resamples=20)
    with sample_files(out, name=samples_file) as files:
        results = evaluate(solver=model(), tasks=[task], options=options, samples=files)
        assert (out / "samples-multiple_choice.jsonl.part").is_file()
        solver = model()
        write_results(
            out, results=results, model=solver.model, runtime=solver.card, machine={}, versions={}, samples=files
        )
    assert sorted(file.name for file in out.iterdir()) == [
        "results.json", "samples-multiple_choice.jsonl", "statistics.json",
    ]  # fmt: skip
    lines: list[Json] = [json.loads(line) for line in (out / "samples-multiple_choice.jsonl").read_text().splitlines()]
    assert tuple(lines) == kept.samples
    with sample_files(tmp_path / "other", name=samples_file) as files:
        files.add("x", lines)
    assert list((tmp_path / "other").iterdir()) == []
