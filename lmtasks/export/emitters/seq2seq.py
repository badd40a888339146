"""Encoder-decoders by their parts: their graphs.

    encoder   reads the sources -> keys and values that every layer of the decoder attends to, computed once
    decoder   appends T tokens to each row's cache -> logits where they are wanted
    score     the same, -> log-probabilities of given tokens
    heads     reads texts with the encoder -> one output a head

Axes: B sources, S their columns, R rows of the decoder, T their new columns. R is a multiple of B, and rows that belong
to one source stand together: they are folded into the query axis of cross-attention, so that the source's keys and
values are neither repeated nor read more than once (81 against 173 us a layer for four beams).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lmtasks.export.checkpoint import CannotEmit, Checkpoint, HeadWeights
from lmtasks.export.emitters.attention import Attended, CacheInputs, SourceInputs, source_attention
from lmtasks.export.emitters.blocks import Dense, Layout, dense, ids_input, layout_of
from lmtasks.export.emitters.decoder import Decoder, cache_inputs, cache_names, cache_outputs, score_outputs
from lmtasks.export.emitters.encoder import Encoder
from lmtasks.export.emitters.heads import GraphTokens, head_outputs
from lmtasks.export.graph import BOOL, FLOAT, INT32, INT64, GraphBuilder, Size
from lmtasks.export.package import GraphName

if TYPE_CHECKING:
    import onnx_ir as ir


@dataclass(frozen=True, kw_only=True)
class Seq2Seq:
    """An encoder-decoder; each layer of its decoder attends to the source."""

    encoder: Encoder
    decoder: Decoder


def seq2seq_graphs(model: Seq2Seq, heads: Sequence[HeadWeights]) -> "dict[GraphName, ir.Model]":
    """All graphs of an encoder-decoder."""
    graphs: dict[GraphName, ir.Model] = {
        "score": _score(model.decoder),
        "encoder": _encoder(model),
        "decoder": _decoder(model.decoder),
    }
    return {**graphs, "heads": _heads(model.encoder, heads)} if heads else graphs


def check_seq2seq(checkpoint: Checkpoint) -> None:
    """Raises: CannotEmit: it is not used as an encoder-decoder."""
    if checkpoint.card.kind != "encoder-decoder":
        raise CannotEmit(f"it is used as {checkpoint.card.kind}; as an encoder-decoder it is built")


def _encoder(model: Seq2Seq) -> "ir.Model":
    graph = GraphBuilder("encoder")
    ids = ids_input(graph, "source_ids", columns="source")
    mask = graph.input("source_mask", dtype=BOOL, shape=["batch", "source"])
    layout = layout_of(graph, ids)
    sources = _sources(graph, model.decoder, model.encoder.hidden(graph, ids, mask, layout), layout)
    axes: list[Size] = ["batch", model.decoder.attention.heads, "source", model.decoder.attention.width]
    names = [name for pair in cache_names(len(model.decoder.layers)) for name in pair]
    for value, name in zip(sources, names, strict=True):
        graph.output(f"cross_{name}", value, dtype=FLOAT, shape=axes)
    return graph.model()


def _sources(graph: GraphBuilder, decoder: Decoder, hidden: "ir.Value", layout: Layout) -> "Sequence[ir.Value]":
    """Keys and values of all layers by one product, (B, heads, S, width) each, in the order of the caches' names."""
    crosses = [layer.cross for layer in decoder.layers if layer.cross is not None]
    parts = [part for cross in crosses for part in (cross.key, cross.value)]
    biases = [part.bias for part in parts if part.bias is not None]
    whole = Dense(
        name="sources",
        weight=np.concatenate([part.weight for part in parts]),
        bias=np.concatenate(biases) if len(biases) == len(parts) else None,
    )
    sizes = graph.integers(len(parts), decoder.attention.heads, decoder.attention.width)
    start = graph.add("Slice", layout.shape, graph.integers(0), graph.integers(2))
    split = graph.add("Reshape", dense(graph, hidden, whole), graph.add("Concat", start, sizes, attributes={"axis": 0}))
    turned = graph.add("Transpose", split, attributes={"perm": (2, 0, 3, 1, 4)})
    pieces = graph.add_many("Split", turned, outputs=len(parts), attributes={"axis": 0, "num_outputs": len(parts)})
    return [graph.add("Squeeze", piece, graph.integers(0)) for piece in pieces]


def _decoder(model: Decoder) -> "ir.Model":
    graph = GraphBuilder("decoder")
    logits, answers = _logits(graph, model)
    graph.output("logits", logits, dtype=FLOAT, shape=["wanted", model.vocabulary])
    cache_outputs(graph, model, answers, rows="rows")
    return graph.model()


def _score(model: Decoder) -> "ir.Model":
    graph = GraphBuilder("score")
    score_outputs(graph, _logits(graph, model)[0])
    return graph.model()


def _logits(graph: GraphBuilder, model: Decoder) -> "tuple[ir.Value, list[Attended]]":
    """The decoder and its inputs: logits (W, V), and the answers of each layer's attention to its own text."""
    ids = graph.input("ids", dtype=INT64, shape=["rows", "columns"])
    at = CacheInputs(
        layout=layout_of(graph, ids),
        positions=graph.input("positions", dtype=INT64, shape=["rows", "columns"]),
        new=graph.input("new", dtype=INT32, shape=["rows"]),
        lengths=graph.input("seqlens_k", dtype=INT32, shape=["rows"]),
        total=graph.input("total_sequence_length", dtype=INT32, shape=[]),
        past=cache_inputs(graph, model, axes=("rows", "past")),
    )
    mask = graph.input("source_mask", dtype=BOOL, shape=["batch", "source"])
    width = graph.integers(-1, model.attention.heads * model.attention.width)
    source = SourceInputs(
        real=graph.add("Cast", mask, attributes={"to": INT32}),
        shape=graph.add(
            "Concat", graph.add("Shape", mask, attributes={"start": 0, "end": 1}), width, attributes={"axis": 0}
        ),
        sources=cache_inputs(graph, model, part="cross", axes=("batch", "source")),
        heads=model.attention.heads,
        scale=model.attention.scale,
    )
    wanted = graph.input("wanted", dtype=INT64, shape=["wanted"])

    def attend_source(number: int, queries: "ir.Value") -> "ir.Value":
        return source_attention(graph, queries, source, layer=number)

    hidden, answers = model.hidden(graph, ids, at, wanted=wanted, attend_source=attend_source)
    return dense(graph, hidden, model.head), answers


def _heads(model: Encoder, heads: Sequence[HeadWeights]) -> "ir.Model":
    graph = GraphBuilder("heads")
    ids = ids_input(graph)
    mask = graph.input("mask", dtype=BOOL, shape=["batch", "columns"])
    layout = layout_of(graph, ids)
    head_outputs(graph, model.hidden(graph, ids, mask, layout), layout, GraphTokens(ids=ids, mask=mask), heads)
    return graph.model()
