"""What is said beside a score whose rows may have been known: how many, and the score on the others.

Reads the record that evaluation stores; one without it says nothing, since nobody counted.
"""

from collections.abc import Iterator, Mapping, Sequence

from lmtasks.records import Json
from lmtasks.report import format as show

MARK = "*"
"""Behind a value whose rows may have been known."""
PLACES: Mapping[str, str] = {
    "learned": "{} were learned from",
    "chosen": "{} were chosen on",
    "train": "{} stand in the task's training rows",
}
"""Parts of the record to words."""


def is_marked(record: Json | None) -> bool:
    """Were any of the scored rows known, or may they have been?"""
    return bool(record and record.get("seen"))


def seen_rows(record: Json, *, n: int) -> str:
    """How many of the scored rows were known, and from where: `216 of 300 scored rows were learned from`."""
    parts = list(_places(record))
    if count := _number(record, "own_answers"):
        parts.append(f"{show.count(count)} have their own answer among the worked examples")
    first, *others = parts or [f"{show.count(_number(record, 'seen'))} may have been known"]
    number, _, what = first.partition(" ")
    return ", ".join([f"{number} of {show.count(n)} scored rows {what}", *others])


def on_the_others(record: Json) -> str:
    """The scores on the rows that were not known: `on the other 84: acc 69.0 ±9.8`."""
    clean = _mapping(record.get("clean"))
    n = _number(clean, "n")
    if not n:
        return "no other row is left"
    metrics = {name: _mapping(value) for name, value in _mapping(clean.get("metrics")).items()}
    told = ", ".join(f"{name} {_value(value)}" for name, value in metrics.items())
    return f"on the other {show.count(n)}: {told}" if told else f"the other {show.count(n)} are not scored apart"


def mean_on_the_others(records: Sequence[Json], metric: str) -> str:
    """One metric's value on the rows that were not known, over the seeds of a variant; empty where there is none."""
    found = [_mapping(_mapping(_mapping(record.get("clean")).get("metrics")).get(metric)) for record in records]
    values = [float(str(estimate["value"])) for estimate in found if estimate]
    if not values or len(values) < len(records):
        return ""
    return show.value(sum(values) / len(values), str(found[0]["scale"]))  # type: ignore[arg-type]  # one of the three


def clean_rows(record: Json) -> int:
    """How many scored rows were not known."""
    return _number(_mapping(record.get("clean")), "n")


def _places(record: Json) -> Iterator[str]:
    known = 0
    for name, words in PLACES.items():
        part = _mapping(record.get(name))
        count = _number(part, "seen")
        if not count or (name == "train" and count <= known):
            continue  # what was learned or chosen on stands in training rows anyway
        known += count
        targets, inputs = _number(part, "targets"), _number(part, "inputs")
        by = f" ({show.count(inputs)} by what is asked, {show.count(targets)} by the right text)" if targets else ""
        yield words.format(show.count(count)) + by


def _value(estimate: Json) -> str:
    ends = estimate.get("ci95")
    ci95 = (float(str(ends[0])), float(str(ends[1]))) if isinstance(ends, list | tuple) else None
    value, scale = float(str(estimate["value"])), str(estimate["scale"])
    shown = show.value(value, scale)  # type: ignore[arg-type]  # one of the three
    return f"{shown} {show.uncertainty(value, ci95, scale)}".strip()  # type: ignore[arg-type]


def _number(record: Json, name: str) -> int:
    value = record.get(name)
    return value if isinstance(value, int) else 0


def _mapping(value: object) -> Json:
    return value if isinstance(value, Mapping) else {}
