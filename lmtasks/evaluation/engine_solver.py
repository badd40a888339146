"""A model answers tasks: by a head where it has a fitting one, else by prompts."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from lmtasks.data.row_hashes import TrainingRows, hash_rows
from lmtasks.data.splits import TaskData, has_validation
from lmtasks.errors import LmtasksError, UsageError
from lmtasks.evaluation.custom_results import lm_eval_result, with_custom_values
from lmtasks.evaluation.filtering import with_filters
from lmtasks.evaluation.minimal_pairs import ClassifiedPairs, TextPairs, classifying_task, with_labels
from lmtasks.evaluation.outcome import (
    Answered,
    Way,
    answered_choice,
    answered_labels,
    answered_number,
    answered_text,
)
from lmtasks.evaluation.prompt_requests import Prompted, prompt_request_builder
from lmtasks.evaluation.prompts import Prompts
from lmtasks.evaluation.protocols import (
    AskedWay,
    Finished,
    InferenceEngine,
    Pending,
    PromptContext,
    Replies,
    RequestBuilder,
    ScoredExample,
    Solved,
    decoding_notes,
)
from lmtasks.evaluation.rescoring import HypothesisRequests
from lmtasks.evaluation.retrieval import CorpusRequests
from lmtasks.evaluation.stream import Job, Stream
from lmtasks.head import HEADS, head_of
from lmtasks.head.base import HeadOutcome
from lmtasks.records import (
    Choice,
    HeadInput,
    HeadSpec,
    Json,
    LabelSet,
    ModelCard,
    Progress,
    Quantity,
    Report,
    RuntimeCard,
    Text,
)
from lmtasks.task.kinds import head_input, kind_of
from lmtasks.task.task import SplitName, Task

NO_LABELS: Mapping[str, str] = MappingProxyType({})
NO_VALIDATION = (
    "task {task} has no rows that the weights of its scores could be chosen on; name a validation or train split in it "
    "(sources: {{validation: ...}})."
)
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FittingHead:
    """A head that can answer a task."""

    spec: HeadSpec
    order: tuple[int, ...] = ()
    """For each label of the task, its place among the head's logits; empty where there are no labels."""


class HeadRequests:
    """Builds the requests of a task that a head answers."""

    decoding: Json | None = None

    def __init__(self, engine: InferenceEngine, task: Task, head: FittingHead) -> None:
        self._engine = engine
        self._task = task
        self._head = head

    def build(self, examples: Sequence[ScoredExample]) -> Sequence[Pending]:
        """One row of tokens for each, or several windows."""
        return [self._pending(example) for example in examples]

    def end(self) -> Sequence[Pending]:
        """Nothing waits."""
        return ()

    def _pending(self, example: ScoredExample) -> Pending:
        given = head_input(self._task, example.row, row_number=example.doc_id)
        spec, kind = self._head.spec, head_of(self._head.spec)
        if given.tokens and not given.scheme:
            given = replace(given, scheme=spec.scheme)
        if kind.vectors:
            given = replace(given, prefixes=(spec.query_prefix, spec.text_prefix))
        encoded = kind.encode(
            given,
            tokenizer=self._engine.tokenizer,
            max_length=self._engine.max_length_tokens,
            causal=self._engine.model.attention_of(self._head.spec) == "causal",
        )
        cut = sum(row.truncated for row in encoded.rows)

        def finish(replies: Replies) -> Sequence[Finished]:
            logits = [kind.answers(self._head.spec, row) for row in replies.logits]
            outcome = encoded.outcome(logits, labels=self._task.labels, order=self._head.order)
            answered = _answered(self._task, outcome, given=given, example=example)
            return [Finished(example=example, answered=answered, truncated=cut > 0)]

        return Pending(doc_id=example.doc_id, predict=encoded.rows, head=self._head.spec.name, cut=cut, finish=finish)


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """How a task will be answered, or why not."""

    why_not: str = ""
    head: FittingHead | None = None


