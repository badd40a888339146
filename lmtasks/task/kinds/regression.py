"""One number for a text, or for a pair of texts."""

from lmtasks.errors import UsageError
from lmtasks.records import HeadInput, Row
from lmtasks.task.kinds.base import HeadTaskKind
from lmtasks.task.roles import number_of, role_text
from lmtasks.task.task import Task


class RegressionKind(HeadTaskKind):
    """Rows with the roles text (and pair) and number."""

    def read(self, task: Task, row: Row, *, where: str, labelled: bool) -> HeadInput:
        """`first` (and `second`) with `number`."""
        return HeadInput(
            first=role_text(task, row, role="text", where=where),
            second=role_text(task, row, role="pair", where=where) if "pair" in task.inputs else None,
            number=_known_number(task, row, where=where) if labelled else None,
        )

    def is_unanswered(self, task: Task, row: Row, *, where: str) -> bool:
        """Is there no number, or NaN?"""
        return number_of(task, row, where=where) is None

    def target(self, task: Task, row: Row) -> str:
        """The number as a text."""
        return repr(_known_number(task, row, where=f"task {task.name}"))

    def blank_answer(self, task: Task, row: Row) -> object:
        """Zero."""
        return 0.0

    def shown(self, task: Task, row: Row, *, row_number: int) -> tuple[str, tuple[str, ...]]:
        """The texts that the head reads, and the number."""
        given = self.read(task, row, where=f"task {task.name}, row {row_number}", labelled=True)
        return given.shown, (f"{given.number:.6g}",)


def _known_number(task: Task, row: Row, *, where: str) -> float:
    number = number_of(task, row, where=where)
    if number is None:
        raise UsageError(f"{where}: {task.inputs['number']!r} (inputs.number) must be a number, is empty.")
    return number


REGRESSION = RegressionKind(
    name="regression",
    about="one number for a text or a pair of texts",
    answer="number",
    head="regression",
    output_types=("generate_until",),
    roles=("text", "number"),
    optional_roles=("pair",),
    answer_role="number",
    source_role="text",
    metrics=("pearson", "spearman", "mae"),
    baselines=("mean", "ridge", "nearest"),
    prompted=False,
)
