"""What a model may share is measured; whoever cannot share gets plain rows, and says the same."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from packed import padded, random_rows, score_all
from tiny import tiny_tokenizer
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

from lmtasks.data.tokenizer import load_tokenizer
from lmtasks.engine.engine import Engine
from lmtasks.engine.requests import GenerateRequest, ScoreRequest
from lmtasks.export.emit import export_model
from lmtasks.export.package import is_package
from lmtasks.records import TokenBatch
from lmtasks.runtime.align import every_next
from lmtasks.runtime.base import Runtime
from lmtasks.runtime.open import open_runtime
from lmtasks.settings.generation import Decoding

SMALL = {
    "vocab_size": 300,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 1,
}
WIDE = {**SMALL, "intermediate_size": 48, "max_position_embeddings": 64}
GROUPED = {**WIDE, "num_key_value_heads": 2}
MODELS: Mapping[str, Callable[[], PreTrainedModel]] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**GROUPED)),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=0, eos_token_id=0)
    ),
    "gpt-neox": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**WIDE)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**GROUPED, sliding_window=16)),
    "gemma2": lambda: Gemma2ForCausalLM(Gemma2Config(**GROUPED, head_dim=8, sliding_window=32)),
    "bloom": lambda: BloomForCausalLM(BloomConfig(vocab_size=300, hidden_size=32, n_layer=2, n_head=4)),
    "mamba": lambda: MambaForCausalLM(MambaConfig(vocab_size=300, hidden_size=32, num_hidden_layers=2)),
    "t5": lambda: T5ForConditionalGeneration(
        T5Config(vocab_size=300, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, decoder_start_token_id=1)
    ),
}
LONGEST_SHARED = {"llama": 64, "gpt2": 64, "gpt-neox": 64, "mistral": 16, "gemma2": 32, "bloom": 0, "mamba": 0, "t5": 0}
"""Positions that are no function of the row's own tokens, recurrent states and relative biases cannot branch."""
KEEP_SLOTS = {"llama": True, "gpt2": True, "gpt-neox": True, "mistral": False, "gemma2": False, "mamba": False}


EMITTED = ("llama", "gpt2", "mistral")
"""Models whose graphs are driven by ONNX Runtime in the same ways."""


