"""Tokens that a checkpoint forces or forbids: as `generate` of transformers (as installed), over both runtimes."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest
import torch
from tiny import tiny_checkpoint
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, GenerationConfig

from lmtasks.data.tokenizer import load_tokenizer
from lmtasks.engine.engine import Engine
from lmtasks.engine.requests import GenerateRequest
from lmtasks.errors import UsageError
from lmtasks.export.emit import export_model
from lmtasks.model.generation_settings import read_rules
from lmtasks.model.store import card_of
from lmtasks.records import TokenRules, card_from_json
from lmtasks.runtime.open import open_runtime
from lmtasks.settings.generation import Decoding

PROMPTS = ("the cat", "a good film and", "a")
NEW = 9
PLAIN = {"max_new_tokens": NEW, "do_sample": False, "eos_token_id": 0, "pad_token_id": 1}


@cache
def free_texts(architecture: str) -> tuple[tuple[int, ...], ...]:
    """What the model writes when nothing is forced: the settings below act on these tokens."""
    engine = made(architecture, {}, "torch")
    asked = [
        GenerateRequest(prompt_ids=tuple(engine.tokenizer.encode(text)), settings=Decoding(max_new_tokens=NEW))
        for text in PROMPTS
    ]
    return tuple(answer.ids for answer in engine.generate(asked))


def folder_with(architecture: str, settings: Mapping[str, object]) -> Path:
    folder = tiny_checkpoint(Path(mkdtemp()), architecture)
    start = {"decoder_start_token_id": 1} if architecture == "marian" else {}
    (folder / "generation_config.json").write_text(json.dumps({**PLAIN, **start, **settings}), encoding="utf-8")
    return folder


def made(architecture: str, settings: Mapping[str, object], kind: str) -> Engine:
    folder = folder_with(architecture, settings)
    if kind == "onnx":
        out = Path(mkdtemp())
        export_model(folder, out=out, precision="fp32", report=lambda progress: None)
        folder = out
    return Engine(open_runtime(folder, runtime=kind, threads=1), load_tokenizer(folder))


def settings_of(architecture: str) -> Mapping[str, Mapping[str, object]]:
    """Each acts on what is written without it."""
    one, two, *_ = free_texts(architecture)
    pair = [one[2], one[3]]
    return {
        "forced end": {"forced_eos_token_id": 0},
        "forced end, another token": {"forced_eos_token_id": 44},
        "forced start": {"forced_bos_token_id": 77},
        "banned words": {"bad_words_ids": [[two[0]], pair, [5, 6, 7]]},
        "suppressed": {"suppress_tokens": [one[0], two[1]]},
        "suppressed at the start": {"begin_suppress_tokens": [one[0], two[0]]},
        "all": {
            "forced_bos_token_id": 77,
            "forced_eos_token_id": 0,
            "bad_words_ids": [pair],
            "suppress_tokens": [one[1]],
            "begin_suppress_tokens": [one[0], two[0]],
        },
    }


NAMES = tuple(settings_of("marian"))


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("architecture", ["llama", "marian"])
@pytest.mark.parametrize("name", NAMES)
def test_texts_are_those_of_transformers(architecture: str, name: str, beams: int) -> None:
    settings = settings_of(architecture)[name]
    engine = made(architecture, settings, "torch")
    # A prompt of one token is one that a forced start follows, in transformers, also of a causal model.
    prompts = [tuple(engine.tokenizer.encode(text)) for text in PROMPTS] + [(9,)]
    asked = [GenerateRequest(prompt_ids=ids, settings=Decoding(max_new_tokens=NEW, num_beams=beams)) for ids in prompts]
    answers = engine.generate(asked)
    folder = folder_with(architecture, settings)
    loader = AutoModelForSeq2SeqLM if architecture == "marian" else AutoModelForCausalLM
    model = loader.from_pretrained(folder)
    config = GenerationConfig.from_pretrained(folder, num_beams=beams, early_stopping="never" if beams > 1 else False)
    for ids, answer in zip(prompts, answers, strict=True):
        given = torch.tensor([ids])
        out = model.generate(given, attention_mask=torch.ones_like(given), generation_config=config)  # type: ignore[misc]
        expected = out[0, 1 if architecture == "marian" else len(ids) :].tolist()
        assert list(answer.ids) == (expected[: expected.index(0)] if 0 in expected else expected)


def test_every_setting_changes_something() -> None:
    """Else the comparison above would prove nothing."""
    for architecture in ("llama", "marian"):
        free = list(free_texts(architecture))
        for name, settings in settings_of(architecture).items():
            if architecture == "llama" and name == "forced start":
                continue  # no prompt here has one token
            engine = made(architecture, settings, "torch")
            asked = [
                GenerateRequest(prompt_ids=tuple(engine.tokenizer.encode(text)), settings=Decoding(max_new_tokens=NEW))
                for text in PROMPTS
            ]
            assert [answer.ids for answer in engine.generate(asked)] != free, (architecture, name)


@pytest.mark.parametrize(
    "settings",
    [
        Decoding(max_new_tokens=NEW),
        Decoding(max_new_tokens=NEW, temperature=1.5),
        Decoding(max_new_tokens=NEW, num_beams=3),
        Decoding(max_new_tokens=NEW, repetition_penalty=1.3),
    ],
    ids=["greedy", "drawn", "beams", "penalty"],
)
def test_both_runtimes_keep_the_rules(settings: Decoding) -> None:
    rules = settings_of("marian")["all"]
    torchs, ours = made("marian", rules, "torch"), made("marian", rules, "onnx")
    assert ours.model.rules == torchs.model.rules
    asked = [
        GenerateRequest(prompt_ids=tuple(torchs.tokenizer.encode(text)), settings=settings, seed=seed)
        for text in PROMPTS
        for seed in (1, 2)
    ]
    wanted = torchs.generate(asked)
    assert ours.generate(asked) == wanted
    for answer in wanted:
        assert answer.ids[0] == 77
        assert not set(answer.ids) & set(torchs.model.rules.never)
        assert answer.ids[1] not in torchs.model.rules.never_first
        assert len(answer.ids) < NEW  # the last token is the end


def test_an_end_that_is_forced_is_told_as_the_length() -> None:
    engine = made("marian", {"forced_eos_token_id": 0}, "torch")
    for beams in (1, 3):
        (answer,) = engine.generate(
            [GenerateRequest(prompt_ids=(9, 10), settings=Decoding(max_new_tokens=4, num_beams=beams))]
        )
        assert answer.stopped == "length"
        assert len(answer.ids) == 3


def test_settings_of_config_json_count_where_nothing_else_says_them(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"forced_eos_token_id": 2, "bad_words_ids": [[3], [0]], "eos_token_id": 0}')
    assert read_rules(folder, vocabulary=10) == TokenRules(last=(2,), never=(3,))
    (folder / "generation_config.json").write_text('{"suppress_tokens": [4, 99], "bad_words_ids": [[1, 2], [5]]}')
    assert read_rules(folder, vocabulary=10) == TokenRules(never=(4, 5), never_behind=((1, 2),))
    (folder / "generation_config.json").write_text('{"suppress_tokens": ["a"]}')
    with pytest.raises(UsageError, match=r"suppress_tokens in .* must be a token id or a list of them, was \['a'\]"):
        read_rules(folder, vocabulary=10)
    shutil.rmtree(folder)


def test_rules_survive_json_and_older_files_have_none() -> None:
    card = replace(card_of(folder_with("llama", {})), rules=TokenRules(first=3, never=(1, 2), never_behind=((1, 2),)))
    content = json.loads(json.dumps(asdict(card)))
    assert card_from_json(content) == card
    del content["rules"]
    assert card_from_json(content).rules == TokenRules()
