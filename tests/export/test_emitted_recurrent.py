"""Packages of recurrent language models: every primitive says what torch says of each row alone."""

from functools import cache

import numpy as np
import pytest
import torch
from packed import (
    HIGHEST,
    PREDICTING,
    WRITING_OWN,
    model_folder,
    package,
    padded,
    random_rows,
    runtime,
    score_all,
)

import lmtasks.runtime.onnx.recurrent
from lmtasks.backbone.family import new_backbone
from lmtasks.backbone.sizes import Vocabulary
from lmtasks.data.tokenizer import load_tokenizer
from lmtasks.engine.engine import Engine
from lmtasks.engine.requests import GenerateRequest, ScoreRequest
from lmtasks.errors import UsageError
from lmtasks.export.checkpoint import CannotEmit, Checkpoint, Config, Weights
from lmtasks.export.emitters.recurrent import RECURRENT
from lmtasks.export.graph import count_operators
from lmtasks.export.half import check_half
from lmtasks.export.package import load_package
from lmtasks.model.store import load_model
from lmtasks.records import Floats32, ModelCard, TokenBatch, TokenTargets
from lmtasks.runtime.align import every_next
from lmtasks.runtime.onnx.graphs import Graphs
from lmtasks.runtime.onnx.recurrent import OnnxRecurrentRuntime
from lmtasks.runtime.op_costs import traffic_of
from lmtasks.runtime.torch.capability_probes import branches_agree, prefix_agrees, slots_agree
from lmtasks.settings.generation import Decoding

CLOSE = 1e-5
ROWS = random_rows(9, 1, 17, 4, 2)
over_models = pytest.mark.parametrize("name", WRITING_OWN)


@cache
def carried(name: str, precision: str = "fp32") -> OnnxRecurrentRuntime:
    return OnnxRecurrentRuntime(Graphs(load_package(package(name, precision)), threads=1))


def alone(name: str, row: list[int]) -> Floats32:
    """What torch itself says behind each token of a row, (T, V)."""
    with torch.inference_mode():
        ids = torch.tensor([row])
        logits: Floats32 = load_model(model_folder(name)).lm_logits(ids, torch.ones_like(ids) > 0)[0].numpy()
    return logits


