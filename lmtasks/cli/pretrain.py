"""`lmtasks pretrain`: text to backbone."""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from lmtasks.cli import options
from lmtasks.cli.progress import progress_bars
from lmtasks.cli.values import data_options
from lmtasks.errors import UsageError
from lmtasks.progress_bars import quiet
from lmtasks.settings.bounds import COUNT, POSITIVE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmtasks.settings.training import Decay, OptimizerName
    from lmtasks.training.heldout import HeldOut

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
    from lmtasks.evaluation.processes import is_first
    from lmtasks.settings.training import VOCABULARY, TrainingSettings
    from lmtasks.workflow.pretrain import CountRequest, PretrainRequest, count_backbone, counts_text, pretrain_backbone

    VOCABULARY.check("vocabulary", vocabulary)
    COUNT.check("window", window)
    sources = data_options(data_root=data_root, offline=offline, token=token)
    if counts_text(backbone):
        idle = {
            "--weights": weights,
            "--mix": mix,
            "--start": start,
            "--beside": beside,
            "--objective": objective,
            "--steps": steps,
        }
        counting = CountRequest(
            texts=data,
            out=out,
            column=text,
            encoding=encoding,
            family=backbone,
            vocabulary=vocabulary,
            tokenizer=tokenizer,
            seed=seed,
            data=sources,
            idle=tuple(option for option, value in idle.items() if value),
        )
        with progress_bars() as report:
            scores = count_backbone(counting, report=report)
        _print_scores(scores)
        print(f"The model is in {out}. Next: lmtasks eval --model {out} --tasks wikitext")
        return
    request = PretrainRequest(
        texts=data,
        out=out,
        column=text,
        encoding=encoding,
        shares=_shares(weights, len(data)),
        mix=_mix(mix, weights) if mix else {},
        family=backbone,
        vocabulary=vocabulary,
        tokenizer=tokenizer,
        window=window,
        settings=TrainingSettings(
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
        ),
        start=start,
        beside=beside,
        cool_now=start is not None and cooldown > 0 and steps is None,
        objective=objective,
        hidden=hidden,
        device=device,
        data=sources,
    )
    first = is_first()  # of several processes one prints and writes
    with progress_bars() if first else nullcontext(quiet) as report:
        pretrained = pretrain_backbone(request, report=report)
    if not first:
        return
    if pretrained is None:
        print(f"{out} is finished: it was trained with these settings before. Another --out trains anew.")
        return
    trained = pretrained.trained
    print(f"{trained.steps} steps in {trained.seconds / 60:.1f} min (ended by {trained.stopped}).")
    _print_scores(pretrained.scores)
    print(f"The backbone is in {out}. Next: lmtasks adapt --backbone {out} --tasks sst2 --out runs/mine")


def _print_scores(scores: "Sequence[HeldOut]") -> None:
    for score in scores:
        bits = "" if score.bits_per_byte is None else f"   bits per byte {score.bits_per_byte:.4f}"
        print(f"  {score.source:35} perplexity {score.token_perplexity:9.2f}{bits}")


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
