"""Text to a backbone: trained step by step, or counted at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lmtasks.errors import UsageError
from lmtasks.files import locked

if TYPE_CHECKING:
    from lmtasks.data.documents import Document
    from lmtasks.records import Progress
    from lmtasks.settings.data import DataAccess
    from lmtasks.settings.training import TrainingSettings
    from lmtasks.training.heldout import HeldOut
    from lmtasks.training.loop import Trained


@dataclass(frozen=True, kw_only=True)
class CountRequest:
    """Text for a family that counts it once (`ngram`)."""

    texts: Sequence[str]
    """Files, folders of data sets, or Hub ids."""
    out: Path
    column: str = "text"
    encoding: str | None = None
    family: str
    vocabulary: int
    tokenizer: Path | None = None
    seed: int
    data: DataAccess
    idle: Sequence[str] = ()
    """Options that were given and say how a training goes on step by step."""


@dataclass(frozen=True, kw_only=True)
class PretrainRequest:
    """Text for a family that is trained step by step, and how."""

    texts: Sequence[str]
    out: Path
    column: str = "text"
    encoding: str | None = None
    shares: list[float] | None = None
    """Share of each text in training; None: by size."""
    mix: Mapping[str, float] = field(default_factory=dict)
    """Share of each source (column `source`), in place of shares of texts."""
    family: str
    vocabulary: int
    tokenizer: Path | None = None
    window: int
    settings: TrainingSettings
    start: Path | None = None
    beside: Path | None = None
    cool_now: bool = False
    objective: str | None = None
    hidden: float | None = None
    teacher: Path | None = None
    teacher_weight: float
    embeddings: Path | None = None
    device: str = "cpu"
    data: DataAccess


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """How a training ended, and its scores on held-out text."""

    trained: Trained
    scores: Sequence[HeldOut]


def counts_text(family: str) -> bool:
    """Is the family counted at once, without steps?"""
    from lmtasks.backbone.closed_form import is_fitted

    return is_fitted(family)


def count_backbone(request: CountRequest, *, report: Callable[[Progress], None]) -> Sequence[HeldOut]:
    """Count text and write the model folder.

    Raises:
        UsageError: the folder exists, or an option is about steps.
        WorkError: text cannot be read, or nothing can be written.
    """
    from lmtasks.data.documents import read_documents
    from lmtasks.training.closed_form import count_text

    if request.out.exists():
        raise UsageError(f"{request.out} exists already; give another --out.")
    if request.idle:
        raise UsageError(
            f"{request.idle[0]} says how a training goes on step by step, and {request.family} counts its text once."
        )
    with locked(request.out):
        return count_text(
            corpora=[
                read_documents(each, column=request.column, options=request.data, encoding=request.encoding)
                for each in request.texts
            ],
            family=request.family,
            vocabulary=request.vocabulary,
            seed=request.seed,
            out=request.out,
            report=report,
            tokenizer_folder=request.tokenizer,
        )


def pretrain_backbone(request: PretrainRequest, *, report: Callable[[Progress], None]) -> Pretrained | None:
    """Train a backbone into the request's folder; None where the same request has trained it before.

    Under a launcher of several processes all take part, and the first one writes.

    Raises:
        UsageError: the folder holds something else, or a setting does not fit.
        WorkError: text cannot be read, or another process writes the folder.
    """
    from accelerate import PartialState

    from lmtasks.data.documents import by_source, read_documents
    from lmtasks.runtime.memory import keep_freed_memory
    from lmtasks.training.pretrain import is_pretrained, pretrain

    out = request.out
    if out.exists():
        if not is_pretrained(out, family=request.family, window=request.window, settings=request.settings):
            raise UsageError(f"{out} exists already, and was not made by this command; give another --out.")
        return None
    read = [
        read_documents(each, column=request.column, options=request.data, encoding=request.encoding)
        for each in request.texts
    ]
    corpora: list[Iterable[Document]] = list(read)
    shares = request.shares
    if request.mix:
        corpora, shares = by_source(read, sources=tuple(request.mix)), list(request.mix.values())
    keep_freed_memory()
    work = out.with_name(out.name + ".work")
    state = PartialState(cpu=request.device == "cpu")  # of several processes the first one writes
    with ExitStack() as held:
        if state.is_main_process:
            held.enter_context(locked(out))
            held.callback(_draw, work, work=work, name=out.name)  # also when it is interrupted
        trained, scores = pretrain(
            corpora=corpora,
            weights=shares,
            family=request.family,
            vocabulary=request.vocabulary,
            window=request.window,
            settings=request.settings,
            out=out,
            report=report,
            tokenizer_folder=request.tokenizer,
            start=request.start,
            beside=request.beside,
            cool_now=request.cool_now,
            objective_name=request.objective,
            hidden=request.hidden,
            teacher=request.teacher,
            teacher_weight=request.teacher_weight,
            embeddings=request.embeddings,
            device=request.device,
            complete=lambda folder: _draw(folder, work=work, name=out.name),
        )
    return Pretrained(trained=trained, scores=scores)


def _draw(folder: Path, *, work: Path, name: str) -> None:
    """The curve of the training in `work` as a chart in the folder; none yet where that is not there."""
    from lmtasks.files import write_text
    from lmtasks.report.charts import draw_curve
    from lmtasks.training.curve import LOG, read_log, thinned

    records = thinned(read_log(work / LOG))
    if len(records) > 1:
        write_text(folder / "curve.svg", draw_curve(records, title=name, judged="held-out text"))
