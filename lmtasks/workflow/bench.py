"""Speed and memory of models on runtimes, side by side, on real rows of tasks; and who fulfils what is required."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lmtasks.bench.compare import SpeedComparison, compare_variants
from lmtasks.bench.costs import NO_PRICES, Prices, priced
from lmtasks.bench.isolate import ELSEWHERE, Isolated
from lmtasks.bench.judge import (
    Judged,
    QualityDrop,
    Requirement,
    cheapest,
    judge,
    judged_records,
    why_none,
    with_goodput,
)
from lmtasks.bench.spec import SpeedSpec, Sweep
from lmtasks.bench.speed import SpeedSettings
from lmtasks.bench.workload import REQUESTS, Arrival, Workload
from lmtasks.cores import usable_cores
from lmtasks.errors import GateError, UsageError, WorkError, unknown
from lmtasks.files import locked
from lmtasks.records import Progress
from lmtasks.results.speed import SERVER, BenchRecord, SideBySideRecord
from lmtasks.settings.data import DataAccess
from lmtasks.settings.endpoint import Endpoint
from lmtasks.settings.runtimes import RUNTIMES
from lmtasks.task.task import Task
from lmtasks.workflow.choose_models import ChosenModel, OpenOptions, chosen_models
from lmtasks.workflow.choose_tasks import TaskRequest, chosen_tasks
from lmtasks.workflow.open_model import card_in, runtime_for
from lmtasks.workflow.quality_drop import drops_of
from lmtasks.workflow.results_folder import next_folder
from lmtasks.workflow.workloads import at_lengths, goals_of, loads_of, server_workloads, workloads_of

if TYPE_CHECKING:
    from lmtasks.endpoint.probe import Server

RECORD = "bench.json"
AUTO_BATCH = 16
"""Rows at once for throughput, where --batch-size is auto; texts that are written are asked for all at once, and the
engine chooses how many of them it writes together."""
WHAT: Mapping[str, str] = {
    "torch": "a model folder of torch",
    "onnx": "a package made by `lmtasks export`",
    "openvino": "a package made by `lmtasks export --runtime openvino`",
    "native": "a model that was fitted at once (ngram, svm, ...)",
    "server": "a server's address (--model http://...)",
}


@dataclass(frozen=True, kw_only=True)
class BenchRequest:
    """Which models are timed on which runtimes and tasks, and how."""

    models: Sequence[str]
    tasks: TaskRequest
    data: DataAccess
    runtimes: Sequence[str] = ()
    """Empty: what each model is made for."""
    device: str = "cpu"
    precision: str | None = None
    threads: int | None = None
    force: bool = False
    """Also in a precision that the processor emulates."""
    rows_at_once: int | None = None
    """None: auto."""
    label_names: Mapping[str, str] = field(default_factory=dict)
    """A checkpoint's own label to a label of the tasks."""
    limit: int | None = None
    rounds: int = 5
    seconds: float = 1.0
    """Least time for each task and batch size, and each load, in a round."""
    seed: int = 1234
    sweep: Sweep
    rates: Sequence[float] = ()
    """Requests a second."""
    arrival: Arrival = "poisson"
    requirements: Sequence[Requirement] = ()
    require: str = ""
    """The requirements as they were written."""
    prices: Prices = NO_PRICES
    endpoint: Endpoint = field(default_factory=Endpoint)
    """How servers are asked."""
    out: Path | None = None
    """None: `runs/bench-N`."""

    def __post_init__(self) -> None:
        for name in self.runtimes:
            if name not in RUNTIMES:
                raise unknown("--runtime", name, RUNTIMES)
        if self.seconds <= 0:
            raise UsageError(f"--seconds must be above 0, was {self.seconds}.")
        if any(each <= 0 for each in self.rates):
            raise UsageError(f"--rate must be above 0, was {min(self.rates):g}.")


@dataclass(frozen=True, kw_only=True)
class Benched:
    """Timings of all variants, and each variant against each requirement."""

    file: Path
    compared: SpeedComparison
    judged: Sequence[Judged] = ()
    """Empty where nothing was required."""

    @property
    def best(self) -> Judged | None:
        """The variant that fulfils all requirements for the fewest core-seconds an answer."""
        return cheapest(self.judged) if self.judged else None

    def failure(self) -> GateError | None:
        """The error that says why no variant fulfils what is required; None where one does, or nothing is."""
        return GateError(why_none(self.judged)) if self.judged and self.best is None else None


