"""Backbone and tasks to model: heads are added and trained, alone over features (`probe`), with the backbone (`full`),
or with adapters in it (`lora`).

Several tasks train together: the backbone or its adapters move for all of them, each head for its own. What is chosen
for them is chosen beforehand (`adapt_plan`).
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter

import torch
from accelerate import PartialState

from lmtasks.data.examples import HeadExamples
from lmtasks.data.row_hashes import TrainingRows, read_training_rows, write_training_rows
from lmtasks.errors import UsageError
from lmtasks.head import head_of
from lmtasks.head.base import IGNORED
from lmtasks.model.adapters import Adapted, LoraShape, adapted_of, add_lora, check_lora, take_lora
from lmtasks.model.model import Model
from lmtasks.model.store import load_model, save_model, training_rows_file
from lmtasks.records import TRAINING_ROWS, HeadSpec, Progress
from lmtasks.settings.training import AdaptSettings, LoraSettings, ProbeSettings, TrainingSettings
from lmtasks.training.adapt_plan import AdaptPlan, check_head, plan_adaptation
from lmtasks.training.checkpoint import replace_folder
from lmtasks.training.curve import LOG
from lmtasks.training.features import FeatureReader, KeptBytes, collate
from lmtasks.training.judging import calibrate_heads, judge_heads
from lmtasks.training.loop import Trained, train
from lmtasks.training.probe import FeatureProbe, FittedLayer
from lmtasks.training.stepping import Batch
from lmtasks.training.tbptt import TbpttModule
from lmtasks.training.validation import Validation

HEAD_STRENGTH, LEAST_BIAS = 0.03, -10.0
"""C of the logistic regression that new heads begin with; and their logit of a class without rows."""


def adapt(
    *,
    backbone: Path,
    prepare: Callable[[Model], Sequence[HeadExamples]],
    untrained: Callable[[Model], Sequence[HeadSpec]] = lambda model: (),
    settings: AdaptSettings,
    out: Path,
    report: Callable[[Progress], None],
    validate: Callable[[Model], float] | None = None,
    provenance: Mapping[str, object] | None = None,
    kept: KeptBytes | None = None,
    pretrained: bool = True,
) -> Trained | None:
    """Train heads on a backbone and write a model folder; None for `prompt`, where nothing moves.

    Several processes (torchrun) share the rows of each batch: the loss is still the batch's own mean, so that the model
    is that of one process, but for what dropout draws and the last bits. The first one writes.

    Until it is done, its checkpoint lies in `out`.work; then the model's folder keeps the loss by step.

    Args:
        backbone: a model folder or a transformers folder.
        prepare: makes the rows of each head, given the loaded model (its tokenizer, its longest input).
        untrained: heads without weights that `prompt` gives it.
        validate: judges the model for early stopping, higher is better; default: `score_heads` on validation rows.
        provenance: what to keep beside the training's own record in model.json.
        kept: where the features of a probe are found and left; None: they are computed anew.
        pretrained: has the backbone been trained, or are its weights random?

    Raises:
        UsageError: a head or adapters that the backbone cannot carry, or a task without training rows.
    """
    model = load_model(backbone)
    lora = (settings.lora or LoraSettings()) if settings.method == "lora" else None
    if lora is not None:
        check_lora(model, lora)
    model.card = replace(model.card, name=out.name, adaptation=settings.method)
    record: dict[str, object] = {
        "backbone": {"name": backbone.name, "weights_hash": model.card.weights_hash},
        "settings": settings.stored(),
        **(provenance or {}),
    }
    seen = read_training_rows(training_rows_file(backbone)) or TrainingRows()
    state = PartialState(cpu=settings.device == "cpu")
    if settings.method == "prompt":
        model.add_heads(untrained(model))
        if state.is_main_process:
            _save(model, out, record, seen=seen)
        return None
    heads = list(prepare(model))
    if settings.calibrate and not any(head_of(head.head).softmax for head in heads):
        raise UsageError("--calibrate is about probabilities of labels and tags, and no task here has any.")
    for head in heads:
        check_head(model, head)
    torch.manual_seed(settings.seed)
    new = frozenset(head.head.name for head in heads) - {spec.name for spec in model.card.heads}
    model.add_heads([head.head for head in heads if head.head.name in new])
    size = sum(parameter.numel() for parameter in model.parameters())
    plan = plan_adaptation(model, heads, settings, new=new, pretrained=pretrained)
    shape, adapted = None, None
    if lora is not None:
        shape = add_lora(model, lora)
    moving = _freeze(model, settings)
    for head in plan.heads:
        seen = seen.united(head.seen)
    work = out.with_name(out.name + ".work")
    probe = _probe(model, plan, settings=settings, kept=kept, report=report) if settings.method == "probe" else None
    if plan.begun:
        begun = [head for head in plan.heads if head.head.name in plan.begun]
        _begin_heads(model, begun, settings=settings, report=report)
    fitted: Mapping[str, FittedLayer] = {}
    if probe is not None and plan.fitted:
        began = perf_counter()
        fitted = probe.fit(
            strength=(settings.probe or ProbeSettings()).strength, seed=settings.seed, words=settings.words != "no"
        )
        best = probe.judge().value
        trained = Trained(steps=0, seconds=perf_counter() - began, best=best, best_step=0, stopped="fitted")
    else:
        record.update(plan.record())
        said = plan.in_words(minutes=settings.minutes)
        report(Progress(stage="train", done=0, total=len(plan.steps), unit="steps", finished=said))
        trained = _trained(model, plan, probe=probe, settings=settings, folder=work, validate=validate, report=report)
    if probe is not None:
        trained = replace(trained, seconds=trained.seconds + probe.reader.seconds)
        record["features"] = {"read": probe.reader.computed, "found": probe.reader.found}
    if not state.is_main_process:
        return trained
    record["trained"] = asdict(trained)
    grown = sum(spec.words * len(spec.labels) for spec in map(model.spec, (head.head.name for head in plan.heads)))
    record["weights"] = {"trained": moving + grown, "all": size + grown}
    record["tasks"] = {
        head.head.name: {
            "rows": len(head.train),
            "validation_rows": len(head.validation),
            "truncated": head.truncated,
            **({"unaligned": head.unaligned} if head.unaligned else {}),
            **({"attention": head.head.attention} if head.head.attention is not None else {}),
            **({"words": count} if (count := model.spec(head.head.name).words) else {}),
            **_strength(fitted.get(head.head.name)),
        }
        for head in plan.heads
    }
    if settings.calibrate:
        record["calibration"] = {name: each.json() for name, each in calibrate_heads(model, plan.heads).items()}
    if lora is not None and shape is not None:
        record["adapters"] = dict(shape.stored())
        adapted = _adapted(model, shape, lora, backbone)
    _save(model, out, record, seen=seen, adapted=adapted, log=None if fitted else work / LOG)
    shutil.rmtree(work, ignore_errors=True)
    return trained


def _trained(
    model: Model,
    plan: AdaptPlan,
    *,
    probe: FeatureProbe | None,
    settings: AdaptSettings,
    folder: Path,
    validate: Callable[[Model], float] | None,
    report: Callable[[Progress], None],
) -> Trained:
    """Train the heads step by step, over features or with the model.

    Args:
        folder: of the checkpoint and the log.
    """
    heads, streams, steps = plan.heads, plan.streams, plan.steps
    parts = PartialState(cpu=settings.device == "cpu").num_processes
    if streams and parts > 1:
        raise UsageError(
            f"{model.card.family} carries its state through a running text, and learns from it in one process, was "
            f"{parts}; start it without torchrun."
        )
    pad_id = model.backbone.traits.pad
    places = [[spec.name for spec in model.card.heads].index(head.head.name) for head in heads]

    def batch_at(step: int, part: int) -> Batch:
        number, rows = steps[step]
        if number in streams:
            batch = streams[number].batch(rows[0])
        else:
            own = rows[part::parts] or rows[:1]
            examples = [heads[number].train[row] for row in own]
            batch = collate(examples, pad_id=pad_id) if probe is None else probe.batch(number, own)
            if parts > 1:
                batch = {**batch, "share": torch.tensor(_share(heads[number], rows, part=part, parts=parts))}
        return {**batch, "head": torch.tensor(number), "place": torch.tensor(places[number])}

    def judge() -> Validation:
        if validate is not None:
            return Validation(value=validate(model))
        return judge_heads(model, heads, pad_id=pad_id, judged=plan.pace.judged) if probe is None else probe.judge()

    return train(
        module=TbpttModule(model, streams, smoothing=settings.label_smoothing) if probe is None else probe.module,
        loss=lambda runner, batch: runner(batch),
        batch_at=batch_at,
        settings=TrainingSettings(
            steps=len(steps),
            minutes=settings.minutes,
            learning_rate=plan.learning_rate,
            batch_rows=parts,
            accumulate=parts,
            warmup=0.1,
            floor=0.02,
            decay="linear",
            weight_decay=settings.weight_decay,
            betas=(0.9, 0.99),
            precision=settings.precision,
            evaluate_every=-(-len(steps) // plan.pace.looks),
            patience=settings.patience,
            seed=settings.seed,
        ),
        folder=folder,
        data_key=f"{model.card.weights_hash} {settings.stored()} {[head.fingerprint for head in heads]}",
        validate=judge,
        learned_at=lambda step: heads[steps[step][0]].head.name,
        higher_is_better=True,
        report=report,
        device=settings.device,
        partly=True,
        judge_first=plan.judge_first,
    )


def _strength(fitted: FittedLayer | None) -> Mapping[str, object]:
    return {} if fitted is None else {"strength": fitted.strength, "chosen_on": fitted.chosen_on}


def _share(head: HeadExamples, rows: Sequence[int], *, part: int, parts: int) -> float:
    """The weight of a process' part of a batch, by the targets that its mean loss is over: those of all parts add up to
    as many as there are parts."""

    def targets(places: Sequence[int]) -> int:
        return sum(target != IGNORED for place in places for target in head.train[place].targets)

    return parts * targets(rows[part::parts]) / max(1, targets(rows))


def _probe(
    model: Model,
    plan: AdaptPlan,
    *,
    settings: AdaptSettings,
    kept: KeptBytes | None,
    report: Callable[[Progress], None],
) -> FeatureProbe:
    """The heads over features. Of several processes the first one reads, and the others find what it kept."""
    state = PartialState(cpu=settings.device == "cpu")
    with state.main_process_first():
        return FeatureProbe(
            model,
            plan.heads,
            reader=FeatureReader(model.to(state.device), kept=kept, precision=settings.precision),
            judged=plan.pace.judged,
            smoothing=settings.label_smoothing,
            report=report,
        )


def _begin_heads(
    model: Model, heads: Sequence[HeadExamples], *, settings: AdaptSettings, report: Callable[[Progress], None]
) -> None:
    """Give new heads of one layer the weights of logistic regression over the backbone as it is: a random head would
    first push the backbone about (Kumar et al. 2022, https://arxiv.org/abs/2202.10054)."""
    device = PartialState(cpu=settings.device == "cpu").device
    reader = FeatureReader(model.to(device), kept=None, precision=settings.precision)
    probe = FeatureProbe(model, heads, reader=reader, judged=0, smoothing=0.0, report=report)
    probe.fit(strength=HEAD_STRENGTH, seed=settings.seed, words=settings.words != "no")
    for head in heads:  # a class without rows is unlikely, and no more: labels may be smoothed
        layer = model.head(head.head.name).get_submodule(head_of(head.head).linear_layer)
        layer.get_parameter("bias").data.clamp_(min=LEAST_BIAS)


def _freeze(model: Model, settings: AdaptSettings) -> int:
    """Fix what the method does not move; the number of parameters that are left to move."""
    if settings.method == "probe":
        for parameter in model.backbone.parameters():
            parameter.requires_grad_(False)
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _adapted(model: Model, shape: LoraShape, settings: LoraSettings, backbone: Path) -> Adapted:
    """Adapters that were there, and those that have learned as the last ones."""
    before = adapted_of(backbone)
    learned = take_lora(model, shape, settings, base_name=before.base.name)
    return replace(before, adapters=(*before.adapters, learned))


def _save(
    model: Model,
    out: Path,
    record: Mapping[str, object],
    *,
    seen: TrainingRows,
    adapted: Adapted | None = None,
    log: Path | None = None,
) -> None:
    aside = out.with_name(out.name + ".part")
    shutil.rmtree(aside, ignore_errors=True)
    save_model(model, aside, provenance=record, adapted=adapted)
    write_training_rows(aside / TRAINING_ROWS, seen)
    if log is not None:
        shutil.copyfile(log, aside / LOG)
    replace_folder(aside, out)
