"""generation_config.json obeyed: texts as `generate` of transformers (as installed) writes them, over both runtimes."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest
import torch
from tiny import tiny_checkpoint
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, GenerationConfig, PreTrainedModel

from lmtasks.checksums import sealed
from lmtasks.data.tokenizer import load_tokenizer
from lmtasks.engine.engine import Engine
from lmtasks.engine.requests import GenerateRequest
from lmtasks.export.emit import export_model
from lmtasks.model.store import card_of
from lmtasks.runtime.open import open_runtime
from lmtasks.settings.generation import Decoding

NEW = 12
PROMPTS = ("the cat", "a good film and a bad film, a good film", "今天天气", "the river runs past the old mill", "a")
ARCHITECTURES = ("qwen2", "bart", "marian")
SETTINGS: Mapping[str, Mapping[str, object]] = {
    "nothing": {},
    "repetition_penalty": {"repetition_penalty": 1.4},
    "repetition favoured": {"repetition_penalty": 0.8},
    "no_repeat_ngram_size": {"no_repeat_ngram_size": 2},
    "no token twice": {"no_repeat_ngram_size": 1},
    "min_length": {"min_length": 12},
    "min_new_tokens": {"min_new_tokens": 9, "min_length": 3},
    "beams": {"num_beams": 3},
    "beams, early": {"num_beams": 4, "early_stopping": True},
    "beams, never": {"num_beams": 3, "early_stopping": "never", "length_penalty": 2.0},
    "short beams": {"num_beams": 3, "length_penalty": 0.4},
    "shorter beams": {"num_beams": 3, "length_penalty": -1.0, "early_stopping": "never"},
    "beams without a penalty": {"num_beams": 3, "length_penalty": 0.0},
    "penalties of beams": {"num_beams": 3, "repetition_penalty": 1.3, "no_repeat_ngram_size": 2, "min_length": 6},
    "normalized": {"num_beams": 3, "repetition_penalty": 1.3, "renormalize_logits": True},
    "source": {"encoder_repetition_penalty": 1.5, "encoder_no_repeat_ngram_size": 2},
    "source, beams": {"encoder_repetition_penalty": 0.7, "encoder_no_repeat_ngram_size": 3, "num_beams": 3},
    "decay": {"exponential_decay_length_penalty": [3, 1.3]},
    "decay, beams": {"exponential_decay_length_penalty": [2, 1.2], "num_beams": 3},
    "bias": {"sequence_bias": [[[7], 2.5], [[7, 8], 9.0], [[11, 12, 13], -4.0]]},
    "as BART for CNN": {
        "num_beams": 4,
        "early_stopping": True,
        "length_penalty": 2.0,
        "min_length": 8,
        "no_repeat_ngram_size": 3,
        "forced_bos_token_id": 2,
        "forced_eos_token_id": 0,
    },
    "as Marian": {"num_beams": 6, "bad_words_ids": [[1]], "forced_eos_token_id": 0, "renormalize_logits": True},
    "as Qwen-Instruct": {"do_sample": True, "repetition_penalty": 1.05, "temperature": 0.7, "top_p": 0.8, "top_k": 20},
    "all": {
        "sequence_bias": [[[7], 1.5]],
        "encoder_repetition_penalty": 1.2,
        "repetition_penalty": 1.2,
        "no_repeat_ngram_size": 3,
        "encoder_no_repeat_ngram_size": 4,
        "bad_words_ids": [[9], [7, 8]],
        "min_new_tokens": 5,
        "forced_eos_token_id": 0,
        "exponential_decay_length_penalty": [6, 1.1],
        "suppress_tokens": [12, 30],
        "begin_suppress_tokens": [20],
        "num_beams": 3,
    },
}
BOTH = ("penalties of beams", "as BART for CNN", "as Marian", "as Qwen-Instruct", "all")
"""Written by an exported package as well; what changes scores stands above any runtime."""


@cache
def checkpoint(architecture: str) -> Path:
    return tiny_checkpoint(Path(mkdtemp()), architecture)


@cache
def package(architecture: str) -> Path:
    folder = Path(mkdtemp())
    configured(architecture, {})
    export_model(checkpoint(architecture), out=folder, precision="fp32", report=lambda progress: None)
    return folder


@cache
def theirs(architecture: str) -> PreTrainedModel:
    loader = AutoModelForCausalLM if architecture == "qwen2" else AutoModelForSeq2SeqLM
    model: PreTrainedModel = loader.from_pretrained(checkpoint(architecture))
    return model


@cache
def ends(architecture: str) -> list[int]:
    """Several, of which the model writes some: a random one would hardly come to an end."""
    texts = written(architecture, {"eos_token_id": 0})
    late = [text[place] for text in texts for place in range(4, 9) if text[place] not in text[:place]]
    return [0, *late[:2]]


def configured(architecture: str, settings: Mapping[str, object]) -> Path:
    """The checkpoint's folder, with these settings."""
    folder = checkpoint(architecture)
    start = {} if architecture == "qwen2" else {"decoder_start_token_id": 1}
    own = {
        "eos_token_id": 0 if "eos_token_id" in settings else ends(architecture),
        "pad_token_id": 1,
        "bos_token_id": 2,
        **start,
        **settings,
    }
    (folder / "generation_config.json").write_text(json.dumps(own), encoding="utf-8")
    return folder


