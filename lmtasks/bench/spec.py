"""The job of a child process: which variant to open, on what to time it, for how long. It travels as a JSON file.

`--sweep AXIS=VALUES` asks for the same work at several batch sizes, lengths, or numbers of threads:

>>> parse_sweeps(["batch=1,8,32", "threads=1,2"])
Sweep(batch=(1, 8, 32), length=(), threads=(1, 2))
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from lmtasks.bench.rate_search import RateGoal
from lmtasks.bench.speed import SpeedSettings
from lmtasks.bench.workload import Load, Workload
from lmtasks.errors import UsageError, WorkError, unknown
from lmtasks.records import Json
from lmtasks.settings.bounds import COUNT, MOST


@dataclass(frozen=True, kw_only=True)
class TimedServerSpec:
    """A server that was probed, and how it is asked; ready for a JSON file. It holds the name of a key's variable, and
    no key."""

    server: Json
    settings: Json


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
    force: bool = False
    """Also in a precision that the processor emulates."""
    workloads: tuple[Workload, ...]
    settings: SpeedSettings
    server: TimedServerSpec | None = None
    """None: what lies in `ref` is timed on this machine."""

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
            "force": self.force,
            "workloads": [workload.as_json() for workload in self.workloads],
            "settings": asdict(self.settings),
            "server": None if self.server is None else asdict(self.server),
        }


def spec_from_json(record: Json) -> SpeedSpec:
    """The spec that `as_json` made the record of."""
    variant, workloads, settings = record["variant"], record["workloads"], record["settings"]
    server = record["server"]
    assert server is None or isinstance(server, dict)
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
        force=bool(record["force"]),
        workloads=tuple(Workload.from_json(workload) for workload in workloads),
        settings=SpeedSettings(
            **{
                **settings,
                "batch_sizes": tuple(settings["batch_sizes"]),
                "loads": tuple(Load(**load) for load in settings["loads"]),
                "goals": tuple(RateGoal(**goal) for goal in settings["goals"]),
            }
        ),
        server=None if server is None else TimedServerSpec(**server),
    )


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """The axes that are varied; an empty one is not."""

    batch: tuple[int, ...] = ()
    """Requests at once, instead of 1 and --batch-size."""
    length: tuple[int, ...] = ()
    """Tokens to read, in requests that all have as many, beside those of the task's own lengths."""
    threads: tuple[int, ...] = ()
    """Each makes a variant of its own."""


AXES = tuple(each.name for each in fields(Sweep))


def parse_sweeps(texts: Sequence[str]) -> Sweep:
    """The axes of all --sweep options.

    Raises:
        UsageError: an unknown axis, one that is given twice, or a value that is no whole number of at least 1.
    """
    found: dict[str, tuple[int, ...]] = {}
    for text in texts:
        axis, equals, values = (part.strip() for part in text.partition("="))
        if not equals:
            raise UsageError(f"--sweep must be AXIS=NUMBERS, as in batch=1,8,32, was {text!r}.")
        if axis not in AXES:
            raise unknown("axis of --sweep", axis, AXES)
        if axis in found:
            raise UsageError(f"--sweep {axis} is given twice; put all its values into one.")
        found[axis] = tuple(dict.fromkeys(_whole(value, text) for value in values.split(",")))
    return Sweep(**found)


def _whole(value: str, text: str) -> int:
    digits = value.strip()
    if not digits.isdecimal() or len(digits) > len(str(MOST)) or not COUNT.holds(int(digits)):
        raise UsageError(
            f"--sweep {text!r}: values are whole numbers of at least 1 with commas between, not {value.strip()!r}."
        )
    return int(value)
