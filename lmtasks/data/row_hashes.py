"""Fingerprints of rows, 8 bytes each: which of the scored rows did a model learn from, or choose on?

A row's number holds 48 bits of the hash of what it asks and 16 of what is right, so that one sorted array tells equal
rows, and equal questions with another answer. Texts that are targets of their own (translations, summaries) have a hash
of 64 bits beside it. A million rows against ten thousand share one by chance in one of 28,000 cases.

On disk (`training_rows.bin` in a model's folder and in a package): one line of JSON with the arrays' names, lengths and
the sha256 of what follows; then the numbers, unsigned, 8 bytes each, the lowest byte first, on every machine.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lmtasks.errors import UsageError
from lmtasks.files import parse_json, write_bytes
from lmtasks.records import Bools, Hashes, Row
from lmtasks.task.identity import RowTexts, folded, texts_of
from lmtasks.task.task import Task

SCHEMA = 1
TARGET_BITS = np.uint64(16)
NO_TEXT = 0
"""In place of the hash of a row that asks nothing, or whose target is no text: equal to no other."""


def _none() -> Hashes:
    return np.zeros(0, dtype=np.uint64)


@dataclass(frozen=True, kw_only=True)
class RowHashes:
    """Rows as numbers. Axes: N rows, M texts."""

    rows: Hashes = field(default_factory=_none)
    """(N,)"""
    targets: Hashes = field(default_factory=_none)
    """(M,) of targets that are texts of their own; of rows in their order (N,)."""

    def as_set(self) -> "RowHashes":
        """Sorted, each once."""
        return RowHashes(rows=_set(self.rows), targets=_set(self.targets))

    def united(self, other: "RowHashes") -> "RowHashes":
        """The set of both."""
        return RowHashes(
            rows=_set(np.concatenate([self.rows, other.rows])),
            targets=_set(np.concatenate([self.targets, other.targets])),
        )


@dataclass(frozen=True, kw_only=True)
class TrainingRows:
    """Hashes of the rows that a model has seen while it was adapted."""

    learned: RowHashes = field(default_factory=RowHashes)
    chosen: RowHashes = field(default_factory=RowHashes)
    """Validation rows, by which training was stopped and weights were kept."""

    def united(self, other: "TrainingRows") -> "TrainingRows":
        """Join what was seen in several adaptations."""
        return TrainingRows(learned=self.learned.united(other.learned), chosen=self.chosen.united(other.chosen))


@dataclass(frozen=True, kw_only=True)
class Shared:
    """Membership of N rows among others, (N,) each."""

    rows: Bools
    """Question and answer."""
    inputs: Bools
    """The question, with this answer or another."""
    targets: Bools
    """The target, where it is a text of its own."""

    @property
    def any(self) -> Bools:
        """In one way or another."""
        return self.inputs | self.targets


def hash_rows(task: Task, rows: Iterable[Row], *, each: Callable[[int], None] = lambda number: None) -> RowHashes:
    """Hashes of rows, in their order.

    Args:
        each: called with the number of every row.

    Raises:
        UsageError: a row does not fit the task.
    """
    found, targets = [], []
    for number, row in enumerate(rows):
        each(number)
        mine, target = hash_row(task, row)
        found.append(mine)
        targets.append(target)
    return RowHashes(rows=np.array(found, dtype=np.uint64), targets=np.array(targets, dtype=np.uint64))


def hash_row(task: Task, row: Row) -> tuple[int, int]:
    """(the row, its target where that is a text) as numbers; `NO_TEXT` for what is not there.

    Raises:
        UsageError: the row does not fit the task.
    """
    return _numbers(texts_of(task, row))


def shared(rows: RowHashes, others: RowHashes) -> Shared:
    """Find the rows, in their order, that stand among others."""
    known = rows.rows != NO_TEXT
    return Shared(
        rows=known & np.isin(rows.rows, others.rows),
        inputs=known & np.isin(rows.rows >> TARGET_BITS, others.rows >> TARGET_BITS),
        targets=(rows.targets != NO_TEXT) & np.isin(rows.targets, others.targets),
    )


def write_training_rows(file: Path, rows: TrainingRows) -> None:
    """Write fingerprints.

    Raises:
        WorkError: the file cannot be written.
    """
    arrays = _arrays(rows)
    content = b"".join(array.astype("<u8").tobytes() for array in arrays.values())
    header = {
        "schema": SCHEMA,
        "sha256": hashlib.sha256(content).hexdigest(),
        "arrays": {name: len(array) for name, array in arrays.items()},
    }
    write_bytes(file, json.dumps(header).encode() + b"\n" + content)


def read_training_rows(file: Path) -> TrainingRows | None:
    """Read fingerprints; None where there is no such file.

    Raises:
        UsageError: the file is damaged, or of another version.
    """
    if not file.is_file():
        return None
    first, _, content = file.read_bytes().partition(b"\n")
    try:
        header = parse_json(first)
        if header["schema"] != SCHEMA:
            raise UsageError(f"{file} has schema {header['schema']!r}, this version of lmtasks reads {SCHEMA}.")
        if header["sha256"] != hashlib.sha256(content).hexdigest():
            raise ValueError("its checksum is another")
        numbers, at = np.frombuffer(content, dtype="<u8").astype(np.uint64), 0
        arrays: dict[str, Hashes] = {}
        for name, length in header["arrays"].items():
            arrays[name] = numbers[at : at + int(length)]
            at += int(length)
        return TrainingRows(
            learned=RowHashes(rows=arrays["learned.rows"], targets=arrays["learned.targets"]),
            chosen=RowHashes(rows=arrays["chosen.rows"], targets=arrays["chosen.targets"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{file} is damaged ({error}): it says which rows the model was trained on. Copy the model again; without "
            "the file it is not known."
        ) from error


def _arrays(rows: TrainingRows) -> Mapping[str, Hashes]:
    learned, chosen = rows.learned.as_set(), rows.chosen.as_set()
    return {
        "learned.rows": learned.rows,
        "learned.targets": learned.targets,
        "chosen.rows": chosen.rows,
        "chosen.targets": chosen.targets,
    }


def _numbers(texts: RowTexts) -> tuple[int, int]:
    document, written = folded(texts.document), folded(texts.written)
    asked = _digest(document, 6) if document.strip("\x1f") else NO_TEXT
    row = (asked << int(TARGET_BITS)) | _digest(folded(texts.target), 2) if asked else NO_TEXT
    return row, (_digest(written, 8) or 1) if written else NO_TEXT


def _digest(text: str, size: int) -> int:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size)
    return int.from_bytes(digest.digest(), "little")


def _set(hashes: Hashes) -> Hashes:
    found = np.unique(hashes)
    kept: Hashes = found[found != NO_TEXT]
    return kept
