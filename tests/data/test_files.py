import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import lmtasks.data.local
from lmtasks.data.files import read_file
from lmtasks.data.local import open_file
from lmtasks.data.table import LazyRows, joined
from lmtasks.errors import UsageError, WorkError
from lmtasks.records import Row
from lmtasks.task.task import ReaderOptions

Read = Callable[..., Sequence[Row]]

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


@pytest.fixture(params=["whole", "by its places"])
def read(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Read:
    """Both ways to read a file: as a small one, and as a large one whose rows stay on the disk."""
    if request.param == "whole":
        return read_file
    monkeypatch.setattr(lmtasks.data.local, "LARGE_BYTES", 0)
    return open_file


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030"])
@pytest.mark.parametrize("suffix", WRITERS)
def test_every_format_in_every_encoding(read: Read, tmp_path: Path, suffix: str, encoding: str) -> None:
    file = tmp_path / f"data{suffix}"
    file.write_bytes(WRITERS[suffix](ROWS).encode(encoding))
    assert read(file) == ROWS
    assert read(file, limit=2) == ROWS[:2]


def test_parquet(read: Read, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = tmp_path / "data.parquet"
    rows = [{"text": str(number), "tags": [number, 1], "answers": {"text": ["a"]}} for number in range(2500)]
    pq.write_table(pa.Table.from_pylist(rows), file, row_group_size=100)
    assert read(file) == rows
    assert read(file, limit=1700) == rows[:1700]


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
def test_details(read: Read, tmp_path: Path, name: str, content: str, rows: list[Row]) -> None:
    file = tmp_path / name
    file.write_bytes(content.encode())
    assert read(file) == rows


TWO = [{"text": "good, really", "label": "pos"}, {"text": "bad", "label": "neg"}]
SNIFFED: dict[str, tuple[str, list[Row], str]] = {
    "semicolons": ("text;label\ngood, really;pos\nbad;neg\n", TWO, "semicolons"),
    "tabs": ("text\tlabel\ngood, really\tpos\nbad\tneg\n", TWO, "tabs"),
    "bars": ("text|label\ngood, really|pos\nbad|neg\n", TWO, "vertical bars"),
    "named": ("sep=;\r\ntext;label\r\ngood, really;pos\r\nbad;neg\r\n", TWO, "semicolons"),
    "named, quoted": ('"sep=|"\ntext|label\ngood, really|pos\nbad|neg\n', TWO, "vertical bars"),
    "named, usual": ('sep=,\ntext,label\n"good, really",pos\nbad,neg\n', TWO, "first line says"),
    "index of pandas": (',text,label\n0,"good, really",pos\n1,bad,neg\n', TWO, "column 1 of 3 has no name"),
    "comma at the end": ('text,label,\n"good, really",pos,\nbad,neg,\n', TWO, "column 3 of 3 has no name"),
    "comma at the end, not of the header": ('text,label\n"good, really",pos,\nbad,neg,\n', TWO, ""),
    "comma at the end, of the header alone": ('text,label,,\n"good, really",pos\nbad,neg\n', TWO, "2 columns have no"),
    "lines without content": ('text,label\n,\n"good, really",pos\n   \nbad,neg\n,\n\n', TWO, ""),
    "quoted line ends": (
        'text;label\n"good; or\nnot";pos\nbad;neg\n',
        [{"text": "good; or\nnot", "label": "pos"}, TWO[1]],
        "semicolons",
    ),
    "bare quotes between tabs": (
        'text\tlabel\n"good, really\tpos\nbad\tneg\n',
        [{**TWO[0], "text": '"good, really'}, TWO[1]],
        "plain",
    ),
    "spaces in the header": (' text , label\n"good, really",pos\nbad,neg\n', TWO, ""),
    "one column": ("text\nno, really; yes\n", [], "line 2 has 2 cells"),
    "decimal commas": (
        "text;score\na;1,5\nb;2,25\n",
        [{"text": "a", "score": "1,5"}, {"text": "b", "score": "2,25"}],
        "semi",
    ),
}
"""What Excel, pandas and others write under .csv: content, rows, and what is told of it (or why it is refused)."""


@pytest.mark.parametrize("case", SNIFFED)
def test_what_divides_cells_is_found_and_told(read: Read, tmp_path: Path, case: str) -> None:
    content, rows, says = SNIFFED[case]
    for mark in (b"", b"\xef\xbb\xbf"):
        file = tmp_path / "data.csv"
        file.write_bytes(mark + content.encode())
        told: list[str] = []
        if not rows:
            with pytest.raises(UsageError, match=says):
                read(file, notify=told.append)
            continue
        assert read(file, notify=told.append) == rows
        assert bool(told) == bool(says)
        assert says in " ".join(told)


def test_a_delimiter_that_a_task_names_is_not_looked_for(tmp_path: Path) -> None:
    file = tmp_path / "data.csv"
    file.write_text("text;label\ngood;pos\n")
    assert read_file(file, reading=ReaderOptions(delimiter=",")) == [{"text;label": "good;pos"}]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
@pytest.mark.parametrize("row", ['{"text": "broken \\ud83d emoji"}', '{"t": [{"x": "\\udc00"}]}', '{"\\ud83d": 1}'])
def test_half_a_surrogate_pair_is_refused_with_its_row(read: Read, tmp_path: Path, name: str, row: str) -> None:
    (tmp_path / name).write_text(f"[{{}}, {row}]" if name == "a.json" else f"{{}}\n{row}\n")
    with pytest.raises(UsageError, match=r"(row 1|line 2), column .* half of a pair"):
        read(tmp_path / name)


def test_a_whole_surrogate_pair_is_text(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "\\ud83d\\ude42"}\n')
    assert read_file(tmp_path / "a.jsonl") == [{"text": "🙂"}]


@pytest.mark.parametrize("cell", ["9" * 5000, "[" * 100_000])
def test_json_that_python_cannot_hold_is_refused_with_its_line(read: Read, tmp_path: Path, cell: str) -> None:
    (tmp_path / "a.jsonl").write_text(f'{{"a": 1}}\n{{"a": {cell}}}\n')
    with pytest.raises(UsageError, match="line 2 is"):
        read(tmp_path / "a.jsonl")


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
        ("a.xls", b"", "no known data format; files may be .parquet, .jsonl"),
        ("a.csv", "text\ncafé au lait\n".encode("latin-1"), "byte 8, 0xe9, in line 2"),
    ],
)
def test_bad_files(read: Read, tmp_path: Path, name: str, content: bytes, says: str) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(UsageError) as error:
        read(file)
    assert says in str(error.value)
    assert str(file) in str(error.value)


