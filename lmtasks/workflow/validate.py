"""A task held against its data, and against a model: what it would ask, and what is wrong with it.

Rows are read one after the other; of each only its length, a hash and, of a few, the prompt are kept.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from lmtasks.data.mirror import with_stand_ins
from lmtasks.data.splits import has_validation, load_task_data
from lmtasks.errors import LmtasksError, UsageError
from lmtasks.evaluation.engine_solver import EngineSolver
from lmtasks.evaluation.prepare import shot_count
from lmtasks.evaluation.prompts import open_pool
from lmtasks.evaluation.protocols import ChoiceRows, PromptContext
from lmtasks.records import Report, Row
from lmtasks.task.kinds import kind_of
from lmtasks.task.prompt import Prompt
from lmtasks.task.task import Source, Task
from lmtasks.workflow.choose_models import OpenOptions, chosen_models
from lmtasks.workflow.request_stats import AskedRows, Estimated, Lengths, OwnAnswers
from lmtasks.workflow.split_check import POOL, SCORED, CheckOptions, DocumentHashes, Overlap, SplitCheck, check_split


@dataclass(frozen=True, kw_only=True)
class TaskCheck:
    """Everything that was found."""

    task: Task
    """As it would be evaluated: with what stands in for data that the mirror lacks."""
    splits: tuple[SplitCheck, ...]
    way: str
    """`head`, `prompt`, or empty where nothing can be asked."""
    reason: str
    """Why the model cannot be asked; empty where it can."""
    shots: int
    rows: int
    requests: int
    lengths: Lengths | None
    cut: int
    """Requests longer than the model takes."""
    shown: tuple[Prompt, ...]
    overlaps: tuple[Overlap, ...]
    compared: bool
    """Could the splits be compared: were all their rows looked at?"""
    estimated: Estimated | None
    own_answers: OwnAnswers | None
    """Prompts that hold their own answer; None where there are no worked examples."""

    @property
    def problems(self) -> tuple[str, ...]:
        """A sentence for each split with rows that do not fit."""
        return tuple(split.first_wrong for split in self.splits if split.wrong)


def check_task(task: Task, *, options: CheckOptions, report: Report, solver: EngineSolver | None = None) -> TaskCheck:
    """Read every split that the task names, and ask nothing but a few rows of the model.

    Args:
        solver: the model; None: the task is looked at alone.

    Raises:
        UsageError: a split cannot be read.
        WorkError: the Hub cannot be reached, or the model fails.
    """
    task = with_stand_ins(task, options=options.data)
    reason = solver.why_not(task, way="auto") if solver is not None else ""
    way = "" if reason else _way(task, solver)
    takes_shots = way == "prompt" and task.output_type != "loglikelihood_rolling"
    shots = shot_count(task, "prompt", requested=options.num_fewshot) if takes_shots else 0
    splits: list[SplitCheck] = []
    others: list[tuple[str, DocumentHashes]] = []
    for role, source in _other_sources(task).items():
        documents = DocumentHashes()
        check = check_split(task, role, source, options=options, report=report, documents=documents, may_lack=True)
        splits.append(check)
        if check.whole and role != "validation":
            others.append((role, documents))
    if task.sources.get("test") is None:
        raise UsageError(f"task {task.name} names no split to score; give it a test_split or validation_split.")
    pool = open_pool(task, count=shots, options=options.data)
    prompt_context = PromptContext(
        num_fewshot=shots,
        shot_pool=pool.rows if pool else (),
        choice=_choice(task, options=options),
        seed=options.seed,
    )
    request_builder = AskedRows(
        task,
        prompt_context=prompt_context,
        show=options.show if way else 0,
        prompts=_is_prompted(task),
        solver=solver if way else None,
    )
    documents = DocumentHashes()
    scored = check_split(
        task,
        SCORED,
        task.sources["test"],
        options=options,
        report=report,
        documents=documents,
        each=request_builder.take if way else _pass_over,
        count=request_builder.begin,
    )
    request_builder.end()
    splits.append(scored)
    whole = all(split.whole for split in splits if split.role != "validation")
    return TaskCheck(
        task=task,
        splits=tuple(splits),
        way=way,
        reason=reason,
        shots=shots,
        rows=scored.rows,
        requests=request_builder.requests,
        lengths=request_builder.lengths(),
        cut=request_builder.cut,
        shown=tuple(request_builder.shown),
        overlaps=documents.shared_with(others) if scored.whole else (),
        compared=whole,
        estimated=request_builder.estimate() if scored.rows and not scored.wrong else None,
        own_answers=request_builder.own_answers,
    )


@contextmanager
def opened_solver(
    ref: str | None, opening: OpenOptions, *, offline: bool, token: str | None
) -> Iterator[EngineSolver | None]:
    """The model that tokens are counted by, and the time is estimated as for; None where none was named.

    Raises:
        UsageError: there is no such model, or it is a baseline.
    """
    if ref is None:
        yield None
        return
    (chosen,) = chosen_models([ref], offline=offline, token=token)
    if chosen.folder is None:
        what = "baseline, which reads no tokens" if chosen.is_baseline else "server, whose tokens are its own"
        raise UsageError(f"{ref} is a {what}; give --model a model or package folder.")
    with opening.engine(chosen.folder) as engine:
        yield EngineSolver(engine, label_names=opening.label_names)


def _choice(task: Task, *, options: CheckOptions) -> ChoiceRows | None:
    """The validation rows that are asked too, where something is chosen on them; what is wrong with the split is told
    where it is looked at.
    """
    if not kind_of(task).chooses or not has_validation(task):
        return None
    try:
        data = load_task_data(task, options=options.data, need=frozenset({"validation"}), seed=options.seed)
    except LmtasksError:
        return None
    return ChoiceRows(task=task, rows=data.validation.rows if data.validation else ())


def _other_sources(task: Task) -> Mapping[str, Source]:
    """Every split but the scored one, and the pool of worked examples where it is yet another."""
    found: dict[str, Source] = {role: source for role, source in task.sources.items() if role != "test"}
    if task.shots is not None and not task.shot_rows and task.shots not in task.sources.values():
        found[POOL] = task.shots
    return found


def _way(task: Task, solver: EngineSolver | None) -> str:
    if solver is not None:
        return solver.way(task, way="auto")
    return "prompt" if _is_prompted(task) else ""


def _is_prompted(task: Task) -> bool:
    return task.templates.asked.question is not None or task.output_type == "loglikelihood_rolling"


def _pass_over(row: Row, number: int) -> None:
    """Nothing is asked."""
