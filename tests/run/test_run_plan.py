"""A plan carried out on tiny models: every stage for real, in seconds; killed, and finished later."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from tiny import tiny_checkpoint

from lmtasks.errors import UsageError
from lmtasks.model.store import read_provenance
from lmtasks.records import Progress
from lmtasks.report.publish import LEFT_OUT
from lmtasks.report.records import read_run
from lmtasks.report.write import write_report
from lmtasks.run.folder import RunFolder
from lmtasks.run.plan import load_plan
from lmtasks.run.run_plan import Ran, RunOptions, paired_record, run_plan
from lmtasks.settings.data import DataAccess
from lmtasks.task.index import default_index

PLAN = """
plan: tiny
question: Does it all work?
tasks: [starter_sentiment_en, starter_translation_en_zh, starter_paragraphs_en]
limit: 4
models:
  small: {{backbone: {backbone}, training: {{epochs: 0.3, rows: 20, evaluations: 1}}}}
variants:
  - {{name: trivial, baseline: [majority, copy]}}
  - {{name: torch, model: small}}
  - {{name: onnx, model: small, runtime: onnx}}
bench: {{rows: 8, seconds: 0.05, rounds: 1, batch_size: 4, require: "drop<=100, peak_mb<=0.1"}}
"""

TASK = "starter_sentiment_en"
SEEDED = f"""
plan: seeded
tasks: [{TASK}]
limit: 4
seeds: [1, 2]
models:
  small: {{backbone: "average:width=8,buckets=50", training: {{epochs: 0.3, rows: 20, evaluations: 1}}}}
variants:
  - {{name: floor, baseline: majority, seeds: [5]}}
  - {{name: average, model: small}}
bench: null
"""

FITTED = f"""
plan: fitted
tasks: [{TASK}]
limit: 4
seeds: [1]
models:
  bayes: {{backbone: naive-bayes}}
  words: {{backbone: "ngram:order=2,fallback=1"}}
variants:
  - {{name: bayes, model: bayes}}
  - {{name: words, model: words, runtime: native}}
bench: null
"""


WRITTEN = """
plan: written
tasks: [starter_translation_en_zh, {more}]
limit: 3
variants:
  - {{name: greedy, model: {model}, tasks: starter_translation_en_zh}}
  - {{name: beams, model: {model}, tasks: {answered}, generation_kwargs: {{num_beams: 3, max_gen_toks: 6}}}}
bench: {{rows: 8, seconds: 0.05, rounds: 1, batch_size: 4, tasks: starter_translation_en_zh}}
"""


class Killed(Exception):
    """What a test throws in the middle of a run."""


def carry_out(folder: Path, report: Callable[[Progress], None] = lambda _: None, *, only: Sequence[str] = ()) -> Ran:
    file = folder / "plan.yaml"
    options = RunOptions(data=DataAccess(offline=True), threads=1, command="lmtasks run tiny", only=only)
    return run_plan(
        load_plan(file), plan_file=file, index=default_index(), out=folder / "run", options=options, report=report
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed while its fifth cell was told of, and then finished."""
    folder = tmp_path_factory.mktemp("suite")
    tiny_checkpoint(folder / "backbone", "llama", context=256)
    (folder / "plan.yaml").write_text(PLAN.format(backbone=folder / "backbone"))

    def kill(progress: Progress) -> None:
        if progress.stage == "cells" and progress.done == 5:
            raise Killed

    with pytest.raises(Killed):
        carry_out(folder, kill)
    (folder / "after_kill.json").write_text(
        json.dumps({file.name: file.stat().st_mtime_ns for file in (folder / "run" / "cells").glob("*.json")})
    )
    ran = carry_out(folder)
    assert ran.failed == ()
    assert ran.found == 5
    return folder


def test_a_killed_run_goes_on_where_it_was(folder: Path) -> None:
    before = json.loads((folder / "after_kill.json").read_text())
    assert len(before) == 5
    for name, time in before.items():
        assert (folder / "run" / "cells" / name).stat().st_mtime_ns == time
    assert len(list((folder / "run" / "cells").glob("*.json"))) == 9


