"""Hot paths of decoding outside the model: a runtime that answers at once, so that what is timed is our own Python.

`us_per_token` is noted for each: the goal is under 60 microseconds a token at batch 1.
"""

from dataclasses import replace

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from lmtasks.data.tokenizer import load_tokenizer
from lmtasks.engine.engine import Engine
from lmtasks.engine.requests import GenerateRequest
from lmtasks.installation import shipped_backbones
from lmtasks.records import Floats32, Ints, ModelCard, RuntimeCard, TokenBatch, TokenScores, TokenTargets
from lmtasks.runtime.base import DecodingState, Runtime, Slots
from lmtasks.settings.generation import Decoding

VOCABULARY, NEW_TOKENS = 10_240, 128
TOKENIZER = load_tokenizer(shipped_backbones() / "lmtasks-mini")
MODEL = ModelCard(
    name="instant",
    family="none",
    kind="causal",
    adaptation="none",
    parameters=0,
    weights_hash="0" * 16,
    tokenizer_hash="",
    max_length_tokens=1024,
    vocabulary=VOCABULARY,
)
LOGITS: Floats32 = np.random.default_rng(0).standard_normal((64, VOCABULARY)).astype(np.float32)


class Places:
    """Slots in which nothing is computed."""

    joins = True

    def __init__(self) -> None:
        self.rows = 0

    def fill(self, batch: TokenBatch) -> Floats32:
        self.rows += len(batch.ids)
        return LOGITS[: len(batch.ids)]

    def step(self, ids: Ints) -> Floats32:
        return LOGITS[: len(ids)]

    def leave(self, place: int) -> None:
        self.rows -= 1


class Instant(Runtime):
    """A runtime in which nothing is computed.

    Args:
        keeps_slots: without them, batch after batch is written through `prefill`, `step`, `reorder`.
    """

    def __init__(self, *, keeps_slots: bool) -> None:
        self.model = MODEL
        self.card = RuntimeCard(runtime="native", version="", device="cpu", precision="fp32", threads=1, size_bytes=0)
        self._keeps_slots = keeps_slots

    def predict(self, head: str, batch: TokenBatch) -> Floats32:
        raise NotImplementedError

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
        raise NotImplementedError

    def prefill(self, batch: TokenBatch) -> tuple[DecodingState, Floats32]:
        return DecodingState(), LOGITS[: len(batch.ids)]

    def step(self, state: DecodingState, ids: Ints) -> tuple[DecodingState, Floats32]:
        return state, LOGITS[: len(ids)]

    def reorder(self, state: DecodingState, rows: Ints) -> DecodingState:
        return state

    def slots(self, *, rows: int, length: int) -> Slots | None:
        return Places() if self._keeps_slots else None

    def free_bytes(self) -> int | None:
        return None


SETTINGS = {
    "greedy": Decoding(max_new_tokens=NEW_TOKENS),
    "stop strings": Decoding(max_new_tokens=NEW_TOKENS, stop=("\n\n", "Question:")),
    "penalty": Decoding(max_new_tokens=NEW_TOKENS, repetition_penalty=1.2),
    "drawn": Decoding(max_new_tokens=NEW_TOKENS, temperature=0.8, top_k=50, top_p=0.95),
}


@pytest.mark.parametrize("way", ["slots", "batch after batch"])
@pytest.mark.parametrize("rows", [1, 16])
@pytest.mark.parametrize("settings", SETTINGS)
def test_decoding(benchmark: BenchmarkFixture, settings: str, rows: int, way: str) -> None:
    _decode(benchmark, SETTINGS[settings], rows=rows, streamed=False, keeps_slots=way == "slots")


@pytest.mark.parametrize("rows", [1, 16])
def test_streaming(benchmark: BenchmarkFixture, rows: int) -> None:
    _decode(benchmark, SETTINGS["greedy"], rows=rows, streamed=True, keeps_slots=True)


def _decode(benchmark: BenchmarkFixture, settings: Decoding, *, rows: int, streamed: bool, keeps_slots: bool) -> None:
    engine = Engine(Instant(keeps_slots=keeps_slots), TOKENIZER, ends=frozenset())
    asked = [GenerateRequest(prompt_ids=(5, number + 3), settings=replace(settings)) for number in range(rows)]
    hear = (lambda event: None) if streamed else None
    answers = benchmark(engine.generate, asked, on_token=hear)
    assert [len(answer.ids) for answer in answers] == [NEW_TOKENS] * rows
    if benchmark.stats is not None:  # it is not timed with --benchmark-disable
        median = benchmark.stats.stats.median
        benchmark.extra_info["us_per_token"] = round(1e6 * median / (rows * NEW_TOKENS), 2)
