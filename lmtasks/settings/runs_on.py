"""Runtime, device, precision and threads: one value on its way from an option, a key or an argument to the runtime."""

from typing import Annotated

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from lmtasks.settings.base import Setting, Settings
from lmtasks.settings.bounds import COUNT
from lmtasks.settings.runtimes import PRECISIONS, RUNTIMES, Precision, package_runtimes


def _known(given: str) -> str:
    if given not in RUNTIMES:
        expected = ", ".join(map(repr, RUNTIMES))
        raise PydanticCustomError("literal_error", "must be one of {expected}", {"expected": expected})
    return given


AnyRuntime = Annotated[str, AfterValidator(_known)]
"""A line of `RUNTIMES`; those of other packages are looked up where the name is not our own."""
Runtimes = Annotated[
    tuple[AnyRuntime, ...],
    Setting(
        f"{', '.join(RUNTIMES.own)}; repeatable; default: what each model is made for.",
        option="--runtime",
        metavar="NAME",
    ),
]
Device = Annotated[str, Setting("cpu or cuda.", metavar="NAME")]
RunPrecision = Annotated[
    Precision | None,
    Setting(f"{', '.join(PRECISIONS)}; default: fp32, or what a package was exported in.", metavar="NAME"),
]
PackagePrecision = Annotated[Precision, Setting(f"{', '.join(PRECISIONS)}.", metavar="NAME")]
PackageRuntime = Annotated[
    AnyRuntime,
    Setting(f"What is to run it, {' or '.join(package_runtimes())}; it is proved there.", metavar="NAME"),
]
Threads = Annotated[
    int | None,
    COUNT,
    Setting("Threads of the runtime; default: one for each processor.", metavar="NUMBER", unit="threads"),
]


ManyMachines = Annotated[
    str,
    Setting(
        "Work on many machines: ray starts a cluster on this one, ray://auto takes the one that this machine belongs "
        "to, ray://HOST:10001 another.",
        metavar="ray[://ADDRESS]",
    ),
]


Force = Annotated[
    bool,
    Setting("Also in a precision that the processor emulates, many times slower; it is refused otherwise."),
]


class RunsOn(Settings):
    """Runtime, device, precision and threads of a model."""

    runtime: Annotated[
        AnyRuntime | None, Setting(f"{', '.join(RUNTIMES.own)}; default: what the model is made for.", metavar="NAME")
    ] = None
    device: Device = "cpu"
    precision: RunPrecision = None
    threads: Threads = None
    force: Force = False