def bench_models(request: BenchRequest, *, report: Callable[[Progress], None]) -> Benched:
    """Time every model on every wanted runtime that suits it, each in fresh processes, and write bench.json.

    Raises:
        UsageError: a baseline, which is not timed; a runtime that suits no model, or a model that suits no runtime; a
            length that a model does not take.
        WorkError: no task of a model can be timed, or measuring failed.
    """
    tasks = chosen_tasks(request.tasks)
    models = chosen_models(
        request.models,
        offline=request.data.offline,
        token=request.data.token,
        opening=OpenOptions(endpoint=request.endpoint),
    )
    specs = _all_specs(models, tasks, request)
    folder = request.out or next_folder("bench")
    with locked(folder):
        drops: Mapping[str, Mapping[str, QualityDrop]] = {}
        if any(each.name == "drop" for each in request.requirements):
            servers = [spec.name for spec in specs if spec.server is not None]
            if servers:
                raise UsageError(
                    f"--require drop is scored by models on this machine, and {servers[0]} is a server; score it with "
                    "`lmtasks eval`, and compare."
                )
            drops = drops_of(
                specs, tasks=tasks, options=request.data, limit=request.limit, seed=request.seed, report=report
            )
        compared = compare_variants(
            specs, measures=Isolated(), rounds=request.rounds, seed=request.seed, on_progress=report
        )
        records = tuple(
            priced(with_goodput(record, request.requirements), request.prices) for record in compared.variants
        )
        compared = replace(compared, variants=records)
        judged = judge(request.requirements, records=records, drops=drops) if request.requirements else ()
        return Benched(file=_write(compared, judged, request.require, folder), compared=compared, judged=judged)


def time_scored(
    scored: Sequence[tuple[ChosenModel, Sequence[Task]]],
    *,
    opening: OpenOptions,
    data: DataAccess,
    seed: int,
    report: Callable[[Progress], None],
) -> tuple[SpeedComparison | None, tuple[str, ...]]:
    """Time models on the tasks that they have scores of, as `bench_models` does; and a sentence for each model that
    could not be timed. None: none could. Baselines are not timed.
    """
    request = BenchRequest(
        models=(),
        tasks=TaskRequest(),
        data=data,
        device=opening.on.device,
        precision=opening.on.precision,
        threads=opening.on.threads,
        force=opening.on.force,
        rows_at_once=opening.rows_per_batch,
        label_names=opening.label_names,
        seed=seed,
        sweep=Sweep(),
    )
    specs: list[SpeedSpec] = []
    failed: list[str] = []
    for chosen, tasks in scored:
        if chosen.folder is None:
            continue
        runtime = runtime_for(chosen.folder, wanted=opening.on.runtime)
        counts = (request.threads or usable_cores(),)
        try:
            specs += _specs(chosen, tasks, runtime, counts, request)
        except WorkError as error:  # none of its tasks is timed, say; its scores are kept
            failed.append(f"speed of {chosen.label}: {error}")
    if not specs:
        return None, tuple(failed)
    compared = compare_variants(
        specs,
        measures=Isolated(),
        rounds=request.rounds,
        seed=seed,
        on_progress=report,
        on_failure=lambda name, error: failed.append(f"speed of {name}: {error}"),
    )
    return compared, tuple(failed)


