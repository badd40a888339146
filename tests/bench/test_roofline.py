import pytest

from lmtasks.bench.roofline import Pass, distance, passes_of
from lmtasks.bench.workload import Workload, WorkRequest
from lmtasks.results.speed import MachineLimits
from lmtasks.runtime.op_costs import OpCosts

TRAFFIC = OpCosts(weight_bytes=100_000_000, body=20_000_000, projection=5_000_000, cache_bytes=10_000)
LIMITS = MachineLimits(
    threads=1,
    gemm={"fp32": 200.0, "int8": 800.0},
    read_gb_per_s_by_mb={"4": 200.0, "64": 100.0, "256": 50.0},
)
PAIR = (WorkRequest(ids=(1,) * 60), WorkRequest(ids=(2,) * 40))


def test_a_decode_step_at_batch_1_is_bound_by_memory() -> None:
    """100 MB of weights, 10 kB for each of 60 + 32 tokens, at 50 GB/s: 2.0184 ms, which is 92 % of 2.2."""
    work = Workload(task="t", kind="generate", new_tokens=64, requests=PAIR[:1])
    prefill, step = passes_of(TRAFFIC, workload=work, batches=[PAIR[:1]])
    assert step == Pass(count=63, bytes=100_000_000 + 10_000 * 92, operations=2 * 25_000_000)
    assert prefill.operations == 2 * (60 * 20_000_000 + 5_000_000)
    found = distance([Pass(count=1, bytes=step.bytes, operations=step.operations)], seconds=0.0022, limits=LIMITS,
                     precision="fp32")  # fmt: skip
    assert found is not None
    assert found.bound == "memory"
    assert found.share == pytest.approx(0.9175, abs=1e-4)
    assert found.how == (
        "max(101 MB / 50 GB/s, 0.05 GFLOP / 200 GFLOP/s) = 2.02 ms at least, 2.2 ms measured; "
        "fp32 product, reads of 256 MB"
    )


def test_a_batch_of_long_rows_is_bound_by_arithmetic() -> None:
    work = Workload(task="t", kind="head", head="t", requests=PAIR)
    (only,) = passes_of(TRAFFIC, workload=work, batches=[PAIR])
    assert only.operations == 2 * 20_000_000 * 100  # no padding
    found = distance([only], seconds=0.040, limits=LIMITS, precision="fp32")
    assert found is not None
    assert found.bound == "arithmetic"
    assert found.share == pytest.approx(0.5)
    faster = distance([only], seconds=0.040, limits=LIMITS, precision="int8")
    assert faster is not None
    assert faster.share == pytest.approx(0.125)


def test_a_shared_context_counts_once_and_the_projection_where_it_is_scored() -> None:
    choices = tuple(WorkRequest(ids=(1,) * 50, target_ids=(number, 9)) for number in range(4))
    work = Workload(task="t", kind="score", requests=choices)
    (only,) = passes_of(TRAFFIC, workload=work, batches=[choices])
    assert only.operations == 2 * (20_000_000 * (50 + 4 * 2) + 5_000_000 * 8)


def test_small_models_are_held_to_the_cache_they_fit_into() -> None:
    small = [Pass(count=1, bytes=3_000_000, operations=1)]
    found = distance(small, seconds=15e-6, limits=LIMITS, precision="fp32")
    assert found is not None
    assert found.share == pytest.approx(1.0)


def test_what_was_not_measured_gives_no_distance() -> None:
    assert distance([Pass(count=1, bytes=1, operations=1)], seconds=1, limits=LIMITS, precision="bf16") is None
    assert (
        distance([Pass(count=1, bytes=1, operations=1)], seconds=1, limits=MachineLimits(threads=1), precision="fp32")
        is None
    )
