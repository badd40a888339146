"""One evaluation over the machines of a cluster: its shards as jobs, merged at the end into what one process writes.

    OUT/[MODEL/]shard-2-of-8/     a shard that is there; gone once all are merged

The same command again answers the shards that are not there yet. What no model in a folder answers (baselines, servers,
answers that exist) is scored by the process that was asked, behind the shards.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lmtasks.cluster.dispatch import ClusterJob, Dispatcher, JobOutcome, Needs, summed
from lmtasks.cluster.handover import answering_bytes, is_seen, new_stage, staging
from lmtasks.cluster.ray_pool import HandPlace, Made, check_on, ray_pool
from lmtasks.errors import UsageError, WorkError
from lmtasks.evaluation.processes import ALONE, launched_here
from lmtasks.evaluation.shards import SHARD, Shard, check_shards, read_shard
from lmtasks.files import locked
from lmtasks.progress_bars import quiet
from lmtasks.records import Json, Progress
from lmtasks.results.shard import ShardRecord
from lmtasks.settings.endpoint import is_address
from lmtasks.settings.runs_on import RunsOn
from lmtasks.workflow.choose_models import open_solver
from lmtasks.workflow.evaluate import Evaluated, Evaluation, ModelScores, PreparedEvaluation
from lmtasks.workflow.merge import merged_scores
from lmtasks.workflow.results_folder import check_free, make_free

if TYPE_CHECKING:
    from lmtasks.evaluation.protocols import Solver
    from lmtasks.workflow.choose_models import ChosenModel
    from lmtasks.workflow.evaluate import EvalRequest


@dataclass(frozen=True, kw_only=True)
class ShardWork:
    """Answer one part of every task's rows by one model."""

    ref: str
    """The model, as it was asked for."""
    shard: Shard


@dataclass(frozen=True, kw_only=True)
class ShardsSetup:
    """All that the shards of an evaluation have in common."""

    request: EvalRequest
    asks: Mapping[str, Json]
    """A model, as it was asked for, to what its record says was asked."""
    places: Mapping[str, int]
    """A model to its place among those of the command."""

    def open(self, place: HandPlace) -> _ShardsContext:
        """Make what carries out jobs in a hand."""
        return _ShardsContext(setup=self, place=place)


@dataclass(kw_only=True)
class _ShardsContext:
    setup: ShardsSetup
    place: HandPlace
    _evaluation: Evaluation = field(init=False)
    _prepared: PreparedEvaluation = field(init=False)
    _loaded: ExitStack = field(default_factory=ExitStack)
    _chosen: ChosenModel | None = None
    _solver: Solver | None = None

    def __post_init__(self) -> None:
        self._evaluation = Evaluation(request=self.setup.request, processes=ALONE, report=quiet)
        self._prepared = self._evaluation.prepare()

    def carry_out(self, work: object) -> object:
        """Where a shard was written, relative to the root."""
        if not isinstance(work, ShardWork):
            raise TypeError(type(work).__name__)
        chosen = next(each for each in self._prepared.models if each.ref == work.ref)
        if self._solver is None or chosen is not self._chosen:
            self._loaded.close()
            self._loaded, self._solver = ExitStack(), None
            # a file of answers on a disk of many machines is no place that all of them may write to
            opening = replace(self._prepared.opening, cache=None)
            self._solver = self._loaded.enter_context(open_solver(chosen, opening))
            self._chosen = chosen
        stage = new_stage()
        self._evaluation.answer_shard(
            work.shard,
            chosen,
            self._prepared,
            solver=self._solver,
            out=self.place.root / stage,
            asked=self.setup.asks[work.ref],
            place=self.setup.places[work.ref],
        )
        return Made(folders=(stage,), value=stage)


def evaluate_on_cluster(
    request: EvalRequest, *, on: str, shards: int | None, report: Callable[[Progress], None]
) -> Evaluated:
    """Score models on tasks as `evaluate_models` does, every task's rows divided over a cluster.

    Args:
        on: `ray` starts a cluster on this machine, `ray://auto` and `ray://HOST:PORT` take one that is there.
        shards: parts that rows are divided into; one that is lost is answered again.

    Raises:
        UsageError: as `evaluate_models`; or there is no Ray, it is another version, or no machine has room.
        WorkError: there is no cluster, a model cannot be loaded, or nothing can be written. What failed beside scores
            that are kept: see `Evaluated.failure`.
    """
    if shards is None or shards < 1:
        raise UsageError("--on needs --shards, the number of parts that rows are divided into: a few for each process.")
    if request.speed:
        raise UsageError("--speed times a model on a machine that has nothing else to do; leave out --speed, or --on.")
    if launched_here() > 1:
        raise UsageError("a launcher divides the rows itself; leave the launcher out, or --on.")
    check_on(on)
    request = replace(request, opening=replace(request.opening, on=_with_threads(request.opening.on)))
    evaluation = Evaluation(request=request, processes=ALONE, report=report)
    prepared = evaluation.prepare()
    with locked(prepared.folder):
        (make_free if request.output.overwrite else check_free)(prepared.asks, out=prepared.folder)
        sharded = [chosen for chosen in prepared.models if chosen.folder is not None]
        lost = _Shards(request=request, prepared=prepared, models=sharded, count=shards, report=report).answer(on)
        scores = tuple(
            _merged(chosen, prepared, count=shards, lost=lost[chosen.label], samples=not request.output.no_samples)
            if chosen in sharded
            else evaluation.score(chosen, prepared)
            for chosen in prepared.models
        )
        not_explained = evaluation.explained(prepared, scores)
    return Evaluated(
        folder=prepared.folder,
        tasks=tuple(task.name for task in prepared.tasks),
        models=scores,
        reasons=prepared.reasons,
        not_explained=not_explained,
    )


