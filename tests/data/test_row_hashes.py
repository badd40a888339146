"""Fingerprints of rows: what makes them equal, and how they lie on the disk."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from lmtasks.data.row_hashes import (
    RowHashes,
    TrainingRows,
    hash_row,
    hash_rows,
    read_training_rows,
    shared,
    write_training_rows,
)
from lmtasks.errors import UsageError
from lmtasks.records import Row
from lmtasks.task import Task, load_task

HEAD = "task: t\ndataset_path: json\ndataset_kwargs: {data_files: {test: t.jsonl}}\ntest_split: test\n"
LABELS = "kind: classification\nlabels: [bad, good]\ninputs: {text: text, label: label}\n"
SPANS = "kind: span\ninputs: {question: q, context: c, answers: a}\n"
WORDS = "kind: translation\nlanguage: zh\ndoc_to_text: en\ndoc_to_target: zh\n"
CHOICE = 'output_type: multiple_choice\ndoc_to_text: "{{q}}"\ndoc_to_choice: c\ndoc_to_target: a\n'
WRITE = 'output_type: generate_until\ndoc_to_text: "{{q}}"\ndoc_to_target: a\n'
TEXT = "kind: language_modelling\ninputs: {text: text}\n"


def _task(folder: Path, lines: str) -> Task:
    (folder / "t.yaml").write_text(HEAD + lines, encoding="utf-8")
    return load_task(folder / "t.yaml")


def _shared(task: Task, row: Row, others: Sequence[Row]) -> tuple[bool, bool, bool]:
    found = shared(hash_rows(task, [row]), hash_rows(task, others).as_set())
    return bool(found.rows[0]), bool(found.inputs[0]), bool(found.targets[0])


LONG = "a text of more than forty characters, which nobody writes twice"


@pytest.mark.parametrize(
    ("lines", "row", "other", "same"),
    [
        (LABELS, {"text": "good  film\n", "label": 1}, {"id": 7, "text": "good film", "label": "good"}, (1, 1, 0)),
        (LABELS, {"text": "good film", "label": 1}, {"text": "good film", "label": 0}, (0, 1, 0)),
        (LABELS, {"text": "好看", "label": 1}, {"text": "好 看", "label": 1}, (0, 0, 0)),
        (LABELS, {"text": "", "label": 1}, {"text": " ", "label": 1}, (0, 0, 0)),
        (SPANS, {"q": "x", "c": "x y", "a": {"text": ["y"]}}, {"q": "x", "c": "x y", "a": {"text": []}}, (0, 1, 0)),
        (SPANS, {"q": "x", "c": "x y", "a": {"text": ["y"]}}, {"q": "z", "c": "x y", "a": {"text": ["y"]}}, (0, 0, 0)),
        (WORDS, {"en": "I know.", "zh": "我知道。"}, {"en": "I do.", "zh": "我知道。"}, (0, 0, 1)),
        (WORDS, {"en": "I know.", "zh": "我知道。"}, {"en": "I know.", "zh": "知道。"}, (0, 1, 0)),
        (WORDS, {"en": "I know.", "zh": "我知道。"}, {"en": "I know.", "zh": "我知道。"}, (1, 1, 1)),
        (WORDS + "inputs: {source: en}\n", {"en": "a", "zh": "甲"}, {"en": "a", "zh": "乙"}, (0, 1, 0)),
        (CHOICE, {"q": "x", "c": ["1", "2"], "a": 0}, {"q": "x", "c": ["2", "1"], "a": 1}, (1, 1, 0)),
        (CHOICE, {"q": "x", "c": ["1", "2"], "a": 0}, {"q": "x", "c": ["1", "2"], "a": 1}, (0, 1, 0)),
        (WRITE, {"q": "1 + 1", "a": "2"}, {"q": "3 - 1", "a": "2"}, (0, 0, 0)),
        (WRITE, {"q": "1 + 1", "a": "2"}, {"q": "1 + 1", "a": "3"}, (0, 1, 0)),
        (WRITE, {"q": "say", "a": LONG}, {"q": "write", "a": LONG}, (0, 0, 1)),
        (TEXT, {"text": "a b"}, {"text": "a  b"}, (1, 1, 0)),
        (TEXT, {"text": ""}, {"text": ""}, (0, 0, 0)),
    ],
)
def test_which_rows_are_equal(lines: str, row: Row, other: Row, same: tuple[int, ...], tmp_path: Path) -> None:
    assert _shared(_task(tmp_path, lines), row, [{**other}, {**other}]) == tuple(map(bool, same))


def test_numbers_are_the_same_on_every_machine(tmp_path: Path) -> None:
    """blake2b of `good film` (6 bytes), then of `good` (2), the lowest byte first; by Python's hashlib."""
    task = _task(tmp_path, LABELS)
    assert hash_row(task, {"text": "good film", "label": 1}) == (0x4AB3_E05D_241B_484C, 0)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    first = TrainingRows(
        learned=RowHashes(rows=np.array([2**64 - 1, 5, 5, 0], dtype=np.uint64)),
        chosen=RowHashes(rows=np.array([9], dtype=np.uint64), targets=np.array([8, 7], dtype=np.uint64)),
    )
    second = TrainingRows(learned=RowHashes(rows=np.array([5, 6], dtype=np.uint64)))
    write_training_rows(tmp_path / "rows.bin", first.united(second))
    found = read_training_rows(tmp_path / "rows.bin")
    assert found is not None
    assert found.learned.rows.tolist() == [5, 6, 2**64 - 1]
    assert (found.chosen.rows.tolist(), found.chosen.targets.tolist()) == ([9], [7, 8])
    content = (tmp_path / "rows.bin").read_bytes()
    assert len(content) - content.index(b"\n") - 1 == 6 * 8
    assert content.endswith(bytes([8, 0, 0, 0, 0, 0, 0, 0]))
    assert read_training_rows(tmp_path / "none.bin") is None


@pytest.mark.parametrize("harm", ["cut", "flipped", "schema", "text"])
def test_a_damaged_file_is_not_taken_for_an_empty_one(harm: str, tmp_path: Path) -> None:
    file = tmp_path / "training_rows.bin"
    write_training_rows(file, TrainingRows(learned=RowHashes(rows=np.arange(1, 9, dtype=np.uint64))))
    content = file.read_bytes()
    changed = {
        "cut": content[:-8],
        "flipped": content[:-3] + b"\x01" + content[-2:],
        "schema": content.replace(b'"schema": 1', b'"schema": 2'),
        "text": b"nothing",
    }
    file.write_bytes(changed[harm])
    with pytest.raises(UsageError, match="reads 1" if harm == "schema" else r"training_rows\.bin is damaged"):
        read_training_rows(file)
