"""The runtimes and precisions that there are, with all that other folders must know of one before it is loaded.

This module imports nothing heavy: the process that times a model reads it before its clock starts.

>>> [name for name in PRECISIONS if needs_gpu(name)]
['fp16', 'bf16']
>>> [name for name in RUNTIMES if package_precisions("cpu", runtime=name)]
['onnx', 'openvino']
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from lmtasks.plugins import PluginTable

RuntimeName = str
"""A name of `RUNTIMES`; settings hold it against the table (`runs_on.AnyRuntime`)."""
Precision = Literal["fp32", "fp16", "bf16", "int8", "int8-static", "int8-tensor", "w8", "int4"]
TorchPrecision = Literal["fp32", "bf16"]
"""Precisions in which torch runs and trains models."""
FolderKind = Literal["torch", "onnx", "native", "server"]
"""A model folder, an exported package, a model that was fitted at once, or no folder: a server's address."""
Packages = Mapping[Precision, tuple[str, ...]]
"""Precisions of packages, each with the devices that they run on; they are proved on the first."""
MADE_FOR: RuntimeName = "onnx"
"""The runtime that packages are exported for where nobody says otherwise."""
ANYWHERE, ON_CPU, ON_CUDA = ("cpu", "cuda"), ("cpu",), ("cuda",)


@dataclass(frozen=True, kw_only=True)
class RuntimeSpec:
    """A runtime."""

    about: str
    opener: str
    """Its `RuntimeOpener`, as `module:class`: imported when the runtime is asked for."""
    folders: FolderKind
    """The kind of folder that it loads."""
    devices: tuple[str, ...]
    """Devices that it knows; whether this machine can is `runtime.open.list_runtimes`' to say."""
    imports: tuple[str, ...]
    """Modules that it imports before it can load anything."""
    versions_in_cache_key: tuple[str, ...] = ()
    """Distributions that compute besides the one whose version stands on the runtime's card."""
    packages: Packages = field(default_factory=dict)
    """The packages that are exported for it and proved in it; none of a runtime that loads something else."""
    reads_only: bool = False
    """Are its packages those of encoders alone?"""


@dataclass(frozen=True, kw_only=True)
class PrecisionSpec:
    """A precision."""

    about: str
    product: str
    """The matrix product of the machine that bounds it in the roofline. Weight-only graphs may compute in 8 bits."""
    in_torch: bool = False
    cached: bool = True
    """False: an answer depends on its neighbours in the batch, so it is never kept."""


_TORCH_IMPORTS = ("torch", "transformers.modeling_utils", "lmtasks.runtime.torch.transformer")

_OWN: Mapping[RuntimeName, RuntimeSpec] = {
    "torch": RuntimeSpec(
        about="PyTorch",
        opener="lmtasks.runtime.torch.open:TorchOpener",
        folders="torch",
        devices=("cpu", "cuda"),
        imports=_TORCH_IMPORTS,
        versions_in_cache_key=("transformers",),
    ),
    "torch-compile": RuntimeSpec(
        about="PyTorch, compiled by torch.compile for the shapes that it meets",
        opener="lmtasks.runtime.torch.open:TorchCompileOpener",
        folders="torch",
        devices=("cpu", "cuda"),
        imports=_TORCH_IMPORTS,
        versions_in_cache_key=("transformers",),
    ),
    "onnx": RuntimeSpec(
        about="ONNX Runtime, over packages made by `lmtasks export`",
        opener="lmtasks.runtime.onnx.open:OnnxOpener",
        folders="onnx",
        devices=("cpu", "cuda"),
        imports=("onnxruntime", "lmtasks.runtime.onnx.open"),
        packages={
            "fp32": ANYWHERE,
            "fp16": ON_CUDA,  # no processor computes in it faster than in fp32
            "bf16": ON_CUDA,  # onnxruntime has no such product on the processor
            "int8": ANYWHERE,
            "int8-static": ANYWHERE,
            "int8-tensor": ANYWHERE,
            "w8": ANYWHERE,
            "int4": ANYWHERE,
        },
    ),
    "openvino": RuntimeSpec(
        about="OpenVINO, over packages of encoders made by `lmtasks export --runtime openvino`",
        opener="lmtasks.runtime.openvino.open:OpenVinoOpener",
        folders="onnx",
        devices=("cpu",),
        imports=("openvino", "lmtasks.runtime.openvino.open"),
        packages={"fp32": ON_CPU, "bf16": ON_CPU, "int8-static": ON_CPU},
        reads_only=True,
    ),
    "native": RuntimeSpec(
        about="NumPy and SciPy, over models that are fitted at once: n-grams, linear classifiers",
        opener="lmtasks.runtime.native:NativeOpener",
        folders="native",
        devices=("cpu",),
        imports=("scipy.sparse", "lmtasks.runtime.native"),
    ),
    "endpoint": RuntimeSpec(
        about="a server that speaks the OpenAI protocol (--model http://host:port/v1)",
        opener="lmtasks.runtime.endpoint:EndpointOpener",
        folders="server",
        devices=("server",),
        imports=("httpx2", "lmtasks.endpoint.engine"),
    ),
}
RUNTIMES = PluginTable(_OWN, group="lmtasks.runtimes", kind=RuntimeSpec)

