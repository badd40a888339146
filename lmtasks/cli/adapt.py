"""`lmtasks adapt`: a backbone and tasks to a model."""

from __future__ import annotations

import shlex
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

from lmtasks.cli.progress import progress_bars
from lmtasks.cli.signature import Prefix, Without
from lmtasks.cli.values import asked_again, data_options
from lmtasks.errors import UsageError
from lmtasks.progress_bars import quiet
from lmtasks.settings.base import Setting
from lmtasks.settings.data import DataAccess, TaskChoice, TrustCode
from lmtasks.settings.evaluation import Seed, Track
from lmtasks.settings.runs_on import Device
from lmtasks.settings.training import (
    AdaptSettings,
    AdaptTraining,
    BackboneChoice,
    FeatureCache,
    LoraSettings,
    Method,
    ProbeSettings,
)


def command(
    *,
    choice: Annotated[TaskChoice, Without("include_path")],
    start: BackboneChoice,
    out: Annotated[Path, Setting("Folder of the new model.", metavar="FOLDER")],
    method: Method = "full",
    lora: Annotated[LoraSettings, Prefix("lora_")],
    probe: Annotated[ProbeSettings, Prefix("probe_")],
    training: AdaptTraining,
    device: Device = "cpu",
    seed: Seed = 1234,
    access: DataAccess,
    trust_code: TrustCode = False,
    cache: FeatureCache = None,
    track: Track = None,
) -> None:
    """Train heads on a backbone for one task or several together; the same command again goes on where it stopped."""
    from lmtasks.evaluation.processes import is_first
    from lmtasks.settings.attention import ATTENTION_IN_WORDS
    from lmtasks.workflow.adapt import AdaptRequest, adapt_model, rows_set_aside
    from lmtasks.workflow.choose_tasks import TaskRequest, chosen_tasks
    from lmtasks.workflow.new_backbone import Start
    from lmtasks.workflow.open_model import FEATURES, cache_file
    from lmtasks.workflow.track import check_tracker, track_training

    check_tracker(track)
    for name, given in (("lora", lora), ("probe", probe)):
        if given.model_fields_set and method != name:
            field = next(field for field in type(given).model_fields if field in given.model_fields_set)
            raise UsageError(f"--{name}-{field} goes with --method {name}, was --method {method}.")
    if cache is not None and method != "probe":
        raise UsageError(f"--cache is where features are kept, and goes with --method probe, was --method {method}.")
    tasks = TaskRequest.of(choice)
    chosen = chosen_tasks(tasks, use="both" if tasks.is_single else "train")
    sources = data_options(access)
    if tasks.is_single:
        print(rows_set_aside(chosen[0], sources))
    settings = AdaptSettings(
        method=method,
        device=device,
        seed=seed,
        lora=lora if lora.model_fields_set else None,
        probe=probe if probe.model_fields_set else None,
    )
    request = AdaptRequest(
        start=Start(**dict(start)),
        tasks=chosen,
        settings=settings.but(dict(training)),
        data=sources,
        rows=training.rows,
        out=out,
        cache=cache_file(cache, name=FEATURES),
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
        kept = f"; kept: step {trained.best_step}, validation score {trained.best:.4f}" if trained.best else ""
        if trained.stopped == "fitted":
            print(f"Fitted in {trained.seconds:.1f} s, validation score {trained.best:.4f}.")
        else:
            print(f"{trained.steps} steps in {trained.seconds / 60:.1f} min (ended by {trained.stopped}){kept}.")
    for name, how in adapted.calibrations.items():
        print(f"{name}: {how}.")
    for name, how in adapted.fits.items():
        print(f"{name}: logistic regression, {how}.")
    if adapted.features is not None:
        computed, found = adapted.features
        print(f"The backbone read {computed:,} texts; the features of {found:,} were kept from before.")
    if adapted.weights is not None:
        print(f"{adapted.weights[0]:,} weights learned, of a model of {adapted.weights[1]:,}.")
    if adapted.mixture:
        print(f"Mixture: {adapted.mixture}.")
    if adapted.adapters:
        print(f"Stored beside the backbone, which is not copied: {adapted.adapters}.")
    for attention, words in ATTENTION_IN_WORDS.items():
        names = [name for name, way in adapted.attention.items() if way == attention]
        if names:
            print(f"Read {words}: {', '.join(names)}.")
    for name, count in adapted.words.items():
        print(f"{name}: {count:,} tokens and pairs have weights of their own beside the backbone's states (--words).")
    if adapted.truncated:
        print(f"{adapted.truncated} training texts were longer than the model takes and were cut.")
    asked = asked_again(choice, access)
    part = " --split test" if tasks.is_single else ""
    print(f"The model is in {out}. Next: lmtasks eval --model {shlex.quote(str(out))} {asked}{part}")
    if track is not None:
        track_training(track, out)
