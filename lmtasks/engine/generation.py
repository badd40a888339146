"""Texts in batches, each written in the way that suits it: in slots, where rows come and go, batch after batch, or with
beams."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Event, Thread
from typing import TypeVar

from lmtasks.engine.beam import beam_rows
from lmtasks.engine.continuous import Arriving, Leaving, write_arriving, write_queue
from lmtasks.engine.decode import Answer, Decode, EncodedPrompt, OnStep, TokenStep, continue_rows
from lmtasks.engine.requests import Generated, OnToken, TokenEvent
from lmtasks.engine.rows_together import RowsByLength, RowsTogether
from lmtasks.engine.schedule import AnswerRouter, Budget, Distinct, run_batches
from lmtasks.runtime.base import Runtime, Slots

_Message = TypeVar("_Message")
Worker = Callable[[Callable[[_Message], None], Callable[[], bool]], None]
"""Given: how it sends a message, and how it asks whether it is to stop."""
LEAST_ROWS = 8
"""So many rows for each caller, and it pays to have several."""
SHORTER = 2
"""Rows of less than a half of the longest one's tokens get slots of their own."""


@dataclass(frozen=True, kw_only=True)
class TextSettings:
    """Settings that all texts of a model share."""

    pad_id: int
    decode: Decode
    ends: frozenset[int]


def generate_all(
    runtime: Runtime,
    prompts: Sequence[EncodedPrompt],
    *,
    plan: Distinct,
    answers: AnswerRouter[Answer, Generated],
    budget: Budget,
    beam_budget: Budget,
    rows: RowsByLength,
    decoding: TextSettings,
    on_token: OnToken | None,
) -> None:
    """Write what the plan names, the longest first.

    Args:
        prompts: all of them; `plan` says which are different.
        beam_budget: of beam searches; their tokens are those of all beams.
        rows: written together; without slots the budget alone says how many.
        on_token: is called with every step; with beams, with finished texts only.
    """
    writer = _Writing(prompts, plan=plan, answers=answers, on_token=on_token)
    longest_first = sorted(plan.firsts, key=lambda index: -_cost(prompts[index]))
    beams = [index for index in longest_first if prompts[index].num_beams > 1]
    single = [index for index in longest_first if prompts[index].num_beams == 1]

    def run_beams(batch: list[int], concurrent: bool) -> list[TokenStep]:
        steps: list[TokenStep] = []  # of finished texts only
        beam_rows(
            runtime.for_concurrent_calls() if concurrent else runtime,
            [prompts[index] for index in batch],
            pad_id=decoding.pad_id,
            decode=decoding.decode,
            ends=decoding.ends,
            on_step=steps.append,
        )
        return steps

    def give_beams(batch: list[int], steps: list[TokenStep]) -> None:
        for step in steps:
            writer.on_step_of(batch)(step)

    def run_single(batch: list[int], concurrent: bool) -> None:
        left = writer.unanswered(batch)
        if left:
            continue_rows(
                runtime,
                [prompts[index] for index in left],
                pad_id=decoding.pad_id,
                decode=decoding.decode,
                ends=decoding.ends,
                streaming=on_token is not None,
                on_step=writer.on_step_of(left),
            )

    run_batches(
        beams,
        size=lambda index: _cost(prompts[index]),
        budget=beam_budget,
        run=run_beams,
        give=give_beams,
        callers=runtime.card.callers,
    )
    if not single:
        return
    if runtime.slots(rows=1, length=1) is None:
        run_batches(
            single,
            size=lambda index: _cost(prompts[index]),
            budget=budget,
            run=run_single,
            give=lambda batch, found: None,
        )
        return
    for cohort in _cohorts(prompts, single, budget=budget):
        _write_cohort(
            runtime,
            prompts,
            cohort,
            budget=budget,
            rows=rows,
            decoding=decoding,
            streaming=on_token is not None,
            writer=writer,
        )


def _write_cohort(
    runtime: Runtime,
    prompts: Sequence[EncodedPrompt],
    cohort: Sequence[int],
    *,
    budget: Budget,
    rows: RowsByLength,
    decoding: TextSettings,
    streaming: bool,
    writer: "_Writing",
) -> None:
    """Write requests in slots of one length: in slots of one caller, or, where there is enough for several callers, in
    as many slots beside each other, each request in those that it is dealt to."""
    mine = [prompts[index] for index in cohort]
    apart = runtime.model.kind == "encoder-decoder"
    longest = max((0 if apart else len(prompt.ids)) + prompt.settings.max_new_tokens for prompt in mine)
    choice = rows.of(_cost(mine[0]))
    many = len(mine) > choice.most or len(mine) >= LEAST_ROWS * runtime.card.callers
    callers = runtime.card.callers if many else 1
    laid_out = runtime if callers == 1 else runtime.for_concurrent_calls()

    def write(dealt: Sequence[int], on_step: OnStep, stopped: Callable[[], bool]) -> None:
        write_queue(
            _slots_of(laid_out, longest),
            [prompts[index] for index in dealt],
            rows=choice,
            budget=budget,
            pad_id=decoding.pad_id,
            decode=decoding.decode,
            ends=decoding.ends,
            streaming=streaming,
            on_step=on_step,
            stopped=stopped,
        )

    if callers == 1:
        write(cohort, writer.on_step_of(cohort), lambda: False)
        return

    def worker(dealt: Sequence[int]) -> Worker[tuple[Sequence[int], TokenStep]]:
        return lambda send, stopped: write(dealt, lambda step: send((dealt, step)), stopped)

    def on_message(message: tuple[Sequence[int], TokenStep]) -> None:
        dealt, step = message
        writer.on_step_of(dealt)(step)

    # Dealt in turn, and not taken as places become free: what stands together does not depend on who is faster.
    hands = [cohort[number::callers] for number in range(callers) if cohort[number::callers]]
    run_workers([worker(hand) for hand in hands], on_message=on_message)


