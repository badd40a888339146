"""Tasks and a backbone to a model: hands rows, heads and settings to the training, or to the fit of a family that needs
no steps."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from lmtasks.data.examples import HeadExamples, ReadingSettings, head_examples
from lmtasks.data.mirror import with_stand_ins
from lmtasks.data.sampling import label_reader
from lmtasks.data.splits import drawn, load_task_data
from lmtasks.errors import UsageError
from lmtasks.evaluation.processes import is_first
from lmtasks.head import HEADS
from lmtasks.records import TRAINING_ROWS, WRITING_HEAD, HeadSpec, Progress
from lmtasks.settings.attention import ATTENTION_IN_WORDS, Attention
from lmtasks.settings.data import DataAccess
from lmtasks.task.kinds import kind_of
from lmtasks.task.task import Task
from lmtasks.training.curve import LOG
from lmtasks.workflow.new_backbone import (
    PRETRAINED_BOTH_WAYS,
    RECIPE,
    Start,
    pretrained_both_ways,
    started_backbone,
    started_tokenizer,
)
from lmtasks.workflow.open_model import kept_features

if TYPE_CHECKING:
    from lmtasks.model.model import Model
    from lmtasks.settings.training import Adaptation, AdaptSettings
    from lmtasks.training.loop import Trained


@dataclass(frozen=True, kw_only=True)
class AdaptRequest:
    """Which backbone learns which tasks, and how."""

    start: Start
    tasks: tuple[Task, ...]
    settings: "AdaptSettings"
    data: DataAccess
    rows: int | None = None
    """Training rows of each task at most, drawn by the settings' seed; None: all."""
    out: Path
    cache: Path | None = None
    """The file in which features of a probe are kept; None: none is."""


@dataclass(frozen=True, kw_only=True)
class AdaptedModel:
    """A model folder, and what making it took."""

    folder: Path
    trained: "Trained | None" = None
    """None where nothing was trained step by step, or where it was found."""
    found: bool = False
    """Was it made by the same request before?"""
    skipped: tuple[str, ...] = ()
    """Tasks without a train split."""
    weights: tuple[int, int] | None = None
    """How many were trained, of how many."""
    truncated: int = 0
    """Training texts that were cut, over all tasks."""
    adapters: str = ""
    """Of `lora`: where adapters stand, and how much they hold, for people."""
    mixture: str = ""
    """Of several tasks: how many rows of each stood in a pass, for people."""
    features: tuple[int, int] | None = None
    """Of a probe: how many texts the backbone read, and the features of how many were found."""
    fits: Mapping[str, str] = field(default_factory=dict)
    """Of each task whose head is a logistic regression, how strong and how that was chosen, for people."""
    calibrations: Mapping[str, str] = field(default_factory=dict)
    """Of each task whose probabilities were brought into line with validation rows, how, for people."""
    attention: Mapping[str, Attention] = field(default_factory=dict)
    """How the backbone reads for each head that was trained, where it is read in more than one way."""
    words: Mapping[str, int] = field(default_factory=dict)
    """Of each head with weights of n-grams beside those of the backbone's states, how many n-grams."""


def adapt_model(request: AdaptRequest, *, report: Callable[[Progress], None]) -> AdaptedModel:
    """Adapt a backbone to tasks into the request's folder, or find there what the same request has made before.

    Under a launcher of several processes all take part, and the first one writes.

    Raises:
        UsageError: the folder holds something else, no task has training rows, or a setting does not fit.
        WorkError: another process writes the folder.
    """
    from lmtasks.files import locked
    from lmtasks.model.store import read_provenance

    learned = {task.name for task in trainable(request.tasks, request.settings.method)}
    out = request.out
    skipped = tuple(task.name for task in request.tasks if "train" not in task.sources and task.name not in learned)
    if out.exists():
        if not is_adapted(
            out,
            start=request.start,
            tasks=request.tasks,
            settings=request.settings,
            options=request.data,
            rows=request.rows,
        ):
            raise UsageError(f"{out} exists already, and was not made by this command; give another --out.")
        with locked(out):
            clear_work(out)
        return AdaptedModel(folder=out, found=True, skipped=skipped)
    with locked(out) if is_first() else nullcontext():
        trained = adapt_to_tasks(
            start=request.start,
            tasks=request.tasks,
            settings=request.settings,
            options=request.data,
            out=out,
            report=report,
            rows=request.rows,
            cache=request.cache,
        )
    provenance = read_provenance(out) if is_first() else {}
    weights, features = provenance.get("weights"), provenance.get("features")
    return AdaptedModel(
        folder=out,
        trained=trained,
        skipped=skipped,
        weights=(weights["trained"], weights["all"]) if isinstance(weights, dict) else None,
        truncated=_truncated_rows(provenance),
        adapters=_adapters(provenance),
        mixture=_mixture(provenance),
        features=(features["read"], features["found"]) if isinstance(features, dict) else None,
        fits=_fits(provenance),
        calibrations=_calibrations(provenance),
        attention=_attention_of_tasks(provenance),
        words=_words(provenance),
    )


