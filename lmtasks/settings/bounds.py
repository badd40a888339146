"""Bounds of numbers, declared once and held wherever one comes from: an option, a plan's key, an argument."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmtasks.errors import UsageError

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, ValidatorFunctionWrapHandler
    from pydantic_core import CoreSchema

MOST = 10**9
"""Limit of counts that nothing else limits: behind it lie numbers that no machine word holds."""
MOST_SEED = 2**32 - 1
"""NumPy's older streams and scikit-learn take no more."""


@dataclass(frozen=True, kw_only=True)
class Bound:
    """An interval of numbers, its ends included unless said otherwise. No bound holds for nan and infinite numbers."""

    least: float = -math.inf
    most: float = math.inf
    above: bool = False
    """Is `least` itself left out?"""
    below: bool = False
    """Is `most` itself left out?"""
    whole: bool = False

    def holds(self, value: float) -> bool:
        """Is the number within?"""
        if isinstance(value, float) and (not math.isfinite(value) or (self.whole and not value.is_integer())):
            return False
        low = value > self.least if self.above else value >= self.least
        return low and (value < self.most if self.below else value <= self.most)

    def check(self, name: str, value: float | None) -> None:
        """Nothing where it is None or holds.

        Raises:
            UsageError: what was given, and what is allowed.

        >>> Bound(least=0, above=True).check("learning_rate", float("nan"))
        Traceback (most recent call last):
        ...
        lmtasks.errors.UsageError: learning rate must be a number above 0, was nan.
        """
        if value is not None and not self.holds(value):
            raise UsageError(f"{name.replace('_', ' ')} {self.complaint(value, given=value)}.")

    def complaint(self, value: float | None, *, given: object) -> str:
        """End of a sentence that begins with the name of a setting that does not hold.

        Args:
            value: what was given, as a number; None: it is none.

        >>> Bound(least=1, whole=True, most=MOST).complaint(None, given="ten")
        "must be a whole number of at least 1, was 'ten'"
        """
        above = value is not None and not self.below and self.most < value < math.inf
        return f"must be {f'at most {self.most:,}' if above else self.words}, was {shown(given)}"

    @property
    def words(self) -> str:
        """For people.

        >>> Bound(least=0, most=1, below=True).words, Bound(least=1, whole=True, most=MOST).words
        ('a number of at least 0 and below 1', 'a whole number of at least 1')
        """
        ends = []
        if self.least > -math.inf:
            ends.append(f"{'above' if self.above else 'of at least'} {self.least:,.10g}")
        if self.most < math.inf and self.most != MOST:  # nobody who comes near that one means it
            ends.append(f"{'below' if self.below else 'at most'} {self.most:,.10g}")
        what = "a whole number" if self.whole else "a number" if ends else "a finite number"
        return " ".join([what, " and ".join(ends)]).strip()

    def __get_pydantic_core_schema__(self, source: object, handler: "GetCoreSchemaHandler") -> "CoreSchema":
        """Holds the values of a field that has the bound in its annotation."""
        from pydantic_core import PydanticCustomError, ValidationError, core_schema

        def bounded(given: object, validate: "ValidatorFunctionWrapHandler") -> object:
            try:
                value = validate(given)
            except ValidationError:
                raise PydanticCustomError("bound", "{words}", {"words": self.complaint(None, given=given)}) from None
            if isinstance(value, int | float) and not self.holds(value):
                raise PydanticCustomError("bound", "{words}", {"words": self.complaint(value, given=given)})
            return value

        return core_schema.no_info_wrap_validator_function(bounded, handler(source))


COUNT = Bound(least=1, most=MOST, whole=True)
COUNT_OR_NONE = Bound(least=0, most=MOST, whole=True)
POSITIVE = Bound(least=0, above=True)
NOT_NEGATIVE = Bound(least=0)
SHARE = Bound(least=0, most=1)
SHARE_BELOW_ONE = Bound(least=0, most=1, below=True)
SEED = Bound(least=0, most=MOST_SEED, whole=True)


def shown(given: object) -> str:
    """A value for a message: a number as people write it, of a very long one its size; a long text cut.

    >>> shown(10 ** 30), shown(0.5), shown(10 ** 5000), shown("ten")
    ('1e+30', '0.5', 'a number of more than 300 digits', "'ten'")
    """
    if isinstance(given, bool) or not isinstance(given, int | float):
        return _cut(given)
    try:
        return str(given) if abs(given) < 10**15 or not math.isfinite(given) else f"{float(given):.6g}"
    except OverflowError:
        return "a number of more than 300 digits"


def _cut(given: object) -> str:
    try:
        text = repr(given)
    except ValueError:  # it holds a whole number of thousands of digits
        return "a very long number"
    return text if len(text) <= 80 else f"{text[:60]} [...]"
