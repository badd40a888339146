"""Requests of all tasks to the engine together, chunk by chunk, and their answers back to each task in its order.

A chunk holds some ten thousand requests, whatever tasks they are of: enough for the engine to sort by length and to run
equal ones once, and little enough that memory stays flat over millions of rows. The answers do not depend on its size.

Examples of one batch are computed by the same products, and 0 times NaN is NaN: where one example overflows, its
neighbours' answers may be NaN too. Asked apart, each shows whether it is at fault itself.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from time import perf_counter
from typing import TypeVar

import numpy as np

from lmtasks.engine.engine import HeadRow
from lmtasks.errors import LmtasksError, NoNumberError, UsageError, WorkError
from lmtasks.evaluation.protocols import Finished, InferenceEngine, Pending, Replies, RequestBuilder, ScoredExample
from lmtasks.records import Floats32

CHUNK = 10_000
"""Requests that are answered together."""
EXAMPLES_AT_ONCE = 500
"""Examples whose texts are encoded together."""
MOST_UNANSWERED = 0.01
"""Share of examples that may lack an answer."""

_Item = TypeVar("_Item")
_Reply = TypeVar("_Reply")

Ask = Callable[[Sequence[int]], Sequence[Replies]]
"""Asks the examples at these places again, and no others with them."""


@dataclass(kw_only=True)
class Job:
    """One task on its way through the engine."""

    name: str
    request_builder: RequestBuilder
    examples: Iterable[ScoredExample]
    take: Callable[[Sequence[Finished]], None]
    """Is handed the answers, in the order of the examples."""
    seconds: float = 0.0
    """Spent on it: making its requests, and its share of the engine's time by tokens."""
    cached: int = 0
    """Its requests whose answers were known before."""
    size: int | None = None
    """Number of its examples; None: not known before the last."""
    unanswered: dict[int, str] = field(default_factory=dict)
    """Examples without an answer, of a server that gave none, each with the reason."""
    failure: LmtasksError | None = None

    def leave_out(self, pending: Pending, reason: str) -> None:
        """Go on without an example.

        Raises:
            WorkError: it is one too many, or others hang on it.
        """
        self.unanswered[pending.doc_id] = reason
        if pending.shared:
            raise WorkError(f"row {pending.doc_id}: {reason} Other rows hang on this one, so there is no score.")
        if self.size is not None:
            self.check_unanswered(self.size)

    def check_unanswered(self, size: int) -> None:
        """
        Raises:
            WorkError: more examples lack an answer than one in a hundred.
        """
        if len(self.unanswered) > MOST_UNANSWERED * size:
            number, reason = next(iter(self.unanswered.items()))
            raise WorkError(
                f"{len(self.unanswered)} of {size} examples have no answer, more than {100 * MOST_UNANSWERED:g} %, so "
                f"there is no score; row {number}: {reason} What was answered is kept: ask again to go on."
            )


