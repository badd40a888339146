import math
from dataclasses import replace
from pathlib import Path

import pytest
from speed_records import LIMITS, MEMORY, times

from lmtasks.bench.compare import SideBySide, compare_variants, orders, over_tasks
from lmtasks.bench.pool import Memory, Round
from lmtasks.bench.spec import SpeedSpec
from lmtasks.bench.speed import SpeedSettings
from lmtasks.bench.workload import Workload, WorkRequest
from lmtasks.errors import UsageError
from lmtasks.metric.ratio import ratio_of
from lmtasks.records import Progress
from lmtasks.results.speed import MachineLimits


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
        self.asked: list[str] = []

    def times(self, spec: SpeedSpec) -> Round:
        self.order.append(spec.name)
        return times(spec.name, slower={"a": 1.0, "b": 0.5}[spec.name] / 0.98 ** len(self.order))

    def memory(self, spec: SpeedSpec) -> Memory:
        self.asked.append(f"memory of {spec.name}")
        return MEMORY

    def limits(self, *, threads: int, device: str) -> MachineLimits:
        self.asked.append(f"limits of {threads} on {device}")
        return LIMITS


class Prompted(Drifting):
    """`b` answers as many requests as `a`, but asks two of them for each example."""

    def times(self, spec: SpeedSpec) -> Round:
        record = times(spec.name)
        if spec.name == "a":
            return record
        twice = tuple(replace(timing, requests_per_example=2.0) for timing in record.workloads)
        return record.model_copy(update={"workloads": twice})


def test_variants_that_ask_otherwise_are_compared_by_examples() -> None:
    result = compare_variants([spec("a"), spec("b")], rounds=2, measures=Prompted())
    assert [row.ratio.value for row in result.rows] == pytest.approx([1.0, 0.5, 1.0, 0.5], rel=1e-4)


def test_rounds_alternate_and_the_drift_cancels() -> None:
    machine = Drifting()
    told: list[Progress] = []
    result = compare_variants([spec("a"), spec("b")], rounds=4, measures=machine, on_progress=told.append)
    one, two, three, four = (tuple(machine.order[place : place + 2]) for place in range(0, 8, 2))
    assert two == one[::-1]
    assert four == three[::-1]
    assert {one, three} <= {("a", "b"), ("b", "a")}
    assert machine.asked == ["limits of 1 on cpu", "memory of a", "memory of b"]  # apart from all timings
    base, other = (row for row in result.rows if row.batch_size == 1)
    assert base.ratio.value == 1
    assert base.verdict == "no difference seen"
    assert other.ratio.value == pytest.approx(2.0, rel=0.02)
    assert other.ratio.ci95 is not None
    assert other.ratio.ci95[0] < 2 < other.ratio.ci95[1]
    assert other.verdict == "faster"
    assert len(other.ratio.rounds) == 4
    assert [(p.done, p.total) for p in told] == [(n, 11) for n in range(11)]


def test_orders_are_drawn_and_then_reversed() -> None:
    names = ["a", "b", "c", "d"]
    drawn = list(orders(names, rounds=40, seed=1))
    assert all(two == one[::-1] for one, two in zip(drawn[::2], drawn[1::2], strict=True))
    assert len({tuple(order) for order in drawn}) > 10
    assert drawn == list(orders(names, rounds=40, seed=1))
    assert drawn != list(orders(names, rounds=40, seed=2))


def test_nothing_to_compare_is_refused() -> None:
    with pytest.raises(UsageError, match="at least 1 variant and 1 round, was given 0 and 5"):
        compare_variants([], measures=Drifting())
    with pytest.raises(UsageError, match="a name of its own, were given a, a"):
        compare_variants([spec("a"), spec("a")], measures=Drifting())


def test_a_variant_is_told_over_all_tasks_as_hyperfine_tells_it() -> None:
    rows = [
        SideBySide(
            variant=name, base="fp32", task=task, batch_size=1, length=0, examples_per_s=1.0,
            ratio=ratio_of(mine, [1.0, 1.0, 1.0]),
        )
        for task, by_name in (
            ("a", {"fp32": [1.0, 1.0, 1.0], "int8": [2.0, 2.1, 1.9], "slow": [0.5, 0.5, 0.51]}),
            ("b", {"fp32": [1.0, 1.0, 1.0], "int8": [4.0, 4.1, 3.9], "slow": [0.5, 0.5, 0.51]}),
        )
        for name, mine in by_name.items()
    ]  # fmt: skip
    int8, slow = over_tasks(rows)
    assert int8.ratio.value == pytest.approx(math.sqrt(2 * 4), rel=0.01)
    assert int8.sentence.startswith("int8 ran 2.83 ± ")
    assert int8.sentence.endswith(" times faster than fp32")
    assert slow.sentence.startswith("slow ran 1.99 ± ")
    assert slow.sentence.endswith(" times slower than fp32")
