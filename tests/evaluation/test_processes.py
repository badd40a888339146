"""Two processes, as a launcher starts them, give the numbers and the files of one."""

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


def launch(arguments: list[str], *, count: int, folder: Path) -> list[tuple[int, str, str]]:
    """The same command line in `count` processes, with the variables of torchrun and accelerate."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(count):
        names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
        variables = {name: str(value) for name, value in names.items()}
        environment = {**os.environ, **variables, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        children.append(
            subprocess.Popen(
                [sys.executable, "-m", "lmtasks", *arguments], env=environment, cwd=folder, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
        )  # fmt: skip
    said = [child.communicate(timeout=200) for child in children]
    return [(child.returncode, *texts) for child, texts in zip(children, said, strict=True)]


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
    assert [code for code, _, _ in both] == [0, 0], both
    assert (both[1][1], "starter_sentiment_en" in both[0][1]) == ("", True)  # only the first prints
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
