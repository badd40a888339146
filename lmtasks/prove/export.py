"""Export with proof: written aside, checked, renamed. A package that fails its proof is not written."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from lmtasks.errors import UsageError, WorkError
from lmtasks.export.emit import export_model
from lmtasks.export.package import write_parity
from lmtasks.prove.compare import Check, Rule
from lmtasks.prove.parity import Parity, check_parity
from lmtasks.records import Progress


def export_and_prove(
    model_folder: Path,
    *,
    out: Path,
    precision: str,
    texts: Sequence[str],
    report: Callable[[Progress], None],
    base: Path | None = None,
    threads: int | None = None,
) -> Parity:
    """Export a model, and keep the package only if it answers as the model does.

    Args:
        out: the package's folder, which must not exist.
        texts: real texts on which the answers are compared.
        base: an fp32 package of the same model; its graphs are then rounded, and not made anew.

    Raises:
        UsageError: `out` exists, or the model or precision cannot be exported.
        WorkError: the export or its proof failed, or the disk is full or read-only.
    """
    if out.exists():
        raise UsageError(f"{out} exists already; remove it, or give another --out.")
    aside = out.with_name(f"{out.name}.part")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        export_model(model_folder, out=aside, precision=precision, report=report, base=base)
        parity = check_parity(aside, model_folder, texts=texts, threads=threads, report=report)
        if not parity.ok:
            raise WorkError(
                f"the {precision} export of {model_folder} failed its proof and was not kept: "
                f"{_failure(next(check for check in parity.checks if not check.ok), parity.rule)}"
            )
        write_parity(aside, parity.json())
        aside.rename(out)
    except OSError as error:
        raise WorkError(f"{out} cannot be written: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return parity


def _failure(check: Check, rule: Rule) -> str:
    """One sentence on what went wrong."""
    found = (
        f"{check.graph}, case {check.case!r}: largest difference {check.max_difference:.2g}, mean "
        f"{check.mean_difference:.2g}, {check.agreement:.1%} equal choices"
    )
    allowed = {
        "a largest difference of at most": rule.max_difference,
        "a mean difference of log-probabilities of at most": rule.most_mean_difference,
        "a cosine of at least": rule.least_cosine,
    }
    wanted = ", ".join(f"{words} {value:g}" for words, value in allowed.items() if value is not None)
    cosine = "" if check.cosine is None else f", cosine {check.cosine:.4f}"
    return f"{found}{cosine}; allowed is {wanted}."
