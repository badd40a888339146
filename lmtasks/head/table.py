"""The heads, one line each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import nn

from lmtasks.errors import unknown
from lmtasks.head.classification import ClassificationHead
from lmtasks.head.span import SpanHead
from lmtasks.head.tagging import TaggingHead
from lmtasks.records import HeadSpec


@dataclass(frozen=True, kw_only=True)
class HeadKind:
    """One kind of head."""

    about: str
    build: Callable[[HeadSpec, int], nn.Module | None]
    """(spec, width of the hidden states) -> module; None for a head without weights."""


def build_head(spec: HeadSpec, *, width: int) -> nn.Module | None:
    """The module of a head, freshly initialised; None for a head without weights."""
    if spec.kind not in HEADS:
        raise unknown("head", spec.kind, HEADS)
    return HEADS[spec.kind].build(spec, width)


def _classification(spec: HeadSpec, width: int) -> nn.Module:
    pooling = "mean" if spec.pooling == "own" else spec.pooling
    return ClassificationHead(width=width, classes=len(spec.labels), pooling=pooling)


HEADS: Mapping[str, HeadKind] = {
    "classification": HeadKind(about="one label for a text", build=_classification),
    "span": HeadKind(about="an answer that stands in the text", build=lambda spec, width: SpanHead(width=width)),
    "tagging": HeadKind(
        about="one label for every token",
        build=lambda spec, width: TaggingHead(width=width, classes=len(spec.labels)),
    ),
    "generation": HeadKind(about="an answer in free text, by the backbone's own projection", build=lambda *_: None),
}
