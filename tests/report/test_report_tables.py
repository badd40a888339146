import json
from dataclasses import replace
from pathlib import Path

import pytest

from lmtasks.errors import UsageError
from lmtasks.report.conditions import conditions_table, machine_facts
from lmtasks.report.proofs import proofs_table
from lmtasks.report.quality import label_tables, metric_tables, quality_table
from lmtasks.report.records import RunRecords, read_run
from lmtasks.report.speed_tables import timing_table, variant_table


def test_quality_has_a_row_a_variant_and_a_column_a_task(run: RunRecords) -> None:
    table = quality_table(run)
    assert [(line.group, line.name) for line in table.lines] == [
        ("models", "torch"),
        ("models", "onnx fp32"),
        ("models", "onnx int8"),
        ("baselines", "trivial"),
        ("baselines", "tf-idf"),
    ]
    assert [column.title for column in table.columns] == ["sst2", "tatoeba_en_zh", "dialogsum", "squad_v2", "ptb"]
    assert [column.detail for column in table.columns][::4] == ["acc · n 872", "token_perplexity ↓ · n 3,761"]
    torch = table.lines[0].cells
    assert [cell.text for cell in torch] == ["81.3", "21.4", "18.3", "61.2", "61.22"]
    assert torch[0].detail == "±1.3"
    assert torch[1].detail == "[20.4, 23.0]"


def test_the_significantly_best_and_nobody_else_is_marked(run: RunRecords) -> None:
    """tf-idf is ahead on sst2, but not by more than chance; in translation int8 and trivial are."""
    table = quality_table(run)
    ahead = [[line.name for line in table.lines if line.cells[place].best] for place in range(5)]
    assert ahead == [[], ["torch", "onnx fp32"], [], [], []]


def test_one_variant_alone_is_not_marked(folder: Path) -> None:
    for file in folder.glob("cells/*"):
        if not file.name.startswith("torch"):
            file.unlink()
    assert not any(cell.best for line in quality_table(read_run(folder)).lines for cell in line.cells)


def test_a_sparse_matrix_becomes_a_list_in_which_no_failure_is_lost(folder: Path) -> None:
    """A task that one variant alone answers fills a fifth of its column; with most cells empty the table is a list."""
    for file in folder.glob("cells/*"):
        record = json.loads(file.read_text(encoding="utf-8"))
        if record["variant"]["name"] not in ("torch", "trivial") and record["task"]["name"] != "sst2":
            record |= {"status": "not-applicable", "reason": "not asked"}
        if (record["variant"]["name"], record["task"]["name"]) == ("torch", "ptb"):
            record |= {"status": "failed", "reason": "out of memory"}
        file.write_text(json.dumps(record), encoding="utf-8")
    assert quality_table(read_run(folder)).corner == "variant"
    table = quality_table(read_run(folder))
    assert [column.title for column in table.columns] == ["score"]
    groups = list(dict.fromkeys(line.group.partition(" · ")[0] for line in table.lines))
    assert groups == ["sst2", "tatoeba_en_zh", "dialogsum", "squad_v2", "ptb"]
    sst2 = [line for line in table.lines if line.group.startswith("sst2")]
    assert [line.name for line in sst2] == ["tf-idf", "torch", "onnx fp32", "onnx int8", "trivial"]  # the best first
    assert [line.cells[0].text for line in table.lines if line.group.startswith("ptb")] == ["failed"]
    assert "not applicable: not asked" in table.notes
    assert "failed: out of memory" in table.notes


def test_what_has_no_number_says_why(run: RunRecords) -> None:
    table = quality_table(run)
    cell = table.lines[4].cells[1]
    assert cell.text == "–"
    assert [table.notes[number - 1] for number in cell.notes] == ["not applicable: tf-idf cannot answer translation"]
    cut = table.lines[0].cells[2]
    assert [table.notes[number - 1] for number in cut.notes] == ["dialogsum: 12 inputs were cut to fit the model"]


def test_a_failed_cell_shows_its_reason(folder: Path) -> None:
    file = folder / "cells/onnx-int8--1--s1234.json"
    record = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**record, "status": "failed", "reason": "out of memory"}), encoding="utf-8")
    table = quality_table(read_run(folder))
    cell = table.lines[2].cells[1]
    assert cell.text == "failed"
    assert table.notes[cell.notes[0] - 1] == "failed: out of memory"


