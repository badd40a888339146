"""GPT-NeoX and Pythia: rotary positions on a part of each head, attention and feed-forward beside each other.

    x = embedding(ids)
    x = x + out(attention(LayerNorm(x))) + down(gelu(up(LayerNorm'(x))))      or one behind the other
    logits = head(LayerNorm(x))

Black et al. 2022, arXiv:2204.06745; Biderman et al. 2023, arXiv:2304.01373.

The operator rotates whole heads, pairing number i with i + width / 2, and these models rotate the first R numbers of a
head, pairing i with i + R / 2. A head's numbers may stand in any order, as long as queries and keys have the same: the
rows of both products are put where the operator's pairs are theirs, and the tables leave the others as they are.
"""

import numpy as np

from lmtasks.export.checkpoint import Checkpoint, Config, Weights
from lmtasks.export.emitters.architecture import Architecture, Graphs, decoder_operators
from lmtasks.export.emitters.attention import Attention
from lmtasks.export.emitters.blocks import Dense, EmbeddingTable, check_activation, dense_of, layer_norm_of, projection
from lmtasks.export.emitters.decoder import Decoder, check_causal, decoder_graphs
from lmtasks.export.emitters.positions import Rotary, rotary_tables
from lmtasks.export.emitters.transformer import Embeddings, FeedForward, Layer
from lmtasks.records import Floats32, Ints


def _emit(checkpoint: Checkpoint) -> Graphs:
    check_causal(checkpoint)
    config, weights = checkpoint.config, checkpoint.weights
    width = config.integer("hidden_size") // config.integer("num_attention_heads")
    cosines, sines = rotary_tables(config, width=width, positions=checkpoint.card.max_length_tokens)
    order = _order(width, rotated=2 * cosines.shape[1])
    rotary = Rotary(cosines=_widened(cosines, width, 1.0), sines=_widened(sines, width, 0.0))
    table = weights.take("gpt_neox.embed_in.weight")
    model = Decoder(
        embeddings=Embeddings(tokens=EmbeddingTable(name="embedding.weight", rows=table)),
        layers=tuple(
            _layer(config, weights, f"gpt_neox.layers.{number}", rotary=rotary, order=order)
            for number in range(config.integer("num_hidden_layers"))
        ),
        last=layer_norm_of(weights, "gpt_neox.final_layer_norm", config.number("layer_norm_eps")),
        head=projection(table, weights.take("lm_head.weight")),
    )
    weights.check_all_taken()
    return decoder_graphs(model, checkpoint.heads)


def _layer(config: Config, weights: Weights, name: str, *, rotary: Rotary, order: Ints) -> Layer:
    heads, epsilon = config.integer("num_attention_heads"), config.number("layer_norm_eps")
    return Layer(
        attention=Attention(
            packed=_apart(dense_of(weights, f"{name}.attention.query_key_value"), heads=heads, order=order),
            out=dense_of(weights, f"{name}.attention.dense"),
            heads=heads,
            key_heads=heads,
            width=len(order),
            rotary=rotary,
        ),
        attention_norm=layer_norm_of(weights, f"{name}.input_layernorm", epsilon),
        feed=FeedForward(
            up=dense_of(weights, f"{name}.mlp.dense_h_to_4h"),
            down=dense_of(weights, f"{name}.mlp.dense_4h_to_h"),
            act=check_activation(config.text("hidden_act")),
        ),
        feed_norm=layer_norm_of(weights, f"{name}.post_attention_layernorm", epsilon),
        parallel=config.flag("use_parallel_residual", True),
    )


def _order(width: int, *, rotated: int) -> Ints:
    """Where each number of a head comes from, (width,): pairs (i, i + rotated / 2) become pairs (i, i + width / 2).

    >>> _order(8, rotated=4).tolist()
    [0, 1, 4, 5, 2, 3, 6, 7]
    """
    half, rest = rotated // 2, np.arange(rotated, width)
    middle = len(rest) // 2
    return np.concatenate([np.arange(half), rest[:middle], np.arange(half, rotated), rest[middle:]])


def _widened(table: Floats32, width: int, value: float) -> Floats32:
    """(positions, rotated / 2) -> (positions, width / 2), by what rotates nothing."""
    missing = width // 2 - table.shape[1]
    return np.pad(table, ((0, 0), (0, missing)), constant_values=value)


def _apart(packed: Dense, *, heads: int, order: Ints) -> Dense:
    """Rows of queries, keys and values, which stand head by head, one kind behind the other."""

    def moved(rows: Floats32) -> Floats32:
        query, key, value = np.moveaxis(rows.reshape(heads, 3, len(order), *rows.shape[1:]), 1, 0)
        return np.concatenate([query[:, order], key[:, order], value]).reshape(rows.shape)

    bias = None if packed.bias is None else moved(packed.bias)
    return Dense(name=packed.name, weight=moved(packed.weight), bias=bias)


GPT_NEOX = Architecture(
    name="gpt_neox",
    version=1,
    emit=_emit,
    operators=lambda checkpoint: decoder_operators(checkpoint.config.integer("num_hidden_layers")),
)
