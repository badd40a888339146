"""The texts of a corpus in the order in which they answer a query: by the angles between vectors.

The corpus are the different right texts of the scored rows, or those of a file of its own (`corpus:`). A row names the
right text, or a list of them.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Self

from lmtasks.errors import UsageError
from lmtasks.records import HeadInput, Row
from lmtasks.task.kinds.base import HeadTaskKind
from lmtasks.task.roles import role_text, role_value
from lmtasks.task.task import Task

CORPUS = "corpus"
"""The column that the corpus of a row stands in."""


class Corpus(str):
    """Different texts, of which a row asks for some. One value is shared by all rows. As a text, which is what
    fingerprints and samples have of it, it says how many they are, and their hash."""

    texts: tuple[str, ...]
    places: Mapping[str, int]
    """Text to its place."""

    def __new__(cls, texts: Sequence[str]) -> Self:
        """The texts in their order, each once."""
        known = tuple(dict.fromkeys(texts))
        digest = hashlib.sha256("\0".join(known).encode("utf-8", "surrogatepass")).hexdigest()[:16]
        made = super().__new__(cls, f"{len(known):,} texts, {digest}")
        made.texts = known
        made.places = {text: place for place, text in enumerate(known)}
        return made

    def __reduce__(self) -> tuple[type["Corpus"], tuple[tuple[str, ...]]]:
        """What a copy is made of."""
        return Corpus, (self.texts,)


class RetrievalKind(HeadTaskKind):
    """Rows with the roles text and right (a text, or a list of texts)."""

    def read(self, task: Task, row: Row, *, where: str, labelled: bool) -> HeadInput:
        """`first` with `candidates`, all texts of the corpus; `answers`, the right ones, and `labels`, their numbers.
        Rows that stand by themselves have no corpus."""
        first = role_text(task, row, role="text", where=where)
        right = right_texts(task, row, where=where) if labelled else ()
        corpus = row.get(CORPUS)
        if not isinstance(corpus, Corpus):
            return HeadInput(first=first, answers=right)
        missing = next((text for text in right if text not in corpus.places), None)
        if missing is not None:
            raise UsageError(
                f"{where}: the right text {missing[:60]!r} is none of the {len(corpus.texts):,} of the corpus; add it "
                "there, or leave the row out."
            )
        return HeadInput(
            first=first,
            answers=right,
            candidates=corpus.texts,
            labels=tuple(sorted(corpus.places[text] for text in right)) if labelled else None,
        )

    def target(self, task: Task, row: Row) -> str:
        """The first right text."""
        return right_texts(task, row, where=f"task {task.name}")[0]

    def blank_answer(self, task: Task, row: Row) -> object:
        """Any text; of a row with a corpus it must be one of its texts."""
        return "-"

    def learned_texts(self, task: Task, row: Row, *, row_number: int) -> tuple[str, ...]:
        """The query and the right texts."""
        where = f"task {task.name}, row {row_number}"
        return (role_text(task, row, role="text", where=where), *right_texts(task, row, where=where))


def right_texts(task: Task, row: Row, *, where: str) -> tuple[str, ...]:
    """The different right texts of a row, at least one.

    Raises:
        UsageError: there is none, or it is no text.
    """
    value, column = role_value(task, row, role="right"), task.inputs["right"]
    listed: list[object] = [value] if isinstance(value, str) or not isinstance(value, Sequence) else list(value)
    found: list[str] = []
    for text in listed:
        if not isinstance(text, str) or not text.strip():
            raise UsageError(
                f"{where}: {column!r} (inputs.right) must be a text or a list of texts, was: {str(text)[:60]!r}."
            )
        found.append(text)
    if not found:
        raise UsageError(f"{where}: {column!r} (inputs.right) names no right text; leave the row out.")
    return tuple(dict.fromkeys(found))


RETRIEVAL = RetrievalKind(
    name="retrieval",
    about="the texts of a corpus in the order in which they answer a query, by the cosine of their vectors",
    answer="ranks",
    head="embedding",
    output_types=("generate_until",),
    roles=("text", "right"),
    answer_role="right",
    source_role="text",
    changed_roles=("text",),
    metrics=("ndcg_10", "recall_1", "recall_10", "mrr"),
    baselines=("random", "bm25", "tfidf-cosine"),
    prompted=False,
)
