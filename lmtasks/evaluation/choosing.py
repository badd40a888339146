"""The one number by which something is chosen on rows: a task's main metric of answers to them."""

from collections.abc import Sequence

from lmtasks.errors import UsageError
from lmtasks.evaluation.custom_results import with_made_of_outcome
from lmtasks.evaluation.outcome import Answered
from lmtasks.evaluation.pending import Finished, ScoredExample
from lmtasks.evaluation.scoring import Scoring, scorings_for
from lmtasks.metric.base import value_of
from lmtasks.records import Row
from lmtasks.task.task import Task


def main_scoring(task: Task) -> Scoring:
    """The first metric of the task, of a baseline's answers.

    Raises:
        UsageError: it names none.
    """
    scorings = scorings_for(task)
    if not scorings:
        raise UsageError(f"task {task.name} names no metric that a choice could be made by.")
    return scorings[0]


def main_value(task: Task, rows: Sequence[Row], answers: Sequence[Answered]) -> float:
    """That metric of the answers to these rows, with what the task's own code makes of them."""
    scoring = main_scoring(task)
    finished = [
        with_made_of_outcome(
            Finished(example=ScoredExample(doc_id=number, row=row), answered=answer, truncated=False), task
        )
        for number, (row, answer) in enumerate(zip(rows, answers, strict=True))
    ]
    return value_of(scoring.metric, scoring.metric.statistics([scoring.outcome_of(each.answered) for each in finished]))
