"""Checkpoints that anyone can make again, bit for bit: every architecture's real code with seeded weights.

Weights are uniform numbers of NumPy's legacy generator, whose stream is frozen and made of exact operations alone, so
they do not depend on the processor, on torch or on NumPy's version. `weights_hash` says whether they came out alike.
"""

import hashlib
import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Around = Literal["nothing", "begin", "end"]
"""What a tokenizer puts around a text by default: nothing, its first token before it, its end token behind it."""

CHAT = (
    "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}"
    "{% if not loop.last or add_generation_prompt %}</{{ message['role'] }}>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
"""A chat template of our own, in the form that `tokenizer_config.json` holds."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One architecture in one size."""

    family: Literal["llama", "gpt2", "t5"]
    width: int
    layers: int
    heads: int
    context: int
    around: Around = "nothing"
    chat: bool = False


TINY: Mapping[str, Shape] = {
    "tiny-llama": Shape(family="llama", width=32, layers=2, heads=4, context=256, around="begin", chat=True),
    "tiny-gpt2": Shape(family="gpt2", width=32, layers=2, heads=4, context=128),
    "tiny-t5": Shape(family="t5", width=32, layers=2, heads=4, context=256, around="end"),
}
"""For golden files: milliseconds an example, and contexts short enough that some prompts are cut."""

SMALL: Mapping[str, Shape] = {
    "small-gpt2": Shape(family="gpt2", width=128, layers=4, heads=4, context=512),
    "small-llama": Shape(family="llama", width=128, layers=4, heads=4, context=512, around="begin"),
    "small-t5": Shape(family="t5", width=128, layers=3, heads=4, context=512, around="end"),
}
"""For equality over whole tasks."""

SPEED: Mapping[str, Shape] = {"llama-30m": Shape(family="llama", width=512, layers=8, heads=8, context=1024)}
"""For speed: about 30 million parameters."""

SHAPES: Mapping[str, Shape] = {**TINY, **SMALL, **SPEED}


def make_checkpoint(folder: Path, *, shape: Shape, tokenizer: Path, seed: int = 0) -> Path:
    """A transformers folder with seeded weights and its tokenizer.

    Args:
        folder: where to; it may exist.
        shape: what is made.
        tokenizer: a `tokenizer.json` that has `<|endoftext|>` and `<|pad|>`.
        seed: of the weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = _save_tokenizer(tokenizer, folder, shape=shape)
    model = FAMILIES[shape.family](shape, vocabulary)
    seed_weights(model, seed=seed)
    model.save_pretrained(folder)
    return folder


def seed_weights(model: "PreTrainedModel", *, seed: int) -> None:
    """Fill every parameter by its name, so that the order in which a model lists them does not count."""
    import torch

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            draw = np.random.RandomState((zlib.crc32(name.encode()) + seed) & 0xFFFFFFFF)
            # Uniform with a standard deviation of 1, from -sqrt(3) to sqrt(3).
            numbers = (draw.random_sample(tuple(parameter.shape)) - 0.5) * 12**0.5
            parameter.copy_(torch.from_numpy(_middle(name) + _spread(model, name, parameter) * numbers))


def weights_hash(folder: Path) -> str:
    """First 16 hex digits of the sha256 over names, types, shapes and bytes of a checkpoint's tensors."""
    content = (folder / "model.safetensors").read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    digest = hashlib.sha256()
    for name in sorted(header.keys() - {"__metadata__"}):
        first, last = header[name]["data_offsets"]
        digest.update(f"{name} {header[name]['dtype']} {header[name]['shape']}".encode())
        digest.update(content[start + first : start + last])
    return digest.hexdigest()[:16]


def _middle(name: str) -> float:
    return 1.0 if _is_norm(name) and name.endswith("weight") else 0.0


def _is_norm(name: str) -> bool:
    return any(part in name for part in ("norm", "ln_", "layer_norm"))


def _spread(model: "PreTrainedModel", name: str, parameter: object) -> float:
    """Such that scores of tokens spread by about 2.5: neither all alike nor one far above the others."""
    shape = tuple(getattr(parameter, "shape", ()))
    if len(shape) < 2 or _is_norm(name):
        return 0.1
    if any(part in name for part in ("embed_tokens", "wte", "shared")):
        # T5 divides by the square root of its width before it projects back.
        return 2.5 if model.config.model_type == "t5" else 2.5 / shape[1] ** 0.5
    if "relative_attention_bias" in name or "wpe" in name:
        return 0.5
    if name.endswith(("SelfAttention.o.weight", "EncDecAttention.o.weight", "wo.weight")):
        return float(4.0 / shape[1] ** 0.5)  # T5's layers add to its large embeddings
    inputs = shape[0] if model.config.model_type == "gpt2" else shape[1]
    return float(1.0 / inputs**0.5)


def _llama(shape: Shape, vocabulary: int) -> "PreTrainedModel":
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=shape.width,
            intermediate_size=shape.width * 8 // 3 // 16 * 16,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=max(1, shape.heads // 2),
            max_position_embeddings=shape.context,
            tie_word_embeddings=True,
            bos_token_id=0,
            eos_token_id=0,
            pad_token_id=1,
        )
    )


def _gpt2(shape: Shape, vocabulary: int) -> "PreTrainedModel":
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=vocabulary,
            n_embd=shape.width,
            n_layer=shape.layers,
            n_head=shape.heads,
            n_positions=shape.context,
            bos_token_id=0,
            eos_token_id=0,
            pad_token_id=1,
        )
    )


def _t5(shape: Shape, vocabulary: int) -> "PreTrainedModel":
    from transformers import T5Config, T5ForConditionalGeneration

    return T5ForConditionalGeneration(
        T5Config(
            vocab_size=vocabulary,
            d_model=shape.width,
            d_kv=shape.width // shape.heads,
            d_ff=2 * shape.width,
            num_layers=shape.layers,
            num_heads=shape.heads,
            n_positions=shape.context,
            decoder_start_token_id=1,
            eos_token_id=0,
            pad_token_id=1,
        )
    )


FAMILIES: Mapping[str, Callable[[Shape, int], "PreTrainedModel"]] = {"llama": _llama, "gpt2": _gpt2, "t5": _t5}


def _save_tokenizer(file: Path, folder: Path, *, shape: Shape) -> int:
    """Write the tokenizer with the habits of the shape; its vocabulary, rounded up to a multiple of 8."""
    from tokenizers import Tokenizer
    from tokenizers.processors import TemplateProcessing

    raw = Tokenizer.from_file(str(file))
    end, pad = "<|endoftext|>", "<|pad|>"
    template = {"nothing": "$A", "begin": f"{end} $A", "end": f"$A {end}"}[shape.around]
    if shape.around != "nothing":
        raw.post_processor = TemplateProcessing(single=template, special_tokens=[(end, raw.token_to_id(end))])
    raw.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        **({} if shape.family == "t5" else {"bos_token": end}),
        "eos_token": end,
        "pad_token": pad,
        **({"chat_template": CHAT} if shape.chat else {}),
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return -(-raw.get_vocab_size(with_added_tokens=True) // 8) * 8
