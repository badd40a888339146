"""Encoders by their parts: the graph of all heads, and the encoder of encoder-decoders.

Padding may stand on either side, or between tokens: positions are counted over tokens inside the graph, keys that are
padding are masked one by one, and what reads the first token reads the first that is one. T5's distances are counted in
columns: there padding may stand on either side, not in between.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lmtasks.export.checkpoint import CannotEmit, Checkpoint, HeadWeights, Weights
from lmtasks.export.emitters.attention import Attention, TextInputs, text_attention
from lmtasks.export.emitters.blocks import (
    Dense,
    Layout,
    Norm,
    activation,
    dense,
    dense_of,
    ids_input,
    layout_of,
    norm,
)
from lmtasks.export.emitters.heads import GraphTokens, head_outputs, name_head, pooled
from lmtasks.export.emitters.positions import bias_both_ways, counted, window_bias
from lmtasks.export.emitters.transformer import Embeddings, Layer, embedded, run_layers
from lmtasks.export.graph import BOOL, INT32, GraphBuilder
from lmtasks.export.package import GraphName
from lmtasks.records import Floats32

if TYPE_CHECKING:
    import onnx_ir as ir


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """An encoder, by its parts."""

    embeddings: Embeddings
    layers: tuple[Layer, ...]
    last: Norm | None = None
    """Behind the layers."""
    distances: Floats32 | None = None
    """Added to the products of queries and keys, (heads, distances both ways)."""

    @property
    def window(self) -> int | None:
        """How far some layers see either way, the token itself counted."""
        windows = (layer.attention.window for layer in self.layers)
        return next((window for window in windows if window is not None), None)

    @property
    def takes_positions(self) -> bool:
        """Are its positions counted: for a table, to rotate by, or to see only the near ones?"""
        rotates = any(layer.attention.rotary is not None for layer in self.layers)
        return self.embeddings.positions is not None or rotates or self.window is not None

    def hidden(self, graph: GraphBuilder, ids: "ir.Value", mask: "ir.Value", layout: Layout) -> "ir.Value":
        """Hidden states behind the last normalization, (N, D).

        Args:
            ids: (B, S)
            mask: bool (B, S), True at tokens.
        """
        positions = counted(graph, mask, first=self.embeddings.first) if self.takes_positions else None
        at = TextInputs(
            layout=layout,
            real=graph.add("Cast", mask, attributes={"to": INT32}),
            positions=positions,
            bias=None if self.distances is None else bias_both_ways(graph, self.distances, ids),
            windowed=window_bias(graph, self.window, positions)
            if self.window is not None and positions is not None
            else None,
        )

        def attend(number: int, part: Attention, packed: "ir.Value") -> "ir.Value":
            del number
            return text_attention(graph, packed, part, at)

        x = run_layers(graph, embedded(graph, self.embeddings, ids, positions), self.layers, attend)
        return x if self.last is None else norm(graph, x, self.last)


def read_both_ways(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """The layers of a decoder as those of an encoder. A window that ends `w` tokens back, the token itself counted,
    ends `w` further ones off either way, as transformers has it."""
    return tuple(
        layer
        if layer.attention.window is None
        else replace(layer, attention=replace(layer.attention, window=layer.attention.window + 1))
        for layer in layers
    )


def read_forwards(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """The layers of a decoder over whole texts, in which no token sees those behind it."""
    return tuple(replace(layer, attention=replace(layer.attention, causal=True)) for layer in layers)


@dataclass(frozen=True, kw_only=True)
class OwnHead:
    """The head that a checkpoint carries."""

    steps: tuple[Dense, ...]
    """The products behind each other; the last yields the logits."""
    act: str = ""
    """Stands between them: `tanh`, or a name of `blocks.ACTIVATIONS`."""
    norm: Norm | None = None
    """Behind that."""
    pooling: str = "first"
    """The token or tokens that a head for a whole text reads: `first`, `last` or `mean`."""


OwnHeads = Callable[[HeadWeights], OwnHead]


def encoder_graphs(checkpoint: Checkpoint, model: Encoder, own: OwnHeads) -> "dict[GraphName, ir.Model]":
    """The graph of all heads. Weights that no head needs may stay: a checkpoint's pooler.

    Raises:
        CannotEmit: a weight that the graph has no place for.
    """
    made = heads_over(model, checkpoint.heads, own=own)
    checkpoint.weights.skip("pooler.dense.weight", "pooler.dense.bias")
    checkpoint.weights.check_all_taken()
    return {"heads": made}


def heads_over(
    model: Encoder, heads: Sequence[HeadWeights], *, own: OwnHeads | None = None, name: str = "heads"
) -> "ir.Model":
    """The graph of some heads over an encoder.

    Args:
        own: of a checkpoint's own heads; None: there are none.
        name: of the graph.
    """
    graph = GraphBuilder(name)
    ids = ids_input(graph)
    mask = graph.input("mask", dtype=BOOL, shape=["batch", "columns"])
    layout = layout_of(graph, ids)
    hidden = model.hidden(graph, ids, mask, layout)
    head_outputs(
        graph, hidden, layout, GraphTokens(ids=ids, mask=mask), [head for head in heads if head.spec.pooling != "own"]
    )
    for head in heads:
        if own is not None and head.spec.pooling == "own":
            name_head(graph, _own(graph, hidden, layout, mask, head, own(head)), head)
    return graph.model()


def check_encoder(checkpoint: Checkpoint) -> None:
    """Raises: CannotEmit: it is not used as an encoder."""
    if checkpoint.card.kind != "encoder":
        raise CannotEmit(f"it is used as {checkpoint.card.kind}; as an encoder it is built")
    kind = checkpoint.config.text("position_embedding_type", "absolute")
    if kind != "absolute":
        raise CannotEmit(f"its positions are of type {kind!r}; 'absolute' ones are built")


def backbone_prefix(weights: Weights, probe: str, names: Sequence[str]) -> str:
    """One of `names` that stands before the name of a backbone's weight, or nothing."""
    return next((name for name in ("", *names) if f"{name}{probe}" in weights), "")


def token_head(weights: Weights) -> OwnHead:
    """A checkpoint's own head for tokens or spans, where it is one product: `qa_outputs` or `classifier`."""
    name = "qa_outputs" if "qa_outputs.weight" in weights else "classifier"
    return OwnHead(steps=(dense_of(weights, name),))


def _own(
    graph: GraphBuilder, hidden: "ir.Value", layout: Layout, mask: "ir.Value", head: HeadWeights, own: OwnHead
) -> "ir.Value":
    x = pooled(graph, hidden, layout, mask, own.pooling) if head.per_text else hidden
    for number, step in enumerate(own.steps):
        if number:
            x = graph.add("Tanh", x) if own.act == "tanh" else activation(graph, x, own.act)
            x = x if own.norm is None else norm(graph, x, own.norm)
        x = dense(graph, x, step)
    return x if head.per_text else layout.apart(graph, x)
