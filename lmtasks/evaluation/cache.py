"""An engine with a memory, for evaluation like any other: answers that were given before are not asked for again.

    with closing(ByteStore(file)) as store:
        engine = CachedAnswers(engine, store=store, artefact=settings_hash)
        engine.score(requests, on_progress=None)     # asks the model for what the store lacks, and keeps it

The whole list goes to the engine at once, so that its batches are as good as without a cache, and what it has finished
is kept batch by batch: a process that is killed asks at most its last batch again.

The store holds answers as bytes, exactly: what comes out is bit for bit what went in.

    scored       flags (1 byte), log-probability (8), then those of the tokens: 4 bytes each where that is exact, else 8
    logits       type (1), number of axes (1), their sizes (4 each), the values
    generated    flags (1), number of tokens (4), token ids in 2 or 4 bytes each, the text in UTF-8

A value that is no finite number is not kept: whether it was the model or a fault, it is worth asking again.

Keys of answers: all that an answer depends on, in 16 bytes. Two requests share a key only if they must have the same
answer.

A key is a hash over a scope and a request. The scope is everything that stays while a model is loaded: weights,
settings, tokenizer, runtime with its version, device, precision and options, and the versions of the code between.
Whatever is in doubt is part of it: a miss costs time, a wrong hit costs the truth.
"""

import json
import math
import sys
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from struct import Struct
from typing import Generic, Protocol, TypeVar, get_args

import numpy as np

from lmtasks.data.tokenizer import Tokenizer
from lmtasks.engine.engine import HeadRow
from lmtasks.engine.requests import (
    Generated,
    GenerateRequest,
    OnAnswers,
    OnProgress,
    Scored,
    ScoreRequest,
    Stopped,
)
from lmtasks.errors import UsageError
from lmtasks.evaluation.cache_store import ByteStore
from lmtasks.records import Floats32, HeadSpec, ModelCard, RuntimeCard
from lmtasks.settings.generation import Decoding
from lmtasks.settings.runtimes import is_cached, libraries_of
from lmtasks.version import __version__

_Kept = TypeVar("_Kept")

GREEDY, TRUNCATED, WIDE = 1, 2, 4
"""Flags. WIDE: token log-probabilities need 8 bytes, or token ids need 4."""
STOPPED: tuple[Stopped, ...] = get_args(Stopped)
STOPPED_SHIFT = 4
SCORED_HEAD, GENERATED_HEAD = Struct("=Bd"), Struct("=BI")
TWO_BYTES = 1 << 16

_Answer = TypeVar("_Answer")

KEY_BYTES = 16
MEANING = 2
"""Raised when the engine changes what it answers to the same request, so that no older answer hits any more."""
NO_MATTER = ("name", "adaptation", "parameters", "heads", "vectors")
"""Of a model's card: what people read, and the heads, of which only the one that is asked counts."""


@dataclass(frozen=True, kw_only=True)
class Codec(Generic[_Kept]):
    """Answers of one kind to bytes, and back."""

    pack: Callable[[_Kept], bytes | None]
    """None: not to be kept."""
    unpack: Callable[[bytes], _Kept]


def pack_scored(answer: Scored) -> bytes | None:
    """See above.

    >>> answer = Scored(logprob=-1.5, greedy=True, token_logprobs=(-1.0, -0.5))
    >>> len(pack_scored(answer)), unpack_scored(pack_scored(answer)) == answer
    (17, True)
    """
    if answer.failed or not math.isfinite(answer.logprob):
        return None
    tokens = array("f", answer.token_logprobs)
    flags = GREEDY * answer.greedy | TRUNCATED * answer.truncated
    if tuple(tokens) != answer.token_logprobs:
        tokens = array("d", answer.token_logprobs)
        flags |= WIDE
    return SCORED_HEAD.pack(flags, answer.logprob) + tokens.tobytes()


def unpack_scored(value: bytes) -> Scored:
    """The inverse of `pack_scored`."""
    flags, logprob = SCORED_HEAD.unpack_from(value)
    tokens = array("d" if flags & WIDE else "f", value[SCORED_HEAD.size :])
    return Scored(
        logprob=logprob,
        greedy=bool(flags & GREEDY),
        token_logprobs=tuple(tokens),
        truncated=bool(flags & TRUNCATED),
    )


def pack_logits(answer: Floats32) -> bytes | None:
    """See above."""
    if not np.isfinite(answer).all():
        return None
    sizes = array("I", answer.shape)
    return answer.dtype.char.encode() + bytes([answer.ndim]) + sizes.tobytes() + np.ascontiguousarray(answer).tobytes()


