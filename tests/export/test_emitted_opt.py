"""Graphs of OPT: as torch, in every way that they are driven."""

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
from transformers import OPTConfig, OPTForCausalLM, PreTrainedModel

from lmtasks.export.checkpoint import CannotEmit, checkpoint_of
from lmtasks.export.emitters.gpt2 import OPT


def _opt(**changed: object) -> PreTrainedModel:
    sizes = {"vocab_size": 300, "hidden_size": 32, "word_embed_proj_dim": 32, "ffn_dim": 48, "num_hidden_layers": 2}
    rest = {"num_attention_heads": 4, "max_position_embeddings": 64, "bos_token_id": 0, "eos_token_id": 0}
    return OPTForCausalLM(OPTConfig(**{**sizes, **rest, "pad_token_id": 1, **changed}))


MODELS: Mapping[str, Callable[[], PreTrainedModel]] = {
    "opt": _opt,
    "opt, untied, no biases": lambda: _opt(tie_word_embeddings=False, enable_bias=False, activation_function="gelu"),
}


@cache
def emitted(name: str) -> Emitted:
    return Emitted(name, tiny_model(name, MODELS[name]), OPT.emit)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    "check", [check_decoding, check_one_row, check_chunks, check_scores, check_scores_behind_a_past, check_heads]
)
def test_it_answers_as_torch(name: str, check: Callable[[Emitted], None]) -> None:
    check(emitted(name))


def test_a_tied_table_is_stored_once() -> None:
    made = emitted("opt")
    weights = sum(parameter.numel() for parameter in made.model.parameters()) * 4
    assert (made.folder / "weights.bin").stat().st_size < 1.1 * weights  # alignment


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"do_layer_norm_before": False}, "it normalizes behind each part"),
        ({"word_embed_proj_dim": 16}, r"weights that its graphs have no place for, the first is .*project_in"),
    ],
)
def test_other_sizes_of_the_family_are_refused(changed: dict[str, object], said: str) -> None:
    model = tiny_model(f"opt, {next(iter(changed))}", lambda: _opt(**changed))
    with pytest.raises(CannotEmit, match=said):
        OPT.emit(checkpoint_of(model))
