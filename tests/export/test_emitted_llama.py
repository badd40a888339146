"""Graphs of Llama and its relatives: as torch, in every way that they are driven."""

from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
import pytest
import torch
from causal_checks import (
    check_chunks,
    check_decoding,
    check_heads,
    check_one_row,
    check_scores,
    check_scores_behind_a_past,
)
from driving import Emitted, tiny_model
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from lmtasks.export.checkpoint import CannotEmit, Config, checkpoint_of
from lmtasks.export.emitters.gemma import GEMMA3
from lmtasks.export.emitters.llama import LLAMA
from lmtasks.export.emitters.positions import rotary_tables

SIZES = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 1,
}
PLAIN = {name: value for name, value in SIZES.items() if name != "head_dim"}
"""For families that divide their width among the heads."""
ROPES: Mapping[str, Mapping[str, object]] = {
    "linear": {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0},
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
        "rope_theta": 500.0,
    },
    "yarn": {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 16,
        "rope_theta": 1000.0,
        "beta_fast": 4.0,
    },
}


def _llama(**changed: object) -> PreTrainedModel:
    return LlamaForCausalLM(LlamaConfig(**{**SIZES, "tie_word_embeddings": True, **changed}))


def _mistral() -> PreTrainedModel:
    return MistralForCausalLM(MistralConfig(**SIZES, sliding_window=5))


def _gemma3() -> PreTrainedModel:
    """A window in every layer but the third, whose frequencies are others."""
    ropes = {
        "full_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1000.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
    }
    sizes = {**SIZES, "num_hidden_layers": 3, "sliding_window": 5, "query_pre_attn_scalar": 24}
    kinds = ["sliding_attention", "sliding_attention", "full_attention"]
    model = Gemma3ForCausalLM(Gemma3TextConfig(**sizes, layer_types=kinds, rope_parameters=ropes))
    for name, weight in model.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(weight, std=0.3)
    return model


def _qwen2_window() -> PreTrainedModel:
    return Qwen2ForCausalLM(Qwen2Config(**PLAIN, use_sliding_window=True, sliding_window=6, max_window_layers=1))


MODELS: Mapping[str, Callable[[], PreTrainedModel]] = {
    "llama": _llama,
    "llama, narrow heads": lambda: _llama(head_dim=8),
    "llama, untied, all biases, one cache head": lambda: _llama(
        tie_word_embeddings=False, attention_bias=True, mlp_bias=True, num_key_value_heads=1
    ),
    **{f"llama, {name}": lambda rope=rope: _llama(rope_parameters=dict(rope)) for name, rope in ROPES.items()},
    "mistral, window": _mistral,
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**PLAIN, tie_word_embeddings=True)),
    "qwen2, window in one layer": _qwen2_window,
    "phi3": lambda: Phi3ForCausalLM(Phi3Config(**PLAIN)),
    "phi3, window": lambda: Phi3ForCausalLM(Phi3Config(**PLAIN, sliding_window=5)),
    "gemma3": _gemma3,
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**{**SIZES, "head_dim": 24}, tie_word_embeddings=True)),
}


@cache
def emitted(name: str) -> Emitted:
    emit = GEMMA3.emit if name.startswith("gemma3") else LLAMA.emit
    return Emitted(name, tiny_model(name, MODELS[name]), emit)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    "check", [check_decoding, check_one_row, check_chunks, check_scores, check_scores_behind_a_past, check_heads]
)
def test_it_answers_as_torch(name: str, check: Callable[[Emitted], None]) -> None:
    check(emitted(name))


def test_a_layer_is_twelve_operators() -> None:
    """Two layers against one: what a layer adds, before and after onnxruntime's own passes."""
    one = Emitted("one layer", tiny_model("one layer", lambda: _llama(num_hidden_layers=1)), LLAMA.emit)
    layer = {
        "SimplifiedLayerNormalization": 2,
        "Gemm": 4,
        "GroupQueryAttention": 1,
        "Reshape": 2,
        "Split": 1,
        "QuickGelu": 1,
        "Mul": 1,
    }
    assert emitted("llama").layer(one, "decoder") == (layer, layer)


def test_a_tied_table_is_stored_once() -> None:
    made = emitted("llama")
    weights = sum(parameter.numel() for parameter in made.model.parameters()) * 4
    assert (made.folder / "weights.bin").stat().st_size < 1.2 * weights  # rotary tables, and alignment


@pytest.mark.parametrize("kind", ROPES)
def test_tables_of_rotary_positions_are_those_of_transformers(kind: str) -> None:
    import torch
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    config = LlamaConfig(**{**SIZES, "max_position_embeddings": 4096}, rope_parameters=dict(ROPES[kind]))
    cosines, sines = rotary_tables(Config(config.to_dict()), width=16, positions=4096)
    wanted = LlamaRotaryEmbedding(config)(torch.zeros(1), torch.arange(4096)[None])
    for found, expected in zip((cosines, sines), wanted, strict=True):
        np.testing.assert_allclose(found, expected[0, :, :8].numpy(), atol=4096 * 1.2e-7)


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_positions_that_depend_on_the_length_are_refused(kind: str) -> None:
    rope: dict[str, object] = {"rope_type": kind, "factor": 2.0, "rope_theta": 10000.0}
    if kind == "longrope":
        rope |= {"short_factor": [1.0] * 8, "long_factor": [2.0] * 8, "original_max_position_embeddings": 16}
    model = tiny_model(kind, lambda: _llama(rope_parameters=rope))
    with pytest.raises(CannotEmit, match=rf"rotary positions are of type '{kind}'; default, linear, llama3, yarn"):
        LLAMA.emit(checkpoint_of(model))


def test_what_has_no_place_in_the_graphs_is_refused() -> None:
    model = tiny_model("odd", _llama)
    model.hf.register_parameter("gate", next(model.hf.parameters()))
    with pytest.raises(CannotEmit, match="1 weights that its graphs have no place for, the first is 'gate'"):
        LLAMA.emit(checkpoint_of(model))
    with pytest.raises(CannotEmit, match="its activation is 'tanh'"):
        LLAMA.emit(checkpoint_of(tiny_model("tanh", lambda: _llama(hidden_act="tanh"))))
