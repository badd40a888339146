"""The kinds of tasks, one line each.

A kind has two files: the one here says everything that it means before a model is there, `lmtasks/head/` everything
that it means behind one.
"""

from lmtasks.named_table import NamedTable
from lmtasks.records import HeadInput, Row
from lmtasks.task.kinds.base import AnswerForm, HeadTaskKind, TaskKind
from lmtasks.task.kinds.classification import CLASSIFICATION
from lmtasks.task.kinds.generation import GENERATION, SUMMARIZATION, TRANSLATION
from lmtasks.task.kinds.language_modelling import LANGUAGE_MODELLING, scored_text
from lmtasks.task.kinds.minimal_pairs import MINIMAL_PAIRS
from lmtasks.task.kinds.multi_label import MULTI_LABEL
from lmtasks.task.kinds.multiple_choice import MULTIPLE_CHOICE
from lmtasks.task.kinds.ranking import RANKING
from lmtasks.task.kinds.regression import REGRESSION
from lmtasks.task.kinds.rescoring import RESCORING
from lmtasks.task.kinds.retrieval import RETRIEVAL
from lmtasks.task.kinds.similarity import SIMILARITY
from lmtasks.task.kinds.span import SPAN
from lmtasks.task.kinds.tagging import SEMANTIC_ROLES, TAGGING
from lmtasks.task.task import Task

__all__ = [
    "KINDS",
    "AnswerForm",
    "HeadTaskKind",
    "TaskKind",
    "baseline_source",
    "head_input",
    "infer_kind",
    "kind_of",
    "scored_text",
]

KINDS: NamedTable[TaskKind] = NamedTable(
    "kind of task",
    CLASSIFICATION,
    MULTI_LABEL,
    REGRESSION,
    RANKING,
    SIMILARITY,
    RETRIEVAL,
    SPAN,
    TAGGING,
    SEMANTIC_ROLES,
    TRANSLATION,
    SUMMARIZATION,
    GENERATION,
    MULTIPLE_CHOICE,
    LANGUAGE_MODELLING,
    RESCORING,
    MINIMAL_PAIRS,
)


def kind_of(task: Task) -> TaskKind:
    """The kind of a task.

    Raises:
        UsageError: the task was made while the table had more lines than now.
    """
    return KINDS.line(task.kind)


def head_input(task: Task, row: Row, *, row_number: int, labelled: bool = True) -> HeadInput:
    """The input of a head for one row.

    Args:
        row_number: for messages.
        labelled: read the right answer too; without it, rows need no column for it.

    Raises:
        UsageError: a column is missing, a value is no text, or an answer is out of range.
    """
    return kind_of(task).read(task, row, where=f"task {task.name}, row {row_number}", labelled=labelled)


def baseline_source(task: Task, row: Row) -> str:
    """The text that the baselines `copy` and `lead-3` answer with; see `TaskKind.source`."""
    return kind_of(task).source(task, row)


def infer_kind(*, kind: str | None, output_type: str | None) -> str:
    """The kind as the file says it, or as lm-evaluation-harness' `output_type` implies it.

    >>> infer_kind(kind=None, output_type="loglikelihood_rolling")
    'language_modelling'
    """
    if kind in KINDS:
        return str(kind)
    implied = (known.name for known in KINDS.values() if output_type in known.implied_by)
    return next(implied, GENERATION.name)
