import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import TypeVar

import numpy as np
import psutil
import pytest
from fake_engine import COMMAND, MODEL, PREFILL_MS

from lmtasks.bench.isolate import Isolated
from lmtasks.bench.roofline import Pass
from lmtasks.bench.spec import SpeedSpec, spec_from_json
from lmtasks.bench.speed import SpeedSettings
from lmtasks.bench.workload import Load, Workload, WorkRequest
from lmtasks.errors import UsageError, WorkError
from lmtasks.records import Progress
from lmtasks.results.cell import Variant
from lmtasks.results.speed import Artefact

QUICK = SpeedSettings(
    batch_sizes=(1, 2), least_seconds=0.05, most_warm_up_seconds=0.05, loads=(Load(rate=20, count=5, arrival="even"),)
)
FAKE = Isolated(command=COMMAND)
WORK = Workload(task="sst2", kind="head", head="sst2", requests=(WorkRequest(ids=(1,)), WorkRequest(ids=(2,))))


def spec(ref: str = "model") -> SpeedSpec:
    return SpeedSpec(
        variant={"name": "fake-onnx", "runtime": "onnx"},
        ref=Path(ref),
        runtime="onnx",
        threads=1,
        workloads=(WORK,),
        settings=QUICK,
    )


def test_a_spec_survives_its_file() -> None:
    assert spec_from_json(json.loads(json.dumps(spec().as_json()))) == spec()


def test_a_fresh_process_measures() -> None:
    told: list[Progress] = []
    record = Isolated(command=COMMAND, on_progress=told.append).times(spec())
    assert record.variant == Variant(name="fake-onnx", runtime="onnx")
    assert record.artefact == Artefact(weights_hash=MODEL.weights_hash, size_bytes=12_345)
    assert record.import_seconds > 0
    assert record.first_seconds >= PREFILL_MS / 1000
    workloads, loads = record.workloads, record.loads
    assert [(w.task, w.batch_size) for w in workloads] == [("sst2", 1), ("sst2", 2)]
    assert PREFILL_MS <= median(workloads[0].raw_ms) < PREFILL_MS + 15
    assert workloads[0].passes == (Pass(count=1, bytes=10**9, operations=2 * 10**6),)
    assert [(each.load.rate, len(each.latency_ms), each.batching) for each in loads] == [(20, 5, "queued")]
    assert min(loads[0].latency_ms) >= PREFILL_MS
    notes = ["sst2, batch 1", "sst2, batch 2", "sst2, 20 requests/s"]
    assert [(p.done, p.total, p.note) for p in told] == [(n, 3, note) for n, note in enumerate(notes)]


def test_memory_is_that_of_the_variant_and_not_of_the_parent() -> None:
    ballast = np.ones(400 << 20, np.uint8)
    small, large = FAKE.memory(spec()), FAKE.memory(spec("large"))
    assert small.import_memory_bytes < len(ballast)
    assert small.peak_memory_bytes < 40 << 20
    assert 64 << 20 <= large.peak_memory_bytes < 110 << 20
    assert 64 << 20 <= large.loading_memory_bytes <= large.peak_memory_bytes


def test_the_machines_limits_are_measured_in_a_process_too() -> None:
    limits = Isolated().limits(threads=1, device="cpu", seconds=0.3)
    rates, reads = limits.gemm, limits.read_gb_per_s_by_mb
    assert rates["fp32"] == limits.gemm_gflop_per_s
    assert all(0.1 < rate < 1e6 for rate in rates.values())
    assert [int(size) for size in reads] == [4, 16, 64, 256]
    assert limits.read_gb_per_s == reads["256"]


def test_an_error_that_the_child_understands_is_one_sentence() -> None:
    with pytest.raises(UsageError, match=r"^speed of fake-onnx: the folder 'wrong' is no model; give another\.$"):
        FAKE.times(spec("wrong"))


def test_a_child_that_dies_is_told_with_its_last_lines() -> None:
    with pytest.raises(WorkError, match=r"(?s)measured fake-onnx failed: exit code 1.*RuntimeError: a bug"):
        FAKE.times(spec("crash"))
    with pytest.raises(WorkError, match=r"(?s)exit code 7.*the last line before the end"):
        FAKE.times(spec("killed"))


def test_a_child_that_takes_too_long_is_ended() -> None:
    with pytest.raises(WorkError, match=r"took longer than 1\.5 s and was ended"):
        Isolated(command=COMMAND, timeout_seconds=1.5).times(spec("slow"))


MEASURING = """
import sys
from pathlib import Path
from test_isolate import FAKE, spec
FAKE.times(spec("slow"))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_child_outlives_its_parent(number: signal.Signals, tmp_path: Path) -> None:
    """However the parent is ended; the folder of one that was killed is removed by the next."""
    folder = str(Path(__file__).parent)
    path = os.pathsep.join([folder, str(Path(folder).parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": path}
    code = (
        f"from lmtasks.cli.error_output import handled\nwith handled():{MEASURING.replace(chr(10), chr(10) + '    ')}"
    )
    with subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.DEVNULL) as parent:
        (child,) = _eventually(lambda: psutil.Process(parent.pid).children())
        _eventually(lambda: child.num_threads() > 1)  # it listens by now
        parent.send_signal(number)
        parent.wait(20)
    psutil.wait_procs([child], timeout=20)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    left = list(tmp_path.iterdir())
    assert len(left) == (number == signal.SIGKILL)
    for each in left:
        os.utime(each, (0, 0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(tmp_path))
        with pytest.raises(WorkError):
            FAKE.times(spec("crash"))
    assert not list(tmp_path.iterdir())


def test_a_folder_that_another_process_holds_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    mine = tmp_path / "lmtasks-bench-another"
    mine.mkdir()
    os.utime(mine, (0, 0))
    handle = os.open(mine, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_SH)
    with pytest.raises(WorkError):
        FAKE.times(spec("crash"))
    assert mine.is_dir()
    os.close(handle)


_Found = TypeVar("_Found")


def _eventually(look: Callable[[], _Found]) -> _Found:
    end = time.monotonic() + 60
    while not (found := look()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def test_the_real_child_tells_of_a_missing_folder() -> None:
    """The whole way through `python -m lmtasks.bench.child`; only the model is missing."""
    pytest.importorskip("lmtasks.runtime.open")
    with pytest.raises((UsageError, WorkError), match="no-such-folder"):
        Isolated().times(spec("no-such-folder"))


def test_importing_the_child_loads_nothing_heavy() -> None:
    code = "import sys, lmtasks.bench.child; print([m for m in ('numpy', 'torch', 'psutil') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
