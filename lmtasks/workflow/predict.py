"""Texts through a model: one task's answers, without right ones to hold them against."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from lmtasks.errors import UsageError
from lmtasks.head import HEADS
from lmtasks.records import Choice, softmax_log
from lmtasks.task.kinds import kind_of
from lmtasks.workflow.choose_models import OpenOptions
from lmtasks.workflow.choose_tasks import TaskRequest, chosen_tasks
from lmtasks.workflow.unlabelled_rows import row_of, task_of_continuation, task_of_head, unlabelled

if TYPE_CHECKING:
    from lmtasks.data.tokenizer import Tokenizer
    from lmtasks.engine.engine import Engine, HeadRow
    from lmtasks.engine.requests import Generated, GenerateRequest, OnProgress, Scored, ScoreRequest, TokenEvent
    from lmtasks.evaluation.engine_solver import EngineSolver
    from lmtasks.evaluation.protocols import ChoiceRows, Solved
    from lmtasks.records import Floats32, HeadSpec, ModelCard, Outcome, Progress, Row, RuntimeCard
    from lmtasks.task.task import Task

MOST_CHARACTERS = 1_000_000
"""Of a line that is cut into tokens as a whole, which takes a second or two; what a model takes is far less."""
CHARACTERS_OF_TOKEN = 32

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PredictRequest:
    """Which model answers, and what it is asked."""

    model: str
    tasks: TaskRequest = field(default_factory=TaskRequest)
    """One task; none: that of the model's one head, or to go on with a text."""
    opening: OpenOptions = field(default_factory=OpenOptions)
    new_tokens: int = 64
    """Longest continuation of a model that is asked without a task."""
    generation: Mapping[str, object] = field(default_factory=dict)
    """Settings of generation in place of what the task says."""
    seed: int = 1234
    offline: bool = False
    token: str | None = None


@dataclass(frozen=True, kw_only=True)
class PredictedTexts:
    """Answers to some texts, in their order."""

    answers: tuple[str, ...]
    written: bool
    """Were they written token by token?"""
    probabilities: tuple[Mapping[str, float] | None, ...] = ()
    """Of each text's labels; None where its answer is none of them."""
    truncated: int = 0
    """Texts longer than the model takes, which were cut."""
    notes: tuple[str, ...] = ()
    """Sentences about texts of which a part was left out before."""