def rows_set_aside(task: Task, data: DataAccess) -> str:
    """The rows of a single file that are not learned from, for people; empty where there are none.

    Raises:
        UsageError: it cannot be read, or holds too few rows to be divided.
    """
    from lmtasks.data.splits import load_task_data

    test = load_task_data(task, options=data, need=frozenset({"test"})).test
    if test is None:
        return ""
    return (
        f"Set aside to be scored: {test.where}; `eval --split test` scores them. A folder with "
        "train.* and test.* divides the rows your own way."
    )


def adapt_to_tasks(
    *,
    start: Start,
    tasks: Sequence[Task],
    settings: "AdaptSettings",
    options: DataAccess,
    out: Path,
    report: Callable[[Progress], None],
    rows: int | None = None,
    cache: Path | None = None,
) -> "Trained | None":
    """Adapt one backbone to several tasks together and write the model folder `out`.

    Args:
        start: the backbone; a new one is written to `out`.new first, and lies there until the model is done.
        tasks: those without a train split are left out.
        rows: training rows of each task at most, drawn by the settings' seed; None: all.
        cache: the file in which features of a probe are kept; None: none is.

    Raises:
        UsageError: no task has training rows, or a head or adapters do not fit the backbone.
    """
    learned = trainable([with_stand_ins(task, options=options) for task in tasks], settings.method)
    if not learned:
        names = ", ".join(task.name for task in tasks)
        raise UsageError(f"none of these tasks has a train split: {names}; adapt needs one that has.")
    if start.is_fitted:
        if not is_first():  # there are no steps to share
            return None

        fit_to_tasks(start=start, tasks=learned, settings=settings, options=options, out=out, report=report, rows=rows)
        return None
    from accelerate import PartialState

    from lmtasks.data.examples import HeadExamples, ReadingSettings
    from lmtasks.data.tokenizer import load_tokenizer
    from lmtasks.model.files import tokenizer_folder
    from lmtasks.model.model import Model
    from lmtasks.model.resolve import resolve
    from lmtasks.runtime.memory import keep_freed_memory
    from lmtasks.training.adapt import adapt

    check_attention(start, learned, settings.method)

    def vectors_of(model: Model, attention: Attention) -> HeadSpec:
        traits = model.backbone.traits
        own = model.card.vectors or HeadSpec(name="", kind="embedding", pooling=traits.pooling, width=traits.width)
        return replace(
            own,
            pooling=settings.pooling or own.pooling,
            attention=attention,
            query_prefix=own.query_prefix if settings.query_prefix is None else settings.query_prefix,
            text_prefix=own.text_prefix if settings.text_prefix is None else settings.text_prefix,
        )

    def untrained(model: Model) -> Sequence[HeadSpec]:
        there = {spec.name for spec in model.card.heads}
        own = vectors_of(model, _attention_of(model, start, learned, both_ways=both_ways))
        return [
            replace(own, name=task.name)
            for task in learned
            if HEADS.line(kind_of(task).head).vectors and task.name not in there
        ]

    def prepare(model: Model) -> Sequence[HeadExamples]:
        attention = _attention_of(model, start, learned, both_ways=both_ways)
        reading = ReadingSettings(
            tokenizer=load_tokenizer(model.folder),
            max_length=model.card.max_length_tokens,
            causal=model.card.attention == "causal",
            attention=attention,
            heads={spec.name: spec for spec in model.card.heads},
            decoder_start=model.card.decoder_start,
            pooling=settings.pooling or model.backbone.traits.pooling,
            vectors=vectors_of(model, attention),
            stateful=model.backbone.traits.stateful,
        )
        return task_examples(learned, reading=reading, options=options, seed=settings.seed, rows=rows, report=report)

    keep_freed_memory()  # a step frees as much as it takes: 7 % of one (LSTM of 200 over 10,000 words, one thread)
    if start.is_new and settings.method == "lora":
        raise UsageError(
            f"lora leaves the backbone as it is, and {start.backbone!r} would be made new with random weights; "
            "use full, or give a backbone that was trained."
        )
    new = out.with_name(out.name + ".new")
    with PartialState(cpu=settings.device == "cpu").main_process_first():  # the others then find it made
        backbone = started_backbone(
            start, tasks=learned, options=options, seed=settings.seed, rows=rows, folder=new, report=report
        )
    shape = backbone
    if start.from_scratch:  # random weights are read as those would be whose place they take
        shape = resolve(start.backbone, offline=options.offline, token=options.token)
    both_ways = pretrained_both_ways(shape)
    with kept_features(cache if settings.method == "probe" else None) as kept:
        trained = adapt(
            backbone=backbone,
            prepare=prepare,
            untrained=untrained,
            settings=settings,
            out=out,
            report=report,
            provenance={
                **_asked(start, learned, rows),
                "cleaning": list(load_tokenizer(tokenizer_folder(backbone)).cleaning),
                **({PRETRAINED_BOTH_WAYS: True} if both_ways else {}),
            },
            kept=kept,
            pretrained=not start.is_new,
        )
    if backbone == new and is_first():  # nothing refers to it any more; what else is called so belongs to somebody
        shutil.rmtree(new)
    return trained


