"""An engine of known speed, and a child process that measures it."""

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lmtasks.bench.child import main
from lmtasks.bench.opening import Answering
from lmtasks.bench.spec import SpeedSpec
from lmtasks.bench.workload import WorkRequest
from lmtasks.engine.requests import Generated, GenerateRequest, Scored, ScoreRequest
from lmtasks.errors import UsageError
from lmtasks.records import Floats32, ModelCard, RuntimeCard

PREFILL_MS = 6
TOKEN_MS = 2

CARD = RuntimeCard(runtime="onnx", version="0", device="cpu", precision="fp32", threads=1, size_bytes=12_345)
MODEL = ModelCard(
    name="fake",
    family="fake",
    kind="causal",
    adaptation="none",
    parameters=0,
    weights_hash="0123456789abcdef",
    tokenizer_hash="",
    max_length_tokens=64,
    vocabulary=8,
)


class SleepingEngine:
    """2 ms a new token, 6 ms before the first, whatever the batch; a head and a score cost as much as a prefill."""

    def __init__(self, *, stall_every: int = 0, stall_ms: int = 0) -> None:
        self.calls = 0
        self.stall_every = stall_every
        self.stall_ms = stall_ms

    def predict(self, head: str, rows: Sequence[WorkRequest]) -> Sequence[Floats32]:
        self._sleep(PREFILL_MS)
        return [np.zeros(2, np.float32) for _ in rows]

    def score(self, requests: Sequence[ScoreRequest]) -> Sequence[Scored]:
        self._sleep(PREFILL_MS)
        return [Scored(logprob=0.0, greedy=True, token_logprobs=()) for _ in requests]

    def generate(self, requests: Sequence[GenerateRequest]) -> Sequence[Generated]:
        tokens = requests[0].settings.max_new_tokens
        self._sleep(PREFILL_MS + TOKEN_MS * tokens)
        return [Generated(ids=tuple(range(tokens)), text="", stopped="length") for _ in requests]

    def _sleep(self, ms: float) -> None:
        self.calls += 1
        stalls = self.stall_every and self.calls % self.stall_every == 0
        time.sleep((ms + (self.stall_ms if stalls else 0)) / 1000)


def opened(spec: SpeedSpec) -> Answering:
    """What the name of the spec's folder asks for."""
    match spec.ref.name:
        case "wrong":
            raise UsageError("the folder 'wrong' is no model;\ngive another.")
        case "crash":
            raise RuntimeError("a bug in the runtime")
        case "killed":
            sys.stderr.write("the last line before the end\n")
            sys.stderr.flush()
            os._exit(7)
        case "slow":
            time.sleep(60)
        case "large":
            KEPT.append(np.ones(64 << 20, np.uint8))
    return Answering(engine=SleepingEngine(), model=MODEL, card=CARD)


KEPT: list[object] = []
COMMAND = (sys.executable, str(Path(__file__).resolve()))

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], open_engine=opened))
