"""A task's own code: what it is handed is lm-evaluation-harness' contract, and its faults are told by name."""

import sys
from pathlib import Path

import pytest

from lmtasks.data.rows import open_rows
from lmtasks.errors import LmtasksError, UsageError, WorkError
from lmtasks.records import Row
from lmtasks.settings.data import DataAccess
from lmtasks.task import (
    Task,
    call_metric,
    call_process_results,
    filter_answers,
    lm_eval_shots,
    load_task,
    pick_shots,
    process_rows,
    shot_pool,
)

UTILS = """
from __future__ import annotations
from dataclasses import dataclass

@dataclass
class Kept:
    text: str

def long_only(dataset):
    kept = dataset.filter(lambda row: len(row["q"]) > 1)
    return kept.map(lambda row: {"q": row["q"].upper(), "more": Kept(row["a"]).text})

def plain_rows(dataset):
    return [{"q": "shot " + row["q"], "a": row["a"]} for row in dataset]

def nothing(dataset):
    return dataset.filter(lambda row: False)

def leaves(dataset):
    raise SystemExit("Prolog is missing")

def lazy(dataset):
    import no_such_thing.inner

def text(dataset):
    return "rows"

def results(doc, results):
    return {"seen": [doc["q"], results], "n": len(results)}

def number(doc, results):
    return 3

def broken(*given):
    raise ValueError("no such thing")

def samples():
    return [{"q": "one", "a": "1"}, {"q": "two", "a": "2"}]

def same(references, predictions, ignore=""):
    return float(references[0] == predictions[0].replace(ignore, ""))

def several(references, predictions):
    return {"same": references[0] == predictions[0], "length": len(predictions[0])}

def pair(items):
    return items[0] == items[1]

def shout(answers, docs):
    return [[doc["q"] + text + "!" for text in each] for each, doc in zip(answers, docs)]

def one(answers, docs):
    return [each[-1] for each in answers]

def too_few(answers, docs):
    return []

class Doubled:
    def __init__(self, mark="?"):
        self.mark = mark

    def apply(self, answers, docs):
        return map(lambda each: [text * 2 + self.mark for text in each], answers)

class LastOnes:
    def __init__(self, docs, rnd=None):
        self.docs, self.seed = docs, rnd

    def set_rnd(self, seed):
        self.seed = seed
        return self

    def sample(self, n, eval_doc=None):
        return [row for row in self.docs if row != eval_doc][-n:]

def data(rows=2, version=None, **more):
    made = [{"q": f"made {number} of {version}", "a": "x"} for number in range(rows)]
    return {"test": made, "train": iter(made)}

not_callable = 3
"""

SMALL = "task: t\ndataset_path: a/b\ntest_split: test\ndoc_to_text: q\ndoc_to_target: a\n"
ROWS: list[Row] = [{"q": "a", "a": "1"}, {"q": "bb", "a": "2"}, {"q": "cc", "a": "3"}]


def _task(tmp_path: Path, text: str) -> Task:
    (tmp_path / "utils.py").write_text(UTILS, encoding="utf-8")
    file = tmp_path / "task.yaml"
    file.write_text(SMALL + text, encoding="utf-8")
    return load_task(file, trust_code=True)


def test_process_docs_gets_a_dataset(tmp_path: Path) -> None:
    task = _task(tmp_path, "process_docs: !function utils.long_only\n")
    assert process_rows(task, ROWS) == [{"q": "BB", "a": "2", "more": "2"}, {"q": "CC", "a": "3", "more": "3"}]
    assert process_rows(_task(tmp_path, ""), ROWS) is ROWS
    assert ROWS[1] == {"q": "bb", "a": "2"}, "the rows themselves stay"


def test_the_pool_of_worked_examples(tmp_path: Path) -> None:
    for text, made in (
        ("", [row["q"] for row in ROWS]),
        ("process_docs: !function utils.long_only\n", ["BB", "CC"]),
        (
            "fewshot_config: {split: train, process_docs: !function utils.plain_rows}\n",
            ["shot a", "shot bb", "shot cc"],
        ),
        ("process_docs: !function utils.long_only\nfewshot_split: train\n", ["BB", "CC"]),
        ("fewshot_config: {samples: !function utils.samples}\n", ["one", "two"]),
        ("fewshot_config: {samples: [{q: own, a: x}]}\n", ["own"]),
        # A split that is named goes before samples.
        ("fewshot_split: train\nfewshot_config: {samples: [{q: own, a: x}]}\n", [row["q"] for row in ROWS]),
    ):
        task = _task(tmp_path, text)
        assert [row["q"] for row in shot_pool(task, ROWS)] == made, text
        assert (task.shots is None) == ("samples" in text and "fewshot_split" not in text)


