"""The engine over torch and ONNX Runtime, held against `generate` of transformers (as installed) on random models."""

from collections.abc import Mapping
from functools import cache
from itertools import product
from pathlib import Path
from tempfile import mkdtemp

import pytest
import torch
from tiny import tiny_checkpoint
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, GenerationConfig

from lmtasks.data.tokenizer import load_tokenizer
from lmtasks.engine.engine import Engine
from lmtasks.engine.requests import GenerateRequest
from lmtasks.export.emit import export_model
from lmtasks.runtime.open import open_runtime
from lmtasks.settings.generation import Decoding

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
def engine(kind: str, architecture: str) -> Engine:
    folder = checkpoint(architecture)
    if kind == "onnx":
        folder = Path(mkdtemp())
        export_model(checkpoint(architecture), out=folder, precision="fp32", report=lambda progress: None)
    return Engine(open_runtime(folder, runtime=kind, threads=1), load_tokenizer(folder))


# Not marian with a penalty: transformers penalizes the decoder's start token as well.
@pytest.mark.parametrize("kind", ["torch", "onnx"])
@pytest.mark.parametrize(
    ("architecture", "name"),
    [*(("llama", name) for name in SETTINGS), *(("marian", name) for name in SETTINGS if name != "penalty")],
)
def test_texts_are_equal(kind: str, architecture: str, name: str) -> None:
    ours, theirs = SETTINGS[name]
    tokenizer = engine(kind, architecture).tokenizer
    asked = [GenerateRequest(prompt_ids=tuple(tokenizer.encode(text)), settings=ours) for text in PROMPTS]
    answers = engine(kind, architecture).generate(asked)
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


DRAWN = {
    "drawn": Decoding(max_new_tokens=20, temperature=0.8, top_k=40, top_p=0.95),
    "drawn with a penalty": Decoding(max_new_tokens=20, temperature=1.2, min_p=0.02, repetition_penalty=1.2),
    "stopped": Decoding(max_new_tokens=20, temperature=1.0, stop=("a", "t", " ")),
    "beams with stops": Decoding(max_new_tokens=12, num_beams=3, stop=("a", "t", " ")),
    "greedy": Decoding(max_new_tokens=20),
}


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@pytest.mark.parametrize("settings", DRAWN.values(), ids=DRAWN.keys())
def test_both_runtimes_write_the_same_whatever_the_batch(architecture: str, settings: Decoding) -> None:
    torchs, ours = engine("torch", architecture), engine("onnx", architecture)
    asked = [
        GenerateRequest(prompt_ids=tuple(torchs.tokenizer.encode(text)), settings=settings, seed=seed, number=number)
        for number, (text, seed) in enumerate(product(PROMPTS, (1, 2, 3, 4)))
    ]
    wanted = torchs.generate(asked)
    assert len({answer.ids for answer in wanted}) >= len(PROMPTS)
    assert ours.generate(asked) == wanted  # 20 requests: two callers
    for rows in (1, 7):
        assert Engine(ours.runtime, ours.tokenizer, rows_per_batch=rows).generate(asked) == wanted
    assert ours.generate(asked[::-1])[::-1] == wanted
    texts: dict[int, str] = {}
    streamed = ours.generate(
        asked, on_token=lambda event: texts.update({event.request: texts.get(event.request, "") + event.text})
    )
    assert streamed == wanted
    assert texts == {number: answer.text for number, answer in enumerate(wanted)}
