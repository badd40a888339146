"""Causal attention over a cache, by one operator: `GroupQueryAttention`.

Seen with onnxruntime 1.32 on a CPU (tests/export/test_emitted_llama.py holds all of it): `query_seqlens` lets rows of
one batch append different numbers of tokens to pasts of different lengths, none included; `attention_bias` may be given
beside a past; a past of no columns is one; the operator rotates by the positions in the cache, and `position_ids` of a
first prompt are not read beyond the first, so other positions are rotated before it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmtasks.export.checkpoint import CannotEmit
from lmtasks.export.emitters.blocks import Norm
from lmtasks.export.emitters.causal import Attends, Read
from lmtasks.export.graph import Attribute, GraphBuilder
from lmtasks.records import Floats32

if TYPE_CHECKING:
    import onnx_ir as ir

WIDTHS = 8
"""The operator takes heads whose width is a multiple of this."""


@dataclass(frozen=True, kw_only=True)
class Rotary:
    """Tables of rotary positions, (positions, width of a head / 2)."""

    cosines: Floats32
    sines: Floats32


@dataclass(frozen=True, kw_only=True)
class CausalAttention:
    """The settings of one layer's attention."""

    layer: int
    heads: int
    cache_heads: int
    width: int
    """of a head"""
    rotary: Rotary | None = None
    query_norm: Norm | None = None
    """of each head's width, before it is rotated"""
    key_norm: Norm | None = None
    window: int | None = None
    """How far back it sees, the token itself counted; None: to the start."""
    scale: float | None = None
    """of the products of queries and keys; None: 1 / sqrt(width)"""


def attention(graph: GraphBuilder, packed: "ir.Value", at: Attends, settings: CausalAttention) -> Read:
    """Queries, keys and values side by side, (N, (heads + 2 cache heads) x width), mix over the cache.

    Raises:
        CannotEmit: heads of a width that the operator does not take.
    """
    if settings.width % WIDTHS:
        raise CannotEmit(f"its heads have a width of {settings.width}; attention takes multiples of {WIDTHS}")
    rows = at.layout.apart(graph, packed)
    apart = settings.query_norm is not None or (settings.rotary is not None and at.positions is not None)
    given = _parts(graph, rows, at, settings) if apart else (rows, None, None)
    rotates = settings.rotary is not None and at.positions is None
    past = at.past[settings.layer] if at.past else (None, None)
    windowed = settings.window is not None and at.windowed is not None
    bias = at.windowed if windowed else at.bias
    attributes: dict[str, Attribute] = {"num_heads": settings.heads, "kv_num_heads": settings.cache_heads}
    if rotates:
        attributes["do_rotary"] = 1
    if settings.scale is not None:
        attributes["scale"] = settings.scale
    if settings.window is not None and not windowed:
        attributes["local_window_size"] = settings.window
    inputs = [*given, *past, at.lengths, at.total, *_tables(graph, settings.rotary if rotates else None)]
    inputs += [None, bias, None, None, None, None, None, at.new]
    while inputs[-1] is None:
        inputs.pop()
    mixed, key, value = graph.add_many("GroupQueryAttention", *inputs, outputs=3, attributes=attributes)
    return Read(mixed=at.layout.together(graph, mixed, settings.heads * settings.width), present=(key, value))


def _parts(
    graph: GraphBuilder, rows: "ir.Value", at: Attends, settings: CausalAttention
) -> "tuple[ir.Value, ir.Value, ir.Value]":
    """Queries, keys and values, (B, S, heads x width) each, normalized and rotated where that is not the operator's."""
    query, key, value = _split(graph, rows, settings)
    if settings.query_norm is not None and settings.key_norm is not None:
        query = _normed(graph, query, settings.query_norm, at, settings.width)
        key = _normed(graph, key, settings.key_norm, at, settings.width)
    if at.positions is not None:
        query, key = _rotated(graph, query, key, at.positions, settings)
    return query, key, value


def rotated(
    graph: GraphBuilder, rows: "ir.Value", positions: "ir.Value", settings: CausalAttention
) -> "tuple[ir.Value, ir.Value, ir.Value]":
    """Queries, keys and values side by side, (B, S, ...), apart and by positions int64 (B, S)."""
    query, key, value = _split(graph, rows, settings)
    return (*_rotated(graph, query, key, positions, settings), value)


def _split(graph: GraphBuilder, rows: "ir.Value", settings: CausalAttention) -> "tuple[ir.Value, ir.Value, ir.Value]":
    sizes = [settings.heads * settings.width, *[settings.cache_heads * settings.width] * 2]
    query, key, value = graph.add_many("Split", rows, graph.integers(*sizes), outputs=3, attributes={"axis": -1})
    return query, key, value


def _rotated(
    graph: GraphBuilder, query: "ir.Value", key: "ir.Value", positions: "ir.Value", settings: CausalAttention
) -> "tuple[ir.Value, ir.Value]":
    if settings.rotary is None:
        return query, key
    tables = _tables(graph, settings.rotary)
    query, key = (
        graph.add("RotaryEmbedding", part, positions, *tables, attributes={"num_heads": count})
        for part, count in ((query, settings.heads), (key, settings.cache_heads))
    )
    return query, key


def _normed(graph: GraphBuilder, x: "ir.Value", part: Norm, at: Attends, width: int) -> "ir.Value":
    """(B, S, heads x width), each head normalized for itself."""
    heads = graph.add("Reshape", x, graph.integers(-1, width))
    weight = graph.constant(f"{part.name}.weight", part.weight)
    attributes: Mapping[str, Attribute] = {"axis": -1, "epsilon": part.epsilon}
    return at.layout.apart(graph, graph.add("SimplifiedLayerNormalization", heads, weight, attributes=attributes))


def _tables(graph: GraphBuilder, rotary: Rotary | None) -> "tuple[ir.Value | None, ir.Value | None]":
    if rotary is None:
        return None, None
    return graph.constant("rotary.cosines", rotary.cosines), graph.constant("rotary.sines", rotary.sines)
