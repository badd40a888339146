"""What heads get: labels by name or number, spans put right, references, baselines."""

from pathlib import Path

import pytest

from lmtasks.task import Task, baseline_source, build_prompt, default_index, head_input, load_task

HEAD = "task: t\ndataset_path: a/b\ntest_split: test\n"


def _task(tmp_path: Path, text: str) -> Task:
    file = tmp_path / "task.yaml"
    file.write_text(HEAD + text, encoding="utf-8")
    return load_task(file)


@pytest.mark.parametrize(
    ("labels", "value", "number"),
    [
        ("[negative, positive]", 1, 1),
        ("[negative, positive]", "negative", 0),
        ("[negative, positive]", "1", 1),
        ("[negative, positive]", 1.0, 1),
        ("['1', '2', '3', '4', '5']", 3, 2),
        ("['1', '2', '3', '4', '5']", "3", 2),
        ("['False', 'True']", True, 1),
    ],
)
def test_labels_by_name_then_by_number(tmp_path: Path, labels: str, value: object, number: int) -> None:
    task = _task(tmp_path, f"kind: classification\ninputs: {{text: t, label: l}}\nlabels: {labels}\ndoc_to_text: t\n")
    row = {"t": "x", "l": value}
    assert head_input(task, row, row_number=0).label == number
    assert build_prompt(task, row).gold == (number,)


def test_a_pair_and_templates_as_roles(tmp_path: Path) -> None:
    task = _task(
        tmp_path,
        "kind: classification\ninputs: {text: '{{a}}!', pair: b, label: '{{ c | lower }}'}\nlabels: [no_, yes_]\n",
    )
    row = {"a": "x", "b": 5, "c": "YES_"}
    made = head_input(task, row, row_number=0)
    assert (made.first, made.second, made.label, baseline_source(task, row)) == ("x!", "5", 1, "x!")


SPAN = "kind: span\ninputs: {question: q, context: c, answers: a}\ndoc_to_text: '{{c}} {{q}}'\nno_answer: none\n"
CONTEXT = "red, blue and red"


@pytest.mark.parametrize(
    ("answers", "texts", "starts"),
    [
        ({"text": ["red"], "answer_start": [14]}, ("red",), (14,)),
        ({"text": ["red"], "answer_start": [12]}, ("red",), (14,)),
        ({"text": ["red"], "answer_start": [3]}, ("red",), (0,)),
        ({"text": ["green", "blue"], "answer_start": [0, 5]}, ("green", "blue"), (-1, 5)),
        ({"text": [], "answer_start": []}, (), ()),
        ([{"text": "blue", "answer_start": 5}], ("blue",), (5,)),
        ({"text": "blue", "answer_start": 5}, ("blue",), (5,)),
        ({"text": ["blue"]}, ("blue",), (5,)),
        (None, (), ()),
    ],
)
def test_spans(tmp_path: Path, answers: object, texts: tuple[str, ...], starts: tuple[int, ...]) -> None:
    task = _task(tmp_path, SPAN)
    row = {"q": "?", "c": CONTEXT, "a": answers}
    made = head_input(task, row, row_number=0)
    assert (made.answers, made.starts, made.second) == (texts, starts, CONTEXT)
    prompt = build_prompt(task, row)
    assert prompt.references == texts
    assert prompt.target == (texts[0] if texts else "none")


def test_tagging(tmp_path: Path) -> None:
    task = _task(tmp_path, "kind: tagging\ninputs: {tokens: w, tags: l}\nlabels: [O, B-X]\nmetrics: [acc]\n")
    made = head_input(task, {"w": ["New", "York"], "l": ["B-X", 0]}, row_number=0)
    assert (made.first, made.tokens, made.tags) == ("New York", ("New", "York"), (1, 0))


def test_several_references_and_what_baselines_copy() -> None:
    (task,) = default_index().find("tatoeba_en_zh")
    row = {"en": "How much is it?", "zh": "它多贵?", "zh_references": ["它多贵?", "多少钱？"]}
    made = head_input(task, row, row_number=0)
    assert made.answers == ("它多贵?", "多少钱？")
    assert made.first == "How much is it?\n中文："
    assert baseline_source(task, row) == "How much is it?"


def test_columns_that_differ_between_the_hub_and_copies() -> None:
    """tnews and trec number their labels differently where a telling column is there."""
    tnews, trec, dialogsum = default_index().find("tnews,trec,dialogsum")
    hub = head_input(tnews, {"sentence": "x", "label": 3, "idx": 0}, row_number=0)
    copy = head_input(tnews, {"sentence": "x", "label": 9, "label_name": "news_sports"}, row_number=0)
    assert hub.label == copy.label == tnews.labels.index("news_sports")
    hub = head_input(trec, {"text": "x", "coarse_label": 0, "fine_label": 1}, row_number=0)
    copy = head_input(trec, {"text": "x", "coarse_label": 2}, row_number=0)
    assert hub.label == copy.label == trec.labels.index("abbreviation")
    row = {"dialogue": "d", "summary": 'it\'s "so"'}
    assert build_prompt(dialogsum, row).references == (row["summary"],)
    assert build_prompt(dialogsum, {**row, "references": ["a", "b"]}).references == ("a", "b")


def test_continuation_begins_at_a_third() -> None:
    english, chinese = default_index().find("starter_continuation_en,starter_continuation_zh")
    prompt = build_prompt(english, {"text": "one two three four five six"})
    assert (prompt.context, prompt.delimiter, prompt.target) == ("one two", " ", "three four five six")
    prompt = build_prompt(chinese, {"text": "一二三四五六"})
    assert (prompt.context, prompt.delimiter, prompt.target) == ("一二", "", "三四五六")