def test_missing_file(read: Read, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no data file .*nothing.csv"):
        read(tmp_path / "nothing.csv")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(read: Read, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("a\n1\n")
    file.chmod(0)
    with pytest.raises(UsageError, match="cannot be read"):
        read(file)


def test_suffix_unknown_but_format_named(read: Read, tmp_path: Path) -> None:
    file = tmp_path / "rows.data"
    file.write_text('{"a": 1}\n{"a": 2}\n')
    assert read(file, fallback="json") == [{"a": 1}, {"a": 2}]


MESSY = 'id,text,n\r\n\r\n007,"two\r\nlines",1\n\n\n010,"a ""word""",\r8,caf\u00e9,3\n9,\u2028,4'
"""Line ends of all kinds, within quotes and between rows."""


def test_rows_of_a_large_file_are_found_in_any_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmtasks.data.local, "LARGE_BYTES", 0)
    file = tmp_path / "messy.csv"
    file.write_bytes(b"\xef\xbb\xbf" + MESSY.encode())
    rows, wanted = open_file(file), read_file(file)
    assert (isinstance(rows, LazyRows), len(rows), list(rows)) == (True, 4, list(wanted))
    assert [rows[number] for number in (3, 0, -2, 1)] == [wanted[number] for number in (3, 0, 2, 1)]
    assert rows[1:3] == wanted[1:3]
    assert joined([rows, rows[:2], wanted])[3:7] == [*wanted, *wanted[:2], *wanted][3:7]
    with pytest.raises(IndexError):
        rows[4]


def test_an_empty_large_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmtasks.data.local, "LARGE_BYTES", 0)
    for name in ("a.csv", "a.jsonl", "b.csv"):
        (tmp_path / name).write_text("text,label\n" if name == "b.csv" else "")
        assert list(open_file(tmp_path / name)) == read_file(tmp_path / name) == []


def test_a_large_file_that_changes_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmtasks.data.local, "LARGE_BYTES", 0)
    file = tmp_path / "a.jsonl"
    file.write_text('{"a": 1}\n{"a": 2}\n')
    rows = open_file(file)
    file.write_text('{"b": 1}\n')
    with pytest.raises(WorkError, match="was changed while it was read"):
        list(rows)