def is_adapted(
    out: Path, *, start: Start, tasks: Sequence[Task], settings: "AdaptSettings", options: DataAccess, rows: int | None
) -> bool:
    """Does `out` hold the model that was adapted so?"""
    from lmtasks.model.store import read_provenance

    try:
        made = read_provenance(out)
    except (OSError, ValueError, KeyError, TypeError):
        return False
    learned = trainable([with_stand_ins(task, options=options) for task in tasks], settings.method)
    asked: dict[str, object] = {**_asked(start, learned, rows)}
    asked |= {"seed": settings.seed} if start.is_fitted else {"settings": settings.stored()}
    return bool(json.loads(json.dumps(asked)) == {name: made.get(name) for name in asked})


def clear_work(out: Path) -> None:
    """Remove what a kill between the model's last renaming and the end has left beside it."""
    for place, ours in ((out.with_name(out.name + ".work"), LOG), (out.with_name(out.name + ".new"), RECIPE)):
        if (place / ours).is_file():  # what else is called so belongs to somebody
            shutil.rmtree(place)


def trainable(tasks: Sequence[Task], method: "Adaptation") -> tuple[Task, ...]:
    """The tasks that have a train split, or that `prompt` gives a head without weights; those with changed rows are
    only scored."""
    return tuple(
        task
        for task in tasks
        if task.clean is None
        and ("train" in task.sources or (method == "prompt" and HEADS.line(kind_of(task).head).vectors))
    )


