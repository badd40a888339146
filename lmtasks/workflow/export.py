"""A model to an ONNX package, kept only if it is proved equal to the model and rounding costs no more than allowed;
and n-gram models to and from ARPA files."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lmtasks.backbone.arpa import END, read_arpa, write_arpa
from lmtasks.backbone.ngram import NEVER
from lmtasks.data.continuation import end_tokens
from lmtasks.data.tokenizer import END_OF_TEXT, PADDING, SEPARATOR, load_tokenizer
from lmtasks.data.vocabulary import UNKNOWN, tokenizer_of_words
from lmtasks.errors import UsageError
from lmtasks.files import locked
from lmtasks.model.closed_form import FittedModel, Ngram, NgramSizes, fitted_family, load_fitted, save_fitted
from lmtasks.model.files import tokenizer_folder
from lmtasks.model.resolve import resolve
from lmtasks.settings.data import DataAccess
from lmtasks.settings.models import PROOF_SECONDS
from lmtasks.training.closed_form import fitted_card
from lmtasks.workflow.choose_tasks import TaskRequest, chosen_tasks

if TYPE_CHECKING:
    from lmtasks.export.package import Package
    from lmtasks.export.ranges import CalibrationRow
    from lmtasks.prove.gate import Gated
    from lmtasks.prove.parity import Parity
    from lmtasks.records import Progress
    from lmtasks.settings.data import DataAccess
    from lmtasks.task.task import Task

CALIBRATED = "int8-static"
PROOF_TASKS = "starter_paragraphs_*"
TEXTS = 12
"""Texts that the answers are compared on."""
LINE = "%0A"
"""How the end of a line is written where `</s>` is the end of a text."""


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """Which model is exported, and on what it is proved."""

    model: str
    out: Path
    precision: str = "fp32"
    runtime: str = "onnx"
    """What is to run the package; it is proved there."""
    tasks: TaskRequest = field(default_factory=TaskRequest)
    """Nothing chosen: the proof is on embedded texts."""
    data: DataAccess
    max_drop: float | None = None
    """Points of the main metric that rounding may cost on validation rows; None: it is not measured."""
    label_names: Mapping[str, str] = field(default_factory=dict)
    limit: int | None = None
    """Validation rows of each task at most, for `max_drop`."""
    threads: int | None = None
    force: bool = False
    """Also in a precision that the processor emulates."""
    proof_seconds: float | None = PROOF_SECONDS
    """Budget of the proof; None: all cases are proved, whatever they take."""

    def __post_init__(self) -> None:
        if self.max_drop is None and (self.limit is not None or self.label_names):
            raise UsageError("--limit and --label-map are about --max-drop, which is not given.")
        if self.max_drop is not None and not self.is_about_tasks:
            raise UsageError(
                "--max-drop is measured on tasks; name them with --tasks, or give --data, --text and --label."
            )

    @property
    def is_about_tasks(self) -> bool:
        """Were tasks or data chosen?"""
        return bool(self.tasks.tasks) or self.tasks.data is not None


@dataclass(frozen=True, kw_only=True)
class ExportedModel:
    """A package, and how it was proved."""

    package: Package
    parity: Parity
    gated: Gated | None = None
    """Cost of rounding, where it was measured."""


def export_model(request: ExportRequest, *, report: Callable[[Progress], None]) -> ExportedModel:
    """Export a model and prove it.

    Raises:
        UsageError: the model is a package already, or an option does not fit.
        WorkError: the package does not answer as the model does; nothing is kept.
        GateError: rounding costs more than is allowed; nothing is kept.
    """
    from lmtasks.export.emit import check_precision
    from lmtasks.export.package import is_package, load_package
    from lmtasks.model.resolve import resolve
    from lmtasks.model.store import card_of
    from lmtasks.prove.export import export_and_prove
    from lmtasks.workflow.calibration import calibration_rows
    from lmtasks.workflow.quality_gate import gate_of

    data = request.data
    folder = resolve(request.model, offline=data.offline, token=data.token)
    if is_package(folder):
        raise UsageError(f"{request.model} is exported already; give the model folder that it was made from.")
    choice = request.tasks if request.is_about_tasks else replace(request.tasks, tasks=PROOF_TASKS)
    tasks = chosen_tasks(choice, use="both" if choice.is_single else "score")
    texts = proof_texts(tasks, data)
    with locked(request.out):
        gate = None
        if request.max_drop is not None:
            gate = gate_of(
                tasks,
                model=folder,
                most=request.max_drop,
                options=data,
                report=report,
                limit=request.limit,
                threads=request.threads,
                label_names=request.label_names,
            )
        rows: Sequence[CalibrationRow] = ()
        if request.precision == CALIBRATED:
            check_precision(request.precision, card_of(folder), runtime=request.runtime)
            if not request.is_about_tasks:
                raise UsageError(
                    f"{CALIBRATED} measures its scales on real rows; name --tasks with training rows, or give --data "
                    "FILE --text COLUMN."
                )
            rows = calibration_rows(tasks, model=folder, options=data, own=request.tasks.data is not None)
        proved = export_and_prove(
            folder,
            out=request.out,
            precision=request.precision,
            texts=texts,
            threads=request.threads,
            report=report,
            gate=gate,
            rows=rows,
            runtime=request.runtime,
            force=request.force,
            proof_seconds=request.proof_seconds,
        )
    return ExportedModel(package=load_package(request.out), parity=proved.parity, gated=proved.gated)


def is_arpa(file: Path) -> bool:
    """Is it an ARPA file, by its name?"""
    return file.name.endswith((".arpa", ".arpa.gz"))


def model_to_arpa(ref: str, out: Path, *, data: DataAccess) -> Ngram:
    """Write the n-grams of a model to the file `out`.

    Args:
        ref: a folder, a shipped name or a Hub id.

    Raises:
        UsageError: the folder holds no n-grams of a text, or `out` exists.
    """
    folder = resolve(ref, offline=data.offline, token=data.token)
    model = load_fitted(folder).text if fitted_family(folder) == "ngram" else None
    if model is None:
        raise UsageError(f"{folder} is no n-gram model of a text, and ARPA files hold no others; give --out a folder.")
    _check_free(out)
    tokenizer = load_tokenizer(tokenizer_folder(folder))
    aside = out.with_name(f"part.{out.name}")
    write_arpa(model, aside, words=[str(tokenizer.raw.id_to_token(token)) for token in range(model.vocabulary)])
    aside.rename(out)
    return model


def arpa_to_model(file: Path, out: Path) -> Ngram:
    """Make the model folder `out` of a file, whatever tool wrote it. Its tokens are the file's words, cut at blanks;
    `</s>` is the end of a line. Where the file has no `<unk>`, words that it lacks have a probability of 1e-99.

    Raises:
        UsageError: the file is damaged, or `out` exists.
    """
    _check_free(out)
    ngram, names = read_arpa(file, also=(END_OF_TEXT, PADDING, SEPARATOR, UNKNOWN))
    words = [name.replace(LINE, "\n") for name in names]
    if LINE not in names:
        words[names.index(END)] = "\n"
    tokenizer = tokenizer_of_words(words)
    ends = tuple(sorted({*ngram.ends, *end_tokens(tokenizer, lines=LINE not in names)}))
    ngram = replace(ngram, ends=ends)
    sizes = NgramSizes(order=ngram.order, lines=int(LINE not in names))
    model = FittedModel(
        card=fitted_card("ngram", name=out.name, tokenizer=tokenizer, predicts=True),
        sizes=sizes,
        ends=ends,
        text=ngram,
    )
    aside, part = out.with_name(out.name + ".new"), out.with_name(out.name + ".part")
    for folder in (aside, part):
        shutil.rmtree(folder, ignore_errors=True)
    aside.mkdir(parents=True)
    tokenizer.save(aside)
    unknown = bool(ngram.levels[0].logprobs[words.index(UNKNOWN)] > NEVER / 2)
    save_fitted(
        model,
        part,
        tokenizer=aside,
        provenance={
            "file": file.name,
            "knows_unknown_words": unknown,
            "ngrams": [len(level.keys) for level in ngram.levels],
        },
    )
    part.rename(out)
    shutil.rmtree(aside)
    return ngram


def proof_texts(tasks: Sequence[Task], data: DataAccess) -> tuple[str, ...]:
    """Texts of several lengths from the tasks' scored rows: an export is proved on what it will meet.

    Raises:
        UsageError: the rows hold no text.
    """
    from lmtasks.data.splits import load_task_data
    from lmtasks.task.kinds import baseline_source, head_input, kind_of

    texts: set[str] = set()
    each = max(2, -(-TEXTS // len(tasks)))
    for task in tasks:
        found = load_task_data(task, options=data, need=frozenset({"test"}), limit=each)
        assert found.test is not None  # it was needed
        for number, row in enumerate(found.test.rows):
            text = baseline_source(task, row)
            if not text.strip() and kind_of(task).roles:  # words to be tagged are no source of anything
                text = head_input(task, row, row_number=number, labelled=False).first
            texts.add(text)
    longest_first = sorted((text for text in texts if text.strip()), key=lambda text: (-len(text), text))
    if not longest_first:
        raise UsageError("the tasks' rows hold no text that the answers could be compared on; name other --tasks.")
    return tuple(longest_first[:: max(1, len(longest_first) // TEXTS)][:TEXTS])


def _check_free(out: Path) -> None:
    if out.exists():
        raise UsageError(f"{out} exists; give another --out, or delete it.")
