"""Graphs of our own encoders: as torch for every head, with real lengths and no packed rows."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from packed import HIGHEST, OWN, PREDICTING, model_folder, package, padded, random_rows, runtime

from lmtasks.backbone.family import new_backbone
from lmtasks.backbone.sizes import Vocabulary
from lmtasks.errors import UsageError
from lmtasks.export.architectures import ARCHITECTURES
from lmtasks.export.checkpoint import Checkpoint, Config, HeadWeights, Weights
from lmtasks.export.emit import export_model
from lmtasks.export.graph import count_operators
from lmtasks.export.package import load_package
from lmtasks.export.ranges import CalibrationRow
from lmtasks.model.store import card_of, load_model, save_model
from lmtasks.records import Floats32, HeadSpec, ModelCard, TokenBatch
from lmtasks.runtime.onnx.session import open_session

CLOSE = 1e-5
ALL_HEADS = (*PREDICTING, HIGHEST.name)


def holed(rows: list[list[int]], width: int) -> TokenBatch:
    """Padding between the tokens."""
    ids, mask = np.full((len(rows), width), 7, dtype=np.int64), np.zeros((len(rows), width), dtype=np.bool_)
    for number, row in enumerate(rows):
        places = np.sort(np.random.default_rng(number).permutation(width)[: len(row)])
        ids[number, places], mask[number, places] = row, True
    return TokenBatch(ids=ids, mask=mask)


def alone(name: str, head: str, row: list[int]) -> Floats32:
    """torch's answer for one row without padding."""
    return runtime("torch", name).predict(head, padded([row]))[0]


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("padding", ["right", "left", "holes"])
def test_it_answers_as_torch_wherever_the_padding_stands(name: str, padding: str) -> None:
    rows = random_rows(9, 1, 17, 4, 2)
    batch = holed(rows, 30) if padding == "holes" else padded(rows, padding)
    kinds = {head.name: head.kind for head in load_package(package(name)).model.heads}
    for head in ALL_HEADS:
        found = runtime("onnx", name).predict(head, batch)
        for number, row in enumerate(rows):
            given = found[number] if kinds[head] == "classification" else found[number][batch.mask[number]]
            np.testing.assert_allclose(given, alone(name, head, row), atol=CLOSE, rtol=CLOSE)


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("length", [1, 2, 3, 200])
def test_one_row_of_every_length(name: str, length: int) -> None:
    (row,) = random_rows(length)
    for head in ALL_HEADS:
        found = runtime("onnx", name).predict(head, padded([row]))[0]
        np.testing.assert_allclose(found, alone(name, head, row), atol=CLOSE, rtol=CLOSE)


def test_a_row_without_any_token_leaves_its_neighbours_alone() -> None:
    rows = random_rows(5, 3)
    batch = padded([*rows, [7]])
    batch.mask[2] = False
    for name in OWN:
        found = runtime("onnx", name).predict("mood", batch)
        assert np.isfinite(found).all()
        for number, row in enumerate(rows):
            np.testing.assert_allclose(found[number], alone(name, "mood", row), atol=CLOSE)


@pytest.mark.parametrize("name", OWN)
def test_the_proof_holds_and_says_who_built_it(name: str) -> None:
    found = load_package(package(name))
    assert found.parity["ok"] is True
    assert found.emitter == f"emitted:{name if name in ('cnn', 'average') else 'bidirectional'} 1"
    assert {check["graph"] for check in found.parity["checks"]} == {f"head.{head}" for head in ALL_HEADS}  # type: ignore[attr-defined]


