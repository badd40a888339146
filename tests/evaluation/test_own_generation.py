"""What a model's generation_config.json says of how texts are written, below a task's own settings and a person's.

Golden texts: lm-evaluation-harness 0.4.13 (transformers 5.23.0, torch 2.13.0+cpu), `HFLM(pretrained=FOLDER,
batch_size=1, dtype="float32").generate_until` of instances (prompt, generation_kwargs) over lmtasks-mini, whose
generation_config.json had these settings besides its own.
"""

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from small_tasks import scored, small_task

from lmtasks.data.continuation import encode_texts
from lmtasks.data.tokenizer import load_tokenizer
from lmtasks.engine.engine import Engine
from lmtasks.engine.requests import GenerateRequest
from lmtasks.evaluation.engine_solver import EngineSolver
from lmtasks.evaluation.protocols import decoding_for, decoding_record
from lmtasks.installation import shipped_backbones
from lmtasks.runtime.open import open_runtime
from lmtasks.task.generation import generation_of, with_generation

PROMPTS = ("The theatre's budget has been cut, so", "Question: What is a river?\nAnswer:", "今天天气很好，")
LENGTH = {"max_gen_toks": 12}
GREEDY = (
    " it is a very important to the government.\nThe F",
    " What is the river?\nThe river is the river?",
    "我每天都都都都都都都都都都",
)
BEAMS = {"num_beams": 3, "length_penalty": 2.0, "early_stopping": True}
GOLDEN: Mapping[str, tuple[Mapping[str, object], Mapping[str, object], Sequence[str]]] = {
    "nothing": ({}, {}, GREEDY),
    "repetition_penalty": (
        {"repetition_penalty": 1.3},
        {},
        (
            " it is a very important to the government.\nIn ",
            " The river, and the lake.\nThe river was in",
            "我每天都要去。\n我们不能在车上",
        ),
    ),
    "the task's on top": ({"repetition_penalty": 1.3}, {"repetition_penalty": 1.0}, GREEDY),
    "no_repeat_ngram_size": (
        {"no_repeat_ngram_size": 2, "min_new_tokens": 6},
        {},
        (
            " it is a very important to the government.\nThe F",
            " The river is the river, and the lake is located in",
            "我每天都都去去。\n我去过。",
        ),
    ),
    # Without a stop string: of several beams lm-evaluation-harness ends all as soon as the first one has it.
    "beams": (
        BEAMS,
        {"until": [""]},
        (" it has been made.\nIn 1996", " What is the river?\nThe river?\nThe river", "我每天都都都都都都都都都都"),
    ),
    "other beams": (
        {"num_beams": 4, "length_penalty": 0.5, "repetition_penalty": 1.2},
        {"until": [""]},
        (" it has been made.\nIn 1996", " What is the name of the river?\nWhat is the", "我每天都都都都都都都都都都"),
    ),
    "no beams for the task": (BEAMS, {"num_beams": 1}, GREEDY),
    "both": (
        {"num_beams": 3, "no_repeat_ngram_size": 3},
        {"early_stopping": "never"},
        (
            " it has been made.\nIn 1996",
            " What does the river? What is the name of the river",
            "我每天都每天都睡觉了。\n我每天",
        ),
    ),
    "shorter": ({"max_new_tokens": 5}, {}, (" it is a very important", " What is the river?", "我每天都都都")),
    "longer": (
        {"max_new_tokens": 20},
        {},
        (
            " it is a very important to the government.\nThe Facebook is a very important to the",
            " What is the river?\nThe river is the river?\nThe river is the river.\n",
            "我每天都都都都都都都都都都都都都都都都都都",
        ),
    ),
    "drawn by itself, greedy for the task": (
        {"max_length": 16, "do_sample": True, "temperature": 0.7, "top_k": 20, "repetition_penalty": 1.05},
        {},
        GREEDY,
    ),
    "encoder_no_repeat_ngram_size": (
        {"encoder_no_repeat_ngram_size": 2},
        {},
        (
            " it is a very important to the government.\nThe F",
            " The river is the river, and the river is the river",
            "我每天都都都都都都都都都都",
        ),
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("own") / "mini"
    shutil.copytree(shipped_backbones() / "lmtasks-mini", made)
    (made / "checksums.json").unlink()  # another model is wanted
    return made


def opened(folder: Path, own: Mapping[str, object]) -> Engine:
    file = folder / "generation_config.json"
    mini = json.loads((shipped_backbones() / "lmtasks-mini" / file.name).read_text(encoding="utf-8"))
    file.write_text(json.dumps({**mini, **own}), encoding="utf-8")
    return Engine(open_runtime(folder, runtime="torch", threads=1), load_tokenizer(folder))


@pytest.mark.parametrize("name", GOLDEN)
def test_texts_are_those_of_lm_evaluation_harness(folder: Path, name: str) -> None:
    own, kwargs, texts = GOLDEN[name]
    engine = opened(folder, own)
    settings = decoding_for(engine.model, generation_of({**LENGTH, **kwargs}, delimiter="\n\n"))
    encoded = encode_texts(PROMPTS, tokenizer=engine.tokenizer)
    answers = engine.generate([GenerateRequest(prompt_ids=tuple(ids), settings=settings) for ids in encoded])
    assert tuple(answer.text for answer in answers) == tuple(texts)


def test_what_a_person_says_counts_before_both(folder: Path, tmp_path: Path) -> None:
    engine = opened(folder, {"max_new_tokens": 6, "num_beams": 3, "repetition_penalty": 1.3})
    task = small_task(tmp_path, "summarization")
    assert decoding_record(engine.model, task.generation)["max_new_tokens"] == 6
    (said,) = with_generation([task], {"max_new_tokens": 7, "num_beams": 1})
    told = decoding_record(engine.model, said.generation)
    assert (told["max_new_tokens"], told["num_beams"], told["repetition_penalty"]) == (7, 1, 1.3)
    (other,) = with_generation([task], {"num_beams": 2})
    assert decoding_record(engine.model, other.generation)["max_new_tokens"] == 6


def test_what_is_not_obeyed_is_said_once_and_stored(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = {"guidance_scale": 1.5, "do_sample": True, "temperature": 0.7, "max_new_tokens": 6, "use_cache": False}
    solver = EngineSolver(opened(folder, own))
    task = small_task(tmp_path, "summarization")
    with caplog.at_level(logging.WARNING, logger="lmtasks"):
        result = scored(solver, task)
        scored(solver, task)
    first, second = (record.getMessage() for record in caplog.records)
    assert first == (
        "mini: generation_config.json sets what is not obeyed here, so texts may differ from those of transformers' "
        "generate: guidance_scale=1.5, do_sample=true, temperature=0.7."
    )
    assert second.startswith("mini: answers to summarization have at most 6 tokens, as its generation_config.json says")
    decoding = result.conditions["decoding"]
    assert isinstance(decoding, dict)
    assert decoding["not_obeyed"] == {"guidance_scale": "1.5", "do_sample": "true", "temperature": "0.7"}
    assert decoding["max_new_tokens"] == 6


def test_beams_of_a_model_are_not_drawn_from_and_that_is_said(folder: Path) -> None:
    model = opened(folder, {"num_beams": 3, "do_sample": True, "temperature": 0.7, "top_p": 0.9}).model
    drawn = decoding_record(model, generation_of({"do_sample": True}, delimiter=""))
    assert (drawn["temperature"], drawn["top_p"], drawn["top_k"], drawn["num_beams"]) == (0.7, 0.9, 50, 1)
    assert drawn["not_obeyed"] == {"num_beams": "3"}
    stated = decoding_record(model, generation_of({"temperature": 1.5, "top_k": 0, "top_p": 1}, delimiter=""))
    assert (stated["temperature"], stated["top_p"], stated["top_k"]) == (1.5, 1.0, 0)


def test_an_own_length_leaves_prompts_as_long_as_the_task_does(folder: Path) -> None:
    engine = opened(folder, {"max_new_tokens": 5000})
    settings = decoding_for(engine.model, generation_of(LENGTH, delimiter=""))
    longest = engine.max_length_tokens
    (answer,) = engine.generate([GenerateRequest(prompt_ids=(5,) * (longest - 3), settings=replace(settings, stop=()))])
    assert answer.truncated
    assert len(answer.ids) <= 12  # lm-evaluation-harness would go on behind what the model reads