def test_what_a_variant_cannot_answer_is_said(folder: Path) -> None:
    cell = json.loads((folder / "run" / "cells" / "trivial--starter_paragraphs_en--s1234.json").read_text())
    assert cell["status"] == "not-applicable"
    assert "does not answer language_modelling tasks" in cell["reason"]


def test_a_finished_run_is_found(folder: Path) -> None:
    ran = carry_out(folder)
    assert (ran.done, ran.found, ran.failed) == (0, 9, ())


def test_torch_and_onnx_give_the_same_scores(folder: Path) -> None:
    for task in ("starter_sentiment_en", "starter_translation_en_zh", "starter_paragraphs_en"):
        torch, onnx = (
            json.loads((folder / "run" / "cells" / f"{variant}--{task}--s1234.json").read_text())
            for variant in ("torch", "onnx")
        )
        assert torch["model"]["weights_hash"] == onnx["model"]["weights_hash"]
        for name, estimate in torch["result"]["metrics"].items():
            assert onnx["result"]["metrics"][name]["value"] == pytest.approx(estimate["value"], rel=1e-3), name


def test_variants_are_paired_with_the_first(folder: Path) -> None:
    record = json.loads((folder / "run" / "paired.json").read_text())
    first = [each for each in record["comparisons"] if each["relation"] == "first"]
    assert {each["base"] for each in first} == {"torch"}
    assert [(each["variant"], each["task"], each["metric"]) for each in first] == [
        ("onnx", "starter_sentiment_en", "acc"),
        ("onnx", "starter_translation_en_zh", "bleu_zh"),
        ("onnx", "starter_paragraphs_en", "token_perplexity"),
    ]
    for each in first:
        assert each["verdict"] == "open"
        assert each["p_holm"] >= each["p_value"] > 0.05
    write_report(folder / "run")
    assert "Paired by example" in (folder / "run" / "report.md").read_text()


def test_each_export_is_paired_with_its_parent_each_model_with_a_rival_and_all_with_the_best(folder: Path) -> None:
    """Rivals were left out, and an export was held to whatever the plan names first."""
    comparisons = json.loads((folder / "run" / "paired.json").read_text())["comparisons"]
    pairs = {
        relation: {
            (each["task"], each["variant"], each["base"]) for each in comparisons if each["relation"] == relation
        }
        for relation in ("parent", "rival", "best")
    }
    sentiment, translation, paragraphs = "starter_sentiment_en", "starter_translation_en_zh", "starter_paragraphs_en"
    assert pairs["parent"] == {(task, "onnx", "torch") for task in (sentiment, translation, paragraphs)}
    assert pairs["rival"] == {
        (task, variant, "trivial") for task in (sentiment, translation) for variant in ("torch", "onnx")
    }
    for task, among in ((sentiment, 3), (translation, 3), (paragraphs, 2)):
        those = {(variant, base) for of, variant, base in pairs["best"] if of == task}
        assert len(those) == among - 1
        assert len({base for _, base in those}) == 1


def test_what_was_compared_in_a_published_folder_stays(folder: Path, tmp_path: Path) -> None:
    """It has no statistics, so that nothing can be compared anew; one cell that is scored again is in no comparison."""
    published = shutil.copytree(folder / "run", tmp_path / "published")
    before = json.loads((published / "paired.json").read_text())
    del before["checksum"]
    for file in (published / "cells").glob("*.json"):
        record = json.loads(file.read_text())
        file.write_text(json.dumps({key: value for key, value in record.items() if key not in LEFT_OUT}))
    plan, index = load_plan(published / "plan.yaml"), default_index()
    tasks = [index.find(name)[0] for name in plan.tasks]
    kept = paired_record(RunFolder(root=published), plan=plan, tasks=tasks)
    assert kept.content() == before
    (again,) = (folder / "run" / "cells").glob("onnx--starter_paragraphs_en--*.json")
    shutil.copyfile(again, published / "cells" / again.name)
    after = paired_record(RunFolder(root=published), plan=plan, tasks=tasks)
    first = [each for each in after.comparisons if each.relation == "first"]
    assert [each.task for each in first] == ["starter_sentiment_en", "starter_translation_en_zh"]


