"""TF-IDF and logistic regression: what a language model must beat to be worth its weights.

One- and two-word terms, for Chinese one to three characters. What is fitted to their counts is what the family `tfidf`
is (`backbone.linear`); that one reads tokens, and is kept.
"""

from collections.abc import Callable, Sequence

import numpy as np

from lmtasks.backbone.linear import TFIDF_STRENGTH, fit_linear
from lmtasks.errors import UsageError
from lmtasks.evaluation.baseline_choice import UNLIKELY, label_answer
from lmtasks.evaluation.outcome import Answered
from lmtasks.records import Row, softmax_log
from lmtasks.task.head_input import HeadInput, head_input
from lmtasks.task.task import Task

Answer = Callable[[Sequence[Row]], Sequence[Answered]]


def fit_tfidf(task: Task, train: Sequence[Row], seed: int) -> Answer:
    """Fit on the training rows; nothing else is looked at.

    Raises:
        UsageError: the training rows have one label only, or no words.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    inputs = [head_input(task, row, row_number=number) for number, row in enumerate(train)]
    labelled = [(given, given.label) for given in inputs if given.label is not None]
    labels = [label for _, label in labelled]
    if len(set(labels)) < 2:
        raise UsageError(
            f"tfidf needs training rows of at least two labels; those of task {task.name} have {len(set(labels))}."
        )
    characters = task.language.startswith("zh")
    vectorizer = CountVectorizer(
        analyzer="char" if characters else "word",
        ngram_range=(1, 3) if characters else (1, 2),
        token_pattern=None if characters else r"(?u)\b\w+\b",
        dtype=np.float32,
    )
    try:
        counts = vectorizer.fit_transform([_text(given) for given, _ in labelled])
    except ValueError as error:
        raise UsageError(f"tfidf cannot learn from the training rows of task {task.name}: {error}") from error
    linear = fit_linear("tfidf", counts, np.array(labels), classes=len(task.labels), strength=TFIDF_STRENGTH)

    def answer(rows: Sequence[Row]) -> Sequence[Answered]:
        asked = [head_input(task, row, row_number=number) for number, row in enumerate(rows)]
        logits = linear.logits(vectorizer.transform([_text(given) for given in asked]))
        scores = np.maximum(softmax_log(logits), UNLIKELY)
        return [label_answer(task, given, row.tolist()) for given, row in zip(asked, scores, strict=True)]

    return answer


def _text(given: HeadInput) -> str:
    return given.first if given.second is None else f"{given.first}\n{given.second}"
