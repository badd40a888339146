"""Words with tags as rows of tokens, whatever the tokenizer cuts."""

import json
from pathlib import Path

import pytest
from tokenizers_for_tests import bert

from lmtasks.data.examples import ReadingSettings, head_examples
from lmtasks.data.splits import load_task_data
from lmtasks.data.vocabulary import TOKENIZERS, learn_tokenizer
from lmtasks.errors import UsageError
from lmtasks.head.tagging import tagging_row
from lmtasks.records import HeadInput
from lmtasks.settings.data import DataAccess
from lmtasks.task.load import load_task

WORDS = ("fly", "to", "st.", "louis", "on", "5/3")


def given(words: tuple[str, ...]) -> HeadInput:
    return HeadInput(
        first=" ".join(words), second=None, label=None, answers=(), starts=(), tokens=words,
        tags=tuple(range(len(words))),
    )  # fmt: skip


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_first_token_of_a_word_speaks_for_it(name: str) -> None:
    tokenizer = learn_tokenizer(f"{name}:300", [" ".join(WORDS), "to fly"])
    row = tagging_row(given(WORDS), tokenizer=tokenizer, max_length=100)
    pieces = tokenizer.raw.encode(" ".join(WORDS)).tokens
    assert not row.truncated
    assert None not in row.places
    assert list(row.places) == sorted(set(row.places))  # type: ignore[type-var]
    for word, place in zip(WORDS, row.places, strict=True):
        assert place is not None
        piece = pieces[place].lstrip("Ġ▁")
        assert word.startswith(piece)


def test_words_that_are_cut_off_have_no_token() -> None:
    tokenizer = learn_tokenizer("blanks", [" ".join(WORDS)])
    row = tagging_row(given(WORDS), tokenizer=tokenizer, max_length=4)
    assert row.places == (0, 1, 2, None, None, None)
    assert row.truncated
    assert row.ids[-1] == tokenizer.eos
    with pytest.raises(UsageError, match="holds no text"):
        tagging_row(given(WORDS), tokenizer=tokenizer, max_length=0)


TASK = """task: words
kind: tagging
language: en
dataset_path: json
dataset_kwargs: {data_files: {train: rows.jsonl, test: rows.jsonl}}
training_split: train
test_split: test
inputs: {tokens: tokens, tags: tags}
labels: [O, B-x, I-x]
"""


def test_words_without_a_token_are_counted_and_listed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A tokenizer that drops control characters has no token for a word of nothing else."""
    rows = [{"tokens": ["fly", "\x00" if number in (3, 5) else "to"], "tags": ["B-x", "O"]} for number in range(20)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "words.yaml").write_text(TASK)
    task = load_task(tmp_path / "words.yaml")
    data = load_task_data(task, options=DataAccess(offline=True), need=frozenset({"train", "validation"}))
    assert data.train is not None
    there = [number for number, row in enumerate(data.train.rows) if row["tokens"] == ["fly", "\x00"]]
    assert there
    examples = head_examples(task, data, reading=ReadingSettings(tokenizer=bert(), max_length=32, causal=False))
    assert examples.unaligned == len(there)
    wanted = ", ".join(f"{number} ('\\x00')" for number in there)
    assert f"{len(there)} have a word or an answer that no tokens stand for exactly" in caplog.text
    assert f"rows, counted from 0: {wanted}." in caplog.text
