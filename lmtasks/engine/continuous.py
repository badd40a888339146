"""Continuous batching: rows that are finished leave at once, and those that wait take their places.

Axes: B rows that are being written, V vocabulary.
"""

from collections import deque
from collections.abc import Callable, Collection, Sequence
from time import perf_counter

import numpy as np

from lmtasks.data.batches import pad
from lmtasks.engine.decode import Decode, EncodedPrompt, OnStep, Row, next_tokens, written_token
from lmtasks.engine.rows_together import RowsTogether
from lmtasks.engine.schedule import Budget, too_long
from lmtasks.records import Floats32
from lmtasks.runtime.base import Slots
from lmtasks.runtime.memory import OutOfMemory

Arriving = Callable[[bool], Sequence[EncodedPrompt] | None]
"""Gives the prompts that came since it was last asked. Asked with True, nothing is being written and it may wait for
one; None: no more will come."""
Leaving = Callable[[], Collection[int]]
"""Gives the rows that nobody waits for any more, since it was last asked."""

JOIN_SHARE = 4
"""New rows are read when this part (a quarter) of the places is free: a prompt alone makes poor use of a processor."""


def write_queue(
    make: Callable[[int], Slots],
    prompts: Sequence[EncodedPrompt],
    *,
    rows: RowsTogether,
    budget: Budget,
    pad_id: int,
    decode: Decode,
    ends: frozenset[int],
    streaming: bool,
    on_step: OnStep,
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Write every row to its end. Rows are started in the order given.

    Args:
        make: slots for so many rows.
        prompts: what is to be continued; `Step.row` is the place in this list.
        rows: written at a time; is told what steps take.
        budget: how many prompt tokens are read at once; made smaller where memory runs out.
        decode: token ids to text.
        ends: tokens that end a text.
        streaming: give the text of every step; without it only finished rows are reported.
        on_step: is called with each step.
        stopped: is the work to be given up?

    Raises:
        WorkError: a single row does not fit into memory.
    """
    writer = _Writer(
        make,
        prompts,
        rows=rows,
        budget=budget,
        pad_id=pad_id,
        decode=decode,
        ends=ends,
        streaming=streaming,
        on_step=on_step,
    )
    while (writer.waiting or writer.writing) and not stopped():
        writer.go_on()


def write_arriving(
    make: Callable[[int], Slots],
    arriving: Arriving,
    *,
    rows: RowsTogether,
    budget: Budget,
    pad_id: int,
    decode: Decode,
    ends: frozenset[int],
    on_step: OnStep,
    leaving: Leaving = lambda: (),
) -> None:
    """Write rows that come while others are being written, until no more come and all are finished.

    Args:
        arriving: asked before every step.
        leaving: asked after `arriving`; those rows are not written further, and others take their places.
        on_step: is called with each step; `Step.row` counts the rows in the order in which they came.

    The other arguments are those of `write_queue`.
    """
    writer = _Writer(
        make,
        (),
        rows=rows,
        budget=budget,
        pad_id=pad_id,
        decode=decode,
        ends=ends,
        streaming=True,
        on_step=on_step,
    )
    while True:
        idle = not writer.waiting and not writer.writing
        coming = arriving(idle)
        if coming is None and idle:
            return
        writer.add(coming or ())
        writer.drop(leaving())
        writer.go_on()


class _Writer:
    def __init__(
        self,
        make: Callable[[int], Slots],
        prompts: Sequence[EncodedPrompt],
        *,
        rows: RowsTogether,
        budget: Budget,
        pad_id: int,
        decode: Decode,
        ends: frozenset[int],
        streaming: bool,
        on_step: OnStep,
    ) -> None:
        self.waiting: deque[Row] = deque()
        self.writing: list[Row] = []
        self._make = make
        self._choice = rows
        self._places = min(rows.most, len(prompts)) if prompts else rows.most
        """There is room for so many, whether or not as many are written."""
        self._decode = decode
        self._came = 0
        self._budget = budget
        self._pad_id = pad_id
        self._ends = ends
        self._streaming = streaming
        self._on_step = on_step
        self._tokens: list[int] = []
        """The last token of each row that is being written; the model has not read it yet."""
        self._slots: Slots | None = None
        self.add(prompts)

    def add(self, prompts: Sequence[EncodedPrompt]) -> None:
        """Rows that wait from now on."""
        for number, prompt in enumerate(prompts, start=self._came):
            watched = self._streaming or bool(prompt.settings.stop)
            self.waiting.append(Row(number, prompt, decode=self._decode, ends=self._ends, watched=watched))
        self._came += len(prompts)

    def drop(self, numbers: Collection[int]) -> None:
        """Rows that are not to be written any further, whether they wait or are being written."""
        if not numbers:
            return
        self.waiting = deque(row for row in self.waiting if row.number not in numbers)
        for place in range(len(self.writing) - 1, -1, -1):
            if self.writing[place].number in numbers:
                self._leave(place)

    @property
    def _rows(self) -> int:
        """To be written together now."""
        return min(self._places, self._choice.rows)

    def go_on(self) -> None:
        """Let rows join where they may, and write one token further."""
        if self.waiting and self.may_join():
            self.join()
        if self.writing:
            self.step()

    def may_join(self) -> bool:
        """Is there room for rows that wait, and are there enough of them to be worth a call?"""
        if not self.writing:
            return True
        free = self._rows - len(self.writing)
        enough = min(len(self.waiting), max(1, self._rows // JOIN_SHARE))
        return free >= enough and self._slots is not None and self._slots.joins

    def join(self) -> None:
        """Read the prompts of rows that wait, as many as there is room for."""
        joining = self._next_rows()
        logits = self._fill(joining)
        if logits is None:
            self.waiting.extendleft(reversed(joining))
            self._shrink(len(joining), longest=max(len(row.prompt.ids) for row in joining))
            return
        self.writing += joining
        self._tokens += [0] * len(joining)
        self._append(logits, first=len(self.writing) - len(joining))

    def step(self) -> None:
        """One token further."""
        assert self._slots is not None
        rows, started = len(self.writing), perf_counter()
        logits = self._step(self._slots)
        if logits is None:
            self._give_up_half()
        else:
            self._append(logits, first=0)
            self._choice.took(rows, perf_counter() - started)

    def _next_rows(self) -> list[Row]:
        rows = [self.waiting.popleft()]
        longest = len(rows[0].prompt.ids)
        while self.waiting and len(self.writing) + len(rows) < self._rows:
            longest = max(longest, len(self.waiting[0].prompt.ids))
            if (len(rows) + 1) * longest > self._budget.tokens:
                break
            rows.append(self.waiting.popleft())
        return rows

    def _append(self, logits: Floats32, *, first: int) -> None:
        """Choose the next token of the rows from place `first` on; who is finished leaves."""
        rows = self.writing[first:]
        chosen = next_tokens(logits, rows).tolist()
        finished: list[int] = []
        for number, (row, token) in enumerate(zip(rows, chosen, strict=True)):
            place = first + number
            step = len(row.stream.ids)
            self._tokens[place] = token
            stopped = row.append(token)
            if stopped is not None:
                finished.append(place)
            if step >= row.reported and (self._streaming or stopped is not None):
                written = written_token(logits[number], token, row.prompt)
                self._on_step(row.step(step=step, stopped=stopped, token=written))
            elif self._streaming:
                row.stream.take()  # was reported before the row was begun again
        for place in reversed(finished):
            self._leave(place)

    def _leave(self, place: int) -> None:
        assert self._slots is not None
        self._slots.leave(place)
        self.writing[place], self._tokens[place] = self.writing[-1], self._tokens[-1]
        self.writing.pop()
        self._tokens.pop()

    def _fill(self, rows: Sequence[Row]) -> Floats32 | None:
        """None: memory ran out."""
        try:
            if self._slots is None:
                self._slots = self._make(self._places)
            return self._slots.fill(pad([row.prompt.ids for row in rows], pad_id=self._pad_id))
        except OutOfMemory:
            return None

    def _step(self, slots: Slots) -> Floats32 | None:
        """None: memory ran out."""
        try:
            return slots.step(np.array(self._tokens, dtype=np.int64))
        except OutOfMemory:
            return None

    def _shrink(self, rows: int, *, longest: int) -> None:
        """New rows did not fit: fewer are read at once, and fewer written where nothing else is."""
        if not self.writing:
            if rows == 1 and self._rows == 1:
                raise too_long(longest)
            self._places = max(1, min(rows, self._rows) // 2)
            self._slots = None
        else:
            self._places = len(self.writing)
        self._choice.cap(self._places)
        self._budget.halve(rows=rows, longest=longest)

    def _give_up_half(self) -> None:
        """A step did not fit: half of the rows wait again, and are written anew later. They come out the same."""
        longest = max(len(row.prompt.ids) + len(row.stream.ids) for row in self.writing)
        if len(self.writing) == 1:
            raise too_long(longest)
        self._budget.halve(rows=len(self.writing), longest=longest)
        self._places = len(self.writing) // 2
        self._choice.cap(self._places)
        for place in range(len(self.writing) - 1, self._places - 1, -1):
            self.waiting.appendleft(self.writing[place].again())
            self._leave(place)