@dataclass(kw_only=True)
class Stream:
    """Carries jobs through an engine.

    A job that fails is left, its `failure` says why, and the others go on.
    """

    engine: InferenceEngine
    chunk: int = CHUNK
    on_progress: Callable[[int, str], None] = lambda done, job: None
    """Is told how many examples are answered so far, and what is being answered."""
    _waiting: list[tuple[Job, Pending]] = field(default_factory=list)
    _size: int = 0
    _done: int = 0

    def run(self, jobs: Iterable[Job]) -> None:
        """Answer every example of every job."""
        asked: list[Job] = []
        for job in jobs:
            asked.append(job)
            try:
                self._gather(job)
            except LmtasksError as error:
                self._fail(job, error)
        self._flush()
        for job in asked:
            if job.unanswered and job.size is None and job.failure is None:
                job.failure = named(job.name, WorkError(next(iter(job.unanswered.values()))))

    def _gather(self, job: Job) -> None:
        for pending in self._pending(job):
            self._waiting.append((job, pending))
            self._size += pending.size
            if self._size >= self.chunk:
                self._flush()
                if job.failure is not None:
                    return

    def _pending(self, job: Job) -> Iterator[Pending]:
        for examples in pieces(job.examples, EXAMPLES_AT_ONCE):
            started = perf_counter()
            pendings = job.request_builder.build(examples)
            job.seconds += perf_counter() - started
            yield from pendings
        yield from job.request_builder.end()

    def _fail(self, job: Job, error: LmtasksError) -> None:
        job.failure = named(job.name, error)
        self._waiting = [(other, pending) for other, pending in self._waiting if other is not job]
        self._size = sum(pending.size for _, pending in self._waiting)

    def _flush(self) -> None:
        waiting, self._waiting, self._size = self._waiting, [], 0
        groups: dict[int, list[tuple[Job, Pending]]] = {}
        for job, pending in waiting:
            groups.setdefault(id(job), []).append((job, pending))
        try:
            self._answer(waiting)
        except LmtasksError as error:
            if len(groups) == 1:
                self._fail(waiting[0][0], self._of_a_row(waiting, error))
                return
            # One of them cannot be answered: alone, each shows whether it is the one.
            for group in groups.values():
                try:
                    self._answer(group)
                except LmtasksError as own:
                    self._fail(group[0][0], self._of_a_row(group, own))

    def _of_a_row(self, group: Sequence[tuple[Job, Pending]], error: LmtasksError) -> LmtasksError:
        """What an engine said about its scores of a batch, said of the example at fault."""
        if not isinstance(error, NoNumberError):
            return error
        place = first_fault(len(group), ask=lambda places: self._replies([group[place] for place in places]))
        return WorkError(f"row {group[place][1].doc_id}: {error}")

    def _answer(self, waiting: Sequence[tuple[Job, Pending]]) -> None:
        """Ask the engine, then finish every example. Nothing is finished if the engine fails."""
        replies = ask_apart(
            self._replies(waiting),
            owners=[id(job) for job, _ in waiting],
            ask=lambda places: self._replies([waiting[place] for place in places]),
        )
        finished: dict[int, list[Finished]] = {}
        jobs: dict[int, Job] = {}
        for (job, pending), reply in zip(waiting, replies, strict=True):
            jobs[id(job)] = job
            if job.failure is not None:
                continue
            try:
                if reason := failed_request(reply):
                    job.leave_out(pending, reason)
                    continue
                _refuse_no_numbers(pending, reply)
                finished.setdefault(id(job), []).extend(pending.finish(reply))
            except LmtasksError as error:
                job.failure = named(job.name, error)
        for key, job in jobs.items():
            if job.failure is None and finished.get(key):
                try:
                    job.take(finished[key])
                except LmtasksError as error:
                    job.failure = named(job.name, error)
                self._done += len(finished[key])
        if waiting:
            self.on_progress(self._done, waiting[-1][0].name)

    def _replies(self, waiting: Sequence[tuple[Job, Pending]]) -> list[Replies]:
        ticking = _Ticking(
            total=sum(pending.size for _, pending in waiting),
            on_share=lambda share: self.on_progress(self._done + int(share * len(waiting)), waiting[-1][0].name),
        )
        pendings = [pending for _, pending in waiting]
        engine = self.engine
        scored = _together(
            [pending.score for pending in pendings],
            lambda requests: engine.score(requests, on_progress=ticking.part(len(requests))),
        )
        self._count_known([(job, len(pending.score)) for job, pending in waiting])
        self._share(waiting, ticking, lambda p: sum(len(r.context_ids) + len(r.target_ids) for r in p.score))
        generated = _together(
            [pending.generate for pending in pendings],
            lambda requests: engine.generate(requests, on_progress=ticking.part(len(requests))),
        )
        self._count_known([(job, len(pending.generate)) for job, pending in waiting])
        self._share(waiting, ticking, lambda p: sum(len(r.prompt_ids) + r.settings.max_new_tokens for r in p.generate))
        logits = self._predicted(waiting, ticking)
        self._share(waiting, ticking, lambda p: sum(len(row.ids) for row in p.predict))
        return [
            Replies(scored=one, generated=two, logits=three)
            for one, two, three in zip(scored, generated, logits, strict=True)
        ]

    def _count_known(self, counts: Sequence[tuple[Job, int]]) -> None:
        """Which requests of the last call the engine had answers to before, job by job."""
        if not sum(count for _, count in counts):
            return
        known = iter(self.engine.cached)
        for job, count in counts:
            job.cached += sum(islice(known, count))

    def _predicted(self, waiting: Sequence[tuple[Job, Pending]], ticking: "_Ticking") -> list[Sequence[Floats32]]:
        """Logits of every row; rows of several heads together, so that what they all read is read once."""
        heads = [pending.head for _, pending in waiting for _ in pending.predict]
        engine = self.engine

        def ask(rows: Sequence[HeadRow]) -> list[Floats32]:
            report = ticking.part(len(rows))
            if len(set(heads)) == 1:
                return engine.predict(heads[0], rows, on_progress=report)
            return engine.predict_heads(heads, rows, on_progress=report)

        found = _together([pending.predict for _, pending in waiting], ask)
        self._count_known([(job, len(pending.predict)) for job, pending in waiting])
        return found

    def _share(
        self, waiting: Sequence[tuple[Job, Pending]], ticking: "_Ticking", cost: Callable[[Pending], int]
    ) -> None:
        """The time since the last call, divided over the jobs by their tokens."""
        seconds = ticking.seconds()
        costs = [cost(pending) for _, pending in waiting]
        total = sum(costs)
        for (job, _), mine in zip(waiting, costs, strict=True):
            job.seconds += seconds * mine / total if total else 0.0


