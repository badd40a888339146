"""The job of a child process: which variant to open, on what to time it, for how long. It travels as a JSON file."""

from dataclasses import asdict, dataclass
from pathlib import Path

from lmtasks.bench.speed import SpeedSettings
from lmtasks.bench.workload import Load, Workload
from lmtasks.errors import WorkError
from lmtasks.records import Json


@dataclass(frozen=True, kw_only=True)
class SpeedSpec:
    """One variant to be measured in a process of its own."""

    variant: Json
    """Goes into the record as it is: {"name", "model", "adaptation", "runtime", "device", "precision", "threads"}."""
    ref: Path
    """The model or package folder."""
    runtime: str
    device: str = "cpu"
    precision: str | None = None
    """None: the runtime's own choice (fp32 in torch, what a package was exported in)."""
    threads: int
    """For the runtime and BLAS alike, and the machine's limits beside them."""
    workloads: tuple[Workload, ...]
    settings: SpeedSettings

    def __post_init__(self) -> None:
        if not self.workloads:
            raise WorkError(f"there is nothing to time {self.name} on: no task has a workload.")

    @property
    def name(self) -> str:
        """The variant's name."""
        return str(self.variant.get("name", self.ref.name))

    def as_json(self) -> Json:
        """Ready for a JSON file."""
        return {
            "schema": 1,
            "variant": dict(self.variant),
            "ref": str(self.ref),
            "runtime": self.runtime,
            "device": self.device,
            "precision": self.precision,
            "threads": self.threads,
            "workloads": [workload.as_json() for workload in self.workloads],
            "settings": asdict(self.settings),
        }


def spec_from_json(record: Json) -> SpeedSpec:
    """The spec that `as_json` made the record of."""
    variant, workloads, settings = record["variant"], record["workloads"], record["settings"]
    assert isinstance(variant, dict)  # written by as_json, read by the child it was written for
    assert isinstance(workloads, list)
    assert isinstance(settings, dict)
    return SpeedSpec(
        variant=variant,
        ref=Path(str(record["ref"])),
        runtime=str(record["runtime"]),
        device=str(record["device"]),
        precision=None if record["precision"] is None else str(record["precision"]),
        threads=int(str(record["threads"])),
        workloads=tuple(Workload.from_json(workload) for workload in workloads),
        settings=SpeedSettings(
            **{
                **settings,
                "batch_sizes": tuple(settings["batch_sizes"]),
                "loads": tuple(Load(**load) for load in settings["loads"]),
            }
        ),
    )
