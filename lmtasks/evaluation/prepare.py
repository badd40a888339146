"""A task's rows opened, its worked examples at hand, and the conditions under which its scores will hold."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Annotated, Literal

from pydantic import Field, InstanceOf

from lmtasks.data.mirror import find_local
from lmtasks.data.rows import Rows, make_rows
from lmtasks.data.sampling import Sample, label_reader, label_shift, sampled
from lmtasks.data.splits import TaskData, drawn, load_task_data, read_split
from lmtasks.errors import LmtasksError, UsageError
from lmtasks.evaluation.chat import ChatUse
from lmtasks.evaluation.outcome import Way
from lmtasks.evaluation.processes import Processes
from lmtasks.evaluation.prompts import Prompts, dropped_system_turns, open_pool
from lmtasks.evaluation.protocols import AskedWay, ChoiceRows, Finished, PromptContext, ScoredExample, Solved, Solver
from lmtasks.records import Json, Row
from lmtasks.settings.bounds import SEED
from lmtasks.settings.data import DataAccess
from lmtasks.settings.evaluation import PromptFormat, Scoring, Uncertainty
from lmtasks.task.fewshot import lm_eval_shots, pick_shots
from lmtasks.task.identity import holds_own_answer
from lmtasks.task.kinds import kind_of
from lmtasks.task.task import Part, SplitName, Task

MOST_LOOKED_AT = 200_000
"""Rows of a split whose labels are held against those of its first rows."""
SCORING_FIELDS = frozenset(
    ("task_alias", "about", "tags", "version", "metrics", "filters", "filter_list", "process_results", "cluster")
)
"""Fields of a task that say how answers are scored or shown. All others say what is asked."""


class EvalOptions(Scoring, PromptFormat, Uncertainty):
    """Settings of an evaluation: those that a person gives, and what follows from them."""

    data: DataAccess = Field(default_factory=DataAccess)
    split: Literal["test", "validation"] = "test"
    """Rows that are scored: a task's scored split, or those that choices are made on. See `data.splits`."""
    sample_seed: Annotated[int | None, SEED] = None
    """Of `sample`; None: `seed`."""
    chat: InstanceOf[ChatUse] | None = None
    """Chat template and system instruction of the model that is asked."""
    way: AskedWay = "auto"
    overlap: bool = True
    """Count the scored rows that the model may have known. See `evaluation.overlap`."""
    hashes: Path | None = None
    """The folder in which hashes of training rows are kept for the next time; None: they are not."""

    @property
    def drawn(self) -> Sample | None:
        """The rows that are drawn; None: all, or the first ones."""
        if self.sample is None:
            return None
        return Sample(rows=self.sample, seed=self.seed if self.sample_seed is None else self.sample_seed)


