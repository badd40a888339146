"""`metric_list` scores what lm-evaluation-harness 0.4.13 makes of it: its own values, for options, aggregations, pairs.

`lm_eval_metric_list.py` made the golden values with the harness itself; the JSON says with which version.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from lmtasks.evaluation.scoring import Scoring, scorings_for
from lmtasks.metric import compare, estimate
from lmtasks.records import Choice, Likelihood, Outcome, Row, Text
from lmtasks.task import Task, build_prompt, load_task

GOLDEN = json.loads((Path(__file__).parent / "lm_eval_0_4_13_metric_list.json").read_text(encoding="utf-8"))
CASES = {case["name"]: case for case in GOLDEN["cases"]}


def _task(folder: Path, text: str) -> Task:
    (folder / "utils.py").write_text(GOLDEN["utils"], encoding="utf-8")
    file = folder / "task.yaml"
    file.write_text(text, encoding="utf-8")
    return load_task(file, trust_code=True)


def _outcome(task: Task, row: Row, said: object) -> Outcome:
    prompt = build_prompt(task, row)
    if isinstance(said, str):
        return Text(references=prompt.references, prediction=said)
    if task.output_type == "multiple_choice" and isinstance(said, list):
        return Choice(
            gold=prompt.gold,
            scores=tuple(logprob for logprob, _ in said),
            greedy=tuple(greedy for _, greedy in said),
            chars=tuple(map(len, prompt.choices)),
            bytes=tuple(len(choice.encode()) for choice in prompt.choices),
        )
    logprob, greedy = said if isinstance(said, list) else (said, False)
    text = prompt.target
    return Likelihood(logprob=logprob, tokens=1, words=len(text.split(" ")), bytes=len(text.encode()), greedy=greedy)


def _outcomes(task: Task, case: dict[str, list[object]]) -> Sequence[Outcome]:
    return [_outcome(task, row, said) for row, said in zip(case["rows"], case["said"], strict=True)]  # type: ignore[arg-type]


@pytest.mark.parametrize("name", CASES)
def test_values_equal_those_of_lm_eval(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    task = _task(tmp_path, case["yaml"])
    outcomes = _outcomes(task, case)
    scorings: Sequence[Scoring] = scorings_for(task, "prompt")
    assert {scoring.name for scoring in scorings} == set(case["metrics"])
    for scoring in scorings:
        rows = scoring.metric.statistics(outcomes)
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
    outcomes = _outcomes(task, case)
    for scoring in scorings_for(task, "prompt"):
        rows = scoring.metric.statistics(outcomes)
        other = scoring.metric.statistics([*outcomes[:4], *outcomes[:4]])
        found = estimate(scoring.metric, rows, resamples=50)
        low, high = found.ci95 or (1.0, 0.0)
        assert low <= found.value <= high, scoring.name
        compared = compare(scoring.metric, rows, other, resamples=50)
        assert compared.n == len(outcomes)
        assert 0 < compared.p_value <= 1, scoring.name
