"""The prompt of each example: worked examples drawn, chat and system instruction applied."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lmtasks.data.labelled import labelled_rows
from lmtasks.data.rows import fingerprint, read_rows
from lmtasks.data.sampling import part_of
from lmtasks.errors import UsageError, WorkError
from lmtasks.evaluation.chat import ChatTemplate
from lmtasks.evaluation.protocols import ScoredExample
from lmtasks.records import Row
from lmtasks.settings.data import DataAccess
from lmtasks.task.fewshot import pick_shots
from lmtasks.task.hooks import shot_pool
from lmtasks.task.prompt import Message, Prompt, build_prompt
from lmtasks.task.task import Source, Task

if TYPE_CHECKING:
    from lmtasks.evaluation.protocols import PromptContext

NO_POOL = "task {task} has no rows for worked examples"
GIVE_A_POOL = "name a fewshot_split or fewshot_config.samples, or ask with --num-fewshot 0."


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """Makes prompts from the rows of one task."""

    task: Task
    prompt_context: "PromptContext"

    def of(self, example: ScoredExample) -> Prompt:
        """The prompt of one example.

        Raises:
            UsageError: the task does not fit the row, or too few worked examples are there.
        """
        return build_prompt(
            self.task,
            example.row,
            shots=self._shots(example),
            row_number=example.doc_id,
            chat=self.prompt_context.chat,
            system=self.prompt_context.system,
        )

    def _shots(self, example: ScoredExample) -> tuple[Row, ...]:
        if self.prompt_context.drawn:
            return self.prompt_context.drawn[example.doc_id]
        return pick_shots(
            self.task,
            pool=self.prompt_context.shot_pool,
            row=example.row,
            row_number=example.doc_id,
            count=self.prompt_context.num_fewshot,
            seed=self.prompt_context.seed,
        )


def dropped_system_turns(prompts: Prompts, rows: Sequence[Row], *, template: ChatTemplate) -> int:
    """Write the prompt of every row, before the first is answered: how many lose their system turn in the template?

    Raises:
        WorkError: the template fails on a row.
    """
    chat = prompts.prompt_context.chat
    if chat is None:
        return 0
    dropped: set[int] = set()
    number = 0

    def apply(messages: Sequence[Message], begins: bool) -> str:
        if template.drops_system(messages, begins):
            dropped.add(number)
        return template(messages, begins)

    tried = replace(prompts, prompt_context=replace(prompts.prompt_context, chat=replace(chat, apply=apply)))
    for number, row in enumerate(rows):
        try:
            tried.of(ScoredExample(doc_id=number, row=row))
        except UsageError:  # a row that the task does not fit: told when it is asked, as without a chat
            continue
        except WorkError as error:
            raise WorkError(f"task {prompts.task.name}, row {number}: {error}") from error
    return len(dropped)


@dataclass(frozen=True, kw_only=True)
class Pool:
    """The rows that worked examples are drawn from."""

    rows: Sequence[Row]
    fingerprint: str


def open_pool(task: Task, *, count: int, options: DataAccess) -> Pool | None:
    """The pool of a task; None where no worked example is asked for, or they stand in the task file.

    Raises:
        UsageError: there are no rows to draw from, or they cannot be read.
        WorkError: the task's own code failed.
    """
    if not count or task.shot_rows:
        return None
    try:
        raw = () if task.shots is None else _pool_rows(task, task.shots, options=options)
    except UsageError as error:
        raise UsageError(f"{NO_POOL.format(task=task.name)} ({str(error).rstrip('.')}); {GIVE_A_POOL}") from error
    rows = shot_pool(task, list(raw))
    if not rows:
        raise UsageError(f"{NO_POOL.format(task=task.name)}; {GIVE_A_POOL}")
    return Pool(rows=rows, fingerprint=fingerprint(raw or rows))


def _pool_rows(task: Task, source: Source, *, options: DataAccess) -> Sequence[Row]:
    """Those that have a label, of the rows before the task's own code looks at them."""
    rows, where = read_rows(replace(source, part=None), options=options)
    if task.shot_docs is None and task.pairs is None:
        rows = labelled_rows(task, rows, where=where, drop=options.drop_unlabelled).rows
    return rows if source.part is None else part_of(rows, source.part, where=where)[0]
