"""Heads and scores through the engine."""

import random
from dataclasses import dataclass, replace

import numpy as np
import pytest
from fake_runtime import FakeRuntime, FakeState

from lmtasks.data.tokenizer import train_byte_bpe
from lmtasks.engine.engine import Engine
from lmtasks.engine.requests import ScoreRequest
from lmtasks.errors import UsageError, WorkError
from lmtasks.records import Floats32, HeadSpec, TokenBatch
from lmtasks.runtime.memory import OutOfMemory

TOKENIZER = train_byte_bpe(["a cat sat", "a hat"], vocabulary=265)
HEADS = (
    HeadSpec(name="mood", kind="classification", labels=("sad", "glad", "neither")),
    HeadSpec(name="answer", kind="span"),
)


@dataclass(frozen=True)
class Encoded:
    ids: tuple[int, ...]
    types: tuple[int, ...]


def fake(**settings: object) -> FakeRuntime:
    return FakeRuntime(vocabulary=TOKENIZER.vocabulary, heads=HEADS, **settings)  # type: ignore[arg-type]


def engine(runtime: FakeRuntime, *, tokens: int = 4096, rows: int | None = None) -> Engine:
    return Engine(runtime, TOKENIZER, tokens_per_batch=tokens, rows_per_batch=rows)


