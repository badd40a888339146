"""A model folder becomes the graphs of a package. Whether they are right is asked by `prove/`, not here."""

import logging
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

from lmtasks.errors import UsageError, unknown
from lmtasks.export.architectures import ARCHITECTURES, architecture_of
from lmtasks.export.checkpoint import CannotEmit, Config, checkpoint_of
from lmtasks.export.emitters.architecture import Graphs, rounded_operators
from lmtasks.export.emitters.positions import check_rotary
from lmtasks.export.graph import count_operators, fold_transposes, save_graphs, state_defaults
from lmtasks.export.half import check_half, to_half
from lmtasks.export.package import (
    EMITTED,
    NOTHING_WANTED,
    REVISED,
    TRACED,
    WEIGHTS,
    GraphName,
    Operators,
    Package,
    load_package,
    write_manifest,
)
from lmtasks.export.ranges import CalibrationRow, check_rows
from lmtasks.export.weight_rounding import LEAST_ROWS, LEAST_SIDE
from lmtasks.files import parse_json, write_json
from lmtasks.model.files import copy_tokenizer
from lmtasks.records import TRAINING_ROWS, ModelCard, Progress
from lmtasks.settings.runtimes import (
    MADE_FOR,
    PRECISIONS,
    RUNTIMES,
    Precision,
    RuntimeName,
    needs_gpu,
    package_runtimes,
)

if TYPE_CHECKING:
    import onnx_ir as ir

    from lmtasks.export.trace import Traceable
    from lmtasks.model.model import Model

SPELLED_OUT: Mapping[RuntimeName, Mapping[str, Mapping[str, int]]] = {
    "openvino": {"RotaryEmbedding": {"interleaved": 0}},
}
"""By runtime, then operator: attributes that it does not read where they are left at their defaults."""
EVERYTHING: Mapping[GraphName, Collection[str]] = MappingProxyType({})
"""Nothing is kept."""
_LOGGER = logging.getLogger(__name__)


def export_model(
    model_folder: Path,
    *,
    out: Path,
    precision: str,
    report: Callable[[Progress], None],
    base: Path | None = None,
    emitters: Collection[str] | None = None,
    keep: Mapping[GraphName, Collection[str]] = EVERYTHING,
    rows: Sequence[CalibrationRow] = (),
    runtime: RuntimeName = MADE_FOR,
) -> None:
    """Write the package of a model into `out`, an existing empty folder.

    Args:
        precision: a name of `PRECISIONS`.
        base: an fp32 package of the same model, whose graphs are then rounded instead of made anew.
        emitters: names of those that may be used, None: all; a model that none of them builds is traced.
        keep: weights that stay in fp32, by graph; see `export.layers`.
        rows: real ones, on which `int8-static` measures how far activations reach.
        runtime: that the package is for.

    Raises:
        UsageError: a precision or model that cannot be exported.
        WorkError: torch cannot export the architecture.
    """
    from lmtasks.model.store import load_model, training_rows_file

    if precision not in PRECISIONS:
        raise unknown("precision of an export", precision, PRECISIONS)
    wanted = cast("Precision", precision)
    if wanted == "int8-static":
        check_rows(rows)
    if base is None:
        model = load_model(model_folder)
        model.card = _exported(model.card)
        _check_exportable(model, model_folder)
        check_precision(wanted, model.card, runtime=runtime)
        emitter, graphs, operators = _build(model, report, emitters)
        card = model.card
        _copy_tokenizer(model.folder, out, takes_types=model.backbone.traits.takes_types)
    else:
        package = _checked_base(base, model_folder)
        check_precision(wanted, package.model, runtime=runtime)
        emitter, graphs, card, operators = package.emitter, load_graphs(package), package.model, package.operators
        copy_tokenizer(base, out)
    if needs_gpu(wanted, runtime=runtime):
        check_half(wanted, family=card.family, built=emitter.startswith(EMITTED), name=card.name)
        for graph in graphs.values():
            to_half(graph, precision=wanted)
    else:
        graphs = _rounded(graphs, wanted, folder=out, built=emitter.startswith(EMITTED), keep=keep, rows=rows)
    for graph in graphs.values():
        state_defaults(graph, SPELLED_OUT.get(runtime, {}))
    files: dict[GraphName, str] = {name: f"{name}.onnx" for name in graphs}
    save_graphs({out / files[name]: graph for name, graph in graphs.items()}, weights=out / WEIGHTS)
    if training_rows_file(model_folder).is_file():
        shutil.copyfile(training_rows_file(model_folder), out / TRAINING_ROWS)
    operators = rounded_operators(operators, precision=wanted)
    label = emitter + REVISED.get(wanted, "")
    write_manifest(out, model=card, precision=wanted, graphs=files, emitter=label, operators=operators, runtime=runtime)


