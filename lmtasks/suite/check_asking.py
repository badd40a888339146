"""What a task's scored rows ask: how much, how long, and how long it may take to answer."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np

from lmtasks.evaluation.asked import Answers
from lmtasks.evaluation.asked_row import AskedRow, ask_engine, asked_by_prompt, asked_of_head
from lmtasks.records import HeadSpec, Row
from lmtasks.suite.check_rows import CheckOptions
from lmtasks.task.prompt import Prompt, build_prompt, pick_shots
from lmtasks.task.task import Task

TIMED_ROWS = (2, 8, 24)
"""So many rows, spread evenly, are answered to estimate the time; the first are a warm-up."""
TIMED_SECONDS = 2.0
"""No more rows are timed once they take so long."""


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """How long requests are."""

    unit: str
    least: int
    median: int
    most_of: int
    """95% are no longer."""
    most: int


@dataclass(frozen=True, kw_only=True)
class Estimated:
    """How long an evaluation may take."""

    seconds: float
    timed_rows: int
    timed_seconds: float


@dataclass(kw_only=True)
class AskedRows:
    """Turns scored rows into what is asked, and remembers of it what people want to know."""

    task: Task
    options: CheckOptions
    way: str
    shots: int
    engine: Answers | None
    pool: Sequence[Row] = ()
    shown: list[Prompt] = field(default_factory=list)
    requests: int = 0
    cut: int = 0
    _lengths: "array[int]" = field(default_factory=lambda: array("I"))
    _timed: dict[int, AskedRow] = field(default_factory=dict)
    _to_time: frozenset[int] = frozenset()

    def begin(self, rows: int) -> None:
        """How many rows will come."""
        most = min(TIMED_ROWS[-1], rows)
        self._to_time = frozenset(number * rows // most for number in range(most))

    def take(self, row: Row, number: int) -> None:
        """One scored row."""
        if not self.way:
            return
        prompt = self._prompt(row, number) if self.way == "prompt" or len(self.shown) < self.options.show else None
        if prompt is not None and len(self.shown) < self.options.show:
            self.shown.append(prompt)
        if self.engine is None:
            assert prompt is not None  # without a model the way is `prompt`
            self._lengths.extend(_characters(prompt))
            self.requests = len(self._lengths) * self.task.repeats
            return
        asked = self._asked(row, number, prompt)
        self._lengths.extend(asked.lengths)
        self.requests += len(asked.lengths)
        self.cut += asked.cut
        if number in self._to_time:
            self._timed[number] = asked

    def lengths(self) -> Lengths | None:
        """Of all requests."""
        if not self._lengths:
            return None
        least, median, most_of, most = np.percentile(np.array(self._lengths), [0, 50, 95, 100], method="lower").tolist()
        unit = "characters" if self.engine is None else "tokens"
        return Lengths(unit=unit, least=least, median=median, most_of=most_of, most=most)

    def estimate(self, rows: int) -> Estimated | None:
        """Answer a few rows and multiply."""
        if self.engine is None or not self._timed:
            return None
        every = [self._timed[number] for number in sorted(self._timed)]
        seconds, timed = 0.0, 0
        for count in TIMED_ROWS:
            part = every[:: max(1, len(every) // count)][:count]
            began = perf_counter()
            ask_engine(self.engine, part)
            seconds, timed = perf_counter() - began, len(part)
            if seconds > TIMED_SECONDS:
                break
        return Estimated(seconds=seconds / timed * rows, timed_rows=timed, timed_seconds=seconds)

    def _prompt(self, row: Row, number: int) -> Prompt | None:
        if self.task.templates.asked.question is None and self.task.output_type != "loglikelihood_rolling":
            return None
        shots = pick_shots(
            self.task, pool=self.pool, row=row, row_number=number, count=self.shots, seed=self.options.seed
        )
        return build_prompt(self.task, row, shots=shots, row_number=number)

    def _asked(self, row: Row, number: int, prompt: Prompt | None) -> AskedRow:
        assert self.engine is not None  # the caller looked
        model, tok = self.engine.model, self.engine.tokenizer
        head = _head(self.task, model.heads) if self.way == "head" else None
        if head is not None and head.kind != "generation":
            return asked_of_head(self.task, row, number=number, head=head, model=model, tok=tok)
        prompt = prompt or build_prompt(self.task, row, row_number=number)
        return asked_by_prompt(
            self.task, row, prompt=prompt, number=number, seed=self.options.seed, model=model, tok=tok
        )


def _head(task: Task, heads: Sequence[HeadSpec]) -> HeadSpec | None:
    """The head that answers: the task's own, else the one that the checkpoint carries."""
    named = next((head for head in heads if head.name == task.name and head.pooling != "own"), None)
    return named or next((head for head in heads if head.pooling == "own"), None)


def _characters(prompt: Prompt) -> list[int]:
    """Characters of each request of a prompt."""
    if prompt.contexts:
        return [len(context) + len(prompt.delimiter) + len(prompt.target) for context in prompt.contexts]
    if prompt.choices:
        return [len(prompt.context) + len(prompt.delimiter) + len(choice) for choice in prompt.choices]
    return [len(prompt.context) or len(prompt.target)]
