import json
from pathlib import Path

from synthetic import edited, pairs_changed, without_tfidf

from lmtasks.report.records import RunRecords, read_run
from lmtasks.report.summary import against_trivial, answer, troubles

MARGIN = "a loss of more than 1 point or 1 % of a perplexity"


def test_a_rival_that_is_ahead_competes_and_a_loss_that_is_not_excluded_is_said(run: RunRecords) -> None:
    assert answer(run) == (
        "Nobody is shown to keep the quality of the best on all 5 tasks. Nowhere worse by more than chance are torch "
        f"and onnx fp32, but these examples do not exclude {MARGIN}: torch (sst2 up to 1.9 points) and onnx fp32 "
        "(sst2 up to 1.9 points); the fastest of them is onnx fp32, with 1.69× the throughput of the same model in "
        "torch (geometric mean over the tasks).",
        "onnx int8 is faster still, 2.32× onnx fp32, but not shown to keep the quality: tatoeba_en_zh −2.4 points and "
        "sst2 up to 1.9 points.",
        "A rival is ahead of every model on sst2 (81.8 ±1.3 by tf-idf against 81.3 ±1.3: open).",
    )


def test_the_answer_names_the_fastest_that_keeps_the_quality(folder: Path) -> None:
    assert answer(without_tfidf(folder)) == (
        "torch and onnx fp32 keep the quality of the best on all 5 tasks (paired by example: not worse by more than "
        f"chance, and {MARGIN} is excluded); the fastest of them is onnx fp32, with 1.69× the throughput of the same "
        "model in torch (geometric mean over the tasks).",
        "onnx int8 is faster still, 2.32× onnx fp32, but not shown to keep the quality: tatoeba_en_zh −2.4 points.",
    )


def test_a_tiny_loss_that_chance_does_not_explain_does_not_keep(folder: Path) -> None:
    """The interval lies within the margin, and still the difference is no chance."""
    without_tfidf(folder)

    def tiny(pair: dict[str, object]) -> bool:
        if (pair["relation"], pair["variant"], pair["task"]) == ("best", "onnx fp32", "sst2"):
            pair.update(difference=-0.3, ci95=[-0.5, -0.1], verdict="worse")
        return True

    assert answer(pairs_changed(folder, tiny))[0].startswith("torch keeps the quality of the best on all 5 tasks")


def test_a_wide_interval_is_no_proof_of_equal_quality(folder: Path) -> None:
    """No significant loss on few rows: nobody is said to keep anything but the best itself."""
    without_tfidf(folder)

    def wide(pair: dict[str, object]) -> bool:
        if (pair["relation"], pair["variant"]) == ("best", "onnx fp32"):
            pair["ci95"] = [-9.0, 9.0]
        return True

    said = answer(pairs_changed(folder, wide))
    assert said[0].startswith("torch keeps the quality of the best on all 5 tasks")
    assert "onnx fp32 is faster still" in said[1]
    assert "sst2 up to 9.0 points" in said[1]


def test_without_paired_comparisons_nobody_is_said_to_keep_the_quality(folder: Path) -> None:
    """As in folders that were published before: values within an interval show nothing."""
    (folder / "paired.json").unlink()
    said = answer(read_run(folder))
    assert said[0].startswith("Nobody is shown to keep the quality of the best on all 5 tasks.")
    assert "onnx fp32 (sst2 not paired" in said[0]


def test_a_best_one_that_nobody_was_compared_with_is_still_the_best(folder: Path) -> None:
    """As where rivals are scored anew beside published cells, whose statistics are gone."""
    without_tfidf(folder)

    def rivals_alone(pair: dict[str, object]) -> bool:
        if pair["relation"] == "best":
            pair.update(base="trivial", variant="tf-idf")
        return True

    said = answer(pairs_changed(folder, rivals_alone))[0]
    assert "torch (sst2" not in said
    assert said.startswith("torch")


def test_a_smaller_margin_of_the_plan_is_heeded(folder: Path) -> None:
    without_tfidf(folder)
    header = json.loads((folder / "run.json").read_text())
    header["plan"]["margin"] = 0.2
    (folder / "run.json").write_text(json.dumps(header))
    said = answer(read_run(folder))[0]
    assert said.startswith("torch keeps the quality of the best on all 5 tasks")
    assert "a loss of more than 0.2 points or 0.2 % of a perplexity is excluded" in said


