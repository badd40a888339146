"""Emitted graphs of tiny models in plain onnxruntime sessions, driven by hand as a runtime drives them."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache

import numpy as np
import onnx_ir as ir
import onnxruntime
import torch
from numpy.typing import NDArray
from packed import HEADS, VOCABULARY, place
from transformers import PreTrainedModel

from lmtasks.export.checkpoint import Checkpoint, checkpoint_of
from lmtasks.export.graph import count_operators, save_graphs
from lmtasks.export.package import GraphName
from lmtasks.model.model import Model
from lmtasks.model.store import load_model
from lmtasks.records import Bools, Floats32, HeadSpec, Ints
from lmtasks.runtime.onnx.session import config

Array = NDArray[np.generic]
Graphs = Mapping[GraphName, ir.Model]
PREDICTING = tuple(head for head in HEADS if head.kind != "generation")
OPEN = -1e9


def tiny_model(name: str, make: Callable[[], PreTrainedModel], *, heads: Sequence[HeadSpec] = PREDICTING) -> Model:
    """A random model of ours with random heads, saved and loaded as any other."""
    torch.manual_seed(0)
    made = make()
    with torch.no_grad():  # larger than transformers' own start, so that different inputs give different answers
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    folder = place() / f"emitted-{name}"
    made.save_pretrained(folder)
    model = load_model(folder)
    if model.card.heads:  # a checkpoint's own
        return model.eval()
    model.add_heads(heads)
    with torch.no_grad():
        for parameter in model.heads.parameters():
            parameter.normal_(0.0, 0.3)
    return model.eval()


class Emitted:
    """The graphs of one model, opened.

    Args:
        name: of a folder for them.
        model: what they must answer as.
        emit: the builder.
        rewrite: changes a graph in place before it is opened.
    """

    def __init__(
        self,
        name: str,
        model: Model,
        emit: Callable[[Checkpoint], Graphs],
        *,
        rewrite: Callable[[ir.Model], object] = lambda graph: None,
    ) -> None:
        self.model = model
        self.graphs = emit(checkpoint_of(model))
        for graph in self.graphs.values():
            rewrite(graph)
        self.folder = place() / f"graphs-{name}"
        self.folder.mkdir(exist_ok=True)
        save_graphs(
            {self.folder / f"{graph}.onnx": made for graph, made in self.graphs.items()},
            weights=self.folder / "weights.bin",
        )
        self._open = cache(self._opened)

    def session(self, graph: GraphName) -> onnxruntime.InferenceSession:
        """Its session, as the package's runtime opens it."""
        return self._open(graph)

    def _opened(self, graph: GraphName) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        for name, value in config().items():
            options.add_session_config_entry(name, value)
        options.optimized_model_filepath = str(self.folder / f"{graph}.optimized.onnx")
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", f"{graph}.bin")
        return onnxruntime.InferenceSession(
            str(self.folder / f"{graph}.onnx"),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=["SkipLayerNormFusion"],
        )

    def run(self, graph: GraphName, given: Mapping[str, Array]) -> dict[str, NDArray[np.float32]]:
        """All outputs by name. What the graph does not take is left out."""
        session = self.session(graph)
        takes = {item.name for item in session.get_inputs()}
        names = [item.name for item in session.get_outputs()]
        found = session.run(names, {name: value for name, value in given.items() if name in takes})
        return dict(zip(names, found, strict=True))

    def carried_out(self, graph: GraphName) -> dict[str, int]:
        """How often each operator stands in what onnxruntime made of the graph."""
        self.session(graph)
        return dict(count_operators(ir.load(self.folder / f"{graph}.optimized.onnx")))

    def layer(self, fewer: "Emitted", graph: GraphName) -> tuple[dict[str, int], dict[str, int]]:
        """What one layer more adds to a graph: as it was built, and as onnxruntime carries it out."""
        return _more(count_operators(self.graphs[graph]), count_operators(fewer.graphs[graph])), _more(
            self.carried_out(graph), fewer.carried_out(graph)
        )

    def empty_past(self, graph: GraphName, rows: int, capacity: int = 0) -> dict[str, Array]:
        """Caches with room for `capacity` tokens, filled with what must not matter."""
        return {
            item.name: np.full((rows, int(item.shape[1]), capacity, int(item.shape[3])), 7.0, dtype=np.float32)
            for item in self.session(graph).get_inputs()
            if item.name.startswith("past_")
        }


