"""Schemes of tags: what may follow what, and the best tags that keep to it (Viterbi 1967).

The letter before a tag's type says which part of an entity a word is. A scheme is a few rules over them:

    IOB1    B only where an entity of the same type ends right before (Ramshaw and Marcus 1995)
    IOB2    an entity begins with B (BIO)
    IOE1    E only where one of the same type begins right behind
    IOE2    an entity ends with E
    IOBES   begins with B, ends with E, a word alone is S; BILOU, BMES and BMEWO are the same in other letters

The letters of a list of labels tell the last two apart from all others; B and I alone leave open whether it is IOB1 or
IOB2, I and E likewise. There the rows of the training data say which.

>>> labels = ("O", "B-city", "I-city", "B-date", "I-date")
>>> row_scheme(labels, [(1, 2, 0, 3)]), row_scheme(labels, [(0, 2, 2, 0)])
('iob2', 'iob1')
>>> scores = np.array([[0.0, 2, 0, 0, 3], [0, 0, 2, 0, 0]])  # I-date, I-city one by one
>>> [labels[tag] for tag in best_path(scores, transitions(labels, "iob2"))]
['B-city', 'I-city']

Axes: T words, C tags.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Literal

import numpy as np

from lmtasks.records import Bools, Floats

OUTSIDE = "O"
INSIDE: Mapping[str, str] = {
    "B": "B",
    "I": "I",
    "M": "I",
    "E": "E",
    "L": "E",
    "S": "S",
    "U": "S",
    "W": "S",
}
"""What stands before the type in any scheme, as IOBES has it: begins, goes on (middle), ends (last), is an entity by
itself (single, unit, whole)."""

SchemeName = Literal["iob1", "iob2", "ioe1", "ioe2", "iobes", "none"]
Rule = Literal["begun", "closed", "B between", "E between"]
RULES: Mapping[str, tuple[Rule, ...]] = {
    "iob2": ("begun",),
    "iob1": ("B between",),
    "ioe2": ("closed",),
    "ioe1": ("E between",),
    "iobes": ("begun", "closed"),
    "none": (),
}
"""Scheme to its rules. begun: what goes on an entity stands behind a part of it; closed: behind a part that is not the
last stands another; B, E between: they stand between two entities of one type alone."""
BROKEN = 0.01
"""Share of the parts of entities that may break a scheme in rows which still keep to it."""
FORBIDDEN = -1e9
"""Added where a tag may not follow: more than all logits of a sentence together, so that of paths which all break the
scheme the one with the fewest breaks is the best."""


def label_schemes(labels: Sequence[str]) -> tuple[SchemeName, ...]:
    """The schemes that tags with these letters can be of; none where they are tags of no scheme.

    >>> label_schemes(["O", "B-a", "I-a"]), label_schemes(["B", "M", "E", "S"]), label_schemes(["NOUN", "X"])
    (('iob2', 'iob1'), ('iobes',), ())
    """
    letters = {letter for letter, _ in map(part, labels)} - {OUTSIDE}
    bare = [label for label in labels if label in INSIDE]
    if bare and any(label not in INSIDE and label != OUTSIDE for label in labels):
        return ()  # single letters among other names are names
    if "S" in letters or {"B", "E"} <= letters:
        return ("iobes",)
    if letters == {"B", "I"}:
        return ("iob2", "iob1")
    return ("ioe2", "ioe1") if letters == {"I", "E"} else ()


def label_scheme(labels: Sequence[str]) -> SchemeName:
    """The one scheme that the labels' letters can be of; `none` where there are none or several."""
    found = label_schemes(labels)
    return found[0] if len(found) == 1 else "none"


def row_scheme(labels: Sequence[str], rows: Sequence[Sequence[int]]) -> SchemeName:
    """The scheme of these letters that rows of tags, by their numbers, keep to; `none` where they keep to none."""
    border = len(labels)
    before = np.array([tag for row in rows for tag in (border, *row)], dtype=np.intp)
    behind = np.array([tag for row in rows for tag in (*row, border)], dtype=np.intp)
    inside = np.array([part(label)[0] != OUTSIDE for label in labels] + [False])
    for name in label_schemes(labels):
        broken = ~transitions(tuple(labels), name)[before, behind]
        if broken.sum() <= BROKEN * inside[before].sum():
            return name
    return "none"


