"""Shards: every task's rows divided over processes that know nothing of each other, and the scores of all together.

Shard 2 of 4 answers rows 1, 5, 9, ... (counted from 0) and leaves samples and `shard.json`, but no score. What merges
them makes each example's statistics again from its sample, in the order of the rows, and computes from these as one
process does (`evaluate.result_of`), so that values, intervals and files are those of one process.

    OUT/shard-2-of-4/shard.json             conditions, metrics, rows that may have been known
    OUT/shard-2-of-4/samples-<task>.jsonl   one line an example
"""

import heapq
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lmtasks.checksums import file_checksum
from lmtasks.data.row_hashes import Shared
from lmtasks.errors import UsageError
from lmtasks.evaluation.collector import PartsCounter, StatisticsCollector, ValueName
from lmtasks.evaluation.evaluate import (
    AnsweredTask,
    ScoredChange,
    TaskFacts,
    TaskResult,
    compared_with_clean,
    result_of,
)
from lmtasks.evaluation.groups import group_results
from lmtasks.evaluation.outcome import remake_metric
from lmtasks.evaluation.overlap import KnownMarks
from lmtasks.evaluation.processes import Processes
from lmtasks.evaluation.protocols import Finished, ScoredExample
from lmtasks.evaluation.samples import NoSamples, SampleFiles, as_stored, is_unchanged
from lmtasks.evaluation.scoring import TaskMetric, scorings_for
from lmtasks.evaluation.stream import pieces
from lmtasks.evaluation.write import samples_file
from lmtasks.files import reading
from lmtasks.metric import Metric
from lmtasks.records import Bools, Json, ModelCard, RuntimeCard
from lmtasks.results.sample import SampleRecord, parse_sample
from lmtasks.results.scores import GroupScores
from lmtasks.results.shard import (
    MarkedRows,
    ShardChange,
    ShardGroup,
    ShardMarks,
    ShardRecord,
    ShardTask,
    ValuePlace,
)
from lmtasks.task.groups import Group, GroupMetric
from lmtasks.task.task import Task

SHARD = "shard.json"
AT_ONCE = 5000
"""Samples that are in memory together."""
SLURM = "slurm"
SHOWN = 12
"""Shards that an error names."""


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One part of several of every task's rows."""

    index: int
    """Counted from 1."""
    count: int

    @property
    def folder(self) -> str:
        """The name of its folder: `shard-2-of-4`."""
        return f"shard-{self.index}-of-{self.count}"

    @property
    def part(self) -> Processes:
        """The same as one process of several."""
        return Processes(rank=self.index - 1, count=self.count)


def parse_shard(text: str, *, option: str = "--shard", variables: Mapping[str, str] = os.environ) -> Shard:
    """The shard of `2/4`, or the one that SLURM's variables of an array job name.

        >>> parse_shard("2/4")
        Shard(index=2, count=4)
        >>> parse_shard("slurm", variables={"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_MIN": "5",
        ...                                 "SLURM_ARRAY_TASK_STEP": "2", "SLURM_ARRAY_TASK_COUNT": "3"})
        Shard(index=2, count=3)

    Raises:
        UsageError: it is neither, or a variable is missing.
    """
    if text == SLURM:
        task, count = _slurm("TASK_ID", option, variables), _slurm("TASK_COUNT", option, variables)
        first = _slurm("TASK_MIN", option, variables, default=1)
        step = _slurm("TASK_STEP", option, variables, default=1)
        index = (task - first) // max(1, step) + 1
    else:
        parts = text.split("/")
        if len(parts) != 2 or not all(part.isascii() and part.isdigit() for part in parts):
            raise UsageError(f"{option} must be i/n, as 2/4, or slurm, was {text!r}.")
        index, count = map(int, parts)
    if not 1 <= index <= count:
        raise UsageError(f"{option} {text}: there is no part {index} of {count}; they are counted from 1.")
    return Shard(index=index, count=count)


