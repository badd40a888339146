"""Prompts, chats, worked examples and filters equal those of lm-evaluation-harness 0.4.13.

The golden values are its own: `lm_eval_golden.py` made them, the JSON says with which version.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import yaml

from lmtasks.data.mirror import with_stand_ins
from lmtasks.data.rows import open_rows
from lmtasks.records import Row
from lmtasks.settings.data import DataAccess
from lmtasks.task import (
    Chat,
    Message,
    Prompt,
    Task,
    apply_filters,
    build_prompt,
    filter_answers,
    lm_eval_shots,
    load_task,
    shot_pool,
)
from lmtasks.task.task import FilterPipeline, FilterStep

GOLDEN = json.loads((Path(__file__).parent / "lm_eval_0_4_13_golden.json").read_text(encoding="utf-8"))


def _template(messages: Sequence[Message], answer_follows: bool) -> str:
    """The chat template that the golden values were made with."""
    text = "".join(f"<{message['role']}>{message['content']}</>" for message in messages)
    return text + ("<answer>" if answer_follows else "<open>")


def _requests(task: Task, prompt: Prompt) -> list[list[str]]:
    """What the harness' `construct_requests` hands to a model: texts alone."""
    if task.output_type == "loglikelihood_rolling":
        return [[prompt.target]]
    if task.output_type == "generate_until":
        return [[prompt.context]]
    if prompt.contexts:
        return [[context, prompt.delimiter + prompt.target] for context in prompt.contexts]
    if prompt.choices:
        return [[prompt.context, prompt.delimiter + choice] for choice in prompt.choices]
    return [[prompt.context, prompt.delimiter + prompt.target]]


def _task(tmp_path: Path, name: str, keys: Mapping[str, object]) -> Task:
    file = tmp_path / f"{name}.yaml"
    file.write_text(yaml.safe_dump({"task": name, "dataset_path": "made/up", **keys}), encoding="utf-8")
    return load_task(file)


def _pool(task: Task) -> Sequence[Row]:
    return shot_pool(task, GOLDEN["rows"][task.shots.split] if task.shots is not None else ())


@pytest.mark.parametrize("name", GOLDEN["files"])
def test_prompts_and_chats_equal_those_of_the_harness(tmp_path: Path, name: str) -> None:
    task = _task(tmp_path, name, GOLDEN["files"][name])
    rows = GOLDEN["rows"][task.sources["test"].split]
    cases = [case for case in GOLDEN["prompts"] if case["task"] == name]
    assert len(cases) == 12
    for case in cases:
        shots = lm_eval_shots(task, pool=_pool(task), rows=rows, count=case["shots"], seed=1234)
        system = case["system"]
        chat = Chat(apply=_template, multiturn=case["chat"] == "multi", system=system) if case["chat"] else None
        asked = [
            _requests(task, build_prompt(task, row, shots=shots[number], chat=chat, system=system))
            for number, row in enumerate(rows[: len(case["requests"])])
        ]
        assert asked == case["requests"], (case["shots"], system, case["chat"])


@pytest.mark.parametrize("case", GOLDEN["filters"], ids=lambda case: "-".join(s["function"] for s in case["steps"]))
def test_filters_equal_those_of_the_harness(case: Mapping[str, list[Mapping[str, object]]]) -> None:
    pipeline = FilterPipeline(
        name="made",
        steps=tuple(
            FilterStep(function=str(step["function"]), options={key: step[key] for key in step if key != "function"})
            for step in case["steps"]
        ),
    )
    answers = [[str(text) for text in texts] for texts in case["answers"]]
    found = filter_answers(pipeline, answers, case["rows"])
    assert [each.handed for each in found] == case["handed"]
    texts = apply_filters(pipeline, answers, case["rows"])
    assert [len(each) for each in texts] == [len(each.answers) for each in found]


