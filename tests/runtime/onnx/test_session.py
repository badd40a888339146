"""Providers: what was asked for computes, or nothing does."""

from pathlib import Path

import pytest
from packed import package, runtime

from lmtasks.errors import UsageError, WorkError
from lmtasks.runtime.onnx.session import assigned_nodes, check_assigned, check_device, devices, open_session, shares

FILE = Path("heads.onnx")
CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


def test_the_processor_computes_every_node() -> None:
    counts = assigned_nodes(open_session(package("bert") / "heads.onnx", threads=1))
    assert set(counts) == {CPU}
    assert counts[CPU]["MultiHeadAttention"] == 1
    assert shares(counts) == f"{CPU} 100.0%"
    assert runtime("onnx", "bert").card.options["nodes"] == f"{CPU} 100.0%"


def test_operators_that_would_be_handed_over_are_an_error() -> None:
    check_assigned({CUDA: {"MatMul": 9}, CPU: {"Shape": 2, "Concat": 1}}, provider=CUDA, file=FILE)
    with pytest.raises(WorkError, match=r"hand 1 kinds of operators to others, BiasGelu to CPUExecutionProvider"):
        check_assigned({CUDA: {"MatMul": 9}, CPU: {"Shape": 2, "BiasGelu": 6}}, provider=CUDA, file=FILE)


def test_shares_are_of_nodes() -> None:
    assert shares({CPU: {"Shape": 1}, CUDA: {"MatMul": 2, "Add": 1}}) == f"{CUDA} 75.0%, {CPU} 25.0%"


@pytest.mark.skipif("cuda" in devices(), reason="it is there")
def test_a_provider_that_is_not_there_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"has no CUDAExecutionProvider here; it computes on cpu. Use --device cpu"):
        open_session(package("bert") / "heads.onnx", threads=1, device="cuda")
    with pytest.raises(UsageError, match=r"unknown device of onnx 'gpu'"):
        check_device("gpu")


def test_an_opset_that_this_onnxruntime_lacks_is_said(tmp_path: Path) -> None:
    import onnx

    model = onnx.load(package("bert") / "heads.onnx", load_external_data=False)
    model.opset_import[0].version = 99
    onnx.save(model, tmp_path / "heads.onnx")
    with pytest.raises(WorkError, match=r"onnxruntime [\d.]+ cannot open .*heads.onnx: .*opset"):
        open_session(tmp_path / "heads.onnx", threads=1)
