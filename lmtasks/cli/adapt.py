"""`lmtasks adapt`: a backbone and tasks to a model."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmtasks.cli import options
from lmtasks.cli.progress import progress_bars
from lmtasks.cli.tasks import asked_again, chosen_tasks, data_options
from lmtasks.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmtasks.data.options import DataOptions
    from lmtasks.model.lora import LoraSettings
    from lmtasks.records import Progress
    from lmtasks.task.task import Task

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
    from lmtasks.folder_lock import locked
    from lmtasks.model.store import read_provenance
    from lmtasks.training.adapt import AdaptSettings
    from lmtasks.workflow.adapt import adapt_to_tasks, clear_work, is_adapted, trainable
    from lmtasks.workflow.new_backbone import Start

    chosen = chosen_tasks(
        tasks=tasks,
        data=data,
        text=text,
        label=label,
        pair=pair,
        name=name,
        language=language,
        encoding=encoding,
        trust_code=trust_code,
        use="both" if data is not None and data.is_file() else "train",
    )
    sources = data_options(data_root=data_root, offline=offline, token=token, drop_unlabelled=drop_unlabelled)
    if data is not None and data.is_file():
        _tell_set_aside(chosen[0], sources)
    settings = AdaptSettings(
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
    )
    start = Start(
        backbone=backbone,
        tokenizer=tokenizer,
        vectors=vectors,
        from_scratch=from_scratch,
        bidirectional=bidirectional,
    )
    if out.exists():
        if not is_adapted(out, start=start, tasks=chosen, settings=settings, options=sources, rows=rows):
            raise UsageError(f"{out} exists already, and was not made by this command; give another --out.")
        with locked(out):
            clear_work(out)
        print(
            f"{out} is finished: it was adapted to these tasks with these settings before. Another --out adapts anew."
        )
        return
    with ExitStack() as held:
        report: Callable[[Progress], None] = _nothing
        if is_first():  # of several processes one prints and writes
            held.enter_context(locked(out))
            report = held.enter_context(progress_bars())
        trained = adapt_to_tasks(
            start=start,
            tasks=chosen,
            settings=settings,
            options=sources,
            out=out,
            report=report,
            rows=rows,
        )
    if not is_first():
        return
    skipped = [task.name for task in chosen if task not in trainable(chosen)]
    if skipped:
        print(f"Not trained on, for want of a train split: {', '.join(skipped)}.")
    if trained is not None:
        best = f", best validation score {trained.best:.4f} at step {trained.best_step}" if trained.best else ""
        print(f"{trained.steps} steps in {trained.seconds / 60:.1f} min (ended by {trained.stopped}){best}.")
    weights = read_provenance(out).get("weights")
    if isinstance(weights, dict):
        print(f"{weights['trained']:,} weights learned, of a model of {weights['all']:,}.")
    cut = truncated_rows(read_provenance(out))
    if cut:
        print(f"{cut} training texts were longer than the model takes and were cut.")
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
    part = " --split test" if data is not None and data.is_file() else ""
    print(f"The model is in {out}. Next: lmtasks eval --model {shlex.quote(str(out))} {asked}{part}")


def _tell_set_aside(task: Task, sources: DataOptions) -> None:
    """What is not learned from, of a single file.

    Raises:
        UsageError: it cannot be read, or holds too few rows to be divided.
    """
    from lmtasks.data.splits import load_task_data

    test = load_task_data(task, options=sources, need=frozenset({"test"})).test
    if test is not None:
        print(
            f"Set aside to be scored: {test.where}; `eval --split test` scores them. A folder with "
            "train.* and test.* divides the rows your own way."
        )


def _nothing(progress: Progress) -> None:
    """The other processes say nothing."""


def _lora(
    method: str, *, rank: int | None, alpha: float | None, dropout: float | None, points: str | None
) -> LoraSettings | None:
    """The settings of the adapters; None where nobody asked for any."""
    from lmtasks.model.lora import LoraSettings

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


def truncated_rows(provenance: Mapping[str, object]) -> int:
    """Training texts that were cut, over all tasks of a model's record."""
    tasks = provenance.get("tasks")
    return sum(int(task["truncated"]) for task in tasks.values()) if isinstance(tasks, dict) else 0
