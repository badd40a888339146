"""Texts of a corpus in the order in which they answer queries: vectors of a model, or what BM25 and TF-IDF count.

A model reads each text of the corpus once, before the first query; every query is then held against all of them.

Axes: N texts of the corpus, Q queries, D width.
"""

from collections.abc import Callable, Iterable, Sequence
from random import Random

import numpy as np
from numpy.typing import NDArray

from lmtasks.errors import UsageError
from lmtasks.evaluation.outcome import Answered, AnswerRows, answered_ranks
from lmtasks.evaluation.protocols import Finished, InferenceEngine, Pending, Replies, ScoredExample
from lmtasks.head import head_of
from lmtasks.head.base import EncodedRow
from lmtasks.head.embedding import unit
from lmtasks.metric.choice import rank_ties
from lmtasks.records import Floats32, HeadInput, HeadSpec, Json, Ranks, Row
from lmtasks.task.kinds import head_input
from lmtasks.task.task import Task

SHOWN = 10
"""Texts of which a sample holds place and score."""
TEXTS_AT_ONCE = 1024
"""Texts of a corpus whose tokens wait together."""

ScoreCorpus = Callable[[Sequence[str]], Iterable[NDArray[np.floating]]]
"""Queries -> of each the scores of all texts of a corpus, (N,)."""


class CorpusRequests:
    """Builds the requests of a task that looks for texts in a corpus, whose texts come before the first query.

    Args:
        spec: the head that answers with vectors.
        shown: texts of which an answer tells place and score.
    """

    decoding: Json | None = None

    def __init__(self, engine: InferenceEngine, task: Task, spec: HeadSpec, *, shown: int = SHOWN) -> None:
        self._shown = shown
        self._engine, self._task, self._spec = engine, task, spec
        self._corpus: tuple[str, ...] = ()
        self._vectors: Floats32 = np.zeros((0, 0), dtype=np.float32)
        self._cut = 0

    def build(self, examples: Sequence[ScoredExample]) -> Sequence[Pending]:
        """A row of tokens for each query; and for each text of the corpus, before the first."""
        given = [head_input(self._task, each.row, row_number=each.doc_id) for each in examples]
        found: list[Pending] = []
        if given and not self._corpus:
            self._corpus = given[0].candidates
            if not self._corpus:
                raise UsageError(f"task {self._task.name}: a query has no corpus that it could be answered from.")
            found += self._texts()
        found += [self._query(example, each) for example, each in zip(examples, given, strict=True)]
        return found

    def end(self) -> Sequence[Pending]:
        """Nothing waits."""
        return ()

    def _texts(self) -> list[Pending]:
        found: list[Pending] = []
        for start in range(0, len(self._corpus), TEXTS_AT_ONCE):
            texts = self._corpus[start : start + TEXTS_AT_ONCE]
            rows = [self._row(HeadInput(first=text), self._spec.text_prefix) for text in texts]
            self._cut += sum(row.truncated for row in rows)

            def keep(replies: Replies, start: int = start) -> Sequence[Finished]:
                if not len(self._vectors):
                    self._vectors = np.zeros((len(self._corpus), len(replies.logits[0])), dtype=np.float32)
                self._vectors[start : start + len(replies.logits)] = unit(np.stack(replies.logits))
                return ()

            found.append(Pending(doc_id=start, predict=rows, head=self._spec.name, finish=keep))
        return found

    def _query(self, example: ScoredExample, given: HeadInput) -> Pending:
        row = self._row(HeadInput(first=given.first), self._spec.query_prefix)

        def finish(replies: Replies) -> Sequence[Finished]:
            (vector,) = unit(np.stack(replies.logits))
            answered = answered_query(given, self._vectors @ vector, corpus=self._corpus, shown=self._shown)
            cut = f"{self._cut:,} of the {len(self._corpus):,} texts of the corpus were cut to what the model takes"
            remarks = (cut,) if self._cut else ()
            return [Finished(example=example, answered=answered, truncated=row.truncated, remarks=remarks)]

        return Pending(
            doc_id=example.doc_id, predict=[row], head=self._spec.name, cut=int(row.truncated), finish=finish
        )

    def _row(self, given: HeadInput, prefix: str) -> EncodedRow:
        encoded = head_of(self._spec).encode(
            HeadInput(first=given.first, prefixes=(prefix, "")),
            tokenizer=self._engine.tokenizer,
            max_length=self._engine.max_length_tokens,
        )
        return encoded.rows[0]


def answered_query(
    given: HeadInput, scores: NDArray[np.floating], *, corpus: Sequence[str], shown: int = SHOWN
) -> Answered:
    """A query with the scores (N,) of all texts; of equal texts the first is shown first."""
    first = np.argsort(-scores, kind="stable")[:shown]
    return answered_ranks(
        Ranks(ties=tuple(rank_ties(scores, given.labels or ())), count=len(corpus)),
        prompt=given.first,
        right=given.answers,
        corpus=corpus,
        first=[(int(place), float(scores[place])) for place in first],
    )


def over_corpus(task: Task, scorer: Callable[[Sequence[str]], ScoreCorpus]) -> AnswerRows:
    """Answers of a baseline.

    Args:
        scorer: makes of a corpus what scores all its texts for queries.
    """

    def answer(rows: Sequence[Row]) -> Sequence[Answered]:
        asked = [head_input(task, row, row_number=number) for number, row in enumerate(rows)]
        if not asked:
            return []
        corpus = asked[0].candidates  # one split, one corpus
        scores = scorer(corpus)([each.first for each in asked])
        return [answered_query(each, found, corpus=corpus) for each, found in zip(asked, scores, strict=True)]

    return answer


def random_order(task: Task, train: Sequence[Row], seed: int) -> AnswerRows:
    """The texts of the corpus in an order that is drawn for each query."""
    del train

    def scorer(corpus: Sequence[str]) -> ScoreCorpus:
        def draw(text: str) -> NDArray[np.floating]:
            return np.random.default_rng(Random(f"{seed} {text}").getrandbits(64)).random(len(corpus))

        return lambda asked: map(draw, asked)

    return over_corpus(task, scorer)
