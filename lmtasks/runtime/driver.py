"""Everything that runtimes do alike before and behind what they compute: a driver writes the rest.

A request is checked, its padding brought to one side, and running out of memory becomes `OutOfMemory`. The hooks
(`_predict`, `_score`, `_prefill`, `_step`, `_reorder`) may trust what they are given.

Axes: B batch, T time, S target tokens, V vocabulary, C classes.
"""

import copy
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Literal, Self, TypeVar

import numpy as np

from lmtasks.errors import UsageError, unknown
from lmtasks.head import head_of
from lmtasks.records import (
    Bools,
    Floats32,
    HeadSpec,
    Ints,
    ModelCard,
    RuntimeCard,
    TokenBatch,
    TokenScores,
    TokenTargets,
)
from lmtasks.runtime.align import Aligned, align
from lmtasks.runtime.base import NOTHING_SHARED, PREFIX_SHARED, DecodingState, Runtime, Sharing, Slots
from lmtasks.runtime.memory import free_host_bytes, memory_errors

S = TypeVar("S", bound=DecodingState)


@dataclass(frozen=True, kw_only=True)
class ScoreInput(Generic[S]):
    """Rows to score, and what they share. See `Runtime.score`."""

    rows: TokenBatch
    """(B, T), padded on the right."""
    lengths: Ints
    """(B,): tokens of each row."""
    targets: TokenTargets
    """At least one; each follows a token of its row."""
    subtree_end: Ints | None
    """(B, T)"""
    prefix_state: S | None
    source: TokenBatch | None
    """Padded on the right."""
    source_rows: Ints | None


