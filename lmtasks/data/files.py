"""Data files become rows: parquet, JSON, JSON Lines, CSV, TSV, and plain text with one row a line.

Read here rather than by `datasets`, which guesses no encoding, keeps a second copy of every local file in its cache,
reads the CSV cells `None`, `NA` and `null` as missing, and turns an id such as `007` into the number 7.
"""

import io
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from lmtasks.data.decoding import decode
from lmtasks.data.delimited import DELIMITERS, Columns, cells_of
from lmtasks.errors import UsageError, unknown
from lmtasks.records import Row
from lmtasks.task.task import Reading

Format = Literal["parquet", "jsonl", "json", "csv", "tsv", "text"]

SUFFIXES: Mapping[str, Format] = {
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".txt": "text",
}
"""In the order in which they are preferred where a split lies in a folder in several formats."""

BUILDERS: Mapping[str, Format] = {"parquet": "parquet", "json": "json", "csv": "csv", "tsv": "tsv", "text": "text"}
"""Names that a task file's `dataset_path` may have in place of a data set, `data_files` naming the files."""

log = logging.getLogger(__name__)


def read_file(
    file: Path, *, fallback: Format | None = None, limit: int | None = None, reading: Reading | None = None
) -> list[Row]:
    """The rows of one file; all have the same columns, a value that a row lacks is None.

    Args:
        file: its suffix names the format.
        fallback: the format of a file with another suffix.
        limit: read no more rows than this.
        reading: what the file does not say of itself.

    Raises:
        UsageError: no such file, an unknown format, or a content that is not in that format (with line or row).
    """
    form = SUFFIXES.get(file.suffix.lower(), fallback)
    if form is None:
        raise UsageError(f"{file} has no known data format; files may be {', '.join(SUFFIXES)}.")
    if not file.is_file():
        raise UsageError(f"there is no data file {file}; check its path.")
    if form == "parquet":
        return _read_parquet(file, limit=limit)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}.") from error
    rows = READERS[form](decode(data, name=str(file)), file, reading or Reading())
    return _rectangular(rows if limit is None else rows[:limit])


def _read_parquet(file: Path, *, limit: int | None) -> list[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if limit is None:
            return list(pq.ParquetFile(file).read().to_pylist())
        rows: list[Row] = []
        for batch in pq.ParquetFile(file).iter_batches(batch_size=max(1, min(limit, 1000))):
            rows += batch.to_pylist()
            if len(rows) >= limit:
                break
        return rows[:limit]
    except (pa.ArrowException, OSError) as error:
        raise UsageError(f"{file} is no parquet file that can be read: {_first_line(error)}") from error


def _read_json(text: str, file: Path, reading: Reading) -> list[Row]:
    """A list of objects; an object with one list of objects in it (as SQuAD's `data`); or, misnamed, JSON Lines."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and text.lstrip().startswith("{"):
            return _read_jsonl(text, file, reading)
        raise UsageError(f"{file} is no JSON: {error.msg} in line {error.lineno}, column {error.colno}.") from error
    if reading.field is not None:
        if not isinstance(value, dict) or reading.field not in value:
            raise unknown(f"field of {file}", reading.field, value if isinstance(value, dict) else ())
        value = value[reading.field]
    if isinstance(value, dict):
        lists = {key: item for key, item in value.items() if _are_objects(item)}
        if len(lists) != 1:
            raise UsageError(
                f"{file} is one JSON object with {len(lists)} lists of objects in it ({', '.join(value)}); "
                "rows are a list of objects, or one object a line (.jsonl)."
            )
        value = next(iter(lists.values()))
    if not isinstance(value, list):
        raise UsageError(f"{file} holds a single JSON value; rows are a list of objects, or one object a line.")
    for number, item in enumerate(value):
        if not isinstance(item, dict):
            raise UsageError(f"{file}: row {number} is {type(item).__name__}, not an object with columns.")
    return value


def _read_jsonl(text: str, file: Path, _reading: Reading) -> list[Row]:
    rows: list[Row] = []
    # Not splitlines(): texts may hold U+2028 and other separators that are no line ends in JSON Lines.
    for number, line in enumerate(text.split("\n"), start=1):
        row = json_row(line, file=file, number=number)
        if row is not None:
            rows.append(row)
    return rows


def json_row(line: str, *, file: Path, number: int) -> Row | None:
    """The row in a line of JSON Lines; None in a blank one.

    Raises:
        UsageError: it is no JSON, or no object; says which line.
    """
    if not line.strip():
        return None
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UsageError(f"{file}, line {number} is no JSON: {error.msg} at column {error.colno}.") from error
    if not isinstance(row, dict):
        raise UsageError(f"{file}, line {number} is {type(row).__name__}, not an object with columns.")
    return row


def _read_csv(text: str, file: Path, reading: Reading) -> list[Row]:
    return _rows_of(text, file, reading, form="csv", quoted=True)


def _read_tsv(text: str, file: Path, reading: Reading) -> list[Row]:
    """With quotes as in CSV where the file keeps to them; else a quote is a character like any other, as in GLUE."""
    try:
        return _rows_of(text, file, reading, form="tsv", quoted=True)
    except UsageError as error:
        log.info("read %s with quotes as plain characters: %s", file, error)
        return _rows_of(text, file, reading, form="tsv", quoted=False)


def _rows_of(text: str, file: Path, reading: Reading, *, form: Format, quoted: bool) -> list[Row]:
    delimiter = reading.delimiter or DELIMITERS[form]
    lines = list(cells_of(io.StringIO(text, newline=""), file=file, delimiter=delimiter, quoted=quoted))
    if not lines:
        return []
    columns = Columns(lines[0], file=file, reading=reading)
    body = lines if columns.first_is_row else lines[1:]
    for cells in body:
        columns.see(cells)
    return [columns.row(cells) for cells in body]


def _read_text(text: str, file: Path, _reading: Reading) -> list[Row]:
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    return [{"text": line.removesuffix("\r")} for line in lines]


READERS: Mapping[Format, Callable[[str, Path, Reading], list[Row]]] = {
    "json": _read_json,
    "jsonl": _read_jsonl,
    "csv": _read_csv,
    "tsv": _read_tsv,
    "text": _read_text,
}


def _rectangular(rows: Sequence[Row]) -> list[Row]:
    """Every row with every column, in the order of first sight: as a table has it, whatever the format."""
    names = dict.fromkeys(name for row in rows for name in row)
    return [row if len(row) == len(names) else {name: row.get(name) for name in names} for row in rows]


def _are_objects(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".") + "."
