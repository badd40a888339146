"""T5's relative positions: a number for each head and distance, added to the products of queries and keys.

Distances are put into buckets, exact ones up close and wider ones further off (Raffel et al. 2020, arXiv:1910.10683,
section 2.1). Here the numbers are laid out by distance, up to the one behind which all share the last bucket.
"""

import math
from typing import TYPE_CHECKING

import numpy as np

from lmtasks.export.graph import INT64, GraphBuilder
from lmtasks.records import Floats32, Ints

if TYPE_CHECKING:
    import onnx_ir as ir


def by_distance(table: Floats32, *, longest: int, both_ways: bool) -> Floats32:
    """Numbers by bucket (buckets, heads) -> by distance (heads, distances).

    Distances are key - query: from -`longest` to `longest` both ways, else query - key from 0 to `longest`.
    """
    distances = np.arange(-longest, longest + 1) if both_ways else -np.arange(longest + 1)
    buckets = _buckets(distances, count=len(table), longest=longest, both_ways=both_ways)
    found: Floats32 = np.ascontiguousarray(table[buckets].T)
    return found


def bias_both_ways(graph: GraphBuilder, numbers: Floats32, ids: "ir.Value") -> "ir.Value":
    """For rows ids (B, S): (1, heads, S, S)."""
    longest = numbers.shape[1] // 2
    columns = graph.add("Shape", ids, attributes={"start": 1, "end": 2})
    places = _range(graph, graph.add("Reshape", columns, graph.integers()))
    far = graph.add(
        "Sub", graph.add("Unsqueeze", places, graph.integers(0)), graph.add("Unsqueeze", places, graph.integers(1))
    )
    near = _clipped(graph, far, -longest, longest)
    index = graph.add("Add", near, graph.constant("longest", np.int64(longest)))
    picked = graph.add("Gather", graph.constant("relative.both", numbers), index, attributes={"axis": 1})
    return graph.add("Unsqueeze", picked, graph.integers(0))


def bias_backwards(graph: GraphBuilder, numbers: Floats32, positions: "ir.Value", total: "ir.Value") -> "ir.Value":
    """For new tokens at positions (R, T) over `total` columns of a cache: (R, heads, T, total)."""
    keys = _range(graph, graph.add("Cast", total, attributes={"to": INT64}))
    far = graph.add("Sub", graph.add("Unsqueeze", positions, graph.integers(2)), keys)  # (R, T, total)
    index = _clipped(graph, far, 0, numbers.shape[1] - 1)
    picked = graph.add("Gather", graph.constant("relative.back", numbers), index, attributes={"axis": 1})
    return graph.add("Transpose", picked, attributes={"perm": (1, 0, 2, 3)})


def _buckets(distances: Ints, *, count: int, longest: int, both_ways: bool) -> Ints:
    """Of key - query. In torch's single precision, whose rounding decides where a bucket ends."""
    import torch

    start = np.zeros_like(distances)
    if both_ways:
        count //= 2
        start = np.where(distances > 0, count, 0)
        distances = np.abs(distances)
    else:
        distances = -np.minimum(distances, 0)
    exact = count // 2
    sizes = torch.from_numpy(np.maximum(distances, 1)).float()
    wide = exact + (torch.log(sizes / exact) / math.log(longest / exact) * (count - exact)).long().numpy()
    found: Ints = start + np.where(distances < exact, distances, np.minimum(wide, count - 1))
    return found


def _range(graph: GraphBuilder, count: "ir.Value") -> "ir.Value":
    zero, one = (graph.constant(f"int64.scalar.{number}", np.int64(number)) for number in (0, 1))
    return graph.add("Range", zero, count, one)


def _clipped(graph: GraphBuilder, x: "ir.Value", least: int, most: int) -> "ir.Value":
    low, high = (graph.constant(f"int64.scalar.{number}", np.int64(number)) for number in (least, most))
    return graph.add("Clip", x, low, high)
