"""What a reader must know of a task's values is counted, written, and said again when answers are scored again."""

import json
from pathlib import Path

from lmtasks.evaluation.baselines import BaselineSolver
from lmtasks.evaluation.collector import StatisticsCollector, merge, notes_of
from lmtasks.evaluation.evaluate import TaskResult, evaluate
from lmtasks.evaluation.outcome import answered_text
from lmtasks.evaluation.prepare import EvalOptions
from lmtasks.evaluation.protocols import Finished, ScoredExample
from lmtasks.evaluation.samples import NoSamples
from lmtasks.evaluation.scoring import scorings_for
from lmtasks.evaluation.write import read_results, write_results
from lmtasks.settings.data import DataAccess
from lmtasks.task.load import load_task
from lmtasks.workflow.rescore import Rescoring, rescore

ROWS = [{"text": "กา", "ref": "กิน"}, {"text": "ฝนตก", "ref": "ฝนตก"}, {"text": "a", "ref": "a b"}]


def copied(folder: Path, metrics: str) -> TaskResult:
    """The source as the answer, scored."""
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
    (folder / "th.jsonl").write_text(lines, encoding="utf-8")
    (folder / "th.yaml").write_text(
        "task: th\nkind: summarization\nlanguage: th\ndataset_path: json\n"
        "dataset_kwargs: {data_files: {test: th.jsonl}}\ntest_split: test\n"
        f'inputs: {{source: text, references: ref}}\ndoc_to_text: "{{{{text}}}}"\nmetrics: {metrics}\n',
        encoding="utf-8",
    )
    options = EvalOptions(data=DataAccess(offline=True), resamples=10)
    (result,) = evaluate(solver=BaselineSolver("copy"), tasks=[load_task(folder / "th.yaml")], options=options)
    return result


def test_a_metric_that_cannot_cut_the_script_is_said_once(tmp_path: Path) -> None:
    result = copied(tmp_path, "[rouge1, bleu, chrf]")
    (note,) = result.notes
    assert note.startswith("bleu (13a)")
    assert note.endswith("use chrf (true of 2 of 3 examples).")
    solver = BaselineSolver("copy")
    write_results(tmp_path / "out", results=[result], model=solver.model, runtime=solver.card, machine={}, versions={})
    stored = read_results(tmp_path / "out")
    assert stored.tasks["th"].scores.notes == (note,)
    (again,) = rescore(stored, Rescoring(metrics=("bleu", "ter")), samples=NoSamples())
    assert [line.split(" finds")[0] for line in again.notes] == ["bleu (13a)", "ter"]


def test_nothing_is_said_where_nothing_is_to_be_said(tmp_path: Path) -> None:
    assert copied(tmp_path, "[rouge1, rougeL, chrf, distinct_1]").notes == ()


def test_the_remarks_of_several_processes_are_added_up(tmp_path: Path) -> None:
    copied(tmp_path, "[bleu]")
    task = load_task(tmp_path / "th.yaml")
    scorings = scorings_for(task)
    tallies = []
    for rank in range(2):
        tally = StatisticsCollector(task="th", scorings=list(scorings), cluster=None, samples=NoSamples())
        tally.take(
            [
                Finished(
                    example=ScoredExample(doc_id=number, row=row),
                    answered=answered_text(
                        row["text"], prediction=row["text"], prompt="", references=(row["ref"],), source=""
                    ),
                    truncated=False,
                )
                for number, row in list(enumerate(ROWS))[rank::2]
            ]
        )
        tallies.append(tally.result())
    assert "2 of 3" in notes_of(merge(tallies, scorings=scorings), {})[0]
