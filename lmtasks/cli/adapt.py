"""`lmtasks adapt`: a backbone and tasks to a model."""

from __future__ import annotations

import shlex
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmtasks.cli import options
from lmtasks.cli.progress import progress_bars
from lmtasks.cli.values import asked_again, data_options
from lmtasks.errors import UsageError
from lmtasks.progress_bars import quiet

if TYPE_CHECKING:
    from lmtasks.settings.training import LoraSettings

METHODS = ("prompt", "probe", "full", "lora")


def command(
    backbone: Annotated[
        str,
        typer.Option(
            "--backbone",
            metavar="MODEL",
            help="Folder, shipped name, Hub id with @revision; or a family to train from nothing: cnn:width=128.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Folder of the new model.")],
    tasks: options.Tasks = "",
    data: options.Data = None,
    text: options.Text = "text",
    label: options.Label = None,
    pair: options.Pair = None,
    name: options.TaskName = None,
    language: options.Language = None,
    encoding: options.Encoding = None,
    drop_unlabelled: options.DropUnlabelled = False,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            metavar="KIND:SIZE",
            help="Of a new family: words:10000, bpe:8000, characters, ... (`lmtasks list tokenizers`), or a folder.",
        ),
    ] = None,
    vectors: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Word vectors (word2vec or GloVe text) that a new family starts from."),
    ] = None,
    from_scratch: Annotated[
        bool,
        typer.Option("--from-scratch", help="Take shape and tokenizer of the backbone, and begin with random weights."),
    ] = False,
    bidirectional: Annotated[
        bool,
        typer.Option(
            "--bidirectional",
            help="Let a causal backbone read both ways: an encoder, for labels, tags and spans; it writes no text.",
        ),
    ] = False,
    method: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            parser=options.one_of("--method", METHODS),
            help="prompt (nothing moves), probe (heads only), full (heads and backbone), lora (heads and adapters).",
        ),
    ] = "full",
    lora_rank: Annotated[
        int | None,
        typer.Option(
            "--lora-rank",
            metavar="NUMBER",
            parser=options.whole("--lora-rank", at_least=1),
            help="Rank of the adapters of --method lora; default: 16.",
        ),
    ] = None,
    lora_alpha: Annotated[
        float | None,
        typer.Option(
            "--lora-alpha",
            metavar="NUMBER",
            parser=options.number("--lora-alpha", at_least=0),
            help="Their strength, which is divided by the rank; default: twice the rank.",
        ),
    ] = None,
    lora_dropout: Annotated[
        float | None,
        typer.Option(
            "--lora-dropout",
            metavar="NUMBER",
            parser=options.number("--lora-dropout", at_least=0),
            help="Share of their input that is left out while they learn; default: 0.05.",
        ),
    ] = None,
    lora_points: Annotated[
        str | None,
        typer.Option(
            "--lora-points",
            metavar="ROLES",
            help="Where they stand: attention, feed-forward, or both with a comma between; default: both.",
        ),
    ] = None,
    epochs: Annotated[float, typer.Option(metavar="NUMBER", help="Passes over the training rows.")] = 4.0,
    minutes: Annotated[
        float | None, typer.Option(metavar="NUMBER", help="Training time at most; the schedule follows it.")
    ] = None,
    rows: Annotated[
        int | None,
        typer.Option(
            metavar="NUMBER",
            parser=options.whole("--rows", at_least=1),
            help="Training rows of each task at most, drawn by the seed.",
        ),
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(metavar="NUMBER", help="Peak learning rate; default: by the model's size.")
    ] = None,
    tokens_per_batch: Annotated[int, typer.Option(metavar="NUMBER", help="Tokens of a training batch.")] = 2048,
    window: Annotated[
        int,
        typer.Option(metavar="NUMBER", help="Tokens that a recurrent model learns from at once in a running text."),
    ] = 35,
    weight_decay: Annotated[float, typer.Option(metavar="NUMBER", help="Of AdamW, for matrices.")] = 0.05,
    label_smoothing: Annotated[
        float,
        typer.Option(metavar="SHARE", help="Of a right answer, that all answers divide; 0.1 is usual in translation."),
    ] = 0.0,
    evaluations: Annotated[
        int,
        typer.Option(
            metavar="NUMBER",
            parser=options.whole("--evaluations", at_least=1),
            help="How often the validation rows are looked at; the best weights are kept.",
        ),
    ] = 8,
    patience: Annotated[
        int, typer.Option(metavar="NUMBER", help="Evaluations without a gain before it stops; 0: it never does.")
    ] = 3,
    precision: Annotated[
        str, typer.Option(metavar="NAME", parser=options.one_of("--precision", ("fp32", "bf16")), help="fp32 or bf16.")
    ] = "fp32",
    device: options.Device = "cpu",
    seed: options.Seed = 1234,
    data_root: options.DataRoot = None,
    offline: options.Offline = False,
    token: options.Token = None,
    trust_code: options.TrustCode = False,
) -> None:
    """Train heads on a backbone for one task or several together; the same command again goes on where it stopped."""
    from lmtasks.evaluation.processes import is_first
    from lmtasks.settings.training import AdaptSettings
    from lmtasks.workflow.adapt import AdaptRequest, adapt_model, rows_set_aside
    from lmtasks.workflow.choose_tasks import TaskRequest, chosen_tasks
    from lmtasks.workflow.new_backbone import Start

    choice = TaskRequest(
        tasks=tasks,
        data=data,
        text=text,
        label=label,
        pair=pair,
        name=name,
        language=language,
        encoding=encoding,
        trust_code=trust_code,
    )
    chosen = chosen_tasks(choice, use="both" if choice.is_single else "train")
    sources = data_options(data_root=data_root, offline=offline, token=token, drop_unlabelled=drop_unlabelled)
    if choice.is_single:
        print(rows_set_aside(chosen[0], sources))
    request = AdaptRequest(
        start=Start(
            backbone=backbone,
            tokenizer=tokenizer,
            vectors=vectors,
            from_scratch=from_scratch,
            bidirectional=bidirectional,
        ),
        tasks=chosen,
        settings=AdaptSettings(
            method=method,  # type: ignore[arg-type]  # parsed above
            epochs=epochs,
            minutes=minutes,
            learning_rate=learning_rate,
            tokens_per_batch=tokens_per_batch,
            window=window,
            weight_decay=weight_decay,
            label_smoothing=label_smoothing,
            evaluations=evaluations,
            patience=patience,
            precision="bf16" if precision == "bf16" else "fp32",
            device=device,
            seed=seed,
            lora=_lora(method, rank=lora_rank, alpha=lora_alpha, dropout=lora_dropout, points=lora_points),
        ),
        data=sources,
        rows=rows,
        out=out,
    )
    first = is_first()  # of several processes one prints and writes
    with progress_bars() if first else nullcontext(quiet) as report:
        adapted = adapt_model(request, report=report)
    if not first:
        return
    if adapted.found:
        print(
            f"{out} is finished: it was adapted to these tasks with these settings before. Another --out adapts anew."
        )
        return
    if adapted.skipped:
        print(f"Not trained on, for want of a train split: {', '.join(adapted.skipped)}.")
    if adapted.trained is not None:
        trained = adapted.trained
        best = f", best validation score {trained.best:.4f} at step {trained.best_step}" if trained.best else ""
        print(f"{trained.steps} steps in {trained.seconds / 60:.1f} min (ended by {trained.stopped}){best}.")
    if adapted.weights is not None:
        print(f"{adapted.weights[0]:,} weights learned, of a model of {adapted.weights[1]:,}.")
    if adapted.truncated:
        print(f"{adapted.truncated} training texts were longer than the model takes and were cut.")
    asked = asked_again(
        tasks=tasks,
        data=data,
        text=text,
        label=label,
        pair=pair,
        name=name,
        language=language,
        encoding=encoding,
        drop_unlabelled=drop_unlabelled,
        data_root=data_root,
        offline=offline,
        trust_code=trust_code,
    )
    part = " --split test" if choice.is_single else ""
    print(f"The model is in {out}. Next: lmtasks eval --model {shlex.quote(str(out))} {asked}{part}")


def _lora(
    method: str, *, rank: int | None, alpha: float | None, dropout: float | None, points: str | None
) -> LoraSettings | None:
    """The settings of the adapters; None where nobody asked for any."""
    from lmtasks.settings.training import LoraSettings

    given = {"--lora-rank": rank, "--lora-alpha": alpha, "--lora-dropout": dropout, "--lora-points": points}
    asked = [option for option, value in given.items() if value is not None]
    if not asked:
        return None
    if method != "lora":
        raise UsageError(f"{asked[0]} goes with --method lora, was --method {method}.")
    default = LoraSettings()
    named = default.points if points is None else tuple(part.strip() for part in points.split(",") if part.strip())
    return LoraSettings(
        rank=default.rank if rank is None else rank,
        alpha=alpha,
        dropout=default.dropout if dropout is None else dropout,
        points=named,  # type: ignore[arg-type]  # unknown ones are refused there
    )
