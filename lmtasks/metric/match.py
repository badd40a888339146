"""Metrics of written texts as they stand: `exact_match`, `sql_match`, and `distinct_1`, `distinct_2`, `repetition`.

`exact_match` has lm-evaluation-harness' meaning and options (0.4.13). Both sides lose, in this order: every match of
`regexes_to_ignore`, their case (`ignore_case`), ASCII punctuation (`ignore_punctuation`), ASCII digits
(`ignore_numbers`). Then they must be equal, spaces at the ends included: those are the business of a filter. Of several
references one suffices.

The others count how varied an answer is, whatever is right. Each looks at one answer at a time and is then averaged, so
a long answer weighs no more than a short one. (Li et al. 2016, https://aclanthology.org/N16-1014, count distinct
n-grams over a whole corpus, which falls as the corpus grows.)
"no no no no no no": distinct_1 is 1/6; its three 4-grams are one and two repeats of it, so repetition is 2/3.
"""

import re
import string
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise

import numpy as np

from lmtasks.errors import UsageError
from lmtasks.metric.base import Formula, MetricSettings, mean, only, references
from lmtasks.metric.words import pieces
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

REPETITION_ORDER = 4
QUOTES = "'\""
SQL_TOKEN = re.compile(r"""'[^']*'|"[^"]*"|\w+(?:\.\d+)?|<=|>=|<>|!=|\|\||[^\w\s]""")


def exact_match(settings: MetricSettings) -> Formula:
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


def sql_match(settings: MetricSettings) -> Formula:
    """`sql_match`: the prediction is a reference, both in the form of `plain_sql`."""
    del settings

    def values(outcomes: Sequence[Outcome]) -> Floats:
        return np.array(
            [float(plain_sql(text.prediction) in map(plain_sql, references(text))) for text in only(Text, outcomes)]
        )

    return mean(values, signature="match:equal|sql:case,blanks,quotes,aliases,semicolon|refs:any")


def plain_sql(query: str) -> tuple[str, ...]:
    """The tokens of a query without what means nothing: case outside of strings, blanks, the kind of quotes around
    strings, the names of aliases, a semicolon at the end. Nothing else is changed: `a = b` is not `b = a`.

    >>> plain_sql("SELECT X.A FROM T AS X WHERE X.B = 'Rome' ;") == plain_sql('select y.a from t as y where y.b="Rome"')
    True
    """
    tokens = [
        f"'{token[1:-1]}'" if token[0] in QUOTES and token[-1] == token[0] and len(token) > 1 else token.lower()
        for token in SQL_TOKEN.findall(query)
    ]
    while tokens and tokens[-1] == ";":
        tokens.pop()
    named = [token for before, token in pairwise(tokens) if before == "as" and token.isidentifier()]
    aliases = {name: f"alias {number}" for number, name in enumerate(dict.fromkeys(named))}
    return tuple(aliases.get(token, token) for token in tokens)


def distinct_1(settings: MetricSettings) -> Formula:
    """`distinct_1`: distinct words over words; 0 for an empty answer."""
    return mean(partial(_distinct, order=1), signature="order:1|tok:words-or-han-or-clusters|case:lower")


def distinct_2(settings: MetricSettings) -> Formula:
    """`distinct_2`: distinct pairs of words over pairs; 0 for an answer without a pair."""
    return mean(partial(_distinct, order=2), signature="order:2|tok:words-or-han-or-clusters|case:lower")


def repetition(settings: MetricSettings) -> Formula:
    """`repetition`: the share of 4-grams that stood earlier in the same answer; 0 for an answer without one."""
    return mean(_repeated, signature=f"order:{REPETITION_ORDER}|tok:words-or-han-or-clusters|case:lower")


def _distinct(outcomes: Sequence[Outcome], order: int) -> Floats:
    counts = [_distinct_and_all(text.prediction, order) for text in only(Text, outcomes)]
    return np.array([distinct / max(total, 1) for distinct, total in counts])


def _repeated(outcomes: Sequence[Outcome]) -> Floats:
    counts = [_distinct_and_all(text.prediction, REPETITION_ORDER) for text in only(Text, outcomes)]
    return np.array([(total - distinct) / max(total, 1) for distinct, total in counts])


def _distinct_and_all(text: str, order: int) -> tuple[int, int]:
    found = pieces(text)
    ngrams = list(zip(*(found[start:] for start in range(order)), strict=False))
    return len(set(ngrams)), len(ngrams)
