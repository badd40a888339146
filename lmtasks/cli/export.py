"""`lmtasks export`: a model to an ONNX package, kept only if it is proved equal to the model; n-grams to an ARPA file,
and back."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from lmtasks.cli.progress import progress_bars
from lmtasks.cli.signature import Without
from lmtasks.cli.table import print_table
from lmtasks.cli.values import asked_again, data_options, label_names
from lmtasks.settings.base import Setting
from lmtasks.settings.data import DataAccess, TaskChoice, TrustCode
from lmtasks.settings.evaluation import Limit
from lmtasks.settings.models import PROOF_SECONDS, LabelMap, MaxDrop, Model, ProofSeconds
from lmtasks.settings.runs_on import Force, PackagePrecision, PackageRuntime, Threads

if TYPE_CHECKING:
    from lmtasks.metric.drop import Drop
    from lmtasks.prove.gate import Gated
    from lmtasks.prove.parity import Parity
    from lmtasks.results.proof import Check

NAMED = 6
"""So many layers are named that stay in fp32."""


def command(
    *,
    model: Model,
    out: Annotated[Path, Setting("Folder of the new package; of n-grams NAME.arpa[.gz].", metavar="FOLDER")],
    precision: PackagePrecision = "fp32",
    runtime: PackageRuntime = "onnx",
    choice: Annotated[TaskChoice, Without("include_path")],
    max_drop: MaxDrop = None,
    label_map: LabelMap = "",
    limit: Limit = None,
    threads: Threads = None,
    force: Force = False,
    proof_seconds: ProofSeconds = PROOF_SECONDS,
    access: DataAccess,
    trust_code: TrustCode = False,
) -> None:
    """Export a model to ONNX, and prove on texts of --tasks or --data (else embedded ones) that it answers alike.

    n-grams go to an ARPA file, --out NAME.arpa[.gz], and come back from one, --model NAME.arpa[.gz].

    With --max-drop, what rounding costs is measured on the validation rows of --tasks, and the package is kept only if
    that is no more than is allowed.
    """
    from lmtasks.workflow.choose_tasks import TaskRequest
    from lmtasks.workflow.export import ExportRequest, arpa_to_model, export_model, is_arpa, model_to_arpa

    if is_arpa(Path(model)):
        made = arpa_to_model(Path(model), out)
        print(f"The {made.order}-gram model of {made.vocabulary:,} words is in {out}.")
        print(f"Next: lmtasks eval --model {out} --tasks TASKS")
        return
    sources = data_options(access)
    if is_arpa(out):
        written = model_to_arpa(model, out, data=sources)
        print(f"The {written.order}-gram model is in {out}, as an ARPA file.")
        return
    request = ExportRequest(
        model=model,
        out=out,
        precision=precision,
        runtime=runtime,
        tasks=TaskRequest.of(choice),
        data=sources,
        max_drop=max_drop,
        label_names=label_names(label_map),
        limit=limit,
        threads=threads,
        force=force,
        proof_seconds=proof_seconds,
    )
    with progress_bars() as report:
        exported = export_model(request, report=report)
    _print(exported.parity)
    if exported.gated is not None:
        _print_gate(exported.gated)
    shown = choice if choice.tasks or choice.data is not None else choice.but({"tasks": "TASKS"})
    asked = asked_again(shown, access)
    package = exported.package
    print(f"\nThe package is in {out} ({_megabytes(package.size_bytes)}; graphs {package.emitter}).")
    models = f"--model {shlex.quote(model)} --model {shlex.quote(str(out))}"
    print(f"Next: lmtasks eval {models} {asked}{' --split test' if request.tasks.is_single else ''}")


def _print(parity: Parity) -> None:
    """One line for each graph and head: its worst case, and what was allowed."""
    graphs = dict.fromkeys(check.graph for check in parity.checks)
    rows = [_row(graph, [check for check in parity.checks if check.graph == graph]) for graph in graphs]
    print_table(("proved", "cases", "numbers", "largest", "mean", "cosine", "equal choices"), rows, right=range(1, 7))
    rule = parity.rule
    allowed = {
        "largest difference at most": rule.max_difference,
        "mean difference of log-probabilities at most": rule.most_mean_difference,
        "cosine at least": rule.least_cosine,
    }
    said = ", ".join(f"{words} {value:g}" for words, value in allowed.items() if value is not None)
    print(
        f"\nAllowed in {parity.precision}: {said}. Compared on {parity.texts} texts: {parity.runtime} "
        f"{parity.version} with torch {parity.torch} in fp32."
    )
    if parity.record.cut:
        print(f"Cut by --proof-seconds: {parity.record.cut}.")
    counts = "; ".join(
        f"{graph} {', '.join(f'{number} {name}' for name, number in operators.items() if number)}"
        for graph, operators in parity.wanted.items()
        if any(operators.values())
    )
    if counts:
        print(f"Operators, as many as the model's shape asks for: {counts}.")


def _print_gate(gated: Gated) -> None:
    """The cost of rounding, how sure it is, and the layers that stayed in fp32."""
    rows = []
    for each in gated.drops:
        drop = each.drop
        rows.append(
            (
                each.task,
                each.metric,
                f"{drop.n:,}",
                f"{drop.base:.4f}",
                f"{drop.found:.4f}",
                f"{drop.drop:.2f}{'%' if drop.unit == '%' else ''}",
                "" if drop.ci95 is None else f"{drop.ci95[0]:.2f} to {drop.ci95[1]:.2f}",
                _sureness(drop),
            )
        )
    print()
    print_table(("gate", "metric", "n", "fp32", "rounded", "drop", "95%", "a larger drop"), rows, right=range(2, 7))
    where = "; ".join(dict.fromkeys(f"{each.task}: {each.rows}" for each in gated.drops))
    print(f"\nAllowed: a drop of {gated.most:g} points. Measured on validation rows ({where}).")
    if gated.kept:
        names = ", ".join(each.layer.name for each in gated.kept[:NAMED])
        more = f" and {len(gated.kept) - NAMED} more" if len(gated.kept) > NAMED else ""
        before = ", ".join(f"{each.drop.drop:.2f} on {each.task}" for each in gated.first)
        print(
            f"Everything rounded, the drop was {before}. In fp32 stay {len(gated.kept)} of {gated.layers} layers "
            f"({gated.kept_share:.0%} of the weights): {names}{more}."
        )


def _sureness(drop: Drop) -> str:
    if drop.excluded:
        return "is excluded"
    if drop.needed is None:
        return "is open, however many examples"
    return f"is open; about {float(f'{drop.needed:.2g}'):,.0f} examples would tell"


def _row(graph: str, checks: Sequence[Check]) -> Sequence[str]:
    cosines = [check.cosine for check in checks if check.cosine is not None]
    return (
        graph,
        str(len(checks)),
        f"{sum(check.numbers for check in checks):,}",
        f"{max(check.max_difference for check in checks):.2g}",
        f"{max(check.mean_difference for check in checks):.2g}",
        f"{min(cosines):.5f}" if cosines else "",
        f"{min(check.agreement for check in checks):.1%}",
    )


def _megabytes(size_bytes: int) -> str:
    from lmtasks.report import format as form

    return form.size(size_bytes)
