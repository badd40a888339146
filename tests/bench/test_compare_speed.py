from pathlib import Path

import pytest

from lmtasks.bench.compare import T_975, compare_variants, ratio_of
from lmtasks.bench.spec import SpeedSpec
from lmtasks.bench.speed import SpeedSettings
from lmtasks.bench.workload import Workload, WorkRequest
from lmtasks.errors import UsageError
from lmtasks.records import Json, Progress


def spec(name: str) -> SpeedSpec:
    work = Workload(task="t", kind="score", requests=(WorkRequest(ids=(1,), target_ids=(2,)),))
    variant = {"name": name}
    return SpeedSpec(
        variant=variant, ref=Path(name), runtime="onnx", threads=1, workloads=(work,), settings=SpeedSettings()
    )


class Drifting:
    """A machine that becomes slower with every measurement; `b` is twice as fast as `a`."""

    def __init__(self) -> None:
        self.order: list[str] = []

    def __call__(self, spec: SpeedSpec) -> Json:
        self.order.append(spec.name)
        rate = {"a": 100.0, "b": 200.0}[spec.name] * 0.98 ** len(self.order)
        return {"workloads": [{"task": "t", "batch_size": 1, "unit": "requests/s", "throughput": rate}]}


def test_rounds_alternate_and_the_drift_cancels() -> None:
    machine = Drifting()
    told: list[Progress] = []
    result = compare_variants([spec("a"), spec("b")], rounds=4, measure=machine, on_progress=told.append)
    assert machine.order == ["a", "b", "b", "a", "a", "b", "b", "a"]
    base, other = result.rows
    assert base.ratio.value == 1
    assert base.verdict == "no difference seen"
    assert other.ratio.value == pytest.approx(2.0, rel=0.001)
    assert other.ratio.ci95 is not None
    assert other.ratio.ci95[0] < 2 < other.ratio.ci95[1]
    assert other.verdict == "faster"
    assert len(other.ratio.rounds) == 4
    assert [(p.done, p.total) for p in told] == [(n, 8) for n in range(8)]


def test_an_interval_that_holds_one_is_no_difference() -> None:
    ratio = ratio_of([1.1, 0.9, 1.05], [1.0, 1.0, 1.0])
    assert ratio.ci95 is not None
    assert ratio.ci95[0] < 1 < ratio.ci95[1]
    assert ratio_of([2.0], [1.0]).ci95 is None


def test_quantiles_are_students() -> None:
    stats = pytest.importorskip("scipy.stats")
    assert pytest.approx([stats.t.ppf(0.975, df) for df in range(1, 31)], abs=5e-4) == T_975


def test_nothing_to_compare_is_refused() -> None:
    with pytest.raises(UsageError, match="at least 1 variant and 1 round, was given 0 and 5"):
        compare_variants([])
    with pytest.raises(UsageError, match="a name of its own, were given a, a"):
        compare_variants([spec("a"), spec("a")])
