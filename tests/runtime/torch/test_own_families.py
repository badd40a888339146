"""Families of our own behind the runtime and the engine: every primitive says what the whole row says."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import tiny_tokenizer

from lmtasks.engine.engine import Engine
from lmtasks.engine.requests import GenerateRequest, ScoreRequest
from lmtasks.errors import UsageError
from lmtasks.model.create import Vocabulary, write_backbone
from lmtasks.model.model import Model
from lmtasks.model.store import load_model
from lmtasks.records import Floats32, HeadSpec, TokenBatch, TokenTargets
from lmtasks.runtime.open import open_runtime
from lmtasks.runtime.torch.own_families import OwnFamilyRuntime
from lmtasks.settings.generation import Decoding

CAUSAL = ("rnn", "lstm", "gru")
PAIRS = ("lstm-attention", "gru-attention")
ROWS = ([9, 4, 7, 12, 5], [8, 3], [11, 6, 5, 4, 3, 10, 2])
over_causal = pytest.mark.parametrize("name", CAUSAL)
over_all = pytest.mark.parametrize("name", [*CAUSAL, *PAIRS])


def folder_of(name: str, folder: Path, *, width: int = 16) -> Path:
    """A random model whose answers differ from input to input."""
    tokenizer = tiny_tokenizer()
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(folder)
    sizes = Vocabulary(size=tokenizer.vocabulary, bos=0, eos=0, pad=1)
    write_backbone(f"{name}:width={width}", sizes, seed=3, folder=folder)
    model = load_model(folder)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, 0.4)
    model.backbone.save(folder)
    return folder


def opened(name: str, folder: Path) -> tuple[OwnFamilyRuntime, Model]:
    path = folder_of(name, folder)
    runtime = open_runtime(path, runtime="torch", threads=1)
    assert isinstance(runtime, OwnFamilyRuntime)
    return runtime, load_model(path)


def batch_of(rows: tuple[list[int], ...], *, left: bool = False) -> TokenBatch:
    longest = max(map(len, rows))
    ids, mask = np.full((len(rows), longest), 1), np.zeros((len(rows), longest), dtype=np.bool_)
    for number, row in enumerate(rows):
        where = slice(longest - len(row), None) if left else slice(0, len(row))
        ids[number, where], mask[number, where] = row, True
    return TokenBatch(ids=ids, mask=mask)


def own_logits(model: Model, row: list[int], target: list[int]) -> Floats32:
    """Next-token logits behind a row (a source, for an encoder-decoder) and each token of a target."""
    with torch.inference_mode():
        ids = torch.tensor([row])
        if model.card.kind == "causal":
            return model.lm_logits(torch.tensor([row + target]), torch.ones(1, len(row + target)) > 0)[
                0, len(row) - 1 :
            ].numpy()
        start = [int(model.card.decoder_start or 0)]
        return model.backbone.decode(ids, ids > -1, torch.tensor([start + target]))[0].numpy()


@over_all
@pytest.mark.parametrize("left", [False, True])
def test_prefill_and_steps_say_what_the_whole_row_says(name: str, left: bool, tmp_path: Path) -> None:
    runtime, model = opened(name, tmp_path)
    state, first = runtime.prefill(batch_of(ROWS, left=left))
    state, second = runtime.step(state, np.array([20, 21, 22]))
    again, third = runtime.step(runtime.reorder(state, np.array([2, 0, 0])), np.array([23, 24, 25]))
    for number, row in enumerate(ROWS):
        wanted = own_logits(model, row, [20 + number])
        assert np.allclose(first[number], wanted[0], atol=1e-5)
        assert np.allclose(second[number], wanted[1], atol=1e-5)
    assert np.allclose(third[2], own_logits(model, ROWS[0], [20, 25])[2], atol=1e-5)
    assert np.allclose(
        runtime.step(state, np.array([5, 6, 7]))[1][1], own_logits(model, ROWS[1], [21, 6])[2], atol=1e-5
    )
    del again


@over_all
def test_slots_say_what_rows_alone_say(name: str, tmp_path: Path) -> None:
    runtime, model = opened(name, tmp_path)
    slots = runtime.slots(rows=3, length=20)
    assert slots is not None
    first = slots.fill(batch_of(ROWS[:2] if slots.joins else ROWS))
    slots.step(np.array([20, 21, 22][: len(first)]))
    if slots.joins:
        joined = slots.fill(batch_of(ROWS[2:]))
        assert np.allclose(joined[0], own_logits(model, ROWS[2], [])[0], atol=1e-5)
    slots.leave(0)
    said = slots.step(np.array([30, 31]))
    third = [31 - 1] if slots.joins else [22, 30]
    assert np.allclose(said[0], own_logits(model, ROWS[2], third)[-1], atol=1e-5)
    assert np.allclose(said[1], own_logits(model, ROWS[1], [21, 31])[-1], atol=1e-5)
    with pytest.raises(ValueError, match="places"):
        slots.fill(batch_of(ROWS))


@over_causal
def test_a_long_row_is_scored_in_pieces(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime, model = opened(name, tmp_path)
    rows = ([5, 6, 7, 8, 9, 10, 11], [12, 13, 14])
    columns = [(0, column) for column in range(7)] + [(1, column) for column in range(3)]
    wanted = TokenTargets(
        rows=np.array([row for row, _ in columns]), columns=np.array([c for _, c in columns]),
        tokens=np.array([20 + c for _, c in columns]),
    )  # fmt: skip
    whole = runtime.score(batch_of(rows), wanted)
    monkeypatch.setattr("lmtasks.runtime.torch.own_families.PIECE_TOKENS", 4)
    assert np.allclose(runtime.score(batch_of(rows), wanted).logprobs, whole.logprobs, atol=1e-5)
    for (row, column), logprob in zip(columns, whole.logprobs.tolist(), strict=True):
        logits = torch.from_numpy(own_logits(model, rows[row][: column + 1], [])[0])
        assert logprob == pytest.approx(float(logits.log_softmax(0)[20 + column]), abs=1e-4)


@over_all
def test_the_engine_scores_and_writes(name: str, tmp_path: Path) -> None:
    runtime, model = opened(name, tmp_path)
    engine = Engine(runtime, tiny_tokenizer(), ends=frozenset())
    shared = (9, 4, 7, 12, 5, 6, 3, 2, 14, 15)
    requests = [ScoreRequest(context_ids=(*shared, last), target_ids=(30 + last, 31)) for last in range(8, 16)]
    for request, scored in zip(requests, engine.score(requests), strict=True):
        logits = torch.from_numpy(own_logits(model, list(request.context_ids), list(request.target_ids[:1])))
        right = logits.log_softmax(-1)[[0, 1], list(request.target_ids)].sum()
        assert scored.logprob == pytest.approx(float(right), abs=1e-4)
    for beams in (1, 3):
        settings = Decoding(max_new_tokens=6, num_beams=beams)
        asked = [GenerateRequest(prompt_ids=tuple(row), settings=settings) for row in ROWS]
        together = engine.generate(asked)
        assert [each.ids for each in together] == [engine.generate([one])[0].ids for one in asked]
        if beams == 1:
            written = list(together[0].ids)
            assert written == own_logits(model, ROWS[0], written[:-1]).argmax(-1).tolist()


@pytest.mark.parametrize("name", ["average", "cnn", "bilstm", "bigru", "lstm", "gru-attention"])
def test_heads_answer_whatever_the_padding(name: str, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.save(tmp_path)
    write_backbone(
        f"{name}:width=8", Vocabulary(size=tokenizer.vocabulary, bos=0, eos=0, pad=1), seed=0, folder=tmp_path
    )
    model = load_model(tmp_path)
    model.add_heads([
        HeadSpec(name="mood", kind="classification", labels=("a", "b", "c"), pooling=model.backbone.traits.pooling),
        HeadSpec(name="tags", kind="tagging", labels=("O", "B-x")),
        HeadSpec(name="find", kind="span"),
    ])  # fmt: skip
    runtime = OwnFamilyRuntime(model, threads=1)
    for head in ("mood", "tags", "find"):
        together = runtime.predict(head, batch_of(ROWS, left=True))
        for number, row in enumerate(ROWS):
            alone = runtime.predict(head, batch_of((row,)))[0]
            mine = together[number] if head == "mood" else together[number, -len(row) :]
            assert np.allclose(mine, alone, atol=1e-5)


def test_an_encoder_predicts_no_tokens(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.save(tmp_path)
    write_backbone("cnn:width=8", Vocabulary(size=tokenizer.vocabulary, bos=0, eos=0, pad=1), seed=0, folder=tmp_path)
    runtime = open_runtime(tmp_path, runtime="torch")
    with pytest.raises(UsageError, match="answers by heads alone"):
        runtime.prefill(batch_of(ROWS))
    with pytest.raises(UsageError, match="no transformers model"):
        _ = load_model(tmp_path).hf
