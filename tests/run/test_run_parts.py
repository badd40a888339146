"""A plan in parts: the printed script for SLURM, its commands carried out as processes here, gives the run of one
process; parts that are lost, and what is no part of the plan."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lmtasks.errors import UsageError, WorkError
from lmtasks.evaluation.shards import Shard
from lmtasks.files import locked
from lmtasks.progress_bars import quiet
from lmtasks.run.parts import PARTS, RunPart, Step, parse_part
from lmtasks.run.plan import load_plan
from lmtasks.run.run_plan import Ran, run_part, run_plan
from lmtasks.run.runner import RunOptions
from lmtasks.settings.data import DataAccess
from lmtasks.task.index import default_index

PLAN = """
plan: parts
tasks: [starter_sentiment_en, starter_topic_en]
limit: 12
seeds: [1, 2]
models:
  small: {backbone: "average:width=8,buckets=50", training: {epochs: 0.3, rows: 20, evaluations: 1}}
  alone: {backbone: "average:width=8,buckets=60", together: false, training: {epochs: 0.3, rows: 20, evaluations: 1}}
variants:
  - {name: floor, baseline: majority}
  - {name: average, model: small}
  - {name: apart, model: alone}
bench: null
"""
CELLS = 3 * 2 * 2
SBATCH = f"""#!{sys.executable}
# Carries out at once what sbatch would submit: each number of an array as a process of its own, all at the same time.
import os, subprocess, sys
words, numbers = sys.argv[1:], ["1"]
with open(os.environ["SUBMITTED"], "a") as told:
    told.write(" ".join(words[:-1]) + chr(10))
for word in words:
    if word.startswith("--array=1-"):
        numbers = [str(number) for number in range(1, int(word.removeprefix("--array=1-")) + 1)]
command = words[words.index("--wrap") + 1]
began = [
    subprocess.Popen(["sh", "-c", command], stdout=sys.stderr, env={{**os.environ, "SLURM_ARRAY_TASK_ID": number,
        "SLURM_ARRAY_TASK_COUNT": str(len(numbers)), "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_STEP": "1"}})
    for number in numbers
]
codes = [each.wait() for each in began]
print(len(words))
sys.exit(max(codes))
"""


def options(command: str = "") -> RunOptions:
    return RunOptions(data=DataAccess(offline=True), threads=1, command=command)


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    file = tmp_path / "plan.yaml"
    file.write_text(PLAN)
    return file


def whole(plan: Path, out: Path) -> Ran:
    return run_plan(load_plan(plan), plan_file=plan, index=default_index(), out=out, options=options(), report=quiet)


def part(plan: Path, out: Path, step: Step, index: int, count: int) -> Ran:
    which = RunPart(step=step, shard=Shard(index=index, count=count))
    return run_part(
        load_plan(plan), which, plan_file=plan, index=default_index(), out=out, options=options(), report=quiet
    )


def assert_same_run(one: Path, other: Path) -> None:
    for place in ("cells", "samples", "models"):
        names = [sorted(file.name for file in (each / place).iterdir()) for each in (one, other)]
        assert names[0] == names[1]
    for file in (one / "cells").iterdir():
        here, there = (json.loads(each.read_text()) for each in (file, other / "cells" / file.name))
        assert json.dumps(here["statistics"]) == json.dumps(there["statistics"])
        assert here["samples_checksum"] == there["samples_checksum"]
        assert here["result"]["metrics"] == there["result"]["metrics"]
    pairs = [json.loads((each / "paired.json").read_text())["comparisons"] for each in (one, other)]
    assert pairs[0] == pairs[1]
    assert not (other / PARTS).exists()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_printed_script_gives_the_run_of_one_process(plan: Path, tmp_path: Path) -> None:
    whole(plan, tmp_path / "one")
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "sbatch").write_text(SBATCH)
    (commands / "lmtasks").write_text(f'#!/bin/sh\nexec {sys.executable} -m lmtasks "$@"\n')
    for file in commands.iterdir():
        file.chmod(0o755)
    submitted = tmp_path / "submitted"
    environment = {**os.environ, "PATH": f"{commands}:{os.environ['PATH']}", "SUBMITTED": str(submitted)}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[2]), environment.get("PYTHONPATH", "")])
    words = ["lmtasks", "run", str(plan), "--offline", "--out", str(tmp_path / "many"), "--print-sbatch"]
    script = subprocess.run(words, env=environment, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert not (tmp_path / "many").exists(), "it only prints"
    assert "MODELS=6 " in script, "small for two seeds, alone for two tasks with two seeds"
    assert f"CELLS={CELLS} " in script
    fewer = script.replace("MODELS=6 ", "MODELS=3 ").replace(f"CELLS={CELLS} ", "CELLS=4 ")
    subprocess.run(
        ["bash", "-c", fewer, "script", "--time=10"], env=environment, check=True, cwd=tmp_path, capture_output=True
    )
    assert_same_run(tmp_path / "one", tmp_path / "many")
    lines = submitted.read_text().splitlines()
    assert len(lines) == 3
    assert all("--time=10" in line and "--cpus-per-task=1" in line for line in lines)
    assert ["--dependency" in line for line in lines] == [False, True, True]
    record = json.loads((tmp_path / "many" / "run.json").read_text())
    assert record["command"].endswith("--out " + str(tmp_path / "many") + " --threads 1"), "no part of it"


def test_what_parts_leave_the_last_command_makes(plan: Path, tmp_path: Path) -> None:
    """One of two parts of the models, one of three of the cells; the run finds them and makes the others."""
    out = tmp_path / "out"
    part(plan, out, "models", 1, 2)
    first = part(plan, out, "cells", 1, 3)
    again = part(plan, out, "cells", 1, 3)
    assert first.done > 0
    assert (again.done, again.found) == (0, first.done)
    kept = {file.name: file.stat().st_mtime_ns for file in (out / PARTS / "cells-1-of-3" / "cells").iterdir()}
    ran = whole(plan, out)
    assert (ran.done, ran.found) == (CELLS - first.done, first.done)
    assert all((out / "cells" / name).stat().st_mtime_ns == when for name, when in kept.items())
    whole(plan, tmp_path / "one")
    assert_same_run(tmp_path / "one", out)


def test_a_part_of_another_plan_or_at_work_is_refused(plan: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    only = replace(options(), only=["floor"])
    run_plan(load_plan(plan), plan_file=plan, index=default_index(), out=out, options=only, report=quiet)
    plan.write_text(PLAN.replace("limit: 12", "limit: 11"))
    with pytest.raises(UsageError, match="holds a run of another plan, or of an earlier form of this one"):
        part(plan, out, "cells", 1, 4)
    plan.write_text(PLAN)
    with locked(out / PARTS / "cells-2-of-4"):
        with pytest.raises(WorkError, match="is being written by another lmtasks"):
            part(plan, out, "cells", 2, 4)
        (out / PARTS / "cells-2-of-4").mkdir()
        with pytest.raises(WorkError, match="a part of this run is still at work"):
            run_plan(load_plan(plan), plan_file=plan, index=default_index(), out=out, options=only, report=quiet)


def test_a_part_is_of_one_step() -> None:
    assert parse_part(models="", cells="") is None
    assert parse_part(models="", cells="2/8") == RunPart(step="cells", shard=Shard(index=2, count=8))
    with pytest.raises(UsageError, match="two steps"):
        parse_part(models="1/2", cells="1/2")
    with pytest.raises(UsageError, match="--models must be i/n"):
        parse_part(models="two", cells="")
