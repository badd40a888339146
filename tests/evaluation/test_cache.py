"""An engine with a memory: it answers as without, asks nothing twice, and goes on where it was killed."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from cached_child import REQUESTS, ROWS_A_BATCH
from cached_child import engine as slow_model
from fake_runtime import FakeRuntime
from small_tasks import TASKS, scored, small_task, tokenizer

import lmtasks
from lmtasks.engine.engine import Engine
from lmtasks.engine.requests import GenerateRequest, ScoreRequest
from lmtasks.errors import UsageError
from lmtasks.evaluation.cache import CachedAnswers
from lmtasks.evaluation.cache_store import ByteStore, count_answers
from lmtasks.evaluation.engine_solver import EngineSolver
from lmtasks.head.base import EncodedRow
from lmtasks.records import HeadSpec, RuntimeCard
from lmtasks.settings.generation import Decoding

HEADS = (
    HeadSpec(name="mood", kind="classification", labels=("bad", "good")),
    HeadSpec(name="where", kind="span"),
)
PROMPTS = [(1, 2, 3), (4, 5), (1, 2, 3), (7, 8, 9, 10)]
GREEDY, DRAWN, BEAMS = (
    Decoding(max_new_tokens=5),
    Decoding(max_new_tokens=5, temperature=0.9),
    Decoding(max_new_tokens=4, num_beams=2),
)
Ask = Callable[[CachedAnswers | Engine], Sequence[object]]
ASKED: Mapping[str, Ask] = {
    "score": lambda engine: engine.score(
        [ScoreRequest(context_ids=ids, target_ids=(6, 7)) for ids in (*PROMPTS, tuple(range(1, 90)))], on_progress=None
    ),
    "greedy": lambda engine: engine.generate(_prompts(GREEDY), on_progress=None),
    "drawn": lambda engine: engine.generate(_prompts(DRAWN), on_progress=None),
    "beams": lambda engine: engine.generate(_prompts(BEAMS), on_progress=None),
    "labels": lambda engine: _logits(engine, "mood"),
    "spans": lambda engine: _logits(engine, "where"),
}


def _prompts(settings: Decoding) -> list[GenerateRequest]:
    return [GenerateRequest(prompt_ids=ids, settings=settings) for ids in (*PROMPTS, tuple(range(1, 90)))]


def _logits(engine: CachedAnswers | Engine, head: str) -> list[object]:
    rows = [EncodedRow(ids=ids, types=(0,) * len(ids), truncated=False) for ids in PROMPTS]
    return [(logits.shape, logits.tobytes()) for logits in engine.predict(head, rows, on_progress=None)]


def _engine(kind: str = "causal") -> Engine:
    runtime = FakeRuntime(
        vocabulary=tokenizer().vocabulary, kind=kind, heads=HEADS, start=tokenizer().pad, max_length=64
    )
    return Engine(runtime, tokenizer(), rows_per_batch=2)  # type: ignore[arg-type,return-value]


def _rows_read(engine: Engine) -> int:
    return len(engine.runtime.calls.rows)  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["causal", "encoder-decoder"])
@pytest.mark.parametrize("name", ASKED)
def test_it_answers_as_without_a_cache_and_asks_nothing_twice(name: str, kind: str, tmp_path: Path) -> None:
    plain = ASKED[name](_engine(kind))
    for asked in (True, False):
        engine = _engine(kind)
        with closing(ByteStore(tmp_path / "a")) as store:
            assert ASKED[name](CachedAnswers(engine, store=store, artefact="")) == plain
        assert bool(_rows_read(engine)) is asked


@pytest.mark.parametrize("name", ASKED)
def test_half_a_list_that_is_known_changes_no_answer(name: str, tmp_path: Path) -> None:
    """Where something is drawn, each request keeps the number that it has in the whole list."""
    plain = ASKED[name](_engine())
    with closing(ByteStore(tmp_path / "a")) as store:
        ASKED[name](CachedAnswers(_engine(), store=store, artefact=""))
        _forget_half(tmp_path / "a")
        engine = CachedAnswers(_engine(), store=store, artefact="")
        assert ASKED[name](engine) == plain
        assert 0 < sum(engine.cached) < len(plain)


def _forget_half(file: Path) -> None:
    connection = sqlite3.connect(file)
    connection.execute("DELETE FROM answers WHERE key IN (SELECT key FROM answers ORDER BY key LIMIT 2)")
    connection.commit()
    connection.close()


def test_equal_requests_are_asked_once_and_told_of_together(tmp_path: Path) -> None:
    engine, told = _engine(), list[int]()
    with closing(ByteStore(tmp_path / "a")) as store:
        cached = CachedAnswers(engine, store=store, artefact="")
        request = ScoreRequest(context_ids=(1, 2), target_ids=(3,))
        first = cached.score([request, request, replace(request, context_ids=(5, 6))], on_progress=told.append)
        assert (_rows_read(engine), told[-1], cached.cached) == (2, 3, (False, False, False))
        assert first[0] == first[1] != first[2]
        told.clear()
        again = cached.score([request, replace(request, target_ids=(5,)), request], on_progress=told.append)
        assert (told, cached.cached) == ([2, 3], (True, False, True))
        assert again[0] == again[2] == first[0]
    assert count_answers(tmp_path / "a") == 3


@pytest.mark.parametrize(
    "other",
    [
        lambda engine: setattr(engine.runtime, "model", replace(engine.model, weights_hash="f" * 16)),
        lambda engine: setattr(engine.runtime, "card", replace(engine.card, precision="bf16")),
        lambda engine: setattr(engine.runtime, "card", replace(engine.card, options={"emitter": "2"})),
    ],
)
def test_another_model_asks_for_itself(other: Callable[[Engine], None], tmp_path: Path) -> None:
    with closing(ByteStore(tmp_path / "a")) as store:
        ASKED["score"](CachedAnswers(_engine(), store=store, artefact=""))
        for engine, artefact in ((_engine(), "other settings"), (_engine(), "")):
            if not artefact:
                other(engine)
            ASKED["score"](CachedAnswers(engine, store=store, artefact=artefact))
            assert _rows_read(engine) == 4  # of five requests two are equal


def test_answers_that_depend_on_their_neighbours_are_refused(tmp_path: Path) -> None:
    engine = _engine()
    engine.runtime.card = RuntimeCard(
        runtime="onnx", version="1", device="cpu", precision="int8-tensor", threads=1, size_bytes=0
    )
    store = ByteStore(tmp_path / "a")
    with pytest.raises(UsageError, match="int8-tensor"):
        CachedAnswers(engine, store=store, artefact="")
    store.close()


@pytest.mark.parametrize("name", sorted(set(TASKS) - {"tagging"}))
def test_scores_of_every_kind_of_task_are_the_same(name: str, tmp_path: Path) -> None:
    task = small_task(tmp_path, name)
    plain = scored(EngineSolver(_engine()), task)
    for _ in range(2):
        engine = _engine()
        with closing(ByteStore(tmp_path / "a")) as store:
            result = scored(EngineSolver(CachedAnswers(engine, store=store, artefact="")), task)
        assert result.metrics == plain.metrics
        assert result.samples == plain.samples
    assert _rows_read(engine) == 0


def test_a_store_without_a_file_is_no_hindrance() -> None:
    with closing(ByteStore(Path("/proc/no/answers"))) as store:
        assert ASKED["score"](CachedAnswers(_engine(), store=store, artefact="")) == ASKED["score"](_engine())


def test_batches_are_those_of_the_whole_list(tmp_path: Path) -> None:
    """Requests of a length stand together, however many there are: keeping answers makes no batch smaller."""
    plain, cached = slow_model(), slow_model()
    plain.score(REQUESTS)
    with closing(ByteStore(tmp_path / "a")) as store:
        CachedAnswers(cached, store=store, artefact="").score(REQUESTS)
    assert cached.runtime.calls.batches == plain.runtime.calls.batches  # type: ignore[attr-defined]


@pytest.mark.parametrize("batches", [1, 2, 9, 19])
def test_a_killed_process_loses_one_batch_at_most(batches: int, tmp_path: Path) -> None:
    file = tmp_path / "a"
    script = Path(__file__).with_name("cached_child.py")
    places = [str(script.parents[1] / "engine"), str(Path(lmtasks.__file__).parents[1])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
    command = [sys.executable, str(script), str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdout is not None
        for _ in range(batches):
            assert child.stdout.readline() == "batch\n"
        child.send_signal(signal.SIGKILL)
        begun = batches + len(child.stdout.readlines())
    assert child.returncode == -signal.SIGKILL
    model = slow_model()
    with closing(ByteStore(file)) as store:
        engine = CachedAnswers(model, store=store, artefact="")
        assert engine.score(REQUESTS) == slow_model().score(REQUESTS)
    known = sum(engine.cached)
    assert ROWS_A_BATCH * (begun - 1) <= known <= ROWS_A_BATCH * begun
    assert _rows_read(model) == len(REQUESTS) - known
    assert not list(tmp_path.glob("a.damaged*"))
