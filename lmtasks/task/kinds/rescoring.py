"""One of the texts that a recogniser may have heard: its list of hypotheses with scores, ranked again.

    {"reference": "he went home", "hypotheses": [
        {"text": "he when home", "acoustic": -61.0, "language": -14.2},
        {"text": "he went home", "acoustic": -61.2, "language": -9.1}]}

The first hypothesis is the recogniser's own answer. Scores are logarithms, larger is better, on whatever scale; the
score of its language model may be missing, but then in all rows.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lmtasks.errors import UsageError
from lmtasks.records import HeadInput, Row
from lmtasks.task.kinds.base import TaskKind
from lmtasks.task.roles import references_of, role_value
from lmtasks.task.task import Task

WITHOUT_BLANKS = ("zh", "yue", "ja", "th", "lo", "km", "my")


@dataclass(frozen=True, kw_only=True)
class Hypothesis:
    """A text with the scores that its recogniser gave it."""

    text: str
    acoustic: float
    language: float | None
    """None: the recogniser does not say."""


class RescoringKind(TaskKind):
    """Rows with the roles hypotheses and references."""

    def read(self, task: Task, row: Row, *, where: str, labelled: bool) -> HeadInput:
        """`first` is the recogniser's own answer, `answers` are the right texts."""
        first = hypotheses_of(task, row, where=where)[0].text
        return HeadInput(first=first, answers=_references(task, row, where=where) if labelled else ())

    def metrics_for(self, language: str) -> tuple[str, ...]:
        """Words that are wrong; characters, in a language that puts no blanks between words."""
        return ("cer",) if language.partition("-")[0] in WITHOUT_BLANKS else self.metrics

    def candidates(self, task: Task, row: Row) -> tuple[str, ...]:
        """The hypotheses."""
        return tuple(each.text for each in hypotheses_of(task, row, where=f"task {task.name}"))

    def source(self, task: Task, row: Row) -> str:
        """The recogniser's own answer."""
        return hypotheses_of(task, row, where=f"task {task.name}")[0].text

    def shown(self, task: Task, row: Row, *, row_number: int) -> tuple[str, tuple[str, ...]]:
        """The hypotheses, one a line, and the right texts."""
        where = f"task {task.name}, row {row_number}"
        texts = [hypothesis.text for hypothesis in hypotheses_of(task, row, where=where)]
        return "\n".join(texts), _references(task, row, where=where)


def hypotheses_of(task: Task, row: Row, *, where: str) -> tuple[Hypothesis, ...]:
    """The list of a row, at least one hypothesis, in the recogniser's order.

    Args:
        where: the row, for messages.

    Raises:
        UsageError: it is no list, is empty, or a hypothesis lacks its text or a score.
    """
    value, column = role_value(task, row, role="hypotheses"), task.inputs["hypotheses"]
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise UsageError(f"{where}: {column!r} (inputs.hypotheses) must be a list, was: {str(value)[:60]!r}.")
    if not value:
        raise UsageError(f"{where}: {column!r} is an empty list; leave the row out, or give what the recogniser heard.")
    found = tuple(_hypothesis(item, where=f"{where}, hypothesis {number}") for number, item in enumerate(value))
    missing = [number for number, each in enumerate(found) if each.language is None]
    if missing and len(missing) < len(found):
        raise UsageError(
            f"{where}, hypothesis {missing[0]} has no score 'language', and others of its list have; give it to all or "
            "to none."
        )
    return found


def _hypothesis(item: object, *, where: str) -> Hypothesis:
    if not isinstance(item, Mapping):
        raise UsageError(
            f"{where} has no scores: it must be {{text, acoustic, language}}, was: {str(item)[:60]!r}. Without the "
            "recogniser's scores there is nothing that a language model's could be weighed against."
        )
    text = item.get("text")
    if not isinstance(text, str):
        raise UsageError(f"{where} has no text: 'text' must be one, was: {str(text)[:60]!r}.")
    acoustic = _score(item, "acoustic", where=where)
    if acoustic is None:
        raise UsageError(f"{where} has no score 'acoustic'; its keys: {', '.join(map(str, item))}.")
    return Hypothesis(text=text, acoustic=acoustic, language=_score(item, "language", where=where))


def _score(item: Mapping[str, object], name: str, *, where: str) -> float | None:
    value = item.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UsageError(f"{where}: the score {name!r} must be a number, was: {str(value)[:60]!r}.")
    return float(value)


def _references(task: Task, row: Row, *, where: str) -> tuple[str, ...]:
    try:
        found = references_of(task, row)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error
    if not found:
        raise UsageError(f"{where} has no reference: {task.inputs['references']!r} is empty.")
    return found


RESCORING = RescoringKind(
    name="rescoring",
    about="the best of a speech recogniser's hypotheses, ranked again",
    answer="hypothesis",
    head="generation",
    output_types=("loglikelihood",),
    prompted_roles=("hypotheses", "references"),
    metrics=("wer",),
    baselines=("first-best", "reweighted", "oracle"),
    chooses=True,
    changed_roles=None,
)
