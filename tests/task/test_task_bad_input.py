"""Each fault in a task file, or between a file and its data, gets one clear sentence."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from lmtasks.errors import UsageError
from lmtasks.task import Task, build_prompt, head_input, load_task

HEAD = "task: t\ndataset_path: a/b\ntest_split: test\n"
PROMPT = HEAD + "doc_to_text: text\ndoc_to_target: answer\n"
CLASSES = HEAD + "kind: classification\ninputs: {text: text, label: label}\n"
SPAN = HEAD + "kind: span\ninputs: {question: q, context: c, answers: answers}\n"

FILES = {
    "not YAML": ("task: t\nlabels: [a, b\nkind: x\n", r"task\.yaml:3: this is not YAML: did not find expected"),
    "tab": ("task: t\n\tkind: x\n", r"task\.yaml:2: this is not YAML"),
    "a list": ("- task\n", r"task\.yaml: a task file is a mapping of keys to values, was: list"),
    "empty": ("", r"task\.yaml: a task file is a mapping of keys to values, was: NoneType"),
    "misspelt key": (
        PROMPT + "metrcs: [acc]\n",
        r"task\.yaml:6: unknown key of a task file 'metrcs'; did you mean 'metrics'",
    ),
    "unknown tag": (
        HEAD + "doc_to_text: !python x\n",
        r"task\.yaml:4: this is not YAML: could not determine a constructor",
    ),
    "wrong type": (
        PROMPT + "num_fewshot: many\n",
        r"task\.yaml:6: num_fewshot: Input should be a valid integer.*was: 'many'",
    ),
    "negative": (PROMPT + "num_fewshot: -1\n", r"task\.yaml:6: num_fewshot: .*greater than or equal to 0, was: -1"),
    "unknown kind": (
        PROMPT + "kind: clasification\n",
        r"task\.yaml:6: kind: Input should be 'classification', 'multi_label'",
    ),
    "unknown output": (
        PROMPT + "output_type: generate\n",
        r"task\.yaml:6: output_type: Input should be 'loglikelihood'",
    ),
    "unquoted yes": (
        CLASSES + "labels: [no, yes]\n",
        r"task\.yaml:6: labels\.0: YAML reads this as false; put it in quotes",
    ),
    "misspelt source": (
        PROMPT + "sources: {train: {pth: x}}\n",
        r"task\.yaml:6: unknown key of sources 'pth'; did you mean 'path'",
    ),
    "unknown split": (PROMPT + "sources: {dev: {path: x}}\n", r"sources\.dev.*'train', 'validation' or 'test'"),
    "misspelt fewshot": (
        PROMPT + "fewshot_config: {samplr: first_n}\n",
        r"unknown key of fewshot_config 'samplr'; did you mean 'sampler'",
    ),
    "unknown sampler": (
        PROMPT + "fewshot_config: {sampler: last}\n",
        r"fewshot_config\.sampler of task t 'last'.*first_n",
    ),
    "misspelt generation": (
        PROMPT + "generation_kwargs: {untill: x}\n",
        r"unknown key of generation_kwargs 'untill'; did you mean 'until'",
    ),
    "no length": (PROMPT + "generation_kwargs: {max_gen_toks: 0}\n", r"max_gen_toks must be at least 1, was: 0"),
    "no number": (PROMPT + "generation_kwargs: {temperature: hot}\n", r"temperature must be a number, was: 'hot'"),
    "no name": ("dataset_path: a/b\n", r"names no task; a file without the key task can only be included"),
    "bad name": (PROMPT.replace("task: t", "task: a/b"), r"a task's name .* was: 'a/b'"),
    "Python task": (
        HEAD + "class: !function x.Y\n",
        r"task\.yaml:4: class names a task written in Python .*\(!function x\.Y, task t\)",
    ),
    "group": ("group: g\ntask: [a, b]\n", r"is a group of tasks, not a task.*a, b"),
    "no split": ("task: t\ndataset_path: a/b\ndoc_to_text: a\ndoc_to_target: b\n", r"t names no split to score"),
    "no data": ("task: t\ntest_split: test\ndoc_to_text: a\ndoc_to_target: b\n", r"names no data: set dataset_path"),
    "missing include": (
        "include: none.yaml\ntask: t\n",
        r"there is no task file .*none\.yaml, which .*task\.yaml includes",
    ),
    "circle": ("include: task.yaml\ntask: t\n", r"includes itself by way of task\.yaml -> task\.yaml"),
    "code": (HEAD + "process_docs: !function utils.f\n", r"task\.yaml:4: process_docs is Python code .*--trust-code"),
    "code within": (
        PROMPT + "metric_list: [{metric: !function m.f}]\n",
        r"metric_list\.metric is Python code \(!function m\.f\)",
    ),
    "no metrics": (PROMPT + "metrics: []\n", r"task t has no metrics; name at least one"),
    "metric twice": (PROMPT + "metrics: [bleu, bleu]\n", r"names the metric bleu twice"),
    "missing role": (
        HEAD + "kind: classification\ninputs: {text: a}\nlabels: [a, b]\n",
        r"needs inputs with text, label; label not given",
    ),
    "unknown role": (
        CLASSES.replace("text:", "txt:") + "labels: [a, b]\n",
        r"role in inputs of task t \(classification\) 'txt'; did you mean 'text'",
    ),
    "one label": (CLASSES + "labels: [a]\n", r"needs at least two labels, has 1"),
    "no labels": (CLASSES, r"needs at least two labels, has 0"),
    "label twice": (CLASSES + "labels: [a, b, a]\n", r"has the label 'a' twice"),
    "labels elsewhere": (
        PROMPT + "kind: translation\nlabels: [a, b]\nmetrics: [bleu]\n",
        r"kind translation has no labels",
    ),
    "choices and labels": (
        CLASSES + "labels: [a, b]\ndoc_to_choice: [x, y, z]\n",
        r"doc_to_choice has 3 texts for 2 labels",
    ),
    "kind and output": (
        PROMPT + "kind: translation\noutput_type: multiple_choice\n",
        r"kind translation goes with output_type generate_until",
    ),
    "no question": (
        HEAD + "kind: translation\ndoc_to_target: a\nmetrics: [bleu]\n",
        r"kind translation needs doc_to_text",
    ),
    "no text": (HEAD + "kind: language_modelling\n", r"needs inputs: \{text: \.\.\.\} or doc_to_target"),
    "bad template": (
        HEAD + "doc_to_text: '{{ a'\ndoc_to_target: b\n",
        r"doc_to_text is not a Jinja template: .* \(its line 1\)",
    ),
    "unknown filter": (HEAD + "doc_to_text: '{{ a | shout }}'\ndoc_to_target: b\n", r"No filter named 'shout'"),
}


def _load(tmp_path: Path, text: str) -> Task:
    file = tmp_path / "task.yaml"
    file.write_text(text, encoding="utf-8")
    return load_task(file)


@pytest.mark.parametrize("case", FILES)
def test_bad_files(tmp_path: Path, case: str) -> None:
    text, message = FILES[case]
    with pytest.raises(UsageError, match=message) as caught:
        _load(tmp_path, text)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value) or case in ("misspelt generation",)


def test_a_missing_file_and_one_that_is_not_text(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no task file .*none\.yaml"):
        load_task(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"task: \xff\xfe")
    with pytest.raises(UsageError, match=r"binary\.yaml is not UTF-8 text \(byte 6\)"):
        load_task(tmp_path / "binary.yaml")


ROWS: Mapping[str, tuple[str, Mapping[str, object], str]] = {
    "column in a template": (
        HEAD + "doc_to_text: '{{ question }}'\ndoc_to_target: b\n",
        {"query": "x", "b": "y"},
        r"task t: doc_to_text names 'question', which the data lacks\. Columns: query, b\.",
    ),
    "misspelt column": (
        PROMPT.replace("doc_to_text: text", "doc_to_text: sentense"),
        {"sentence": "x", "answer": "y"},
        r"doc_to_text names 'sentense', which the data lacks; did you mean 'sentence'",
    ),
    "key of a column": (
        HEAD + "doc_to_text: '{{ a.b }}'\ndoc_to_target: b\n",
        {"a": {"c": 1}, "b": "y"},
        r"doc_to_text fails: 'dict object' has no attribute 'b'",
    ),
    "failing template": (
        HEAD
        + "output_type: multiple_choice\ndoc_to_text: q\ndoc_to_choice: [x, z]\n"
        + "doc_to_target: '{{ [1, 2].index(k) }}'\n",
        {"q": "x", "k": 7},
        r"doc_to_target fails on a row: ValueError: 7 is not in list",
    ),
    "reaching for Python": (
        HEAD + "doc_to_text: '{{ q.__class__.__mro__ }}'\ndoc_to_target: q\n",
        {"q": "x"},
        r"doc_to_text fails.*unsafe",
    ),
    "changing the row": (
        HEAD + "doc_to_text: '{{ q.append(1) }}'\ndoc_to_target: b\n",
        {"q": [1], "b": "y"},
        r"doc_to_text fails.*not safely callable|unsafe",
    ),
    "no list of choices": (
        HEAD + "output_type: multiple_choice\ndoc_to_text: q\ndoc_to_target: q\ndoc_to_choice: 'a or b'\n",
        {"q": "x"},
        r"doc_to_choice must yield a list of texts, was: 'a or b'",
    ),
    "gold out of range": (
        HEAD + "output_type: multiple_choice\ndoc_to_text: q\ndoc_to_target: n\ndoc_to_choice: ['a', 'b']\n",
        {"q": "x", "n": 2},
        r"row 7: the right choice must be a number from 0 to 1, was: 2",
    ),
    "hidden gold": (
        HEAD + "output_type: multiple_choice\ndoc_to_text: q\ndoc_to_target: n\ndoc_to_choice: ['a', 'b']\n",
        {"q": "x", "n": -1},
        r"was: -1 \(a split with hidden labels\?\)",
    ),
    "gold of another name": (
        HEAD + "output_type: multiple_choice\ndoc_to_text: q\ndoc_to_target: n\ndoc_to_choice: ['a', 'b']\n",
        {"q": "x", "n": "c"},
        r"the right answer 'c' is not among the choices 'a', 'b'",
    ),
    "no prompt": (
        CLASSES + "labels: [a, b]\n",
        {"text": "x", "label": 0},
        r"has no doc_to_text, so it cannot be prompted",
    ),
}


@pytest.mark.parametrize("case", ROWS)
def test_rows_that_do_not_fit_the_prompt(tmp_path: Path, case: str) -> None:
    text, row, message = ROWS[case]
    with pytest.raises(UsageError, match=message):
        build_prompt(_load(tmp_path, text), row, row_number=7)


HEADS: Mapping[str, tuple[str, Mapping[str, object], str]] = {
    "missing column": (
        CLASSES + "labels: [a, b]\n",
        {"txt": "x", "label": 0},
        r"task t: inputs\.text names 'text', which the data lacks; did you mean 'txt'\? Columns: txt, label\.",
    ),
    "empty text": (
        CLASSES + "labels: [a, b]\n",
        {"text": None, "label": 0},
        r"row 7: 'text' \(inputs\.text\) must be text, is empty",
    ),
    "label out of range": (
        CLASSES + "labels: [a, b]\n",
        {"text": "x", "label": 2},
        r"row 7: the label 2 is none of the 2 labels \(a, b\) and no number from 0 to 1",
    ),
    "hidden label": (CLASSES + "labels: [a, b]\n", {"text": "x", "label": -1}, r"row 7: the label -1 .*hidden labels"),
    "unknown label": (CLASSES + "labels: [a, b]\n", {"text": "x", "label": "c"}, r"row 7: the label 'c' is none of"),
    "empty label": (CLASSES + "labels: [a, b]\n", {"text": "x", "label": None}, r"row 7: the label None is none of"),
    "answers of another form": (
        SPAN,
        {"q": "x", "c": "y", "answers": "z"},
        r"inputs\.answers\) must hold text and answer_start",
    ),
    "tokens and tags": (
        HEAD + "kind: tagging\ninputs: {tokens: tokens, tags: tags}\nlabels: [O, B]\n",
        {"tokens": ["a", "b"], "tags": [0]},
        r"row 7: 2 tokens but 1 tags",
    ),
    "unknown tag": (
        HEAD + "kind: tagging\ninputs: {tokens: tokens, tags: tags}\nlabels: [O, B]\n",
        {"tokens": ["a"], "tags": ["X"]},
        r"row 7: the tag 'X' is none of the labels",
    ),
}


@pytest.mark.parametrize("case", HEADS)
def test_rows_that_do_not_fit_the_head(tmp_path: Path, case: str) -> None:
    text, row, message = HEADS[case]
    with pytest.raises(UsageError, match=message):
        head_input(_load(tmp_path, text), row, row_number=7)
