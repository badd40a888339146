"""Proofs that an exported package computes what the trained model computes."""

from lmtasks.report.read import RunRecords
from lmtasks.report.table import Cell, Column, Line, Table


def proofs_table(run: RunRecords) -> Table | None:
    """One row a package; None where nothing was exported."""
    if not run.proofs:
        return None
    lines = [
        Line(name=name, cells=(Cell(text="proved" if proof.get("ok") else "not proved"),))
        for name, proof in run.proofs.items()
    ]
    return Table(
        caption="Every exported package was compared with the model that was trained, on real inputs.",
        corner="package",
        columns=(Column(title="result"),),
        lines=tuple(lines),
    )
