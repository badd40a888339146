"""Counts and hashes of weights on disk, without torch: equal values, equal hash.

A large file is read once: its digests are kept in the cache folder, under the file's path, size, times of change, inode
and device, and believed for as long as these are the same. Both times count, since programs set one of them back.
Nothing that is wrong with the cache is an error.

A model with adapters refers to a backbone, whose weights lie in one place, however many models stand over it:

adapters/base.json
{"name": "lmtasks-mini", "weights_hash": "5c1e...", "places": ["../lmtasks-mini", "/data/lmtasks-mini"]}

Looked for in the model's own `backbone/` first, so that a model becomes whole by a copy of the weights; then in
`places`, relative to the model and absolute; then among the backbones that are shipped.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO

from lmtasks.checksums import is_whole, sealed
from lmtasks.errors import UsageError
from lmtasks.files import parse_json, write_files
from lmtasks.head.words import LOOKUP
from lmtasks.installation import cache_folder, shipped_backbones
from lmtasks.model.files import backbone_weights, has_weights

KEPT_FROM_BYTES = 4 * 2**20
"""A smaller file is read faster (10 ms) than it is worth remembering."""
MOST_KEPT = 1000
"""Files; of more the older half is forgotten."""
SETTLED_SECONDS = 1.0
"""A file that changed so lately may change again within one tick of the disk's clock: it is not remembered."""
AT_ONCE = 2**20
ADAPTERS = "adapters"
FILE = "base.json"
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
HEADS = "heads"
NO_WEIGHTS = frozenset(f"words.{name}" for name in LOOKUP)
"""Tensors of a head that no product is made with."""


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


@dataclass(frozen=True, kw_only=True)
class Base:
    """Which backbone, and where it was."""

    name: str
    weights_hash: str
    """Of `base_facts` over its folder."""
    places: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class WeightFacts:
    """Facts of weights that need no loading."""

    parameters: int
    hash: str
    size_bytes: int


def weight_files(folder: Path) -> tuple[Path, ...]:
    """All weight files that a model is loaded from, and no others: of its backbone, wherever that lies, of its heads
    and of its adapters.

    Raises:
        UsageError: the backbone's weights are nowhere, or an index of them is wrong.
    """
    home = weights_home(folder)
    beside = _weights_beside_backbone(folder)
    # A family that is fitted at once may be nothing but its heads.
    return (*(backbone_weights(home) if has_weights(home) or not beside else ()), *beside)


def weight_facts(folder: Path) -> WeightFacts:
    """Facts of the weight files of a model.

    The hash runs over name, type, shape and bytes of each tensor, in the order of the names: it does not depend on
    how the tensors are spread over files. `.bin` files are hashed as they are, and their parameters not counted.
    Adapters count in the hash with their settings, but not as parameters: they are merged when the model is loaded.

    Raises:
        UsageError: no weights there, a file that is cut short, or adapters that belong to other weights.
    """
    base = read_base(folder)
    beside = _weights_beside_backbone(folder)
    settings = {
        f"{place.name}/{ADAPTER_CONFIG}": file_hash(place / ADAPTER_CONFIG)
        for place in adapter_folders(folder)
        if (place / ADAPTER_CONFIG).is_file()
    }
    if base is None:
        files = weight_files(folder)
        return _joined_facts([file for file in files if file not in beside], beside, settings)
    home = weights_home(folder)
    below = base_facts(home)
    if below.hash != base.weights_hash:
        raise UsageError(
            f"the adapters in {folder} belong to the backbone {base.name!r} with the weights {base.weights_hash}, and "
            f"{home} has {below.hash} now; put the right ones there, or into {folder / 'backbone'}."
        )
    if not beside and not settings:  # the same weights, read otherwise
        return below
    own = _joined_facts((), beside, {"base": below.hash, **settings})
    return replace(own, parameters=own.parameters + below.parameters, size_bytes=own.size_bytes + below.size_bytes)