class Driver(Runtime, Generic[S]):
    """Base of a runtime: it checks, aligns and refuses, and a subclass computes.

    Args:
        model: card of the model.
        card: of what computes.
        state_type: the class of its decoding states.
        prompt_side: where prompts are padded when they reach `_prefill`.
        longest_prompt_tokens: of a row that is read by a head or as a prompt; None: the model takes rows of any length,
            or refuses them itself.
        heads_read_empty_rows: may a text leave no token for a head to read, as where a vocabulary of words knows none
            of it? Other rows are answered as if it were not there.
    """

    def __init__(
        self,
        model: ModelCard,
        card: RuntimeCard,
        *,
        state_type: type[S],
        prompt_side: Literal["left", "right"] = "right",
        longest_prompt_tokens: int | None = None,
        heads_read_empty_rows: bool = True,
    ) -> None:
        self.model = model
        self.card = card
        self._state_type = state_type
        self._prompt_side: Literal["left", "right"] = prompt_side
        self._longest_prompt = longest_prompt_tokens
        self.heads_read_empty_rows = heads_read_empty_rows
        self._specs = {spec.name: spec for spec in model.answering}

    def copied_for(self, model: ModelCard, card: RuntimeCard) -> Self:
        """This driver under other cards; what computes is the same, for the caller to change."""
        other = copy.copy(self)
        other.model, other.card = model, card
        other._specs = {spec.name: spec for spec in model.answering}
        return other

    # --- what a driver computes

    @abstractmethod
    def _predict(self, spec: HeadSpec, batch: TokenBatch) -> Floats32:
        """Logits of a head, (B, C) or (B, T, C), for rows padded on the right; those at padding do not matter."""

    def _predict_heads(self, specs: Sequence[HeadSpec], batch: TokenBatch) -> list[Floats32]:
        """The same of several heads, by one pass where a driver can."""
        return [self._predict(spec, batch) for spec in specs]

    @abstractmethod
    def _score(self, given: ScoreInput[S]) -> tuple[Floats32, Bools]:
        """Log-probability of each target token, (S,), and "no other is more likely there", (S,)."""

    @abstractmethod
    def _prefill(self, prompts: TokenBatch, lengths: Ints) -> tuple[S, Floats32]:
        """Read prompts, padded on `prompt_side`, of these lengths (B,); see `Runtime.prefill`."""

    @abstractmethod
    def _step(self, state: S, ids: Ints) -> tuple[S, Floats32]:
        """See `Runtime.step`."""

    @abstractmethod
    def _reorder(self, state: S, rows: Ints) -> S:
        """See `Runtime.reorder`."""

    # --- what all of them do alike

    def predict(self, head: str, batch: TokenBatch) -> Floats32:
        """See `Runtime`."""
        (logits,) = self.predict_heads((head,), batch)
        return logits

    def predict_heads(self, heads: Sequence[str], batch: TokenBatch) -> list[Floats32]:
        """See `Runtime`."""
        specs = [self._predicting(head) for head in heads]
        aligned = self._aligned(
            batch, side="right", longest=self._longest_prompt, empty_rows=self.heads_read_empty_rows
        )
        rows, columns = aligned.batch.ids.shape
        names = ", ".join(map(repr, heads))
        with memory_errors(f"head {names} reads {_counted(rows)} of {columns} tokens"):
            found = self._predict_heads(specs, aligned.batch)
        if aligned.places is None:
            return found
        kinds = [head_of(spec) for spec in specs]
        return [
            aligned.restore(logits, padding=kind.padding) if kind.per_token else logits
            for kind, logits in zip(kinds, found, strict=True)
        ]

    def score(
        self,
        batch: TokenBatch,
        targets: TokenTargets,
        *,
        subtree_end: Ints | None = None,
        prefix_state: DecodingState | None = None,
        source: TokenBatch | None = None,
        source_rows: Ints | None = None,
    ) -> TokenScores:
        """See `Runtime`."""
        self._check_predicts_tokens()
        self._check_shared(subtree_end=subtree_end, prefix_state=prefix_state, source=source)
        if not len(targets.rows):
            return TokenScores(logprobs=np.zeros(0, dtype=np.float32), greedy=np.zeros(0, dtype=np.bool_))
        if not batch.mask[targets.rows, targets.columns].all():
            raise UsageError("a target follows a column that is padding; it can follow a token only.")
        aligned = align(batch, side="right")
        encoded = None
        if source is not None:
            encoded = self._aligned(source, side="right", longest=self._longest_prompt).batch
        given = ScoreInput(
            rows=aligned.batch,
            lengths=aligned.lengths,
            targets=TokenTargets(rows=targets.rows, columns=aligned.columns_of(targets), tokens=targets.tokens),
            subtree_end=None if subtree_end is None else subtree_end[:, : aligned.batch.ids.shape[1]],
            prefix_state=None if prefix_state is None else self._own(prefix_state),
            source=encoded,
            source_rows=source_rows,
        )
        rows, length = aligned.batch.ids.shape
        with memory_errors(f"scoring {_counted(rows)} of {length} tokens"):
            logprobs, greedy = self._score(given)
        return TokenScores(logprobs=logprobs, greedy=greedy)

    def prefill(self, batch: TokenBatch) -> tuple[S, Floats32]:
        """See `Runtime`."""
        self._check_predicts_tokens()
        aligned = self._aligned(batch, side=self._prompt_side, longest=self._longest_prompt)
        rows, columns = aligned.batch.ids.shape
        with memory_errors(f"reading {_counted(rows)} of {columns} tokens"):
            return self._prefill(aligned.batch, aligned.lengths)

    def step(self, state: DecodingState, ids: Ints) -> tuple[S, Floats32]:
        """See `Runtime`."""
        with memory_errors(f"continuing {_counted(len(ids))}"):
            return self._step(self._own(state), ids)

    def reorder(self, state: DecodingState, rows: Ints) -> S:
        """See `Runtime`."""
        with memory_errors(f"moving {_counted(len(rows))}"):
            return self._reorder(self._own(state), rows)

    def free_bytes(self) -> int | None:
        """See `Runtime`: of the host."""
        return free_host_bytes()

    # --- for drivers

    @property
    def predicts_tokens(self) -> bool:
        """Is it a language model, or does it answer by heads alone?"""
        return self.model.kind != "encoder"

    def _predicting(self, head: str) -> HeadSpec:
        """
        Raises:
            UsageError: there is no such head, or it writes.
        """
        spec = self._specs.get(head)
        if spec is None:
            raise unknown("head", head, self._specs)
        if not spec.predicts:
            raise UsageError(f"head {head!r} of {self.model.name} writes text; it has no logits to predict with.")
        return spec

    def _own(self, state: DecodingState) -> S:
        """The state, which a runtime of this class made.

        Raises:
            UsageError: another one made it.
        """
        if not isinstance(state, self._state_type):
            raise UsageError(
                f"{self.model.name} was given a decoding state of another runtime ({type(state).__name__}); it "
                f"continues its own ({self._state_type.__name__})."
            )
        return state

    def _aligned(
        self, batch: TokenBatch, *, side: Literal["left", "right"], longest: int | None, empty_rows: bool = False
    ) -> Aligned:
        """A batch with its padding on one side.

        Raises:
            UsageError: no rows, one of no tokens (but for `empty_rows`), or one of more than `longest`.
        """
        aligned = align(batch, side=side)
        rows, columns = aligned.batch.ids.shape
        if not rows or aligned.places is not None:
            self._check_lengths(aligned.lengths, empty_rows=empty_rows)
        if longest is not None and columns > longest:
            raise self._too_long(columns)
        return aligned

    def _check_lengths(self, lengths: Ints, *, empty_rows: bool = False) -> None:
        """
        Raises:
            UsageError: no rows, or one of no tokens (but for `empty_rows`).
        """
        if not len(lengths):
            raise UsageError("a batch of no rows was given; it needs at least one.")
        if not empty_rows and not lengths.all():
            row = int(lengths.argmin())
            raise UsageError(f"row {row} of a batch of {len(lengths)} has no tokens; each needs at least one token.")

    def _too_long(self, tokens: int) -> UsageError:
        """The error for a row that has more tokens than the model has positions."""
        most = self.model.max_length_tokens
        return UsageError(f"a row has {tokens} tokens, but {self.model.name} takes {most}; cut it.")

    def _check_predicts_tokens(self) -> None:
        if not self.predicts_tokens:
            raise UsageError(f"{self.model.name} ({self.model.family}) answers by heads alone; it predicts no tokens.")

    def _check_shared(
        self, *, subtree_end: Ints | None, prefix_state: DecodingState | None, source: TokenBatch | None
    ) -> None:
        """Raises: UsageError: rows share what this model cannot share, or their source is missing or superfluous."""
        name = self.model.name
        if subtree_end is not None and not self.sharing.longest_row:
            raise UsageError(f"the rows of {name} cannot branch in {self.card.runtime}; see `sharing`.")
        if prefix_state is not None and not self.sharing.prefix:
            raise UsageError(f"the rows of {name} cannot continue a state in {self.card.runtime}; see `sharing`.")
        if self.model.kind == "encoder-decoder":
            if source is None:
                raise UsageError(f"{name} is an encoder-decoder; it scores targets behind a source, none was given.")
        elif source is not None:
            raise UsageError(f"{name} is a causal model; it reads no source.")