def score_requests(count: int = 40) -> list[ScoreRequest]:
    chooser = random.Random(1)
    return [
        ScoreRequest(
            context_ids=tuple(chooser.randrange(3, 200) for _ in range(chooser.randrange(1, 12))),
            target_ids=tuple(chooser.randrange(3, 200) for _ in range(chooser.randrange(1, 5))),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("kind", ["causal", "encoder-decoder"])
def test_scores_do_not_depend_on_batch_or_order(kind: str) -> None:
    requests = score_requests()
    alone = engine(fake(kind=kind), rows=1).score(requests)
    for tokens in (20, 100, 4096):
        together = engine(fake(kind=kind), tokens=tokens).score(requests)
        for one, other in zip(alone, together, strict=True):
            assert one.logprob == pytest.approx(other.logprob, abs=1e-5)
            assert one.greedy == other.greedy
    backwards = engine(fake(kind=kind)).score(requests[::-1])[::-1]
    assert [each.logprob for each in backwards] == pytest.approx([each.logprob for each in alone], abs=1e-5)


def test_a_score_is_the_sum_over_the_target() -> None:
    runtime = fake()
    request = ScoreRequest(context_ids=(5, 6), target_ids=(7, 8, 9))
    scored = engine(runtime).score([request])[0]
    assert len(scored.token_logprobs) == 3
    assert scored.logprob == pytest.approx(sum(scored.token_logprobs))
    # The chain rule, one token at a time.
    parts = [
        ScoreRequest(context_ids=(5, 6, 7, 8)[: 2 + number], target_ids=((7, 8, 9)[number],)) for number in range(3)
    ]
    assert [each.logprob for each in engine(runtime).score(parts)] == pytest.approx(scored.token_logprobs, abs=1e-5)


def test_greedy_targets_are_known() -> None:
    runtime = fake()
    state = FakeState(np.zeros((1, 16)))
    ids = [5]
    for _ in range(4):
        state, logits = runtime.step(state, np.array(ids[-1:]))
        ids.append(int(logits.argmax()))
    right = ScoreRequest(context_ids=(5,), target_ids=tuple(ids[1:]))
    wrong = replace(right, target_ids=(*ids[1:-1], (ids[-1] + 1) % 200))
    assert [each.greedy for each in engine(runtime).score([right, wrong])] == [True, False]


def test_equal_requests_run_once() -> None:
    runtime = fake()
    requests = score_requests(5) * 4
    told: list[int] = []
    scored = engine(runtime, rows=2).score(requests, on_progress=told.append)
    assert len(runtime.calls.rows) == 5
    assert scored[:5] == scored[5:10] == scored[15:]
    assert told[-1] == 20
    assert told == sorted(told)


def test_a_row_may_be_one_token_longer_than_the_model_reads() -> None:
    exact = ScoreRequest(context_ids=tuple(range(3, 11)), target_ids=(11,))
    long = ScoreRequest(context_ids=(99, *exact.context_ids), target_ids=(11,))
    runtime = fake(max_length=8)
    scored = engine(runtime).score([exact, long])
    assert [each.truncated for each in scored] == [False, True]
    assert scored[0].logprob == scored[1].logprob
    assert len(runtime.calls.rows) == 1
    whole = engine(runtime).score([ScoreRequest(context_ids=(1,), target_ids=tuple(range(3, 20)))])[0]
    assert whole.truncated
    assert len(whole.token_logprobs) == 8


def test_what_cannot_be_scored() -> None:
    with pytest.raises(UsageError, match="target of no tokens"):
        engine(fake()).score([ScoreRequest(context_ids=(1,), target_ids=())])
    with pytest.raises(UsageError, match="no context"):
        engine(fake()).score([ScoreRequest(context_ids=(), target_ids=(1,))])


@pytest.mark.parametrize(("head", "shape"), [("mood", (3,)), ("answer", (6, 2))])
def test_head_logits_come_unpadded_and_do_not_depend_on_the_batch(head: str, shape: tuple[int, ...]) -> None:
    rows = [Encoded(tuple(range(3, 3 + length)), (0,) * length) for length in (6, 1, 9, 6, 4)]
    alone = engine(fake(), rows=1).predict(head, rows)
    together = engine(fake()).predict(head, rows)
    assert alone[0].shape == together[0].shape == shape
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_rows_of_a_family_that_reads_padding_are_read_by_their_length() -> None:
    runtime = fake()
    runtime.model = replace(runtime.model, family="fnet")
    rows = [Encoded(ids=(5,) * length, types=(0,) * length) for length in (3, 7, 3, 1, 7, 7)]
    seen: list[tuple[int, int]] = []
    read = runtime.predict

    def watched(head: str, batch: TokenBatch) -> Floats32:
        assert batch.mask.all()
        seen.append(batch.ids.shape)  # type: ignore[arg-type]
        return read(head, batch)

    runtime.predict = watched  # type: ignore[method-assign]
    found = engine(runtime).predict("mood", rows)
    assert sorted(seen) == [(1, 1), (1, 3), (1, 7)]  # equal requests are read once
    for one, other in zip(found, engine(fake()).predict("mood", rows), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_heads_are_checked() -> None:
    with pytest.raises(UsageError, match="did you mean 'mood'"):
        engine(fake()).predict("moods", [])
    rows = [Encoded(tuple(range(length)), (0,) * length) for length in (8, 9)]
    with pytest.raises(UsageError, match="row 1 has 9 tokens, but fake takes 8"):
        engine(fake(max_length=8)).predict("mood", rows)


@pytest.mark.parametrize("callers", [1, 2])
@pytest.mark.parametrize("head", ["mood", "answer"])
def test_a_row_by_itself_is_answered_as_among_others(head: str, callers: int) -> None:
    """It is not planned into batches, and all else is the same."""
    asking = engine(fake(callers=callers))
    rows = [Encoded(ids=(3, 4, 5)[:length], types=(0,) * length) for length in (3, 1, 2)]
    together = asking.predict(head, rows)
    for row, wanted in zip(rows, together, strict=True):
        told: list[object] = []
        (alone,) = asking.predict(head, [row], on_progress=told.append, on_answers=told.append)
        assert alone.shape == wanted.shape
        np.testing.assert_allclose(alone, wanted, atol=1e-6)
        assert told[0] == 1
        ((place, answer),) = told[1]  # type: ignore[misc, attr-defined]
        assert place == 0
        assert answer is alone


def test_a_row_by_itself_that_is_wrong_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    asking = engine(fake(max_length=8))
    with pytest.raises(UsageError, match="unknown head of fake 'moo'"):
        asking.predict("moo", [Encoded(ids=(3,), types=(0,))])
    with pytest.raises(UsageError, match="row 0 has 9 tokens"):
        asking.predict("mood", [Encoded(ids=(3,) * 9, types=(0,) * 9)])

    def without_room(head: str, batch: TokenBatch) -> Floats32:
        raise OutOfMemory(head)

    monkeypatch.setattr(asking.runtime, "predict", without_room)
    with pytest.raises(WorkError, match="a single row of 6 tokens does not fit into memory"):
        asking.predict("mood", [Encoded(ids=(3,) * 6, types=(0,) * 6)])
