"""The embedded suite is what it says: original, balanced, complete, and no text stands in two splits."""

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from lmtasks.installation import shipped

ROOT = shipped("tasks") / "starter"
MIRROR = os.environ.get("LMTASKS_DATA_ROOT")
Row = Mapping[str, object]

ROWS = {
    "sentiment_en": {"train": 150, "test": 75},
    "sentiment_zh": {"train": 150, "test": 75},
    "topic_en": {"train": 150, "test": 75},
    "topic_zh": {"train": 150, "test": 75},
    "translation_en_zh": {"train": 300, "test": 120},
    "summarization_en": {"train": 45, "test": 23},
    "summarization_zh": {"train": 45, "test": 22},
    "qa_en": {"train": 110, "test": 45},
    "qa_zh": {"train": 110, "test": 45},
    "reviews_en": {"train": 67, "test": 33},
    "reviews_zh": {"train": 67, "test": 33},
    "paragraphs_en": {"train": 30, "test": 30},
    "paragraphs_zh": {"train": 30, "test": 30},
}
"""Half in each language of 300/150 sentiment and topic, 300/120 translation, 90/45 summarization, 220/90 questions,
134/66 reviews with stars and what they speak of, 60/60 paragraphs."""

LABELS = {
    "sentiment_en": {"negative", "positive"},
    "sentiment_zh": {"negative", "positive"},
    "topic_en": {"business", "culture", "science", "sports"},
    "topic_zh": {"business", "culture", "science", "sports"},
}
COLUMNS = {
    "sentiment": {"text", "label"},
    "topic": {"text", "label"},
    "translation": {"en", "zh"},
    "summarization": {"text", "summary"},
    "qa": {"id", "context", "question", "answers"},
    "reviews": {"text", "stars", "aspects"},
    "paragraphs": {"text"},
}


def _rows(name: str, split: str) -> list[Row]:
    data = (ROOT / name / f"{split}.jsonl").read_bytes()
    assert not data.startswith(b"\xef\xbb\xbf")
    return [json.loads(line) for line in data.decode("utf-8").splitlines()]


def _all() -> Iterator[tuple[str, str, int, Row]]:
    for name, splits in ROWS.items():
        for split in splits:
            for number, row in enumerate(_rows(name, split)):
                yield name, split, number, row


def _texts(row: Row) -> Iterator[tuple[str, str]]:
    """Column and text of everything that people wrote."""
    for column, value in row.items():
        if column in ("id", "label"):
            continue
        if isinstance(value, str):
            yield column, value
        elif isinstance(value, Mapping):
            for answer in value["text"]:
                yield column, answer


def test_nothing_else_lies_there() -> None:
    assert {folder.name for folder in ROOT.iterdir() if folder.is_dir()} == set(ROWS)


@pytest.mark.parametrize("name", ROWS)
def test_counts_and_columns(name: str) -> None:
    assert {file.stem: len(_rows(name, file.stem)) for file in (ROOT / name).glob("*.jsonl")} == ROWS[name]
    for split in ROWS[name]:
        for row in _rows(name, split):
            assert set(row) == COLUMNS[name.split("_")[0]]


def test_nothing_is_empty_or_a_slot() -> None:
    for name, split, number, row in _all():
        for column, text in _texts(row):
            where = f"{name}/{split} row {number} {column}"
            assert text.strip() == text, where
            assert text, where
            assert not any(mark in text for mark in ("{{", "}}", "{%", "\ufffd", "TODO", "lorem ipsum")), where


def test_no_text_stands_twice_in_the_suite_or_in_two_splits() -> None:
    """Passages are shared by their questions, within one split; everything else stands once."""
    seen: dict[str, tuple[str, str]] = {}
    for name, split, number, row in _all():
        for column, text in _texts(row):
            if column == "answers":
                continue
            key = "".join(text.split()).casefold()
            here = (name, split)
            if key in seen:
                assert column == "context", f"{name}/{split} row {number} repeats {text!r} of {seen[key]}"
                assert seen[key] == here, f"{text!r} stands in {seen[key]} and {here}"
            seen[key] = here


