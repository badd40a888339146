"""Bytes that one pass of a model must at least read, and products that it must take, found in its files: for the
roofline.

Weights that are only looked up (embeddings of tokens and positions) are not read as a whole, and are left out; a tied
embedding is the projection onto the vocabulary too, and counts. A graph names its weights; of a torch model the tensors
of its file are looked at. Attention multiplies activations, not weights, and is left out: the least is a little less
than what is really done.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from lmtasks.export.package import GraphName, heads_graph, is_package, load_package
from lmtasks.files import parse_json

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

LOOKUPS = ("Gather", "GatherBlockQuantized", "GatherND")
"""Operators that read some rows of a weight, never all of it."""
PASSING = ("Identity", "Cast", "Transpose", "DequantizeLinear", "Reshape", "Squeeze", "Unsqueeze")
"""Operators that hand a weight on."""
BYTES: Mapping[str, int] = {"fp32": 4, "bf16": 2, "fp16": 2}
EMBEDDINGS = ("embed", "wte", "wpe")
"""Parts of the names of looked-up tensors in transformers' checkpoints."""
OWN_TABLES = frozenset({"tokens.weight", "pairs.weight"})
"""Looked-up tensors of our own families."""


@dataclass(frozen=True, kw_only=True)
class OpCosts:
    """The least work of one pass over one graph, or over a torch model."""

    weight_bytes: int
    """Read in every pass, however many rows it has."""
    body: int
    """Weights that every token is multiplied with."""
    projection: int
    """Weights that a token is multiplied with where its successor is predicted: width x vocabulary; 0 without one."""
    cache_bytes: int
    """Keys and values of one token, over all layers; 0 where nothing is kept."""


def traffic_of(folder: Path, *, graph: GraphName, precision: str | None, head: str = "") -> OpCosts | None:
    """The traffic of a package's graph, or of the torch model in a folder; None where its files do not tell.

    Args:
        graph: which pass: `heads`, `score` or `decoder`.
        precision: of a torch model.
        head: that answers, of several that stand in graphs of their own.
    """
    if is_package(folder):
        package = load_package(folder)
        graph = next((heads_graph(package.model, spec) for spec in package.model.heads if spec.name == head), graph)
        if graph not in package.graphs:
            return None
        return _of_graph(folder / package.graphs[graph], vocabulary=package.model.vocabulary)
    return _of_checkpoint(folder, precision=precision or "fp32")


def _of_graph(file: Path, *, vocabulary: int) -> OpCosts:
    import onnx

    graph = onnx.load(str(file), load_external_data=False).graph
    users = _users(graph)
    body = projection = weight_bytes = 0
    for weight in graph.initializer:
        nodes = list(_really_used_by(weight.name, users))
        read = [node for node in nodes if node.op_type not in LOOKUPS]
        if not read:
            continue
        size = prod(weight.dims)
        weight_bytes += size * _element_bytes(weight.data_type)
        if len(weight.dims) < 2:
            continue
        packed = next((node for node in read if node.op_type == "MatMulNBits"), None)
        if packed is not None:
            facts = {attribute.name: attribute.i for attribute in packed.attribute}
            if weight.name != packed.input[1]:
                continue  # scales
            shape = (facts["K"], facts["N"])
        else:
            shape = tuple(weight.dims)
        if vocabulary in shape:
            projection += prod(shape)
        else:
            body += prod(shape)
    return OpCosts(weight_bytes=weight_bytes, body=body, projection=projection, cache_bytes=_cache_bytes(graph))


def _users(graph: "GraphProto") -> "dict[str, list[NodeProto]]":
    users: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in dict.fromkeys(node.input):
            users.setdefault(name, []).append(node)
    return users


def _really_used_by(name: str, users: "Mapping[str, list[NodeProto]]") -> "Iterator[NodeProto]":
    """Who reads a weight, at last: operators that only hand it on are looked through."""
    for node in users.get(name, []):
        if node.op_type in PASSING and name == node.input[0]:
            for output in node.output:
                yield from _really_used_by(output, users)
        else:
            yield node


def _cache_bytes(graph: "GraphProto") -> int:
    """Inputs `past_*` (B, heads, P, width)."""
    total = 0
    for item in graph.input:
        kind = item.type.tensor_type
        sizes = [dim.dim_value for dim in kind.shape.dim]
        if item.name.startswith("past_") and len(sizes) == 4:
            total += sizes[1] * sizes[3] * _element_bytes(kind.elem_type)
    return total


def _element_bytes(kind: int) -> int:
    from onnx import helper

    return int(helper.tensor_dtype_to_np_dtype(kind).itemsize)


def _of_checkpoint(folder: Path, *, precision: str) -> OpCosts | None:
    home = folder / "backbone" if (folder / "backbone").is_dir() else folder
    from lmtasks.model.weights import weights_home

    shapes = dict(_shapes(weights_home(folder)))
    if not shapes or precision not in BYTES or not (home / "config.json").is_file():
        return None
    family = dict(parse_json((home / "config.json").read_text(encoding="utf-8"))).get("lmtasks_family")
    if family is not None:
        return _of_own(shapes, str(family), precision=precision)
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(str(home))
    if config.is_encoder_decoder:
        return None  # which of its weights a step reads, the names of its tensors do not tell
    vocabulary = int(config.vocab_size)
    tied = not any("lm_head" in name for name in shapes)
    body = projection = vectors = 0
    for name, shape in shapes.items():
        looked_up = any(part in name for part in EMBEDDINGS)
        if len(shape) < 2:
            vectors += prod(shape)
        elif vocabulary in shape and (not looked_up or tied):
            projection = max(projection, prod(shape))
        elif not looked_up:
            body += prod(shape)
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return OpCosts(
        weight_bytes=(body + projection + vectors) * BYTES[precision],
        body=body,
        projection=projection,
        cache_bytes=2 * int(config.num_hidden_layers) * int(heads) * int(width) * BYTES[precision],
    )


def _of_own(shapes: Mapping[str, tuple[int, ...]], family: str, *, precision: str) -> OpCosts | None:
    """Of a family of our own. What it keeps of a row does not grow with the row."""
    if family.endswith("-attention"):
        return None  # its source is read by other weights than its answer
    writes = family in {"rnn", "lstm", "gru"}  # by the embeddings themselves
    sizes = {name: prod(shape) for name, shape in shapes.items()}
    projection = sizes.get("tokens.weight", 0) if writes else 0
    layers = {name: size for name, size in sizes.items() if name not in OWN_TABLES}
    body = sum(size for name, size in layers.items() if len(shapes[name]) > 1)
    return OpCosts(
        weight_bytes=(sum(layers.values()) + projection) * BYTES[precision],
        body=body,
        projection=projection,
        cache_bytes=0,
    )


def _shapes(folder: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of a checkpoint's tensors, from the headers of its safetensors files."""
    from lmtasks.model.files import backbone_weights, has_weights

    for file in backbone_weights(folder) if has_weights(folder) else ():
        if file.suffix != ".safetensors":
            continue
        with file.open("rb") as opened:
            header = parse_json(opened.read(int.from_bytes(opened.read(8), "little")))
        yield from ((name, tuple(facts["shape"])) for name, facts in header.items() if name != "__metadata__")
