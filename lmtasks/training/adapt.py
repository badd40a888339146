"""Backbone and tasks to model: heads are added and trained, alone over features (`probe`), with the backbone (`full`),
or with adapters in it (`lora`).

Several tasks train together: the backbone or its adapters move for all of them, each head for its own. Which rows stand
in which step is planned beforehand, by their lengths.
"""

import logging
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter

import torch
from accelerate import PartialState
from torch import Tensor, nn

from lmtasks.data.batches import plan_batches
from lmtasks.data.examples import HeadExamples, in_units_of
from lmtasks.data.row_hashes import TrainingRows, read_training_rows, write_training_rows
from lmtasks.errors import UsageError
from lmtasks.head import head_of
from lmtasks.head.base import IGNORED
from lmtasks.model.adapters import Adapted, LoraShape, adapted_of, add_lora, check_lora, take_lora
from lmtasks.model.model import Model
from lmtasks.model.store import load_model, save_model, training_rows_file
from lmtasks.records import TRAINING_ROWS, HeadSpec, Progress
from lmtasks.settings.training import (
    PROPORTIONAL,
    Adaptation,
    AdaptSettings,
    LoraSettings,
    ProbeSettings,
    TrainingSettings,
)
from lmtasks.training.calibrate import LEAST, Calibration, calibrate_layer
from lmtasks.training.checkpoint import replace_folder
from lmtasks.training.curve import LOG
from lmtasks.training.features import FeatureReader, KeptBytes, collate
from lmtasks.training.loop import MeanLoss, Trained, Validation, train
from lmtasks.training.mixture import plan_steps, rows_a_pass
from lmtasks.training.pace import (
    HEADS_ALONE,
    MOST_JUDGED,
    WITH_BACKBONE,
    HeadSize,
    Pace,
    is_few,
    judged_rows,
    pace_of,
)
from lmtasks.training.probe import FeatureProbe, FittedLayer
from lmtasks.training.stepping import Batch
from lmtasks.training.tbptt import TbpttModule, score_text, streams_of

log = logging.getLogger(__name__)

REFERENCE_PARAMETERS = 11e6
LORA_RATE = 5e-3
"""The most that adapters learn with by themselves."""
FEW_ROWS_RATE = 0.3
"""A trained backbone learns from few rows with so much of its learning rate."""
HEAD_STRENGTH, LEAST_BIAS = 0.03, -10.0
"""C of the logistic regression that new heads begin with; and their logit of a class without rows."""
VALIDATION_TOKENS = 4096
"""Tokens of a batch of validation rows."""


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
        _check(model, head)
    torch.manual_seed(settings.seed)
    there = {spec.name for spec in model.card.heads}
    model.add_heads([head.head for head in heads if head.head.name not in there])
    heads = [in_units_of(head, model.spec(head.head.name)) for head in heads]
    size = sum(parameter.numel() for parameter in model.parameters())
    shape, adapted = None, None
    if lora is not None:
        shape = add_lora(model, lora)
    if settings.method == "probe":
        heads = [head for head in heads if head.head.predicts and not head_of(head.head).vectors]
    moving = _freeze(model, settings.method, heads=len(heads))
    mixture = _mixture(heads, settings) if len(heads) > 1 else None
    for head in heads:
        seen = seen.united(head.seen)
    work = out.with_name(out.name + ".work")
    pace = _pace(heads, settings)
    few = pretrained and is_few([len(head.train) for head in heads])
    probe = None
    if settings.method == "probe":
        probe = _probe(model, heads, settings=settings, judged=pace.judged, kept=kept, report=report)
    begun = probe is None and (settings.new_heads == "logistic" or (settings.new_heads is None and few))
    if begun:
        _begin_heads(model, [head for head in heads if head.head.name not in there], settings=settings, report=report)
    fitted: Mapping[str, FittedLayer] = {}
    wanted = settings.probe or ProbeSettings()
    if probe is not None and wanted.fit == "logistic":
        began = perf_counter()
        fitted = probe.fit(strength=wanted.strength, seed=settings.seed)
        best = probe.judge().value
        trained = Trained(steps=0, seconds=perf_counter() - began, best=best, best_step=0, stopped="fitted")
    else:
        rate = (
            settings.learning_rate
            or _suited(model, settings.method)
            or default_learning_rate(settings.method, size, few=few)
        )
        if mixture is not None:
            record["mixture"] = mixture
        record["pace"] = {**asdict(pace), "learning_rate": rate, "new_heads": "logistic" if begun else "random"}
        trained = _trained(
            model,
            heads,
            probe=probe,
            settings=settings,
            pace=pace,
            rate=rate,
            judge_first=begun,
            folder=work,
            validate=validate,
            report=report,
        )
    if probe is not None:
        trained = replace(trained, seconds=trained.seconds + probe.reader.seconds)
        record["features"] = {"read": probe.reader.computed, "found": probe.reader.found}
    if not state.is_main_process:
        return trained
    record["trained"] = asdict(trained)
    record["weights"] = {"trained": moving, "all": size}
    record["tasks"] = {
        head.head.name: {
            "rows": len(head.train),
            "validation_rows": len(head.validation),
            "truncated": head.truncated,
            **({"unaligned": head.unaligned} if head.unaligned else {}),
            **({"attention": head.head.attention} if head.head.attention is not None else {}),
            **_strength(fitted.get(head.head.name)),
        }
        for head in heads
    }
    if settings.calibrate:
        record["calibration"] = {name: each.json() for name, each in _calibrated(model, heads).items()}
    if lora is not None and shape is not None:
        record["adapters"] = dict(shape.stored())
        adapted = _adapted(model, shape, lora, backbone)
    _save(model, out, record, seen=seen, adapted=adapted, log=None if fitted else work / LOG)
    shutil.rmtree(work, ignore_errors=True)
    return trained


