"""In which batches requests run: equal ones once, those of a length together, the longest first, as many at a time as
the memory has room for.

Longest first because a batch that is too large for the memory is then the first one, not the last. Where memory runs
out all the same, the budget is halved and the same requests run again; no answer is lost. Where nobody says how many
tokens a batch holds, they are as many as are of use, and as the memory has room for.

>>> distinct([(1, 2, 3), (7,), (1, 2, 3), (5, 6)]).copies[0]
(0, 2)
>>> ran = []
>>> run_batches(
...     [3, 9, 2, 8],
...     size=lambda length: length,
...     budget=Budget(tokens=18),
...     run=lambda batch, concurrent: sum(batch),
...     give=lambda batch, found: ran.append(batch),
... )
>>> ran
[[9, 8], [3, 2]]
"""

import logging
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, count
from queue import SimpleQueue
from threading import Event, Lock, Semaphore
from time import perf_counter
from typing import Generic, TypeVar

from lmtasks.errors import UsageError, WorkError
from lmtasks.interruption import uninterrupted
from lmtasks.runtime.base import Runtime
from lmtasks.runtime.memory import OutOfMemory

MOST_TOKENS = {"cpu": 768}
"""A processor is busy with so many; more mostly take memory (4 choices, 30M parameters, two cores: 3.2 s with these,
3.1 with 1,024, 3.3 with 512; each 256 tokens take 15 MB)."""
MOST_TOKENS_ELSEWHERE = 32_768
LEAST_TOKENS = 128
ENOUGH_TOKENS = {"cpu": 256}
"""With so many a processor's products are as fast a token as with more. 16 rows of 10 to 69 tokens through a package of
10M parameters, two cores: 104 ms in one batch, 50 in several of rows that are about as long."""
ENOUGH_TOKENS_ELSEWHERE = 1024
ACTIVATIONS = 96
"""Bytes a token takes for each unit of the model's width: about two dozen vectors in fp32 live at a time."""
SHARE = 0.5
"""Of the free memory, for one batch."""
KEPT_TOKENS = 4
"""While texts are written, so many times the tokens of a batch are kept as keys and values, where nobody knows what
memory has room for."""
KEPT = 48
"""Bytes that the keys and values of a token take for each unit of the width that the model had with one layer: with L
layers they are 8 L / sqrt(L) of them, and L is seldom more than 36."""
WINDOW_BATCHES, WINDOW_SECONDS = 6, 0.3
"""A rate is measured over so many batches, and over no less time."""
FALLEN = 0.6
"""Of the best rate so far: below it layouts are compared again."""
CLEARLY_FASTER = 1.05
"""So much faster must batches run one behind another to do so: beside each other they suffer less from whatever else
uses a core."""
_Ran = TypeVar("_Ran")
_Found = TypeVar("_Found")
_Answer = TypeVar("_Answer")
_Item = TypeVar("_Item")
_LOGGER = logging.getLogger(__name__)