def base_facts(home: Path) -> WeightFacts:
    """Facts of the weights that a backbone is loaded from."""
    return _joined_facts(backbone_weights(home), (), {})


def adapter_folders(folder: Path) -> tuple[Path, ...]:
    """The adapters of a model, in the order in which they are merged."""
    places = [place for place in (folder / ADAPTERS).glob("*") if place.is_dir()]
    return tuple(sorted(places, key=lambda place: (len(place.name), place.name)))


def head_names(folder: Path) -> tuple[str, ...]:
    """The heads that a model's card names; none for a bare backbone.

    Raises:
        UsageError: the card is damaged.
    """
    file = folder / "model.json"
    if not file.is_file():
        return ()
    try:
        return tuple(str(head["name"]) for head in parse_json(file.read_text(encoding="utf-8"))["card"]["heads"])
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{file} is damaged: {error}.") from error


def _weights_beside_backbone(folder: Path) -> tuple[Path, ...]:
    """The weights of heads and adapters."""
    found = [place / ADAPTER_WEIGHTS for place in adapter_folders(folder)]
    found += [folder / HEADS / name / "head.safetensors" for name in head_names(folder)]
    return tuple(file for file in found if file.is_file())


def _joined_facts(backbone: Sequence[Path], beside: Sequence[Path], known: Mapping[str, str]) -> WeightFacts:
    digests = dict(known)
    parameters = 0
    for file in (*backbone, *beside):
        found = digest_of(file)
        if file.suffix != ".safetensors":
            digests[file.name] = found.hash
            continue
        prefix = f"{file.parent.name}/" if file in beside else ""
        for tensor in found.tensors:
            digests[prefix + tensor.name] = tensor.hash
            parameters += 0 if file.name == ADAPTER_WEIGHTS or tensor.name in NO_WEIGHTS else tensor.count
    joined = hashlib.sha256("".join(f"{name}{digests[name]}" for name in sorted(digests)).encode())
    return WeightFacts(
        parameters=parameters,
        hash=joined.hexdigest()[:16],
        size_bytes=sum(file.stat().st_size for file in (*backbone, *beside)),
    )


def file_hash(file: Path) -> str:
    """First 16 hex digits of a file's sha256."""
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]


def write_base(folder: Path, *, base: Path, weights_hash: str) -> None:
    """Let the model in `folder`, or in a folder beside it, refer to the weights in `base`."""
    places = (os.path.relpath(base, folder), os.path.abspath(base))
    name = base.parent.name if (base.parent / "model.json").is_file() else base.name
    content = json.dumps(asdict(Base(name=name, weights_hash=weights_hash, places=places)), indent=2)
    (folder / ADAPTERS / FILE).write_text(content + "\n", encoding="utf-8")


def read_base(folder: Path) -> Base | None:
    """The backbone that the model in a folder refers to; None: it has weights of its own.

    Raises:
        UsageError: the file is damaged.
    """
    file = folder / ADAPTERS / FILE
    if not file.is_file():
        return None
    try:
        content = parse_json(file.read_text(encoding="utf-8"))
        return Base(**{**content, "places": tuple(map(str, content["places"]))})
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{file} is damaged: {error!r}.") from error


def weights_home(folder: Path) -> Path:
    """The folder that holds the weights of a model's backbone, whether its own or the one that it refers to.

    Raises:
        UsageError: the backbone that it refers to is nowhere.
    """
    base = read_base(folder)
    own = folder / "backbone" if base is not None or (folder / "model.json").is_file() else folder
    if base is None or has_weights(own):
        return own
    for place in _candidates(folder, base):
        if has_weights(place):
            return place
    raise UsageError(
        f"the adapters in {folder} stand over the backbone {base.name!r} (weights {base.weights_hash}), which is not "
        f"at {base.places[-1]} any more; put it there, or copy its weights into {own}."
    )


def _candidates(folder: Path, base: Base) -> Iterator[Path]:
    yield from (folder / place for place in base.places)  # an absolute place stays what it is
    yield shipped_backbones() / base.name


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