def opened_operators(name: str, file: Path) -> Mapping[str, int]:
    """What onnxruntime carries out."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(file)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(package(name) / "heads.onnx"), options, providers=["CPUExecutionProvider"])
    return count_operators(ir.load(file))


def test_a_layer_is_one_operator_both_ways(tmp_path: Path) -> None:
    for name, operator in (("bilstm", "LSTM"), ("bigru", "GRU")):
        layers = 2 if name == "bilstm" else 1
        assert opened_operators(name, tmp_path / f"{name}.onnx")[operator] == layers


def test_filters_of_all_widths_are_one_product(tmp_path: Path) -> None:
    """Each head has one besides, the span head two."""
    counts = opened_operators("cnn", tmp_path / "cnn.onnx")
    assert counts.get("Gemm", 0) + counts.get("FusedGemm", 0) == 1 + 1 + 1 + 2 + 1 + 1
    assert "Conv" not in counts


def large(name: str) -> Checkpoint:
    """A model large enough to be rounded, with one head."""
    torch.manual_seed(0)
    words = Vocabulary(size=2000, bos=0, eos=0, pad=1)
    backbone = new_backbone(f"{name}:width=32,layers=1" if name.startswith("bi") else f"{name}:width=32", words)
    weights = {key: value.detach().numpy() for key, value in backbone.state_dict().items()}
    spec = HeadSpec(name="mood", kind="classification", labels=("a", "b", "c"), pooling="max")
    random = np.random.default_rng(0)
    output = random.normal(size=(3, backbone.traits.width)).astype(np.float32)
    head = HeadWeights(spec=spec, weights={"output.weight": output, "output.bias": np.zeros(3, dtype=np.float32)})
    card = ModelCard(
        name=name,
        family=name,
        kind="encoder",
        adaptation="full",
        parameters=1,
        weights_hash="",
        tokenizer_hash="",
        max_length_tokens=512,
        vocabulary=words.size,
    )
    return Checkpoint(card=card, config=Config({}), weights=Weights(weights), heads=(head,))


def rounded(name: str, precision: str, folder: Path) -> tuple[Mapping[str, int], "Asked", "Asked"]:
    """The operators of a rounded graph; the answers in fp32, and rounded."""
    from lmtasks.export.graph import save_graphs
    from lmtasks.export.quantize import quantize_rows, quantize_whole

    for kind in ("fp32", precision):
        graph = ARCHITECTURES[name].emit(large(name))["heads"]
        if kind == "int8":
            quantize_rows(graph, many=True)
        if kind == "int8-tensor":
            quantize_whole(graph)
        counts = count_operators(graph)
        save_graphs({folder / f"{kind}.onnx": graph}, weights=folder / f"{kind}.bin")
    return counts, Asked(folder / "fp32.onnx"), Asked(folder / f"{precision}.onnx")


class Asked:
    """A graph of one head."""

    def __init__(self, file: Path) -> None:
        self._session = open_session(file, threads=1)

    def __call__(self, rows: list[list[int]]) -> Floats32:
        """(B, C)"""
        batch = padded(rows)
        (logits,) = self._session.run(["head.mood"], {"ids": batch.ids, "mask": batch.mask})
        answer: Floats32 = logits
        return answer


@pytest.mark.parametrize("name", OWN)
def test_an_8_bit_answer_is_near_and_does_not_depend_on_its_neighbours(name: str, tmp_path: Path) -> None:
    counts, whole, small = rounded(name, "int8", tmp_path)
    rows = random_rows(9, 1, 17, 4)
    together = small(rows)
    spread = np.abs(whole(rows)).max()
    assert 0 < np.abs(together - whole(rows)).max() < 0.03 * spread
    for number, row in enumerate(rows):
        np.testing.assert_allclose(together[number], small([row])[0], atol=1e-5)
    assert "DynamicQuantizeLSTM" not in counts


def test_an_lstm_is_rounded_where_one_scale_serves_all_rows(tmp_path: Path) -> None:
    counts, whole, small = rounded("bilstm", "int8-tensor", tmp_path)
    rows = random_rows(9, 1, 17, 4)
    assert counts["DynamicQuantizeLSTM"] == 1
    assert "LSTM" not in counts
    assert 0 < np.abs(small(rows) - whole(rows)).max() < 0.05 * np.abs(whole(rows)).max()


def test_an_lstm_is_one_layer_that_may_stay_in_fp32(tmp_path: Path) -> None:
    from lmtasks.export.layers import rounded_layers
    from lmtasks.export.quantize import quantize_whole

    plain = rounded_layers(package("bilstm"), precision="int8")
    more = rounded_layers(package("bilstm"), precision="int8-tensor")
    assert more[: len(plain)] == plain
    assert [len(layer.weights["heads"]) for layer in more[len(plain) :]] == [2, 2]  # of what is given, of what is kept
    names = more[len(plain)].weights["heads"]
    for kept in ((), names[:1], names[1:]):
        graph = ARCHITECTURES["bilstm"].emit(large("bilstm"))["heads"]
        quantize_whole(graph, keep=kept)
        assert ("LSTM" in count_operators(graph)) == bool(kept)


def test_a_gru_has_no_8_bit_operator_and_stays_as_it_is(tmp_path: Path) -> None:
    counts, _, _ = rounded("bigru", "int8-tensor", tmp_path)
    assert counts["GRU"] == 1


def test_what_no_graph_is_built_of_stays_with_torch(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is of family bilstm, of which no graphs are built; it stays with the torch"):
        export_model(model_folder("bilstm"), out=tmp_path, precision="fp32", report=lambda progress: None, emitters=())


def test_models_with_our_own_backbones_have_names_that_are_emitted() -> None:
    for name in OWN:
        assert ARCHITECTURES[card_of(model_folder(name)).family].name
        assert not load_model(model_folder(name)).backbone.traits.by_transformers


@pytest.mark.parametrize("precision", ["int8", "int8-static", "w8", "int4"])
def test_where_nothing_is_rounded_no_package_says_so(precision: str, tmp_path: Path) -> None:
    """Its layers stay in fp32, its table is short: what came out would be fp32 by another name."""
    model = load_model(model_folder("bilstm") / "backbone")
    model.add_heads((HeadSpec(name="topic", kind="classification", labels=("sport", "art"), pooling="mean"),))
    save_model(model, tmp_path / "model", provenance={"made": "by a test"})
    rows = (CalibrationRow(ids=(5, 6)),) * 100
    with pytest.raises(UsageError, match=rf"^{precision} would round nothing of this model: .* export it in fp32\.$"):
        export_model(tmp_path / "model", out=tmp_path, precision=precision, report=lambda progress: None, rows=rows)
