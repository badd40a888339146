"""The backbone that a model with adapters refers to: its weights lie in one place, however many models stand over it.

adapters/base.json
{"name": "lmtasks-mini", "weights_hash": "5c1e...", "places": ["../lmtasks-mini", "/data/lmtasks-mini"]}

Looked for in the model's own `backbone/` first, so that a model becomes whole by a copy of the weights; then in
`places`, relative to the model and absolute; then among the backbones that are shipped. Needs no torch.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from lmtasks.errors import UsageError
from lmtasks.files import parse_json
from lmtasks.installation import shipped_backbones
from lmtasks.model.files import has_weights

ADAPTERS = "adapters"
FILE = "base.json"


@dataclass(frozen=True, kw_only=True)
class Base:
    """Which backbone, and where it was."""

    name: str
    weights_hash: str
    """Of `base_facts` over its folder."""
    places: tuple[str, ...]


def write_base(folder: Path, *, base: Path, weights_hash: str) -> None:
    """Let the model in `folder`, or in a folder beside it, refer to the weights in `base`."""
    places = (os.path.relpath(base, folder), os.path.abspath(base))
    name = base.parent.name if (base.parent / "model.json").is_file() else base.name
    content = json.dumps(asdict(Base(name=name, weights_hash=weights_hash, places=places)), indent=2)
    (folder / ADAPTERS / FILE).write_text(content + "\n", encoding="utf-8")


def read_base(folder: Path) -> Base | None:
    """What the model in a folder refers to; None: it has weights of its own.

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
