"""What is counted before is what is asked later."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from fake_runtime import FakeRuntime
from small_tasks import TASKS, scored, small_task, tokenizer

from lmtasks.engine.engine import Engine, HeadRow
from lmtasks.engine.requests import Generated, GenerateRequest, OnProgress, Scored, ScoreRequest
from lmtasks.evaluation.engine_solver import EngineSolver
from lmtasks.records import Floats32, HeadSpec
from lmtasks.settings.data import DataAccess
from lmtasks.task.task import MetricUse, Task
from lmtasks.workflow.split_check import CheckOptions
from lmtasks.workflow.validate import TaskCheck, check_task

HEADS = {
    "classification": HeadSpec(name="classification", kind="classification", labels=("bad", "good")),
    "span": HeadSpec(name="span", kind="span"),
}


class Heard(Engine):
    """Remembers the lengths of what it is asked, cut to what its model takes."""

    def __init__(self, *, kind: str = "causal", heads: Sequence[HeadSpec] = (), max_length: int = 64) -> None:
        runtime = FakeRuntime(
            vocabulary=tokenizer().vocabulary, kind=kind, heads=heads, max_length=max_length, start=tokenizer().pad
        )
        super().__init__(runtime, tokenizer())  # type: ignore[arg-type]
        self.heard: list[int] = []

    def score(  # type: ignore[override]
        self, requests: Sequence[ScoreRequest], *, on_progress: OnProgress | None = None
    ) -> list[Scored]:
        longest = self.max_length_tokens
        for request in requests:
            context, target = len(request.context_ids), len(request.target_ids)
            self.heard.append(
                min(context, longest) + min(target, longest) if self._apart else min(context + target, longest + 1)
            )
        return super().score(requests, on_progress=on_progress)

    def generate(  # type: ignore[override]
        self, requests: Sequence[GenerateRequest], *, on_progress: OnProgress | None = None
    ) -> list[Generated]:
        room = [self.max_length_tokens - (0 if self._apart else each.settings.max_new_tokens) for each in requests]
        self.heard += [min(len(each.prompt_ids), most) for each, most in zip(requests, room, strict=True)]
        return super().generate(requests, on_progress=on_progress)

    def predict(  # type: ignore[override]
        self, head: str, rows: Sequence[HeadRow], *, on_progress: OnProgress | None = None
    ) -> list[Floats32]:
        self.heard += [len(row.ids) for row in rows]
        return super().predict(head, rows, on_progress=on_progress)

    @property
    def _apart(self) -> bool:
        return self.model.kind == "encoder-decoder"


def _counted(engine: Heard, task: Task) -> TaskCheck:
    """What `validate` says of the task; of the engine only a few rows are asked, to take their time."""
    options = CheckOptions(data=DataAccess(offline=True), num_fewshot=0)
    check = check_task(task, options=options, report=lambda progress: None, solver=EngineSolver(engine))
    assert check.estimated is not None
    assert check.estimated.timed_rows > 0
    engine.heard = []
    return check


@pytest.mark.parametrize("longest", [14, 64])
@pytest.mark.parametrize("kind", ["causal", "encoder-decoder"])
@pytest.mark.parametrize("name", sorted(set(TASKS) - {"tagging"}))
def test_prompts_are_counted_as_they_are_asked(name: str, kind: str, longest: int, tmp_path: Path) -> None:
    engine, task = Heard(kind=kind, max_length=longest), small_task(tmp_path, name)
    check = _counted(engine, task)
    result = scored(EngineSolver(engine), task, way="prompt")
    assert check.requests == len(engine.heard)
    assert (check.cut > 0) == (result.truncated > 0)
    assert check.cut >= result.truncated
    assert check.lengths is not None
    assert check.lengths.least == min(engine.heard) or check.cut
    assert check.lengths.most >= max(engine.heard)
    if not check.cut:
        assert check.lengths.most == max(engine.heard)


@pytest.mark.parametrize("longest", [30, 64])
@pytest.mark.parametrize("name", HEADS)
def test_heads_are_counted_as_they_are_asked(name: str, longest: int, tmp_path: Path) -> None:
    engine, task = Heard(heads=[replace(HEADS[name], name=name)], max_length=longest), small_task(tmp_path, name)
    check = _counted(engine, task)
    result = scored(EngineSolver(engine), task, way="head")
    assert check.requests == len(engine.heard)
    assert (check.cut > 0) == (result.truncated > 0)
    assert check.lengths is not None
    assert (check.lengths.least, check.lengths.most) == (min(engine.heard), max(engine.heard))


def test_a_metric_with_requests_of_its_own_has_them_counted(tmp_path: Path) -> None:
    task = small_task(tmp_path, "multiple_choice")
    more = replace(task, metrics=(*task.metrics, MetricUse(name="acc_mutual_info")))
    assert _counted(Heard(), more).requests == 2 * _counted(Heard(), task).requests
