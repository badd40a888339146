"""Every sentence of the decision, on made results: winner, tie, rival ahead, int8 that costs more than the margin, a
disturbed machine, one variant, nothing applicable, conditions that are mixed."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from synthetic import edited, pairs_changed, without_tfidf

import lmtasks
from lmtasks.errors import UsageError
from lmtasks.report.decision import decide, facts
from lmtasks.report.records import RunRecords, read_run
from lmtasks.report.view import view
from lmtasks.report.write import render_markdown, write_report
from lmtasks.results.decision import DecisionRecord

Record = dict[str, dict[str, object]]


def lines(run: RunRecords, label: str) -> tuple[str, ...]:
    """Of the fact under that label."""
    found = {fact.label: fact.lines for fact in facts(decide(run))}
    assert label in found, list(found)
    return found[label]


def labels(run: RunRecords) -> list[str]:
    return [fact.label for fact in facts(decide(run))]


def parents_changed(folder: Path, task: str, change: Mapping[str, object]) -> RunRecords:
    """What int8 costs beside torch on one task."""

    def edit(pair: dict[str, object]) -> bool:
        if (pair["relation"], pair["variant"], pair["task"]) == ("parent", "onnx int8", task):
            pair.update(change)
        return True

    return pairs_changed(folder, edit)


def header_changed(folder: Path, **changes: object) -> RunRecords:
    header = json.loads((folder / "run.json").read_text())
    header["plan"] |= changes
    (folder / "run.json").write_text(json.dumps(header))
    return read_run(folder)


def test_a_winner_with_its_quality_speed_memory_and_size(folder: Path) -> None:
    run = without_tfidf(folder)
    decision = decide(run)
    assert (decision.outcome, decision.variant, decision.by_task) == ("keeps", "onnx fp32", ())
    assert decision.said[0].startswith("torch and onnx fp32 keep the quality of the best on all 5 tasks")
    assert lines(run, "Recommended") == ("onnx fp32 · mini, full, 2 threads",)
    assert lines(run, "Quality against torch, which it was exported from") == (
        "+0.1 points [−0.1, +0.3] in the mean over 4 tasks",
        "a loss beyond the margin is excluded on sst2 +0.1 points [−0.4, +0.6], tatoeba_en_zh +0.1 points "
        "[−0.4, +0.6], dialogsum +0.1 points [−0.4, +0.6], squad_v2 +0.1 points [−0.4, +0.6], ptb +0.1 [−0.4, +0.6]",
    )
    assert lines(run, "Quality against the best rival") == (
        "+4.0 points [+3.5, +4.5] in the mean over 4 tasks against whoever is best there",
        "better by more than chance on sst2 +4.0 points [+3.0, +5.0] against trivial, tatoeba_en_zh +4.0 points "
        "[+3.0, +5.0] against trivial, dialogsum +4.0 points [+3.0, +5.0] against trivial, squad_v2 +4.0 points "
        "[+3.0, +5.0] against trivial",
    )
    assert lines(run, "Speed against torch") == (
        "1.69× [1.65, 1.72] the throughput at batch 16 (over 5 tasks, intervals of both joined)",
        "1.69× [1.65, 1.72] as fast for one request alone (over 5 tasks, intervals of both joined)",
    )
    assert lines(run, "Memory and size") == (
        "onnx fp32: 314 MB at the peak, libraries among them; 17.0 MB on disk",
        "torch: 797 MB at the peak, libraries among them; 28.4 MB on disk",
    )
    assert "Do not ship where" not in labels(run)


def test_rounds_in_alternation_are_pairs(folder: Path) -> None:
    """onnx is 2, 4 and 8 times as fast in three rounds: the geometric mean is 4, the interval Student's over them."""

    def timed(record: Record) -> None:
        workloads = record["workloads"]
        assert isinstance(workloads, list)
        torch = record["variant"]["runtime"] == "torch"
        for timing in workloads:
            timing["rounds"] = [10.0, 10.0, 10.0] if torch else [20.0, 40.0, 80.0]
        record.update(alternated="2026-11-30T12:00:00")  # type: ignore[arg-type]

    without_tfidf(folder)
    run = edited(folder, "speed/*.json", timed)
    assert lines(run, "Speed against torch")[0] == (
        "4.00× [0.71, 22.4] the throughput at batch 16 (over 5 tasks, paired over 3 rounds)"
    )

    def another_day(record: Record) -> None:
        record.update(alternated=record["variant"]["name"])

    run = edited(folder, "speed/*.json", another_day)
    assert "intervals of both joined" in lines(run, "Speed against torch")[0]


