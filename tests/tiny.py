"""Tiny random checkpoints that tests build in a temporary folder: seconds to make, every architecture's real code."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    BlenderbotConfig,
    BlenderbotForConditionalGeneration,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MarianConfig,
    MarianMTModel,
    ModernBertConfig,
    ModernBertModel,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from lmtasks.data.tokenizer import Tokenizer, train_byte_bpe

TEXTS = (
    "the cat sat on the mat and looked at the bird",
    "a good film, a bad film, and a very long film",
    "今天天气很好，我们去公园散步。",
    "the river runs past the old mill to the sea",
)


def tiny_tokenizer() -> Tokenizer:
    """A byte-level BPE of 300 tokens."""
    return train_byte_bpe(TEXTS * 3, vocabulary=300)


def _llama(vocabulary: int, context: int) -> PreTrainedModel:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=context,
            tie_word_embeddings=True,
            bos_token_id=0,
            eos_token_id=0,
            pad_token_id=1,
        )
    )


def _qwen2(vocabulary: int, context: int) -> PreTrainedModel:
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=vocabulary,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=context,
            bos_token_id=0,
            eos_token_id=0,
            pad_token_id=1,
        )
    )


def _gemma2(vocabulary: int, context: int) -> PreTrainedModel:
    """Bends its logits behind the projection: hidden states times the projection would be wrong."""
    return Gemma2ForCausalLM(
        Gemma2Config(
            vocab_size=vocabulary,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=8,
            sliding_window=8,
            final_logit_softcapping=2.0,
            max_position_embeddings=context,
            bos_token_id=0,
            eos_token_id=0,
            pad_token_id=1,
        )
    )


def _gpt2(vocabulary: int, context: int) -> PreTrainedModel:
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=vocabulary,
            n_embd=32,
            n_layer=2,
            n_head=4,
            n_positions=context,
            bos_token_id=0,
            eos_token_id=0,
            pad_token_id=1,
        )
    )


def _bert_config(vocabulary: int, context: int) -> BertConfig:
    return BertConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=context,
        pad_token_id=1,
        num_labels=2,
        id2label={0: "negative", 1: "positive"},
    )


def _bert(vocabulary: int, context: int) -> PreTrainedModel:
    return BertModel(_bert_config(vocabulary, context), add_pooling_layer=False)


def _bert_classifier(vocabulary: int, context: int) -> PreTrainedModel:
    return BertForSequenceClassification(_bert_config(vocabulary, context))


def _modernbert(vocabulary: int, context: int) -> PreTrainedModel:
    """Two local layers behind one that sees the whole text; they see 2 tokens to each side."""
    return ModernBertModel(
        ModernBertConfig(
            vocab_size=vocabulary,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=3,
            num_attention_heads=4,
            local_attention=4,
            max_position_embeddings=context,
            bos_token_id=0,
            eos_token_id=0,
            cls_token_id=0,
            sep_token_id=0,
            pad_token_id=1,
        )
    )


def _marian(vocabulary: int, context: int) -> PreTrainedModel:
    return MarianMTModel(
        MarianConfig(
            vocab_size=vocabulary,
            d_model=32,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=48,
            decoder_ffn_dim=48,
            max_position_embeddings=context,
            pad_token_id=1,
            eos_token_id=0,
            decoder_start_token_id=1,
            forced_eos_token_id=None,
        )
    )


def _pair(vocabulary: int, context: int) -> dict[str, object]:
    return {
        "vocab_size": vocabulary,
        "d_model": 32,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 48,
        "decoder_ffn_dim": 48,
        "max_position_embeddings": context,
        "bos_token_id": 2,
        "pad_token_id": 1,
        "eos_token_id": 0,
        "decoder_start_token_id": 1,
        "forced_eos_token_id": None,
    }


def _bart(vocabulary: int, context: int) -> PreTrainedModel:
    return BartForConditionalGeneration(BartConfig(**_pair(vocabulary, context)))


def _blenderbot(vocabulary: int, context: int) -> PreTrainedModel:
    return BlenderbotForConditionalGeneration(BlenderbotConfig(**_pair(vocabulary, context)))


def _t5(vocabulary: int, context: int) -> PreTrainedModel:
    return T5ForConditionalGeneration(
        T5Config(
            vocab_size=vocabulary,
            d_model=32,
            d_kv=8,
            d_ff=48,
            num_layers=2,
            num_heads=4,
            pad_token_id=1,
            eos_token_id=0,
            decoder_start_token_id=1,
            relative_attention_num_buckets=8,
            relative_attention_max_distance=20,
            n_positions=context,
        )
    )


ARCHITECTURES: Mapping[str, Callable[[int, int], PreTrainedModel]] = {
    "llama": _llama,
    "qwen2": _qwen2,
    "gemma2": _gemma2,
    "gpt2": _gpt2,
    "bert": _bert,
    "bert-classifier": _bert_classifier,
    "modernbert": _modernbert,
    "marian": _marian,
    "bart": _bart,
    "t5": _t5,
    "blenderbot": _blenderbot,
}


def tiny_checkpoint(folder: Path, architecture: str, *, seed: int = 0, context: int = 64) -> Path:
    """A random checkpoint of that architecture with its tokenizer, as a transformers folder."""
    tokenizer = tiny_tokenizer()
    torch.manual_seed(seed)
    model = ARCHITECTURES[architecture](tokenizer.vocabulary, context)
    with torch.no_grad():  # larger than transformers' own start, so that different inputs give different answers
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, 0.2)
    model.save_pretrained(folder)
    tokenizer.save(folder)
    return folder
