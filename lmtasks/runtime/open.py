"""From a folder to a runtime; and what can run here.

`RUNTIMES` (`settings/runtimes.py`) names the opener of each runtime, as `module:class`; a package that was installed
beside this one adds a line of its own by the entry point group `lmtasks.runtimes`.
"""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from lmtasks.errors import UsageError, unknown
from lmtasks.runtime.base import Runtime, RuntimeInfo, RuntimeOpener, RuntimeRequest
from lmtasks.settings.runtimes import RUNTIMES


def open_runtime(
    ref: Path,
    *,
    runtime: str,
    device: str = "cpu",
    precision: str | None = None,
    threads: int | None = None,
    force: bool = False,
) -> Runtime:
    """Load what lies in `ref`.

    Args:
        ref: a model folder for torch and native, an exported package for onnx and openvino.
        runtime: `torch`, `torch-compile`, `onnx`, `openvino`, `native`, or one that another package brings.
        device: `cpu`, or `cuda` where the runtime has it.
        precision: None: fp32 in torch, a package's own.
        threads: inside an operator; None: as many as the process may use.
        force: also in a precision that the processor emulates.

    Raises:
        UsageError: the folder does not suit the runtime, or this machine cannot run it so. Nothing is replaced.
        WorkError: the weights or graphs cannot be loaded.
    """
    request = RuntimeRequest(ref=ref, device=device, precision=precision, threads=threads, force=force)
    return opener_of(runtime).open(request)


def open_runtimes(
    refs: Sequence[Path],
    *,
    runtime: str,
    device: str = "cpu",
    precision: str | None = None,
    threads: int | None = None,
    force: bool = False,
) -> tuple[Runtime, ...]:
    """Load several models over one backbone, which is in memory once; see `open_runtime`.

    Raises:
        UsageError: as `open_runtime`; they stand over different backbones; or the runtime opens one at a time.
        WorkError: the weights cannot be loaded.
    """
    asked = [RuntimeRequest(ref=ref, device=device, precision=precision, threads=threads, force=force) for ref in refs]
    return opener_of(runtime).open_together(asked)


def check_runs(*, runtime: str, device: str, precision: str | None, force: bool = False) -> None:
    """Before there is anything to load: could it run here?

    Raises:
        UsageError: this machine cannot run the runtime so.
    """
    opener_of(runtime).check(device=device, precision=precision, force=force)


def precision_of(
    ref: Path, *, runtime: str, device: str = "cpu", precision: str | None = None, force: bool = False
) -> str:
    """The precision in which a folder would be computed, without loading its weights.

    Raises:
        UsageError: as `open_runtime`.
    """
    asked = RuntimeRequest(ref=ref, device=device, precision=precision, threads=None, force=force)
    return opener_of(runtime).precision_of(asked)


def list_runtimes() -> tuple[RuntimeInfo, ...]:
    """All runtimes, with what each can run on this machine."""
    return tuple(opener_of(name).info() if name in RUNTIMES.own else _plugin_info(name) for name in RUNTIMES)


def opener_of(runtime: str) -> RuntimeOpener:
    """The opener of a runtime, by its name.

    Raises:
        UsageError: there is none of that name, or the package that brings it cannot be imported.
    """
    if runtime not in RUNTIMES:
        raise unknown("runtime", runtime, RUNTIMES)
    path, package = RUNTIMES[runtime].opener, RUNTIMES.package(runtime)
    module, _, name = path.partition(":")
    try:
        opener: object = getattr(import_module(module), name)
        made = opener() if isinstance(opener, type) and issubclass(opener, RuntimeOpener) else opener
    except Exception as error:
        if not package:
            raise
        raise UsageError(f"the runtime {runtime!r} of {package} ({path}) cannot be imported: {error}.") from error
    if not isinstance(made, RuntimeOpener):
        raise UsageError(f"the runtime {runtime!r} has no opener; `{path}` is no `RuntimeOpener`.")
    return made


def _plugin_info(runtime: str) -> RuntimeInfo:
    """A runtime of another package; where it cannot be imported, the note says so."""
    try:
        return opener_of(runtime).info()
    except UsageError as error:
        about = RUNTIMES[runtime].about
        return RuntimeInfo(name=runtime, about=about, version="", devices=(), precisions=(), note=str(error))
