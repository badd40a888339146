import json
from collections.abc import Callable
from pathlib import Path

from lmtasks.report.read import read_run
from lmtasks.report.records import RunRecords
from lmtasks.report.summary import against_trivial, answer, troubles


def edited(folder: Path, pattern: str, edit: Callable[[dict[str, dict[str, object]]], None]) -> RunRecords:
    for file in folder.glob(pattern):
        record = json.loads(file.read_text(encoding="utf-8"))
        edit(record)
        file.write_text(json.dumps(record), encoding="utf-8")
    return read_run(folder)


def moved(metric: str, value: float, half: float) -> Callable[[dict[str, dict[str, object]]], None]:
    def edit(record: dict[str, dict[str, object]]) -> None:
        metrics = record["result"]["metrics"]
        assert isinstance(metrics, dict)
        metrics[metric].update(value=value, ci95=[value - half, value + half])

    return edit


def test_the_answer_names_the_fastest_that_keeps_the_quality(run: RunRecords) -> None:
    assert answer(run) == (
        "torch and onnx fp32 stay within the interval of the best on all 5 tasks; the fastest of them is onnx fp32, "
        "with 1.69× the throughput of the same model in torch (geometric mean over the tasks).",
        "onnx int8 is faster still, 2.32× onnx fp32, but outside that interval on tatoeba_en_zh (−2.4 points).",
        "The learned baseline is ahead of every model on sst2 (81.8 ±1.3 against 81.3 ±1.3).",
    )


def test_without_losses_the_fastest_wins(folder: Path) -> None:
    run = edited(folder, "cells/onnx-int8--1*.json", moved("bleu_zh", 21.2, 1.3))
    assert answer(run)[0].startswith(
        "No variant is worse than the best by more than its interval on all 5 tasks; the fastest of them is onnx int8, "
        "with 3.91× the throughput"
    )


def test_without_timings_it_says_so(folder: Path) -> None:
    for file in folder.glob("speed/*.json"):
        file.unlink()
    assert answer(read_run(folder))[0].endswith("on all 5 tasks; their speed was not measured.")


def test_nobody_keeps_the_quality(folder: Path) -> None:
    edited(folder, "cells/torch--1*.json", moved("bleu_zh", 15.0, 1.0))
    edited(folder, "cells/onnx-fp32--1*.json", moved("bleu_zh", 10.0, 1.0))
    run = edited(folder, "cells/onnx-int8--3*.json", moved("squad_f1", 0.5, 0.01))
    assert answer(run)[0] == (
        "No variant stays within the interval of the best on all 5 tasks; torch comes nearest, outside it only on "
        "tatoeba_en_zh (−4.1 points)."
    )


def test_a_model_that_does_not_beat_the_trivial_answer_is_named(run: RunRecords, folder: Path) -> None:
    assert against_trivial(run) == (
        "Every model beats the best trivial answer on every task by more than its 95 % interval.",
    )
    worse = edited(folder, "cells/onnx-int8--0*.json", moved("acc", 0.515, 0.033))
    assert against_trivial(worse) == (
        "On sst2, onnx int8 (51.5 ±3.3) does not beat the trivial answer, majority (50.9 acc), by more than its "
        "interval.",
        "Everywhere else the models beat the trivial answer by more than their 95 % interval.",
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
    assert troubles(run) == ("The rows of sst2 were scored on different data and must not be compared.",)


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
    assert answer(run) == (
        "sst2: tf-idf, 81.8 ±1.3; within its interval: torch (81.3) and onnx fp32 (81.3).",
        "tatoeba_en_zh: onnx int8, 19.1 [18.0, 20.6], the only one.",
    )
    assert against_trivial(run) == (
        "Every model beats the best trivial answer on every task by more than its 95 % interval.",
    )
