"""What torch alone offers: bf16, torch.compile, and models that make their logits themselves."""

import functools
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import numpy as np
import pytest
import torch
from packed import model_folder, padded, random_rows, runtime, score_all
from tiny import tiny_checkpoint, tiny_tokenizer
from transformers import AutoModelForCausalLM

from lmtasks.engine.engine import Engine
from lmtasks.errors import UsageError
from lmtasks.model.store import load_model
from lmtasks.records import Floats32, HeadSpec
from lmtasks.runtime import kept_states
from lmtasks.runtime.base import Runtime
from lmtasks.runtime.kept_states import states_kept
from lmtasks.runtime.open import open_runtime
from lmtasks.runtime.torch.transformer import TorchRuntime

ROWS = random_rows(9, 2, 17, 5)


def test_bf16_answers_almost_as_fp32() -> None:
    half = TorchRuntime(load_model(model_folder("llama")), precision="bf16", threads=1)
    exact = runtime("torch", "llama")
    assert half.card.precision == "bf16"
    halved, wanted = score_all(half, padded(ROWS)), score_all(exact, padded(ROWS))
    np.testing.assert_allclose(halved.logprobs, wanted.logprobs, atol=0.3)
    np.testing.assert_allclose(half.predict("mood", padded(ROWS)), exact.predict("mood", padded(ROWS)), atol=0.3)
    _, logits = half.prefill(padded(ROWS))
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, exact.prefill(padded(ROWS))[1], atol=0.5)


def test_compiled_answers_are_those_of_plain_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    # What is traced is tested; turning it into machine code takes a minute, and is torch's own work.
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    compiled = open_runtime(model_folder("llama"), runtime="torch-compile", threads=1)
    plain = runtime("torch", "llama")
    assert compiled.card.runtime == "torch-compile"
    batch = padded(ROWS)
    np.testing.assert_allclose(compiled.predict("find", batch), plain.predict("find", batch), atol=1e-5)
    np.testing.assert_allclose(score_all(compiled, batch).logprobs, score_all(plain, batch).logprobs, atol=1e-5)
    (one, first), (two, second) = compiled.prefill(batch), plain.prefill(batch)
    for _ in range(3):
        np.testing.assert_allclose(first, second, atol=1e-5)
        chosen = second.argmax(axis=1)
        (one, first), (two, second) = compiled.step(one, chosen), plain.step(two, chosen)


def test_a_model_that_caps_its_logits_is_scored_by_its_own_logits(tmp_path: Path) -> None:
    """Gemma 2 bends its logits behind the projection: hidden states times the projection would be wrong."""
    tiny_checkpoint(tmp_path, "gemma2")
    model = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    ours = open_runtime(tmp_path, runtime="torch", threads=1)
    scores = score_all(ours, padded(ROWS, "left"))
    state, logits = ours.prefill(padded(ROWS, "left"))
    for number, row in enumerate(ROWS):
        with torch.inference_mode():
            own = model(torch.tensor([row])).logits[0]
        wanted = own.log_softmax(-1)[:-1].gather(1, torch.tensor(row[1:])[:, None])[:, 0]
        np.testing.assert_allclose(scores.logprobs[number, 17 - len(row) :], wanted.numpy(), atol=1e-4)
        np.testing.assert_allclose(logits[number], own[-1].numpy(), atol=1e-4)
    assert ours.step(state, np.array([5, 6, 7, 8]))[1].shape == (4, 300)


@pytest.mark.parametrize("length", [5, 17])
def test_scores_of_all_tokens_are_those_of_each(monkeypatch: pytest.MonkeyPatch, length: int) -> None:
    """Read once for all places, in several pieces, or with padding, as every token's own score."""
    monkeypatch.setattr("lmtasks.runtime.torch.body.LOGITS_BYTES", 4 * 300 * 4)  # four places a piece
    ours = runtime("torch", "llama")
    batch = padded(random_rows(length, 17))
    rows, columns = np.array([1, 0, 1, 1, 0, 1]), np.array([9, 2, 0, 16, 4, 9])
    given = np.concatenate(list(ours.next_logprobs(batch, rows, columns)))
    wanted = np.concatenate(list(Runtime.next_logprobs(ours, batch, rows, columns)))
    np.testing.assert_allclose(given, wanted, atol=1e-5)


