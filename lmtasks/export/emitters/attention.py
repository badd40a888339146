"""Attention by one operator: over a cache, over whole texts, and over another text.

`GroupQueryAttention`, over a cache, seen with onnxruntime 1.32 on a CPU (tests/export/test_emitted_llama.py holds all
of it): `query_seqlens` lets rows of one batch append different numbers of tokens to pasts of different lengths, none
included; `attention_bias` may be given beside a past; a past of no columns is one; the operator rotates by the
positions in the cache, and `position_ids` of a first prompt are not read beyond the first, so other positions are
rotated before it.

`MultiHeadAttention`, over whole texts and sources, takes a key and a value for each query, and masks keys that are
padding one by one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmtasks.export.checkpoint import CannotEmit
from lmtasks.export.emitters.blocks import Dense, Layout, Norm
from lmtasks.export.emitters.positions import Rotary
from lmtasks.export.graph import Attribute, GraphBuilder

if TYPE_CHECKING:
    import onnx_ir as ir

WIDTHS = 8
"""`GroupQueryAttention` takes heads whose width is a multiple of this."""
ROTATED_BY_CACHE = 16
"""It rotates heads whose width is a multiple of this; others are rotated before it."""


@dataclass(frozen=True, kw_only=True)
class Attention:
    """Attention of a layer to its own text, by its parts."""

    packed: Dense
    """Queries, keys and values side by side, ((heads + 2 key heads) x width, D)."""
    out: Dense
    heads: int
    key_heads: int
    """Heads of keys and values; fewer than `heads` where queries share them."""
    width: int
    """Width of a head."""
    rotary: Rotary | None = None
    query_norm: Norm | None = None
    """Normalizes each head's width, before it is rotated."""
    key_norm: Norm | None = None
    window: int | None = None
    """Keys closer than this are seen, the token itself at 0; None: all."""
    scale: float | None = None
    """Factor of the products of queries and keys; None: 1 / sqrt(width)."""
    causal: bool = False
    """Over whole texts: does no token see those behind it? Over a cache none does."""

    @property
    def takes_positions(self) -> bool:
        """Are queries and keys rotated before they meet a cache, so that positions must be told?"""
        return self.rotary is not None and self.width % ROTATED_BY_CACHE != 0


@dataclass(frozen=True, kw_only=True)
class CacheInputs:
    """Inputs of attention over a cache, beside queries, keys and values."""

    layout: Layout
    lengths: "ir.Value"
    """int32 (B,): tokens in the cache afterwards, less one."""
    total: "ir.Value"
    """int32 (): the largest number of columns in use afterwards."""
    new: "ir.Value | None" = None
    """int32 (B,): how many of the S columns are tokens, from the left; None: all."""
    positions: "ir.Value | None" = None
    """int64 (B, S), where positions are not counted by the cache."""
    bias: "ir.Value | None" = None
    """(B, 1, S, P + S)"""
    windowed: "ir.Value | None" = None
    """`bias` with the keys left out that lie further back than the model's window."""
    past: "Sequence[tuple[ir.Value, ir.Value]]" = ()
    """Keys and values before, by layer."""


@dataclass(frozen=True, kw_only=True)
class TextInputs:
    """Inputs of attention over whole texts, beside queries, keys and values."""

    layout: Layout
    real: "ir.Value"
    """int32 (B, S), 1 at tokens."""
    positions: "ir.Value | None" = None
    """int64 (B, S), where queries and keys are rotated."""
    bias: "ir.Value | None" = None
    """(1, heads, S, S)"""
    windowed: "ir.Value | None" = None
    """The same for layers with a window, (B, 1, S, S)."""


@dataclass(frozen=True, kw_only=True)
class SourceInputs:
    """Inputs of attention over another text, beside queries."""

    real: "ir.Value"
    """int32 (B, S), 1 at the source's tokens."""
    shape: "ir.Value"
    """[B, -1, width of all heads]: all rows of a source behind each other."""
    sources: "Sequence[tuple[ir.Value, ir.Value]]"
    """Keys and values of the source by layer, (B, heads, S, width)."""
    heads: int
    scale: float | None
    """Factor of the products of queries and keys; None: 1 / sqrt(width)."""


@dataclass(frozen=True, kw_only=True)
class Attended:
    """Answers of one layer's attention over a cache."""

    mixed: "ir.Value"
    """(N, heads x width)"""
    present: "tuple[ir.Value, ir.Value]"
    """The keys and values that are in the cache now."""


def cached_attention(
    graph: GraphBuilder, packed: "ir.Value", part: Attention, at: CacheInputs, *, layer: int
) -> Attended:
    """Queries, keys and values side by side, (N, (heads + 2 key heads) x width), mixed over the cache of a layer.

    Raises:
        CannotEmit: heads of a width that the operator does not take.
    """
    if part.width % WIDTHS:
        raise CannotEmit(f"its heads have a width of {part.width}; attention takes multiples of {WIDTHS}")
    rows = at.layout.apart(graph, packed)
    apart = part.query_norm is not None or (part.rotary is not None and at.positions is not None)
    given = _parts(graph, rows, at, part) if apart else (rows, None, None)
    past = at.past[layer] if at.past else (None, None)
    windowed = part.window is not None and at.windowed is not None
    attributes: dict[str, Attribute] = {"num_heads": part.heads, "kv_num_heads": part.key_heads}
    tables: tuple[ir.Value | None, ir.Value | None] = (None, None)
    if part.rotary is not None and at.positions is None:
        attributes["do_rotary"] = 1
        tables = part.rotary.tables(graph)
    if part.scale is not None:
        attributes["scale"] = part.scale
    if part.window is not None and not windowed:
        attributes["local_window_size"] = part.window
    inputs = [*given, *past, at.lengths, at.total, *tables]
    inputs += [None, at.windowed if windowed else at.bias, None, None, None, None, None, at.new]
    while inputs[-1] is None:
        inputs.pop()
    mixed, key, value = graph.add_many("GroupQueryAttention", *inputs, outputs=3, attributes=attributes)
    return Attended(mixed=at.layout.together(graph, mixed, part.heads * part.width), present=(key, value))


