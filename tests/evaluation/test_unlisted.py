"""Values that a task's own code makes and no metric names, as lm-evaluation-harness 0.4.13 has them: their mean."""

import logging
from pathlib import Path

import numpy as np
import pytest
from small_tasks import model, small_task
from test_filters_and_code import score, stored

from lmtasks.errors import WorkError
from lmtasks.evaluation.baselines import BaselineSolver
from lmtasks.evaluation.collector import StatisticsCollector, UnlistedValues, merge
from lmtasks.evaluation.evaluate import TaskResult, evaluate
from lmtasks.evaluation.outcome import Answered
from lmtasks.evaluation.prepare import EvalOptions
from lmtasks.evaluation.protocols import Finished, ScoredExample
from lmtasks.evaluation.samples import KeptSamples, NoSamples
from lmtasks.evaluation.scoring import scorings_for
from lmtasks.evaluation.write import read_results
from lmtasks.records import CustomValues, Text
from lmtasks.settings.data import DataAccess
from lmtasks.task.load import load_task
from lmtasks.task.task import Task
from lmtasks.workflow.rescore import Rescoring, rescore

CODE = """
def values(doc, results):
    long = len(results[0]) % 2
    made = {"listed": 1.0, "length": len(results[0]), "said": "a word", "whole": bool(long)}
    if "sat is" in doc["en"]:
        made["late"] = 3
    return made

def nothing(doc, results):
    return {}
"""


def _task(folder: Path, more: str) -> Task:
    (folder / "own.py").write_text(CODE)
    small_task(folder, "generation")
    file = folder / "generation.yaml"
    kept = [line for line in file.read_text().splitlines() if not line.startswith("metrics:")]
    file.write_text("\n".join([*kept, more, ""]))
    return load_task(file, trust_code=True)


def _listed(folder: Path, names: str = "{metric: listed}") -> Task:
    return _task(folder, f"process_results: !function own.values\nmetric_list: [{names}]")


def test_their_means_are_scored_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="lmtasks"):
        (result,) = score([_listed(tmp_path)])
    assert list(result.metrics) == ["listed", "length", "whole", "late"]
    lengths = [len(str(sample["raw"])) for sample in result.samples]
    assert result.metrics["length"].value == pytest.approx(np.mean(lengths))
    assert result.metrics["late"].value == 3.0, "of the rows that have it"
    said = [record.getMessage() for record in caplog.records]
    assert any("its code makes length, whole, late, which no metric of it names; their means" in line for line in said)
    assert any("its code makes said, which no metric of it names and which are no numbers" in line for line in said)


def test_rows_before_the_first_value_have_none(tmp_path: Path) -> None:
    (whole,) = score([_listed(tmp_path)])
    (chunked,) = _in_chunks(_listed(tmp_path))
    assert chunked.metrics == whole.metrics
    assert np.array_equal(chunked.statistics["late"], whole.statistics["late"], equal_nan=True)


def test_they_are_computed_again_from_samples(tmp_path: Path) -> None:
    (result,) = score([_listed(tmp_path)])
    out = read_results(stored(tmp_path / "out", [result]))
    for tasks in ((), (_listed(tmp_path),)):
        (again,) = rescore(out, Rescoring(tasks=tasks, resamples=20), samples=KeptSamples())
        assert again.metrics == result.metrics


def test_a_metric_without_a_value_is_left_out(tmp_path: Path) -> None:
    (result,) = score([_listed(tmp_path, "{metric: listed}, {metric: never}")])
    assert "never" not in result.metrics
    assert result.refused == {"never": "the task's own code makes no value of never; it is left out."}
    with pytest.raises(WorkError, match="makes no value of exact_match, so there is nothing to score"):
        score([_task(tmp_path, "process_results: !function own.nothing")])


