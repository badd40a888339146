"""Documents that stand both among the training rows (or the few-shot pool) and in the scored split.

Two documents are one where their inputs are the same text, white space aside. Of each only 8 bytes are kept, so a set
of a million rows takes 8 MB.
"""

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lmtasks.task.identity import document_of, folded

__all__ = ["DocumentHashes", "Overlap", "document_of"]


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """What a split shares with the scored one."""

    split: str
    rows: int
    """Scored rows whose document stands in the other split too."""
    first: int
    """The first of them; -1 where there is none."""
    targets: int = 0
    """Scored rows whose right text is one there, where right answers are texts of their own."""


class DocumentHashes:
    """Hashes of the documents of one split, in their order."""

    def __init__(self) -> None:
        self._hashes = array("Q")
        self._targets = array("Q")

    def add(self, text: str, *, target: str = "") -> None:
        """The next document, and its right answer where that is a text; runs of white space count as one blank."""
        self._hashes.append(_hash(text))
        if target:
            self._targets.append(_hash(target))

    def shared_with(self, others: Sequence["tuple[str, DocumentHashes]"]) -> tuple[Overlap, ...]:
        """What these, the scored ones, share with each other split."""
        mine, targets = np.array(self._hashes, dtype=np.uint64), np.array(self._targets, dtype=np.uint64)
        found = []
        for split, other in others:
            shared = np.flatnonzero(np.isin(mine, np.array(other._hashes, dtype=np.uint64)))
            first = int(shared[0]) if len(shared) else -1
            texts = int(np.isin(targets, np.array(other._targets, dtype=np.uint64)).sum())
            found.append(Overlap(split=split, rows=len(shared), first=first, targets=texts))
        return tuple(found)


def _hash(text: str) -> int:
    plain = folded(text).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(plain, digest_size=8).digest(), "little")