def test_a_rival_ahead_is_said_and_each_task_has_its_answer(run: RunRecords) -> None:
    decision = decide(run)
    assert (decision.outcome, decision.variant) == ("level", "onnx fp32")
    assert decision.said[-1].startswith("A rival is ahead of every model on sst2 (81.8 ±1.3 by tf-idf against 81.3")
    assert "not told apart, and a loss beyond the margin is not excluded, on sst2 −0.5 points [−1.9, +0.9]" in (
        " ".join(lines(run, "Quality against the best rival"))
    )
    sst2, *others = decision.by_task
    assert (sst2.task, sst2.best, sst2.rival, sst2.advice) == ("sst2", "tf-idf", "tfidf", "tf-idf")
    assert sst2.open == ("torch (up to 1.9 points)", "onnx fp32 (up to 1.9 points)", "onnx int8 (up to 1.9 points)")
    assert [each.best for each in others] == ["torch"] * 4
    assert [each.advice for each in others] == ["onnx fp32", "onnx int8", "onnx int8", "onnx int8"]


def test_ship_int8_no_where_it_costs_more_than_the_margin(run: RunRecords) -> None:
    assert lines(run, "Ship onnx int8?") == (
        "No, not in place of torch: worse by more than the margin (1 point) on tatoeba_en_zh −2.4 points "
        "[−3.1, −1.6]. It brings 3.91× [3.83, 3.98] the throughput, and 8.52 MB instead of 28.4 MB on disk.",
    )


def test_ship_int8_yes_where_a_loss_beyond_the_margin_is_excluded(folder: Path) -> None:
    run = parents_changed(folder, "tatoeba_en_zh", {"difference": -0.4, "ci95": [-0.99, 0.1], "verdict": "open"})
    (said,) = lines(run, "Ship onnx int8?")
    assert said.startswith(
        "Yes, in place of torch: on all 5 tasks a loss beyond the margin is excluded; nearest to it (1 point) is "
        "tatoeba_en_zh −0.4 points [−1.0, +0.1]. It brings 3.91×"
    )
    assert decide(run).rounded[0].answer == "yes"


def test_a_loss_that_is_no_chance_and_lies_within_the_margin_is_shipped(folder: Path) -> None:
    run = parents_changed(folder, "tatoeba_en_zh", {"difference": -0.4, "ci95": [-0.7, -0.1], "verdict": "worse"})
    assert decide(run).rounded[0].answer == "yes"


def test_ship_int8_not_shown_where_the_examples_are_few(folder: Path) -> None:
    run = parents_changed(folder, "tatoeba_en_zh", {"difference": -0.4, "ci95": [-1.6, 0.8], "verdict": "open"})
    (said,) = lines(run, "Ship onnx int8?")
    assert said.startswith(
        "Not shown, in place of torch: a loss beyond the margin (1 point) is not excluded on tatoeba_en_zh −0.4 "
        "points [−1.6, +0.8] of 500 examples. It brings"
    )
    # Worse by more than chance, and the margin within the interval: neither yes nor no.
    run = parents_changed(folder, "tatoeba_en_zh", {"difference": -1.2, "ci95": [-2.0, -0.4], "verdict": "worse"})
    assert decide(run).rounded[0].answer == "not shown"


def test_ship_int8_is_not_answered_where_nothing_is_paired(folder: Path) -> None:
    (folder / "paired.json").unlink()
    (said,) = lines(read_run(folder), "Ship onnx int8?")
    assert said.startswith(
        "Not shown, in place of torch: nothing is paired on sst2, tatoeba_en_zh, dialogsum, squad_v2, "
    )


