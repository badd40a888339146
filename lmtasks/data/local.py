"""Read a split of a data set that lies on this machine, whole or cut.

A split may be cut as `datasets` writes it: `train[:100]`, `train[10%:20%]`, `train[-50:]`, `train+validation`.
"""

import re
from collections.abc import Mapping, Sequence

from lmtasks.data.large import open_file
from lmtasks.data.mirror import LocalSet
from lmtasks.data.notices import Tell, say
from lmtasks.data.table import LazyRows, ParquetTable, joined
from lmtasks.errors import UsageError
from lmtasks.records import Row

PART = re.compile(r"\s*([^\[\]+]+?)\s*(\[[^\[\]]*\](?:\([a-z0-9_]+\))?)?\s*(?:\+|$)")


def read_local(local: LocalSet, split: str, *, limit: int | None, tell: Tell = say) -> tuple[Sequence[Row], str]:
    """The rows of a split, at most `limit`, and the files that they came from.

    Raises:
        UsageError: no such split, a slice that cannot be cut, or a file that cannot be read.
    """
    parts = split_parts(split)
    whole = not any(cut for _, cut in parts)
    read = {name: _read_files(local, name, limit=limit if whole else None, tell=tell) for name, _ in parts}
    where = ", ".join(dict.fromkeys(_where(local, name) for name, _ in parts))
    rows = joined([read[name] for name, _ in parts]) if whole else _cut(split, read, where=where)
    return rows if limit is None else rows[:limit], where


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


def _read_files(local: LocalSet, split: str, *, limit: int | None, tell: Tell) -> Sequence[Row]:
    """Parquet and large text files stay on the disk until a row is asked for; others are read whole."""
    parts: list[Sequence[Row]] = []
    files = local.files(split)
    if files and all(file.suffix.lower() == ".parquet" and file.is_file() for file in files):
        found = LazyRows(ParquetTable(files))
        return found if limit is None else found[:limit]
    for file in files:
        left = None if limit is None else limit - sum(map(len, parts))
        parts.append(open_file(file, fallback=local.form, limit=left, reading=local.reading, tell=tell))
        if limit is not None and sum(map(len, parts)) >= limit:
            break
    return joined(parts) if parts else []


def _cut(split: str, read: Mapping[str, Sequence[Row]], *, where: str) -> Sequence[Row]:
    # Imported for slices alone, because it takes seconds; the rounding of percentages is then exactly theirs.
    from datasets import ReadInstruction

    try:
        pieces = ReadInstruction.from_spec(split).to_absolute({name: len(rows) for name, rows in read.items()})
    except (ValueError, AssertionError) as error:
        raise UsageError(f"{split!r} cannot be cut from {where}: {error}") from error
    return joined([read[piece.splitname][piece.from_ : piece.to] for piece in pieces])


def _where(local: LocalSet, split: str) -> str:
    files = local.files(split)
    return str(files[0]) if len(files) == 1 else f"{local.where} ({len(files)} files of {split})"