def _slurm(name: str, option: str, variables: Mapping[str, str], *, default: int | None = None) -> int:
    text = variables.get(f"SLURM_ARRAY_{name}", "")
    if not text and default is not None:
        return default
    if not text.isascii() or not text.isdigit():
        raise UsageError(
            f"{option} slurm reads SLURM_ARRAY_{name}, which is {text!r} here; start it as an array job "
            "(sbatch --array=1-8), or give i/n."
        )
    return int(text)


@dataclass(frozen=True, kw_only=True)
class ShardScored:
    """All that the answers of a shard hold beside its samples."""

    shard: Shard
    answered: Sequence[AnsweredTask]
    changes: Sequence[ScoredChange]
    groups: Sequence[Group]
    failed: Mapping[str, str]
    model: ModelCard
    runtime: RuntimeCard
    machine: Json
    versions: Json
    seed: int
    resamples: int | None
    draws: Literal["ours", "lm-eval"]
    asked: Json
    place: int
    """Of the model among those of the command."""


def write_shard(out: Path, scored: ShardScored, *, samples: SampleFiles) -> ShardRecord:
    """Write a shard into the folder that its samples were written aside in, the record last.

    Raises:
        WorkError: the folder cannot be written to.
    """
    changes = {each.task: each for each in scored.changes}
    record = ShardRecord(
        index=scored.shard.index,
        count=scored.shard.count,
        model=scored.model,
        runtime=scored.runtime,
        machine=scored.machine,
        versions=scored.versions,
        seed=scored.seed,
        resamples=scored.resamples,
        draws=scored.draws,
        tasks={each.facts.task: _stored_task(each, changes.get(each.facts.task)) for each in scored.answered},
        groups=tuple(ShardGroup.model_validate(asdict(group)) for group in scored.groups),
        failed=scored.failed,
        asked=scored.asked,
        place=scored.place,
        checksums=samples.checksums(),
    )
    (out / SHARD).unlink(missing_ok=True)  # samples of another one must not stand below it
    samples.rename()
    out.mkdir(parents=True, exist_ok=True)
    record.write(out / SHARD)
    return record


@dataclass(frozen=True, kw_only=True)
class StoredShard:
    """A shard in its folder."""

    folder: Path
    record: ShardRecord


def read_shard(folder: Path) -> StoredShard:
    """Read a shard; its samples are held against their checksums when they are merged.

    Raises:
        UsageError: the folder holds none, or it is damaged.
    """
    if not (folder / SHARD).is_file():
        raise UsageError(f"{folder} holds no {SHARD}: it is no shard, or one that was not finished; evaluate it again.")
    return StoredShard(folder=folder, record=ShardRecord.read(folder / SHARD))


def check_shards(shards: Sequence[StoredShard]) -> tuple[StoredShard, ...]:
    """The shards in order, all of them, and of one evaluation.

    Raises:
        UsageError: one is missing, or there twice; or they are of different numbers, models, tasks, rows, versions or
            options.
    """
    first = shards[0]
    for each in shards[1:]:
        if each.record.count != first.record.count:
            raise UsageError(
                f"{first.folder} is one of {first.record.count} shards and {each.folder} one of {each.record.count}; "
                "shards of different divisions cannot be merged: give those of one."
            )
        _check_alike(first, each)
    by_index: dict[int, StoredShard] = {}
    for each in shards:
        double = by_index.setdefault(each.record.index, each)
        if double is not each:
            raise UsageError(
                f"shard {each.record.index} is there twice: {double.folder} and {each.folder}; leave out one."
            )
    missing = [str(index) for index in range(1, first.record.count + 1) if index not in by_index]
    if missing:
        shown = ", ".join(missing[:SHOWN]) + (f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else "")
        raise UsageError(
            f"shards {shown} of {first.record.count} are missing; evaluate each with "
            f"--shard i/{first.record.count} first."
        )
    for name in first.record.tasks:
        _check_rows(name, [by_index[index] for index in sorted(by_index)])
    return tuple(by_index[index] for index in sorted(by_index))


@dataclass(frozen=True, kw_only=True)
class MergedShards:
    """Scores of all shards of an evaluation together."""

    results: tuple[TaskResult, ...]
    groups: Mapping[str, GroupScores]
    failed: Mapping[str, str]