def test_a_scale_per_tensor_is_marked_in_every_table(folder: Path) -> None:
    for file in (*folder.glob("cells/onnx-int8*.json"), folder / "speed/onnx-int8.json"):
        file.write_text(file.read_text(encoding="utf-8").replace('"int8"', '"int8-tensor"'), encoding="utf-8")
    run = read_run(folder)
    for table in (quality_table(run), variant_table(run), timing_table(run), *metric_tables(run)):
        assert table is not None
        for line in table.lines:
            notes = [table.notes[number - 1] for number in line.notes]
            assert any(note.startswith("int8-tensor: one activation scale") for note in notes) == (
                line.name == "onnx int8"
            )


def test_every_metric_of_a_task(run: RunRecords) -> None:
    squad = next(table for table in metric_tables(run) if table.caption.startswith("squad_v2"))
    assert [column.title for column in squad.columns] == ["squad_f1", "squad_em"]
    assert [line.name for line in squad.lines] == ["torch", "onnx fp32", "onnx int8", "trivial"]


def test_speed_is_held_to_torch(run: RunRecords) -> None:
    table = variant_table(run)
    assert table is not None
    ratios = {line.name: [cell.text for cell in line.cells[:2]] for line in table.lines}
    assert ratios["torch"] == ["1.00×", "1.00×"]
    # throughputs of onnx fp32 over torch: 1.30, 2.77, 2.66, 1.27, 1.12: geometric mean 1.69
    assert ratios["onnx fp32"] == ["1.69×", "1.69×"]
    assert [cell.text for cell in table.lines[0].cells[2:]] == [
        "2 threads",
        "4.12 s",
        "0.81 s",
        "797 MB",
        "385 MB",
        "28.4 MB",
    ]
    assert [column.lower_is_better for column in table.columns] == [False, False, False, *[True] * 5]
    assert table.notes == ("torch: the machine was not idle before the start: load 1.9 on 2 cores",)


def test_memory_is_ranked_by_all_that_the_process_takes(folder: Path) -> None:
    """Beyond its imports torch takes less than int8 here, and in all it takes twice as much."""
    for name, imported, beyond in (("torch", 385_000_000, 199_000_000), ("onnx-int8", 67_000_000, 333_000_000)):
        file = folder / "speed" / f"{name}.json"
        record = json.loads(file.read_text(encoding="utf-8"))
        record |= {"import_memory_bytes": imported, "peak_memory_bytes": beyond}
        file.write_text(json.dumps(record), encoding="utf-8")
    table = variant_table(read_run(folder))
    assert table is not None
    place = [column.title for column in table.columns].index("peak memory")
    assert table.columns[place].lower_is_better
    assert {line.name: (line.cells[place].text, line.cells[place].sort) for line in table.lines} == {
        "torch": ("584 MB", 584e6),
        "onnx fp32": ("314 MB", 314.2e6),
        "onnx int8": ("400 MB", 400e6),
    }


def test_a_throughput_is_marked_where_its_interval_is_apart(run: RunRecords) -> None:
    table = timing_table(run)
    assert table is not None
    place = [column.title for column in table.columns].index("throughput")
    assert {line.name for line in table.lines if line.cells[place].best} == {"onnx int8"}
    ahead = timing_table(replace(run, speeds={**run.speeds, "onnx fp32": run.speeds["onnx int8"]}))
    assert ahead is not None
    assert not [line.name for line in ahead.lines if line.cells[place].best]  # equal intervals


def test_texts_and_choices_stand_in_examples_a_second(folder: Path) -> None:
    """Tokens/s and requests/s stood on one axis; a score of an older record, of which nobody knows how many choices an
    example has, stands on none."""
    table = timing_table(read_run(folder))
    assert table is not None
    place = [column.title for column in table.columns].index("throughput")
    texts = next(line.cells[place] for line in table.lines if line.group.startswith("tatoeba_en_zh"))
    assert (texts.text, texts.detail) == ("4.44 examples/s", "±0.13 · 142 tokens/s")
    file = folder / "speed" / "torch.json"
    record = json.loads(file.read_text(encoding="utf-8"))
    for timing in record["workloads"]:
        del timing["examples_per_s"]
    file.write_text(json.dumps(record), encoding="utf-8")
    run = read_run(folder)
    assert {
        timing.task: timing.examples_per_s for timing in run.speeds["torch"].timings if timing.batch_size == 16
    } == {
        "sst2": 310.2,
        "tatoeba_en_zh": 142.0 / 32,
        "dialogsum": 139.5 / 32,
        "squad_v2": 41.2,
        "ptb": None,
    }