@pytest.fixture(scope="module", params=[*MODELS, *(f"{name}, onnx" for name in EMITTED)])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, or a package of one."""
    name = str(request.param).removesuffix(", onnx")
    torch.manual_seed(0)
    model = MODELS[name]()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, 0.2)
    place = tmp_path_factory.mktemp("sharing") / name
    model.save_pretrained(place)
    tiny_tokenizer().save(place)
    if name == request.param:
        return place
    package = place.with_name(f"{name}-package")
    package.mkdir()
    export_model(place, out=package, precision="fp32", report=lambda progress: None)
    return package


def opened(folder: Path) -> Runtime:
    return open_runtime(folder, runtime="onnx" if is_package(folder) else "torch", threads=1)


def test_what_may_be_shared_is_measured(folder: Path) -> None:
    ours = opened(folder)
    if is_package(folder):  # positions and masks are inputs of its graphs
        assert (ours.sharing.longest_row, ours.sharing.prefix) == (64, True)
        assert ours.slots(rows=2, length=8) is not None
        return
    assert ours.sharing.longest_row == LONGEST_SHARED[folder.name]
    assert ours.sharing.prefix == (folder.name in {"llama", "gpt2", "gpt-neox"})
    if folder.name in KEEP_SLOTS:
        assert (ours.slots(rows=2, length=8) is not None) is KEEP_SLOTS[folder.name]


def requests_of(kind: str) -> list[ScoreRequest]:
    """Choices behind contexts, one-token choices, a long prefix before many rows, rows of the full length."""
    shots, *contexts = random_rows(40, *[6] * 12, seed=1)
    requests = [
        ScoreRequest(context_ids=(*shots, *context), target_ids=tuple(choice))
        for number, context in enumerate(contexts)
        for choice in random_rows(3, 4, 2, 1, 1, seed=10 + number)
    ]
    for number, context in enumerate(contexts):
        requests.append(ScoreRequest(context_ids=tuple(context[: 2 + number % 3]), target_ids=(9,)))
    if kind == "causal":
        requests.append(ScoreRequest(context_ids=tuple(random_rows(65)[0]), target_ids=(9, 10, 11)))
    return requests


def test_shared_and_plain_rows_are_scored_alike(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import lmtasks.engine.shared_rows

    monkeypatch.setattr(lmtasks.engine.shared_rows, "LEAST_PREFIX", 8)
    monkeypatch.setattr(lmtasks.engine.shared_rows, "LEAST_BEHIND", 64)
    ours = opened(folder)
    requests = requests_of(ours.model.kind)
    longest = ours.model.max_length_tokens
    found = {rows: Engine(ours, load_tokenizer(folder), rows_per_batch=rows).score(requests) for rows in (1, 3, None)}
    for number, request in enumerate(requests):
        if ours.model.kind == "encoder-decoder":
            assert ours.model.decoder_start is not None
            row = (ours.model.decoder_start, *request.target_ids)
            alone = score_all(ours, padded([list(row)]), padded([list(request.context_ids)]))
        else:
            row = (*request.context_ids, *request.target_ids)[-longest - 1 :]
            alone = score_all(ours, padded([list(row)]))
        wanted = alone.logprobs[0, -len(request.target_ids) :]
        for answers in found.values():
            np.testing.assert_allclose(answers[number].token_logprobs, wanted, atol=1e-4)
            assert answers[number].greedy == alone.greedy[0, -len(request.target_ids) :].all()


def test_rows_come_and_go_and_say_what_they_say_alone(folder: Path) -> None:
    ours = opened(folder)
    if folder.name == "mamba":
        pytest.skip("keeps no keys and values to decode with")
    asked = [
        GenerateRequest(prompt_ids=tuple(row), settings=Decoding(max_new_tokens=2 + 3 * (number % 4)))
        for number, row in enumerate(random_rows(9, 2, 17, 5, 11, 3, 8, 14, 1, 6))
    ]
    tokenizer = load_tokenizer(folder)
    alone = [Engine(ours, tokenizer, rows_per_batch=1, ends=frozenset()).generate([each])[0] for each in asked]
    for rows in (2, 4, None):
        assert Engine(ours, tokenizer, rows_per_batch=rows, ends=frozenset()).generate(asked) == alone
    assert Engine(ours, tokenizer, rows_per_batch=3, ends=frozenset()).generate(asked[::-1])[::-1] == alone
    # A path that shares nothing with slots: whole rows, scored.
    if ours.model.kind == "causal":
        pairs = zip(asked, alone, strict=True)
        whole = [ScoreRequest(context_ids=each.prompt_ids, target_ids=answer.ids) for each, answer in pairs]
        scored = Engine(ours, tokenizer).score(whole)
        assert all(each.greedy for each in scored)


def test_branches_see_their_trunk_and_themselves() -> None:
    """A mask that leaked would show: the same branch is scored beside different ones."""
    from packed import runtime

    ours = runtime("torch", "llama")
    trunk, one, two, three = random_rows(7, 4, 4, 6, seed=3)
    alone = score_all(ours, padded([trunk + one])).logprobs[0, 6:]
    for other in (two, three):
        ids = np.array([[*trunk, *other, *one]])
        end = 7 + len(other)
        subtree_end = np.array([[ids.shape[1]] * 7 + [end] * len(other) + [ids.shape[1]] * 4])
        batch = TokenBatch(ids=ids, mask=np.ones_like(ids, dtype=np.bool_))
        _, wanted = every_next(padded([trunk + one]))
        columns = [6, end, end + 1, end + 2]
        asked = type(wanted)(rows=np.zeros(4, dtype=np.int64), columns=np.array(columns), tokens=np.array(one))
        np.testing.assert_allclose(ours.score(batch, asked, subtree_end=subtree_end).logprobs, alone, atol=1e-5)
