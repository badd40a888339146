"""Settings of new backbones: bounds that all share, and how they are written, `lstm:width=200,layers=2`."""

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
    """Facts of a tokenizer that a new backbone is built by."""

    size: int
    bos: int | None
    eos: int | None
    pad: int
    mask: int | None = None
    """The token that hides others from an encoder."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Settings that all families share."""

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
class FittedSizes:
    """Settings of families that are fitted to their rows at once, with no steps and no gradients (`closed_form`)."""

    def __post_init__(self) -> None:
        for field in fields(self):
            whole = not isinstance(field.default, float)
            _check(field.name, getattr(self, field.name), least=LEAST.get(field.name, 1), whole=whole)


LEAST: Mapping[str, float] = {"ngrams": 0, "cutoffs": 0, "lines": 0, "fallback": 0, "strength": 1e-9}
"""Least values of settings that may be less than 1."""


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

    >>> from lmtasks.backbone.family import CnnSizes
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
