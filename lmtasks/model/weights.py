"""Counts and hashes of weights on disk, without torch: equal values, equal hash."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lmtasks.errors import UsageError
from lmtasks.model.base import ADAPTERS, read_base, weights_home


@dataclass(frozen=True, kw_only=True)
class WeightFacts:
    """What can be said of weights without loading them."""

    parameters: int
    hash: str
    size_bytes: int


def weight_files(folder: Path) -> tuple[Path, ...]:
    """All weight files that a model is loaded from: in its folder, and of the backbone that its adapters stand over.

    Raises:
        UsageError: that backbone is nowhere.
    """
    if read_base(folder) is None:
        return tuple(sorted(folder.rglob("*.safetensors")) or sorted(folder.rglob("pytorch_model*.bin")))
    home = weights_home(folder)
    return (*_beside(folder, home), *_directly(home))


def weight_facts(folder: Path) -> WeightFacts:
    """Facts of all weight files in a folder and its heads.

    The hash runs over name, type, shape and bytes of each tensor, in the order of the names: it does not depend on
    how the tensors are spread over files. `.bin` files are hashed as they are, and their parameters not counted.
    Adapters count in the hash with their settings, but not as parameters: they are merged when the model is loaded.

    Raises:
        UsageError: no weights there, a file that is cut short, or adapters that belong to other weights.
    """
    base = read_base(folder)
    if base is None:
        return _facts(folder, weight_files(folder), {})
    home = weights_home(folder)
    below = base_facts(home)
    if below.hash != base.weights_hash:
        raise UsageError(
            f"the adapters in {folder} belong to the backbone {base.name!r} with the weights {base.weights_hash}, and "
            f"{home} has {below.hash} now; put the right ones there, or into {folder / 'backbone'}."
        )
    settings = {
        f"{file.parent.name}/{file.name}": file_hash(file) for file in sorted((folder / ADAPTERS).glob("*/*.json"))
    }
    beside = _beside(folder, home)
    if not beside and not settings:  # the same weights, read otherwise
        return below
    own = _facts(folder, beside, {"base": below.hash, **settings})
    return replace(own, parameters=own.parameters + below.parameters, size_bytes=own.size_bytes + below.size_bytes)


def base_facts(home: Path) -> WeightFacts:
    """Facts of the weights that lie in a folder itself, and not below it."""
    return _facts(home, _directly(home), {})


def _directly(home: Path) -> list[Path]:
    return sorted(home.glob("*.safetensors")) or sorted(home.glob("pytorch_model*.bin"))


def _beside(folder: Path, home: Path) -> list[Path]:
    return [file for file in sorted(folder.rglob("*.safetensors")) if file.parent != home]


def _facts(folder: Path, files: Sequence[Path], known: Mapping[str, str]) -> WeightFacts:
    if not files:
        raise UsageError(f"{folder} has no weights: neither *.safetensors nor pytorch_model*.bin.")
    digests = dict(known)
    parameters = 0
    for file in files:
        if file.suffix == ".bin":
            digests[file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
            continue
        prefix = "" if file.parent.name == "backbone" or file.parent == folder else f"{file.parent.name}/"
        for name, digest, count in _tensors(file):
            digests[prefix + name] = digest
            parameters += 0 if file.parent.parent.name == ADAPTERS else count
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
