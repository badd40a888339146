"""How alike two texts are, by the angle between their vectors; right is a number on whatever scale."""

from lmtasks.errors import UsageError
from lmtasks.records import HeadInput, Row
from lmtasks.task.kinds.regression import RegressionKind
from lmtasks.task.roles import role_text
from lmtasks.task.task import Task


class SimilarityKind(RegressionKind):
    """Rows with the roles text, pair and number."""

    def read(self, task: Task, row: Row, *, where: str, labelled: bool) -> HeadInput:
        """`first` and `second` with `number`.

        Raises:
            UsageError: a text is empty, which is like none.
        """
        given = super().read(task, row, where=where, labelled=labelled)
        for role in ("text", "pair"):
            if not role_text(task, row, role=role, where=where).strip():
                raise UsageError(
                    f"{where}: {task.inputs[role]!r} (inputs.{role}) is an empty text, which is like none; leave the "
                    "row out."
                )
        return given


SIMILARITY = SimilarityKind(
    name="similarity",
    about="how alike two texts are, by the cosine of their vectors",
    answer="number",
    head="embedding",
    output_types=("generate_until",),
    roles=("text", "pair", "number"),
    answer_role="number",
    source_role="text",
    changed_roles=("text", "pair"),
    metrics=("spearman", "pearson"),
    baselines=("mean", "shared-words", "tfidf-cosine"),
    prompted=False,
)
