"""Typed lines as rows of a task, and what decoding must know of a folder."""

import json
from pathlib import Path

import pytest

import lmtasks
from lmtasks.errors import UsageError
from lmtasks.records import HeadSpec
from lmtasks.task.index import default_index
from lmtasks.task.kinds import head_input
from lmtasks.task.load import load_task
from lmtasks.task.prompt import build_prompt
from lmtasks.task.task import Task
from lmtasks.workflow.open_model import runtime_for
from lmtasks.workflow.unlabelled_rows import columns_of, row_of, task_of_continuation, task_of_head, unlabelled


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("sst2", ("sentence",)),
        ("mrpc", ("sentence1", "sentence2")),
        ("squad_v2", ("question", "context")),
        ("starter_translation_en_zh", ("en",)),
        ("arc_easy", ("question", "choices")),
    ],
)
def test_a_task_reads_these_columns(name: str, columns: tuple[str, ...]) -> None:
    (task,) = default_index().find(name)
    found = columns_of(unlabelled(task))
    assert found == columns


@pytest.mark.parametrize("name", ["starter_sentiment_zh", "starter_translation_en_zh", "starter_summarization_en"])
def test_a_typed_line_is_asked_as_a_scored_row(name: str) -> None:
    from lmtasks.data.splits import load_task_data
    from lmtasks.settings.data import DataAccess

    (task,) = default_index().find(name)
    data = load_task_data(task, options=DataAccess(offline=True), need=frozenset({"test"}), limit=3)
    assert data.test is not None
    open_task = unlabelled(task)
    (column,) = columns_of(open_task)
    for row in data.test.rows:
        asked = build_prompt(open_task, row_of(open_task, str(row[column])))
        scored = build_prompt(task, row)
        assert (asked.context, asked.choices, asked.delimiter) == (scored.context, scored.choices, scored.delimiter)


def test_several_columns_come_as_json() -> None:
    (task,) = default_index().find("starter_qa_en")
    open_task = unlabelled(task)
    assert row_of(open_task, '{"question": "Who?", "context": "Ann."}')["context"] == "Ann."
    for line in ("Who?", '{"question": "Who?"}', "{broken"):
        with pytest.raises(UsageError, match="starter_qa_en reads question, context"):
            row_of(open_task, line)


@pytest.mark.parametrize(
    "line",
    ["flights to new york", '{"tokens": ["flights", "to", "new", "york"]}', '{"tokens": "flights to new york"}'],
)
def test_a_typed_line_is_tagged_word_by_word(line: str) -> None:
    (task,) = default_index().find("atis_slots")
    open_task = unlabelled(task)
    given = head_input(open_task, row_of(open_task, line), row_number=0)
    assert (given.tokens, len(given.tags)) == (("flights", "to", "new", "york"), 4)
    with pytest.raises(UsageError, match="must be a text or a list, was 7"):
        row_of(open_task, '{"tokens": 7}')


def test_a_task_that_asks_for_no_answer_is_refused() -> None:
    (task,) = default_index().find("starter_paragraphs_en")
    with pytest.raises(UsageError, match="has no answer to a text"):
        unlabelled(task)


def test_tasks_without_a_file() -> None:
    head = unlabelled(task_of_head(HeadSpec(name="mood", kind="classification", labels=("sad", "glad"))))
    assert (head.name, head.labels, columns_of(head)) == ("mood", ("sad", "glad"), ("text",))
    free = unlabelled(task_of_continuation(new_tokens=7))
    assert build_prompt(free, row_of(free, "Once {not a template}")).context == "Once {not a template}"
    assert free.generation.max_new_tokens == 7


def test_the_runtime_follows_the_folder(tmp_path: Path) -> None:
    assert runtime_for(tmp_path, wanted=None) == "torch"
    assert runtime_for(tmp_path, wanted="torch-compile") == "torch-compile"
    (tmp_path / "package.json").write_text("{}")
    assert runtime_for(tmp_path, wanted="onnx") == "onnx"
    with pytest.raises(UsageError, match=r"package\.json is damaged"):
        runtime_for(tmp_path, wanted=None)  # it says for which one it was made


