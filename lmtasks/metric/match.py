"""`exact_match` of texts, with lm-evaluation-harness' meaning and options (0.4.13).

Both sides lose, in this order: every match of `regexes_to_ignore`, their case (`ignore_case`), ASCII punctuation
(`ignore_punctuation`), ASCII digits (`ignore_numbers`). Then they must be equal, spaces at the ends included: those are
the business of a filter. Of several references one suffices.
"""

import re
import string
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from lmtasks.errors import UsageError
from lmtasks.metric.base import Formula, Settings, mean, only, references
from lmtasks.records import Floats, Outcome, Text
from lmtasks.timed_regex import TimedPattern, timed

Step = Callable[[str], str]

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_NO_DIGITS = str.maketrans("", "", string.digits)

SWITCHES: Mapping[str, Step] = {
    "ignore_case": str.lower,
    "ignore_punctuation": lambda text: text.translate(_NO_PUNCTUATION),
    "ignore_numbers": lambda text: text.translate(_NO_DIGITS),
}
"""In the order in which they act."""

OPTIONS = ("regexes_to_ignore", *SWITCHES)


def exact_match(settings: Settings) -> Formula:
    """`exact_match`: the prediction equals a reference.

    Raises:
        UsageError: an option has the wrong type, or a pattern is not a regular expression.
    """
    patterns = _patterns(settings.options)
    switches = [name for name in SWITCHES if _switch(settings.options, name)]
    steps = [_without(pattern) for pattern in patterns] + [SWITCHES[name] for name in switches]

    def values(outcomes: Sequence[Outcome]) -> Floats:
        return np.array([float(_matches(text, steps)) for text in only(Text, outcomes)])

    ignored = [repr(pattern.pattern) for pattern in patterns] + [name.removeprefix("ignore_") for name in switches]
    return mean(values, signature=f"match:equal|ignore:{','.join(ignored) or 'nothing'}|refs:any")


def _matches(text: Text, steps: Sequence[Step]) -> bool:
    prediction = _through(text.prediction, steps)
    return any(_through(reference, steps) == prediction for reference in references(text))


def _through(text: str, steps: Sequence[Step]) -> str:
    for step in steps:
        text = step(text)
    return text


def _without(pattern: TimedPattern) -> Step:
    return lambda text: pattern.sub("", text)


def _patterns(options: Mapping[str, object]) -> list[TimedPattern]:
    given = options.get("regexes_to_ignore") or []
    if not isinstance(given, list | tuple):
        raise UsageError(f"exact_match: regexes_to_ignore must be a list of regular expressions, was: {given!r}.")
    return [_pattern(each) for each in given]


def _pattern(given: object) -> TimedPattern:
    try:
        return timed(str(given))
    except re.error as error:
        raise UsageError(
            f"exact_match: regexes_to_ignore holds {given!r}, which is no regular expression ({error})."
        ) from error


def _switch(options: Mapping[str, object], name: str) -> bool:
    given = options.get(name, False)
    if not isinstance(given, bool):
        raise UsageError(f"exact_match: {name} must be true or false, was: {given!r}.")
    return given