FIELDS_OF_REAL = {
    "arc_easy": {
        "dataset_path": "allenai/ai2_arc",
        "dataset_name": "ARC-Easy",
        "output_type": "multiple_choice",
        "training_split": "train",
        "validation_split": "validation",
        "test_split": "test",
        "doc_to_text": "Question: {{question}}\nAnswer:",
        "doc_to_target": "{{choices.label.index(answerKey)}}",
        "doc_to_choice": "{{choices.text}}",
    },
    "openbookqa": {
        "dataset_path": "openbookqa",
        "dataset_name": "main",
        "output_type": "multiple_choice",
        "training_split": "train",
        "validation_split": "validation",
        "test_split": "test",
        "doc_to_text": "question_stem",
        "doc_to_target": "{{choices.label.index(answerKey.lstrip())}}",
        "doc_to_choice": "{{choices.text}}",
    },
    "piqa": {
        "dataset_path": "piqa",
        "dataset_name": None,
        "output_type": "multiple_choice",
        "training_split": "train",
        "validation_split": "validation",
        "test_split": None,
        "doc_to_text": "Question: {{goal}}\nAnswer:",
        "doc_to_target": "label",
        "doc_to_choice": "{{[sol1, sol2]}}",
    },
    "winogrande": {
        "dataset_path": "allenai/winogrande",
        "dataset_name": "winogrande_xl",
        "output_type": "multiple_choice",
        "training_split": "train",
        "validation_split": "validation",
        "doc_to_text": "{{answer | int - 1}}",
        "doc_to_target": "{{sentence.split('_', 1)[1] | trim}}",
        "doc_to_choice": "{{[sentence.split('_')[0] ~ option1, sentence.split('_')[0] ~ option2]}}",
    },
    "lambada_openai": {
        "dataset_path": "EleutherAI/lambada_openai",
        "dataset_name": "default",
        "output_type": "loglikelihood",
        "test_split": "test",
        "doc_to_text": "{{text.split(' ')[:-1]|join(' ')}}",
        "doc_to_target": "{{' '+text.split(' ')[-1]}}",
    },
    "wikitext": {
        "dataset_path": "EleutherAI/wikitext_document_level",
        "dataset_name": "wikitext-2-raw-v1",
        "output_type": "loglikelihood_rolling",
        "training_split": "train",
        "validation_split": "validation",
        "test_split": "test",
        "doc_to_text": "",
        "doc_to_target": "page",
    },
}
FIELDS_OF_REAL["arc_challenge"] = {**FIELDS_OF_REAL["arc_easy"], "dataset_name": "ARC-Challenge"}


@pytest.mark.real_data
@pytest.mark.parametrize("which", GOLDEN["real"])
def test_requests_over_real_rows_equal_those_of_the_harness(tmp_path: Path, data_root: Path, which: str) -> None:
    name, _, count = which.removesuffix(" shots").partition(", ")
    options = DataAccess(data_root=data_root, offline=True)
    task = with_stand_ins(_task(tmp_path, name, FIELDS_OF_REAL[name]), options=options)
    rows = open_rows(task.sources["test"], options=options).rows
    pool = open_rows(task.shots, options=options).rows if int(count) and task.shots is not None else ()
    shots = lm_eval_shots(task, pool=pool, rows=rows, count=int(count))
    asked = [
        _requests(task, build_prompt(task, row, shots=chosen, row_number=number))
        for number, (row, chosen) in enumerate(zip(rows, shots, strict=True))
    ]
    assert len(asked) == GOLDEN["real"][which]["rows"]
    text = json.dumps(asked, ensure_ascii=False)
    assert hashlib.sha256(text.encode()).hexdigest() == GOLDEN["real"][which]["sha256"]


@pytest.mark.real_data
def test_what_stands_in_is_said_and_changes_the_hash(tmp_path: Path, data_root: Path) -> None:
    options = DataAccess(data_root=data_root, offline=True)
    named = _task(tmp_path, "wikitext", FIELDS_OF_REAL["wikitext"])
    read = with_stand_ins(named, options=options)
    assert read.hash != named.hash
    source = read.fields["sources"]
    assert isinstance(source, Mapping)
    assert source["test"]["name"] == "wikitext-2-v1"
    assert "wikitext-2-raw-v1 (the same articles tokenized" in source["test"]["stands_for"]
    same = _task(tmp_path, "arc_easy", FIELDS_OF_REAL["arc_easy"])
    assert with_stand_ins(same, options=options) is same
