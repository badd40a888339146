"""The file of weights: each value once, and as it was."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from lmtasks.errors import WorkError
from lmtasks.export.graph import FLOAT, GraphBuilder, fold_transposes, save_graphs

TABLE = np.random.default_rng(0).normal(size=(64, 32)).astype(np.float32)


def _graphs() -> tuple[ir.Model, ir.Model]:
    """Two graphs that multiply with one table, one of them with the table turned."""
    made = []
    for name, table in (("plain", TABLE), ("turned", np.ascontiguousarray(TABLE.T))):
        graph = GraphBuilder(name)
        x = graph.input("x", dtype=FLOAT, shape=["rows", len(table)])
        y = graph.add("MatMul", x, graph.constant("table", table))
        graph.output("y", y, dtype=FLOAT, shape=["rows", table.shape[1]])
        made.append(graph.model())
    return made[0], made[1]


def test_equal_values_lie_there_once_and_come_back_as_they_were(tmp_path: Path) -> None:
    files = {tmp_path / f"{number}.onnx": model for number, model in enumerate(_graphs())}
    save_graphs(files, weights=tmp_path / "weights.bin")
    assert (tmp_path / "weights.bin").stat().st_size == TABLE.nbytes
    for file, wanted in zip(files, (TABLE, TABLE.T), strict=True):
        model = ir.load(file)
        fold_transposes(model)
        (value,) = model.graph.initializers.values()
        assert value.const_value is not None
        np.testing.assert_array_equal(value.const_value.numpy(), wanted)


def test_a_disk_that_keeps_other_values_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ir.Tensor, "tobytes", lambda tensor: bytes(tensor.nbytes))
    model, _ = _graphs()
    with pytest.raises(WorkError, match=r"weights.bin does not hold the weights that were written to it \(from byte 0"):
        save_graphs({tmp_path / "0.onnx": model}, weights=tmp_path / "weights.bin")
