"""`lmtasks bench`: speed and memory of variants side by side, on real rows of tasks, each in fresh processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from lmtasks.cli import options
from lmtasks.cli.bench_table import print_compared, print_judged
from lmtasks.cli.progress import progress_bars
from lmtasks.cli.values import data_options

if TYPE_CHECKING:
    from lmtasks.workflow.bench import Benched

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
    from lmtasks.bench.require import parse_requirements
    from lmtasks.bench.schedule import ARRIVALS as KNOWN
    from lmtasks.bench.sweep import parse_sweeps
    from lmtasks.workflow.bench import BenchRequest, bench_models
    from lmtasks.workflow.choose_tasks import TaskRequest

    request = BenchRequest(
        models=model,
        tasks=TaskRequest(
            tasks="" if data is not None and tasks == "starter_*" else tasks,
            data=data,
            text=text,
            label=label,
            pair=pair,
            name=name,
            language=language,
            encoding=encoding,
            trust_code=trust_code,
        ),
        data=data_options(data_root=data_root, offline=offline, token=token, drop_unlabelled=drop_unlabelled),
        runtimes=runtime,
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
        requirements=parse_requirements(require) if require else (),
        require=require,
        out=out,
    )
    with progress_bars() as report:
        benched = bench_models(request, report=report)
    print_compared(benched.compared)
    print(f"\nAll timings are in {benched.file}.")
    if benched.judged:
        _tell(benched)


def _tell(benched: Benched) -> None:
    """The answer to --require.

    Raises:
        GateError: no variant fulfils it.
    """
    print()
    print_judged(benched.judged)
    failure = benched.failure()
    if failure is not None:
        raise failure
    others = sum(each.fulfils for each in benched.judged) - 1
    among = f", the fewest core-seconds an answer of the {others + 1} that do" if others else ""
    print(f"\n{benched.best.variant if benched.best else ''} fulfils all that is required{among}.")
