"""Requests of a task's scored rows: how many, how long, and how long it may take to answer them."""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np

from lmtasks.engine.requests import GenerateRequest, ScoreRequest
from lmtasks.errors import UsageError
from lmtasks.evaluation.engine_solver import EngineSolver
from lmtasks.evaluation.prompts import Prompts
from lmtasks.evaluation.protocols import InferenceEngine, Pending, PromptContext, RequestBuilder, ScoredExample
from lmtasks.records import Row
from lmtasks.task.fewshot import lm_eval_stream, pick_shots
from lmtasks.task.identity import holds_own_answer
from lmtasks.task.kinds import kind_of
from lmtasks.task.prompt import Prompt
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
class OwnAnswers:
    """Prompts whose worked examples hold the answer to their own question, by both ways to draw them."""

    task: Task
    prompt_context: PromptContext
    ours: int = 0
    """Other than none only with a sampler of the task's own."""
    lm_eval: int = 0
    too_few: str = ""
    """Why lm-evaluation-harness could not draw; empty where it could."""
    _row: Row = field(default_factory=dict)
    _drawn: Iterator[tuple[Row, ...]] | None = None

    def take(self, row: Row, number: int) -> None:
        """One scored row; in their order, since lm-evaluation-harness draws so.

        Raises:
            UsageError: the task does not fit the row, or too few worked examples are there.
        """
        count, pool, seed = self.prompt_context.num_fewshot, self.prompt_context.shot_pool, self.prompt_context.seed
        mine = pick_shots(self.task, pool=pool, row=row, row_number=number, count=count, seed=seed)
        self.ours += holds_own_answer(self.task, row, mine)
        if self.too_few:
            return
        self._row = row
        try:
            if self._drawn is None:
                self._drawn = lm_eval_stream(self.task, pool=pool, rows=self._rows(), count=count, seed=seed)
            self.lm_eval += holds_own_answer(self.task, row, next(self._drawn))
        except UsageError as error:
            self.too_few = str(error)

    def _rows(self) -> Iterator[Row]:
        while True:
            yield self._row