def _more(counts: Mapping[str, int], fewer: Mapping[str, int]) -> dict[str, int]:
    return {kind: count - fewer.get(kind, 0) for kind, count in counts.items() if count != fewer.get(kind, 0)}


class Decoding:
    """Rows that are continued in caches which lie still: past and present are one buffer.

    Args:
        capacity: of the caches, in tokens.
        source: what an encoder-decoder's decoder reads of its sources.
    """

    def __init__(
        self, emitted: Emitted, *, rows: int, capacity: int, source: Mapping[str, Array] | None = None
    ) -> None:
        self.emitted = emitted
        self.source = dict(source or {})
        self.lengths = np.zeros(rows, dtype=np.int32)
        self.session = emitted.session("decoder")
        self.caches = {
            name: onnxruntime.OrtValue.ortvalue_from_numpy(array)
            for name, array in emitted.empty_past("decoder", rows, capacity).items()
        }
        self.places = {name: value.data_ptr() for name, value in self.caches.items()}

    def append(self, rows: Sequence[Sequence[int]]) -> Floats32:
        """Append tokens to each row, none to some: next-token logits (rows, V) behind each."""
        new = np.array([len(row) for row in rows], dtype=np.int32)
        columns = max(1, int(new.max()))
        ids = np.full((len(rows), columns), 7, dtype=np.int64)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = row
        after = self.lengths + new
        given: dict[str, Array] = {
            "ids": ids,
            "positions": self.lengths[:, None].astype(np.int64) + np.arange(columns),
            "new": new,
            "seqlens_k": np.maximum(after - 1, 0).astype(np.int32),
            "total_sequence_length": np.array(max(int(after.max()), columns), dtype=np.int32),
            "wanted": np.arange(len(rows)) * columns + np.maximum(new - 1, 0),
            **self.source,
        }
        binding = self.session.io_binding()
        takes = {item.name for item in self.session.get_inputs()}
        for name, array in given.items():
            if name in takes:
                binding.bind_cpu_input(name, array)
        for name, value in self.caches.items():
            binding.bind_ortvalue_input(name, value)
            binding.bind_ortvalue_output(name.replace("past_", "present_", 1), value)
        binding.bind_output("logits")
        self.session.run_with_iobinding(binding)
        self.lengths = after
        logits: Floats32 = binding.get_outputs()[-1].numpy()
        return logits


def full_logits(model: Model, row: Sequence[int]) -> Floats32:
    """torch's logits behind every token of one row, (T, V)."""
    with torch.no_grad():
        ids = torch.tensor([list(row)])
        logits: Floats32 = model.hf(input_ids=ids, use_cache=False).logits[0].numpy()
    return logits


def log_softmax(logits: Floats32) -> Floats32:
    """(T, V) -> (T, V)"""
    scores: Floats32 = torch.from_numpy(logits).double().log_softmax(-1).float().numpy()
    return scores


def random_tokens(*lengths: int, seed: int = 0) -> list[list[int]]:
    """Rows of random tokens."""
    random = np.random.default_rng(seed)
    return [random.integers(2, VOCABULARY, length).tolist() for length in lengths]


def packed_rows(
    contexts: Sequence[Sequence[int]], continuations: Sequence[Sequence[Sequence[int]]]
) -> tuple[Ints, Ints, Floats32]:
    """One row each: a context, and all its continuations behind it, which see it and themselves: ids, positions, bias.

    The last token of a continuation is not read, and padding on the right sees itself.
    """
    wide = max(
        len(context) + sum(len(text) - 1 for text in texts)
        for context, texts in zip(contexts, continuations, strict=True)
    )
    ids, positions = np.full((len(contexts), wide), 7, dtype=np.int64), np.zeros((len(contexts), wide), dtype=np.int64)
    seen: Bools = np.zeros((len(contexts), 1, wide, wide), dtype=np.bool_)
    seen[:, 0] = np.eye(wide, dtype=np.bool_)
    for row, (context, texts) in enumerate(zip(contexts, continuations, strict=True)):
        inside = len(context)
        ids[row, :inside], positions[row, :inside] = context, np.arange(inside)
        seen[row, 0, :inside, :inside] = np.tri(inside, dtype=np.bool_)
        at = inside
        for text in texts:
            part = slice(at, at + len(text) - 1)
            ids[row, part], positions[row, part] = text[:-1], inside + np.arange(len(text) - 1)
            seen[row, 0, part, :inside] = True
            seen[row, 0, part, part] = np.tri(len(text) - 1, dtype=np.bool_)
            at = part.stop
    return ids, positions, np.where(seen, 0.0, OPEN).astype(np.float32)
