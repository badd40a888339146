"""What a number may be, declared once and held wherever it comes from: an option, a plan's key, an argument."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from lmtasks.errors import UsageError

MOST = 10**9
"""Of what is counted, where nothing else limits it: behind it lie numbers that no machine word holds."""
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
        lmtasks.errors.UsageError: learning rate must be more than 0, was nan.
        """
        if value is None or self.holds(value):
            return
        words = f"at most {self.most:,}" if self.most < value < math.inf else self.words
        raise UsageError(f"{name.replace('_', ' ')} must be {words}, was {_short(value)}.")

    @property
    def words(self) -> str:
        """For people.

        >>> Bound(least=0, most=1, below=True).words, Bound(least=1, whole=True, most=MOST).words
        ('0 or more and less than 1', 'a whole number, 1 or more')
        """
        ends = []
        if self.least > -math.inf:
            ends.append(f"more than {self.least:,.10g}" if self.above else f"{self.least:,.10g} or more")
        if self.most < math.inf:
            ends.append(f"less than {self.most:,.10g}" if self.below else f"at most {self.most:,.10g}")
        if self.most == MOST:  # nobody who comes near it means it
            del ends[1:]
        if not self.whole:
            return " and ".join(ends) or "a finite number"
        return ", ".join(["a whole number", " and ".join(ends)]).rstrip(", ")


COUNT = Bound(least=1, most=MOST, whole=True)
COUNT_OR_NONE = Bound(least=0, most=MOST, whole=True)
POSITIVE = Bound(least=0, above=True)
SHARE = Bound(least=0, most=1)
SHARE_BELOW_ONE = Bound(least=0, most=1, below=True)
SEED = Bound(least=0, most=MOST_SEED, whole=True)


def check_all(values: Mapping[str, object], bounds: Mapping[str, Bound]) -> None:
    """Hold each value that is a number against the bound of its name.

    Raises:
        UsageError: the first that does not hold.
    """
    for name, bound in bounds.items():
        value = values.get(name)
        if isinstance(value, int | float):
            bound.check(name, value)


def _short(value: float) -> str:
    """A number as people write it; of a very long one its size.

    >>> _short(10 ** 30), _short(0.5), _short(10 ** 5000)
    ('1e+30', '0.5', 'a number of more than 300 digits')
    """
    try:
        return str(value) if abs(value) < 10**15 or not math.isfinite(value) else f"{float(value):.6g}"
    except OverflowError:
        return "a number of more than 300 digits"
