"""Graphs of BERT and its relatives: as torch for every head, wherever the padding stands."""

from collections.abc import Callable, Mapping
from functools import cache, partial

import numpy as np
import pytest
import torch
from driving import Emitted, random_tokens, tiny_model
from numpy.typing import NDArray
from transformers import (
    AlbertConfig,
    AlbertForQuestionAnswering,
    AlbertForSequenceClassification,
    AlbertForTokenClassification,
    AlbertModel,
    BertConfig,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    DistilBertConfig,
    DistilBertForQuestionAnswering,
    DistilBertForSequenceClassification,
    DistilBertForTokenClassification,
    DistilBertModel,
    ElectraConfig,
    ElectraForQuestionAnswering,
    ElectraForSequenceClassification,
    ElectraForTokenClassification,
    ElectraModel,
    EuroBertConfig,
    EuroBertForSequenceClassification,
    EuroBertForTokenClassification,
    EuroBertModel,
    LlamaConfig,
    LlamaForQuestionAnswering,
    LlamaForSequenceClassification,
    LlamaForTokenClassification,
    LlamaModel,
    MistralConfig,
    MistralForSequenceClassification,
    MistralModel,
    ModernBertConfig,
    ModernBertForMaskedLM,
    ModernBertForQuestionAnswering,
    ModernBertForSequenceClassification,
    ModernBertForTokenClassification,
    ModernBertModel,
    MPNetConfig,
    MPNetForQuestionAnswering,
    MPNetForSequenceClassification,
    MPNetForTokenClassification,
    MPNetModel,
    Phi3Config,
    Phi3ForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForSequenceClassification,
    Qwen2Model,
    Qwen3Config,
    Qwen3ForTokenClassification,
    Qwen3Model,
    RobertaConfig,
    RobertaForQuestionAnswering,
    RobertaForSequenceClassification,
    RobertaForTokenClassification,
    RobertaModel,
    XLMRobertaConfig,
    XLMRobertaModel,
)

from lmtasks.export.checkpoint import CannotEmit, Checkpoint, checkpoint_of
from lmtasks.export.emitters.bert import ALBERT, BERT, DISTILBERT, MPNET
from lmtasks.export.emitters.llama import EUROBERT
from lmtasks.export.emitters.modernbert import MODERNBERT
from lmtasks.export.quantize import quantize_rows
from lmtasks.records import Bools, Floats32, Ints

CLOSE = 1e-4
LONGEST = 40
SIZES = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": LONGEST,
    "pad_token_id": 1,
}
THREE = {"num_labels": 3, "id2label": {0: "a", 1: "b", 2: "c"}, "label2id": {"a": 0, "b": 1, "c": 2}}


def _bert(**changed: object) -> BertConfig:
    return BertConfig(**{**SIZES, **changed})


def _roberta(**changed: object) -> RobertaConfig:
    return RobertaConfig(**{**SIZES, "max_position_embeddings": LONGEST + 2, "type_vocab_size": 1, **changed})


