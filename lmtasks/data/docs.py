"""`process_docs`: a task's own code that turns the rows of a split into others, before anything else sees them.

The function is handed a `datasets.Dataset`, as in lm-evaluation-harness, and returns one, or any sequence of rows.
"""

from collections.abc import Iterable, Mapping, Sequence

from lmtasks.data.rows import Rows, make_rows, read_rows
from lmtasks.data.options import DataOptions
from lmtasks.data.table import HubTable, LazyRows
from lmtasks.errors import UsageError, WorkError
from lmtasks.records import Row
from lmtasks.task.functions import FunctionRef
from lmtasks.task.task import Source


def open_processed(
    source: Source, *, function: FunctionRef | None, options: DataOptions, limit: int | None = None
) -> Rows:
    """The rows of a split after `function`; the limit counts rows that come out of it, as in the harness.

    Raises:
        UsageError: as `open_rows`; or nothing comes out of the function.
        WorkError: the function fails.
    """
    if function is None:
        rows, where = read_rows(source, options=options, limit=limit)
        return make_rows(rows, where=where)
    rows, where = read_rows(source, options=options)
    made = processed(rows, function=function)
    if not len(made):
        raise UsageError(f"!function {function.qualified} leaves no row of {where}.")
    return make_rows(made if limit is None else made[:limit], where=f"{where}, by {function.qualified}")


def processed(rows: Sequence[Row], *, function: FunctionRef) -> Sequence[Row]:
    """What the function makes of the rows.

    Raises:
        UsageError: the function is not there.
        WorkError: it fails, or returns no rows.
    """
    from datasets import Dataset

    called = function.load()
    try:
        made = called(Dataset.from_list([dict(row) for row in rows]))
    except Exception as error:  # anything may go wrong in foreign code
        raise WorkError(f"!function {function.qualified} fails on the rows: {type(error).__name__}: {error}.") from error
    if isinstance(made, Dataset):
        return LazyRows(HubTable(made))
    listed = list(made) if isinstance(made, Iterable) else [made]
    if not all(isinstance(row, Mapping) for row in listed):
        raise WorkError(f"!function {function.qualified} must return rows, was: {type(made).__name__}.")
    return listed
