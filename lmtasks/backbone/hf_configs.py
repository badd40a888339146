"""Transformers made new: from a configuration of transformers, with random weights."""

from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    BartConfig,
    BertConfig,
    BertForMaskedLM,
    BertModel,
    EuroBertConfig,
    EuroBertForMaskedLM,
    EuroBertModel,
    GPT2Config,
    LlamaConfig,
    MarianConfig,
    PreTrainedConfig,
    PreTrainedModel,
    T5Config,
)

from lmtasks.backbone.family import TransformerSizes
from lmtasks.backbone.sizes import Vocabulary
from lmtasks.backbone.transformer import TransformerBackbone, traits_of


def llama(sizes: TransformerSizes, vocabulary: Vocabulary) -> TransformerBackbone:
    """Touvron et al. 2023, https://arxiv.org/abs/2302.13971; embeddings tied."""
    return _made(LlamaConfig(**_llama_settings(sizes, vocabulary)), AutoModelForCausalLM)


def _llama_settings(sizes: TransformerSizes, vocabulary: Vocabulary) -> dict[str, Any]:
    """Settings that Llama and EuroBERT share, so that the weights of one fit the other."""
    return {
        "vocab_size": vocabulary.size,
        "hidden_size": sizes.width,
        "intermediate_size": sizes.inner,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "num_key_value_heads": sizes.heads,
        "max_position_embeddings": sizes.context,
        "attention_dropout": sizes.dropout,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": True,
        "bos_token_id": vocabulary.bos,
        "eos_token_id": vocabulary.eos,
        "pad_token_id": vocabulary.pad,
    }


def gpt2(sizes: TransformerSizes, vocabulary: Vocabulary) -> TransformerBackbone:
    """Radford et al. 2019; embeddings tied."""
    config = GPT2Config(
        vocab_size=vocabulary.size,
        n_embd=sizes.width,
        n_inner=sizes.inner,
        n_layer=sizes.layers,
        n_head=sizes.heads,
        n_positions=sizes.context,
        resid_pdrop=sizes.dropout,
        embd_pdrop=sizes.dropout,
        attn_pdrop=sizes.dropout,
        bos_token_id=vocabulary.bos,
        eos_token_id=vocabulary.eos,
        pad_token_id=vocabulary.pad,
    )
    return _made(config, AutoModelForCausalLM)


def bert(sizes: TransformerSizes, vocabulary: Vocabulary) -> TransformerBackbone:
    """Devlin et al. 2019, https://arxiv.org/abs/1810.04805."""
    return _wrapped(BertModel(_bert_config(sizes, vocabulary), add_pooling_layer=False))


def masked_bert(sizes: TransformerSizes, vocabulary: Vocabulary) -> TransformerBackbone:
    """The same with the projection that predicts hidden tokens, tied to the embeddings."""
    return _wrapped(BertForMaskedLM(_bert_config(sizes, vocabulary)))


def _bert_config(sizes: TransformerSizes, vocabulary: Vocabulary) -> BertConfig:
    return BertConfig(
        vocab_size=vocabulary.size,
        hidden_size=sizes.width,
        intermediate_size=sizes.inner,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        max_position_embeddings=sizes.context,
        hidden_dropout_prob=sizes.dropout,
        attention_probs_dropout_prob=sizes.dropout,
        pad_token_id=vocabulary.pad,
    )


def eurobert(sizes: TransformerSizes, vocabulary: Vocabulary) -> TransformerBackbone:
    """Boizard et al. 2025, https://arxiv.org/abs/2503.05500: `llama`, whose weights fit, with attention both ways."""
    return _wrapped(EuroBertModel(_eurobert_config(sizes, vocabulary)))


def masked_eurobert(sizes: TransformerSizes, vocabulary: Vocabulary) -> TransformerBackbone:
    """The same with the projection that predicts hidden tokens, tied to the embeddings."""
    return _wrapped(EuroBertForMaskedLM(_eurobert_config(sizes, vocabulary)))