def test_where_not_to_ship(folder: Path) -> None:
    """int8 is recommended where it alone was timed; it is worse than its parent on one task."""

    def level(pair: dict[str, object]) -> bool:
        if (pair["base"], pair["variant"], pair["task"]) == ("trivial", "onnx int8", "squad_v2"):
            pair.update(difference=0.6, ci95=[-0.9, 2.1], verdict="open")
        return True

    def keeps(pair: dict[str, object]) -> bool:
        if pair["relation"] in ("best", "rival") and pair["verdict"] in ("worse", "open"):
            pair.update(difference=0.0, ci95=[-0.5, 0.5], verdict="open")
        return True

    without_tfidf(folder)
    for name in ("torch", "onnx-fp32"):
        (folder / "speed" / f"{name}.json").unlink()
    pairs_changed(folder, keeps)
    run = pairs_changed(folder, level)
    assert decide(run).variant == "onnx int8"
    assert lines(run, "Do not ship where") == (
        "tatoeba_en_zh −2.4 points [−3.1, −1.6] against torch",
        "squad_v2: it does not beat the trivial answer by more than chance",
    )


def test_a_disturbed_machine_is_said_where_the_speed_is(folder: Path) -> None:
    def flagged(record: Record) -> None:
        workloads = record["workloads"]
        assert isinstance(workloads, list)
        if record["variant"]["runtime"] == "onnx":
            for timing in workloads[:3]:
                timing["flags"] = ["other processes took a core away 130 times a second"]

    without_tfidf(folder)
    run = edited(folder, "speed/*.json", flagged)
    assert lines(run, "The machine was disturbed") == (
        "onnx fp32, in 3 of 10 timings; the first: other processes took a core away 130 times a second",
        "torch: the machine was not idle before the start: load 1.9 on 2 cores",
    )


def test_a_tie_without_timings_names_the_one_that_fewest_are_ahead_of(folder: Path, tmp_path: Path) -> None:
    lmtasks.evaluate(["svm", "tfidf"], ["starter_sentiment_en", "starter_topic_zh"], out=tmp_path / "o", progress=False)
    lmtasks.report(tmp_path / "o")
    tied = json.loads((tmp_path / "o" / "decision.json").read_text())
    assert (tied["outcome"], tied["variant"]) == ("level", "tfidf")  # ahead on one task, level on the other
    without_tfidf(folder)
    for file in folder.glob("speed/*.json"):
        file.unlink()
    run = read_run(folder)
    decision = decide(run)
    assert decision.said[0].endswith("; their speed was not measured.")
    assert (decision.variant, decision.speed, decision.costs) == ("torch", (), ())
    assert "Speed against torch" not in labels(run)


def test_one_variant(folder: Path) -> None:
    for file in folder.glob("cells/*.json"):
        if not file.name.startswith("torch"):
            file.unlink()
    run = read_run(folder)
    for file in folder.glob("speed/onnx*.json"):
        file.unlink()
    decision = decide(read_run(folder))
    assert decision.outcome == "only"
    assert decision.said == ("One model was scored, torch: there is nothing to choose between.",)
    assert (decision.variant, decision.quality, decision.speed, decision.by_task) == ("torch", (), (), ())
    assert [each.variant for each in decision.costs] == ["torch"]
    assert run.reference == ""


def test_nothing_was_scored(folder: Path) -> None:
    def failed(record: Record) -> None:
        record.update(status="failed", reason="out of memory", result=None)  # type: ignore[arg-type]

    run = edited(folder, "cells/*.json", failed)
    decision = decide(run)
    assert (decision.outcome, decision.variant, decision.said) == ("none", "", ("No model was scored yet.",))
    assert facts(decision) == ()
    assert decision.troubles == ("25 of 25 cells failed; the tables say why.",)


