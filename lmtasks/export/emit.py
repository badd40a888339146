"""A model folder becomes the graphs of a package. Whether they are right is asked by `prove/`, not here."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from lmtasks.errors import UsageError, unknown
from lmtasks.export.package import (
    PRECISIONS,
    WEIGHTS,
    GraphName,
    Package,
    Precision,
    load_package,
    write_manifest,
)
from lmtasks.export.weights import fold_transposes, save_graphs
from lmtasks.files import write_json
from lmtasks.records import Progress

if TYPE_CHECKING:
    import onnx_ir as ir

    from lmtasks.export.trace import Traceable
    from lmtasks.model.model import Model

Graphs = dict[GraphName, "ir.Model"]

EMITTERS: Mapping[str, Callable[["Model"], Graphs]] = {}
"""By transformers' model_type: architectures whose fused graphs are built block by block. All others are traced."""

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
TRACED = "traced-1"
"""Changes whenever tracing or quantizing may yield other numbers."""


def export_model(
    model_folder: Path,
    *,
    out: Path,
    precision: str,
    report: Callable[[Progress], None],
    base: Path | None = None,
) -> None:
    """Write the package of a model into `out`, an existing empty folder.

    Args:
        precision: a name of `PRECISIONS`.
        base: an fp32 package of the same model, whose graphs are then rounded instead of made anew.

    Raises:
        UsageError: a precision or model that cannot be exported.
        WorkError: torch cannot export the architecture.
    """
    from lmtasks.model.store import load_model

    if precision not in PRECISIONS:
        raise unknown("precision of an export", precision, PRECISIONS)
    wanted = cast("Precision", precision)
    if base is None:
        model = load_model(model_folder)
        _check_exportable(model, model_folder)
        emitter, graphs = _emit(model, report)
        card = model.card
        _copy_tokenizer(model.folder, out, takes_types=model.backbone.traits.takes_types)
    else:
        package = _checked_base(base, model_folder)
        emitter, graphs, card = package.emitter, _load_graphs(package), package.model
        for name in TOKENIZER_FILES:
            if (base / name).is_file():
                shutil.copyfile(base / name, out / name)
    graphs = _rounded(graphs, wanted, folder=out)
    files: dict[GraphName, str] = {name: f"{name}.onnx" for name in graphs}
    save_graphs({out / files[name]: graph for name, graph in graphs.items()}, weights=out / WEIGHTS)
    write_manifest(out, model=card, precision=wanted, graphs=files, emitter=emitter)


def _emit(model: "Model", report: Callable[[Progress], None]) -> tuple[str, Graphs]:
    """The graphs of a model in fp32, and the name of what made them."""
    import torch

    from lmtasks.export.trace import trace

    if model.card.family in EMITTERS:
        return f"{model.card.family}-1", EMITTERS[model.card.family](model)
    model.hf.set_attn_implementation("eager")  # type: ignore[operator]
    parts = _traceables(model)
    graphs: Graphs = {}
    for name, part in parts.items():
        report(Progress(stage="export", done=len(graphs), total=len(parts), unit="graphs", note=name))
        graphs[name] = trace(part, name=name)
        fold_transposes(graphs[name])
    report(Progress(stage="export", done=len(graphs), total=len(parts), unit="graphs"))
    return f"{TRACED} torch-{torch.__version__}", graphs


def _traceables(model: "Model") -> "dict[GraphName, Traceable]":
    """What is traced, by the kind of model."""
    from lmtasks.export.decoder import decoder_graph
    from lmtasks.export.heads import heads_graph
    from lmtasks.export.pairs import encoder_graph, pair_decoder_graph
    from lmtasks.export.score import score_graph

    makers: Mapping[str, Mapping[GraphName, Callable[[Model], Traceable]]] = {
        "encoder": {},
        "causal": {"score": score_graph, "decoder": decoder_graph},
        "encoder-decoder": {"score": score_graph, "encoder": encoder_graph, "decoder": pair_decoder_graph},
    }
    parts: dict[GraphName, Traceable] = {name: make(model) for name, make in makers[model.card.kind].items()}
    heads = heads_graph(model)
    return parts if heads is None else {**parts, "heads": heads}


def _rounded(graphs: Graphs, precision: Precision, *, folder: Path) -> Graphs:
    from lmtasks.export.quantize import quantize_rows, quantize_tensors

    if precision == "int8-tensor":
        return {name: quantize_tensors(graph, folder=folder) for name, graph in graphs.items()}
    if precision == "int8":
        for graph in graphs.values():
            quantize_rows(graph)
    return graphs


def _load_graphs(package: Package) -> Graphs:
    import onnx_ir as ir

    graphs: Graphs = {name: ir.load(package.folder / file) for name, file in package.graphs.items()}
    for graph in graphs.values():
        fold_transposes(graph)
    return graphs


def _checked_base(base: Path, model_folder: Path) -> Package:
    from lmtasks.model.store import card_of

    package = load_package(base)
    if package.precision != "fp32":
        raise UsageError(f"{base} is in {package.precision}; graphs can be rounded from an fp32 package only.")
    if package.model.weights_hash != card_of(model_folder).weights_hash:
        raise UsageError(f"{base} was exported from other weights than those in {model_folder}; export these first.")
    return package


def _check_exportable(model: "Model", folder: Path) -> None:
    if model.card.kind == "encoder" and not any(spec.kind != "generation" for spec in model.card.heads):
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
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
    file = target / "tokenizer_config.json"
    config = dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}
    if not isinstance(config.get("model_input_names"), list):
        types = ["token_type_ids"] if takes_types else []
        write_json(file, {**config, "model_input_names": ["input_ids", *types, "attention_mask"]}, indent=2)
