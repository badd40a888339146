"""Proofs that an exported package answers as the trained model does in torch: one row a graph, over all its cases."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from lmtasks.report import format as show
from lmtasks.report.fields import Fields
from lmtasks.report.records import RunRecords
from lmtasks.report.table import Column, Line, Table, TableCell

CAPTION = (
    "Every exported package was compared with the model that was trained, on real texts of several lengths, with "
    "padding on either side and with holes. Rounded weights answer a little differently by design; Quality tells what "
    "that costs."
)


@dataclass(frozen=True, kw_only=True)
class _Check:
    """One comparison, as the proof stored it."""

    graph: str
    numbers: int
    max_difference: float
    cosine: float | None
    agreement: float
    ok: bool


def proofs_table(run: RunRecords) -> Table | None:
    """None where nothing was exported.

    Raises:
        UsageError: a proof's file is damaged (named).
    """
    lines = [line for name, proof in run.proofs.items() for line in _lines(name, proof)]
    if not lines:
        return None
    return Table(
        caption=CAPTION,
        corner="graph",
        columns=(
            Column(title="compared", detail="numbers"),
            Column(title="largest difference"),
            Column(title="cosine", detail="smallest"),
            Column(title="equal choices"),
            Column(title="result"),
        ),
        lines=tuple(lines),
    )


def _lines(name: str, proof: Fields) -> list[Line]:
    checks = [
        _Check(
            graph=check.text("graph"),
            numbers=int(check.number("numbers")),
            max_difference=check.number("max_difference"),
            cosine=check.optional_number("cosine"),
            agreement=check.number("agreement"),
            ok=check.flag("ok"),
        )
        for check in proof.each("checks")
    ]
    rule = proof.sub("rule")
    allowed = {
        "largest difference": rule.optional_number("max_difference"),
        "cosine at least": rule.optional_number("least_cosine"),
        "mean difference of log-probabilities": rule.optional_number("most_mean_difference"),
    }
    said = ", ".join(f"{words} {value:g}" for words, value in allowed.items() if value is not None)
    group = f"{name} · allowed: {said}" if said else name
    return [_line(graph, list(members), group) for graph, members in groupby(_by_graph(checks), lambda c: c.graph)]


def _by_graph(checks: Sequence[_Check]) -> list[_Check]:
    """Graphs in the order of their first check."""
    first = list(dict.fromkeys(check.graph for check in checks))
    return sorted(checks, key=lambda check: first.index(check.graph))


def _line(graph: str, checks: Sequence[_Check], group: str) -> Line:
    numbers = sum(check.numbers for check in checks)
    largest = max(check.max_difference for check in checks)
    cosine = min((check.cosine for check in checks if check.cosine is not None), default=None)
    equal = min(check.agreement for check in checks)
    proved = all(check.ok for check in checks)
    return Line(
        name=graph,
        group=group,
        cells=(
            TableCell(text=show.count(numbers), sort=numbers),
            TableCell(text=show.small(largest), sort=largest),
            TableCell(
                text=show.MISSING if cosine is None else show.near_one(cosine), sort=cosine, quiet=cosine is None
            ),
            TableCell(text=show.share(equal), sort=equal),
            TableCell(text="proved" if proved else "not proved", sort=str(proved)),
        ),
    )