def test_every_variant_is_timed(folder: Path) -> None:
    for variant in ("torch", "onnx"):
        record = json.loads((folder / "run" / "speed" / f"{variant}.json").read_text())
        assert {load["task"] for load in record["workloads"]} == {
            "starter_sentiment_en", "starter_translation_en_zh", "starter_paragraphs_en"
        }  # fmt: skip
        assert all(load["throughput"] > 0 for load in record["workloads"])


def test_what_the_plan_requires_is_held_against_every_variant(folder: Path) -> None:
    required = json.loads((folder / "run" / "required.json").read_text())
    assert required["cheapest"] == ""
    assert required["missed"].startswith("no variant fulfils --require: torch misses peak_mb<=0.1 (")
    assert [each["variant"] for each in required["judged"]] == ["torch", "onnx"]
    for each in required["judged"]:
        drop, memory = each["verdicts"]
        assert drop["fulfilled"]
        assert drop["said"].startswith("0.0")
        assert not memory["fulfilled"]
    assert "No variant fulfils all of it." in (folder / "run" / "report.md").read_text()


def test_the_report_is_written(folder: Path) -> None:
    page = write_report(folder / "run")
    text = page.read_text()
    assert "Does it all work?" in text
    assert (folder / "run" / "report.md").is_file()


def test_a_folder_of_another_plan_is_refused(folder: Path) -> None:
    plan = folder / "plan.yaml"
    text = plan.read_text()
    try:
        plan.write_text(text.replace("plan: tiny", "plan: other"))
        with pytest.raises(UsageError, match="holds a run of plan 'tiny', and this one is 'other'"):
            carry_out(folder)
    finally:
        plan.write_text(text)


def test_a_model_of_another_backbone_is_refused(folder: Path) -> None:
    file = folder / "run" / "models" / "small-s1234" / "model.json"
    text = file.read_text()
    made_from = json.loads(text)["provenance"]["backbone"]["weights_hash"]
    try:
        file.write_text(text.replace(made_from, "0" * 16))
        with pytest.raises(UsageError, match="was adapted from other weights"):
            carry_out(folder)
    finally:
        file.write_text(text)


def test_a_damaged_cell_is_scored_again(folder: Path) -> None:
    cell = folder / "run" / "cells" / "torch--starter_sentiment_en--s1234.json"
    cell.write_text(cell.read_text()[:100])
    ran = carry_out(folder)
    assert (ran.done, ran.found) == (1, 8)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("cells/torch--starter_sentiment_en--s1234.json", '"n": 4', '"n": 3'),
        ("samples/torch--starter_sentiment_en--s1234.jsonl", '"doc_id":1', '"doc_id":2'),
    ],
)
def test_one_changed_digit_is_no_result(
    folder: Path, caplog: pytest.LogCaptureFixture, file: str, old: str, new: str
) -> None:
    """The report showed it, and a run that went on kept it."""
    place = folder / "run" / file
    text = place.read_text(encoding="utf-8")
    assert old in text
    place.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(UsageError, match=rf"{place.name} was changed since it was written"):
        read_run(folder / "run")
    ran = carry_out(folder)
    assert (ran.done, ran.found) == (1, 8)
    assert f"{place.name} was changed since it was written" in caplog.text
    assert "the cell is scored again" in caplog.text
    read_run(folder / "run")
    assert carry_out(folder).found == 9


