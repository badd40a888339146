"""OpenVINO runs what passes its proof there, and says what it cannot run; packages for others stay theirs."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from packed import CALIBRATION, PREDICTING, model_folder, package, padded, random_rows, runtime
from tiny import TEXTS

from lmtasks.errors import UsageError, WorkError
from lmtasks.export.package import MANIFEST, load_package
from lmtasks.prove.export import export_and_prove
from lmtasks.records import Progress
from lmtasks.runtime.open import list_runtimes, open_runtime
from lmtasks.workflow.open_model import runtime_for

installed = pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")


def ignored(progress: Progress) -> None:
    """A report that nobody reads."""


@installed
@pytest.mark.parametrize("name", ["bert", "modernbert"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8-static"])
def test_an_encoder_is_proved_in_every_precision_that_is_offered(name: str, precision: str) -> None:
    made = load_package(package(name, precision, "openvino"))
    assert made.parity["ok"] is True
    assert (made.runtime, made.device, made.precision) == ("openvino", "cpu", precision)
    assert made.parity["precision"] == precision
    assert "onnxruntime" not in made.parity
    assert str(made.parity["openvino"]).startswith("20")
    checks = made.parity["checks"]
    assert isinstance(checks, tuple | list)
    assert {check["graph"] for check in checks} == {f"head.{head}" for head in PREDICTING}
    largest = max(check["max_difference"] for check in checks)
    assert largest < 1e-3 if precision == "fp32" else largest > 1e-4  # it is another precision


@installed
@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8-static"])
def test_a_package_runs_where_it_was_proved_and_nowhere_else(precision: str) -> None:
    folder = package("bert", precision, "openvino")
    assert runtime_for(folder, wanted=None) == "openvino"
    ours = open_runtime(folder, runtime="openvino", threads=1)
    assert (ours.card.runtime, ours.card.precision) == ("openvino", precision)
    assert ours.card.options["INFERENCE_PRECISION_HINT"] == {"bf16": "bf16"}.get(precision, "f32")
    with pytest.raises(UsageError, match=r"exported for openvino and proved there; use --runtime openvino, or make"):
        open_runtime(folder, runtime="onnx")
    with pytest.raises(UsageError, match=r"was asked for .*`lmtasks export --runtime openvino --precision"):
        open_runtime(folder, runtime="openvino", precision="bf16" if precision == "fp32" else "fp32")
    ours.close()


@installed
def test_a_package_for_onnx_is_not_opened_and_its_manifest_is_what_it_was() -> None:
    with pytest.raises(UsageError, match=r"exported for onnx .*lmtasks export --runtime openvino --precision fp32"):
        open_runtime(package("bert"), runtime="openvino")
    with pytest.raises(UsageError, match=r"is no exported package, and openvino runs packages only: make one with"):
        open_runtime(model_folder("bert"), runtime="openvino")
    assert "runtime" not in json.loads((package("bert") / MANIFEST).read_text(encoding="utf-8"))


@installed
def test_calls_beside_each_other_answer_alike() -> None:
    one = runtime("openvino", "bert")
    two = open_runtime(package("bert", "fp32", "openvino"), runtime="openvino", threads=2)
    assert (one.card.callers, two.card.callers) == (1, 2)
    assert one.for_concurrent_calls() is one
    beside = two.for_concurrent_calls()
    assert beside is not two
    rows = padded(random_rows(6, 2, 9, 4))
    for head in PREDICTING:
        np.testing.assert_allclose(beside.predict(head, rows), one.predict(head, rows), atol=1e-4)
        np.testing.assert_allclose(two.predict(head, rows), one.predict(head, rows), atol=1e-4)
    two.close()


@installed
@pytest.mark.parametrize("name", ["bilstm", "bigru"])
def test_wrong_answers_on_padded_rows_are_found_by_the_proof_and_nothing_is_kept(name: str, tmp_path: Path) -> None:
    out = tmp_path / "package"
    with pytest.raises(WorkError, match=r"for openvino failed its proof and was not kept: head\..*largest difference"):
        export_and_prove(model_folder(name), out=out, precision="fp32", texts=TEXTS, report=ignored, runtime="openvino")
    assert not list(tmp_path.iterdir())


@installed
def test_operators_that_it_does_not_have_are_named() -> None:
    from openvino import Core

    from lmtasks.runtime.openvino.graphs import compiled, options

    file = package("llama") / "decoder.onnx"
    with pytest.raises(
        WorkError, match=r"openvino 20\S+ cannot open .*decoder\.onnx: it does not have com\.microsoft\.Gr"
    ):
        compiled(Core(), file, options("fp32", threads=1, streams=1))
    with pytest.raises(WorkError, match=r"cannot open .*nothing\.onnx: "):
        compiled(Core(), file.with_name("nothing.onnx"), options("fp32", threads=1, streams=1))


@installed
def test_what_it_does_not_run_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    def export(name: str, *, precision: str = "fp32", made_for: str = "openvino") -> None:
        export_and_prove(
            model_folder(name),
            out=tmp_path / "package",
            precision=precision,
            texts=TEXTS,
            report=ignored,
            rows=CALIBRATION,
            runtime=made_for,
        )

    with pytest.raises(UsageError, match=r"openvino runs packages of encoders; .* is causal and writes token by token"):
        export("llama")
    with pytest.raises(UsageError, match=r"openvino cannot compute in 'int4' here; it can in: fp32"):
        export("bert", precision="int4")
    with pytest.raises(UsageError, match=r"packages are made for onnx or openvino; torch runs what"):
        export("bert", made_for="torch")
    with pytest.raises(UsageError, match="unknown precision of an export"):
        export("bert", precision="int3")
    assert not list(tmp_path.iterdir())


@installed
def test_an_emulated_precision_is_refused_and_force_measures_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = package("bert", "bf16", "openvino")
    monkeypatch.setattr("lmtasks.processor.processor_flags", lambda: frozenset({"avx2"}))
    for kind, ref in (("openvino", folder), ("torch", model_folder("bert"))):
        said = rf"{kind} would emulate bf16 here: the processor has none of AVX-512 BF16.*--force measures it"
        with pytest.raises(UsageError, match=said):
            open_runtime(ref, runtime=kind, precision="bf16")
        forced = open_runtime(ref, runtime=kind, precision="bf16", threads=1, force=True)
        assert forced.card.precision == "bf16"
        forced.close()
    listed = {info.name: info for info in list_runtimes()}
    assert listed["openvino"].precisions == ("fp32", "int8-static")
    assert "bf16 is emulated" in listed["openvino"].note
    assert listed["openvino"].emulated == listed["torch"].emulated == ("bf16",)
    with pytest.raises(UsageError, match="openvino would emulate bf16"):
        export_and_prove(
            model_folder("bert"),
            out=tmp_path / "package",
            precision="bf16",
            texts=TEXTS,
            report=ignored,
            runtime="openvino",
        )


@pytest.mark.parametrize(
    ("there", "said"),
    [
        (None, r"openvino cannot compute on 'cpu' here.* it is not installed: pip install 'lmtasks\[openvino\]'"),
        ("2025.3.0", r"openvino 2025\.3\.0 is there, and at least 2026\.4 and less than 2027 is driven: pip install"),
    ],
)
def test_without_its_extra_it_is_listed_as_missing(
    there: str | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from importlib.metadata import PackageNotFoundError

    def version(name: str) -> str:
        if there is None:
            raise PackageNotFoundError(name)
        return there

    monkeypatch.setattr("lmtasks.runtime.openvino.open.version", version)
    info = next(info for info in list_runtimes() if info.name == "openvino")
    assert (info.version, info.devices, info.precisions) == (there or "", (), ())
    with pytest.raises(UsageError, match=said):
        open_runtime(package("bert"), runtime="openvino")
    with pytest.raises(UsageError, match=said):
        export_and_prove(
            model_folder("bert"),
            out=tmp_path / "package",
            precision="fp32",
            texts=TEXTS,
            report=ignored,
            runtime="openvino",
        )
