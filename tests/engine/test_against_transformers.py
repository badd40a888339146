"""The engine over torch, held against `generate` of transformers (the installed version) on random checkpoints."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest
import torch
from tiny import tiny_checkpoint
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, GenerationConfig

from lmtasks.data.tokenizer import load_tokenizer
from lmtasks.engine.engine import Engine
from lmtasks.engine.requests import Decoding, GenerateRequest
from lmtasks.model.store import load_model
from lmtasks.runtime.torch_runtime import TorchRuntime, TorchState

PROMPTS = ("the cat", "a good film and", "今天天气", "the river runs past the old mill", "a")
NEW = 12

SETTINGS: Mapping[str, tuple[Decoding, dict[str, object]]] = {
    "greedy": (Decoding(max_new_tokens=NEW), {}),
    "penalty": (Decoding(max_new_tokens=NEW, repetition_penalty=1.3), {"repetition_penalty": 1.3}),
    "beams": (Decoding(max_new_tokens=NEW, num_beams=4), {"num_beams": 4, "early_stopping": "never"}),
    "short beams": (
        Decoding(max_new_tokens=NEW, num_beams=3, length_penalty=0.3),
        {"num_beams": 3, "length_penalty": 0.3, "early_stopping": "never"},
    ),
}


@cache
def checkpoint(architecture: str) -> Path:
    return tiny_checkpoint(Path(mkdtemp()), architecture)


@cache
def engine(architecture: str) -> Engine[TorchState]:
    folder = checkpoint(architecture)
    return Engine(TorchRuntime(load_model(folder), threads=1), load_tokenizer(folder))


# Not marian with a penalty: transformers penalizes the decoder's start token as well.
@pytest.mark.parametrize(
    ("architecture", "name"),
    [*(("llama", name) for name in SETTINGS), *(("marian", name) for name in SETTINGS if name != "penalty")],
)
def test_texts_are_equal(architecture: str, name: str) -> None:
    ours, theirs = SETTINGS[name]
    tokenizer = engine(architecture).tokenizer
    asked = [GenerateRequest(prompt_ids=tuple(tokenizer.encode(text)), settings=ours) for text in PROMPTS]
    answers = engine(architecture).generate(asked)
    loader = AutoModelForSeq2SeqLM if architecture == "marian" else AutoModelForCausalLM
    model = loader.from_pretrained(checkpoint(architecture))
    plain = {"max_new_tokens": NEW, "do_sample": False, "eos_token_id": 0, "pad_token_id": 1}
    config = GenerationConfig.from_dict({**plain, "decoder_start_token_id": 1, **theirs})
    for request, answer in zip(asked, answers, strict=True):
        ids = torch.tensor([request.prompt_ids])
        mask = torch.ones_like(ids)
        out = model.generate(ids, attention_mask=mask, generation_config=config)  # type: ignore[misc]
        read = 1 if architecture == "marian" else len(request.prompt_ids)
        expected = out[0, read:].tolist()
        assert list(answer.ids) == (expected[: expected.index(0)] if 0 in expected else expected)
