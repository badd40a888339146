"""`wer` and `cer`: edits that turn an answer into what was right, over the length of what was right.

The values are jiwer's with its own defaults (`jiwer.wer`, `jiwer.cer`, version 4): one sum of edits over one sum of
lengths, case and punctuation kept. Words are what stands between blanks; characters are code points, blanks among them.
Against "he went home", "he was at home" has one word replaced and one too many: 2 / 3. It may exceed 1.

Of several references the one with the fewest edits for its length counts. An example without any right words adds its
edits, and no length.
"""

import string
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from lmtasks.errors import UsageError
from lmtasks.metric.base import Formula, MetricSettings, only, ratio, references
from lmtasks.metric.words import needs_blanks
from lmtasks.records import Floats, Outcome, Text

Cut = Callable[[str], Sequence[str]]

OPTIONS = ("ignore_case", "ignore_punctuation")
MARKS = str.maketrans("", "", string.punctuation + "，。！？；：、“”‘’（）《》〈〉【】…—·～")
_BLANKS = needs_blanks("wer takes what stands between blanks for a word, and", use="cer", of_chinese="cer")


def edits(wanted: Sequence[str], given: Sequence[str]) -> int:
    """The least number of parts replaced, left out and added (Levenshtein).

    >>> edits("he went home".split(), "he was at home".split())
    2
    """
    numbers = {part: number for number, part in enumerate(dict.fromkeys((*wanted, *given)))}
    target = np.array([numbers[part] for part in given], dtype=np.int64)
    places = np.arange(len(given) + 1)
    row = places.copy()
    for number, part in enumerate(wanted, start=1):
        # From above and from the left above; then from the left, which is a running minimum of what is left to add.
        best = np.minimum(row[1:] + 1, row[:-1] + (target != numbers[part]))
        row = np.minimum.accumulate(np.concatenate([[number], best]) - places) + places
    return int(row[-1])


def error_rate(settings: MetricSettings, *, cut: Cut, unit: str) -> Formula:
    """The rate over one kind of unit.

    Raises:
        UsageError: an option is neither true nor false.
    """
    ignored = [name.removeprefix("ignore_") for name in OPTIONS if _switch(settings.options, name)]

    def parts(text: str) -> Sequence[str]:
        plain = text.lower() if "case" in ignored else text
        return cut(plain.translate(MARKS) if "punctuation" in ignored else plain)

    def row(text: Text) -> tuple[float, float]:
        given = parts(text.prediction)
        counts = [(edits(wanted, given), len(wanted)) for wanted in map(parts, references(text))]
        return min(counts, key=lambda count: count[0] / max(count[1], 1))

    def statistics(outcomes: Sequence[Outcome]) -> Floats:
        return np.array([row(text) for text in only(Text, outcomes)], dtype=np.float64)

    def of_each(rows: Floats) -> Floats:
        result: Floats = rows[:, 0] / np.maximum(rows[:, 1], 1.0)
        return result

    return Formula(
        kind="sums",  # its interval is the bootstrap's: a share has an end at 1, and this has none
        statistics=statistics,
        aggregate=ratio,
        per_example=of_each,
        signature=f"unit:{unit}|ignore:{','.join(ignored) or 'nothing'}|refs:nearest",
        remarks=_BLANKS if unit == "word" else None,
    )


def _switch(options: Mapping[str, object], name: str) -> bool:
    given = options.get(name, False)
    if not isinstance(given, bool):
        raise UsageError(f"{name} must be true or false, was: {given!r}.")
    return given


def _words(text: str) -> Sequence[str]:
    return text.split()


wer = partial(error_rate, cut=_words, unit="word")
cer = partial(error_rate, cut=str.strip, unit="character")
