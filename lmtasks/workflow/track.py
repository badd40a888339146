"""Results and learning curves, written to a tracker that keeps experiments: MLflow, TensorBoard or Trackio, through
accelerate's trackers.

Written once a piece is whole, from what is stored: a tracker that fails or is slow changes no training and no score.
Where nothing else says where (`MLFLOW_TRACKING_URI`), MLflow writes to `runs/mlflow.db` and TensorBoard below
`runs/tensorboard/`; Trackio to its own store, in which `trackio show --project lmtasks` looks (`TRACKIO_DIR`).
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from lmtasks.errors import UsageError, WorkError
from lmtasks.files import first_line, slug
from lmtasks.settings.evaluation import TrackerName

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

    from lmtasks.workflow.evaluate import Evaluated

PROJECT = "lmtasks"
FOLDER = Path("runs")
PACKAGES: Mapping[TrackerName, tuple[str, ...]] = {
    "mlflow": ("mlflow",),
    "tensorboard": ("tensorboard", "tensorboardX"),
    "trackio": ("trackio",),
}
"""Tracker to the packages of which one must be installed."""
MLFLOW_FILE = "mlflow.db"
"""MLflow 3.17 and later write no folders of files any more (`mlruns`) unless they are made to."""
MLFLOW_PLACE = "MLFLOW_TRACKING_URI"
NAME = re.compile(r"[^\w./ -]", re.ASCII)
"""Marks that trackers allow in no name of a value."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Tracked:
    """One run of a tracker."""

    name: str
    parameters: Mapping[str, object] = field(default_factory=dict)
    curve: Sequence[Mapping[str, object]] = ()
    """Values by step, as the log of a training has them."""
    results: Mapping[str, float] = field(default_factory=dict)


def check_tracker(tracker: TrackerName | None) -> None:
    """Refuse a tracker that is not installed, before any work.

    Raises:
        UsageError: it is not.
    """
    if tracker is not None and not any(find_spec(package) for package in PACKAGES[tracker]):
        package = PACKAGES[tracker][0]
        raise UsageError(
            f"--track {tracker} needs the package {package}, which is not installed; install it with pip, or leave "
            "--track out."
        )
    if tracker == "mlflow" and MLFLOW_PLACE not in os.environ and find_spec("sqlalchemy") is None:
        raise UsageError(
            f"--track mlflow writes to a local database, which needs the package sqlalchemy: pip install mlflow brings "
            f"it; or name a server by {MLFLOW_PLACE}."
        )


def track_training(tracker: TrackerName, folder: Path) -> None:
    """Write the training of a model folder to a tracker.

    Raises:
        WorkError: the tracker failed.
    """
    write_tracked(tracker, [_training(folder)])


def track_results(tracker: TrackerName, evaluated: Evaluated) -> None:
    """Write the scores of an evaluation to a tracker, a run of it for each model.

    Raises:
        WorkError: the tracker failed.
    """
    write_tracked(
        tracker,
        [
            Tracked(
                name=each.label,
                parameters={"model": each.label, "folder": str(each.folder)},
                results={
                    f"{result.task}/{name}": value.value
                    for result in each.results
                    for name, value in result.metrics.items()
                },
            )
            for each in evaluated.models
            if each.results
        ],
    )


def track_run(tracker: TrackerName, folder: Path) -> None:
    """Write the variants of a run to a tracker: scores, speeds, and the curve of the model that each runs on.

    Raises:
        WorkError: the tracker failed.
    """
    write_tracked(tracker, _variants(folder))


def write_tracked(tracker: TrackerName, tracked: Sequence[Tracked]) -> None:
    """Write runs to a tracker.

    Raises:
        WorkError: the tracker failed; what was made is kept all the same.
    """
    for each in tracked:
        said = StringIO()  # standard output holds answers alone
        try:
            with redirect_stdout(said):
                _write(OPENERS[tracker](each.name), each)
        except Exception as error:  # whatever a library of somebody else says of its server
            raise WorkError(f"everything is kept, but --track {tracker} failed: {first_line(error)}") from error
        finally:
            log.debug("%s: %s", tracker, said.getvalue())