def test_a_variant_has_seeds_of_its_own_and_its_training_is_told(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(SEEDED)
    ran = carry_out(tmp_path)
    assert (ran.done, ran.failed) == (3, ())
    cells = {file.stem: json.loads(file.read_text()) for file in (tmp_path / "run" / "cells").glob("*.json")}
    assert set(cells) == {f"floor--{TASK}--s5", f"average--{TASK}--s1", f"average--{TASK}--s2"}
    assert cells[f"floor--{TASK}--s5"]["trained"] == {}
    for seed in (1, 2):
        trained = cells[f"average--{TASK}--s{seed}"]["trained"]
        assert (trained["stopped"], trained["seconds"] > 0, trained["weights"] > 50 * 8) == ("steps", True, True)
    hashes = {cells[f"average--{TASK}--s{seed}"]["model"]["weights_hash"] for seed in (1, 2)}
    assert len(hashes) == 2


def test_a_plan_for_bf16_runs_where_there_is_none_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("lmtasks.training.schedule.computes_bf16", lambda device: False)
    (tmp_path / "plan.yaml").write_text(SEEDED.replace("epochs: 0.3", "epochs: 0.3, precision: bf16"))
    assert carry_out(tmp_path, only=["average"]).failed == ()
    assert "model small is trained in fp32, not in bf16: this processor has none of AVX-512 BF16" in caplog.text
    settings = read_provenance(tmp_path / "run" / "models" / "small-s1")["settings"]
    assert settings["precision"] == "fp32"  # type: ignore[index, call-overload]


def test_families_that_are_fitted_run_in_a_plan_and_their_time_is_told(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(FITTED)
    ran = carry_out(tmp_path)
    assert (ran.done, ran.failed) == (2, ())
    for cell in (json.loads(file.read_text()) for file in (tmp_path / "run" / "cells").glob("*.json")):
        assert cell["variant"]["runtime"] == "native"
        trained = cell["trained"]
        assert (trained["steps"], trained["seconds"] > 0, trained["weights"] > 100) == (0, True, True)


@pytest.mark.slow  # two variants in fresh processes, timed
def test_variants_of_one_model_may_write_in_different_ways(tmp_path: Path) -> None:
    tiny_checkpoint(tmp_path / "model", "llama", context=256)
    name = "starter_translation_en_zh"
    (tmp_path / "plan.yaml").write_text(WRITTEN.format(model=tmp_path / "model", more=TASK, answered=name))
    assert carry_out(tmp_path).failed == ()
    cells = {
        variant: json.loads((tmp_path / "run" / "cells" / f"{variant}--{name}--s1234.json").read_text())
        for variant in ("greedy", "beams")
    }
    decoding = {variant: cell["conditions"]["decoding"] for variant, cell in cells.items()}
    assert (decoding["greedy"]["num_beams"], decoding["beams"]["num_beams"]) == (1, 3)
    assert decoding["greedy"]["max_new_tokens"] > decoding["beams"]["max_new_tokens"] == 6
    assert cells["greedy"]["task"] == cells["beams"]["task"]
    comparisons = json.loads((tmp_path / "run" / "paired.json").read_text())["comparisons"]
    (paired,) = [each for each in comparisons if each["relation"] == "first"]
    assert (paired["base"], paired["variant"]) == ("greedy", "beams")
    assert [file.stem for file in (tmp_path / "run" / "speed").glob("*.json")] == ["greedy"]
    page = (write_report(tmp_path / "run").parent / "report.md").read_text()
    assert "num_beams=3, max_gen_toks=6" in page
    assert "must not be compared" not in page


def test_a_way_of_writing_for_a_variant_that_writes_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(WRITTEN.format(model="gone", more=TASK, answered=TASK))
    with pytest.raises(UsageError, match=f"variant 'beams': settings of generation .* no text is written for {TASK}"):
        carry_out(tmp_path)


def test_settings_that_exclude_each_other_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    plan = WRITTEN.format(model="gone", more=TASK, answered="starter_translation_en_zh")
    (tmp_path / "plan.yaml").write_text(plan.replace("max_gen_toks: 6", "temperature: 1"))
    with pytest.raises(UsageError, match="variant 'beams': beam search draws nothing"):
        carry_out(tmp_path)
    assert not (tmp_path / "run").exists()


def test_some_variants_now_and_the_others_later(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(FITTED)
    with pytest.raises(UsageError, match="unknown variant 'baise'; did you mean 'bayes'"):
        carry_out(tmp_path, only=["baise"])
    assert not (tmp_path / "run").exists()
    ran = carry_out(tmp_path, only=["words"])
    assert (ran.done, ran.found, ran.failed) == (1, 0, ())
    assert write_report(tmp_path / "run").is_file()
    ran = carry_out(tmp_path)
    assert (ran.done, ran.found, ran.failed) == (1, 1, ())
