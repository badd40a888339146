"""The line of `lmtasks list runtimes` for servers. A server computes, and this machine asks it (`lmtasks/endpoint/`):
it has no primitives over token ids, and stands in the place of an engine, not of a runtime."""

from importlib.metadata import PackageNotFoundError, version

from lmtasks.errors import UsageError
from lmtasks.runtime.base import Runtime, RuntimeInfo, RuntimeOpener, RuntimeRequest
from lmtasks.settings.runtimes import RUNTIMES


class EndpointOpener(RuntimeOpener):
    """Opens nothing: a server has an address, and no folder."""

    def info(self) -> RuntimeInfo:
        """Whether servers can be asked from here."""
        spec = RUNTIMES["endpoint"]
        try:
            installed = version("httpx2")
        except PackageNotFoundError:
            note = "needs httpx2: pip install 'lmtasks[endpoint]'"
            return RuntimeInfo(name="endpoint", about=spec.about, version="", devices=(), precisions=(), note=note)
        return RuntimeInfo(
            name="endpoint", about=spec.about, version=installed, devices=spec.devices, precisions=("fp32",)
        )

    def open(self, request: RuntimeRequest) -> Runtime:
        """
        Raises:
            UsageError: always; a server is named by its address.
        """
        raise UsageError(
            f"--runtime endpoint asks a server, and {request.ref} is a folder; give its address, as --model "
            "http://127.0.0.1:8000/v1."
        )