def _write(writer: GeneralTracker, each: Tracked) -> None:
    writer.start()
    writer.store_init_configuration({NAME.sub("_", name): _plain(value) for name, value in each.parameters.items()})
    for record in each.curve:
        values = {f"train/{name}": value for name, value in record.items() if name != "step"}
        writer.log(_numbers(values), step=int(str(record["step"])))
    if each.results:
        last = int(str(each.curve[-1]["step"])) if each.curve else 0
        writer.log(_numbers(each.results), step=last)
    writer.finish()


def _training(folder: Path) -> Tracked:
    """A model folder: the settings of its training, and its curve."""
    from lmtasks.model.store import read_provenance
    from lmtasks.training.curve import LOG, read_log

    provenance = read_provenance(folder)
    trained = provenance.get("trained")
    best = trained.get("best") if isinstance(trained, dict) else None
    return Tracked(
        name=folder.name,
        parameters=dict(_flat({name: provenance[name] for name in ("settings", "backbone") if name in provenance})),
        curve=read_log(folder / LOG),
        results={"validation/best": best} if isinstance(best, int | float) else {},
    )


def _variants(folder: Path) -> tuple[Tracked, ...]:
    """A run of the tracker for each variant that was scored."""
    from lmtasks.report.records import read_run

    run = read_run(folder)
    found = []
    for variant in run.variants:
        cells = [cell for cell in run.cells if cell.variant.name == variant.name and cell.status == "done"]
        if not cells:
            continue
        several = len({(cell.seed, cell.rows_asked) for cell in cells}) > 1
        results = {
            f"{cell.task.name}/{name}{f'/{_trial(cell.seed, cell.rows_asked)}' if several else ''}": estimate.value
            for cell in cells
            for name, estimate in cell.metrics.items()
        }
        speed = run.speeds.get(variant.name)
        for timing in speed.timings if speed is not None else ():
            if timing.examples_per_s is not None:
                results[f"{timing.task}/examples_per_s/batch {timing.batch_size}"] = timing.examples_per_s
        model = next(iter(sorted((folder / "models").glob(f"{slug(variant.model)}-*"))), None)
        trained = _training(model) if model is not None and (model / "model.json").is_file() else None
        found.append(
            Tracked(
                name=f"{run.name} {variant.name}",
                parameters={
                    **(trained.parameters if trained is not None else {}),
                    **{"model": variant.model, "runtime": variant.runtime, "precision": variant.precision},
                },
                curve=trained.curve if trained is not None else (),
                results=results,
            )
        )
    return tuple(found)


def _trial(seed: int, rows: object) -> str:
    return f"seed {seed}" if rows is None else f"{rows} rows, seed {seed}"


def _mlflow(name: str) -> GeneralTracker:
    import mlflow
    from accelerate.tracking import MLflowTracker

    if MLFLOW_PLACE not in os.environ:
        FOLDER.mkdir(exist_ok=True)
        mlflow.set_tracking_uri(f"sqlite:///{(FOLDER / MLFLOW_FILE).resolve()}")
    return MLflowTracker(experiment_name=PROJECT, run_name=name)


def _tensorboard(name: str) -> GeneralTracker:
    from accelerate.tracking import TensorBoardTracker

    return TensorBoardTracker(slug(name), logging_dir=FOLDER / "tensorboard")


def _trackio(name: str) -> GeneralTracker:
    from accelerate import PartialState
    from accelerate.tracking import TrackioTracker

    PartialState()  # this tracker writes to accelerate's log, which asks whether this is the first process

    class Tracker(TrackioTracker):  # type: ignore[misc]  # accelerate has no types
        """Ends the run where Trackio would else end it, and say so, when the process does."""

        def finish(self) -> None:
            import trackio

            trackio.finish()

    return Tracker(PROJECT, name=name, embed=False, auto_log_cpu=False, auto_log_gpu=False)


OPENERS: Mapping[TrackerName, Callable[[str], GeneralTracker]] = {
    "mlflow": _mlflow,
    "tensorboard": _tensorboard,
    "trackio": _trackio,
}


def _numbers(values: Mapping[str, object]) -> dict[str, float]:
    return {
        NAME.sub("_", name): float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _flat(values: Mapping[str, object], before: str = "") -> Iterator[tuple[str, object]]:
    """Values within values, by names with points between."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _plain(value: object) -> str | int | float | bool:
    return value if isinstance(value, str | int | float | bool) else str(value)
