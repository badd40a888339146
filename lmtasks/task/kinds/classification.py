"""One label for a text, or for a pair of texts."""

from lmtasks.records import HeadInput, Row
from lmtasks.task.kinds.base import HeadTaskKind
from lmtasks.task.roles import is_unlabelled, label_number, role_text
from lmtasks.task.task import Task


class ClassificationKind(HeadTaskKind):
    """Rows with the roles text (and pair) and label."""

    def read(self, task: Task, row: Row, *, where: str, labelled: bool) -> HeadInput:
        """`first` (and `second`) with `label`."""
        return HeadInput(
            first=role_text(task, row, role="text", where=where),
            second=role_text(task, row, role="pair", where=where) if "pair" in task.inputs else None,
            label=label_number(task, row, where=where) if labelled else None,
        )

    def is_unanswered(self, task: Task, row: Row, *, where: str) -> bool:
        """Is there no label, or -1, as splits with hidden labels have it?"""
        return is_unlabelled(task, row, where=where)

    def target(self, task: Task, row: Row) -> str:
        """The label's name."""
        return task.labels[label_number(task, row, where=f"task {task.name}")]


CLASSIFICATION = ClassificationKind(
    name="classification",
    about="one label for a text or a pair of texts",
    answer="label",
    head="classification",
    output_types=("multiple_choice",),
    roles=("text", "label"),
    optional_roles=("pair",),
    answer_role="label",
    source_role="text",
    changed_roles=("text", "pair"),
    metrics=("acc", "macro_f1"),
    baselines=("majority", "random", "tfidf", "svm", "naive-bayes", "nearest"),
)
