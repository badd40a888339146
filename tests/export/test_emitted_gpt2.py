"""Graphs of GPT-2: as torch, in every way that they are driven."""

from collections.abc import Callable, Mapping
from functools import cache

import pytest
from causal_checks import (
    check_chunks,
    check_decoding,
    check_heads,
    check_one_row,
    check_scores,
    check_scores_behind_a_past,
)
from driving import Emitted, tiny_model
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from lmtasks.export.checkpoint import CannotEmit, checkpoint_of
from lmtasks.export.emitters.gpt2 import GPT2


def _gpt2(**changed: object) -> PreTrainedModel:
    sizes = {"vocab_size": 300, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
    ids = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1}
    return GPT2LMHeadModel(GPT2Config(**{**sizes, **ids, **changed}))


MODELS: Mapping[str, Callable[[], PreTrainedModel]] = {
    "gpt2": _gpt2,
    "gpt2, relu, untied, scaled by layer": lambda: _gpt2(
        activation_function="relu", tie_word_embeddings=False, scale_attn_by_inverse_layer_idx=True, n_inner=40
    ),
    "gpt2, products not scaled": lambda: _gpt2(scale_attn_weights=False),
}


@cache
def emitted(name: str) -> Emitted:
    return Emitted(name, tiny_model(name, MODELS[name]), GPT2.emit)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    "check", [check_decoding, check_one_row, check_chunks, check_scores, check_scores_behind_a_past, check_heads]
)
def test_it_answers_as_torch(name: str, check: Callable[[Emitted], None]) -> None:
    check(emitted(name))


def test_a_layer_is_twelve_operators() -> None:
    """Two layers against one: what a layer adds, before and after onnxruntime's own passes."""
    one = Emitted("gpt2, one layer", tiny_model("gpt2, one layer", lambda: _gpt2(n_layer=1)), GPT2.emit)
    layer = {"LayerNormalization": 2, "Gemm": 4, "GroupQueryAttention": 1, "Reshape": 2, "FastGelu": 1, "Add": 2}
    assert emitted("gpt2").layer(one, "decoder") == (layer, layer)


def test_a_tied_table_is_stored_once() -> None:
    made = emitted("gpt2")
    weights = sum(parameter.numel() for parameter in made.model.parameters()) * 4
    assert (made.folder / "weights.bin").stat().st_size < 1.1 * weights  # alignment


def test_a_model_that_reads_two_texts_is_refused() -> None:
    model = tiny_model("crossed", lambda: _gpt2(add_cross_attention=True))
    with pytest.raises(CannotEmit, match="it attends to a second text"):
        GPT2.emit(checkpoint_of(model))
