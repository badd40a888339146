"""Vectors of texts on disk: one safetensors file, keyed by what each text says and by who made the vectors.

>>> text_key("One.") == text_key("One."), len(text_key("One."))
(True, 16)
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmtasks.errors import UsageError
from lmtasks.files import aside, first_line, parse_json
from lmtasks.settings.attention import Attention

KEY_BYTES = 16
FORMAT = "lmtasks-vectors-1"


@dataclass(frozen=True, kw_only=True)
class EmbeddingModel:
    """Who made vectors, and how texts were handed over."""

    name: str
    hash: str
    """Of weights and tokenizer; of a command its words."""
    pooling: str
    """`mean`, `first`, `last`; `command` where a program printed the vectors."""
    attention: Attention | None = None
    """How a causal backbone read; None: as it reads by itself."""
    prefix: str = ""
    """Put before each text."""
    max_length: int | None = None
    """Tokens of a text that were read; None: a program decided."""
    passages: int | None = None
    """UTF-8 bytes of the passages that documents were cut into; None: texts are whole."""
    note: str = ""
    """Terms of the encoder, and what it was tuned on, in the words of whoever made the file."""


@dataclass(frozen=True, kw_only=True)
class Vectors:
    """Vectors of N texts."""

    encoder: EmbeddingModel
    keys: tuple[bytes, ...]
    """N, of `text_key`, ascending."""
    values: NDArray[np.float16]
    """(N, D)"""
    hash: str
    """Of keys, values and encoder."""

    @property
    def width(self) -> int:
        """D."""
        return int(self.values.shape[1])


def text_key(text: str) -> bytes:
    """The key of a text: the first 16 bytes of the sha256 of its UTF-8."""
    return hashlib.sha256(text.encode()).digest()[:KEY_BYTES]


def write_vectors(
    file: Path, *, encoder: EmbeddingModel, vectors: Mapping[bytes, Sequence[float] | NDArray[np.float16]]
) -> None:
    """Write vectors aside and then put them in their place; of texts that are equal there is one.

    Raises:
        UsageError: there is none, or a value is not finite in 16 bits.
    """
    from safetensors.numpy import save_file

    if not vectors:
        raise UsageError("there is no text to make vectors of.")
    keys = sorted(vectors)
    with np.errstate(over="ignore"):  # looked for below
        values = np.stack([np.asarray(vectors[key], dtype=np.float16) for key in keys])
    if not np.isfinite(values).all():
        raise UsageError(f"{encoder.name} yields numbers that are not finite in 16 bits; look at its vectors.")
    tensors: dict[str, np.ndarray[Any, np.dtype[Any]]] = {
        "keys": np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(-1, KEY_BYTES),
        "vectors": values,
    }
    facts = {"format": FORMAT, "encoder": json.dumps(_facts(encoder)), "hash": _hash(keys, values, encoder)}
    with aside(file) as part:
        save_file(tensors, str(part), metadata=facts)


def read_vectors(file: Path) -> Vectors:
    """Read what `write_vectors` wrote.

    Raises:
        UsageError: no such file, one of another kind, or one that was cut short or changed.
    """
    from safetensors import SafetensorError, safe_open

    if not file.is_file():
        raise UsageError(f"{file} is no file of vectors; lmtasks embed makes one.")
    try:
        with safe_open(str(file), framework="numpy") as opened:
            facts = opened.metadata() or {}
            if facts.get("format") != FORMAT:
                raise UsageError(f"{file} holds other tensors than vectors of texts; lmtasks embed makes such a file.")
            raw, values = opened.get_tensor("keys"), opened.get_tensor("vectors")
    except (OSError, SafetensorError) as error:
        raise UsageError(
            f"{file} is cut short or damaged ({first_line(error)}); copy it again, or make it anew by lmtasks embed."
        ) from error
    encoder = EmbeddingModel(**parse_json(facts["encoder"]))
    keys = tuple(bytes(row) for row in raw)
    if _hash(keys, values, encoder) != facts.get("hash"):
        raise UsageError(f"{file} was changed since it was written: its vectors are not those that it names.")
    return Vectors(encoder=encoder, keys=keys, values=values, hash=facts["hash"])


def _facts(encoder: EmbeddingModel) -> Mapping[str, object]:
    """What came later is left out where nobody set it, so that older files keep their hash."""
    return {name: value for name, value in asdict(encoder).items() if name != "attention" or value is not None}


def _hash(keys: Sequence[bytes], values: NDArray[np.float16], encoder: EmbeddingModel) -> str:
    digest = hashlib.sha256(json.dumps(_facts(encoder), sort_keys=True).encode())
    digest.update(b"".join(keys))
    digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()[:16]
