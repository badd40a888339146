import json

from lmtasks.bench.workload import Workload, WorkRequest, sample_workload

ROWS = [WorkRequest(ids=(number, 7), types=(0, 1), target_ids=(number % 3,)) for number in range(100)]


def drawn(seed: int, rows: list[WorkRequest] = ROWS) -> Workload:
    return sample_workload(task="arc", kind="score", requests=rows, seed=seed, count=20)


def test_the_sample_depends_on_the_seed_alone() -> None:
    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert len(drawn(1).requests) == 20


def test_equal_requests_stand_once() -> None:
    assert drawn(1, ROWS[:5] * 9).requests != ()
    assert sorted(r.ids[0] for r in drawn(1, ROWS[:5] * 9).requests) == [0, 1, 2, 3, 4]


def test_json_brings_it_back() -> None:
    work = drawn(3)
    assert Workload.from_json(json.loads(json.dumps(work.as_json()))) == work
