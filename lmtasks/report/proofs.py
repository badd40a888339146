"""Proofs that a package answers as the trained model does in torch, and quality gates that packages have passed: one
row a graph, one row a task."""

from collections.abc import Sequence
from itertools import groupby

from lmtasks.report import format as show
from lmtasks.report.records import RunRecords
from lmtasks.report.table import Column, Line, Table, TableCell
from lmtasks.results.proof import Check, GateRecord, ProofRecord, TaskDropRecord

GATES_CAPTION = (
    "What rounding cost on validation rows, which nothing here is scored on, of the package paired with the same in "
    "fp32; packages that lost more than was allowed were not kept. Where the layers that rounding hurt most stayed in "
    "fp32 for that, the package's line says how many. An interval that reaches beyond what was allowed leaves open "
    "whether more is lost; so many examples would tell."
)
CAPTION = (
    "Every exported package was compared with the model that was trained, on real texts of several lengths, with "
    "padding on either side and with holes. Rounded weights answer a little differently by design; Quality tells what "
    "that costs."
)
DIVERGENCE = (
    "The divergence is Kullback and Leibler's, of the package's probabilities from the model's, the mean over all "
    "choices."
)


def proofs_table(run: RunRecords) -> Table | None:
    """None where nothing was exported."""
    told = any(check.divergence is not None for proof in run.proofs.values() for check in proof.checks)
    lines = [line for name, proof in run.proofs.items() for line in _lines(name, proof, divergence=told)]
    if not lines:
        return None
    return Table(
        caption=f"{CAPTION} {DIVERGENCE}" if told else CAPTION,
        corner="graph",
        columns=(
            Column(title="compared", detail="numbers"),
            Column(title="largest difference", lower_is_better=True),
            Column(title="cosine", detail="smallest"),
            Column(title="equal choices"),
            *([Column(title="divergence", detail="nats", lower_is_better=True)] if told else []),
            Column(title="result"),
        ),
        lines=tuple(lines),
    )


def gates_table(run: RunRecords) -> Table | None:
    """None where no package carries a gate's record."""
    lines = [line for name, gate in run.gates.items() for line in _gate_lines(name, gate)]
    if not lines:
        return None
    return Table(
        caption=GATES_CAPTION,
        corner="task",
        columns=(
            Column(title="metric"),
            Column(title="n"),
            Column(title="fp32"),
            Column(title="rounded"),
            Column(title="drop", detail="95 % interval", lower_is_better=True),
            Column(title="a larger drop"),
        ),
        lines=tuple(lines),
    )


def _lines(name: str, proof: ProofRecord, *, divergence: bool) -> list[Line]:
    rule = proof.rule
    allowed = {
        "largest difference": rule.max_difference,
        "cosine at least": rule.least_cosine,
        "mean difference of log-probabilities": rule.most_mean_difference,
    }
    limits = ", ".join(f"{words} {value:g}" for words, value in allowed.items() if value is not None)
    group = f"{name} · allowed: {limits}" if limits else name
    if proof.cut:
        group += f" · {proof.cut}"
    return [
        _line(graph, list(members), group, divergence=divergence)
        for graph, members in groupby(_by_graph(proof.checks), lambda c: c.graph)
    ]


def _by_graph(checks: Sequence[Check]) -> list[Check]:
    """Graphs in the order of their first check."""
    first = list(dict.fromkeys(check.graph for check in checks))
    return sorted(checks, key=lambda check: first.index(check.graph))


def _line(graph: str, checks: Sequence[Check], group: str, *, divergence: bool) -> Line:
    numbers = sum(check.numbers for check in checks)
    largest = max(check.max_difference for check in checks)
    cosine = min((check.cosine for check in checks if check.cosine is not None), default=None)
    equal = min(check.agreement for check in checks)
    nats = max((check.divergence for check in checks if check.divergence is not None), default=None)
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
            *(
                [TableCell(text=show.MISSING if nats is None else show.small(nats), sort=nats, quiet=nats is None)]
                if divergence
                else []
            ),
            TableCell(text="proved" if proved else "not proved", sort=str(proved)),
        ),
    )


def _gate_lines(name: str, gate: GateRecord) -> list[Line]:
    group = f"{name} · allowed: a drop of {gate.most:g}"
    if gate.kept:
        part = show.share(gate.kept_share)
        group += f" · in fp32 stay {len(gate.kept)} of {gate.layers} layers, {part} of the weights"
    return [_gate_line(task, group) for task in gate.tasks]


def _gate_line(task: TaskDropRecord, group: str) -> Line:
    unit = "%" if task.unit == "%" else ""
    ends = "" if task.ci95 is None else f" ({task.ci95[0]:.2f} to {task.ci95[1]:.2f})"
    drop = show.MISSING if task.drop is None else f"{task.drop:.2f}{unit}{ends}"
    sure = "excluded" if task.excluded else "open"
    if task.needed is not None:
        sure += f"; {show.count(task.needed)} examples would tell"
    return Line(
        name=task.task,
        group=group,
        cells=(
            TableCell(text=task.metric),
            TableCell(text=show.count(task.n), sort=task.n),
            *(
                TableCell(text=show.MISSING if value is None else f"{value:.4f}", sort=value)
                for value in (task.base, task.found)
            ),
            TableCell(text=drop, sort=task.drop),
            TableCell(text=sure),
        ),
    )
