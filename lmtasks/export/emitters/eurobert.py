"""EuroBERT, and Llama and its like read both ways: the layers of Llama behind heads.

Boizard et al. 2025, arXiv:2503.05500. The operator takes a key and a value for each query: shared ones are repeated.
Positions are counted over tokens, so that padding may stand anywhere.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from lmtasks.export.checkpoint import CannotEmit, Checkpoint, HeadWeights, Weights
from lmtasks.export.emitters.attention import rotated
from lmtasks.export.emitters.blocks import Layout, Norm, check_activation, dense, flat, looked_up, norm
from lmtasks.export.emitters.encoder import (
    OwnHead,
    attended,
    check_encoder,
    counted,
    dense_of,
    encoder_graphs,
    prefix_of,
)
from lmtasks.export.emitters.llama import LlamaLayer, fed_forward, layers_of, norm_at
from lmtasks.export.graph import INT32, GraphBuilder
from lmtasks.export.package import GraphName
from lmtasks.records import Floats32

if TYPE_CHECKING:
    import onnx_ir as ir


@dataclass(frozen=True, kw_only=True)
class EuroBert:
    """The whole model."""

    table: Floats32
    """Embeddings, (V, D)."""
    layers: tuple[LlamaLayer, ...]
    last: Norm
    act: str

    def body(self, graph: GraphBuilder, ids: "ir.Value", mask: "ir.Value", layout: Layout) -> "ir.Value":
        """See `encoder.EncoderBody`."""
        x = looked_up(graph, "embedding.weight", self.table, flat(graph, ids))
        real = graph.add("Cast", mask, attributes={"to": INT32})
        positions = counted(graph, mask, first=0)
        for layer in self.layers:
            packed = layout.apart(graph, dense(graph, norm(graph, x, layer.before), layer.packed))
            parts = rotated(graph, packed, positions, layer.attends)
            mixed = attended(graph, parts, layout, real, heads=layer.attends.heads, width=layer.out.weight.shape[1])
            x = fed_forward(graph, dense(graph, mixed, layer.out, plus=x), layer, self.act)
        return norm(graph, x, self.last)


def emit_eurobert(checkpoint: Checkpoint) -> "dict[GraphName, ir.Model]":
    """The graph of an encoder of this shape.

    Raises:
        CannotEmit: a setting or weight that the graph does not have.
    """
    check_encoder(checkpoint)
    config, weights = checkpoint.config, checkpoint.weights
    if config.flag("is_causal", default=config.text("model_type") != "eurobert"):
        raise CannotEmit("its attention is causal; one that looks both ways is built")
    prefix = prefix_of(weights, "embed_tokens.weight", ("model.",))
    model = EuroBert(
        table=weights.take(f"{prefix}embed_tokens.weight"),
        layers=tuple(map(_with_own_keys, layers_of(checkpoint, prefix))),
        last=norm_at(config, weights, f"{prefix}norm"),
        act=check_activation(config.text("hidden_act", "silu")),
    )
    return encoder_graphs(checkpoint, model.body, partial(_own, weights))


def _with_own_keys(layer: LlamaLayer) -> LlamaLayer:
    """Each query with a key and a value of its own."""
    attends = layer.attends
    if attends.query_norm is not None or attends.window is not None:
        raise CannotEmit("it normalizes queries or looks only so far; plain attention to the whole text is built")
    each, width = attends.heads // attends.cache_heads, attends.width
    query, shared = attends.heads * width, attends.cache_heads * width

    def spread(rows: Floats32) -> Floats32:
        """(query + key + value, ...), keys and values repeated for the queries that share them."""
        parts = np.split(rows, [query, query + shared])
        heads = [part.reshape(attends.cache_heads, width, *part.shape[1:]) for part in parts[1:]]
        return np.concatenate([parts[0], *(part.repeat(each, 0).reshape(query, *part.shape[2:]) for part in heads)])

    packed = layer.packed
    if each == 1:
        return layer
    return replace(
        layer,
        packed=replace(packed, weight=spread(packed.weight), bias=None if packed.bias is None else spread(packed.bias)),
        attends=replace(attends, cache_heads=attends.heads),
    )


def _own(weights: Weights, head: HeadWeights) -> OwnHead:
    if head.spec.kind != "tagging":
        raise CannotEmit(f"its own head for {head.spec.kind} pools logits; one for tagging is built")
    return OwnHead(steps=(dense_of(weights, "classifier"),), act="")
