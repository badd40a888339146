"""`fp16` and `bf16`: graphs in 16 bits, close to fp32, with answers in fp32; refused where nothing can run them."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from packed import model_folder, package, padded, random_rows, runtime
from tiny import TEXTS

from lmtasks.errors import UsageError
from lmtasks.export.emit import export_model, load_graphs
from lmtasks.export.graph import save_graphs
from lmtasks.export.half import check_half, to_half
from lmtasks.export.package import load_package
from lmtasks.prove.export import export_and_prove
from lmtasks.runtime.onnx.session import devices
from lmtasks.runtime.open import open_runtime

HALVES = {"fp16": onnx.TensorProto.FLOAT16, "bf16": onnx.TensorProto.BFLOAT16}


def rewritten(precision: str, folder: Path, name: str = "bert") -> onnx.ModelProto:
    graphs = load_graphs(load_package(package(name)))
    assert to_half(graphs["heads"], precision=precision) > 10
    save_graphs({folder / "heads.onnx": graphs["heads"]}, weights=folder / "weights.bin")
    return onnx.load(folder / "heads.onnx")


@pytest.mark.parametrize("precision", HALVES)
def test_weights_are_in_16_bits_and_answers_in_fp32(precision: str, tmp_path: Path) -> None:
    made = rewritten(precision, tmp_path)
    onnx.checker.check_model(str(tmp_path / "heads.onnx"), check_custom_domain=False)
    types = {tensor.data_type for tensor in made.graph.initializer}
    assert onnx.TensorProto.FLOAT not in types
    assert HALVES[precision] in types
    assert {out.type.tensor_type.elem_type for out in made.graph.output} == {onnx.TensorProto.FLOAT}
    assert [out.name for out in made.graph.output] == [
        out.name for out in onnx.load(package("bert") / "heads.onnx").graph.output
    ]
    whole = sum(value.size_bytes for value in load_package(package("bert")).files.values() if value.size_bytes > 4096)
    assert (tmp_path / "weights.bin").stat().st_size < 0.6 * whole


@pytest.mark.parametrize("model", ["bert", "modernbert"])
def test_answers_are_close(model: str, tmp_path: Path) -> None:
    """On the processor onnxruntime computes fp16 in fp32 between casts: enough to see that the graph is right."""
    rewritten("fp16", tmp_path, model)
    session = onnxruntime.InferenceSession(str(tmp_path / "heads.onnx"), providers=["CPUExecutionProvider"])
    batch = padded(random_rows(9, 4, 12))
    feeds = {"ids": batch.ids, "mask": batch.mask, "types": np.zeros_like(batch.ids)}
    names = [item.name for item in session.get_outputs()]
    answers = session.run(names, {item.name: feeds[item.name] for item in session.get_inputs()})
    for name, found in zip(names, answers, strict=True):
        wanted = runtime("onnx", model).predict(name.removeprefix("head."), batch)
        real = batch.mask if wanted.ndim == 3 else np.ones(len(wanted), dtype=np.bool_)
        np.testing.assert_allclose(found[real], wanted[real], atol=0.05, rtol=0.02)


def test_what_adds_up_stays_in_fp32_between_casts() -> None:
    x = ir.val("x", dtype=ir.DataType.FLOAT, shape=["rows", 8])
    soft = ir.node("Softmax", [x], {"axis": -1})
    soft.outputs[0].name = "p"
    twice = ir.node("Add", [soft.outputs[0], soft.outputs[0]])
    out = twice.outputs[0]
    out.name, out.type, out.shape = "out", ir.TensorType(ir.DataType.FLOAT), ir.Shape(["rows", 8])
    model = ir.Model(ir.Graph([x], [out], nodes=[soft, twice], opset_imports={"": 20}, name="test"), ir_version=10)
    assert to_half(model, precision="fp16") == 1
    assert [node.op_type for node in model.graph] == ["Cast", "Softmax", "Cast", "Add", "Cast"]
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(["out"], {"x": np.zeros((2, 8), dtype=np.float16)})
    np.testing.assert_allclose(found, np.full((2, 8), 0.25, dtype=np.float32))


def test_masks_beyond_the_range_are_cut_to_its_end() -> None:
    x = ir.val("x", dtype=ir.DataType.FLOAT, shape=[2])
    least = ir.val(
        "least", dtype=ir.DataType.FLOAT, const_value=ir.tensor(np.full(2, -3.4e38, np.float32), name="least")
    )
    node = ir.node("Max", [x, least])
    node.outputs[0].name, node.outputs[0].type = "out", ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph([x], [node.outputs[0]], nodes=[node], initializers=[least], opset_imports={"": 20}, name="test")
    model = ir.Model(graph, ir_version=10)
    to_half(model, precision="fp16")
    tensor = model.graph.initializers["least"].const_value
    assert tensor is not None
    assert tensor.numpy().tolist() == [-65504.0, -65504.0]


def test_what_cannot_be_made_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"leave the range of fp16; export it in bf16 or fp32"):
        check_half("fp16", family="t5", built=True, name="t5-small")
    check_half("bf16", family="t5", built=True, name="t5-small")
    with pytest.raises(UsageError, match=r"were traced; export it in fp32"):
        check_half("bf16", family="opt", built=False, name="opt-125m")


@pytest.mark.skipif("cuda" in devices(), reason="it can be run here")
def test_where_nothing_runs_it_nothing_is_written(tmp_path: Path) -> None:
    lacks = r"in fp16 is .*no CUDAExecutionProvider here; it computes on cpu.*onnxruntime-gpu.*one of: fp32, int8"
    with pytest.raises(UsageError, match=lacks):
        export_and_prove(
            model_folder("bert"), out=tmp_path / "p", precision="fp16", texts=TEXTS, report=lambda progress: None
        )
    assert not list(tmp_path.iterdir())


def test_a_package_in_16_bits_is_no_package_for_the_processor(tmp_path: Path) -> None:
    export_model(
        model_folder("bert"), out=tmp_path, precision="fp16", report=lambda progress: None, base=package("bert")
    )
    with pytest.raises(UsageError, match=r"is in fp16, which onnxruntime computes on a GPU only.*on cpu one of: fp32"):
        open_runtime(tmp_path, runtime="onnx")
