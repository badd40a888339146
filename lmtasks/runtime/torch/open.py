"""Opens model folders in PyTorch, plain or through torch.compile."""

import os
import shutil
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal

from lmtasks.errors import UsageError
from lmtasks.export.package import is_package
from lmtasks.processor import INSTRUCTIONS, computes
from lmtasks.runtime.base import Runtime, RuntimeInfo, RuntimeOpener, RuntimeRequest, weight_bytes
from lmtasks.settings.runtimes import RUNTIMES, torch_precisions

if TYPE_CHECKING:
    from lmtasks.model.model import Model
    from lmtasks.runtime.torch.own_families import OwnFamilyRuntime
    from lmtasks.runtime.torch.transformer import TorchRuntime

COMPILERS = ("g++", "clang++", "c++")


class TorchOpener(RuntimeOpener):
    """The runtime `torch`."""

    name: Literal["torch", "torch-compile"] = "torch"
    compiled = False

    def info(self) -> RuntimeInfo:
        """See `RuntimeOpener`."""
        import torch

        devices, notes = ["cpu"], []
        if torch.cuda.is_available():
            devices.append("cuda")
        emulated = () if computes("bf16") else ("bf16",)
        if emulated:
            notes.append(f"bf16 is emulated: the processor has none of {INSTRUCTIONS['bf16'].names}.")
        if self.compiled and not any(map(shutil.which, (os.environ.get("CXX", ""), *COMPILERS))):
            devices.remove("cpu")
            notes.append("torch.compile needs a C++ compiler on cpu; install g++.")
        return RuntimeInfo(
            name=self.name,
            about=RUNTIMES[self.name].about,
            version=torch.__version__,
            devices=tuple(devices),
            precisions=torch_precisions() if "cuda" in devices or not emulated else ("fp32",),
            emulated=emulated,
            note=" ".join(notes),
        )

    def open(self, request: RuntimeRequest) -> Runtime:
        """See `RuntimeOpener`."""
        from lmtasks.model.store import load_model

        self._check(request)
        return self._driver(load_model(request.ref), request)

    def open_together(self, requests: Sequence[RuntimeRequest]) -> tuple[Runtime, ...]:
        """See `RuntimeOpener`."""
        if self.compiled:
            return super().open_together(requests)
        from lmtasks.model.store import load_together
        from lmtasks.runtime.torch.device import DTYPES, torch_precision

        for request in requests:
            self._check(request)
        models, switch = load_together([request.ref for request in requests])
        driver = self._driver(models[0], requests[0])
        dtype = DTYPES[torch_precision(requests[0].precision or "fp32")]
        return tuple(
            driver.over(
                model,
                partial(switch.choose, number, device=request.device, dtype=dtype),
                size_bytes=weight_bytes(request.ref),
                numbers=switch.numbers(number),
            )
            for number, (model, request) in enumerate(zip(models, requests, strict=True))
        )

    def _check(self, request: RuntimeRequest) -> None:
        if is_package(request.ref):
            raise UsageError(
                f"{request.ref} is an exported package, which runs in onnx: use --runtime onnx, or give {self.name} "
                "the model folder that `lmtasks export` was given."
            )
        self.check(device=request.device, precision=request.precision, force=request.force)

    def _driver(self, model: "Model", request: RuntimeRequest) -> "TorchRuntime | OwnFamilyRuntime":
        from lmtasks.runtime.torch.own_families import OwnFamilyRuntime
        from lmtasks.runtime.torch.transformer import TorchRuntime

        driver = TorchRuntime if model.backbone.traits.by_transformers else OwnFamilyRuntime
        return driver(
            model,
            size_bytes=weight_bytes(request.ref),
            device=request.device,
            precision=request.precision or "fp32",
            threads=request.threads,
            compiled=self.compiled,
        )


class TorchCompileOpener(TorchOpener):
    """The runtime `torch-compile`."""

    name = "torch-compile"
    compiled = True
