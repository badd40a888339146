"""Places for rows over states: for every runtime whose states take the same room however long their rows are."""

from typing import Generic, Protocol, TypeVar

import numpy as np

from lmtasks.records import Floats32, Ints, TokenBatch

State = TypeVar("State")


class JoinsStates(Protocol[State]):
    """What the places need of a runtime."""

    def prefill(self, batch: TokenBatch) -> tuple[State, Floats32]: ...

    def step(self, state: State, ids: Ints) -> tuple[State, Floats32]: ...

    def reorder(self, state: State, rows: Ints) -> State: ...

    def join(self, first: State, second: State) -> State:
        """The rows of two states."""
        ...


class StateSlots(Generic[State]):
    """Rows that come and go: one state for those in use.

    Args:
        joins: may rows come while others are being written? Sources of different lengths cannot stand together later.
    """

    def __init__(self, runtime: JoinsStates[State], *, rows: int, joins: bool) -> None:
        self.joins = joins
        self._runtime = runtime
        self._rows = rows
        self._used = 0
        self._state: State | None = None

    def fill(self, batch: TokenBatch) -> Floats32:
        """See `Slots`."""
        count = len(batch.ids)
        if self._used + count > self._rows or (self._used and not self.joins):
            raise ValueError(f"{count} rows were to come; of {self._rows} places {self._used} are in use")
        state, logits = self._runtime.prefill(batch)
        self._state = state if self._state is None or not self._used else self._runtime.join(self._state, state)
        self._used += count
        return logits

    def step(self, ids: Ints) -> Floats32:
        """See `Slots`."""
        assert self._state is not None  # rows are in use
        self._state, logits = self._runtime.step(self._state, ids)
        return logits

    def leave(self, place: int) -> None:
        """See `Slots`."""
        assert self._state is not None  # rows are in use
        last = self._used - 1
        kept = np.arange(last)
        kept[place:][:1] = last
        self._state = self._runtime.reorder(self._state, kept)
        self._used = last
