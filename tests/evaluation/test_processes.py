"""Two processes, started by accelerate's own launcher, give the numbers and the files of one."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import tiny_checkpoint

from lmtasks.data.options import DataOptions
from lmtasks.errors import UsageError
from lmtasks.evaluation.engine_solver import EngineSolver
from lmtasks.evaluation.evaluate import EvalOptions, evaluate
from lmtasks.evaluation.processes import started
from lmtasks.evaluation.write import write_results
from lmtasks.suite.engines import open_engine
from lmtasks.task.index import default_index

TASKS = "starter_sentiment_en,starter_translation_en_zh,starter_paragraphs_en"


def launch(arguments: list[str], *, count: int, folder: Path) -> subprocess.CompletedProcess[str]:
    """`accelerate launch -m lmtasks ...`, on this machine's processors, with no settings of the person's own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch"]
    machine = ["--cpu", f"--num_processes={count}", "--num_machines=1", f"--main_process_port={port}"]
    settings = ["--mixed_precision=no", "--dynamo_backend=no", "--num_cpu_threads_per_process=1"]
    return subprocess.run(
        [*launcher, *machine, *settings, "-m", "lmtasks", *arguments],
        env={**os.environ, "HF_HOME": str(folder / "hf")}, cwd=folder, text=True, capture_output=True, timeout=200,
        check=False,
    )  # fmt: skip


def score_alone(model: Path, out: Path) -> None:
    """The same in this process."""
    options = EvalOptions(data=DataOptions(offline=True), limit=5)
    with open_engine(model, threads=1) as engine:
        results = evaluate(solver=EngineSolver(engine), tasks=default_index().find(TASKS), options=options)
        write_results(out, results=results, model=engine.model, runtime=engine.card, machine={}, versions={})


def test_two_processes_give_what_one_gives(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "model", "llama", context=256)
    arguments = ["eval", "--model", str(folder), "--tasks", TASKS, "--limit", "5", "--offline", "--cache", "off"]
    score_alone(folder, tmp_path / "one")
    both = launch([*arguments, "--out", "two"], count=2, folder=tmp_path)
    assert both.returncode == 0, both
    assert both.stdout.count("Scores are in two/results.json.") == 1  # only the first process prints
    assert both.stdout.count("starter_sentiment_en") == 1
    assert sorted(file.name for file in (tmp_path / "two").iterdir()) == sorted(
        file.name for file in (tmp_path / "one").iterdir()
    )
    one, two = (json.loads((tmp_path / name / "results.json").read_text())["results"] for name in ("one", "two"))
    for task, record in one.items():
        assert two[task]["n"] == record["n"]
        assert two[task]["conditions"] == record["conditions"]
        for metric, estimate in record["metrics"].items():
            assert two[task]["metrics"][metric]["value"] == pytest.approx(estimate["value"], rel=1e-5), (task, metric)
        lines = [
            [json.loads(line) for line in (tmp_path / name / f"samples-{task}.jsonl").read_text().splitlines()]
            for name in ("one", "two")
        ]
        assert [each["doc_id"] for each in lines[1]] == list(range(record["n"]))
        assert [(a["hash"], a["answer"]) for a in lines[0]] == [(b["hash"], b["answer"]) for b in lines[1]]


def test_variables_that_do_not_fit_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "5")
    with pytest.raises(UsageError, match="process 5 of 2"), started():
        pass
    monkeypatch.setenv("RANK", "one")
    with pytest.raises(UsageError, match="RANK must be a whole number, was 'one'"), started():
        pass
