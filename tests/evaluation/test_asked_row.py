"""What is counted before is what is asked later."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from fake_runtime import FakeRuntime
from small_tasks import TASKS, scored, small_task, tokenizer

from lmtasks.data.options import DataOptions
from lmtasks.data.rows import open_rows
from lmtasks.engine.engine import Engine, HeadRow
from lmtasks.engine.requests import Generated, GenerateRequest, OnProgress, Scored, ScoreRequest
from lmtasks.evaluation.asked_row import AskedRow, ask_engine, asked_by_prompt, asked_of_head
from lmtasks.evaluation.engine_solver import EngineSolver
from lmtasks.records import Floats32, HeadSpec
from lmtasks.task.prompt import build_prompt

HEADS = {
    "classification": HeadSpec(name="classification", kind="classification", labels=("bad", "good")),
    "span": HeadSpec(name="span", kind="span"),
}


class Heard(Engine[object]):
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


def _asked(engine: Heard, name: str, folder: Path) -> list[AskedRow]:
    task = small_task(folder, name)
    rows = open_rows(task.sources["test"], options=DataOptions(offline=True)).rows
    if engine.model.heads:
        return [
            asked_of_head(task, row, number=number, head=HEADS[name], model=engine.model, tok=engine.tokenizer)
            for number, row in enumerate(rows)
        ]
    return [
        asked_by_prompt(
            task,
            row,
            prompt=build_prompt(task, row),
            number=number,
            seed=1,
            model=engine.model,
            tok=engine.tokenizer,
        )
        for number, row in enumerate(rows)
    ]


@pytest.mark.parametrize("longest", [14, 64])
@pytest.mark.parametrize("kind", ["causal", "encoder-decoder"])
@pytest.mark.parametrize("name", sorted(set(TASKS) - {"tagging"}))
def test_prompts_are_counted_as_they_are_asked(name: str, kind: str, longest: int, tmp_path: Path) -> None:
    engine = Heard(kind=kind, max_length=longest)
    rows = _asked(engine, name, tmp_path)
    result = scored(EngineSolver(engine), small_task(tmp_path, name), way="prompt")
    evaluated, engine.heard = engine.heard, []
    ask_engine(engine, rows)
    assert engine.heard == evaluated
    assert sum(len(row.lengths) for row in rows) == len(evaluated)
    if name != "language_modelling":  # whose windows are never cut
        assert sum(row.cut > 0 for row in rows) == result.truncated
    if longest == 64 and name in ("classification", "multiple_choice", "blanks"):
        assert [length for row in rows for length in row.lengths] == evaluated
        assert result.truncated == 0


@pytest.mark.parametrize("longest", [30, 64])
@pytest.mark.parametrize("name", HEADS)
def test_heads_are_counted_as_they_are_asked(name: str, longest: int, tmp_path: Path) -> None:
    engine = Heard(heads=[HEADS[name]], max_length=longest)
    rows = _asked(engine, name, tmp_path)
    result = scored(EngineSolver(engine), small_task(tmp_path, name), way="head")
    evaluated, engine.heard = engine.heard, []
    ask_engine(engine, rows)
    assert engine.heard == evaluated
    assert sum(row.cut > 0 for row in rows) == result.truncated
