"""On what a model runs: one value on its way from an option, a plan's key or an argument to the runtime."""

from typing import Annotated

from lmtasks.settings.base import Setting, Settings
from lmtasks.settings.bounds import COUNT
from lmtasks.settings.runtimes import PRECISIONS, RUNTIMES, Precision, RuntimeName

Device = Annotated[str, Setting("cpu or cuda.", metavar="NAME")]
Threads = Annotated[
    int | None,
    COUNT,
    Setting("Threads of the runtime; default: one for each processor.", metavar="NUMBER", unit="threads"),
]


RunPrecision = Annotated[
    Precision | None,
    Setting(f"{', '.join(PRECISIONS)}; default: fp32, or what a package was exported in.", metavar="NAME"),
]
PackagePrecision = Annotated[Precision, Setting(f"{', '.join(PRECISIONS)}.", metavar="NAME")]
Runtimes = Annotated[
    tuple[RuntimeName, ...],
    Setting(
        f"{', '.join(RUNTIMES)}; repeatable; default: what each model is made for.",
        option="--runtime",
        metavar="NAME",
    ),
]


class RunsOn(Settings):
    """Runtime, device, precision and threads of a model."""

    runtime: Annotated[
        RuntimeName | None, Setting(f"{', '.join(RUNTIMES)}; default: what the model is made for.", metavar="NAME")
    ] = None
    device: Device = "cpu"
    precision: RunPrecision = None
    threads: Threads = None
