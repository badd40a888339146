"""Pages over results folders: each model a variant, paired by example; folders of two kinds are told apart."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from lmtasks.errors import UsageError
from lmtasks.report.view import view
from lmtasks.results.cell import TaskInfo
from lmtasks.settings.data import DataAccess
from lmtasks.settings.evaluation import ResultsOut, Scoring
from lmtasks.task.load import load_task
from lmtasks.workflow.choose_tasks import TaskRequest
from lmtasks.workflow.evaluate import EvalRequest, evaluate_models
from lmtasks.workflow.report import ReportRequest, hub_datasets, make_reports, records_of, report_results

TASKS = "starter_sentiment_en,starter_topic_zh"


def scored(out: Path, *models: str, tasks: str = TASKS, limit: int | None = None) -> Path:
    request = EvalRequest(
        models=models,
        tasks=TaskRequest(tasks=tasks),
        data=DataAccess(offline=True),
        scoring=Scoring(limit=limit),
        output=ResultsOut(out=out),
    )
    evaluate_models(request, report=lambda _: None)
    return out


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scored(tmp_path_factory.mktemp("results") / "both", "tfidf", "majority")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scored(tmp_path_factory.mktemp("results") / "other", "naive-bayes", tasks="starter_topic_zh")


def test_each_model_is_a_variant_and_has_its_scores(both: Path) -> None:
    records = records_of([both], name="mine")
    assert [variant.name for variant in records.variants] == ["tfidf", "majority"]
    stored = json.loads((both / "tfidf" / "results.json").read_text())["results"]
    for cell in records.cells:
        if cell.variant.name == "tfidf":
            assert cell.metrics["acc"].value == stored[cell.task.name]["metrics"]["acc"]["value"]
            assert (cell.task.kind, cell.task.language) == ("classification", cell.task.name[-2:])


def test_the_page_pairs_by_example_and_says_who_is_best(both: Path, tmp_path: Path) -> None:
    made = report_results([both], out=tmp_path, command="lmtasks eval ...")
    (first, second) = [each for each in made.records.comparisons if each.relation == "best"]
    assert (first.base, first.variant, first.verdict) == ("tfidf", "majority", "worse")
    assert second.verdict == "worse"
    answer = " ".join(view(made.records).answer)
    assert answer.startswith("tfidf keeps the quality of the best on all 2 tasks")
    text = (tmp_path / "report.md").read_text()
    assert "lmtasks eval ..." in text
    assert "No model was scored" not in text
    assert made.page == tmp_path / "index.html"


def test_all_are_held_against_all_at_once(both: Path, other: Path) -> None:
    records = records_of([both, other], name="mine")
    assert [(each.task, each.n) for each in records.together] == [
        ("starter_sentiment_en", 75),
        ("starter_topic_zh", 75),
    ]
    topic = records.together[1]
    assert set(topic.variants) == {"tfidf", "majority", "naive-bayes"}
    assert topic.values == tuple(sorted(topic.values, reverse=True))
    assert [len(line) for line in topic.halves] == [0, 1, 2]
    assert all(0.02 < half < 0.3 for line in topic.halves for half in line)
    assert all(b >= a for one, two in zip(topic.halves, topic.table_halves, strict=True)
               for a, b in zip(one, two, strict=True))  # fmt: skip
    assert topic.variants[2] == "majority"
    assert topic.values[0] - topic.values[2] > topic.halves[2][0]


def test_several_folders_make_one_page(both: Path, other: Path, tmp_path: Path) -> None:
    (made,) = make_reports(ReportRequest(folders=[both, other], out=tmp_path / "page"))
    assert {variant.name for variant in made.records.variants} == {"tfidf", "majority", "naive-bayes"}
    pairs = {(each.variant, each.task) for each in made.records.comparisons}
    assert ("naive-bayes", "starter_topic_zh") in pairs or ("tfidf", "starter_topic_zh") in pairs


def test_the_same_model_with_other_tasks_is_one_variant_with_the_same_task_two(both: Path, tmp_path: Path) -> None:
    more = scored(tmp_path / "more", "tfidf", tasks="starter_topic_en")
    again = scored(tmp_path / "again", "tfidf", tasks="starter_topic_zh")
    assert [v.name for v in records_of([both / "tfidf", more], name="n").variants] == ["tfidf"]
    names = {v.name for v in records_of([both / "tfidf", again], name="n").variants}
    assert names == {"tfidf (both/tfidf)", f"tfidf ({tmp_path.name}/again)"}


def test_scores_on_other_rows_are_told_and_not_compared(both: Path, tmp_path: Path) -> None:
    few = scored(tmp_path / "few", "naive-bayes", tasks="starter_topic_zh", limit=10)
    records = records_of([both, few], name="n")
    (trouble,) = view(records).troubles
    assert trouble.startswith("naive-bayes was scored on other rows of starter_topic_zh than the others: that stands")
    assert "starter_topic_zh (10 rows)" in str(view(records).quality)
    assert view(records).decision.variant == "tfidf"  # those of equal rows are still decided between
    assert not any("naive-bayes" in (each.variant, each.base) for each in records.comparisons)


def test_a_task_without_scores_says_why(both: Path) -> None:
    records = records_of([both], name="n", reasons={("majority", "starter_qa_en"): "majority answers no spans"})
    (cell,) = [cell for cell in records.cells if cell.status != "done"]
    assert (cell.status, cell.reason) == ("not-applicable", "majority answers no spans")
    assert "majority answers no spans" in str(view(records).quality)


def test_what_does_not_go_together_is_refused(both: Path, other: Path, tmp_path: Path) -> None:
    def ask(*folders: Path, out: Path | None = None, publish: Path | None = None) -> None:
        make_reports(ReportRequest(folders=folders, out=out, publish=publish))

    (tmp_path / "run" / "cells").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="2 folders of results make one page; say where it goes by --out"):
        ask(both, other)
    with pytest.raises(UsageError, match=r"run holds no results of `lmtasks eval`"):
        ask(both, tmp_path / "run", out=tmp_path / "page")
    with pytest.raises(UsageError, match="--publish is about runs"):
        ask(both, publish=tmp_path / "reports")
    with pytest.raises(UsageError, match="leave --out out"):
        ask(tmp_path / "run", out=tmp_path / "page")
    with pytest.raises(UsageError, match="is no run"):
        ask(tmp_path / "empty")


def test_results_of_a_later_version_are_named(both: Path, tmp_path: Path) -> None:
    later = tmp_path / "later"
    shutil.copytree(both / "tfidf", later)
    record = json.loads((later / "results.json").read_text())
    record.pop("checksum")
    (later / "results.json").write_text(json.dumps({**record, "schema": 99}))
    with pytest.raises(UsageError, match=r"later/results.json has schema 99, this version of lmtasks reads 1; lmtasks"):
        records_of([both, later], name="n")


def test_results_of_an_earlier_version_stand_beside_todays(both: Path, tmp_path: Path) -> None:
    """Without kind, language, labels, checksums: what they do not say is not said, and they are compared."""
    older = tmp_path / "older"
    shutil.copytree(both / "tfidf", older)
    record = json.loads((older / "results.json").read_text())
    for scores in record["results"].values():
        for name in ("kind", "language", "labels", "overlap"):
            scores.pop(name, None)
    record = {name: value for name, value in record.items() if name not in ("checksum", "checksums", "schema")}
    (older / "results.json").write_text(json.dumps(record))
    records = records_of([both, older], name="n")
    mine = {"tfidf (both/tfidf)", f"tfidf ({tmp_path.name}/older)"}
    same = [each for each in records.comparisons if {each.variant, each.base} == mine]
    assert same
    assert all(each.difference == 0 for each in same)
    assert view(records).decision.outcome in ("keeps", "level")


def test_records_for_others_are_written_on_request(both: Path, tmp_path: Path) -> None:
    (made,) = make_reports(ReportRequest(folders=[both], out=tmp_path / "page", every_eval_ever=tmp_path / "eee"))
    assert {file.parent.name for file in made.files} == {"majority", "tfidf"}
    with pytest.raises(UsageError, match="no score is of a data set of the Hub"):
        make_reports(ReportRequest(folders=[both], out=tmp_path / "page", hub_results=tmp_path / "hub"))


def test_the_data_set_of_a_task_file_is_that_of_the_hub(both: Path) -> None:
    """Of a task of the Hub whose file is the one that was scored; own rows and changed files have none."""
    records = records_of([both], name="n")
    assert hub_datasets(records) == {}
    task = load_task(Path(__file__).parents[2] / "tasks" / "classification" / "sst2.yaml")
    info = TaskInfo(name=task.name, hash=task.hash)
    cells = tuple(cell.model_copy(update={"task": info}) for cell in records.cells)
    found = hub_datasets(replace(records, cells=cells))
    assert found[task.name].id == task.sources["test"].path
    other = tuple(cell.model_copy(update={"task": info.model_copy(update={"hash": "x"})}) for cell in records.cells)
    assert hub_datasets(replace(records, cells=other)) == {}


def test_results_that_were_changed_are_refused(tmp_path: Path) -> None:
    folder = scored(tmp_path / "r", "majority", tasks="starter_topic_zh")
    samples = folder / "samples-starter_topic_zh.jsonl"
    samples.write_text(samples.read_text().replace("0", "1", 1))
    with pytest.raises(UsageError, match="was changed since it was written"):
        records_of([folder], name="n")