def fit_to_tasks(
    *,
    start: Start,
    tasks: Sequence[Task],
    settings: "AdaptSettings",
    options: DataAccess,
    out: Path,
    report: Callable[[Progress], None],
    rows: int | None = None,
) -> None:
    """Fit a new model to the training rows of tasks, and write the model folder `out`.

    Args:
        settings: the seed counts; a fit has no steps, so nothing else does.
        rows: training rows of each task at most, drawn by the seed; None: all.

    Raises:
        UsageError: what was asked does not go with the family, or the rows teach it nothing.
    """
    from lmtasks.data.examples import ReadingSettings
    from lmtasks.data.row_hashes import TrainingRows, write_training_rows
    from lmtasks.model.closed_form import FITTED, NO_LIMIT, parse_fitted, save_fitted
    from lmtasks.training.closed_form import fit_model, fitting_record

    family, _ = parse_fitted(start.backbone)
    if settings.method != "full":
        raise UsageError(f"{family} {FITTED[family].why_no_steps}: use --method full, was {settings.method}.")
    if settings.calibrate:
        raise UsageError(f"{family} {FITTED[family].why_no_steps}, and --calibrate goes with a model that is trained.")
    if start.vectors is not None:
        raise UsageError(f"{family} has no embeddings that could start from word vectors; leave --vectors out.")
    aside = out.with_name(out.name + ".new")
    shutil.rmtree(aside, ignore_errors=True)  # a fit has nothing that it could go on from
    tokenizer = started_tokenizer(
        start.tokenizer,
        default=_default_tokenizer(family, tasks),
        tasks=tasks,
        options=options,
        seed=settings.seed,
        rows=rows,
        folder=aside,
        report=report,
    )
    reading = ReadingSettings(tokenizer=tokenizer, max_length=NO_LIMIT, causal=True, stateful=True)
    heads = task_examples(tasks, reading=reading, options=options, seed=settings.seed, rows=rows, report=report)
    began = perf_counter()
    model = fit_model(
        start.backbone,
        heads,
        tokenizer=tokenizer,
        name=out.name,
        text_heads=frozenset(task.name for task in tasks if kind_of(task).answer in ("likelihood", "hypothesis")),
        report=report,
    )
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    provenance = {
        **_asked(start, tasks, rows),
        "cleaning": list(tokenizer.cleaning),
        "seed": settings.seed,
        "tasks": fitting_record(heads),
        "trained": {"steps": 0, "seconds": round(perf_counter() - began, 3), "stopped": "steps"},
    }
    save_fitted(model, part, tokenizer=aside, provenance=provenance)
    seen = TrainingRows()
    for head in heads:
        seen = seen.united(TrainingRows(learned=head.seen.learned))  # a fit chooses nothing
    write_training_rows(part / TRAINING_ROWS, seen)
    part.rename(out)
    shutil.rmtree(aside)


def task_examples(
    tasks: Sequence[Task],
    *,
    reading: ReadingSettings,
    options: DataAccess,
    seed: int,
    rows: int | None,
    report: Callable[[Progress], None],
) -> tuple[HeadExamples, ...]:
    """Training and validation examples of each task.

    Args:
        rows: training rows of each task at most, drawn by the seed; None: all.
    """
    prepared = []
    for number, task in enumerate(tasks):
        report(Progress(stage="read the tasks", done=number, total=len(tasks), unit="tasks", note=task.name))
        data = load_task_data(task, options=options, need=frozenset({"train", "validation"}), limit=None, seed=seed)
        prepared.append(head_examples(task, drawn(task, data, rows=rows, seed=seed), reading=reading))
    report(Progress(stage="read the tasks", done=len(tasks), total=len(tasks), unit="tasks"))
    return tuple(prepared)


def check_attention(start: Start, tasks: Sequence[Task], method: "Adaptation") -> None:
    """Refuse an attention that nothing can be read with, before anything is read or made; of a backbone that is there,
    it is asked once it is loaded.

    Raises:
        UsageError: no head is made, all heads write, or a family that is made new cannot read so.
    """
    from lmtasks.backbone.family import new_backbone
    from lmtasks.model.create import Vocabulary
    from lmtasks.model.model import WRITES

    if start.attention is None:
        return
    if method == "prompt" and not any(HEADS.line(kind_of(task).head).vectors for task in tasks):
        raise UsageError(
            "attention is how a backbone reads for its heads, and prompt makes none; leave --attention out."
        )
    writers = [task.name for task in tasks if not HEADS.line(kind_of(task).head).predicts]
    if start.attention == "both" and len(writers) == len(tasks):
        raise UsageError(WRITES.format(name=", ".join(writers)))
    if start.is_family:
        few = Vocabulary(size=8, bos=0, eos=0, pad=1)
        new_backbone(start.backbone, few).check_attention(start.attention)