def _trained(
    model: Model,
    heads: Sequence[HeadExamples],
    *,
    probe: FeatureProbe | None,
    settings: AdaptSettings,
    pace: Pace,
    rate: float,
    judge_first: bool,
    folder: Path,
    validate: Callable[[Model], float] | None,
    report: Callable[[Progress], None],
) -> Trained:
    """Train the heads step by step, over features or with the model.

    Args:
        rate: the peak learning rate.
        judge_first: are the weights that it begins with judged, too?
        folder: of the checkpoint and the log.
    """
    streams = {
        number: stream
        for number, head in enumerate(heads)
        if (stream := streams_of(head, tokens_per_batch=pace.tokens_per_batch, window=settings.window)) is not None
    }
    parts = PartialState(cpu=settings.device == "cpu").num_processes
    if streams and parts > 1:
        raise UsageError(
            f"{model.card.family} carries its state through a running text, and learns from it in one process, was "
            f"{parts}; start it without torchrun."
        )
    steps = plan_steps(
        heads,
        epochs=pace.epochs,
        tokens_per_batch=pace.tokens_per_batch,
        rows_at_once=pace.rows_at_once,
        seed=settings.seed,
        windows={number: len(stream) for number, stream in streams.items()},
        mixture=settings.mixture,
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
        return judge_heads(model, heads, pad_id=pad_id, judged=pace.judged) if probe is None else probe.judge()

    return train(
        module=TbpttModule(model, streams, smoothing=settings.label_smoothing) if probe is None else probe.module,
        loss=lambda runner, batch: runner(batch),
        batch_at=batch_at,
        settings=TrainingSettings(
            steps=len(steps),
            minutes=settings.minutes,
            learning_rate=rate,
            batch_rows=parts,
            accumulate=parts,
            warmup=0.1,
            floor=0.02,
            decay="linear",
            weight_decay=settings.weight_decay,
            betas=(0.9, 0.99),
            precision=settings.precision,
            evaluate_every=-(-len(steps) // pace.looks),
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
        judge_first=judge_first,
    )


def _mixture(heads: Sequence[HeadExamples], settings: AdaptSettings) -> Mapping[str, object]:
    """How several tasks are mixed, and the rows of each in a pass, as a model's record holds it.

    Raises:
        UsageError: rows cannot be divided so.
    """
    running = next((head.head.name for head in heads if head.text), None)
    if running is not None and settings.mixture != PROPORTIONAL:
        raise UsageError(
            f"--mixture {settings.mixture} says how many rows of each task stand in a pass, and {running} is learned "
            f"from a running text, in its order; leave the mixture {PROPORTIONAL}, or learn {running} by itself."
        )
    rows = rows_a_pass([len(head.train) for head in heads], settings.mixture)
    return {"by": settings.mixture, "rows": {head.head.name: count for head, count in zip(heads, rows, strict=True)}}


def _strength(fitted: FittedLayer | None) -> Mapping[str, object]:
    return {} if fitted is None else {"strength": fitted.strength, "chosen_on": fitted.chosen_on}


def default_learning_rate(method: Adaptation, parameters: int, *, few: bool = False) -> float:
    """A peak learning rate that suits the size of what moves.

    New heads alone bear 1e-2. A whole model of 11M parameters bears 1e-3, and it gets less as it grows: 5e-5 at 110M,
    which is what BERT's authors fine-tune its base size with (Devlin et al., 2019, appendix A.3: 2e-5 to 5e-5).
    Adapters get ten times as much, 5e-4 at 110M: Hu et al. 2021 (https://arxiv.org/abs/2106.09685, table 9) give
    RoBERTa base 4e-4 to 5e-4.

    Args:
        parameters: of the model, those that stand still counted.
        few: does a trained backbone learn from few rows?
    """
    if method == "probe":
        return 1e-2
    full = 1e-3 * (REFERENCE_PARAMETERS / max(1, parameters)) ** 1.3
    found = min(LORA_RATE, 10 * full) if method == "lora" else min(1e-3, full)
    return float(found * (FEW_ROWS_RATE if few else 1.0))


def score_heads(model: Model, heads: Sequence[HeadExamples], *, pad_id: int, judged: int = MOST_JUDGED) -> float:
    """The mean over heads of a 0-1 score on validation rows, as `judge_heads` has it."""
    return judge_heads(model, heads, pad_id=pad_id, judged=judged).value


@torch.no_grad()
def judge_heads(model: Model, heads: Sequence[HeadExamples], *, pad_id: int, judged: int = MOST_JUDGED) -> Validation:
    """Mean over heads of a 0-1 score on validation rows, answered with the right prefix given (teacher forcing); and
    each head's loss on them.

    Each kind of head says what is right (`Head.judged`, `Head.score`): the share of right labels, tags or spans; of a
    generation head the geometric mean of the probabilities of the right tokens.

    Args:
        judged: rows of each head at most.
    """
    scores: list[float] = []
    losses: dict[str, float] = {}
    for head in heads:
        name = head.head.name
        if head.validation_text:
            nats, count = score_text(model, head.validation_text)
            scores.append(math.exp(-nats / count))
            losses[name] = nats / count
            continue
        mean = MeanLoss(head_of(head.head))
        scores.append(mean.head.scored(mean.over(_judged(model, head, pad_id=pad_id, most=judged))))
        losses[name] = mean.value
    return Validation(value=sum(scores) / max(1, len(scores)), losses=losses)


def _judged(
    model: Model, head: HeadExamples, *, pad_id: int, most: int = MOST_JUDGED
) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits and targets of a head's validation rows, in batches."""
    device = next(model.parameters()).device
    rows = judged_rows(head.validation, most)
    lengths = [len(row.ids) + len(row.decoder_ids) for row in rows]
    for places in plan_batches(lengths, tokens_per_batch=VALIDATION_TOKENS):
        collated = collate([rows[place] for place in places], pad_id=pad_id)
        batch = {name: tensor.to(device) for name, tensor in collated.items()}
        yield _logits(model, batch, head.head.name), batch["targets"]


@torch.no_grad()
def _calibrated(model: Model, heads: Sequence[HeadExamples]) -> Mapping[str, Calibration]:
    """Bring the probabilities of heads into line with their validation rows; those with too few stay as they are."""
    model.eval()
    able = [head for head in heads if head_of(head.head).softmax]
    found: dict[str, Calibration] = {}
    for head in able:
        layer = model.head(head.head.name).get_submodule(head_of(head.head).linear_layer)
        judged = list(_judged(model, head, pad_id=model.backbone.traits.pad))
        targets = [(logits, each if each.shape == logits.shape[:-1] else each[:, 0]) for logits, each in judged]
        calibration = calibrate_layer(layer, targets)
        if calibration is None:
            log.warning(
                "task %s has fewer than %d validation rows: its probabilities are left as they are.",
                head.head.name,
                LEAST,
            )
        else:
            found[head.head.name] = calibration
    return found


def _share(head: HeadExamples, rows: Sequence[int], *, part: int, parts: int) -> float:
    """The weight of a process' part of a batch, by the targets that its mean loss is over: those of all parts add up to
    as many as there are parts."""

    def targets(places: Sequence[int]) -> int:
        return sum(target != IGNORED for place in places for target in head.train[place].targets)

    return parts * targets(rows[part::parts]) / max(1, targets(rows))


def _probe(
    model: Model,
    heads: Sequence[HeadExamples],
    *,
    settings: AdaptSettings,
    judged: int,
    kept: KeptBytes | None,
    report: Callable[[Progress], None],
) -> FeatureProbe:
    """The heads over features. Of several processes the first one reads, and the others find what it kept."""
    state = PartialState(cpu=settings.device == "cpu")
    with state.main_process_first():
        return FeatureProbe(
            model,
            heads,
            reader=FeatureReader(model.to(state.device), kept=kept, precision=settings.precision),
            judged=judged,
            smoothing=settings.label_smoothing,
            report=report,
        )


def _begin_heads(
    model: Model, heads: Sequence[HeadExamples], *, settings: AdaptSettings, report: Callable[[Progress], None]
) -> None:
    """Give new heads of one layer the weights of logistic regression over the backbone as it is: a random head would
    first push the backbone about (Kumar et al. 2022, https://arxiv.org/abs/2202.10054)."""
    linear = [head for head in heads if head_of(head.head).linear_layer and len(_labels(head)) > 1]
    if linear:
        device = PartialState(cpu=settings.device == "cpu").device
        reader = FeatureReader(model.to(device), kept=None, precision=settings.precision)
        probe = FeatureProbe(model, linear, reader=reader, judged=0, smoothing=0.0, report=report)
        probe.fit(strength=HEAD_STRENGTH, seed=settings.seed)
        for head in linear:  # a class without rows is unlikely, and no more: labels may be smoothed
            layer = model.head(head.head.name).get_submodule(head_of(head.head).linear_layer)
            layer.get_parameter("bias").data.clamp_(min=LEAST_BIAS)


def _labels(head: HeadExamples) -> frozenset[int]:
    return frozenset(int(label) for row in head.train for label in row.targets) - {IGNORED}


def _pace(heads: Sequence[HeadExamples], settings: AdaptSettings) -> Pace:
    return pace_of(
        [_counted(head, window=settings.window) for head in heads],
        HEADS_ALONE if settings.method == "probe" else WITH_BACKBONE,
        epochs=settings.epochs,
        tokens_per_batch=settings.tokens_per_batch,
        looks=settings.evaluations,
    )


def _counted(head: HeadExamples, *, window: int) -> HeadSize:
    if head.text:
        train, judged = (-(-len(text) // window) for text in (head.text, head.validation_text))
        return HeadSize(train=train, judged=judged, tokens=window, streamed=True)
    tokens = sum(len(row.ids) + len(row.decoder_ids) for row in head.train) / max(1, len(head.train))
    return HeadSize(train=len(head.train), judged=len(head.validation), tokens=tokens)


def _suited(model: Model, method: Adaptation) -> float | None:
    """The learning rate of a family of our own that moves whole."""
    return model.backbone.traits.learning_rate if method == "full" else None


def _logits(runner: nn.Module, batch: Batch, head: str) -> Tensor:
    logits: Tensor = runner(
        batch["ids"],
        batch["mask"],
        head,
        types=batch.get("types"),
        decoder_ids=batch.get("decoder_ids"),
        decoder_mask=batch.get("decoder_mask"),
    )
    return logits


def _check(model: Model, head: HeadExamples) -> None:
    if not head.head.predicts and model.card.kind == "encoder":
        raise UsageError(
            f"{model.card.family} is read as an encoder, which cannot generate, so it cannot be adapted to "
            f"{head.head.name!r}; use a causal backbone or an encoder-decoder."
        )
    known = next((spec for spec in model.card.heads if spec.name == head.head.name), None)
    if known is not None and (known.kind, known.labels) != (head.head.kind, head.head.labels):
        there, asked = (f"{spec.kind} ({', '.join(spec.labels) or 'no labels'})" for spec in (known, head.head))
        raise UsageError(
            f"the backbone has a head {known.name!r} already, {there}, and the task of that name asks for {asked}; "
            "give the task another name."
        )
    if not head.train and not head.text:
        raise UsageError(f"task {head.head.name!r} has no training rows; adapt needs a train split.")


def _freeze(model: Model, method: Adaptation, *, heads: int) -> int:
    """Fix what the method does not move; the number of parameters that are left to move.

    A probe moves heads only, so that heads that write or answer with vectors, which have no weights of their own, have
    nothing to learn.

    Args:
        heads: those that a probe trains.
    """
    if method == "probe":
        if not heads:
            raise UsageError(
                "a probe trains heads alone, and heads that write or answer with vectors have no weights; use full or "
                "lora, or prompt, which takes the backbone's vectors as they are."
            )
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