PRECISIONS: Mapping[Precision, PrecisionSpec] = {
    "fp32": PrecisionSpec(about="the weights as they are", product="fp32", in_torch=True),
    "fp16": PrecisionSpec(
        about="weights and activations in 16 bits, for GPUs; norms and softmax in fp32",
        product="fp16",
    ),
    "bf16": PrecisionSpec(
        about="the same with the range of fp32 and fewer digits; also on processors that multiply in it",
        product="bf16",
        in_torch=True,
    ),
    "int8": PrecisionSpec(
        about="weights in 8 bits with a scale per column, activations with a scale per row: answers do not depend on "
        "their neighbours in the batch",
        product="int8",
    ),
    "int8-static": PrecisionSpec(
        about="weights in 8 bits with a scale per column, activations with one scale that was fixed on real rows: "
        "answers do not depend on their neighbours in the batch",
        product="int8",
    ),
    "int8-tensor": PrecisionSpec(
        about="onnxruntime's dynamic quantization: one activation scale a tensor, so that an answer depends on "
        "its neighbours in the batch",
        product="int8",
        cached=False,
    ),
    "w8": PrecisionSpec(
        about="weights in 8 bits with a scale per block of up to 256, activations as they are; the fastest on a "
        "processor for a model that writes one text at a time",
        product="int8",
    ),
    "int4": PrecisionSpec(
        about="weights in 4 bits with a scale per block of 32, activations as they are", product="int8"
    ),
}


def package_precisions(*devices: str, runtime: RuntimeName = MADE_FOR) -> tuple[Precision, ...]:
    """Precisions whose packages run on one of the devices.

    >>> package_precisions("cpu")
    ('fp32', 'int8', 'int8-static', 'int8-tensor', 'w8', 'int4')
    >>> package_precisions("cpu", runtime="openvino")
    ('fp32', 'bf16', 'int8-static')
    """
    return tuple(name for name, on in RUNTIMES[runtime].packages.items() if set(devices) & set(on))


def needs_gpu(precision: str, *, runtime: RuntimeName = MADE_FOR) -> bool:
    """Do packages in it run on a GPU only?"""
    return precision in RUNTIMES[runtime].packages and precision not in package_precisions("cpu", runtime=runtime)


def package_label(runtime: RuntimeName, precision: str) -> str:
    """A short name for what a package is made for.

    >>> package_label("onnx", "int8"), package_label("openvino", "bf16")
    ('int8', 'openvino-bf16')
    """
    return precision if runtime == MADE_FOR else f"{runtime}-{precision}"


def runs_packages(runtime: RuntimeName) -> bool:
    """Are packages exported for it? Of no runtime that a report may name besides (`answers`)."""
    return runtime in package_runtimes()


def package_runtimes() -> tuple[RuntimeName, ...]:
    """Runtimes that packages are exported for."""
    return tuple(name for name in RUNTIMES.own if RUNTIMES[name].packages)


def is_cached(precision: str) -> bool:
    """Whether answers in it may be kept: not where they depend on their neighbours in the batch."""
    return all(spec.cached for name, spec in PRECISIONS.items() if name == precision)


def product_of(precision: str) -> str:
    """The matrix product that bounds a precision in the roofline; empty for none of them."""
    return next((spec.product for name, spec in PRECISIONS.items() if name == precision), "")


def torch_precisions() -> tuple[Precision, ...]:
    """Precisions in which torch runs and trains models."""
    return tuple(name for name, spec in PRECISIONS.items() if spec.in_torch)


def libraries_of(runtime: str) -> tuple[str, ...]:
    """Distributions that compute in a runtime besides the one whose version stands on its card."""
    return next((spec.versions_in_cache_key for name, spec in RUNTIMES.items() if name == runtime), ())
