"""What a mean over all rows hides: questions with and without an answer, labels that are never answered."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lmtasks.evaluation.collector import (
    HAS_ANSWER,
    NO_ANSWER,
    CollectedStatistics,
    PartsCounter,
    StatisticsCollector,
    merge,
)
from lmtasks.evaluation.outcome import Answered
from lmtasks.evaluation.protocols import Finished, ScoredExample
from lmtasks.evaluation.samples import NoSamples
from lmtasks.records import Choice, ModelCard, Outcome, Text
from lmtasks.results.cell import CellRecord, TaskInfo, Variant
from lmtasks.results.scores import LabelCount, TaskScores
from lmtasks.settings.data import DataAccess
from lmtasks.settings.evaluation import ResultsOut
from lmtasks.workflow.choose_tasks import TaskRequest
from lmtasks.workflow.evaluate import EvalRequest, evaluate_models
from lmtasks.workflow.pairing import pair_cells
from lmtasks.workflow.report import records_of

LABELS = ("negative", "neutral", "positive")


def choice(right: int, answered: int) -> Choice:
    scores = [0.0, 0.0, 0.0]
    scores[answered] = 1.0
    return Choice(gold=(right,), scores=tuple(scores), chars=(1, 1, 1), bytes=(1, 1, 1))


def question(*references: str) -> Text:
    return Text(references=references, prediction="x")


def collected(outcomes: Sequence[tuple[int, Outcome]]) -> CollectedStatistics:
    tally = StatisticsCollector(
        task="t", scorings=[], cluster=None, samples=NoSamples(), parts=PartsCounter(labels=LABELS)
    )
    tally.take(
        [
            Finished(
                example=ScoredExample(doc_id=number, row={}),
                answered=Answered(outcome=outcome, prompt="", target=(), raw="", answer=""),
                truncated=False,
            )
            for number, outcome in outcomes
        ]
    )
    return tally.result()


def test_a_label_that_is_never_answered_is_counted() -> None:
    found = collected(list(enumerate([choice(0, 2), choice(2, 2), choice(0, 2), choice(2, 1)])))
    assert found.labels == {
        "negative": LabelCount(true=2, answered=0, right=0),
        "neutral": LabelCount(true=0, answered=1, right=0),
        "positive": LabelCount(true=2, answered=3, right=1),
    }
    assert found.parts is None


def test_questions_without_an_answer_are_a_part_of_their_own() -> None:
    found = collected([(0, question("a")), (1, question()), (2, question("b", "c"))])
    assert found.mixed_parts == (HAS_ANSWER, NO_ANSWER, HAS_ANSWER)
    assert collected([(0, question("a")), (1, question("b"))]).mixed_parts is None
    assert found.labels == {}


def test_several_processes_count_as_one_would() -> None:
    """Also where one of them saw questions with an answer alone."""
    spans = [collected([(0, question("a")), (2, question("b"))]), collected([(1, question())])]
    assert merge(spans, scorings=()).mixed_parts == (HAS_ANSWER, NO_ANSWER, HAS_ANSWER)
    labels = [collected([(0, choice(0, 2))]), collected([(1, choice(0, 0))])]
    assert merge(labels, scorings=()).labels["negative"] == LabelCount(true=2, answered=1, right=1)


def test_the_counts_are_stored_and_said(tmp_path: Path) -> None:
    request = EvalRequest(
        models=("majority", "tfidf"),
        tasks=TaskRequest(tasks="starter_topic_zh"),
        data=DataAccess(offline=True),
        output=ResultsOut(out=tmp_path),
    )
    evaluate_models(request, report=lambda _: None)
    cells = {cell.variant.name: cell for cell in records_of([tmp_path], name="n").cells}
    counts = cells["majority"].scores.labels
    (always,) = [label for label, count in counts.items() if count.answered]
    assert counts[always].answered == sum(count.true for count in counts.values()) == 75
    assert all(count.answered for count in cells["tfidf"].scores.labels.values())


def cell(variant: str, runtime: str, right: Sequence[int], parts: Sequence[str]) -> CellRecord:
    return CellRecord.model_validate(
        {
            "id": variant,
            "variant": Variant(name=variant, model="m", runtime=runtime, precision="fp32"),
            "task": TaskInfo(name="squad", kind="span", language="en"),
            "status": "done",
            "model": ModelCard(
                name="m",
                family="llama",
                kind="causal",
                adaptation="full",
                parameters=1,
                weights_hash="",
                tokenizer_hash="",
                max_length_tokens=1,
                vocabulary=1,
            ),
            "conditions": {"data_fingerprint": "f", "task_hash": "h"},
            "result": TaskScores.model_validate(
                {
                    "n": len(right),
                    "seconds": 0.0,
                    "seconds_total": 0.0,
                    "truncated": 0,
                    "metrics": {
                        "acc": {
                            "value": float(np.mean(right)),
                            "stderr": 0.01,
                            "ci95": (0.0, 1.0),
                            "higher_is_better": True,
                            "scale": "fraction",
                            "signature": "s",
                        }
                    },
                }
            ),
            "recipes": {
                "acc": {
                    "task": "squad",
                    "name": "acc",
                    "takes": "choice",
                    "language": "en",
                    "labels": [],
                    "options": {},
                }
            },
            "statistics": {"acc": [[float(each), 1.0] for each in right]},
            "parts": tuple(parts),
        }
    )


def test_parts_are_compared_by_themselves_where_the_whole_shows_nothing() -> None:
    """The export loses 12 of 40 questions with an answer and wins as many without one."""
    parts = [HAS_ANSWER] * 40 + [NO_ANSWER] * 40
    torch = [1] * 40 + [0] * 12 + [1] * 28
    onnx = [0] * 12 + [1] * 28 + [1] * 40
    cells = [cell("torch", "torch", torch, parts), cell("onnx", "onnx", onnx, parts)]
    made = pair_cells(cells, variants=["torch", "onnx"], tasks=["squad"], seed=1)
    (whole,) = [each for each in made.comparisons if each.relation == "parent"]
    assert (whole.difference, whole.verdict, whole.part) == (0.0, "open", "")
    found = {each.part: each for each in made.parts if each.relation == "parent"}
    assert {part: (round(each.difference, 9), each.verdict, each.n) for part, each in found.items()} == {
        HAS_ANSWER: (-30.0, "worse", 40),
        NO_ANSWER: (30.0, "better", 40),
    }
