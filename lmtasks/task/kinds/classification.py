"""One label for a text, or for a pair of texts."""

import random
from collections.abc import Sequence

from lmtasks.errors import UsageError
from lmtasks.records import HeadInput, Row
from lmtasks.task.kinds.base import HeadTaskKind
from lmtasks.task.roles import is_unlabelled, label_number, role_text
from lmtasks.task.task import DrawnPairs, Task
from lmtasks.task.templates import Place, column_value

PAIR, SAME = "pair", "same"
"""Columns of drawn pairs."""


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


def drawn_pairs(task: Task, how: DrawnPairs, rows: Sequence[Row]) -> Sequence[Row]:
    """The rows with the columns `pair`, a row's own other text or that of another row, and `same`, 1 or 0, as a coin
    falls. Of the texts of other rows that are drawn, the one that shares most pairs of characters with the row's own is
    taken: those that share nothing are told apart by that alone. Draws depend on the seed, the row's number and the
    texts of all rows.

    Raises:
        UsageError: the rows have one different text alone.
    """
    place = Place(task=task.name, field="pairs.other")
    own = [str(column_value(how.other, row=row, place=place)) for row in rows]
    pool = list(dict.fromkeys(own))
    if len(pool) < 2:
        raise UsageError(f"task {task.name}: pairs cannot be drawn from {len(rows)} rows with the same other text.")
    grams = {text: {text[at : at + 2] for at in range(len(text) - 1)} for text in pool}
    found: list[Row] = []
    for number, (row, text) in enumerate(zip(rows, own, strict=True)):
        generator = random.Random(f"pairs {how.seed} {number}")
        same = generator.random() < 0.5
        drawn = generator.sample(pool, min(how.among + 1, len(pool)))
        others = [other for other in drawn if other != text][: how.among]
        nearest = max(others, key=lambda other: len(grams[other] & grams[text]) / max(1, len(grams[other])))
        found.append({**row, PAIR: text if same else nearest, SAME: int(same)})
    return found


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