def test_process_results_gets_the_row_and_the_results(tmp_path: Path) -> None:
    task = _task(
        tmp_path,
        "process_results: !function utils.results\nmetric_list: [{metric: n, aggregation: nanmean}, {metric: seen}]\n",
    )
    results = [(-1.5, True), (-2.0, False)]
    assert call_process_results(task, ROWS[0], results) == {"seen": ["a", results], "n": 2}
    assert [(use.name, use.aggregation) for use in task.metrics] == [("n", "nanmean"), ("seen", "mean")]


def test_metrics_of_a_task_s_own(tmp_path: Path) -> None:
    task = _task(
        tmp_path,
        "metric_list:\n  - {metric: !function utils.same, ignore: '.', higher_is_better: false}\n"
        "  - {metric: !function utils.several, aggregation: !function utils.pair}\n  - metric: !function utils.pair\n",
    )
    same, several, pair = task.metrics
    assert (same.name, same.options, same.aggregation, same.higher_is_better) == (
        "same",
        {"ignore": "."},
        "mean",
        False,
    )
    assert call_metric(same, golds=["yes"], result="y.es", several=False) == {"same": 1.0}
    assert call_metric(same, golds=["no", "yes"], result="yes", several=True) == {"same": 1.0}
    assert call_metric(same, golds=["no", "nay"], result="yes", several=True) == {"same": 0.0}
    assert call_metric(several, golds=["yes"], result="no", several=False) == {"same": False, "length": 2}
    assert call_metric(pair, golds=["yes"], result="yes", several=False) == {"pair": True}


def test_filters_of_a_task_s_own(tmp_path: Path) -> None:
    task = _task(
        tmp_path,
        "filter_list:\n"
        "  - {name: shout, filter: [{function: custom, filter_fn: !function utils.shout}]}\n"
        "  - {name: one, filter: [{function: custom, filter_fn: !function utils.one}, {function: uppercase}]}\n"
        "  - {name: made, filter: [{function: !function utils.Doubled, mark: '#'}, {function: take_first}]}\n",
    )
    answers = [["x", "y"], ["z", "z"], ["v", "w"]]
    handed = [[each.handed for each in filter_answers(line, answers, ROWS)] for line in task.filters]
    assert handed == [
        [["ax!", "ay!"], ["bbz!", "bbz!"], ["ccv!", "ccw!"]],
        ["Y", "Z", "W"],
        ["xx#", "zz#", "vv#"],
    ]


def test_a_sampler_of_a_task_s_own(tmp_path: Path) -> None:
    task = _task(tmp_path, "fewshot_split: test\nfewshot_config: {sampler: !function utils.LastOnes}\n")
    assert lm_eval_shots(task, pool=ROWS, rows=ROWS, count=1) == ((ROWS[2],), (ROWS[2],), (ROWS[1],))
    assert pick_shots(task, pool=ROWS, row=ROWS[2], row_number=2, count=2, seed=1) == (ROWS[0], ROWS[1])
    with pytest.raises(WorkError, match=r"sampler of task t, yields 3 worked examples where 4 were asked for"):
        lm_eval_shots(task, pool=[*ROWS], rows=[{"q": "other"}], count=4)


