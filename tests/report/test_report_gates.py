"""The table of quality gates."""

import json
from pathlib import Path

import pytest

from lmtasks.errors import UsageError
from lmtasks.report.proofs import gates_table
from lmtasks.report.records import read_run

TASK = {
    "task": "sst2",
    "metric": "acc",
    "rows": "validation",
    "n": 872,
    "base": 0.8131,
    "found": 0.8085,
    "unit": "points",
    "drop": 0.46,
    "ci95": [-0.2, 1.12],
    "most": 0.5,
    "ok": True,
    "excluded": False,
    "needed": 41000,
    "better": 2,
    "equal": 864,
    "worse": 6,
}


def gate(folder: Path, **changed: object) -> Path:
    file = folder / "packages" / "small-s1234-int8-max-drop-0-5" / "gate.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {"ok": True, "most": 0.5, "tasks": [TASK], "kept": [], "kept_share": 0.0, "layers": 0}
    content |= {"everything_rounded": [], **changed}
    file.write_text(json.dumps(content), encoding="utf-8")
    return folder


def test_a_run_without_gates_has_no_table(folder: Path) -> None:
    assert gates_table(read_run(folder)) is None


def test_a_row_a_task_says_what_was_lost_and_how_sure_that_is(folder: Path) -> None:
    perplexity = {
        **TASK, "task": "ptb", "metric": "token_perplexity", "unit": "%", "drop": 1.5, "ci95": None, "excluded": True,
        "needed": None,
    }  # fmt: skip
    table = gates_table(read_run(gate(folder, tasks=[TASK, perplexity])))
    assert table is not None
    assert [line.name for line in table.lines] == ["sst2", "ptb"]
    assert {line.group for line in table.lines} == {"small-s1234-int8-max-drop-0-5 · allowed: a drop of 0.5"}
    assert [cell.text for cell in table.lines[0].cells] == [
        "acc",
        "872",
        "0.8131",
        "0.8085",
        "0.46 (-0.20 to 1.12)",
        "open; 41,000 examples would tell",
    ]
    assert [cell.text for cell in table.lines[1].cells][4:] == ["1.50%", "excluded"]


def test_layers_that_stayed_in_fp32_are_counted(folder: Path) -> None:
    kept = [{"layer": "a", "numbers": 10, "damage": 0.1}, {"layer": "b", "numbers": 20, "damage": None}]
    table = gates_table(read_run(gate(folder, kept=kept, kept_share=0.25, layers=9)))
    assert table is not None
    assert table.lines[0].group.endswith("· in fp32 stay 2 of 9 layers, 25% of the weights") or (
        "in fp32 stay 2 of 9 layers, 25" in table.lines[0].group
    )


def test_a_package_that_is_being_made_is_none_yet(folder: Path) -> None:
    gate(folder)
    made = folder / "packages" / "small-s1234-int8-max-drop-0-5"
    made.rename(made.with_name(f"{made.name}.part"))
    assert gates_table(read_run(folder)) is None


def test_a_damaged_record_is_named(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"gate\.json"):
        gates_table(read_run(gate(folder, most="much")))