def _written(folder: Path, lines: str) -> Task:
    file = folder / "mine.yaml"
    file.write_text(f"task: mine\ndataset_path: a/b\ntest_split: test\n{lines}", encoding="utf-8")
    return unlabelled(load_task(file))


@pytest.mark.parametrize(
    ("template", "line", "tokens"),
    [
        ("{{ words }}", "Fly to York", ("Fly", "to", "York")),
        ("{{ text.split() }}", "Fly to York", ("Fly", "to", "York")),
        ("{{ row['the words'] }}", "Fly to York", ("Fly", "to", "York")),
        ("{{ words[:2] }}", "Fly to York", ("Fly", "to")),
        ("{{ words | map('lower') | list }}", "Fly to York", ("fly", "to", "york")),
        ("{{ words }}", '{"words": ["Fly", "to York"]}', ("Fly", "to York")),
        ("the words", "Fly to York", ("Fly", "to", "York")),
    ],
)
def test_tokens_that_a_template_makes(tmp_path: Path, template: str, line: str, tokens: tuple[str, ...]) -> None:
    """The template itself was taken for a column."""
    task = _written(tmp_path, f'kind: tagging\ninputs: {{tokens: "{template}", tags: tags}}\nlabels: [O, B-LOC]\n')
    read = head_input(task, row_of(task, line), row_number=0)
    assert (read.tokens, len(read.tags)) == (tokens, len(tokens))


@pytest.mark.parametrize("template", ["{{ words | join(' ') }}", "{{ ' '.join(row.words) }}", "{{ row['words'] }}"])
def test_a_column_that_a_template_joins_is_a_list_of_words(tmp_path: Path, template: str) -> None:
    task = _written(
        tmp_path,
        f'kind: classification\ninputs: {{text: "{template}", label: label}}\nlabels: [neg, pos]\n',
    )
    assert columns_of(task) == ("words",)
    assert head_input(task, row_of(task, "a fine film"), row_number=0).first == "a fine film"


def test_heads_without_a_task_file() -> None:
    tagging = task_of_head(HeadSpec(name="places", kind="tagging", labels=("O", "B-LOC")))
    assert head_input(tagging, row_of(tagging, "to New York"), row_number=0).tokens == ("to", "New", "York")
    span = task_of_head(HeadSpec(name="answers", kind="span"))
    row = row_of(span, '{"question": "Who?", "context": "Ann."}')
    assert head_input(span, row, row_number=0).second == "Ann."
    with pytest.raises(UsageError, match="stands in its task file"):
        task_of_head(HeadSpec(name="written", kind="generation"))


@pytest.mark.parametrize("line", ["caf\udce9", '{"sentence": "cut \\ud83d"}'])
def test_a_line_that_is_no_text_is_refused(line: str) -> None:
    (task,) = default_index().find("sst2")
    with pytest.raises(UsageError, match="no UTF-8, or half of a surrogate pair"):
        row_of(unlabelled(task), line)


def test_a_list_of_hypotheses_is_ranked_by_weights_of_validation_rows(tmp_path: Path) -> None:
    """A row without its reference, as a line of JSON; the answer is the one that an evaluation gives."""
    sentences = ("i left my umbrella on the bus", "please pass me a clean cup", "the museum closes early today")
    rows = [{"text": f"{sentence} {number}"} for number in range(20) for sentence in sentences]
    model = lmtasks.adapt("ngram:order=2,fallback=1", rows=rows, text="text", tokenizer="bpe:300", out=tmp_path / "lm")
    scores = lmtasks.evaluate([model], tasks="speech_en", limit=3, out=tmp_path / "scores", cache="off")
    samples = [json.loads(line) for line in (tmp_path / "scores" / "samples-speech_en.jsonl").read_text().splitlines()]
    lines = [json.dumps({"hypotheses": sample["doc"]["hypotheses"]}) for sample in samples]
    found = lmtasks.predict(model, lines, task="speech_en")
    assert found.answers == tuple(sample["answer"] for sample in samples)
    assert scores.tasks == ("speech_en",)
    with pytest.raises(UsageError, match="must be a list"):
        lmtasks.predict(model, ["hello"], task="speech_en")
