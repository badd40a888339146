"""One of several texts that a row brings along, by how well it goes with a text: the next line of a dialogue, or the
answer to a question. Where a row has the right text alone, others are drawn from other rows (`drawn_candidates`)."""

import random
from collections.abc import Sequence

from lmtasks.errors import UsageError
from lmtasks.records import HeadInput, Row
from lmtasks.task.kinds.base import HeadTaskKind
from lmtasks.task.roles import role_text, role_value, row_list, text_list
from lmtasks.task.task import Candidates, Task

RECALLS = frozenset(f"recall_{k}" for k in (1, 2, 5, 10, 100))
DRAWN = "candidates"
"""The column that drawn candidates stand in."""


class RankingKind(HeadTaskKind):
    """Rows with the roles text, candidates (a list of texts) and right (the number of the right one, or its text)."""

    def read(self, task: Task, row: Row, *, where: str, labelled: bool) -> HeadInput:
        """`first` with `candidates`, and `label`, the number of the right one."""
        candidates = text_list(task, row, role="candidates", where=where)
        if len(candidates) < 2:
            raise UsageError(f"{where}: {len(candidates)} candidates are no choice; a row needs at least two.")
        return HeadInput(
            first=role_text(task, row, role="text", where=where),
            candidates=candidates,
            label=_right(task, row, candidates, where=where) if labelled else None,
        )

    def remarks(self, task: Task, rows: Sequence[Row], *, where: str) -> Sequence[str]:
        """Rows with fewer candidates than a metric looks at."""
        deepest = deepest_recall(task)
        if deepest is None:
            return ()
        k, name = deepest
        counts = (
            [task.candidates.count] * len(rows)  # they are drawn
            if task.candidates is not None
            else [
                len(text_list(task, row, role="candidates", where=f"task {task.name}, row {number}"))
                for number, row in enumerate(rows)
            ]
        )
        few = [number for number, count in enumerate(counts) if count < k]
        if not few:
            return ()
        return (
            f"{where}: {row_list(few)} {'has' if len(few) == 1 else 'have'} fewer candidates than the {k} of {name}, "
            "which has no value then; take the metric out, or give more.",
        )

    def target(self, task: Task, row: Row) -> str:
        """The right text."""
        where = f"task {task.name}"
        candidates = text_list(task, row, role="candidates", where=where)
        return candidates[_right(task, row, candidates, where=where)]

    def blank_answer(self, task: Task, row: Row) -> object:
        """The first one."""
        return 0

    def learned_texts(self, task: Task, row: Row, *, row_number: int) -> tuple[str, ...]:
        """The text and all candidates."""
        given = self.read(task, row, where=f"task {task.name}, row {row_number}", labelled=False)
        return (given.first, *given.candidates)

    def shown(self, task: Task, row: Row, *, row_number: int) -> tuple[str, tuple[str, ...]]:
        """The text, and the right candidate."""
        given = self.read(task, row, where=f"task {task.name}, row {row_number}", labelled=True)
        return given.first, (given.candidates[given.label or 0],)


def deepest_recall(task: Task) -> tuple[int, str] | None:
    """The most candidates that a metric of the task looks at, and its name; None where none does."""
    named = [(int(use.name.removeprefix("recall_")), use.name) for use in task.metrics if use.name in RECALLS]
    return max(named, default=None)


def drawn_candidates(task: Task, how: Candidates, rows: Sequence[Row]) -> Sequence[Row]:
    """The rows with a column `candidates`: the right text and others, right ones of other rows, in an order that is
    drawn too. Draws depend on the seed, the row's number and the texts of all rows.

    Raises:
        UsageError: the rows have too few different right texts.
    """
    right = [
        role_text(task, row, role="right", where=f"task {task.name}, row {place}") for place, row in enumerate(rows)
    ]
    texts = dict.fromkeys(right)
    keys = {text: "".join(text.split()).casefold() for text in texts}
    pool = list({key: text for text, key in keys.items()}.values())
    if len(pool) < how.count:
        raise UsageError(
            f"task {task.name}: {how.count} candidates cannot be drawn, as {len(rows)} rows have {len(pool)} different "
            "right texts; ask for fewer, or give more rows."
        )
    found: list[Row] = []
    for place, (row, text) in enumerate(zip(rows, right, strict=True)):
        generator = random.Random(f"candidates {how.seed} {place}")
        drawn = [other for other in generator.sample(pool, how.count) if keys[other] != keys[text]][: how.count - 1]
        candidates = [text, *drawn]
        generator.shuffle(candidates)
        found.append({**row, DRAWN: candidates})
    return found


def _right(task: Task, row: Row, candidates: Sequence[str], *, where: str) -> int:
    value = role_value(task, row, role="right")
    if isinstance(value, str) and value in candidates:
        return candidates.index(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(candidates):
        return value
    raise UsageError(
        f"{where}: {task.inputs['right']!r} (inputs.right) must be one of the {len(candidates)} candidates or a number "
        f"from 0 to {len(candidates) - 1}, was: {str(value)[:60]!r}."
    )


RANKING = RankingKind(
    name="ranking",
    about="the best of several texts that each row has, by how well it goes with a text",
    answer="choice",
    head="ranking",
    output_types=("multiple_choice",),
    roles=("text", "candidates", "right"),
    answer_role="right",
    source_role="text",
    metrics=("recall_1", "recall_2", "recall_5", "mrr"),
    baselines=("random", "longest-choice", "bm25"),
    wording=("text", "candidates", "right"),
)
