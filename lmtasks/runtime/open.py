"""From a folder to a runtime; and what can run here."""

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from lmtasks.errors import UsageError, unknown
from lmtasks.export.architectures import is_of_this_version
from lmtasks.export.package import Package, is_package, load_package
from lmtasks.runtime.base import Runtime
from lmtasks.runtime.onnx.session import check_device, devices
from lmtasks.settings.runtimes import (
    RUNTIMES,
    RuntimeName,
    TorchPrecision,
    needs_gpu,
    package_precisions,
    torch_precisions,
)
from lmtasks.version import __version__

if TYPE_CHECKING:
    from lmtasks.runtime.onnx.graphs import Graphs


@dataclass(frozen=True, kw_only=True)
class RuntimeInfo:
    """One line of `lmtasks list runtimes`."""

    name: RuntimeName
    about: str
    version: str
    """Empty where it is not installed."""
    devices: tuple[str, ...]
    """Where it can compute on this machine; empty where it cannot run at all."""
    precisions: tuple[str, ...]
    """What it can compute in on this machine."""
    note: str = ""
    """Why something is missing, and how to get it."""


@dataclass(frozen=True, kw_only=True)
class RuntimeRequest:
    """What `open_runtime` was asked for."""

    ref: Path
    device: str
    precision: str | None
    threads: int | None


def open_runtime(
    ref: Path,
    *,
    runtime: str,
    device: str = "cpu",
    precision: str | None = None,
    threads: int | None = None,
) -> Runtime[object]:
    """Load what lies in `ref`.

    Args:
        ref: a model folder for torch and native, an exported package for onnx.
        runtime: `torch`, `torch-compile`, `onnx` or `native`.
        device: `cpu`, or `cuda` where torch has it.
        precision: None: fp32 in torch, the package's own in onnx.
        threads: inside an operator; None: as many as the process may use.

    Raises:
        UsageError: the folder does not suit the runtime, or this machine cannot run it so. Nothing is replaced.
        WorkError: the weights or graphs cannot be loaded.
    """
    if runtime not in OPENERS:
        raise unknown("runtime", runtime, OPENERS)
    return OPENERS[runtime](RuntimeRequest(ref=ref, device=device, precision=precision, threads=threads))


def check_runs(*, runtime: str, device: str, precision: str | None) -> None:
    """Before there is anything to load: could it run here?

    Raises:
        UsageError: this machine cannot run the runtime so.
    """
    if runtime not in CHECKS:
        raise unknown("runtime", runtime, CHECKS)
    CHECKS[runtime](device, precision)


def list_runtimes() -> tuple[RuntimeInfo, ...]:
    """What is installed here, and what it can run on this machine."""
    return (_torch_info("torch"), _torch_info("torch-compile"), _onnx_info(), _native_info())


def _check_onnx(device: str, precision: str | None) -> None:
    """Raises: UsageError: onnxruntime cannot compute there, or in that."""
    check_device(device)
    check_suits(precision or "fp32", device, what="it")


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
    check_suits(package.precision, device, what=f"the package in {ref}")
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


def _open_onnx(wanted: RuntimeRequest) -> Runtime[object]:
    package = check_package(wanted.ref, device=wanted.device, precision=wanted.precision)
    from lmtasks.runtime.onnx.graphs import Graphs

    drive = CARRYING.get(package.emitter_name) or DRIVERS[package.emitted, package.model.kind]
    return drive(Graphs(package, threads=wanted.threads, device=wanted.device))


def _traced(graphs: "Graphs") -> Runtime[object]:
    from lmtasks.runtime.onnx.traced import OnnxTracedRuntime

    return cast("Runtime[object]", OnnxTracedRuntime(graphs))  # its states are nobody else's business


def _causal(graphs: "Graphs") -> Runtime[object]:
    from lmtasks.runtime.onnx.causal import OnnxCausalRuntime

    return cast("Runtime[object]", OnnxCausalRuntime(graphs))


def _carried(graphs: "Graphs") -> Runtime[object]:
    from lmtasks.runtime.onnx.recurrent import OnnxRecurrentRuntime

    return cast("Runtime[object]", OnnxRecurrentRuntime(graphs))


def _pairs(graphs: "Graphs") -> Runtime[object]:
    from lmtasks.runtime.onnx.seq2seq import OnnxSeq2SeqRuntime

    return cast("Runtime[object]", OnnxSeq2SeqRuntime(graphs))


DRIVERS: Mapping[tuple[bool, str], Callable[["Graphs"], Runtime[object]]] = {
    (False, "encoder"): _traced,
    (False, "causal"): _traced,
    (False, "encoder-decoder"): _traced,
    (True, "encoder"): _traced,
    (True, "causal"): _causal,
    (True, "encoder-decoder"): _pairs,
}
"""What drives the graphs of a package: were they emitted, and the kind of model."""
CARRYING: Mapping[str, Callable[["Graphs"], Runtime[object]]] = {"recurrent": _carried}
"""By the name of the emitter: graphs that keep a state of their own in place of keys and values."""


