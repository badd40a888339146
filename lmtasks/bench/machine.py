"""The machine and the libraries that a number was measured with. No host name, no user, no path.

Linux tells the most (`/proc`, `/sys`); elsewhere what `platform` and `psutil` know is recorded, the rest is left out.
"""

import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from lmtasks.cores import cpu_limit, usable_cores
from lmtasks.records import Json

FLAGS = ("avx", "avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16",
         "asimd", "asimddp", "i8mm", "bf16", "sve")  # fmt: skip
"""Instruction sets that matter to these workloads, as Linux names them (x86, then ARM)."""

LIBRARIES = (
    "lmtasks", "torch", "transformers", "tokenizers", "safetensors", "datasets", "accelerate", "peft", "numpy",
    "scikit-learn", "sacrebleu", "rouge-score", "regex", "jieba", "onnx", "onnx-ir", "onnxscript", "onnxruntime",
    "onnxruntime-gpu", "ctranslate2",
)  # fmt: skip
"""Distributions whose version can change a score or a timing."""

NO_LIMIT = 1 << 60
"""cgroup v1 writes a huge number where there is no memory limit."""


def machine() -> Json:
    """What computes here, ready for a JSON file. Bytes in bytes; `load` is the mean of 1, 5 and 15 minutes.

    Keys that this system does not tell are left out.
    """
    usable = usable_cores()
    facts: dict[str, object | None] = {
        "processor": _processor(),
        "architecture": platform.machine(),
        "cores_physical": psutil.cpu_count(logical=False),
        "cores_logical": psutil.cpu_count(logical=True),
        "cores_usable": usable,
        "cpu_limit_cores": cpu_limit(),
        "flags": _flags(),
        "memory_bytes": psutil.virtual_memory().total,
        "memory_limit_bytes": _memory_limit(),
        "system": platform.system(),
        "kernel": platform.release(),
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "virtual": "hypervisor" in _cpuinfo("flags").split() or None,
        "load": [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
    }
    return {name: value for name, value in facts.items() if value is not None}


def versions() -> Json:
    """Version of each installed library that matters, and of Python."""
    return {"python": platform.python_version(), **_installed(LIBRARIES)}


def load_before() -> float | None:
    """Mean number of running tasks over the last minute; None where the system does not tell."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def throttled_periods() -> int | None:
    """How often the container's CPU limit has stopped its processes so far; None without a cgroup that tells."""
    for file in ("/sys/fs/cgroup/cpu.stat", "/sys/fs/cgroup/cpu/cpu.stat"):
        for line in (_read(file) or "").splitlines():
            name, _, value = line.partition(" ")
            if name == "nr_throttled":
                return int(value)
    return None


def disk_bytes_read() -> int | None:
    """Bytes that this process has had fetched from a disk, not from the page cache; None where untold."""
    for line in (_read("/proc/self/io") or "").splitlines():
        name, _, value = line.partition(":")
        if name == "read_bytes":
            return int(value)
    return None


def stolen_seconds() -> float:
    """Seconds of all cores that the hypervisor gave to others, since the start of the machine; 0 where untold."""
    return float(getattr(psutil.cpu_times(), "steal", 0.0))


def _installed(names: Sequence[str]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    return _cpuinfo("model name") or _read("/proc/device-tree/model") or platform.processor() or platform.machine()


def _flags() -> list[str] | None:
    present = set((_cpuinfo("flags") or _cpuinfo("Features")).split())
    return [flag for flag in FLAGS if flag in present] if present else None


def _cpuinfo(field: str) -> str:
    for line in (_read("/proc/cpuinfo") or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == field:
            return value.strip()
    return ""


def _memory_limit() -> int | None:
    text = _read("/sys/fs/cgroup/memory.max") or _read("/sys/fs/cgroup/memory/memory.limit_in_bytes") or ""
    return int(text) if text.isdigit() and int(text) < NO_LIMIT else None


def _read(file: str) -> str | None:
    try:
        return Path(file).read_text(encoding="utf-8", errors="replace").strip("\x00\n ")
    except OSError:
        return None
