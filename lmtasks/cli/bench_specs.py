"""What `lmtasks bench` measures: every model on every runtime that suits it, with every number of threads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lmtasks.errors import UsageError
from lmtasks.settings.runtimes import RUNTIMES

if TYPE_CHECKING:
    from pathlib import Path

    from lmtasks.bench.require import Requirement
    from lmtasks.bench.schedule import Arrival
    from lmtasks.bench.spec import SpeedSpec
    from lmtasks.bench.sweep import Sweep
    from lmtasks.cli.models import Chosen
    from lmtasks.data.options import DataOptions
    from lmtasks.task.task import Task

AUTO_BATCH = 16
"""Rows at once for throughput, where --batch-size is auto."""
LOADS: Mapping[str, str] = {name: spec.folders for name, spec in RUNTIMES.items()}
WHAT: Mapping[str, str] = {
    "torch": "a model folder of torch",
    "onnx": "a package made by `lmtasks export`",
    "native": "a model that was fitted at once (ngram, svm, ...)",
}


@dataclass(frozen=True, kw_only=True)
class Timed:
    """What is the same for all variants of a command."""

    tasks: Sequence[Task]
    sources: DataOptions
    device: str
    precision: str | None
    threads: int | None
    rows_at_once: int | None
    """None: auto."""
    limit: int | None
    rounds: int
    seconds: float
    seed: int
    sweep: Sweep
    rates: Sequence[float]
    arrival: Arrival
    requirements: Sequence[Requirement]


def specs_of(models: Sequence[Chosen], runtimes: Sequence[str], timed: Timed) -> list[SpeedSpec]:
    """Every model on every wanted runtime that suits it, with every number of threads.

    Raises:
        UsageError: a baseline, which is not timed; a runtime that suits no model, or a model that suits no runtime; a
            length that a model does not take.
        WorkError: no task of a model can be timed.
    """
    from lmtasks.cores import usable_cores

    pairs = _pairs(models, runtimes)
    counts = timed.sweep.threads or (timed.threads or usable_cores(),)
    found = []
    for chosen, on in pairs:
        name = chosen.label if len(models) == len(pairs) else f"{chosen.label} {on}"
        for spec in _specs(chosen, on, counts, timed):
            more = "" if len(counts) == 1 else f", {spec.threads} {'thread' if spec.threads == 1 else 'threads'}"
            found.append(_named(spec, f"{name}{more}"))
    return found


def _pairs(models: Sequence[Chosen], runtimes: Sequence[str]) -> list[tuple[Chosen, str]]:
    """Every model on every wanted runtime that suits it.

    Raises:
        UsageError: a baseline, which is not timed; a runtime that suits no model, or a model that suits no runtime.
    """
    from lmtasks.workflow.open_model import runtime_for

    pairs: list[tuple[Chosen, str]] = []
    for chosen in models:
        if chosen.folder is None:
            raise UsageError(f"{chosen.ref} is a baseline; bench times models and packages.")
        own = runtime_for(chosen.folder, wanted=None)
        suiting = [name for name in runtimes if LOADS[name] == own] if runtimes else [own]
        if not suiting:
            advice = (
                f"make a package with `lmtasks export --model {chosen.ref}`" if own == "torch" else f"it runs on {own}"
            )
            raise UsageError(
                f"{chosen.ref} is {WHAT[own]}, which none of the runtimes {', '.join(runtimes)} runs; {advice}."
            )
        pairs += [(chosen, name) for name in suiting]
    idle = [name for name in runtimes if name not in {on for _, on in pairs}]
    if idle:
        what = WHAT[LOADS[idle[0]]]
        raise UsageError(f"--runtime {idle[0]} has nothing to run; add a --model that is {what}.")
    return pairs


def _checked_precision(folder: Path, runtime: str, timed: Timed) -> str:
    """What a variant computes in.

    Raises:
        UsageError: it cannot run so on this machine, which is better said before minutes of measuring than after.
    """
    from lmtasks.runtime.open import check_package, check_runs

    if runtime == "onnx":
        return check_package(folder, device=timed.device, precision=timed.precision).precision
    precision = timed.precision or "fp32"
    if (runtime, timed.device, precision) != ("torch", "cpu", "fp32"):  # that runs anywhere, and torch is long to load
        check_runs(runtime=runtime, device=timed.device, precision=precision)
    return precision


def _specs(chosen: Chosen, runtime: str, counts: Sequence[int], timed: Timed) -> list[SpeedSpec]:
    """One for each number of threads; the requests are made once."""
    from lmtasks.bench.spec import SpeedSpec
    from lmtasks.bench.speed import SpeedSettings
    from lmtasks.bench.workload import REQUESTS
    from lmtasks.run.speed_specs import at_lengths, loads_of
    from lmtasks.workflow.open_model import card_in
    from lmtasks.workflow.workloads import workloads_of

    assert chosen.folder is not None  # a baseline was refused
    computed_in = _checked_precision(chosen.folder, runtime, timed)
    card = card_in(chosen.folder)
    own = workloads_of(
        timed.tasks,
        ref=chosen.folder,
        model=card,
        options=timed.sources,
        rows=timed.limit or REQUESTS,
        seed=timed.seed,
    )
    workloads = (*own, *at_lengths(own, timed.sweep.length, model=card))
    settings = SpeedSettings(
        batch_sizes=timed.sweep.batch or (1, timed.rows_at_once or AUTO_BATCH),
        least_seconds=timed.seconds,
        most_seconds=timed.seconds * 4,
        loads=loads_of(
            timed.rates,
            arrival=timed.arrival,
            requirements=timed.requirements,
            rounds=timed.rounds,
            seconds=timed.seconds,
            seed=timed.seed,
        ),
    )
    return [
        SpeedSpec(
            variant={
                "name": chosen.label,
                "model": chosen.ref,
                "adaptation": card.adaptation,
                "runtime": runtime,
                "device": timed.device,
                "precision": computed_in,
                "threads": threads,
            },
            ref=chosen.folder,
            runtime=runtime,
            device=timed.device,
            precision=computed_in,
            threads=threads,
            workloads=workloads,
            settings=settings,
        )
        for threads in counts
    ]


def _named(spec: SpeedSpec, name: str) -> SpeedSpec:
    return replace(spec, variant={**spec.variant, "name": name})
