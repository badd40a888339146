"""Opens exported packages in ONNX Runtime, each with the driver that suits its graphs."""

from collections.abc import Callable, Mapping
from importlib.util import find_spec

from lmtasks.errors import UsageError
from lmtasks.export.package import Package
from lmtasks.runtime.base import Runtime, RuntimeInfo
from lmtasks.runtime.onnx.causal import OnnxCausalRuntime
from lmtasks.runtime.onnx.graphs import Graphs
from lmtasks.runtime.onnx.recurrent import OnnxRecurrentRuntime
from lmtasks.runtime.onnx.seq2seq import OnnxSeq2SeqRuntime
from lmtasks.runtime.onnx.session import check_device, devices
from lmtasks.runtime.onnx.traced import OnnxTracedRuntime
from lmtasks.runtime.packages import PackageOpener
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


class OnnxOpener(PackageOpener):
    """The runtime `onnx`."""

    name = "onnx"

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

    def check(self, *, device: str, precision: str | None, force: bool = False) -> None:
        """See `RuntimeOpener`."""
        check_device(device)
        if device == "cpu" and needs_gpu(precision or "fp32"):
            raise UsageError(
                f"it is in {precision}, which onnxruntime computes on a GPU only; use --device cuda, or on cpu one of: "
                f"{', '.join(package_precisions('cpu'))}; or bf16 in --runtime torch or openvino."
            )

    def drive(self, package: Package, *, device: str, threads: int | None) -> Runtime:
        """See `PackageOpener`."""
        driver = STATEFUL_DRIVERS.get(package.emitter_name) or DRIVERS[package.emitted, package.model.kind]
        return driver(Graphs(package, threads=threads, device=device))
