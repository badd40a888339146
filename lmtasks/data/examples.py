"""Training rows of a head: token ids with targets, made from the rows of a task.

One task file serves both ways to solve a task. A head that predicts reads the columns that `inputs` names; a generation
head learns to continue the task's prompt with its target, the prompt it is scored on.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from lmtasks.data.continuation import ContinuationRow, continuation_row, prefix_token, rolling_windows, seq2seq_row
from lmtasks.data.row_hashes import TrainingRows, hash_rows
from lmtasks.data.splits import TaskData
from lmtasks.data.tokenizer import Tokenizer
from lmtasks.errors import UsageError
from lmtasks.head import HEADS, head_of
from lmtasks.head.base import IGNORED, Targets
from lmtasks.records import HeadSpec, Row
from lmtasks.settings.attention import Attention
from lmtasks.task.kinds import head_input, kind_of, scored_text
from lmtasks.task.prompt import build_prompt
from lmtasks.task.task import Task

ROWS_SHOWN = 5
UNSEEN_SHOWN = 20
"""Labels without a training row that are named."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TrainingExample:
    """One training row.

    `targets` of a head that predicts are those of its kind (`EncodedInput.targets`, in the task's own unit until
    `in_units_of` has turned them); of a generation head the next token at each position, `IGNORED` inside the prompt.
    """

    ids: tuple[int, ...]
    targets: Targets
    types: tuple[int, ...] = ()
    decoder_ids: tuple[int, ...] = ()
    """What the decoder of an encoder-decoder reads, or the other text, which is read apart; empty otherwise."""


@dataclass(frozen=True, kw_only=True)
class HeadExamples:
    """The training and validation rows of one head."""

    head: HeadSpec
    train: tuple[TrainingExample, ...]
    validation: tuple[TrainingExample, ...]
    truncated: int
    """Training texts that were cut to the model's longest input."""
    unaligned: int = 0
    """Training rows with a piece of the answer that no tokens stand for exactly."""
    fingerprint: str
    """Identifies the data that the rows were made from."""
    text: tuple[int, ...] = ()
    """All training rows as one running text, where that is what is learned from; there are no rows then."""
    validation_text: tuple[int, ...] = ()
    seen: TrainingRows = field(default_factory=TrainingRows)
    """Fingerprints of the rows."""


@dataclass(frozen=True, kw_only=True)
class ReadingSettings:
    """How a model reads."""

    tokenizer: Tokenizer
    max_length: int
    """Longest row in tokens."""
    causal: bool
    """Does it see the past only, where no head says otherwise? Then a span head points at the end token where there is
    no answer."""
    attention: Attention | None = None
    """How it reads for a new head; None: as it reads by itself."""
    heads: Mapping[str, HeadSpec] = field(default_factory=dict)
    """Heads that are there already, by name: it reads for them as they have learned it."""
    decoder_start: int | None = None
    """What an encoder-decoder's decoder reads first; None for other models."""
    pooling: Literal["mean", "last", "first", "max"] = "mean"
    """Which hidden state a classification head reads."""
    vectors: HeadSpec | None = None
    """A head that answers with vectors, as the model would have it by itself; None: nobody asks for one."""
    stateful: bool = False
    """Does a causal model carry a state of its own through a running text?"""

    def attention_of(self, task: Task) -> Attention | None:
        """How the model reads for the head of a task; None: as it reads by itself. What writes reads causally."""
        if task.name in self.heads:
            return self.heads[task.name].attention
        if HEADS.line(kind_of(task).head).predicts:
            return self.attention
        return "causal" if self.causal and self.attention is not None else None


