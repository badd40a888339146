"""Data files become rows: parquet, JSON, JSON Lines, CSV, TSV, Excel, and plain text with one row a line.

Read here rather than by `datasets`, which guesses no encoding, keeps a second copy of every local file in its cache,
reads the CSV cells `None`, `NA` and `null` as missing, and turns an id such as `007` into the number 7.

Of a workbook the first sheet is read, by calamine, which the extra `xlsx` installs. Excel keeps every number as a
floating-point one, so that whole ones become integers again.
"""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from lmtasks.data.decoding import Notify, decode, log_notice
from lmtasks.data.delimited import Columns, Dialect, cells_of, dialect_of, notify_dialect
from lmtasks.errors import UsageError, missing, unknown
from lmtasks.files import parse_json
from lmtasks.records import Row
from lmtasks.task.formats import SUFFIXES, Format
from lmtasks.task.task import ReaderOptions


def read_file(
    file: Path,
    *,
    fallback: Format | None = None,
    limit: int | None = None,
    reading: ReaderOptions | None = None,
    notify: Notify = log_notice,
    typed: bool = True,
) -> list[Row]:
    """The rows of one file; all have the same columns, a value that a row lacks is None.

    Args:
        file: its suffix names the format.
        fallback: the format of a file with another suffix.
        limit: read no more rows than this.
        reading: what the file does not say of itself.
        notify: called with what is not usual, a sentence each: encoding, delimiter, columns that are left out.
        typed: make numbers of the cells of a column of numbers; false: cells of CSV and TSV are texts, None where they
            are empty.

    Raises:
        UsageError: no such file, an unknown format, or a content that is not in that format (with line or row).
    """
    reading = reading or ReaderOptions()
    form = SUFFIXES.get(file.suffix.lower(), fallback)
    if form is None:
        raise UsageError(f"{file} has no known data format; files may be {', '.join(SUFFIXES)}.")
    if not file.is_file():
        raise missing("data file", file, hint="check its path")
    if form == "parquet":
        return _read_parquet(file, limit=limit)
    if form == "xlsx":
        return read_spreadsheet(file, limit=limit, notify=notify)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}.") from error
    text = decode(data, name=str(file), encoding=reading.encoding, notify=notify)
    if form == "json":
        rows = _read_json(text, file, reading)
    elif form == "jsonl":
        rows = _read_jsonl(text, file)
    elif form == "text":
        rows = _read_text(text)
    else:
        rows = _read_delimited(text, file, reading, form=form, notify=notify, typed=typed)
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


