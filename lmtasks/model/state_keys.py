"""Keys of what a backbone that stands still makes of a row: equal where the states must be, and nowhere else."""

import hashlib
import json
import sys
from array import array
from collections.abc import Iterable
from importlib.metadata import version

from lmtasks.head import head_of
from lmtasks.model.files import settings_files
from lmtasks.model.model import Model
from lmtasks.records import HeadSpec

MEANING = 1
"""Raised when the same key would stand for other numbers, so that nothing older is found any more."""
KEY_BYTES = 16


def states_scope(model: Model, *, weights: str, device: str, precision: str) -> bytes:
    """All that states depend on besides a head's way to read and the row.

    Args:
        weights: hash of the backbone's.
        precision: of the products.
    """
    settings = [hashlib.sha256(file.read_bytes()).hexdigest() for file in settings_files(model.folder)]
    facts = {
        "meaning": [MEANING, sys.byteorder],
        "weights": weights,
        "settings": settings,
        "kind": model.card.kind,
        "computed": [device, precision],
        "libraries": [version("torch"), version("transformers")],
    }
    return hashlib.blake2b(json.dumps(facts).encode()).digest()


def state_key(scope: bytes, spec: HeadSpec, *, kind: str, ids: Iterable[int], types: Iterable[int] = ()) -> bytes:
    """The key of what a head reads of a row: its states, or one pooled state.

    Args:
        kind: of the model.
        ids: of the row, without padding.
    """
    read = "tokens" if head_of(spec).per_token else str(spec.pooling)
    if spec.attention == "both" and kind == "causal":  # else as the configuration says
        read = f"{read} both"
    digest = hashlib.blake2b(scope, digest_size=KEY_BYTES, person=read.encode())
    row = array("q", ids)
    digest.update(array("q", (len(row),)) + row + array("q", types))
    return digest.digest()