def _write(compared: SpeedComparison, judged: Sequence[Judged], require: str, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / RECORD
    BenchRecord(
        variants=compared.variants,
        side_by_side=tuple(
            SideBySideRecord.model_validate({**asdict(row), "verdict": row.verdict}) for row in compared.rows
        ),
        require=require,
        judged=judged_records(judged),
    ).write(file)
    return file


def _all_specs(models: Sequence[ChosenModel], tasks: Sequence[Task], request: BenchRequest) -> list[SpeedSpec]:
    """Every model on every wanted runtime that suits it, with every number of threads.

    Raises:
        UsageError: a baseline, which is not timed; a runtime that suits no model, or a model that suits no runtime; a
            length that a model does not take.
        WorkError: no task of a model can be timed.
    """
    pairs = runtime_pairs(models, request.runtimes)
    counts = request.sweep.threads or (request.threads or usable_cores(),)
    found = []
    for chosen, on in pairs:
        name = chosen.label if len(models) == len(pairs) else f"{chosen.label} {on}"
        for spec in _specs(chosen, tasks, on, counts, request):
            more = "" if len(counts) == 1 else f", {spec.threads} {'thread' if spec.threads == 1 else 'threads'}"
            found.append(_named(spec, f"{name}{more}"))
    return found


def runtime_pairs(models: Sequence[ChosenModel], runtimes: Sequence[str]) -> list[tuple[ChosenModel, str]]:
    """Every model on every wanted runtime that suits it.

    Raises:
        UsageError: a baseline, which is not timed; a runtime that suits no model, or a model that suits no runtime.
    """
    pairs: list[tuple[ChosenModel, str]] = []
    for chosen in models:
        if chosen.server is not None:
            pairs.append((chosen, SERVER))
            continue
        if chosen.folder is None:
            raise UsageError(f"{chosen.ref} is a baseline; bench times models and packages.")
        own = runtime_for(chosen.folder, wanted=None)
        suiting = [name for name in runtimes if _suits(name, own)] if runtimes else [own]
        if not suiting:
            advice = (
                f"make a package with `lmtasks export --model {chosen.ref}`" if own == "torch" else f"it runs on {own}"
            )
            raise UsageError(
                f"{chosen.ref} is {what_runs_on(own)}, which none of the runtimes {', '.join(runtimes)} runs; {advice}."
            )
        pairs += [(chosen, name) for name in suiting]
    idle = [name for name in runtimes if name not in {on for _, on in pairs}]
    if idle:
        what = what_runs_on(idle[0])
        raise UsageError(f"--runtime {idle[0]} has nothing to run; add a --model that is {what}.")
    return pairs


def what_runs_on(runtime: str) -> str:
    """Folders that a runtime runs, in words.

    >>> what_runs_on("torch-compile")
    'a model folder of torch'
    """
    return WHAT.get(runtime) or WHAT[RUNTIMES[runtime].folders]


def _suits(runtime: str, own: str) -> bool:
    """Does a runtime run what is made for another? A package is proved in its own, and runs in no other of ours."""
    alike = RUNTIMES[runtime].folders == RUNTIMES[own].folders
    return alike and (runtime == own or not (RUNTIMES[runtime].packages and RUNTIMES[own].packages))


def _checked_precision(folder: Path, runtime: str, request: BenchRequest) -> str:
    """Precision that a variant computes in.

    Raises:
        UsageError: it cannot run so on this machine, which is better said before minutes of measuring than after.
    """
    from lmtasks.runtime.open import precision_of

    if (runtime, request.device, request.precision or "fp32") == ("torch", "cpu", "fp32"):
        return "fp32"  # runs anywhere, and torch is long to load
    return precision_of(
        folder, runtime=runtime, device=request.device, precision=request.precision, force=request.force
    )


def _specs(
    chosen: ChosenModel, tasks: Sequence[Task], runtime: str, counts: Sequence[int], request: BenchRequest
) -> list[SpeedSpec]:
    """One for each number of threads; the requests are made once."""
    if chosen.server is not None:
        return [_server_spec(chosen, chosen.server, tasks, request)]
    assert chosen.folder is not None  # a baseline was refused
    computed_in = _checked_precision(chosen.folder, runtime, request)
    card = card_in(chosen.folder)
    own = workloads_of(
        tasks,
        ref=chosen.folder,
        model=card,
        options=request.data,
        rows=request.limit or REQUESTS,
        seed=request.seed,
        label_names=request.label_names,
    )
    workloads = (*own, *at_lengths(own, request.sweep.length, model=card))
    settings = _settings(request)
    return [
        SpeedSpec(
            variant={
                "name": chosen.label,
                "model": chosen.ref,
                "adaptation": card.adaptation,
                "runtime": runtime,
                "device": request.device,
                "precision": computed_in,
                "threads": threads,
            },
            ref=chosen.folder,
            runtime=runtime,
            device=request.device,
            precision=computed_in,
            threads=threads,
            force=request.force,
            workloads=workloads,
            settings=settings,
        )
        for threads in counts
    ]


def _settings(request: BenchRequest) -> SpeedSettings:
    return SpeedSettings(
        batch_sizes=request.sweep.batch or (1, request.rows_at_once or AUTO_BATCH),
        writes_all=not request.sweep.batch and request.rows_at_once is None,
        least_seconds=request.seconds,
        most_seconds=request.seconds * 4,
        loads=loads_of(
            request.rates,
            arrival=request.arrival,
            requirements=request.requirements,
            rounds=request.rounds,
            seconds=request.seconds,
            seed=request.seed,
        ),
        goals=goals_of(request.requirements),
    )


def _server_spec(chosen: ChosenModel, server: Server, tasks: Sequence[Task], request: BenchRequest) -> SpeedSpec:
    """A server on the requests that its tasks ask of it.

    Raises:
        UsageError: a length is asked for, and nobody knows the server's tokens.
        WorkError: it answers none of the tasks.
    """
    endpoint = request.endpoint
    if request.sweep.length and endpoint.server_tokenizer is None:
        raise UsageError(
            f"--sweep length=... is in tokens, and nobody knows those of {chosen.ref}; give --server-tokenizer."
        )
    card, own = server_workloads(
        tasks, server=server, settings=endpoint, options=request.data, rows=request.limit or REQUESTS, seed=request.seed
    )
    return spec_of_server(
        server,
        endpoint,
        name=chosen.label,
        workloads=(*own, *at_lengths(own, request.sweep.length, model=card)),
        settings=_settings(request),
    )


def spec_of_server(
    server: Server, endpoint: Endpoint, *, name: str, workloads: Sequence[Workload], settings: SpeedSettings
) -> SpeedSpec:
    """A server that was probed, to be timed.

    Args:
        name: of the variant.

    Raises:
        WorkError: there is no workload.
    """
    from lmtasks.bench.server import server_spec

    return SpeedSpec(
        variant={
            "name": name,
            "model": server.address,
            "adaptation": "prompt",
            "runtime": SERVER,
            "device": ELSEWHERE,
            "precision": "none",
            "threads": 1,
        },
        ref=Path(),
        runtime=SERVER,
        device=ELSEWHERE,
        precision="none",
        threads=1,
        workloads=tuple(workloads),
        settings=settings,
        server=server_spec(server, endpoint),
    )


def _named(spec: SpeedSpec, name: str) -> SpeedSpec:
    return replace(spec, variant={**spec.variant, "name": name})
