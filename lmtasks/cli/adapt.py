"""`lmtasks adapt`: a backbone and tasks to a model."""

from __future__ import annotations

import shlex
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from lmtasks.cli.progress import progress_bars
from lmtasks.cli.signature import Prefix, Without
from lmtasks.cli.values import asked_again, data_options
from lmtasks.errors import UsageError
from lmtasks.progress_bars import quiet
from lmtasks.settings.base import Setting
from lmtasks.settings.data import DataAccess, TaskChoice, TrustCode
from lmtasks.settings.evaluation import Seed
from lmtasks.settings.runs_on import Device
from lmtasks.settings.training import AdaptSettings, AdaptTraining, BackboneChoice, LoraSettings, Method

if TYPE_CHECKING:
    from lmtasks.settings.training import LoraSettings


def command(
    *,
    choice: Annotated[TaskChoice, Without("include_path")],
    start: BackboneChoice,
    out: Annotated[Path, Setting("Folder of the new model.", metavar="FOLDER")],
    method: Method = "full",
    lora: Annotated[LoraSettings, Prefix("lora_")],
    training: AdaptTraining,
    device: Device = "cpu",
    seed: Seed = 1234,
    access: DataAccess,
    trust_code: TrustCode = False,
) -> None:
    """Train heads on a backbone for one task or several together; the same command again goes on where it stopped."""
    from lmtasks.evaluation.processes import is_first
    from lmtasks.workflow.adapt import AdaptRequest, adapt_model, rows_set_aside
    from lmtasks.workflow.choose_tasks import TaskRequest, chosen_tasks
    from lmtasks.workflow.new_backbone import Start

    if lora.model_fields_set and method != "lora":
        given = next(name for name in type(lora).model_fields if name in lora.model_fields_set)
        raise UsageError(f"--lora-{given} goes with --method lora, was --method {method}.")
    tasks = TaskRequest.of(choice)
    chosen = chosen_tasks(tasks, use="both" if tasks.is_single else "train")
    sources = data_options(access)
    if tasks.is_single:
        print(rows_set_aside(chosen[0], sources))
    settings = AdaptSettings(method=method, device=device, seed=seed, lora=lora if lora.model_fields_set else None)
    request = AdaptRequest(
        start=Start(**dict(start)),
        tasks=chosen,
        settings=settings.but(dict(training)),
        data=sources,
        rows=training.rows,
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
    asked = asked_again(choice, access)
    part = " --split test" if tasks.is_single else ""
    print(f"The model is in {out}. Next: lmtasks eval --model {shlex.quote(str(out))} {asked}{part}")
