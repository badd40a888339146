"""The content of a file of a model in one hash; of weights also tensor by tensor.

A large file is read once: what was found is kept in the cache folder, under the file's path, size, times of change,
inode and device, and believed for as long as these are the same. Both times count, since programs set one of them back.
Nothing that is wrong with the cache is an error.
"""

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from lmtasks.checksums import is_whole, sealed
from lmtasks.errors import UsageError
from lmtasks.files import parse_json, write_files
from lmtasks.installation import cache_folder

KEPT_FROM_BYTES = 4 * 2**20
"""A smaller file is read faster (10 ms) than it is worth remembering."""
MOST_KEPT = 1000
"""Files; of more the older half is forgotten."""
SETTLED_SECONDS = 1.0
"""A file that changed so lately may change again within one tick of the disk's clock: it is not remembered."""
AT_ONCE = 2**20


@dataclass(frozen=True, kw_only=True)
class TensorDigest:
    """One tensor of a file."""

    name: str
    hash: str
    """sha256 over name, type, shape and bytes."""
    count: int
    """Of its numbers."""


@dataclass(frozen=True, kw_only=True)
class FileDigest:
    """One file."""

    hash: str
    """sha256: of a safetensors file over its tensors in the order of their names, of any other over its bytes."""
    tensors: tuple[TensorDigest, ...] = ()


def digest_of(file: Path) -> FileDigest:
    """The digest of a file, from memory where the file is the one that was read before.

    Raises:
        UsageError: a safetensors file that is cut short, or none at all.
    """
    size = file.stat().st_size
    place = cache_folder() / "digests" / f"{hashlib.sha256(str(file.absolute()).encode()).hexdigest()[:32]}.json"
    facts = _facts(file)
    if size >= KEPT_FROM_BYTES and (known := _recall(place, facts)) is not None:
        return known
    made = _of_tensors(file) if file.suffix == ".safetensors" else _of_bytes(file)
    settled = time.time_ns() - max(facts[1:3]) > SETTLED_SECONDS * 1e9
    if size >= KEPT_FROM_BYTES and settled and _facts(file) == facts:
        _remember(place, facts, made)
    return made


def _facts(file: Path) -> list[int]:
    """What changes where a file does: [size, modified, changed, inode, device]."""
    stat = file.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, stat.st_dev]


def _of_bytes(file: Path) -> FileDigest:
    with file.open("rb") as stream:
        return FileDigest(hash=hashlib.file_digest(stream, "sha256").hexdigest())


def _of_tensors(file: Path) -> FileDigest:
    tensors = tuple(sorted(_tensors(file), key=lambda tensor: tensor.name))
    return FileDigest(hash=_joined(tensors), tensors=tensors)


def _joined(tensors: tuple[TensorDigest, ...]) -> str:
    return hashlib.sha256("".join(f"{tensor.name}{tensor.hash}" for tensor in tensors).encode()).hexdigest()


def _tensors(file: Path) -> Iterator[TensorDigest]:
    """Each tensor in a safetensors file (format: 8 bytes length, JSON, data)."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        try:
            if length > size:
                raise ValueError(f"its header would have {length} bytes, the file has {size}")
            header = parse_json(stream.read(length))
            entries = [
                (int(first), int(last), str(name), str(entry["dtype"]), [int(side) for side in entry["shape"]])
                for name, entry in header.items()
                if name != "__metadata__"
                for first, last in [entry["data_offsets"]]
            ]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(f"{file} is not a safetensors file, or is damaged: {error}; copy it again.") from error
        for first, last, name, dtype, shape in sorted(entries):
            if 8 + length + last > size:
                raise UsageError(f"{file} is cut short: tensor {name!r} ends behind the file; copy it again.")
            digest = hashlib.sha256(f"{name} {dtype} {shape}".encode())
            stream.seek(8 + length + first)
            for piece in _pieces(stream, last - first):
                digest.update(piece)
            count = 1
            for side in shape:
                count *= side
            yield TensorDigest(name=name, hash=digest.hexdigest(), count=count)


def _pieces(stream: IO[bytes], size: int) -> Iterator[bytes]:
    while size > 0 and (piece := stream.read(min(size, AT_ONCE))):
        size -= len(piece)
        yield piece


def _recall(place: Path, facts: list[int]) -> FileDigest | None:
    with suppress(OSError, ValueError, KeyError, TypeError):
        content = parse_json(place.read_text(encoding="utf-8"))
        if is_whole(content) and content["facts"] == facts:
            tensors = tuple(TensorDigest(**each) for each in content["digest"]["tensors"])
            return FileDigest(hash=content["digest"]["hash"], tensors=tensors)
    return None


def _remember(place: Path, facts: list[int], digest: FileDigest) -> None:
    with suppress(OSError):
        text = json.dumps(sealed({"facts": facts, "digest": asdict(digest)}))
        write_files(place.parent, {place.name: [text]})
        kept = sorted(place.parent.glob("*.json"), key=lambda file: file.stat().st_mtime_ns)
        for old in kept[: len(kept) // 2] if len(kept) > MOST_KEPT else ():
            old.unlink(missing_ok=True)
