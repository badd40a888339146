"""Scores on disk.

    OUT/results.json            model, runtime, machine, versions, and each task's metrics
    OUT/samples-<task>.jsonl    one line an example
    OUT/statistics.json         statistics of each example and metric: what paired comparisons need
    OUT/speed.json              time and memory of the model, where that was asked
    OUT/words-<task>.json       the words that moved some answers, where that was asked

`results.scores` and `results.sample` describe their fields. All files are written aside and then renamed, results.json
last: where it stands, the others stand too. It holds the checksum of every other file (`checksums`), and one of its own
content (`checksum`); results of earlier versions have none and are read all the same.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from lmtasks.checksums import file_checksum, sealed, summed
from lmtasks.errors import UsageError
from lmtasks.evaluation.evaluate import TaskResult
from lmtasks.evaluation.samples import SampleFiles, line_of
from lmtasks.files import write_files, writing
from lmtasks.records import Estimate, Floats, Json, ModelCard, RuntimeCard
from lmtasks.results.base import plain
from lmtasks.results.sample import SampleRecord, read_sample_file
from lmtasks.results.scores import GroupScores, ResultsRecord, StatisticsRecord, TaskScores, TaskStatistics

ROWS_AT_ONCE = 10_000
"""Of statistics, while they are written: a million rows as Python lists would take hundreds of megabytes."""
NOTHING: Mapping[str, str] = MappingProxyType({})
NO_GROUPS: Mapping[str, GroupScores] = MappingProxyType({})
RESULTS = "results.json"
STATISTICS = "statistics.json"
SPEED = "speed.json"


@dataclass(frozen=True, kw_only=True)
class StoredTask:
    """One task of a results folder."""

    name: str
    scores: TaskScores
    statistics: TaskStatistics

    @property
    def metrics(self) -> Mapping[str, Estimate]:
        """In the task's order: the first is its main metric."""
        return self.scores.metrics


@dataclass(frozen=True, kw_only=True)
class StoredResults:
    """A results folder."""

    folder: Path
    record: ResultsRecord
    tasks: Mapping[str, StoredTask]


def write_results(
    out: Path,
    *,
    results: Sequence[TaskResult],
    model: ModelCard,
    runtime: RuntimeCard,
    machine: Json,
    versions: Json,
    samples: bool | SampleFiles = True,
    groups: Mapping[str, GroupScores] = NO_GROUPS,
    failed: Mapping[str, str] = NOTHING,
    asked: Json | None = None,
    place: int = 0,
    processes: int = 1,
) -> None:
    """Write the scores of one model. Results that stand in the folder are replaced, samples included.

    Args:
        samples: those that were written to the folder while answers came; or whether to write those of the results.
        groups: a group's name to its aggregates, as `groups.py` makes them.
        failed: tasks without scores, and why.
        asked: what was asked, so that the same can be told from something else.
        place: of the model among those of the command.
        processes: that shared the work.

    Raises:
        WorkError: the folder cannot be written to.
    """
    record = ResultsRecord(
        model=model,
        runtime=runtime,
        machine=machine,
        versions=versions,
        results={result.task: scores_of(result) for result in results},
        groups=groups,
        processes=processes,
        failed=failed,
        asked=asked,
        place=place,
    )
    with writing(f"results cannot be written to {out}"):
        files: dict[str, Iterable[str]] = {
            samples_file(result.task): (line_of(sample) for sample in result.samples)
            for result in (results if samples is True else ())
        }
        files[STATISTICS] = _statistics_lines(results)
        streamed = samples if isinstance(samples, SampleFiles) else None
        checksums: dict[str, str] = dict(streamed.checksums()) if streamed else {}
        files = {name: summed(pieces, name, checksums) for name, pieces in files.items()}
        files[RESULTS] = _results_text(record, checksums)
        tasks = _old_tasks(out)
        old = {samples_file(task) for task in tasks} - set(files) - set(streamed.checksums() if streamed else ())
        old |= {words_file(task) for task in tasks}  # of samples that are no more
        write_files(out, files, before=streamed.rename if streamed else lambda: None)
        for name in old:
            (out / name).unlink(missing_ok=True)


def remove_results(out: Path) -> None:
    """Remove the results in a folder, and the folder where nothing else is in it."""
    samples = (name(task) for task in _old_tasks(out) for name in (samples_file, words_file))
    for name in (*samples, STATISTICS, RESULTS):
        (out / name).unlink(missing_ok=True)
    with suppress(OSError):
        out.rmdir()


