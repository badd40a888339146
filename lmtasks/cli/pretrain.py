"""`lmtasks pretrain`: text to backbone."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from lmtasks.cli.progress import progress_bars
from lmtasks.cli.values import data_options
from lmtasks.errors import UsageError
from lmtasks.progress_bars import quiet
from lmtasks.settings.base import Setting
from lmtasks.settings.bounds import POSITIVE
from lmtasks.settings.data import DataAccess
from lmtasks.settings.evaluation import Seed, Track
from lmtasks.settings.runs_on import Device
from lmtasks.settings.training import PretrainSettings, PretrainText

if TYPE_CHECKING:
    from lmtasks.training.heldout import HeldOut

STEPWISE = ("weights", "mix", "start", "beside", "objective", "teacher", "embeddings", "steps")
"""Settings that a family which counts its text has no use for."""


def command(
    *,
    corpus: PretrainText,
    out: Annotated[Path, Setting("Folder of the new backbone.", metavar="FOLDER")],
    training: PretrainSettings,
    device: Device = "cpu",
    seed: Seed = 1234,
    access: DataAccess,
    track: Track = None,
) -> None:
    """Train a backbone on text; the same command again goes on where it stopped."""
    from lmtasks.evaluation.processes import is_first
    from lmtasks.workflow.pretrain import CountRequest, PretrainRequest, count_backbone, counts_text, pretrain_backbone
    from lmtasks.workflow.track import check_tracker, track_training

    check_tracker(track)
    sources = data_options(access)
    if counts_text(corpus.backbone):
        counting = CountRequest(
            texts=corpus.data,
            out=out,
            column=corpus.text,
            encoding=corpus.encoding,
            family=corpus.backbone,
            vocabulary=corpus.vocabulary,
            tokenizer=corpus.tokenizer,
            seed=seed,
            data=sources,
            idle=tuple(
                f"--{name}" for name in STEPWISE if name in corpus.model_fields_set or name in training.model_fields_set
            ),
        )
        with progress_bars() as report:
            scores = count_backbone(counting, report=report)
        _print_scores(scores)
        print(f"The model is in {out}. Next: lmtasks eval --model {out} --tasks wikitext")
        return
    request = PretrainRequest(
        texts=corpus.data,
        out=out,
        column=corpus.text,
        encoding=corpus.encoding,
        shares=_shares(corpus.weights, len(corpus.data)),
        mix=_mix(corpus.mix, corpus.weights) if corpus.mix else {},
        family=corpus.backbone,
        vocabulary=corpus.vocabulary,
        tokenizer=corpus.tokenizer,
        window=corpus.window,
        settings=training.but({"floor": 0.0}) if training.decay == "wsd" else training,
        start=corpus.start,
        beside=corpus.beside,
        cool_now=corpus.start is not None and training.cooldown_steps > 0 and "steps" not in training.model_fields_set,
        objective=corpus.objective,
        hidden=corpus.hidden,
        teacher=corpus.teacher,
        teacher_weight=corpus.teacher_weight,
        embeddings=corpus.embeddings,
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
    if track is not None:
        track_training(track, out)


def _print_scores(scores: "Sequence[HeldOut]") -> None:
    for score in scores:
        bits = "" if score.bits_per_byte is None else f"   bits per byte {score.bits_per_byte:.4f}"
        print(f"  {score.source:35} perplexity {score.token_perplexity:9.2f}{bits}")


def _mix(items: Sequence[str], weights: str) -> dict[str, float]:
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
