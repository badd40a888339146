"""Two processes, started by torchrun, give the numbers and the files of one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import tiny_checkpoint

from lmtasks.errors import UsageError
from lmtasks.evaluation.engine_solver import EngineSolver
from lmtasks.evaluation.evaluate import evaluate
from lmtasks.evaluation.prepare import EvalOptions
from lmtasks.evaluation.processes import started
from lmtasks.evaluation.write import write_results
from lmtasks.settings.data import DataAccess
from lmtasks.task.index import default_index
from lmtasks.training.curve import LOG, read_log
from lmtasks.workflow.open_model import open_engine

TASKS = "starter_sentiment_en,starter_translation_en_zh,starter_paragraphs_en"


def launch(arguments: list[str], *, count: int, folder: Path) -> subprocess.CompletedProcess[str]:
    """`torchrun -m lmtasks ...`, on this machine's processors. `accelerate launch --cpu` starts one process, whatever
    number it is given."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    return subprocess.run(
        [*launcher, *arguments], env={**os.environ, "OMP_NUM_THREADS": "1"}, cwd=folder, text=True,
        capture_output=True, timeout=200, check=False,
    )  # fmt: skip


def score_alone(model: Path, out: Path) -> None:
    """The same in this process."""
    options = EvalOptions(data=DataAccess(offline=True), limit=5)
    with open_engine(model, threads=1) as engine:
        results = evaluate(solver=EngineSolver(engine), tasks=default_index().find(TASKS), options=options)
        write_results(out, results=results, model=engine.model, runtime=engine.card, machine={}, versions={})


@pytest.mark.slow  # three interpreters
def test_two_processes_give_what_one_gives(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "model", "llama", context=256)
    arguments = ["eval", "--model", str(folder), "--tasks", TASKS, "--limit", "5", "--offline", "--cache", "off"]
    score_alone(folder, tmp_path / "one")
    both = launch(["-m", "lmtasks", *arguments, "--out", "two"], count=2, folder=tmp_path)
    assert both.returncode == 0, both
    assert json.loads((tmp_path / "two" / "results.json").read_text())["processes"] == 2
    assert both.stdout.count("Scores are in two/results.json.") == 1  # only the first process prints
    assert both.stdout.count("starter_sentiment_en") == 1
    pages = {"index.html", "report.md", "results.csv", "decision.json", "charts"}  # of the command alone
    assert {file.name for file in (tmp_path / "two").iterdir()} == pages | {
        file.name for file in (tmp_path / "one").iterdir()
    }
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


WITHOUT_DROPOUT = """
import sys, torch
from lmtasks.evaluation.processes import is_first
torch.nn.Dropout.forward = lambda self, given: given
from lmtasks.cli.main import run
sys.exit(run(sys.argv[1:]))
"""


@pytest.mark.slow  # three interpreters
@pytest.mark.timeout(200)
def test_two_processes_adapt_the_model_that_one_adapts(tmp_path: Path) -> None:
    """What dropout draws apart: the rows of each batch are shared, and its loss is the batch's own mean."""
    tiny_checkpoint(tmp_path / "backbone", "llama")
    (tmp_path / "plain.py").write_text(WITHOUT_DROPOUT)
    arguments = ["plain.py", "adapt", "--backbone", "backbone", "--tasks", "starter_topic_en,starter_translation_en_zh"]
    settings = ["--rows", "23", "--epochs", "2", "--evaluations", "2", "--tokens-per-batch", "512"]
    for count in (1, 2):
        done = launch([*arguments, *settings, "--out", f"by-{count}"], count=count, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("The model is in") == 1
    one, two = (read_log(tmp_path / f"by-{count}" / LOG) for count in (1, 2))
    assert len(one) == len(two) > 3
    assert [point["loss"] for point in one] == pytest.approx([point["loss"] for point in two], rel=2e-3)
    assert one[-1]["validation"] == pytest.approx(two[-1]["validation"], abs=1e-3)
    assert not list(tmp_path.glob("by-*.*"))


def test_variables_that_do_not_fit_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "5")
    with pytest.raises(UsageError, match="process 5 of 2"), started():
        pass
    monkeypatch.setenv("RANK", "one")
    with pytest.raises(UsageError, match="RANK must be a whole number, was 'one'"), started():
        pass