def engine(architecture: str, settings: Mapping[str, object], runtime: str) -> Engine:
    folder = configured(architecture, settings)
    if runtime == "onnx":
        card, folder = card_of(folder), package(architecture)
        configured(architecture, settings)
        manifest = json.loads((folder / "package.json").read_text(encoding="utf-8"))
        manifest["model"] = asdict(card)
        (folder / "package.json").write_text(json.dumps(sealed(manifest)), encoding="utf-8")
    return Engine(open_runtime(folder, runtime=runtime, threads=1), load_tokenizer(folder))


def prompts(architecture: str) -> list[tuple[int, ...]]:
    tokenizer = load_tokenizer(checkpoint(architecture))
    return [tuple(tokenizer.encode(text)) for text in PROMPTS] + [(9,)]


@cache
def expected(architecture: str, name: str) -> list[list[int]]:
    """What transformers writes before an end."""
    found = []
    for text in written(architecture, SETTINGS[name]):
        places = [place for place, token in enumerate(text) if token in ends(architecture)]
        found.append(text[: places[0]] if places else text)
    return found


def written(architecture: str, settings: Mapping[str, object]) -> list[list[int]]:
    """What transformers writes, whatever the file says of drawing."""
    folder, model = configured(architecture, settings), theirs(architecture)
    model.generation_config = GenerationConfig.from_pretrained(folder)
    found = []
    for ids in prompts(architecture):
        given = torch.tensor([ids])
        with torch.inference_mode():
            out = model.generate(  # type: ignore[operator]
                given, attention_mask=torch.ones_like(given), max_new_tokens=NEW, do_sample=False
            )
        found.append(out[0, 1 if architecture != "qwen2" else len(ids) :].tolist())
    return found


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", SETTINGS)
def test_texts_are_those_of_transformers(architecture: str, name: str) -> None:
    settings = SETTINGS[name]
    wanted = expected(architecture, name)
    asked = [GenerateRequest(prompt_ids=ids, settings=Decoding(max_new_tokens=NEW)) for ids in prompts(architecture)]
    for runtime in ("torch", "onnx") if name in BOTH else ("torch",):
        ours = engine(architecture, settings, runtime)
        assert [list(answer.ids) for answer in ours.generate(asked)] == wanted, runtime
        ours.runtime.close()


def test_every_setting_changes_something() -> None:
    """Else the comparison above would prove nothing."""
    for name, settings in SETTINGS.items():
        without = "beams" if settings.get("num_beams") == 3 and name != "beams" else "nothing"
        changed = [expected(each, name) != expected(each, without) for each in ARCHITECTURES]
        assert name == "nothing" or any(changed), name
