import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fake_engine import COMMAND, MODEL, PREFILL_MS

from lmtasks.bench.isolate import measure_isolated
from lmtasks.bench.spec import SpeedSpec, spec_from_json
from lmtasks.bench.speed import SpeedSettings
from lmtasks.bench.workload import Workload, WorkRequest
from lmtasks.errors import UsageError, WorkError
from lmtasks.records import Progress

QUICK = SpeedSettings(batch_sizes=(1, 2), least_seconds=0.05, most_warm_up_seconds=0.05, limits_seconds=0.02)
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


def test_a_fresh_process_measures_and_the_parents_memory_does_not_count() -> None:
    ballast = np.ones(400 << 20, np.uint8)
    told: list[Progress] = []
    record = measure_isolated(spec(), command=COMMAND, on_progress=told.append)
    assert record["schema"] == 1
    assert record["variant"] == {"name": "fake-onnx", "runtime": "onnx"}
    assert record["artefact"] == {"weights_hash": MODEL.weights_hash, "size_bytes": 12_345}
    assert float(str(record["import_seconds"])) > 0
    assert int(str(record["import_memory_bytes"])) < len(ballast)
    assert int(str(record["peak_memory_bytes"])) < 40 << 20
    workloads = record["workloads"]
    assert isinstance(workloads, list)
    assert [(w["task"], w["batch_size"]) for w in workloads] == [("sst2", 1), ("sst2", 2)]
    assert PREFILL_MS <= workloads[0]["latency_ms"]["p50"] < PREFILL_MS + 10
    assert [(p.done, p.total, p.note) for p in told][:2] == [(0, 2, "sst2, batch 1"), (1, 2, "sst2, batch 2")]


def test_memory_of_the_variant_is_counted() -> None:
    record = measure_isolated(spec("large"), command=COMMAND)
    assert 64 << 20 <= int(str(record["peak_memory_bytes"])) < 100 << 20


def test_an_error_that_the_child_understands_is_one_sentence() -> None:
    with pytest.raises(UsageError, match=r"^speed of fake-onnx: the folder 'wrong' is no model; give another\.$"):
        measure_isolated(spec("wrong"), command=COMMAND)


def test_a_child_that_dies_is_told_with_its_last_lines() -> None:
    with pytest.raises(WorkError, match=r"(?s)measured fake-onnx failed: exit code 1.*RuntimeError: a bug"):
        measure_isolated(spec("crash"), command=COMMAND)
    with pytest.raises(WorkError, match=r"(?s)exit code 7.*the last line before the end"):
        measure_isolated(spec("killed"), command=COMMAND)


def test_a_child_that_takes_too_long_is_ended() -> None:
    with pytest.raises(WorkError, match=r"took longer than 1\.5 s and was ended"):
        measure_isolated(spec("slow"), command=COMMAND, timeout_seconds=1.5)


def test_the_real_child_tells_of_a_missing_folder() -> None:
    """The whole way through `python -m lmtasks.bench.child`; only the model is missing."""
    pytest.importorskip("lmtasks.runtime.open")
    with pytest.raises((UsageError, WorkError), match="no-such-folder"):
        measure_isolated(spec("no-such-folder"))


def test_importing_the_child_loads_nothing_heavy() -> None:
    code = "import sys, lmtasks.bench.child; print([m for m in ('numpy', 'torch', 'psutil') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
