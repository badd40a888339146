"""The engine: requests over any runtime. It batches them, runs equal ones once, decodes, and maps the answers back.

An answer depends on its request alone, not on what else is asked, in which order, or how much fits into a batch
(beyond the last bits of floating point).
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from lmtasks.data.batches import pad
from lmtasks.data.tokenizer import Tokenizer
from lmtasks.engine.decode import Answer, EncodedPrompt, likeliest
from lmtasks.engine.decoding_settings import resolve_decoding
from lmtasks.engine.generation import TextSettings, generate_all, serve_all
from lmtasks.engine.requests import (
    Generated,
    GenerateRequest,
    OnAnswers,
    OnProgress,
    OnToken,
    Scored,
    ScoreRequest,
    TokenLogprobs,
)
from lmtasks.engine.rows_together import RowsByLength, RowsTogether
from lmtasks.engine.schedule import (
    KEPT_TOKENS,
    AnswerRouter,
    Budget,
    auto_tokens,
    distinct,
    enough_tokens,
    kept_tokens,
    run_batches,
    too_long,
)
from lmtasks.engine.scoring import score_pairs, score_rows
from lmtasks.errors import UsageError, unknown
from lmtasks.head import head_of
from lmtasks.records import Floats32, HeadSpec, ModelCard, RuntimeCard
from lmtasks.runtime.base import Runtime
from lmtasks.runtime.memory import OutOfMemory

NO_TOKEN_LIMIT = 1 << 30
SEARCHES = 8
"""Beam searches that are carried out together where nobody says so: with four beams each they are 32 rows, with which
products are about as fast a row as they get."""
READS_PADDING = frozenset({"canine", "convbert", "fnet", "nystromformer", "yoso"})
"""Families whose states of a text change with the padding beside it, mask or not: they mix, fold or gather columns. Of
them rows of one length alone are read together."""


class HeadRow(Protocol):
    """One encoded text, or one window of it, as a head reads it."""

    @property
    def ids(self) -> Sequence[int]: ...

    @property
    def types(self) -> Sequence[int]: ...


class Engine:
    """One loaded model, ready to answer.

    Args:
        runtime: what computes.
        tokenizer: the model's.
        tokens_per_batch: rows times longest row of a batch, padding counted; None: as many as the memory has room for,
            and are of use. Where memory runs out, batches become smaller.
        rows_per_batch: at most so many rows; None: as many as the tokens allow; of texts that are written, as many as
            make their tokens come fastest, which their first steps find out (`rows_together.py`).
        ends: tokens that end a text; None: the model's, or the tokenizer's EOS where the model names none.
        warn: is called once when memory ran out and batches become smaller; None: a warning is logged.
    """

    def __init__(
        self,
        runtime: Runtime,
        tokenizer: Tokenizer,
        *,
        tokens_per_batch: int | None = None,
        rows_per_batch: int | None = None,
        ends: frozenset[int] | None = None,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        self.runtime = runtime
        self.tokenizer = tokenizer
        self._heads = {head.name: head for head in runtime.model.answering}
        tokens = auto_tokens(runtime) if tokens_per_batch is None else tokens_per_batch
        self.budget = Budget(tokens=tokens, rows=rows_per_batch, enough=enough_tokens(runtime), warn=warn)
        # A step of writing reads one token a row, so the rows that were asked for fit, however long they are.
        written = NO_TOKEN_LIMIT if tokens_per_batch is None and rows_per_batch is not None else tokens
        self._writing = Budget(tokens=written, rows=rows_per_batch, warn=warn)
        auto = tokens_per_batch is None and rows_per_batch is None
        kept = kept_tokens(runtime) if auto else KEPT_TOKENS * written
        self._rows = RowsByLength(kept_tokens=kept, rows=rows_per_batch, measured=auto and runtime.card.device == "cpu")
        self._searching = Budget(tokens=kept, rows=SEARCHES, warn=warn) if auto else self._writing
        start = runtime.model.decoder_start
        self._start = tokenizer.pad if start is None else start
        own = frozenset(runtime.model.ends) or frozenset(() if tokenizer.eos is None else (tokenizer.eos,))
        self._ends = own if ends is None else ends

    @property
    def cached(self) -> Sequence[bool]:
        """Which answers of the last call were known before; an engine has no memory, so it is empty."""
        return ()

    @property
    def model(self) -> ModelCard:
        """The card of the model that answers."""
        return self.runtime.model

    @property
    def card(self) -> RuntimeCard:
        """The card of the runtime that computes."""
        return self.runtime.card

    @property
    def max_length_tokens(self) -> int:
        """Longest input of the model."""
        return self.runtime.model.max_length_tokens

    def head(self, name: str) -> HeadSpec:
        """The model's head of that name.

        Raises:
            UsageError: it has none.
        """
        if name not in self._heads:
            raise unknown(f"head of {self.runtime.model.name}", name, self._heads)
        return self._heads[name]

    def predict(
        self,
        head: str,
        rows: Sequence[HeadRow],
        *,
        on_progress: OnProgress | None = None,
        on_answers: OnAnswers[Floats32] | None = None,
    ) -> list[Floats32]:
        """Logits of a head for each row, unpadded: (C,) for an answer a text, (T, C) for one a token.

        Raises:
            UsageError: the model has no such head, or a row is longer than it takes.
        """
        self.head(head)
        return self.predict_heads([head] * len(rows), rows, on_progress=on_progress, on_answers=on_answers)

    def predict_heads(
        self,
        heads: Sequence[str],
        rows: Sequence[HeadRow],
        *,
        on_progress: OnProgress | None = None,
        on_answers: OnAnswers[Floats32] | None = None,
    ) -> list[Floats32]:
        """Logits of one head for each row, its own. Rows that are equal run once, for all heads that ask about them.

        Raises:
            UsageError: the model has no such head, or a row is longer than it takes.
        """
        for head in dict.fromkeys(heads):
            self.head(head)
        for number, row in enumerate(rows):
            self._check_length(len(row.ids), number)
        if len(rows) == 1:
            answer = self._predict_alone(heads[0], rows[0])
            if on_progress is not None:
                on_progress(1)
            if on_answers is not None:
                on_answers([(0, answer)])
            return [answer]
        plan = distinct([(tuple(row.ids), tuple(row.types)) for row in rows])
        answers = AnswerRouter[Mapping[str, Floats32], Floats32](
            plan,
            count=len(rows),
            finish=lambda index, answer: answer[heads[index]],
            on_progress=on_progress,
            on_answers=on_answers,
        )
        asked = {first: tuple(sorted({heads[copy] for copy in plan.copies[first]})) for first in plan.firsts}

        def run(batch: list[int], concurrent: bool) -> list[tuple[int, Mapping[str, Floats32]]]:
            runtime = self.runtime.for_concurrent_calls() if concurrent else self.runtime
            found = self._predict_together(runtime, asked[batch[0]], [rows[index] for index in batch])
            return list(zip(batch, found, strict=True))

        for names in dict.fromkeys(asked.values()):
            run_batches(
                [first for first in plan.firsts if asked[first] == names],
                size=lambda index: len(rows[index].ids),
                budget=self.budget,
                run=run,
                give=lambda batch, found: answers.give(found),
                callers=self.runtime.reading_callers,
                choice=self.budget.choice if self.runtime.measures_callers else None,
            )
        return answers.all()

    def _predict_alone(self, head: str, row: HeadRow) -> Floats32:
        """What a single row is answered, without the work of planning batches, which takes as long as a small model.

        Raises:
            WorkError: it does not fit into memory.
        """
        try:
            return self._predict_together(self.runtime, (head,), (row,))[0][head]
        except OutOfMemory:
            pass  # its traceback holds the tensors that are to be given back
        raise too_long(len(row.ids))

    def _predict_together(
        self, runtime: Runtime, heads: Sequence[str], rows: Sequence[HeadRow]
    ) -> list[Mapping[str, Floats32]]:
        """Logits of some heads for the rows of one batch, unpadded: by row, and by head."""
        lengths = {len(row.ids) for row in rows}
        if len(lengths) > 1 and runtime.model.family in READS_PADDING:
            return self._predict_by_length(runtime, heads, rows, lengths)
        types = [row.types for row in rows] if self.tokenizer.takes_types else None
        tables = runtime.predict_heads(heads, pad([row.ids for row in rows], pad_id=self.tokenizer.pad, types=types))
        found = [(head, head_of(self._heads[head]).per_token, table) for head, table in zip(heads, tables, strict=True)]
        return [
            {head: (table[place, : len(row.ids)] if whole else table[place]).copy() for head, whole, table in found}
            for place, row in enumerate(rows)
        ]

    def _predict_by_length(
        self, runtime: Runtime, heads: Sequence[str], rows: Sequence[HeadRow], lengths: Collection[int]
    ) -> list[Mapping[str, Floats32]]:
        """The same, without padding."""
        found: dict[int, Mapping[str, Floats32]] = {}
        for length in lengths:
            places = [place for place, row in enumerate(rows) if len(row.ids) == length]
            answers = self._predict_together(runtime, heads, [rows[place] for place in places])
            found.update(zip(places, answers, strict=True))
        return [found[place] for place in range(len(rows))]

    def score(
        self,
        requests: Sequence[ScoreRequest],
        *,
        on_progress: OnProgress | None = None,
        on_answers: OnAnswers[Scored] | None = None,
    ) -> list[Scored]:
        """Log-probability of each request's target behind its context.

        Raises:
            UsageError: a target or a context has no tokens.
        """
        for number, request in enumerate(requests):
            if not request.target_ids:
                raise UsageError(f"request {number} has a target of no tokens; there is nothing to score.")
            if not request.context_ids:
                raise UsageError(f"request {number} has no context; a target needs at least one token before it.")
        if self.runtime.model.kind == "encoder-decoder":
            return score_pairs(
                self.runtime,
                requests,
                budget=self.budget,
                pad_id=self.tokenizer.pad,
                start=self._start,
                on_progress=on_progress,
                on_answers=on_answers,
            )
        return score_rows(
            self.runtime,
            requests,
            budget=self.budget,
            pad_id=self.tokenizer.pad,
            on_progress=on_progress,
            on_answers=on_answers,
        )

    def likeliest(self, requests: Sequence[ScoreRequest], *, count: int) -> list[tuple[TokenLogprobs, ...]]:
        """The likeliest tokens in the place of each target token of a causal model's requests, each with its
        log-probability.

        Args:
            count: so many in each place.

        Raises:
            UsageError: an encoder-decoder, or a row is longer than the model takes.
        """
        if self.runtime.model.kind != "causal":
            raise UsageError(f"{self.runtime.model.name} is no causal model; other tokens are not told of its targets.")
        return [self._likeliest(request, number, count=count) for number, request in enumerate(requests)]

    def _likeliest(self, request: ScoreRequest, number: int, *, count: int) -> tuple[TokenLogprobs, ...]:
        read = (*request.context_ids, *request.target_ids)[:-1]
        self._check_length(len(read), number)
        columns = np.arange(len(request.context_ids) - 1, len(read))
        batch = pad([read], pad_id=self.tokenizer.pad)
        tables = self.runtime.next_logprobs(batch, np.zeros_like(columns), columns)
        return tuple(likeliest(row, count) for table in tables for row in table)

    def generate(
        self,
        requests: Sequence[GenerateRequest],
        *,
        on_progress: OnProgress | None = None,
        on_token: OnToken | None = None,
        on_answers: OnAnswers[Generated] | None = None,
    ) -> list[Generated]:
        """A continuation of each prompt.

        A prompt longer than the model takes beside its new tokens is cut on the left. With beams, `on_token` is called
        with finished texts only.

        Raises:
            UsageError: no room is left for a prompt, or a prompt has no tokens.
        """
        prompts = [self._prompt(request, number) for number, request in enumerate(requests)]
        plan = distinct([_key(prompt) for prompt in prompts])

        def finish(index: int, answer: Answer) -> Generated:
            cut = len(prompts[index].ids) < len(requests[index].prompt_ids)
            return Generated(ids=answer.ids, text=answer.text, stopped=answer.stopped, truncated=cut)

        answers = AnswerRouter[Answer, Generated](
            plan, count=len(requests), finish=finish, on_progress=on_progress, on_answers=on_answers
        )
        generate_all(
            self.runtime,
            prompts,
            plan=plan,
            answers=answers,
            budget=self._writing,
            beam_budget=self._searching,
            rows=self._rows,
            decoding=self._text_settings(),
            on_token=on_token,
        )
        return answers.all()

    def rows_together(self, length: int) -> int:
        """So many texts of at most `length` tokens, prompt and answer, are written together by each caller
        (`card.callers`), by what was found out so far."""
        return self._rows.of(length).rows

    def joins(self) -> bool:
        """Can new texts join while others are being written, as `serve` needs it?"""
        slots = self.runtime.slots(rows=1, length=1)
        return slots is not None and slots.joins

    def serve(
        self,
        arriving: Callable[[bool], Sequence[GenerateRequest] | None],
        *,
        rows: int | None,
        length: int,
        on_token: OnToken,
        leaving: Callable[[], Collection[int]] = lambda: (),
    ) -> None:
        """Continue prompts that come one after the other, each as soon as there is room, beside those that are being
        written. Equal ones are written twice.

        Args:
            arriving: gives the requests that came since it was last asked. Asked with True, nothing is being written
                and it may wait for one; None: no more will come. Without beams.
            rows: written at a time, at most; None: as many as make tokens come fastest.
            length: tokens of a prompt and its answer, at most.
            on_token: is called with every step; `request` counts the requests in the order in which they came.
            leaving: gives the requests that nobody waits for any more; they are not written further.

        Raises:
            UsageError: the runtime has no room that rows may join; a request has beams, or does not fit.
        """
        if not self.joins():
            raise UsageError(f"{self.runtime.card.runtime} cannot let texts of {self.model.name} join others.")
        count = 0

        def coming(idle: bool) -> Sequence[EncodedPrompt] | None:
            nonlocal count
            requests = arriving(idle)
            if requests is None:
                return None
            prompts = [self._prompt(request, number) for number, request in enumerate(requests, start=count)]
            for number, (request, prompt) in enumerate(zip(requests, prompts, strict=True), start=count):
                if prompt.num_beams > 1 or len(request.prompt_ids) + request.settings.max_new_tokens > length:
                    raise UsageError(f"request {number} has beams, or more than the {length} tokens of a place.")
            count += len(requests)
            return prompts

        serve_all(
            self.runtime,
            coming,
            rows=self._rows.of(length) if rows is None else RowsTogether(most=rows, first=rows),
            length=length,
            budget=self._writing,
            decoding=self._text_settings(),
            on_token=on_token,
            leaving=leaving,
        )

    def _text_settings(self) -> TextSettings:
        return TextSettings(pad_id=self.tokenizer.pad, decode=self.tokenizer.decode, ends=self._ends)

    def _prompt(self, request: GenerateRequest, number: int) -> EncodedPrompt:
        """A request as it is written, cut where it is too long."""
        ids = self._fitting_prompt(request, number)
        settings = resolve_decoding(request.settings, self.runtime.model)
        if settings.room_tokens is not None:
            room = self.max_length_tokens - (0 if self._apart else len(ids))
            settings = replace(settings, max_new_tokens=min(settings.max_new_tokens, room), room_tokens=None)
        return EncodedPrompt(
            ids=ids,
            # The source of an encoder-decoder is no text that it continues.
            seen=(self._start,) if self._apart else ids,
            rules=self.runtime.model.rules,
            settings=settings,
            seed=request.seed,
            number=number if request.number is None else request.number,
            top=request.top,
        )

    @property
    def _apart(self) -> bool:
        """Does a prompt take no room from its answer, since an encoder reads it?"""
        return self.runtime.model.kind == "encoder-decoder"

    def _fitting_prompt(self, request: GenerateRequest, number: int) -> tuple[int, ...]:
        """The prompt's last tokens, as many as the model takes beside the new ones."""
        if not request.prompt_ids:
            raise UsageError(f"request {number} has a prompt of no tokens; it needs at least one.")
        new, longest = request.settings.room, self.max_length_tokens
        apart = self._apart
        if new > (longest if apart else longest - 1):
            raise UsageError(
                f"max_new_tokens is {new}, but {self.runtime.model.name} takes {longest} tokens in all"
                + (f"; use at most {longest}." if apart else f", prompt and answer; use at most {longest - 1}.")
            )
        return request.prompt_ids[-(longest if apart else longest - new) :]

    def _check_length(self, length: int, number: int) -> None:
        if length > self.max_length_tokens:
            raise UsageError(
                f"row {number} has {length} tokens, but {self.runtime.model.name} takes {self.max_length_tokens}; "
                "cut it or slide a window over it."
            )


def _key(prompt: EncodedPrompt) -> tuple[object, ...]:
    """Everything that an answer depends on; a draw also on its stream."""
    stream = (prompt.number, prompt.seed) if prompt.settings.temperature != 0 else (0, 0)
    return (prompt.num_beams, prompt.ids, repr(prompt.settings), -1 if prompt.top is None else prompt.top, *stream)
