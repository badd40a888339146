"""Recurrent layers as ONNX has them, with the real length of each row: nothing is packed, and the way back begins at a
row's own last token.

ONNX keeps the gates of an LSTM as i, o, f, c where torch has i, f, g, o, and those of a GRU as z, r, h where torch has
r, z, n. torch's GRU multiplies with the reset gate behind the product: `linear_before_reset`.

Axes: S columns, B rows, D width of what is read, G gates, U units of a layer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lmtasks.export.checkpoint import Weights
from lmtasks.export.graph import INT32, Attribute, GraphBuilder
from lmtasks.records import Floats32

if TYPE_CHECKING:
    import onnx_ir as ir

GATES: Mapping[str, Sequence[int]] = {"rnn": (0,), "lstm": (0, 3, 1, 2), "gru": (1, 0, 2)}
"""By cell: which of torch's gates stands at each of ONNX's places."""
OPERATORS: Mapping[str, str] = {"rnn": "RNN", "lstm": "LSTM", "gru": "GRU"}


@dataclass(frozen=True, kw_only=True)
class RecurrentCell:
    """One layer, one way, its gates in ONNX's order."""

    kind: str
    """`rnn`, `lstm` or `gru`."""
    given: Floats32
    """(G x U, D)"""
    kept: Floats32
    """(G x U, U)"""
    bias: Floats32
    """(2 x G x U,): for what is given, then for what is kept."""

    @property
    def units(self) -> int:
        """U"""
        return int(self.kept.shape[1])


def cell_of(weights: Weights, name: str, kind: str) -> RecurrentCell:
    """A layer of torch's."""

    def gates(part: str) -> Floats32:
        torch_order = np.split(weights.take(f"{name}.{part}_l0"), len(GATES[kind]))
        return np.concatenate([torch_order[place] for place in GATES[kind]])

    return RecurrentCell(
        kind=kind,
        given=gates("weight_ih"),
        kept=gates("weight_hh"),
        bias=np.concatenate([gates("bias_ih"), gates("bias_hh")]),
    )


def recurrent(
    graph: GraphBuilder,
    name: str,
    x: "ir.Value",
    cells: Sequence[RecurrentCell],
    *,
    lengths: "ir.Value",
    before: "Sequence[ir.Value]" = (),
) -> "Sequence[ir.Value]":
    """One layer, one way or both.

    Args:
        name: of its weights.
        x: (S, B, D)
        cells: forth, or forth and back.
        lengths: int32 (B,), each at least 1.
        before: what each row begins with, one value a part of the state, (ways, B, U); none: zeros.

    Returns:
        What it says, (S, ways, B, U), zeros behind a row's end; then the parts of the state behind each row's last
        token, (ways, B, U).
    """
    kind, parts = cells[0].kind, 2 if cells[0].kind == "lstm" else 1
    attributes: dict[str, Attribute] = {
        "hidden_size": cells[0].units,
        "direction": "bidirectional" if len(cells) == 2 else "forward",
    }
    if kind == "gru":
        attributes["linear_before_reset"] = 1
    return graph.add_many(
        OPERATORS[kind],
        x,
        graph.constant(f"{name}.given", np.stack([cell.given for cell in cells])),
        graph.constant(f"{name}.kept", np.stack([cell.kept for cell in cells])),
        graph.constant(f"{name}.bias", np.stack([cell.bias for cell in cells])),
        lengths,
        *before,
        outputs=1 + parts,
        attributes=attributes,
    )


def lengths_of(graph: GraphBuilder, mask: "ir.Value") -> "ir.Value":
    """Of right-padded rows, bool (B, S) -> int32 (B,). A row without any token reads one column of padding: the
    operators take no empty rows."""
    real = graph.add("Cast", mask, attributes={"to": INT32})
    counted = graph.add("ReduceSum", real, graph.integers(1), attributes={"keepdims": 0})
    return graph.add("Max", counted, graph.constant("int32.1", np.int32(1)))


def columns_first(graph: GraphBuilder, name: str, table: Floats32, ids: "ir.Value") -> "ir.Value":
    """Embeddings of ids (B, S) as recurrent layers read them, (S, B, D)."""
    return graph.add("Gather", graph.constant(name, table), graph.add("Transpose", ids, attributes={"perm": (1, 0)}))