@dataclass(kw_only=True)
class _Shards:
    """Lets a cluster answer the shards that are not there."""

    request: EvalRequest
    prepared: PreparedEvaluation
    models: Sequence[ChosenModel]
    count: int
    report: Callable[[Progress], None]
    _lost: dict[str, list[str]] = field(default_factory=dict)
    """By the label of a model."""
    _done: int = 0
    _dispatcher: Dispatcher | None = None

    def answer(self, on: str) -> Mapping[str, Sequence[str]]:
        """A sentence for each shard that has no answers, by the label of a model."""
        self._lost = {chosen.label: [] for chosen in self.models}
        jobs = [job for chosen in self.models for job in self._jobs(chosen)]
        self._done = self.count * len(self.models) - len(jobs)
        self._show()
        if not jobs:
            return self._lost
        folder = self.prepared.folder
        with staging(folder), ray_pool(on, folder=folder, setup=self._setup()) as pool:
            self._dispatcher = Dispatcher(pool=pool, ended=self._ended, told=lambda said: self._show(finished=said))
            self._dispatcher.run(jobs)
        return self._lost

    def _setup(self) -> ShardsSetup:
        request, prepared = self.request, self.prepared
        # as many models as were given, so that the rows are divided alike; servers are asked by one process alone
        refs = [ref for ref in request.models if not is_address(ref)]
        return ShardsSetup(
            request=replace(
                request,
                models=refs,
                answers=(),
                output=request.output.but({"out": prepared.folder.absolute()}),
            ),
            asks={chosen.ref: prepared.asks[prepared.places[chosen.label]] for chosen in self.models},
            places={chosen.ref: prepared.place_of(chosen) for chosen in self.models},
        )

    def _jobs(self, chosen: ChosenModel) -> Iterable[ClusterJob]:
        from lmtasks.bench.machine import versions

        on, here = self.prepared.opening.on, versions()
        needs = Needs(
            cores=on.threads or 1,
            gpus=int(on.device.startswith("cuda")),
            memory_bytes=answering_bytes(chosen.folder),
        )
        place = self.prepared.places[chosen.label]
        for index in range(1, self.count + 1):
            shard = Shard(index=index, count=self.count)
            if self.request.output.overwrite or not _is_there(
                place / shard.folder, asked=self.prepared.asks[place], versions=here
            ):
                yield ClusterJob(
                    name=f"shard {index} of {self.count} of {chosen.label}",
                    work=ShardWork(ref=chosen.ref, shard=shard),
                    needs=needs,
                    holds=chosen.label,
                )

    def _ended(self, job: ClusterJob, outcome: JobOutcome) -> Iterable[ClusterJob]:
        assert isinstance(job.work, ShardWork)
        chosen = next(each for each in self.models if each.ref == job.work.ref)
        error = outcome.error or self._publish(outcome, chosen, job.work.shard)
        if error:
            self._lost[chosen.label].append(f"{job.name}: {error}")
        self._done += 1
        self._show(finished=f"{job.name}: {error}" if error else "")
        return ()

    def _publish(self, outcome: JobOutcome, chosen: ChosenModel, shard: Shard) -> str:
        """Move a shard into its place; why that did not go."""
        folder = self.prepared.folder
        written = folder / str(outcome.value.value if isinstance(outcome.value, Made) else "")
        if not is_seen((written / SHARD).is_file):
            return f"{written} is not seen here, though another machine has written it."
        place = self.prepared.places[chosen.label] / shard.folder
        try:
            shutil.rmtree(place, ignore_errors=True)
            place.parent.mkdir(parents=True, exist_ok=True)
            written.replace(place)
        except OSError as error:
            return f"it cannot be moved into place: {error.strerror or error}."
        return ""

    def _show(self, *, finished: str = "") -> None:
        at_work = {} if self._dispatcher is None else self._dispatcher.at_work
        self.report(
            Progress(
                stage="shards",
                done=self._done,
                total=self.count * len(self.models),
                unit="shards",
                note=summed(at_work),
                finished=finished,
            )
        )


def _with_threads(on: RunsOn) -> RunsOn:
    """One core a hand unless more were asked for, as in a run."""
    return on if on.threads is not None else on.but({"threads": 1})


def _is_there(folder: Path, *, asked: Json, versions: Json) -> bool:
    """Does a folder hold this very shard, whole, of the versions that are here?"""
    record = ShardRecord.read_if_whole(folder / SHARD)
    if record is None or record.failed or record.asked != asked or record.versions != versions:
        return False
    return all((folder / name).is_file() for name in record.checksums)


def _merged(
    chosen: ChosenModel, prepared: PreparedEvaluation, *, count: int, lost: Sequence[str], samples: bool
) -> ModelScores:
    """The scores of a model's shards, which are gone then; those of a model that lacks one are kept."""
    place, tasks = prepared.places[chosen.label], prepared.answered[chosen.label]
    if lost:
        more = f" (and {len(lost) - 1} more)" if len(lost) > 1 else ""
        error = WorkError(f"{lost[0].rstrip('.')}{more}; the same command again answers what is missing.")
        failed = {task.name: error for task in tasks}
        return ModelScores(label=chosen.label, folder=place, results=(), groups={}, failed=failed)
    folders = [place / Shard(index=index, count=count).folder for index in range(1, count + 1)]
    found = check_shards([read_shard(folder) for folder in folders])
    scores = merged_scores(chosen.label, found, place, tasks, keep_samples=samples)
    if not scores.failed:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
    return scores
