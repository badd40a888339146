"""Answers are told of as batches finish: each once, and the very ones that the call returns."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from fake_runtime import FakeRuntime

from lmtasks.data.tokenizer import train_byte_bpe
from lmtasks.engine.engine import Engine
from lmtasks.engine.requests import GenerateRequest, OnAnswers, ScoreRequest
from lmtasks.head.base import EncodedRow
from lmtasks.records import HeadSpec
from lmtasks.settings.generation import Decoding

TOKENIZER = train_byte_bpe(["a b c"], vocabulary=270)
LONG = tuple(range(1, 40))
CONTEXTS = [(1, 2), (3,), (1, 2), LONG, LONG[-16:], (4, 5, 6)]
"""Two are equal; two others differ only in what is cut off."""

Ask = Callable[[Engine, OnAnswers[object]], Sequence[object]]
ASK: dict[str, Ask] = {
    "score": lambda engine, hear: engine.score(
        [ScoreRequest(context_ids=ids, target_ids=(7,)) for ids in CONTEXTS], on_answers=hear
    ),
    "generate": lambda engine, hear: engine.generate(
        [GenerateRequest(prompt_ids=ids, settings=Decoding(max_new_tokens=4)) for ids in CONTEXTS], on_answers=hear
    ),
    "beams": lambda engine, hear: engine.generate(
        [GenerateRequest(prompt_ids=ids, settings=Decoding(max_new_tokens=4, num_beams=2)) for ids in CONTEXTS],
        on_answers=hear,
    ),
    "predict": lambda engine, hear: engine.predict(
        "mood",
        [EncodedRow(ids=ids[:16], types=(0,) * len(ids[:16]), truncated=False) for ids in CONTEXTS],
        on_answers=hear,
    ),
}


def _engine(kind: str) -> Engine:
    head = HeadSpec(name="mood", kind="classification", labels=("bad", "good"))
    runtime = FakeRuntime(vocabulary=TOKENIZER.vocabulary, kind=kind, heads=[head], max_length=16)
    return Engine(runtime, TOKENIZER, rows_per_batch=2)  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize("kind", ["causal", "encoder-decoder"])
@pytest.mark.parametrize("name", ASK)
def test_every_answer_is_told_once_and_as_it_is_returned(name: str, kind: str) -> None:
    told: list[Sequence[tuple[int, object]]] = []
    returned = ASK[name](_engine(kind), told.append)
    places = [place for part in told for place, _ in part]
    assert sorted(places) == list(range(len(CONTEXTS)))
    assert len(told) > 1
    for place, answer in (pair for part in told for pair in part):
        if isinstance(answer, np.ndarray):
            assert np.array_equal(answer, returned[place])  # type: ignore[arg-type]
        else:
            assert answer == returned[place]


def test_what_is_told_says_of_each_request_whether_it_was_cut() -> None:
    told = dict[int, object]()
    _engine("causal").score(
        [ScoreRequest(context_ids=ids, target_ids=(7,)) for ids in CONTEXTS], on_answers=lambda part: told.update(part)
    )
    assert [told[place].truncated for place in range(len(CONTEXTS))] == [  # type: ignore[attr-defined]
        False, False, False, True, False, False
    ]  # fmt: skip
