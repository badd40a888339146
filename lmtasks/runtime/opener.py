"""A runtime before it has loaded anything: what it can do on this machine, and how it opens a folder.

`RUNTIMES` (`settings/runtimes.py`) names the opener of each runtime; others are found by their entry point.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from lmtasks.errors import UsageError
from lmtasks.runtime.base import Runtime


@dataclass(frozen=True, kw_only=True)
class RuntimeInfo:
    """One line of `lmtasks list runtimes`."""

    name: str
    about: str
    version: str
    """Empty where it is not installed."""
    devices: tuple[str, ...]
    """Where it can compute on this machine; empty where it cannot run at all."""
    precisions: tuple[str, ...]
    """Precisions in which it can compute on this machine."""
    note: str = ""
    """Why something is missing, and how to get it."""


@dataclass(frozen=True, kw_only=True)
class RuntimeRequest:
    """A folder that is to be opened, and how it is to run."""

    ref: Path
    device: str
    precision: str | None
    """None: fp32, or a package's own."""
    threads: int | None
    """None: as many as the process may use."""


class RuntimeOpener(ABC):
    """Opens folders in one runtime. It is made without arguments, and imports what computes when it is asked."""

    @abstractmethod
    def info(self) -> RuntimeInfo:
        """The runtime on this machine."""

    @abstractmethod
    def open(self, request: RuntimeRequest) -> Runtime:
        """Load a folder.

        Raises:
            UsageError: the folder does not suit the runtime, or this machine cannot run it so. Nothing is replaced.
            WorkError: the weights or graphs cannot be loaded.
        """

    def check(self, *, device: str, precision: str | None) -> None:
        """
        Raises:
            UsageError: the runtime cannot compute there, or in that, on this machine.
        """
        info = self.info()
        for wanted, allowed, how in ((device, info.devices, "on"), (precision or "fp32", info.precisions, "in")):
            if wanted not in allowed:
                raise UsageError(
                    f"{info.name} cannot compute {how} {wanted!r} here; it can {how}: "
                    f"{', '.join(allowed) or 'nothing'}. {info.note}".rstrip()
                )


def weight_bytes(folder: Path) -> int:
    """Bytes of the weights of a model folder."""
    from lmtasks.model.weights import weight_files

    return sum(file.stat().st_size for file in weight_files(folder))
