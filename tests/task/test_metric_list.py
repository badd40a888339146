"""What a `metric_list` asks for and does not get is said once, however many tasks say it."""

import logging
import re
from pathlib import Path

import pytest

from lmtasks.errors import UsageError
from lmtasks.evaluation.outcome import metric_for
from lmtasks.task import Task, load_task
from lmtasks.task.index import TaskIndex

SMALL = "task: {name}\ndataset_path: a/b\ntest_split: test\ndoc_to_text: q\ndoc_to_target: a\n"
CHOICE = SMALL + "output_type: multiple_choice\ndoc_to_choice: ['a', 'b', 'c']\n"


def _task(folder: Path, text: str, *, name: str = "t") -> Task:
    file = folder / f"{name}.yaml"
    file.write_text(text.replace("{name}", name), encoding="utf-8")
    return load_task(file, trust_code=True)


def test_options_of_a_metric_that_takes_none(tmp_path: Path) -> None:
    task = _task(
        tmp_path,
        CHOICE + "metric_list: [{metric: acc, ignore_case: true, regexes_to_ignore: [x]}, "
        "{metric: f1, aggregation: !function u.f, average: weighted, hf_evaluate: true}]\n",
    )
    assert task.notes == (
        "the options ignore_case, regexes_to_ignore of acc; average, hf_evaluate of f1 change nothing, as in "
        "lm-evaluation-harness 0.4.13, which calls no metric's function of multiple_choice",
    )
    assert [dict(use.options) for use in task.metrics] == [{}, {}]
    plain = _task(tmp_path, CHOICE + "metric_list: [{metric: acc}, {metric: f1, aggregation: !function u.f}]\n")
    assert plain.notes == ()
    assert plain.hash == task.hash, "what changes nothing is no other task"


@pytest.mark.parametrize(
    ("text", "note"),
    [
        (SMALL + "metric_list: [{metric: bleu, lowercase: true}]", "where the metric's function takes none"),
        (
            SMALL + "process_results: !function u.f\nmetric_list: [{metric: mine, weight_by_size: true}]",
            "where process_results makes the values",
        ),
        (
            SMALL + "output_type: loglikelihood\nmetric_list: [{metric: acc, ignore_case: true}]",
            "no metric's function of loglikelihood",
        ),
        (CHOICE + "metric_list: [{metric: acc}, {metric: bleu}]", "the metric bleu has no value: .*; it is left out"),
        (CHOICE + "metric_list: [{metric: acc}, {metric: precision, hf_evaluate: true}]", "precision has no value"),
        (CHOICE + "metric_list: [{metric: acc}, {metric: !function u.f}]", r"!function u\.f would never be called"),
        (
            CHOICE + "metric_list: [{metric: f1, average: macro}]",
            "average of f1 is macro, which counts where more than",
        ),
        (SMALL + "metric_list: [{metric: exact_match, ignore_case: 'false'}]", "'false', which counts as true"),
        (SMALL + "metric_list: [{metric: exact_match, regexes_to_ignore: ',$'}]", "each sign of which is a pattern"),
    ],
)
def test_what_is_not_carried_out_is_said(tmp_path: Path, text: str, note: str) -> None:
    task = _task(tmp_path, text + "\n")
    (said,) = task.notes
    assert re.search(note, said)
    assert "lm-evaluation-harness" in said


@pytest.mark.parametrize(
    "text",
    [
        CHOICE + "metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]",
        SMALL + "metric_list: [{metric: exact_match, ignore_case: true, regexes_to_ignore: [a]}]",
        SMALL + "metric_list: [{metric: !function u.f, k: [1, 10]}]",
        CHOICE + "kind: classification\nlabels: [a, b, c]\ninputs: {text: q, label: a}\nmetrics: [acc, macro_f1]",
        CHOICE + "metric_list: [{metric: ece, bins: 5}]",
    ],
)
def test_what_is_carried_out_needs_no_note(tmp_path: Path, text: str) -> None:
    assert _task(tmp_path, text + "\n").notes == ()


def test_a_list_without_any_value_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the metric bleu has no value: .* this task is multiple_choice"):
        _task(tmp_path, CHOICE + "metric_list: [{metric: bleu}, {metric: chrf}]\n")


def test_a_misspelt_metric_is_no_metric_without_a_value(tmp_path: Path) -> None:
    task = _task(tmp_path, CHOICE + "metric_list: [{metric: acc}, {metric: acc_nrm}]\n")
    with pytest.raises(UsageError, match="unknown metric 'acc_nrm'; did you mean 'acc_norm'"):
        [metric_for(task, use) for use in task.metrics]


def test_a_note_about_many_tasks_is_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(5):
        _task(tmp_path, CHOICE + "metric_list: [{metric: acc, ignore_case: true}]\n", name=f"t{number}")
    with caplog.at_level(logging.WARNING, logger="lmtasks"):
        assert len(TaskIndex([tmp_path]).find("t*")) == 5
    (record,) = caplog.records
    assert record.getMessage().startswith("t0, t1, t2 and 2 more: the options ignore_case of acc change nothing")


def test_f1_of_more_than_two_classes_takes_its_average(tmp_path: Path) -> None:
    task = _task(tmp_path, CHOICE + "metric_list: [{metric: f1, average: macro}]\n")
    (use,) = task.metrics
    metric = metric_for(task, use)
    assert metric.signature == "average:binary|positive:1|zero_division:0|multiclass:macro"
