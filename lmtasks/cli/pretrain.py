"""`lmtasks pretrain`: text to backbone."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from lmtasks.cli import options
from lmtasks.cli.progress import progress_bars
from lmtasks.cli.tasks import data_options
from lmtasks.errors import UsageError
from lmtasks.settings.bounds import POSITIVE, check_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from lmtasks.data.documents import Document
    from lmtasks.data.options import DataOptions
    from lmtasks.records import Progress
    from lmtasks.training.heldout import HeldOut
    from lmtasks.training.settings import Decay, OptimizerName

STEPS = 100_000


def command(
    data: Annotated[
        list[str],
        typer.Option("--data", metavar="TEXT", help="A file, a folder of a data set, or a Hub id; repeatable."),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Folder of the new backbone.")],
    text: Annotated[str, typer.Option(help="Column that holds the text.")] = "text",
    encoding: options.Encoding = None,
    weights: Annotated[str, typer.Option(help="Share of each --data in training, as 0.6,0.4; default: by size.")] = "",
    mix: Annotated[
        list[str] | None,
        typer.Option("--mix", metavar="SOURCE=SHARE", help="Share of each source (column source); repeatable."),
    ] = None,
    start: Annotated[
        Path | None, typer.Option(help="Begin from a backbone, or from the .work folder of another training.")
    ] = None,
    beside: Annotated[
        Path | None, typer.Option(help="Folder of an ngram backbone of the same text, to show its scores in the card.")
    ] = None,
    backbone: Annotated[str, typer.Option(help="Family and sizes.")] = "llama:width=256,layers=6,inner=640",
    objective: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            parser=options.one_of("--objective", ("causal", "masked", "mixed", "span-corruption")),
            help="causal, masked, mixed or span-corruption; default: what suits the family.",
        ),
    ] = None,
    hidden: Annotated[
        float | None,
        typer.Option(
            "--hide", metavar="SHARE", help="Of the tokens, that masked, mixed and span-corruption hide; default: 0.15."
        ),
    ] = None,
    vocabulary: Annotated[int, typer.Option(help="Tokens to learn.")] = 10_240,
    tokenizer: Annotated[Path | None, typer.Option(help="Folder of a tokenizer to use instead.")] = None,
    window: Annotated[int, typer.Option(help="Tokens per training row.")] = 512,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps at most; default: 100000.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Training time at most; the schedule follows it.")] = None,
    batch_rows: Annotated[int, typer.Option(help="Rows per optimizer step.")] = 16,
    accumulate: Annotated[
        int, typer.Option(help="Parts that the rows of a step are cut into; processes share them.")
    ] = 4,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 3e-3,
    schedule: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            parser=options.one_of("--schedule", ("cosine", "linear", "constant", "wsd")),
            help="cosine, linear, constant or wsd (warm-up, stable, cool-down).",
        ),
    ] = "cosine",
    warmup: Annotated[int, typer.Option(help="With wsd: first steps, in which the rate rises.")] = 200,
    cooldown: Annotated[
        int, typer.Option(help="With wsd: last steps, in which the rate falls; behind --start: all steps from there.")
    ] = 0,
    optimizer: Annotated[
        str,
        typer.Option(metavar="NAME", parser=options.one_of("--optimizer", ("adamw", "muon")), help="adamw or muon."),
    ] = "adamw",
    precision: Annotated[
        str, typer.Option(metavar="NAME", parser=options.one_of("--precision", ("fp32", "bf16")), help="fp32 or bf16.")
    ] = "fp32",
    compile_: Annotated[bool, typer.Option("--compile", help="Compile the model and its loss first.")] = False,
    evaluate_every: Annotated[int, typer.Option(help="Steps between evaluations on held-out text.")] = 200,
    checkpoint_every: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 100,
    device: options.Device = "cpu",
    seed: options.Seed = 1234,
    data_root: options.DataRoot = None,
    offline: options.Offline = False,
    token: options.Token = None,
) -> None:
    """Train a backbone on text; the same command again goes on where it stopped."""
    from lmtasks.backbone.closed_form import is_fitted
    from lmtasks.training.settings import BOUNDS

    check_all({"vocabulary": vocabulary, "window": window}, BOUNDS)
    if is_fitted(backbone):
        if out.exists():
            raise UsageError(f"{out} exists already; give another --out.")
        given = {
            "--weights": weights,
            "--mix": mix,
            "--start": start,
            "--beside": beside,
            "--objective": objective,
            "--steps": steps,
        }
        _count(
            data,
            out=out,
            text=text,
            encoding=encoding,
            family=backbone,
            vocabulary=vocabulary,
            tokenizer=tokenizer,
            seed=seed,
            sources=data_options(data_root=data_root, offline=offline, token=token),
            idle=[option for option, value in given.items() if value],
        )
        return
    from accelerate import PartialState

    from lmtasks.data.documents import by_source, read_documents
    from lmtasks.folder_lock import locked
    from lmtasks.runtime.memory import keep_freed_memory
    from lmtasks.training.pretrain import is_pretrained, pretrain
    from lmtasks.training.settings import TrainingSettings

    settings = TrainingSettings(
        steps=STEPS if steps is None else steps,
        minutes=minutes,
        learning_rate=learning_rate,
        batch_rows=batch_rows,
        accumulate=accumulate,
        decay=cast("Decay", schedule),
        floor=0.0 if schedule == "wsd" else 0.1,
        warmup_steps=warmup,
        cooldown_steps=cooldown,
        optimizer=cast("OptimizerName", optimizer),
        precision="bf16" if precision == "bf16" else "fp32",
        compile=compile_,
        evaluate_every=evaluate_every,
        checkpoint_every=checkpoint_every,
        seed=seed,
    )
    if out.exists():
        if not is_pretrained(out, family=backbone, window=window, settings=settings):
            raise UsageError(f"{out} exists already, and was not made by this command; give another --out.")
        print(f"{out} is finished: it was trained with these settings before. Another --out trains anew.")
        return
    sources = data_options(data_root=data_root, offline=offline, token=token)
    read = [read_documents(each, column=text, options=sources, encoding=encoding) for each in data]
    corpora: list[Iterable[Document]] = list(read)
    shares = _shares(weights, len(read))
    if mix:
        named = _mix(mix, weights)
        corpora, shares = by_source(read, sources=tuple(named)), list(named.values())
    keep_freed_memory()
    work = out.with_name(out.name + ".work")
    state = PartialState(cpu=device == "cpu")  # of several processes the first one prints and writes
    with ExitStack() as held:
        report: Callable[[Progress], None] = _nothing
        if state.is_main_process:
            held.enter_context(locked(out))
            report = held.enter_context(progress_bars())
            held.callback(_draw, work, work=work, name=out.name)  # also when it is interrupted
        trained, scores = pretrain(
            corpora=corpora,
            weights=shares,
            family=backbone,
            vocabulary=vocabulary,
            window=window,
            settings=settings,
            out=out,
            report=report,
            tokenizer_folder=tokenizer,
            start=start,
            beside=beside,
            cool_now=start is not None and cooldown > 0 and steps is None,
            objective_name=objective,
            hidden=hidden,
            device=device,
            complete=lambda folder: _draw(folder, work=work, name=out.name),
        )
    if not state.is_main_process:
        return
    print(f"{trained.steps} steps in {trained.seconds / 60:.1f} min (ended by {trained.stopped}).")
    _print_scores(scores)
    print(f"The backbone is in {out}. Next: lmtasks adapt --backbone {out} --tasks sst2 --out runs/mine")


def _count(
    data: list[str],
    *,
    out: Path,
    text: str,
    encoding: str | None,
    family: str,
    vocabulary: int,
    tokenizer: Path | None,
    seed: int,
    sources: "DataOptions",
    idle: list[str],
) -> None:
    """A family that counts its text once."""
    from lmtasks.data.documents import read_documents
    from lmtasks.folder_lock import locked
    from lmtasks.training.ngram_pretrain import count_text

    if idle:
        raise UsageError(f"{idle[0]} says how a training goes on step by step, and {family} counts its text once.")
    with locked(out), progress_bars() as report:
        scores = count_text(
            corpora=[read_documents(each, column=text, options=sources, encoding=encoding) for each in data],
            family=family,
            vocabulary=vocabulary,
            seed=seed,
            out=out,
            report=report,
            tokenizer_folder=tokenizer,
        )
    _print_scores(scores)
    print(f"The model is in {out}. Next: lmtasks eval --model {out} --tasks wikitext")


def _print_scores(scores: "Sequence[HeldOut]") -> None:
    for score in scores:
        bits = "" if score.bits_per_byte is None else f"   bits per byte {score.bits_per_byte:.4f}"
        print(f"  {score.source:35} perplexity {score.token_perplexity:9.2f}{bits}")


def _nothing(progress: "Progress") -> None:
    """The other processes say nothing."""


def _draw(folder: Path, *, work: Path, name: str) -> None:
    """The curve of the training in `work` as a chart in the folder; none yet where that is not there."""
    from lmtasks.files import write_text
    from lmtasks.report.curve import draw_curve
    from lmtasks.training.curve import LOG, read_log, thinned

    records = thinned(read_log(work / LOG))
    if len(records) > 1:
        write_text(folder / "curve.svg", draw_curve(records, title=name, judged="held-out text"))


def _mix(items: list[str], weights: str) -> dict[str, float]:
    if weights:
        raise UsageError("--mix and --weights both say how text is mixed; give one of them.")
    named: dict[str, float] = {}
    for item in items:
        source, _, share = item.rpartition("=")
        try:
            named[source] = float(share)
        except ValueError:
            named[source] = 0.0
        if not source or not POSITIVE.holds(named[source]):
            raise UsageError(f"--mix must be the name of a source, = and a positive number, was {item!r}.")
    return named


def _shares(text: str, count: int) -> list[float] | None:
    if not text:
        return None
    try:
        shares = [float(item) for item in text.split(",")]
    except ValueError:
        shares = []
    if len(shares) != count or not all(map(POSITIVE.holds, shares)):
        raise UsageError(f"--weights must be {count} positive numbers with commas between, was {text!r}.")
    return shares
