"""`lmtasks bench`: speed and memory of variants side by side, on real rows of tasks, each in fresh processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmtasks.cli import options
from lmtasks.cli.bench_specs import Timed, specs_of
from lmtasks.cli.bench_table import print_compared, print_judged
from lmtasks.cli.models import chosen_models
from lmtasks.cli.progress import progress_bars
from lmtasks.cli.tasks import chosen_tasks, data_options
from lmtasks.errors import GateError, UsageError

if TYPE_CHECKING:
    from lmtasks.bench.compare import SpeedComparison
    from lmtasks.bench.judge import Judged, QualityDrop

ARRIVALS = ("poisson", "even")


def command(
    model: options.Models,
    tasks: options.Tasks = "starter_*",
    data: options.Data = None,
    text: options.Text = "text",
    label: options.Label = None,
    pair: options.Pair = None,
    name: options.TaskName = None,
    language: options.Language = None,
    encoding: options.Encoding = None,
    drop_unlabelled: options.DropUnlabelled = False,
    runtime: options.Runtimes = [],  # noqa: B006  # typer copies it
    device: options.Device = "cpu",
    precision: options.Precision = None,
    threads: options.Threads = None,
    batch_size: options.BatchSize = "auto",
    limit: options.Limit = None,
    rounds: Annotated[
        int,
        typer.Option(
            metavar="NUMBER",
            parser=options.whole("--rounds", at_least=1),
            help="Every variant is measured so often, each time in a fresh process, in alternation; an interval needs "
            "two.",
        ),
    ] = 5,
    seconds: Annotated[
        float,
        typer.Option(
            metavar="NUMBER",
            parser=options.above_zero("--seconds"),
            help="Least time for each task and batch size, and each load, in a round.",
        ),
    ] = 1.0,
    sweep: Annotated[
        list[str],
        typer.Option(
            "--sweep",
            metavar="AXIS=NUMBERS",
            help="batch=1,8,32 (requests at once), length=32,128 (tokens of every request, beside the tasks' own "
            "rows), threads=1,2; repeatable.",
        ),
    ] = [],  # noqa: B006
    rate: Annotated[
        list[float],
        typer.Option(
            "--rate",
            metavar="NUMBER",
            parser=options.above_zero("--rate"),
            help="Also let so many requests come a second, whether or not earlier ones are answered; repeatable.",
        ),
    ] = [],  # noqa: B006
    arrival: Annotated[
        str,
        typer.Option(
            "--arrival",
            metavar="NAME",
            parser=options.one_of("--arrival", ARRIVALS),
            help="How they come: poisson (independent of each other), or even (always the same gap).",
        ),
    ] = "poisson",
    require: Annotated[
        str,
        typer.Option(
            "--require",
            metavar="LIST",
            help="What production needs, as 'p95_ms<=50@20rps, drop<=1, peak_mb<=1000': names the variant that fulfils "
            "all for the fewest core-seconds an answer, or ends with exit code 3. drop is in points against the first.",
        ),
    ] = "",
    seed: options.Seed = 1234,
    out: options.Out = None,
    data_root: options.DataRoot = None,
    offline: options.Offline = False,
    token: options.Token = None,
    trust_code: options.TrustCode = False,
) -> None:
    """Measure speed and memory of models on runtimes, side by side; the first is what others are held to.

    Texts are tokens already: tokenizing is the same for all. No answer comes from the cache.
    """
    from lmtasks.bench.compare import compare_variants
    from lmtasks.bench.isolate import Isolated
    from lmtasks.bench.judge import judge
    from lmtasks.bench.require import parse_requirements
    from lmtasks.bench.schedule import ARRIVALS as KNOWN
    from lmtasks.bench.sweep import parse_sweeps
    from lmtasks.folder_lock import locked
    from lmtasks.workflow.quality_drop import drops_of

    if seconds <= 0:
        raise UsageError(f"--seconds must be above 0, was {seconds}.")
    if any(each <= 0 for each in rate):
        raise UsageError(f"--rate must be above 0, was {min(rate):g}.")
    requirements = parse_requirements(require) if require else ()
    sources = data_options(data_root=data_root, offline=offline, token=token, drop_unlabelled=drop_unlabelled)
    found = chosen_tasks(
        tasks="" if data is not None and tasks == "starter_*" else tasks,
        data=data,
        text=text,
        label=label,
        pair=pair,
        name=name,
        language=language,
        encoding=encoding,
        trust_code=trust_code,
    )
    timed = Timed(
        tasks=found,
        sources=sources,
        device=device,
        precision=precision,
        threads=threads,
        rows_at_once=options.batch_rows(batch_size),
        limit=limit,
        rounds=rounds,
        seconds=seconds,
        seed=seed,
        sweep=parse_sweeps(sweep),
        rates=rate,
        arrival=next(each for each in KNOWN if each == arrival),
        requirements=requirements,
    )
    specs = specs_of(chosen_models(model, offline=offline, token=token), runtime, timed)
    folder = out or options.next_folder("bench")
    with locked(folder):
        with progress_bars() as report:
            drops: Mapping[str, Mapping[str, QualityDrop]] = {}
            if any(each.name == "drop" for each in requirements):
                drops = drops_of(
                    specs,
                    tasks=found,
                    options=sources,
                    limit=limit,
                    seed=seed,
                    report=report,
                )
            compared = compare_variants(specs, measures=Isolated(), rounds=rounds, seed=seed, on_progress=report)
        judged = judge(requirements, records=compared.variants, drops=drops) if requirements else ()
        file = _write(compared, judged, require, folder)
    print_compared(compared)
    print(f"\nAll timings are in {file}.")
    if requirements:
        _tell(judged)


def _tell(judged: Sequence[Judged]) -> None:
    """The answer to --require.

    Raises:
        GateError: no variant fulfils it.
    """
    from lmtasks.bench.judge import cheapest, why_none

    print()
    print_judged(judged)
    best = cheapest(judged)
    if best is None:
        raise GateError(why_none(judged))
    others = sum(each.fulfils for each in judged) - 1
    among = f", the fewest core-seconds an answer of the {others + 1} that do" if others else ""
    print(f"\n{best.variant} fulfils all that is required{among}.")


def _write(compared: SpeedComparison, judged: Sequence[Judged], require: str, folder: Path) -> Path:
    from lmtasks.bench.judge import judged_json
    from lmtasks.files import write_record

    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "bench.json"
    write_record(
        file,
        {
            "schema": 2,
            "variants": list(compared.variants),
            "side_by_side": [{**asdict(row), "verdict": row.verdict} for row in compared.rows],
            "require": require,
            "judged": judged_json(judged),
        },
    )
    return file
