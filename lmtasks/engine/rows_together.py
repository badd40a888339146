"""How many texts are written together where nobody says so: found by the first steps of the writing itself.

A step reads all weights once, whoever they are for, so more rows make a token cheaper, until the products are as fast
as they get, or what is kept of the rows leaves the processor's caches. Where that is depends on the model, the
precision, the lengths and the machine. So a writing begins with a few rows, and lets twice as many come as long as
their tokens come faster by a twentieth; what was found holds for later texts of such a length. A text comes out the
same, whatever is written beside it.

>>> choice = RowsTogether(most=100)
>>> for seconds_each in (0.010, 0.007, 0.0069):  # of a token, with 16, 32 and 64 rows
...     for _ in range(STEPS):
...         choice.took(choice.rows, seconds_each * choice.rows)
>>> choice.rows, choice.is_settled
(32, True)
"""

from statistics import median
from threading import Lock

FIRST_ROWS = 16
STEPS = 6
"""So many steps of all rows are timed before their number is judged: the first ones see cold caches, the middle one
counts."""
LEAST_ROWS = 8
"""Of which memory is not asked: what is kept of a text grows as it does, and most are shorter than they might be."""
MOST_ROWS = 256
"""More make no token cheaper on any processor that was looked at, and the first text waits longer."""
GAIN = 1.05
"""Twice as many rows must make tokens come so many times as fast, or what is kept of them is not worth it."""


class RowsTogether:
    """A number of rows that grows while it pays. Several writers may share it, each in a thread of its own.

    Args:
        most: never more; what memory has room for.
        first: to begin with; None: `FIRST_ROWS`. With as many as `most` the number is fixed.
    """

    def __init__(self, *, most: int, first: int | None = None) -> None:
        self.most = most
        self.rows = min(first or FIRST_ROWS, most)
        """To be written together now, by each writer."""
        self.is_settled = self.rows == most
        self.seconds_by_rows: dict[int, float] = {}
        """Of a row's token, by how many were written together; of those that were timed."""
        self._before = 0
        self._timed: list[float] = []
        self._lock = Lock()

    def took(self, rows: int, seconds: float) -> None:
        """Take the time of a step. Steps of fewer rows than wanted say nothing."""
        if self.is_settled:
            return
        with self._lock:
            if rows != self.rows:
                return
            self._timed.append(seconds / rows)
            if len(self._timed) == STEPS:
                self._judge(median(self._timed))
                self._timed = []

    def cap(self, rows: int) -> None:
        """Memory has room for so many: no more are tried from now on."""
        with self._lock:
            self.most = min(self.most, rows)
            if self.rows >= self.most:
                self.rows, self.is_settled = self.most, True

    def _judge(self, seconds: float) -> None:
        self.seconds_by_rows[self.rows] = seconds
        if self._before and self.seconds_by_rows[self._before] < GAIN * seconds:
            self.rows, self.is_settled = self._before, True
        elif self.rows == self.most:
            self.is_settled = True
        else:
            self._before, self.rows = self.rows, min(2 * self.rows, self.most)


class RowsByLength:
    """A choice for texts of each order of length: longer ones are kept as more keys and values.

    Args:
        kept_tokens: of all rows, prompts and answers, that there is room for.
        rows: so many rows and no more, whatever their length; None: `RowsTogether` finds it out.
        measured: False: as many rows as there is room for, which is best where products want as many as they can get.
    """

    def __init__(self, *, kept_tokens: int, rows: int | None, measured: bool) -> None:
        self._kept_tokens = kept_tokens
        self._rows = rows
        self._measured = measured
        self._choices: dict[int, RowsTogether] = {}

    def of(self, length: int) -> RowsTogether:
        """The choice for texts of at most so many tokens, prompt and answer."""
        order = max(0, length - 1).bit_length()
        if order not in self._choices:
            measured = self._rows is None and self._measured
            wanted = (MOST_ROWS,) if measured else () if self._rows is None else (self._rows,)
            room = max(LEAST_ROWS if measured else 1, self._kept_tokens >> order)
            most = min([room, *wanted])
            first = None if measured else most
            self._choices[order] = RowsTogether(most=most, first=first)
        return self._choices[order]