def scores_of(result: TaskResult) -> TaskScores:
    """Scores of one task as files hold them."""
    return TaskScores(
        alias=result.alias if result.alias != result.task else "",
        kind=result.kind,
        language=result.language,
        n=result.n,
        seconds=round(result.seconds, 3),
        seconds_total=round(result.seconds_total, 3),
        truncated=result.truncated,
        cached=result.cached,
        unknown_share=result.unknown_share,
        refused=result.refused,
        notes=result.notes,
        rival=result.rival,
        metrics=result.metrics,
        conditions=result.conditions,
        overlap=result.overlap,
        labels=result.labels,
        changed=result.changed,
    )


def read_results(out: Path) -> StoredResults:
    """Read what `write_results` wrote.

    Raises:
        UsageError: the folder holds no results, they are of another version, or one of its files was changed.
    """
    for name, complaint in ((RESULTS, "is no results folder: it has no"), (STATISTICS, "is incomplete: it has no")):
        if not (out / name).is_file():
            raise UsageError(f"{out} {complaint} {name}.")
    record = ResultsRecord.read(out / RESULTS)
    _check_file(out, STATISTICS, record)
    statistics = StatisticsRecord.read(out / STATISTICS).tasks
    lacking = [task for task in record.results if task not in statistics]
    if lacking:
        raise UsageError(f"{out / STATISTICS} holds no statistics of {lacking[0]}; run the evaluation again.")
    return StoredResults(
        folder=out,
        record=record,
        tasks={
            name: StoredTask(name=name, scores=scores, statistics=statistics[name])
            for name, scores in record.results.items()
        },
    )


def check_samples(stored: StoredResults) -> None:
    """Hold the samples of a results folder against their checksums. Some may have been deleted since, to save room.

    Raises:
        UsageError: a file is not the one that was written.
    """
    for name in stored.record.checksums:
        _check_file(stored.folder, name, stored.record)


def read_samples(out: Path, task: str) -> Iterator[SampleRecord]:
    """The samples of a task, one by one.

    Raises:
        UsageError: there are none, or a line is no sample.
    """
    file = out / samples_file(task)
    if not file.is_file():
        raise UsageError(f"{out} holds no samples of {task}; were they switched off (--no-samples)?")
    return read_sample_file(file)


def samples_file(task: str) -> str:
    """The file in a results folder that holds a task's samples."""
    return f"samples-{task}.jsonl"


def words_file(task: str) -> str:
    """The file in a results folder that holds the words that moved some answers of a task."""
    return f"words-{task}.json"


def storable(statistics: Mapping[str, Floats]) -> Mapping[str, Floats]:
    """The statistics that are numbers. Those of a metric that code of the task file aggregates are whatever it made:
    nothing else could compute with them again."""
    return {name: table for name, table in statistics.items() if table.dtype == np.float64}


def line_of_rows(table: Floats) -> str:
    """The rows of a table as JSON, without the brackets around them."""
    rows = table.tolist()
    content = rows if np.isfinite(table).all() else plain(rows)
    return json.dumps(content, allow_nan=False, separators=(",", ":"))[1:-1]


def _check_file(folder: Path, name: str, record: ResultsRecord) -> None:
    file = folder / name
    if name in record.checksums and file.is_file() and file_checksum(file) != record.checksums[name]:
        raise UsageError(
            f"{file} was changed since it was written (its checksum differs), so its numbers are not those that were "
            f"scored; {ResultsRecord.remedy}"
        )


def _results_text(record: ResultsRecord, checksums: Mapping[str, str]) -> Iterator[str]:
    """results.json, which is written when the checksums of all other files are known."""
    content = {**record.content(), "checksums": dict(sorted(checksums.items()))}
    yield json.dumps(sealed(content), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _statistics_lines(results: Sequence[TaskResult]) -> Iterator[str]:
    """statistics.json, a piece at a time: what `StatisticsRecord` reads, of which no whole copy is made here."""
    yield f'{{"schema":{StatisticsRecord.current},"tasks":{{'
    for number, result in enumerate(results):
        kept: dict[str, object] = {"data_fingerprint": result.data_fingerprint, "recipes": result.recipes}
        if result.clusters is not None:
            kept["clusters"] = result.clusters
        if result.parts is not None:
            kept["parts"] = result.parts
        yield f'{"," if number else ""}{json.dumps(result.task)}:{line_of(kept).rstrip()[:-1]},"statistics":{{'
        for place, (name, table) in enumerate(storable(result.statistics).items()):
            yield f"{',' if place else ''}{json.dumps(name)}:["
            for start in range(0, len(table), ROWS_AT_ONCE):
                yield ("," if start else "") + line_of_rows(table[start : start + ROWS_AT_ONCE])
            yield "]"
        yield "}}"
    yield "}}\n"


def _old_tasks(out: Path) -> set[str]:
    """The tasks of results that stand in the folder already."""
    if not (out / RESULTS).is_file():
        return set()
    try:
        return set(ResultsRecord.read(out / RESULTS).results)
    except UsageError:
        return set()  # not ours to clean up
