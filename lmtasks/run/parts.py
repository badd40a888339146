"""A plan in parts, for jobs that know nothing of each other: an array of SLURM, say.

    lmtasks run PLAN --models 1/3     trains and exports one of three parts of the plan's models, into the run's folder
    lmtasks run PLAN --cells 2/8      scores one of eight parts of its cells, into OUT/parts/cells-2-of-8
    lmtasks run PLAN                  takes the parts in, makes what is missing, times, and writes the page

A model is made by one part alone, and a part of the cells writes into a folder of its own: no two processes write the
same file, so nothing hangs on locks that a network's disk may not have. Parts need no order among themselves; cells of
a model that is not there are left to the last command.
"""

import logging
import shlex
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lmtasks.errors import LmtasksError, UsageError, WorkError
from lmtasks.evaluation.shards import Shard, parse_shard
from lmtasks.files import locked
from lmtasks.results.cell import CellRecord
from lmtasks.results.run import RunRecord
from lmtasks.run.folder import Cell, RunFolder, claim, held_plan
from lmtasks.run.plan import Plan
from lmtasks.run.runner import CellRunner

PARTS = "parts"
"""Inside a run's folder, gone once they are taken in."""
MOST_TASKS = 64
"""Of an array that nobody has said more about."""

Step = Literal["models", "cells"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RunPart:
    """One part of a plan's models or cells."""

    step: Step
    shard: Shard

    @property
    def folder(self) -> str:
        """Its folder, relative to the run's."""
        return f"{PARTS}/{self.step}-{self.shard.index}-of-{self.shard.count}"


def parse_part(*, models: str, cells: str) -> RunPart | None:
    """The part that `--models` or `--cells` names, `2/8` or `slurm`; None where neither is given.

    Raises:
        UsageError: both are, or one is no part.
    """
    if models and cells:
        raise UsageError("--models and --cells are two steps, one behind the other; give one of them.")
    step: Step = "models" if models else "cells"
    text = models or cells
    return RunPart(step=step, shard=parse_shard(text, option=f"--{step}")) if text else None


@contextmanager
def claimed(folder: RunFolder, part: RunPart, plan: Plan, *, plan_file: Path, header: RunRecord) -> Iterator[RunFolder]:
    """Where a part writes its cells, held against other processes; the run's folder is this plan's.

    Raises:
        UsageError: the folder holds a run of something else.
        WorkError: another process carries out this part, or nothing can be written.
    """
    own = RunFolder(root=folder.root / part.folder)
    with locked(own.root):
        held = held_plan(folder)
        if held is None:
            folder.root.mkdir(parents=True, exist_ok=True)
            claim(folder, plan, plan_file=plan_file, header=header)  # of whoever comes at the same time the same
        elif held[1] != plan.hash:
            raise UsageError(
                f"{folder.root} holds a run of another plan, or of an earlier form of this one; `lmtasks run` without "
                f"--{part.step} sets aside what has changed, or give another --out."
            )
        if not _is_of(own, plan):
            shutil.rmtree(own.root, ignore_errors=True)
        own.root.mkdir(parents=True, exist_ok=True)
        claim(own, plan, plan_file=plan_file, header=header)
        yield own


def chains_of(runner: CellRunner, cells: Sequence[Cell]) -> list[list[Cell]]:
    """Cells by the models that are made one behind the other, those of every seed of a sweep, say: what one process has
    to make. Without those that need nothing made.

    Raises:
        UsageError, WorkError: a model that is used as it is, is not there.
    """
    chains: dict[object, list[Cell]] = {}
    for cell in cells:
        if cell.variant.model is None or cell.variant.runtime == "endpoint" or runner.why_not(cell):
            continue
        made = runner.artefacts.folders(cell.variant, trial=cell.trial, task=cell.task)
        if made.model is not None or made.package is not None:
            chains.setdefault(made.chain, []).append(cell)
    return list(chains.values())


def make_models(runner: CellRunner, shard: Shard) -> list[str]:
    """Train and export the models of one part; a sentence for each that failed."""
    failed: dict[str, None] = {}
    for chain in chains_of(runner, runner.coming())[shard.index - 1 :: shard.count]:
        for cell in chain:
            try:
                runner.artefacts.of(cell.variant, trial=cell.trial, task=cell.task)
            except LmtasksError as error:
                failed.setdefault(f"model of {cell.variant.name}, {cell.trial.suffix}: {error}")
    return list(failed)


def part_of_cells(runner: CellRunner, folder: RunFolder, shard: Shard) -> list[Cell]:
    """The cells of one part, every n-th of the plan's, that can be scored and are not there in the run's folder.

    Those of a server are left to the last command: one process asks it.
    """
    own = runner.coming()[shard.index - 1 :: shard.count]
    missing: set[str] = set()
    kept = []
    for cell in own:
        record = CellRecord.read_if_whole(folder.cell(cell.id))
        if cell.variant.runtime == "endpoint" or (record is not None and record.status != "failed"):
            continue
        if not runner.why_not(cell) and not _is_made(runner, cell):
            missing.add(cell.variant.name)
            continue
        kept.append(cell)
    if missing:
        log.warning(
            "the model of %s is not there; `lmtasks run --models 1/1` makes it, or the last command with its cells",
            ", ".join(sorted(missing)),
        )
    return kept


def take_in(folder: RunFolder, plan: Plan) -> int:
    """Move the cells of finished and of broken parts into their places; their number.

    Raises:
        WorkError: a part is still at work.
    """
    place, count = folder.root / PARTS, 0
    for part in sorted(place.glob("*-of-*")):
        if not part.is_dir():
            continue
        try:
            with locked(part):
                own = RunFolder(root=part)
                if _is_of(own, plan):
                    count += _move_cells(own, folder)
                else:
                    log.warning("%s is of another form of the plan and is not taken in", part)
                shutil.rmtree(part, ignore_errors=True)
        except WorkError as error:
            raise WorkError(f"a part of this run is still at work: {error}") from error
    with suppress(OSError):  # a part may have begun
        place.rmdir()
    if count:
        log.info("%d cells of parts are taken in", count)
    return count


def _move_cells(own: RunFolder, folder: RunFolder) -> int:
    moved = 0
    for file in sorted((own.root / "cells").glob("*.json")):
        target, samples = folder.cell(file.stem), folder.samples(file.stem)
        if CellRecord.read_if_whole(file) is None:
            continue  # it is scored again
        for each in (target, samples):
            each.parent.mkdir(parents=True, exist_ok=True)
        if own.samples(file.stem).is_file():
            own.samples(file.stem).replace(samples)
        else:
            samples.unlink(missing_ok=True)
        file.replace(target)  # last: it makes the cell finished
        moved += 1
    return moved


def _is_of(folder: RunFolder, plan: Plan) -> bool:
    try:
        held = held_plan(folder)
    except UsageError:
        return False
    return held is not None and held[1] == plan.hash


def _is_made(runner: CellRunner, cell: Cell) -> bool:
    from lmtasks.export.package import is_package

    if cell.variant.model is None:
        return True
    made = runner.artefacts.folders(cell.variant, trial=cell.trial, task=cell.task)
    if made.package is not None:
        return is_package(made.package)
    return made.model is None or (made.model / "model.json").is_file()


def sbatch_script(plan: Plan, *, command: Sequence[str], out: Path, threads: int, models: int, cells: int) -> str:
    """A script that submits a run as arrays of jobs: models, then cells, then what takes them in, times and writes the
    page.

    Args:
        command: words of the command that carries out the whole run, without --out and --threads.
        models, cells: into how many parts they can be divided at most.
    """
    gpus = any(variant.device.startswith("cuda") for variant in plan.variants)
    run = f'{shlex.join(command)} --out "$OUT" --threads "$CORES"'
    lines = [
        "#!/usr/bin/env bash",
        f"# Submits plan {plan.plan} to SLURM: models, then cells, each as an array of jobs, then one job that takes",
        "# all in, makes what was lost, times, and writes the page. Options for sbatch stand behind the file:",
        "#     bash FILE --time=2:00:00 --partition=batch",
        "# OUT and this folder are seen by all machines, under the same paths. The same again goes on where it was.",
        "set -euo pipefail",
        f"cd {shlex.quote(str(Path.cwd()))}",
        f"export OUT={shlex.quote(str(out.absolute()))} CORES={threads}",
        f"MODELS={min(models, MOST_TASKS)}  # jobs of the first array: {models} models are made, each by one job",
        f"CELLS={min(cells, MOST_TASKS)}  # jobs of the second: {cells} cells",
        'submit=(sbatch --parsable --export=ALL --cpus-per-task="$CORES"'
        + (" --gres=gpu:1" if gpus else "")
        + ' "$@")',
        f"run={shlex.quote(run)}",
        "after=()",
        "",
    ]
    array = (
        'job=$("${{submit[@]}}" "${{after[@]}}" --job-name={name} --array=1-"${upper}" --wrap "$run --{lower} slurm")\n'
        'after=(--dependency=afterany:"$job")'
    )
    name = shlex.quote(f"{plan.plan}-models")
    if models:
        lines.append(array.format(name=name, upper="MODELS", lower="models"))
    lines.append(array.format(name=shlex.quote(f"{plan.plan}-cells"), upper="CELLS", lower="cells"))
    alone = " --exclusive" if plan.bench else ""
    lines.append(f'"${{submit[@]}}" "${{after[@]}}"{alone} --job-name={shlex.quote(plan.plan)} --wrap "$run"')
    return "\n".join(lines) + "\n"