def unpack_logits(value: bytes) -> Floats32:
    """The inverse of `pack_logits`; may be written to."""
    axes = value[1]
    sizes = array("I", value[2 : 2 + 4 * axes])
    logits: Floats32 = np.frombuffer(value, dtype=value[:1].decode(), offset=2 + 4 * axes).reshape(tuple(sizes)).copy()
    return logits


def pack_generated(answer: Generated) -> bytes | None:
    """See above."""
    if answer.failed:
        return None
    wide = max(answer.ids, default=0) >= TWO_BYTES
    flags = TRUNCATED * answer.truncated | WIDE * wide | STOPPED.index(answer.stopped) << STOPPED_SHIFT
    ids = array("I" if wide else "H", answer.ids)
    return GENERATED_HEAD.pack(flags, len(ids)) + ids.tobytes() + answer.text.encode("utf-8", "surrogatepass")


def unpack_generated(value: bytes) -> Generated:
    """The inverse of `pack_generated`."""
    flags, count = GENERATED_HEAD.unpack_from(value)
    text = GENERATED_HEAD.size + count * (4 if flags & WIDE else 2)
    return Generated(
        ids=tuple(array("I" if flags & WIDE else "H", value[GENERATED_HEAD.size : text])),
        text=value[text:].decode("utf-8", "surrogatepass"),
        stopped=STOPPED[flags >> STOPPED_SHIFT],
        truncated=bool(flags & TRUNCATED),
    )


SCORED = Codec[Scored](pack=pack_scored, unpack=unpack_scored)
LOGITS = Codec[Floats32](pack=pack_logits, unpack=unpack_logits)
GENERATED = Codec[Generated](pack=pack_generated, unpack=unpack_generated)


