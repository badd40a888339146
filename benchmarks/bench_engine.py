"""Hot paths of engine/, over a Llama shape of 30M parameters made on the spot: how much sharing saves, and refilling.

Each benchmark notes what was computed (`extra_info`): counts do not depend on what else the machine does.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from transformers import LlamaConfig, LlamaForCausalLM

from lmtasks.data.tokenizer import train_byte_bpe
from lmtasks.engine.engine import Engine
from lmtasks.engine.requests import GenerateRequest, ScoreRequest
from lmtasks.model.store import load_model
from lmtasks.records import Floats32, Ints, TokenBatch, TokenScores, TokenTargets
from lmtasks.runtime.base import NOTHING_SHARED, DecodingState, Runtime, Sharing, Slots
from lmtasks.runtime.torch.transformer import TorchRuntime
from lmtasks.settings.generation import Decoding

KERNEL = "product"
"""Nearly all of its time is spent in the model."""
VOCABULARY, THREADS, ROWS = 8192, 2, 16
TOKENIZER = train_byte_bpe(["the river runs past the old mill to the sea"], vocabulary=270)


@dataclass
class Counts:
    """What the model had to do."""

    passes: int = 0
    positions: int = 0
    """Padding counted."""
    logits: int = 0
    """Places where next-token logits were made."""


@dataclass
class Counting(Runtime):
    """A runtime that counts, and may be forbidden to share or to refill."""

    inner: TorchRuntime
    shared: Sharing
    keeps_slots: bool = True
    counts: Counts = field(default_factory=Counts)

    def __post_init__(self) -> None:
        self.model, self.card = self.inner.model, self.inner.card

    @property
    def sharing(self) -> Sharing:
        return self.shared

    def score(
        self,
        batch: TokenBatch,
        targets: TokenTargets,
        *,
        subtree_end: Ints | None = None,
        prefix_state: DecodingState | None = None,
        source: TokenBatch | None = None,
        source_rows: Ints | None = None,
    ) -> TokenScores:
        self._count(batch.ids.size, len(set(zip(targets.rows.tolist(), targets.columns.tolist(), strict=True))))
        return self.inner.score(
            batch,
            targets,
            subtree_end=subtree_end,
            prefix_state=prefix_state,
            source=source,
            source_rows=source_rows,
        )

    def predict(self, head: str, batch: TokenBatch) -> Floats32:
        return self.inner.predict(head, batch)

    def prefill(self, batch: TokenBatch) -> tuple[DecodingState, Floats32]:
        self._count(batch.ids.size, len(batch.ids))
        return self.inner.prefill(batch)

    def step(self, state: DecodingState, ids: Ints) -> tuple[DecodingState, Floats32]:
        self._count(len(ids), len(ids))
        return self.inner.step(state, ids)

    def reorder(self, state: DecodingState, rows: Ints) -> DecodingState:
        return self.inner.reorder(state, rows)

    def slots(self, *, rows: int, length: int) -> Slots | None:
        slots = self.inner.slots(rows=rows, length=length) if self.keeps_slots else None
        return None if slots is None else CountingSlots(slots, self._count)

    def free_bytes(self) -> int:
        return self.inner.free_bytes()

    def close(self) -> None:
        self.inner.close()

    def _count(self, positions: int, logits: int) -> None:
        self.counts.passes += 1
        self.counts.positions += positions
        self.counts.logits += logits


class CountingSlots:
    """Slots that count."""

    def __init__(self, inner: Slots, count: Callable[[int, int], None]) -> None:
        self.joins = inner.joins
        self._inner = inner
        self._count = count

    def fill(self, batch: TokenBatch) -> Floats32:
        self._count(batch.ids.size, len(batch.ids))
        return self._inner.fill(batch)

    def step(self, ids: Ints) -> Floats32:
        self._count(len(ids), len(ids))
        return self._inner.step(ids)

    def leave(self, place: int) -> None:
        self._inner.leave(place)


@pytest.fixture(scope="module")
def runtime() -> Iterator[TorchRuntime]:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=512,
        intermediate_size=1376,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=1,
    )
    with TemporaryDirectory() as folder:
        LlamaForCausalLM(config).save_pretrained(folder)
        TOKENIZER.save(Path(folder))
        yield TorchRuntime(load_model(Path(folder)), threads=THREADS)


def tokens(draw: np.random.Generator, low: int, high: int) -> tuple[int, ...]:
    return tuple(draw.integers(3, VOCABULARY, draw.integers(low, high)).tolist())


def questions(count: int, *, shots: int, same_shots: bool = False) -> list[ScoreRequest]:
    """Four choices behind each question; a worked example takes as many tokens as a question with its answer."""
    draw = np.random.default_rng(0)
    fixed = tuple(token for _ in range(shots) for token in tokens(draw, 25, 50))
    requests = []
    for _ in range(count):
        own = tuple(token for _ in range(shots) for token in tokens(draw, 25, 50))
        context = ((fixed if same_shots else own), tokens(draw, 20, 40))
        requests += [ScoreRequest(context_ids=context[0] + context[1], target_ids=tokens(draw, 2, 8)) for _ in range(4)]
    return requests


def note(benchmark: BenchmarkFixture, counting: Counting) -> None:
    """Of all rounds together."""
    benchmark.extra_info.update(vars(counting.counts))


@pytest.mark.parametrize("way", ["shared", "plain"])
@pytest.mark.parametrize("shots", [0, 5])
def test_four_choices(benchmark: BenchmarkFixture, runtime: TorchRuntime, way: str, shots: int) -> None:
    counting = Counting(runtime, runtime.sharing if way == "shared" else NOTHING_SHARED)
    engine = Engine(counting, TOKENIZER, rows_per_batch=ROWS)
    requests = questions(32, shots=shots)
    assert len(benchmark.pedantic(engine.score, args=(requests,), rounds=2)) == 128
    note(benchmark, counting)


@pytest.mark.parametrize("way", ["shared", "rows only"])
def test_four_choices_behind_the_same_examples(benchmark: BenchmarkFixture, runtime: TorchRuntime, way: str) -> None:
    sharing = runtime.sharing if way == "shared" else Sharing(longest_row=runtime.sharing.longest_row)
    counting = Counting(runtime, sharing)
    engine = Engine(counting, TOKENIZER, rows_per_batch=ROWS)
    requests = questions(64, shots=8, same_shots=True)
    assert len(benchmark.pedantic(engine.score, args=(requests,), rounds=2)) == 256
    note(benchmark, counting)


def test_rolling_windows(benchmark: BenchmarkFixture, runtime: TorchRuntime) -> None:
    counting = Counting(runtime, runtime.sharing)
    engine = Engine(counting, TOKENIZER, rows_per_batch=ROWS)
    draw = np.random.default_rng(0)
    windows = [ScoreRequest(context_ids=tokens(draw, 1, 2), target_ids=tokens(draw, 100, 512)) for _ in range(32)]
    assert len(benchmark.pedantic(engine.score, args=(windows,), rounds=2)) == 32
    note(benchmark, counting)


@pytest.mark.parametrize("way", ["refilled", "batch after batch"])
def test_texts_of_uneven_lengths(benchmark: BenchmarkFixture, runtime: TorchRuntime, way: str) -> None:
    counting = Counting(runtime, runtime.sharing, keeps_slots=way == "refilled")
    engine = Engine(counting, TOKENIZER, rows_per_batch=ROWS, ends=frozenset())
    draw = np.random.default_rng(0)
    lengths = np.minimum(draw.geometric(1 / 24, size=64), 96).tolist()
    asked = [
        GenerateRequest(prompt_ids=tokens(draw, 20, 60), settings=Decoding(max_new_tokens=length)) for length in lengths
    ]
    answers = benchmark.pedantic(engine.generate, args=(asked,), rounds=2)
    assert [len(answer.ids) for answer in answers] == lengths
    note(benchmark, counting)
