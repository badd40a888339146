"""Notes beside a score whose rows may have been known: how many, and the score on the others."""

from collections.abc import Iterator, Mapping, Sequence

from lmtasks.report import format as show
from lmtasks.results.scores import CleanEstimate, KnownOverlap, RowCounts

MARK = "*"
"""Behind a value whose rows may have been known."""


def is_marked(overlap: KnownOverlap | None) -> bool:
    """Were any of the scored rows known, or may they have been?"""
    return overlap is not None and overlap.seen > 0


def seen_rows(overlap: KnownOverlap, *, n: int) -> str:
    """How many of the scored rows were known, and from where: `216 of 300 scored rows were learned from`."""
    parts = list(_places(overlap))
    if overlap.own_answers:
        parts.append(f"{show.count(overlap.own_answers)} have their own answer among the worked examples")
    first, *others = parts or [f"{show.count(overlap.seen)} may have been known"]
    number, _, what = first.partition(" ")
    return ", ".join([f"{number} of {show.count(n)} scored rows {what}", *others])


def on_the_others(overlap: KnownOverlap) -> str:
    """The scores on the rows that were not known: `on the other 84: acc 69.0 ±9.8`."""
    clean = overlap.clean
    if clean is None or not clean.n:
        return "no other row is left"
    scores = ", ".join(f"{name} {_value(estimate)}" for name, estimate in clean.metrics.items())
    return (
        f"on the other {show.count(clean.n)}: {scores}"
        if scores
        else f"the other {show.count(clean.n)} are not scored apart"
    )


def mean_on_the_others(overlaps: Sequence[KnownOverlap], metric: str) -> str:
    """One metric's value on the rows that were not known, over the seeds of a variant; empty where there is none."""
    found = [each.clean.metrics[metric] for each in overlaps if each.clean and metric in each.clean.metrics]
    if not found or len(found) < len(overlaps):
        return ""
    return show.value(sum(estimate.value for estimate in found) / len(found), found[0].scale)


def _places(overlap: KnownOverlap) -> Iterator[str]:
    known = 0
    places: Mapping[str, RowCounts | None] = {
        "{} were learned from": overlap.learned,
        "{} were chosen on": overlap.chosen,
        "{} stand in the task's training rows": overlap.train,
    }
    for words, counts in places.items():
        if counts is None or not counts.seen or (counts is overlap.train and counts.seen <= known):
            continue  # what was learned or chosen on stands in training rows anyway
        known += counts.seen
        by = (
            f" ({show.count(counts.inputs)} by what is asked, {show.count(counts.targets)} by the right text)"
            if counts.targets
            else ""
        )
        yield words.format(show.count(counts.seen)) + by


def _value(estimate: CleanEstimate) -> str:
    shown = show.value(estimate.value, estimate.scale)
    return f"{shown} {show.uncertainty(estimate.value, estimate.ci95, estimate.scale)}".strip()
