"""The race of one shape: all contenders are loaded, each sleeps until its turn, in random order within each round."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import sleep
from typing import Any

import psutil
from runtimes_prepare import Prepared
from runtimes_works import CONTENDERS, PEERS, WORKS, Contender, Side, Work, contenders_of, reference_of
from sides import HERE, ROOT

REST = 0.3
"""Seconds between two turns: threads of the one before spin a while."""


@dataclass(frozen=True, kw_only=True)
class Raced:
    """One work, done by all."""

    work: str
    record: Mapping[str, Any]
    versions: Mapping[str, str]
    """Of all libraries that took part."""


class Worker:
    """A contender's process."""

    def __init__(self, contender: Contender, prepared: Prepared, *, python: Path, threads: int) -> None:
        asked = {
            **asdict(contender),
            "shape": prepared.shape,
            "folder": str(prepared.folder(contender)),
            "inputs": str(prepared.home / "inputs.json"),
            "threads": threads,
        }
        self.log = prepared.home / f"{contender.name.replace(' ', '-')}.log"
        environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
        environment.pop("PYTHONPATH", None)
        if contender.side not in PEERS:
            environment["PYTHONPATH"] = str(ROOT)
        with self.log.open("w", encoding="utf-8") as said:
            self.process = subprocess.Popen(
                [str(python), str(HERE / "runtimes_worker.py"), json.dumps(asked)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                env=environment,
            )
        self.versions: Mapping[str, str] = self._heard()["versions"]

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Raises: SystemExit: the process is gone; its last lines are shown."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self._heard()

    def cpu_seconds(self) -> float:
        """Its own, so far."""
        spent = psutil.Process(self.process.pid).cpu_times()
        return float(spent.user + spent.system)

    def close(self) -> None:
        """It ends when nobody can ask any more."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def _heard(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.log}:\n{self.log.read_text(encoding='utf-8', errors='replace')[-3000:]}")
        found: dict[str, Any] = json.loads(line)
        return found


def race(
    prepared: Prepared,
    names: Sequence[str],
    *,
    pythons: Mapping[Side, Path],
    rounds: int,
    threads: int,
) -> Iterator[Raced]:
    """Run all works of a shape; each is given as soon as it is done, and once more with the times of its steps.

    Args:
        prepared: the shape.
        names: of the works.
        pythons: of the peers that take part.
        rounds: of every contender, in each work.
        threads: each may use.
    """
    sides = {name: CONTENDERS[name].side for name in contenders_of(prepared.shape)}
    contenders = [
        name for name, side in sides.items() if (side in pythons or side not in PEERS) and not CONTENDERS[name].lacks
    ]
    with _started(contenders, prepared, pythons=pythons, threads=threads) as workers:
        versions = {name: each for worker in workers.values() for name, each in worker.versions.items()}
        for work in map(WORKS.__getitem__, names):
            record = _raced(work, workers, rounds=rounds)
            record["inputs"] = prepared.texts
            yield Raced(work=work.name, record=record, versions=versions)
            if work.batch == 1 and work.new:
                record["steps"] = _steps(work, prepared, workers, rounds=rounds, threads=threads)
                yield Raced(work=work.name, record=record, versions=versions)


@contextmanager
def _started(
    names: list[str], prepared: Prepared, *, pythons: Mapping[Side, Path], threads: int
) -> Iterator[dict[str, Worker]]:
    workers: dict[str, Worker] = {}
    try:
        for name in names:
            contender = CONTENDERS[name]
            python = pythons.get(contender.side, Path(sys.executable))
            workers[name] = Worker(contender, prepared, python=python, threads=threads)
        yield workers
    finally:
        for worker in workers.values():
            worker.close()


def _raced(work: Work, workers: Mapping[str, Worker], *, rounds: int) -> dict[str, Any]:
    given = {**asdict(work)}
    batches: dict[str, int] = {}
    for name, worker in workers.items():
        batches[name] = worker.ask({"open": given})["batch"]
        sleep(REST)
    draw = random.Random(1)
    rates: dict[str, list[float]] = {name: [] for name in workers}
    others: dict[str, list[float]] = {name: [] for name in workers}
    answers: dict[str, list[list[int]]] = {}
    peaks: dict[str, float] = {}
    for number in range(rounds):
        for name in draw.sample(list(workers), len(workers)):
            count = work.few if CONTENDERS[name].slow else work.inputs
            first = number * work.inputs if work.batch == 1 and work.new else 0
            busy, own = _busy_seconds(), workers[name].cpu_seconds()
            found = workers[name].ask({"run": given, "inputs": [first + at for at in range(count)]})
            foreign = _busy_seconds() - busy - (workers[name].cpu_seconds() - own)
            others[name].append(max(0.0, foreign) / found["seconds"] / (psutil.cpu_count() or 1))
            rates[name].append(found["count"] / found["seconds"])
            peaks[name] = found["peak_mb"]
            if number == 0:
                answers[name] = found["answers"]
            sleep(REST)
    return {
        "shape": work.shape,
        "about": work.about,
        "unit": work.unit,
        "rates": rates,
        "others": others,
        "peak_mb": peaks,
        **({} if work.batch else {"batches": batches}),
        "distinct": _distinct(work, answers[reference_of(work.shape)]),
        "agreement": {name: _agreement(answers[reference_of(work.shape)], found) for name, found in answers.items()},
    }


def _busy_seconds() -> float:
    """Of all processors together, since the machine was started."""
    spent = psutil.cpu_times()
    return float(sum(spent) - spent.idle - getattr(spent, "iowait", 0.0) - getattr(spent, "guest", 0.0))


def _distinct(work: Work, answers: list[list[int]]) -> float:
    """Different tokens in a text, or different labels over all: with few of them, agreement says little."""
    if not work.new:
        return float(len({label for row in answers for label in row}))
    return sum(len(set(row)) for row in answers) / len(answers)


def _agreement(wanted: list[list[int]], found: list[list[int]]) -> float:
    """Share of equal tokens, or labels, over the inputs that the reference answered."""
    pairs = [
        (one, other) for row, others in zip(wanted, found, strict=False) for one, other in zip(row, others, strict=True)
    ]
    return sum(one == other for one, other in pairs) / len(pairs)


def _steps(
    work: Work, prepared: Prepared, workers: Mapping[str, Worker], *, rounds: int, threads: int
) -> dict[str, Any]:
    """Time of a step, of our own Python in it, and how fast as many bytes can be read; interleaved too."""
    limit = Contender(name="memory int8", side="memory", precision="int8")
    memory = Worker(limit, prepared, python=Path(sys.executable), threads=threads)
    given = {**asdict(work)}
    names = ("lmtasks onnx fp32", "lmtasks onnx int8")
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in (*names, "memory")}
    for _ in range(max(3, rounds)):
        for name in names:
            found[name].append(workers[name].ask({"steps": given}))
            sleep(REST)
        found["memory"].append(memory.ask({"steps": given}))
        sleep(REST)
    memory.close()
    return found
