"""Decoders by their parts: the graphs of all causal models, and the decoder of encoder-decoders.

    decoder   appends S tokens to each row's cache -> logits where they are wanted
    score     reads packed rows (one context, several continuations behind it) -> log-probabilities of given tokens
    heads     reads whole rows -> one output a head

A cache holds keys or values, (B, heads, CAP, width of a head). The decoder's past and present may lie in one buffer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from lmtasks.export.checkpoint import CannotEmit, Checkpoint, HeadWeights
from lmtasks.export.emitters.attention import Attended, Attention, CacheInputs, cached_attention
from lmtasks.export.emitters.blocks import Dense, Norm, dense, ids_input, layout_of, norm
from lmtasks.export.emitters.encoder import Encoder, heads_over, read_both_ways
from lmtasks.export.emitters.heads import GraphTokens, head_outputs
from lmtasks.export.emitters.positions import MASKED, bias_backwards, counting
from lmtasks.export.emitters.transformer import AttendSource, Embeddings, Layer, embedded, run_layers
from lmtasks.export.graph import BOOL, FLOAT, INT32, INT64, GraphBuilder, Size
from lmtasks.export.package import GraphName
from lmtasks.records import Floats32

if TYPE_CHECKING:
    import onnx_ir as ir


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """A decoder, by its parts."""

    embeddings: Embeddings
    layers: tuple[Layer, ...]
    last: Norm | None
    """Behind the layers."""
    head: Dense
    """Hidden states -> logits."""
    distances: Floats32 | None = None
    """Added to the products of queries and keys, (heads, distances backwards)."""

    @property
    def attention(self) -> Attention:
        """The first layer's; the sizes of all are the same."""
        return self.layers[0].attention

    @property
    def vocabulary(self) -> int:
        """V"""
        return len(self.head.weight)

    @property
    def takes_positions(self) -> bool:
        """Has the decoder positions as an input? Rotary ones are counted by the attention operator itself."""
        return self.embeddings.positions is not None or self.attention.takes_positions

    @property
    def window(self) -> int | None:
        """How far back some layers see, the token itself counted."""
        windows = (layer.attention.window for layer in self.layers)
        return next((window for window in windows if window is not None), None)

    def hidden(
        self,
        graph: GraphBuilder,
        ids: "ir.Value",
        at: CacheInputs,
        *,
        wanted: "ir.Value | None",
        attend_source: AttendSource | None = None,
    ) -> "tuple[ir.Value, list[Attended]]":
        """Hidden states behind the last normalization, and the answers of each layer's attention.

        Args:
            ids: (B, S)
            wanted: rows (W,); None: all.
        """
        x = embedded(graph, self.embeddings, ids, at.positions)
        if self.distances is not None:
            assert at.positions is not None  # every decoder of an encoder-decoder has them as an input
            at = replace(at, bias=bias_backwards(graph, self.distances, at.positions, at.total))
        answers: list[Attended] = []

        def attend(number: int, part: Attention, packed: "ir.Value") -> "ir.Value":
            answers.append(cached_attention(graph, packed, part, at, layer=number))
            return answers[-1].mixed

        x = run_layers(graph, x, self.layers, attend, attend_source=attend_source, wanted=wanted)
        return x if self.last is None else norm(graph, x, self.last), answers


def decoder_graphs(model: Decoder, heads: Sequence[HeadWeights]) -> "dict[GraphName, ir.Model]":
    """All graphs of a causal model. Heads that it reads both ways for have one of their own, over the same weights."""
    graphs: dict[GraphName, ir.Model] = {"score": _score(model), "decoder": _decoder(model)}
    both = [head for head in heads if head.spec.attention == "both"]
    causal = [head for head in heads if head.spec.attention != "both"]
    if causal:
        graphs["heads"] = _heads(model, causal)
    if both:
        encoder = Encoder(embeddings=model.embeddings, layers=read_both_ways(model.layers), last=model.last)
        graphs["heads_both"] = heads_over(encoder, both, name="heads_both")
    return graphs


def check_causal(checkpoint: Checkpoint) -> None:
    """Raises: CannotEmit: it is not used as a causal model."""
    if checkpoint.card.kind != "causal":
        raise CannotEmit(f"it is used as {checkpoint.card.kind}; as a causal model it is built")


def cache_names(layers: int) -> list[tuple[str, str]]:
    """Names of keys and values, by layer."""
    return [(f"key.{layer}", f"value.{layer}") for layer in range(layers)]


def cache_inputs(
    graph: GraphBuilder, model: Decoder, *, part: str = "past", axes: tuple[str, str] = ("batch", "past")
) -> "list[tuple[ir.Value, ir.Value]]":
    """Inputs for the keys and values of each layer, (rows, heads, columns, width).

    Args:
        part: before the names.
        axes: names of rows and columns.
    """
    sizes: list[Size] = [axes[0], model.attention.key_heads, axes[1], model.attention.width]
    return [
        (
            graph.input(f"{part}_{key}", dtype=FLOAT, shape=sizes),
            graph.input(f"{part}_{value}", dtype=FLOAT, shape=sizes),
        )
        for key, value in cache_names(len(model.layers))
    ]


def cache_outputs(graph: GraphBuilder, model: Decoder, answers: Sequence[Attended], *, rows: str = "batch") -> None:
    """Outputs for the keys and values that each layer leaves behind."""
    sizes: list[Size] = [rows, model.attention.key_heads, "capacity", model.attention.width]
    for names, answer in zip(cache_names(len(model.layers)), answers, strict=True):
        for name, value in zip(names, answer.present, strict=True):
            graph.output(f"present_{name}", value, dtype=FLOAT, shape=sizes)


