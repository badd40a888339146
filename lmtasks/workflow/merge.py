"""Shards that were evaluated apart, merged: the scores of all rows, as one process makes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lmtasks.errors import UsageError, WorkError
from lmtasks.evaluation.samples import sample_files
from lmtasks.evaluation.shards import SHARD, StoredShard, check_shards, merge_shards, read_shard
from lmtasks.evaluation.write import samples_file, write_results
from lmtasks.files import locked
from lmtasks.workflow.evaluate import Evaluated, ModelScores
from lmtasks.workflow.results_folder import check_free, make_free

if TYPE_CHECKING:
    from lmtasks.task.task import Task

PATTERN = "shard-*-of-*"


@dataclass(frozen=True, kw_only=True)
class MergeRequest:
    """Which shards are merged, and where to."""

    folders: Sequence[Path]
    """Shards, or folders with shards in them, of one model or of several."""
    tasks: str = ""
    """Task files, for metrics that are code of theirs."""
    include: Sequence[Path] = ()
    trust_code: bool = False
    out: Path | None = None
    """None: the one folder that was given."""
    overwrite: bool = False


def merge_results(request: MergeRequest) -> Evaluated:
    """Make the scores of all rows and write them.

    Raises:
        UsageError: a folder holds no shards; one is missing, there twice, or of another evaluation; or the folder holds
            results of something else.
        WorkError: a metric has no value, or nothing can be written.
    """
    from lmtasks.task.index import default_index

    index = default_index(include=request.include)
    tasks = index.find(request.tasks, trust_code=request.trust_code) if request.tasks else ()
    if request.out is None and len(request.folders) != 1:
        raise UsageError("--out says where shards of several folders are merged to; give it.")
    out = request.out or request.folders[0]
    if (out / SHARD).is_file():
        raise UsageError(f"{out} is itself a shard; give the folder that it lies in, or another --out.")
    found = find_shards(request.folders)
    return merge_found(found, out=out, tasks=tasks, overwrite=request.overwrite)


def find_shards(folders: Sequence[Path]) -> dict[str, tuple[StoredShard, ...]]:
    """The shards of each model, by its label; by nothing where they are of one model alone.

    Raises:
        UsageError: a folder holds none, or a shard is missing, there twice or of another evaluation.
    """
    places: dict[str, list[Path]] = {}
    for folder in folders:
        shards = [folder] if (folder / SHARD).is_file() else _inside(folder)
        models = {} if shards else {each.name: _inside(each) for each in sorted(folder.glob("*")) if each.is_dir()}
        found = {"": shards} if shards else {name: inner for name, inner in models.items() if inner}
        if not found:
            raise UsageError(f"{folder} holds no shards; `lmtasks eval --shard 1/4 --out {folder}` writes one.")
        for name, inner in found.items():
            places.setdefault(name, []).extend(inner)
    checked = {name: check_shards([read_shard(each) for each in inner]) for name, inner in places.items()}
    return dict(sorted(checked.items(), key=lambda each: each[1][0].record.place))


def merge_found(
    found: dict[str, tuple[StoredShard, ...]], *, out: Path, tasks: Sequence[Task], overwrite: bool
) -> Evaluated:
    """Merge shards that were found whole; see `merge_results`."""
    labels = {name: name or shards[0].record.model.name for name, shards in found.items()}
    places = {name: out / name if name else out for name in found}
    with locked(out):
        asks = {places[name]: shards[0].record.asked for name, shards in found.items()}
        (make_free if overwrite else check_free)(asks, out=out)
        scores = tuple(merged_scores(labels[name], shards, places[name], tasks) for name, shards in found.items())
    names = dict.fromkeys(result.task for each in scores for result in each.results)
    return Evaluated(folder=out, tasks=tuple(names), models=scores, reasons={})


def merged_scores(
    label: str, shards: Sequence[StoredShard], out: Path, tasks: Sequence[Task], *, keep_samples: bool = True
) -> ModelScores:
    """Make the scores of a model's shards, which were found whole, and write them into the folder `out`."""
    record = shards[0].record
    with sample_files(out, name=samples_file) as samples:
        merged = merge_shards(shards, tasks=tasks, samples=samples if keep_samples else None)
        if merged.results:
            write_results(
                out,
                results=merged.results,
                model=record.model,
                runtime=record.runtime,
                machine=record.machine,
                versions=record.versions,
                samples=samples if keep_samples else False,
                groups=merged.groups,
                processes=len(shards),
                failed=merged.failed,
                asked=record.asked,
                place=record.place,
            )
    return ModelScores(
        label=label,
        folder=out,
        results=merged.results,
        groups=merged.groups,
        failed={task: WorkError(reason) for task, reason in merged.failed.items()},
    )


def _inside(folder: Path) -> list[Path]:
    """Finished shards right in a folder; what was not finished is missing, and told so."""
    return sorted(each for each in folder.glob(PATTERN) if (each / SHARD).is_file())
