"""Counts and hashes of weights on disk, without torch: equal values, equal hash.

A model with adapters refers to a backbone, whose weights lie in one place, however many models stand over it:

adapters/base.json
{"name": "lmtasks-mini", "weights_hash": "5c1e...", "places": ["../lmtasks-mini", "/data/lmtasks-mini"]}

Looked for in the model's own `backbone/` first, so that a model becomes whole by a copy of the weights; then in
`places`, relative to the model and absolute; then among the backbones that are shipped.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from lmtasks.errors import UsageError
from lmtasks.files import parse_json
from lmtasks.installation import shipped_backbones
from lmtasks.model.digests import digest_of
from lmtasks.model.files import backbone_weights, has_weights

ADAPTERS = "adapters"
FILE = "base.json"
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
HEADS = "heads"


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
    beside = _beside(folder)
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
    beside = _beside(folder)
    settings = {
        f"{place.name}/{ADAPTER_CONFIG}": file_hash(place / ADAPTER_CONFIG)
        for place in adapter_folders(folder)
        if (place / ADAPTER_CONFIG).is_file()
    }
    if base is None:
        files = weight_files(folder)
        return _facts([file for file in files if file not in beside], beside, settings)
    home = weights_home(folder)
    below = base_facts(home)
    if below.hash != base.weights_hash:
        raise UsageError(
            f"the adapters in {folder} belong to the backbone {base.name!r} with the weights {base.weights_hash}, and "
            f"{home} has {below.hash} now; put the right ones there, or into {folder / 'backbone'}."
        )
    if not beside and not settings:  # the same weights, read otherwise
        return below
    own = _facts((), beside, {"base": below.hash, **settings})
    return replace(own, parameters=own.parameters + below.parameters, size_bytes=own.size_bytes + below.size_bytes)


def base_facts(home: Path) -> WeightFacts:
    """Facts of the weights that a backbone is loaded from."""
    return _facts(backbone_weights(home), (), {})


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


def _beside(folder: Path) -> tuple[Path, ...]:
    """The weights of heads and adapters."""
    found = [place / ADAPTER_WEIGHTS for place in adapter_folders(folder)]
    found += [folder / HEADS / name / "head.safetensors" for name in head_names(folder)]
    return tuple(file for file in found if file.is_file())


def _facts(backbone: Sequence[Path], beside: Sequence[Path], known: Mapping[str, str]) -> WeightFacts:
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
            parameters += 0 if file.name == ADAPTER_WEIGHTS else tensor.count
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
