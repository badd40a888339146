"""One count of processors, by affinity and by the limits of control groups of both versions."""

from pathlib import Path

import pytest

from lmtasks.cores import checked_threads, cpu_limit, usable_cores


def _groups(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content + "\n")
    return folder


@pytest.mark.parametrize(
    ("files", "own", "limit"),
    [
        ({}, "", None),
        ({"cpu.max": "max 100000"}, "0::/", None),
        ({"cpu.max": "150000 100000"}, "0::/", 1.5),
        ({"a/cpu.max": "400000 100000", "a/b/cpu.max": "max 100000"}, "0::/a/b", 4.0),
        ({"a/cpu.max": "100000 100000", "a/b/cpu.max": "400000 100000"}, "0::/a/b", 1.0),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, "4:cpu,cpuacct:/", None),
        ({"cpu/x/cpu.cfs_quota_us": "50000", "cpu/x/cpu.cfs_period_us": "100000"}, "4:cpu,cpuacct:/x", 0.5),
        ({"x/cpu.max": "100000 100000"}, "2:memory:/x", None),
        ({"cpu.max": "100000 0"}, "not a group", None),
    ],
)
def test_the_least_limit_of_all_levels_counts(
    files: dict[str, str], own: str, limit: float | None, tmp_path: Path
) -> None:
    (tmp_path / "own").write_text(own + "\n")
    assert cpu_limit(groups=_groups(tmp_path / "groups", files), own_group=tmp_path / "own") == limit


def test_every_count_of_processors_is_the_same_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmtasks.cores.cpu_limit", lambda: 1.5)
    assert usable_cores() == 1
    assert checked_threads(None) == 1
    from lmtasks.bench.machine import machine

    assert machine()["cores_usable"] == 1


def test_nobody_counts_processors_elsewhere() -> None:
    package = Path(__file__).parent.parent / "lmtasks"
    counting = [
        str(file.relative_to(package))
        for file in package.rglob("*.py")
        if file.name != "cores.py" and any(word in file.read_text() for word in ("sched_getaffinity", "os.cpu_count"))
    ]
    assert not counting
