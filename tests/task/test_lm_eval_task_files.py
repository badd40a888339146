"""Task files of lm-evaluation-harness mean here what they mean there."""

import json
from pathlib import Path

import pytest

from lmtasks.errors import UsageError
from lmtasks.task import Prompt, Task, build_prompt, load_task, scored_text

GOLDEN = json.loads((Path(__file__).parent / "lm_eval_0_4_13_prompts.json").read_text(encoding="utf-8"))
"""Requests that lm-eval 0.4.13 itself made from these files and rows; the JSON says how."""

CASES = {case["yaml"].split("task: ")[1].split()[0]: case for case in GOLDEN["cases"]}

EVERY_FIELD = r"""
task: everything
task_alias: Everything
tag: [one, two]
dataset_path: made/up
dataset_name: small
dataset_kwargs: {trust_remote_code: true, revision: abc, data_files: {dev: dev.jsonl}}
training_split: train
validation_split: dev
test_split: null
doc_to_text: "{{question}}"
doc_to_target: "{{answers}}"
doc_to_decontamination_query: "{{question}}"
should_decontaminate: true
description: "Answer.\n"
target_delimiter: " "
fewshot_delimiter: "\n"
fewshot_config: {sampler: first_n, samples: [{question: "2+2?", answers: ["4"]}]}
num_fewshot: 3
output_type: generate_until
generation_kwargs: {until: ["\n", "Q:"], do_sample: true, temperature: 0.7, max_gen_toks: 32, top_p: 0.9, num_beams: 2}
repeats: 1
filter_list: [{name: none, filter: [{function: take_first}]}]
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true, ignore_case: true, regexes_to_ignore: [","]}
unsafe_code: false
gen_prefix: "So:"
metadata: {version: 2.0, anything: [goes]}
"""


def _task(tmp_path: Path, text: str) -> Task:
    file = tmp_path / "task.yaml"
    file.write_text(text, encoding="utf-8")
    return load_task(file)


def _requests(task: Task, prompt: Prompt) -> list[list[str]]:
    """What lm-eval's `construct_requests` hands to a model."""
    if task.output_type == "loglikelihood_rolling":
        return [[prompt.target]]
    if task.output_type == "generate_until":
        return [[prompt.context]]
    if prompt.contexts:
        return [[context, prompt.delimiter + prompt.target] for context in prompt.contexts]
    if prompt.choices:
        return [[prompt.context, prompt.delimiter + choice] for choice in prompt.choices]
    return [[prompt.context, prompt.delimiter + prompt.target]]


