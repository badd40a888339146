"""Tasks answered by a head: labels from logits, spans of a text."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from time import perf_counter

from lmtasks.data.encode import classification_row, span_windows
from lmtasks.engine.answers import best_span, head_choice
from lmtasks.evaluation.asked import Answers, telling
from lmtasks.evaluation.outcome import Answered, answered_choice, answered_text
from lmtasks.evaluation.solver import Report, Solved
from lmtasks.records import HeadSpec, Row
from lmtasks.task.head_input import HeadInput, head_input
from lmtasks.task.task import Task


@dataclass(frozen=True, kw_only=True)
class FittingHead:
    """A head that can answer a task."""

    spec: HeadSpec
    order: tuple[int, ...] = ()
    """For each label of the task, its place among the head's logits; empty where there are no labels."""


def solve_by_head(engine: Answers, task: Task, rows: Sequence[Row], *, head: FittingHead, report: Report) -> Solved:
    """Answer every row with a head of kind `classification` or `span`."""
    inputs = [head_input(task, row, row_number=number) for number, row in enumerate(rows)]
    started = perf_counter()
    examples, truncated = SOLVERS[head.spec.kind](engine, task, inputs, head, report)
    return Solved(examples=examples, truncated=truncated, seconds=perf_counter() - started)


def _classify(
    engine: Answers, task: Task, inputs: Sequence[HeadInput], head: FittingHead, report: Report
) -> tuple[tuple[Answered, ...], int]:
    longest = engine.max_length_tokens
    rows = [classification_row(given, tokenizer=engine.tokenizer, max_length=longest) for given in inputs]
    tell = telling(report, stage=task.name, total=len(rows), unit="texts")
    logits = engine.predict(head.spec.name, rows, on_progress=tell)
    examples: list[Answered] = []
    for given, scores in zip(inputs, logits, strict=True):
        gold = () if given.label is None else (given.label,)
        outcome = head_choice(scores, order=head.order, labels=task.labels, gold=gold)
        examples.append(answered_choice(outcome, prompt=shown(given), choices=task.labels))
    return tuple(examples), sum(row.truncated for row in rows)


def _find_spans(
    engine: Answers, task: Task, inputs: Sequence[HeadInput], head: FittingHead, report: Report
) -> tuple[tuple[Answered, ...], int]:
    groups = [
        span_windows(
            given,
            tokenizer=engine.tokenizer,
            max_length=engine.max_length_tokens,
            null_at_end=engine.model.kind == "causal",
        )
        for given in inputs
    ]
    windows = [window for group in groups for window in group]
    tell = telling(report, stage=task.name, total=len(windows), unit="windows")
    logits = iter(engine.predict(head.spec.name, windows, on_progress=tell))
    examples: list[Answered] = []
    for given, group in zip(inputs, groups, strict=True):
        context = given.second or ""
        span = best_span(list(islice(logits, len(group))), group, source=context)
        examples.append(
            answered_text(
                span.text, prediction=span.text, prompt=shown(given), references=given.answers, source=context
            )
        )
    return tuple(examples), sum(any(window.truncated for window in group) for group in groups)


SOLVERS: Mapping[
    str, Callable[[Answers, Task, Sequence[HeadInput], FittingHead, Report], tuple[tuple[Answered, ...], int]]
] = {"classification": _classify, "span": _find_spans}
"""How each kind of head answers: the examples, and how many of them were truncated."""


def shown(given: HeadInput) -> str:
    """What a head read, for people."""
    return given.first if given.second is None else f"{given.first}\n{given.second}"
