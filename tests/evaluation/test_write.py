"""Scores on disk."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_tasks import model, scored, small_task

from lmtasks.checksums import sealed
from lmtasks.errors import UsageError, WorkError
from lmtasks.evaluation.evaluate import TaskResult
from lmtasks.evaluation.outcome import remake_metric
from lmtasks.evaluation.write import check_samples, read_results, read_samples, write_results
from lmtasks.metric import compare, estimate
from lmtasks.records import Estimate


def written(folder: Path, *, samples: bool = True) -> tuple[Path, list[TaskResult]]:
    solver = model()
    results = [scored(solver, small_task(folder, name)) for name in ("classification", "translation")]
    out = folder / "out" / "model"
    write_results(
        out,
        results=results,
        model=solver.model,
        runtime=solver.card,
        machine={"cpu": "x"},
        versions={"lmtasks": "0"},
        samples=samples,
    )
    return out, results


def test_the_files_are_as_the_design_says(tmp_path: Path) -> None:
    out, results = written(tmp_path)
    content = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert list(content) == ["schema", "model", "runtime", "machine", "versions", "results", "checksums", "checksum"]
    record = content["results"]["classification"]
    assert list(record) == [
        "kind", "language", "n", "seconds", "seconds_total", "truncated", "cached", "metrics", "conditions", "overlap",
        "labels",
    ]  # fmt: skip
    assert set(record["metrics"]["acc"]) >= {"value", "stderr", "ci95", "higher_is_better", "signature"}
    assert record["conditions"]["task_hash"] == results[0].task_hash
    lines = (out / "samples-translation.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 6
    assert "在这里" in lines[0]
    held = ["doc_id", "doc", "prompt", "target", "raw", "answer", "metrics", "hash", "outcome"]
    assert list(json.loads(lines[0])) == held
    assert not list(out.glob("*.part"))


def test_what_was_written_is_read(tmp_path: Path) -> None:
    out, results = written(tmp_path)
    stored = read_results(out)
    assert stored.record.model.name == "fake"
    assert stored.record.machine == {"cpu": "x"}
    assert list(stored.tasks) == ["classification", "translation"]
    for result in results:
        task = stored.tasks[result.task]
        assert task.metrics == result.metrics
        for name, table in result.statistics.items():
            mine = task.statistics.tables[name]
            np.testing.assert_array_equal(mine, table)
            metric = remake_metric(task.statistics.recipes[name])
            assert estimate(metric, mine, resamples=50).value == result.metrics[name].value
            assert compare(metric, table, mine, resamples=50).difference == 0.0
        assert [sample.content() for sample in read_samples(out, result.task)] == list(result.samples)


def test_infinite_values_survive(tmp_path: Path) -> None:
    out, (first, _) = written(tmp_path)
    endless = Estimate(
        value=float("inf"), stderr=None, ci95=None, higher_is_better=False, scale="raw", signature="unit:token"
    )
    solver = model()
    write_results(
        out,
        results=[replace(first, metrics={"token_perplexity": endless})],
        model=solver.model,
        runtime=solver.card,
        machine={},
        versions={},
    )
    assert "Infinity" not in (out / "results.json").read_text(encoding="utf-8")
    assert read_results(out).tasks["classification"].metrics == {"token_perplexity": endless}


def test_samples_may_be_left_out(tmp_path: Path) -> None:
    out, _ = written(tmp_path, samples=False)
    assert sorted(file.name for file in out.iterdir()) == ["results.json", "statistics.json"]
    with pytest.raises(UsageError, match="no samples of translation"):
        next(read_samples(out, "translation"))


def test_a_second_run_replaces_the_first(tmp_path: Path) -> None:
    out, (first, _) = written(tmp_path)
    (out / "samples-mine.jsonl").write_text("{}")
    solver = model()
    write_results(out, results=[first], model=solver.model, runtime=solver.card, machine={}, versions={})
    assert sorted(file.name for file in out.iterdir()) == [
        "results.json",
        "samples-classification.jsonl",
        "samples-mine.jsonl",
        "statistics.json",
    ]


def test_a_failure_leaves_what_stood_there(tmp_path: Path) -> None:
    out, (first, _) = written(tmp_path)
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    (out / "statistics.json.part").mkdir()
    solver = model()
    with pytest.raises(WorkError, match="cannot be written"):
        write_results(out, results=[first], model=solver.model, runtime=solver.card, machine={}, versions={})
    assert {file.name: file.read_bytes() for file in out.iterdir() if file.is_file()} == before


def test_folders_that_hold_no_results(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no results folder: it has no results\.json"):
        read_results(tmp_path)
    out, _ = written(tmp_path)
    whole = (out / "results.json").read_text(encoding="utf-8")
    later = {**json.loads(whole), "schema": 99, "versions": {"lmtasks": "9.1"}}
    (out / "results.json").write_text(json.dumps(sealed(later)), encoding="utf-8")
    with pytest.raises(UsageError, match=r"results\.json has schema 99, .*; lmtasks 9\.1 wrote it and reads it"):
        read_results(out)
    (out / "results.json").write_text(whole[:100], encoding="utf-8")
    with pytest.raises(UsageError, match="is damaged"):
        read_results(out)
    (out / "results.json").write_text(whole.replace('"model"', '"modle"'), encoding="utf-8")
    with pytest.raises(UsageError, match="was changed since it was written"):
        read_results(out)
    renamed = {name: value for name, value in json.loads(whole).items() if name not in ("model", "checksum")}
    (out / "results.json").write_text(json.dumps(renamed), encoding="utf-8")
    with pytest.raises(UsageError, match=r"results\.json: the field model is missing"):
        read_results(out)


def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    solver = model()
    with pytest.raises(WorkError, match="cannot be written to"):
        write_results(
            tmp_path / "file" / "out",
            results=[],
            model=solver.model,
            runtime=solver.card,
            machine={},
            versions={},
        )


def test_clusters_are_kept_and_what_only_a_tasks_code_can_read_is_not(tmp_path: Path) -> None:
    _, (first, _) = written(tmp_path)
    made = np.empty((first.n, 1), dtype=object)
    made[:, 0] = [{"any": (number, "thing")} for number in range(first.n)]
    clusters = tuple(f"passage {number // 2}" for number in range(first.n))
    solver = model()
    out = tmp_path / "clustered"
    write_results(
        out,
        results=[replace(first, statistics={**first.statistics, "theirs": made}, clusters=clusters)],
        model=solver.model,
        runtime=solver.card,
        machine={},
        versions={},
    )
    task = read_results(out).tasks[first.task]
    assert task.statistics.clusters == clusters
    assert set(task.statistics.tables) == set(first.statistics)


def _change(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("statistics.json", "[7.0,7.0,1.0", "[7.0,7.0,2.0"),
        ("results.json", '"n": 6', '"n": 5'),
        ("results.json", '"cpu": "x"', '"cpu": "y"'),
        ("samples-translation.jsonl", '"doc_id":3', '"doc_id":5'),
    ],
)
def test_one_changed_digit_is_told_of_with_its_file(tmp_path: Path, name: str, old: str, new: str) -> None:
    """`compare` made another table of it and said nothing."""
    out, _ = written(tmp_path)
    check_samples(read_results(out))
    _change(out / name, old, new)
    with pytest.raises(UsageError, match=rf"{name} was changed since it was written"):
        check_samples(read_results(out))


def test_results_of_earlier_versions_have_no_checksums_and_are_read(tmp_path: Path) -> None:
    out, results = written(tmp_path)
    file = out / "results.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    older = {name: value for name, value in content.items() if not name.startswith("checksum")}
    file.write_text(json.dumps(older), encoding="utf-8")
    check_samples(read_results(out))
    assert list(read_results(out).tasks) == [result.task for result in results]
    file.write_text(json.dumps(content, indent=7, sort_keys=True), encoding="utf-8")  # another layout is no change
    (out / "samples-translation.jsonl").unlink()  # nor are samples that were deleted to save room
    check_samples(read_results(out))


FEW = """
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
from lmtasks.evaluation.processes import ALONE, Spooled
from lmtasks.evaluation.samples import sample_files
from lmtasks.evaluation.write import samples_file
import hashlib
out = Path(sys.argv[1])
def sample(number, part):
    return {"doc_id": part, "doc": {"n": number}}
with sample_files(out, name=samples_file) as files:
    spooled = Spooled()
    for part in range(3):
        for number in range(200):
            files.add(f"t{number}", [sample(number, part)])
            spooled.add(f"s{number}", [sample(number, part)])
    for number in range(200):
        spooled.gather(f"s{number}", processes=ALONE, into=files)
    spooled.close()
    checksums = files.checksums()
    files.rename()
assert len(checksums) == 400
for name, checksum in checksums.items():
    content = (out / name).read_bytes()
    assert content.count(b"\\n") == 3, name
    assert hashlib.sha256(content).hexdigest() == checksum
assert len(list(out.iterdir())) == 400
"""


def test_two_hundred_tasks_need_few_open_files(tmp_path: Path) -> None:
    """All samples files were open at once; a shell may allow a process 128."""
    child = [sys.executable, "-c", FEW, str(tmp_path / "out")]
    done = subprocess.run(child, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
