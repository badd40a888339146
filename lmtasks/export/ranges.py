"""How far the activations in front of each product reach, seen on real rows: the fixed scales of `int8-static`.

Each row runs alone through the fp32 graph, so that no padding is seen. A range from the least to the largest value ever
seen spends most of 255 steps on a few outliers; of ranges shrunk step by step the one is taken whose product, over a
sample of the rows, comes nearest to the product in fp32. What lies beyond a range is cut to its end.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lmtasks.errors import UsageError
from lmtasks.export.weight_rounding import column_scales, product_inputs, rounded
from lmtasks.records import Floats32

if TYPE_CHECKING:
    import onnx_ir as ir

LEAST_ROWS = 100
"""Fewer real rows tell too little of what will come."""
SAMPLED_ROWS = 256
"""Rows of activations that ranges are compared on, of each product."""
SHRUNK = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)

Tokens = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class CalibrationRow:
    """A real row, as the model reads it."""

    ids: Tokens
    types: Tokens = ()
    """Segment ids; empty where the model takes none."""


@dataclass(frozen=True, kw_only=True)
class Range:
    """Where 8 bits are spent: from `low` to `high`, zero inside."""

    low: float
    high: float

    @property
    def scale(self) -> float:
        """The width of a step."""
        return max((self.high - self.low) / 255, 1e-12)

    @property
    def zero(self) -> int:
        """The step that stands for zero, 0-255."""
        return int(np.clip(np.rint(-self.low / self.scale), 0, 255))

    def rounded(self, values: Floats32) -> Floats32:
        """Values cut to the range and rounded to its steps."""
        steps = np.clip(np.rint(values / self.scale) + self.zero, 0, 255)
        near: Floats32 = ((steps - self.zero) * self.scale).astype(np.float32)
        return near


def check_rows(rows: Sequence[CalibrationRow]) -> None:
    """Raises: UsageError: there are too few rows to measure ranges on."""
    if len(rows) < LEAST_ROWS:
        raise UsageError(
            f"int8-static measures the range of activations on at least {LEAST_ROWS} real rows, and there are "
            f"{len(rows)}; name --tasks with more training rows, or give --data FILE --text COLUMN."
        )


def measure_ranges(model: "ir.Model", rows: Sequence[CalibrationRow], *, folder: Path) -> Mapping[str, Range]:
    """The range of what each product is given, by the name of its input.

    Args:
        model: a graph that takes `ids`, `mask` and perhaps `types`, (B, S); it is left as it was.
        folder: for the files that onnxruntime reads; they are removed.
    """
    inputs = product_inputs(model)
    if not inputs:  # the answers of a graph without such products are no activations
        return {}
    seen = {name: _Seen() for name in inputs}
    for values in _activations(model, tuple(inputs), rows, folder=folder):
        for name, value in values.items():
            seen[name].take(value)
    return {name: _best(seen[name], inputs[name]) for name in inputs}


class _Seen:
    """The extremes of one value, and a sample of its rows."""

    def __init__(self) -> None:
        self.low = self.high = 0.0
        self._kept: list[Floats32] = []
        self._count = 0
        self._random = np.random.default_rng(0)

    def take(self, value: Floats32) -> None:
        """(..., K). Every row ever seen has the same chance to be in the sample."""
        rows = value.reshape(-1, value.shape[-1])
        self.low, self.high = min(self.low, float(rows.min())), max(self.high, float(rows.max()))
        for row in rows:
            self._count += 1
            if len(self._kept) < SAMPLED_ROWS:
                self._kept.append(row.copy())
            elif (place := int(self._random.integers(self._count))) < SAMPLED_ROWS:
                self._kept[place] = row.copy()

    @property
    def sample(self) -> Floats32:
        """(SAMPLED_ROWS or fewer, K)"""
        return np.stack(self._kept)


def _best(seen: _Seen, weights: Sequence[Floats32]) -> Range:
    sample = seen.sample
    pairs = [(weight, rounded(weight, scales := column_scales(weight)) * scales) for weight in weights]

    def error(found: Range) -> float:
        cut = found.rounded(sample)
        return sum(float(np.square(sample @ weight - cut @ small).sum(dtype=np.float64)) for weight, small in pairs)

    return min((Range(low=seen.low * part, high=seen.high * part) for part in SHRUNK), key=error)


def _activations(
    model: "ir.Model", names: tuple[str, ...], rows: Sequence[CalibrationRow], *, folder: Path
) -> Iterator[Mapping[str, Floats32]]:
    """Inputs of the products, row by row."""
    import onnx_ir as ir
    import onnxruntime

    wanted = {str(node.inputs[0].name): node.inputs[0] for node in model.graph if node.inputs and node.inputs[0]}
    outputs = list(model.graph.outputs)
    file = folder / "watched.onnx"
    try:
        added = [wanted[name] for name in names if wanted[name] not in outputs]
        for value in added:
            value.type = value.type or ir.TensorType(ir.DataType.FLOAT)
        model.graph.outputs.extend(added)
        ir.save(model, file, external_data="watched.bin")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        takes = {item.name for item in session.get_inputs()}
        for row in rows:
            ids = np.array([row.ids], dtype=np.int64)
            types = np.array([row.types], dtype=np.int64) if row.types else np.zeros_like(ids)
            given = {"ids": ids, "mask": np.ones(ids.shape, dtype=np.bool_), "types": types}
            answers = session.run(list(names), {name: value for name, value in given.items() if name in takes})
            yield dict(zip(names, answers, strict=True))
    finally:
        del model.graph.outputs[len(outputs) :]
        for left in folder.glob("watched.*"):
            left.unlink()
