"""A sweep: a training with every value of some settings, chosen on validation rows; scored rows have no part in it.

Points are carried out seed by seed, so that a budget that ends early still has seen every value. A finished or failed
point stands in the record as soon as it is there, and is not tried again; a training that was killed goes on from its
checkpoint. The time counts over all stops. When it is up the running training is ended, unless no point is finished
yet.
"""

import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from statistics import fmean

from lmtasks.errors import LmtasksError, WorkError
from lmtasks.files import slug
from lmtasks.model.store import read_provenance
from lmtasks.records import Progress
from lmtasks.results.cell import RowsAsked
from lmtasks.results.sweep import SweepPoint, SweepRecord
from lmtasks.run.plan import SweepPlan

Point = Mapping[str, object]
"""Values of the settings that are varied."""
Report = Callable[[Progress], None]
Train = Callable[[Point, int, Path, Report], None]
"""(settings, seed, folder of the model, report) -> a model in the folder."""

log = logging.getLogger(__name__)


class _OutOfTimeError(Exception):
    """The budget ended while a point was trained."""


@dataclass(frozen=True, kw_only=True)
class SettingsSweep:
    """One choice of settings, and where it lies."""

    file: Path
    """Its record; beside it, in a folder of its name, the models until one is chosen."""
    model: str
    task: str
    rows: RowsAsked
    plan: SweepPlan
    seeds: Sequence[int]
    """Of the plan; more are counted on from the largest one where the sweep asks for more."""
    names: Mapping[int, str]
    """The name of the model's folder by seed, for the seeds that the plan makes it with."""
    train: Train
    report: Report

    def choose(self) -> Point:
        """Carry out the points that are not there yet, and choose.

        Raises:
            WorkError: no point was finished.
        """
        record = self._held()
        asked = [(seed, point) for seed in self._seeds for point in self.plan.points()]
        for number, (seed, point) in enumerate(asked):
            self._progress(number, len(asked), point)
            if (held := _find(record.points, point, seed)) is not None and held.status != "unfinished":
                continue
            spent = sum(each.seconds for each in record.points)
            any_done = any(each.status == "done" for each in self._asked_points(record))
            if any_done and self._left(spent) <= 0:
                break
            found = self._carried_out(point, seed, left=self._left(spent) if any_done else float("inf"), before=held)
            others = [each for each in record.points if not _is_of(each, point, seed)]
            record = self._judged(record.model_copy(update={"points": (*others, found)}))
            record.write(self.file)
            if found.status == "unfinished":
                break
        self._progress(len(asked), len(asked), {})
        record = self._judged(record)
        record.write(self.file)
        if not record.chosen:
            reasons = [each.reason for each in record.points if each.reason]
            raise WorkError(f"no point of the sweep of model {self.model!r} was finished: {reasons[0]}")
        if record.out_of_budget:
            log.warning("%s", self._told(record, len(asked)))
        self._clear(record.chosen)
        return record.chosen

    def made(self, chosen: Point, *, seed: int) -> Path:
        """Where the model of the chosen point lies, if it was trained with that seed and not yet moved."""
        return self.file.with_suffix("") / _folder(chosen) / self.names[seed]

    @property
    def _seeds(self) -> tuple[int, ...]:
        more = (seed for seed in count(max(self.seeds) + 1))
        return (*self.seeds, *islice(more, max(0, self.plan.seeds - len(self.seeds))))[: self.plan.seeds]

    def _held(self) -> SweepRecord:
        held = SweepRecord.read_if_whole(self.file)
        if held is None and self.file.is_file():
            log.warning("%s was changed since it was written, or is cut short; the sweep begins anew", self.file)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        return SweepRecord(
            model=self.model,
            task=self.task,
            rows=self.rows,
            seeds=self._seeds,
            budget_minutes=self.plan.budget_minutes,
            values=self.plan.values,
            points=held.points if held is not None else (),
        )

    def _left(self, spent: float) -> float:
        """Seconds of the budget."""
        minutes = self.plan.budget_minutes
        return float("inf") if minutes is None else 60 * minutes - spent

    def _carried_out(self, point: Point, seed: int, *, left: float, before: SweepPoint | None) -> SweepPoint:
        """Train one point.

        Args:
            left: seconds until the training is ended.
            before: what an earlier try took, whose checkpoint is gone on from.
        """
        began = time.monotonic()
        name = self.names.get(seed, f"{slug(self.model)}-s{seed}")
        out = self.file.with_suffix("") / _folder(point) / name
        earlier = before.seconds if before is not None else 0.0

        def report(progress: Progress) -> None:
            self.report(progress)
            if time.monotonic() - began > left:
                raise _OutOfTimeError

        def ended(status: str, **fields: object) -> SweepPoint:
            seconds = round(earlier + time.monotonic() - began, 3)
            found = {"settings": dict(point), "seed": seed, "status": status, "seconds": seconds, **fields}
            return SweepPoint.model_validate(found)

        try:
            if not (out / "model.json").is_file():  # a kill between the model and its record
                out.parent.mkdir(parents=True, exist_ok=True)
                self.train(point, seed, out, report)
        except _OutOfTimeError:
            return ended("unfinished", reason="its training was ended, as the budget was")
        except LmtasksError as error:
            return ended("failed", reason=str(error))
        trained = read_provenance(out).get("trained")
        score = trained.get("best") if isinstance(trained, dict) else None
        if not isinstance(trained, dict) or score is None:
            return ended("failed", reason="nothing was judged on validation rows")
        done = ended("done", score=score, steps=trained.get("steps"), best_step=trained.get("best_step"))
        # What a killed process took is known to the training alone.
        return done.model_copy(update={"seconds": max(done.seconds, round(float(trained["seconds"]), 3))})

    def _asked_points(self, record: SweepRecord) -> list[SweepPoint]:
        """Those that the plan asks for now."""
        asked = list(self.plan.points())
        return [each for each in record.points if each.seed in self._seeds and dict(each.settings) in asked]

    def _judged(self, record: SweepRecord) -> SweepRecord:
        """The record with the choice: the best mean over the seeds that every point has, of equal ones the first.

        A point that failed with any seed is not chosen.
        """
        points = self._asked_points(record)
        failed = [dict(each.settings) for each in points if each.status == "failed"]
        rivals = [point for point in self.plan.points() if point not in failed]
        scores = {
            seed: {
                number: each.score
                for number, point in enumerate(rivals)
                if (each := _find(points, point, seed)) is not None and each.score is not None
            }
            for seed in self._seeds
        }
        whole = [seed for seed in self._seeds if rivals and len(scores[seed]) == len(rivals)]
        compared = whole or [seed for seed in self._seeds if scores[seed]][:1]
        means = {
            number: fmean(scores[seed][number] for seed in compared)
            for number in range(len(rivals))
            if compared and all(number in scores[seed] for seed in compared)
        }
        best = max(means, key=lambda number: means[number], default=None)
        finished = sum(each.status != "unfinished" for each in points)
        return record.model_copy(
            update={
                "chosen": {} if best is None else dict(rivals[best]),
                "seeds_compared": len(compared),
                "out_of_budget": finished < len(self._seeds) * len(list(self.plan.points()))
                and self._left(sum(each.seconds for each in record.points)) <= 0,
            }
        )

    def _told(self, record: SweepRecord, asked: int) -> str:
        finished = sum(each.status != "unfinished" for each in self._asked_points(record))
        where = "".join([f", {self.task}" if self.task else "", f", {self.rows} rows" if self.rows else ""])
        return (
            f"the sweep of model {self.model}{where} is out of its budget of {self.plan.budget_minutes:g} minutes: "
            f"{finished} of {asked} trainings are finished, and the best so far is used ({point_text(record.chosen)}); "
            "a larger `budget_minutes` goes on behind them"
        )

    def _progress(self, done: int, total: int, point: Point) -> None:
        note = point_text(point) if point else ""
        self.report(Progress(stage=f"sweep {self.model}", done=done, total=total, unit="trainings", note=note))

    def _clear(self, chosen: Point) -> None:
        """Remove models that were not chosen, and those of seeds that the plan does not make."""
        place = self.file.with_suffix("")
        for folder in sorted(place.glob("*")) if place.is_dir() else ():
            if folder.name != _folder(chosen):
                shutil.rmtree(folder)
            else:
                for model in folder.glob("*"):
                    if model.name not in self.names.values():
                        shutil.rmtree(model)


def point_text(point: Point) -> str:
    """A point for people.

    >>> point_text({"learning_rate": 0.001, "epochs": 4.0, "minutes": None})
    'learning_rate 0.001, epochs 4, minutes default'
    """
    return ", ".join(f"{name} {value_text(value)}" for name, value in point.items())


def value_text(value: object) -> str:
    """The value of a setting for people."""
    return "default" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _folder(point: Point) -> str:
    return slug(point_text(point))


def _is_of(each: SweepPoint, point: Point, seed: int) -> bool:
    return each.seed == seed and dict(each.settings) == dict(point)


def _find(points: Sequence[SweepPoint], point: Point, seed: int) -> SweepPoint | None:
    return next((each for each in points if _is_of(each, point, seed)), None)
