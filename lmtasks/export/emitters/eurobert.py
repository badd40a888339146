"""EuroBERT, and Llama and its like read both ways: the layers of Llama behind heads.

Boizard et al. 2025, arXiv:2503.05500. The operator takes a key and a value for each query: shared ones are repeated.
Positions are counted over tokens, so that padding may stand anywhere.
"""

from dataclasses import replace

import numpy as np

from lmtasks.export.checkpoint import CannotEmit, Checkpoint, HeadWeights, Weights
from lmtasks.export.emitters.architecture import RMS, Architecture, Graphs, encoder_operators
from lmtasks.export.emitters.blocks import EmbeddingTable, rms_norm_of
from lmtasks.export.emitters.encoder import (
    Encoder,
    OwnHead,
    backbone_prefix,
    check_encoder,
    encoder_graphs,
    token_head,
)
from lmtasks.export.emitters.llama import llama_layers
from lmtasks.export.emitters.transformer import Embeddings, Layer
from lmtasks.records import Floats32


def _emit(checkpoint: Checkpoint) -> Graphs:
    check_encoder(checkpoint)
    config, weights = checkpoint.config, checkpoint.weights
    if config.flag("is_causal", default=config.text("model_type") != "eurobert"):
        raise CannotEmit("its attention is causal; one that looks both ways is built")
    prefix = backbone_prefix(weights, "embed_tokens.weight", ("model.",))
    model = Encoder(
        embeddings=Embeddings(
            tokens=EmbeddingTable(name="embedding.weight", rows=weights.take(f"{prefix}embed_tokens.weight"))
        ),
        layers=tuple(map(_with_own_keys, llama_layers(checkpoint, prefix))),
        last=rms_norm_of(weights, f"{prefix}norm", config.number("rms_norm_eps")),
    )
    return encoder_graphs(checkpoint, model, lambda head: _own(weights, head))


def _with_own_keys(layer: Layer) -> Layer:
    """Each query with a key and a value of its own."""
    part = layer.attention
    if part.query_norm is not None or part.window is not None:
        raise CannotEmit("it normalizes queries or looks only so far; plain attention to the whole text is built")
    each, width = part.heads // part.key_heads, part.width
    query, shared = part.heads * width, part.key_heads * width

    def spread(rows: Floats32) -> Floats32:
        """(query + key + value, ...), keys and values repeated for the queries that share them."""
        parts = np.split(rows, [query, query + shared])
        heads = [each_part.reshape(part.key_heads, width, *each_part.shape[1:]) for each_part in parts[1:]]
        return np.concatenate([parts[0], *(head.repeat(each, 0).reshape(query, *head.shape[2:]) for head in heads)])

    if each == 1:
        return layer
    packed = part.packed
    bias = None if packed.bias is None else spread(packed.bias)
    own = replace(part, packed=replace(packed, weight=spread(packed.weight), bias=bias), key_heads=part.heads)
    return replace(layer, attention=own)


def _own(weights: Weights, head: HeadWeights) -> OwnHead:
    if head.per_text or "qa_outputs.weight" in weights:
        raise CannotEmit(f"its own head for {head.spec.kind} pools logits; one for tagging is built")
    return token_head(weights)


EUROBERT = Architecture(
    name="eurobert",
    version=1,
    emit=_emit,
    operators=lambda checkpoint: encoder_operators(checkpoint.config.integer("num_hidden_layers"), norm=RMS),
)