def score_outputs(graph: GraphBuilder, logits: "ir.Value") -> None:
    """For logits (W, V): places among W and tokens (N,) as inputs; the log-probability of each token, and whether none
    is likelier, as outputs."""
    index = graph.input("index", dtype=INT64, shape=["targets"])
    targets = graph.input("targets", dtype=INT64, shape=["targets"])
    logprobs = graph.add("LogSoftmax", logits, attributes={"axis": -1})
    last = graph.integers(-1)
    where = graph.add(
        "Concat", graph.add("Unsqueeze", index, last), graph.add("Unsqueeze", targets, last), attributes={"axis": -1}
    )
    logprob = graph.add("GatherND", logprobs, where)
    best = graph.add("ReduceMax", logprobs, last, attributes={"keepdims": 0})
    greedy = graph.add("GreaterOrEqual", logprob, graph.add("Gather", best, index))
    graph.output("logprob", logprob, dtype=FLOAT, shape=["targets"])
    graph.output("greedy", greedy, dtype=BOOL, shape=["targets"])


def _decoder(model: Decoder) -> "ir.Model":
    graph = GraphBuilder("decoder")
    ids = ids_input(graph)
    positions = ids_input(graph, "positions") if model.takes_positions else None
    at = CacheInputs(
        layout=layout_of(graph, ids),
        new=graph.input("new", dtype=INT32, shape=["batch"]),
        lengths=graph.input("seqlens_k", dtype=INT32, shape=["batch"]),
        total=graph.input("total_sequence_length", dtype=INT32, shape=[]),
        positions=positions,
        past=cache_inputs(graph, model),
    )
    wanted = graph.input("wanted", dtype=INT64, shape=["wanted"])
    hidden, answers = model.hidden(graph, ids, at, wanted=wanted)
    logits = dense(graph, hidden, model.head)
    graph.output("logits", logits, dtype=FLOAT, shape=["wanted", model.vocabulary])
    cache_outputs(graph, model, answers)
    return graph.model()


def _score(model: Decoder) -> "ir.Model":
    graph = GraphBuilder("score")
    ids = ids_input(graph)
    positions = ids_input(graph, "positions")
    new = graph.input("new", dtype=INT32, shape=["batch"])
    lengths = graph.input("seqlens_k", dtype=INT32, shape=["batch"])
    total = graph.input("total_sequence_length", dtype=INT32, shape=[])
    bias = graph.input("bias", dtype=FLOAT, shape=["batch", 1, "columns", "total"])
    at = CacheInputs(
        layout=layout_of(graph, ids),
        new=new,
        lengths=lengths,
        total=total,
        positions=positions,
        bias=bias,
        past=cache_inputs(graph, model),
        windowed=None if model.window is None else _windowed(graph, model.window, positions, bias, total),
    )
    wanted = graph.input("wanted", dtype=INT64, shape=["wanted"])
    hidden, _ = model.hidden(graph, ids, at, wanted=wanted)
    score_outputs(graph, dense(graph, hidden, model.head))
    return graph.model()


def _heads(model: Decoder, heads: Sequence[HeadWeights]) -> "ir.Model":
    """Rows are padded on the right: no column sees what comes behind it, so attention needs no mask."""
    graph = GraphBuilder("heads")
    ids = ids_input(graph)
    mask = graph.input("mask", dtype=BOOL, shape=["batch", "columns"])
    batch, columns = (
        graph.add(
            "Cast", graph.add("Shape", ids, attributes={"start": axis, "end": axis + 1}), attributes={"to": INT32}
        )
        for axis in (0, 1)
    )
    total = graph.add("Reshape", columns, graph.integers())
    last = graph.add("Sub", columns, graph.constant("one", np.array([1], dtype=np.int32)))
    rows = graph.add("Cast", batch, attributes={"to": INT64})
    at = CacheInputs(
        layout=layout_of(graph, ids),
        lengths=graph.add("Expand", last, rows),
        total=total,
        positions=_columns(graph, ids, columns) if model.takes_positions else None,
    )
    hidden, _ = model.hidden(graph, ids, at, wanted=None)
    head_outputs(graph, hidden, at.layout, GraphTokens(ids=ids, mask=mask), heads)
    return graph.model()


def _columns(graph: GraphBuilder, ids: "ir.Value", columns: "ir.Value") -> "ir.Value":
    """Positions 0, 1, ..., (B, S)."""
    whole = graph.add("Reshape", graph.add("Cast", columns, attributes={"to": INT64}), graph.integers())
    return graph.add("Expand", counting(graph, whole), graph.add("Shape", ids))


def _windowed(
    graph: GraphBuilder, window: int, positions: "ir.Value", bias: "ir.Value", total: "ir.Value"
) -> "ir.Value":
    """The bias, with keys masked that lie `window` positions back or more. Keys of the past stand at 0, 1, ..."""
    whole = graph.add("Cast", total, attributes={"to": INT64})
    columns = graph.add("Shape", positions, attributes={"start": 1, "end": 2})
    before = graph.add("Sub", whole, graph.add("Reshape", columns, graph.integers()))
    past = graph.add("Unsqueeze", counting(graph, before), graph.integers(0))
    rows = graph.add("Shape", positions, attributes={"start": 0, "end": 1})
    every = graph.add("Expand", past, graph.add("Concat", rows, graph.integers(1), attributes={"axis": 0}))
    keys = graph.add("Concat", every, positions, attributes={"axis": 1})
    back = graph.add(
        "Sub", graph.add("Unsqueeze", positions, graph.integers(2)), graph.add("Unsqueeze", keys, graph.integers(1))
    )
    near = graph.add("Less", back, graph.constant("window", np.int64(window)))
    masked = graph.constant("masked", np.float32(MASKED))
    return graph.add("Where", graph.add("Unsqueeze", near, graph.integers(1)), bias, masked)
