"""Metrics of tag sequences: `entity_f1`, `role_f1`, `tag_acc`. A sequence is a text of tags with blanks between.

An entity is a run of tags of one type, with its borders. It is right where type and both borders are, as in the script
of CoNLL-2000 (`conlleval`, https://www.clips.uantwerpen.be/conll2000/chunking/output.html) and in seqeval's default
mode (https://github.com/chakki-works/seqeval), whose rules for tags that break the scheme are taken: an `I-` that
follows another type, or nothing, begins an entity; one that is not closed ends where the next tag is not its own.

All schemes are read that say where an entity begins or ends: IOB1, IOB2 (BIO), IOE, IOBES, BILOU, BMES, BMEWO. Their
letters do not contradict each other, so that no scheme has to be named.

`role_f1` counts the arguments of a predicate as the script of CoNLL-2005 does (srl-eval.pl,
https://www.cs.upc.edu/~srlconll/soft.html): `C-A1` goes on the last argument A1 before it, and both are one argument,
right where all its pieces are; without one before it, it is an A1. `R-A1` is a type of its own. V, the predicate
itself, is not counted.

>>> sorted(arguments(["B-A1", "B-V", "O", "B-C-A1", "I-C-A1", "B-R-A0"]))
[('A1', ((0, 1), (3, 5))), ('R-A0', ((5, 6),))]
>>> entities(["B-city", "I-city", "O", "I-date", "B-date"])
[(0, 2, 'city'), (3, 4, 'date'), (4, 5, 'date')]
>>> entities(["B-LOC", "L-LOC", "O", "U-PER"]), entities(["B-LOC", "O", "O", "U-PER"])
([(0, 2, 'LOC'), (3, 4, 'PER')], [(0, 1, 'LOC'), (3, 4, 'PER')])
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import numpy as np

from lmtasks.errors import UsageError
from lmtasks.metric.base import Formula, MetricSettings, Rate, first_column, only, ratio, references
from lmtasks.records import Floats, Outcome, Text
from lmtasks.tag_scheme import INSIDE, OUTSIDE

SCHEMES: Mapping[str, frozenset[str]] = {
    "BILOU": frozenset("BILU"),
    "BMES": frozenset("BMES"),
    "BMEWO": frozenset("BMEW"),
}
"""Schemes whose letters IOBES does not have."""
NO_TAGS = "words that are tags of no scheme (B-LOC, O) count as an entity each; score with tag_acc where tags have none"

Entity = tuple[int, int, str]
"""First tag, the one behind the last, type."""
Argument = tuple[str, tuple[tuple[int, int], ...]]
"""Type, and its pieces: first tag, the one behind the last."""
CONTINUED = "C-"
"""Stands before the type of a piece that goes on an argument."""
PREDICATE = "V"
"""The type of the predicate itself."""


def entity_f1(settings: MetricSettings) -> Formula:
    """`entity_f1`: F1 of entities over all sentences (micro-averaged): 2 right / (answered + true).

    Raises:
        UsageError: the task's labels are tags of no scheme.
    """
    scheme = scheme_of(settings.labels, metric="entity_f1")
    return _span_f1(
        entities,
        metric="entity_f1",
        signature=f"entities:conlleval|{f'scheme:{scheme}|' if scheme else ''}average:micro|zero_division:0",
    )


def role_f1(settings: MetricSettings) -> Formula:
    """`role_f1`: F1 of the arguments of all predicates (micro-averaged), without V.

    Raises:
        UsageError: the task's labels are tags of no scheme.
    """
    scheme = scheme_of(settings.labels, metric="role_f1")
    return _span_f1(
        arguments,
        metric="role_f1",
        signature=f"arguments:srl-eval|{f'scheme:{scheme}|' if scheme else ''}without:V|average:micro|zero_division:0",
    )


def _span_f1(
    found_in: Callable[[Sequence[str]], Collection[Entity] | Collection[Argument]], *, metric: str, signature: str
) -> Formula:
    def statistics(outcomes: Sequence[Outcome]) -> Floats:
        rows = []
        for text in only(Text, outcomes):
            wanted, found = _pair(text)
            scheme_of((tag for tag in wanted if "-" in tag), metric=metric)
            one, other = set(found_in(wanted)), set(found_in(found))
            rows.append((2.0 * len(one & other), len(one) + len(other)))
        return np.array(rows, dtype=np.float64).reshape(-1, 2)

    return Formula(
        kind="ratio",
        statistics=statistics,
        aggregate=_defined,
        per_example=_each,
        signature=signature,
        rate=Rate(value=lambda value: value, slope=np.ones_like),
        remarks=_remarks,
    )


def tag_accuracy(settings: MetricSettings) -> Formula:
    """`tag_acc`: share of tags that are right, over all sentences."""
    del settings

    def statistics(outcomes: Sequence[Outcome]) -> Floats:
        rows = []
        for text in only(Text, outcomes):
            wanted, found = _pair(text)
            rows.append((float(sum(a == b for a, b in zip(wanted, found, strict=True))), float(len(wanted))))
        return np.array(rows, dtype=np.float64).reshape(-1, 2)

    return Formula(
        kind="ratio",
        statistics=statistics,
        aggregate=ratio,
        per_example=_each,
        signature="match:equal|unit:tag",
        rate=Rate(value=lambda value: value, slope=np.ones_like),
    )


def entities(tags: Sequence[str]) -> list[Entity]:
    """The entities of a sequence of tags of any scheme; `B` and `I` alone have the empty type, and a word that is no
    tag is an entity by itself: who answers with it has marked something, and wrongly."""
    found: list[Entity] = []
    start, kind, before = 0, "", OUTSIDE
    for place, tag in enumerate([*tags, OUTSIDE]):
        letter, _, name = tag.partition("-") if _is_tag(tag) else ("S", "", tag)
        prefix = INSIDE.get(letter, OUTSIDE)
        inside = before != OUTSIDE and prefix in {"I", "E"} and name == kind and before not in {"E", "S"}
        if before != OUTSIDE and not inside:
            found.append((start, place, kind))
        if prefix != OUTSIDE and not inside:
            start, kind = place, name
        before = prefix
    return found


def arguments(tags: Sequence[str]) -> list[Argument]:
    """The arguments of a predicate, each with its type and pieces, by a sequence of tags of any scheme."""
    found: list[tuple[str, list[tuple[int, int]]]] = []
    last: dict[str, int] = {}
    for start, end, kind in entities(tags):
        name = kind.removeprefix(CONTINUED)
        if name != kind and name in last:
            found[last[name]][1].append((start, end))
        else:
            last[name] = len(found)
            found.append((name, [(start, end)]))
    return [(name, tuple(pieces)) for name, pieces in found if name != PREDICATE]


def scheme_of(tags: Iterable[str], *, metric: str = "entity_f1") -> str:
    """The scheme of these tags, where IOBES does not have its letters; else nothing.

    Raises:
        UsageError: a tag is of no scheme.
    """
    letters = set()
    for tag in tags:
        if not _is_tag(tag):
            raise UsageError(
                f"{metric} reads tags that begin with {', '.join(INSIDE)} and a hyphen before the type (B-LOC), and "
                f"{OUTSIDE} alone, was given {tag!r}; rename them, or score with tag_acc alone (metrics: [tag_acc])."
            )
        letters.add(tag.partition("-")[0])
    foreign = letters - {OUTSIDE, *"BIES"}
    return next((name for name, own in SCHEMES.items() if letters <= own | {OUTSIDE}), "mixed") if foreign else ""


def _is_tag(tag: str) -> bool:
    return tag == OUTSIDE or tag.partition("-")[0] in INSIDE


def _remarks(outcomes: Sequence[Outcome]) -> Mapping[str, int]:
    strange = sum(not all(_is_tag(tag) for tags in _pair(text) for tag in tags) for text in only(Text, outcomes))
    return {NO_TAGS: strange} if strange else {}


def _pair(text: Text) -> tuple[list[str], list[str]]:
    """The right tags and the answered ones, as many: what is missing is outside, what is too much is not looked at."""
    wanted = references(text)[0].split()
    found = text.prediction.split()[: len(wanted)]
    if not wanted:
        raise UsageError("a sentence of no tags cannot be scored; check the task's tags.")
    return wanted, found + [OUTSIDE] * (len(wanted) - len(found))


def _defined(sums: Floats) -> Floats:
    """0 where there is no entity at all."""
    result: Floats = np.divide(sums[..., 0], sums[..., 1], out=np.zeros_like(sums[..., 0]), where=sums[..., 1] > 0)
    return result


def _each(statistics: Floats) -> Floats:
    """(N, 2) -> (N,); a sentence without entities, of which none was found, is right."""
    counted = first_column(statistics), statistics[:, 1]
    result: Floats = np.divide(counted[0], counted[1], out=np.ones(len(statistics)), where=counted[1] > 0)
    return result