class ObservableEngine(Protocol):
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

    def predict_heads(
        self,
        heads: Sequence[str],
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

    def __init__(self, engine: ObservableEngine, *, store: ByteStore, artefact: str) -> None:
        self.tokenizer = engine.tokenizer
        self._cached: Sequence[bool] = ()
        self._engine = engine
        self._store = store
        scope = scope_of(model=engine.model, runtime=engine.card, tokenizer=engine.tokenizer, artefact=artefact)
        self._keys = Keys(scope, model=engine.model)

    @property
    def cached(self) -> Sequence[bool]:
        """For each request of the last call: was its answer found in the store?"""
        return self._cached

    @property
    def model(self) -> ModelCard:
        """The model that answers."""
        return self._engine.model

    @property
    def card(self) -> RuntimeCard:
        """The runtime that computes."""
        return self._engine.card

    @property
    def max_length_tokens(self) -> int:
        """Longest input of the model."""
        return self._engine.max_length_tokens

    def predict(self, head: str, rows: Sequence[HeadRow], *, on_progress: OnProgress | None = None) -> list[Floats32]:
        """As `Engine.predict`."""
        return self.predict_heads([head] * len(rows), rows, on_progress=on_progress)

    def predict_heads(
        self, heads: Sequence[str], rows: Sequence[HeadRow], *, on_progress: OnProgress | None = None
    ) -> list[Floats32]:
        """As `Engine.predict_heads`."""

        def ask(places: Sequence[int], report: OnProgress, on_answers: OnAnswers[Floats32]) -> list[Floats32]:
            return self._engine.predict_heads(
                [heads[place] for place in places],
                [rows[place] for place in places],
                on_progress=report,
                on_answers=on_answers,
            )

        keys = [self._keys.of_row(head, row) for head, row in zip(heads, rows, strict=True)]
        return self._answered(keys, LOGITS, ask, on_progress)

    def score(self, requests: Sequence[ScoreRequest], *, on_progress: OnProgress | None = None) -> list[Scored]:
        """As `Engine.score`."""

        def ask(places: Sequence[int], report: OnProgress, on_answers: OnAnswers[Scored]) -> list[Scored]:
            return self._engine.score([requests[place] for place in places], on_progress=report, on_answers=on_answers)

        return self._answered([self._keys.of_score(request) for request in requests], SCORED, ask, on_progress)

    def generate(
        self, requests: Sequence[GenerateRequest], *, on_progress: OnProgress | None = None
    ) -> list[Generated]:
        """As `Engine.generate`. A request without a number gets its place, which is lost in a shorter list."""
        numbers = [place if request.number is None else request.number for place, request in enumerate(requests)]

        def ask(places: Sequence[int], report: OnProgress, on_answers: OnAnswers[Generated]) -> list[Generated]:
            asked = [replace(requests[place], number=numbers[place]) for place in places]
            return self._engine.generate(asked, on_progress=report, on_answers=on_answers)

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
        report = on_progress or (lambda finished: None)
        missing = [place for key, place in first.items() if key not in answers]
        if done:
            report(done)
        if missing:

            def keep(fresh: Sequence[tuple[int, _Answer]]) -> None:
                packed = [(keys[missing[place]], codec.pack(answer)) for place, answer in fresh]
                self._store.put([(key, value) for key, value in packed if value is not None])

            asked = ask(missing, lambda finished: report(done + finished), keep)
            answers.update((keys[place], answer) for place, answer in zip(missing, asked, strict=True))
            if done + len(missing) < len(keys):
                report(len(keys))
        return [answers[key] for key in keys]


def scope_of(*, model: ModelCard, runtime: RuntimeCard, tokenizer: Tokenizer, artefact: str) -> bytes:
    """The hash of all that the answers of a loaded model have in common.

    Args:
        artefact: identifies what was loaded beside the weights: a model's settings, or a package's graphs.

    Raises:
        UsageError: the answers of this precision depend on more than their requests.
    """
    if not is_cached(runtime.precision):
        raise UsageError(
            f"answers in {runtime.precision} depend on their neighbours in the batch, so they are never kept."
        )
    card = asdict(model)
    facts = {
        "meaning": [MEANING, __version__, sys.byteorder],
        "model": {name: value for name, value in card.items() if name not in NO_MATTER},
        "artefact": artefact,
        "tokenizer": [tokenizer.hash, tokenizer.bos, tokenizer.eos, tokenizer.pad, tokenizer.takes_types],
        "runtime": [runtime.runtime, runtime.version, runtime.device, runtime.precision, dict(runtime.options)],
        "libraries": {name: _version(name) for name in libraries_of(runtime.runtime)},
    }
    return blake2b(_bytes(facts), digest_size=32).digest()


class Keys:
    """Keys of requests under one scope.

    Args:
        scope: of `scope_of`.
        model: its heads tell what a head's name stands for.
    """

    def __init__(self, scope: bytes, *, model: ModelCard) -> None:
        self._scope = scope
        self._heads = {head.name: _meaning_of(head) for head in model.answering}
        self._score = self._begun("score", None)
        self._predict: dict[str, blake2b] = {}
        self._generate: dict[Decoding, blake2b] = {}

    def of_score(self, request: ScoreRequest) -> bytes:
        """Context and target, uncut: where they are cut is the model's longest input, which is in the scope."""
        context, target = request.context_ids, request.target_ids
        return _key(self._score, array("q", (len(context), *context, *target)))

    def of_row(self, head: str, row: HeadRow) -> bytes:
        """A row for a head."""
        if head not in self._predict:
            self._predict[head] = self._begun("predict", self._heads.get(head, head))
        return _key(self._predict[head], array("q", (len(row.ids), *row.ids, *row.types)))

    def of_prompt(self, request: GenerateRequest, *, number: int) -> bytes:
        """A prompt with its settings; with seed and number only where something is drawn."""
        settings = request.settings
        if settings not in self._generate:
            self._generate[settings] = self._begun("generate", settings.stored())
        key = _key(self._generate[settings], array("q", request.prompt_ids))
        if settings.temperature == 0:
            return key
        return blake2b(key + f"{request.seed}/{number}".encode(), digest_size=KEY_BYTES).digest()

    def _begun(self, kind: str, settings: object) -> blake2b:
        digest = blake2b(self._scope, digest_size=KEY_BYTES)
        digest.update(_bytes([kind, settings]))
        return digest


def _meaning_of(head: HeadSpec) -> Mapping[str, object]:
    """What a head's logits depend on; how it reads and its words only where it says so, as heads of earlier versions do
    not. The scheme of tags and the unit of numbers are looked at behind the logits; prefixes stand in the row, and the
    width is the weights'."""
    left_out = {"scheme", "mean", "deviation", "width", "query_prefix", "text_prefix"}
    left_out |= {"attention"} if head.attention is None else set()
    left_out |= set() if head.words else {"words"}
    return {name: value for name, value in asdict(head).items() if name not in left_out}


def _key(begun: blake2b, numbers: "array[int]") -> bytes:
    digest = begun.copy()
    digest.update(numbers)
    return digest.digest()


def _bytes(facts: object) -> bytes:
    # Floats are written so that they can be read back exactly; two settings never share a text.
    return json.dumps(facts, sort_keys=True, ensure_ascii=True, separators=(",", ":")).encode() + b"\0"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
