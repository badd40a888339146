"""The machine and the libraries that a number was measured with, and what disturbed it meanwhile: a number is only as
good as the quiet around it. No host name, no user, no path.

Each block of timings stands between two looks at the machine; what they saw is written beside the block's numbers.

Linux tells the most (`/proc`, `/sys`); elsewhere what `platform` and `psutil` know is recorded, the rest is left out.
"""

import os
import platform
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from lmtasks.cores import cpu_limit, usable_cores
from lmtasks.records import Json

MOST_DRIFT = 0.05
"""The same fixed kernel before and after a block may differ by so much."""
MOST_STOLEN = 0.01
"""Share of the processor's time that the hypervisor may give to others."""
MOST_BUSY = 0.1
"""Share of the processor's time that others may use before the start."""
MOST_SWITCHES = 100.0
"""Involuntary context switches a second: a core that is shared with one other busy process has 100 to 300."""
THERMAL = "cpu*/thermal_throttle/core_throttle_count"
CPUS = Path("/sys/devices/system/cpu")
FLAGS = ("avx", "avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16",
         "asimd", "asimddp", "i8mm", "bf16", "sve")  # fmt: skip
"""Instruction sets that matter to these workloads, as Linux names them (x86, then ARM)."""
LIBRARIES = (
    "lmtasks", "torch", "transformers", "tokenizers", "safetensors", "datasets", "accelerate", "peft", "numpy",
    "scikit-learn", "sacrebleu", "rouge-score", "regex", "jieba", "onnx", "onnx-ir", "onnxscript", "onnxruntime",
    "onnxruntime-gpu", "openvino", "ctranslate2",
)  # fmt: skip
"""Distributions whose version can change a score or a timing."""
NO_LIMIT = 1 << 60
"""cgroup v1 writes a huge number where there is no memory limit."""


def machine() -> Json:
    """The machine, ready for a JSON file. Bytes in bytes; `load` is the mean of 1, 5 and 15 minutes.

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


@dataclass(frozen=True, kw_only=True)
class Look:
    """The counters of the machine and of this process at one moment, and the speed of a fixed kernel."""

    seconds: float
    stolen_seconds: float
    throttled_periods: int | None
    """How often the container's processor limit stopped it."""
    hot: int | None
    """How often cores were slowed down for being hot; None where the machine does not tell."""
    switches: int
    """Involuntary context switches of this process."""
    kernel: float
    """Rate of the fixed kernel, in any unit."""


def look(kernel: Callable[[], float], *, now: Callable[[], float] = time.perf_counter) -> Look:
    """Look at the machine.

    Args:
        kernel: runs the fixed kernel and returns its rate.
    """
    rate = kernel()
    return Look(
        seconds=now(),
        stolen_seconds=stolen_seconds(),
        throttled_periods=throttled_periods(),
        hot=_hot(),
        switches=resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw,
        kernel=rate,
    )


def disturbances(before: Look, after: Look, *, cores: int | None = None) -> tuple[str, ...]:
    """Disturbances of a block, in words; empty where it was quiet.

    The kernel itself runs in the looks, outside the block's seconds but for the second one.
    """
    seconds = max(after.seconds - before.seconds, 1e-9)
    found = []
    change = after.kernel / before.kernel - 1
    if abs(change) > MOST_DRIFT:
        way = "faster" if change > 0 else "slower"
        found.append(f"the machine's own pace changed: a fixed matrix product ran {abs(change):.0%} {way} afterwards")
    stolen = (after.stolen_seconds - before.stolen_seconds) / seconds / (cores or usable_cores())
    if stolen > MOST_STOLEN:
        found.append(f"the hypervisor gave {100 * stolen:.1f} % of the processor's time to others")
    if (times := _more(before.throttled_periods, after.throttled_periods)) > 0:
        found.append(f"the container's processor limit stopped the process {times} times")
    if (times := _more(before.hot, after.hot)) > 0:
        found.append(f"cores were slowed down for being hot {times} times")
    switches = (after.switches - before.switches) / seconds
    if switches > MOST_SWITCHES:
        found.append(f"other processes took a core away {switches:.0f} times a second")
    return tuple(found)


def busy_share(*, seconds: float = 0.2, sleep: Callable[[float], object] = time.sleep) -> float:
    """Share of all cores' time that is used while this process sleeps: by others, that is."""
    before = psutil.cpu_times()
    sleep(seconds)
    after = psutil.cpu_times()
    total = sum(after) - sum(before)
    idle = sum(getattr(after, name, 0.0) - getattr(before, name, 0.0) for name in ("idle", "iowait"))
    return max(0.0, 1 - idle / total) if total > 0 else 0.0


def before_start(busy: float, load: float | None) -> tuple[str, ...]:
    """A sentence where others were at work before the start."""
    if busy <= MOST_BUSY:
        return ()
    mean = "" if load is None else f" (load {load:g} on {usable_cores()} cores)"
    return (f"the machine was not idle before the start: others used {busy:.0%} of it{mean}",)


def _hot() -> int | None:
    counts = [file.read_text(encoding="ascii") for file in CPUS.glob(THERMAL)]
    return sum(map(int, counts)) if counts else None


def _more(before: int | None, after: int | None) -> int:
    return 0 if before is None or after is None else after - before