class FixedStateDriver(Driver[S]):
    """A driver whose states take the same room however long their rows are: they stand for everything before them, and
    rows of several may stand together."""

    @property
    def sharing(self) -> Sharing:
        """See `Runtime`: rows continue a state, and do not branch."""
        return PREFIX_SHARED if self.predicts_tokens and self.model.kind == "causal" else NOTHING_SHARED

    @abstractmethod
    def join(self, first: S, second: S) -> S:
        """The rows of two states."""

    def slots(self, *, rows: int, length: int) -> Slots | None:
        """See `Runtime`. Sources of different lengths cannot stand together later, so of an encoder-decoder all rows
        come at once."""
        del length
        return StateSlots(self, rows=rows, joins=self.model.kind == "causal") if self.predicts_tokens else None


class StateSlots(Generic[S]):
    """Places for rows over states: one state for those in use.

    Args:
        rows: there is room for so many.
        joins: may rows come while others are being written?
    """

    def __init__(self, driver: FixedStateDriver[S], *, rows: int, joins: bool) -> None:
        self.joins = joins
        self._driver = driver
        self._rows = rows
        self._used = 0
        self._state: S | None = None

    def fill(self, batch: TokenBatch) -> Floats32:
        """See `Slots`."""
        count = len(batch.ids)
        if self._used + count > self._rows or (self._used and not self.joins):
            raise ValueError(f"{count} rows were to come; of {self._rows} places {self._used} are in use")
        state, logits = self._driver.prefill(batch)
        self._state = state if self._state is None or not self._used else self._driver.join(self._state, state)
        self._used += count
        return logits

    def step(self, ids: Ints) -> Floats32:
        """See `Slots`."""
        assert self._state is not None  # rows are in use
        self._state, logits = self._driver.step(self._state, ids)
        return logits

    def leave(self, place: int) -> None:
        """See `Slots`."""
        assert self._state is not None  # rows are in use
        last = self._used - 1
        kept = np.arange(last)
        kept[place:][:1] = last
        self._state = self._driver.reorder(self._state, kept)
        self._used = last


def _counted(rows: int) -> str:
    return "1 row" if rows == 1 else f"{rows:,} rows"