def _build(
    model: "Model", report: Callable[[Progress], None], emitters: Collection[str] | None
) -> tuple[str, Graphs, Operators]:
    """The label of a model's graphs in fp32; the graphs; and how often operators must stand in them."""
    import torch

    _check_graphs_exist(model)
    architecture = architecture_of(model.card)
    why = ""
    if architecture is not None and (emitters is None or architecture.name in emitters):
        try:
            checkpoint = checkpoint_of(model)
            graphs = architecture.emit(checkpoint)
            return architecture.label, graphs, architecture.expected_operators(checkpoint, graphs)
        except CannotEmit as refusal:
            why = f" ({architecture.name} builds no graphs for it: {refusal})"
    if not model.backbone.traits.by_transformers:
        # torch's exporter freezes the length of recurrent layers to that of the example.
        raise UsageError(
            f"{model.card.name} is of family {model.card.family}, of which no graphs are built{why}; it stays with the "
            "torch runtime."
        )
    _LOGGER.warning(
        "torch traces %s, and nothing in its graphs is fused: %s",
        model.card.name,
        why.strip(" ()") or f"no graphs are built of {model.card.family}, only of {', '.join(sorted(ARCHITECTURES))}",
    )
    return f"{TRACED} torch-{torch.__version__}{why}", _trace(model, report), NOTHING_WANTED


def _check_graphs_exist(model: "Model") -> None:
    """
    Raises:
        UsageError: what the model computes depends on the length of the text: neither a built nor a traced graph of it
            is right.
    """
    if model.backbone.traits.by_transformers:
        try:
            check_rotary(Config(model.hf.config.to_dict()))  # type: ignore[union-attr, operator]
        except CannotEmit as refusal:
            raise UsageError(
                f"{model.card.name} cannot be exported: {refusal}, and a graph turns by one table; it stays with the "
                "torch runtime."
            ) from refusal


def _trace(model: "Model", report: Callable[[Progress], None]) -> Graphs:
    from lmtasks.export.trace import trace

    model.hf.set_attn_implementation("eager")  # type: ignore[operator]
    parts = _traceables(model)
    graphs: Graphs = {}
    for name, part in parts.items():
        report(Progress(stage="export", done=len(graphs), total=len(parts), unit="graphs", note=name))
        graphs[name] = trace(part, name=name)
        fold_transposes(graphs[name])
    report(Progress(stage="export", done=len(graphs), total=len(parts), unit="graphs"))
    return graphs


def _traceables(model: "Model") -> "dict[GraphName, Traceable]":
    """Modules to trace, by the kind of model."""
    from lmtasks.export.traced_graphs import (
        decoder_graph,
        score_graph,
        seq2seq_decoder_graph,
        seq2seq_encoder_graph,
        traced_heads,
    )

    makers: Mapping[str, Mapping[GraphName, Callable[[Model], Traceable]]] = {
        "encoder": {},
        "causal": {"score": score_graph, "decoder": decoder_graph},
        "encoder-decoder": {"score": score_graph, "encoder": seq2seq_encoder_graph, "decoder": seq2seq_decoder_graph},
    }
    parts: dict[GraphName, Traceable] = {name: make(model) for name, make in makers[model.card.kind].items()}
    names: tuple[GraphName, ...] = ("heads", "heads_both")
    heads = {name: part for name in names if (part := traced_heads(model, name)) is not None}
    return {**parts, **heads}