class EngineSolver:
    """Answers with a loaded model.

    Args:
        engine: the model.
        label_names: what a checkpoint's own labels mean, where their names do not say it:
            `{"LABEL_0": "negative", "LABEL_1": "positive"}`.
        training: fingerprints of the rows that the model learned from or was chosen on; None: not known.
    """

    def __init__(
        self,
        engine: InferenceEngine,
        *,
        label_names: Mapping[str, str] = NO_LABELS,
        training: TrainingRows | None = None,
    ) -> None:
        self._engine = engine
        self._label_names = label_names
        self._training = training
        self._said: set[str] = set()

    @property
    def model(self) -> ModelCard:
        """The model that answers."""
        return self._engine.model

    @property
    def card(self) -> RuntimeCard:
        """The runtime that computes."""
        return self._engine.card

    def why_not(self, task: Task, *, way: AskedWay) -> str:
        """Why it cannot answer the task, as a sentence; empty where it can."""
        return self._plan(task, way).why_not

    def way(self, task: Task, *, way: AskedWay) -> Way:
        """`head` or `prompt`."""
        return "head" if self._plan(task, way).head else "prompt"

    def head(self, task: Task, *, way: AskedWay) -> HeadSpec | None:
        """The head that answers the task; None where it is prompted."""
        found = self._plan(task, way).head
        return found.spec if found is not None else None

    def needs(self, task: Task) -> frozenset[SplitName]:
        """Validation rows where a choice is made on them; worked examples come from the task's own source of them."""
        return frozenset({"validation"}) if kind_of(task).chooses else frozenset()

    @property
    def engine(self) -> InferenceEngine:
        """The engine that is asked."""
        return self._engine

    def request_builder(self, task: Task, *, prompt_context: PromptContext) -> RequestBuilder:
        """How the task is asked of the engine.

        Raises:
            UsageError: the model cannot answer the task.
        """
        if kind_of(task).answer == "pair" and task.clean is not None:
            inner = self.request_builder(classifying_task(task), prompt_context=with_labels(task, prompt_context))
            return ClassifiedPairs(inner, task)
        plan = self._plan(task, prompt_context.way)
        if plan.why_not:
            raise UsageError(plan.why_not)
        if plan.head is not None and kind_of(task).answer == "ranks":
            return CorpusRequests(self._engine, task, plan.head.spec, shown=prompt_context.ranked)
        if plan.head is not None and plan.head.spec.predicts:
            return HeadRequests(self._engine, task, plan.head)
        trained = plan.head is not None
        # A head was trained on prompts without worked examples and without a chat around them.
        prompts = Prompts(task=task, prompt_context=_bare(prompt_context) if trained else prompt_context)
        if task.output_type == "generate_until":
            self._log_notes(task)
        asked = Prompted(engine=self._engine, task=task, prompts=prompts, trained=trained)
        if kind_of(task).chooses:
            return HypothesisRequests(asked, choice=prompt_context.choice)
        if kind_of(task).answer == "pair":
            return TextPairs(asked)
        return prompt_request_builder(asked)

    def training_rows(self, task: Task, data: TaskData) -> TrainingRows | None:
        """Fingerprints that the model brings along, whatever the task; and of rows that a choice is made on."""
        if self._training is None or not kind_of(task).chooses:
            return self._training
        return self._training.united(chosen_rows(task, data))

    def _log_notes(self, task: Task) -> None:
        """What is unexpected of how texts are written, before any is; nothing twice."""
        for sentence in decoding_notes(self.model, task.name, task.generation):
            if sentence not in self._said:
                self._said.add(sentence)
                log.warning("%s", sentence)

    def solve(self, task: Task, data: TaskData, *, prompt_context: PromptContext, report: Report) -> Solved:
        """Answer every row of the scored split, and keep all the answers; `evaluate` does not keep them.

        Raises:
            UsageError: the model cannot answer the task, or the task does not fit its data.
            WorkError: the model yields no numbers.
        """
        (solved,) = self.solve_together([(task, data)], prompt_context=prompt_context, report=report)
        return solved

    def solve_together(
        self, asked: Sequence[tuple[Task, TaskData]], *, prompt_context: PromptContext, report: Report
    ) -> list[Solved]:
        """Answer several tasks; a text that several heads read is read once.

        Raises:
            UsageError, WorkError: as `solve`.
        """
        finished: list[list[Finished]] = []
        jobs: list[Job] = []
        for task, data in asked:
            if data.test is None:
                raise UsageError(f"task {task.name}: the scored split was not opened.")
            answers: list[Finished] = []
            finished.append(answers)
            jobs.append(
                Job(
                    name=task.name,
                    request_builder=self.request_builder(task, prompt_context=prompt_context),
                    examples=(ScoredExample(doc_id=number, row=row) for number, row in enumerate(data.test.rows)),
                    take=answers.extend,
                )
            )
        total = sum(len(data.test.rows) for _, data in asked if data.test is not None)
        progress = Progress(stage=", ".join(job.name for job in jobs), done=0, total=total, unit="texts")
        Stream(engine=self._engine, on_progress=lambda done, name: report(replace(progress, done=done))).run(jobs)
        for job in jobs:
            if job.failure is not None:
                raise job.failure
        return [
            Solved(
                examples=tuple(each.answered for each in answers),
                truncated=sum(each.truncated for each in answers),
                cut=tuple(each.truncated for each in answers),
                seconds=job.seconds,
                cached=job.cached,
                decoding=job.request_builder.decoding,
            )
            for job, answers in zip(jobs, finished, strict=True)
        ]

    def _plan(self, task: Task, way: AskedWay) -> _Plan:
        if kind_of(task).answer == "pair" and task.clean is not None:
            return self._plan(task.clean, way)
        model = self.model
        if way != "prompt":
            named = next((head for head in model.heads if head.name == task.head_name and head.pooling != "own"), None)
            own = next(
                (head for head in model.heads if head.pooling == "own" and head.kind == kind_of(task).head), None
            )
            head = named or own or (_vector_head(model) if HEADS.line(kind_of(task).head).vectors else None)
            fitting = self._fit(head, task) if head is not None else _Plan()
            if fitting.head is not None or (fitting.why_not and (named or way == "head" or model.kind == "encoder")):
                return fitting
            if way == "head":
                return _Plan(why_not=f"{model.name} has no head for {task.name}; {_heads_of(model)}.")
        if model.kind == "encoder":
            return _Plan(
                why_not=f"{model.name} is an encoder, which answers by heads alone, and it has none for {task.name}; "
                f"{_heads_of(model)}. Adapt it to the task first."
            )
        if _no_choice(task):
            return _Plan(why_not=_no_choice(task))
        if task.templates.asked.question is None:
            return _Plan(why_not=f"task {task.name} has no doc_to_text to prompt with; it is answered by a head alone.")
        return _Plan()

    def _fit(self, head: HeadSpec, task: Task) -> _Plan:
        if not head.predicts:
            return _Plan(why_not=_no_choice(task), head=None if _no_choice(task) else FittingHead(spec=head))
        kind = kind_of(task)
        if head.kind != kind.head:
            return _Plan(
                why_not=f"a {task.kind} task cannot be answered by a {head.kind} head"
                + ("." if kind.roles else " yet.")
            )
        if not head_of(head).labelled:
            return _Plan(head=FittingHead(spec=head))
        order, why_not = match_labels(head.labels, task.labels, names=self._label_names)
        if why_not:
            return _Plan(
                why_not=f"the head {head.name!r} of {self.model.name} does not fit task {task.name}: {why_not}"
            )
        return _Plan(head=FittingHead(spec=head, order=order))


