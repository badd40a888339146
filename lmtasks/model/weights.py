"""Counts and hashes of weights on disk, without torch: equal values, equal hash."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lmtasks.errors import UsageError
from lmtasks.files import parse_json
from lmtasks.model.base import ADAPTERS, read_base, weights_home
from lmtasks.model.digests import digest_of
from lmtasks.model.files import backbone_weights, has_weights

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
HEADS = "heads"


@dataclass(frozen=True, kw_only=True)
class WeightFacts:
    """What can be said of weights without loading them."""

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
