"""Graphs of GPT-NeoX: as torch, in every way that they are driven."""

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
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedModel

from lmtasks.export.checkpoint import CannotEmit, checkpoint_of
from lmtasks.export.emitters.gpt_neox import GPT_NEOX


def _gpt_neox(*, rotated: float = 0.25, **changed: object) -> PreTrainedModel:
    sizes = {"vocab_size": 300, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    rest = {"intermediate_size": 96, "max_position_embeddings": 64, "bos_token_id": 0, "eos_token_id": 0}
    rotary = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": rotated}
    return GPTNeoXForCausalLM(GPTNeoXConfig(**{**sizes, **rest, "rope_parameters": rotary, **changed}))


MODELS: Mapping[str, Callable[[], PreTrainedModel]] = {
    "gpt_neox": _gpt_neox,
    "gpt_neox, all of each head rotated, one part behind the other": lambda: _gpt_neox(
        rotated=1.0, use_parallel_residual=False, hidden_act="gelu_new"
    ),
    "gpt_neox, narrow heads, tied, no biases": lambda: _gpt_neox(
        rotated=0.5, num_attention_heads=8, attention_bias=False, tie_word_embeddings=True
    ),
}


@cache
def emitted(name: str) -> Emitted:
    return Emitted(name, tiny_model(name, MODELS[name]), GPT_NEOX.emit)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    "check", [check_decoding, check_one_row, check_chunks, check_scores, check_scores_behind_a_past, check_heads]
)
def test_it_answers_as_torch(name: str, check: Callable[[Emitted], None]) -> None:
    check(emitted(name))


def test_a_layer_is_twelve_operators() -> None:
    """Two layers against one: what a layer adds, before and after onnxruntime's own passes."""
    one = Emitted("gpt_neox, one", tiny_model("gpt_neox, one", lambda: _gpt_neox(num_hidden_layers=1)), GPT_NEOX.emit)
    layer = {"LayerNormalization": 2, "Gemm": 4, "GroupQueryAttention": 1, "Reshape": 2, "Gelu": 1, "Add": 2}
    assert emitted("gpt_neox").layer(one, "decoder")[0] == layer


def test_what_is_not_built_is_named() -> None:
    model = tiny_model("gpt_neox, tanh", lambda: _gpt_neox(hidden_act="tanh"))
    with pytest.raises(CannotEmit, match="its activation is 'tanh'"):
        GPT_NEOX.emit(checkpoint_of(model))
