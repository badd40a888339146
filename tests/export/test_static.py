"""`int8-static`: scales that were fixed on real rows."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from packed import model_folder, package, padded
from tiny import TEXTS

from lmtasks.errors import UsageError
from lmtasks.export.emit import export_model, load_graphs
from lmtasks.export.graph import count_operators, save_graphs, stored
from lmtasks.export.package import load_package
from lmtasks.export.quantize import quantize_fixed
from lmtasks.export.ranges import CalibrationRow, Range, measure_ranges
from lmtasks.export.weight_rounding import product_inputs
from lmtasks.prove.export import export_and_prove
from lmtasks.records import Floats32
from lmtasks.runtime.onnx.session import open_session
from lmtasks.runtime.open import open_runtime

RANDOM = np.random.default_rng(0)
ROWS = tuple(
    CalibrationRow(ids=tuple(RANDOM.integers(2, 290, int(RANDOM.integers(3, 20))).tolist())) for _ in range(120)
)


def test_a_range_spends_its_steps_between_its_ends() -> None:
    found = Range(low=-1.0, high=4.1)
    assert (round(found.scale, 6), found.zero) == (0.02, 50)
    values = np.array([-2.0, -1.0, 0.0, 0.013, 4.1, 9.0], dtype=np.float32)
    np.testing.assert_allclose(found.rounded(values), [-1.0, -1.0, 0.0, 0.02, 4.1, 4.1], atol=1e-6)
    assert Range(low=0.0, high=0.0).rounded(values).tolist() == pytest.approx([0.0] * 6, abs=1e-6)


def _product(weight: Floats32) -> ir.Model:
    """x = table[ids], x W: a graph with the inputs of an encoder."""
    ids = ir.val("ids", dtype=ir.DataType.INT64, shape=["batch", "columns"])
    table, matrix = stored("table", TABLE), stored("w", weight)
    picked = ir.node("Gather", [table, ids], {"axis": 0})
    picked.outputs[0].name = "x"
    out = ir.node("MatMul", [picked.outputs[0], matrix])
    out.outputs[0].name, out.outputs[0].type = "out", ir.TensorType(ir.DataType.FLOAT)
    made = ir.Graph([ids], [out.outputs[0]], nodes=[picked, out], initializers=[table, matrix], opset_imports={"": 20})
    return ir.Model(made, ir_version=10)


TABLE = RANDOM.normal(size=(300, 32)).astype(np.float32)


def test_ranges_are_those_that_the_product_needs(tmp_path: Path) -> None:
    """One outlier in a column that the product hardly reads: most of the range is better spent on the rest."""
    weight = RANDOM.normal(size=(32, 24)).astype(np.float32)
    plain = _product(weight)
    (seen,) = measure_ranges(plain, ROWS, folder=tmp_path).values()
    ids = np.concatenate([row.ids for row in ROWS])
    assert seen.low == pytest.approx(float(TABLE[ids].min()), rel=0.5)
    assert [value.name for value in plain.graph.outputs] == ["out"]  # the graph is as it was
    assert not list(tmp_path.iterdir())
    weight[5] = 0.0
    table = TABLE.copy()
    table[:, 5] *= 30
    outlying = _product(weight)
    outlying.graph.initializers["table"].const_value = ir.tensor(table, name="table")
    (cut,) = measure_ranges(outlying, ROWS, folder=tmp_path).values()
    assert cut.high < 0.4 * float(table[ids].max())


def test_a_graph_without_large_products_has_no_ranges(tmp_path: Path) -> None:
    model = _product(np.ones((32, 4), dtype=np.float32))
    assert measure_ranges(model, ROWS, folder=tmp_path) == {}
    assert not list(tmp_path.iterdir())


def test_a_product_by_fixed_scales_is_two_operators(tmp_path: Path) -> None:
    weight = RANDOM.normal(size=(32, 24)).astype(np.float32)
    model = _product(weight)
    ranges = measure_ranges(model, ROWS, folder=tmp_path)
    assert set(ranges) == set(product_inputs(model)) == {"x"}
    assert quantize_fixed(model, ranges) == 1
    assert count_operators(model) == {"Gather": 1, "QuantizeLinear": 1, "MatMulIntegerToFloat": 1}
    save_graphs({tmp_path / "graph.onnx": model}, weights=tmp_path / "weights.bin")
    session = open_session(tmp_path / "graph.onnx", threads=1)
    ids = np.array([ROWS[0].ids[:3]])
    (found,) = session.run(None, {"ids": ids})
    np.testing.assert_allclose(found, TABLE[ids] @ weight, atol=0.5)


def test_an_encoder_by_fixed_scales_is_proved_and_knows_no_neighbours(tmp_path: Path) -> None:
    made = export_and_prove(
        model_folder("bert"),
        out=tmp_path / "package",
        precision="int8-static",
        texts=TEXTS,
        report=lambda progress: None,
        base=package("bert"),
        threads=1,
        rows=ROWS,
    )
    assert made.parity.ok
    (graph,) = load_graphs(load_package(tmp_path / "package")).values()
    assert "ReduceMax" not in count_operators(graph)
    assert count_operators(graph)["MatMulIntegerToFloat"] == 5
    runtime = open_runtime(tmp_path / "package", runtime="onnx", threads=1)
    rows = [list(row.ids) for row in ROWS[:5]]
    together = runtime.predict("topic", padded(rows))
    for number, row in enumerate(rows):
        np.testing.assert_allclose(runtime.predict("topic", padded([row]))[0], together[number], atol=1e-5)
    assert runtime.card.precision == "int8-static"


def test_what_it_needs_is_said(tmp_path: Path) -> None:
    def export(name: str, rows: tuple[CalibrationRow, ...]) -> None:
        export_model(
            model_folder(name),
            out=tmp_path,
            precision="int8-static",
            report=lambda progress: None,
            base=package(name),
            rows=rows,
        )

    with pytest.raises(UsageError, match=r"at least 100 real rows, and there are 99; name --tasks"):
        export("bert", ROWS[:99])
    with pytest.raises(UsageError, match=r"int8-static is for encoders.*gpt2-0 is causal.*take int8"):
        export("gpt2", ROWS)
