"""Checksums of what is stored: of a file's bytes, and of a JSON record over its own content.

>>> record = sealed({"n": 4, "acc": 0.75})
>>> is_whole(record), is_whole({**record, "acc": 0.76})
(True, False)

A record without a checksum was written by an earlier version, and is read as it was then.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from pathlib import Path

FIELD = "checksum"
"""Of a record: sha256 over all its other fields."""


def sealed(record: Mapping[str, object]) -> dict[str, object]:
    """The record with its checksum, as the last field."""
    content = {name: value for name, value in record.items() if name != FIELD}
    return {**content, FIELD: checksum_of(content)}


def is_whole(record: Mapping[str, object]) -> bool:
    """True where the record is what was written, or has no checksum."""
    return FIELD not in record or record[FIELD] == checksum_of(record)


def checksum_of(record: Mapping[str, object]) -> str:
    """sha256 over the fields of a record but for its checksum, whatever the order and the layout of its file."""
    plain = json.loads(json.dumps({name: value for name, value in record.items() if name != FIELD}))
    text = json.dumps(plain, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def file_checksum(file: Path) -> str:
    """sha256 of a file's bytes, read piece by piece."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def summed(pieces: Iterable[str], name: str, into: MutableMapping[str, str]) -> Iterator[str]:
    """The pieces of a text file, as they are; once all are taken, `into[name]` is the checksum of the file."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece.encode("utf-8", "surrogatepass"))
        yield piece
    into[name] = digest.hexdigest()