def text_attention(graph: GraphBuilder, packed: "ir.Value", part: Attention, at: TextInputs) -> "ir.Value":
    """Queries, keys and values side by side, (N, (heads + 2 key heads) x width), mixed over all tokens of their row,
    (N, heads x width); over the near ones where there is a window. Keys that queries share are repeated.
    """
    rows = at.layout.apart(graph, packed)
    if part.rotary is None and part.query_norm is None and part.key_heads == part.heads:
        parts = graph.add_many("Split", rows, outputs=3, attributes={"axis": -1, "num_outputs": 3})
    else:
        query, key, value = _split(graph, rows, part)
        query, key = _normed_both(graph, query, key, at.layout, part)
        if part.rotary is not None:
            assert at.positions is not None  # whoever made the inputs asked whether the model rotates
            query, key = _rotated(graph, query, key, at.positions, part)
        parts = (query, *(_repeated(graph, each, part) for each in (key, value)))
    bias = at.bias if part.window is None else at.windowed
    inputs = [*parts, None, at.real] if bias is None else [*parts, None, at.real, bias]
    attributes = {**_scaled(part.heads, part.scale), **({"unidirectional": 1} if part.causal else {})}
    mixed = graph.add("MultiHeadAttention", *inputs, attributes=attributes)
    return at.layout.together(graph, mixed, part.heads * part.width)


def source_attention(graph: GraphBuilder, queries: "ir.Value", at: SourceInputs, *, layer: int) -> "ir.Value":
    """(R x T, heads x width) -> the same shape, mixed over the source."""
    folded = graph.add("Reshape", queries, at.shape)
    mixed = graph.add(
        "MultiHeadAttention", folded, *at.sources[layer], None, at.real, attributes=_scaled(at.heads, at.scale)
    )
    width = at.heads * int(at.sources[layer][0].shape[3])  # type: ignore[index, arg-type]  # declared as an input
    return graph.add("Reshape", mixed, graph.integers(-1, width))


def _scaled(heads: int, scale: float | None) -> Mapping[str, Attribute]:
    return {"num_heads": heads} if scale is None else {"num_heads": heads, "scale": scale}


def _parts(
    graph: GraphBuilder, rows: "ir.Value", at: CacheInputs, part: Attention
) -> "tuple[ir.Value, ir.Value, ir.Value]":
    """Queries, keys and values, (B, S, heads x width) each, normalized and rotated where that is not the operator's."""
    query, key, value = _split(graph, rows, part)
    query, key = _normed_both(graph, query, key, at.layout, part)
    if at.positions is not None:
        query, key = _rotated(graph, query, key, at.positions, part)
    return query, key, value


def _split(graph: GraphBuilder, rows: "ir.Value", part: Attention) -> "tuple[ir.Value, ir.Value, ir.Value]":
    sizes = [part.heads * part.width, *[part.key_heads * part.width] * 2]
    query, key, value = graph.add_many("Split", rows, graph.integers(*sizes), outputs=3, attributes={"axis": -1})
    return query, key, value


def _rotated(
    graph: GraphBuilder, query: "ir.Value", key: "ir.Value", positions: "ir.Value", part: Attention
) -> "tuple[ir.Value, ir.Value]":
    if part.rotary is None:
        return query, key
    tables = part.rotary.tables(graph)
    query, key = (
        graph.add("RotaryEmbedding", values, positions, *tables, attributes={"num_heads": count})
        for values, count in ((query, part.heads), (key, part.key_heads))
    )
    return query, key


def _repeated(graph: GraphBuilder, x: "ir.Value", part: Attention) -> "ir.Value":
    """Keys or values (B, S, key heads x width), each as often as queries share it: (B, S, heads x width)."""
    each = part.heads // part.key_heads
    if each == 1:
        return x
    apart = graph.add("Reshape", x, graph.integers(0, 0, part.key_heads, 1, part.width))
    spread = graph.add("Expand", apart, graph.integers(1, 1, 1, each, 1))
    return graph.add("Reshape", spread, graph.integers(0, 0, part.heads * part.width))


def _normed_both(
    graph: GraphBuilder, query: "ir.Value", key: "ir.Value", layout: Layout, part: Attention
) -> "tuple[ir.Value, ir.Value]":
    if part.query_norm is None or part.key_norm is None:
        return query, key
    return (
        _normed(graph, query, part.query_norm, layout, part.width),
        _normed(graph, key, part.key_norm, layout, part.width),
    )


def _normed(graph: GraphBuilder, x: "ir.Value", part: Norm, layout: Layout, width: int) -> "ir.Value":
    """(B, S, heads x width), each head normalized for itself."""
    heads = graph.add("Reshape", x, graph.integers(-1, width))
    weight = graph.constant(f"{part.name}.weight", part.weight)
    attributes: Mapping[str, Attribute] = {"axis": -1, "epsilon": part.epsilon}
    return layout.apart(graph, graph.add("SimplifiedLayerNormalization", heads, weight, attributes=attributes))
