"""Scores on disk.

    OUT/results.json            model, runtime, machine, versions, and each task's metrics
    OUT/samples-<task>.jsonl    one line an example
    OUT/statistics.json         statistics of each example and metric: what paired comparisons need

All files are written aside and then renamed, results.json last: where it stands, the others stand too.
Numbers that JSON has no form for (an infinite perplexity) are written as text: "inf", "-inf", "nan".
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from lmtasks.errors import UsageError, WorkError
from lmtasks.evaluation.evaluate import TaskResult, plain
from lmtasks.records import Estimate, Floats, Json, ModelCard, RuntimeCard

SCHEMA = 1
RESULTS = "results.json"
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


@dataclass(frozen=True, kw_only=True)
class StoredResults:
    """A results folder."""

    folder: Path
    model: Json
    runtime: Json
    machine: Json
    versions: Json
    tasks: Mapping[str, StoredTask]


def write_results(
    out: Path,
    *,
    results: Sequence[TaskResult],
    model: ModelCard,
    runtime: RuntimeCard,
    machine: Json,
    versions: Json,
    samples: bool = True,
) -> None:
    """Write the scores of one model. Results that stand in the folder are replaced, samples included.

    Raises:
        WorkError: the folder cannot be written to.
    """
    content = {
        "schema": SCHEMA,
        "model": asdict(model),
        "runtime": asdict(runtime),
        "machine": machine,
        "versions": versions,
        "results": {result.task: task_record(result) for result in results},
    }
    statistics = {
        "schema": SCHEMA,
        "tasks": {
            result.task: {
                "data_fingerprint": result.data_fingerprint,
                "recipes": result.recipes,
                "statistics": {name: table.tolist() for name, table in result.statistics.items()},
            }
            for result in results
        },
    }
    with _writing(out):
        out.mkdir(parents=True, exist_ok=True)
        files: dict[str, Iterable[str]] = {
            _samples_file(result.task): (_line(sample) for sample in result.samples)
            for result in (results if samples else ())
        }
        files[STATISTICS] = [_line(statistics)]
        files[RESULTS] = [json.dumps(plain(content), indent=1, ensure_ascii=False, allow_nan=False) + "\n"]
        old = _old_samples(out) - set(files)
        _write_all(out, files)
        for name in old:
            (out / name).unlink(missing_ok=True)


def task_record(result: TaskResult) -> Json:
    """What results.json says of one task."""
    return {
        "n": result.n,
        "seconds": round(result.seconds, 3),
        "seconds_total": round(result.seconds_total, 3),
        "truncated": result.truncated,
        "metrics": {name: asdict(value) for name, value in result.metrics.items()},
        "conditions": result.conditions,
    }


def read_results(out: Path) -> StoredResults:
    """Read what `write_results` wrote.

    Raises:
        UsageError: the folder holds no results, or they are damaged or of another version.
    """
    content = _read(out / RESULTS, "is no results folder: it has no")
    statistics = _mapping(_read(out / STATISTICS, "is incomplete: it has no").get("tasks"))
    try:
        return StoredResults(
            folder=out,
            model=_mapping(content["model"]),
            runtime=_mapping(content["runtime"]),
            machine=_mapping(content["machine"]),
            versions=_mapping(content["versions"]),
            tasks={
                name: _stored(name, _mapping(record), _mapping(statistics[name]))
                for name, record in _mapping(content["results"]).items()
            },
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{out} is damaged: {type(error).__name__}: {error}; run the evaluation again.") from error


def read_samples(out: Path, task: str) -> Iterator[Json]:
    """The samples of a task, one by one.

    Raises:
        UsageError: there are none.
    """
    file = out / _samples_file(task)
    if not file.is_file():
        raise UsageError(f"{out} holds no samples of {task}; were they switched off (--no-samples)?")
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


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
        content = _mapping(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise UsageError(f"{file} is damaged: {error}; run the evaluation again.") from error
    if content.get("schema") != SCHEMA:
        raise UsageError(f"{file} has schema {content.get('schema')!r}, this version of lmtasks reads {SCHEMA}.")
    return content


def _line(record: Json) -> str:
    return json.dumps(plain(record), ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"


def _samples_file(task: str) -> str:
    return f"samples-{task}.jsonl"


def _old_samples(out: Path) -> set[str]:
    """The samples of results that stand in the folder already."""
    if not (out / RESULTS).is_file():
        return set()
    try:
        return {_samples_file(task) for task in _mapping(_read(out / RESULTS, "").get("results"))}
    except (UsageError, TypeError):
        return set()  # not ours to clean up


def _write_all(out: Path, files: Mapping[str, Iterable[str]]) -> None:
    """Write every file aside, then rename them in order; after a failure nothing is left of it."""
    asides = {name: out / f"{name}.part" for name in files}
    try:
        for name, lines in files.items():
            with asides[name].open("w", encoding="utf-8", errors="surrogatepass", newline="\n") as opened:
                opened.writelines(lines)
        for name, aside in asides.items():
            aside.replace(out / name)
    finally:
        for aside in asides.values():
            aside.unlink(missing_ok=True)


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise WorkError(f"results cannot be written to {out}: {error.strerror or error}.") from error
