"""How often the operators that make a graph fast must stand in it, by the model's shape alone.

These counts are kept apart from the emitters: what an emitter forgot, or a later pass over the graph took apart, is a
number that differs. The proof of a package compares them with the graphs that lie in it.
"""

from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType

from lmtasks.export.checkpoint import Checkpoint, Weights
from lmtasks.export.package import GraphName, Operators
from lmtasks.settings.runtimes import Precision

ATTENDS, READS = "GroupQueryAttention", "MultiHeadAttention"
"""Attention over a cache; over whole texts and sources."""
NORM, RMS = "LayerNormalization", "SimplifiedLayerNormalization"
SLOWER: Mapping[str, int] = MappingProxyType({"SkipLayerNormalization": 0, "SkipSimplifiedLayerNormalization": 0})
"""On a CPU these take up to 8 times as long as what they are fused of."""


def wanted_operators(checkpoint: Checkpoint, *, emitter: str, graphs: Collection[GraphName]) -> Operators:
    """By graph, then operator; operators that are not named may stand there as often as they like.

    Args:
        emitter: its name.
        graphs: those that there are.
    """
    found = SHAPES[emitter](checkpoint)
    return {name: {**SLOWER, **found.get(name, {})} for name in graphs}


def rounded_operators(wanted: Operators, *, precision: Precision) -> Operators:
    """The same once weights are rounded: an LSTM becomes another operator where one scale serves all rows."""
    names = {"LSTM": "DynamicQuantizeLSTM"} if precision == "int8-tensor" else {}
    return {
        graph: {names.get(name, name): number for name, number in operators.items()}
        for graph, operators in wanted.items()
    }


def missing_operators(wanted: Operators, counts: Operators) -> str:
    """What differs first, in words; empty where nothing does.

    >>> missing_operators({"decoder": {"GroupQueryAttention": 2}}, {"decoder": {"GroupQueryAttention": 1, "Gemm": 4}})
    'the decoder graph has 1 GroupQueryAttention, and the shape of the model asks for 2'
    """
    for graph, operators in wanted.items():
        for name, number in operators.items():
            there = counts.get(graph, {}).get(name, 0)
            if there != number:
                return f"the {graph} graph has {there} {name}, and the shape of the model asks for {number}"
    return ""


def _bert(checkpoint: Checkpoint) -> Operators:
    layers = checkpoint.config.integer("num_hidden_layers")
    return {"heads": {READS: layers, NORM: 2 * layers + 1}}


def _distilbert(checkpoint: Checkpoint) -> Operators:
    layers = checkpoint.config.integer("n_layers")
    return {"heads": {READS: layers, NORM: 2 * layers + 1}}


def _eurobert(checkpoint: Checkpoint) -> Operators:
    layers = checkpoint.config.integer("num_hidden_layers")
    return {"heads": {READS: layers, RMS: 2 * layers + 1}}


def _gpt2(checkpoint: Checkpoint) -> Operators:
    layers = checkpoint.config.integer("n_layer")
    return _alike({ATTENDS: layers, NORM: 2 * layers + 1}, "score", "decoder", "heads")


def _gpt_neox(checkpoint: Checkpoint) -> Operators:
    layers = checkpoint.config.integer("num_hidden_layers")
    return _alike({ATTENDS: layers, NORM: 2 * layers + 1}, "score", "decoder", "heads")


def _llama(checkpoint: Checkpoint) -> Operators:
    layers = checkpoint.config.integer("num_hidden_layers")
    norms = 4 if checkpoint.config.text("model_type") == "qwen3" else 2  # it normalizes queries and keys as well
    return _alike({ATTENDS: layers, RMS: norms * layers + 1}, "score", "decoder", "heads")


def _marian(checkpoint: Checkpoint) -> Operators:
    config = checkpoint.config
    return _pairs(config.integer("encoder_layers"), config.integer("decoder_layers"))


def _t5(checkpoint: Checkpoint) -> Operators:
    layers = checkpoint.config.integer("num_layers")
    return _pairs(layers, checkpoint.config.integer("num_decoder_layers", layers))


def _bidirectional(checkpoint: Checkpoint) -> Operators:
    kind = {"bilstm": "LSTM", "bigru": "GRU"}[checkpoint.card.family]
    return {"heads": {kind: _layers(checkpoint.weights, "reader.forth")}}


def _recurrent(checkpoint: Checkpoint) -> Operators:
    kind = {"rnn": "RNN", "lstm": "LSTM", "gru": "GRU"}[checkpoint.card.family]
    return _alike({kind: _layers(checkpoint.weights, "layers")}, "score", "decoder", "heads")


def _plain(checkpoint: Checkpoint) -> Operators:
    """Products and look-ups, of which nothing is fused."""
    del checkpoint
    return {}


def _pairs(encoder: int, decoder: int) -> Operators:
    return {
        "encoder": {READS: encoder},
        "heads": {READS: encoder},
        **_alike({ATTENDS: decoder, READS: decoder}, "score", "decoder"),
    }


def _alike(operators: Mapping[str, int], *graphs: GraphName) -> Operators:
    return dict.fromkeys(graphs, operators)


def _layers(weights: Weights, name: str) -> int:
    count = 0
    while f"{name}.{count}.weight_ih_l0" in weights:
        count += 1
    return count


SHAPES: Mapping[str, Callable[[Checkpoint], Operators]] = {
    "average": _plain,
    "bert": _bert,
    "bidirectional": _bidirectional,
    "cnn": _plain,
    "distilbert": _distilbert,
    "eurobert": _eurobert,
    "gpt2": _gpt2,
    "gpt_neox": _gpt_neox,
    "llama": _llama,
    "marian": _marian,
    "opt": _gpt_neox,
    "recurrent": _recurrent,
    "t5": _t5,
}
"""By the name of the emitter."""
