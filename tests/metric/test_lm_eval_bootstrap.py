"""Values and standard errors of lm-evaluation-harness 0.4.13, kept in `golden/aggregations.json` with their source."""

import json
import math
import random
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from lmtasks.metric import AGGREGATIONS, Metric, estimate, make_metric
from lmtasks.metric.interval import BOOTSTRAPPED, drawn_items, original_replicates
from lmtasks.records import Choice, CustomValues, Estimate, Likelihood, Outcome, Text

GOLDEN = json.loads((Path(__file__).parent / "golden" / "aggregations.json").read_text(encoding="utf-8"))[
    "aggregations"
]
NAMES = {"matthews_corrcoef": "mcc"}


def items(aggregation: str) -> list[object]:
    return [math.nan if item == "nan" else item for item in GOLDEN[aggregation]["items"]]


def theirs(metric: Metric, outcomes: list[Outcome], iters: str) -> Estimate:
    return estimate(metric, metric.statistics(outcomes), draws="lm-eval", resamples=int(iters))


def agrees(found: Estimate, aggregation: str, iters: str) -> None:
    golden = GOLDEN[aggregation]
    assert found.value == pytest.approx(golden["value"], rel=1e-9, abs=1e-12)
    if golden["stderr"][iters] is not None:
        assert found.stderr == pytest.approx(golden["stderr"][iters], rel=1e-9)


@pytest.mark.parametrize("iters", ["100", "2500"])
@pytest.mark.parametrize("aggregation", sorted(AGGREGATIONS))
def test_values_that_a_task_made(aggregation: str, iters: str) -> None:
    name = aggregation if aggregation in ("bleu", "chrf", "chrf++", "ter") else "mine"
    metric = make_metric(name, takes="made", aggregation=aggregation)
    outcomes: list[Outcome] = [CustomValues(values={name: item}) for item in items(aggregation)]
    agrees(theirs(metric, outcomes, iters), aggregation, iters)


def choice(gold: int, answer: int, classes: int) -> Choice:
    scores = tuple(-1.0 if place == answer else -2.0 for place in range(classes))
    return Choice(gold=(gold,), scores=scores, chars=(1,) * classes, bytes=(1,) * classes)


@pytest.mark.parametrize("iters", ["100", "2500"])
@pytest.mark.parametrize("aggregation", ["f1", "matthews_corrcoef", "perplexity", "bleu", "chrf", "chrf++", "ter"])
def test_our_own_outcomes(aggregation: str, iters: str) -> None:
    outcomes: list[Outcome] = []
    for item in items(aggregation):
        if aggregation == "perplexity":
            outcomes.append(Likelihood(logprob=float(str(item)), tokens=1, words=1, bytes=1))
        elif aggregation in ("f1", "matthews_corrcoef"):
            gold, answer = item if isinstance(item, list) else (0, 0)
            outcomes.append(choice(gold, answer, 2 if aggregation == "f1" else 4))
        else:
            gold, answer = item if isinstance(item, list) else ("", "")
            outcomes.append(Text(references=(gold,), prediction=answer))
    metric = make_metric(NAMES.get(aggregation, aggregation))
    assert metric.original == aggregation
    agrees(theirs(metric, outcomes, iters), aggregation, iters)


def test_the_stream_is_pythons() -> None:
    for chunk in (0, 1, 5, 99, 4321):
        stream = random.Random(chunk)
        expected = [stream.choices(range(37), k=37) for _ in range(5)]
        found = [row.tolist() for block in drawn_items(chunk, n=37, draws=5) for row in block]
        assert found == expected


def test_replicates_are_the_originals_one_by_one() -> None:
    """Its loop, written out: chunks of 1,000, what does not fill one is not drawn."""
    values = [0.3, -1.0, 2.5, 0.0, 4.0, 4.0, -3.0]
    metric = make_metric("mine", takes="made", aggregation="median")
    rows = metric.statistics([CustomValues(values={"mine": value}) for value in values])
    expected = [
        sorted(drawn)[len(drawn) // 2]
        for chunk in range(2)
        for stream in [random.Random(chunk)]
        for drawn in (stream.choices(values, k=7) for _ in range(1000))
    ]
    assert original_replicates(metric, rows, draws=2999).tolist() == expected


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.concatenate(list(islice(drawn_items(3, n=40, draws=30), 99)))
    monkeypatch.setattr("lmtasks.metric.interval.CELLS_AT_ONCE", 170)
    assert np.array_equal(np.concatenate(list(drawn_items(3, n=40, draws=30))), whole)


def test_without_a_number_there_are_as_many_draws_as_there() -> None:
    metric = make_metric("bleu")
    rows = np.repeat(np.ones((1, 10)), 3, axis=0)
    assert len(original_replicates(metric, rows, draws=100_000)) == 100  # capped by name
    assert metric.original in BOOTSTRAPPED
    assert len(original_replicates(make_metric("bleu_zh"), rows, draws=100)) == 0  # unknown there


def test_clusters_do_not_touch_its_standard_errors() -> None:
    for name in ("acc", "mcc"):
        metric = make_metric(name)
        rows = metric.statistics([choice(number % 2, number % 3 % 2, 2) for number in range(30)])
        clusters = [number // 3 for number in range(30)]
        plain = estimate(metric, rows, draws="lm-eval", resamples=100)
        assert estimate(metric, rows, draws="lm-eval", resamples=100, clusters=clusters) == plain


EXAMPLES = json.loads((Path(__file__).parent / "golden" / "examples.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("name", ["acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match"])
def test_choices_one_by_one(name: str, several: bool) -> None:
    golden = EXAMPLES["several_right" if several else "values"]
    if name not in golden[0]:
        return  # the original cannot score it
    outcomes: list[Outcome] = [
        Choice(
            gold=(document["gold"], 0) if several else (document["gold"],),
            scores=tuple(document["lls"]),
            chars=tuple(map(len, document["choices"])),
            bytes=tuple(len(each.encode("utf-8")) for each in document["choices"]),
            greedy=tuple(document["greedy"]),
            unconditional=tuple(document["bare"]),
        )
        for document in EXAMPLES["documents"]
    ]
    metric = make_metric(name, takes="choice")
    assert metric.per_example(metric.statistics(outcomes)).tolist() == [each[name] for each in golden]


@pytest.mark.parametrize("case", EXAMPLES["exact_match"], ids=lambda case: ",".join(case["options"]) or "none")
def test_exact_match_with_its_options(case: dict[str, object]) -> None:
    options = case["options"]
    assert isinstance(options, dict)
    metric = make_metric("exact_match", options=options)
    outcomes: list[Outcome] = [Text(references=(gold,), prediction=given) for given, gold in EXAMPLES["pairs"]]
    assert metric.per_example(metric.statistics(outcomes)).tolist() == case["values"]


def test_exact_match_with_several_references() -> None:
    metric = make_metric("exact_match", options={"ignore_case": True})
    outcomes: list[Outcome] = [
        Text(references=tuple(each["references"]), prediction=each["prediction"])
        for each in EXAMPLES["several_references"]
    ]
    expected = [each["values"]["exact_match"] for each in EXAMPLES["several_references"]]
    assert metric.per_example(metric.statistics(outcomes)).tolist() == expected
