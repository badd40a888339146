"""A cell repeated by hand: the printed commands give the same rows, the same weights, the same score."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

from lmtasks.report.write import write_report
from lmtasks.run.plan import load_plan
from lmtasks.run.run_plan import RunOptions, run_plan
from lmtasks.settings.data import DataAccess
from lmtasks.task.index import default_index

TASK = "starter_topic_en"
PLAN = f"""
plan: repeated
tasks: [{TASK}, starter_sentiment_en]
seeds: [5]
rows: [24]
models:
  small:
    backbone: "average:width=8,buckets=50"
    tokenizer: "words:500"
    together: false
    tasks: {TASK}
    training: {{epochs: 2, evaluations: 2, learning_rate: 0.01, label_smoothing: 0.1}}
variants:
  - {{name: bayes, baseline: naive-bayes, tasks: {TASK}}}
  - {{name: small, model: small, tasks: {TASK}}}
bench: null
"""


def test_the_commands_of_a_cell_repeat_it(tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(PLAN)
    ran = run_plan(
        load_plan(file), plan_file=file, index=default_index(), out=tmp_path / "run",
        options=RunOptions(data=DataAccess(offline=True), threads=1), report=lambda _: None,
    )  # fmt: skip
    assert ran.failed == ()
    words = [sys.executable, "-m", "lmtasks", "run", str(file), "--out", "run", "--offline", "--dry-run"]
    said = subprocess.run(words, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert "  1 training: small 1\n" in said
    assert "2 cells, each learned from 24 rows" in said
    assert said.endswith("  2 of them are in run already\n")
    cells = {
        name: json.loads((tmp_path / "run" / "cells" / f"{name}--{TASK}--r24-s5.json").read_text())
        for name in ("small", "bayes")
    }
    assert cells["small"]["repeat"] == [
        "lmtasks adapt --tasks starter_topic_en --backbone average:width=8,buckets=50 --tokenizer words:500 "
        "--epochs 2.0 --learning-rate 0.01 --label-smoothing 0.1 --evaluations 2 --rows 24 --seed 5 "
        "--out runs/by-hand/small-starter_topic_en-r24-s5",
        "lmtasks eval --model runs/by-hand/small-starter_topic_en-r24-s5 --tasks starter_topic_en "
        "--runtime torch --seed 5",
    ]
    write_report(tmp_path / "run")
    for name, cell in cells.items():
        for command in cell["repeat"]:
            assert command in (tmp_path / "run" / "report.md").read_text()
            out = ["--out", f"out-{name}"] if command.startswith("lmtasks eval") else []
            words = [sys.executable, "-m", *shlex.split(command), *out, "--offline"]
            done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path)
            assert done.returncode == 0, done.stderr
        results = json.loads((tmp_path / f"out-{name}" / "results.json").read_text())
        assert results["results"][TASK]["metrics"] == cell["result"]["metrics"]
        if name == "small":
            assert results["model"]["weights_hash"] == cell["model"]["weights_hash"]