def head_examples(task: Task, data: TaskData, *, reading: ReadingSettings) -> HeadExamples:
    """Encode the training and validation rows of a task for its head.

    Raises:
        UsageError: the task has no train split, or a row does not fit the task.
    """
    if data.train is None or data.validation is None:
        raise UsageError(f"task {task.name!r} has no train split; a head needs one.")
    kind = kind_of(task)
    fingerprint = f"{task.hash} {data.train.fingerprint} {data.validation.fingerprint}"
    seen = TrainingRows(learned=hash_rows(task, data.train.rows), chosen=hash_rows(task, data.validation.rows))
    if reading.stateful and kind.answer == "likelihood" and task.windows.concatenate:
        return HeadExamples(
            head=HeadSpec(name=task.name, kind=kind.head),
            train=(),
            validation=(),
            truncated=0,
            fingerprint=fingerprint,
            text=_running(task, data.train.rows, reading),
            validation_text=_running(task, data.validation.rows, reading),
            seen=seen,
        )
    encode = row_encoder(task, reading=reading, by_head=HEADS.line(kind.head).predicts)
    parts: list[tuple[TrainingExample, ...]] = []
    truncated = 0
    unaligned: dict[int, tuple[str, ...]] = {}
    for rows in (data.train, data.validation):
        encoded = [encode(task, row, number, reading) for number, row in enumerate(rows.rows)]
        parts.append(tuple(example for each in encoded for example in each.examples))
        truncated += sum(each.truncated for each in encoded)
        if rows is data.train:
            unaligned = {number: each.unaligned for number, each in enumerate(encoded) if each.unaligned}
    _tell_unaligned(task, unaligned, rows=len(data.train.rows))
    _tell_unseen_labels(task, data.train.rows)
    spec = HeadSpec(
        name=task.name,
        kind=kind.head,
        labels=task.labels,
        pooling=reading.pooling,
        attention=reading.attention_of(task),
        scheme=kind.scheme(task, data.train.rows) or "",
    )
    if HEADS.line(kind.head).vectors:
        spec = vector_head(task, reading)
    return HeadExamples(
        head=HEADS.line(kind.head).fitted(spec, [example.targets for example in parts[0]]),
        train=parts[0],
        validation=parts[1],
        truncated=truncated,
        unaligned=len(unaligned),
        fingerprint=fingerprint,
        seen=seen,
    )


def vector_head(task: Task, reading: ReadingSettings) -> HeadSpec:
    """The head that answers a task with vectors: the model's own of that name, or a new one."""
    assert reading.vectors is not None  # whoever adapts to such a task says it
    return reading.heads.get(task.name) or replace(reading.vectors, name=task.name)


def in_units_of(head: HeadExamples, spec: HeadSpec) -> HeadExamples:
    """The rows with targets as the loss of this head of a model takes them (`Head.learned`)."""
    kind = head_of(spec)

    def turned(rows: Sequence[TrainingExample]) -> tuple[TrainingExample, ...]:
        return tuple(replace(row, targets=kind.learned(spec, row.targets)) for row in rows)

    return replace(head, head=spec, train=turned(head.train), validation=turned(head.validation))


def _tell_unseen_labels(task: Task, rows: Sequence[Row]) -> None:
    """Name the labels that no training row has: a head has an output for each, and learns only to be silent on them."""
    if not kind_of(task).labelled:
        return
    seen: set[int] = set()
    for number, row in enumerate(rows):
        given = head_input(task, row, row_number=number)
        seen.update(given.tags, given.labels or (), () if given.label is None else (given.label,))
        if len(seen) == len(task.labels):
            return
    unseen = [label for number, label in enumerate(task.labels) if number not in seen]
    shown = ", ".join(unseen[:UNSEEN_SHOWN]) + (f" and {more} more" if (more := len(unseen) - UNSEEN_SHOWN) > 0 else "")
    log.warning("task %s: no training row has the label %s, which is never learned.", task.name, shown)


def _tell_unaligned(task: Task, unaligned: Mapping[int, tuple[str, ...]], *, rows: int) -> None:
    """Count and list the rows whose right answer no tokens stand for exactly."""
    if not unaligned:
        return
    shown = ", ".join(
        f"{number} ({', '.join(map(repr, found))})" for number, found in [*unaligned.items()][:ROWS_SHOWN]
    )
    more = f" and {len(unaligned) - ROWS_SHOWN} more" if len(unaligned) > ROWS_SHOWN else ""
    log.warning(
        "task %s: of %d training rows %d have a word or an answer that no tokens stand for exactly, so that the "
        "nearest ones are learned, or none; rows, counted from 0: %s%s.",
        task.name,
        rows,
        len(unaligned),
        shown,
        more,
    )