def _eurobert_config(sizes: TransformerSizes, vocabulary: Vocabulary) -> EuroBertConfig:
    mask = vocabulary.pad if vocabulary.mask is None else vocabulary.mask
    return EuroBertConfig(**_llama_settings(sizes, vocabulary), mask_token_id=mask)


def transformer(sizes: TransformerSizes, vocabulary: Vocabulary) -> TransformerBackbone:
    """Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, in its Marian form."""
    config = MarianConfig(
        vocab_size=vocabulary.size,
        d_model=sizes.width,
        encoder_layers=sizes.layers,
        decoder_layers=sizes.layers,
        encoder_attention_heads=sizes.heads,
        decoder_attention_heads=sizes.heads,
        encoder_ffn_dim=sizes.inner,
        decoder_ffn_dim=sizes.inner,
        max_position_embeddings=sizes.context,
        activation_function="relu",
        dropout=sizes.dropout,
        attention_dropout=0.0,
        scale_embedding=True,
        share_encoder_decoder_embeddings=True,
        tie_word_embeddings=True,
        eos_token_id=vocabulary.eos,
        pad_token_id=vocabulary.pad,
        decoder_start_token_id=vocabulary.pad,
        forced_eos_token_id=None,
    )
    made = _made(config, AutoModelForSeq2SeqLM)
    # Embeddings are scaled by sqrt(width), so that they begin at the size of positions; matrices of that size would
    # make all states of a row alike before anything is learned, and the encoder's never part again.
    with torch.no_grad():
        made.embeddings().weight.normal_(std=sizes.width**-0.5)[vocabulary.pad] = 0.0
    return made


def bart(sizes: TransformerSizes, vocabulary: Vocabulary) -> TransformerBackbone:
    """Lewis et al. 2020, https://arxiv.org/abs/1910.13461."""
    config = BartConfig(
        vocab_size=vocabulary.size,
        d_model=sizes.width,
        encoder_layers=sizes.layers,
        decoder_layers=sizes.layers,
        encoder_attention_heads=sizes.heads,
        decoder_attention_heads=sizes.heads,
        encoder_ffn_dim=sizes.inner,
        decoder_ffn_dim=sizes.inner,
        max_position_embeddings=sizes.context,
        dropout=sizes.dropout,
        attention_dropout=0.0,
        bos_token_id=vocabulary.bos,
        eos_token_id=vocabulary.eos,
        pad_token_id=vocabulary.pad,
        decoder_start_token_id=vocabulary.pad,
        forced_eos_token_id=None,
    )
    return _made(config, AutoModelForSeq2SeqLM)


def t5(sizes: TransformerSizes, vocabulary: Vocabulary) -> TransformerBackbone:
    """Raffel et al. 2020, https://arxiv.org/abs/1910.10683, with the gated layers of its version 1.1."""
    config = T5Config(
        vocab_size=vocabulary.size,
        d_model=sizes.width,
        d_kv=sizes.width // sizes.heads,
        d_ff=sizes.inner,
        num_layers=sizes.layers,
        num_decoder_layers=sizes.layers,
        num_heads=sizes.heads,
        dropout_rate=sizes.dropout,
        feed_forward_proj="gated-gelu",
        eos_token_id=vocabulary.eos,
        pad_token_id=vocabulary.pad,
    )
    config.decoder_start_token_id = vocabulary.pad
    return _made(config, AutoModelForSeq2SeqLM)


def _made(config: PreTrainedConfig, loader: type) -> TransformerBackbone:
    return _wrapped(loader.from_config(config))  # type: ignore[attr-defined]


def _wrapped(hf: PreTrainedModel) -> TransformerBackbone:
    hf.config.architectures = [type(hf).__name__]  # what `traits_of` goes by, here and after saving
    return TransformerBackbone(hf, traits_of(hf.config))
