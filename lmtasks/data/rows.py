"""Rows of one split, wherever they lie: local files first, then the Hub."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lmtasks.data.decoding import Notify, log_notice
from lmtasks.data.local import read_local
from lmtasks.data.mirror import find_local
from lmtasks.errors import UsageError
from lmtasks.records import Row
from lmtasks.settings.data import DataAccess
from lmtasks.task.task import Source


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The rows of a split, and what identifies them."""

    rows: Sequence[Row]
    fingerprint: str
    """sha256 over the rows' content, 16 hex digits: the same rows from anywhere have the same one."""
    where: str
    """Where they came from, for people."""
    notes: tuple[str, ...] = ()
    """What was found out about them, a sentence each."""
    left_out: int = 0
    """Rows that had no label."""


def open_rows(source: Source, *, options: DataAccess, limit: int | None = None) -> Rows:
    """Read one split, or its first `limit` rows.

    No network is touched when the data is local, and never with `options.offline`.

    Raises:
        UsageError: no such data, file, configuration or split; an empty split; a file that cannot be read.
        WorkError: the Hub could not be reached, or a task's own code failed.
    """
    rows, where = read_rows(source, options=options, limit=limit)
    return make_rows(rows, where=where)


def read_rows(
    source: Source, *, options: DataAccess, limit: int | None = None, notify: Notify = log_notice
) -> tuple[Sequence[Row], str]:
    """The rows of `open_rows`, and where they came from; `notify` is called with how files were read."""
    if limit is not None and limit < 1:
        raise UsageError(f"the limit must be 1 row or more, was {limit}.")
    if source.part is not None:
        from lmtasks.data.sampling import part_of

        rows, where = read_rows(replace(source, part=None), options=options, notify=notify)
        rows, where = part_of(rows, source.part, where=where)
        rows = rows if limit is None else rows[:limit]
    elif source.held is not None:
        rows, where = source.held.of(source.split)[:limit], str(source.held)
    elif source.made_by is not None:
        from lmtasks.task.hooks import custom_rows

        rows, where = custom_rows(source.made_by, split=source.split)[:limit], source.path
    elif (local := find_local(source, options=options)) is not None:
        rows, where = read_local(replace(local, reading=source.reading), source.split, limit=limit, notify=notify)
    else:
        from lmtasks.data.hub import read_hub

        rows, where = read_hub(source, options=options, limit=limit)
    if not rows:
        raise UsageError(f"split {source.split!r} of {where} is empty; name another split, or check the data.")
    return rows, where


def make_rows(rows: Sequence[Row], *, where: str, notes: Sequence[str] = (), left_out: int = 0) -> Rows:
    """Rows with their fingerprint; a note that was made twice is kept once."""
    found = tuple(dict.fromkeys(notes))
    return Rows(rows=rows, fingerprint=fingerprint(rows), where=where, notes=found, left_out=left_out)


def fingerprint(rows: Sequence[Row]) -> str:
    """sha256 over the rows, 16 hex digits; the order of columns does not matter, nor whether a missing value is None.

    >>> fingerprint([{"text": "a", "label": 1}]) == fingerprint([{"label": 1, "text": "a", "note": None}])
    True
    """
    digest = hashlib.sha256()
    encoder = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str)
    for row in rows:
        # JSON may hold halves of surrogate pairs, which strict UTF-8 refuses.
        digest.update(encoder.encode(_without_none(row)).encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()[:16]


def _without_none(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list) and value and isinstance(value[0], dict | list):
        return [_without_none(item) for item in value]
    return value
