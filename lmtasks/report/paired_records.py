"""paired.json of a run: variants compared with each other by example, as checked values."""

from dataclasses import dataclass
from pathlib import Path

from lmtasks.report.fields import read_fields


@dataclass(frozen=True, kw_only=True)
class PairedRecord:
    """A variant compared with another one, paired by example. Fractions are in points."""

    relation: str
    """What the base is: the `first` variant that has the task, the `best`, the `parent` of an export, a `rival`."""
    variant: str
    base: str
    task: str
    metric: str
    scale: str
    n: int
    difference: float
    ci95: tuple[float, float] | None
    p_holm: float
    verdict: str
    """better, worse, or open."""
    detectable: float | None


@dataclass(frozen=True, kw_only=True)
class PairedRecords:
    """The comparisons of a run; those of one relation are one family."""

    comparisons: tuple[PairedRecord, ...]


def read_paired(file: Path) -> PairedRecords | None:
    """What the suite wrote; None where there is no such file.

    Raises:
        UsageError: the file is damaged.
    """
    if not file.is_file():
        return None
    fields = read_fields(file)
    return PairedRecords(
        comparisons=tuple(
            PairedRecord(
                relation=each.text("relation", "first"),
                variant=each.text("variant"),
                base=each.text("base"),
                task=each.text("task"),
                metric=each.text("metric"),
                scale=each.text("scale"),
                n=int(each.number("n")),
                difference=each.number("difference"),
                ci95=each.interval("ci95"),
                p_holm=each.number("p_holm"),
                verdict=each.text("verdict"),
                detectable=each.optional_number("detectable"),
            )
            for each in fields.each("comparisons")
        ),
    )
