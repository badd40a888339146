"""Which way each text is written: in slots, where rows come and go, batch after batch, or with beams."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from lmtasks.engine.beam import beam_rows
from lmtasks.engine.budget import KEPT_TOKENS
from lmtasks.engine.continuous import Arriving, write_arriving, write_queue
from lmtasks.engine.decode import Answer, EncodedPrompt, OnStep, TokenStep, continue_rows
from lmtasks.engine.requests import Generated, OnToken, TokenEvent
from lmtasks.engine.schedule import AnswerRouter, Budget, Distinct, run_batches
from lmtasks.engine.stream import Decode
from lmtasks.engine.workers import Work, hear_all
from lmtasks.runtime.base import Runtime, Slots

State = TypeVar("State")

LEAST_ROWS = 8
"""So many rows for each caller, and it pays to have several."""
SHORTER = 2
"""Rows of less than a half of the longest one's tokens get slots of their own."""


@dataclass(frozen=True, kw_only=True)
class TextSettings:
    """What is the same for all texts of a model."""

    pad_id: int
    decode: Decode
    ends: frozenset[int]


def generate_all(
    runtime: Runtime[State],
    prompts: Sequence[EncodedPrompt],
    *,
    plan: Distinct,
    answers: AnswerRouter[Answer, Generated],
    budget: Budget,
    decoding: TextSettings,
    on_token: OnToken | None,
) -> None:
    """Write what the plan names, the longest first.

    Args:
        prompts: all of them; `plan` says which are different.
        on_token: is told of every step; with beams, of finished texts only.
    """
    writer = _Writing(prompts, plan=plan, answers=answers, on_token=on_token)
    longest_first = sorted(plan.firsts, key=lambda index: -_cost(prompts[index]))
    beams = [index for index in longest_first if prompts[index].num_beams > 1]
    single = [index for index in longest_first if prompts[index].num_beams == 1]

    def run_beams(batch: list[int], beside: bool) -> list[TokenStep]:
        told: list[TokenStep] = []  # of finished texts only
        beam_rows(
            runtime.beside() if beside else runtime,
            [prompts[index] for index in batch],
            pad_id=decoding.pad_id,
            decode=decoding.decode,
            ends=decoding.ends,
            on_step=told.append,
        )
        return told

    def give_beams(batch: list[int], told: list[TokenStep]) -> None:
        for step in told:
            writer.told(batch)(step)

    def run_single(batch: list[int], beside: bool) -> None:
        left = writer.unanswered(batch)
        if left:
            continue_rows(
                runtime,
                [prompts[index] for index in left],
                pad_id=decoding.pad_id,
                decode=decoding.decode,
                ends=decoding.ends,
                streaming=on_token is not None,
                on_step=writer.told(left),
            )

    run_batches(
        beams,
        size=lambda index: _cost(prompts[index]),
        budget=budget,
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
            decoding=decoding,
            streaming=on_token is not None,
            writer=writer,
        )


def _write_cohort(
    runtime: Runtime[State],
    prompts: Sequence[EncodedPrompt],
    cohort: Sequence[int],
    *,
    budget: Budget,
    decoding: TextSettings,
    streaming: bool,
    writer: "_Writing",
) -> None:
    """Write requests in slots of one length: in slots of one caller, or, where there is enough for several callers, in
    as many slots beside each other, each request in those that it is dealt to."""
    mine = [prompts[index] for index in cohort]
    apart = runtime.model.kind == "encoder-decoder"
    longest = max((0 if apart else len(prompt.ids)) + prompt.settings.max_new_tokens for prompt in mine)
    most = max(1, KEPT_TOKENS * budget.tokens // _cost(mine[0]))
    rows = most if budget.rows is None else min(most, budget.rows)
    callers = runtime.card.callers if len(mine) > rows or len(mine) >= LEAST_ROWS * runtime.card.callers else 1
    laid_out = runtime if callers == 1 else runtime.beside()

    def write(dealt: Sequence[int], on_step: OnStep, stopped: Callable[[], bool]) -> None:
        write_queue(
            _slots_of(laid_out, longest),
            [prompts[index] for index in dealt],
            rows=rows,
            budget=budget,
            pad_id=decoding.pad_id,
            decode=decoding.decode,
            ends=decoding.ends,
            streaming=streaming,
            on_step=on_step,
            stopped=stopped,
        )

    if callers == 1:
        write(cohort, writer.told(cohort), lambda: False)
        return

    def work(dealt: Sequence[int]) -> Work[tuple[Sequence[int], TokenStep]]:
        return lambda tell, stopped: write(dealt, lambda step: tell((dealt, step)), stopped)

    def hear(said: tuple[Sequence[int], TokenStep]) -> None:
        dealt, step = said
        writer.told(dealt)(step)

    # Dealt in turn, and not taken as places become free: what stands together does not depend on who is faster.
    hear_all([work(cohort[number::callers]) for number in range(callers) if cohort[number::callers]], hear=hear)


def serve_all(
    runtime: Runtime[State],
    arriving: Arriving,
    *,
    rows: int,
    length: int,
    budget: Budget,
    decoding: TextSettings,
    on_token: OnToken,
) -> None:
    """Write texts as they are asked for, in slots that new ones join while others are being written.

    Args:
        length: tokens of a prompt and its answer, at most.
        on_token: is told of every step.
    """

    def on_step(step: TokenStep) -> None:
        stopped = None if step.answer is None else step.answer.stopped
        on_token(TokenEvent(request=step.row, step=step.step, text=step.text, stopped=stopped))

    write_arriving(
        _slots_of(runtime, length),
        arriving,
        rows=rows,
        budget=budget,
        pad_id=decoding.pad_id,
        decode=decoding.decode,
        ends=decoding.ends,
        on_step=on_step,
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
        """How many steps of a request were told: a batch that did not fit is begun again."""
        self._finished: set[int] = set()

    def unanswered(self, batch: Sequence[int]) -> list[int]:
        return [index for index in batch if index not in self._finished]

    def told(self, batch: Sequence[int]) -> OnStep:
        """What is to be told of the steps of these requests."""

        def on_step(step: TokenStep) -> None:
            index = batch[step.row]
            if step.answer is None and step.step < self._steps.get(index, 0):
                return
            self._steps[index] = step.step + 1
            if self._on_token is not None:
                stopped = None if step.answer is None else step.answer.stopped
                for copy in self._plan.copies[index]:
                    self._on_token(TokenEvent(request=copy, step=step.step, text=step.text, stopped=stopped))
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


def _slots_of(runtime: Runtime[State], length: int) -> Callable[[int], Slots]:
    def make(rows: int) -> Slots:
        slots = runtime.slots(rows=rows, length=length)
        assert slots is not None  # it was asked before
        return slots

    return make
