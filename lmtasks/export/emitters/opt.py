"""OPT: GPT-2 with other names, products kept (out, in), and learned positions behind two rows that nothing reads.

Zhang et al. 2022, arXiv:2205.01068.
"""

from typing import TYPE_CHECKING

from lmtasks.export.checkpoint import CannotEmit, Checkpoint, Config, Weights
from lmtasks.export.emitters.attention import CausalAttention
from lmtasks.export.emitters.blocks import Norm, check_activation, joined, projection, taken
from lmtasks.export.emitters.causal import CausalShape, causal_graphs
from lmtasks.export.emitters.gpt2 import Gpt2, Gpt2Layer
from lmtasks.export.package import GraphName

if TYPE_CHECKING:
    import onnx_ir as ir

BODY = "model.decoder"
FIRST_POSITION = 2
"""The row of a text's first token in the table of positions."""
EPSILON = 1e-5
"""Of every LayerNorm; no setting changes it."""


def emit_opt(checkpoint: Checkpoint) -> "dict[GraphName, ir.Model]":
    """The graphs of a causal model of this shape.

    Raises:
        CannotEmit: a setting or weight that these graphs do not have.
    """
    config, weights = checkpoint.config, checkpoint.weights
    if checkpoint.card.kind != "causal":
        raise CannotEmit(f"it is used as {checkpoint.card.kind}; as a causal model it is built")
    if not config.flag("do_layer_norm_before", True):
        raise CannotEmit("it normalizes behind each part; what normalizes before them is built")
    layers = tuple(_layer(config, weights, number) for number in range(config.integer("num_hidden_layers")))
    table = weights.take(f"{BODY}.embed_tokens.weight")
    model = Gpt2(
        table=table,
        positions=weights.take(f"{BODY}.embed_positions.weight")[FIRST_POSITION:],
        layers=layers,
        last=_norm(weights, f"{BODY}.final_layer_norm"),
        head=projection(table, weights.take("lm_head.weight")),
        act=check_activation(config.text("activation_function")),
    )
    weights.check_all_taken()
    shape = CausalShape(
        layers=len(layers),
        heads=layers[0].attends.heads,
        width=layers[0].attends.width,
        vocabulary=len(model.head.weight),
        projection=model.head,
        takes_positions=True,
    )
    return causal_graphs(shape, model.body, checkpoint.heads)


def _layer(config: Config, weights: Weights, number: int) -> Gpt2Layer:
    name = f"{BODY}.layers.{number}"
    heads = config.integer("num_attention_heads")
    return Gpt2Layer(
        before=_norm(weights, f"{name}.self_attn_layer_norm"),
        packed=joined(
            f"{name}.self_attn.qkv", *(taken(weights, f"{name}.self_attn.{part}_proj") for part in ("q", "k", "v"))
        ),
        attends=CausalAttention(
            layer=number, heads=heads, cache_heads=heads, width=config.integer("hidden_size") // heads
        ),
        out=taken(weights, f"{name}.self_attn.out_proj"),
        between=_norm(weights, f"{name}.final_layer_norm"),
        up=taken(weights, f"{name}.fc1"),
        down=taken(weights, f"{name}.fc2"),
    )


def _norm(weights: Weights, name: str) -> Norm:
    return Norm(name=name, weight=weights.take(f"{name}.weight"), epsilon=EPSILON, bias=weights.take(f"{name}.bias"))
