"""The shapes of new backbones, family by family, and how they are written: `lstm:width=200,layers=2`."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TypeVar

from lmtasks.errors import UsageError, unknown
from lmtasks.settings.bounds import MOST

FAMILY = "lmtasks_family"
"""Key in config.json that names a family of ours."""
NO_LIMIT = 1 << 20
"""Longest input of families without positions: longer than any text here, and still a number."""
SHARES = frozenset({"dropout", "word_dropout"})
"""Settings that are shares, 0 or more and less than 1."""


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """What a new backbone must know of its tokenizer."""

    size: int
    bos: int | None
    eos: int | None
    pad: int
    mask: int | None = None
    """What hides a token from an encoder."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What all families share."""

    width: int = 256
    dropout: float = 0.0
    context: int = 512
    """Longest input in tokens."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in SHARES:
                if not 0 <= value < 1:
                    raise UsageError(f"{field.name} must be 0 or more and less than 1, was {value}.")
                continue
            least = 0 if field.name == "buckets" else 1
            _check(f"{field.name} of a backbone", value, least=least, whole=True)


@dataclass(frozen=True, kw_only=True)
class TransformerSizes(Sizes):
    """Of all transformers families."""

    layers: int = 6
    heads: int = 4
    inner: int = 640
    """Width of the feed-forward layer."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % self.heads:
            raise UsageError(f"width must be a multiple of heads, was {self.width} with {self.heads} heads.")


@dataclass(frozen=True, kw_only=True)
class OwnSizes(Sizes):
    """Of the families of this folder."""

    word_dropout: float = 0.0
    """Share of the vocabulary that a training step does not see."""


@dataclass(frozen=True, kw_only=True)
class AverageSizes(OwnSizes):
    """Of averaged embeddings."""

    width: int = 50
    context: int = NO_LIMIT
    buckets: int = 200_000
    """Vectors that all pairs of neighbours share, by a hash; 0: single tokens only."""


@dataclass(frozen=True, kw_only=True)
class CnnSizes(OwnSizes):
    """Of a convolution over embeddings."""

    width: int = 128
    """Of the embeddings."""
    filters: int = 100
    """Of each width."""
    widths: tuple[int, ...] = (3, 4, 5)
    """Tokens that a filter looks at."""
    dropout: float = 0.5
    context: int = NO_LIMIT


@dataclass(frozen=True, kw_only=True)
class RecurrentSizes(OwnSizes):
    """Of recurrent families; dropout is variational, one mask for all times."""

    width: int = 200
    layers: int = 2
    dropout: float = 0.3
    context: int = NO_LIMIT


@dataclass(frozen=True, kw_only=True)
class BidirectionalSizes(RecurrentSizes):
    """Of those that read both ways, half of the width for each."""

    width: int = 256
    layers: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % 2:
            raise UsageError(f"width must be even, half of it for each way, was {self.width}.")


@dataclass(frozen=True, kw_only=True)
class FittedSizes:
    """Of families that are fitted to their rows at once, with no steps and no gradients (`fitted`)."""

    def __post_init__(self) -> None:
        for field in fields(self):
            whole = not isinstance(field.default, float)
            _check(field.name, getattr(self, field.name), least=LEAST.get(field.name, 1), whole=whole)


LEAST: Mapping[str, float] = {"ngrams": 0, "cutoffs": 0, "lines": 0, "fallback": 0, "strength": 1e-9}
"""Least values of settings that may be less than 1."""


@dataclass(frozen=True, kw_only=True)
class NgramSizes(FittedSizes):
    """Of n-gram language models."""

    order: int = 5
    """Tokens of the longest n-grams."""
    cutoffs: tuple[int, ...] = (0,)
    """n-grams that stand in the text so often or less are left out, order by order, the last number for all further
    ones; single tokens always stay."""
    lines: int = 1
    """1: the end of a line is looked back to, and not over, where it is a token of its own; 0: only that of a text."""
    fallback: int = 0
    """1: an order whose counts define no discounts gets 0.5, 1 and 1.5; 0: it is an error."""


@dataclass(frozen=True, kw_only=True)
class TermSizes(FittedSizes):
    """Of linear classifiers over terms: tokens, and runs of neighbours."""

    ngrams: int = 0
    """Tokens of the longest terms; 0: two, or three where the tokens are mostly characters."""
    least: int = 1
    """Training rows that a term stands in, at least."""
    strength: float = 1.0
    """C of scikit-learn's classifiers, the inverse of the penalty on weights; what naive Bayes adds to every count."""


def _check(name: str, value: object, *, least: float, whole: bool) -> None:
    """Raises: UsageError: one of the numbers is none, as in a damaged file, or is out of bounds."""
    for each in value if isinstance(value, tuple) else (value,):
        kinds = (int,) if whole else (int, float)
        if isinstance(each, bool) or not isinstance(each, kinds) or not each <= MOST:
            raise UsageError(f"{name} must be a {'whole ' * whole}number of at most {MOST:,}, was {str(value)[:40]}.")
        if each < least:
            raise UsageError(f"{name} must be at least {least}, was {value}.")


_Shape = TypeVar("_Shape", bound=Sizes | FittedSizes)


def read_sizes(text: str, default: _Shape) -> _Shape:
    """The shape that a family's settings describe; numbers of a list stand with `+` between.

    >>> read_sizes("cnn:widths=2+3", CnnSizes()).widths
    (2, 3)

    Raises:
        UsageError: unknown setting, or a value that is not a number or does not fit.
    """
    name, _, settings = text.partition(":")
    known = {field.name: type(getattr(default, field.name)) for field in fields(default)}
    given: dict[str, object] = {}
    for item in filter(None, settings.split(",")):
        key, _, value = item.partition("=")
        if key not in known:
            raise unknown(f"setting of {name}", key, known, hint=f"Written as {name}:width=128.")
        try:
            given[key] = tuple(map(int, value.split("+"))) if known[key] is tuple else known[key](value)
        except ValueError:
            raise UsageError(f"{text!r}: {key} must be a number, was {value!r}.") from None
    try:
        return replace(default, **given)  # type: ignore[arg-type]  # keys and types were checked above
    except UsageError as error:
        raise UsageError(f"{text!r}: {error}") from None
