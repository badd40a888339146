"""The prompt of each example: worked examples drawn, chat and system instruction applied."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from lmtasks.data.options import DataOptions
from lmtasks.data.rows import open_rows
from lmtasks.errors import UsageError
from lmtasks.evaluation.pending import Example
from lmtasks.records import Row
from lmtasks.task.prompt import Prompt, build_prompt, pick_shots
from lmtasks.task.task import Task

if TYPE_CHECKING:
    from lmtasks.evaluation.solver import Asking


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """How the rows of one task become prompts."""

    task: Task
    asking: "Asking"

    def of(self, example: Example) -> Prompt:
        """The prompt of one example.

        Raises:
            UsageError: the task does not fit the row, or too few worked examples are there.
        """
        plain = self.asking.chat is None and self.asking.system is None
        build = build_prompt if plain else partial(build_prompt, chat=self.asking.chat, system=self.asking.system)
        return build(self.task, example.row, shots=self._shots(example), row_number=example.doc_id)

    def _shots(self, example: Example) -> tuple[Row, ...]:
        if self.asking.drawn:
            return self.asking.drawn[example.doc_id]
        return pick_shots(
            self.task,
            pool=self.asking.shot_pool,
            row=example.row,
            row_number=example.doc_id,
            count=self.asking.num_fewshot,
            seed=self.asking.seed,
        )


@dataclass(frozen=True, kw_only=True)
class Pool:
    """The rows that worked examples are drawn from."""

    rows: Sequence[Row]
    fingerprint: str


def open_pool(task: Task, *, count: int, options: DataOptions) -> Pool | None:
    """The pool of a task; None where no worked example is asked for, or the task brings its own.

    Raises:
        UsageError: there are no rows to draw from, or they cannot be read.
    """
    if not count or task.shot_rows or (task.shots is None and task.shot_docs is None):
        return None
    if task.shots is None:
        raise UsageError(f"task {task.name} names no rows to draw worked examples from; set num_fewshot to 0.")
    opened = open_rows(task.shots, options=options)
    rows: Sequence[Row] = list(opened.rows)
    if task.shot_docs is not None:
        from lmtasks.task.hooks import shot_pool

        rows = shot_pool(task, rows)
    return Pool(rows=rows, fingerprint=opened.fingerprint)