def test_8_bits_are_not_torchs_business() -> None:
    with pytest.raises(UsageError, match=r"torch cannot compute in 'int8' here; it can in: fp32"):
        open_runtime(model_folder("gpt2"), runtime="torch", precision="int8")
    with pytest.raises(UsageError, match="lmtasks export --precision int8"):
        TorchRuntime(load_model(model_folder("gpt2")), precision="int8")  # type: ignore[arg-type]


def test_calls_beside_each_other_answer_as_one_alone(tmp_path: Path) -> None:
    """Several callers, each with its share of the threads, over one set of weights; not where a module keeps what it
    reads."""
    ours = open_runtime(model_folder("llama"), runtime="torch", threads=4)
    assert (ours.card.callers, ours.reading_callers, ours.measures_callers) == (1, 4, True)
    other = ours.for_concurrent_calls()
    assert other.card.threads == 1
    batches = [padded(random_rows(seed, 2, 17, 5)) for seed in range(24)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda batch: score_all(other, batch).logprobs, batches))
    for batch, logprobs in zip(batches, found, strict=True):
        np.testing.assert_allclose(logprobs, score_all(ours, batch).logprobs, atol=1e-5)
    tiny_checkpoint(tmp_path, "llama")
    config = json.loads((tmp_path / "config.json").read_text())
    config["rope_parameters"] = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert open_runtime(tmp_path, runtime="torch", threads=4).reading_callers == 1


def test_calls_beside_each_other_give_the_vectors_of_a_checkpoint_that_nobody_adapted(tmp_path: Path) -> None:
    tiny_checkpoint(tmp_path, "bert")
    ours = open_runtime(tmp_path, runtime="torch", threads=2)
    other = ours.for_concurrent_calls()
    assert other is not ours
    np.testing.assert_allclose(other.predict("vectors", padded(ROWS)), ours.predict("vectors", padded(ROWS)), atol=1e-5)


def test_heads_read_both_ways_leave_likelihoods_causal() -> None:
    """transformers turns the way to read for all calls at once: two that overlapped would leave it turned."""
    model = load_model(model_folder("llama"))
    model.add_heads((HeadSpec(name="turned", kind="classification", labels=("a", "b"), attention="both"),))
    ours = TorchRuntime(model, threads=4)
    assert ours.reading_callers == 1
    wanted = score_all(ours, padded(ROWS)).logprobs
    rows = [SimpleNamespace(ids=row, types=()) for seed in range(40) for row in random_rows(seed, 40, 30, 25)]
    Engine(ours, tiny_tokenizer()).predict("turned", rows)
    np.testing.assert_array_equal(score_all(ours, padded(ROWS)).logprobs, wanted)


def test_probes_over_one_backbone_read_a_text_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits are those of reading it anew; heads that read otherwise, and models that learned whole, share nothing."""
    read: list[tuple[int, ...]] = []

    def opened(adaptation: Literal["probe", "full"]) -> TorchRuntime:
        model = load_model(model_folder("llama"))
        model.card = replace(model.card, adaptation=adaptation)
        encode = model.encode

        def counted(ids: torch.Tensor, *others: object, **named: object) -> torch.Tensor:
            read.append(tuple(ids.shape))
            return encode(ids, *others, **named)  # type: ignore[arg-type]

        monkeypatch.setattr(model, "encode", counted)
        return TorchRuntime(model, threads=1)

    def asked(runtime: TorchRuntime, rows: Sequence[Sequence[int]], head: str = "mood") -> Floats32:
        read.clear()
        return runtime.predict(head, padded(rows))

    wanted = asked(opened("full"), ROWS)
    with states_kept():
        first, second, whole = opened("probe"), opened("probe"), opened("full")
        np.testing.assert_allclose(asked(first, ROWS), wanted, atol=1e-5)
        assert read == [(4, 17)]
        np.testing.assert_allclose(asked(second, ROWS[::-1]), wanted[::-1], atol=1e-5)
        assert read == []
        other = [*ROWS, ROWS[0][:4]]
        np.testing.assert_allclose(asked(second, other)[:4], wanted, atol=1e-5)
        assert read == [(1, 4)]  # only what is new, as long as that is
        asked(second, ROWS, "find")  # reads all states of a row
        assert read == [(4, 17)]
        asked(whole, ROWS)
        assert read == [(4, 17)]
        monkeypatch.setattr(kept_states, "KEPT_BYTES", 0)
        asked(second, [ROWS[1] + ROWS[2]])
        asked(second, ROWS)
        assert read == [(4, 17)]
    asked(opened("probe"), ROWS)
    assert read == [(4, 17)]