def merge_shards(shards: Sequence[StoredShard], *, tasks: Sequence[Task], samples: SampleFiles | None) -> MergedShards:
    """Make the scores of shards that `check_shards` has seen.

    Args:
        tasks: for metrics that are code of task files; others come from what is stored.
        samples: takes the lines of all shards, in the order of the rows; None: they are not kept.

    Raises:
        UsageError: samples are missing or were changed, or a metric is code of a task file that is not given.
        WorkError: a metric has no value.
    """
    record, given = shards[0].record, {task.name: task for task in tasks}
    failed: dict[str, str] = {}
    for shard in shards:
        for name, reason in shard.record.failed.items():
            failed.setdefault(name, f"shard {shard.record.index}: {reason}")
    results: list[TaskResult] = []
    first_metrics: dict[str, Metric] = {}
    changes: list[ScoredChange] = []
    for name in record.tasks:
        if name in failed:
            continue
        parts = [shard.record.tasks[name] for shard in shards]
        scorings = _scorings(parts, given.get(name))
        results.append(_merged_task(name, shards, scorings, samples))
        if parts[0].change is not None:
            changes.append(ScoredChange(task=name, **dict(parts[0].change)))
            first_metrics[name] = next(each.metric for each in scorings if each.name == parts[0].change.metric)
    compared = compared_with_clean(changes, results, metrics=first_metrics, seed=record.seed)
    groups = group_results([_group(each) for each in record.groups], compared)
    return MergedShards(results=tuple(compared), groups=groups, failed=failed)


def _merged_task(
    name: str, shards: Sequence[StoredShard], scorings: Sequence[TaskMetric], samples: SampleFiles | None
) -> TaskResult:
    parts = [shard.record.tasks[name] for shard in shards]
    first = next((part for part in parts if part.n), parts[0])  # one that answered nothing does not know how
    cluster = first.conditions.get("cluster")
    collector = StatisticsCollector(
        task=name,
        scorings=list(scorings),
        unlisted=None,
        cluster=None if cluster is None else str(cluster),
        parts=PartsCounter(labels=first.labels),
        samples=NoSamples(),
    )
    for lines in pieces(_in_order(name, shards), AT_ONCE):
        collector.take([_finished(line, name) for line in lines])
        if samples is not None:
            samples.add_lines(name, [line.text for line in lines])
    collected = replace(
        collector.result(),
        truncated=sum(part.truncated for part in parts),
        remarks=dict(sum((Counter(part.remarks) for part in parts), Counter())),
        unlisted=tuple(dict.fromkeys(ValueName(**dict(each)) for part in parts for each in part.unlisted)),
    )
    facts = TaskFacts(
        task=name,
        alias=first.alias,
        kind=first.kind,
        language=first.language,
        task_hash=first.hash,
        data_fingerprint=str(first.conditions.get("data_fingerprint")),
        conditions=first.conditions,
        labels=first.labels,
        marks=_marks([part.marks for part in parts], collected.doc_ids),
        told_apart=first.told_apart,
        notes=first.notes,
        refused=first.refused,
        rows=first.rows,
        unanswered=_unanswered(parts),
        cached=sum(part.cached for part in parts),
        rival=first.rival,
        seconds=sum(part.seconds for part in parts),
        seconds_total=sum(part.seconds_total for part in parts),
    )
    record = shards[0].record
    return result_of(facts, collected, scorings, seed=record.seed, resamples=record.resamples, draws=record.draws)


@dataclass(frozen=True, kw_only=True)
class _Line:
    text: str
    sample: SampleRecord


def _in_order(name: str, shards: Sequence[StoredShard]) -> Iterator[_Line]:
    """The samples of all shards in the order of the rows, each row once.

    Raises:
        UsageError: a file is missing or was changed, a row is missing, there twice, or in the shard of another.
    """
    place, unanswered = 0, _unanswered([shard.record.tasks[name] for shard in shards])
    for line in heapq.merge(*(_lines(name, shard) for shard in shards), key=lambda line: line.sample.doc_id):
        while place in unanswered:
            place += 1
        if line.sample.doc_id != place:
            what = "there twice" if line.sample.doc_id < place else "missing"
            raise UsageError(
                f"row {min(place, line.sample.doc_id)} of {name} is {what} in the shards; {ShardRecord.remedy}"
            )
        place += 1
        yield line
    rows = shards[0].record.tasks[name].rows
    while place in unanswered:
        place += 1
    if place not in (rows, 1):
        raise UsageError(f"the shards hold {place} rows of {name}, of which there are {rows}; {ShardRecord.remedy}")


