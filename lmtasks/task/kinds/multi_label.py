"""Any number of labels for a text, or for a pair of texts."""

from lmtasks.errors import UsageError
from lmtasks.records import HeadInput, Row
from lmtasks.task.kinds.base import HeadTaskKind
from lmtasks.task.roles import label_numbers, role_text
from lmtasks.task.task import Task


class MultiLabelKind(HeadTaskKind):
    """Rows with the roles text (and pair) and labels."""

    def read(self, task: Task, row: Row, *, where: str, labelled: bool) -> HeadInput:
        """`first` (and `second`) with `labels`."""
        return HeadInput(
            first=role_text(task, row, role="text", where=where),
            second=role_text(task, row, role="pair", where=where) if "pair" in task.inputs else None,
            labels=_known_labels(task, row, where=where) if labelled else None,
        )

    def is_unanswered(self, task: Task, row: Row, *, where: str) -> bool:
        """Is the cell empty? An empty list is an answer: no label holds."""
        return label_numbers(task, row, where=where) is None

    def target(self, task: Task, row: Row) -> str:
        """The labels' names, in the order of the task."""
        return "\x1f".join(task.labels[place] for place in _known_labels(task, row, where=f"task {task.name}"))

    def blank_answer(self, task: Task, row: Row) -> object:
        """No label."""
        return []

    def shown(self, task: Task, row: Row, *, row_number: int) -> tuple[str, tuple[str, ...]]:
        """The texts that the head reads, and the labels' names."""
        given = self.read(task, row, where=f"task {task.name}, row {row_number}", labelled=True)
        return given.shown, tuple(task.labels[place] for place in given.labels or ())


def _known_labels(task: Task, row: Row, *, where: str) -> tuple[int, ...]:
    labels = label_numbers(task, row, where=where)
    if labels is None:
        raise UsageError(f"{where}: {task.inputs['labels']!r} (inputs.labels) must be a list of labels, is empty.")
    return labels


MULTI_LABEL = MultiLabelKind(
    name="multi_label",
    about="any number of labels for a text or a pair of texts",
    answer="labels",
    head="multi_label",
    output_types=("generate_until",),
    roles=("text", "labels"),
    optional_roles=("pair",),
    answer_role="labels",
    source_role="text",
    metrics=("micro_f1", "macro_f1", "lrap", "subset_acc"),
    baselines=("majority", "tfidf", "nearest"),
    prompted=False,
)