@dataclass(frozen=True, kw_only=True)
class PreparedTask:
    """A task ready to be asked."""

    data: TaskData = field(default_factory=TaskData)
    prompt_context: PromptContext = field(default_factory=PromptContext)
    conditions: Json = field(default_factory=dict)
    own_answers: frozenset[int] = field(default_factory=frozenset)
    """Numbers of the rows whose worked examples hold the answer to their own question."""
    sorted_by: str = ""
    """How the labels of the first rows differ from those of all, where only they are scored; empty: by chance."""
    seconds: float = 0.0
    """That the opening took."""

    @property
    def rows(self) -> Sequence[Row]:
        """The scored rows."""
        return self.data.test.rows if self.data.test else ()

    @property
    def n(self) -> int:
        """Number of scored rows."""
        return len(self.rows)

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the scored rows."""
        return self.data.test.fingerprint if self.data.test else ""

    def finished(self, solved: Solved) -> list[Finished]:
        """The answers of a solver that answers all rows at once."""
        return [
            Finished(example=ScoredExample(doc_id=number, row=row), answered=answered, truncated=False)
            for number, (row, answered) in enumerate(zip(self.rows, solved.examples, strict=True))
        ]


def prepare_task(task: Task, *, solver: Solver, options: EvalOptions, way: Way) -> PreparedTask:
    """Open what a task needs.

    Raises:
        UsageError: it has no split to score, the data is not there, or there are too few worked examples.
        WorkError: the Hub could not be reached, the task's own code failed, or a chat template fails on a row.
    """
    started = perf_counter()
    needed: frozenset[SplitName] = solver.needs(task) | {options.split}
    data = load_task_data(
        task, options=options.data, need=needed, limit=options.limit, sample=options.drawn, seed=options.seed
    )
    data = drawn(task, data, rows=options.rows, seed=options.seed)
    if options.split == "validation":
        data = replace(data, test=some_rows(task, data.validation, limit=options.limit, sample=options.drawn))
    if data.test is None:
        raise UsageError(f"task {task.name} has no split to score.")
    shots = shot_count(task, way, requested=options.num_fewshot)
    pool = open_pool(task, count=shots, options=options.data)
    prompted = way == "prompt"
    chat = options.chat if prompted else None
    shown = _drawn_shots(task, data.test.rows, pool.rows if pool else (), shots, options)
    prompt_context = PromptContext(
        way=options.way,
        num_fewshot=shots,
        shot_pool=pool.rows if pool else (),
        drawn=shown,
        chat=chat.chat if chat else None,
        system=chat.system if chat else None,
        think_end_token=options.think_end_token,
        choice=ChoiceRows(task=task, rows=data.validation.rows) if kind_of(task).chooses and data.validation else None,
        seed=options.seed,
    )
    dropped = 0
    if chat is not None and chat.template is not None:
        prompts = Prompts(task=task, prompt_context=prompt_context)
        dropped = dropped_system_turns(prompts, data.test.rows, template=chat.template)
    conditions: Json = {
        "task_hash": task.hash,
        "asked_hash": question_hash(task),
        "asked_fields": question_fields(task),
        "data_fingerprint": data.test.fingerprint,
        "train_fingerprint": data.train.fingerprint if data.train else None,
        "shots_fingerprint": pool.fingerprint if pool else None,
        "prompt_way": way,
        "num_fewshot": shots,
        "fewshot_stream": options.fewshot_stream if shots else None,
        "chat": {**chat.conditions, **({"system_dropped": dropped} if dropped else {})} if chat else None,
        "cluster": task.cluster,
        "limit": options.limit,
        "seed": options.seed,
        **({"split": options.split} if options.split != "test" else {}),
        **({"rows_left_out": data.test.left_out} if data.test.left_out else {}),
        **({"data_notes": list(data.test.notes)} if data.test.notes else {}),
        **({"sample": options.drawn.rows, "sample_seed": options.drawn.seed} if options.drawn else {}),
        **({"part": part.use} if (part := _part(task, options)) is not None else {}),
    }
    return PreparedTask(
        data=data,
        prompt_context=prompt_context,
        conditions=conditions,
        own_answers=frozenset(
            number
            for number, (row, own) in enumerate(zip(data.test.rows, shown, strict=False))
            if holds_own_answer(task, row, own)
        ),
        sorted_by=_unlike(task, data, options),
        seconds=perf_counter() - started,
    )


def _unlike(task: Task, data: TaskData, options: EvalOptions) -> str:
    """How labels of the first rows differ from all; empty where all are scored, or they are not on this machine."""
    if options.limit is None or label_reader(task) is None:
        return ""
    if options.split == "validation":
        return label_shift(task, data.validation.rows if data.validation else (), first=options.limit)
    source = task.sources["test"]
    try:
        here = source.held is not None or find_local(source, options=options.data) is not None
        if source.made_by is not None or not here:
            return ""
        rows = read_split(task, "test", options=options.data)
    except LmtasksError:
        return ""  # a row behind the first ones, which nobody scores
    return label_shift(task, rows, first=options.limit) if len(rows) <= MOST_LOOKED_AT else ""


def _part(task: Task, options: EvalOptions) -> Part | None:
    """Which rows of a single file are scored; None where they are all."""
    source = task.sources.get("test")
    return source.part if source is not None and options.split == "test" else None


def some_rows(task: Task, rows: Rows | None, *, limit: int | None, sample: Sample | None) -> Rows | None:
    """The first rows of a split, or a sample of it."""
    if rows is None or sample is None:
        return first_rows(rows, limit)
    found = sampled(task, rows.rows, sample)
    return make_rows(found, where=f"{len(found)} drawn of the {len(rows.rows)} rows of {rows.where}")


def first_rows(rows: Rows | None, limit: int | None) -> Rows | None:
    """The first `limit` rows of a split."""
    if rows is None or limit is None or limit >= len(rows.rows):
        return rows
    return make_rows(rows.rows[:limit], where=f"the first {limit} of {rows.where}")


def shot_count(task: Task, way: Way, *, requested: int | None) -> int:
    """Worked examples before each prompt. A task file that says 0 itself is never overridden, as in the harness."""
    if way != "prompt" or task.zero_shot_only:
        return 0
    return task.num_fewshot if requested is None else requested


def scored_examples(task: Task, rows: Sequence[Row], *, processes: Processes) -> Iterator[ScoredExample]:
    """The examples that this process answers: every n-th one.

    Rows that are scored as one text cannot be divided: the first process has them all.
    """
    if task.windows.concatenate:
        return _examples(rows, start=0, step=1) if processes.first else iter(())
    return _examples(rows, start=processes.rank, step=processes.count)


def question_hash(task: Task) -> str:
    """sha256 over what a task asks, 16 hex digits: equal for two task files whose answers can be scored by either."""
    return _hash({key: value for key, value in task.fields.items() if key not in SCORING_FIELDS})[:16]


def question_fields(task: Task) -> Json:
    """sha256 of each of those fields, 8 hex digits: of two results that differ, which field it is."""
    return {key: _hash(value)[:8] for key, value in sorted(task.fields.items()) if key not in SCORING_FIELDS}


def _hash(value: object) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _examples(rows: Sequence[Row], *, start: int, step: int) -> Iterator[ScoredExample]:
    for number, row in islice(enumerate(rows), start, None, step):
        yield ScoredExample(doc_id=number, row=row)


def _drawn_shots(
    task: Task, rows: Sequence[Row], pool: Sequence[Row], count: int, options: EvalOptions
) -> Sequence[tuple[Row, ...]]:
    """Worked examples that may hold their own answer, drawn for all rows at once, so that this can be counted: by
    lm-evaluation-harness' stream, which goes through all rows, or by a sampler of the task's own."""
    if not count or (options.fewshot_stream == "ours" and task.shot_sampler is None):
        return ()
    if options.fewshot_stream == "ours":
        return tuple(
            pick_shots(task, pool=pool, row=row, row_number=number, count=count, seed=options.seed)
            for number, row in enumerate(rows)
        )
    return lm_eval_shots(task, pool=pool, rows=rows, count=count, seed=options.seed)
