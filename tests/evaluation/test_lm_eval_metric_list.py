"""`metric_list` scores what lm-evaluation-harness 0.4.13 makes of it: its own values, for options, aggregations, pairs.

`lm_eval_metric_list.py` made the golden values with the harness itself; the JSON says with which version.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from lmtasks.evaluation.collector import CollectedStatistics, StatisticsCollector, UnlistedValues, with_values
from lmtasks.evaluation.filtering import with_filters
from lmtasks.evaluation.outcome import Answered, answered_choice, answered_likelihood, answered_text
from lmtasks.evaluation.protocols import Finished, ScoredExample
from lmtasks.evaluation.samples import NoSamples
from lmtasks.evaluation.scoring import TaskMetric, scorings_for
from lmtasks.metric import compare, estimate
from lmtasks.records import Choice, Likelihood, Row
from lmtasks.task import Task, build_prompt, load_task

GOLDEN = json.loads((Path(__file__).parent / "lm_eval_0_4_13_metric_list.json").read_text(encoding="utf-8"))
CASES = {case["name"]: case for case in GOLDEN["cases"]}


def _task(folder: Path, text: str) -> Task:
    (folder / "utils.py").write_text(GOLDEN["utils"], encoding="utf-8")
    file = folder / "task.yaml"
    file.write_text(text, encoding="utf-8")
    return load_task(file, trust_code=True)


def _answered(task: Task, row: Row, said: object) -> Answered:
    prompt = build_prompt(task, row)
    if isinstance(said, str):
        return answered_text(said, prediction=said, prompt=prompt.context, references=prompt.references, source="")
    if task.output_type == "multiple_choice" and isinstance(said, list):
        choice = Choice(
            gold=prompt.gold,
            scores=tuple(logprob for logprob, _ in said),
            greedy=tuple(greedy for _, greedy in said),
            chars=tuple(map(len, prompt.choices)),
            bytes=tuple(len(choice.encode()) for choice in prompt.choices),
        )
        return answered_choice(choice, prompt=prompt.context, choices=prompt.choices)
    logprob, greedy = said if isinstance(said, list) else (said, False)
    text = prompt.target
    words, size = len(text.split(" ")), len(text.encode())
    outcome = Likelihood(logprob=logprob, tokens=1, words=words, bytes=size, greedy=greedy)
    return answered_likelihood(outcome, prompt=prompt.context, text=text)


def _finished(task: Task, case: Mapping[str, Sequence[object]]) -> list[Finished]:
    made: list[Finished] = []
    for number, (row, said) in enumerate(zip(case["rows"], case["said"], strict=True)):
        assert isinstance(row, dict)
        example, answered = ScoredExample(doc_id=number, row=row), _answered(task, row, said)
        if isinstance(said, str):
            answered = with_filters(task, answered, example=example, texts=[said], trained=False)
        made.append(Finished(example=example, answered=answered, truncated=False))
    return made


def _tallied(task: Task, finished: Sequence[Finished]) -> tuple[list[TaskMetric], CollectedStatistics]:
    tally = StatisticsCollector(
        task=task.name,
        scorings=list(scorings_for(task)),
        cluster=None,
        samples=NoSamples(),
        unlisted=UnlistedValues(task=task),
    )
    for start in range(0, len(finished), 3):
        tally.take(finished[start : start + 3])
    tallied = tally.result()
    return with_values(tally.scorings, tallied.statistics, unlisted=tallied.unlisted)[0], tallied


@pytest.mark.parametrize("name", CASES)
def test_values_equal_those_of_lm_eval(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    task = _task(tmp_path, case["yaml"])
    scorings, tallied = _tallied(task, _finished(task, case))
    assert {scoring.name for scoring in scorings} == set(case["metrics"])
    for scoring in scorings:
        rows = tallied.statistics[scoring.name]
        found = estimate(scoring.metric, rows, draws="lm-eval", resamples=case["bootstrap_iters"])
        assert found.value == pytest.approx(case["metrics"][scoring.name], abs=1e-12), scoring.name
        if scoring.name in case["stderrs"]:
            assert found.stderr == pytest.approx(case["stderrs"][scoring.name], abs=1e-9), scoring.name


@pytest.mark.parametrize(
    "name", ["f1_of_three_classes_own_aggregation", "continuations_own_aggregation", "pairs_of_texts"]
)
def test_an_aggregation_of_pairs_has_an_interval_and_is_compared(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    task = _task(tmp_path, case["yaml"])
    finished = _finished(task, case)
    scorings, tallied = _tallied(task, finished)
    _, other = _tallied(task, [*finished[:4], *finished[:4]])
    for scoring in scorings:
        rows = tallied.statistics[scoring.name]
        found = estimate(scoring.metric, rows, resamples=50)
        low, high = found.ci95 or (1.0, 0.0)
        assert low <= found.value <= high, scoring.name
        compared = compare(scoring.metric, rows, other.statistics[scoring.name], resamples=50)
        assert compared.n == len(finished)
        assert 0 < compared.p_value <= 1, scoring.name
