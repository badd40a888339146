"""Positions that a backbone is told are those that it counts itself where nobody tells it; and padding changes nothing,
but where the engine knows that it does."""

import pytest
import torch
from transformers import AutoConfig, AutoModel, PreTrainedModel

from lmtasks.backbone.transformer import POSITIONS_AFTER_PADDING, ROWS_BEFORE_POSITIONS, TransformerBackbone, traits_of
from lmtasks.engine.engine import READS_PADDING

SIZES = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 42,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
FROM_ZERO = (
    "albert",
    "bert",
    "bert-generation",
    "big_bird",
    "canine",
    "convbert",
    "deberta-v2",
    "distilbert",
    "electra",
)
OTHERS = ("fnet", "gpt2", "layoutlm", "megatron-bert", "mobilebert", "modernbert", "opt", "rembert", "xlm")


@pytest.mark.parametrize("family", sorted({*POSITIONS_AFTER_PADDING, *ROWS_BEFORE_POSITIONS, *FROM_ZERO, *OTHERS}))
def test_positions_are_those_that_the_model_counts_itself(family: str) -> None:
    config = AutoConfig.for_model(family, **SIZES)
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModel.from_config(config).eval()
    if family == "xmod":
        model.set_default_language("en_XX")
    backbone = TransformerBackbone(model, traits_of(config))
    ids = torch.randint(3, 299, (2, 12))
    mask = torch.ones_like(ids)
    with torch.no_grad():
        counted = model(input_ids=ids, attention_mask=mask)[0]
        told = model(**backbone.inputs(ids, mask))[0]
    torch.testing.assert_close(told, counted)
    if family not in READS_PADDING:
        padded, real = torch.full((2, 17), config.pad_token_id), torch.zeros(2, 17, dtype=torch.bool)
        padded[:, 5:], real[:, 5:] = ids, True
        with torch.no_grad():
            torch.testing.assert_close(backbone.encode(padded, real)[:, 5:], counted, atol=1e-5, rtol=1e-4)
    assert backbone.traits.max_length_tokens == 42 - (2 if family in POSITIONS_AFTER_PADDING else 0)
