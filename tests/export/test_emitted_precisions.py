"""Emitted graphs with rounded weights: close to fp32, small, and each row for itself where that is promised."""

from collections.abc import Callable, Mapping
from functools import cache, partial

import numpy as np
import onnx_ir as ir
import pytest
from driving import Decoding, Emitted, random_tokens, tiny_model
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from lmtasks.export.emitters.gpt2 import GPT2
from lmtasks.export.emitters.llama import LLAMA
from lmtasks.export.graph import count_operators
from lmtasks.export.quantize import quantize_rows, quantize_weights, quantize_whole
from lmtasks.records import Floats32

LAYERS, VOCABULARY, WIDTH = 2, 1200, 64
REWRITES: Mapping[str, Callable[[ir.Model], object]] = {
    "fp32": lambda graph: None,
    "int8": quantize_rows,
    "int8, many rows": partial(quantize_rows, many=True),
    "int8-tensor": quantize_whole,
    "w8": partial(quantize_weights, bits=8),
    "int4": partial(quantize_weights, bits=4),
}
PRODUCTS = {"int8": "MatMulInteger", "int8-tensor": "DynamicQuantizeMatMul", "w8": "MatMulNBits", "int4": "MatMulNBits"}


def _llama() -> PreTrainedModel:
    sizes = {"vocab_size": VOCABULARY, "hidden_size": WIDTH, "intermediate_size": 96, "num_hidden_layers": LAYERS}
    return LlamaForCausalLM(
        LlamaConfig(
            **sizes, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=True
        )
    )


def _gpt2() -> PreTrainedModel:
    sizes = {"vocab_size": VOCABULARY, "n_embd": WIDTH, "n_layer": LAYERS, "n_head": 4, "n_positions": 64}
    return GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0))


@cache
def emitted(name: str, precision: str) -> Emitted:
    make, emit = {"llama": (_llama, LLAMA.emit), "gpt2": (_gpt2, GPT2.emit)}[name]
    return Emitted(
        f"{name} {precision}", tiny_model(f"{name} rounded", make, heads=()), emit, rewrite=REWRITES[precision]
    )


def continued(made: Emitted, rows: list[list[int]]) -> Floats32:
    """Logits of a prompt and five steps, (6, rows, V)."""
    decoding = Decoding(made, rows=len(rows), capacity=32)
    found = [decoding.append([row[:-5] for row in rows])]
    found += [decoding.append([[row[-step]] for row in rows]) for step in range(5, 0, -1)]
    return np.stack(found)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize(
    ("precision", "cosine"),
    [("int8", 0.995), ("int8, many rows", 0.995), ("int8-tensor", 0.98), ("w8", 0.995), ("int4", 0.9)],
)
def test_rounded_answers_are_close(name: str, precision: str, cosine: float) -> None:
    rows = random_tokens(9, 17, 6)
    wanted, found = (continued(emitted(name, kind), rows).reshape(-1, VOCABULARY) for kind in ("fp32", precision))
    wanted, found = (values - values.mean(1, keepdims=True) for values in (wanted, found))
    assert float((wanted * found).sum() / np.linalg.norm(wanted) / np.linalg.norm(found)) > cosine


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("precision", ["int8", "w8", "int4"])
def test_a_row_does_not_depend_on_its_neighbours(name: str, precision: str) -> None:
    rows = random_tokens(9, 17, 6)
    together = continued(emitted(name, precision), rows)
    for number, row in enumerate(rows):
        alone = continued(emitted(name, precision), [row])
        np.testing.assert_allclose(together[:, number], alone[:, 0], atol=2e-3)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("precision", PRODUCTS)
def test_every_product_is_rounded(name: str, precision: str) -> None:
    made = emitted(name, precision)
    for graph in ("decoder", "score"):
        counts = count_operators(made.graphs[graph])  # type: ignore[index]
        assert counts[PRODUCTS[precision]] == 4 * LAYERS + 1
        assert not {"Gemm", "MatMul"} & set(counts)
        if precision == "int8":  # each product has rows of its own here
            assert counts["QuantizeLinear"] == 4 * LAYERS + 1


def test_unwritten_rows_decide_no_scale() -> None:
    """Attention leaves memory as it was behind a row's last token: with one scale for all rows, that has to go."""
    made = emitted("llama", "int8-tensor")
    assert count_operators(made.graphs["decoder"])["Where"] == LAYERS
    rows = random_tokens(7, 20)
    found, wanted = (continued(emitted("llama", kind), rows) for kind in ("int8-tensor", "fp32"))
    assert float(np.corrcoef(found.ravel(), wanted.ravel())[0, 1]) > 0.98


@pytest.mark.parametrize(("precision", "share"), [("int8", 0.32), ("int8-tensor", 0.32), ("w8", 0.52), ("int4", 0.4)])
def test_weights_shrink(precision: str, share: float) -> None:
    """A tied table is stored once in int8; with scales a block it is one form for the table, another for the head."""
    small, whole = ((emitted("gpt2", kind).folder / "weights.bin").stat().st_size for kind in (precision, "fp32"))
    assert small < share * whole