class _Ticking:
    """Progress and time of the calls of one chunk."""

    def __init__(self, *, total: int, on_share: Callable[[float], None]) -> None:
        self._total = total
        self._on_share = on_share
        self._before = 0
        self._started = perf_counter()

    def part(self, count: int) -> Callable[[int], None]:
        """The callback of a call of `count` requests."""
        before = self._before
        self._before += count
        return lambda done: self._on_share((before + done) / self._total)

    def seconds(self) -> float:
        """Since the last question."""
        before, self._started = self._started, perf_counter()
        return self._started - before


def pieces(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    """Lists of `size` items, the last one shorter."""
    waiting = iter(items)
    while piece := list(islice(waiting, size)):
        yield piece


def _together(
    groups: Sequence[Sequence[_Item]], ask: Callable[[Sequence[_Item]], Sequence[_Reply]]
) -> list[Sequence[_Reply]]:
    """Ask about the items of all groups at once; the replies in the same groups."""
    items = [item for group in groups for item in group]
    replies = iter(ask(items) if items else ())
    return [list(islice(replies, len(group))) for group in groups]


def _refuse_no_numbers(pending: Pending, replies: Replies) -> None:
    wrong = nonfinite_value(replies)
    if wrong is not None:
        raise WorkError(
            f"row {pending.doc_id}: the model's answer is {wrong}, which is no probability. Did it overflow in this "
            "precision? Try --precision fp32, or look at the row."
        )


def named(job: str, error: LmtasksError) -> LmtasksError:
    """The error with the task's name in it."""
    if f"task {job}" in str(error):
        return error
    same = UsageError if isinstance(error, UsageError) else WorkError
    return same(f"task {job}, {error}" if str(error).startswith("row ") else f"task {job}: {error}")


def failed_request(replies: Replies) -> str:
    """Why a request about an example has no answer; empty where all have."""
    failed = [each.failed for each in replies.scored] + [each.failed for each in replies.generated]
    return next(filter(None, failed), "")


def nonfinite_value(replies: Replies) -> float | None:
    """The first NaN or infinity among the answers about an example; None where all are numbers."""
    for each in replies.scored:
        if not math.isfinite(each.logprob) and not each.failed:
            return each.logprob
    for logits in replies.logits:
        wrong = np.ravel(logits)[~np.isfinite(np.ravel(logits))]
        if wrong.size:
            return float(wrong[0])
    return None


def ask_apart(replies: Sequence[Replies], *, owners: Sequence[object], ask: Ask) -> list[Replies]:
    """The replies (N,), those that are no numbers asked again: what stays without one is at fault itself.

    By halves, so that a few faults cost a few questions, but of each owner the first one alone: a model that is broken
    as a whole shows it there. Once an owner has a fault, its others are left as they are.

    Args:
        owners: (N,) the task of each.
    """
    found = list(replies)
    blamed: list[object] = []

    def ask_again(places: Sequence[int]) -> None:
        half = (len(places) + 1) // 2
        for part in (places[:half], places[half:]):
            asked = [place for place in part if owners[place] not in blamed]
            if not asked:
                continue
            for place, reply in zip(asked, ask(asked), strict=True):
                found[place] = reply
            left = [place for place in asked if nonfinite_value(found[place]) is not None]
            if len(asked) == 1:
                blamed.extend(owners[place] for place in left)
            elif left:
                ask_again(left)

    unfit = [place for place, reply in enumerate(replies) if nonfinite_value(reply) is not None]
    for place in {owners[place]: place for place in reversed(unfit)}.values():
        ask_again([place])
    ask_again([place for place in unfit if nonfinite_value(found[place]) is not None])
    return found


def first_fault(count: int, *, ask: Ask) -> int:
    """The place of the first of `count` examples, at least one of which an engine refuses to answer."""
    first, behind = 0, count
    while behind - first > 1:
        middle = (first + behind) // 2
        try:
            ask(range(first, middle))
            first = middle
        except NoNumberError:
            behind = middle
    return first