def test_processes_that_came_upon_other_values_agree(tmp_path: Path) -> None:
    task = _listed(tmp_path)

    def finished(number: int, values: dict[str, object]) -> Finished:
        text = Text(references=("a",), prediction="b")
        answered = Answered(
            outcome=text,
            prompt="",
            target=("a",),
            raw="b",
            answer="b",
            made={"": CustomValues(values={"listed": 1, **values})},
        )
        return Finished(example=ScoredExample(doc_id=number, row={}), answered=answered, truncated=False)

    tallies = []
    for numbers in ((0, 2), (1, 3)):
        tally = StatisticsCollector(
            task=task.name,
            scorings=list(scorings_for(task)),
            cluster=None,
            samples=NoSamples(),
            unlisted=UnlistedValues(task=task),
        )
        tally.take([finished(number, {"even" if number % 2 == 0 else "odd": number}) for number in numbers])
        tallies.append(tally)
    parts = [tally.result() for tally in tallies]
    for part in parts:
        tallies[0].add_unlisted(part.unlisted)
    merged = merge(parts, scorings=tallies[0].scorings)
    assert list(merged.statistics) == ["listed", "even", "odd"]
    assert np.isnan(merged.statistics["odd"][:, 0]).tolist() == [True, False, True, False]
    assert merged.statistics["even"][[0, 2], 0].tolist() == [0.0, 2.0]


def _in_chunks(task: Task) -> tuple[TaskResult, ...]:
    options = EvalOptions(data=DataAccess(offline=True), resamples=20)
    return evaluate(solver=model(), tasks=[task], options=options, chunk=1)


FUNCTIONS = """
def both(references, predictions, k=()):
    assert isinstance(predictions[0], str)
    return {f"shorter@{size}": float(len(predictions[0]) < size) for size in k}

def letters(references, predictions):
    return sum(map(len, predictions[0]))

def apart(answers, docs):
    return [[letter for text in each for letter in text] for each in answers]
"""


def test_a_metrics_own_function_may_name_its_values(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """humaneval's pass_at_k makes pass@1, pass@10, ...; lm-evaluation-harness reports them under these names."""
    (tmp_path / "functions.py").write_text(FUNCTIONS)
    task = _task(
        tmp_path, "metric_list: [{metric: !function functions.both, aggregation: mean, k: [2, 99]}, {metric: chrf}]"
    )
    with caplog.at_level(logging.WARNING, logger="lmtasks"):
        (result,) = score([task])
    assert set(result.metrics) == {"shorter@2", "shorter@99", "chrf"}
    assert result.metrics["shorter@99"].value == 1.0
    assert result.refused == {}
    assert not caplog.records, "the file asked for them"
    out = read_results(stored(tmp_path / "out", [result]))
    (tmp_path / "functions.py").unlink()
    (again,) = rescore(out, Rescoring(resamples=20), samples=KeptSamples())
    assert again.metrics == result.metrics, "the values stand in the samples"
    (other,) = rescore(out, Rescoring(metrics=("exact_match",), resamples=20), samples=KeptSamples())
    assert list(other.metrics) == ["exact_match"]


def test_a_metrics_own_function_gets_the_list_that_a_filter_leaves(tmp_path: Path) -> None:
    """As humaneval's does: it was handed the first of them, whose letters then passed for the list."""
    (tmp_path / "functions.py").write_text(FUNCTIONS)
    steps = "[{function: custom, filter_fn: !function functions.apart}]"
    task = _task(
        tmp_path,
        f"filter_list: [{{name: none, filter: {steps}}}]\n"
        "metric_list: [{metric: !function functions.letters, aggregation: mean}]",
    )
    (result,) = score([task])
    lengths = [len(str(sample["raw"])) for sample in result.samples]
    assert result.metrics["letters"].value == pytest.approx(np.mean(lengths))


@pytest.mark.parametrize(
    "more",
    [
        "metric_list: [{metric: !function functions.both, k: [2, 99]}]",
        "process_results: !function own.values\nmetric_list: [{metric: listed}]",
    ],
)
def test_baselines_are_scored_by_a_tasks_own_code(tmp_path: Path, more: str) -> None:
    (tmp_path / "functions.py").write_text(FUNCTIONS)
    options = EvalOptions(data=DataAccess(offline=True), resamples=20)
    (result,) = evaluate(solver=BaselineSolver("empty"), tasks=[_task(tmp_path, more)], options=options)
    found = {name: metric.value for name, metric in result.metrics.items()}
    assert found in (
        {"shorter@2": 1.0, "shorter@99": 1.0},
        {"listed": 1.0, "length": 0.0, "whole": 0.0, "late": 3.0},
    )