@pytest.mark.parametrize("name", LABELS)
def test_labels_are_balanced_within_one(name: str) -> None:
    for split in ROWS[name]:
        counts = Counter(row["label"] for row in _rows(name, split))
        assert set(counts) == LABELS[name]
        assert max(counts.values()) - min(counts.values()) <= 1


@pytest.mark.parametrize("name", ["reviews_en", "reviews_zh"])
def test_reviews_have_every_grade_and_every_aspect_and_some_have_none(name: str) -> None:
    for split in ROWS[name]:
        rows = _rows(name, split)
        stars = Counter(row["stars"] for row in rows)
        assert set(stars) == {1, 2, 3, 4, 5}
        assert max(stars.values()) - min(stars.values()) <= 2
        aspects = Counter(aspect for row in rows if isinstance(row["aspects"], list) for aspect in row["aspects"])
        assert set(aspects) == {"food", "location", "price", "room", "service", "staff"}
        assert min(aspects.values()) >= 5
        assert any(row["aspects"] == [] for row in rows)


@pytest.mark.parametrize("name", ["qa_en", "qa_zh"])
def test_spans_match_and_some_questions_have_no_answer(name: str) -> None:
    ids = set()
    for split in ROWS[name]:
        unanswered = 0
        for row in _rows(name, split):
            ids.add(row["id"])
            answers = row["answers"]
            assert isinstance(answers, Mapping)
            unanswered += not answers["text"]
            for text, start in zip(answers["text"], answers["answer_start"], strict=True):
                assert str(row["context"])[start : start + len(text)] == text, row["id"]
        assert 0.1 <= unanswered / ROWS[name][split] <= 0.5
    assert len(ids) == sum(ROWS[name].values())


def test_passages() -> None:
    """90 passages for the training questions, and other ones for those of test."""
    passages = {
        (split, name): {row["context"] for row in _rows(name, split)}
        for name in ("qa_en", "qa_zh")
        for split in ROWS[name]
    }
    assert not passages["train", "qa_en"] & passages["test", "qa_en"]
    assert not passages["train", "qa_zh"] & passages["test", "qa_zh"]
    assert len(set().union(*passages.values())) == 126


def test_lengths() -> None:
    """English articles have 60-200 words, Chinese ones about as much (1.6 characters a word); summaries are short."""
    for split in ("train", "test"):
        for row in _rows("summarization_en", split):
            assert 60 <= len(str(row["text"]).split()) <= 210
            assert len(str(row["summary"]).split()) <= 45
        for row in _rows("summarization_zh", split):
            assert 100 <= len(str(row["text"])) <= 330
            assert len(str(row["summary"])) <= 70


def test_languages_are_what_they_say() -> None:
    for name, split, number, row in _all():
        for column, text in _texts(row):
            if column == "answers":
                continue
            chinese = sum("\u4e00" <= mark <= "\u9fff" for mark in text) / len(text)
            wants_chinese = column == "zh" or (name.endswith("_zh") and column != "en")
            assert (chinese > 0.3) == wants_chinese, f"{name}/{split} row {number} {column}: {text!r}"


@pytest.mark.real_data
@pytest.mark.skipif(not MIRROR, reason="LMTASKS_DATA_ROOT names no mirror of the Hub")
def test_nothing_is_copied_from_a_public_set() -> None:
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow.parquet import ParquetFile

    own = {
        text.strip().lower(): f"{name}/{split} row {number} {column}"
        for name, split, number, row in _all()
        for column, text in _texts(row)
        if column != "answers"
    }
    ours = pa.array(list(own), pa.large_string())
    found = []
    files = sorted(Path(str(MIRROR)).rglob("*.parquet"))
    assert files
    for file in files:
        for batch in ParquetFile(file).iter_batches():
            for column in batch.columns:
                values = column.flatten() if pa.types.is_list(column.type) else column
                if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
                    continue
                lowered = pc.utf8_lower(pc.utf8_trim_whitespace(values)).cast(pa.large_string())
                copies = lowered.filter(pc.is_in(lowered, value_set=ours)).to_pylist()
                found += [f"{own[text]} equals a text of {file}: {text!r}" for text in set(copies) if text]
    assert not found, "\n".join(found)
