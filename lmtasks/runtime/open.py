"""From a folder to a runtime; and what can run here.

`RUNTIMES` (`settings/runtimes.py`) names the opener of each runtime of this package, as `module:class`. A package that
was installed beside it offers its own under the entry point group `lmtasks.runtimes`, in the same form.
"""

from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from lmtasks.errors import UsageError, unknown
from lmtasks.runtime.base import Runtime, RuntimeInfo, RuntimeOpener, RuntimeRequest
from lmtasks.settings.runtimes import ENTRY_POINTS, RUNTIMES


def open_runtime(
    ref: Path,
    *,
    runtime: str,
    device: str = "cpu",
    precision: str | None = None,
    threads: int | None = None,
) -> Runtime:
    """Load what lies in `ref`.

    Args:
        ref: a model folder for torch and native, an exported package for onnx.
        runtime: `torch`, `torch-compile`, `onnx`, `native`, or one that another package brings.
        device: `cpu`, or `cuda` where the runtime has it.
        precision: None: fp32 in torch, the package's own in onnx.
        threads: inside an operator; None: as many as the process may use.

    Raises:
        UsageError: the folder does not suit the runtime, or this machine cannot run it so. Nothing is replaced.
        WorkError: the weights or graphs cannot be loaded.
    """
    request = RuntimeRequest(ref=ref, device=device, precision=precision, threads=threads)
    return opener_of(runtime).open(request)


def check_runs(*, runtime: str, device: str, precision: str | None) -> None:
    """Before there is anything to load: could it run here?

    Raises:
        UsageError: this machine cannot run the runtime so.
    """
    opener_of(runtime).check(device=device, precision=precision)


def list_runtimes() -> tuple[RuntimeInfo, ...]:
    """All runtimes, with what each can run on this machine."""
    return (*(opener_of(name).info() for name in RUNTIMES), *_external_infos())


def opener_of(runtime: str) -> RuntimeOpener:
    """The opener of a runtime, by its name.

    Raises:
        UsageError: there is none of that name, or the package that brings it cannot be imported.
    """
    paths = {str(name): spec.opener for name, spec in RUNTIMES.items()}
    if runtime in paths:
        module, _, name = paths[runtime].partition(":")
        return _made(getattr(import_module(module), name), runtime)
    external = {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}
    if runtime not in external:
        raise unknown("runtime", runtime, [*paths, *external])
    return _external(external[runtime])


def _external(entry: EntryPoint) -> RuntimeOpener:
    try:
        opener = entry.load()
    except Exception as error:  # whatever another package's code raises
        raise UsageError(f"the runtime {entry.name!r} ({entry.value}) cannot be imported: {error}") from error
    return _made(opener, entry.name)


def _external_infos() -> Iterator[RuntimeInfo]:
    """Runtimes of other packages; one that cannot be imported says so, and the rest goes on."""
    for entry in entry_points(group=ENTRY_POINTS):
        try:
            yield _external(entry).info()
        except UsageError as error:
            yield RuntimeInfo(
                name=entry.name, about=entry.value, version="", devices=(), precisions=(), note=str(error)
            )


def _made(opener: object, name: str) -> RuntimeOpener:
    made = opener() if isinstance(opener, type) and issubclass(opener, RuntimeOpener) else opener
    if not isinstance(made, RuntimeOpener):
        raise UsageError(f"the runtime {name!r} has no opener; `{opener!r}` is no `RuntimeOpener`.")
    return made
