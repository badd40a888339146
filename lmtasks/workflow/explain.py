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
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from lmtasks.data.rows import make_rows
from lmtasks.data.splits import TaskData
from lmtasks.errors import UsageError
from lmtasks.evaluation.engine_solver import EngineSolver
from lmtasks.evaluation.protocols import PromptContext, Solved, Solver
from lmtasks.records import Json, Row
from lmtasks.results.sample import ExplainedSample, StoredWord, WordsRecord, parse_sample, read_sample_file
from lmtasks.task.kinds import kind_of
from lmtasks.task.templates import columns_in
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
    refused = why_not(task)
    if refused:
        raise UsageError(refused)
    return _explained(task, [row_of(task, text) for text in texts], partial(predictor.solve, report=report))


def why_not(task: Task) -> str:
    """Why no words can be told of a task's answers; empty where they can."""
    kind = kind_of(task)
    others = {*kind.roles, *kind.optional_roles} - {*TEXT_ROLES, kind.answer_role}
    if kind.answer in ("label", "tags") and not others:
        return ""
    return f"--explain is about labels and tags of texts; {task.name} asks for {kind.about}."


@dataclass(frozen=True, kw_only=True)
class SampleFile:
    """Stored samples of one model on one task."""

    task: Task
    """As the model was asked."""
    samples: Path
    checksum: str
    """Of their file."""
    out: Path
    """The file of the words."""
    conditions: Json
    """Of the scores."""


def wrong_first(files: Sequence[Path], count: int) -> tuple[int, ...]:
    """Numbers of examples, so many: first those that some file of samples has a wrong answer to, in an order that no
    model and no place in the data has a part in; so models that fail alike are told of the same examples.

    Args:
        files: of models; a baseline's mistakes would come first everywhere.
    """
    wrong: set[int] = set()
    there: set[int] = set()
    for file in files:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                sample = parse_sample(line, file=file, number=number)
                there.add(sample.doc_id)
                if sample.answer not in sample.targets:
                    wrong.add(sample.doc_id)
    ordered = sorted(there, key=lambda doc: (doc not in wrong, sha256(str(doc).encode()).digest()))
    return tuple(sorted(ordered[:count]))


def has_words(file: SampleFile, ids: Sequence[int]) -> bool:
    """Are the words of these examples there already?"""
    held = WordsRecord.read_if_whole(file.out)
    return held is not None and (held.samples_checksum, held.asked) == (file.checksum, tuple(ids))


def explain_samples(
    solver: Solver, file: SampleFile, ids: Sequence[int], *, seed: int, report: Callable[[Progress], None]
) -> WordsRecord:
    """Write the words that moved the answers to some stored samples; of a task that has none, why.

    Args:
        seed: that the answers were made with.

    Raises:
        UsageError: a sample is damaged.
        WorkError: the model failed, or the words cannot be written.
    """
    found: tuple[ExplainedSample, ...] = ()
    reason = _why_not_asked_again(solver, file)
    if isinstance(solver, EngineSolver) and not reason:
        wanted = set(ids)
        samples = [sample for sample in read_sample_file(file.samples) if sample.doc_id in wanted]
        context = PromptContext(seed=seed)

        def solve(rows: Sequence[Row]) -> Solved:
            data = TaskData(test=make_rows(list(rows), where=str(file.samples)))
            return solver.solve(file.task, data, prompt_context=context, report=report)

        explained = _explained(file.task, [sample.doc for sample in samples], solve)
        found = tuple(
            _stored(sample.doc_id, each)
            for sample, each in zip(samples, explained, strict=True)
            if each.answer == sample.answer  # else the last bits decide, and the words are of another answer
        )
        if samples and not found:
            reason = f"{file.task.name}: asked again, the model answers otherwise, so no words are told."
    record = WordsRecord(samples_checksum=file.checksum, asked=tuple(ids), rows=found, reason=reason)
    record.write(file.out)
    return record


def _why_not_asked_again(solver: Solver, file: SampleFile) -> str:
    """Why the samples of a solver have no words; empty where they have."""
    if not isinstance(solver, EngineSolver):
        return "words that moved an answer are told of models; a baseline, or an answer that was given, has none."
    if file.conditions.get("num_fewshot") or file.conditions.get("chat"):
        return (
            f"{file.task.name}: words that moved an answer are told of heads, and of prompts without worked examples "
            "and chat templates."
        )
    return why_not(file.task)


def _stored(doc_id: int, each: Explanation) -> ExplainedSample:
    return ExplainedSample(
        doc_id=doc_id,
        answer=each.answer,
        probability=each.probability,
        words=tuple(
            StoredWord(
                word=word.word, column=word.column, start=word.start, change=round(word.change, 6), moved=word.moved
            )
            for word in each.words
        ),
        left=each.left,
    )


def _explained(task: Task, whole: Sequence[Row], solve: Callable[[Sequence[Row]], Solved]) -> tuple[Explanation, ...]:
    """Answer rows, and each of them without each of its words.

    Args:
        solve: answers rows together.
    """
    kind = kind_of(task)
    occluded = [list(_words(task, row)) for row in whole]
    rows = [each for row, words in zip(whole, occluded, strict=True) for each in (row, *(w.row for w in words))]
    solved = iter(solve(rows).examples) if rows else iter(())
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
    """Words of each column that a head reads as text, also by a template: from where to where; of a list of words their
    places."""
    found: list[tuple[str, Sequence[tuple[int, int]]]] = []
    specs = (task.inputs.get(role) for role in TEXT_ROLES)
    for column in dict.fromkeys(name for spec in specs if isinstance(spec, str) for name in columns_in(spec)):
        value = row.get(column)
        if isinstance(value, str):
            found.append((column, word_spans(value)))
        elif isinstance(value, Sequence):
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
