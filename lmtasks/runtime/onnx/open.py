"""Opens exported packages in ONNX Runtime, each with the driver that suits its graphs."""

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

from lmtasks.errors import UsageError
from lmtasks.export.architectures import is_of_this_version
from lmtasks.export.package import Package, is_package, load_package
from lmtasks.runtime.base import Runtime, RuntimeInfo, RuntimeOpener, RuntimeRequest
from lmtasks.runtime.onnx.causal import OnnxCausalRuntime
from lmtasks.runtime.onnx.graphs import Graphs
from lmtasks.runtime.onnx.recurrent import OnnxRecurrentRuntime
from lmtasks.runtime.onnx.seq2seq import OnnxSeq2SeqRuntime
from lmtasks.runtime.onnx.session import check_device, devices
from lmtasks.runtime.onnx.traced import OnnxTracedRuntime
from lmtasks.settings.runtimes import RUNTIMES, needs_gpu, package_precisions

DRIVERS: Mapping[tuple[bool, str], Callable[[Graphs], Runtime]] = {
    (False, "encoder"): OnnxTracedRuntime,
    (False, "causal"): OnnxTracedRuntime,
    (False, "encoder-decoder"): OnnxTracedRuntime,
    (True, "encoder"): OnnxTracedRuntime,
    (True, "causal"): OnnxCausalRuntime,
    (True, "encoder-decoder"): OnnxSeq2SeqRuntime,
}
"""Drivers of the graphs of a package, by: were they emitted, and the kind of model."""
STATEFUL_DRIVERS: Mapping[str, Callable[[Graphs], Runtime]] = {"recurrent": OnnxRecurrentRuntime}
"""By the name of the emitter: drivers of graphs that keep a state of their own in place of keys and values."""


class OnnxOpener(RuntimeOpener):
    """The runtime `onnx`."""

    def info(self) -> RuntimeInfo:
        """See `RuntimeOpener`."""
        about = RUNTIMES["onnx"].about
        if find_spec("onnxruntime") is None:
            note = "onnxruntime is not installed; `pip install onnxruntime`."
            return RuntimeInfo(name="onnx", about=about, version="", devices=(), precisions=(), note=note)
        import onnxruntime

        found = devices()
        return RuntimeInfo(
            name="onnx",
            about=about,
            version=onnxruntime.__version__,
            devices=found,
            precisions=package_precisions(*found),
            note="" if "cuda" in found else "cuda, fp16 and bf16 need onnxruntime-gpu in place of onnxruntime.",
        )

    def check(self, *, device: str, precision: str | None) -> None:
        """See `RuntimeOpener`."""
        check_device(device)
        _check_suits(precision or "fp32", device, what="it")

    def open(self, request: RuntimeRequest) -> Runtime:
        """See `RuntimeOpener`."""
        package = check_package(request.ref, device=request.device, precision=request.precision)
        driver = STATEFUL_DRIVERS.get(package.emitter_name) or DRIVERS[package.emitted, package.model.kind]
        return driver(Graphs(package, threads=request.threads, device=request.device))


def check_package(ref: Path, *, device: str, precision: str | None) -> Package:
    """The package in a folder, which can run on the device.

    Args:
        precision: what was asked for; None: the package's own.

    Raises:
        UsageError: no package, a damaged one, one of another version or precision; or this machine cannot run it so.
    """
    if not is_package(ref):
        raise UsageError(
            f"{ref} is no exported package, and onnx runs packages only: make one with "
            f"`lmtasks export --model {ref} --precision {precision or 'fp32'} --out PACKAGE`."
        )
    check_device(device)
    package = load_package(ref)
    _check_suits(package.precision, device, what=f"the package in {ref}")
    if precision not in {None, package.precision}:
        raise UsageError(
            f"the package in {ref} is in {package.precision}, was asked for {precision!r}; a package "
            "runs in the precision it was exported in: "
            f"`lmtasks export --precision {precision}` makes another one."
        )
    if not is_of_this_version(package.emitter) or (package.emitted, package.model.kind) not in DRIVERS:
        raise UsageError(
            f"{ref} was made by another version: this one does not drive graphs of {package.emitter!r}; export "
            "the model again."
        )
    return package


def _check_suits(precision: str, device: str, *, what: str) -> None:
    """Raises: UsageError: the device cannot compute in the precision."""
    if device == "cpu" and needs_gpu(precision):
        raise UsageError(
            f"{what} is in {precision}, which onnxruntime computes on a GPU only; use --device cuda, or on cpu one of: "
            f"{', '.join(package_precisions('cpu'))}."
        )
