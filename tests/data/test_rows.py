import json
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from lmtasks.data.rows import fingerprint, open_rows
from lmtasks.errors import UsageError
from lmtasks.records import Row
from lmtasks.settings.data import DataAccess
from lmtasks.task.task import Source

ROWS = [{"text": f"text {number}", "label": number % 2} for number in range(25)]


@pytest.fixture(autouse=True)
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Local data needs no network at all, not even a name to be looked up."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def write(file: Path, rows: Sequence[Row]) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), file)
    else:
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def source(path: str, **more: object) -> Source:
    return Source(**{"path": path, "split": "train", **more})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ("org/set/train.parquet", source("org/set")),
        ("org/set/cfg/train.parquet", source("org/set", name="cfg")),
        ("org/set/default/train.parquet", source("org/set")),
        ("org/set/only/train.parquet", source("org/set")),
        ("org/set/train.parquet", source("org/set", name="plain_text")),
        ("org/set/data/train-00000-of-00001.parquet", source("org/set")),
        ("org/set/train/0000.parquet", source("org/set")),
        ("org/set/train.jsonl", source("org/set")),
        ("org/set/dev.jsonl", source("org/set", split="validation")),
        ("org/set/reviews_train.jsonl", source("org/set")),
        ("plain/train.parquet", source("plain", revision="v2")),
    ],
)
def test_mirror_layouts(tmp_path: Path, files: str, wanted: Source) -> None:
    write(tmp_path / files, ROWS)
    rows = open_rows(wanted, options=DataAccess(data_root=tmp_path))
    assert rows.rows == ROWS
    assert str(tmp_path) in rows.where


def test_shards_stand_in_order(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / f"set/train-0000{number}-of-00003.parquet", ROWS[number * 9 : number * 9 + 9])
    options = DataAccess(data_root=tmp_path)
    assert open_rows(source("set"), options=options).rows == ROWS
    assert open_rows(source("set"), options=options, limit=11).rows == ROWS[:11]


def test_parquet_goes_before_other_formats(tmp_path: Path) -> None:
    write(tmp_path / "set/train.jsonl", ROWS[:3])
    write(tmp_path / "set/train.parquet", ROWS)
    assert len(open_rows(source("set"), options=DataAccess(data_root=tmp_path)).rows) == len(ROWS)


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("train", ROWS),
        ("train[:10]", ROWS[:10]),
        ("train[-5:]", ROWS[-5:]),
        ("train[10%:20%]", ROWS[2:5]),
        ("train[:2]+test[1:]", [*ROWS[:2], *ROWS[1:4]]),
        ("test + train", [*ROWS[:4], *ROWS]),
        ("train[:1000]", ROWS),
    ],
)
@pytest.mark.parametrize("limit", [None, 3])
def test_slices(tmp_path: Path, split: str, expected: list[Row], limit: int | None) -> None:
    write(tmp_path / "set/train.parquet", ROWS)
    write(tmp_path / "set/test.parquet", ROWS[:4])
    rows = open_rows(source("set", split=split), options=DataAccess(data_root=tmp_path), limit=limit)
    assert rows.rows == expected[:limit]


def test_files_beside_a_task_file(tmp_path: Path) -> None:
    write(tmp_path / "train-1.jsonl", ROWS[:5])
    write(tmp_path / "train-2.jsonl", ROWS[5:])
    for files in (["train-1.jsonl", "train-2.jsonl"], "train-*.jsonl"):
        embedded = source("json", base=tmp_path, data_files={"train": files})
        assert open_rows(embedded, options=DataAccess(offline=True)).rows == ROWS


def test_one_file_stands_for_any_split(tmp_path: Path) -> None:
    file = write(tmp_path / "reviews.jsonl", ROWS)
    for split in ("train", "test"):
        assert open_rows(source(str(file), split=split), options=DataAccess()).rows == ROWS


def test_a_folder_beside_the_task_file(tmp_path: Path) -> None:
    write(tmp_path / "mine/train.jsonl", ROWS)
    assert open_rows(source("mine", base=tmp_path), options=DataAccess()).rows == ROWS


def test_fingerprint_depends_on_content_alone(tmp_path: Path) -> None:
    write(tmp_path / "set/train.parquet", ROWS)
    lines = write(tmp_path / "other.jsonl", [dict(reversed(row.items())) for row in ROWS])
    options = DataAccess(data_root=tmp_path)
    prints = {open_rows(which, options=options).fingerprint for which in (source("set"), source(str(lines)))}
    assert prints == {fingerprint(ROWS)}
    assert fingerprint(ROWS[:-1]) not in prints
    assert fingerprint(ROWS[::-1]) not in prints


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"a": {"text": "x", "at": None}}, {"a": {"text": "x"}}),
        ({"a": [{"x": 1, "y": None}]}, {"a": [{"x": 1}]}),
        ({"a": 1, "b": None}, {"a": 1}),
    ],
)
def test_fingerprint_of_missing_values(first: Mapping[str, object], second: Mapping[str, object]) -> None:
    assert fingerprint([first]) == fingerprint([second])
    assert fingerprint([{"a": "half of a pair \ud800"}]) != fingerprint([first])


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (source("org/absent"), "org/absent is not on this machine, and --offline forbids to fetch it"),
        (source("org/set", split="trian"), "did you mean 'train'? Known: test, train."),
        (source("org/set", split="validation"), "unknown split of"),
        (source("org/set", split="train[:x]"), "cannot be cut"),
        (source("org/set", split="train[:5"), "is no split"),
        (source("org/set", split="test"), "is empty"),
        (source("org/two"), "configurations a, b; name one of them (dataset_name)"),
        (source("./absent.csv"), "there is no file or folder absent.csv"),
        (source("absent.jsonl"), "there is no file or folder"),
        (source("/absent/folder"), "there is no file or folder /absent/folder"),
        (source("json"), "name its files in data_files"),
        (source("json", data_files={"train": "absent.jsonl"}), "there is no data file"),
        (source("json", data_files={"train": "absent-*.jsonl"}), "no data file matches"),
        (source("json", data_files={"test": "absent.jsonl"}), "unknown split"),
        (source("json", data_files={"train": "https://example.org/a.jsonl"}), "--offline forbids"),
    ],
)
def test_what_is_not_there(tmp_path: Path, wanted: Source, says: str) -> None:
    write(tmp_path / "org/set/train.parquet", ROWS)
    (tmp_path / "org/set/test.csv").write_text("text,label\n")
    write(tmp_path / "org/two/a/train.parquet", ROWS)
    write(tmp_path / "org/two/b/train.parquet", ROWS)
    with pytest.raises(UsageError) as error:
        open_rows(wanted, options=DataAccess(data_root=tmp_path, offline=True))
    assert says in str(error.value)


def test_a_folder_without_data(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no data files"):
        open_rows(source(str(tmp_path)), options=DataAccess())


def test_bad_options(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a folder"):
        open_rows(source("org/set"), options=DataAccess(data_root=tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="1 row or more, was 0"):
        open_rows(source("org/set"), options=DataAccess(), limit=0)
