"""The answer of the training row that is most like the asked one: nearest neighbour by the cosine of TF-IDF.

What is compared is what a head reads: a text, two texts, or the question of the prompt.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from lmtasks.backbone.closed_form import FITTED
from lmtasks.backbone.linear import inverse_frequencies, known_terms, term_counts, tfidf, without
from lmtasks.data.spacing import longest_terms, suited
from lmtasks.data.vocabulary import learn_tokenizer
from lmtasks.evaluation.baseline_choice import certain, label_answer
from lmtasks.evaluation.baseline_text import text_answers
from lmtasks.evaluation.outcome import Answered
from lmtasks.records import Ints, Row
from lmtasks.task.kinds import head_input
from lmtasks.task.prompt import build_prompt
from lmtasks.task.task import Task

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Answer = Callable[[Sequence[Row]], Sequence[Answered]]

CELLS = 4_000_000
"""Of the table of asked rows by training rows that is in memory at a time."""


def nearest_text(task: Task, train: Sequence[Row], seed: int) -> Answer:
    """The target of the nearest training row."""
    find = _index([_question(task, row, number) for number, row in enumerate(train)])

    def answer(rows: Sequence[Row]) -> Sequence[Answered]:
        places = find([_question(task, row, number) for number, row in enumerate(rows)])
        targets = [build_prompt(task, train[place], row_number=place).target.strip() for place in places]
        return text_answers(task, rows, targets)

    return answer


def nearest_label(task: Task, train: Sequence[Row], seed: int) -> Answer:
    """The label of the nearest training row that has one."""
    given = [head_input(task, row, row_number=number) for number, row in enumerate(train)]
    labels = [each.label for each in given if each.label is not None]
    find = _index([_question(task, row, number) for number, row in enumerate(train) if given[number].label is not None])

    def answer(rows: Sequence[Row]) -> Sequence[Answered]:
        places = find([_question(task, row, number) for number, row in enumerate(rows)])
        return [
            label_answer(
                task, head_input(task, row, row_number=number), certain(labels[places[number]], len(task.labels))
            )
            for number, row in enumerate(rows)
        ]

    return answer


def _question(task: Task, row: Row, number: int) -> str:
    return head_input(task, row, row_number=number, labelled=False).shown


def _index(texts: Sequence[str]) -> Callable[[Sequence[str]], list[int]]:
    """Texts -> what finds the nearest of them to each of others; of equals the first."""
    tokenizer = learn_tokenizer(suited(FITTED["tfidf"].tokenizer, [texts]), texts)

    def encoded(asked: Sequence[str]) -> list[Ints]:
        rows = [np.array(ids, dtype=np.int64) for ids in tokenizer.encode_many(asked)]
        return without(rows, [] if tokenizer.unknown is None else [tokenizer.unknown])

    known = encoded(texts)
    longest = longest_terms(known, tokenizer=tokenizer)
    terms = known_terms(known, longest=longest, vocabulary=tokenizer.vocabulary, least=1)
    counts = term_counts(known, terms=terms, longest=longest, vocabulary=tokenizer.vocabulary)
    scale = inverse_frequencies(counts)
    table = tfidf(counts, scale).T.tocsr()

    def find(asked: Sequence[str]) -> list[int]:
        found: list[int] = []
        for part in _parts(asked, max(1, CELLS // max(1, len(texts)))):
            rows = term_counts(encoded(part), terms=terms, longest=longest, vocabulary=tokenizer.vocabulary)
            found += _largest(tfidf(rows, scale) @ table)
        return found

    return find


def _largest(likeness: "csr_matrix") -> list[int]:
    """The first column of the largest value of each row; 0 where all are 0."""
    likeness.sort_indices()
    bounds = likeness.indptr.tolist()
    return [
        int(likeness.indices[first + int(likeness.data[first:last].argmax())]) if last > first else 0
        for first, last in pairwise(bounds)
    ]


def _parts(texts: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(texts), size):
        yield texts[start : start + size]