def _attention_of(model: "Model", start: Start, tasks: Sequence[Task], *, both_ways: bool) -> Attention:
    """How the backbone reads for new heads that do not write.

    Args:
        both_ways: was a causal backbone pretrained so?

    Raises:
        UsageError: it cannot read as was asked, or a head that is there has learned to be read otherwise.
    """
    if start.attention is None:
        return "both" if both_ways else model.backbone.attention
    model.backbone.check_attention(start.attention)
    names = {task.name for task in tasks}
    for spec in model.card.heads:
        if spec.name in names and spec.predicts and model.card.attention_of(spec) != start.attention:
            raise UsageError(
                f"head {spec.name!r} of {start.backbone} has learned to read "
                f"{ATTENTION_IN_WORDS[model.card.attention_of(spec)]}, and goes on so; leave --attention out, or give "
                "the backbone that it was adapted from."
            )
    return start.attention


def _attention_of_tasks(provenance: Mapping[str, object]) -> Mapping[str, Attention]:
    """By head of a model's record; nothing where all are read causally, or by an encoder."""
    tasks = provenance.get("tasks")
    found = {name: task.get("attention") for name, task in tasks.items()} if isinstance(tasks, dict) else {}
    return found if len(set(found.values())) > 1 or "both" in found.values() else {}


def _words(provenance: Mapping[str, object]) -> Mapping[str, int]:
    """By head of a model's record; those that have none are left out."""
    tasks = provenance.get("tasks")
    return {name: task["words"] for name, task in tasks.items() if "words" in task} if isinstance(tasks, dict) else {}


def _truncated_rows(provenance: Mapping[str, object]) -> int:
    """Training texts that were cut, over all tasks of a model's record."""
    tasks = provenance.get("tasks")
    return sum(int(task["truncated"]) for task in tasks.values()) if isinstance(tasks, dict) else 0


def _adapters(provenance: Mapping[str, object]) -> str:
    stored = provenance.get("adapters")
    if not isinstance(stored, dict):
        return ""
    beside = ", ".join(f"{count} of {role}" for role, count in stored["matrices"].items())
    return (
        f"adapters of rank {stored['rank']} beside {sum(stored['matrices'].values())} matrices ({beside}): "
        f"{stored['numbers']:,} numbers, {100 * stored['share']:.1f} % of the backbone's"
    )


def _mixture(provenance: Mapping[str, object]) -> str:
    stored = provenance.get("mixture")
    if not isinstance(stored, dict):
        return ""
    return f"{stored['by']}; rows in a pass: " + ", ".join(f"{name} {rows:,}" for name, rows in stored["rows"].items())


def _calibrations(provenance: Mapping[str, object]) -> Mapping[str, str]:
    stored = provenance.get("calibration")
    return {
        name: f"temperature {each['temperature']:.2f}, fitted on {each['rows']:,} validation "
        f"{'row' if each['rows'] == 1 else 'rows'}: expected calibration error {each['ece_before']:.3f} before, "
        f"{each['ece_after']:.3f} after"
        for name, each in (stored.items() if isinstance(stored, dict) else ())
    }


def _fits(provenance: Mapping[str, object]) -> Mapping[str, str]:
    tasks = provenance.get("tasks")
    return {
        name: f"C = {task['strength']:.2g}" + (f", chosen on {task['chosen_on']}" if task["chosen_on"] else "")
        for name, task in (tasks.items() if isinstance(tasks, dict) else ())
        if "strength" in task
    }


def _asked(start: Start, tasks: Sequence[Task], rows: int | None) -> Mapping[str, object]:
    by_label = rows is not None and any(label_reader(task) is not None for task in tasks)
    return {
        "task_hashes": {task.name: task.hash for task in tasks},
        "start": start.told(),
        "rows_at_most": rows,
        **({"rows_drawn": "by label"} if by_label else {}),  # earlier versions drew from all rows alike
    }


def _default_tokenizer(family: str, tasks: Sequence[Task]) -> str:
    """The family's own tokenizer for these tasks."""
    from lmtasks.model.closed_form import FITTED

    predicts = any(kind_of(task).head == WRITING_HEAD for task in tasks)
    return (FITTED[family].text_tokenizer if predicts else "") or FITTED[family].tokenizer
