import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from lmtasks.data.files import read_file
from lmtasks.errors import UsageError
from lmtasks.records import Row

ROWS: Sequence[Row] = [
    {"text": '味道很好，"推荐"！', "label": 1},
    {"text": "line one\nline two, with comma", "label": 0},
    {"text": "一般般\u2028吧", "label": 1},
]


def as_csv(rows: Sequence[Row], delimiter: str = ",") -> str:
    import csv
    import io

    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


WRITERS: dict[str, Callable[[Sequence[Row]], str]] = {
    ".jsonl": lambda rows: "\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n",
    ".json": lambda rows: json.dumps(rows, ensure_ascii=False, indent=1),
    ".csv": as_csv,
    ".tsv": lambda rows: as_csv(rows, "\t"),
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
@pytest.mark.parametrize("suffix", WRITERS)
def test_every_format_in_every_encoding(tmp_path: Path, suffix: str, encoding: str) -> None:
    file = tmp_path / f"data{suffix}"
    file.write_bytes(WRITERS[suffix](ROWS).encode(encoding))
    assert read_file(file) == ROWS
    assert read_file(file, limit=2) == ROWS[:2]


def test_parquet(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = tmp_path / "data.parquet"
    rows = [{"text": str(number), "tags": [number, 1], "answers": {"text": ["a"]}} for number in range(2500)]
    pq.write_table(pa.Table.from_pylist(rows), file, row_group_size=100)
    assert read_file(file) == rows
    assert read_file(file, limit=1700) == rows[:1700]


@pytest.mark.parametrize(
    ("name", "content", "rows"),
    [
        ("a.txt", "one\r\n\ntwo\u2028more\n", [{"text": "one"}, {"text": ""}, {"text": "two\u2028more"}]),
        ("a.txt", "no end", [{"text": "no end"}]),
        ("a.json", '{"version": "2", "data": [{"q": 1}]}', [{"q": 1}]),
        ("a.json", '{"q": 1}\n{"q": 2}\n', [{"q": 1}, {"q": 2}]),
        ("a.jsonl", '{"a": 1}\n\n{"b": "x", "a": 2}\n', [{"a": 1, "b": None}, {"b": "x", "a": 2}]),
        # What pandas would change: names for missing values, leading zeros.
        (
            "a.csv",
            "id,text,n\n007,None,1\n010,NA,\n",
            [
                {"id": "007", "text": "None", "n": 1},
                {"id": "010", "text": "NA", "n": None},
            ],
        ),
        ("a.csv", "x,y\n1,-2.5\n2,3\n", [{"x": 1, "y": -2.5}, {"x": 2, "y": 3.0}]),
        ("a.csv", "x,empty\n1e5,\n+1,\n", [{"x": "1e5", "empty": ""}, {"x": "+1", "empty": ""}]),
        ("a.csv", "text\n" + "x" * 200_000 + "\n", [{"text": "x" * 200_000}]),
        # GLUE's files hold bare quotes.
        (
            "a.tsv",
            'sentence\tlabel\n"Good" movie\t1\nsaid "no\t0\n',
            [
                {"sentence": '"Good" movie', "label": 1},
                {"sentence": 'said "no', "label": 0},
            ],
        ),
        (
            "a.tsv",
            'sentence\tlabel\n" open\t1\nnext\t0\n',
            [
                {"sentence": '" open', "label": 1},
                {"sentence": "next", "label": 0},
            ],
        ),
    ],
)
def test_details(tmp_path: Path, name: str, content: str, rows: list[Row]) -> None:
    file = tmp_path / name
    file.write_bytes(content.encode())
    assert read_file(file) == rows


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.json", b"[1, 2", "line 1, column 6"),
        ("a.json", b"3", "single JSON value"),
        ("a.json", b"[{}, 3]", "row 1 is int"),
        ("a.json", b'{"a": [{"x": 1}], "b": [{"x": 1}]}', "2 lists of objects"),
        ("a.jsonl", b'{"a": 1}\n{"a": \n', "line 2 is no JSON"),
        ("a.jsonl", b'{"a": 1}\n[1]\n', "line 2 is list"),
        ("a.csv", b"a,b\n1,2\n1,2,3\n", "line 3 has 3 cells, but the header names 2 columns (a, b)"),
        ("a.csv", b'a,b\n"open,2\n', "unexpected end of data"),
        ("a.csv", b"a,a\n1,2\n", "name each column, once"),
        ("a.tsv", b"a\tb\n1\n", "line 2 has 1 cells"),
        ("a.parquet", b"PAR1 no", "no parquet file"),
        ("a.xlsx", b"", "no known data format; files may be .parquet, .jsonl"),
        ("a.csv", "text\ncafé au lait\n".encode("latin-1"), "byte 8, 0xe9, in line 2"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(UsageError) as error:
        read_file(file)
    assert says in str(error.value)
    assert str(file) in str(error.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no data file .*nothing.csv"):
        read_file(tmp_path / "nothing.csv")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("a\n1\n")
    file.chmod(0)
    with pytest.raises(UsageError, match="cannot be read"):
        read_file(file)


def test_suffix_unknown_but_format_named(tmp_path: Path) -> None:
    file = tmp_path / "rows.data"
    file.write_text('{"a": 1}\n{"a": 2}\n')
    assert read_file(file, fallback="json") == [{"a": 1}, {"a": 2}]