def _read_json(text: str, file: Path, reading: ReaderOptions) -> list[Row]:
    """A list of objects; an object with one list of objects in it (as SQuAD's `data`); or, misnamed, JSON Lines."""
    try:
        value = parse_json(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and text.lstrip().startswith("{"):
            return _read_jsonl(text, file)
        raise UsageError(f"{file} is no JSON: {error.msg} in line {error.lineno}, column {error.colno}.") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{file} holds JSON that cannot be read: {error}.") from error
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
    escaped = "\\u" in text
    for number, item in enumerate(value):
        if not isinstance(item, dict):
            raise UsageError(f"{file}: row {number} is {type(item).__name__}, not an object with columns.")
        if escaped:
            _refuse_halves(item, place=f"{file}: row {number}")
    return value


def _read_jsonl(text: str, file: Path) -> list[Row]:
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
        UsageError: it is no JSON, no object, or holds half a surrogate pair, which is no text; says which line.
    """
    if not line.strip():
        return None
    try:
        row = parse_json(line)
    except json.JSONDecodeError as error:
        raise UsageError(f"{file}, line {number} is no JSON: {error.msg} at column {error.colno}.") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, a list of thousands of levels
        raise UsageError(f"{file}, line {number} is JSON that cannot be read: {error}.") from error
    if not isinstance(row, dict):
        raise UsageError(f"{file}, line {number} is {type(row).__name__}, not an object with columns.")
    if "\\u" in line:
        _refuse_halves(row, place=f"{file}, line {number}")
    return row


def _refuse_halves(row: Row, *, place: str) -> None:
    for column, value in row.items():
        for text in (column, *_texts(value)):
            at = next((at for at, character in enumerate(text) if "\ud800" <= character <= "\udfff"), None)
            if at is not None:
                raise UsageError(
                    f"{place}, column {column!r}: character {at}, U+{ord(text[at]):04X}, is half of a pair and no "
                    "text, as where a text was cut within an emoji; mend or leave out the row."
                )


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from (str(key), *_texts(item))
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _read_delimited(
    text: str, file: Path, reading: ReaderOptions, *, form: Format, notify: Notify, typed: bool
) -> list[Row]:
    """Tabs: with quotes as in CSV where the file keeps to them; else a quote is a character like any other, as in
    GLUE."""
    dialect = dialect_of(lambda: io.StringIO(text, newline=""), form=form, reading=reading)
    notify_dialect(dialect, file=file, form=form, reading=reading, notify=notify)
    try:
        return _rows_of(text, file, reading, dialect=dialect, notify=notify, typed=typed)
    except UsageError as error:
        if dialect.delimiter != "\t":
            raise
        rows = _rows_of(text, file, reading, dialect=replace(dialect, quoted=False), notify=notify, typed=typed)
        notify(f"{file}: quotes were read as plain characters, since {error}")
        return rows


def _rows_of(
    text: str, file: Path, reading: ReaderOptions, *, dialect: Dialect, notify: Notify, typed: bool
) -> list[Row]:
    source = io.StringIO(text, newline="")
    dialect.skip(source)
    lines = list(cells_of(source, file=file, dialect=dialect))
    if not lines:
        return []
    columns = Columns(lines[0], file=file, reading=reading, notify=notify)
    body = lines if columns.first_is_row else lines[1:]
    if not typed:
        return [{name: cells[place] or None for place, name in columns.names.items()} for cells in body]
    for cells in body:
        columns.see(cells)
    return [columns.row(cells) for cells in body]


def _read_text(text: str) -> list[Row]:
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    return [{"text": line.removesuffix("\r")} for line in lines]


def _rectangular(rows: Sequence[Row]) -> list[Row]:
    """Every row with every column, in the order of first sight: as a table has it, whatever the format."""
    names = dict.fromkeys(name for row in rows for name in row)
    return [row if len(row) == len(names) else {name: row.get(name) for name in names} for row in rows]


def _are_objects(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".") + "."


def read_spreadsheet(file: Path, *, limit: int | None, notify: Notify) -> list[Row]:
    """The rows of the first sheet under its first line, which names the columns; lines of empty cells are left out.

    Raises:
        UsageError: the reader is not installed, or this is no workbook.
    """
    try:
        import python_calamine as calamine
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{file} is an Excel workbook, and its reader is not installed: pip install 'lmtasks[xlsx]', or save it as "
            "CSV."
        ) from error
    try:
        workbook = calamine.CalamineWorkbook.from_path(file)
        names = workbook.sheet_names
        lines: Sequence[Sequence[object]] = workbook.get_sheet_by_index(0).to_python(skip_empty_area=True)
    except (calamine.CalamineError, OSError) as error:
        raise UsageError(f"{file} is no Excel workbook that can be read: {str(error).rstrip('.')}.") from error
    if len(names) > 1:
        others = ", ".join(map(repr, names[1:]))
        notify(f"{file}: its first sheet, {names[0]!r}, was read, and not {others}.")
    filled = [line for line in lines if any(cell != "" for cell in line)]
    if not filled:
        return []
    columns = Columns([str(cell) for cell in filled[0]], file=file, reading=ReaderOptions(), notify=notify)
    body = filled[1:] if limit is None else filled[1 : limit + 1]
    return [{name: _value(line[place]) for place, name in columns.names.items()} for line in body]


def _value(cell: object) -> object:
    return int(cell) if isinstance(cell, float) and cell.is_integer() else cell