class Budget:
    """How large a batch may be; one row always may run.

    Args:
        tokens: rows times the longest row, padding counted.
        rows: so many, and no more tokens than so many unshared rows would have; None: as many as the tokens allow.
        enough: a batch of so many is not filled up with rows that are much shorter than its longest.
        warn: is called once when memory ran out and batches become smaller; None: a warning is logged.
    """

    def __init__(
        self,
        *,
        tokens: int,
        rows: int | None = None,
        enough: int = 1024,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        if tokens < 1:
            raise UsageError(f"a batch must hold at least 1 token, was {tokens}.")
        if rows is not None and rows < 1:
            raise UsageError(f"a batch must hold at least 1 row, was {rows}.")
        self.tokens = tokens
        self.rows = rows
        self.enough = enough
        self.choice = CallerChoice()
        self._warn = warn or _LOGGER.warning
        self._warned = False
        self._halving = Lock()

    def halve(self, *, rows: int, longest: int) -> None:
        """A batch of this shape did not fit."""
        with self._halving:
            self.tokens = max(1, min(self.tokens, rows * longest) // 2)
            warn, self._warned = not self._warned, True
        if warn:
            self._warn(
                f"memory ran out on a batch of {rows} {'row' if rows == 1 else 'rows'} of {longest} tokens; it runs "
                "again in halves, and later batches are as small. A --batch-size below that avoids the detour."
            )


class CallerChoice:
    """Whether batches run beside each other, in threads of their own, or one behind another, each with all threads:
    what reads more tokens a second on this machine now.

    Both are timed on the work itself, the first time that there is enough of it, and again once the rate falls, as it
    does when another program takes a core: threads that share a product wait for the one that was put aside (256 x 512
    x 512 on two cores: a tenth of one thread's rate). Answers do not depend on it beyond the last bits.

    >>> seconds = iter(range(1000))
    >>> choice = CallerChoice(clock=lambda: next(seconds))
    >>> said = []
    >>> for tokens in [100] * 20:  # 100 tokens a second beside each other
    ...     said.append(choice.beside)
    ...     if not choice.finished(tokens if choice.beside else 3 * tokens):
    ...         choice.begin()
    >>> said.count(True), choice.beside
    (8, False)

    Args:
        clock: seconds.
    """

    def __init__(self, *, clock: Callable[[], float] = perf_counter) -> None:
        self.beside = True
        self._clock = clock
        self._rates: dict[bool, float] = {}
        """Tokens a second: of the layouts that were timed since they were compared last."""
        self.begin()

    def begin(self) -> None:
        """A stretch of batches begins."""
        self._batches, self._tokens, self._since = 0, 0, 0.0

    def finished(self, tokens: int) -> bool:
        """Count a batch that was answered. Returns whether the next ones run as those before."""
        self._batches += 1
        if self._batches <= 2:  # until then callers had to come into step
            self._since, self._tokens = self._clock(), 0
            return True
        self._tokens += tokens
        seconds = self._clock() - self._since
        if self._batches < 2 + WINDOW_BATCHES or seconds < WINDOW_SECONDS:
            return True
        rate, settled = self._tokens / seconds, len(self._rates) == 2
        self._batches, self._tokens, self._since = 2, 0, self._clock()
        if settled and rate >= FALLEN * self._rates[self.beside]:
            self._rates[self.beside] = max(rate, self._rates[self.beside])
            return True
        before = self.beside
        self._rates = {**({} if settled else self._rates), before: rate}
        if len(self._rates) < 2:
            self.beside = not before
        else:
            self.beside = self._rates[False] < CLEARLY_FASTER * self._rates[True]
        return self.beside == before


@dataclass(frozen=True, kw_only=True)
class Distinct:
    """Which requests run, and for which others their answers stand."""

    firsts: tuple[int, ...]
    """Indices of requests, each different from all others, in the order of their keys."""
    copies: Mapping[int, tuple[int, ...]]
    """Each of them to all requests that equal it, itself first."""


def distinct(keys: Sequence[tuple[object, ...]]) -> Distinct:
    """Each different request once.

    Args:
        keys: what a request's answer depends on. They are sorted, so what stands together in a batch does not depend
            on the order of the requests.
    """
    copies: dict[tuple[object, ...], list[int]] = {}
    for index, key in enumerate(keys):
        copies.setdefault(key, []).append(index)
    firsts = sorted((indices[0] for indices in copies.values()), key=lambda index: keys[index])
    return Distinct(firsts=tuple(firsts), copies={group[0]: tuple(group) for group in copies.values()})


def run_batches(
    items: Sequence[_Item],
    *,
    size: Callable[[_Item], int],
    budget: Budget,
    run: Callable[[list[_Item], bool], _Found],
    give: Callable[[list[_Item], _Found], None],
    callers: int = 1,
    choice: CallerChoice | None = None,
    unshared: Callable[[_Item], int] | None = None,
    split: Callable[[_Item], Sequence[_Item]] | None = None,
) -> None:
    """Run all items, those of near sizes together, the largest first.

    Args:
        size: tokens of an item's row.
        run: answers a batch, or raises `OutOfMemory`; is also given whether other batches run beside it, in threads of
            their own.
        give: is called with each batch and its answer, in the caller's own thread, in the order of the batches.
        callers: so many batches may run beside each other. Once memory ran out, one behind another.
        choice: whether they do; None: always. The callers share the tokens of one batch then.
        unshared: tokens of the longest row that an item would be without sharing; None: its size.
        split: an item that does not fit alone, in parts; None: there are none.

    Raises:
        WorkError: a single row does not fit into memory.
    """
    waiting = deque(sorted(items, key=size, reverse=True))
    # No caller is left with a few rows while another one has a whole batch of them.
    share = max(2 * budget.enough, -(-sum(map(size, items)) // callers))
    if choice is not None:
        share = min(share, max(budget.enough, budget.tokens // callers))
        choice.begin()

    def take(most: int | None = None) -> list[_Item]:
        return _take(waiting, size=size, unshared=unshared or size, budget=budget, most=most)

    def finish(batch: list[_Item], found: _Found) -> bool:
        give(batch, found)
        return choice is None or choice.finished(sum(map(size, batch)))

    while waiting:
        if callers > 1 and (choice is None or choice.beside):
            first = take(share)
            if waiting:
                waiting.extendleft(reversed(first))
                left = _run_concurrently(
                    waiting, take=lambda: take(share), run=lambda batch: run(batch, True), give=finish, callers=callers
                )
                if left:
                    callers = 1
                    waiting.extendleft(reversed(sorted(left, key=size, reverse=True)))
                elif choice is not None:
                    choice.begin()
                continue
            waiting.extend(first)
        batch = take()
        try:
            with uninterrupted():  # what was computed is kept, too
                if not finish(batch, run(batch, False)) and choice is not None:
                    choice.begin()
            continue
        except OutOfMemory:
            longest = max(map(size, batch))
            parts = batch if len(batch) > 1 or split is None else list(split(batch[0]))
            if len(parts) == 1:
                error: WorkError = too_long(longest)
            else:
                budget.halve(rows=len(batch), longest=longest)
                waiting.extendleft(reversed(sorted(parts, key=size, reverse=True)))
                continue
        raise error


def _run_concurrently(
    waiting: deque[_Item],
    *,
    take: Callable[[], list[_Item]],
    run: Callable[[list[_Item]], _Found],
    give: Callable[[list[_Item], _Found], bool],
    callers: int,
) -> list[_Item]:
    """Run batches in threads until all are answered, `give` says that no more are to run so, or memory runs out: what
    had no room then is yielded.

    A thread takes its next batch itself: handing each one over would take as long as a small model's answer.
    """
    left: list[_Item] = []
    finished: SimpleQueue[tuple[int, list[_Item], _Found | OutOfMemory] | None] = SimpleQueue()
    taking, numbers, ended = Lock(), count(), Event()
    ahead = Semaphore(2 * callers)  # batches that run or wait to be given

    def call() -> None:
        try:
            while True:
                ahead.acquire()
                with taking:
                    if ended.is_set() or not waiting:
                        return
                    number, batch = next(numbers), take()
                try:
                    finished.put((number, batch, run(batch)))
                except OutOfMemory as error:
                    finished.put((number, batch, error))
                    return
        finally:
            ended.set()
            ahead.release()  # whoever waits there ends as well
            finished.put(None)

    early: dict[int, tuple[list[_Item], _Found | OutOfMemory]] = {}
    due = 0
    with ThreadPoolExecutor(callers) as pool:
        calls = [pool.submit(call) for _ in range(callers)]
        try:
            for number, batch, found in chain.from_iterable(iter(finished.get, None) for _ in calls):
                early[number] = batch, found
                while due in early:
                    batch, found = early.pop(due)
                    due += 1
                    if isinstance(found, OutOfMemory):
                        left += batch
                    elif not give(batch, found):
                        ended.set()
                    ahead.release()
        finally:
            ended.set()
            ahead.release(callers)
    for each in calls:
        each.result()
    return left


def too_long(tokens: int) -> WorkError:
    """The error for a row that does not fit alone."""
    return WorkError(
        f"a single row of {tokens} tokens does not fit into memory; use shorter inputs, fewer examples in the prompt, "
        "a smaller model, or a machine with more memory."
    )


class AnswerRouter(Generic[_Ran, _Answer]):
    """Answers as they come, mapped back to all requests that they answer.

    Args:
        plan: what runs.
        count: number of requests.
        finish: makes a request's own answer of what ran: of two requests that ran as one, one may have been cut.
        on_progress: is called with how many requests are answered so far.
        on_answers: is called with the answers themselves, batch by batch.
    """

    def __init__(
        self,
        plan: Distinct,
        *,
        count: int,
        finish: Callable[[int, _Ran], _Answer],
        on_progress: Callable[[int], None] | None,
        on_answers: Callable[[Sequence[tuple[int, _Answer]]], None] | None,
    ) -> None:
        self._copies = plan.copies
        self._answers: list[_Answer | None] = [None] * count
        self._done = 0
        self._finish = finish
        self._on_progress: Callable[[int], None] = on_progress or (lambda done: None)
        self._on_answers: Callable[[Sequence[tuple[int, _Answer]]], None] = on_answers or (lambda answers: None)

    def give(self, ran: Sequence[tuple[int, _Ran]]) -> None:
        """The answers of requests that ran, a batch, or the rows of one that are finished."""
        fresh = [(copy, self._finish(copy, answer)) for index, answer in ran for copy in self._copies[index]]
        for copy, answer in fresh:
            self._answers[copy] = answer
        self._done += len(fresh)
        self._on_progress(self._done)
        self._on_answers(fresh)

    def all(self) -> list[_Answer]:
        """In the order of the requests, once every scheduled one is answered."""
        return [answer for answer in self._answers if answer is not None]


def _take(
    waiting: deque[_Item],
    *,
    size: Callable[[_Item], int],
    unshared: Callable[[_Item], int],
    budget: Budget,
    most: int | None,
) -> list[_Item]:
    batch = [waiting.popleft()]
    longest, plain = size(batch[0]), unshared(batch[0])
    while waiting:
        rows, plain = len(batch) + 1, max(plain, unshared(waiting[0]))
        fits = rows * longest <= (budget.tokens if most is None else min(most, budget.tokens))
        if budget.rows is not None:
            fits = fits and rows <= budget.rows and rows * longest <= budget.rows * plain
        wasteful = 4 * size(waiting[0]) < 3 * longest and len(batch) * longest >= budget.enough
        if not fits or wasteful:
            break
        batch.append(waiting.popleft())
    return batch


def auto_tokens(runtime: Runtime) -> int:
    """Tokens of a batch, from the memory that is free now and the size of the model.

    The width is taken for that of a model with one layer, so this errs on the careful side; what is wrong all the same
    is put right by halving.
    """
    most = MOST_TOKENS.get(runtime.card.device.split(":")[0], MOST_TOKENS_ELSEWHERE)
    free = runtime.free_bytes()
    return most if free is None else max(LEAST_TOKENS, min(most, int(free * SHARE / (ACTIVATIONS * _width(runtime)))))


def kept_tokens(runtime: Runtime) -> int:
    """Tokens that all texts together may have which are written at a time, prompts and answers: what half of the memory
    that is free now has room for, and no fewer than a few batches."""
    batches = KEPT_TOKENS * auto_tokens(runtime)
    free = runtime.free_bytes()
    return batches if free is None else max(batches, int(free * SHARE / (KEPT * _width(runtime))))


def _width(runtime: Runtime) -> float:
    return max(64.0, math.sqrt(runtime.model.parameters / 12))


def enough_tokens(runtime: Runtime) -> int:
    """Tokens of a batch that is not filled up with padding; see `Budget`."""
    return ENOUGH_TOKENS.get(runtime.card.device.split(":")[0], ENOUGH_TOKENS_ELSEWHERE)