class AskedRows:
    """Turns scored rows into what is asked of a model, and remembers of it what people want to know.

    Args:
        prompt_context: how prompts are made.
        show: prompts that are kept to be shown.
        prompts: is the task asked by prompts?
        solver: the model that is asked; None: none, and lengths are characters of prompts.
    """

    def __init__(
        self, task: Task, *, prompt_context: PromptContext, show: int, prompts: bool, solver: EngineSolver | None
    ) -> None:
        self.shown: list[Prompt] = []
        self.requests = 0
        self.cut = 0
        """Requests that are longer than the model takes."""
        self.own_answers: OwnAnswers | None = None
        """None where there are no worked examples."""
        if prompt_context.num_fewshot and (prompts or solver is not None):
            self.own_answers = OwnAnswers(task=task, prompt_context=prompt_context)
        self._task = task
        self._prompts = Prompts(task=task, prompt_context=prompt_context) if prompts else None
        self._show = show
        self._engine = solver.engine if solver else None
        self._builder: RequestBuilder | None = (
            solver.request_builder(task, prompt_context=prompt_context) if solver else None
        )
        self._lengths = array("I")
        self._rows = 0
        self._to_time: frozenset[int] = frozenset()
        self._timed: list[Sequence[Pending]] = []

    def begin(self, rows: int) -> None:
        """How many rows will come."""
        self._rows = rows
        most = min(TIMED_ROWS[-1], rows)
        self._to_time = frozenset(number * rows // most for number in range(most))

    def take(self, row: Row, number: int) -> None:
        """One scored row.

        Raises:
            UsageError: the task does not fit the row, or the model.
        """
        if self.own_answers is not None:
            self.own_answers.take(row, number)
        example = ScoredExample(doc_id=number, row=row)
        shown = len(self.shown) < self._show
        prompt = self._prompts.of(example) if self._prompts and (shown or self._builder is None) else None
        if prompt is not None and shown:
            self.shown.append(prompt)
        if self._builder is None:
            if prompt is not None:
                own = kind_of(self._task).candidates(self._task, row)
                self._lengths.extend([len(prompt.context) + len(text) for text in own] or _characters(prompt))
                self.requests = len(self._lengths) * self._task.repeats
            return
        asked = self._builder.build([example])  # one by one, so that what is wrong with a row is said of that row
        self._count(asked)
        if number in self._to_time:  # of what comes once, before the first row, not each row has its share
            self._timed.append(asked[-1:])

    def end(self) -> None:
        """Requests after the last row."""
        self._count(self._builder.end() if self._builder else ())

    def lengths(self) -> Lengths | None:
        """Lengths of all requests, before anything is cut; of texts that a head reads, after it."""
        if not self._lengths:
            return None
        least, median, most_of, most = np.percentile(np.array(self._lengths), [0, 50, 95, 100], method="lower").tolist()
        unit = "characters" if self._engine is None else "tokens"
        return Lengths(unit=unit, least=least, median=median, most_of=most_of, most=most)

    def estimate(self) -> Estimated | None:
        """Answer a few rows and multiply."""
        if self._engine is None or not self._timed:
            return None
        seconds, timed = 0.0, 0
        for count in TIMED_ROWS:
            part = self._timed[:: max(1, len(self._timed) // count)][:count]
            began = perf_counter()
            _answer(self._engine, [pending for asked in part for pending in asked])
            seconds, timed = perf_counter() - began, len(part)
            if seconds > TIMED_SECONDS:
                break
        return Estimated(seconds=seconds / timed * self._rows, timed_rows=timed, timed_seconds=seconds)

    def _count(self, asked: Sequence[Pending]) -> None:
        if self._engine is None:
            return
        longest, apart = self._engine.max_length_tokens, self._engine.model.kind == "encoder-decoder"
        for pending in asked:
            self.requests += pending.size
            self._lengths.extend(len(row.ids) for row in pending.predict)
            self._lengths.extend(len(each.context_ids) + len(each.target_ids) for each in pending.score)
            self._lengths.extend(len(each.prompt_ids) for each in pending.generate)
            self.cut += pending.cut or sum(
                [
                    *(_cut_scored(each, longest=longest, apart=apart) for each in pending.score),
                    *(_cut_prompt(each, longest=longest, apart=apart) for each in pending.generate),
                ]
            )


def _cut_scored(request: ScoreRequest, *, longest: int, apart: bool) -> bool:
    """Will the engine cut it? A causal model's last token is scored but not read."""
    context, target = len(request.context_ids), len(request.target_ids)
    return max(context, target) > longest if apart else context + target > longest + 1


def _cut_prompt(request: GenerateRequest, *, longest: int, apart: bool) -> bool:
    """Will the engine cut it? A causal model needs room for the answer."""
    return len(request.prompt_ids) > longest - (0 if apart else request.settings.room)


def _answer(engine: InferenceEngine, asked: Sequence[Pending]) -> None:
    """Let an engine answer all of these; the answers are thrown away."""
    if score := [request for pending in asked for request in pending.score]:
        engine.score(score, on_progress=None)
    if generate := [request for pending in asked for request in pending.generate]:
        engine.generate(generate, on_progress=None)
    if predict := [row for pending in asked for row in pending.predict]:
        engine.predict(asked[0].head, predict, on_progress=None)


def _characters(prompt: Prompt) -> list[int]:
    """Characters of each request of a prompt."""
    if prompt.contexts:
        return [len(context) + len(prompt.delimiter) + len(prompt.target) for context in prompt.contexts]
    if prompt.choices:
        return [len(prompt.context) + len(prompt.delimiter) + len(choice) for choice in prompt.choices]
    return [len(prompt.context) or len(prompt.target)]
