"""The rounds of a variant as one speed record: samples of all rounds together, so that percentiles have enough of them.

The record is what `runs/<plan>/speed/<variant>.json` holds and a report reads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

from lmtasks.bench.load import LoadSpeed
from lmtasks.bench.percentile import percentile, rounded
from lmtasks.bench.roofline import Pass, distance
from lmtasks.bench.speed import WorkloadSpeed
from lmtasks.bench.workload import ARRIVALS, Load
from lmtasks.records import Json

SECONDS = ("import_seconds", "open_seconds", "first_seconds", "load_seconds")


def pooled(rounds: Sequence[Json], *, memory: Json, limits: Json) -> Json:
    """One record of all rounds.

    Args:
        rounds: what `measure_times` returned in each.
        memory: what `measure_memory` returned.
        limits: what `measure_limits` returned, with as many threads.
    """
    timings = [[_speed(each) for each in _list(record, "workloads")] for record in rounds]
    loads = [[_load(each) for each in _list(record, "loads")] for record in rounds]
    seconds = {name: round(median(float(str(record[name])) for record in rounds), 3) for name in SECONDS}
    precision = str(_mapping(rounds[0]["runtime"])["precision"])
    return {
        **rounds[0],
        **memory,
        **seconds,
        "rounds": len(rounds),
        "limits": limits,
        "workloads": [
            _timing_json([line[place] for line in timings], limits=limits, precision=precision)
            for place in range(len(timings[0]))
        ],
        "loads": [
            _pooled_load([line[place] for line in loads]).as_json() for place in range(len(loads[0]) if loads else 0)
        ],
        "kernel_gflop_per_s": [record["kernel_gflop_per_s"] for record in rounds],
        "notes": _once([str(note) for record in rounds for note in _list(record, "notes")], len(rounds)),
    }


def _timing_json(parts: Sequence[WorkloadSpeed], *, limits: Json, precision: str) -> Json:
    pool = _pooled_speed(parts)
    record = pool.as_json()
    return {
        **record,
        "rounds": [rounded(part.examples_per_s) for part in parts],
        "limit": _distance(pool, limits=limits, precision=precision),
    }


def _distance(pool: WorkloadSpeed, *, limits: Json, precision: str) -> Json | None:
    """Of a streamed generation its steps, else a whole call."""
    passes = [Pass(**each) for each in _list(pool.extra, "passes")]
    between = percentile(pool.itl_ms, 50)
    if between is not None and len(passes) == 2:
        found = distance([replace(passes[1], count=1)], seconds=between / 1000, limits=limits, precision=precision)
        return None if found is None else {**found.as_json(), "of": "a step"}
    middle = percentile(pool.raw_ms, 50)
    if middle is None or not passes:
        return None
    found = distance(passes, seconds=middle / 1000, limits=limits, precision=precision)
    return None if found is None else {**found.as_json(), "of": "a call"}


def _pooled_speed(parts: Sequence[WorkloadSpeed]) -> WorkloadSpeed:
    return replace(
        parts[0],
        raw_ms=_joined([part.raw_ms for part in parts]),
        units=tuple(unit for part in parts for unit in part.units),
        ttft_ms=_joined([part.ttft_ms for part in parts]),
        itl_ms=_joined([part.itl_ms for part in parts]),
        warm_up_ms=_joined([part.warm_up_ms for part in parts]),
        settled=all(part.settled for part in parts),
        note="; ".join(_once([part.note for part in parts if part.note], len(parts))),
        flags=tuple(_once([flag for part in parts for flag in part.flags], len(parts))),
    )


def _pooled_load(parts: Sequence[LoadSpeed]) -> LoadSpeed:
    return replace(
        parts[0],
        latency_ms=_joined([part.latency_ms for part in parts]),
        answered=sum(part.answered for part in parts),
        ttft_ms=_joined([part.ttft_ms for part in parts]),
        itl_ms=_joined([part.itl_ms for part in parts]),
        seconds=sum(part.seconds for part in parts),
        busy_seconds=sum(part.busy_seconds for part in parts),
        flags=tuple(_once([flag for part in parts for flag in part.flags], len(parts))),
    )


def _once(sentences: Sequence[str], rounds: int) -> list[str]:
    """Each sentence once, but for its numbers; with how many there were where rounds are several.

    >>> _once(["2 % stolen", "3 % stolen", "hot"], 3)
    ['2 % stolen (2 times in 3 rounds)', 'hot (once in 3 rounds)']
    """
    alike: dict[str, list[str]] = {}
    for sentence in sentences:
        alike.setdefault("".join(mark for mark in sentence if not mark.isdigit()), []).append(sentence)
    if rounds == 1:
        return [group[0] for group in alike.values()]
    return [
        f"{group[0]} ({'once' if len(group) == 1 else f'{len(group)} times'} in {rounds} rounds)"
        for group in alike.values()
    ]


def _joined(parts: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    return tuple(value for part in parts for value in part)


def _speed(record: Json) -> WorkloadSpeed:
    """What `WorkloadSpeed.as_json` gave."""
    return WorkloadSpeed(
        task=str(record["task"]),
        kind=str(record["kind"]),
        batch_size=int(str(record["batch_size"])),
        length=int(str(record["length"])),
        unit=str(record["unit"]),
        new_tokens=int(str(record["new_tokens"])),
        read_tokens=tuple(map(int, map(str, _list(record, "read_tokens")))),
        requests_per_example=float(str(record["requests_per_example"])),
        raw_ms=_numbers(record, "raw_ms"),
        units=tuple(map(int, map(str, _list(record, "raw_units")))),
        ttft_ms=_numbers(record, "raw_ttft_ms"),
        itl_ms=_numbers(record, "raw_itl_ms"),
        warm_up_ms=_numbers(record, "warm_up_ms"),
        settled=bool(record["settled"]),
        note=str(record["note"]),
        flags=tuple(map(str, _list(record, "flags"))),
        extra={"passes": record["passes"]} if "passes" in record else {},
    )


def _load(record: Json) -> LoadSpeed:
    """What `LoadSpeed.as_json` gave."""
    return LoadSpeed(
        task=str(record["task"]),
        kind=str(record["kind"]),
        length=int(str(record["length"])),
        load=Load(
            rate=float(str(record["rate"])),
            count=int(str(record["requests"])),
            arrival={str(each): each for each in ARRIVALS}[str(record["arrival"])],
            seed=int(str(record["seed"])),
        ),
        batching=str(record["batching"]),
        rows=int(str(record["rows"])),
        latency_ms=_numbers(record, "raw_latency_ms"),
        answered=int(str(record["answered"])),
        ttft_ms=_numbers(record, "raw_ttft_ms"),
        itl_ms=_numbers(record, "raw_itl_ms"),
        seconds=float(str(record["seconds"])),
        busy_seconds=float(str(record["busy_seconds"])),
        flags=tuple(map(str, _list(record, "flags"))),
    )


def _numbers(record: Json, name: str) -> tuple[float, ...]:
    return tuple(float(str(value)) for value in _list(record, name))


def _list(record: Json, name: str) -> list[Any]:
    value = record.get(name, [])
    assert isinstance(value, list)  # written by the process that measured
    return value


def _mapping(value: object) -> Mapping[str, object]:
    assert isinstance(value, Mapping)  # written by the process that measured
    return value
