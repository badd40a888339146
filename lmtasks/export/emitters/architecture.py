"""An architecture: what builds its graphs, and how often the operators that make them fast must stand in them.

The counts go by the model's shape alone, and are kept apart from what builds the graphs: what was forgotten there, or
taken apart by a later pass over the graph, is a number that differs. The proof of a package compares them with the
graphs that lie in it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from lmtasks.export.checkpoint import Checkpoint, Weights
from lmtasks.export.package import EMITTED, GraphName, Operators
from lmtasks.settings.runtimes import Precision

if TYPE_CHECKING:
    import onnx_ir as ir

Graphs = dict[GraphName, "ir.Model"]
CACHED, WHOLE = "GroupQueryAttention", "MultiHeadAttention"
"""Attention over a cache; over whole texts and sources."""
NORM, RMS = "LayerNormalization", "SimplifiedLayerNormalization"
SLOWER: Mapping[str, int] = MappingProxyType({"SkipLayerNormalization": 0, "SkipSimplifiedLayerNormalization": 0})
"""On a CPU these take up to 8 times as long as what they are fused of."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """One way of building graphs, block by block."""

    name: str
    version: int
    """Changes whenever its graphs may yield other numbers, or are driven in another way."""
    emit: Callable[[Checkpoint], Graphs]
    """Raises CannotEmit for a setting or weight that the graphs do not have."""
    operators: Callable[[Checkpoint], Operators]
    """How often some operators must stand in its graphs; others may stand there as often as they like."""

    @property
    def label(self) -> str:
        """As a package names it."""
        return f"{EMITTED}{self.name} {self.version}"

    def expected_operators(self, checkpoint: Checkpoint, graphs: Graphs) -> Operators:
        """By graph of those that there are, then operator."""
        found = self.operators(checkpoint)
        return {name: {**SLOWER, **found.get(name, {})} for name in graphs}


def encoder_operators(layers: int, *, norm: str = NORM, norms: int | None = None) -> Operators:
    """For an encoder with two normalizations a layer and one more, or so many in all."""
    return {"heads": {WHOLE: layers, norm: 2 * layers + 1 if norms is None else norms}}


def decoder_operators(layers: int, *, norm: str = NORM, norms_per_layer: int = 2) -> Operators:
    """For a causal model with one normalization behind its layers."""
    norms = {norm: norms_per_layer * layers + 1}
    return {**in_each({CACHED: layers, **norms}, "score", "decoder", "heads"), "heads_both": {WHOLE: layers, **norms}}


def seq2seq_operators(encoder: int, decoder: int) -> Operators:
    """For an encoder-decoder of so many layers."""
    return {
        "encoder": {WHOLE: encoder},
        "heads": {WHOLE: encoder},
        **in_each({CACHED: decoder, WHOLE: decoder}, "score", "decoder"),
    }


def no_operators(checkpoint: Checkpoint) -> Operators:
    """For products and look-ups, of which nothing is fused."""
    del checkpoint
    return {}


def in_each(operators: Mapping[str, int], *graphs: GraphName) -> Operators:
    """The same counts in several graphs."""
    return dict.fromkeys(graphs, operators)


def counted_layers(weights: Weights, name: str) -> int:
    """How many recurrent layers there are, by the names of their weights."""
    count = 0
    while f"{name}.{count}.weight_ih_l0" in weights:
        count += 1
    return count


def rounded_operators(expected: Operators, *, precision: Precision) -> Operators:
    """The same once weights are rounded: an LSTM becomes another operator where one scale serves all rows."""
    names = {"LSTM": "DynamicQuantizeLSTM"} if precision == "int8-tensor" else {}
    return {
        graph: {names.get(name, name): number for name, number in operators.items()}
        for graph, operators in expected.items()
    }


def missing_operators(expected: Operators, counts: Operators) -> str:
    """The first difference, in words; empty where there is none.

    >>> missing_operators({"decoder": {"GroupQueryAttention": 2}}, {"decoder": {"GroupQueryAttention": 1, "Gemm": 4}})
    'the decoder graph has 1 GroupQueryAttention, and the shape of the model asks for 2'
    """
    for graph, operators in expected.items():
        for name, number in operators.items():
            there = counts.get(graph, {}).get(name, 0)
            if there != number:
                return f"the {graph} graph has {there} {name}, and the shape of the model asks for {number}"
    return ""