@pytest.mark.parametrize("name", CASES)
def test_requests_equal_those_of_lm_eval(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    task = _task(tmp_path, case["yaml"])
    row, *shots = case["rows"]
    alone = build_prompt(task, row)
    assert _requests(task, alone) == case["zero_shot"]
    if task.output_type != "loglikelihood_rolling":
        assert _requests(task, build_prompt(task, row, shots=shots)) == case["two_shots"]
    gold = case["gold"]
    if task.output_type == "multiple_choice":
        assert alone.gold == ((alone.choices.index(gold) if isinstance(gold, str) else gold),)
    elif isinstance(gold, list):
        assert alone.references == tuple(gold)
    elif isinstance(gold, str):
        assert alone.target == gold


def test_kind_comes_from_the_output_type(tmp_path: Path) -> None:
    kinds = {name: _task(tmp_path, CASES[name]["yaml"]).kind for name in CASES}
    assert kinds["multiple_choice"] == "multiple_choice"
    assert kinds["last_word"] == kinds["rolling"] == "language_modelling"
    assert kinds["generate"] == "generation"


def test_every_field_is_read(tmp_path: Path) -> None:
    task = _task(tmp_path, EVERY_FIELD)
    assert task.alias == "Everything"
    assert task.tags == ("one", "two")
    assert task.version == "2.0"
    assert (task.num_fewshot, task.zero_shot_only, task.shot_order) == (3, False, "first")
    assert task.shot_rows == ({"question": "2+2?", "answers": ["4"]},)
    assert "validation" not in task.sources, "the validation split is the one that is scored"
    assert task.sources["test"].split == "dev"
    assert task.sources["test"].revision == "abc"
    assert task.sources["test"].base == tmp_path.resolve()
    assert task.generation.stop == ("\n", "Q:")
    assert (task.generation.max_new_tokens, task.generation.temperature) == (32, 0.7)
    assert (task.generation.top_p, task.generation.num_beams) == (0.9, 2)
    assert [(use.name, use.options) for use in task.metrics] == [
        ("exact_match", {"ignore_case": True, "regexes_to_ignore": [","]})
    ]


@pytest.mark.parametrize(
    ("output_type", "metrics"),
    [
        ("loglikelihood", ["perplexity", "acc"]),
        ("loglikelihood_rolling", ["word_perplexity", "byte_perplexity", "bits_per_byte"]),
        ("multiple_choice", ["acc", "acc_norm"]),
        ("generate_until", ["exact_match"]),
    ],
)
def test_default_metrics(tmp_path: Path, output_type: str, metrics: list[str]) -> None:
    task = _task(
        tmp_path,
        f"task: t\ndataset_path: a/b\ntest_split: test\noutput_type: {output_type}\n"
        "doc_to_text: text\ndoc_to_target: label\ndoc_to_choice: ['a', 'b']\n",
    )
    assert [use.name for use in task.metrics] == metrics


@pytest.mark.parametrize(
    ("kwargs", "temperature", "stop", "length"),
    [
        (None, 0.0, ("\n\n",), 256),
        ("{}", 0.0, ("\n\n",), 256),
        ("{until: stop}", 0.0, ("stop",), 256),
        ("{until: []}", 0.0, (), 256),
        ("{do_sample: true}", None, ("\n\n",), 256),
        ("{do_sample: false, temperature: 0.8}", 0.0, ("\n\n",), 256),
        ("{temperature: 0.8}", 0.8, ("\n\n",), 256),
        ("{max_new_tokens: 5, max_gen_toks: 7}", 0.0, ("\n\n",), 7),
        ("{max_tokens: 5}", 0.0, ("\n\n",), 5),
    ],
)
def test_generation_settings(
    tmp_path: Path, kwargs: str | None, temperature: float | None, stop: tuple[str, ...], length: int
) -> None:
    """A temperature of None is the model's own, else 1: `do_sample` alone says no other."""
    text = "task: t\ndataset_path: a/b\ntest_split: test\ndoc_to_text: q\ndoc_to_target: a\n"
    task = _task(tmp_path, text + (f"generation_kwargs: {kwargs}\n" if kwargs else ""))
    made = task.generation
    assert (made.temperature, made.stop, made.max_new_tokens) == (temperature, stop, length)


def test_include_merges_and_the_file_wins(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "_first_yaml").write_text(
        "dataset_path: a/b\ntest_split: test\ndoc_to_text: q\ndoc_to_target: a\nnum_fewshot: 5\n"
    )
    (tmp_path / "_second").write_text("include: base/_first_yaml\ndoc_to_text: question\n")
    task = _task(tmp_path, "include: _second\ntask: t\nnum_fewshot: 0\n")
    assert task.templates.asked.question == "question"
    assert task.templates.asked.target == "a"
    assert task.zero_shot_only


CODE = "task: t\ndataset_path: a/b\ntest_split: test\ndoc_to_text: !function utils.ask\ndoc_to_target: a\n"


def test_functions_load_only_when_trusted(tmp_path: Path) -> None:
    (tmp_path / "utils.py").write_text("def ask(row):\n    return 'Q: ' + row['q']\n")
    file = tmp_path / "task.yaml"
    file.write_text(CODE)
    with pytest.raises(UsageError, match=r"task.yaml:4: doc_to_text is Python code .*--trust-code"):
        load_task(file)
    task = load_task(file, trust_code=True)
    assert build_prompt(task, {"q": "who?", "a": "me"}).context == "Q: who?"
    before = task.hash
    (tmp_path / "utils.py").write_text("def ask(row):\n    return 'other'\n")
    assert load_task(file, trust_code=True).hash != before, "the code belongs to the task"


def test_reading_a_trusted_file_runs_nothing(tmp_path: Path) -> None:
    (tmp_path / "utils.py").write_text("raise RuntimeError('ran')\n")
    file = tmp_path / "task.yaml"
    file.write_text(CODE)
    assert load_task(file, trust_code=True).name == "t"


def test_a_scored_text_holds_its_context(tmp_path: Path) -> None:
    task = _task(tmp_path, CASES["last_word"]["yaml"])
    assert scored_text(task, {"text": "one two"}) == "one two"
    task = _task(tmp_path, CASES["rolling"]["yaml"])
    assert scored_text(task, {"text": "one two"}) == "one two"
