"""An engine of known speed, and a child process that measures it."""

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lmtasks.bench.child import main
from lmtasks.bench.spec import SpeedSpec
from lmtasks.bench.workload import WorkRequest
from lmtasks.engine.requests import Generated, GenerateRequest, OnToken, Scored, ScoreRequest, TokenEvent
from lmtasks.errors import UsageError
from lmtasks.records import Floats32, ModelCard, RuntimeCard
from lmtasks.runtime.op_costs import OpCosts

if TYPE_CHECKING:
    from lmtasks.bench.measure import OpenedVariant

PREFILL_MS = 30
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


class Clock:
    """A clock that moves when somebody sleeps, and by nothing else."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> float:
        return self.seconds

    def now_ns(self) -> int:
        return round(1e9 * self.seconds)

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


class SleepingEngine:
    """30 ms until the first token, 2 ms for every further one, whatever the batch; a head and a score cost as much as
    a prompt.

    Args:
        stalls: calls (prompts read, heads, scores; counted from 0) that take so many milliseconds more.
        stall_every: each so many-th call takes `stall_ms` more.
        joining: can texts join others that are being written?
    """

    def __init__(
        self,
        *,
        sleep: Callable[[float], object] = time.sleep,
        stalls: dict[int, float] | None = None,
        stall_every: int = 0,
        stall_ms: float = 0,
        joining: bool = True,
    ) -> None:
        self.calls = 0
        self.rows: list[int] = []
        """Of every call."""
        self._sleep_seconds = sleep
        self._stalls = stalls or {}
        self._stall_every, self._stall_ms = stall_every, stall_ms
        self._joining = joining

    def predict(self, head: str, rows: Sequence[WorkRequest]) -> Sequence[Floats32]:
        self._read(len(rows))
        return [np.zeros(2, np.float32) for _ in rows]

    def score(self, requests: Sequence[ScoreRequest]) -> Sequence[Scored]:
        self._read(len(requests))
        return [Scored(logprob=0.0, greedy=True, token_logprobs=()) for _ in requests]

    def generate(self, requests: Sequence[GenerateRequest], *, on_token: OnToken | None = None) -> Sequence[Generated]:
        tokens = requests[0].settings.max_new_tokens
        self._read(len(requests))
        for step in range(tokens):
            if step:
                self._sleep_seconds(TOKEN_MS / 1000)
            for place in range(len(requests)) if on_token else ():
                self._tell(on_token, place, step, tokens)
        return [Generated(ids=tuple(range(tokens)), text="", stopped="length") for _ in requests]

    def joins(self) -> bool:
        return self._joining

    def serve(
        self,
        arriving: Callable[[bool], Sequence[GenerateRequest] | None],
        *,
        rows: int,
        length: int,
        on_token: OnToken,
    ) -> None:
        writing: dict[int, list[int]] = {}  # tokens so far, and wanted
        count = 0
        while True:
            coming = arriving(not writing)
            if coming is None and not writing:
                return
            if coming:
                self._read(len(coming))
                for request in coming:
                    assert len(request.prompt_ids) + request.settings.max_new_tokens <= length
                    writing[count] = [0, request.settings.max_new_tokens]
                    self._write(writing, count, on_token)
                    count += 1
                assert len(writing) <= rows
            elif writing:
                self._sleep_seconds(TOKEN_MS / 1000)
                for number in list(writing):
                    self._write(writing, number, on_token)

    def _write(self, writing: dict[int, list[int]], number: int, on_token: OnToken) -> None:
        step, wanted = writing[number]
        self._tell(on_token, number, step, wanted)
        writing[number][0] += 1
        if step + 1 == wanted:
            del writing[number]

    def _tell(self, on_token: OnToken | None, number: int, step: int, wanted: int) -> None:
        assert on_token is not None
        stopped = "length" if step + 1 == wanted else None
        on_token(TokenEvent(request=number, step=step, text="", stopped=stopped))  # type: ignore[arg-type]

    def _read(self, rows: int) -> None:
        often = self._stall_every and (self.calls + 1) % self._stall_every == 0
        stall = self._stalls.get(self.calls, self._stall_ms if often else 0)
        self.calls += 1
        self.rows.append(rows)
        self._sleep_seconds((PREFILL_MS + stall) / 1000)


def opened(spec: SpeedSpec) -> "OpenedVariant":
    """What the name of the spec's folder asks for."""
    match spec.ref.name:
        case "wrong":
            raise UsageError("the folder 'wrong' is no model;\ngive another.")
        case "crash":
            raise RuntimeError("a bug")
        case "killed":
            sys.stderr.write("the last line before the end\n")
            sys.stderr.flush()
            os._exit(7)
        case "slow":
            time.sleep(60)
        case "large":
            KEPT.append(np.ones(64 << 20, np.uint8))
    from lmtasks.bench.measure import OpenedVariant  # its import is measured

    return OpenedVariant(engine=SleepingEngine(), model=MODEL, card=CARD, traffic=lambda graph, head: TRAFFIC)


TRAFFIC = OpCosts(weight_bytes=10**9, body=10**6, projection=10**5, cache_bytes=1000)
KEPT: list[object] = []
COMMAND = (sys.executable, str(Path(__file__).resolve()))

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], open_engine=opened))
