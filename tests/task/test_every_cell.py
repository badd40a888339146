"""One cell of each type that JSON has, in every role: it is read as text, or refused in words; nothing else happens."""

import json
import math
from collections.abc import Mapping

import pytest

from lmtasks.data.labelled import labelled_rows
from lmtasks.data.rows import fingerprint
from lmtasks.errors import UsageError
from lmtasks.task import Task, baseline_source, build_prompt, head_input, load_task

CELLS: Mapping[str, str] = {
    "null": "null",
    "true": "true",
    "whole": "1",
    "negative": "-1",
    "fraction": "1.5",
    "whole as float": "1.0",
    "thirty digits": "1" + "0" * 29,
    "not a number": "NaN",
    "infinite": "Infinity",
    "empty": '""',
    "blank": '"  "',
    "text": '"pos "',
    "digits": '"1"',
    "long": json.dumps("long " * 20_000),
    "empty list": "[]",
    "texts": '["x", "y"]',
    "nulls": "[null]",
    "mixed": '["x", 1, null, {"a": [1]}]',
    "empty object": "{}",
    "object": '{"text": "x"}',
    "uneven": '{"text": ["x", "y"], "answer_start": [0]}',
    "answers of numbers": '{"text": [1, null], "answer_start": ["0", 1.5]}',
}
TASKS: Mapping[str, tuple[str, Mapping[str, object]]] = {
    "classification": (
        "inputs: {text: text, pair: pair, label: label, source: source}\nlabels: [neg, pos]\ndoc_to_text: '{{text}}'\n",
        {"text": "x", "pair": "y", "label": "pos", "source": "z"},
    ),
    "span": (
        "inputs: {question: question, context: context, answers: answers}\ndoc_to_text: '{{context}} {{question}}'\n",
        {"question": "x", "context": "x y", "answers": {"text": ["y"], "answer_start": [2]}},
    ),
    "tagging": (
        "inputs: {tokens: tokens, tags: tags}\nlabels: [O, B-LOC]\n",
        {"tokens": ["x", "y"], "tags": ["O", "B-LOC"]},
    ),
    "semantic_roles": (
        "inputs: {tokens: tokens, predicate: predicate, tags: tags}\nlabels: [O, B-V]\n",
        {"tokens": ["x", "y"], "predicate": 1, "tags": ["O", "B-V"]},
    ),
    "generation": (
        "inputs: {references: references, source: source}\ndoc_to_text: text\n",
        {"text": "x", "references": ["y"], "source": "z"},
    ),
    "translation": (
        "inputs: {references: references}\ndoc_to_text: text\ndoc_to_target: target\n",
        {"text": "x", "references": ["y"], "target": "y"},
    ),
    "multiple_choice": (
        "doc_to_text: text\ndoc_to_target: target\ndoc_to_choice: choices\n",
        {"text": "x", "target": 0, "choices": ["y", "z"]},
    ),
    "language_modelling": ("inputs: {text: text}\n", {"text": "x"}),
}
CASES = [(kind, column) for kind, (_, row) in TASKS.items() for column in row]


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Task]:
    folder = tmp_path_factory.mktemp("tasks")
    for kind, (lines, _) in TASKS.items():
        head = f"task: {kind}\nkind: {kind}\ndataset_path: a/b\ntest_split: test\n"
        (folder / f"{kind}.yaml").write_text(head + lines)
    return {kind: load_task(folder / f"{kind}.yaml") for kind in TASKS}


@pytest.mark.parametrize(("kind", "column"), CASES)
@pytest.mark.parametrize("cell", CELLS)
def test_a_cell_is_read_or_refused_in_words(tasks: Mapping[str, Task], kind: str, column: str, cell: str) -> None:
    task = tasks[kind]
    value = json.loads(CELLS[cell])
    row = {**TASKS[kind][1], column: value}
    assert len(fingerprint([row])) == 16
    try:
        (found,) = labelled_rows(task, [row], where=f"rows of {kind}", drop=True).rows
        read = head_input(task, found, row_number=0)
        baseline_source(task, found)
        if task.templates.asked.question is not None:
            build_prompt(task, found, row_number=0)
    except UsageError as error:
        refused = str(error)
    else:
        refused = ""
    if refused:
        assert kind in refused
        return
    # What is read is text; a missing or nested cell stays none in the roles of a head.
    parts = (read.first, read.second or "", *read.answers, *read.tokens)
    assert all(isinstance(part, str) for part in parts)
    if column in task.inputs.values() and column != "label":
        nested = isinstance(value, dict) or (isinstance(value, float) and math.isnan(value))
        assert not nested or column in ("answers", "references")
        assert not {"None", "nan", "{'a': [1]}"} & set(parts)
