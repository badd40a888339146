"""Answers of torch and onnx are those of transformers; the contract of all drivers stands in `test_contract.py`.

The references are transformers' own forward passes over single rows, without padding and without a cache.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from packed import (
    LANGUAGE_MODELS,
    PAIRS,
    PREDICTING,
    TRACED,
    WITH_HEADS,
    model_folder,
    padded,
    random_rows,
    runtime,
    score_all,
)

from lmtasks.model.store import load_model
from lmtasks.records import Floats32, HeadSpec, TokenBatch

KINDS = ("torch", "onnx")
ROWS = random_rows(9, 2, 17, 5)
SOURCES = random_rows(6, 11, 3, 8, seed=1)
START = 1
"""What the decoders read first."""
CLOSE = 2e-5

over_runtimes = pytest.mark.parametrize("kind", KINDS)
over_language_models = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in TRACED else name for name in LANGUAGE_MODELS]
)


def source_of(name: str, side: str = "right") -> TokenBatch | None:
    return padded(SOURCES, side) if name in PAIRS else None


def prompts_of(name: str) -> list[list[int]]:
    return SOURCES if name in PAIRS else ROWS


def own_logprobs(name: str, row: list[int], source: list[int]) -> tuple[Floats32, list[bool]]:
    """What transformers itself says of a row: log-probability of each next token, and is it the most likely one?"""
    model = load_model(model_folder(name))
    ids = torch.tensor([row])
    with torch.inference_mode():
        if name in PAIRS:
            logits = model.hf(input_ids=torch.tensor([source]), decoder_input_ids=ids).logits[0]
        else:
            logits = model.hf(input_ids=ids).logits[0]
    logprobs = logits.double().log_softmax(-1)[:-1]
    targets = ids[0, 1:]
    found = logprobs.gather(1, targets[:, None])[:, 0].numpy().astype(np.float32)
    return found, (logprobs.argmax(-1) == targets).tolist()


@over_runtimes
@over_language_models
@pytest.mark.parametrize("side", ["right", "left"])
def test_scores_are_those_of_transformers_row_by_row(kind: str, name: str, side: str) -> None:
    batch = padded(ROWS, side)
    scores = score_all(runtime(kind, name), batch, source_of(name, side))
    assert scores.logprobs.shape == scores.greedy.shape == (4, 16)
    for number, row in enumerate(ROWS):
        wanted, greedy = own_logprobs(name, row, SOURCES[number])
        first = 0 if side == "right" else 17 - len(row)
        place = slice(first, first + len(row) - 1)
        np.testing.assert_allclose(scores.logprobs[number, place], wanted, atol=CLOSE)
        assert scores.greedy[number, place].tolist() == greedy
        assert scores.logprobs[number].sum() == pytest.approx(scores.logprobs[number, place].sum())


@over_runtimes
def test_a_causal_row_may_be_one_token_longer_than_the_model_takes(kind: str) -> None:
    (row,) = random_rows(65)
    scores = score_all(runtime(kind, "gpt2"), padded([row]))
    head = score_all(runtime(kind, "gpt2"), padded([row[:64]]))
    assert scores.logprobs.shape == (1, 64)
    np.testing.assert_allclose(scores.logprobs[:, :63], head.logprobs, atol=CLOSE)


@over_runtimes
@over_language_models
def test_rows_of_one_token_have_nothing_to_score(kind: str, name: str) -> None:
    scores = score_all(runtime(kind, name), padded(random_rows(1, 1)), source_of(name) and padded(SOURCES[:2]))
    assert scores.logprobs.shape == (2, 0)


@over_language_models
def test_torch_and_onnx_write_the_same_32_tokens(name: str) -> None:
    written = []
    for kind, side in (("torch", "right"), ("onnx", "right"), ("onnx", "left")):
        ours = runtime(kind, name)
        state, logits = ours.prefill(padded(prompts_of(name), side))
        tokens = []
        for _ in range(32):
            tokens.append(logits.argmax(axis=1))
            state, logits = ours.step(state, tokens[-1])
        written.append(np.stack(tokens).tolist())
    assert written[0] == written[1] == written[2]
    assert len({token for step in written[0] for token in step}) >= 4  # it does not repeat one token


@over_runtimes
@pytest.mark.parametrize("name", WITH_HEADS)
@pytest.mark.parametrize("head", PREDICTING)
def test_heads_answer_as_the_model_does_on_each_row_alone(kind: str, name: str, head: str) -> None:
    ours = runtime(kind, name)
    model = load_model(model_folder(name))
    per_token = model.spec(head).kind != "classification"
    for side in ("right", "left"):
        batch = padded(ROWS, side)
        found = ours.predict(head, batch)
        for number, row in enumerate(ROWS):
            ids = torch.tensor([row])
            with torch.inference_mode():
                wanted = model.head_logits(head, ids, torch.ones_like(ids, dtype=torch.bool))[0].numpy()
            np.testing.assert_allclose(
                found[number][batch.mask[number]] if per_token else found[number], wanted, atol=CLOSE
            )


@over_runtimes
def test_segment_ids_are_read(kind: str) -> None:
    ours, batch = runtime(kind, "bert"), padded(ROWS)
    types = TokenBatch(ids=batch.ids, mask=batch.mask, types=np.ones_like(batch.ids))
    none = TokenBatch(ids=batch.ids, mask=batch.mask, types=np.zeros_like(batch.ids))
    np.testing.assert_array_equal(ours.predict("mood", none), ours.predict("mood", batch))
    assert np.abs(ours.predict("mood", types) - ours.predict("mood", batch)).max() > 1e-3


def test_the_card_says_what_computed() -> None:
    torch_card, onnx_card = runtime("torch", "llama").card, runtime("onnx", "llama").card
    assert (torch_card.runtime, torch_card.precision, torch_card.threads) == ("torch", "fp32", 1)
    assert (onnx_card.runtime, onnx_card.precision, onnx_card.threads) == ("onnx", "fp32", 1)
    weights = sum(file.stat().st_size for file in Path(model_folder("llama")).rglob("*.safetensors"))
    assert torch_card.size_bytes == weights
    assert onnx_card.options["provider"] == "CPUExecutionProvider"
    of_torch = runtime("torch", "llama").model
    assert of_torch.vectors is not None  # by its pooled states; a package holds what was exported
    assert replace(of_torch, vectors=None) == runtime("onnx", "llama").model


@over_runtimes
@over_language_models
def test_scoring_in_small_pieces_changes_nothing(kind: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import lmtasks.runtime.onnx.traced
    import lmtasks.runtime.torch.body

    ours = runtime(kind, name)
    wanted = score_all(ours, padded(ROWS), source_of(name))
    monkeypatch.setattr(lmtasks.runtime.onnx.traced, "LOGITS_BYTES", 1)
    monkeypatch.setattr(lmtasks.runtime.torch.body, "LOGITS_BYTES", 1)
    found = score_all(ours, padded(ROWS), source_of(name))
    np.testing.assert_allclose(found.logprobs, wanted.logprobs, atol=CLOSE)
    np.testing.assert_array_equal(found.greedy, wanted.greedy)


def test_heads_without_predictions_are_not_in_the_graph() -> None:
    spec = next(head for head in runtime("onnx", "llama").model.heads if head.kind == "generation")
    assert isinstance(spec, HeadSpec)
