"""Words that moved an answer, by occlusion: each word is left out once, and what the model then says is held against
what it said (Zeiler and Fergus 2014, https://arxiv.org/abs/1311.2901, of pictures; Li et al. 2016,
https://arxiv.org/abs/1612.08220, of words).

It needs no gradients, so that packages, baselines of scikit-learn and served models are explained alike. A word whose
loss changes nothing may still matter together with another one: occlusion asks one word at a time.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmtasks.errors import UsageError
from lmtasks.records import Row
from lmtasks.task.kinds import kind_of
from lmtasks.workflow.predict import Predictor, probabilities_of
from lmtasks.workflow.unlabelled_rows import row_of

if TYPE_CHECKING:
    from lmtasks.evaluation.outcome import Answered
    from lmtasks.records import Progress
    from lmtasks.task.task import Task

TEXT_ROLES = ("text", "pair", "tokens")
"""Roles of what heads of labels and tags read."""
MOST_WORDS = 200
"""Of a text, from its beginning, that are left out in turn."""
_WORD = re.compile(r"\w+(?:['’-]\w+)*")
_HAN = re.compile(r"[\u3400-\u9fff]")


@dataclass(frozen=True, kw_only=True)
class WordEffect:
    """A word that was left out."""

    word: str
    column: str
    """Of the row."""
    start: int
    """Its first character in the column's text; of tagging its place among the words, from 0."""
    change: float
    """Of labels: the answer's probability with the word less that without, -1 to 1. Of tags: how many other words have
    another tag without it."""
    moved: tuple[str, ...] = ()
    """Without the word: the other label, or `WORD: TAG -> TAG` of each word that has another tag."""


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """An answer and the words that it was made of."""

    answer: str
    probability: float | None
    """Of the answer; None: of tags."""
    words: tuple[WordEffect, ...]
    """In the order of the text."""
    left: int = 0
    """Words behind the first 200, which were not left out."""

    def strongest(self, count: int) -> tuple[WordEffect, ...]:
        """Words with an effect, the largest first, whichever way it goes."""
        found = [each for each in self.words if each.change or each.moved]
        return tuple(sorted(found, key=lambda each: -abs(each.change))[:count])


def explain(
    predictor: Predictor, texts: Sequence[str], *, report: Callable[[Progress], None] | None = None
) -> tuple[Explanation, ...]:
    """Answer each text, and leave out its words in turn: as many answers a text as it has words, and one.

    Raises:
        UsageError: the task's answers are neither labels nor tags, or a text lacks a column that the task reads.
        WorkError: the model failed.
    """
    task = predictor.task
    kind = kind_of(task)
    others = {*kind.roles, *kind.optional_roles} - {*TEXT_ROLES, kind.answer_role}
    if kind.answer not in ("label", "tags") or others:
        raise UsageError(f"--explain is about labels and tags of texts; {task.name} asks for {kind.about}.")
    whole = [row_of(task, text) for text in texts]
    occluded = [list(_words(task, row)) for row in whole]
    rows = [each for row, words in zip(whole, occluded, strict=True) for each in (row, *(w.row for w in words))]
    solved = iter(predictor.solve(rows, report=report).examples)
    found: list[Explanation] = []
    for row, words in zip(whole, occluded, strict=True):
        first = next(solved)
        effects = [
            (_tag_effect if kind.in_words else _label_effect)(task, row, word, first, next(solved)) for word in words
        ]
        found.append(
            Explanation(
                answer=first.answer,
                probability=None if kind.in_words else _probability(task, first, first.answer),
                words=tuple(effects),
                left=max(0, sum(len(spans) for _, spans in _spans(task, row)) - len(words)),
            )
        )
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class _Occluded:
    word: str
    column: str
    start: int
    row: Row
    """Without the word."""


def _words(task: Task, row: Row) -> Iterator[_Occluded]:
    """The first words of a row, each with the row that lacks it."""
    left = MOST_WORDS
    for column, spans in _spans(task, row):
        for start, end in spans[:left]:
            value = row[column]
            if isinstance(value, str):
                without: object = re.sub(r"  +", " ", value[:start] + value[end:]).strip()
                yield _Occluded(word=value[start:end], column=column, start=start, row={**row, column: without})
            else:
                assert isinstance(value, Sequence)
                short = [each for place, each in enumerate(value) if place != start]
                blank = {} if task.inputs.get("tags") is None else {task.inputs["tags"]: [task.labels[0]] * len(short)}
                yield _Occluded(word=str(value[start]), column=column, start=start, row={**row, column: short, **blank})
        left -= len(spans[:left])


def _spans(task: Task, row: Row) -> Sequence[tuple[str, Sequence[tuple[int, int]]]]:
    """Words of each column that a head reads as text: from where to where; of a list of words their places."""
    found: list[tuple[str, Sequence[tuple[int, int]]]] = []
    for role in TEXT_ROLES:
        column = task.inputs.get(role)
        value = row.get(column) if isinstance(column, str) else None
        if isinstance(column, str) and isinstance(value, str):
            found.append((column, word_spans(value)))
        elif isinstance(column, str) and isinstance(value, Sequence):
            found.append((column, [(place, place + 1) for place in range(len(value))] if len(value) > 1 else []))
    return found


def word_spans(text: str) -> list[tuple[int, int]]:
    """From where to where each word of a text goes; Chinese is cut by jieba.

    >>> word_spans("It isn't good.")
    [(0, 2), (3, 8), (9, 13)]
    """
    if not _HAN.search(text):
        return [found.span() for found in _WORD.finditer(text)]
    import jieba

    jieba.setLogLevel(logging.WARNING)
    return [(start, end) for word, start, end in jieba.tokenize(text) if any(map(str.isalnum, word))]


def _label_effect(task: Task, row: Row, word: _Occluded, first: Answered, other: Answered) -> WordEffect:
    del row
    change = _probability(task, first, first.answer) - _probability(task, other, first.answer)
    moved = () if other.answer == first.answer else (other.answer,)
    return WordEffect(word=word.word, column=word.column, start=word.start, change=change, moved=moved)


def _tag_effect(task: Task, row: Row, word: _Occluded, first: Answered, other: Answered) -> WordEffect:
    del task
    words, before, after = row[word.column], first.answer.split(), other.answer.split()
    assert isinstance(words, Sequence)
    rest = [place for place in range(len(words)) if place != word.start]
    moved = tuple(
        f"{words[place]}: {before[place]} -> {tag}"
        for place, tag in zip(rest, after, strict=True)
        if tag != before[place]
    )
    return WordEffect(word=word.word, column=word.column, start=word.start, change=float(len(moved)), moved=moved)


def _probability(task: Task, answered: Answered, label: str) -> float:
    """Probability of a label, 0-1."""
    found = probabilities_of(task.labels, answered.outcome)
    assert found is not None  # the caller looked at the kind of task
    return found[label]
