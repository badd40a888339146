"""The primitives that every runtime offers, and nothing else. Scheduling and decoding stand above, in `engine/`.

A new runtime derives from `Driver` (`driver.py`), which checks and aligns what comes in, and writes only what it
computes; `Runtime` is what the engine sees of it. Its `RuntimeOpener` says what it can do on this machine, and opens a
folder: `RUNTIMES` (`settings/runtimes.py`) names that of each runtime, an entry point that of another package.

Axes: B batch, T time, S target tokens, V vocabulary.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from lmtasks.errors import UsageError
from lmtasks.processor import INSTRUCTIONS
from lmtasks.records import Floats32, Ints, ModelCard, RuntimeCard, TokenBatch, TokenScores, TokenTargets
from lmtasks.settings.runtimes import product_of

TOLD_SCORES = 1 << 21
"""Log-probabilities of all tokens stand in memory for so many of them at a time."""


class DecodingState:
    """Where rows stand while they are decoded: opaque to everybody but the runtime that made it.

    A state is not changed by what is done with it, so it may be continued more than once.
    """


@dataclass(frozen=True, kw_only=True)
class Sharing:
    """Parts that several rows may share in one pass. They are measured on the loaded model, not listed by family."""

    longest_row: int = 0
    """Longest row that may branch (`subtree_end` of `Runtime.score`), with its prefix state; 0: none may."""
    prefix: bool = False
    """May rows continue a `prefix_state`?"""
    pairs_per_token: int = 2048
    """So many pairs of tokens, one looking at the other, cost as much as the rest of a layer costs for one token. With
    width D a layer multiplies 12 D^2 numbers a token, and 2 D a pair: 6 D, 3,072 for a width of 512."""


NOTHING_SHARED = Sharing()
PREFIX_SHARED = Sharing(prefix=True)
"""For a model whose state stands for everything before it: rows continue one, and do not branch."""


class Slots(Protocol):
    """Places for rows that are written token by token; each row has its own length. Made by `Runtime.slots`."""

    joins: bool
    """May new rows come while others are being written?"""

    def fill(self, batch: TokenBatch) -> Floats32:
        """Read prompts into the places behind those in use: next-token logits (B, V) behind each."""
        ...

    def step(self, ids: Ints) -> Floats32:
        """Append one token to each row in use, ids (rows in use,): next-token logits (rows in use, V), which stay until
        the next call."""
        ...

    def leave(self, place: int) -> None:
        """Give a place back; the last row in use moves there."""
        ...


class Runtime(ABC):
    """A loaded model that computes.

    Any primitive may raise `runtime.memory.OutOfMemory`; what was asked may then be asked again, in smaller parts.
    """

    model: ModelCard
    card: RuntimeCard

    @property
    def sharing(self) -> Sharing:
        """Parts that rows may share when they are scored; by default none."""
        return NOTHING_SHARED

    @abstractmethod
    def predict(self, head: str, batch: TokenBatch) -> Floats32:
        """Logits of a head: (B, C) for an answer a text, (B, T, C) for one a token; padded positions hold
        `Head.padding`.

        Raises:
            UsageError: the model has no such head, or it writes text.
        """

    def predict_heads(self, heads: Sequence[str], batch: TokenBatch) -> list[Floats32]:
        """Logits of each of several heads, as of `predict`. A runtime that can reads the batch once for all heads that
        are read alike.

        Raises:
            UsageError: as `predict`.
        """
        return [self.predict(head, batch) for head in heads]

    @abstractmethod
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
        """Log-probability of target tokens behind columns of the rows. Logits are made where there are targets, nowhere
        else.

        Args:
            batch: what is read: for a causal model the rows, for an encoder-decoder what the decoder reads.
            targets: the tokens; any may follow a row's last column.
            subtree_end: (B, T), for rows padded on the right that hold a tree of tokens, parents before children:
                column j is seen by columns j to subtree_end[j] - 1 of its row, and a token's position is the number of
                others that it sees. None: every column sees all before it.
            prefix_state: a state of one row, which all rows of the batch continue.
            source: what the encoder reads, each different source once; None for a causal model.
            source_rows: (B,): which source each row of the batch belongs to; None: the row of the same number.

        Raises:
            UsageError: the model predicts no tokens, shares nothing of that kind (`sharing`), or a target follows
                padding.
        """

    def next_logprobs(self, batch: TokenBatch, rows: Ints, columns: Ints) -> Iterator[Floats32]:
        """Log-probabilities of all tokens behind some places (N,) of the rows of a causal model: tables (n, V) of the
        places in their order. By default every token is a target there, and the rows are read once for each table.

        Raises:
            UsageError: as `score`.
        """
        vocabulary = self.model.vocabulary
        every = max(1, TOLD_SCORES // vocabulary)
        for first in range(0, len(rows), every):
            part = slice(first, first + every)
            targets = TokenTargets(
                rows=np.repeat(rows[part], vocabulary),
                columns=np.repeat(columns[part], vocabulary),
                tokens=np.tile(np.arange(vocabulary), len(rows[part])),
            )
            yield self.score(batch, targets).logprobs.reshape(-1, vocabulary)

    @abstractmethod
    def prefill(self, batch: TokenBatch) -> tuple[DecodingState, Floats32]:
        """Read the prompts (for an encoder-decoder: encode the sources, and feed the decoder's start token).

        Returns:
            The state, and the next-token logits (B, V) behind each row's last real token.

        Raises:
            UsageError: the model predicts no tokens; or there is no row, or one without tokens.
        """

    @abstractmethod
    def step(self, state: DecodingState, ids: Ints) -> tuple[DecodingState, Floats32]:
        """Append one token to each row, ids (B,): the state behind them, and the next-token logits (B, V)."""

    @abstractmethod
    def reorder(self, state: DecodingState, rows: Ints) -> DecodingState:
        """The state of these rows (B',), in this order; a row may be left out or stand several times."""

    def slots(self, *, rows: int, length: int) -> Slots | None:
        """Places for `rows` rows of at most `length` tokens, prompt and answer; None, the default: this model, or this
        runtime, has no such thing, and `prefill`, `step`, `reorder` are the way."""
        del rows, length
        return None

    @property
    def reading_callers(self) -> int:
        """So many calls of `predict` and `score` may run beside each other; texts are written by `card.callers`."""
        return self.card.callers

    @property
    def measures_callers(self) -> bool:
        """Is it open whether calls that read are faster beside each other, or one behind another with all threads? For
        a runtime that has both layouts in the memory of one."""
        return False

    def for_concurrent_calls(self) -> "Runtime":
        """This runtime, laid out for `reading_callers` calls at a time from threads of their own; itself where that is
        1. Each understands the states of the other; slots and states are still used by one thread at a time."""
        return self

    @abstractmethod
    def free_bytes(self) -> int | None:
        """Memory that can still be taken where this runtime computes; None: nobody knows."""

    def close(self) -> None:  # noqa: B027  # a runtime that holds nothing but Python objects has nothing to do
        """Give memory back. The runtime is not used afterwards."""


@dataclass(frozen=True, kw_only=True)
class RuntimeInfo:
    """One line of `lmtasks list runtimes`."""

    name: str
    about: str
    version: str
    """Empty where it is not installed."""
    devices: tuple[str, ...]
    """Where it can compute on this machine; empty where it cannot run at all."""
    precisions: tuple[str, ...]
    """Precisions in which it can compute on this machine."""
    emulated: tuple[str, ...] = ()
    """Precisions that the processor has no instructions for: refused, unless somebody wants to measure that."""
    note: str = ""
    """Why something is missing, and how to get it."""


@dataclass(frozen=True, kw_only=True)
class RuntimeRequest:
    """A folder that is to be opened, and how it is to run."""

    ref: Path
    device: str
    precision: str | None
    """None: fp32, or a package's own."""
    threads: int | None
    """None: as many as the process may use."""
    force: bool = False
    """Also in a precision that the processor emulates."""


class RuntimeOpener(ABC):
    """Opens folders in one runtime. It is made without arguments, and imports what computes when it is asked."""

    @abstractmethod
    def info(self) -> RuntimeInfo:
        """The runtime on this machine."""

    @abstractmethod
    def open(self, request: RuntimeRequest) -> Runtime:
        """Load a folder.

        Raises:
            UsageError: the folder does not suit the runtime, or this machine cannot run it so. Nothing is replaced.
            WorkError: the weights or graphs cannot be loaded.
        """

    def open_together(self, requests: Sequence[RuntimeRequest]) -> tuple[Runtime, ...]:
        """Load several models over one backbone, which is in memory once; each is asked for itself, one at a time.

        Args:
            requests: alike but for their folders.

        Raises:
            UsageError: as `open`; the models stand over different backbones; or this runtime opens one model at a time.
        """
        del requests
        raise UsageError(
            f"{self.info().name} opens one model at a time; several adapters over one backbone answer together in "
            "--runtime torch."
        )

    def precision_of(self, request: RuntimeRequest) -> str:
        """The precision in which a folder would be computed, without loading its weights.

        Raises:
            UsageError: as `open`.
        """
        self.check(device=request.device, precision=request.precision, force=request.force)
        return request.precision or "fp32"

    def check(self, *, device: str, precision: str | None, force: bool = False) -> None:
        """
        Args:
            force: also in a precision that the processor emulates.

        Raises:
            UsageError: the runtime cannot compute there, or in that, on this machine.
        """
        info = self.info()
        if precision in info.emulated and not force and device == "cpu":
            raise UsageError(
                f"{info.name} would emulate {precision} here: the processor has none of "
                f"{INSTRUCTIONS[product_of(str(precision))].names}, and is many times slower for it. Take --precision "
                "fp32; --force measures it all the same."
            )
        precisions = (*info.precisions, *info.emulated)
        for wanted, allowed, how in ((device, info.devices, "on"), (precision or "fp32", precisions, "in")):
            if wanted not in allowed:
                raise UsageError(
                    f"{info.name} cannot compute {how} {wanted!r} here; it can {how}: "
                    f"{', '.join(allowed) or 'nothing'}. {info.note}".rstrip()
                )


def weight_bytes(folder: Path) -> int:
    """Bytes of the weights of a model folder."""
    from lmtasks.model.weights import weight_files

    return sum(file.stat().st_size for file in weight_files(folder))
