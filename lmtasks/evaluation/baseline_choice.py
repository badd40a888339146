"""Baselines that choose without reading: the commonest answer, a drawn one, the longest one."""

from collections import Counter
from collections.abc import Callable, Sequence
from math import log

from lmtasks.data.rows import fingerprint
from lmtasks.engine.sampling import draw
from lmtasks.errors import UsageError
from lmtasks.evaluation.outcome import Answered, AnswerRows, answered_choice, asks_without_context
from lmtasks.records import Choice, HeadInput, Row
from lmtasks.task.kinds import head_input
from lmtasks.task.prompt import Prompt, build_prompt
from lmtasks.task.task import Task

UNLIKELY = -30.0
"""Log-probability of what was not chosen. Of the chosen it is 0, so it also wins per character and per byte; behind no
context it is 0 for all of them, so that every metric of a choice is told of the same one."""


def majority_label(task: Task, train: Sequence[Row], seed: int) -> AnswerRows:
    """The commonest label; the scores are the logarithms of the labels' shares (each seen once more than it was)."""
    counts = [1] * len(task.labels)
    for number, row in enumerate(train):
        label = head_input(task, row, row_number=number).label
        if label is not None:
            counts[label] += 1
    scores = [log(count / sum(counts)) for count in counts]
    return _labels(task, lambda row: scores)


def random_label(task: Task, train: Sequence[Row], seed: int) -> AnswerRows:
    """A label for each row, drawn by the seed and what stands in the row."""
    return _labels(task, lambda row: certain(_drawn(len(task.labels), seed, row), len(task.labels)))


def majority_number(task: Task, train: Sequence[Row], seed: int) -> AnswerRows:
    """The commonest place of the right choice; where a row has fewer choices, the commonest that it has."""
    counts = Counter(
        gold for number, row in enumerate(train) for gold in build_prompt(task, row, row_number=number).gold
    )

    def commonest(prompt: Prompt, row: Row) -> int:
        return max(range(len(prompt.choices)), key=lambda choice: (counts[choice], -choice))

    return _choices(task, commonest)


def random_choice(task: Task, train: Sequence[Row], seed: int) -> AnswerRows:
    """A choice for each row, drawn by the seed and what stands in the row."""
    return _choices(task, lambda prompt, row: _drawn(len(prompt.choices), seed, row))


def longest_choice(task: Task, train: Sequence[Row], seed: int) -> AnswerRows:
    """The choice with most characters; of equals the first."""
    return _choices(
        task, lambda prompt, row: max(range(len(prompt.choices)), key=lambda place: len(prompt.choices[place]))
    )


def certain(chosen: int, count: int) -> list[float]:
    """The scores of an answer without doubt."""
    return [0.0 if place == chosen else UNLIKELY for place in range(count)]


def label_answer(task: Task, given: HeadInput, scores: Sequence[float]) -> Answered:
    """An answer to a classification row, from the log-probability of each label."""
    return answered_choice(
        _outcome(task, scores, texts=task.labels, gold=() if given.label is None else (given.label,)),
        prompt=given.shown,
        choices=task.labels,
    )


def _labels(task: Task, scores: Callable[[Row], Sequence[float]]) -> AnswerRows:
    def answer(rows: Sequence[Row]) -> Sequence[Answered]:
        return [
            label_answer(task, head_input(task, row, row_number=number), scores(row)) for number, row in enumerate(rows)
        ]

    return answer


def _choices(task: Task, choose: Callable[[Prompt, Row], int]) -> AnswerRows:
    def answer(rows: Sequence[Row]) -> Sequence[Answered]:
        found: list[Answered] = []
        for number, row in enumerate(rows):
            prompt = build_prompt(task, row, row_number=number)
            if not prompt.choices:
                raise UsageError(f"task {task.name}, row {number}: there are no choices.")
            scores = certain(choose(prompt, row), len(prompt.choices))
            outcome = _outcome(task, scores, texts=prompt.choices, gold=prompt.gold)
            found.append(answered_choice(outcome, prompt=prompt.contexts or prompt.context, choices=prompt.choices))
        return found

    return answer


def _outcome(task: Task, scores: Sequence[float], *, texts: Sequence[str], gold: Sequence[int]) -> Choice:
    return Choice(
        gold=tuple(gold),
        scores=tuple(scores),
        chars=tuple(len(text) for text in texts),
        bytes=tuple(len(text.encode()) for text in texts),
        unconditional=(0.0,) * len(texts) if asks_without_context(task) else (),
    )


def _drawn(count: int, seed: int, row: Row) -> int:
    """By the row itself, not its number: neither `--limit` nor the number of processes shifts the draws."""
    return int(draw(seed=seed, number=int(fingerprint([row]), 16), step=0) * count)
