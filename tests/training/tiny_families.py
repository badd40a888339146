"""Tiny random checkpoints of transformers families whose layers are called differently."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    PreTrainedModel,
)

VOCABULARY = 60
_COMMON: Mapping[str, int] = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1}
_LLAMA: Mapping[str, int] = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 32,
}  # fmt: skip
_BERT: Mapping[str, int] = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "max_position_embeddings": 34, "embedding_size": 16,
}  # fmt: skip
_MODERN: Mapping[str, int] = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "max_position_embeddings": 32, "cls_token_id": 0, "sep_token_id": 0, "local_attention": 4,
}  # fmt: skip
_PAIR: Mapping[str, int] = {
    "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "max_position_embeddings": 32, "decoder_start_token_id": 1,
}  # fmt: skip
_T5: Mapping[str, int] = {
    "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2, "decoder_start_token_id": 1,
}  # fmt: skip

Maker = Callable[[object], PreTrainedModel]


def _causal(config: object) -> PreTrainedModel:
    return AutoModelForCausalLM.from_config(config)  # type: ignore[no-any-return]


def _encoder(config: object) -> PreTrainedModel:
    return AutoModel.from_config(config, add_pooling_layer=False)  # type: ignore[no-any-return]


def _plain(config: object) -> PreTrainedModel:
    return AutoModel.from_config(config)  # type: ignore[no-any-return]


def _pair(config: object) -> PreTrainedModel:
    return AutoModelForSeq2SeqLM.from_config(config)  # type: ignore[no-any-return]


FAMILIES: Mapping[str, tuple[Mapping[str, int], Maker]] = {
    **{name: (_LLAMA, _causal) for name in ("llama", "mistral", "qwen2", "qwen3")},
    "gpt2": ({"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}, _causal),
    "gpt_neox": (_LLAMA, _causal),
    "opt": ({**_LLAMA, "ffn_dim": 24, "word_embed_proj_dim": 16}, _causal),
    **{name: (_BERT, _encoder) for name in ("bert", "roberta", "xlm-roberta", "camembert")},
    "electra": (_BERT, _plain),
    "eurobert": ({**_LLAMA, "mask_token_id": 2}, _plain),
    "modernbert": (_MODERN, _plain),
    "distilbert": ({"dim": 16, "hidden_dim": 24, "n_layers": 2, "n_heads": 2, "max_position_embeddings": 32}, _plain),
    **{name: (_PAIR, _pair) for name in ("marian", "bart", "mbart", "pegasus")},
    **{name: (_T5, _pair) for name in ("t5", "mt5", "longt5", "umt5")},
    **{
        name: (_LLAMA, _causal)
        for name in ("gemma2", "phi3", "stablelm", "cohere", "qwen2_moe", "falcon", "nemotron_h")
    },
    "falcon": ({"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}, _causal),
    "bloom": ({"hidden_size": 16, "n_layer": 2, "n_head": 2}, _causal),
    "openai-gpt": ({"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}, _causal),
    "gptj": ({"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32, "rotary_dim": 4}, _causal),
    "mamba": ({"hidden_size": 16, "num_hidden_layers": 2, "state_size": 4}, _causal),
    "rwkv": ({"hidden_size": 16, "attention_hidden_size": 16, "num_hidden_layers": 2}, _causal),
    **{name: (_BERT, _plain) for name in ("albert", "deberta-v2", "mpnet", "roformer")},
    "m2m_100": (_PAIR, _pair),
}
"""By model_type: sizes, and what makes the module."""


def tiny_family(folder: Path, family: str) -> Path:
    """Write the checkpoint, without a tokenizer."""
    sizes, make = FAMILIES[family]
    torch.manual_seed(0)
    model = make(AutoConfig.for_model(family, **{**_COMMON, **sizes}))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, 0.2)
    model.save_pretrained(folder)
    return folder
