"""What one row of a task asks of a model, as requests, before anybody answers: for checking, and for estimates."""

from collections.abc import Sequence
from dataclasses import dataclass

from lmtasks.data.encode import (
    EncodedRow,
    SpanWindow,
    classification_row,
    continuation_row,
    prompt_ids,
    rolling_windows,
    seq2seq_row,
    span_windows,
)
from lmtasks.data.tokenizer import Tokenizer
from lmtasks.engine.requests import GenerateRequest, ScoreRequest
from lmtasks.errors import UsageError
from lmtasks.evaluation.asked import Answers, decoding_of
from lmtasks.records import HeadSpec, ModelCard, Row
from lmtasks.task.head_input import head_input, scored_text
from lmtasks.task.prompt import Prompt
from lmtasks.task.task import Task

NO_LIMIT = 1 << 40
"""Tokens: lengths are those of whole texts."""


@dataclass(frozen=True, kw_only=True)
class AskedRow:
    """The requests of one row."""

    lengths: tuple[int, ...]
    """Tokens of each request before anything is cut: what is read, and what is scored behind it."""
    cut: int
    """Requests that are longer than the model takes, and lose their first tokens."""
    score: tuple[ScoreRequest, ...] = ()
    generate: tuple[GenerateRequest, ...] = ()
    predict: tuple[EncodedRow | SpanWindow, ...] = ()
    head: str = ""


def ask_engine(engine: Answers, rows: Sequence[AskedRow]) -> None:
    """Let an engine answer all of these; the answers are thrown away."""
    if score := [request for row in rows for request in row.score]:
        engine.score(score, on_progress=None)
    if generate := [request for row in rows for request in row.generate]:
        engine.generate(generate, on_progress=None)
    if predict := [each for row in rows for each in row.predict]:
        engine.predict(rows[0].head, predict, on_progress=None)


def asked_of_head(task: Task, row: Row, *, number: int, head: HeadSpec, model: ModelCard, tok: Tokenizer) -> AskedRow:
    """What a head of kind `classification` or `span` is asked."""
    given = head_input(task, row, row_number=number)
    if head.kind == "classification":
        whole = classification_row(given, tokenizer=tok, max_length=NO_LIMIT)
        cut = classification_row(given, tokenizer=tok, max_length=model.max_length_tokens)
        return AskedRow(lengths=(len(whole.ids),), cut=int(cut.truncated), predict=(cut,), head=head.name)
    windows = span_windows(given, tokenizer=tok, max_length=model.max_length_tokens, null_at_end=model.kind == "causal")
    return AskedRow(
        lengths=tuple(len(window.ids) for window in windows),
        cut=sum(window.truncated for window in windows),
        predict=windows,
        head=head.name,
    )


def asked_by_prompt(
    task: Task, row: Row, *, prompt: Prompt, number: int, seed: int, model: ModelCard, tok: Tokenizer
) -> AskedRow:
    """What a language model is asked.

    Raises:
        UsageError: there is nothing to score, or the tokenizer lacks a token that is needed.
    """
    longest, decodes = model.max_length_tokens, model.kind == "encoder-decoder"
    if task.output_type == "generate_until":
        return _written(task, prompt, number=number, seed=seed, longest=longest, decodes=decodes, tok=tok)
    if task.output_type == "loglikelihood_rolling":
        prefix = tok.bos if tok.bos is not None else tok.eos
        if prefix is None:
            raise UsageError(
                f"task {task.name}: {model.name} has neither a first nor an end token to begin texts with."
            )
        ids = tok.encode(scored_text(task, row), special=True)
        windows = rolling_windows(ids, prefix=prefix, max_length=longest)
        score = [ScoreRequest(context_ids=each.context_ids, target_ids=each.target_ids) for each in windows]
        return AskedRow(lengths=tuple(map(_length, score)), cut=0, score=tuple(score))
    pairs = [(context, prompt.delimiter + prompt.target) for context in prompt.contexts]
    pairs = pairs or [(prompt.context, prompt.delimiter + text) for text in prompt.choices or (prompt.target,)]
    score = [_scored(context, target, decodes=decodes, tok=tok) for context, target in pairs]
    # A causal model's last token is scored but not read; an encoder-decoder reads each side by itself.
    cut = [
        max(len(each.context_ids), len(each.target_ids)) > longest if decodes else _length(each) > longest + 1
        for each in score
    ]
    return AskedRow(lengths=tuple(map(_length, score)), cut=sum(cut), score=tuple(score))


def _scored(context: str, target: str, *, decodes: bool, tok: Tokenizer) -> ScoreRequest:
    if decodes:
        stripped = context.rstrip()
        moved = context[len(stripped) :] + target
        row = seq2seq_row(context=stripped, target=moved, tokenizer=tok, max_length=NO_LIMIT, end=False)
    else:
        row = continuation_row(context=context, target=target, tokenizer=tok, max_length=NO_LIMIT, end=False)
    return ScoreRequest(context_ids=row.context_ids, target_ids=row.target_ids)


def _written(
    task: Task, prompt: Prompt, *, number: int, seed: int, longest: int, decodes: bool, tok: Tokenizer
) -> AskedRow:
    settings = decoding_of(task.generation)
    if decodes:
        row = seq2seq_row(context=prompt.context, target="", tokenizer=tok, max_length=NO_LIMIT, end=True)
        ids, room = row.context_ids, longest
    else:
        ids, _ = prompt_ids(prompt.context, tokenizer=tok, max_length=NO_LIMIT, strip=False)
        room = longest - settings.max_new_tokens
    requests = [
        GenerateRequest(prompt_ids=ids, settings=settings, seed=seed, number=number * task.repeats + repeat)
        for repeat in range(task.repeats)
    ]
    return AskedRow(
        lengths=(len(ids),) * len(requests), cut=(len(ids) > room) * len(requests), generate=tuple(requests)
    )


def _length(request: ScoreRequest) -> int:
    return len(request.context_ids) + len(request.target_ids)
