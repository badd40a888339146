"""Opens exported packages in OpenVINO."""

from importlib.metadata import PackageNotFoundError, version

from lmtasks.export.package import Package
from lmtasks.processor import INSTRUCTIONS, computes
from lmtasks.runtime.base import Runtime, RuntimeInfo
from lmtasks.runtime.openvino.graphs import OpenVinoRuntime
from lmtasks.runtime.packages import PackageOpener
from lmtasks.settings.runtimes import RUNTIMES, package_precisions

LEAST, BELOW = (2026, 4), (2027,)
"""Versions that are driven, as the extra `openvino` asks for them."""
HOW = "pip install 'lmtasks[openvino]'"


class OpenVinoOpener(PackageOpener):
    """The runtime `openvino`."""

    name = "openvino"

    def info(self) -> RuntimeInfo:
        """See `RuntimeOpener`."""
        spec = RUNTIMES["openvino"]
        installed, note = _installed()
        if note:
            return RuntimeInfo(
                name="openvino", about=spec.about, version=installed, devices=(), precisions=(), note=note
            )
        emulated = () if computes("bf16") else ("bf16",)
        return RuntimeInfo(
            name="openvino",
            about=spec.about,
            version=installed,
            devices=spec.devices,
            precisions=tuple(name for name in package_precisions("cpu", runtime="openvino") if name not in emulated),
            emulated=emulated,
            note=f"bf16 is emulated: the processor has none of {INSTRUCTIONS['bf16'].names}." if emulated else "",
        )

    def drive(self, package: Package, *, device: str, threads: int | None) -> Runtime:
        """See `PackageOpener`."""
        del device  # the processor alone
        return OpenVinoRuntime(package, threads=threads)


def _installed() -> tuple[str, str]:
    """The version that is there, empty for none, and why it is not driven; empty where it is."""
    try:
        found = version("openvino")
    except PackageNotFoundError:
        return "", f"it is not installed: {HOW}."
    numbers = tuple(int(part) for part in found.split(".")[:2] if part.isdecimal())
    if LEAST <= numbers < BELOW:
        return found, ""
    least, below = (".".join(map(str, bound)) for bound in (LEAST, BELOW))
    return found, f"openvino {found} is there, and at least {least} and less than {below} is driven: {HOW}."