def check_suits(precision: str, device: str, *, what: str) -> None:
    """Raises: UsageError: the device cannot compute in the precision."""
    if device == "cpu" and needs_gpu(precision):
        raise UsageError(
            f"{what} is in {precision}, which onnxruntime computes on a GPU only; use --device cuda, or on cpu one of: "
            f"{', '.join(package_precisions('cpu'))}."
        )


def _open_torch(wanted: RuntimeRequest, *, compiled: bool = False) -> Runtime[object]:
    name: Literal["torch", "torch-compile"] = "torch-compile" if compiled else "torch"
    if is_package(wanted.ref):
        raise UsageError(
            f"{wanted.ref} is an exported package, which runs in onnx: use --runtime onnx, or give {name} the model "
            "folder that `lmtasks export` was given."
        )
    _check_info(_torch_info(name), wanted.device, wanted.precision)
    from lmtasks.model.store import load_model
    from lmtasks.runtime.torch.own_families import StateRuntime
    from lmtasks.runtime.torch.transformer import TorchRuntime

    model = load_model(wanted.ref)
    made = TorchRuntime if model.backbone.traits.by_transformers else StateRuntime
    return cast(
        "Runtime[object]",
        made(
            model,
            size_bytes=_weight_bytes(wanted.ref),
            device=wanted.device,
            precision=cast("TorchPrecision", wanted.precision or "fp32"),
            threads=wanted.threads,
            compiled=compiled,
        ),
    )


def _check_info(info: RuntimeInfo, device: str, precision: str | None) -> None:
    """Raises: UsageError: the runtime cannot compute there, or in that, on this machine."""
    for wanted, allowed, how in ((device, info.devices, "on"), (precision or "fp32", info.precisions, "in")):
        if wanted not in allowed:
            raise UsageError(
                f"{info.name} cannot compute {how} {wanted!r} here; it can {how}: {', '.join(allowed) or 'nothing'}. "
                f"{info.note}".rstrip()
            )


def _open_compiled(wanted: RuntimeRequest) -> Runtime[object]:
    return _open_torch(wanted, compiled=True)


def _open_native(wanted: RuntimeRequest) -> Runtime[object]:
    from lmtasks.model.closed_form import FITTED, fitted_family, load_fitted

    if fitted_family(wanted.ref) is None:
        raise UsageError(
            f"{wanted.ref} is no model of {', '.join(FITTED)}, and native runs no others: use --runtime "
            f"{'onnx' if is_package(wanted.ref) else 'torch'}."
        )
    _check_info(_native_info(), wanted.device, wanted.precision)
    from lmtasks.runtime.native import NativeRuntime

    return cast("Runtime[object]", NativeRuntime(load_fitted(wanted.ref), size_bytes=_weight_bytes(wanted.ref)))


OPENERS: Mapping[str, Callable[[RuntimeRequest], Runtime[object]]] = {
    "torch": _open_torch,
    "torch-compile": _open_compiled,
    "onnx": _open_onnx,
    "native": _open_native,
}
CHECKS: Mapping[str, Callable[[str, str | None], None]] = {
    "torch": lambda device, precision: _check_info(_torch_info("torch"), device, precision),
    "torch-compile": lambda device, precision: _check_info(_torch_info("torch-compile"), device, precision),
    "onnx": _check_onnx,
    "native": lambda device, precision: _check_info(_native_info(), device, precision),
}
"""By the name of the runtime: can this machine run it on the device, in the precision?"""


def _torch_info(name: Literal["torch", "torch-compile"]) -> RuntimeInfo:
    import torch

    devices, notes = ["cpu"], []
    if torch.cuda.is_available():
        devices.append("cuda")
    fast_bf16 = torch.cpu._is_avx512_bf16_supported() or "cuda" in devices
    if not fast_bf16:
        notes.append("bf16 needs a processor with AVX-512 BF16.")
    if name == "torch-compile" and not any(map(shutil.which, (os.environ.get("CXX", ""), "g++", "clang++", "c++"))):
        devices.remove("cpu")
        notes.append("torch.compile needs a C++ compiler on cpu; install g++.")
    return RuntimeInfo(
        name=name,
        about=RUNTIMES[name].about,
        version=torch.__version__,
        devices=tuple(devices),
        precisions=torch_precisions() if fast_bf16 else ("fp32",),
        note=" ".join(notes),
    )


def _onnx_info() -> RuntimeInfo:
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


def _native_info() -> RuntimeInfo:
    return RuntimeInfo(
        name="native",
        about=RUNTIMES["native"].about,
        version=__version__,
        devices=RUNTIMES["native"].devices,
        precisions=("fp32",),
    )


def _weight_bytes(folder: Path) -> int:
    from lmtasks.model.weights import weight_files

    return sum(file.stat().st_size for file in weight_files(folder))
