"""Export with proof: written aside, checked, renamed. A package that fails its proof is not written."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lmtasks.errors import UsageError, WorkError, unknown
from lmtasks.export.emit import EVERYTHING, export_model
from lmtasks.export.layers import Keep
from lmtasks.export.package import write_proofs
from lmtasks.export.ranges import CalibrationRow
from lmtasks.prove.gate import Gate, Gated, GateSearch
from lmtasks.prove.parity import Parity, check_parity
from lmtasks.records import Progress
from lmtasks.results.proof import Check, Rule
from lmtasks.runtime.onnx.session import PROVIDERS, devices
from lmtasks.runtime.open import check_runs
from lmtasks.settings.runtimes import (
    MADE_FOR,
    PRECISIONS,
    Precision,
    RuntimeName,
    needs_gpu,
    package_precisions,
    package_runtimes,
)

COMPUTED_WHOLE: frozenset[Precision] = frozenset({"fp16", "bf16"})
"""Precisions in which all of a graph is computed: no layer of it can stay in fp32."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """An exported package with its proofs."""

    parity: Parity
    gated: Gated | None
    """None where no gate was asked for."""


def export_and_prove(
    model_folder: Path,
    *,
    out: Path,
    precision: str,
    texts: Sequence[str],
    report: Callable[[Progress], None],
    base: Path | None = None,
    threads: int | None = None,
    gate: Gate | None = None,
    rows: Sequence[CalibrationRow] = (),
    runtime: RuntimeName = MADE_FOR,
    force: bool = False,
    proof_seconds: float | None = None,
) -> Exported:
    """Export a model, and keep the package only if it answers as the model does.

    Args:
        out: the package's folder, which must not exist.
        texts: real texts on which the answers are compared.
        base: an fp32 package of the same model; its graphs are then rounded, and not made anew.
        gate: what rounding may cost; layers stay in fp32 until it holds.
        rows: real ones, on which `int8-static` measures its scales.
        runtime: that the package is for, and is proved in.
        force: also in a precision that the processor emulates.
        proof_seconds: budget of each proof, see `check_parity`; None: all cases are proved.

    Raises:
        UsageError: `out` exists, or the model or precision cannot be exported.
        WorkError: the export or its proof failed, or the disk is full or read-only.
        GateError: the gate does not hold.
    """
    if out.exists():
        raise UsageError(f"{out} exists already; remove it, or give another --out.")
    if gate is not None and precision == "fp32":
        raise UsageError("--max-drop measures what rounding costs, and fp32 rounds nothing; give another --precision.")
    _check_provable(precision, runtime=runtime, force=force)
    aside, plain = out.with_name(f"{out.name}.part"), out.with_name(f"{out.name}.fp32.part")

    def write(folder: Path, keep: Keep, *, plain: Path | None) -> None:
        export_model(
            model_folder,
            out=folder,
            precision=precision,
            report=report,
            base=plain,
            keep=keep,
            rows=rows,
            runtime=runtime,
        )

    def proved(folder: Path) -> Parity:
        return _proved(
            folder,
            model_folder,
            texts=texts,
            threads=threads,
            force=force,
            budget_seconds=proof_seconds,
            report=report,
        )

    try:
        for folder in (aside, plain):
            shutil.rmtree(folder, ignore_errors=True)
        aside.mkdir(parents=True)
        gated = None
        if gate is not None:
            if base is None:
                plain.mkdir()
                export_model(model_folder, out=plain, precision="fp32", report=report)
                proved(plain)
                base = plain
            gated = GateSearch(
                gate=gate,
                base=base,
                precision=precision,
                aside=out.with_name(f"{out.name}.tried.part"),
                make=lambda folder, keep: write(folder, keep, plain=base),
                threads=threads,
                report=report,
                layers=precision not in COMPUTED_WHOLE,
            ).run()
        write(aside, gated.keep if gated else EVERYTHING, plain=base)
        parity = proved(aside)
        write_proofs(aside, parity=parity.record.content(), gate=gated.record.content() if gated else None)
        aside.rename(out)
    except OSError as error:
        raise WorkError(f"{out} cannot be written: {error.strerror or error}.") from error
    finally:
        for folder in (aside, plain):
            shutil.rmtree(folder, ignore_errors=True)
    return Exported(parity=parity, gated=gated)


def _check_provable(precision: str, *, runtime: RuntimeName, force: bool) -> None:
    """Raises: UsageError: what cannot be run here cannot be proved here."""
    if runtime not in package_runtimes():
        raise UsageError(
            f"packages are made for {' or '.join(package_runtimes())}; {runtime} runs what `lmtasks adapt` makes, as "
            "it is."
        )
    if precision not in PRECISIONS:
        raise unknown("precision of an export", precision, PRECISIONS)
    if runtime != MADE_FOR:
        check_runs(runtime=runtime, device="cpu", precision=precision, force=force)
    elif needs_gpu(precision) and "cuda" not in devices():
        raise UsageError(
            f"a package in {precision} is computed and proved on a GPU, and onnxruntime has no {PROVIDERS['cuda']} "
            f"here; it computes on {', '.join(devices())}. Put onnxruntime-gpu in the place of onnxruntime (each "
            "overwrites the other: uninstall both first), or take one of: "
            f"{', '.join(package_precisions('cpu'))}."
        )


def _proved(
    folder: Path,
    model_folder: Path,
    *,
    texts: Sequence[str],
    threads: int | None,
    force: bool,
    budget_seconds: float | None,
    report: Callable[[Progress], None],
) -> Parity:
    parity = check_parity(
        folder,
        model_folder,
        texts=texts,
        threads=threads,
        force=force,
        budget_seconds=budget_seconds,
        report=report,
    )
    if not parity.ok:
        failed = next((check for check in parity.checks if not check.ok), None)
        raise WorkError(
            f"the {parity.precision} export of {model_folder} {_for(parity)}failed its proof and was not kept: "
            f"{f'{parity.missing}.' if failed is None else _failure(failed, parity.rule)}"
        )
    return parity


def _for(parity: Parity) -> str:
    return "" if parity.runtime == MADE_FOR else f"for {parity.runtime} "


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