def test_a_custom_data_set(tmp_path: Path) -> None:
    task = _task(
        tmp_path,
        "custom_dataset: !function utils.data\ndataset_kwargs: {rows: 3, lang: eng}\nmetadata: {version: 7}\n"
        "training_split: train\n",
    )
    made = open_rows(task.sources["test"], options=DataAccess(offline=True), limit=2)
    assert [row["q"] for row in made.rows] == ["made 0 of 7", "made 1 of 7"]
    assert len(open_rows(task.sources["train"], options=DataAccess()).rows) == 3
    other = _task(tmp_path, "custom_dataset: !function utils.data\n")
    assert other.hash != task.hash, "what it is called with is part of the task"


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("process_docs: !function utils.broken", r"!function utils\.broken of .*utils\.py failed: ValueError: no such"),
        ("process_docs: !function utils.text", r"utils\.text, process_docs of task t, must yield rows .*yielded: str"),
        ("process_docs: !function utils.nothing", r"utils\.nothing, process_docs of task t, left no rows"),
        ("process_docs: !function utils.missing", r"utils\.py has no function 'missing'"),
        ("process_docs: !function utils.not_callable", r"utils\.py has no function 'not_callable'"),
        (
            "process_docs: !function utils.leaves",
            r"!function utils\.leaves of .* ended the process \(Prolog is missing\)",
        ),
        (
            "process_docs: !function utils.lazy",
            r"utils\.lazy of .* needs the module no_such_thing, which is not installed",
        ),
        ("process_docs: !function lm_eval.utils.f", r"needs the module lm_eval.* pip install lm_eval helps"),
        ("process_docs: !function xml.no_such.f", r"nor an installed module xml\.no_such"),
        ("process_docs: !function no_such_module.f", r"there is no file .*, nor an installed module no_such_module"),
    ],
)
def test_faults_of_process_docs(tmp_path: Path, field: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    task = _task(tmp_path, field + "\n")
    with pytest.raises(LmtasksError, match=message):
        process_rows(task, ROWS)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "from lm_eval.utils import weighted_f1_score",
            r"needs the module lm_eval.*; pip install lm_eval helps: the code",
        ),
        ("import lm_eval.filters.extraction as e", r"pip install lm_eval helps"),
        ("import no_such_thing", r"needs the module no_such_thing, which is not installed; install the package that"),
        ("import xml.no_such", r"cannot be imported with what is installed here: No module named 'xml\.no_such'"),
        ("raise ImportError('pip install it')", r"cannot be imported with what is installed here: pip install it\."),
        ("from xml import nothing", r"cannot be imported .*: cannot import name 'nothing' from 'xml'"),
    ],
)
def test_code_that_imports_what_is_not_installed_is_told_so(
    tmp_path: Path, code: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a failure of the work: exit code 2, and what to do."""
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    (tmp_path / "utils.py").write_text(f"{code}\ndef f(rows):\n    return rows\n", encoding="utf-8")
    file = tmp_path / "task.yaml"
    file.write_text(SMALL + "process_docs: !function utils.f\n", encoding="utf-8")
    task = load_task(file, trust_code=True)
    with pytest.raises(UsageError, match=message):
        process_rows(task, ROWS)


def test_faults_of_other_hooks(tmp_path: Path) -> None:
    task = _task(tmp_path, "process_results: !function utils.number\n")
    with pytest.raises(WorkError, match=r"process_results of task t, must yield a mapping .* yielded: '3'"):
        call_process_results(task, ROWS[0], [])
    task = _task(
        tmp_path, "filter_list: [{name: x, filter: [{function: custom, filter_fn: !function utils.too_few}]}]\n"
    )
    with pytest.raises(WorkError, match=r"a filter of x, must yield answers to each of 3 requests, yielded 0"):
        filter_answers(task.filters[0], [["a"]] * 3, ROWS)
    task = _task(tmp_path, "process_docs: !function utils.long_only\n")
    with pytest.raises(WorkError, match=r"process_docs of task t needs the rows as a table .* several types"):
        process_rows(task, [{"q": 1}, {"q": "one"}])
    task = _task(tmp_path, "custom_dataset: !function utils.data\n")
    with pytest.raises(UsageError, match=r"unknown split of !function utils\.data 'dev'.*Known: test, train"):
        open_rows(
            type(task.sources["test"])(path="x", split="dev", made_by=task.sources["test"].made_by),
            options=DataAccess(),
        )


@pytest.mark.parametrize(
    ("field", "place"),
    [
        ("process_docs: !function u.f", "process_docs"),
        ("process_results: !function u.f", "process_results"),
        ("custom_dataset: !function u.f", "custom_dataset"),
        ("doc_to_choice: !function u.f", "doc_to_choice"),
        ("fewshot_config: {split: train, process_docs: !function u.f}", r"fewshot_config\.process_docs"),
        ("fewshot_config: {samples: !function u.f}", r"fewshot_config\.samples"),
        ("fewshot_config: {sampler: !function u.f}", r"fewshot_config\.sampler"),
        ("metric_list: [{metric: acc, aggregation: !function u.f}]", r"metric_list\.aggregation"),
        (
            "filter_list: [{name: x, filter: [{function: custom, filter_fn: !function u.f}]}]",
            r"filter_list\.filter\.filter_fn",
        ),
    ],
)
def test_code_is_refused_by_name_unless_trusted(tmp_path: Path, field: str, place: str) -> None:
    file = tmp_path / "task.yaml"
    file.write_text(SMALL + field + "\n")
    with pytest.raises(UsageError, match=rf"task\.yaml:6: {place} is Python code \(!function u\.f\).*--trust-code"):
        load_task(file)
    assert load_task(file, trust_code=True).name == "t"


def test_answers_that_run_as_code_need_trust(tmp_path: Path) -> None:
    file = tmp_path / "task.yaml"
    file.write_text(SMALL + "unsafe_code: true\n")
    with pytest.raises(
        UsageError, match=r"task\.yaml:6: unsafe_code says that what a model writes is run.*--trust-code"
    ):
        load_task(file)
    assert load_task(file, trust_code=True).name == "t"