def _lines(name: str, shard: StoredShard) -> Iterator[_Line]:
    file = shard.folder / samples_file(name)
    task = shard.record.tasks[name]
    if not task.n:
        return
    if not file.is_file():
        raise UsageError(f"{shard.folder} holds no samples of {name}; {ShardRecord.remedy}")
    if file_checksum(file) != shard.record.checksums.get(file.name):
        raise UsageError(f"{file} was changed since it was written (its checksum differs); {ShardRecord.remedy}")
    with file.open("rb") as opened:
        for number, line in enumerate(opened, start=1):
            yield _Line(text=line.decode("utf-8", "surrogatepass"), sample=parse_sample(line, file=file, number=number))


def _finished(line: _Line, task: str) -> Finished:
    sample = line.sample
    if not is_unchanged(sample):
        raise UsageError(f"sample {sample.doc_id} of {task} does not fit its hash; {ShardRecord.remedy}")
    return Finished(
        example=ScoredExample(doc_id=sample.doc_id, row=sample.doc), answered=as_stored(sample), truncated=False
    )


def _scorings(parts: Sequence[ShardTask], task: Task | None) -> tuple[TaskMetric, ...]:
    """The metrics of all shards: by the task file where it is given, and by what is stored."""
    known = {each.name: each for each in scorings_for(task)} if task is not None else {}
    recipes = {name: recipe for part in parts for name, recipe in part.recipes.items()}
    with reading("what the metrics of the shards were computed by"):
        return tuple(
            known.get(name)
            or TaskMetric(
                name=name, filter_name=str(recipe.get("filter", "")), metric=remake_metric(recipe), recipe=recipe
            )
            for name, recipe in recipes.items()
        )


def _check_alike(one: StoredShard, other: StoredShard) -> None:
    a, b = one.record, other.record
    facts: Sequence[tuple[str, Callable[[ShardRecord], object]]] = (
        ("model", lambda each: (each.model.name, each.model.weights_hash, each.model.tokenizer_hash)),
        (
            "runtime",
            lambda each: (each.runtime.runtime, each.runtime.version, each.runtime.device, each.runtime.precision),
        ),
        ("versions", lambda each: dict(each.versions)),
        ("options", lambda each: (each.asked, each.seed, each.resamples, each.draws)),
        ("tasks", lambda each: sorted({*each.tasks, *each.failed})),
    )
    for what, of in facts:
        if of(a) != of(b):
            raise UsageError(
                f"{one.folder} and {other.folder} are of different {what} ({_unlike(of(a), of(b))}), so they are not "
                "shards of one evaluation; evaluate one of them again."
            )
    for name in a.tasks.keys() & b.tasks.keys():
        mine, theirs = a.tasks[name], b.tasks[name]
        if (mine.hash, mine.rows, mine.conditions.get("data_fingerprint")) != (
            theirs.hash,
            theirs.rows,
            theirs.conditions.get("data_fingerprint"),
        ):
            what = "another version of the task" if mine.hash != theirs.hash else "other rows"
            raise UsageError(
                f"{one.folder} and {other.folder} hold {name} of {what}; evaluate one of them again, with the same "
                "files."
            )


def _runtime(card: RuntimeCard) -> str:
    return f"{card.runtime} {card.version} {card.device} {card.precision}".rstrip()