def test_without_timings_it_says_so(folder: Path) -> None:
    for file in folder.glob("speed/*.json"):
        file.unlink()
    assert answer(read_run(folder))[0].endswith("; their speed was not measured.")


def test_nobody_keeps_the_quality(folder: Path) -> None:
    without_tfidf(folder)

    def worse(pair: dict[str, object]) -> bool:
        if pair["relation"] == "best" and pair["task"] == "sst2":
            pair.update(base="trivial", difference=-4.1, ci95=[-5.0, -3.2], verdict="worse")
        return True

    pairs_changed(folder, worse)
    record = json.loads((folder / "paired.json").read_text())
    first = next(each for each in record["comparisons"] if each["base"] == "trivial" and each["relation"] == "best")
    record["comparisons"].append({**first, "variant": "torch"})
    (folder / "paired.json").write_text(json.dumps(record))
    assert answer(read_run(folder))[0] == (
        "Nobody keeps the quality of the best on all 5 tasks; torch comes nearest among the models, worse by more "
        "than chance on sst2 −4.1 points."
    )


def test_a_model_that_does_not_beat_the_trivial_answer_is_named(run: RunRecords, folder: Path) -> None:
    assert against_trivial(run) == ("Every model beats the best trivial answer on every task by more than chance.",)

    def level(pair: dict[str, object]) -> bool:
        if (pair["base"], pair["variant"], pair["task"]) == ("trivial", "onnx int8", "sst2"):
            pair.update(difference=0.6, ci95=[-0.9, 2.1], verdict="open")
        return True

    assert against_trivial(pairs_changed(folder, level)) == (
        "On sst2, onnx int8 (80.8 ±1.3) does not beat the trivial answer, majority (50.9 acc), by more than chance.",
        "Everywhere else the models beat the trivial answer by more than chance.",
    )


def test_without_a_baseline_it_says_so(folder: Path) -> None:
    for file in folder.glob("cells/t*--*.json"):
        if not file.name.startswith("torch"):
            file.unlink()
    assert against_trivial(read_run(folder)) == ("No trivial answer was scored beside a model.",)


def test_rows_on_different_data_must_not_be_compared(folder: Path, run: RunRecords) -> None:
    assert troubles(run) == ()

    def other_data(record: dict[str, dict[str, object]]) -> None:
        record["conditions"]["data_fingerprint"] = "another"

    run = edited(folder, "cells/onnx-int8--0*.json", other_data)
    assert troubles(run) == (
        "onnx int8 was scored on other rows of sst2 than the others: that stands as a task of its own, sst2 (other "
        "rows), and is not compared.",
    )
    assert {each.variant for each in run.comparisons if each.task == "sst2"} == {"torch", "onnx fp32"}
    assert [cell.variant.name for cell in run.cells if cell.task.name == "sst2 (other rows)"] == ["onnx int8"]
    said = " ".join(answer(run))
    assert "onnx int8 (" not in said.split(".")[0]


def test_where_nobody_answers_all_tasks_each_is_told_by_itself(folder: Path) -> None:
    """Everybody answers one task, but for torch and onnx fp32, which share sst2; a fitted family is a model."""
    kept = {"torch": "0", "onnx-fp32": "0", "onnx-int8": "1", "trivial": "0", "tf-idf": "0"}
    for file in (folder / "cells").glob("*.json"):
        variant, task, _ = file.stem.split("--")
        if kept[variant] != task:
            file.unlink()
    fitted = folder / "cells" / "tf-idf--0--s1234.json"
    record = json.loads(fitted.read_text())
    record["variant"] |= {"adaptation": "full", "runtime": "native"}
    record["model"] |= {"kind": "encoder"}
    fitted.write_text(json.dumps(record))
    run = read_run(folder)
    assert answer(run) == ("No variant answers all 2 tasks; the table says who is best on each.",)
    assert against_trivial(run) == ("Every model beats the best trivial answer on every task by more than chance.",)
