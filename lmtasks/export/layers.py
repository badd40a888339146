"""Layers of a package that rounding would reach: one weight wherever it stands, in each of its graphs.

Graphs of one package name a weight as they like, and one of them may hold it turned; it is known by its values. Only so
does a layer that stays in fp32 stay so in every graph, and a prompt is scored and continued with the same numbers.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lmtasks.export.emit import load_graphs
from lmtasks.export.graph import key_of
from lmtasks.export.int8_tensor import lstm_weights
from lmtasks.export.package import GraphName, load_package
from lmtasks.export.weight_rounding import products
from lmtasks.records import Floats32

if TYPE_CHECKING:
    import onnx_ir as ir

Keep = Mapping[GraphName, Collection[str]]
"""Names of weights that stay as they are, by graph."""


@dataclass(frozen=True, kw_only=True)
class WeightGroup:
    """A weight, or several that are treated alike."""

    name: str
    weights: Mapping[GraphName, tuple[str, ...]]
    """Its names in each graph."""
    numbers: int
    """How many numbers it holds."""


def rounded_layers(base: Path, *, precision: str) -> tuple[WeightGroup, ...]:
    """Every layer that rounding would reach, in the order of the graphs; of a graph, its LSTMs last.

    Args:
        base: an fp32 package.
        precision: it is to be rounded to; LSTMs are in `int8-tensor` only.
    """
    places: dict[str, dict[GraphName, list[str]]] = {}
    names: dict[str, str] = {}
    sizes: dict[str, int] = {}
    for graph, model in load_graphs(load_package(base)).items():
        readers = {str(value.name): node.name for node in model.graph for value in node.inputs if value is not None}
        lstms = lstm_weights(model) if precision == "int8-tensor" else ()
        for name, *others in [*((name,) for name in products(model)), *lstms]:
            array = _array(model, name)
            key = min(key_of(array), key_of(array.T))
            places.setdefault(key, {}).setdefault(graph, []).extend((name, *others))
            # A traced graph calls what it turned `val_12`; what reads that says more.
            better = name if "." in name and not name.startswith("val_") else f"{graph}: {readers.get(name) or name}"
            names[key] = better if key not in names or ": " in names[key] else names[key]
            sizes[key] = sum(int(_array(model, each).size) for each in (name, *others))
    return tuple(
        WeightGroup(name=names[key], weights={graph: tuple(each) for graph, each in found.items()}, numbers=sizes[key])
        for key, found in places.items()
    )


def _array(model: "ir.Model", name: str) -> Floats32:
    tensor = model.graph.initializers[name].const_value
    assert tensor is not None  # whoever named it looked
    array: Floats32 = np.ascontiguousarray(tensor.numpy())
    return array


def joined_layers(layers: Sequence[WeightGroup], *, most: int) -> tuple[WeightGroup, ...]:
    """Neighbours joined, so that at most `most` are left.

    >>> single = [WeightGroup(name=name, weights={"heads": (name,)}, numbers=2) for name in "abc"]
    >>> [(layer.name, layer.weights["heads"], layer.numbers) for layer in joined_layers(single, most=2)]
    [('a .. b', ('a', 'b'), 4), ('c', ('c',), 2)]
    """
    size = -(-len(layers) // most)
    return tuple(_joined(layers[start : start + size]) for start in range(0, len(layers), max(1, size)))


def keep_of(layers: Sequence[WeightGroup]) -> Keep:
    """The names of some layers, by graph."""
    kept: dict[GraphName, set[str]] = {}
    for layer in layers:
        for graph, names in layer.weights.items():
            kept.setdefault(graph, set()).update(names)
    return kept


def _joined(layers: Sequence[WeightGroup]) -> WeightGroup:
    if len(layers) == 1:
        return layers[0]
    weights: dict[GraphName, tuple[str, ...]] = {}
    for layer in layers:
        for graph, names in layer.weights.items():
            weights[graph] = (*weights.get(graph, ()), *names)
    return WeightGroup(
        name=f"{layers[0].name} .. {layers[-1].name}",
        weights=weights,
        numbers=sum(layer.numbers for layer in layers),
    )