class Predictor:
    """An opened model with one task; see `open_predictor`."""

    def __init__(self, solver: EngineSolver, task: Task, *, seed: int, choice: ChoiceRows | None = None) -> None:
        self.task = task
        self._solver = solver
        self._seed = seed
        self._choice = choice

    def answer(self, texts: Sequence[str], *, report: Callable[[Progress], None] | None = None) -> PredictedTexts:
        """Answer each text; a task that reads several columns takes texts of JSON.

        Raises:
            UsageError: a text lacks a column that the task reads.
            WorkError: the model failed.
        """
        texts, notes = self._shortened(texts)
        kind = kind_of(self.task)
        typed = [row_of(self.task, text) for text in texts]
        asked = [kind.asked_rows(self.task, row) for row in typed]
        solved = self.solve([row for questions in asked for row in questions], report=report)
        generates = self.task.output_type == "generate_until" and self._solver.way(self.task, way="auto") == "prompt"
        examples = iter(solved.examples)
        found = [list(islice(examples, len(questions))) for questions in asked]
        return PredictedTexts(
            answers=tuple(
                kind.answer_of(self.task, row, [example.answer for example in examples])
                for row, examples in zip(typed, found, strict=True)
            ),
            probabilities=tuple(
                probabilities_of(self.task.labels, examples[0].outcome) if len(examples) == 1 else None
                for examples in found
            ),
            written=generates or (kind.answer == "text" and not kind.roles),
            truncated=solved.truncated,
            notes=tuple(notes),
        )

    def solve(self, rows: Sequence[Row], *, report: Callable[[Progress], None] | None = None) -> Solved:
        """Answer rows as `row_of` makes them.

        Raises:
            WorkError: the model failed.
        """
        from lmtasks.data.rows import make_rows
        from lmtasks.data.splits import TaskData
        from lmtasks.evaluation.protocols import PromptContext

        return self._solver.solve(
            self.task,
            TaskData(test=make_rows(list(rows), where="standard input")),
            prompt_context=PromptContext(seed=self._seed, choice=self._choice),
            report=report or (lambda progress: None),
        )

    def _shortened(self, texts: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
        """The texts without what no model reads, and notes on that; of answers about every part all of it."""
        if HEADS.line(kind_of(self.task).head).per_token:
            return texts, ()
        longest = max(MOST_CHARACTERS // 2, CHARACTERS_OF_TOKEN * self._solver.model.max_length_tokens)
        found = [without_middle(text, longest) for text in texts]
        return [text for text, _ in found], [note for _, note in found if note]


def probabilities_of(labels: Sequence[str], outcome: Outcome) -> Mapping[str, float] | None:
    """Probability of each label, the softmax of its log-probabilities; None where the answer is none of them."""
    import numpy as np

    if not isinstance(outcome, Choice) or len(outcome.scores) != len(labels):
        return None
    shares = softmax_log(np.asarray(outcome.scores, dtype=np.float64))
    return {label: float(np.exp(share)) for label, share in zip(labels, shares, strict=True)}


@contextmanager
def open_predictor(
    request: PredictRequest, *, on_token: Callable[[TokenEvent], None] | None = None
) -> Iterator[Predictor]:
    """The model, loaded, with the task that it is to answer.

    Args:
        on_token: takes what is written while it is written.

    Raises:
        UsageError: there is no such model or task, or they do not fit.
        WorkError: the model cannot be loaded.
    """
    from lmtasks.evaluation.engine_solver import EngineSolver
    from lmtasks.model.resolve import resolve
    from lmtasks.task.generation import with_generation
    from lmtasks.workflow.open_model import card_in

    folder = resolve(request.model, offline=request.offline, token=request.token)
    (decoded,) = with_generation([_chosen(request, card_in(folder))], request.generation)
    task = unlabelled(decoded)
    opening = request.opening
    with opening.engine(folder) as engine:
        answering = engine if on_token is None else _Watched(engine, on_token)
        solver = EngineSolver(answering, label_names=opening.label_names)
        why_not = solver.why_not(task, way="auto")
        if why_not:
            raise UsageError(why_not)
        yield Predictor(solver, task, seed=request.seed, choice=_choice_of(decoded, request))


def _choice_of(task: Task, request: PredictRequest) -> ChoiceRows | None:
    """The validation rows of a task that chooses something on them whenever it is answered."""
    from lmtasks.data.splits import load_task_data
    from lmtasks.evaluation.protocols import ChoiceRows
    from lmtasks.settings.data import DataAccess

    if not kind_of(task).chooses:
        return None
    options = DataAccess(offline=request.offline, token=request.token)
    data = load_task_data(task, options=options, need=frozenset({"validation"}), seed=request.seed)
    return ChoiceRows(task=task, rows=data.validation.rows if data.validation else ())


def without_middle(text: str, most: int) -> tuple[str, str]:
    """A text from whose both ends a model reads all that it can take, whichever end it cuts off; and a note on it.

    >>> without_middle("abcdef", 3), without_middle("abcdefg", 3)
    (('abcdef', ''), ('abcefg', 'of a line of 7 characters the first and last 3 were read.'))
    """
    if len(text) <= 2 * most:
        return text, ""
    return text[:most] + text[-most:], f"of a line of {len(text):,} characters the first and last {most:,} were read."


def _chosen(request: PredictRequest, card: ModelCard) -> Task:
    """The task that was named, a text being continued for one of language modelling; else that of the model's one
    head; else to go on writing."""
    if request.tasks.tasks:
        found = chosen_tasks(request.tasks)
        if len(found) > 1:
            names = ", ".join(task.name for task in found)
            raise UsageError(f"predict answers one task at a time, --tasks names {len(found)}: {names}.")
        if kind_of(found[0]).answer == "likelihood":
            return task_of_continuation(new_tokens=request.new_tokens)
        return found[0]
    if len(card.heads) == 1:
        return _task_of(card.heads[0], request)
    if card.kind == "causal" and not card.heads:
        return task_of_continuation(new_tokens=request.new_tokens)
    names = ", ".join(head.name for head in card.heads) or "none"
    raise UsageError(f"say with --tasks what {card.name} is to answer; its heads: {names}.")


def _task_of(head: HeadSpec, request: PredictRequest) -> Task:
    """The task of a model's one head: that of its name, where there is one with its labels; else what a head of its
    kind reads. A head that writes goes on with the text as it stands, where its prompt is not known."""
    index = request.tasks.index
    known = index.find(head.name, trust_code=request.tasks.trust_code) if head.name in index.names() else ()
    for task in known:
        kind = kind_of(task)
        if kind.answer == "likelihood" and not head.predicts:
            return task_of_continuation(new_tokens=request.new_tokens)
        if (kind.head, task.labels) == (head.kind, head.labels):
            return task
    if head.predicts:
        return task_of_head(head)
    log.warning(
        "the prompt of %s is not known here, so that texts go on as they stand; its task file (--tasks FILE) has it.",
        head.name,
    )
    return task_of_continuation(new_tokens=request.new_tokens)


@dataclass(frozen=True)
class _Watched:
    """An engine whose texts are seen while they are written."""

    engine: Engine
    on_token: Callable[[TokenEvent], None]

    @property
    def tokenizer(self) -> Tokenizer:
        return self.engine.tokenizer

    @tokenizer.setter
    def tokenizer(self, value: Tokenizer) -> None:
        raise AttributeError("an engine keeps its tokenizer")

    @property
    def cached(self) -> Sequence[bool]:
        return ()

    @property
    def model(self) -> ModelCard:
        return self.engine.model

    @property
    def card(self) -> RuntimeCard:
        return self.engine.card

    @property
    def max_length_tokens(self) -> int:
        return self.engine.max_length_tokens

    def predict(self, head: str, rows: Sequence[HeadRow], *, on_progress: OnProgress | None) -> list[Floats32]:
        return self.engine.predict(head, rows, on_progress=on_progress)

    def score(self, requests: Sequence[ScoreRequest], *, on_progress: OnProgress | None) -> list[Scored]:
        return self.engine.score(requests, on_progress=on_progress)

    def generate(self, requests: Sequence[GenerateRequest], *, on_progress: OnProgress | None) -> list[Generated]:
        return self.engine.generate(requests, on_progress=on_progress, on_token=self.on_token)
