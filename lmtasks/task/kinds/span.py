"""A question whose answer stands in a text (extractive question answering)."""

from lmtasks.records import HeadInput, Row
from lmtasks.task.kinds.base import HeadTaskKind
from lmtasks.task.roles import role_text, span_answers
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
