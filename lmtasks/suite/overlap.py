"""Documents that stand both among the training rows (or the few-shot pool) and in the scored split.

Two documents are one where their inputs are the same text, white space aside. Of each only 8 bytes are kept, so a set
of a million rows takes 8 MB.
"""

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lmtasks.records import Row
from lmtasks.task.prompt import build_prompt
from lmtasks.task.roles import role_value
from lmtasks.task.task import Task

READ = ("text", "pair", "question", "context", "tokens")
"""Roles of what is read, not of what is answered."""


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """What a split shares with the scored one."""

    split: str
    rows: int
    """Scored rows whose document stands in the other split too."""
    first: int
    """The first of them; -1 where there is none."""


def document_of(task: Task, row: Row) -> str:
    """What a row asks, without its answer: what a head reads, else the question as it is prompted, with its choices."""
    roles = [role for role in READ if role in task.inputs]
    if roles:
        return "\x1f".join(str(role_value(task, row, role=role)) for role in roles)
    prompt = build_prompt(task, row)
    if task.output_type == "loglikelihood_rolling":
        return prompt.target
    # A text whose likelihood is asked for is all there is to it: a question alone may be empty.
    return "\x1f".join((prompt.context, *(prompt.choices or (prompt.delimiter + prompt.target,))))


class Documents:
    """Hashes of the documents of one split, in their order."""

    def __init__(self) -> None:
        self._hashes = array("Q")

    def add(self, text: str) -> None:
        """The next document; runs of white space count as one blank."""
        plain = " ".join(text.split()).encode("utf-8", "surrogatepass")
        self._hashes.append(int.from_bytes(hashlib.blake2b(plain, digest_size=8).digest(), "little"))

    def shared_with(self, others: Sequence["tuple[str, Documents]"]) -> tuple[Overlap, ...]:
        """What these, the scored ones, share with each other split."""
        mine = np.array(self._hashes, dtype=np.uint64)
        found = []
        for split, other in others:
            shared = np.flatnonzero(np.isin(mine, np.array(other._hashes, dtype=np.uint64)))
            first = int(shared[0]) if len(shared) else -1
            found.append(Overlap(split=split, rows=len(shared), first=first))
        return tuple(found)
