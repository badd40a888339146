"""TF-IDF and logistic regression: what a language model must beat to be worth its weights.

It is the family `tfidf` with its own defaults, so that both give the same numbers; the family's is kept as a model.
"""

from collections.abc import Callable, Sequence

import numpy as np

from lmtasks.backbone.closed_form import FITTED
from lmtasks.backbone.linear import fit_classifier
from lmtasks.backbone.sizes import TermSizes
from lmtasks.data.spacing import longest_terms, suited
from lmtasks.data.tokenizer import Tokenizer
from lmtasks.data.vocabulary import learn_tokenizer
from lmtasks.errors import UsageError
from lmtasks.evaluation.baseline_choice import UNLIKELY, label_answer
from lmtasks.evaluation.outcome import Answered
from lmtasks.records import HeadInput, Ints, Row, softmax_log
from lmtasks.task.kinds import head_input
from lmtasks.task.task import Task

Answer = Callable[[Sequence[Row]], Sequence[Answered]]

AT_ONCE = 2000
"""Rows whose terms are in memory together."""


def fit_tfidf(task: Task, train: Sequence[Row], seed: int) -> Answer:
    """Fit on the training rows; nothing else is looked at.

    Raises:
        UsageError: the training rows have one label only, or no words.
    """
    inputs = [head_input(task, row, row_number=number) for number, row in enumerate(train)]
    labelled = [(given, given.label) for given in inputs if given.label is not None]
    sizes = FITTED["tfidf"].sizes
    assert isinstance(sizes, TermSizes)  # as the table has it
    try:
        texts = [text for given in inputs for text in _texts(given)]
        tokenizer = learn_tokenizer(suited(FITTED["tfidf"].tokenizer, [texts]), texts)
        rows = [_ids(given, tokenizer) for given, _ in labelled]
        classifier = fit_classifier(
            "tfidf",
            rows,
            np.array([label for _, label in labelled], dtype=np.int64),
            classes=len(task.labels),
            vocabulary=tokenizer.vocabulary,
            skipped=tuple({token for token in (tokenizer.bos, tokenizer.eos, tokenizer.pad) if token is not None}),
            longest=sizes.ngrams or longest_terms(rows, tokenizer=tokenizer),
            least=sizes.least,
            strength=sizes.strength,
        )
    except UsageError as error:
        raise UsageError(f"task {task.name}: {error}") from error

    def answer(rows: Sequence[Row]) -> Sequence[Answered]:
        asked = [head_input(task, row, row_number=number) for number, row in enumerate(rows)]
        found: list[Answered] = []
        for start in range(0, len(asked), AT_ONCE):
            part = asked[start : start + AT_ONCE]
            logits = classifier.logits([_ids(given, tokenizer) for given in part])
            scores = np.maximum(softmax_log(logits), UNLIKELY)
            found += [label_answer(task, given, row.tolist()) for given, row in zip(part, scores, strict=True)]
        return found

    return answer


def _texts(given: HeadInput) -> tuple[str, ...]:
    return (given.first,) if given.second is None else (given.first, given.second)


def _ids(given: HeadInput, tokenizer: Tokenizer) -> Ints:
    return np.array(tokenizer.encode_for_head(given.first, given.second).ids, dtype=np.int64)