def test_percentiles_that_nobody_has_have_no_column(run: RunRecords) -> None:
    table = timing_table(run)
    assert table is not None
    assert [column.title for column in table.columns] == ["p50", "p90", "throughput", "× torch"]
    assert len(table.lines) == 15
    squad = next(line for line in table.lines if line.group.startswith("squad_v2"))
    assert squad.cells[1].text == "–"
    assert table.notes == ("a percentile is printed only with enough calls: p50 needs 7, p90 44, p95 90, p99 459",)
    assert table.lines[3].group == "tatoeba_en_zh · 32 new tokens, no fewer"


def test_a_run_without_timings_has_no_speed_tables(folder: Path) -> None:
    for file in folder.glob("speed/*.json"):
        file.unlink()
    run = read_run(folder)
    assert variant_table(run) is None
    assert timing_table(run) is None


def test_proofs_are_told_graph_by_graph(run: RunRecords) -> None:
    table = proofs_table(run)
    assert table is not None
    rows = [(line.group.partition(" · ")[0], line.name, [cell.text for cell in line.cells]) for line in table.lines]
    assert rows[0] == ("mini-s1234-fp32", "head.sst2", ["2,000", "4.6e-6", "1.00000", "100 %", "1e-9", "proved"])
    assert rows[6] == ("mini-s1234-int8", "score", ["2,000", "0.32", "–", "98.40 %", "–", "proved"])
    assert table.lines[0].group.endswith("allowed: largest difference 0.001")


def cut_proof(folder: Path) -> Path:
    """The run with a package whose proof had no room for two cases."""
    file = folder / "packages/mini-s1234-fp32/parity.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    content.pop("checksum", None)
    content |= {"cases": 10, "seconds": 61.4, "budget_seconds": 60.0, "not_proved": ["longest", "512 greedy tokens"]}
    file.write_text(json.dumps(content), encoding="utf-8")
    return folder


def test_a_proof_out_of_its_budget_says_what_was_not_proved(folder: Path) -> None:
    table = proofs_table(read_run(cut_proof(folder)))
    assert table is not None
    assert table.lines[0].group.endswith(
        "allowed: largest difference 0.001 · proved 8 of 10 cases in 61 seconds, of 60 at most; not proved: longest, "
        "512 greedy tokens"
    )


def test_a_damaged_proof_is_named(folder: Path) -> None:
    (folder / "packages/mini-s1234-fp32/parity.json").write_text('{"ok": true, "checks": []}', encoding="utf-8")
    with pytest.raises(UsageError, match=r"parity\.json: the field max_difference is missing"):
        proofs_table(read_run(folder))


def test_conditions_and_machine(run: RunRecords) -> None:
    table = conditions_table(run)
    assert [cell.text for cell in table.lines[0].cells][:1] == ["head"]
    assert "acc|v:1" in [cell.text for cell in table.lines[0].cells]
    assert "rows without a label, left out" not in [column.title for column in table.columns]
    facts = dict(machine_facts(run))
    assert facts["processor"] == "AMD EPYC"
    assert facts["copy bandwidth"] == "19.9 to 20.6 GB/s, read and written"


def test_rows_that_were_left_out_stand_among_the_conditions(folder: Path) -> None:
    for file in folder.glob("cells/*--0--*.json"):
        record = json.loads(file.read_text(encoding="utf-8"))
        record["conditions"]["rows_left_out"] = 7
        file.write_text(json.dumps(record), encoding="utf-8")
    table = conditions_table(read_run(folder))
    assert table.columns[-1].title == "rows without a label, left out"
    assert [line.cells[-1].text for line in table.lines[:2]] == ["7", "–"]


def test_recall_of_each_label_stands_beside_the_metrics(folder: Path) -> None:
    counts = {"torch": (90, 60), "onnx int8": (89, 20)}
    for variant, (good, bad) in counts.items():
        found = {file: json.loads(file.read_text(encoding="utf-8")) for file in folder.glob("cells/*.json")}
        ((file, record),) = (
            (file, record)
            for file, record in found.items()
            if (record["variant"]["name"], record["task"]["name"]) == (variant, "sst2")
        )
        record["result"]["labels"] = {
            "good": {"true": 100, "answered": 120, "right": good},
            "bad": {"true": 80, "answered": 60, "right": bad},
            "other": {"true": 0, "answered": 1, "right": 0},
        }
        file.write_text(json.dumps(record), encoding="utf-8")
    (table,) = label_tables(read_run(folder))
    assert [column.title for column in table.columns] == list(counts)
    assert [(line.name, line.detail) for line in table.lines] == [("good", "n 100"), ("bad", "n 80")]
    assert [cell.text for cell in table.lines[1].cells] == ["75.0", "25.0"]
    assert table.lines[1].cells[0].detail == "[64.5, 83.2]"  # SciPy: binomtest(60, 80).proportion_ci(method="wilson")
