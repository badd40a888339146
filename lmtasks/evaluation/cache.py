"""Answers that were given before are not asked for again: an engine with a memory, for evaluation like any other.

    with closing(AnswerStore(file)) as store:
        engine = CachedAnswers(engine, store=store, artefact=settings_hash)
        engine.score(requests, on_progress=None)     # asks the model for what the store lacks, and keeps it

The whole list goes to the engine at once, so that its batches are as good as without a cache, and what it has finished
is kept batch by batch: a process that is killed asks at most its last batch again.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from lmtasks.data.tokenizer import Tokenizer
from lmtasks.engine.engine import HeadRow
from lmtasks.engine.requests import Generated, GenerateRequest, OnAnswers, OnProgress, Scored, ScoreRequest
from lmtasks.evaluation.cache_key import Keys, scope_of
from lmtasks.evaluation.cache_store import AnswerStore
from lmtasks.evaluation.cache_value import GENERATED, LOGITS, SCORED, Codec
from lmtasks.records import Floats32, ModelCard, RuntimeCard

_Answer = TypeVar("_Answer")


class Telling(Protocol):
    """An engine that tells of its answers while it works."""

    tokenizer: Tokenizer

    @property
    def cached(self) -> Sequence[bool]: ...

    @property
    def model(self) -> ModelCard: ...

    @property
    def card(self) -> RuntimeCard: ...

    @property
    def max_length_tokens(self) -> int: ...

    def predict(
        self,
        head: str,
        rows: Sequence[HeadRow],
        *,
        on_progress: OnProgress | None = None,
        on_answers: OnAnswers[Floats32] | None = None,
    ) -> list[Floats32]: ...

    def score(
        self,
        requests: Sequence[ScoreRequest],
        *,
        on_progress: OnProgress | None = None,
        on_answers: OnAnswers[Scored] | None = None,
    ) -> list[Scored]: ...

    def generate(
        self,
        requests: Sequence[GenerateRequest],
        *,
        on_progress: OnProgress | None = None,
        on_answers: OnAnswers[Generated] | None = None,
    ) -> list[Generated]: ...


class CachedAnswers:
    """An engine that asks its model only for what a store lacks. Implements `evaluation.asked.Answers`.

    Args:
        engine: ends its texts where the model's card says, as an engine does by default.
        store: where answers are kept; may be shared by engines and processes.
        artefact: identifies what was loaded beside the weights (see `cache_key.scope_of`).

    Raises:
        UsageError: answers of the engine's precision depend on more than their requests.
    """

    def __init__(self, engine: Telling, *, store: AnswerStore, artefact: str) -> None:
        self.tokenizer = engine.tokenizer
        self._cached: Sequence[bool] = ()
        self._engine = engine
        self._store = store
        scope = scope_of(model=engine.model, runtime=engine.card, tokenizer=engine.tokenizer, artefact=artefact)
        self._keys = Keys(scope, model=engine.model)

    @property
    def cached(self) -> Sequence[bool]:
        """Of the last call, for each request: was its answer found in the store?"""
        return self._cached

    @property
    def model(self) -> ModelCard:
        """What answers."""
        return self._engine.model

    @property
    def card(self) -> RuntimeCard:
        """What computes."""
        return self._engine.card

    @property
    def max_length_tokens(self) -> int:
        """Longest input of the model."""
        return self._engine.max_length_tokens

    def predict(self, head: str, rows: Sequence[HeadRow], *, on_progress: OnProgress | None = None) -> list[Floats32]:
        """As `Engine.predict`."""

        def ask(places: Sequence[int], tell: OnProgress, hear: OnAnswers[Floats32]) -> list[Floats32]:
            return self._engine.predict(head, [rows[place] for place in places], on_progress=tell, on_answers=hear)

        return self._answered([self._keys.of_row(head, row) for row in rows], LOGITS, ask, on_progress)

    def score(self, requests: Sequence[ScoreRequest], *, on_progress: OnProgress | None = None) -> list[Scored]:
        """As `Engine.score`."""

        def ask(places: Sequence[int], tell: OnProgress, hear: OnAnswers[Scored]) -> list[Scored]:
            return self._engine.score([requests[place] for place in places], on_progress=tell, on_answers=hear)

        return self._answered([self._keys.of_score(request) for request in requests], SCORED, ask, on_progress)

    def generate(
        self, requests: Sequence[GenerateRequest], *, on_progress: OnProgress | None = None
    ) -> list[Generated]:
        """As `Engine.generate`. A request without a number gets its place, which is lost in a shorter list."""
        numbers = [place if request.number is None else request.number for place, request in enumerate(requests)]

        def ask(places: Sequence[int], tell: OnProgress, hear: OnAnswers[Generated]) -> list[Generated]:
            asked = [replace(requests[place], number=numbers[place]) for place in places]
            return self._engine.generate(asked, on_progress=tell, on_answers=hear)

        keys = [self._keys.of_prompt(request, number=number) for request, number in zip(requests, numbers, strict=True)]
        return self._answered(keys, GENERATED, ask, on_progress)

    def _answered(
        self,
        keys: Sequence[bytes],
        codec: Codec[_Answer],
        ask: Callable[[Sequence[int], OnProgress, OnAnswers[_Answer]], list[_Answer]],
        on_progress: OnProgress | None,
    ) -> list[_Answer]:
        """An answer for each key; `ask` gets the places of those that are not in the store, of equal keys the first."""
        first: dict[bytes, int] = {}
        for place, key in enumerate(keys):
            first.setdefault(key, place)
        found = self._store.get(list(first))
        answers = {key: codec.unpack(value) for key, value in found.items()}
        self._cached = tuple(key in answers for key in keys)
        done = sum(self._cached)
        tell = on_progress or (lambda finished: None)
        missing = [place for key, place in first.items() if key not in answers]
        if done:
            tell(done)
        if missing:

            def keep(fresh: Sequence[tuple[int, _Answer]]) -> None:
                packed = [(keys[missing[place]], codec.pack(answer)) for place, answer in fresh]
                self._store.put([(key, value) for key, value in packed if value is not None])

            asked = ask(missing, lambda finished: tell(done + finished), keep)
            answers.update((keys[place], answer) for place, answer in zip(missing, asked, strict=True))
            if done + len(missing) < len(keys):
                tell(len(keys))
        return [answers[key] for key in keys]
