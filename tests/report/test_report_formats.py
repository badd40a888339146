"""A run in the forms of others: a verdict for a pull request, LaTeX, Every Eval Ever, the Hub's .eval_results."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft7Validator
from synthetic import edited, without_tfidf

from lmtasks.errors import UsageError
from lmtasks.report.eval_records import HubDataset, eval_record, write_eval_records, write_hub_results
from lmtasks.report.latex import escaped, render_latex
from lmtasks.report.records import RunRecords, read_run
from lmtasks.report.view import view
from lmtasks.report.write import render_verdict

SCHEMA = Path(__file__).parents[1] / "golden" / "every_eval_ever" / "eval.schema.json"
"""That of every-eval-ever 0.3.0 on PyPI (MIT), byte for byte."""
NOW = datetime(2026, 12, 1, tzinfo=UTC)
SST2 = HubDataset(id="stanfordnlp/sst2", split="validation")
SQUAD = HubDataset(id="rajpurkar/squad_v2", split="validation", config="squad_v2", revision="abc")


def test_the_verdict_is_the_decision_and_nothing_more(folder: Path) -> None:
    text = render_verdict(view(without_tfidf(folder)))
    assert text.startswith("### first-light\n\n*3 variants · 1 baseline · 5 tasks")
    assert "> - **Recommended**: onnx fp32" in text
    assert "> - **Ship onnx int8?**: No, not in place of torch" in text
    assert "## Quality" not in text
    assert len(text.splitlines()) < 40


def test_the_verdict_of_no_single_winner_has_the_table(run: RunRecords) -> None:
    assert "| sst2 (acc)" in render_verdict(view(run))


def test_latex_escapes_names_and_marks_the_best(run: RunRecords) -> None:
    text = render_latex(view(run))
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == text.count(r"\caption{") >= 3
    assert r"tatoeba\_en\_zh" in text
    assert not re.search(r"(?<!\\)_", text.replace(r"\_", ""))
    for line in text.splitlines():
        if line.endswith(r"\\") and not line.startswith(r"\multicolumn"):
            assert len(re.findall(r"(?<!\\)&", line)) >= 2
    assert escaped("100 % {x} \\ ^ ~ #1 $") == (
        r"100 \% \{x\} \textbackslash{} \textasciicircum{} \textasciitilde{} \#1 \$"
    )


@pytest.mark.parametrize("datasets", [{}, {"sst2": SST2, "squad_v2": SQUAD}])
def test_records_fit_the_schema_of_every_eval_ever(
    run: RunRecords, tmp_path: Path, datasets: dict[str, HubDataset]
) -> None:
    files = write_eval_records(run, out=tmp_path / "eee", datasets=datasets, now=NOW)
    assert len(files) == 5
    validator = Draft7Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))
    for file in files:
        record = json.loads(file.read_text(encoding="utf-8"))
        assert [error.message for error in validator.iter_errors(record)] == []
        parts = file.relative_to(tmp_path / "eee").parts
        assert parts[:3] == ("data", "first-light", "local")
        assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\.json", parts[-1])
        kinds = {each["source_data"]["source_type"] for each in record["evaluation_results"]}
        assert ("hf_dataset" in kinds) == bool(datasets)
    assert write_eval_records(run, out=tmp_path / "eee", datasets=datasets, now=NOW) == files


def test_a_record_says_value_interval_rows_and_model(run: RunRecords) -> None:
    record = eval_record(run, run.variants[2], datasets={"sst2": SST2}, now=NOW)
    assert record is not None
    results = record["evaluation_results"]
    assert isinstance(results, list)
    first = results[0]
    assert (first["evaluation_name"], first["score_details"]["score"]) == ("sst2", 0.8085)
    assert first["score_details"]["uncertainty"]["num_samples"] == 872
    assert first["score_details"]["uncertainty"]["confidence_interval"]["lower"] == pytest.approx(0.7956)
    assert first["source_data"]["hf_repo"] == "stanfordnlp/sst2"
    perplexity = results[-1]["metric_config"]
    assert (perplexity["lower_is_better"], perplexity["max_score"]) == (True, "Infinity")
    model = record["model_info"]
    assert isinstance(model, dict)
    assert (model["id"], model["additional_details"]["precision"]) == ("local/onnx-int8", "int8")


def test_what_was_not_scored_has_no_record(folder: Path, tmp_path: Path) -> None:
    def failed(record: dict[str, dict[str, object]]) -> None:
        record.update(status="failed", reason="out of memory", result=None)  # type: ignore[arg-type]

    run = edited(folder, "cells/*.json", failed)
    with pytest.raises(UsageError, match="has no scores, so that there is nothing to write"):
        write_eval_records(run, out=tmp_path, datasets={}, now=NOW)


def test_the_hubs_results_are_in_points_and_say_what_they_leave_out(folder: Path, tmp_path: Path) -> None:
    datasets = {"sst2": SST2, "squad_v2": SQUAD, "ptb": HubDataset(id="ptb/ptb", split="test")}
    run = read_run(folder)
    files, left_out = write_hub_results(run, out=tmp_path, datasets=datasets)
    names = sorted(str(file.relative_to(tmp_path)) for file in files)
    assert "onnx-int8/.eval_results/stanfordnlp-sst2.yaml" in names
    (entry,) = yaml.safe_load((tmp_path / "onnx-int8/.eval_results/rajpurkar-squad_v2.yaml").read_text())
    assert entry["dataset"] == {"id": "rajpurkar/squad_v2", "task_id": "squad_v2", "revision": "abc"}
    assert entry["value"] == 60.7
    assert entry["notes"].startswith("squad_f1, 95 % interval [58.56, 62.84], 1000 rows, 0 worked examples; onnx int8")
    assert "tatoeba_en_zh is of no data set of the Hub as far as its task file says." in left_out
    assert "token_perplexity of ptb (torch) is no share." in left_out
    with pytest.raises(UsageError, match="no score is of a data set of the Hub"):
        write_hub_results(run, out=tmp_path, datasets={})
