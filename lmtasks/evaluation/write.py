"""Scores on disk.

    OUT/results.json            model, runtime, machine, versions, and each task's metrics
    OUT/samples-<task>.jsonl    one line an example
    OUT/statistics.json         statistics of each example and metric: what paired comparisons need

results.json also holds `groups`, where groups of tasks were asked for, and `failed`, what has no scores and why.

All files are written aside and then renamed, results.json last: where it stands, the others stand too. It holds the
checksum of every other file (`checksums`), and one of its own content (`checksum`); results of earlier versions have
none and are read all the same.
Numbers that JSON has no form for (an infinite perplexity) are written as text: "inf", "-inf", "nan".
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np

from lmtasks.checksums import file_checksum, is_whole, sealed, summed
from lmtasks.errors import UsageError
from lmtasks.evaluation.evaluate import TaskResult
from lmtasks.evaluation.samples import SampleFiles, line_of, plain
from lmtasks.files import parse_json, write_files, writing
from lmtasks.records import Estimate, Floats, Json, ModelCard, RuntimeCard

SCHEMA = 1
ROWS_AT_ONCE = 10_000
"""Of statistics, while they are written: a million rows as Python lists would take hundreds of megabytes."""
NOTHING: Mapping[str, str] = MappingProxyType({})
NO_GROUPS: Mapping[str, Json] = MappingProxyType({})
RESULTS = "results.json"
SAMPLE_KEYS = frozenset({"doc_id", "doc", "prompt", "target", "raw", "hash", "outcome"})
"""What every sample has."""
STATISTICS = "statistics.json"


@dataclass(frozen=True, kw_only=True)
class StoredTask:
    """One task of a results folder."""

    task: str
    record: Json
    """As it stands in results.json."""
    metrics: Mapping[str, Estimate]
    recipes: Mapping[str, Json]
    """What each metric is made from, for `outcome.remake_metric`."""
    statistics: Mapping[str, Floats]
    """(N, K) of each metric."""
    clusters: tuple[str, ...] | None = None
    """(N,) which examples belong together; None: all are independent."""

    @property
    def overlap(self) -> Json | None:
        """Scored rows that may have been known, see `evaluation.overlap`; None: not known."""
        found = self.record.get("overlap")
        return found if isinstance(found, dict) else None


@dataclass(frozen=True, kw_only=True)
class StoredResults:
    """A results folder."""

    folder: Path
    model: Json
    runtime: Json
    machine: Json
    versions: Json
    tasks: Mapping[str, StoredTask]
    groups: Mapping[str, Json]
    """Group to its aggregates."""
    checksums: Mapping[str, str] = field(default_factory=dict)
    """Of the other files; empty in results of earlier versions."""


def write_results(
    out: Path,
    *,
    results: Sequence[TaskResult],
    model: Json | ModelCard,
    runtime: Json | RuntimeCard,
    machine: Json,
    versions: Json,
    samples: bool | SampleFiles = True,
    groups: Mapping[str, Json] = NO_GROUPS,
    failed: Mapping[str, str] = NOTHING,
    asked: Json | None = None,
    processes: int = 1,
) -> None:
    """Write the scores of one model. Results that stand in the folder are replaced, samples included.

    Args:
        samples: those that were written to the folder while answers came; or whether to write those of the results.
        groups: a group's name to its aggregates, as `groups.py` makes them.
        failed: tasks without scores, and why.
        asked: what was asked, so that the same can be told from something else.
        processes: that shared the work.

    Raises:
        WorkError: the folder cannot be written to.
    """
    content: dict[str, object] = {
        "schema": SCHEMA,
        "model": asdict(model) if isinstance(model, ModelCard) else model,
        "runtime": asdict(runtime) if isinstance(runtime, RuntimeCard) else runtime,
        "machine": machine,
        "versions": versions,
        "results": {result.task: task_record(result) for result in results},
    }
    content |= {"groups": dict(groups)} if groups else {}
    content |= {"processes": processes} if processes > 1 else {}
    content |= {"failed": dict(failed)} if failed else {}
    content |= {"asked": dict(asked)} if asked is not None else {}
    with writing(f"results cannot be written to {out}"):
        files: dict[str, Iterable[str]] = {
            samples_file(result.task): (line_of(sample) for sample in result.samples)
            for result in (results if samples is True else ())
        }
        files[STATISTICS] = _statistics_lines(results)
        streamed = samples if isinstance(samples, SampleFiles) else None
        checksums: dict[str, str] = dict(streamed.checksums()) if streamed else {}
        files = {name: summed(pieces, name, checksums) for name, pieces in files.items()}
        files[RESULTS] = _results_text(content, checksums)
        old = _old_samples(out) - set(files) - set(streamed.checksums() if streamed else ())
        write_files(out, files, before=streamed.rename if streamed else lambda: None)
        for name in old:
            (out / name).unlink(missing_ok=True)


def remove_results(out: Path) -> None:
    """Remove the results in a folder, and the folder where nothing else is in it."""
    for name in (*_old_samples(out), STATISTICS, RESULTS):
        (out / name).unlink(missing_ok=True)
    with suppress(OSError):
        out.rmdir()


def _results_text(content: Json, checksums: Json) -> Iterator[str]:
    """results.json, which is written when the checksums of all other files are known."""
    record = sealed(_mapping(plain({**content, "checksums": dict(sorted(checksums.items()))})))
    yield json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def task_record(result: TaskResult) -> Json:
    """Record of one task in results.json."""
    return {
        **({"alias": result.alias} if result.alias != result.task else {}),
        "n": result.n,
        "seconds": round(result.seconds, 3),
        "seconds_total": round(result.seconds_total, 3),
        "truncated": result.truncated,
        "cached": result.cached,
        **({"unknown_share": result.unknown_share} if result.unknown_share else {}),
        **({"refused": dict(result.refused)} if result.refused else {}),
        **({"notes": list(result.notes)} if result.notes else {}),
        **({"rival": result.rival} if result.rival else {}),
        "metrics": {name: asdict(value) for name, value in result.metrics.items()},
        "conditions": result.conditions,
        **({} if result.overlap is None else {"overlap": result.overlap}),
    }


def read_results(out: Path) -> StoredResults:
    """Read what `write_results` wrote.

    Raises:
        UsageError: the folder holds no results, they are of another version, or one of its files was changed.
    """
    content = _read(out / RESULTS, "is no results folder: it has no")
    kept = _read(out / STATISTICS, "is incomplete: it has no")
    try:
        statistics = _mapping(kept.get("tasks"))
        stored = StoredResults(
            folder=out,
            model=_mapping(content["model"]),
            runtime=_mapping(content["runtime"]),
            machine=_mapping(content["machine"]),
            versions=_mapping(content["versions"]),
            tasks={
                name: _stored(name, _mapping(record), _mapping(statistics[name]))
                for name, record in _mapping(content["results"]).items()
            },
            groups={name: _mapping(group) for name, group in _mapping(content.get("groups", {})).items()},
            checksums={name: str(value) for name, value in _mapping(content.get("checksums", {})).items()},
        )
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise UsageError(f"{out} is damaged: {type(error).__name__}: {error}; run the evaluation again.") from error
    if not is_whole(content):
        raise _changed(out / RESULTS)
    _check_file(stored, STATISTICS)
    return stored


def check_samples(stored: StoredResults) -> None:
    """Hold the samples of a results folder against their checksums. Some may have been deleted since, to save room.

    Raises:
        UsageError: a file is not the one that was written.
    """
    for name in stored.checksums:
        _check_file(stored, name)


def _check_file(stored: StoredResults, name: str) -> None:
    file = stored.folder / name
    if name in stored.checksums and file.is_file() and file_checksum(file) != stored.checksums[name]:
        raise _changed(file)


def _changed(file: Path) -> UsageError:
    return UsageError(
        f"{file} was changed since it was written (its checksum differs), so its numbers are not those that were "
        "scored; copy the folder again, or run the evaluation again."
    )


def read_samples(out: Path, task: str) -> Iterator[Json]:
    """The samples of a task, one by one.

    Raises:
        UsageError: there are none, or a line is no sample.
    """
    file = out / samples_file(task)
    if not file.is_file():
        raise UsageError(f"{out} holds no samples of {task}; were they switched off (--no-samples)?")
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                sample = _mapping(parse_json(line.decode("utf-8", "surrogatepass")))
                if SAMPLE_KEYS - set(sample):
                    raise ValueError(f"it lacks {', '.join(sorted(SAMPLE_KEYS - set(sample)))}")
            except (ValueError, TypeError) as error:
                raise UsageError(f"{file}, line {number} is damaged: {error}; run the evaluation again.") from error
            yield sample


def estimate_from_json(record: Json) -> Estimate:
    """The inverse of `dataclasses.asdict`, with numbers that were written as text."""
    interval = record["ci95"]
    scales = {"fraction": "fraction", "points": "points", "raw": "raw"}
    return Estimate(
        value=_number(record["value"]),
        stderr=None if record["stderr"] is None else _number(record["stderr"]),
        ci95=(_number(interval[0]), _number(interval[1])) if isinstance(interval, list) else None,
        higher_is_better=bool(record["higher_is_better"]),
        scale=scales[str(record["scale"])],  # type: ignore[arg-type]  # one of the three
        signature=str(record["signature"]),
    )


def _stored(name: str, record: Json, statistics: Json) -> StoredTask:
    metrics = _mapping(record["metrics"])
    for number in ("n", "seconds", "truncated"):
        float(record[number])  # type: ignore[arg-type]  # refused where it is none
    clusters = statistics.get("clusters")
    return StoredTask(
        task=name,
        record=record,
        metrics={metric: estimate_from_json(_mapping(value)) for metric, value in metrics.items()},
        recipes={metric: _mapping(value) for metric, value in _mapping(statistics["recipes"]).items()},
        statistics={
            metric: np.array(rows, dtype=np.float64) for metric, rows in _mapping(statistics["statistics"]).items()
        },
        clusters=tuple(map(str, clusters)) if isinstance(clusters, list) else None,
    )


def _number(value: object) -> float:
    return float(str(value))


def _mapping(value: object) -> Json:
    if not isinstance(value, dict):
        raise TypeError(f"expected an object, found {type(value).__name__}")
    return value


def _read(file: Path, complaint: str) -> Json:
    if not file.is_file():
        raise UsageError(f"{file.parent} {complaint} {file.name}.")
    try:
        content = _mapping(parse_json(file.read_bytes().decode("utf-8", "surrogatepass")))
    except (ValueError, TypeError) as error:
        raise UsageError(f"{file} is damaged: {error}; run the evaluation again.") from error
    if content.get("schema") != SCHEMA:
        raise UsageError(f"{file} has schema {content.get('schema')!r}, this version of lmtasks reads {SCHEMA}.")
    return content


def _statistics_lines(results: Sequence[TaskResult]) -> Iterator[str]:
    """statistics.json, a piece at a time."""
    yield f'{{"schema":{SCHEMA},"tasks":{{'
    for number, result in enumerate(results):
        kept: dict[str, object] = {"data_fingerprint": result.data_fingerprint, "recipes": result.recipes}
        if result.clusters is not None:
            kept["clusters"] = result.clusters
        yield f'{"," if number else ""}{json.dumps(result.task)}:{line_of(kept).rstrip()[:-1]},"statistics":{{'
        for place, (name, table) in enumerate(storable(result.statistics).items()):
            yield f"{',' if place else ''}{json.dumps(name)}:["
            for start in range(0, len(table), ROWS_AT_ONCE):
                yield ("," if start else "") + line_of_rows(table[start : start + ROWS_AT_ONCE])
            yield "]"
        yield "}}"
    yield "}}\n"


def storable(statistics: Mapping[str, Floats]) -> Mapping[str, Floats]:
    """The statistics that are numbers. Those of a metric that code of the task file aggregates are whatever it made:
    nothing else could compute with them again."""
    return {name: table for name, table in statistics.items() if table.dtype == np.float64}


def line_of_rows(table: Floats) -> str:
    """The rows of a table as JSON, without the brackets around them."""
    rows = table.tolist()
    content = rows if np.isfinite(table).all() else plain(rows)
    return json.dumps(content, allow_nan=False, separators=(",", ":"))[1:-1]


def samples_file(task: str) -> str:
    """The file in a results folder that holds a task's samples."""
    return f"samples-{task}.jsonl"


def _old_samples(out: Path) -> set[str]:
    """The samples of results that stand in the folder already."""
    if not (out / RESULTS).is_file():
        return set()
    try:
        return {samples_file(task) for task in _mapping(_read(out / RESULTS, "").get("results"))}
    except (UsageError, TypeError):
        return set()  # not ours to clean up
