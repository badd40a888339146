"""Every data set of the local mirror opens, has the rows that its index tells, and encodes."""

import csv
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from tokenizers_for_tests import causal

from lmtasks.data.rows import open_rows, read_rows
from lmtasks.head.span import span_windows
from lmtasks.records import HeadInput
from lmtasks.settings.data import DataAccess
from lmtasks.task.task import Source

pytestmark = pytest.mark.real_data


def index() -> list[Mapping[str, str]]:
    file = Path(os.environ.get("LMTASKS_DATA_ROOT", "/nowhere")) / "INDEX.tsv"
    if not file.is_file():
        return [{"id": "no/index", "split": "train", "rows": "0", "columns": ""}]
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines, delimiter="\t"))


def source_of(name: str, split: str) -> Source:
    """`owner/set/configuration` as its parts; a corpus or a set of our own has no owner."""
    parts = name.split("/")
    return Source(path="/".join(parts[:2]), name=parts[2] if len(parts) > 2 else None, split=split)


@pytest.mark.parametrize("entry", index(), ids=lambda entry: f"{entry['id']}:{entry['split']}")
def test_every_set_opens(data_root: Path, entry: Mapping[str, str]) -> None:
    options = DataAccess(data_root=data_root, offline=True)
    rows, where = read_rows(source_of(entry["id"], entry["split"]), options=options)
    assert len(rows) == int(entry["rows"])
    assert list(rows[0]) == entry["columns"].split(", ")
    assert where.startswith(str(data_root))
    first, _ = read_rows(source_of(entry["id"], entry["split"]), options=options, limit=5)
    assert first == rows[:5]


def test_fingerprint_of_a_real_set(data_root: Path) -> None:
    """The same set as lines of JSON has the same fingerprint."""
    import json
    import tempfile

    options = DataAccess(data_root=data_root, offline=True)
    found = open_rows(source_of("rajpurkar/squad_v2", "validation"), options=options)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "copy.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in found.rows), encoding="utf-8")
        copy = open_rows(Source(path=str(file), split="validation"), options=options)
    assert copy.fingerprint == found.fingerprint


@pytest.mark.parametrize("name", ["rajpurkar/squad_v2", "hfl/cmrc2018"])
def test_real_answers_are_found_in_windows(data_root: Path, name: str) -> None:
    options = DataAccess(data_root=data_root, offline=True)
    rows, _ = read_rows(source_of(name, "validation"), options=options, limit=200)
    for row in rows:
        answers = row["answers"]
        assert isinstance(answers, Mapping)
        given = HeadInput(
            first=str(row["question"]),
            second=str(row["context"]),
            label=None,
            answers=tuple(answers["text"]),
            starts=tuple(answers["answer_start"]),
        )
        windows = span_windows(given, tokenizer=causal(), max_length=384, null_at_end=True)
        assert all(window.trainable for window in windows)
        found = [
            given.second[window.offsets[window.start][0] : window.offsets[window.end][1]]
            for window in windows
            if window.start is not None and window.end is not None and given.second
        ]
        # A longer answer than what neighbouring windows share may stand in none of them.
        if not given.answers or len(causal().encode(given.answers[0])) <= 128:
            assert bool(found) is bool(given.answers)
        assert all(given.answers[0].strip() in text for text in found)
