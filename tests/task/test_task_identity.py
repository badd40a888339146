"""What makes two rows one, and worked examples that hold the answer to their own prompt."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from lmtasks.records import Row
from lmtasks.task import Task, build_prompt, lm_eval_shots, load_task, pick_shots
from lmtasks.task.identity import asked_question, holds_own_answer, shown_question

HEAD = "dataset_path: json\ndataset_kwargs: {data_files: {test: t.jsonl}}\ntest_split: test\n"
CHOICE = HEAD + 'output_type: multiple_choice\ndoc_to_text: "Q: {{q}}"\ndoc_to_choice: c\ndoc_to_target: a\n'
TEXT = HEAD + 'output_type: generate_until\ndoc_to_text: "{{q}}"\ndoc_to_target: "{{a}}"\n'
LIKELIHOOD = HEAD + 'output_type: loglikelihood\ndoc_to_text: ""\ndoc_to_target: "{{a}}"\n'
BLANK = HEAD + "output_type: multiple_choice\ndoc_to_text: n\ndoc_to_target: 'end'\ndoc_to_choice: c\n"
LABELS = (
    HEAD + "kind: classification\nlabels: [bad, good]\ninputs: {text: q, label: a}\n"
    'doc_to_text: "{{id}}. {{q}}\\nMood:"\n'
)


def _task(folder: Path, lines: str) -> Task:
    file = folder / "t.yaml"
    file.write_text(f"task: t\n{lines}", encoding="utf-8")
    return load_task(file)


@pytest.mark.parametrize(
    ("lines", "row", "other", "same"),
    [
        (TEXT, {"id": 1, "q": "Two  plus\ttwo?", "a": "4"}, {"id": 2, "q": "Two plus two?", "a": "four"}, True),
        (TEXT, {"id": 1, "q": "二加二？", "a": "4"}, {"id": 1, "q": "二加三？", "a": "4"}, False),
        (CHOICE, {"q": "x", "c": ["1", "2"], "a": 0, "n": 1}, {"q": "x", "c": ["2", "1"], "a": 1, "n": 2}, True),
        (CHOICE, {"q": "x", "c": ["1", "2"], "a": 0}, {"q": "x", "c": ["1", "3"], "a": 0}, True),
        (CHOICE, {"q": "Which?", "c": ["1", "2"], "a": 0}, {"q": "Which?", "c": ["3", "4"], "a": 0}, False),
        (LIKELIHOOD, {"id": 1, "a": "one text"}, {"id": 2, "a": "one  text"}, True),
        (LIKELIHOOD, {"id": 1, "a": "one text"}, {"id": 1, "a": "another"}, False),
        (BLANK, {"n": 0, "c": ["he is", "she is"]}, {"n": 1, "c": ["he is", "she is"]}, True),
        (BLANK, {"n": 0, "c": ["he is", "she is"]}, {"n": 0, "c": ["they are", "we are"]}, False),
        (LABELS, {"id": 1, "q": "fine", "a": "good"}, {"id": 2, "q": "fine ", "a": "bad"}, True),
    ],
)
def test_rows_that_ask_the_same(lines: str, row: Row, other: Row, same: bool, tmp_path: Path) -> None:
    task = _task(tmp_path, lines)
    assert asked_question(task, row).same_as(shown_question(task, other)) is same
    assert asked_question(task, other).same_as(shown_question(task, row)) is same


ASKED: Sequence[Row] = [{"id": n, "q": f"Q{n % 3}", "a": str(n % 3), "c": ["0", "1", "2"]} for n in range(6)]


@pytest.mark.parametrize("lines", [TEXT, CHOICE])
@pytest.mark.parametrize("order", ["", "fewshot_config: {sampler: first_n}\n"])
def test_an_id_hid_an_equal_question_among_the_worked_examples(lines: str, order: str, tmp_path: Path) -> None:
    task = _task(tmp_path, lines + order)
    for number, row in enumerate(ASKED):
        shots = pick_shots(task, pool=ASKED, row=row, row_number=number, count=4, seed=1)
        assert len(shots) == 4
        assert f"Q{number % 3}" not in build_prompt(task, row, shots=shots).context.rpartition("Q")[0]
        assert not holds_own_answer(task, row, shots)


def test_lm_evals_draw_is_kept_and_told(tmp_path: Path) -> None:
    task = _task(tmp_path, TEXT)
    drawn = lm_eval_shots(task, pool=ASKED, rows=ASKED, count=4)
    assert [len(shots) for shots in drawn] == [4] * 6
    told = [holds_own_answer(task, row, shots) for row, shots in zip(ASKED, drawn, strict=True)]
    assert told == [any(shot["q"] == row["q"] for shot in shots) for row, shots in zip(ASKED, drawn, strict=True)]
    assert any(told)


def test_worked_examples_with_columns_of_their_own(tmp_path: Path) -> None:
    """`fewshot_config.samples` need not look like the asked rows, and its words may be others."""
    task = _task(
        tmp_path,
        TEXT + 'fewshot_config: {doc_to_text: "{{frage}}", doc_to_target: "{{antwort}}", samples: '
        "[{frage: Q0, antwort: '0'}, {frage: Q1, antwort: '1'}, {frage: Q2, antwort: '2'}]}\n",
    )
    picked = pick_shots(task, pool=(), row=ASKED[4], row_number=4, count=2, seed=1)
    assert sorted(str(shot["frage"]) for shot in picked) == ["Q0", "Q2"]
