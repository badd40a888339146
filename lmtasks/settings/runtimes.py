"""The runtimes and precisions that there are, with all that other folders must know of one before it is loaded.

This module imports nothing heavy: the process that times a model reads it before its clock starts.

>>> [name for name in PRECISIONS if needs_gpu(name)]
['fp16', 'bf16']
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lmtasks.plugins import PluginTable

RuntimeName = str
"""A name of `RUNTIMES`; settings hold it against the table (`runs_on.AnyRuntime`)."""
Precision = Literal["fp32", "fp16", "bf16", "int8", "int8-static", "int8-tensor", "w8", "int4"]
TorchPrecision = Literal["fp32", "bf16"]
"""Precisions in which torch runs and trains models."""
FolderKind = Literal["torch", "onnx", "native", "server"]
"""A model folder, an exported package, a model that was fitted at once, or no folder: a server's address."""


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


@dataclass(frozen=True, kw_only=True)
class PrecisionSpec:
    """A precision."""

    about: str
    product: str
    """The matrix product of the machine that bounds it in the roofline. Weight-only graphs may compute in 8 bits."""
    package_devices: tuple[str, ...] = ("cpu", "cuda")
    """Devices of packages in it; they are proved on the first."""
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
        package_devices=("cuda",),  # no processor computes in it faster than in fp32
    ),
    "bf16": PrecisionSpec(
        about="the same with the range of fp32 and fewer digits",
        product="bf16",
        package_devices=("cuda",),
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
        about="weights in 8 bits with a scale per block of 32, activations as they are", product="int8"
    ),
    "int4": PrecisionSpec(
        about="weights in 4 bits with a scale per block of 32, activations as they are", product="int8"
    ),
}


def package_precisions(*devices: str) -> tuple[Precision, ...]:
    """Precisions whose packages run on one of the devices.

    >>> package_precisions("cpu")
    ('fp32', 'int8', 'int8-static', 'int8-tensor', 'w8', 'int4')
    """
    return tuple(name for name, spec in PRECISIONS.items() if set(devices) & set(spec.package_devices))


def needs_gpu(precision: str) -> bool:
    """Do packages in it run on a GPU only?"""
    return precision in PRECISIONS and precision not in package_precisions("cpu")


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