def part(label: str) -> tuple[str, str]:
    """The letter and the type of a tag, as IOBES has them.

    >>> part("L-LOC"), part("B"), part("NOUN"), part("B-C-ARG1")
    (('E', 'LOC'), ('B', ''), ('O', ''), ('B', 'C-ARG1'))
    """
    letter, _, kind = label.partition("-")
    known = letter in INSIDE and (kind or label == letter)
    return (INSIDE[letter], kind) if known else (OUTSIDE, "")


@lru_cache(maxsize=64)
def transitions(labels: tuple[str, ...], scheme: str) -> Bools:
    """(C + 1, C + 1): may the second tag stand right behind the first? C stands for the borders of a sentence.

    A rule holds for types whose labels can fulfil it: an `I-x` begins an entity where there is no `B-x`.
    """
    parts = [*map(part, labels), (OUTSIDE, "")]
    known = set(parts)
    found = np.ones((len(parts), len(parts)), dtype=np.bool_)
    for before, (letter, kind) in enumerate(parts):
        for behind, (next_letter, next_kind) in enumerate(parts):
            same = kind == next_kind and OUTSIDE not in (letter, next_letter)
            goes_on = same and letter in "BI" and next_letter in "IE"
            broken: Mapping[Rule, bool] = {
                "begun": next_letter in "IE" and not goes_on and ("B", next_kind) in known,
                "closed": letter in "BI" and not goes_on and ("E", kind) in known,
                "B between": next_letter == "B" and not same and ("I", next_kind) in known,
                "E between": letter == "E" and not same and ("I", kind) in known,
            }
            found[before, behind] = not any(broken[rule] for rule in RULES[scheme])
    found.setflags(write=False)  # it is handed out again
    return found


def breaks(tags: Sequence[int], follows: Bools) -> list[int]:
    """The places of tags that may not stand behind the one before; the number of tags where the last may not be it."""
    border = len(follows) - 1
    return [
        place for place, (a, b) in enumerate(zip([border, *tags], [*tags, border], strict=True)) if not follows[a, b]
    ]


def best_path(scores: Floats, follows: Bools, *, between: Floats | None = None) -> list[int]:
    """The tags with the highest sum of scores (T, C) among those that may follow each other.

    Args:
        follows: of `transitions`.
        between: (C + 1, C), what a tag scores behind another one; C stands for the beginning. None: nothing.
    """
    count, border = scores.shape
    alone: list[int] = scores.argmax(axis=1).tolist()
    if not count or (between is None and not breaks(alone, follows)):
        return alone
    cost = np.where(follows, 0.0, FORBIDDEN)
    steps = cost[:, :border] if between is None else cost[:, :border] + between
    best = scores[0] + steps[border]
    came = np.empty((count, border), dtype=np.intp)
    for place in range(1, count):
        ways = best[:, None] + steps[:border]  # (from, to)
        came[place] = ways.argmax(axis=0)
        best = ways[came[place], np.arange(border)] + scores[place]
    tag = int((best + cost[:border, border]).argmax())
    found = [tag]
    for place in range(count - 1, 0, -1):
        tag = int(came[place, tag])
        found.append(tag)
    return found[::-1]


def told_break(labels: Sequence[str], tags: Sequence[int], follows: Bools) -> str:
    """The first break of a row, for people; empty where there is none.

    >>> labels = ("O", "B-a", "I-a")
    >>> told_break(labels, (0, 2), transitions(labels, "iob2"))
    'I-a behind O'
    """
    for place in breaks(tags, follows):
        names = [labels[tag] for tag in tags]
        before, here = (["the beginning", *names][place], [*names, "the end"][place])
        return f"{here} behind {before}"
    return ""


def broken_rows(
    labels: Sequence[str], rows: Sequence[Sequence[int]], *, scheme: SchemeName
) -> Iterator[tuple[int, str]]:
    """The number of each row whose tags break the scheme, and its first break."""
    follows = transitions(tuple(labels), scheme)
    for number, row in enumerate(rows):
        told = told_break(labels, row, follows)
        if told:
            yield number, told
