"""The first sheet of an Excel workbook becomes rows: read by calamine, which the extra `xlsx` installs.

Excel keeps every number as a floating-point one, so that whole ones become integers again.
"""

from collections.abc import Sequence
from pathlib import Path

from lmtasks.data.delimited import Columns
from lmtasks.data.notices import Tell
from lmtasks.errors import UsageError
from lmtasks.records import Row
from lmtasks.task.task import ReaderOptions


def read_spreadsheet(file: Path, *, limit: int | None, tell: Tell) -> list[Row]:
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
        tell(f"{file}: its first sheet, {names[0]!r}, was read, and not {others}.")
    filled = [line for line in lines if any(cell != "" for cell in line)]
    if not filled:
        return []
    columns = Columns([str(cell) for cell in filled[0]], file=file, reading=ReaderOptions(), tell=tell)
    body = filled[1:] if limit is None else filled[1 : limit + 1]
    return [{name: _value(line[place]) for place, name in columns.names.items()} for line in body]


def _value(cell: object) -> object:
    return int(cell) if isinstance(cell, float) and cell.is_integer() else cell
