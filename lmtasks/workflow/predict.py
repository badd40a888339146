"""Texts through a model: one task's answers, without right ones to hold them against."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from lmtasks.errors import UsageError
from lmtasks.head import HEADS
from lmtasks.records import Choice, softmax_log
from lmtasks.settings.endpoint import is_address
from lmtasks.task.kinds import kind_of
from lmtasks.workflow.choose_models import OpenOptions, as_asked
from lmtasks.workflow.choose_tasks import TaskRequest, chosen_tasks
from lmtasks.workflow.unlabelled_rows import BLANK, row_of, task_of_continuation, task_of_head, unlabelled

if TYPE_CHECKING:
    from lmtasks.data.tokenizer import Tokenizer
    from lmtasks.endpoint.engine import EndpointEngine
    from lmtasks.engine.engine import Engine, HeadRow
    from lmtasks.engine.requests import Generated, GenerateRequest, OnProgress, Scored, ScoreRequest, TokenEvent
    from lmtasks.evaluation.engine_solver import EngineSolver
    from lmtasks.evaluation.outcome import Answered
    from lmtasks.evaluation.protocols import ChoiceRows, Solved
    from lmtasks.records import Floats32, HeadSpec, ModelCard, Outcome, Progress, Row, RuntimeCard
    from lmtasks.task.task import Task

MOST_CHARACTERS = 1_000_000
"""Of a line that is cut into tokens as a whole, which takes a second or two; what a model takes is far less."""
CHARACTERS_OF_TOKEN = 32
RANKED = 1000
"""Texts of a corpus of which an answer tells place and score, as run files of TREC do."""
NO_CORPORA: Mapping[str, Row] = {}

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PredictRequest:
    """Which model answers, and what it is asked."""

    model: str
    tasks: TaskRequest = field(default_factory=TaskRequest)
    """One task, or several that read the same texts; none: that of the model's one head, or to go on with a text."""
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

    tasks: Mapping[str, tuple[str, ...]]
    """The answers of each task."""
    written: bool
    """Were they written token by token?"""
    probabilities: tuple[Mapping[str, float] | None, ...] = ()
    """Of each text's labels; None where its answer is none of them, and of several tasks."""
    raw: tuple[Mapping[str, object], ...] = ()
    """Of each text, what its answer was made of, by the keys of samples: `raw`, and of choices what they are; nothing
    of several tasks, or of several questions about one text. `eval --answers` reads it."""
    outcomes: Mapping[str, tuple[tuple[Outcome, ...], ...]] = field(default_factory=dict)
    """By task: of each text, the answers to its questions as a metric would take them."""
    cut: tuple[bool, ...] = ()
    """Was something of a text cut off?"""
    truncated: int = 0
    """Texts longer than the model takes, which were cut."""
    notes: tuple[str, ...] = ()
    """Sentences about texts of which a part was left out before."""

    @property
    def answers(self) -> tuple[str, ...]:
        """One a text: of several tasks a JSON object of their answers by name."""
        if len(self.tasks) == 1:
            (answers,) = self.tasks.values()
            return answers
        return tuple(
            json.dumps(dict(zip(self.tasks, each, strict=True)), ensure_ascii=False)
            for each in zip(*self.tasks.values(), strict=True)
        )


