"""Groups, ranks and the defensibly best, from stored comparisons of all with all."""

import json
from pathlib import Path

from lmtasks.report.decision import decide, facts
from lmtasks.report.groups import defensibly_best, groups_table
from lmtasks.report.records import RunRecords, read_run
from lmtasks.report.write import write_report
from lmtasks.results.comparison import TogetherRecord

NAMES = ("torch", "onnx fp32", "onnx int8", "trivial")


def together(task: str, values: tuple[float, ...], *, half: float, lower: bool = False) -> TogetherRecord:
    """Best first; every interval as wide, twice as wide over the whole table."""
    lines = tuple((half,) * place for place in range(len(values)))
    return TogetherRecord(
        task=task,
        metric="acc",
        scale="raw" if lower else "fraction",
        higher_is_better=not lower,
        n=872,
        variants=NAMES[: len(values)],
        values=values,
        halves=lines,
        table_halves=tuple(tuple(2 * each for each in line) for line in lines),
    )


def stored(folder: Path, *records: TogetherRecord) -> RunRecords:
    file = folder / "paired.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "together": [each.content() for each in records]}))
    return read_run(folder)


def test_letters_differences_ranks_and_who_may_be_best(folder: Path) -> None:
    run = stored(
        folder,
        together("sst2", (0.9, 0.88, 0.84, 0.5), half=0.05),
        together("ptb", (60.0, 61.0, 75.0), half=5.0, lower=True),
    )
    table = groups_table(run)
    assert table is not None
    shown = {line.name: [(cell.text, cell.detail) for cell in line.cells] for line in table.lines}
    assert shown["torch"] == [("a", "best"), ("a", "best"), ("1.0", "[1.0, 2.5]"), ("2 of 2", "")]
    assert shown["onnx fp32"] == [
        ("ab", "−2.0 [−7.0, +3.0]"),
        ("a", "+1.0 [−4.0, +6.0]"),
        ("2.0", "[1.0, 2.5]"),
        ("2 of 2", ""),
    ]
    assert shown["onnx int8"] == [
        ("b", "−6.0 [−11.0, −1.0]"),
        ("b", "+15.0 [+10.0, +20.0]"),
        ("3.0", "[2.0, 3.0]"),
        ("0 of 2", ""),
    ]
    assert shown["trivial"] == [("c", "−40.0 [−45.0, −35.0]"), ("–", ""), ("–", ""), ("0 of 1", "")]
    assert table.caption.endswith("Defensibly best on every task, all tasks counted together: torch, onnx fp32.")
    assert defensibly_best(run) == ("torch", "onnx fp32")
    (said,) = [fact.lines for fact in facts(decide(run)) if fact.label == "May be best everywhere"]
    assert said == ("torch, onnx fp32: 2 of 5 are not told apart from the best on any task (simultaneous intervals)",)


def test_where_nobody_is_told_apart_it_says_so(folder: Path) -> None:
    names = (*NAMES, "tf-idf")
    level = together("sst2", (0.9, 0.89, 0.88, 0.87), half=0.5)
    all_of_them = level.model_copy(
        update={
            "variants": names,
            "values": (*level.values, 0.86),
            "halves": (*level.halves, (0.5,) * 4),
            "table_halves": (*level.table_halves, (1.0,) * 4),
        }
    )
    said = [fact.lines for fact in facts(decide(stored(folder, all_of_them))) if fact.label.startswith("May be")]
    assert said == [("any of all 5: nobody is told apart from the best on any task (simultaneous intervals)",)]


def test_nobody_is_best_everywhere(folder: Path) -> None:
    first = together("sst2", (0.9, 0.5, 0.4), half=0.05)
    other = together("ptb", (60.0, 90.0, 99.0), half=5.0, lower=True)
    turned = other.model_copy(update={"variants": ("onnx int8", "onnx fp32", "torch")})
    table = groups_table(stored(folder, first, turned))
    assert table is not None
    assert table.caption.endswith("all tasks counted together: nobody.")


def test_two_variants_have_no_groups_and_one_task_no_ranks(folder: Path) -> None:
    assert groups_table(stored(folder, together("sst2", (0.9, 0.8), half=0.05))) is None
    table = groups_table(stored(folder, together("sst2", (0.9, 0.8, 0.7), half=0.05)))
    assert table is not None
    assert [column.title for column in table.columns] == ["sst2"]
    write_report(folder)
    assert "Who cannot be told apart" in (folder / "index.html").read_text(encoding="utf-8")
    assert "## Who cannot be told apart" in (folder / "report.md").read_text(encoding="utf-8")
