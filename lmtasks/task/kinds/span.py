"""A question whose answer stands in a text (extractive question answering)."""

from collections.abc import Sequence

from lmtasks.records import HeadInput, Row
from lmtasks.task.kinds.base import HeadTaskKind
from lmtasks.task.roles import role_text, row_list, span_answers
from lmtasks.task.task import Task


class SpanKind(HeadTaskKind):
    """Rows with the roles question, context and answers."""

    def read(self, task: Task, row: Row, *, where: str, labelled: bool) -> HeadInput:
        """`first` is the question, `second` the context; `answers` with their `starts`."""
        spans = span_answers(task, row) if labelled else None
        return HeadInput(
            first=role_text(task, row, role="question", where=where),
            second=role_text(task, row, role="context", where=where),
            answers=spans.texts if spans else (),
            starts=spans.starts if spans else (),
        )

    def target(self, task: Task, row: Row) -> str:
        """All right answers, in an order of their own."""
        return "\x1f".join(sorted(set(span_answers(task, row).texts)))

    def remarks(self, task: Task, rows: Sequence[Row], *, where: str) -> Sequence[str]:
        """Rows of whose answers none stands in the context."""
        missing = []
        for number, row in enumerate(rows):
            spans = span_answers(task, row)
            if spans.texts and max(spans.starts) < 0:
                missing.append((number, spans.texts[0]))
        if not missing:
            return ()
        return (
            f"{where}: no answer of {row_list([number for number, _ in missing])} stands in the row's context (the "
            f"first is {missing[0][1][:40]!r}): no head can point at it, nothing is learned of it, and it is scored as "
            "it is.",
        )

    def blank_answer(self, task: Task, row: Row) -> object:
        """No answer."""
        return {"text": [], "answer_start": []}


SPAN = SpanKind(
    name="span",
    about="the piece of a context that answers a question, or that there is none",
    answer="text",
    head="span",
    output_types=("generate_until",),
    roles=("question", "context", "answers"),
    answer_role="answers",
    source_role="context",
    changed_roles=("question",),
    metrics=("squad_em", "squad_f1"),
    baselines=("empty",),
)