@pytest.fixture(params=[4096, 4, 1])
def pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows in one piece; in pieces in which some have ended, or nothing is wanted; token by token."""
    monkeypatch.setattr(lmtasks.runtime.onnx.recurrent, "PIECE_TOKENS", request.param)


@over_models
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.usefixtures("pieces")
def test_every_token_is_scored_as_torch_scores_it(name: str, side: str) -> None:
    batch = padded(ROWS, side)
    found = score_all(carried(name), batch)
    for number, row in enumerate(ROWS):
        logits = torch.from_numpy(alone(name, row)).double()
        logprobs = logits.log_softmax(-1)[range(len(row) - 1), row[1:]].numpy()
        first = 0 if side == "right" else batch.ids.shape[1] - len(row)
        place = slice(first, first + len(row) - 1)
        np.testing.assert_allclose(found.logprobs[number, place], logprobs, atol=CLOSE)
        np.testing.assert_array_equal(found.greedy[number, place], logits.argmax(-1)[:-1].numpy() == row[1:])


@over_models
@pytest.mark.usefixtures("pieces")
def test_only_some_columns_are_wanted_and_a_column_twice(name: str) -> None:
    wanted = TokenTargets(
        rows=np.array([2, 0, 2, 2]), columns=np.array([12, 8, 12, 3]), tokens=np.array([40, 41, 42, 43])
    )  # fmt: skip
    found = carried(name).score(padded(ROWS), wanted)
    for place, (row, column, token) in enumerate(zip(wanted.rows, wanted.columns, wanted.tokens, strict=True)):
        logits = torch.from_numpy(alone(name, ROWS[row])[column])
        assert found.logprobs[place] == pytest.approx(float(logits.log_softmax(0)[token]), abs=CLOSE)


@over_models
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.usefixtures("pieces")
def test_prompts_and_steps(name: str, side: str) -> None:
    rows = [[*row, *random_rows(6, seed=number)[0]] for number, row in enumerate(ROWS)]
    wanted = [alone(name, row) for row in rows]
    state, logits = carried(name).prefill(padded(ROWS, side))
    for step in range(6):
        for number, row in enumerate(ROWS):
            np.testing.assert_allclose(logits[number], wanted[number][len(row) - 1 + step], atol=CLOSE)
        state, logits = carried(name).step(state, np.array([row[step - 6] for row in rows]))


@over_models
@pytest.mark.parametrize("length", [1, 2, 200])
def test_one_row_of_every_length(name: str, length: int) -> None:
    (row,) = random_rows(length)
    _, logits = carried(name).prefill(padded([row]))
    np.testing.assert_allclose(logits[0], alone(name, row)[-1], atol=CLOSE)


@over_models
def test_a_state_may_be_continued_more_than_once_and_its_rows_picked(name: str) -> None:
    ours = carried(name)
    state, _ = ours.prefill(padded(ROWS))
    second, first_logits = ours.step(state, np.full(5, 20))
    kept = first_logits.copy()
    picked = ours.reorder(second, np.array([2, 2, 0]))
    third, _ = ours.step(picked, np.array([30, 31, 32]))
    _, last = ours.step(third, np.array([33, 34, 35]))
    ends = ([*ROWS[2], 20, 30, 33], [*ROWS[2], 20, 31, 34], [*ROWS[0], 20, 32, 35])
    for number, row in enumerate(ends):
        np.testing.assert_allclose(last[number], alone(name, row)[-1], atol=CLOSE)
    _, again = ours.step(state, np.full(5, 21))
    np.testing.assert_allclose(again[3], alone(name, [*ROWS[3], 21])[-1], atol=CLOSE)
    np.testing.assert_array_equal(first_logits, kept)


@over_models
@pytest.mark.usefixtures("pieces")
def test_what_rows_share_is_measured(name: str) -> None:
    ours = carried(name)
    assert ours.sharing.prefix
    assert prefix_agrees(ours)
    assert ours.sharing.longest_row == 0
    assert not branches_agree(ours)
    assert slots_agree(ours, lambda: ours.slots(rows=3, length=12), joins=True)


@over_models
def test_slots_take_no_more_rows_than_there_are_places(name: str) -> None:
    slots = carried(name).slots(rows=2, length=30)
    slots.fill(padded(ROWS[:2]))
    with pytest.raises(ValueError, match="of 2 places 2 are in use"):
        slots.fill(padded(ROWS[2:3]))
    slots.leave(0)
    slots.leave(0)
    np.testing.assert_allclose(slots.fill(padded(ROWS[2:3]))[0], alone(name, ROWS[2])[-1], atol=CLOSE)
    np.testing.assert_allclose(slots.step(np.array([5]))[0], alone(name, [*ROWS[2], 5])[-1], atol=CLOSE)


@over_models
def test_the_engine_writes_and_scores_as_over_torch(name: str) -> None:
    tokenizer = load_tokenizer(package(name))
    engines = [Engine(runtime(kind, name), tokenizer, ends=frozenset()) for kind in ("torch", "onnx")]
    for settings in (
        Decoding(max_new_tokens=40),
        Decoding(max_new_tokens=12, num_beams=3),
        Decoding(max_new_tokens=20, temperature=0.9, top_p=0.9),
    ):
        asked = [GenerateRequest(prompt_ids=tuple(row), settings=settings) for row in ROWS]
        wanted, found = ([each.ids for each in engine.generate(asked)] for engine in engines)
        assert found == wanted
        assert len(set(map(tuple, found))) > 1
    shared = tuple(random_rows(30)[0])
    questions = [ScoreRequest(context_ids=(*shared, last), target_ids=(50 + last, 31)) for last in range(8, 20)]
    wanted_scores, found_scores = ([each.logprob for each in engine.score(questions)] for engine in engines)
    np.testing.assert_allclose(found_scores, wanted_scores, atol=1e-4)


@over_models
@pytest.mark.parametrize("side", ["right", "left"])
def test_heads_answer_as_torch_wherever_the_padding_stands(name: str, side: str) -> None:
    batch = padded(ROWS, side)
    kinds = {head.name: head.kind for head in load_package(package(name)).model.heads}
    for head in (*PREDICTING, HIGHEST.name):
        found = carried(name).predict(head, batch)
        for number, row in enumerate(ROWS):
            wanted = runtime("torch", name).predict(head, padded([row]))[0]
            given = found[number] if kinds[head] == "classification" else found[number][batch.mask[number]]
            np.testing.assert_allclose(given, wanted, atol=CLOSE, rtol=CLOSE)


@over_models
def test_the_proof_says_who_built_it_and_writes_512_tokens(name: str) -> None:
    found = load_package(package(name))
    assert found.emitter == "emitted:recurrent 1"
    assert found.parity["ok"] is True
    checks = {check["case"]: check for check in found.parity["checks"]}  # type: ignore[attr-defined]
    assert checks["512 greedy tokens"]["agreement"] == 1.0


def test_weights_are_stored_once() -> None:
    """The embeddings are the projection too, and all three graphs read the same file."""
    size = (package("lstm") / "weights.bin").stat().st_size
    numbers = sum(parameter.numel() for parameter in load_model(model_folder("lstm")).backbone.parameters())
    assert size < 4 * numbers + 4096


def test_a_step_multiplies_with_each_cell_and_the_projection() -> None:
    ours = traffic_of(package("lstm"), graph="decoder", precision=None)
    torchs = traffic_of(model_folder("lstm"), graph="decoder", precision="fp32")
    assert ours is not None
    assert torchs is not None
    biases = 2 * 2 * 4 * 16  # of two layers: a graph keeps them in two axes
    assert (ours.body - biases, ours.projection, ours.cache_bytes) == (torchs.body, torchs.projection, 0)
    assert torchs.body == 2 * 2 * 4 * 16 * 16


def test_rows_without_tokens_and_trees_and_sources_are_refused() -> None:
    ours = carried("gru")
    empty = TokenBatch(ids=np.zeros((2, 3), dtype=np.int64), mask=np.array([[True, True, True], [False] * 3]))
    for call in (lambda: ours.prefill(empty), lambda: ours.predict("mood", empty)):
        with pytest.raises(UsageError, match="each needs at least one token"):
            call()
    read, wanted = every_next(padded(ROWS[:1]))
    with pytest.raises(UsageError, match="follows a column that is padding"):
        ours.score(empty, TokenTargets(rows=np.array([0, 1]), columns=np.array([1, 1]), tokens=np.array([4, 4])))
    with pytest.raises(UsageError, match="cannot branch in onnx"):
        ours.score(read, wanted, subtree_end=np.full(read.ids.shape, 9))
    with pytest.raises(UsageError, match="reads no source"):
        ours.score(read, wanted, source=read)


def checkpoint(kind: str, *, extra: str = "", use: str = "causal") -> Checkpoint:
    torch.manual_seed(0)
    backbone = new_backbone(f"{kind}:width=32,layers=2", Vocabulary(size=2000, bos=0, eos=0, pad=1))
    weights = {key: value.detach().numpy() for key, value in backbone.state_dict().items()}
    if extra:
        weights[extra] = np.zeros(3, dtype=np.float32)
    card = ModelCard(
        name=kind,
        family=kind,
        kind=use,  # type: ignore[arg-type]
        adaptation="full",
        parameters=1,
        weights_hash="",
        tokenizer_hash="",
        max_length_tokens=512,
        vocabulary=2000,
    )
    return Checkpoint(card=card, config=Config({}), weights=Weights(weights), heads=())


def test_what_the_graphs_have_no_place_for_is_refused() -> None:
    with pytest.raises(CannotEmit, match="no place for, the first is 'gate'"):
        RECURRENT.emit(checkpoint("gru", extra="gate"))
    with pytest.raises(CannotEmit, match="used as encoder"):
        RECURRENT.emit(checkpoint("gru", use="encoder"))


def test_16_bits_are_refused() -> None:
    for precision in ("fp16", "bf16"):
        with pytest.raises(UsageError, match="whose state is carried in fp32; export it in fp32"):
            check_half(precision, family="gru", built=True, name="it")


@pytest.mark.parametrize("precision", ["int8", "w8", "int4", "int8-tensor"])
def test_rounded_graphs_keep_their_cells_but_where_one_scale_serves_all(precision: str) -> None:
    from lmtasks.export.quantize import quantize_rows, quantize_weights, quantize_whole

    graphs = RECURRENT.emit(checkpoint("lstm"))
    counts = {}
    for name, graph in graphs.items():
        if precision == "int8":
            quantize_rows(graph, many=name != "decoder")
        elif precision == "int8-tensor":
            quantize_whole(graph)
        else:
            quantize_weights(graph, bits=8 if precision == "w8" else 4)
        counts[name] = count_operators(graph)
    for each in counts.values():
        assert each.get("LSTM", 0) == (0 if precision == "int8-tensor" else 2)
        assert each.get("DynamicQuantizeLSTM", 0) == (2 if precision == "int8-tensor" else 0)
        assert not {"Gemm", "MatMul"} & set(each)


@pytest.mark.parametrize("precision", ["int8", "int8-tensor"])
def test_rounded_packages_are_proved(precision: str) -> None:
    made = load_package(package("lstm", precision))
    assert made.parity["ok"] is True
    wanted, found = (carried("lstm", kind).prefill(padded(ROWS))[1] for kind in ("fp32", precision))
    assert 0 < np.abs(wanted - found).max() < 0.2 * np.abs(wanted).max()
    if precision == "int8":
        for number, row in enumerate(ROWS):
            np.testing.assert_allclose(
                found[number], carried("lstm", precision).prefill(padded([row]))[1][0], atol=CLOSE
            )