def _rounded(
    graphs: Graphs,
    precision: Precision,
    *,
    folder: Path,
    built: bool,
    keep: Mapping[GraphName, Collection[str]],
    rows: Sequence[CalibrationRow],
) -> Graphs:
    """The graphs in a precision. A runtime may compute in bf16 what stands in fp32 in a graph, which is then left."""
    from lmtasks.export.int8_tensor import quantize_tensors
    from lmtasks.export.quantize import quantize_fixed, quantize_rows, quantize_weights, quantize_whole
    from lmtasks.export.ranges import measure_ranges

    kept = {name: keep.get(name, ()) for name in graphs}
    if precision == "int8-tensor" and not built:
        return {name: quantize_tensors(graph, folder=folder, keep=kept[name]) for name, graph in graphs.items()}
    rewrites: Mapping[str, Callable[[GraphName, ir.Model], int]] = {
        "int8": lambda name, graph: quantize_rows(graph, many=built and name != "decoder", keep=kept[name]),
        "int8-static": lambda name, graph: quantize_fixed(
            graph, measure_ranges(graph, rows, folder=folder), keep=kept[name]
        ),
        "int8-tensor": lambda name, graph: quantize_whole(graph, keep=kept[name]),
        "w8": lambda name, graph: quantize_weights(graph, bits=8, keep=kept[name]),
        "int4": lambda name, graph: quantize_weights(graph, bits=4, keep=kept[name]),
    }
    if precision in rewrites:
        changed = [rewrites[precision](name, graph) for name, graph in graphs.items()]
        if not any(changed) and not any(kept.values()):
            raise UsageError(
                f"{precision} would round nothing of this model: it multiplies with no matrix of {LEAST_SIDE} x "
                f"{LEAST_SIDE} or more, and has no table of {LEAST_ROWS:,} rows or more; export it in fp32."
            )
    return graphs


def load_graphs(package: Package) -> Graphs:
    """The graphs of a package, ready for a pass over them."""
    import onnx_ir as ir

    graphs: Graphs = {name: ir.load(package.folder / file) for name, file in package.graphs.items()}
    for graph in graphs.values():
        fold_transposes(graph)
    return graphs


def graph_operators(package: Package) -> Operators:
    """How often each operator stands in each graph of a package, as it lies there."""
    import onnx_ir as ir

    return {name: dict(count_operators(ir.load(package.folder / file))) for name, file in package.graphs.items()}


def _checked_base(base: Path, model_folder: Path) -> Package:
    from lmtasks.model.store import card_of

    package = load_package(base)
    if package.precision != "fp32":
        raise UsageError(f"{base} is in {package.precision}; graphs can be rounded from an fp32 package only.")
    if package.model.weights_hash != card_of(model_folder).weights_hash:
        raise UsageError(f"{base} was exported from other weights than those in {model_folder}; export these first.")
    return package


def check_precision(precision: str, card: ModelCard, *, runtime: RuntimeName = MADE_FOR) -> None:
    """Raises: UsageError: no package of a model of this kind is made in that precision, or for that runtime."""
    spec = RUNTIMES[runtime]
    if precision not in spec.packages:
        raise UsageError(
            f"packages for {runtime} are in {', '.join(spec.packages)}, not in {precision}; take one of these, or "
            f"another --runtime: {', '.join(package_runtimes())}."
        )
    if spec.reads_only and card.kind != "encoder":
        raise UsageError(
            f"{runtime} runs packages of encoders; {card.name} is {card.kind} and writes token by token: leave "
            "--runtime out, and onnx runs it."
        )
    if precision == "int8-static" and card.kind != "encoder":
        raise UsageError(
            f"int8-static is for encoders, which read a text once; {card.name} is {card.kind} and writes token by "
            "token: take int8, which measures each row as it comes, or w8 or int4, which round weights alone."
        )


def _exported(card: ModelCard) -> ModelCard:
    """The card with the heads that a package has. An encoder that nobody has adapted answers with vectors; of other
    models only heads of their own are exported, vectors where they were adapted to such a task."""
    alone = card.kind == "encoder" and not card.heads and card.vectors is not None
    return replace(card, heads=(card.vectors,) if alone and card.vectors else card.heads, vectors=None)


def _check_exportable(model: "Model", folder: Path) -> None:
    if model.card.kind == "encoder" and not any(spec.predicts for spec in model.card.heads):
        raise UsageError(
            f"{folder} is an encoder without a head: it answers nothing yet. "
            "Give it one with `lmtasks adapt`, and export that."
        )
    if not (model.folder / "tokenizer.json").is_file():
        raise UsageError(
            f"{model.folder} has no tokenizer.json; a package needs the model's tokenizer beside its graphs."
        )


def _copy_tokenizer(source: Path, target: Path, *, takes_types: bool) -> None:
    """Copy the tokenizer, and state whether its model takes segment ids, which a package has no config.json to say."""
    copy_tokenizer(source, target)
    file = target / "tokenizer_config.json"
    config = dict(parse_json(file.read_text(encoding="utf-8"))) if file.is_file() else {}
    if not isinstance(config.get("model_input_names"), list):
        types = ["token_type_ids"] if takes_types else []
        write_json(file, {**config, "model_input_names": ["input_ids", *types, "attention_mask"]}, indent=2)
