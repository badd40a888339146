"""What makes two requests have one key, and what must not."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, replace

import pytest
from small_tasks import tokenizer

from lmtasks.data.tokenizer import train_byte_bpe
from lmtasks.engine.requests import GenerateRequest, ScoreRequest
from lmtasks.errors import UsageError
from lmtasks.evaluation import cache
from lmtasks.evaluation.cache import Keys, scope_of
from lmtasks.head.base import EncodedRow
from lmtasks.records import GenerationSettings, HeadSpec, ModelCard, RuntimeCard
from lmtasks.settings.generation import Decoding

MODEL = ModelCard(
    name="mini",
    family="llama",
    kind="causal",
    adaptation="prompt",
    parameters=10,
    weights_hash="a" * 16,
    tokenizer_hash="b" * 16,
    max_length_tokens=64,
    vocabulary=300,
    heads=(HeadSpec(name="mood", kind="classification", labels=("bad", "good")),),
    ends=(0,),
)
RUNTIME = RuntimeCard(
    runtime="onnx",
    version="1.30",
    device="cpu",
    precision="fp32",
    threads=2,
    size_bytes=1,
    options={"emitter": "lmtasks 1"},
)

OTHER_SCOPES: Mapping[str, Callable[[], bytes]] = {
    "weights": lambda: _scope(model=replace(MODEL, weights_hash="c" * 16)),
    "longest input": lambda: _scope(model=replace(MODEL, max_length_tokens=32)),
    "end tokens": lambda: _scope(model=replace(MODEL, ends=(0, 2))),
    "what generation_config.json sets": lambda: _scope(
        model=replace(MODEL, generation=GenerationSettings(repetition_penalty=1.1))
    ),
    "decoder start": lambda: _scope(model=replace(MODEL, decoder_start=1)),
    "runtime": lambda: _scope(runtime=replace(RUNTIME, runtime="torch")),
    "runtime's version": lambda: _scope(runtime=replace(RUNTIME, version="1.31")),
    "device": lambda: _scope(runtime=replace(RUNTIME, device="cuda")),
    "precision": lambda: _scope(runtime=replace(RUNTIME, precision="int8")),
    "emitter": lambda: _scope(runtime=replace(RUNTIME, options={"emitter": "lmtasks 2"})),
    "artefact": lambda: _scope(artefact="other"),
    "tokenizer": lambda: scope_of(
        model=MODEL, runtime=RUNTIME, tokenizer=train_byte_bpe(["other"], vocabulary=270), artefact=""
    ),
}
SCORES: Mapping[str, ScoreRequest] = {
    "another context": ScoreRequest(context_ids=(1, 2, 9), target_ids=(4,)),
    "another target": ScoreRequest(context_ids=(1, 2, 3), target_ids=(5,)),
    "another border": ScoreRequest(context_ids=(1, 2), target_ids=(3, 4)),
    "longer": ScoreRequest(context_ids=(0, 1, 2, 3), target_ids=(4,)),
}
CHANGED: Mapping[str, object] = {
    "max_new_tokens": 9,
    "stop": ("x", "y"),
    "temperature": 0.5,
    "top_k": 3,
    "top_p": 0.5,
    "min_p": 0.1,
    "num_beams": 2,
    "length_penalty": 2.0,
    "repetition_penalty": 1.5,
    "room_tokens": 3,
    "top_h": 0.5,
    "typical_p": 0.5,
    "epsilon_cutoff": 0.1,
    "eta_cutoff": 0.1,
    "early_stopping": "never",
    "renormalize_logits": True,
    "encoder_repetition_penalty": 1.5,
    "no_repeat_ngram_size": 2,
    "encoder_no_repeat_ngram_size": 2,
    "min_length": 3,
    "min_new_tokens": 3,
    "exponential_decay_length_penalty": (3, 1.5),
    "sequence_bias": (((1, 2), 0.5),),
}


def _scope(*, model: ModelCard = MODEL, runtime: RuntimeCard = RUNTIME, artefact: str = "") -> bytes:
    return scope_of(model=model, runtime=runtime, tokenizer=tokenizer(), artefact=artefact)


def _keys() -> Keys:
    return Keys(_scope(), model=MODEL)


@pytest.mark.parametrize("name", OTHER_SCOPES)
def test_whatever_an_answer_depends_on_makes_another_key(name: str) -> None:
    request = ScoreRequest(context_ids=(1, 2, 3), target_ids=(4,))
    assert OTHER_SCOPES[name]() != _scope()
    assert Keys(OTHER_SCOPES[name](), model=MODEL).of_score(request) != _keys().of_score(request)


def test_versions_of_the_code_make_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before, torch = _scope(), _scope(runtime=replace(RUNTIME, runtime="torch"))
    monkeypatch.setattr(cache, "_version", lambda name: "next")
    assert _scope() == before
    assert _scope(runtime=replace(RUNTIME, runtime="torch")) != torch  # transformers holds the model's code
    monkeypatch.setattr("lmtasks.evaluation.cache.__version__", "next")
    assert _scope() != before


def test_what_changes_no_answer_keeps_the_key() -> None:
    assert _scope(model=replace(MODEL, name="other", parameters=0)) == _scope()
    assert _scope(runtime=replace(RUNTIME, threads=8, callers=4, size_bytes=0)) == _scope()
    assert _scope(model=replace(MODEL, heads=())) == _scope()  # another head is in the key of its own requests


def test_answers_that_depend_on_neighbours_have_no_key() -> None:
    with pytest.raises(UsageError, match="int8-tensor depend on their neighbours"):
        _scope(runtime=replace(RUNTIME, precision="int8-tensor"))


@pytest.mark.parametrize("name", SCORES)
def test_other_tokens_are_another_request(name: str) -> None:
    assert _keys().of_score(SCORES[name]) != _keys().of_score(ScoreRequest(context_ids=(1, 2, 3), target_ids=(4,)))


def test_equal_requests_have_equal_keys() -> None:
    first, second = _keys(), _keys()
    assert first.of_score(SCORES["longer"]) == second.of_score(SCORES["longer"])
    assert len(first.of_score(SCORES["longer"])) == 16


def test_every_setting_of_decoding_counts() -> None:
    assert set(CHANGED) == set(Decoding().stored()) == {field.name for field in fields(Decoding)} - {"seed", "insists"}
    plain = GenerateRequest(prompt_ids=(1, 2), settings=Decoding())
    keys = {_keys().of_prompt(plain, number=0)}
    for name, value in CHANGED.items():
        settings = Decoding(**{**asdict(Decoding()), name: value})  # type: ignore[arg-type]
        keys.add(_keys().of_prompt(replace(plain, settings=settings), number=0))
    assert len(keys) == 1 + len(CHANGED)
    told = Decoding(seed=5, insists=True)  # the seed of a request counts, and its length is settled before
    assert _keys().of_prompt(replace(plain, settings=told), number=0) in keys


def test_seed_and_number_count_where_something_is_drawn() -> None:
    greedy = GenerateRequest(prompt_ids=(1, 2), settings=Decoding())
    drawn = replace(greedy, settings=Decoding(temperature=1.0))
    key = _keys().of_prompt
    assert key(greedy, number=0) == key(replace(greedy, seed=5), number=1)
    assert len({key(drawn, number=0), key(drawn, number=1), key(replace(drawn, seed=5), number=0)}) == 3
    assert len({key(replace(drawn, seed=1 << 80), number=0), key(replace(drawn, seed=11), number=2)}) == 2


def test_a_head_is_its_description_not_its_name() -> None:
    row = EncodedRow(ids=(1, 2), types=(0, 0), truncated=False)
    key = _keys().of_row("mood", row)
    renamed = replace(MODEL, heads=(replace(MODEL.heads[0], pooling="last"),))
    assert Keys(_scope(), model=renamed).of_row("mood", row) != key
    assert _keys().of_row("mood", replace(row, types=(0, 1))) != key
    assert _keys().of_score(ScoreRequest(context_ids=(1,), target_ids=(2,))) != key


def test_no_field_of_a_request_is_left_out() -> None:
    """A field that is added to a request must go into its key: this fails until somebody has seen to it."""
    assert {field.name for field in fields(ScoreRequest)} == {"context_ids", "target_ids"}
    told_meanwhile = {"top"}  # of tokens as they are written; no answer holds it
    assert {field.name for field in fields(GenerateRequest)} - told_meanwhile == {
        "prompt_ids", "settings", "seed", "number"
    }  # fmt: skip
    assert {field.name for field in fields(RuntimeCard)} == {
        "runtime",
        "version",
        "device",
        "precision",
        "threads",
        "callers",
        "size_bytes",
        "options",
    }
