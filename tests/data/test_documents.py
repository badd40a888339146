"""Text of any source as a stream: nothing but the rows that are looked at, and every fault with its place."""

from pathlib import Path

import pytest

from lmtasks.data.documents import Document, Documents, read_documents, survey
from lmtasks.errors import UsageError
from lmtasks.settings.data import DataAccess


def read(file: Path, column: str = "text") -> list[Document]:
    return list(read_documents(str(file), column=column, options=DataAccess()))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "one\ntwo\n"), ("a.jsonl", '{"text": "one"}\n{"text": "two"}\n'), ("a.csv", "text\none\ntwo\n"),
        ("a.tsv", "text\tn\none\t1\ntwo\t2\n"), ("a.json", '[{"text": "one"}, {"text": "two"}]'),
    ],
)  # fmt: skip
def test_every_format_is_a_source(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert read(tmp_path / name) == [Document(text="one", source=name), Document(text="two", source=name)]


def test_a_folder_of_a_data_set_is_a_source(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"text": "one", "source": "here"}\n', encoding="utf-8")
    assert read(tmp_path) == [Document(text="one", source="here")]


def test_bytes_that_are_no_text_are_named_by_row_and_offset(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = pa.array([b"one", b"two", b"th\xffree"], type=pa.binary())
    for kind in (pa.binary(), pa.string()):
        file = tmp_path / f"{kind}.parquet"
        column = pa.Array.from_buffers(kind, 3, texts.buffers())
        pq.write_table(pa.table({"text": column}), file)
        with pytest.raises(UsageError, match=r"row 2, column 'text': byte 2, 0xff, is not UTF-8"):
            read(file)
    (tmp_path / "a.txt").write_bytes(b"one\nt\xffwo\n")
    with pytest.raises(UsageError, match=r"wrong at byte 5, 0xff, in line 2"):
        read(tmp_path / "a.txt")
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n{"text": "ab\\ud83d"}\n', encoding="utf-8")
    with pytest.raises(UsageError, match=r"line 2, column 'text': character 2, U\+D83D, is half of a pair"):
        read(tmp_path / "a.jsonl")


def test_a_column_that_holds_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": ["one"], "n": 1}\n', encoding="utf-8")
    with pytest.raises(UsageError, match="row 0, column 'text' holds list, not text"):
        read(tmp_path / "a.jsonl")
    with pytest.raises(UsageError, match="unknown column"):
        read(tmp_path / "a.jsonl", column="body")


def test_a_survey_counts_and_identifies() -> None:
    rows = [{"text": "ein Wort", "source": "a"}, {"text": "字", "source": "b"}, {"text": "zwei", "source": "a"}]
    facts = survey(Documents(name="here", rows=rows), corpus=3)
    assert (facts.documents, facts.bytes) == (3, 15)
    assert [(item.source, item.corpus, item.documents, item.bytes) for item in facts.sources] == [
        ("a", 3, 2, 12), ("b", 3, 1, 3),
    ]  # fmt: skip
    assert facts.digest != survey(Documents(name="here", rows=rows[::-1]), corpus=3).digest