def test_nothing_is_applicable(folder: Path) -> None:
    def not_applicable(record: Record) -> None:
        record.update(status="not-applicable", reason="no head", result=None)  # type: ignore[arg-type]

    decision = decide(edited(folder, "cells/*.json", not_applicable))
    assert (decision.outcome, decision.said) == ("none", ("No model was scored yet.",))
    assert write_report(folder).is_file()


def test_a_failed_cell_stays_and_keeps_its_variant_from_being_recommended(folder: Path) -> None:
    without_tfidf(folder)

    def failed(record: Record) -> None:
        record.update(status="failed", reason="out of memory", result=None)  # type: ignore[arg-type]

    run = edited(folder, "cells/onnx-fp32--1*.json", failed)
    decision = decide(run)
    assert decision.variant == "torch"
    assert decision.troubles == (f"1 of {len(run.cells)} cells failed; the tables say why.",)
    for file in folder.glob("cells/torch--1*.json"):
        file.unlink()
    for file in folder.glob("cells/onnx-int8--1*.json"):
        file.unlink()
    decision = decide(read_run(folder))
    (tatoeba,) = [each for each in decision.by_task if each.task == "tatoeba_en_zh"] or [None]
    assert tatoeba is None or tatoeba.missing == ("onnx fp32 (failed: out of memory)",)


def test_a_recommended_variant_without_a_score_says_where(folder: Path) -> None:
    """Nobody keeps; the nearest one failed on a task."""
    without_tfidf(folder)

    def worse(pair: dict[str, object]) -> bool:
        if pair["relation"] == "best" and pair["task"] == "sst2":
            pair.update(base="onnx int8", difference=-4.1, ci95=[-5.0, -3.2], verdict="worse")
            pair["variant"] = "torch" if pair["variant"] == "onnx int8" else pair["variant"]
        return True

    def failed(record: Record) -> None:
        record.update(status="failed", reason="out of memory", result=None)  # type: ignore[arg-type]

    pairs_changed(folder, worse)
    edited(folder, "cells/torch--4*.json", failed)
    edited(folder, "cells/onnx-fp32--4*.json", failed)
    run = edited(folder, "cells/onnx-fp32--3*.json", failed)
    decision = decide(run)
    assert decision.outcome == "nearest"
    assert labels(run)[0] == "Nearest"
    assert [
        each.said for each in decision.caveats if each.kind in ("failed", "missing")
    ] or decision.variant == "onnx int8"
    ptb = decision.by_task[-1]
    assert (ptb.task, ptb.missing) == (
        "ptb",
        ("torch (failed: out of memory)", "onnx fp32 (failed: out of memory)"),
    )


def test_the_plan_names_the_reference(folder: Path) -> None:
    without_tfidf(folder)
    run = header_changed(folder, reference="onnx int8")
    assert "Quality against onnx int8, the reference" in labels(run)
    assert "Speed against onnx int8" in labels(run)
    assert lines(run, "Quality against onnx int8, the reference")[0].startswith("not paired on sst2 +0.5 points")
    # The reference itself is held to nobody but the rivals.
    run = header_changed(folder, reference="onnx fp32")
    assert labels(run)[:2] == ["Recommended", "Quality against the best rival"]


def test_a_plan_in_which_nobody_answers_all_tasks_has_an_answer_a_task(folder: Path) -> None:
    kept = {"torch": "0", "onnx-fp32": "0", "onnx-int8": "1", "trivial": "0", "tf-idf": "0"}
    for file in (folder / "cells").glob("*.json"):
        variant, task, _ = file.stem.split("--")
        if kept[variant] != task:
            file.unlink()
    run = read_run(folder)
    decision = decide(run)
    assert (decision.outcome, decision.variant) == ("by-task", "")
    assert decision.said[0] == "No variant answers all 2 tasks; the table says who is best on each."
    first, second = decision.by_task
    assert (first.task, first.best, first.rival, first.shown) == ("sst2", "tf-idf", "tfidf", "81.8 ±1.3")
    assert (second.task, second.best, second.advice, second.open) == ("tatoeba_en_zh", "onnx int8", "onnx int8", ())
    table = view(run).by_task
    assert table is not None
    assert [column.title for column in table.columns][:2] == ["take", "best"]
    assert "task by task" in render_markdown(view(run), chart_files=["x"] * len(view(run).all_charts)).lower()


