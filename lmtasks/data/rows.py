"""Rows of one split, wherever they lie: local files first, then the Hub.

A split may be cut as `datasets` writes it: `train[:100]`, `train[10%:20%]`, `train[-50:]`, `train+validation`.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lmtasks.data.files import read_file
from lmtasks.data.mirror import LocalSet, find_local
from lmtasks.data.options import DataOptions
from lmtasks.errors import UsageError
from lmtasks.records import Row
from lmtasks.task.task import Source

PART = re.compile(r"\s*([^\[\]+]+?)\s*(\[[^\[\]]*\](?:\([a-z0-9_]+\))?)?\s*(?:\+|$)")


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The rows of a split, and what identifies them."""

    rows: Sequence[Row]
    fingerprint: str
    """sha256 over the rows' content, 16 hex digits: the same rows from anywhere have the same one."""
    where: str
    """Where they came from, for people."""


def open_rows(source: Source, *, options: DataOptions, limit: int | None = None) -> Rows:
    """Read one split, or its first `limit` rows.

    No network is touched when the data is local, and never with `options.offline`.

    Raises:
        UsageError: no such data, file, configuration or split; an empty split; a file that cannot be read.
        WorkError: the Hub could not be reached.
    """
    rows, where = read_rows(source, options=options, limit=limit)
    return make_rows(rows, where=where)


def read_rows(source: Source, *, options: DataOptions, limit: int | None = None) -> tuple[Sequence[Row], str]:
    """`open_rows` without the fingerprint: the rows, and where they came from."""
    if limit is not None and limit < 1:
        raise UsageError(f"the limit must be 1 row or more, was {limit}.")
    local = find_local(source, options=options)
    if local is not None:
        rows, where = _read_local(local, source.split, limit=limit)
    else:
        from lmtasks.data.hub import read_hub

        rows, where = read_hub(source, options=options, limit=limit)
    if not rows:
        raise UsageError(f"split {source.split!r} of {where} is empty; name another split or check the data.")
    return rows, where


def make_rows(rows: Sequence[Row], *, where: str) -> Rows:
    """Rows with their fingerprint."""
    return Rows(rows=rows, fingerprint=fingerprint(rows), where=where)


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


def split_parts(split: str) -> tuple[tuple[str, str], ...]:
    """The names in a split's specification, each with its slice or an empty text.

    >>> split_parts("train[:10%]+validation")
    (('train', '[:10%]'), ('validation', ''))

    Raises:
        UsageError: it is not written as `datasets` writes splits.
    """
    parts: list[tuple[str, str]] = []
    at = 0
    while at < len(split):
        part = PART.match(split, at)
        if part is None:
            break
        parts.append((part[1], part[2] or ""))
        at = part.end()
    if at < len(split) or not parts or split.rstrip().endswith("+"):
        raise UsageError(f"{split!r} is no split; write `train`, `train[:100]`, `train[10%:20%]` or `train+test`.")
    return tuple(parts)


def _read_local(local: LocalSet, split: str, *, limit: int | None) -> tuple[Sequence[Row], str]:
    parts = split_parts(split)
    whole = not any(cut for _, cut in parts)
    read = {
        name: _read_files(local, name, limit=limit if whole and len(parts) == 1 else None) for name, _ in parts
    }
    where = ", ".join(dict.fromkeys(_where(local, name) for name, _ in parts))
    if whole:
        rows = [row for name, _ in parts for row in read[name]]
    else:
        rows = _cut(split, read, where=where)
    return rows if limit is None else rows[:limit], where


def _read_files(local: LocalSet, split: str, *, limit: int | None) -> Sequence[Row]:
    rows: list[Row] = []
    for file in local.files(split):
        rows += read_file(file, fallback=local.form, limit=None if limit is None else limit - len(rows))
        if limit is not None and len(rows) >= limit:
            break
    return rows


def _cut(split: str, read: Mapping[str, Sequence[Row]], *, where: str) -> list[Row]:
    # Imported for slices alone, because it takes seconds; the rounding of percentages is then exactly theirs.
    from datasets import ReadInstruction

    try:
        pieces = ReadInstruction.from_spec(split).to_absolute({name: len(rows) for name, rows in read.items()})
    except (ValueError, AssertionError) as error:
        raise UsageError(f"{split!r} cannot be cut from {where}: {error}") from error
    return [row for piece in pieces for row in read[piece.splitname][piece.from_ : piece.to]]


def _where(local: LocalSet, split: str) -> str:
    files = local.files(split)
    return str(files[0]) if len(files) == 1 else f"{local.where} ({len(files)} files of {split})"


def _without_none(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list) and value and isinstance(value[0], dict | list):
        return [_without_none(item) for item in value]
    return value