def _answered(task: Task, outcome: HeadOutcome, *, given: HeadInput, example: ScoredExample) -> Answered:
    match outcome:
        case Text(prediction=text):
            answered = answered_text(
                text, prediction=text, prompt=given.shown, references=outcome.references, source=outcome.source
            )
            return with_filters(task, answered, example=example, texts=[text], trained=True)
        case Choice():
            answered = answered_choice(outcome, prompt=given.shown, choices=given.candidates or task.labels)
            best = max(outcome.scores)
            results: Sequence[object] = [(score, score == best) for score in outcome.scores]
        case Quantity():
            answered, results = answered_number(outcome, prompt=given.shown), lm_eval_result(task, outcome)
        case LabelSet():
            answered = answered_labels(outcome, prompt=given.shown, labels=task.labels)
            results = lm_eval_result(task, outcome)
    return with_custom_values(answered, task, example=example, results={"": results})


def match_labels(
    head: tuple[str, ...], task: tuple[str, ...], *, names: Mapping[str, str] = NO_LABELS
) -> tuple[tuple[int, ...], str]:
    """For each label of the task its place in the head, and why that cannot be said.

    Names are compared without regard to case, blanks, `_` and `-`.

    >>> match_labels(("POSITIVE", "NEGATIVE"), ("negative", "positive"))
    ((1, 0), '')
    >>> match_labels(("LABEL_0", "LABEL_1"), ("negative", "positive"))[1]
    "its labels are LABEL_0, LABEL_1, the task's are negative, positive; say which is which, as LABEL_0=negative."
    """
    known = {_plain(label): place for place, label in enumerate(task)}
    meant = [known.get(_plain(names.get(label, label))) for label in head]
    if sorted(place for place in meant if place is not None) == list(range(len(task))) and None not in meant:
        return tuple(meant.index(place) for place in range(len(task))), ""
    sentence = f"its labels are {_listed(head)}, the task's are {_listed(task)}"
    if len(head) != len(task):
        return (), f"{sentence}; a head answers a task with the same number of labels."
    return (), f"{sentence}; say which is which, as {head[0]}={task[0]}."


def _plain(label: str) -> str:
    return "".join(letter for letter in label.casefold() if letter not in " _-")


def _listed(labels: tuple[str, ...]) -> str:
    return ", ".join(labels[:12]) + (f" and {len(labels) - 12} more" if len(labels) > 12 else "")


def _bare(prompt_context: PromptContext) -> PromptContext:
    """Without worked examples and without a chat."""
    return PromptContext(
        way=prompt_context.way, seed=prompt_context.seed, think_end_token=prompt_context.think_end_token
    )


def _no_choice(task: Task) -> str:
    """Why nothing can be chosen that must be; empty where it can."""
    missing = kind_of(task).chooses and not has_validation(task)
    return NO_VALIDATION.format(task=task.name) if missing else ""


def _vector_head(model: ModelCard) -> HeadSpec | None:
    """A head that answers with vectors for a task that the model was not adapted to: the model's own, or one of those
    that it was adapted to others with, if all of these read alike."""
    adapted = [head for head in model.heads if head_of(head).vectors]
    alike = {(head.pooling, head.attention, head.query_prefix, head.text_prefix) for head in adapted}
    return adapted[0] if len(alike) == 1 else model.vectors


def _heads_of(model: ModelCard) -> str:
    names = [head.name for head in model.heads]
    return f"its heads: {', '.join(names)}" if names else "it has no heads"


def chosen_rows(task: Task, data: TaskData) -> TrainingRows:
    """Fingerprints of the validation rows that a choice is made on; none where they cannot be told apart."""
    try:
        return TrainingRows(chosen=hash_rows(task, data.validation.rows if data.validation else ()).as_set())
    except LmtasksError:
        return TrainingRows()