def test_tasks_beyond_a_few_are_counted_in_a_line(folder: Path) -> None:
    """A line of 40 tasks is no line."""
    without_tfidf(folder)
    for number in range(10):
        for file in list(folder.glob("cells/*--0--*.json")):
            record = json.loads(file.read_text())
            record["task"]["name"] = f"more{number}"
            (folder / "cells" / file.name.replace("--0--", f"--m{number}--")).write_text(json.dumps(record))
    paired = json.loads((folder / "paired.json").read_text())
    paired["comparisons"] += [
        {**each, "task": f"more{number}"}
        for each in paired["comparisons"]
        if each["task"] == "sst2"
        for number in range(10)
    ]
    (folder / "paired.json").write_text(json.dumps(paired))
    text = lines(read_run(folder), "Quality against torch, which it was exported from")[-1]
    assert text.endswith("and 9 more")


@pytest.mark.parametrize("edit", [without_tfidf, read_run])
def test_page_markdown_and_json_say_the_same(folder: Path, edit: Callable[[Path], RunRecords]) -> None:
    run = edit(folder)
    write_report(folder)
    stored = DecisionRecord.read(folder / "decision.json")
    assert stored == decide(run)
    page = re.sub(r"<span data-t=\d+>(.*?)</span>", r"\1", (folder / "index.html").read_text(encoding="utf-8"))
    markdown = (folder / "report.md").read_text(encoding="utf-8").replace("\\", "")
    for fact in facts(stored):
        assert f"<dt>{fact.label}</dt>" in page
        assert f"- **{fact.label}**" in markdown
        for line in fact.lines:
            assert f"<span>{line}</span>" in page
            assert line in markdown
    for sentence in stored.said:
        assert sentence in page
        assert sentence in markdown


def test_parts_on_which_it_is_worse_and_labels_that_it_never_answers(folder: Path) -> None:
    run = without_tfidf(folder)
    paired = json.loads((folder / "paired.json").read_text())
    parent = {"relation": "parent", "variant": "onnx fp32", "task": "squad_v2"}
    base = next(each for each in paired["comparisons"] if parent.items() <= each.items())
    worse = {"difference": -3.1, "ci95": [-4.5, -1.7], "verdict": "worse", "part": "with an answer"}
    better = {"difference": 2.0, "ci95": [1.0, 3.0], "verdict": "better", "part": "without an answer"}
    paired["parts"] = [{**base, **worse}, {**base, **worse, "relation": "best"}, {**base, **better}]
    (folder / "paired.json").write_text(json.dumps(paired))

    def labelled(record: Record) -> None:
        labels = {
            "negative": {"true": 428, "answered": 0, "right": 0},
            "positive": {"true": 444, "answered": 872, "right": 444},
        }
        record["result"]["labels"] = labels

    run = edited(folder, "cells/onnx-fp32--0*.json", labelled)
    assert lines(run, "Do not ship where") == (
        "squad_v2, with an answer −3.1 points [−4.5, −1.7] against torch",
        "sst2: it never answers negative (428 of 872 rows)",
    )


def test_a_page_of_a_run_that_is_still_written_shows_what_is_there(folder: Path) -> None:
    """No paired.json yet, a cell half written aside: read over. A record that is cut short is named."""
    (folder / "paired.json").unlink()
    for file in sorted((folder / "cells").glob("onnx-int8*"))[2:]:
        file.unlink()
    (folder / "cells" / "onnx-int8--9--s1234.json.part").write_text('{"schema": 1, "id"')
    assert "onnx int8" in write_report(folder).read_text(encoding="utf-8")
    (folder / "cells" / "torch--0--s1234.json").write_text('{"schema": 1, "id"')
    with pytest.raises(UsageError, match=r"torch--0--s1234\.json is damaged, it is no JSON"):
        write_report(folder)
