"""What a contender of the runtimes race has to do, and how it deals inputs into batches."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

Work = Mapping[str, Any]
Inputs = Sequence[Sequence[int]]
Answers = list[list[int]]


class Contestant(Protocol):
    """One side: `open` sets it up for a work, `answer` gives token ids (or one label) for each input, in the order of
    the inputs."""

    def __init__(self, asked: Mapping[str, Any]) -> None: ...
    def versions(self) -> Mapping[str, str]: ...
    def open(self, work: Work) -> None: ...
    def answer(self, work: Work, inputs: Inputs) -> Answers: ...


class Stepper(Contestant, Protocol):
    """A side that is also asked what happens between two tokens, or how fast memory can be read meanwhile."""

    def steps(self, work: Work, inputs: Inputs) -> dict[str, Any]: ...


OWN_BATCHES = (8, 16, 32, 64)
"""Tried where a contender is to have its own best batch, and does not choose one itself."""


def batches(work: Work, inputs: Inputs) -> list[list[int]]:
    """Places of inputs in batches of about equal lengths, long ones first."""
    order = sorted(range(len(inputs)), key=lambda at: -len(inputs[at]))
    return [order[start : start + work["batch"]] for start in range(0, len(order), work["batch"])]