def serve_all(
    runtime: Runtime,
    arriving: Arriving,
    *,
    rows: RowsTogether,
    length: int,
    budget: Budget,
    decoding: TextSettings,
    on_token: OnToken,
    leaving: Leaving,
) -> None:
    """Write texts as they are asked for, in slots that new ones join while others are being written.

    Args:
        length: tokens of a prompt and its answer, at most.
        on_token: is called with every step.
        leaving: requests that nobody waits for any more.
    """

    def on_step(step: TokenStep) -> None:
        stopped = None if step.answer is None else step.answer.stopped
        on_token(TokenEvent(request=step.row, step=step.step, text=step.text, stopped=stopped, token=step.token))

    write_arriving(
        _slots_of(runtime, length),
        arriving,
        rows=rows,
        budget=budget,
        pad_id=decoding.pad_id,
        decode=decoding.decode,
        ends=decoding.ends,
        on_step=on_step,
        leaving=leaving,
    )


class _Writing:
    """Steps of rows become events and answers of requests."""

    def __init__(
        self,
        prompts: Sequence[EncodedPrompt],
        *,
        plan: Distinct,
        answers: AnswerRouter[Answer, Generated],
        on_token: OnToken | None,
    ) -> None:
        self._plan = plan
        self._answers = answers
        self._on_token = on_token
        self._steps: dict[int, int] = {}
        """How many steps of a request were reported: a batch that did not fit is begun again."""
        self._finished: set[int] = set()

    def unanswered(self, batch: Sequence[int]) -> list[int]:
        return [index for index in batch if index not in self._finished]

    def on_step_of(self, batch: Sequence[int]) -> OnStep:
        """The callback for the steps of these requests."""

        def on_step(step: TokenStep) -> None:
            index = batch[step.row]
            if step.answer is None and step.step < self._steps.get(index, 0):
                return
            self._steps[index] = step.step + 1
            if self._on_token is not None:
                stopped = None if step.answer is None else step.answer.stopped
                for copy in self._plan.copies[index]:
                    event = TokenEvent(request=copy, step=step.step, text=step.text, stopped=stopped, token=step.token)
                    self._on_token(event)
            if step.answer is not None:
                self._finished.add(index)
                self._answers.give([(index, step.answer)])

        return on_step


def _cost(prompt: EncodedPrompt) -> int:
    """Tokens that are kept of a text: prompt and answer, of each beam."""
    return (len(prompt.ids) + prompt.settings.max_new_tokens) * prompt.num_beams


def _cohorts(prompts: Sequence[EncodedPrompt], longest_first: Sequence[int], *, budget: Budget) -> list[list[int]]:
    """Requests that are written in the same slots."""
    cohorts: list[list[int]] = []
    for index in longest_first:
        near = cohorts and _cost(prompts[index]) * SHORTER >= _cost(prompts[cohorts[-1][0]])
        if near or (cohorts and budget.rows is not None):  # as many rows whatever their length
            cohorts[-1].append(index)
        else:
            cohorts.append([index])
    return cohorts


def _slots_of(runtime: Runtime, length: int) -> Callable[[int], Slots]:
    def make(rows: int) -> Slots:
        slots = runtime.slots(rows=rows, length=length)
        assert slots is not None  # it was asked before
        return slots

    return make


def run_workers(workers: Sequence[Worker[_Message]], *, on_message: Callable[[_Message], None]) -> None:
    """Run all workers at once, in threads of their own. Messages are taken in the caller's thread, as they come.

    >>> messages = []
    >>> def work(send, stopped):
    ...     send("done")
    >>> run_workers([work, work], on_message=messages.append)
    >>> messages
    ['done', 'done']

    Raises:
        What a worker raises, or `on_message`, once the others have stopped.
    """
    queue: SimpleQueue[tuple[list[_Message], BaseException | None, bool]] = SimpleQueue()
    stop = Event()

    def run(worker: Worker[_Message]) -> None:
        failure: BaseException | None = None
        try:
            worker(lambda message: queue.put(([message], None, False)), stop.is_set)
        except BaseException as error:  # noqa: BLE001  # it is raised again in the caller's thread
            failure = error
        queue.put(([], failure, True))

    threads = [Thread(target=run, args=(worker,), daemon=True) for worker in workers]
    for thread in threads:
        thread.start()
    failures: list[BaseException] = []
    left = len(threads)
    try:
        while left:
            messages, failure, ended = queue.get()
            left -= ended
            if failure is not None:
                failures.append(failure)
                stop.set()
            for message in messages:
                on_message(message)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]
