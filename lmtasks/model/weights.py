"""Counts and hashes of weights on disk, without torch: equal values, equal hash."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from lmtasks.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class WeightFacts:
    """What can be said of weights without loading them."""

    parameters: int
    hash: str
    size_bytes: int


def weight_facts(folder: Path) -> WeightFacts:
    """Facts of all weight files in a folder and its heads.

    The hash runs over name, type, shape and bytes of each tensor, in the order of the names: it does not depend on
    how the tensors are spread over files. `.bin` files are hashed as they are, and their parameters not counted.

    Raises:
        UsageError: no weights there, or a file that is cut short.
    """
    files = sorted(folder.rglob("*.safetensors")) or sorted(folder.rglob("pytorch_model*.bin"))
    if not files:
        raise UsageError(f"{folder} has no weights: neither *.safetensors nor pytorch_model*.bin.")
    digests: dict[str, str] = {}
    parameters = 0
    for file in files:
        if file.suffix == ".bin":
            digests[file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
            continue
        prefix = "" if file.parent.name == "backbone" or file.parent == folder else f"{file.parent.name}/"
        for name, digest, count in _tensors(file):
            digests[prefix + name] = digest
            parameters += count
    joined = hashlib.sha256("".join(f"{name}{digests[name]}" for name in sorted(digests)).encode())
    return WeightFacts(
        parameters=parameters, hash=joined.hexdigest()[:16], size_bytes=sum(file.stat().st_size for file in files)
    )


def _tensors(file: Path) -> list[tuple[str, str, int]]:
    """(name, digest, number of values) of each tensor in a safetensors file (format: 8 bytes length, JSON, data)."""
    raw = file.read_bytes()
    try:
        header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    except ValueError as error:
        raise UsageError(f"{file} is not a safetensors file: {error}") from error
    start = 8 + int.from_bytes(raw[:8], "little")
    found = []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        first, last = entry["data_offsets"]
        if start + last > len(raw):
            raise UsageError(f"{file} is cut short: tensor {name!r} ends behind the file; copy it again.")
        count = 1
        for size in entry["shape"]:
            count *= size
        digest = hashlib.sha256(f"{name} {entry['dtype']} {entry['shape']}".encode())
        digest.update(memoryview(raw)[start + first : start + last])
        found.append((name, digest.hexdigest(), count))
    return found


def file_hash(file: Path) -> str:
    """First 16 hex digits of a file's sha256."""
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]