class Predictor:
    """An opened model with one task, or with several that read the same texts; see `open_predictor`."""

    def __init__(
        self,
        solver: EngineSolver,
        tasks: Sequence[Task],
        *,
        seed: int,
        choice: ChoiceRows | None = None,
        corpora: Mapping[str, Row] = NO_CORPORA,
    ) -> None:
        self.tasks = tuple(tasks)
        self._corpora = corpora
        self._solver = solver
        self._seed = seed
        self._choice = choice

    @property
    def task(self) -> Task:
        """The one task.

        Raises:
            UsageError: there are several.
        """
        if len(self.tasks) > 1:
            names = ", ".join(task.name for task in self.tasks)
            raise UsageError(f"words that moved an answer are told of one task at a time, and there are: {names}.")
        return self.tasks[0]

    @property
    def adapters(self) -> str:
        """How its adapters stand over a backbone that it shares with other models; empty where it is open alone."""
        return self._solver.card.options.get("adapters", "")

    def answer(self, texts: Sequence[str], *, report: Callable[[Progress], None] | None = None) -> PredictedTexts:
        """Answer each text; a task that reads several columns takes texts of JSON. What several heads read of a text
        is read once.

        Raises:
            UsageError: a text lacks a column that a task reads.
            WorkError: the model failed.
        """
        notes: list[str] = []
        typed = [
            [{**row_of(task, text), **self._corpora.get(task.name, {})} for text in self._shortened(task, texts, notes)]
            for task in self.tasks
        ]
        asked = [
            [kind_of(task).asked_rows(task, row) for row in rows] for task, rows in zip(self.tasks, typed, strict=True)
        ]
        solved = self._solve([[row for own in questions for row in own] for questions in asked], report=report)
        answers: dict[str, tuple[str, ...]] = {}
        shares: list[Mapping[str, float] | None] = []
        raw: list[Mapping[str, object]] = []
        outcomes: dict[str, tuple[tuple[Outcome, ...], ...]] = {}
        cut = [False] * len(texts)
        for task, rows, questions, each in zip(self.tasks, typed, asked, solved, strict=True):
            examples, marks = iter(each.examples), iter(each.cut)
            found = [list(islice(examples, len(own))) for own in questions]
            cut = [was or any(islice(marks, len(own))) for was, own in zip(cut, questions, strict=True)]
            outcomes[task.name] = tuple(tuple(example.outcome for example in own) for own in found)
            answers[task.name] = tuple(
                kind_of(task).answer_of(task, row, [example.answer for example in own])
                for row, own in zip(rows, found, strict=True)
            )
            shares = [probabilities_of(task.labels, own[0].outcome) if len(own) == 1 else None for own in found]
            raw = [_made_of(own[0]) if len(own) == 1 else {} for own in found]
        one = len(self.tasks) == 1
        return PredictedTexts(
            tasks=answers,
            written=one and self._writes(self.tasks[0]),
            probabilities=tuple(shares) if one else (None,) * len(texts),
            raw=tuple(raw) if one else ({},) * len(texts),
            truncated=max(each.truncated for each in solved),
            outcomes=outcomes,
            cut=tuple(cut),
            notes=tuple(dict.fromkeys(notes)),
        )

    def solve(self, rows: Sequence[Row], *, report: Callable[[Progress], None] | None = None) -> Solved:
        """Answer rows of the one task, as `row_of` makes them.

        Raises:
            UsageError: there are several tasks.
            WorkError: the model failed.
        """
        assert self.task  # there is one
        (solved,) = self._solve([rows], report=report)
        return solved

    def _solve(
        self, rows: Sequence[Sequence[Row]], *, report: Callable[[Progress], None] | None = None
    ) -> Sequence[Solved]:
        from lmtasks.data.rows import make_rows
        from lmtasks.data.splits import TaskData
        from lmtasks.evaluation.protocols import PromptContext

        data = [TaskData(test=make_rows(list(each), where="standard input")) for each in rows]
        return self._solver.solve_together(
            list(zip(self.tasks, data, strict=True)),
            prompt_context=PromptContext(seed=self._seed, choice=self._choice, ranked=RANKED),
            report=report or (lambda progress: None),
        )

    def _shortened(self, task: Task, texts: Sequence[str], notes: list[str]) -> Sequence[str]:
        """The texts without what no model reads, and notes on that; of answers about every part all of it."""
        if HEADS.line(kind_of(task).head).per_token:
            return texts
        longest = max(MOST_CHARACTERS // 2, CHARACTERS_OF_TOKEN * self._solver.model.max_length_tokens)
        found = [without_middle(text, longest) for text in texts]
        notes += [note for _, note in found if note]
        return [text for text, _ in found]

    def _writes(self, task: Task) -> bool:
        kind = kind_of(task)
        generates = task.output_type == "generate_until" and self._solver.way(task, way="auto") == "prompt"
        return generates or (kind.answer == "text" and not kind.roles)


def _made_of(answered: Answered) -> Mapping[str, object]:
    outcome = answered.outcome
    found: dict[str, object] = {"raw": answered.raw}
    if isinstance(outcome, Choice):
        found |= {"choices": list(answered.choices)}
        found |= {"greedy": list(outcome.greedy)} if outcome.greedy else {}
        found |= {"unconditional": list(outcome.unconditional)} if outcome.unconditional else {}
    return found


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
    """The model, loaded, with the tasks that it is to answer.

    Args:
        on_token: takes what is written while it is written.

    Raises:
        UsageError: there is no such model or task, or they do not fit.
        WorkError: the model cannot be loaded.
    """
    with open_predictors([request], on_token=on_token) as (predictor,):
        yield predictor


@contextmanager
def open_predictors(
    requests: Sequence[PredictRequest], *, on_token: Callable[[TokenEvent], None] | None = None
) -> Iterator[tuple[Predictor, ...]]:
    """Several models over one backbone, which is in memory once, each with the tasks that it is to answer.

    Args:
        requests: opened as the first one says.
        on_token: takes what is written while it is written, where one model answers.

    Raises:
        UsageError: as `open_predictor`, or the models stand over different backbones.
        WorkError: they cannot be loaded.
    """
    from lmtasks.model.resolve import resolve
    from lmtasks.workflow.open_model import card_in

    if any(is_address(request.model) for request in requests):
        with _open_server(requests, on_token=on_token) as predictor:
            yield (predictor,)
        return
    folders = [resolve(request.model, offline=request.offline, token=request.token) for request in requests]
    asked = [asked_tasks(request, card_in(folder)) for request, folder in zip(requests, folders, strict=True)]
    watched = on_token if len(requests) == 1 else None
    with requests[0].opening.engines(folders) as engines:
        yield tuple(
            predictor_over(engine, tasks, request, on_token=watched)
            for engine, tasks, request in zip(engines, asked, requests, strict=True)
        )


@contextmanager
def _open_server(
    requests: Sequence[PredictRequest], *, on_token: Callable[[TokenEvent], None] | None
) -> Iterator[Predictor]:
    """A server as a predictor.

    Raises:
        UsageError: there are other models beside it, or as `open_predictor`.
        WorkError: it cannot be reached.
    """
    from lmtasks.workflow.open_endpoint import probe_server, unasked_engine

    if len(requests) > 1:
        raise UsageError("a server shares no backbone with other models; give one --model.")
    (request,) = requests
    settings = request.opening.endpoint
    server = probe_server(request.model, settings, cache=None)
    with closing(unasked_engine(server, settings)) as engine:
        yield predictor_over(engine, asked_tasks(request, engine.model), request, on_token=on_token)


def asked_tasks(request: PredictRequest, card: ModelCard) -> list[Task]:
    """The tasks that a model is asked, with texts written as the request says.

    Raises:
        UsageError: there is no such task, or nothing says which one is meant.
    """
    from lmtasks.task.generation import with_generation

    decoded = list(with_generation(_chosen(request, card), request.generation))
    choosing = [task for task in decoded if kind_of(task).chooses]
    if choosing and len(decoded) > 1:
        raise UsageError(f"task {choosing[0].name} chooses on validation rows, and is answered by itself.")
    return decoded


def predictor_over(
    engine: Engine | EndpointEngine,
    tasks: Sequence[Task],
    request: PredictRequest,
    *,
    on_token: Callable[[TokenEvent], None] | None = None,
) -> Predictor:
    """A model that is open, with tasks of `asked_tasks`.

    Raises:
        UsageError: the model does not answer one of them.
    """
    from lmtasks.endpoint.engine import EndpointEngine
    from lmtasks.evaluation.engine_solver import EngineSolver
    from lmtasks.workflow.open_endpoint import server_solver

    watched = on_token is not None and len(tasks) == 1  # several tasks' answers stand on one line
    answering = _Watched(engine, on_token) if on_token is not None and watched else engine
    if isinstance(engine, EndpointEngine):
        solver: EngineSolver = server_solver(answering, engine.server, request.opening.endpoint)
    else:
        solver = EngineSolver(answering, label_names=request.opening.label_names)
    answered = [as_asked(solver, unlabelled(task)) for task in tasks]
    for task in answered:
        why_not = solver.why_not(task, way="auto")
        if why_not:
            raise UsageError(why_not)
    return Predictor(
        solver,
        answered,
        seed=request.seed,
        choice=_choice_of(tasks[0], request),
        corpora={task.name: _corpus_of(task, request) for task in tasks if kind_of(task).answer == "ranks"},
    )


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


def _corpus_of(task: Task, request: PredictRequest) -> Row:
    """The corpus of a task's scored rows, in which texts are looked for, and an answer that nobody reads."""
    from lmtasks.data.splits import load_task_data
    from lmtasks.settings.data import DataAccess
    from lmtasks.task.kinds.retrieval import CORPUS, Corpus

    options = DataAccess(offline=request.offline, token=request.token)
    test = load_task_data(task, options=options, need=frozenset({"test"}), limit=1, seed=request.seed).test
    assert test is not None  # it was needed
    corpus = test.rows[0][CORPUS]
    assert isinstance(corpus, Corpus)  # as rows of such a task have it
    return {CORPUS: corpus, BLANK: corpus.texts[0]}


def without_middle(text: str, most: int) -> tuple[str, str]:
    """A text from whose both ends a model reads all that it can take, whichever end it cuts off; and a note on it.

    >>> without_middle("abcdef", 3), without_middle("abcdefg", 3)
    (('abcdef', ''), ('abcefg', 'of a line of 7 characters the first and last 3 were read.'))
    """
    if len(text) <= 2 * most:
        return text, ""
    return text[:most] + text[-most:], f"of a line of {len(text):,} characters the first and last {most:,} were read."


def _chosen(request: PredictRequest, card: ModelCard) -> list[Task]:
    """The tasks that were named, a text being continued for one of language modelling; else that of the model's one
    head; else to go on writing."""
    if request.tasks.tasks:
        found = chosen_tasks(request.tasks)
        continuation = task_of_continuation(new_tokens=request.new_tokens)
        return [continuation if kind_of(task).answer == "likelihood" else task for task in found]
    if len(card.heads) == 1:
        return [task_for_head(card.heads[0], request)]
    if card.kind == "causal" and not card.heads:
        return [task_of_continuation(new_tokens=request.new_tokens)]
    names = ",".join(head.name for head in card.heads) or "none"
    raise UsageError(f"say with --tasks what {card.name} is to answer, one or several; its heads: {names}.")


def task_for_head(head: HeadSpec, request: PredictRequest) -> Task:
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

    engine: Engine | EndpointEngine
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

    def predict_heads(
        self, heads: Sequence[str], rows: Sequence[HeadRow], *, on_progress: OnProgress | None
    ) -> list[Floats32]:
        return self.engine.predict_heads(heads, rows, on_progress=on_progress)

    def score(self, requests: Sequence[ScoreRequest], *, on_progress: OnProgress | None) -> list[Scored]:
        return self.engine.score(requests, on_progress=on_progress)

    def generate(self, requests: Sequence[GenerateRequest], *, on_progress: OnProgress | None) -> list[Generated]:
        return self.engine.generate(requests, on_progress=on_progress, on_token=self.on_token)
