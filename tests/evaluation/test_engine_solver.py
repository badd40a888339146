"""Which way a model answers a task, and the sentence where it cannot."""

from pathlib import Path

import pytest
from fake_runtime import FakeRuntime
from small_tasks import model, scored, small_task, tokenizer, without_prompt

from lmtasks.engine.engine import Engine
from lmtasks.errors import UsageError
from lmtasks.evaluation.engine_solver import EngineSolver, match_labels
from lmtasks.records import HeadSpec

OWN = HeadSpec(name="own", kind="classification", labels=("NEGATIVE", "POSITIVE"), pooling="own")
LABELS = ("negative", "positive")


@pytest.mark.parametrize(
    ("head", "names", "order"),
    [
        (("negative", "positive"), {}, (0, 1)),
        (("POSITIVE", "NEGATIVE"), {}, (1, 0)),
        (("LABEL_0", "LABEL_1"), {"LABEL_0": "positive", "LABEL_1": "Negative"}, (1, 0)),
    ],
)
def test_labels_are_matched_by_name(head: tuple[str, ...], names: dict[str, str], order: tuple[int, ...]) -> None:
    assert match_labels(head, LABELS, names=names) == (order, "")


@pytest.mark.parametrize(
    ("head", "sentence"),
    [
        (("LABEL_0", "LABEL_1"), "say which is which, as LABEL_0=negative"),
        (("negative", "neutral", "positive"), "the same number of labels"),
        (("negative", "NEGATIVE"), "say which is which"),
    ],
)
def test_what_does_not_match_is_explained(head: tuple[str, ...], sentence: str) -> None:
    order, why_not = match_labels(head, LABELS)
    assert order == ()
    assert sentence in why_not


def test_a_checkpoints_own_head_is_used_where_its_labels_match(tmp_path: Path) -> None:
    task = small_task(tmp_path, "classification")
    solver = model(OWN, kind="encoder")
    assert "NEGATIVE, POSITIVE, the task's are bad, good" in solver.why_not(task, way="auto")
    runtime = FakeRuntime(vocabulary=tokenizer().vocabulary, kind="encoder", heads=(OWN,))
    named = EngineSolver(Engine(runtime, tokenizer()), label_names={"negative": "bad", "NEGATIVE": "bad"})
    assert "say which is which" in named.why_not(task, way="auto")
    both = EngineSolver(Engine(runtime, tokenizer()), label_names={"NEGATIVE": "bad", "POSITIVE": "good"})
    assert both.why_not(task, way="auto") == ""
    assert scored(both, task).conditions["prompt_way"] == "head"


def test_a_causal_model_with_an_unfitting_own_head_is_prompted_unless_a_head_is_asked_for(tmp_path: Path) -> None:
    task = small_task(tmp_path, "classification")
    solver = model(OWN)
    assert solver.way(task, way="auto") == "prompt"
    assert "does not fit task classification" in solver.why_not(task, way="head")


def test_a_head_named_for_the_task_must_fit(tmp_path: Path) -> None:
    task = small_task(tmp_path, "classification")
    assert "does not fit" in model(HeadSpec(name="classification", kind="classification", labels=("a", "b"))).why_not(
        task, way="auto"
    )
    assert "cannot be answered by a span head" in model(HeadSpec(name="classification", kind="span")).why_not(
        task, way="auto"
    )


def test_ways_that_are_not_there(tmp_path: Path) -> None:
    task = small_task(tmp_path, "classification")
    other = HeadSpec(name="topic", kind="classification", labels=("bad", "good"))
    assert model(other).way(task, way="auto") == "prompt"
    assert model(other).why_not(task, way="head") == "fake has no head for classification; its heads: topic."
    assert "is an encoder" in model(other, kind="encoder").why_not(task, way="auto")
    assert "is an encoder" in model(kind="encoder").why_not(task, way="prompt")
    assert "no doc_to_text" in model().why_not(without_prompt(task), way="auto")
    with pytest.raises(UsageError, match="is an encoder"):
        scored(model(kind="encoder"), task)