def _unlike(a: object, b: object) -> str:
    """The first difference, for people."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        name = next(key for key in {**a, **b} if a.get(key) != b.get(key))
        return f"{name}: {a.get(name)} and {b.get(name)}"
    if isinstance(a, tuple) and isinstance(b, tuple):
        return next(_unlike(x, y) for x, y in zip(a, b, strict=True) if x != y)
    return f"{a} and {b}"


def _check_rows(name: str, shards: Sequence[StoredShard]) -> None:
    """Has each shard as many rows as its part is, or the first one all of a text that cannot be divided?"""
    if any(name in shard.record.failed for shard in shards):
        return
    tasks = [shard.record.tasks[name] for shard in shards]
    found = [task.n + len(task.unanswered) for task in tasks]
    rows = shards[0].record.tasks[name].rows
    divided = [len(range(number, rows, len(shards))) for number in range(len(shards))]
    if found != divided and any(found[1:]):
        wrong = next(number for number, (have, due) in enumerate(zip(found, divided, strict=True)) if have != due)
        raise UsageError(
            f"{shards[wrong].folder} holds {found[wrong]} rows of {name}, and not {divided[wrong]} of {rows}; "
            f"{ShardRecord.remedy}"
        )


def _unanswered(parts: Sequence[ShardTask]) -> Mapping[int, str]:
    return dict(sorted(pair for part in parts for pair in part.unanswered.items()))


def _stored_task(answered: AnsweredTask, change: ScoredChange | None) -> ShardTask:
    facts, collected = answered.facts, answered.collected
    marks = facts.marks
    return ShardTask(
        alias=facts.alias,
        kind=facts.kind,
        language=facts.language,
        hash=facts.task_hash,
        labels=facts.labels,
        rows=facts.rows,
        n=len(collected.doc_ids),
        truncated=collected.truncated,
        cached=facts.cached,
        seconds=facts.seconds,
        seconds_total=facts.seconds_total,
        conditions=facts.conditions,
        recipes={each.name: each.recipe for each in answered.scorings},
        remarks=collected.remarks,
        unlisted=tuple(
            ValuePlace(name=each.name, filter_name=each.filter_name, maker=each.maker) for each in collected.unlisted
        ),
        notes=facts.notes,
        refused=facts.refused,
        unanswered=facts.unanswered,
        rival=facts.rival,
        change=None
        if change is None
        else ShardChange(clean=change.clean, change=change.change, seed=change.seed, metric=change.metric),
        told_apart=facts.told_apart,
        marks=None
        if marks is None
        else ShardMarks(
            learned=_marked(marks.learned, collected.doc_ids),
            chosen=_marked(marks.chosen, collected.doc_ids),
            train=_marked(marks.train, collected.doc_ids),
            own_answers=tuple(sorted(marks.own_answers)),
        ),
    )


def _marked(found: Shared | None, doc_ids: NDArray[np.int64]) -> MarkedRows | None:
    def numbers(flags: Bools) -> tuple[int, ...]:
        return tuple(doc_ids[flags].tolist())

    if found is None:
        return None
    return MarkedRows(rows=numbers(found.rows), inputs=numbers(found.inputs), targets=numbers(found.targets))


def _marks(parts: Sequence[ShardMarks | None], doc_ids: NDArray[np.int64]) -> KnownMarks | None:
    """The marks of all shards; None where one could not tell its rows apart."""
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    return KnownMarks(
        learned=_shared([part.learned for part in known], doc_ids),
        chosen=_shared([part.chosen for part in known], doc_ids),
        train=_shared([part.train for part in known], doc_ids),
        own_answers=frozenset(known[0].own_answers),
    )


def _shared(parts: Sequence[MarkedRows | None], doc_ids: NDArray[np.int64]) -> Shared | None:
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None

    def flags(numbers: Callable[[MarkedRows], Sequence[int]]) -> Bools:
        return np.isin(doc_ids, np.array([each for part in known for each in numbers(part)], dtype=np.int64))

    return Shared(
        rows=flags(lambda part: part.rows),
        inputs=flags(lambda part: part.inputs),
        targets=flags(lambda part: part.targets),
    )


def _group(stored: ShardGroup) -> Group:
    facts = dict(stored)
    facts["members"] = tuple(each if isinstance(each, str) else _group(each) for each in stored.members)
    facts["aggregations"] = tuple(GroupMetric(**dict(each)) for each in stored.aggregations)
    return Group(**facts)
