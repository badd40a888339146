"""Keys of answers: all that an answer depends on, in 16 bytes. Two requests share a key only if they must have the same
answer.

A key is a hash over a scope and a request. The scope is everything that stays while a model is loaded: weights,
settings, tokenizer, runtime with its version, device, precision and options, and the versions of the code between.
Whatever is in doubt is part of it: a miss costs time, a wrong hit costs the truth.
"""

import json
import sys
from array import array
from dataclasses import asdict
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version

from lmtasks.data.tokenizer import Tokenizer
from lmtasks.engine.engine import HeadRow
from lmtasks.engine.requests import Decoding, GenerateRequest, ScoreRequest
from lmtasks.errors import UsageError
from lmtasks.records import ModelCard, RuntimeCard
from lmtasks.settings.runtimes import is_cached, libraries_of
from lmtasks.version import __version__

KEY_BYTES = 16

MEANING = 2
"""Raised when the engine changes what it answers to the same request, so that no older answer hits any more."""

NO_MATTER = ("name", "adaptation", "parameters", "heads")
"""Of a model's card: what people read, and the heads, of which only the one that is asked counts."""


def scope_of(*, model: ModelCard, runtime: RuntimeCard, tokenizer: Tokenizer, artefact: str) -> bytes:
    """The hash of all that the answers of a loaded model have in common.

    Args:
        artefact: identifies what was loaded beside the weights: a model's settings, or a package's graphs.

    Raises:
        UsageError: the answers of this precision depend on more than their requests.
    """
    if not is_cached(runtime.precision):
        raise UsageError(
            f"answers in {runtime.precision} depend on their neighbours in the batch, so they are never kept."
        )
    card = asdict(model)
    facts = {
        "meaning": [MEANING, __version__, sys.byteorder],
        "model": {name: value for name, value in card.items() if name not in NO_MATTER},
        "artefact": artefact,
        "tokenizer": [tokenizer.hash, tokenizer.bos, tokenizer.eos, tokenizer.pad, tokenizer.takes_types],
        "runtime": [runtime.runtime, runtime.version, runtime.device, runtime.precision, dict(runtime.options)],
        "libraries": {name: _version(name) for name in libraries_of(runtime.runtime)},
    }
    return blake2b(_bytes(facts), digest_size=32).digest()


class Keys:
    """Keys of requests under one scope.

    Args:
        scope: of `scope_of`.
        model: its heads tell what a head's name stands for.
    """

    def __init__(self, scope: bytes, *, model: ModelCard) -> None:
        self._scope = scope
        self._heads = {head.name: asdict(head) for head in model.heads}
        self._score = self._begun("score", None)
        self._predict: dict[str, blake2b] = {}
        self._generate: dict[Decoding, blake2b] = {}

    def of_score(self, request: ScoreRequest) -> bytes:
        """Context and target, uncut: where they are cut is the model's longest input, which is in the scope."""
        context, target = request.context_ids, request.target_ids
        return _key(self._score, array("q", (len(context), *context, *target)))

    def of_row(self, head: str, row: HeadRow) -> bytes:
        """A row for a head."""
        if head not in self._predict:
            self._predict[head] = self._begun("predict", self._heads.get(head, head))
        return _key(self._predict[head], array("q", (len(row.ids), *row.ids, *row.types)))

    def of_prompt(self, request: GenerateRequest, *, number: int) -> bytes:
        """A prompt with its settings; with seed and number only where something is drawn."""
        settings = request.settings
        if settings not in self._generate:
            self._generate[settings] = self._begun("generate", asdict(settings))
        key = _key(self._generate[settings], array("q", request.prompt_ids))
        if settings.temperature == 0:
            return key
        return blake2b(key + f"{request.seed}/{number}".encode(), digest_size=KEY_BYTES).digest()

    def _begun(self, kind: str, settings: object) -> blake2b:
        digest = blake2b(self._scope, digest_size=KEY_BYTES)
        digest.update(_bytes([kind, settings]))
        return digest


def _key(begun: blake2b, numbers: "array[int]") -> bytes:
    digest = begun.copy()
    digest.update(numbers)
    return digest.digest()


def _bytes(facts: object) -> bytes:
    # Floats are written so that they can be read back exactly; two settings never share a text.
    return json.dumps(facts, sort_keys=True, ensure_ascii=True, separators=(",", ":")).encode() + b"\0"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