@dataclass(frozen=True, kw_only=True)
class EncodedExamples:
    """Learned from one row: its examples, and what was lost of it."""

    examples: Sequence[TrainingExample]
    truncated: bool = False
    """Was a text cut?"""
    unaligned: tuple[str, ...] = ()
    """Pieces of the answer that no tokens stand for exactly."""


Encoder = Callable[[Task, Row, int, ReadingSettings], EncodedExamples]
"""(task, row, its number, reading) -> what is learned from it."""


def row_encoder(task: Task, *, reading: ReadingSettings, by_head: bool) -> Encoder:
    """How rows of a task become training examples.

    Args:
        by_head: as the head of the task's kind reads them; else as texts that are continued.
    """
    if by_head:
        return _predicted
    if reading.decoder_start is not None:
        return _seq2seq
    return _scored if kind_of(task).answer == "likelihood" else _continued


def _predicted(task: Task, row: Row, number: int, reading: ReadingSettings) -> EncodedExamples:
    tokenizer, kind = reading.tokenizer, HEADS.line(kind_of(task).head)
    given = head_input(task, row, row_number=number)
    if kind.vectors:
        spec = vector_head(task, reading)
        given = replace(given, prefixes=(spec.query_prefix, spec.text_prefix))
    encoded = kind.encode(
        given,
        tokenizer=tokenizer,
        max_length=reading.max_length,
        causal=(reading.attention_of(task) or ("causal" if reading.causal else "both")) == "causal",
    )
    examples = [
        TrainingExample(
            ids=each.ids,
            targets=targets,
            types=each.types if tokenizer.takes_types else (),
            decoder_ids=each.apart.ids if each.apart is not None else (),
        )
        for each, targets in encoded.targets()
    ]
    return EncodedExamples(
        examples=examples, truncated=any(each.truncated for each in encoded.rows), unaligned=encoded.unaligned()
    )


def _continued(task: Task, row: Row, number: int, reading: ReadingSettings) -> EncodedExamples:
    prompt = build_prompt(task, row, row_number=number)
    encoded = continuation_row(
        context=prompt.context,
        target=prompt.delimiter + prompt.target,
        tokenizer=reading.tokenizer,
        max_length=reading.max_length + 1,  # the last token is only predicted
        end=True,
    )
    return EncodedExamples(examples=(_next_tokens(encoded),), truncated=encoded.truncated)


def _scored(task: Task, row: Row, number: int, reading: ReadingSettings) -> EncodedExamples:
    """The windows that the text is scored in."""
    del number
    tokenizer = reading.tokenizer
    prefix = tokenizer.bos if tokenizer.bos is not None else tokenizer.eos
    if prefix is None:
        raise UsageError(f"task {task.name}: a text's first token needs a first or end token before it.")
    ids = tokenizer.encode(scored_text(task, row), special=True)
    windows = rolling_windows(ids, prefix=prefix, max_length=reading.max_length)
    return EncodedExamples(examples=[_next_tokens(window) for window in windows])


def _running(task: Task, rows: Sequence[Row], reading: ReadingSettings) -> tuple[int, ...]:
    """The rows as they are scored: behind the first token, with what stands between them."""
    tokenizer = reading.tokenizer
    between = tokenizer.encode(task.windows.between)
    encoded = tokenizer.encode_many([scored_text(task, row) for row in rows])
    return (prefix_token(tokenizer), *encoded[0], *(token for ids in encoded[1:] for token in (*between, *ids)))


def _next_tokens(row: ContinuationRow) -> TrainingExample:
    ids = (*row.context_ids, *row.target_ids)
    return TrainingExample(ids=ids[:-1], targets=(*[IGNORED] * (len(row.context_ids) - 1), *row.target_ids))


def _seq2seq(task: Task, row: Row, number: int, reading: ReadingSettings) -> EncodedExamples:
    prompt = build_prompt(task, row, row_number=number)
    encoded = seq2seq_row(
        context=prompt.context, target=prompt.target, tokenizer=reading.tokenizer, max_length=reading.max_length
    )
    assert reading.decoder_start is not None  # this encoder is chosen by it
    example = TrainingExample(
        ids=encoded.context_ids,
        targets=encoded.target_ids,
        decoder_ids=(reading.decoder_start, *encoded.target_ids[:-1]),
    )
    return EncodedExamples(examples=(example,), truncated=encoded.truncated)