def _distilbert(**changed: object) -> DistilBertConfig:
    sizes = {"vocab_size": 300, "dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 4, "pad_token_id": 1}
    return DistilBertConfig(**{**sizes, "max_position_embeddings": LONGEST, **changed})


def _electra(**changed: object) -> ElectraConfig:
    return ElectraConfig(**{**SIZES, "embedding_size": 16, **changed})


def _eurobert(**changed: object) -> EuroBertConfig:
    return EuroBertConfig(**{**SIZES, "bos_token_id": 0, "eos_token_id": 0, "mask_token_id": 2, **changed})


def _llama(**changed: object) -> LlamaConfig:
    return LlamaConfig(**{**SIZES, "bos_token_id": 0, "eos_token_id": 0, **changed})


def _qwen2(**changed: object) -> Qwen2Config:
    return Qwen2Config(**{**SIZES, "bos_token_id": 0, "eos_token_id": 0, **changed})


def _qwen3(**changed: object) -> Qwen3Config:
    return Qwen3Config(**{**SIZES, "head_dim": 8, "bos_token_id": 0, "eos_token_id": 0, **changed})


def _mistral(**changed: object) -> MistralConfig:
    return MistralConfig(**{**SIZES, "head_dim": 8, "bos_token_id": 0, "eos_token_id": 0, **changed})


def _modernbert(**changed: object) -> ModernBertConfig:
    """Two local layers between two that see the whole text; the window, 3 tokens to each side, is shorter than it."""
    ids = {"bos_token_id": 0, "eos_token_id": 0, "cls_token_id": 0, "sep_token_id": 0}
    return ModernBertConfig(**{**SIZES, **ids, "num_hidden_layers": 4, "local_attention": 6, **changed})


def _albert(**changed: object) -> AlbertConfig:
    return AlbertConfig(**{**SIZES, "embedding_size": 16, **changed})


def _mpnet(**changed: object) -> MPNetConfig:
    sizes = {**SIZES, "max_position_embeddings": LONGEST + 2}
    return MPNetConfig(**{**sizes, **changed})


def _phi3(**changed: object) -> Phi3Config:
    return Phi3Config(**{**SIZES, "num_key_value_heads": 2, "bos_token_id": 0, "eos_token_id": 0, **changed})


def _xlm_roberta() -> XLMRobertaConfig:
    return XLMRobertaConfig(**{**SIZES, "max_position_embeddings": LONGEST + 2, "type_vocab_size": 1})


MODELS: Mapping[str, tuple[Callable[[PreTrainedConfig], PreTrainedModel], PreTrainedConfig]] = {
    "bert": (BertModel, _bert()),
    "bert without a pooler": (partial(BertModel, add_pooling_layer=False), _bert(hidden_act="gelu_new")),
    "bert, classifies": (BertForSequenceClassification, _bert(**THREE)),
    "bert, tags": (BertForTokenClassification, _bert(**THREE)),
    "bert, finds": (BertForQuestionAnswering, _bert()),
    "roberta": (RobertaModel, _roberta()),
    "roberta, classifies": (RobertaForSequenceClassification, _roberta(**THREE)),
    "roberta, tags": (RobertaForTokenClassification, _roberta(**THREE)),
    "roberta, finds": (RobertaForQuestionAnswering, _roberta()),
    "xlm-roberta": (XLMRobertaModel, _xlm_roberta()),
    "electra": (ElectraModel, _electra()),
    "electra, classifies": (ElectraForSequenceClassification, _electra(**THREE)),
    "electra, tags": (ElectraForTokenClassification, _electra(**THREE, embedding_size=32)),
    "electra, finds": (ElectraForQuestionAnswering, _electra()),
    "eurobert": (EuroBertModel, _eurobert()),
    "eurobert, keys shared": (EuroBertModel, _eurobert(num_key_value_heads=2)),
    "eurobert, tags": (EuroBertForTokenClassification, _eurobert(**THREE)),
    "llama, both ways": (LlamaModel, _llama(is_causal=False, architectures=["LlamaModel"])),
    "qwen2, both ways": (Qwen2Model, _qwen2(num_key_value_heads=2, is_causal=False, architectures=["Qwen2Model"])),
    "qwen3, both ways": (Qwen3Model, _qwen3(num_key_value_heads=2, is_causal=False, architectures=["Qwen3Model"])),
    "mistral, both ways": (
        MistralModel,
        _mistral(num_key_value_heads=2, sliding_window=5, is_causal=False, architectures=["MistralModel"]),
    ),
    "llama, classifies": (LlamaForSequenceClassification, _llama(**THREE)),
    "llama, tags": (LlamaForTokenClassification, _llama(**THREE)),
    "llama, finds": (LlamaForQuestionAnswering, _llama()),
    "qwen2, classifies": (Qwen2ForSequenceClassification, _qwen2(**THREE, num_key_value_heads=2)),
    "qwen3, tags": (Qwen3ForTokenClassification, _qwen3(**THREE, num_key_value_heads=2)),
    "mistral, classifies": (
        MistralForSequenceClassification,
        _mistral(**THREE, num_key_value_heads=2, sliding_window=5),
    ),
    "phi3, classifies": (Phi3ForSequenceClassification, _phi3(**THREE)),
    "albert": (AlbertModel, _albert()),
    "albert, two groups": (AlbertModel, _albert(num_hidden_layers=4, num_hidden_groups=2, hidden_act="gelu")),
    "albert, classifies": (AlbertForSequenceClassification, _albert(**THREE)),
    "albert, tags": (AlbertForTokenClassification, _albert(**THREE)),
    "albert, finds": (AlbertForQuestionAnswering, _albert()),
    "mpnet": (MPNetModel, _mpnet()),
    "mpnet, classifies": (MPNetForSequenceClassification, _mpnet(**THREE)),
    "mpnet, tags": (MPNetForTokenClassification, _mpnet(**THREE)),
    "mpnet, finds": (MPNetForQuestionAnswering, _mpnet()),
    "modernbert": (ModernBertModel, _modernbert()),
    "modernbert, masked": (ModernBertForMaskedLM, _modernbert(tie_word_embeddings=False)),
    "modernbert, all biases": (ModernBertModel, _modernbert(attention_bias=True, mlp_bias=True, norm_bias=True)),
    "modernbert, classifies": (ModernBertForSequenceClassification, _modernbert(**THREE)),
    "modernbert, classifies by the mean": (
        ModernBertForSequenceClassification,
        _modernbert(**THREE, classifier_pooling="mean", classifier_bias=True, classifier_activation="relu"),
    ),
    "modernbert, tags": (ModernBertForTokenClassification, _modernbert(**THREE)),
    "modernbert, finds": (ModernBertForQuestionAnswering, _modernbert()),
    "distilbert": (DistilBertModel, _distilbert()),
    "distilbert, classifies": (DistilBertForSequenceClassification, _distilbert(**THREE)),
    "distilbert, tags": (DistilBertForTokenClassification, _distilbert(**THREE)),
    "distilbert, finds": (DistilBertForQuestionAnswering, _distilbert()),
}


def _emit(name: str) -> Callable[[Checkpoint], Mapping[str, object]]:
    return {
        "albert": ALBERT.emit,
        "distilbert": DISTILBERT.emit,
        "eurobert": EUROBERT.emit,
        "llama": EUROBERT.emit,
        "mistral": EUROBERT.emit,
        "modernbert": MODERNBERT.emit,
        "mpnet": MPNET.emit,
        "phi3": EUROBERT.emit,
        "qwen2": EUROBERT.emit,
        "qwen3": EUROBERT.emit,
    }.get(name.split(",")[0], BERT.emit)


@cache
def emitted(name: str) -> Emitted:
    make, config = MODELS[name]
    return Emitted(name, tiny_model(name, lambda: make(config)), _emit(name))  # type: ignore[arg-type]


def laid_out(rows: list[list[int]], columns: list[list[int]], width: int) -> tuple[Ints, Bools, Ints]:
    """Rows of tokens at given columns: ids, mask, types; what stands at padding must not matter."""
    ids, types = np.full((len(rows), width), 7, dtype=np.int64), np.ones((len(rows), width), dtype=np.int64)
    mask = np.zeros((len(rows), width), dtype=np.bool_)
    for number, (row, at) in enumerate(zip(rows, columns, strict=True)):
        ids[number, at], mask[number, at] = row, True
        types[number, at] = segments(row)
    return ids, mask, types


def segments(row: list[int]) -> NDArray[np.int64]:
    """Segment ids: the second half of a row is another text."""
    return (np.arange(len(row)) >= (len(row) + 1) // 2).astype(np.int64)


def alone(made: Emitted, head: str, row: list[int]) -> Floats32:
    """torch's answer for one row without padding."""
    with torch.no_grad():
        ids, types = torch.tensor([row]), torch.from_numpy(segments(row))[None]
        logits: Floats32 = made.model.head_logits(head, ids, torch.ones_like(ids, dtype=torch.bool), types)[0].numpy()
    return logits


ROWS = random_tokens(9, 1, 17, 4)
LAYOUTS: Mapping[str, tuple[list[list[int]], int]] = {
    "right": ([list(range(len(row))) for row in ROWS], 17),
    "left": ([list(range(17 - len(row), 17)) for row in ROWS], 17),
    "holes": ([sorted(np.random.default_rng(len(row)).permutation(30)[: len(row)].tolist()) for row in ROWS], 30),
}


@pytest.mark.parametrize(
    ("name", "padding"),
    [
        (name, padding)
        for name in MODELS
        for padding in LAYOUTS
        if padding != "holes" or not name.startswith("mpnet")  # its distances are counted in columns, as T5's
    ],
)
def test_it_answers_as_torch_wherever_the_padding_stands(name: str, padding: str) -> None:
    made = emitted(name)
    columns, width = LAYOUTS[padding]
    ids, mask, types = laid_out(ROWS, columns, width)
    found = made.run("heads", {"ids": ids, "mask": mask, "types": types})
    assert set(found) == {f"head.{head.name}" for head in made.model.card.heads}
    for head in made.model.card.heads:
        for number, row in enumerate(ROWS):
            logits = found[f"head.{head.name}"][number]
            given = logits if head.kind == "classification" else logits[columns[number]]
            np.testing.assert_allclose(given, alone(made, head.name, row), atol=CLOSE, rtol=CLOSE)


@pytest.mark.parametrize(
    "name",
    ["bert", "roberta", "electra", "distilbert", "eurobert", "modernbert", "albert", "mpnet", "llama, classifies"],
)
@pytest.mark.parametrize("length", [1, 2, LONGEST - 1, LONGEST])
def test_one_row_of_every_length(name: str, length: int) -> None:
    made = emitted(name)
    (row,) = random_tokens(length)
    ids, mask, types = laid_out([row], [list(range(length))], length)
    found = made.run("heads", {"ids": ids, "mask": mask, "types": types})
    for head in made.model.card.heads:
        np.testing.assert_allclose(found[f"head.{head.name}"][0], alone(made, head.name, row), atol=CLOSE, rtol=CLOSE)


@pytest.mark.parametrize("name", ["bert", "distilbert"])
def test_a_layer_is_thirteen_operators(name: str) -> None:
    """As it is built, and as onnxruntime carries it out: nothing is fused into what is slower."""
    make, config = MODELS[name]
    changed = {"n_layers": 1} if name == "distilbert" else {"num_hidden_layers": 1}
    smaller = type(config)(**{**config.to_dict(), **changed})
    one = Emitted(f"{name}, one layer", tiny_model(f"{name}, one layer", lambda: make(smaller)), _emit(name))  # type: ignore[arg-type]
    parts = {"Gemm": 4, "Reshape": 2, "Split": 1, "MultiHeadAttention": 1, "Add": 2, "LayerNormalization": 2, "Gelu": 1}
    assert emitted(name).layer(one, "heads") == (parts, parts)


def test_a_local_layer_is_fifteen_operators() -> None:
    """One bias serves all local layers, and stands outside of them."""
    make, config = MODELS["modernbert"]
    kinds = ["full_attention", *["sliding_attention"] * 2]
    smaller = type(config)(**{**config.to_dict(), "num_hidden_layers": 2, "layer_types": kinds[:2]})
    larger = type(config)(**{**config.to_dict(), "num_hidden_layers": 3, "layer_types": kinds})
    two, three = (
        Emitted(name, tiny_model(name, lambda shape=shape: make(shape)), MODERNBERT.emit)  # type: ignore[arg-type]
        for name, shape in (("modernbert, two layers", smaller), ("modernbert, three layers", larger))
    )
    parts = {"Gemm": 4, "Reshape": 2, "Split": 2, "RotaryEmbedding": 2, "MultiHeadAttention": 1}
    layer = {**parts, "LayerNormalization": 2, "Gelu": 1, "Mul": 1}
    assert three.layer(two, "heads") == (layer, layer)


def test_an_8_bit_answer_does_not_depend_on_its_neighbours() -> None:
    make, config = MODELS["bert"]
    made = Emitted("bert int8", tiny_model("bert", lambda: make(config)), BERT.emit, rewrite=quantize_rows)
    columns, width = LAYOUTS["holes"]
    together = made.run("heads", dict(zip(("ids", "mask", "types"), laid_out(ROWS, columns, width), strict=True)))
    for number, row in enumerate(ROWS):
        by_itself = laid_out([row], [list(range(len(row)))], len(row))
        found = made.run("heads", dict(zip(("ids", "mask", "types"), by_itself, strict=True)))
        for head in ("head.mood", "head.topic"):
            np.testing.assert_allclose(together[head][number], found[head][0], atol=2e-2)


def test_an_encoder_that_attends_one_way_is_refused() -> None:
    from dataclasses import replace

    model = emitted("bert").model
    given = checkpoint_of(model)
    with pytest.raises(CannotEmit, match="it is used as causal; as an encoder it is built"):
        BERT.emit(replace(given, card=replace(given.card, kind="causal")))


@pytest.mark.parametrize(
    ("make", "config", "message"),
    [
        (EuroBertForSequenceClassification, _eurobert(**THREE), "its own head for classification pools logits"),
    ],
)
def test_a_eurobert_of_another_shape_is_refused(
    make: Callable[[PreTrainedConfig], PreTrainedModel], config: EuroBertConfig, message: str
) -> None:
    with pytest.raises(CannotEmit, match=message):
        EUROBERT.emit(checkpoint_of(tiny_model("eurobert", lambda: make(config))))
