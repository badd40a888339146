"""The engine: requests over any runtime. It batches them, runs equal ones once, decodes, and maps the answers back.

An answer depends on its request alone, not on what else is asked, in which order, or how much fits into a batch
(beyond the last bits of floating point).
"""

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from lmtasks.data.batches import pad
from lmtasks.data.tokenizer import Tokenizer
from lmtasks.engine.beam import beam_rows
from lmtasks.engine.decode import Answer, Prompt, Step, continue_rows
from lmtasks.engine.requests import (
    Generated,
    GenerateRequest,
    OnAnswers,
    OnProgress,
    OnToken,
    Scored,
    ScoreRequest,
    TokenEvent,
)
from lmtasks.engine.schedule import Answers, Limits, Schedule, schedule
from lmtasks.engine.scoring import score_pairs, score_rows
from lmtasks.errors import UsageError, unknown
from lmtasks.records import Floats32, HeadSpec, ModelCard, RuntimeCard
from lmtasks.runtime.base import Runtime

State = TypeVar("State")


class HeadRow(Protocol):
    """What a head reads: one encoded text, or one window."""

    @property
    def ids(self) -> Sequence[int]: ...

    @property
    def types(self) -> Sequence[int]: ...


class Engine(Generic[State]):
    """One loaded model, ready to answer.

    Args:
        runtime: what computes.
        tokenizer: the model's.
        tokens_per_batch: rows times longest row of a batch, padding counted; of generation with the new tokens.
        rows_per_batch: at most so many rows, whatever their length; None: as many as the tokens allow.
        ends: tokens that end a text; None: the model's, or the tokenizer's EOS where the model names none.
    """

    def __init__(
        self,
        runtime: Runtime[State],
        tokenizer: Tokenizer,
        *,
        tokens_per_batch: int = 4096,
        rows_per_batch: int | None = None,
        ends: frozenset[int] | None = None,
    ) -> None:
        self.runtime = runtime
        self.tokenizer = tokenizer
        self.limits = Limits(tokens=tokens_per_batch, rows=rows_per_batch)
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
        """What answers."""
        return self.runtime.model

    @property
    def card(self) -> RuntimeCard:
        """What computes."""
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
        heads = {head.name: head for head in self.runtime.model.heads}
        if name not in heads:
            raise unknown(f"head of {self.runtime.model.name}", name, heads)
        return heads[name]

    def predict(
        self,
        head: str,
        rows: Sequence[HeadRow],
        *,
        on_progress: OnProgress | None = None,
        on_answers: OnAnswers[Floats32] | None = None,
    ) -> list[Floats32]:
        """Logits of a head for each row, unpadded: (C,) for classification, (T, C) for tagging, (T, 2) for span.

        Raises:
            UsageError: the model has no such head, or a row is longer than it takes.
        """
        per_token = self.head(head).kind != "classification"
        for number, row in enumerate(rows):
            self._check_length(len(row.ids), number)
        keys = [(tuple(row.ids), tuple(row.types)) for row in rows]
        plan = schedule(keys, costs=[len(row.ids) for row in rows], limits=self.limits)
        answers = Answers[Floats32, Floats32](
            plan,
            count=len(rows),
            finish=lambda index, answer: answer,
            on_progress=on_progress,
            on_answers=on_answers,
        )
        for batch in plan.batches:
            ids = [rows[index].ids for index in batch]
            types = [rows[index].types for index in batch] if self.tokenizer.takes_types else None
            logits = self.runtime.predict(head, pad(ids, pad_id=self.tokenizer.pad, types=types))
            answers.give(
                [
                    (index, logits[place, : len(ids[place])].copy() if per_token else logits[place].copy())
                    for place, index in enumerate(batch)
                ]
            )
        return answers.all()

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
                limits=self.limits,
                pad_id=self.tokenizer.pad,
                start=self._start,
                on_progress=on_progress,
                on_answers=on_answers,
            )
        return score_rows(
            self.runtime,
            requests,
            limits=self.limits,
            pad_id=self.tokenizer.pad,
            on_progress=on_progress,
            on_answers=on_answers,
        )

    def generate(
        self,
        requests: Sequence[GenerateRequest],
        *,
        on_progress: OnProgress | None = None,
        on_token: OnToken | None = None,
        on_answers: OnAnswers[Generated] | None = None,
    ) -> list[Generated]:
        """A continuation of each prompt.

        A prompt longer than the model takes beside its new tokens is cut on the left. With beams, `on_token` is told
        of finished texts only.

        Raises:
            UsageError: no room is left for a prompt, or a prompt has no tokens.
        """
        prompts = [self._fitting_prompt(request, number) for number, request in enumerate(requests)]
        keys: list[tuple[object, ...]] = []
        costs: list[int] = []
        for number, (request, ids) in enumerate(zip(requests, prompts, strict=True)):
            settings = request.settings
            stream = (_number(request, number), request.seed) if settings.temperature > 0 else (0, 0)
            keys.append((settings.num_beams, ids, repr(settings), *stream))
            costs.append((len(ids) + settings.max_new_tokens) * settings.num_beams)
        plan = schedule(keys, costs=costs, limits=self.limits)

        def finish(index: int, answer: Answer) -> Generated:
            return Generated(
                ids=answer.ids,
                text=answer.text,
                stopped=answer.stopped,
                truncated=len(prompts[index]) < len(requests[index].prompt_ids),
            )

        answers = Answers[Answer, Generated](
            plan, count=len(requests), finish=finish, on_progress=on_progress, on_answers=on_answers
        )
        for batch in plan.batches:
            for beams in (False, True):
                part = [index for index in batch if (requests[index].settings.num_beams > 1) is beams]
                if part:
                    self._continue(part, requests, prompts, plan, answers, on_token)
        return answers.all()

    def _continue(
        self,
        part: Sequence[int],
        requests: Sequence[GenerateRequest],
        prompts: Sequence[tuple[int, ...]],
        plan: Schedule,
        answers: Answers[Answer, Generated],
        on_token: OnToken | None,
    ) -> None:
        """Write the answers of one batch, all with beams or all without."""

        def on_step(step: Step) -> None:
            if on_token is not None:
                stopped = None if step.answer is None else step.answer.stopped
                for copy in plan.copies[part[step.row]]:
                    on_token(TokenEvent(request=copy, step=step.step, text=step.text, stopped=stopped))
            if step.answer is not None:
                answers.give([(part[step.row], step.answer)])

        rows = [
            Prompt(
                seen=() if self.runtime.model.kind == "encoder-decoder" else prompts[index],
                settings=requests[index].settings,
                seed=requests[index].seed,
                number=_number(requests[index], index),
            )
            for index in part
        ]
        batch = pad([prompts[index] for index in part], pad_id=self.tokenizer.pad)
        if rows[0].settings.num_beams > 1:
            beam_rows(self.runtime, batch, rows, decode=self.tokenizer.decode, ends=self._ends, on_step=on_step)
        else:
            continue_rows(
                self.runtime,
                batch,
                rows,
                decode=self.tokenizer.decode,
                ends=self._ends,
                streaming=on_token is not None,
                on_step=on_step,
            )

    def _fitting_prompt(self, request: GenerateRequest, number: int) -> tuple[int, ...]:
        """The prompt's last tokens, as many as the model takes beside the new ones."""
        if not request.prompt_ids:
            raise UsageError(f"request {number} has a prompt of no tokens; it needs at least one.")
        new, longest = request.settings.max_new_tokens, self.max_length_tokens
        # The source of an encoder-decoder takes no room from its answer.
        apart = self.runtime.model.kind == "encoder-decoder"
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


def _number(request: GenerateRequest, place: int) -> int:
    return place if request.number is None else request.number
